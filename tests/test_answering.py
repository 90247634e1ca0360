"""`pipeline` beside transformers 4.57.6: every way to ask, every option, every model."""

from __future__ import annotations

import math

import pytest
from tiny_models import make_tiny_model

from squadlib.console import SquadError
from squadlib.model.answering import pipeline

CONTEXT = "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland."
QUESTION = "Wat is de hoofdstad van Nederland?"


def test_answers_are_those_of_the_old_pipeline(qa, golden_answers):
    for case in golden_answers["cases"]:
        for batch_size in (1, 5):
            found = qa(golden_answers["pairs"], batch_size=batch_size, **case["options"])
            assert len(found) == len(golden_answers["pairs"])
            for mine, theirs in zip(found, case["answers"], strict=True):
                mine, theirs = (x if isinstance(x, list) else [x] for x in (mine, theirs))
                assert [a["score"] for a in mine] == pytest.approx([a["score"] for a in theirs], abs=1e-5)
                for a, b in zip(mine, theirs, strict=True):
                    assert (a["start"], a["end"], a["answer"]) == (b["start"], b["end"], b["answer"])


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
        (
            lambda qa: qa({"question": "Wh\ud800?", "context": "x"}),
            "number 1: the question holds half a surrogate pair",
        ),
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
