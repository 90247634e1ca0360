"""Answering questions: `pipeline` beside transformers 4.57.6, and run_squad.py from the shell."""

from __future__ import annotations

import gzip
import io
import json
import math
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script
from processes import file_names
from tiny_models import make_tiny_model

import run_squad
from squadlib.console import SquadError
from squadlib.data import Example
from squadlib.model.answering import pipeline
from squadlib.model.loading import load_config, load_model, load_tokenizer

GOLDEN = ROOT / "tests" / "golden"
TINY = str(GOLDEN / "tiny_bert")
MINI = GOLDEN / "mini_squad.json"
CONTEXT = "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland."
QUESTION = "Wat is de hoofdstad van Nederland?"
SNIPPET = """
qa_pipeline = pipeline(
    "question-answering",
    model="henryk/bert-base-multilingual-cased-finetuned-dutch-squad2",
    tokenizer="henryk/bert-base-multilingual-cased-finetuned-dutch-squad2"
)

answer = qa_pipeline({
    'context': "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland.",
    'question': "Wat is de hoofdstad van Nederland?"})
"""


@pytest.fixture(scope="module")
def golden():
    return json.loads(gzip.open(GOLDEN / "pipeline.json.gz").read())


@pytest.fixture(scope="module")
def sharp(golden):
    """(model, tokenizer): the tiny BERT with the sharper head of the golden answers."""
    config = load_config(TINY)
    model = load_model(TINY, config)
    model.qa_outputs.weight.data *= golden["sharper"]
    return model, load_tokenizer(TINY, config)


@pytest.fixture(scope="module")
def qa(sharp):
    return pipeline("question-answering", model=sharp[0], tokenizer=sharp[1], device="cpu")


@pytest.fixture(scope="module")
def sharp_folder(sharp, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharp")
    sharp[0].save_pretrained(folder)
    sharp[1].save_pretrained(folder)
    return str(folder)


def test_answers_are_those_of_the_old_pipeline(qa, golden):
    for case in golden["cases"]:
        for batch_size in (1, 5):
            found = qa(golden["pairs"], batch_size=batch_size, **case["options"])
            assert len(found) == len(golden["pairs"])
            for mine, theirs in zip(found, case["answers"], strict=True):
                mine, theirs = (x if isinstance(x, list) else [x] for x in (mine, theirs))
                assert [a["score"] for a in mine] == pytest.approx([a["score"] for a in theirs], abs=1e-5)
                for a, b in zip(mine, theirs, strict=True):
                    assert (a["start"], a["end"], a["answer"]) == (b["start"], b["end"], b["answer"])


def test_the_published_snippet_runs(sharp_folder, tmp_path, monkeypatch):
    shutil.copytree(sharp_folder, tmp_path / "henryk/bert-base-multilingual-cased-finetuned-dutch-squad2")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("from utils_squad import pipeline\n" + SNIPPET, names)
    answer = names["answer"]
    assert list(answer) == ["score", "start", "end", "answer"]
    assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]] != ""
    assert 0 < answer["score"] <= 1


def test_every_way_to_ask_gives_the_same_answer(qa):
    one = qa({"question": QUESTION, "context": CONTEXT})
    assert isinstance(one, dict)
    assert qa(question=QUESTION, context=CONTEXT) == one
    assert qa(QUESTION, CONTEXT) == one
    for many in (
        qa([{"question": QUESTION, "context": CONTEXT}] * 2),
        qa({"question": QUESTION, "context": CONTEXT}, {"question": QUESTION, "context": CONTEXT}),
        qa({"question": [QUESTION] * 2, "context": [CONTEXT] * 2}),
        qa(question=[QUESTION] * 2, context=CONTEXT),
        qa(question=[QUESTION] * 2, context=[CONTEXT] * 2),
        qa({"question": QUESTION, "context": CONTEXT} for _ in range(2)),
    ):
        assert [answer["answer"] for answer in many] == [one["answer"]] * 2
    assert [answer["answer"] for answer in qa([{"question": QUESTION, "context": CONTEXT}])] == [one["answer"]]
    assert qa([]) == []


def test_options_of_the_pipeline_hold_until_a_call_changes_them(sharp):
    qa = pipeline(model=sharp[0], tokenizer=sharp[1], device=-1, topk=3)
    assert len(qa(QUESTION, CONTEXT)) == 3
    assert isinstance(qa(QUESTION, CONTEXT, top_k=1), dict)
    scores = [answer["score"] for answer in qa(QUESTION, CONTEXT, top_k=50)]
    assert scores == sorted(scores, reverse=True)
    assert len(qa(QUESTION, CONTEXT, max_answer_len=1)[0]["answer"].split()) == 1


def test_an_answer_may_be_missing(qa, sharp):
    answers = qa(QUESTION, CONTEXT, top_k=1000, handle_impossible_answer=True)
    (null,) = [answer for answer in answers if not answer["answer"]]
    assert (null["start"], null["end"]) == (0, 0) and 0 < null["score"] < 1
    assert qa(QUESTION, " \n ") == {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert qa(QUESTION, " ", handle_impossible_answer=True)["score"] == 1.0


def test_long_contexts_and_questions_are_answered_from_all_windows(qa):
    filler = "De stad ligt aan het water en is oud. " * 40
    answer = qa(QUESTION * 9, filler + CONTEXT, max_seq_len=64, doc_stride=16, max_question_len=20)
    assert answer["answer"] == (filler + CONTEXT)[answer["start"] : answer["end"]]
    windows, _ = qa._windows(*example_of(qa, filler + CONTEXT))
    covered = {p for w in range(len(windows)) for p in range(windows.start[w], windows.start[w] + windows.length[w])}
    assert covered == set(range(windows.contexts.length(0)))
    assert (windows.start[1:] == windows.start[:-1] + windows.length[:-1] - 16).all()


def example_of(qa, context):
    from squadlib.model.answering import _question_examples

    settings = qa._settings({"max_seq_len": 64, "doc_stride": 16})
    return _question_examples((QUESTION, context), None, None)[0], settings


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda qa: qa({"question": "", "context": "x"}), "not empty"),
        (lambda qa: qa({"question": "x"}), "1 questions, but 0 contexts"),
        (lambda qa: qa(["x", "y"]), "give questions as"),
        (lambda qa: qa(question=["x", "y"], context=["z"]), "2 questions, but 1 contexts"),
        (lambda qa: qa("x", "y", top_k=0), "top_k is 0"),
        (lambda qa: qa("x", "y", max_lenght=3), "no such option: max_lenght; there are top_k"),
        (lambda qa: qa("x", "y", max_seq_len=500), "max_seq_len is 500; this model takes 128"),
        (lambda qa: pipeline("translation"), 'the only task is "question-answering"'),
        (lambda qa: pipeline("question-answering"), "name a model"),
        (lambda qa: pipeline(model=qa.runner.model), "needs tokenizer="),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(qa, call, message):
    with pytest.raises(SquadError, match=message):
        call(qa)


def test_a_broken_checkpoint_is_noticed(sharp):
    import copy

    model = copy.deepcopy(sharp[0])
    model.qa_outputs.bias.data[:] = math.nan
    with pytest.raises(SquadError, match="logits are not numbers"):
        pipeline(model=model, tokenizer=sharp[1])(QUESTION, CONTEXT)


@pytest.mark.parametrize("family", ["roberta", "camembert", "deberta-v2", "modernbert"])
def test_answers_of_other_families_start_and_end_at_words(family, tmp_path):
    make_tiny_model(family, tmp_path, [CONTEXT, QUESTION])
    for answer in pipeline(model=str(tmp_path))(QUESTION, CONTEXT, top_k=5):
        assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]] == answer["answer"].strip() != ""


# ---- from the shell ----


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
        (b"\xff\xfe{", "byte 0 is not valid UTF-8"),
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
