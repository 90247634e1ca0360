"""Bad input of run_squad.py: one clear sentence, the documented exit code, nothing written, no traceback."""

from __future__ import annotations

import copy
import json
import os

import pytest
from processes import TINY_BERT, Run, eval_flags, flags, one_sentence, prediction_files

import run_squad
from squadlib.data import load_squad, read_examples
from squadlib.files import LOCK_FILE

CONTEXT = "De molen van Haarlem is in 1912 gebouwd door Jan Smit, en in 1932 verbrand."
QUESTION = {
    "id": "q1",
    "question": "Wanneer is de molen gebouwd?",
    "is_impossible": False,
    "answers": [{"text": "1912", "answer_start": 27}],
}


def document(context=CONTEXT, **changes):
    """A file of one question; a change to None removes the key."""
    qa = {key: value for key, value in {**copy.deepcopy(QUESTION), **changes}.items() if value is not None}
    return {"version": "v2.0", "data": [{"title": "Molens", "paragraphs": [{"context": context, "qas": [qa]}]}]}


def answers(**changes):
    answer = {key: value for key, value in {"text": "1912", "answer_start": 27, **changes}.items() if value is not None}
    return [answer]


def without(key):
    content = document()
    del content["data"][0]["paragraphs"][0][key]
    return content


def twice():
    content = document()
    content["data"].append(copy.deepcopy(content["data"][0]))
    return content


VALID = json.dumps(document()).encode()
BAD_FILES = {  # name: (content, what the sentence must hold)
    "truncated": (VALID[:150], ("not valid JSON at line 1", "looks cut off")),
    "utf-16": (VALID.decode().encode("utf-16"), ("UTF-16", "save it as UTF-8")),
    "latin-1": (json.dumps(document("Café"), ensure_ascii=False).encode("latin-1"), ("not valid UTF-8", "byte ")),
    "empty": (b"", ("the file is empty",)),
    "spaces only": (b" \n\n", ("the file is empty",)),
    "no JSON": (b"<html>Not found</html>", ("not valid JSON at line 1 column 1",)),
    "NaN": (VALID.replace(b"27", b"NaN"), ("NaN is not a JSON number",)),
    "nested too deep": (b"[" * 200_000, ("usable JSON", "nested more than 100 levels deep")),
    "a huge number": (VALID.replace(b"27", b"9" * 5000), ("usable JSON",)),
    "half a surrogate pair": (VALID.replace(b"Haarlem", rb"Haar\ud800lem"), ("half a surrogate pair",)),
    "null": (b"null", ('no list "data" at the top',)),
    "number": (b"7", ('no list "data" at the top',)),
    "{}": ({}, ('no list "data" at the top',)),
    "[]": ([], ('no list "data" at the top',)),
    "data is empty": ({"data": []}, ('"data" is an empty list',)),
    "data is text": ({"data": "x"}, ('no list "data" at the top',)),
    "no paragraphs": ({"data": [{"title": "x"}]}, ("article 1", '"paragraphs" should be a list')),
    "article is a list": ({"data": [[]]}, ("article 1", "list")),
    "no question": ({"data": [{"paragraphs": []}]}, ("the file has no question",)),
    "no context": (without("context"), ('paragraph 1 of "Molens"', '"context" should be text')),
    "context is a number": (document(context=5), ('"context" should be text, found 5',)),
    "no qas": (without("qas"), ('"qas" should be a list',)),
    "no id": (document(id=None), ('a question has no "id"',)),
    "id is a list": (document(id=["q1"]), ('a question has no "id"',)),
    "no question text": (document(question=None), ("question q1", '"question" should be text')),
    "no answers": (document(answers=None), ("question q1", '"answers" should be a list')),
    "answers are text": (document(answers="1912"), ('"answers" should be a list',)),
    "answer is text": (document(answers=["1912"]), ("question q1, answer", '"text" should be text')),
    "answer without text": (document(answers=answers(text=None)), ('"text" should be text',)),
    "answer without start": (document(answers=answers(answer_start=None)), ("answer_start is None",)),
    "start is a string": (document(answers=answers(answer_start="27")), ("answer_start is '27'",)),
    "start is a fraction": (document(answers=answers(answer_start=27.5)), ("answer_start is 27.5",)),
    "start is true": (document(answers=answers(answer_start=True)), ("answer_start is True",)),
    "start is negative": (document(answers=answers(answer_start=-2)), ("answer_start -2 is negative",)),
    "start past the end": (document(answers=answers(answer_start=812)), ("812 is past the end of a 75-character",)),
    "start is wrong": (document(answers=answers(answer_start=3)), ("1 of 1 answers are not at their answer_start",)),
    "is_impossible is text": (document(is_impossible="no"), ("is_impossible is 'no'",)),
    "answerable, no answer": (document(answers=[]), ("question q1 has no answer to train on",)),
    "duplicate ids": (twice(), ("question q1", "used before")),
    "blank context": (document("\t \n", is_impossible=True, answers=[]), ("every context is blank",)),
    "control characters only": (document("\x01\x02", is_impossible=True, answers=[]), ("every context is blank",)),
}


def save(content, path):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_training_file_is_one_sentence_and_nothing_is_written(name, tmp_path, capfd, monkeypatch):
    content, expected = BAD_FILES[name]
    path = save(content, tmp_path / "train.json")
    monkeypatch.chdir(tmp_path)
    assert run_squad.main(flags(train="train.json")) == 1
    sentence = one_sentence(capfd.readouterr().err)
    assert sentence.startswith("train.json: "), sentence
    for part in expected:
        assert part in sentence
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_FILE]
    assert left == [path], "nothing may be written"


EDGES = {  # valid, if unusual: (context, question changes, the answer that must be found by its offsets)
    "plain": (CONTEXT, {}, "1912"),
    "v1.1 without is_impossible": (CONTEXT, {"is_impossible": None}, "1912"),
    "integer id": (CONTEXT, {"id": 5733}, "1912"),
    "several gold answers": (CONTEXT, {"answers": answers() + answers(text="in 1912", answer_start=24)}, "1912"),
    "emoji": ("😀👨‍👩‍👧 in 1912", {"answers": answers(answer_start=10)}, "1912"),
    "combining marks": ("Cafe\u0301 1912", {"answers": answers(text="Cafe\u0301", answer_start=0)}, "Cafe\u0301"),
    "NFC answer in an NFD context": (
        "Cafe\u0301 1912",
        {"answers": answers(text="Caf\u00e9", answer_start=0)},
        "Caf\u00e9",
    ),
    "non-breaking space": (
        "in 1912\u00a0AD",
        {"answers": answers(text="1912\u00a0AD", answer_start=3)},
        "1912\u00a0AD",
    ),
    "narrow space": ("in 1912\u202fAD", {"answers": answers(text="1912 AD", answer_start=3)}, "1912 AD"),
    "CRLF": ("Een\r\nmolen\r\n1912", {"answers": answers(answer_start=12)}, "1912"),
    "one token": ("1912", {"answers": answers(answer_start=0)}, "1912"),
    "50,000 characters": (CONTEXT * 700, {"answers": answers(answer_start=27 + 75 * 690)}, "1912"),
    "question over the window": (CONTEXT, {"question": "molen " * 900}, "1912"),
    "empty question": (CONTEXT, {"question": ""}, "1912"),
    "answer longer than max_answer_length": (CONTEXT, {"answers": answers(text=CONTEXT, answer_start=0)}, CONTEXT),
    "answer across windows": (
        "molen " * 60,
        {"answers": answers(text="molen " * 49 + "molen", answer_start=6)},
        "molen " * 49 + "molen",
    ),
    "impossible with answers": (CONTEXT, {"is_impossible": True}, None),
    "impossible without the key answers": (CONTEXT, {"is_impossible": True, "answers": None}, None),
    "literal specials": ("[PAD] [SEP] 1912 [CLS]", {"answers": answers(answer_start=12)}, "1912"),
    "blank context": (" ", {"is_impossible": True, "answers": []}, None),
    "control characters only": ("\x01\x02", {"is_impossible": True, "answers": []}, None),
}


@pytest.fixture(scope="module")
def edge_run(tmp_path_factory):
    """One training and evaluation run on all unusual questions in one file, with BOM, in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("edges") / "ouput van ’s ochtends é"
    folder.mkdir()
    content = {"version": "v2.0", "data": []}
    for number, (context, changes, _) in enumerate(EDGES.values()):
        article = document(context, **{"id": f"q{number}", **changes})["data"][0]
        content["data"].append(article)
    (folder / "real train.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    (folder / "link.json").symlink_to("real train.json")
    (folder / "model").symlink_to(TINY_BERT, target_is_directory=True)
    (folder / "elsewhere").mkdir()
    (folder / "uit voer").symlink_to("elsewhere", target_is_directory=True)
    argv = flags("--do_eval", "--predict_file", "link.json", model="model", train="link.json", out="uit voer")
    run = Run(folder, *argv, "--max_steps", 2, "--save_steps", 1)
    assert run.wait() == 0, run.stderr
    return folder, run


def test_unusual_but_valid_input_trains_and_predicts(edge_run):
    folder, run = edge_run
    predictions = json.loads((folder / "elsewhere/predictions_.json").read_text())
    ids = ["5733" if "id" in changes else f"q{n}" for n, (_, changes, _) in enumerate(EDGES.values())]
    assert list(predictions) == ids
    assert "questions dropped" not in run.stderr and '"total": 21' in run.stdout
    assert os.path.islink(folder / "uit voer")


@pytest.mark.parametrize("name", [name for name in EDGES if EDGES[name][2]])
def test_unusual_answer_is_kept_and_labelled(name, tmp_path):
    from squadlib.model.loading import load_config, load_tokenizer
    from squadlib.model.windows import make_windows

    context, changes, text = EDGES[name]
    examples = read_examples(load_squad(str(save(document(context, **changes), tmp_path / "x.json"))))
    assert examples[0].answers[0].text == text
    tokenizer = load_tokenizer(str(TINY_BERT), load_config(str(TINY_BERT)))
    windows = make_windows(examples, tokenizer, max_seq_length=64, doc_stride=32, max_query_length=12, training=True)
    assert not windows.dropped
    if name not in ("answer across windows", "answer longer than max_answer_length"):
        assert (windows.end_position >= windows.start_position).all() and windows.start_position.max() > 0


BAD_FLAGS = {
    "--learning_rat 3e-5": "unrecognized arguments: --learning_rat",
    "--do_trai": "unrecognized arguments: --do_trai",
    "--num_train_epochs two": "invalid float value: 'two'",
    "--num_train_epochs nan": "--num_train_epochs nan must be a number above 0",
    "--attention_dropout 1": "--attention_dropout 1.0 must be a number from 0 to below 1",
    "--learning_rate inf": "--learning_rate inf must be a number above 0",
    "--learning_rate -1": "--learning_rate -1.0 must be a number above 0",
    "--weight_decay -0.1": "--weight_decay -0.1 must not be negative",
    "--save_total_limit -1": "--save_total_limit -1 must not be negative",
    "--per_gpu_train_batch_size 0": "--per_gpu_train_batch_size 0 must be at least 1",
    "--gradient_accumulation_steps 0": "--gradient_accumulation_steps 0 must be at least 1",
    "--n_best_size 0": "--n_best_size 0 must be at least 1",
    "--doc_stride 400": "leaves gaps",
    "--max_seq_length 10": "leaves no room for the context",
    "--seed -5": "--seed -5 must not be negative",
    "--seed 99999999999999999999": "is too large; use a number below 2^63",
    "--evaluate_during_training": "--evaluate_during_training needs --predict_file",
    "--fp16 --bf16": "--bf16 and --fp16 exclude each other",
    "--null_score_diff_threshold nan": "nan is not a number",
    "--do_eval": "--do_eval needs --predict_file",
    "--output_dir FILE": "is a file; name a folder",
    "--output_dir FILE/sub": "is a file; name a folder",
    "--output_dir FULL": "has files; add --overwrite_output_dir",
    "--server_ip 127.0.0.1": "--server_ip and --server_port belong together",
    "--train_file tr\udcff.json": "--train_file 'tr\\udcff.json' is not UTF-8, which model card and logs are",
}


@pytest.mark.parametrize("more", BAD_FLAGS)
def test_bad_flags_exit_2_before_anything_is_read(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL/config.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        run_squad.main([*flags(train="not there.json"), *more.split()])
    assert end.value.code == 2
    assert BAD_FLAGS[more] in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "FULL"]


def test_all_faults_of_the_flags_are_named_at_once(capsys):
    with pytest.raises(SystemExit):
        run_squad.main(["--doc_stride", "500", "--n_best_size", "0", "--seed", "-1"])
    err = capsys.readouterr().err
    for part in ("--model_type is required", "--output_dir is required", "leaves gaps", "--n_best_size 0", "--seed -1"):
        assert part in err


@pytest.mark.parametrize("path", ["no such.json", "."])
def test_missing_training_file_is_named(path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run_squad.main(flags(train=path)) == 1
    assert f"{path}: cannot be read (" in one_sentence(capfd.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_output_dir_that_cannot_be_made_is_one_sentence(tmp_path):
    run = Run(tmp_path, *flags("--max_steps", 1, out="/proc/no-such-place/out"))
    assert run.wait() in (1, 2)
    assert "/proc" in run.stderr and "Traceback" not in run.stderr


def test_closed_stdout_ends_quietly_after_all_files_are_written(edge_run, tmp_path):
    folder, _ = edge_run
    argv = ["--model_type", "bert", "--model_name_or_path", str(folder / "elsewhere"), "--do_eval", "--no_cuda"]
    argv += ["--predict_file", str(folder / "link.json"), "--output_dir", "out", "--max_seq_length", "64"]
    argv += ["--doc_stride", "32", "--max_query_length", "12"]
    run = Run(tmp_path, *argv, hook=nobody_reads_stdout)
    assert run.wait() == 141, run.stderr
    assert "Traceback" not in run.stderr and len(prediction_files(tmp_path / "out")) == 4


def nobody_reads_stdout() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def test_paths_inside_a_data_file_are_never_opened(tmp_path):
    """Names and titles that look like paths stay text; the only files opened are those named on the command line."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    content = document(context=f"{tmp_path / 'pipe'} 1912", id=str(tmp_path / "pipe"), answers=answers(answer_start=0))
    content["data"][0]["title"] = f"../../{tmp_path / 'pipe'}"
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": str(tmp_path / "pipe"), "answer_start": 0}]
    examples = read_examples(load_squad(str(save(content, tmp_path / "x.json"))))
    assert examples[0].qid == str(tmp_path / "pipe")


def test_only_blank_contexts_predict_nothing_without_a_crash(tmp_path):
    path = save(document(" ", is_impossible=True, answers=[]), tmp_path / "blank.json")
    run = Run(tmp_path, *eval_flags(TINY_BERT, path))
    assert run.wait() == 0, run.stderr
    assert json.loads((tmp_path / "out/predictions_.json").read_text()) == {"q1": ""}
