"""From windows to logits, and the prediction files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from processes import (
    TINY_BERT,
    Run,
    eval_flags,
    file_names,
    one_sentence,
    prediction_files,
    set_weights,
)
from tiny_runs import tiny_runner

from squadlib.model.layout import PADDING_FREE
from squadlib.model.prediction import predict_logits


@pytest.mark.parametrize("layout", [[], ["--pad_to_max_length"]])
def test_logits_that_are_not_numbers_are_one_sentence_and_old_predictions_stay(layout, model, small, tmp_path):
    set_weights(model, bert__embeddings__LayerNorm__weight=lambda weight: weight * float("nan"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions_.json").write_text("old")
    run = Run(tmp_path, *eval_flags(model, small, *layout))
    assert run.wait() == 1
    assert "question mini-1-1: the model's logits are not numbers; the checkpoint is broken" in one_sentence(run.stderr)
    assert file_names(tmp_path / "out") == ["predictions_.json"]
    assert (tmp_path / "out/predictions_.json").read_text() == "old"


@pytest.mark.parametrize(("limit", "file"), [(1000, "nbest_predictions_.json"), (300, "predictions_.json")])
def test_full_disk_while_predicting_keeps_the_old_files(limit, file, small, tmp_path):
    argv = eval_flags(TINY_BERT, small)
    assert Run(tmp_path, *argv).wait() == 0
    before = prediction_files(tmp_path / "out")
    full = Run(tmp_path, *argv, "--null_score_diff_threshold", 1, file_limit=limit)
    assert full.wait() == 1
    assert file in one_sentence(full.stderr) and "no space left" in full.stderr
    assert prediction_files(tmp_path / "out") == before
    assert file_names(tmp_path / "out") == sorted(before)
    assert Run(tmp_path, *argv).wait() == 0


@pytest.mark.parametrize("layout", [PADDING_FREE, "longest", "max_length"])
def test_logits_of_a_range_are_those_of_each_window_alone(layout, windows):
    runner = tiny_runner(windows, layout)
    runner.model.eval()
    sizes = []
    found = predict_logits(runner, windows, 20, 41, 4, sizes.append)
    assert sum(sizes) == 21 and found[0].shape == found[1].shape
    for row, window in enumerate(range(20, 41)):
        with torch.no_grad():
            alone = [logits[0].numpy() for logits in runner.logits(windows, [window])]
        for ours, expected in zip(found, alone, strict=True):
            assert np.allclose(ours[row, : len(expected)], expected, atol=1e-5)
            assert (ours[row, len(expected) :] == -np.inf).all()
