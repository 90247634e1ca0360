"""clean_squad.py as users call it: output, reports, bad input, and gold spans of a real machine translation."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, run_script
from translated_town import check_plain_squad, clean_in_memory, one_question, town_document

from squadlib.cleaning import parallel_text
from squadlib.cleaning.answer_location import BAD_OFFSET, LOW_CONFIDENCE, NO_SENTENCE, NOT_LITERAL
from squadlib.cleaning.corpus import Corpus
from squadlib.cleaning.questions import NO_ANSWER


@pytest.fixture
def clean_file(tmp_path):
    """Run the script on a document; returns (CompletedProcess, output, report, dropped), None for what is absent."""

    def run(document, *flags):
        source = tmp_path / "in.json"
        text = document if isinstance(document, str) else json.dumps(document)
        source.write_text(text, encoding="utf-8")
        paths = [tmp_path / name for name in ("out.json", "report.json", "dropped.json")]
        files = ["--output_file", paths[0], "--report_file", paths[1], "--dropped_file", paths[2]]
        process = run_script("clean_squad.py", "--input_file", source, *files, *flags)
        return process, *(json.loads(path.read_text("utf-8")) if path.exists() else None for path in paths)

    return run


def test_the_script_writes_plain_squad_and_a_report(clean_file):
    process, output, report, dropped = clean_file(town_document())
    assert process.returncode == 0, process.stderr
    assert len(check_plain_squad(output)) == 16 == report["datasets"][1]["questions"]
    assert dropped == [] and report["dropped"] == {}
    assert "Dataset" in process.stdout and "# Q&A" in process.stdout
    assert "few to learn from" in process.stderr and "wrote" in process.stderr.splitlines()[-1]
    assert sum(report["confidence"].values()) == 16 and len(report["least_certain"]) == 16
    assert sum(report["strategies"].values()) == 16


def test_two_runs_are_equal_to_the_byte(clean_file, tmp_path):
    names = ("out.json", "report.json", "dropped.json")
    clean_file(town_document())
    first = [(tmp_path / name).read_bytes() for name in names]
    clean_file(town_document())
    assert first == [(tmp_path / name).read_bytes() for name in names]


def test_literal_is_the_published_rule(clean_file):
    _, output, report, dropped = clean_file(town_document(), "--method", "literal")
    document = town_document()
    context = document["data"][0]["paragraphs"][0]["context_t"]
    expected = {
        qa["id"]: [{"text": qa["answers"][0]["iso_t"], "answer_start": context.find(qa["answers"][0]["iso_t"])}]
        for qa in document["data"][0]["paragraphs"][0]["qas"]
        if qa["answers"][0]["iso_t"] in context
    }
    assert {qa["id"]: qa["answers"] for qa in output["data"][0]["paragraphs"][0]["qas"]} == expected
    assert len(dropped) == 16 - len(expected) == report["dropped"][NOT_LITERAL]
    assert report["datasets"][1]["answerable"] == report["datasets"][2]["answerable"] == len(expected)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question_t": None}, "the question is not translated"),
        ({"question_t": 5}, "the question is not translated"),
        ({"question": "Which red door is it?", "question_t": "Which red door is it?"}, "question is the source again"),
        ({"answers": []}, NO_ANSWER),
        ({"answers": None}, NO_ANSWER),
        ({"text": "blue"}, BAD_OFFSET),
        ({"text": " "}, BAD_OFFSET),
        ({"sentences": [[0, 27, 0, 31], [28, 51, None, None]]}, NO_SENTENCE),
        ({"iso_t": "Zzz", "context_t": "De sluiswachter heeft een boot. 1 2 3."}, LOW_CONFIDENCE),
    ],
)
def test_a_dropped_question_has_its_reason(clean_file, changes, reason):
    document = one_question(**changes)
    kept = one_question()["data"][0]
    kept["paragraphs"][0]["qas"][0]["id"] = "q2"
    document["data"].append(kept)
    process, output, report, dropped = clean_file(document, "--min_confidence", "0.1")
    assert process.returncode == 0, process.stderr
    assert check_plain_squad(output) == ["q2"]
    assert [question["id"] for question in dropped] == ["q1"] and reason in dropped[0]["reason"]
    assert report["dropped"] == {dropped[0]["reason"]: 1}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sentences": None}, "no sentence map"),
        ({"sentences": [[0, 999, 0, 5]]}, "does not fit"),
        ({"sentences": "nonsense"}, "does not fit"),
        ({"answer_start": 999}, "beside its offset"),
        ({"answer_start": -4}, "beside its offset"),
        ({"iso_t": None}, "without its isolated translation"),
        ({"iso_t": ["red"]}, "without its isolated translation"),
        ({"sentences": [[0, 27, 0, 31]]}, ""),
    ],
)
def test_what_can_be_mended_is_kept_and_counted(clean_file, changes, fault):
    process, output, report, dropped = clean_file(one_question(**changes), "--min_confidence", "0")
    assert process.returncode == 0, process.stderr
    assert check_plain_squad(output) == ["q1"] and dropped == []
    assert not fault or any(fault in name and fault in process.stdout for name in report["input_faults"])


def test_unanswerable_questions_are_kept_unless_untranslated(clean_file):
    document = one_question(is_impossible=True)
    qas = document["data"][0]["paragraphs"][0]["qas"]
    qas.append({"id": "q2", "question": "Why?", "question_t": None, "is_impossible": True})
    _, output, report, dropped = clean_file(document)
    assert check_plain_squad(output) == ["q1"] and [question["id"] for question in dropped] == ["q2"]
    assert report["datasets"][1] | {"dataset": ""} == {
        "dataset": "",
        "questions": 1,
        "answerable": 0,
        "unanswerable": 1,
    }


def test_untranslated_paragraphs_are_counted(clean_file):
    document = town_document()
    blank, echo = one_question(context_t=None), one_question()
    echo["data"][0]["paragraphs"][0]["context_t"] = echo["data"][0]["paragraphs"][0]["context"]
    echo["data"][0]["paragraphs"][0]["qas"][0]["id"] = "q2"
    document["data"] += blank["data"] + echo["data"]
    _, output, report, dropped = clean_file(document)
    assert len(check_plain_squad(output)) == 16 and len(dropped) == 2
    assert report["dropped"] == {"the context is not translated": 1, "the translated context is the source again": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [', "not valid JSON"),
        ("{}", "not a SQuAD file"),
        (json.dumps(one_question(context_t=None)), "run translate_squad.py first"),
    ],
)
def test_unusable_files_end_in_one_sentence(clean_file, text, message):
    process, output, report, dropped = clean_file(text)
    assert process.returncode == 1 and message in process.stderr and "Traceback" not in process.stderr
    assert output is report is dropped is None


def test_all_faults_of_the_command_line_at_once(tmp_path):
    path = tmp_path / "same.json"
    arguments = ["--input_file", path, "--output_file", path, "--report_file", tmp_path, "--min_confidence", "3"]
    process = run_script("clean_squad.py", *arguments)
    assert process.returncode == 2
    assert all(flag in process.stderr for flag in ("--output_file", "--report_file", "--min_confidence"))
    assert run_script("clean_squad.py", "--input", "x", "--output_file", "y").returncode == 2  # no abbreviations


@pytest.fixture
def two_files(tmp_path):
    """A town and a lock, translated: two input files."""
    paths = [tmp_path / "town.json", tmp_path / "lock.json"]
    for path, document in zip(paths, (town_document(), one_question()), strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    return paths


def test_several_files_are_learned_from_together_and_written_on_their_own(two_files, tmp_path):
    folder = tmp_path / "new" / "folder"
    process = run_script("clean_squad.py", "--input_file", *two_files, "--output_dir", folder)
    assert process.returncode == 0, process.stderr
    names = ["_clean.json", "_clean_dropped.json", "_clean_report.json"]
    written = {f"{stem}{name}" for stem in ("town", "lock") for name in names}
    assert {path.name for path in folder.iterdir()} == written
    read = {name: json.loads((folder / name).read_text("utf-8")) for name in written}
    assert len(check_plain_squad(read["town_clean.json"])) == 16 == read["town_clean_report.json"]["answers"]["located"]
    assert check_plain_squad(read["lock_clean.json"]) == ["q1"]
    assert "2 files together" in process.stdout and "kept 17 of 17 answerable" in process.stdout
    assert "learning word translations from 50 pairs" in process.stderr  # of both
    last = process.stderr.splitlines()[-1]
    assert f"--train_file {folder}/town_clean.json --predict_file {folder}/lock_clean.json" in last

    outputs = [tmp_path / "a.json", tmp_path / "b.json"]
    process = run_script("clean_squad.py", "--input_file", *two_files, "--output_file", *outputs)
    assert process.returncode == 0, process.stderr
    assert [path.read_bytes() for path in outputs] == [
        (folder / f"{stem}_clean.json").read_bytes() for stem in ("town", "lock")
    ]


def test_one_of_several_files_that_is_not_translated_stops_before_anything_is_written(two_files, tmp_path):
    two_files[1].write_text(json.dumps(one_question(context_t=None)), encoding="utf-8")
    process = run_script("clean_squad.py", "--input_file", *two_files, "--output_dir", tmp_path / "out")
    assert process.returncode == 1 and f"{two_files[1]}: no paragraph is translated" in process.stderr
    assert not (tmp_path / "out").exists()


def test_flags_for_several_files_that_do_not_fit(two_files, tmp_path):
    town, lock = two_files
    other = tmp_path / "other" / "town.json"
    other.parent.mkdir()
    other.write_bytes(town.read_bytes())
    (tmp_path / "file").write_text("")
    folder = ["--output_dir", tmp_path / "out"]
    for flags, faults in [
        ([town, lock, "--output_file", "a"], ["--output_file names 1 files and --input_file 2"]),
        ([town, lock, "--output_file", "a", "b", "--report_file", "r"], ["--report_file names 1 files"]),
        ([town, lock, "--output_file", "a", "a"], ["--output_file and --output_file are the same file"]),
        ([town, lock, "--output_file", "a", town], ["--output_file and --input_file are the same file"]),
        ([town, *folder, "--report_file", "r"], ["--report_file: --output_dir names this file itself"]),
        ([town, other, *folder], [f"--output_dir for {other} and --output_dir for {town} are the same file"]),
        ([town, town, *folder], [f"--input_file names {town} twice"]),
        ([town, "--output_dir", tmp_path / "file"], ["is a file; name a folder"]),
        (["-", *folder], ["standard input has no name"]),
        ([town], ["--output_file is missing"]),
        ([town, "--output_file", "a", "--parallel_file", "a"], ["--output_file and --parallel_file are the same file"]),
        (
            [town, *folder, "--parallel_file", "p", "--method", "literal", "--min_confidence", "2"],
            ["literal", "not a conf"],
        ),
    ]:
        process = run_script("clean_squad.py", "--input_file", *flags, cwd=tmp_path)
        assert process.returncode == 2 and "Traceback" not in process.stderr
        assert all(fault in process.stderr for fault in faults), (faults, process.stderr)
    assert not (tmp_path / "out").exists()


def test_parallel_text_is_learned_from(clean_file, tmp_path):
    pairs = [("A red door.", "Een scharlaken deur."), ("The red boat.", "De scharlaken boot."), ("red", "scharlaken")]
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs * 20)
    path = tmp_path / "text.tsv.gz"
    path.write_bytes(gzip.compress(f"\ufeff{lines}\r\n\tx\n{'y' * 20_000}\t\nlast\tlaatste".encode()))
    document = one_question(iso_t=None, context_t="De sluiswachter heeft een boot. Een scharlaken en grote deur is er.")
    document["data"][0]["paragraphs"][0]["sentences"] = [[0, 27, 0, 31], [28, 51, 32, 67]]
    process, output, _, _ = clean_file(document, "--parallel_file", path, "--min_confidence", "0")
    assert process.returncode == 0, process.stderr
    assert "61 pairs of" in process.stderr and "2 lines with an empty side, 1 of more than" in process.stderr
    assert output["data"][0]["paragraphs"][0]["qas"][0]["answers"] == [{"text": "scharlaken", "answer_start": 36}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\nno tab here\n", "line 2 has no tab; write SOURCE, one tab, TARGET"),
        (b"a\tb\na\tb\t0.9\n", "line 2 has 3 columns; write SOURCE, one tab, TARGET"),
        (b"a\tb\n\xff\tb\n", "line 2: byte 0 is not valid UTF-8"),
        (b"\xff\xfea\x00", "is UTF-16"),
        (b"", "no pair of texts in it"),
        (b"\n\t\n", "no pair of texts in it"),
        (None, "cannot be read"),
    ],
)
def test_parallel_text_that_is_none_ends_in_one_sentence(clean_file, tmp_path, content, message):
    path = tmp_path / "text.tsv"
    if content is not None:
        path.write_bytes(content)
    process, output, _, _ = clean_file(one_question(), "--parallel_file", path)
    assert process.returncode == 1 and message in process.stderr and "Traceback" not in process.stderr
    assert str(path) in process.stderr and output is None


def test_parallel_text_is_read_a_line_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel_text, "MAX_LINE_BYTES", 8)
    lines = [b"a\tb\n", b"1234567\n", b"12345678\n", b"1234567890123456\n", b"c\td"]
    found = list(parallel_text.read_lines(io.BytesIO(b"".join(lines))))
    assert found == [b"a\tb\n", b"1234567\n", None, None, b"c\td"]
    monkeypatch.setattr(parallel_text, "MAX_PAIRS", 3)
    (tmp_path / "text.tsv").write_bytes(b"a\tb\n" * 5)
    corpus = Corpus()
    parallel_text.add_parallel_file(corpus, str(tmp_path / "text.tsv"))
    assert len(corpus) == 3


def test_commands_with_spaces_in_a_path_can_be_pasted(tmp_path):
    source, target = tmp_path / "in put.json", tmp_path / "it's.json"
    source.write_text(json.dumps(one_question()), encoding="utf-8")
    process = run_script("clean_squad.py", "--input_file", source, "--output_file", target)
    lines = process.stderr.splitlines()
    typed = next(line for line in lines if "command line: " in line).split("command line: ")[1]
    assert shlex.split(typed)[1:] == ["--input_file", str(source), "--output_file", str(target)]
    assert shlex.split(lines[-1].split("next: ")[1])[-2:] == ["--train_file", str(target)]


def test_help_and_readme_agree_on_what_literal_search_loses():
    helped = " ".join(run_script("clean_squad.py", "--help").stdout.split())
    shares = re.findall(r"\d+\.\d %", helped)
    assert shares == ["62.8 %", "57.4 %"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(share in readme for share in shares)


def test_cleaning_loads_no_torch():
    code = "import sys, clean_squad; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"text": "red", "answer_start": -1, "iso_t": "Rood"}], ""),
        ([{"text": "red", "answer_start": 10**30, "iso_t": "Rood"}], ""),
        ([{"text": "", "answer_start": -1, "iso_t": ""}], BAD_OFFSET),
        ([{"text": "", "answer_start": -1}, {"text": "red", "answer_start": -1}], ""),
        ([], NO_ANSWER),
    ],
)
@pytest.mark.parametrize("method", ["align", "literal"])
def test_offsets_of_minus_one_and_empty_answers_as_published(clean_file, answers, reason, method):
    document = one_question(answers=answers)
    document["data"] += one_question(id="q2", iso_t="rode")["data"]
    process, output, _, dropped = clean_file(document, "--method", method, "--min_confidence", "0")
    assert process.returncode == 0, process.stderr
    kept = ["q2"] if reason or method == "literal" else ["q1", "q2"]
    assert check_plain_squad(output) == kept and len(dropped) == 2 - len(kept)
    assert method == "literal" or not reason or reason in dropped[0]["reason"]


@pytest.mark.parametrize(
    "extra",
    [
        {"version": 2.0},
        {"version": None},
        {"translation": "by hand"},
        {"translation": ["en", {"nl": None}]},
        {"data": [{**one_question()["data"][0], "title": 7}]},
        {"data": [{**one_question()["data"][0], "title": {"en": "Lock"}}]},
        {"data": [{**one_question()["data"][0], "title": "\x00\u202e"}]},
    ],
)
def test_odd_values_beside_the_texts_end_in_a_plain_file(clean_file, extra):
    process, output, _, _ = clean_file({**one_question(), **extra}, "--min_confidence", "0")
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr
    assert check_plain_squad(output) == ["q1"]
    assert all(isinstance(article["title"], str) for article in output["data"])


def test_a_sentence_of_no_length_in_the_map_does_not_crash(clean_file):
    start = one_question()["data"][0]["paragraphs"][0]["context"].index("red")
    empty = [start + 1, start + 1, 32, 59]
    process, output, _, _ = clean_file(one_question(sentences=[empty]), "--min_confidence", "0")
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr
    assert check_plain_squad(output) == ["q1"]


def test_random_damage_never_crashes(tmp_path):
    rng = random.Random(7)
    values = [None, "", " ", 5, [], {}, "\ud800", "x" * 50, True, [[0, 5, None, None]], [[0, 5, 0, 5]]]
    for _ in range(150):
        document = town_document()
        paragraph = document["data"][0]["paragraphs"][0]
        for _ in range(3):
            record = rng.choice([paragraph, qa := rng.choice(paragraph["qas"]), qa["answers"][0]])
            key = rng.choice(
                [key for key in record if key in ("context_t", "sentences", "question_t", "iso_t")] or ["n"]
            )
            record[key] = rng.choice(values)
        cleaned = clean_in_memory(document, 0.3)
        ids = check_plain_squad(cleaned.document)
        assert sorted(ids + [question["id"] for question in cleaned.dropped]) == sorted(
            qa["id"] for qa in paragraph["qas"]
        )


def test_gold_spans_of_real_machine_translation(shared_data):
    from benchmarks.alignment import locate_all, locate_literally, read_set, score

    paragraphs = read_set(shared_data / "mt_en_es_tune.json")
    figures = score(locate_all(paragraphs, None))
    assert figures["questions"] == 100
    assert figures["f1"] >= 99.0 and figures["exact"] >= 98.0 and figures["misplaced"] <= 0.5
    literal = score(locate_all(paragraphs, locate_literally))
    assert literal["questions"] < 60 and literal["misplaced"] > 4


@pytest.mark.parametrize(
    ("language", "f1", "misplaced"), [("de", 94.0, 1.6), ("tr", 88.0, 4.0), ("zh", 82.0, 6.0)], ids=["de", "tr", "zh"]
)
def test_gold_spans_of_human_translations_without_isolated_answers(shared_data, language, f1, misplaced):
    from benchmarks.alignment import locate_all, read_xquad, score

    figures = score(locate_all(read_xquad(shared_data, language, lambda gold, source: None), None, 0.0))
    assert figures["questions"] >= 99 and figures["f1"] >= f1 and figures["misplaced"] <= misplaced
