"""The sentence pairs of a file as word numbers, and side by side in batches of similar length."""

from __future__ import annotations

import itertools
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.tokens import Span, stem, tokenize

MAX_STRETCH = 512  # tokens of either side that are aligned at a time
BATCH_CELLS = 1 << 18  # word pairs worked on at a time: they stay in the processor's cache
Sides = tuple[np.ndarray, np.ndarray]  # (source, target)
Numbers = tuple[array, array]  # the words of a sentence pair


class Tokens(NamedTuple):
    """The whole tokens of a text. starts, ends: in characters; numbers: of their stems."""

    starts: array
    ends: array
    numbers: array

    def inside(self, span: Span) -> array:
        """The numbers of the tokens that begin in these characters."""
        return self.numbers[bisect_left(self.starts, span[0]) : bisect_left(self.starts, span[1])]


class Stems(dict[str, int]):
    """The number of each token, that of its stem in the vocabulary; new ones are added there."""

    def __init__(self, vocabulary: dict[str, int]):
        super().__init__()
        self.vocabulary = vocabulary

    def __missing__(self, token: str) -> int:
        number = self[token] = self.vocabulary.setdefault(stem(token), len(self.vocabulary))
        return number


class ParagraphWords(NamedTuple):
    """Where the words of a paragraph are in the corpus, (source, target): of its context, and with its questions."""

    context: tuple[slice, slice]
    everything: tuple[slice, slice]


@dataclass
class Corpus:
    """Sentence pairs as word numbers, one after the other in flat arrays; both languages share one vocabulary."""

    vocabulary: dict[str, int] = field(default_factory=dict)
    numbers: Stems = field(init=False)
    texts: dict[str, Tokens] = field(default_factory=dict)  # that were read as a whole
    words: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))  # source, target
    lengths: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))
    paragraphs: list[ParagraphWords] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = Stems(self.vocabulary)

    def number(self, text: str, spans: Iterable[Span]) -> array:
        numbers = self.numbers
        return array("i", [numbers[text[start:end]] for start, end in spans])

    def read(self, text: str) -> Tokens:
        """The tokens of a text that is needed again: they are looked for once."""
        if text not in self.texts:
            spans = tokenize(text)
            edges = array("i", itertools.chain.from_iterable(spans))
            self.texts[text] = Tokens(edges[::2], edges[1::2], self.number(text, spans))
        return self.texts[text]

    def add(self, source: str, target: str) -> None:
        self.add_numbers((self.number(source, tokenize(source)), self.number(target, tokenize(target))))

    def add_numbers(self, pair: Numbers) -> None:
        for stretch in stretches(len(pair[0]), len(pair[1])):
            for side, (first, last) in enumerate(stretch):
                self.words[side].extend(pair[side][first:last])
                self.lengths[side].append(last - first)

    def sort_vocabulary(self) -> None:
        """Number the words in their own order, so that the order of what was added changes nothing."""
        order = sorted(self.vocabulary)
        rank = np.zeros(len(order), np.int32)
        rank[[self.vocabulary[word] for word in order]] = np.arange(len(order), dtype=np.int32)
        for numbers in (*self.words, *(tokens.numbers for tokens in self.texts.values())):
            if numbers:
                changed = np.frombuffer(numbers, np.int32)
                changed[:] = rank[changed]
        self.vocabulary = {word: number for number, word in enumerate(order)}
        self.numbers = Stems(self.vocabulary)

    def place(self) -> Span:
        """Where the next words will be, (source, target)."""
        return len(self.words[0]), len(self.words[1])

    def end_paragraph(self, start: Span, end_of_context: Span) -> None:
        """All pairs of a paragraph were added: those of its context, then those of its questions."""
        context, everything = (
            tuple(slice(first, last) for first, last in zip(start, end, strict=True))
            for end in (end_of_context, self.place())
        )
        self.paragraphs.append(ParagraphWords((context[0], context[1]), (everything[0], everything[1])))

    def sentence_pairs(self) -> SentencePairs:
        self.sort_vocabulary()
        source, target = ([np.array(numbers, np.int32) for numbers in side] for side in (self.words, self.lengths))
        return SentencePairs((source[0], source[1]), (target[0], target[1]))

    def __len__(self) -> int:
        return len(self.lengths[0])


def stretches(source_length: int, target_length: int) -> list[tuple[Span, Span]]:
    """What of a sentence pair is aligned at a time: all of it, or of a page without a full stop overlapping parts.

    (first, last) tokens of either side. Parts have MAX_STRETCH tokens at most; each begins in the middle of the last.
    """
    if 0 < source_length <= MAX_STRETCH and 0 < target_length <= MAX_STRETCH:
        return [((0, source_length), (0, target_length))]
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
        """One pair in n, so that about max_cells word pairs are left; all of them where there are no more.

        Which ones is decided by their words, so that the order of a file changes nothing.
        """
        cells = int((self.lengths[0].astype(np.int64) * self.lengths[1]).sum())
        step = max(1, cells // max_cells)
        if step == 1:
            return self
        kept = self.content() % np.uint64(step) == 0
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
        for number in np.lexsort((self.content(), self.lengths[1], self.lengths[0] // 4)).tolist():
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

    def content(self) -> np.ndarray:
        """A number for each pair that depends on its words alone: it gives pairs of equal length an order."""
        mixed = np.zeros(len(self.lengths[0]), np.uint64)
        for words, lengths in zip(self.words, self.lengths, strict=True):
            first = np.cumsum(lengths, dtype=np.int64) - lengths
            place = (np.arange(len(words)) - np.repeat(first, lengths)).astype(np.uint64)
            key = (words.astype(np.uint64) + np.uint64(1)) * (place * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1))
            key ^= key >> np.uint64(29)
            mixed = mixed * np.uint64(0xD6E8FEB86659FD93) + np.add.reduceat(key, first)
        return mixed

    def batch(self, numbers: np.ndarray) -> Batch:
        words, real = zip(*self._padded(numbers), strict=True)
        return Batch((words[0], words[1]), (real[0], real[1]))

    def _padded(self, numbers: np.ndarray) -> Iterator[Sides]:
        for words, lengths in zip(self.words, self.lengths, strict=True):
            first = (np.cumsum(lengths, dtype=np.int64) - lengths)[numbers]
            place = np.arange(lengths[numbers].max())
            real = place < lengths[numbers][:, None]
            yield words[np.where(real, first[:, None] + place, 0)], real
