"""run_squad.py answers from the shell: one question, JSON lines, or a SQuAD file."""

from __future__ import annotations

import io
import json
import shutil
import sys

import numpy as np
import pytest
from conftest import GOLDEN, run_script
from processes import file_names

import run_squad
from squadlib.data import Example

TINY = str(GOLDEN / "tiny_bert")
MINI = GOLDEN / "mini_squad.json"
CONTEXT = "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland."
QUESTION = "Wat is de hoofdstad van Nederland?"


def ask(capsys, *flags):
    """(exit code, stdout lines as JSON, stderr) of run_squad.py in this process."""
    code = run_squad.main([str(flag) for flag in flags])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_a_question_on_the_command_line(sharp_folder, qa, tmp_path, capsys):
    ours = ["--model_name_or_path", sharp_folder, "--question", QUESTION, "--no_cuda"]
    assert ask(capsys, *ours, "--context", CONTEXT)[:2] == (0, [qa(QUESTION, CONTEXT)])
    (tmp_path / "text.txt").write_text(CONTEXT, encoding="utf-8")
    assert ask(capsys, *ours, "--context_file", tmp_path / "text.txt")[:2] == (0, [qa(QUESTION, CONTEXT)])
    flags = [*ours, "--context", CONTEXT, "--n_best_size", "2", "--max_answer_length=3", "--version_2_with_negative"]
    expected = qa(QUESTION, CONTEXT, top_k=2, max_answer_len=3, handle_impossible_answer=True)
    assert ask(capsys, *flags)[:2] == (0, [{"answers": expected}])


def test_the_stride_on_the_command_line_is_between_window_starts(sharp_folder, qa, capsys):
    long = "De stad ligt aan het water en is oud. " * 20 + CONTEXT
    flags = ["--max_seq_length", "64", "--max_query_length", "16", "--doc_stride", "20", "--no_cuda"]
    flags += ["--model_name_or_path", sharp_folder, "--question", QUESTION, "--context", long]
    options = {"max_seq_len": 64, "max_question_len": 16, "window_step": 20}
    assert ask(capsys, *flags)[:2] == (0, [qa(QUESTION, long, **options)])
    windows, _ = qa._windows([Example("1", QUESTION, long, (), False)], qa._settings(options))
    assert len(windows) > 8 and set(np.diff(windows.start)) == {20}


def test_json_lines_on_standard_input(sharp_folder, qa, tmp_path):
    lines = [{"id": 7, "question": QUESTION, "context": CONTEXT}, {"question": QUESTION, "context": CONTEXT * 2}]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    flags = ["--model_name_or_path", sharp_folder, "--do_predict", "--no_cuda", "--predict_file", "-"]
    done = run_script("run_squad.py", *flags, stdin=text, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [{"id": 7, **qa(QUESTION, CONTEXT)}, qa(QUESTION, CONTEXT * 2)]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for answer, wanted in zip(found, expected, strict=True):
        assert answer.pop("score") == pytest.approx(wanted.pop("score"), abs=1e-6)
        assert list(answer) == list(wanted) and answer == wanted
    assert list(tmp_path.iterdir()) == []


def test_a_squad_file_without_answers(sharp_folder, tmp_path, capsys):
    document = json.loads(MINI.read_text(encoding="utf-8"))
    scored, plain = tmp_path / "scored", tmp_path / "plain"
    flags = ["--model_name_or_path", sharp_folder, "--no_cuda", "--max_seq_length", "64", "--doc_stride", "16"]
    flags += ["--max_query_length", "12", "--version_2_with_negative"]
    evaluated = ask(capsys, *flags, "--model_type=bert", "--do_eval", "--predict_file", MINI, "--output_dir", scored)
    assert evaluated[0] == 0
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                question.pop("answers", None), question.pop("is_impossible", None)
    (tmp_path / "new.json").write_text(json.dumps(document))
    found = ask(capsys, *flags, "--do_predict", "--predict_file", tmp_path / "new.json", "--output_dir", plain)
    assert found[:2] == (0, [])
    for name in ("predictions_.json", "nbest_predictions_.json", "null_odds_.json"):
        assert (plain / name).read_bytes() == (scored / name).read_bytes()
    assert file_names(plain) == [
        "nbest_predictions_.json",
        "null_odds_.json",
        "predictions_.json",
    ]


@pytest.mark.parametrize("with_null", [True, False])
def test_new_questions_are_answered_as_the_model_was_trained(with_null, sharp_folder, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(sharp_folder, folder)
    (folder / "training_args.json").write_text(json.dumps({"version_2_with_negative": with_null}))
    flags = ["--do_predict", "--predict_file", MINI, "--output_dir", tmp_path / "out", "--max_seq_length", "64"]
    flags += ["--max_query_length", "12", "--doc_stride", "16", "--model_name_or_path", folder, "--no_cuda"]
    assert ask(capsys, *flags)[0] == 0
    assert (tmp_path / "out" / "null_odds_.json").exists() == with_null


def test_faults_of_questions_are_named_at_once(capsys):
    with pytest.raises(SystemExit) as caught:
        run_squad.main(["--question", " ", "--do_predict", "--do_eval"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    for part in (
        "model_name_or_path is required",
        "without scoring",
        "exclude each other",
        "one of --context and",
        "not be empty",
    ):
        assert part in said
    for flags, part in (
        (["--do_predict", "--model_name_or_path", "x"], "--do_predict needs --predict_file"),
        (["--do_predict", "--model_name_or_path", "x", "--predict_file", "a.json"], "needs --output_dir"),
        (["--context", "x", "--do_eval"], "--context needs a --question"),
        (["--context", "x", "--do_predict", "--predict_file", "a.jsonl"], "--context needs a --question"),
    ):
        with pytest.raises(SystemExit):
            run_squad.main(flags)
        assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "x", "context": "y"}\n{"question": ', "line 2 is not JSON"),
        (b"\nnull\n", 'line 2 needs a "question" and a "context"'),
        (b'{"question": "x", "context": ""}\n', 'line 1 needs a "question" and a "context"'),
        (b"[1]\n", 'line 1 needs a "question" and a "context"'),
        (b"\n \n", "the file is empty"),
        (b"\xff\xfe{", "the file is UTF-16"),
        (b"\xff{", "byte 0 is not valid UTF-8"),
    ],
)
def test_faults_of_json_lines_are_one_sentence(content, message, tmp_path, capsys):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(content)
    code, lines, said = ask(capsys, "--model_name_or_path", TINY, "--do_predict", "--predict_file", path)
    assert (code, lines) == (1, [])
    assert message in said and str(path) in said and "Traceback" not in said


def test_a_context_from_standard_input(sharp_folder, qa, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTEXT.encode())))
    flags = ["--model_name_or_path", sharp_folder, "--question", QUESTION, "--context_file", "-", "--no_cuda"]
    assert ask(capsys, *flags)[:2] == (0, [qa(QUESTION, CONTEXT)])
