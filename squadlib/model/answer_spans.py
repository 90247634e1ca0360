"""The most probable spans of one window and their characters, as the pipeline of transformers 4 finds them."""

from __future__ import annotations

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def best_spans(
    start: np.ndarray, end: np.ndarray, longest: int, count: int, inside: np.ndarray, width: int
) -> list[tuple[float, int, int]]:
    """The `count` most probable spans of up to `longest` pieces, as (probability, first, last), falling.

    start, end: probabilities of [CLS] and of each context piece, whose positions in a window of `width` tokens are
    `inside`. Pieces count from 0; [CLS] is -1, and in impossible spans only.
    """
    size = len(start) - 1
    first = np.repeat(np.arange(size), longest)
    last = first + np.tile(np.arange(longest), size)
    possible = last < size
    first, last = first[possible], last[possible]
    scores = start[first + 1] * end[last + 1]
    if np.count_nonzero(scores) < count:
        return _impossible_spans_too(start, end, longest, count, inside, width)
    kept = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    first, last, scores = first[kept], last[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:count]
    return list(zip(scores[order].tolist(), first[order].tolist(), last[order].tolist(), strict=True))


def _impossible_spans_too(
    start: np.ndarray, end: np.ndarray, longest: int, count: int, inside: np.ndarray, width: int
) -> list[tuple[float, int, int]]:
    """As `best_spans`, where fewer than `count` spans are possible: the others of the window follow, all at 0.

    The order of these hangs on numpy's sort, so the steps are those of transformers 4.
    """
    starts, ends = np.zeros((2, width), np.float32)
    starts[inside[1:]], ends[inside[1:]] = start[1:], end[1:]
    scores = np.tril(np.triu(np.outer(starts, ends)), longest - 1).ravel()
    if count == 1:
        best = np.array([scores.argmax()])
    elif count < len(scores):
        best = np.argpartition(-scores, count)[:count]
        best = best[np.argsort(-scores[best])]
    else:
        best = np.argsort(-scores)
    piece = np.full(width, -2)  # neither [CLS] nor of the context
    piece[inside] = np.arange(-1, len(inside) - 1)
    first, last = piece[best // width], piece[best % width]
    kept = (first > -2) & (last > -2)
    return list(zip(scores[best[kept]].tolist(), first[kept].tolist(), last[kept].tolist(), strict=True))


def characters(
    offsets: list[tuple[int, int]], words: list[int], left: int, right: int, align_to_words: bool
) -> tuple[int, int]:
    """Characters [begin, end) of the pieces from left to right, or of their whole words. -1: [CLS], at (0, 0)."""
    if align_to_words and min(left, right) >= 0 and min(words[left], words[right]) >= 0:
        left, right = _word_edge(words, left, -1), _word_edge(words, right, 1)
    return offsets[left][0] if left >= 0 else 0, offsets[right][1] if right >= 0 else 0


def _word_edge(words: list[int], piece: int, step: int) -> int:
    """The outermost piece of the word of `piece` in one direction; -1 in `words`: belongs to no word."""
    while 0 <= piece + step < len(words) and words[piece + step] == words[piece] >= 0:
        piece += step
    return piece
