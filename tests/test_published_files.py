"""Files as they are published: translated sets with -1 for "not found", and rows of a hub's data sets."""

from __future__ import annotations

import copy
import gzip
import json
import logging

import pytest
from conftest import ROOT
from processes import Run, as_lines, flags

from squadlib.console import SquadError
from squadlib.data import iter_questions, load_squad, read_examples
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.model.windows import WindowSettings, make_training_windows, make_windows
from squadlib.training.model_card import translation_record

GOLDEN = ROOT / "tests" / "golden"
SIZES = WindowSettings(64, 32, 12)


@pytest.fixture(scope="module")
def document():
    return load_squad(str(GOLDEN / "mini_squad.json"))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(GOLDEN / "tiny_bert"), load_config(str(GOLDEN / "tiny_bert")))


def answerable(document):
    return [qa for _, qa in iter_questions(document) if not qa["is_impossible"]]


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_one_answer_at_minus_one_does_not_refuse_the_file(tmp_path, document, tokenizer, caplog):
    lost = copy.deepcopy(document)
    lost_qas = answerable(lost)[3:5]
    for qa in lost_qas:
        for answer in qa["answers"]:
            answer["answer_start"] = -1
    path = write(tmp_path / "es.json", lost)
    examples = read_examples(load_squad(path))
    assert len(examples) == len(read_examples(document))
    with caplog.at_level(logging.WARNING):
        windows = make_training_windows({path: examples}, tokenizer, SIZES)
    before = make_windows(read_examples(document), tokenizer, **vars(SIZES), training=True).dropped
    assert sorted(windows.dropped) == sorted([*before, *(qa["id"] for qa in lost_qas)])
    count, first = len(before) + 2, windows.dropped[0]
    assert f"{path}: {count} questions dropped, answer not at its offset; the first is {first}" in caplog.text


def test_other_negative_offsets_are_still_refused(tmp_path, document):
    wrong = copy.deepcopy(document)
    answerable(wrong)[0]["answers"][0]["answer_start"] = -2
    with pytest.raises(SquadError, match="answer_start -2 is negative"):
        load_squad(write(tmp_path / "wrong.json", wrong))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.ndjson"])
def test_rows_of_a_hub_give_the_same_windows(tmp_path, document, tokenizer, name):
    raw = as_lines(document).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    found = read_examples(load_squad(str(tmp_path / name)))
    assert found == [example._replace(article="1") for example in read_examples(document)]  # these rows have no title
    both = (
        make_windows(examples, tokenizer, **vars(SIZES), training=True) for examples in (found, read_examples(document))
    )
    assert len({windows.digest() for windows in both}) == 1


def test_rows_keep_titles_as_articles(tmp_path):
    row = {"id": "1", "context": "Haarlem lies on the Spaarne.", "question": "Where?", "title": "Haarlem"}
    other = {**row, "id": "2", "title": "Leiden", "answers": [{"text": "Spaarne", "answer_start": 20}]}
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n\n{json.dumps(other)}\n")
    loaded = load_squad(str(tmp_path / "rows.jsonl"))
    assert [article["title"] for article in loaded["data"]] == ["Haarlem", "Leiden"]
    assert [qa["is_impossible"] for _, qa in iter_questions(loaded)] == [True, False]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", 'line 2: "context" should be text'),
        ('{"context": "c", "question": "q", "answers": {"text": ["c"], "answer_start": []}}', "line 2: 1 answer texts"),
        ('{"context": "c", "question": "q", "answers": {"text": "c", "answer_start": 0}}', 'line 2, answers: "text"'),
        ('{"context": "c", "question": "q"}', 'has no "id"'),
    ],
)
def test_bad_rows_are_told_with_their_line(tmp_path, document, line, sentence):
    path = tmp_path / "rows.jsonl"
    path.write_text(as_lines(document).splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(SquadError) as error:
        load_squad(str(path))
    assert sentence in str(error.value)


def test_a_cut_off_gzip_file_is_told(tmp_path, document):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(as_lines(document).encode())[:-40])
    with pytest.raises(SquadError, match="not a whole gzip file"):
        load_squad(str(path))


def test_training_and_scoring_take_rows(tmp_path, document):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(as_lines(document).encode()))
    more = "--do_eval --predict_file rows.jsonl.gz --max_steps 1 --logging_steps 0".split()
    run = Run(tmp_path, *flags(*more, train="rows.jsonl.gz"))
    assert run.wait() == 0, run.stderr
    assert json.loads(run.stdout)["total"] == len(read_examples(document))


@pytest.mark.parametrize("backend", ["hf {a}/b}", 'ct2 "}{"', "plain"])
def test_a_brace_in_an_engines_name_spoils_no_card(tmp_path, document, backend):
    record = {"source_lang": "en", "target_lang": "nl", "backend": backend}
    path = write(tmp_path / "nl.json", {"version": "v2.0", "translation": record, **document})
    assert translation_record(path) == record


def test_a_record_behind_the_data_is_not_the_files(tmp_path, document):
    assert translation_record(write(tmp_path / "x.json", {**document, "translation": {"backend": "x"}})) == {}
