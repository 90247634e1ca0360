"""What evaluate_v2.py reads and writes: alone in a folder, rows of hubs, odd and bad input, faults while writing."""
# ruff: noqa: F401, F811  (fixtures are imported, and named again as arguments)

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run_script
from scoring import GOLDS, ODDS, PREDS, files, load_program, run_main, squad

import evaluate_v2
from evaluate_v2 import SquadError

# ---------------------------------------------------------------------------------------------------------------------
# Alone in a folder; rows as hubs publish them
# ---------------------------------------------------------------------------------------------------------------------


def test_scores_when_copied_alone_into_an_empty_folder(files):
    folder = files(data=squad(GOLDS), preds=PREDS, odds=ODDS)
    arguments = ["data.json", "preds.json", "--null-odds-file", "odds.json", "--out-scores-file", "scores.jsonl"]
    expected = run_script("evaluate_v2.py", *arguments, cwd=folder)
    shutil.copy(ROOT / "evaluate_v2.py", folder)
    alone = [sys.executable, "-I", "-S", "evaluate_v2.py"]  # no folder and no package beside the standard library
    run = subprocess.run([*alone, *arguments], cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, expected.stdout, expected.stderr)
    assert subprocess.run([*alone, "--help"], cwd=folder, capture_output=True).returncode == 0
    run = subprocess.run([*alone, *arguments, "--bootstrap", "100"], cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "") and run.stderr.count("\n") == 2 and "needs numpy" in run.stderr


ROWS = """
{"id": "a", "context": "c", "question": "?", "answers": {"text": ["the cat", "black cat"], "answer_start": [0, 4]}}
{"id": "b", "context": "c", "question": "?", "answers": {"text": [], "answer_start": []}}

{"id": "c", "context": "c", "question": "Één?\u2028", "answers": [{"text": "Amsterdam", "answer_start": 0}]}
{"id": "d", "answers": []}
"""
PREDICTED_ROWS = """{"id": "a", "prediction_text": "a black cat sat", "no_answer_probability": 0.1}
{"id": "b", "prediction_text": "", "no_answer_probability": 0.9}
{"id": "c", "prediction_text": "amsterdam!", "no_answer_probability": 0.6}
{"id": "d", "prediction_text": "Delft", "no_answer_probability": 0.6}
"""


def write_by_name(path, text):
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.jsonl.gz", "rows.ndjson.gz", "document.json.gz"])
def test_rows_score_as_the_same_questions_in_a_document(files, run_main, name):
    folder = files(data=squad(GOLDS), preds=PREDS, odds=ODDS)
    path = write_by_name(folder / name, json.dumps(squad(GOLDS)) if "document" in name else ROWS)
    assert list(evaluate_v2.read_golds(str(path)).items()) == list(GOLDS.items())
    options = [folder / "preds.json", "--null-odds-file", folder / "odds.json", "-v"]
    assert run_main(path, *options) == run_main(folder / "data.json", *options)


@pytest.mark.parametrize("name", ["predicted.jsonl", "predicted.ndjson.gz", "preds.json.gz"])
def test_rows_of_predictions_score_as_an_object_of_them(files, run_main, name):
    na_probs = {"a": 0.1, "b": 0.9, "c": 0.6, "d": 0.6}
    folder = files(data=squad(GOLDS), preds=PREDS, na=na_probs)
    expected = run_main(folder / "data.json", folder / "preds.json", "-n", folder / "na.json", "-t", 0.5)
    path = write_by_name(folder / name, json.dumps(PREDS) if "preds" in name else PREDICTED_ROWS)
    na_file = folder / "na.json" if "preds" in name else path
    assert run_main(folder / "data.json", path, "-n", na_file, "-t", 0.5) == expected
    assert evaluate_v2.model_name(str(path)) == name.split(".")[0]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("rows.jsonl", ROWS + '{"id": "e", "answers"', ": line 7: not valid JSON at column 22: Expecting ':'"),
        ("rows.jsonl", json.dumps(squad(GOLDS), indent=1), ": line 1: not valid JSON at column 2"),
        ("rows.jsonl", json.dumps(squad(GOLDS)), ': line 1: a question has no "id" that is text'),
        ("rows.jsonl", "\n[]\n", ': line 2: a question has no "id" that is text'),
        ("rows.jsonl", ROWS * 2, ": line 8, question a: this id was used before; make the ids unique"),
        ("rows.jsonl", '{"id": "a", "answers": {"text": "x"}}', ", question a, answers: \"text\" should be a list"),
        ("rows.jsonl", '{"id": "a", "answers": {"text": [3]}}', 'line 1, question a: an answer has no "text" that is'),
        ("rows.jsonl", '{"id": "a", "answers": [{}]}', ': line 1, question a: an answer has no "text" that is text'),
        ("rows.jsonl", '{"id": "a", "answers": {}}', ': line 1, question a: "answers" should be a list, found {}'),
        ("rows.jsonl", '{"id": "a"}', ": line 1, question a: \"answers\" should be a list, found 'nothing'"),
        ("rows.jsonl", '{"id": "a", "answers": [], "x": NaN}', ": line 1: not usable JSON: NaN is not a JSON number"),
        ("rows.jsonl", " \n \n", ": the file is empty"),
        ("rows.jsonl.gz", "no gzip", ": not a whole gzip file (Not a gzipped file"),
        ("rows.jsonl.gz", gzip.compress(ROWS.encode())[:-9], ": not a whole gzip file (Compressed file ended before"),
        ("rows.jsonl.gz", gzip.compress(ROWS.encode())[:10] + b"\xff" * 40, ": not a whole gzip file (Error -3"),
        ("predicted.jsonl", PREDICTED_ROWS * 2, ": line 5, question a: this id was used before"),
        ("predicted.jsonl", '{"id": "a", "pred": "x"}', ': line 1, question a: there is no "prediction_text"'),
        ("predicted.jsonl", PREDICTED_ROWS[-75:], ": line 1: not valid JSON"),
        ("predicted.jsonl", '{"id": "a", "prediction_text": "x"}', ": 3 of 4 questions, the first is b"),
    ],
)  # fmt: skip
def test_bad_rows_are_one_sentence_with_the_line(files, run_main, name, content, fault):
    folder = files(data=squad(GOLDS), preds=PREDS)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    paths = [folder / "data.json", folder / name] if "predicted" in name else [folder / name, folder / "preds.json"]
    code, out, _, errors = run_main(*paths)
    assert (code, out, len(errors)) == (1, "", 1)
    assert errors[0].startswith(str(folder / name)) and fault in errors[0]


# ---------------------------------------------------------------------------------------------------------------------
# Faults while writing, signals
# ---------------------------------------------------------------------------------------------------------------------


def test_written_files_have_the_mode_of_the_old_one_or_of_the_umask(files):
    folder = files(data=squad(GOLDS), preds=PREDS)
    (folder / "old.json").write_text("old")
    (folder / "old.json").chmod(0o604)
    (folder / "link.json").symlink_to("old.json")
    arguments = "data.json preds.json -o link.json --out-scores-file new.jsonl"
    command = f"umask 027; {sys.executable} {ROOT}/evaluate_v2.py {arguments}"
    subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True)
    assert (folder / "link.json").is_symlink() and "exact" in json.loads((folder / "old.json").read_text())
    modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in ("old.json", "new.jsonl")]
    assert modes == [0o604, 0o640]


def test_full_disk_leaves_the_old_file_and_says_so(files):
    folder = files(data=squad(GOLDS), preds=PREDS, out="old")
    before = sorted(folder.iterdir())
    run = subprocess.run(
        [sys.executable, "-B", str(ROOT / "evaluate_v2.py"), "data.json", "preds.json", "-o", "out.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
    )
    assert (run.returncode, run.stdout, (folder / "out.json").read_text()) == (1, "", "old")
    assert run.stderr.splitlines()[-1].startswith(f"{folder.resolve()}/out.json: no space left for writing (")
    assert run.stderr.endswith("; free some and run the same command again\n") and sorted(folder.iterdir()) == before


def test_pipe_or_device_as_output_is_refused_not_replaced(files):
    folder = files(data=squad(GOLDS), preds=PREDS)
    os.mkfifo(folder / "pipe")
    for name, kind in ("pipe", "a device or pipe"), (".", "a folder"):
        run = run_script("evaluate_v2.py", "data.json", "preds.json", "-o", name, cwd=folder)
        assert run.returncode == 2 and f"error: --out-file {name} is {kind}; name a file" in run.stderr
    assert (folder / "pipe").is_fifo()


def open_when_read(path):
    """A descriptor to write to a named pipe, as soon as a process reads from it."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.05)
    raise AssertionError(f"nobody reads {path}")


@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGINT, 130, "stopped by Ctrl-C\n"), (signal.SIGTERM, 143, "")]
)
def test_signals_end_it_with_their_exit_code(files, number, code, message):
    folder = files(preds=PREDS)
    os.mkfifo(folder / "data.json")
    command = [sys.executable, str(ROOT / "evaluate_v2.py"), "data.json", "preds.json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        descriptor = open_when_read(folder / "data.json")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        os.close(descriptor)
    assert (process.returncode, out, err) == (code, "", message)


# ---------------------------------------------------------------------------------------------------------------------
# Unusual and bad input
# ---------------------------------------------------------------------------------------------------------------------


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


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
