"""`pipeline` beside transformers 4.57.6, where it was known to differ: long questions, Unicode forms, ways to ask."""

from __future__ import annotations

import gzip
import json
import logging

import numpy as np
import pytest
from conftest import ROOT

from squadlib.console import SquadError
from squadlib.model import answering
from squadlib.model.answer_spans import best_spans
from squadlib.model.answering import pipeline
from squadlib.model.loading import load_config, load_model, load_tokenizer

GOLDEN = ROOT / "tests" / "golden"
TINY = str(GOLDEN / "tiny_bert")
QUESTION = "Who is sure of the owner?"
CONTEXT = "Nobody is sure of the owner: the mill went from family to family, and at last to the church."
ONE = {"question": QUESTION, "context": CONTEXT}
LONG = CONTEXT * 9  # several windows
TOO_LONG = "the " * 130  # pieces; a window of the tiny model has 128


@pytest.fixture(scope="module")
def golden():
    return json.loads(gzip.open(GOLDEN / "pipeline.json.gz").read())


@pytest.fixture(scope="module")
def qa(golden):
    """A pipeline of the tiny BERT with the sharper head of the golden answers."""
    config = load_config(TINY)
    model = load_model(TINY, config)
    model.qa_outputs.weight.data *= golden["sharper"]
    return pipeline("question-answering", model=model, tokenizer=load_tokenizer(TINY, config), device="cpu")


def assert_same_answers(mine, theirs):
    """Scores within 1e-5, and the spans; of the impossible answers, whose order is the sort's, the set of texts."""
    mine, theirs = (answers if isinstance(answers, list) else [answers] for answers in (mine, theirs))
    assert [a["score"] for a in mine] == pytest.approx([b["score"] for b in theirs], abs=1e-5)
    possible = [{**answer, "score": 0} for answer in mine if answer["score"] > 0]
    assert possible == [{**answer, "score": 0} for answer in theirs if answer["score"] > 0]
    impossible = ({answer["answer"].lower() for answer in side if answer["score"] == 0} for side in (mine, theirs))
    assert next(impossible) == next(impossible)


def assert_same_group(qa, group):
    for case in group["cases"]:
        for batch_size in (1, 5):
            found = qa(group["pairs"], batch_size=batch_size, **case["options"])
            for mine, theirs in zip(found, case["answers"], strict=True):
                assert_same_answers(mine, theirs)


# ---- as in 4.57.6 ----


def test_questions_of_more_than_64_pieces_are_read_whole(qa, golden):
    assert_same_group(qa, golden["groups"]["questions of more than 64 pieces"])
    assert_same_group(qa, golden["groups"]["questions of more than 64 pieces, several windows"])


def test_texts_that_are_not_in_nfc_are_read_as_they_are(qa, golden):
    assert_same_group(qa, golden["groups"]["questions and contexts that are not in NFC"])


def test_a_large_top_k_is_filled_up_with_impossible_answers(qa, golden):
    assert_same_group(qa, golden["groups"]["top_k above 10"])
    group = golden["groups"]["more answers wanted than there are"]
    assert_same_group(qa, group)
    assert all("" in {a["answer"] for a in answers} for case in group["cases"] for answers in case["answers"])


def test_data_and_x_and_padding_are_taken(qa, golden):
    names = {name for call in golden["calls"] for name in call["inputs"]}
    assert names >= {"data", "X", "padding"}
    for call in golden["calls"]:
        found, expected = qa(**call["inputs"]), call["result"]
        listed = isinstance(call["inputs"].get("X", call["inputs"].get("data")), list) and isinstance(expected, dict)
        assert type(found) is type([expected] if listed else expected)
        pairs = zip(found, expected, strict=True) if isinstance(expected, list) else [(found, expected)]
        for mine, theirs in pairs:
            assert_same_answers(mine, theirs)


@pytest.mark.parametrize("count", [1, 2, 12, 40, 150, 399, 400, 2000])
@pytest.mark.parametrize("longest", [1, 3, 15])
def test_spans_are_those_of_the_old_library(count, longest):
    """Beside the arithmetic of transformers 4.57.6, here and now: numpy's choice among spans of probability 0 too."""
    random = np.random.default_rng(count * longest)
    for num_pieces in (1, 2, 5, 12):
        width, first = 20, 20 - num_pieces - 1  # [CLS] question [SEP] context [SEP]
        start, end = random.random((2, num_pieces + 1), np.float32)
        inside = np.array([0, *range(first, first + num_pieces)])
        assert best_spans(start, end, longest, count, inside, width) == old_spans(
            start, end, longest, count, inside, width
        )


def old_spans(start, end, longest, count, inside, width):
    """decode_spans of transformers 4.57.6; pieces count from 0 behind [CLS], which is -1."""
    whole = np.zeros((2, width), np.float32)
    whole[:, inside] = start, end
    whole[:, 0] = 0
    scores = np.tril(np.triu(np.matmul(whole[0][:, None], whole[1][None])), longest - 1).flatten()
    if count == 1:
        best = np.array([np.argmax(scores)])
    elif len(scores) <= count:  # 4.57.6 says < and ends with an exception where they are equal
        best = np.argsort(-scores)
    else:
        best = np.argpartition(-scores, count)[:count]
        best = best[np.argsort(-scores[best])]
    place = {position: number - 1 for number, position in enumerate(inside.tolist())}
    spans = [(float(scores[b]), place.get(b // width), place.get(b % width)) for b in best.tolist()]
    return [span for span in spans if None not in span]


def test_an_option_of_none_does_not_undo_that_of_the_pipeline(qa):
    three = pipeline(model=qa.runner.model, tokenizer=qa.tokenizer, device="cpu", top_k=3, padding=True)
    assert len(three(ONE, top_k=None, padding=None)) == 3


# ---- not as in 4.57.6 ----


def test_max_question_len_is_honoured(qa):
    assert qa("Who is sure of it?", LONG, max_question_len=3) == qa("Who is sure", LONG)
    assert qa("Who is sure of it?", LONG, max_question_len=3) != qa("Who is sure of it?", LONG)


def test_what_is_returned_does_not_hang_on_what_was_found(qa):
    for context in ("x", " "):  # 4.57.6: a dict where there is one answer, and [] of a blank context
        assert isinstance(qa("Who?", context, top_k=2), list) and isinstance(qa("Who?", context), dict)
    assert qa(data=[ONE]) == [qa(ONE)] == qa(X=iter([ONE]))
    assert qa(QUESTION, " ")["answer"] == ""


def test_a_question_too_long_for_the_window_ends_no_list(qa, caplog):
    with caplog.at_level(logging.WARNING):
        found = qa([ONE, {"question": TOO_LONG, "context": LONG}, {"question": TOO_LONG, "context": CONTEXT}, ONE])
    cut = "the " * 61  # of a window of 128: 64 for the context, 3 special tokens, 61 for the question
    for answer, (question, context) in zip(
        found, [(QUESTION, CONTEXT), (cut, LONG), (cut, CONTEXT), (QUESTION, CONTEXT)], strict=True
    ):
        assert_same_answers(answer, qa(question, context))
    (said,) = caplog.messages
    assert '"the the the' in said and "(130 pieces) and 1 more;" in said and "first 61 pieces" in said
    assert "raise max_seq_len" in said and "doc_stride" not in said


def test_a_long_question_is_read_whole_where_its_context_fits(qa, caplog):
    question, cut = "the " * 90, "the " * 61  # beside 90 pieces there is room for 35
    both = qa([{"question": question, "context": CONTEXT}, {"question": question, "context": LONG}])
    assert "(90 pieces);" in caplog.text
    caplog.clear()
    assert_same_answers(both[0], qa(question, CONTEXT))
    assert caplog.messages == []
    assert_same_answers(both[1], qa(cut, LONG))
    assert both[0]["score"] != pytest.approx(qa(cut, CONTEXT)["score"], abs=1e-3)


def test_blank_contexts_beside_long_questions_are_no_fault(qa, caplog):
    assert qa(TOO_LONG, " \n") == {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert caplog.messages == []


def test_windows_of_a_large_overlap_still_move_on(qa, caplog):
    for question in (QUESTION, "the " * 40, TOO_LONG):
        examples, _ = answering._question_examples((question, LONG), None, None)
        for options in ({"doc_stride": 127}, {"doc_stride": 100}, {"window_step": 200}, {"window_step": 1000}):
            windows, _ = qa._windows(examples, qa._settings(options))
            covered = {
                p for first, n in zip(windows.start, windows.length, strict=True) for p in range(first, first + n)
            }
            assert covered == set(range(windows.contexts.length(0)))
            assert len(windows) < 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda qa: qa(), "nothing is asked"),
        (lambda qa: qa(data=5), "give questions as"),
        (lambda qa: qa(X="x"), "give questions as"),
        (lambda qa: qa(ONE, padding="longer"), "padding is 'longer'"),
        (lambda qa: qa(ONE, max_seq_len=4), "max_seq_len is 4; it must be at least 5"),
        (lambda qa: qa(ONE, doc_stride=-1), "doc_stride is -1"),
        (lambda qa: qa(ONE, doc_stride=128), "doc_stride is 128; it must be below max_seq_len"),
        (lambda qa: qa(ONE, window_step=0), "window_step is 0"),
        (lambda qa: qa(ONE, top_k="3"), "top_k is '3'"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(qa, call, message):
    with pytest.raises(SquadError, match=message):
        call(qa)
