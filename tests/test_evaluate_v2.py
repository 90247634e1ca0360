"""evaluate_v2.py against the 2020 library, the official script's logic, tables worked out by hand, and bad input."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import math
import random
import re
import resource
import subprocess
import sys

import pytest
from conftest import ROOT, run_script

import evaluate_v2
from evaluate_v2 import SquadError


def load_program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = load_program(ROOT / "tests" / "golden" / "make_evaluator_golden.py")


def squad(golds):
    """A SQuAD document with these questions; the unanswerable ones are marked."""
    qas = [
        {
            "id": qid,
            "question": "?",
            "is_impossible": not texts,
            "answers": [{"text": t, "answer_start": 0} for t in texts],
        }
        for qid, texts in golds.items()
    ]
    return {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "c", "qas": qas}]}]}


@pytest.fixture
def files(tmp_path):
    """Write objects as <name>.json into a folder; returns its path."""

    def write(**contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write


GOLDS = {"a": ["the cat", "black cat"], "b": [], "c": ["Amsterdam"], "d": []}
PREDS = {"a": "a black cat sat", "b": "", "c": "amsterdam!", "d": "Delft"}
ODDS = {"a": -2.0, "b": 3.5, "c": -2.0, "d": -2.0}


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


def test_equal_to_the_2020_library_to_the_last_bit():
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


@pytest.fixture
def run_main(capsys):
    """Call main in this process; returns (exit code, stdout, stderr, its lines that are not notes: the error)."""

    def run(*args):
        code = evaluate_v2.main(list(map(str, args)))
        out, err = capsys.readouterr()
        lines = err.removesuffix("\n").split("\n") if err else []
        return code, out, err, [line for line in lines if not line.startswith("evaluate_v2.py: ")]

    return run


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


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


# ---------------------------------------------------------------------------------------------------------------------
# Unusual and bad input
# ---------------------------------------------------------------------------------------------------------------------


def test_unusual_input_works(files, run_main):
    document = squad({7: ["\U0001f600 tulp"], "b": []})
    del document["data"][0]["paragraphs"][0]["qas"][1]["answers"]
    document["data"][0]["paragraphs"][0]["context"] = "x" * 50_000
    folder = files(preds={"7": "\U0001f600 Tulp", "b": "", "extra": None})
    text = json.dumps(document, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    (folder / "data.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    code, out, err, _ = run_main(folder / "data.json", folder / "preds.json")
    assert code == 0 and json.loads(out)["exact"] == 100.0
    assert "1 predictions are for questions that the data file does not have: ignored" in err


def test_answers_decide_when_is_impossible_contradicts_them(files, run_main):
    document = squad(GOLDS)
    document["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    folder = files(data=document, preds=PREDS)
    code, out, err, _ = run_main(folder / "data.json", folder / "preds.json")
    assert code == 0 and json.loads(out)["HasAns_total"] == 2 and "scored by the answers" in err


def test_sets_of_one_kind(files, run_main):
    for golds, missing in (({"a": ["x"]}, "NoAns_exact"), ({"b": []}, "HasAns_exact")):
        folder = files(data=squad(golds), preds=dict.fromkeys(golds, ""), odds=dict.fromkeys(golds, 1.5))
        options = ["--null-odds-file", folder / "odds.json", "-p", folder / "images"]
        code, out, _, _ = run_main(folder / "data.json", folder / "preds.json", *options)
        assert code == 0 and missing not in json.loads(out)
        assert "–" in run_main(folder / "data.json", folder / "preds.json", "--markdown")[1]


GOOD = json.dumps(squad(GOLDS))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("preds", {"a": "x", "c": "y"}, "2 of 4 questions, the first is b, have no prediction"),
        ("preds", {**PREDS, "b": None}, "the prediction for question b is None; expected text"),
        ("preds", {**PREDS, "b": 12}, "the prediction for question b is 12"),
        ("preds", {**PREDS, "b": [{"text": "x"}]}, "the prediction for question b is [{"),
        ("preds", [], "expected {question id: …}, found list"),
        ("preds", "", "the file is empty"),
        ("preds", '{"a": "x', "the file looks cut off"),
        ("preds", '{"a": NaN}', "NaN is not a JSON number"),
        ("na", {"a": 0.1}, "3 of 4 questions, the first is b, have no no-answer probability"),
        ("na", '{"a": NaN, "b": 0, "c": 0, "d": 0}', "NaN is not a JSON number"),
        ("na", '{"a": 1e999, "b": 0, "c": 0, "d": 0}', "question a: inf is not a finite number"),
        ("na", {"a": None, "b": 0, "c": 0, "d": 0}, "question a: None is not a finite number"),
        ("na", {"a": True, "b": 0, "c": 0, "d": 0}, "question a: True is not a finite number"),
        ("data", {}, '"data" should be a list, found \'nothing\''),
        ("data", [], '"data" should be a list, found list'),
        ("data", PREDS, '"data" should be a list'),
        ("data", {"data": []}, "the file has no question"),
        ("data", {"data": [{"paragraphs": []}]}, "the file has no question"),
        ("data", {"data": [{"paragraphs": {}}]}, "article 1: \"paragraphs\" should be a list, found {}"),
        ("data", GOOD.replace('"id": "b"', '"id": "a"'), "question a: this id was used before"),
        ("data", GOOD.replace('"id": "b"', '"id": null'), 'a question has no "id" that is text'),
        ("data", GOOD.replace('"text": "Amsterdam"', '"text": 3'), 'question c: an answer has no "text" that is text'),
        ("data", GOOD.replace('"answers": [{"text": "Am', '"answer": [{"text": "Am'), 'c: "answers" should be a list'),
        ("data", GOOD[:-9], "the file looks cut off"),
        ("data", "\ufeff[", "not valid JSON"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_1(files, run_main, name, content, fault):
    folder = files(**{"data": squad(GOLDS), "preds": PREDS, "na": dict.fromkeys(GOLDS, 0), name: content})
    paths = [folder / "data.json", folder / "preds.json", "-n", folder / "na.json", "-o", folder / "out.json"]
    code, out, _, errors = run_main(*paths)
    assert (code, out, len(errors)) == (1, "", 1)
    assert f"{name}.json: " in errors[0] and fault in errors[0] and "\n" not in errors[0]
    assert not (folder / "out.json").exists()


def test_missing_file_as_a_user_sees_it(tmp_path):
    run = run_script("evaluate_v2.py", "no.json", "none.json", cwd=tmp_path)
    seen = (run.returncode, run.stdout, run.stderr)
    assert seen == (1, "", "no.json: cannot be read (No such file or directory)\n")


def test_functions_refuse_what_they_cannot_score():
    for arguments, fault in [
        (({}, {}), "no question"),
        ((GOLDS, {}), "4 of 4 questions, the first is a, have no prediction"),
        ((GOLDS, {**PREDS, "d": None}), "question d is None"),
        ((GOLDS, PREDS, {"a": 0.0}), "3 of 4 questions, the first is b, have no no-answer probability"),
    ]:
        with pytest.raises(SquadError, match=fault):
            evaluate_v2.squad_evaluate(*arguments)


def test_stdout_closed_early(files):
    folder = files(data=squad(GOLDS), preds=PREDS)
    command = f"{sys.executable} {ROOT}/evaluate_v2.py data.json preds.json | true; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    assert "Traceback" not in run.stderr and run.stdout.strip() in ("0", "141")


ODD_VALUES = (
    *(None, True, False, 0, 1, -7, 2.5, 10**400, "", "a", "the", "\ud800", "\x00", [], {}, [[]], [None], ["a"]),
    *({"text": "x"}, [{"text": "x"}], [{"text": None}], [{"text": ["x"]}], "x" * 3000),
)


def mutate_tree(content, draw):
    """`content` with one node anywhere in it replaced, removed, renamed or doubled."""
    spots = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(content)
    node, key = draw.choice(spots)
    kind = draw.randrange(5)
    if kind <= 1:
        node[key] = draw.choice(ODD_VALUES)
    elif kind == 2:
        del node[key]
    elif isinstance(node, list):
        node.append(node[key])
    else:
        node[draw.choice(["a", "b", "text", "id", "answers", "extra"])] = node.pop(key)
    return json.dumps(content).encode()


def mutate_bytes(raw, draw):
    """`raw` with a few bytes changed, or cut off."""
    raw = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(raw))
        kind = draw.randrange(5)
        if kind == 0:
            raw[place] = draw.randrange(256)
        elif kind == 1:
            del raw[place : place + draw.randrange(1, 9)]
        elif kind == 2:
            raw[place:place] = draw.choice(
                [b'"', b"\\", b"{", b"]", b",", b"NaN", b"1e999", b"-Infinity", b"\xff", b"\\ud83d"]
            )
        elif kind == 3:
            raw[place:place] = raw[place : place + draw.randrange(1, 40)]
        else:
            del raw[place:]
        if not raw:
            break
    return bytes(raw)


def official_results(official, folder):
    """What the official script's logic makes of the files, or None where it ends in a traceback."""
    try:
        data, preds, na_probs = (
            json.loads((folder / f"{n}.json").read_bytes().decode()) for n in ("data", "preds", "na")
        )
        has_ans = {qa["id"]: bool(qa["answers"]) for qa in official.questions(data["data"])}
        exact, f1 = official.raw_scores(data["data"], preds)
        final = [official.cut(scores, na_probs, has_ans, 0.5) for scores in (exact, f1)]
        results = official.totals(*final, list(exact))
        for name, scores in ("exact", exact), ("f1", f1):
            best, _ = official.best_threshold(preds, scores, na_probs, has_ans)
            results[f"best_{name}"] = best
        return results
    except Exception:
        return None


REFUSED = 'used before|not a finite|not a JSON number|should be a list|no usable JSON|no "id"|not a file of'


@pytest.mark.parametrize("name", ["data", "preds", "na"])
def test_mutated_files_give_the_official_figures_or_one_sentence(files, run_main, name):
    official = load_program(ROOT / "benchmarks" / "official_evaluator.py")
    golds = {"a": ["the cat", "black cat"], "b": [], "c": ["Amsterdam é"], "d": []}
    contents = {"data": squad(golds), "preds": PREDS, "na": {"a": 0.1, "b": 0.9, "c": 0.6, "d": 0}}
    folder = files(**contents)
    raw = (folder / f"{name}.json").read_bytes()
    draw, counts = random.Random(f"fuzz {name}"), {"equal": 0, "lenient": 0, "refused": 0, "stricter": 0}
    for number in range(700):
        mutant = mutate_bytes(raw, draw) if number % 2 else mutate_tree(json.loads(raw), draw)
        (folder / f"{name}.json").write_bytes(mutant)
        code, out, _, errors = run_main(
            *(folder / f"{n}.json" for n in ("data", "preds")), "-n", folder / "na.json", "-t", 0.5
        )
        expected = official_results(official, folder)
        if code == 0:
            results = json.loads(out, parse_constant=refuse_constant)
            assert expected is None or {key: results[key] for key in expected} == expected, mutant
            counts["equal" if expected else "lenient"] += 1
        else:
            assert (code, out, len(errors)) == (1, "", 1), mutant
            assert any(f"{n}.json: " in errors[0] for n in (name, "preds")) and "\n" not in errors[0], (mutant, errors)
            assert expected is None or re.search(REFUSED, errors[0]), (mutant, errors)
            counts["refused" if expected is None else "stricter"] += 1
    print(name, counts)
    assert counts["equal"] > 20 and counts["refused"] > 100
