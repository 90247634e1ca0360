"""Which sentence translates which: the map of the file, or one made from lengths and shared words."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from typing import NamedTuple

from squadlib.cleaning.tokens import Span, is_unspaced, stem, tokenize
from squadlib.sentences import split_sentences

BEADS = {(1, 1): 0.0, (1, 2): 1.0, (2, 1): 1.0, (2, 2): 2.0, (1, 3): 2.5, (3, 1): 2.5, (1, 0): 4.0, (0, 1): 4.0}
MAX_PIECES = 12  # between spaces, that make one sentence where a script marks no end of it
PIECE_BEADS = {(1, count): 0.0 for count in range(1, MAX_PIECES + 1)} | {(1, 0): 4.0, (0, 1): 4.0}
LENGTH_VARIANCE = 3.4  # of a translation's length, per character (Gale and Church 1993)
SHARED_WORDS = 6.0  # what a bead gains when all its words (names, numbers, cognates) are shared


class SentencePair(NamedTuple):
    """Character spans of a sentence and of its translation; target is None where there is none."""

    source: Span
    target: Span | None


def read_sentence_map(rows: object, source: str, target: str) -> list[SentencePair] | None:
    """The paragraph's `sentences` as records, or None when they are missing or do not fit the two texts."""
    if not isinstance(rows, list) or not rows:
        return None
    pairs, last = [], 0
    for row in rows:
        if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int or type(row[1]) is not int:
            return None
        start, end, target_start, target_end = row
        if not last <= start <= end <= len(source):
            return None
        last = end
        if type(target_start) is not int or type(target_end) is not int:
            pairs.append(SentencePair((start, end), None))
        elif 0 <= target_start <= target_end <= len(target):
            pairs.append(SentencePair((start, end), (target_start, target_end)))
        else:
            return None
    return pairs


def align_sentences(source: str, target: str) -> list[SentencePair]:
    """A sentence map for a paragraph without one: the cheapest path of beads (1-1, 1-2, 2-1, …) through both texts."""
    left, right, beads = split_sentences(source), split_sentences(target), BEADS
    if 2 * len(right) <= len(left) and is_unspaced(target.strip()[:1]):  # Thai has spaces where others have full stops
        right, beads = [match.span() for match in re.finditer(r"\S+", target)], PIECE_BEADS
    most = max(count for bead in beads for count in bead)
    left_words, right_words = (sentence_words(*text, most) for text in ((source, left), (target, right)))
    ratio = len(target) / max(1, len(source))
    band = 20 + len(right) // max(1, len(left))  # keeps long texts quick
    best: dict[Span, tuple[float, Span]] = {(0, 0): (0.0, (0, 0))}  # (sentences read): (cost, the last bead)
    for i in range(len(left) + 1):
        middle = i * len(right) // max(1, len(left))
        for j in range(max(0, middle - band), min(len(right), middle + band) + 1):
            for (di, dj), cost in beads.items():
                before = best.get((i - di, j - dj))
                if before is None:
                    continue
                if di and dj:
                    lengths = (left[i - 1][1] - left[i - di][0]) * ratio, right[j - 1][1] - right[j - dj][0]
                    cost += bead_cost(lengths, (left_words[i - di, i], right_words[j - dj, j]))
                if (i, j) not in best or before[0] + cost < best[i, j][0]:
                    best[i, j] = (before[0] + cost, (di, dj))
    pairs = trace_beads(best, left, right)
    return with_margins(pairs, right) if beads is PIECE_BEADS else pairs


def with_margins(pairs: list[SentencePair], pieces: list[Span]) -> list[SentencePair]:
    """Each translation with the piece before and after it: by length alone its ends are not certain."""
    widened = []
    for source, target in pairs:
        if target is not None:
            first = max(0, bisect_left(pieces, target[0], key=lambda piece: piece[0]) - 1)
            last = min(len(pieces), bisect_left(pieces, target[1], key=lambda piece: piece[1]) + 2)
            target = pieces[first][0], pieces[last - 1][1]
        widened.append(SentencePair(source, target))
    return widened


def sentence_words(text: str, spans: list[Span], most: int) -> dict[Span, frozenset[str]]:
    """The stems of all runs of up to `most` sentences, by (first, last), last excluded."""
    words = [frozenset(stem(text[start:end]) for start, end in tokenize(text, *span)) for span in spans]
    return {
        (first, first + count): frozenset().union(*words[first : first + count])
        for count in range(1, most + 1)
        for first in range(len(words) - count + 1)
    }


def bead_cost(lengths: tuple[float, float], words: tuple[frozenset[str], frozenset[str]]) -> float:
    """How badly two stretches of text fit as translations: difference in length, less the words they share."""
    deviation = abs(lengths[0] - lengths[1]) / math.sqrt(LENGTH_VARIANCE * sum(lengths) / 2 + 1)
    shared = len(words[0] & words[1]) / math.sqrt(max(1, len(words[0]) * len(words[1])))
    return deviation - SHARED_WORDS * shared


def trace_beads(best: dict[Span, tuple[float, Span]], left: list[Span], right: list[Span]) -> list[SentencePair]:
    """The sentence pairs along the cheapest path, from its end; one without counterpart gets the neighbours' place."""
    i, j, pairs = len(left), len(right), []
    while i or j:
        di, dj = best[i, j][1]
        if di:
            low, high = (j - dj, j) if dj else (max(0, j - 1), min(len(right), j + 1))  # none: both neighbours
            target = (right[low][0], right[high - 1][1]) if low < high else None
            pairs.append(SentencePair((left[i - di][0], left[i - 1][1]), target))
        i, j = i - di, j - dj
    return pairs[::-1]
