"""The sentence pairs of a file as word numbers, and side by side in batches of similar length."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.tokens import Span, stem, tokenize

MAX_STRETCH = 512  # tokens of either side that are aligned at a time
BATCH_CELLS = 1 << 18  # word pairs worked on at a time: they stay in the processor's cache
Sides = tuple[np.ndarray, np.ndarray]  # (source, target)
Numbers = tuple[list[int], list[int]]  # the words of a sentence pair


@dataclass
class Corpus:
    """Sentence pairs as word numbers, one after the other in flat arrays; both languages share one vocabulary."""

    vocabulary: dict[str, int] = field(default_factory=dict)
    words: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))  # source, target
    lengths: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))

    def number(self, text: str, spans: Iterable[Span]) -> list[int]:
        vocabulary = self.vocabulary
        return [vocabulary.setdefault(stem(text[start:end]), len(vocabulary)) for start, end in spans]

    def add(self, source: str, target: str) -> None:
        pair = [self.number(text, tokenize(text)) for text in (source, target)]
        for stretch in stretches(len(pair[0]), len(pair[1])):
            for words, lengths, side, (first, last) in zip(self.words, self.lengths, pair, stretch, strict=True):
                words.extend(side[first:last])
                lengths.append(last - first)

    def sentence_pairs(self) -> SentencePairs:
        source, target = ([np.array(numbers, np.int32) for numbers in side] for side in (self.words, self.lengths))
        return SentencePairs((source[0], source[1]), (target[0], target[1]))

    def __len__(self) -> int:
        return len(self.lengths[0])


def stretches(source_length: int, target_length: int) -> list[tuple[Span, Span]]:
    """What of a sentence pair is aligned at a time: all of it, or of a page without a full stop overlapping parts.

    (first, last) tokens of either side. Parts have MAX_STRETCH tokens at most; each begins in the middle of the last.
    """
    num_halves = max(2, math.ceil(2 * max(source_length, target_length) / MAX_STRETCH))
    source, target = (
        [(length * half // num_halves, length * (half + 2) // num_halves) for half in range(num_halves - 1)]
        for length in (source_length, target_length)
    )
    return [pair for pair in zip(source, target, strict=True) if all(first < last for first, last in pair)]


class Batch(NamedTuple):
    """Sentence pairs side by side, padded to the longest: arrays of (pairs, tokens)."""

    words: Sides  # word numbers
    real: Sides  # False where padded

    def cells(self) -> np.ndarray:
        """(pairs, target tokens, source tokens): where neither side is padded."""
        return self.real[1][:, :, None] & self.real[0][:, None, :]


@dataclass(frozen=True)
class SentencePairs:
    """Sentence pairs one after the other. words: one number a token; lengths: tokens of each sentence, at least 1."""

    words: Sides
    lengths: Sides

    @classmethod
    def from_lists(cls, pairs: list[Numbers]) -> SentencePairs:
        source, target = ([np.array(pair[side], np.int32) for pair in pairs] for side in (0, 1))
        lengths = np.array([(len(left), len(right)) for left, right in pairs], np.int32)
        return cls((np.concatenate(source), np.concatenate(target)), (lengths[:, 0], lengths[:, 1]))

    def __len__(self) -> int:
        return len(self.lengths[0])

    def evenly_drawn(self, max_cells: int) -> SentencePairs:
        """Every n-th pair, so that about max_cells word pairs are left; all of them where there are no more."""
        cells = int((self.lengths[0].astype(np.int64) * self.lengths[1]).sum())
        step = max(1, cells // max_cells)
        if step == 1:
            return self
        kept = np.arange(len(self)) % step == 0
        words, lengths = (
            [
                values[np.repeat(kept, side) if of_words else kept]
                for values, side in zip(rows, self.lengths, strict=True)
            ]
            for rows, of_words in ((self.words, True), (self.lengths, False))
        )
        return SentencePairs((words[0], words[1]), (lengths[0], lengths[1]))

    def batches(self) -> list[np.ndarray]:
        """Numbers of the pairs that go together: of similar lengths, at most BATCH_CELLS word pairs or one pair."""
        sources, targets = (lengths.tolist() for lengths in self.lengths)
        batches: list[list[int]] = []
        smallest = largest = (0, 0)
        for number in np.lexsort((self.lengths[1], self.lengths[0] // 4)).tolist():
            size = sources[number], targets[number]
            grown = max(largest[0], size[0]), max(largest[1], size[1])
            similar = grown[0] < smallest[0] + 4 and grown[1] <= 1.3 * smallest[1] + 4
            if batches and similar and (len(batches[-1]) + 1) * grown[0] * grown[1] <= BATCH_CELLS:
                batches[-1].append(number)
                largest = grown
            else:
                batches.append([number])
                smallest = largest = size
        return [np.array(batch) for batch in batches]

    def batch(self, numbers: np.ndarray) -> Batch:
        words, real = zip(*self._padded(numbers), strict=True)
        return Batch((words[0], words[1]), (real[0], real[1]))

    def _padded(self, numbers: np.ndarray) -> Iterator[Sides]:
        for words, lengths in zip(self.words, self.lengths, strict=True):
            first = (np.cumsum(lengths, dtype=np.int64) - lengths)[numbers]
            place = np.arange(lengths[numbers].max())
            real = place < lengths[numbers][:, None]
            yield words[np.where(real, first[:, None] + place, 0)], real
