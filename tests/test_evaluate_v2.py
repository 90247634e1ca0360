"""evaluate_v2.py against the 2020 library, the official script's logic and tables worked out by hand."""
# ruff: noqa: F401, F811  (fixtures are imported, and named again as arguments)

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import math
import operator
import random
import re
import resource
import subprocess
import sys
from unittest import mock

import pytest
from conftest import ROOT, run_script
from scoring import GOLDS, ODDS, PREDS, files, load_program, run_main, squad

import evaluate_v2

golden = load_program(ROOT / "tests" / "golden" / "make_evaluator_golden.py")


# ---------------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Cat.", "cat"),
        ("a.n. other", "other"),  # punctuation goes first, so "a.n." is the article "an"
        ("the-a", "thea"),
        ("“the” cat", "“ ” cat"),  # typographic quotes are no ASCII punctuation and leave the article bare
        ("the the the", ""),
        ("theme a\tan\nend", "theme end"),
        ("x_y 1,000", "xy 1000"),
        ("ΣΑΣ", "σας"),
        ("", ""),
    ],
)
def test_normalisation_by_hand(text, normalised):
    assert evaluate_v2.normalise_answer(text) == normalised
    assert evaluate_v2.normalise_all({text, "other"})[text] == normalised.split()


def test_normalising_together_equals_one_by_one():
    draw = random.Random(3)
    characters = "  aaAtThHeEnN.,'-_“é\u00a0\n\t\x00\x1c\x85Σßİ1"
    texts = {"".join(draw.choices(characters, k=draw.randrange(14))) for _ in range(20_000)}
    for language in evaluate_v2.ARTICLES:
        words = evaluate_v2.normalise_all(texts, language)
        assert all(words[text] == evaluate_v2.normalise_answer(text, language).split() for text in texts)


def test_results_by_hand():
    # a: best gold "black cat", prediction "black cat sat": precision 2/3, recall 1, f1 0.8
    results = evaluate_v2.squad_evaluate(GOLDS, PREDS)
    expected = {"exact": 50.0, "f1": pytest.approx(70.0), "total": 4}
    expected |= {"HasAns_exact": 50.0, "HasAns_f1": pytest.approx(90.0), "HasAns_total": 2}
    expected |= {"NoAns_exact": 50.0, "NoAns_f1": 50.0, "NoAns_total": 2}
    # nothing answered scores 2 of 4; then a +0 or +0.8, b 0, c +1: 3 or 3.8; then d -1
    expected |= {"best_exact": 75.0, "best_exact_thresh": 0.0, "best_f1": pytest.approx(95.0), "best_f1_thresh": 0.0}
    assert results == expected
    assert list(results) == list(expected)


def test_no_answer_threshold_by_hand():
    na_probs = {"a": 0.1, "b": 0.9, "c": 0.6, "d": 0.6}
    results = evaluate_v2.squad_evaluate(GOLDS, PREDS, na_probs, 0.6)
    assert results["exact"] == 50.0  # 0.6 is not above 0.6
    results = evaluate_v2.squad_evaluate(GOLDS, PREDS, na_probs, 0.5)
    assert (results["HasAns_exact"], results["NoAns_exact"]) == (0.0, 100.0)
    assert (results["best_exact"], results["best_exact_thresh"]) == (75.0, 0.6)  # the official cut inside the tie c, d


def test_equal_to_the_2020_library_to_the_last_bit(monkeypatch):
    # The golden figures come from a Python before 3.12, whose sum() of floats adds in order; newer ones round better.
    monkeypatch.setattr(evaluate_v2, "sum", lambda values: functools.reduce(operator.add, values, 0), raising=False)
    expected = json.loads(gzip.decompress(golden.RESULTS.read_bytes()))
    assert len(expected) >= 1000
    for case, (arguments, results) in enumerate(zip(golden.make_cases(), expected, strict=True)):
        ours = evaluate_v2.squad_evaluate(*arguments)
        assert json.dumps(ours) == json.dumps(results), f"case {case}"


def test_thresholds_on_null_odds_by_hand():
    # a, c, d are tied: answering them gives 0 + 1 - 1, no gain in exact; 0.8 + 1 - 1 in f1
    assert evaluate_v2.best_thresholds(GOLDS, PREDS, ODDS) == {
        "best_exact_null_odds": 50.0,
        "best_exact_null_odds_thresh": math.nextafter(-2.0, -math.inf),
        "best_f1_null_odds": pytest.approx(70.0),
        "best_f1_null_odds_thresh": -2.0,
    }


def test_thresholds_on_null_odds_can_be_used_and_do_not_depend_on_order():
    draw = random.Random(5)
    for golds, predictions, odds, _ in golden.make_cases(300, seed=6):
        odds = {qid: float(draw.randrange(-2, 3)) for qid in golds} if odds is None else odds
        best = evaluate_v2.best_thresholds(golds, predictions, odds)
        mixed = sorted(golds, key=lambda _: draw.random())
        assert best == evaluate_v2.best_thresholds({qid: golds[qid] for qid in mixed}, predictions, odds)
        reached = {"exact": [], "f1": []}
        for threshold in [min(odds[qid] for qid in golds) - 1, *(odds[qid] for qid in golds)]:
            results = evaluate_v2.squad_evaluate(golds, predictions, odds, threshold)
            for name, values in reached.items():
                values.append(results[name])
        for name, values in reached.items():
            used = evaluate_v2.squad_evaluate(golds, predictions, odds, best[f"best_{name}_null_odds_thresh"])[name]
            assert used == pytest.approx(best[f"best_{name}_null_odds"], abs=1e-9)
            assert used == pytest.approx(max(values), abs=1e-9)


def test_average_precision_by_hand():
    na_probs = {"a": 0.1, "d": 0.2, "c": 0.3, "b": 0.9}
    exact, _ = evaluate_v2.score_answers(GOLDS, PREDS)
    # true positives after each question: 0, 0, 1, 1 of 2 answerable ones; recall rises at the third: 1/3 * 1/2
    average, precisions, recalls = evaluate_v2.precision_recall(GOLDS, exact, na_probs)
    assert (precisions, recalls) == ([1.0, 0.0, 0.0, 1 / 3, 0.25], [0.0, 0.0, 0.0, 0.5, 0.5])
    assert average == pytest.approx(100 / 6)
    # all tied: one point only, precision 1/4, recall 1/2
    assert evaluate_v2.precision_recall(GOLDS, exact, dict.fromkeys(GOLDS, 0.5))[0] == 12.5


def test_score_rows_average_to_the_reported_figures():
    for golds, predictions, na_probs, threshold in golden.make_cases(200, seed=8):
        results = evaluate_v2.squad_evaluate(golds, predictions, na_probs, threshold)
        rows = evaluate_v2.question_rows(golds, predictions, na_probs, threshold)
        assert [row["id"] for row in rows] == list(golds)
        for name in ("exact", "f1"):
            assert sum(row[name] for row in rows) / len(rows) == pytest.approx(results[name], abs=1e-9)


def test_bootstrap_interval_is_deterministic_and_near_the_normal_one():
    scores = [100.0] * 300 + [0.0] * 700
    low, high = evaluate_v2.bootstrap_interval(scores, 2000)
    assert [low, high] == evaluate_v2.bootstrap_interval(scores, 2000)
    half = 196 * math.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == (pytest.approx(30 - half, abs=0.3), pytest.approx(30 + half, abs=0.3))


def test_dutch_articles_only_when_asked_for():
    golds, predictions = {"a": ["de kat"], "b": ["the cat"]}, {"a": "Kat", "b": "cat"}
    assert evaluate_v2.score_answers(golds, predictions)[0] == {"a": 0, "b": 1}
    assert evaluate_v2.score_answers(golds, predictions, "nl")[0] == {"a": 1, "b": 0}


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def test_output_is_the_official_one_byte_for_byte(files):
    folder = files(data=squad(GOLDS), preds=PREDS, na={"a": 0.1, "b": 0.9, "c": 0.6, "d": 0})
    official = [sys.executable, str(ROOT / "benchmarks" / "official_evaluator.py")]
    for options in ([], ["-t", "0.5"], ["--na-prob-thresh", "-1"]):
        arguments = ["data.json", "preds.json", "-n", "na.json", *options]
        expected = subprocess.run(
            [*official, *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        assert run_script("evaluate_v2.py", *arguments, cwd=folder).stdout == expected
    run = run_script("evaluate_v2.py", "-n", "na.json", "data.json", "preds.json", "-o", "out.json", cwd=folder)
    assert (run.returncode, run.stdout) == (0, "")
    official_text = subprocess.run([*official, *arguments[:4]], cwd=folder, capture_output=True, text=True).stdout
    assert (folder / "out.json").read_text() == json.dumps(json.loads(official_text))


def test_without_probabilities_best_figures_come_with_a_note(files, run_main):
    folder = files(data=squad(GOLDS), preds=PREDS)
    code, out, err, _ = run_main(folder / "data.json", folder / "preds.json")
    assert code == 0 and json.loads(out)["best_exact_thresh"] == 0.0
    assert len(re.findall("best_", err)) == 1 and "--null-odds-file" in err


def test_signature_names_what_was_scored(files, run_main):
    folder = files(data=squad(GOLDS), preds=PREDS)
    _, _, err, _ = run_main(folder / "data.json", folder / "preds.json", "--normalisation", "nl", "--signature")
    data, pred = (hashlib.sha256((folder / f"{n}.json").read_bytes()).hexdigest()[:12] for n in ("data", "preds"))
    fields = f"data:{data}|pred:{pred}|questions:4|answerable:2|norm:nl|evaluate_v2:{evaluate_v2.VERSION}"
    assert f"signature {fields}\n" in err


def test_table_of_several_prediction_files(files, run_main):
    folder = files(data=squad(GOLDS), one=PREDS, two=dict.fromkeys(GOLDS, ""))
    code, out, _, _ = run_main(folder / "data.json", folder / "one.json", folder / "two.json")
    rows = ["| one | 50.00/70.00 | 50.00/90.00 | 50.00/50.00 |", "| two | 50.00/50.00 | 0.00/0.00 | 100.00/100.00 |"]
    assert (code, out.splitlines()) == (0, ["| Model | EM/F1 | HasAns | NoAns |", "|---|---|---|---|", *rows])
    _, out, _, _ = run_main(folder / "data.json", folder / "one.json", "--markdown")
    assert out.splitlines()[2:] == rows[:1]


def test_rows_are_named_after_the_run_folder(tmp_path):
    assert evaluate_v2.model_name(str(tmp_path / "bertje" / "predictions_.json")) == "bertje"
    assert evaluate_v2.model_name("robbert.json") == "robbert"


def test_null_odds_with_and_without_nbest(files, run_main):
    nbest = {"a": [{"text": "black cat"}], "b": [{"text": ""}], "c": [{"text": ""}, {"text": "Amsterdam"}], "d": []}
    folder = files(data=squad(GOLDS), preds=dict.fromkeys(GOLDS, ""), odds=ODDS, nbest=nbest)
    options = [folder / "data.json", folder / "preds.json", "--null_odds_file", folder / "odds.json"]
    assert json.loads(run_main(*options)[1])["best_exact_null_odds"] == 50.0
    results = json.loads(run_main(*options, "--nbest_file", folder / "nbest.json")[1])
    assert (results["best_exact_null_odds"], results["best_exact_null_odds_thresh"]) == (100.0, -2.0)


def test_log_odds_as_probabilities_are_noticed(files, run_main):
    folder = files(data=squad(GOLDS), preds=PREDS, odds=ODDS)
    code, _, err, _ = run_main(folder / "data.json", folder / "preds.json", "-n", folder / "odds.json")
    assert code == 0 and "4 of 4 values are not between 0 and 1" in err
    _, _, err, _ = run_main(folder / "data.json", folder / "preds.json", "-n", folder / "odds.json", "-t", 0)
    assert "not between" not in err


def test_only_values_between_0_and_1_are_probabilities(files, run_main):
    folder = files(data=squad(GOLDS), preds=PREDS, na={"a": 0, "b": 1, "c": 1.5, "d": -0.5})
    _, _, err, _ = run_main(folder / "data.json", folder / "preds.json", "-n", folder / "na.json")
    assert "2 of 4 values are not between 0 and 1" in err


@pytest.mark.parametrize("entries", [{"text": "x"}, ["x"], [{"text": "x"}, {"answer": "x"}]])
def test_nbest_lists_without_texts_are_refused(files, run_main, entries):
    folder = files(data=squad(GOLDS), preds=PREDS, odds=ODDS, nbest={"a": entries})
    options = ["--null-odds-file", folder / "odds.json", "--nbest-file", folder / "nbest.json"]
    code, _, err, _ = run_main(folder / "data.json", folder / "preds.json", *options)
    assert code == 1 and "question a has no list of entries with a text" in err


@pytest.mark.parametrize(("na_probs", "tied"), [(None, True), (dict.fromkeys(GOLDS, 0.5), True), (ODDS, False)])
def test_thresholds_of_equal_probabilities_are_said_to_be_useless(files, run_main, na_probs, tied):
    folder = files(data=squad(GOLDS), preds=PREDS, na=na_probs)
    options = ["-n", folder / "na.json"] if na_probs else []
    _, _, err, _ = run_main(folder / "data.json", folder / "preds.json", *options)
    assert (evaluate_v2.TIE_NOTE in err) == tied


def test_histogram_tells_answerable_questions_from_others(tmp_path):
    plt, axes = mock.Mock(), mock.Mock()
    plt.subplots.return_value = None, axes
    for name in ("f1", "odds"):  # the second one finds the folder
        evaluate_v2.plot_histogram(plt, str(tmp_path / f"new/folder/{name}.png"), "null odds", GOLDS, ODDS, 0.5)
    drawn = {call.kwargs["label"]: call.args[0] for call in axes.hist.call_args_list}
    answerable = [qid for qid in ODDS if GOLDS[qid]]
    assert drawn == {
        "HasAns (2)": [ODDS[qid] for qid in answerable],
        "NoAns (2)": [ODDS[qid] for qid in ODDS if qid not in answerable],
    }
    assert (tmp_path / "new/folder/odds.png").exists()


def test_axes_of_precision_and_recall_end_at_1(tmp_path):
    plt, axes = mock.Mock(), mock.Mock()
    plt.subplots.return_value = None, axes
    evaluate_v2.plot_precision_recall(plt, str(tmp_path / "pr.png"), "exact", [1.0, 0.5], [0.0, 0.5])
    assert axes.step.call_args.args == ([0.0, 0.5], [1.0, 0.5])
    limits = axes.set.call_args.kwargs
    assert (limits["xlim"], limits["xlabel"], limits["ylabel"]) == ((0, 1), "Recall", "Precision")


def test_scores_file_and_interval(files, run_main):
    folder = files(data=squad(GOLDS), preds=PREDS)
    scores = folder / "scores.jsonl"
    options = ["--out_scores_file", scores, "--bootstrap", 200]
    code, out, _, _ = run_main(folder / "data.json", folder / "preds.json", *options)
    low, high = json.loads(out)["f1_ci95"]
    assert code == 0 and low <= 70.0 <= high
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    assert rows[3] == {"id": "d", "has_ans": False, "exact": 0.0, "f1": 0.0, "pred": "Delft", "golds": []}


def test_average_precisions_need_no_matplotlib(files):
    folder = files(data=squad(GOLDS), preds=PREDS, na={"a": 0.1, "d": 0.2, "c": 0.3, "b": 0.9})
    (folder / "matplotlib.py").write_text("raise ImportError")  # as if it were not installed
    arguments = ["data.json", "preds.json", "-n", "na.json", "-p", "images"]
    run = run_script("evaluate_v2.py", *arguments, cwd=folder, env={"PYTHONPATH": str(folder)})
    assert run.returncode == 0 and "pip install matplotlib" in run.stderr
    assert list(json.loads(run.stdout))[-3:] == ["pr_exact_ap", "pr_f1_ap", "pr_oracle_ap"]
    assert json.loads(run.stdout)["pr_exact_ap"] == pytest.approx(100 / 6)
    assert not list(folder.glob("images/*"))


def test_images(files, run_main):
    pytest.importorskip("matplotlib")
    folder = files(data=squad(GOLDS), preds=PREDS, na={"a": 0.1, "d": 0.2, "c": 0.3, "b": 0.9}, odds=ODDS)
    options = ["-n", folder / "na.json", "--null-odds-file", folder / "odds.json", "-p", folder / "images"]
    code, _, _, _ = run_main(folder / "data.json", folder / "preds.json", *options)
    names = ["na_prob_hist", "null_odds_hist", "pr_exact", "pr_f1", "pr_oracle"]
    assert code == 0 and sorted(p.name for p in folder.glob("images/*")) == [f"{name}.png" for name in names]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in folder.glob("images/*"))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["-t", "nan"], "--na-prob-thresh is NaN"),
        (["--bootstrap", "3"], "--bootstrap 3 is too few"),
        (["--bootstrap", "-1"], "--bootstrap -1 is too few"),
        (["--nbest-file", "x"], "--null-odds-file; give both"),
        (["-o", "nowhere/out.json"], "does not exist"),
        (["preds.json", "-n", "na.json"], "belongs to one prediction file"),
        (["--na-prob", "na.json"], "unrecognized arguments"),  # no abbreviations
    ],
)
def test_wrong_flags_exit_2(options, fault):
    run = run_script("evaluate_v2.py", "data.json", "preds.json", *options)
    assert run.returncode == 2 and fault in run.stderr and run.stdout == ""


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "na-prob-file" in run_script("evaluate_v2.py", "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3  # of CPU time: a busy machine must not fail the test
