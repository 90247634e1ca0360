"""sentences.py: by hand, on random texts, and beside another splitter."""

from __future__ import annotations

import json
import random
import time

import pytest

from squadlib.sentences import MAX_SENTENCE_CHARS, split_sentences
from squadlib.translation.canaries import CANARIES
from squadlib.translation.web import MAX_URL_BYTES, WebSettings, encoded_size, pack_requests


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        (
            "Mr. J. R. Smith of the U.S. Navy left. He sold No. 5.",
            ["Mr. J. R. Smith of the U.S. Navy left.", "He sold No. 5."],
        ),
        ('"It was cold!" he said. "Yes." The end', ['"It was cold!" he said.', '"Yes."', "The end"]),
        (
            "He won 3.5 points in 1990. Then (see p. 4) he lost.",
            ["He won 3.5 points in 1990.", "Then (see p. 4) he lost."],
        ),
        ("Am 31. Oktober kam er. Dann ging er.", ["Am 31. Oktober kam er.", "Dann ging er."]),
        ("巴黎很大。它是首都！好", ["巴黎很大。", "它是首都！", "好"]),
        ("Title\n\n  One. Two\r\nThree\u2028Four", ["Title", "One.", "Two", "Three", "Four"]),
        ("Trinity-St. Paul's and e.g. Rome vs. Carthage.", ["Trinity-St. Paul's and e.g. Rome vs. Carthage."]),
        ("", []),
        (" \n\t ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_by_hand(text, sentences):
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


def test_sentences_cover_everything_but_white_space():
    rng = random.Random(7)
    for _ in range(2000):
        text = "".join(rng.choice("aB .!?\n\"')é。؟😀\u00a0,;") for _ in range(rng.randrange(60)))
        last = 0
        for start, end in split_sentences(text):
            sentence = text[start:end]
            assert start < end and sentence == sentence.strip() and "\n" not in sentence
            assert not text[last:start].strip()
            last = end
        assert not text[last:].strip()


def test_a_text_without_full_stops_is_cut_within_the_limits():
    for text in ("word, " * 3000, "x" * 5000, "😀" * 5000):
        pieces = [text[start:end] for start, end in split_sentences(text)]
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
        for request in pack_requests([pieces], CANARIES, WebSettings("en", "nl")):
            assert max(map(len, request)) <= MAX_SENTENCE_CHARS
            assert sum(map(encoded_size, [*request, max(CANARIES, key=len)])) <= MAX_URL_BYTES


@pytest.mark.parametrize(
    "piece", [".", "?!…", "۔", ". ", "好。", "Word one. ", "J. ", ".\" '", ". “", ".\n", "x", "a, "]
)
def test_sixty_thousand_dots_without_a_space_are_split_in_linear_time(piece):
    """Eight times the text is eight times the work; were it quadratic, 64 times."""

    def seconds(num_characters):
        text, spent = (piece * num_characters)[:num_characters], []
        for _ in range(3):
            started = time.process_time()
            split_sentences(text)
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(40_000) < 30 * max(seconds(5_000), 0.0005)


def test_sentences_agree_with_another_splitter_on_real_text(shared_data):
    document = json.loads((shared_data / "mt_en_es_tune.json").read_text("utf-8"))
    ours, theirs = set(), set()
    for number, paragraph in enumerate(p for article in document["data"] for p in article["paragraphs"]):
        if paragraph["sentences"]:
            ours |= {(number, *span) for span in split_sentences(paragraph["context"])}
            theirs |= {(number, *span[:2]) for span in paragraph["sentences"]}
    assert len(ours & theirs) >= 0.99 * len(theirs)
