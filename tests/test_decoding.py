"""Decoding against the old library's own output, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_data import as_legacy, get_tokenizer, golden_examples, golden_lines, settings_of
from processes import (
    Run,
    eval_flags,
    set_weights,
)
from synthetic_logits import fingerprint, synthetic_logits

from squadlib.console import SquadError
from squadlib.model.decoding import Decoder, _top_positions
from squadlib.model.prediction import PredictionFiles
from squadlib.model.windows import make_windows


@pytest.mark.parametrize("case", golden_lines("decoding.jsonl.xz"), ids=lambda c: f"{c['kind']}-{c['seed']}")
def test_predictions_nbest_and_null_odds_are_the_old_librarys(case, tmp_path):
    tokenizer = get_tokenizer(case["lower_vocab"])
    windows = make_windows(golden_examples(), tokenizer, **settings_of(case["settings"]))
    tokens = [row["tokens"] for row in as_legacy(windows, tokenizer, case["settings"][0], False)]
    logits = synthetic_logits(case["kind"], case["seed"], tokens, case["settings"][0])
    assert fingerprint(*logits) == case["logits_sha256"]
    names = ("n_best_size", "max_answer_length", "null_score_diff_threshold", "do_lower_case")
    options = {name: case[name] for name in names}
    decoder = Decoder(windows, tokenizer, version_2_with_negative=case["v2"], **options)
    with PredictionFiles(str(tmp_path), null_odds=case["v2"]) as files:
        for first in range(0, len(windows.examples), 7):  # in blocks, as run_squad.py does
            last = min(first + 7, len(windows.examples))
            rows = slice(windows.first_window[first], windows.first_window[last])
            for prediction in decoder.decode(first, last, logits[0][rows], logits[1][rows]):
                files.write(prediction)
    for name, golden in (("predictions_", "predictions"), ("nbest_predictions_", "nbest"), ("null_odds_", "null_odds")):
        if golden in case:
            # the old library wrote json.dumps(…, indent=4) and a newline: the bytes are the same, numbers included
            assert (tmp_path / f"{name}.json").read_text() == json.dumps(case[golden], indent=4) + "\n"


def test_blank_context_has_no_window_and_shifts_nobody():
    examples = golden_examples("quirks_squad.json")
    windows = make_windows(examples, get_tokenizer(False))
    counts = dict(zip((example.qid for example in examples), np.diff(windows.first_window), strict=True))
    assert counts["quirk-3-1"] == counts["quirk-4-1"] == 0
    zeros = np.zeros((len(windows), 384), np.float32)
    predictions = {p.qid: p for p in Decoder(windows, get_tokenizer(False)).decode(0, len(examples), zeros, zeros)}
    assert list(predictions) == [example.qid for example in examples]
    assert predictions["quirk-3-1"].text == predictions["quirk-4-1"].text == ""
    for example in examples:
        assert predictions[example.qid].text in " ".join(example.context.split())


def test_nan_logits_name_the_question():
    examples = golden_examples()
    windows = make_windows(examples, get_tokenizer(False), max_seq_length=64, doc_stride=16, max_query_length=12)
    logits = np.zeros((len(windows), 64), np.float32)
    logits[windows.first_window[3], 5] = np.nan
    with pytest.raises(SquadError, match=examples[3].qid):
        list(Decoder(windows, get_tokenizer(False)).decode(0, len(examples), logits, logits))


def test_equal_logits_everywhere_give_valid_files(model, small, tmp_path):
    set_weights(
        model, **{f"bert__embeddings__LayerNorm__{name}": lambda array: array * 0 for name in ("weight", "bias")}
    )
    run = Run(tmp_path, *eval_flags(model, small))
    assert run.wait() == 0, run.stderr
    assert len(json.loads((tmp_path / "out/predictions_.json").read_text())) == 14


def test_the_largest_logits_in_falling_order_and_of_equal_ones_the_first():
    logits = np.random.default_rng(0).normal(0, 1e-9, (40, 50)).astype(np.float32)
    logits[:, ::7], logits[:, ::11], logits[:, 5::13] = 0.0, -0.0, 3e38
    logits[:, 20:23] = -np.inf
    for row, positions in zip(logits, _top_positions(logits, 50), strict=True):
        assert positions.tolist() == sorted(range(50), key=lambda position: -row[position])


def test_the_null_answer_comes_behind_spans_of_equal_score():
    example = golden_examples()[0]
    windows = make_windows([example], get_tokenizer(False), max_seq_length=384, max_query_length=12)
    logits = np.full((1, 384), -9.0, np.float32)
    logits[0, [0, 40]] = 1.0  # [CLS], and one token of the context
    decoder = Decoder(windows, get_tokenizer(False), version_2_with_negative=True)
    (prediction,) = decoder.decode(0, 1, logits, logits)
    assert [candidate.text == "" for candidate in prediction.nbest[:2]] == [False, True]
    assert prediction.null_odds == 0.0 and prediction.text == prediction.nbest[0].text
    without = Decoder(windows, get_tokenizer(False), version_2_with_negative=False)
    (without_null,) = without.decode(0, 1, logits, logits)
    assert without_null.null_odds == 0.0
