"""Training labels: the context pieces that an answer stands for."""

from __future__ import annotations

import bisect
import unicodedata
from typing import Any

import numpy as np

from squadlib.data import Example
from squadlib.model.pieces import WORD, PieceTable, distinct
from squadlib.model.windows import Windows

DROPPED = -2  # span of a training question whose answer is not in the words that its offset names
NO_ANSWER = -1  # span of an unanswerable question


def label_pieces(windows: Windows, table: PieceTable) -> Any:
    """First and last context piece of each example's first answer: int64 (E, 2), or NO_ANSWER or DROPPED twice."""
    spans = np.full((len(windows.examples), 2), NO_ANSWER, np.int64)
    answerable = [e for e, example in enumerate(windows.examples) if not example.is_impossible]
    texts, rows = distinct(windows.examples[e].answers[0].text for e in answerable)
    plain = table.texts(list(texts))
    spaced = table.texts([" " + text for text in texts]) if table.word_prefix else plain
    seen, starts, first_piece = -1, [], None
    for example, row in zip(answerable, rows, strict=True):
        context_row = windows.context_row[example]
        if context_row != seen:  # questions of a paragraph follow each other
            seen, (starts, first_piece) = context_row, _word_layout(windows, example)
        span = _answer_words(windows.examples[example], starts)
        forms = (plain[row],) if spaced is plain else (plain[row], spaced[row])
        spans[example] = _answer_pieces(windows.contexts[context_row], first_piece, span, forms)
        if span and not table.by_word and spans[example][1] + 1 == first_piece[span[1] + 1]:
            spans[example] = _trimmed_pieces(table, windows.examples[example], starts, span, first_piece)
    return spans


def _word_layout(windows: Windows, example: int) -> tuple[list[int], Any]:
    """(first character of each word, first piece of each word and the end) of an example's context."""
    starts = [match.start() for match in WORD.finditer(windows.examples[example].context)]
    row = windows.context_row[example]
    word_of_piece = windows.contexts.word[windows.contexts.first[row] : windows.contexts.first[row + 1]]
    return starts, np.searchsorted(word_of_piece, np.arange(len(starts) + 1))


def _answer_words(example: Example, starts: list[int]) -> tuple[int, int] | None:
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


def _answer_pieces(pieces: Any, first_piece: Any, span: tuple[int, int] | None, forms: tuple[Any, ...]) -> tuple:
    """First and last piece of the answer, shrunk to its own pieces where they stand inside the words' pieces.

    `(1895-1943)` with the answer `1895` -> the pieces of `1895` alone.
    """
    if span is None:
        return DROPPED, DROPPED
    first, last = int(first_piece[span[0]]), int(first_piece[span[1] + 1]) - 1
    within = pieces[first : last + 1].tolist()
    for form in (form.tolist() for form in forms):
        for shift in range(len(within) - len(form) + 1 if form else 0):
            if within[shift : shift + len(form)] == form:
                return first + shift, first + shift + len(form) - 1
    return (first, last) if first <= last else (DROPPED, DROPPED)


def _trimmed_pieces(table: PieceTable, example: Example, starts: list[int], span: tuple, first: Any) -> tuple:
    """First and last piece that hold a character of the answer, for tokenizers without word pieces.

    Alone `counterflow` is `▁counterflow`, in `(counterflow),` it is `▁(` `counter` `flow` `),`.
    """
    text, start = example.answers[0]
    begin, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    head, tail = (table.places(WORD.match(example.context, starts[word]).group()) for word in span)
    inner = [i for i, (_, stop) in enumerate(head) if stop > begin - starts[span[0]]]
    outer = [i for i, (place, _) in enumerate(tail) if place < end - starts[span[1]]]
    return first[span[0]] + min(inner, default=0), first[span[1]] + max(outer, default=len(tail) - 1)
