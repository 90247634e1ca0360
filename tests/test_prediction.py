"""From windows to logits, and the prediction files."""

from __future__ import annotations

import pytest
from processes import (
    TINY_BERT,
    Run,
    eval_flags,
    file_names,
    one_sentence,
    prediction_files,
    set_weights,
)
from tiny_runs import FOLDER, tiny_runner

from squadlib.model.decoding import DecodingSettings
from squadlib.model.layout import PADDING_FREE
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.training.evaluation import Evaluation
from squadlib.training.processes import Processes


def test_evaluation_batches_do_not_change_the_predictions(windows, tmp_path):
    """Sorted, padding-free batches of any size give the answers of one window at a time."""
    runner = tiny_runner(windows, PADDING_FREE)
    runner.model.eval()
    tokenizer = load_tokenizer(FOLDER, load_config(FOLDER))
    found = []
    for size in (1, 8, 33):
        one = Processes(0, 1, runner.device)
        evaluation = Evaluation(windows, tokenizer, DecodingSettings(), size, one, str(tmp_path), lambda *_: {})
        found.append(evaluation.predict(runner).predictions)
    assert found[0] == found[1] == found[2]


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
