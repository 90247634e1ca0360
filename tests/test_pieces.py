"""Words and texts as pieces: each distinct one once, in flat arrays."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_tokenizer

from squadlib.data import Example
from squadlib.model.pieces import PieceTable, clean_word, distinct, ragged, tokenise

TEXTS = ["the mill  of\u202fHaarlem\n", "the owner", " ", "(the mill's owner)"]


def test_distinct_texts_keep_the_order_of_first_use():
    texts, rows = distinct(["b", "a", "b", "c", "a"])
    assert texts == ["b", "a", "c"] and rows.tolist() == [0, 1, 0, 2, 1] and rows.dtype == np.int32


def test_rows_of_different_length_come_out_as_they_went_in():
    rows = ragged([[5, 6], [], [7]])
    assert [rows[row].tolist() for row in range(3)] == [[5, 6], [], [7]]
    assert [rows.length(row) for row in range(3)] == [2, 0, 1]
    assert rows.first.tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize(
    ("word", "clean"),
    [("plain", "plain"), ("Cafe\u0301", "Café"), ("a\u200db\ufeff", "ab"), ("\u00a0x", "\u00a0x"), ("e\x01", "e\x01")],
)
def test_words_lose_control_characters_and_become_nfc(word, clean):
    assert clean_word(word) == clean  # one of ASCII alone is left to the tokenizer


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_pieces_of_a_context_are_those_of_its_words_one_after_the_other(family):
    tokenizer = tiny_tokenizer(family, TEXTS)
    contexts = PieceTable(tokenizer).contexts(TEXTS)
    prefix = " " if family == "roberta" else ""  # a byte-level tokenizer marks the space before a word
    for row, text in enumerate(TEXTS):
        words = text.split()
        pieces = [tokenizer.encode(prefix + word, add_special_tokens=False) for word in words]
        assert contexts[row].tolist() == [piece for word in pieces for piece in word]
        assert contexts.words_of(row).tolist() == [number for number, word in enumerate(pieces) for _ in word]


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_questions_are_cut(family):
    table = PieceTable(tiny_tokenizer(family, TEXTS))
    whole, cut = table.texts(TEXTS), table.questions(TEXTS, 2)
    assert [cut[row].tolist() for row in range(len(TEXTS))] == [whole[row][:2].tolist() for row in range(len(TEXTS))]


def test_a_text_is_tokenised_once_however_often_it_is_asked_about():
    examples = [Example(f"q{n}", "the owner", TEXTS[n % 2], (), True) for n in range(6)]
    texts = tokenise(examples, PieceTable(tiny_tokenizer("bert", TEXTS)), 64)
    assert len(texts.contexts.first) == 3 and len(texts.questions.first) == 2
    assert texts.context_row.tolist() == [0, 1] * 3 and texts.question_row.tolist() == [0] * 6


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_tokenizer_file_that_asks_for_cutting_and_padding_is_not_heard(family):
    plain, sentence_encoder = tiny_tokenizer(family, TEXTS), tiny_tokenizer(family, TEXTS)
    sentence_encoder.backend_tokenizer.enable_truncation(4)
    sentence_encoder.backend_tokenizer.enable_padding(length=4)
    wanted, heard = PieceTable(plain).contexts(TEXTS), PieceTable(sentence_encoder).contexts(TEXTS)
    assert [heard[row].tolist() for row in range(len(TEXTS))] == [wanted[row].tolist() for row in range(len(TEXTS))]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_places_of_a_word_have_no_special_tokens(family):
    table = PieceTable(tiny_tokenizer(family, TEXTS))
    for word in ("Haarlem", "(the", "owner)"):
        assert len(table.places(word)) == len(table.contexts([word])[0])
