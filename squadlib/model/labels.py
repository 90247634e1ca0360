"""Training labels: the context pieces that an answer stands for."""

from __future__ import annotations

import bisect
import unicodedata
from dataclasses import dataclass

import numpy as np

from squadlib.data import Example
from squadlib.model.pieces import WORD, PieceTable, TokenisedExamples, distinct

Span = tuple[int, int]  # first and last, of words or of pieces

DROPPED = -2  # span of a training question whose answer is not in the words that its offset names
NO_ANSWER = -1  # span of an unanswerable question


def label_pieces(texts: TokenisedExamples, table: PieceTable) -> np.ndarray:
    """First and last context piece of each example's first answer: int64 (E, 2), or NO_ANSWER or DROPPED twice."""
    spans = np.full((len(texts.examples), 2), NO_ANSWER, np.int64)
    answerable = [e for e, example in enumerate(texts.examples) if not example.is_impossible]
    answers, rows = distinct(texts.examples[e].answers[0].text for e in answerable)
    plain = table.texts(answers)
    spaced = table.texts([" " + answer for answer in answers]) if table.word_prefix else plain
    layouts: dict[int, WordLayout] = {}  # of one context at a time: questions of a paragraph follow each other
    for example, row in zip(answerable, rows, strict=True):
        context_row = int(texts.context_row[example])
        if context_row not in layouts:
            layouts = {context_row: WordLayout.of(texts, example)}
        layout = layouts[context_row]
        forms = (plain[row],) if spaced is plain else (plain[row], spaced[row])
        spans[example] = _answer_span(table, texts.examples[example], layout, forms)
    return spans


@dataclass(frozen=True)
class WordLayout:
    """Where the words of a context begin: `characters` in its text, `first_piece` (words + 1,) among its `pieces`."""

    characters: list[int]
    first_piece: np.ndarray
    pieces: np.ndarray

    @classmethod
    def of(cls, texts: TokenisedExamples, example: int) -> WordLayout:
        row = texts.context_row[example]
        characters = [match.start() for match in WORD.finditer(texts.examples[example].context)]
        first_piece = np.searchsorted(texts.contexts.words_of(row), np.arange(len(characters) + 1))
        return cls(characters, first_piece, texts.contexts[row])


def _answer_span(table: PieceTable, example: Example, layout: WordLayout, forms: tuple[np.ndarray, ...]) -> Span:
    """First and last context piece of the answer. forms: the pieces of its text alone."""
    words = _answer_words(example, layout.characters)
    if words is None:
        return DROPPED, DROPPED
    span = _answer_pieces(layout, words, forms)
    if not table.by_word and span[1] + 1 == layout.first_piece[words[1] + 1]:
        return _trimmed_pieces(table, example, layout, words)
    return span


def _answer_words(example: Example, starts: list[int]) -> Span | None:
    """First and last word that the answer's offsets touch, or None when its text is not in those words."""
    text, start = example.answers[0]
    first = bisect.bisect_right(starts, start) - 1
    last = bisect.bisect_right(starts, min(start + len(text), len(example.context)) - 1) - 1
    if not text.strip() or first < 0 or last < first:
        return None
    behind = starts[last + 1] if last + 1 < len(starts) else len(example.context)
    actual = " ".join(WORD.findall(example.context[starts[first] : behind]))
    # The second try mends 2020's silent loss of answers with a non-breaking space or another Unicode form.
    found = " ".join(text.split()) in actual or _squash(text) in _squash(actual)
    return (first, last) if found else None


def _squash(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _answer_pieces(layout: WordLayout, words: Span, forms: tuple[np.ndarray, ...]) -> Span:
    """First and last piece of the answer, shrunk to its own pieces where they stand inside the words' pieces.

    `(1895-1943)` with the answer `1895` -> the pieces of `1895` alone.
    """
    first, last = int(layout.first_piece[words[0]]), int(layout.first_piece[words[1] + 1]) - 1
    within = layout.pieces[first : last + 1].tolist()
    for form in (form.tolist() for form in forms):
        for shift in range(len(within) - len(form) + 1 if form else 0):
            if within[shift : shift + len(form)] == form:
                return first + shift, first + shift + len(form) - 1
    return (first, last) if first <= last else (DROPPED, DROPPED)


def _trimmed_pieces(table: PieceTable, example: Example, layout: WordLayout, words: Span) -> Span:
    """First and last piece that hold a character of the answer, for tokenizers without word pieces.

    Alone `counterflow` is `▁counterflow`, in `(counterflow),` it is `▁(` `counter` `flow` `),`.
    """
    text, start = example.answers[0]
    begin, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    places = [layout.characters[word] for word in words]
    head, tail = (table.places(_word_at(example.context, place)) for place in places)
    inner = [i for i, (_, stop) in enumerate(head) if stop > begin - places[0]]
    outer = [i for i, (place, _) in enumerate(tail) if place < end - places[1]]
    first, last = (int(layout.first_piece[word]) for word in words)
    return first + min(inner, default=0), last + max(outer, default=len(tail) - 1)


def _word_at(context: str, place: int) -> str:
    found = WORD.match(context, place)
    return found.group() if found else ""
