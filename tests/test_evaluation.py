"""Predicting and scoring a file of questions."""

from __future__ import annotations

import pytest
from golden_data import get_tokenizer
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


def test_blocks_do_not_change_the_files(windows, tmp_path, monkeypatch):
    """Questions whose logits are held at a time: all, or seven."""
    runner = tiny_runner(windows, PADDING_FREE)
    one = Processes(0, 1, runner.device)
    for folder, block in (("whole", 1000), ("blocks", 7)):
        monkeypatch.setattr("squadlib.training.evaluation.DECODE_BLOCK", block)
        (tmp_path / folder).mkdir()
        output_dir = str(tmp_path / folder)
        Evaluation(windows, get_tokenizer(False), DecodingSettings(), 8, one, output_dir, lambda *_: {}).run(runner)
    names = ("predictions_", "nbest_predictions_", "null_odds_")
    for name in names:
        assert (tmp_path / f"whole/{name}.json").read_bytes() == (tmp_path / f"blocks/{name}.json").read_bytes()


@pytest.mark.parametrize("with_null", [True, False])
def test_the_score_is_told_what_it_needs(with_null, windows, tmp_path):
    runner = tiny_runner(windows, PADDING_FREE)
    decoding = DecodingSettings(version_2_with_negative=with_null)
    told = []

    def score(outcome, null):
        told.append((outcome, null))
        return {"exact": 7.0}

    one = Processes(0, 1, runner.device)
    found = Evaluation(windows, get_tokenizer(False), decoding, 8, one, str(tmp_path), score).run(runner)
    ((outcome, null),) = told
    assert null == with_null and found.results == {"exact": 7.0} and outcome.results == {}
    qids = [example.qid for example in windows.examples]
    assert list(found.predictions) == list(found.best_answers) == list(found.null_odds) == list(found.golds) == qids
    assert "" not in found.best_answers.values()
    assert found.golds[qids[0]] == [answer.text for answer in windows.examples[0].answers]
