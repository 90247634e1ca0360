"""What a score is worth: a temperature that is fitted on some articles, judged on others, and kept beside the model."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SAMPLE
from logged_run import ALL, texts
from processes import Run, eval_flags, flags, one_sentence
from several_processes import assert_all_done, start_ranks

import run_squad
from evaluate_v2 import best_thresholds, score_answers
from squadlib.console import SquadError
from squadlib.data import Answer, Example
from squadlib.model.answering import Found, pipeline
from squadlib.model.calibration import CALIBRATION_FILE, Calibration, load_calibration
from squadlib.training.calibration import (
    Asked,
    Metric,
    Scores,
    calibration_error,
    choose_articles,
    fit_temperature,
    fit_threshold,
    reliability,
    risks,
)

METRIC = Metric(score_answers, best_thresholds)
CONTEXT = "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland."
QUESTION = "Wat is de hoofdstad van Nederland?"
FIGURES = ["ece_before", "ece", "ece_total", "temperature", "null_threshold"]


# ---- the scores of pipeline ----


def test_a_temperature_changes_the_scores_and_nothing_else(qa, sharp):
    options = {"top_k": 5, "handle_impossible_answer": True}
    plain = qa(QUESTION, CONTEXT, **options)
    for temperature in (1.0, 2.5):
        calibrated = pipeline(model=sharp[0], tokenizer=sharp[1], device="cpu", calibration=Calibration(temperature))
        found = calibrated(QUESTION, CONTEXT, **options)
        assert [{**answer, "score": 0} for answer in found] == [{**answer, "score": 0} for answer in plain]
        scores = [answer["score"] for answer in found]
        if temperature == 1:
            assert scores == pytest.approx([answer["score"] for answer in plain], rel=1e-6)
        else:
            assert scores[0] != plain[0]["score"] and all(0 < score <= 1 for score in scores)


def test_a_score_is_that_of_all_logits_divided_by_the_temperature():
    start, end = np.array([1.0, 2.0, 3.0, 0.0]), np.array([0.5, 1.0, 0.0, 4.0])
    found = Found({}, {"yes": [(0, 0, 2), (0, 1, 2)]}, [(start, end)], 0.1)
    p, q = (np.exp(values / 2) / np.exp(values / 2).sum() for values in (start, end))
    assert found.score("Yes", 2.0) == pytest.approx(p[1] * q[3] + p[2] * q[3])  # [CLS] stands in front
    assert found.score("", 2.0) == pytest.approx(p[0] * q[0])
    twice = Found({}, {"yes": [(0, 0, 0), (1, 0, 0)]}, [(np.array([0.0, 50]), np.array([0.0, 50]))] * 2, 0.1)
    assert twice.score("yes", 1.0) == 1.0  # a text in two windows


def test_the_null_threshold_says_when_no_answer_comes_first(sharp):
    first = {}
    for threshold in (-50.0, 50.0):
        kept = Calibration(1.5, threshold)
        qa = pipeline(model=sharp[0], tokenizer=sharp[1], device="cpu", calibration=kept)
        first[threshold] = qa(QUESTION, CONTEXT, handle_impossible_answer=True)["answer"]
        assert qa(QUESTION, CONTEXT)["answer"] != ""
    assert first[-50.0] == "" != first[50.0]


# ---- fitting ----


def test_the_temperature_that_made_the_answers_is_found():
    """One window a question, ends that are certain, and right answers drawn from the softmax at 2.5."""
    random, asked = np.random.default_rng(0), []
    for number in range(3000):
        start = random.normal(0, 4, 6)
        start[0] = -30.0  # [CLS]
        probability = np.exp(start[1:] / 2.5) / np.exp(start[1:] / 2.5).sum()
        right, best = random.choice(5, p=probability), int(start[1:].argmax())
        end = np.where(np.arange(6) == best + 1, 500.0, 0.0)
        name = f"word{best}"
        answers = {name: {"score": 0.5, "start": 0, "end": 5, "answer": name}}
        example = Example(str(number), "?", "", (Answer(f"word{right}", 0),), False)
        asked.append(Asked("", example, Found(answers, {name: [(0, best, best)]}, [(start, end)], 0.0)))
    assert fit_temperature(asked, False, 0.0, METRIC) == pytest.approx(2.5, rel=0.08)


def test_the_null_threshold_separates_what_it_can():
    def asked(score, null_score, answers):
        found = Found({"x": {"score": score, "start": 0, "end": 1, "answer": "x"}}, {}, [], null_score)
        return Asked("", Example("same id", "?", "x", answers, not answers), found)

    yes = [asked(0.1, 0.1 * math.e**odds, (Answer("x", 0),)) for odds in (-2.0, 0.5, 0.9)]
    no = [asked(0.1, 0.1 * math.e**odds, ()) for odds in (1.5, 3.0)]
    assert fit_threshold([*yes, *no], METRIC) == pytest.approx(0.9)


def test_the_calibration_error_is_the_mean_gap_of_ten_groups():
    score = np.arange(20) / 20
    right = np.array([0, 1] * 10, float)
    said, share, number = reliability(Scores(score, right))
    assert said.tolist() == pytest.approx([0.025 + n / 10 for n in range(10)])
    assert share.tolist() == [0.5] * 10 and number.tolist() == [2.0] * 10
    assert calibration_error(Scores(score, right)) == pytest.approx(100 * np.abs(said - 0.5).mean())
    assert calibration_error(Scores(np.array([0.9, 0.2, 0.2]), np.array([1.0, 0, 0]))) == pytest.approx(50 / 3)


def test_risk_is_the_share_of_wrong_answers_among_the_surest():
    coverage, risk = risks(Scores(np.array([0.1, 0.9, 0.5, 0.7]), np.array([0.0, 1, 1, 0])))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.0, 0.5, 1 / 3, 0.5])


def test_an_article_is_on_one_side_in_every_file():
    titles = [f"article {n}" for n in range(9)]
    examples = [Example(f"{title} {n}", "?", "", (), True, title) for title in titles for n in range(4)]
    chosen = choose_articles([asking(examples)])
    assert len(chosen) == 5 and chosen == choose_articles([asking(examples[::-1])])
    assert chosen == choose_articles([asking(examples), asking(examples)])
    assert len(choose_articles([asking(examples[3:5])])) == 1


def asking(examples):
    """An evaluation, as far as the choice of articles looks at it."""
    return SimpleNamespace(windows=SimpleNamespace(examples=examples))


def test_a_single_article_cannot_be_split(small, tmp_path, capfd, monkeypatch, sharp_folder):
    with pytest.raises(SquadError, match='all questions to score are of one article, "Molens"; give a --predict_file'):
        choose_articles([asking([Example("1", "?", "", (), True, "Molens")])])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sharp_folder, "model")
    assert run_squad.main(eval_flags("model", small, "--calibrate")) == 1
    assert "are of one article" in one_sentence(capfd.readouterr().err)
    assert not (tmp_path / "model" / CALIBRATION_FILE).exists()
    assert run_squad.main(flags("--do_eval", "--calibrate", "--predict_file", small, train=small)) == 1
    assert "are of one article" in one_sentence(capfd.readouterr().err)  # before hours of training
    assert not (tmp_path / "runs").exists()


# ---- a run ----


@pytest.fixture(scope="module")
def short_sample(tmp_path_factory):
    """Articles of the sample with their contexts cut short, for a few windows: 28 questions of 8 articles or so."""
    document = json.loads(SAMPLE.read_text(encoding="utf-8"))
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["context"] = paragraph["context"][:300]
            inside = [qa for qa in paragraph["qas"] if all(a["answer_start"] < 250 for a in qa["answers"])]
            paragraph["qas"] = [qa for qa in inside if len(qa["question"]) < 100]
    path = tmp_path_factory.mktemp("short") / "short.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def calibrated(short_sample, tmp_path_factory):
    """Folder of a training that was calibrated, and its run."""
    folder = tmp_path_factory.mktemp("calibrated")
    argv = flags("--do_eval", "--calibrate", "--predict_file", short_sample, "--max_steps", 10, train=short_sample)
    run = Run(folder, *argv)
    assert run.wait() == 0, run.stderr
    return folder, run


def test_a_calibration_leaves_the_scores_alone_and_adds_its_own(calibrated, short_sample, tmp_path):
    folder, run = calibrated
    plain = Run(tmp_path, *eval_flags(folder / "out", short_sample))
    assert plain.wait() == 0, plain.stderr
    found, expected = json.loads(run.stdout), json.loads(plain.stdout)
    assert {key: found[key] for key in expected} == expected
    assert [key for key in found if key not in expected] == FIGURES
    assert 0 < found["ece_total"] < found["total"] and 0.1 <= found["temperature"] <= 10
    for name in ("predictions_.json", "nbest_predictions_.json", "null_odds_.json"):
        assert (folder / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    written = json.loads((folder / "out" / CALIBRATION_FILE).read_text(encoding="utf-8"))
    assert (
        written["temperature"] == found["temperature"] and written["questions"] + found["ece_total"] == found["total"]
    )
    assert "'ece': " in (folder / "out/README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "runs").exists()


def test_tensorboard_shows_reliability_and_risk(calibrated):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, run = calibrated
    (run_dir,) = (folder / "runs").iterdir()
    events = EventAccumulator(str(run_dir), size_guidance=ALL).Reload()
    assert set(events.Tags()["images"]) == {"calibration/reliability", "calibration/risk_coverage"}
    (image,) = events.Images("calibration/reliability")
    assert image.step == 10 and image.encoded_image_string.startswith(b"\x89PNG")
    assert events.Scalars("eval_ece")[-1].value == pytest.approx(json.loads(run.stdout)["ece"], rel=1e-6)
    table = texts(events, "calibration/groups")[10]
    assert "| Answered | Wrong before | Wrong after |" in table and "| 100% |" in table


def test_evaluating_alone_calibrates_too_and_gives_the_same(calibrated, short_sample, tmp_path):
    folder, run = calibrated
    shutil.copytree(folder / "out", tmp_path / "model")
    (tmp_path / "model" / CALIBRATION_FILE).unlink()
    again = Run(tmp_path, *eval_flags("model", short_sample, "--calibrate"))
    assert again.wait() == 0, again.stderr
    assert again.stdout == run.stdout and len(list((tmp_path / "runs").iterdir())) == 1
    assert (tmp_path / "model" / CALIBRATION_FILE).read_bytes() == (folder / "out" / CALIBRATION_FILE).read_bytes()


def test_two_processes_calibrate_as_one_does(calibrated, short_sample, tmp_path):
    folder, run = calibrated
    shutil.copytree(folder / "out", tmp_path / "model")
    runs = start_ranks(tmp_path, *eval_flags("model", short_sample, "--calibrate"))
    assert_all_done(runs)
    found, expected = json.loads(runs[0].stdout), json.loads(run.stdout)
    assert found == pytest.approx(expected, rel=1e-3)
    assert not runs[1].stdout and load_calibration(str(tmp_path / "model"), load(tmp_path / "model"))


def load(folder):
    from tiny_models import load

    return load(folder)[1]


def test_pipeline_and_question_take_the_calibration_unless_they_are_told(calibrated, tmp_path, capsys):
    folder = str(calibrated[0] / "out")
    (tmp_path / "plain").mkdir()
    for path in (calibrated[0] / "out").iterdir():
        if path.is_file() and path.name != CALIBRATION_FILE:
            shutil.copy(path, tmp_path / "plain")
    ask = {"question": QUESTION, "context": CONTEXT}
    plain = pipeline(model=str(tmp_path / "plain"), device="cpu")(ask)
    taken = pipeline(model=folder, device="cpu")(ask)
    assert pipeline(model=folder, device="cpu", calibration=False)(ask) == plain
    assert taken["score"] != plain["score"] and {**taken, "score": 0} == {**plain, "score": 0}
    argv = ["--model_name_or_path", folder, "--question", QUESTION, "--context", CONTEXT, "--no_cuda"]
    for more, expected in ([], taken), (["--no_calibration"], plain):
        assert run_squad.main([*argv, *more]) == 0
        assert json.loads(capsys.readouterr().out) == expected


def test_a_calibration_of_another_model_is_refused(calibrated, sharp_folder, tmp_path, capfd):
    shutil.copytree(sharp_folder, tmp_path / "model")
    shutil.copy(calibrated[0] / "out" / CALIBRATION_FILE, tmp_path / "model")
    said = "calibration.json: it is the calibration of another model than the one beside it; make it again with"
    with pytest.raises(SquadError, match=said):
        pipeline(model=str(tmp_path / "model"), device="cpu")
    argv = ["--model_name_or_path", tmp_path / "model", "--question", QUESTION, "--context", CONTEXT, "--no_cuda"]
    assert run_squad.main([str(part) for part in argv]) == 1
    assert said in one_sentence(capfd.readouterr().err)
    assert run_squad.main([str(part) for part in (*argv, "--no_calibration")]) == 0


@pytest.mark.parametrize("content", ["[]", "{}", '{"temperature": 0, "null_threshold": 0}', '{"temperature": "1"}'])
def test_a_damaged_calibration_is_one_sentence(content, sharp_folder, tmp_path):
    shutil.copytree(sharp_folder, tmp_path / "model")
    (tmp_path / "model" / CALIBRATION_FILE).write_text(content)
    with pytest.raises(
        SquadError, match=r"calibration.json: it has no temperature above 0 with a null_threshold; make"
    ):
        pipeline(model=str(tmp_path / "model"), device="cpu")


def test_a_new_training_takes_the_old_calibration_away(calibrated, short_sample, tmp_path):
    shutil.copytree(calibrated[0] / "out", tmp_path / "out")
    same = flags("--max_steps", 10, "--overwrite_output_dir", train=short_sample)
    for more, stays in ([], True), (["--seed", 7], False):
        run = Run(tmp_path, *same, *map(str, more))
        assert run.wait() == 0, run.stderr
        assert (tmp_path / "out" / CALIBRATION_FILE).exists() == stays
        assert ("removed out/calibration.json, the calibration of the model that was here" in run.stderr) != stays


def test_wrong_ways_to_calibrate_are_told_before_anything_is_read(capsys):
    for argv, said in (
        (flags("--calibrate"), "--calibrate is fitted on the scored questions; add --do_eval"),
        (eval_flags("GroNLP/bert", "x.json", "--calibrate"), "GroNLP/bert is not a folder that can be written to"),
    ):
        with pytest.raises(SystemExit) as caught:
            run_squad.main(argv)
        assert caught.value.code == 2 and said in capsys.readouterr().err
