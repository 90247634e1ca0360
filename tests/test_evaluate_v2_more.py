"""What evaluate_v2.py does beside the metric: --compare, --cluster, --breakdown, the rules of other data sets."""
# ruff: noqa: F401, F811  (fixtures are imported, and named again as arguments)

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, run_script
from scoring import GOLDS, PREDS, files, run_main, squad

import evaluate_v2
from squadlib.scoring import breakdown

WORSE = {"a": "dog", "b": "", "c": "Amsterdam", "d": "Delft"}  # than PREDS by 0.8 in the f1 of a
ALL = "--compare --cluster article --breakdown answerable article --normalisation mkqa-nl".split()


def town(number, questions=2):
    """An article with unanswerable questions."""
    return {
        "title": f"Town {number}",
        "paragraphs": squad({f"{number}-{i}": [] for i in range(questions)})["data"][0]["paragraphs"],
    }


def towns(number):
    return {"version": "v2.0", "data": [town(n) for n in range(number)]}


def test_comparison_as_a_table_and_as_json(files, run_main):
    folder = files(data=squad(GOLDS), one=WORSE, two=PREDS, three=WORSE)
    paths = [folder / f"{name}.json" for name in ("data", "one", "two", "three")]
    code, out, err, _ = run_main(*paths, "--compare", "-o", folder / "out.json")
    table, compared, draws = out.rstrip("\n").split("\n\n")
    assert code == 0 and table.splitlines()[2].startswith("| one |")
    assert compared.splitlines()[0].startswith("| compared with one |")
    assert compared.splitlines()[3].startswith("| two | f1 | +20.00 | +0.00 to +60.00 | 1.0000 | 0.5")
    assert draws.startswith("10,000 trials each, drawn by question (4);") and "for 2 comparisons" in draws
    results = json.loads((folder / "out.json").read_text())
    assert "compared_with" not in results["one"]
    figures = results["two"]["compared_with"]["one"]["f1"]
    # a alone differs: drawn 0 times or more than once of 4 the mean is 20 or more away from 20
    expected = 1 - 4 * 0.25 * 0.75**3
    assert (figures["difference"], figures["p_bootstrap"]) == (pytest.approx(20), pytest.approx(expected, abs=0.02))
    assert results["three"]["compared_with"]["one"]["exact"]["p_randomisation"] == 1
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paths[1:3]]
    assert f"pred:{hashes[1]}|compared_with:{hashes[0]}|questions:4" in err and "|compare:10000|seed:42|" in err


def test_table_without_comparison_is_as_before(files, run_main):
    folder = files(data=squad(GOLDS), one=WORSE, two=PREDS)
    paths = [folder / f"{name}.json" for name in ("data", "one", "two")]
    _, before, _, _ = run_main(*paths)
    assert run_main(*paths, "--compare")[1].startswith(before)


def test_whole_articles_are_drawn_when_asked_for(files, run_main):
    data = towns(20)
    wrong = {f"{n}-{i}": "x" if n % 2 else "" for n in range(20) for i in range(2)}
    folder = files(data=data, right=dict.fromkeys(wrong, ""), wrong=wrong)
    options = ["--bootstrap", 1000, "--signature"]
    _, out, err, _ = run_main(folder / "data.json", folder / "wrong.json", *options)
    _, clustered, said, _ = run_main(folder / "data.json", folder / "wrong.json", *options, "--cluster", "article")
    (low, high), (lower, higher) = json.loads(out)["exact_ci95"], json.loads(clustered)["exact_ci95"]
    assert higher - lower > 1.2 * (high - low)
    assert "|bootstrap:1000|seed:42|" in err and "|bootstrap:1000|cluster:article|seed:42|" in said
    paths = [folder / "data.json", folder / "right.json", folder / "wrong.json"]
    assert "drawn by article (20)" in run_main(*paths, "--compare", "--cluster", "article")[1]


def test_breakdown_as_tables_and_as_json(files, run_main):
    document = squad(GOLDS)
    for qa, question in zip(
        document["data"][0]["paragraphs"][0]["qas"], ["Who?", "Who?", "Where?", "Who?"], strict=True
    ):
        qa["question"] = question
    folder = files(data=document, preds=PREDS)
    code, out, err, _ = run_main(folder / "data.json", folder / "preds.json", "--breakdown", "-o", folder / "out.json")
    total, answerable, word = out.rstrip("\n").split("\n\n")
    assert code == 0 and total.splitlines()[2] == "| preds | 50.00/70.00 | 50.00/90.00 | 50.00/50.00 |"
    assert answerable.splitlines()[2:] == ["| HasAns | 2 | 50.00/90.00 |", "| NoAns | 2 | 50.00/50.00 |"]
    assert word.splitlines()[2:] == ["| who | 3 | 33.33/60.00 |", "| where | 1 | 100.00/100.00 |"]
    results = json.loads((folder / "out.json").read_text())
    assert results["exact"] == 50.0 and results["breakdown"]["question_word"]["where"]["total"] == 1
    assert "best_*" not in err and "signature" in err
    two = run_main(folder / "data.json", folder / "preds.json", folder / "out.json", "--breakdown")
    assert two[0] == 1  # results are no predictions
    assert [*breakdown.GROUPINGS] == [*evaluate_v2.BREAKDOWNS]


def test_breakdown_by_the_confidence_of_the_cleaner(tmp_path):
    sample = ROOT / "sample"
    memory = ("--backend", "memory", "--memory_file", sample / "memory_en_nl.jsonl", "--output_file", "nl.json")
    assert (
        run_script("translate_squad.py", "--input_file", sample / "sample-v2.0.json", *memory, cwd=tmp_path).returncode
        == 0
    )
    for flags, name in ((), "plain.json"), (("--write_confidence",), "sure.json"):
        done = run_script("clean_squad.py", "--input_file", "nl.json", "--output_file", name, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    plain, sure = (json.loads((tmp_path / name).read_text()) for name in ("plain.json", "sure.json"))
    questions = [qa for article in sure["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    found = [answer.pop("confidence") for qa in questions for answer in qa["answers"]]
    assert sure == plain and len(found) == 49 and all(0.65 <= confidence <= 1 for confidence in found)
    (tmp_path / "preds.json").write_text(json.dumps({qa["id"]: "" for qa in questions}))
    sure = json.loads((tmp_path / "sure.json").read_text())
    unsure = next(qa for article in sure["data"] for p in article["paragraphs"] for qa in p["qas"] if qa["answers"])
    for answer in unsure["answers"]:
        answer["confidence"] = 0.7  # the sample has none below 0.9
    (tmp_path / "sure.json").write_text(json.dumps(sure))
    done = run_script("evaluate_v2.py", "sure.json", "preds.json", "--breakdown", "confidence", cwd=tmp_path)
    rows = [line.split(" | ") for line in done.stdout.split("\n\n")[1].splitlines()[2:]]
    assert done.returncode == 0 and [int(row[1]) for row in rows] == [1, 32]
    done = run_script("evaluate_v2.py", "plain.json", "preds.json", "--breakdown", "confidence", cwd=tmp_path)
    assert done.returncode == 0 and "No breakdown by confidence: no answer has" in done.stdout


def test_breakdown_as_images(files, run_main):
    pytest.importorskip("matplotlib")
    folder = files(data=squad(GOLDS), preds=PREDS)
    images = ["--breakdown", "answerable", "article", "-p", folder / "images"]
    code, _, err, _ = run_main(folder / "data.json", folder / "preds.json", *images)
    names = sorted(path.name for path in folder.glob("images/*"))
    assert (code, names) == (0, ["breakdown_answerable.png", "breakdown_article.png"]) and "nothing to draw" not in err


def test_breakdown_without_matplotlib_has_its_tables(files):
    folder = files(data=squad(GOLDS), preds=PREDS)
    (folder / "matplotlib.py").write_text("raise ImportError")  # as if it were not installed
    arguments = ["data.json", "preds.json", "--breakdown", "-p", "images"]
    run = run_script("evaluate_v2.py", *arguments, cwd=folder, env={"PYTHONPATH": str(folder)})
    assert run.returncode == 0 and "pip install matplotlib" in run.stderr and "| HasAns | 2 |" in run.stdout


def test_normalisation_of_another_data_set_is_named_in_the_signature(files, run_main):
    folder = files(data=squad({"a": ["het Rijk der Noren"]}), preds={"a": "rijk Noren"})
    assert json.loads(run_main(folder / "data.json", folder / "preds.json", "--normalisation", "nl")[1])["exact"] == 0
    rule = ["--normalisation", "mkqa-nl", "--signature"]
    code, out, err, _ = run_main(folder / "data.json", folder / "preds.json", *rule)
    assert code == 0 and json.loads(out)["exact"] == 100 and "|norm:mkqa-nl|" in err


@pytest.mark.parametrize(
    ("answers", "rule", "warned"),
    [
        (["กรุงเทพ", "1782", "แม่น้ำ"], "en", True),
        (["กรุงเทพ", "1782", "1790"], "en", False),  # most can be split
        (["กรุงเทพ", "1782", "แม่น้ำ"], "mkqa-th", False),
        (["東京タワー", "大阪"], "nl", True),
        (["東京タワー", "はし"], "mlqa-zh", True),  # kana stay together
        (["东京塔", "桥"], "mlqa-zh", False),
        (["ភ្នំពេញ"], "en", True),
        (["서울", "Žižkov", "Москва"], "en", False),
    ],
)
def test_gold_answers_that_cannot_be_split_are_told(files, run_main, answers, rule, warned):
    golds = {str(number): [answer] for number, answer in enumerate(answers)}
    folder = files(data=squad(golds), preds=dict.fromkeys(golds, ""))
    code, _, err, _ = run_main(folder / "data.json", folder / "preds.json", "--normalisation", rule)
    assert code == 0 and ("F1 counts whole answers; use --normalisation mkqa-th" in err) is warned


# ---------------------------------------------------------------------------------------------------------------------
# Bad input, and the script alone
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--compare"], "--compare needs two or more prediction files, each given once"),
        (["preds.json", "--compare"], "--compare needs two or more prediction files, each given once"),
        (["--cluster", "article"], "--cluster is used with --compare or --bootstrap; give one of them"),
        (["--cluster", "town", "--bootstrap", "100"], "argument --cluster: invalid choice: 'town'"),
        (["--normalisation", "mlqa-nl"], "--normalisation mlqa-nl is none of en, nl, mkqa-ar, mkqa-da, "),
        (["--breakdown", "colour"], "argument --breakdown: invalid choice: 'colour'"),
        (["--breakdown", "-p", "images", "other.json"], "unrecognized arguments: other.json"),
    ],
)
def test_wrong_flags_exit_2(files, options, fault):
    folder = files(data=squad(GOLDS), preds=PREDS)
    run = run_script("evaluate_v2.py", "data.json", "preds.json", *options, cwd=folder)
    assert run.returncode == 2 and fault in run.stderr and run.stdout == ""


@pytest.mark.parametrize(
    ("data", "second", "options", "fault"),
    [
        (squad(GOLDS), {"x": "", "y": ""}, [], "two.json: 4 of 4 questions, the first is a, have no prediction"),
        (
            squad(GOLDS),
            WORSE,
            ["--cluster", "article"],
            "data.json: all questions are of one article, T: --cluster has",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(files, run_main, data, second, options, fault):
    folder = files(data=data, one=PREDS, two=second)
    paths = [folder / f"{name}.json" for name in ("data", "one", "two")]
    code, out, _, errors = run_main(*paths, "--compare", *options, "-o", folder / "out.json")
    assert (code, out, len(errors)) == (1, "", 1) and fault in errors[0]
    assert not (folder / "out.json").exists()


def test_rows_without_a_title_have_no_article(files, run_main):
    folder = files(preds={"a": "", "b": ""})
    rows = [{"id": "a", "answers": [], "title": "A"}, {"id": "b", "answers": []}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ["--bootstrap", 100, "--cluster", "article"]
    code, out, _, errors = run_main(folder / "rows.jsonl", folder / "preds.json", *options)
    fault = 'rows.jsonl: question 2 has no "title", by which --cluster knows its article; add it'
    assert (code, out, len(errors)) == (1, "", 1) and errors[0].endswith(fault)


@pytest.mark.parametrize("flags", [ALL[:1], [*ALL[1:3], "--bootstrap", "100"], ALL[3:5], ALL[6:]])
def test_alone_it_says_which_flags_need_the_toolkit(files, flags):
    folder = files(data=squad(GOLDS), one=PREDS, two=WORSE)
    shutil.copy(ROOT / "evaluate_v2.py", folder)
    names = ["one.json", "two.json"][: 2 if "--compare" in flags else 1]
    command = [sys.executable, "evaluate_v2.py", "data.json", *names, *flags]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    faults = [line for line in run.stderr.splitlines() if not line.startswith("evaluate_v2.py: ")]
    assert (run.returncode, run.stdout, len(faults)) == (1, "", 1)
    assert all(
        flag in faults[0] for flag in ("--compare", "--cluster", "--breakdown", "squadlib beside evaluate_v2.py")
    )


def test_compare_without_numpy_says_so(files):
    folder = files(data=squad(GOLDS), one=PREDS, two=WORSE)
    (folder / "evaluate_v2.py").write_bytes((ROOT / "evaluate_v2.py").read_bytes())
    (folder / "squadlib").symlink_to(ROOT / "squadlib")
    command = [sys.executable, "-S", "evaluate_v2.py", "data.json", "one.json", "two.json", "--compare"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.splitlines()[-1].startswith(
        "a flag of this command needs numpy; run `pip"
    )
