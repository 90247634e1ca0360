"""Which words translate each other, learned from the translated file itself."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.tokens import SOURCE_ARTICLES, Span, stem, tokenize
from squadlib.console import progress_bar

# IBM model 1 (Brown et al. 1993) with the diagonal prior of fast_align (Dyer et al. 2013).
NUM_ITERATIONS = 5
PREFIX_LENGTH = 3  # letters that words which look alike begin with
SAME_STEM_COUNT, SAME_PREFIX_COUNT = 2.0, 0.3  # times that two words that look alike count as seen together
DIAGONAL, NULL_PROBABILITY = 5.0, 0.04
MAX_TABLE_BITS = 25  # 2**25 pairs of float32 = 256 MiB, however large the corpus
CHUNK_PAIRS = 1 << 17  # word pairs worked on at a time: they stay in the processor's cache
MAX_SENTENCE_TOKENS = 250  # longer "sentences" (no full stop for a page) are cropped around the answer
ARTICLE_SHARE, ARTICLE_FREQUENCY = 0.55, 0.002  # what makes a target word an article: see WordAligner.learn_articles


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
        if all(0 < len(side) <= MAX_SENTENCE_TOKENS for side in pair):
            for words, lengths, side in zip(self.words, self.lengths, pair, strict=True):
                words.extend(side)
                lengths.append(len(side))

    def __len__(self) -> int:
        return len(self.lengths[0])


Sides = tuple[np.ndarray, np.ndarray]  # (source, target)


class WordPairs(NamedTuple):
    """Every source word with every target word of the same sentence pair, ordered by target word: parallel arrays."""

    sides: Sides  # the texts as word numbers, one a token
    words: Sides  # word numbers, one a pair
    tokens: Sides  # which token of the text this is, one a pair
    diagonal: np.ndarray  # exp(-DIAGONAL · |relative place in the source - in the target|)


def cross(sides: Sides, lengths: Sides) -> WordPairs:
    """The word pairs of consecutive sentence pairs. sides: word numbers; lengths: words of each sentence."""
    source_lengths, target_lengths = lengths
    sentence = np.repeat(np.arange(len(target_lengths), dtype=np.int32), target_lengths)  # of each target token
    row_lengths = source_lengths[sentence]
    target = np.repeat(np.arange(len(sentence), dtype=np.int32), row_lengths)
    first_source = (np.cumsum(source_lengths) - source_lengths)[sentence]
    row_starts = np.cumsum(row_lengths) - row_lengths
    source = np.arange(len(target)) - np.repeat(row_starts - first_source, row_lengths)
    places = [relative_places(side) for side in lengths]
    diagonal = np.exp(np.float32(-DIAGONAL) * np.abs(places[0][source] - places[1][target]))
    return WordPairs(sides, (sides[0][source], sides[1][target]), (source, target), diagonal)


def relative_places(lengths: np.ndarray) -> np.ndarray:
    """The middle of each token between 0 (its sentence's start) and 1 (its end), for sentences of these lengths."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return ((np.arange(len(starts)) - starts + 0.5) / np.repeat(lengths, lengths)).astype(np.float32)


class WordAligner:
    """P(these two words translate each other), learned from a corpus in both directions at once.

    The expected counts of a word pair are kept at a hash of its two words, in a table of fixed size: pairs that collide
    share their counts, which blurs rare pairs a little and bounds the memory. Words that look alike count as if they
    had been seen together. Column 0 is for target words explained by the source, column 1 the other way round.
    """

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        words, lengths = as_numpy(corpus.words), as_numpy(corpus.lengths)
        num_pairs = int((lengths[0].astype(np.int64) * lengths[1]).sum())
        self.bits = min(MAX_TABLE_BITS, max(12, math.ceil(math.log2(num_pairs + 1))))
        self.counts = np.zeros((1 << self.bits, 2), np.float32)
        self.totals = np.zeros((2, len(corpus.vocabulary)), np.float32)  # of each word as (source, target)
        self.look = look_numbers(corpus.vocabulary)
        # what the null word gives: a word's share of its own language
        counted = [np.bincount(side, minlength=len(corpus.vocabulary)) + 0.01 for side in words[::-1]]
        self.null = [(NULL_PROBABILITY * count / count.sum()).astype(np.float32) for count in counted]
        self.train(words, lengths)
        self.articles = self.learn_articles()

    def learn_articles(self) -> frozenset[str]:
        """Target words of at most STEM_LENGTH letters, not rare, that mostly stand for an English article."""
        numbers = np.arange(len(self.corpus.vocabulary), dtype=np.int32)
        as_article = np.zeros(len(numbers), np.float32)
        for article in SOURCE_ARTICLES & self.corpus.vocabulary.keys():
            source = np.full_like(numbers, self.corpus.vocabulary[article])
            as_article += self.counts[self.buckets((source, numbers)), 1]
        frequent = self.totals[1] >= max(3, ARTICLE_FREQUENCY * self.totals[1].sum())
        found = frequent & (as_article > ARTICLE_SHARE * self.totals[1])
        return frozenset(word for word, is_article in zip(self.corpus.vocabulary, found, strict=True) if is_article)

    def train(self, words: Sides, lengths: Sides) -> None:
        """NUM_ITERATIONS of expectation maximisation, a bounded chunk of sentence pairs at a time."""
        chunks = list(split_chunks(lengths))
        with progress_bar(total=NUM_ITERATIONS * len(lengths[0]), unit="pair", desc="learning word pairs") as bar:
            for _ in range(NUM_ITERATIONS):
                counts, totals = np.zeros_like(self.counts), np.zeros(self.totals.shape)
                for sentences, *tokens in chunks:
                    chunk_lengths = lengths[0][sentences], lengths[1][sentences]
                    pairs = cross((words[0][tokens[0]], words[1][tokens[1]]), chunk_lengths)
                    buckets = self.buckets(pairs.words)
                    for column, expected in enumerate(self.expectations(pairs, buckets)):
                        np.add.at(counts[:, column], buckets, expected)
                        totals[column] += np.bincount(pairs.words[column], expected, totals.shape[1])
                    bar.update(len(chunk_lengths[0]))
                self.counts, self.totals = counts, totals.astype(np.float32)

    def buckets(self, words: Sides) -> np.ndarray:
        """Row of `counts` for each pair of (source, target) words."""
        key = words[0].astype(np.uint64) << np.uint64(32) | words[1].astype(np.uint64)
        key *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, twice, so that both words reach the top bits
        key ^= key >> np.uint64(32)
        key *= np.uint64(0xD6E8FEB86659FD93)
        return (key >> np.uint64(64 - self.bits)).astype(np.int64)

    def expectations(self, pairs: WordPairs, buckets: np.ndarray) -> Iterator[np.ndarray]:
        """P(the target word comes from this source word), then P(the source word from this target word): one a pair."""
        source, target = pairs.words
        alike = np.where(self.look[source] == self.look[target], np.float32(SAME_PREFIX_COUNT), np.float32(0.001))
        alike += (source == target) * np.float32(SAME_STEM_COUNT)
        both = self.counts[buckets]
        for column in (0, 1):
            seen = both[:, column] + alike
            # rare pairs count for less, as in variational Bayes: 0.1 -> 0.02, 1 -> 0.7, 10 -> 9.5
            odds = seen * seen / ((seen + np.float32(0.5)) * (self.totals[column][pairs.words[column]] + np.float32(1)))
            joint = odds * pairs.diagonal
            token, words = pairs.tokens[1 - column], pairs.sides[1 - column]  # what is to be explained
            scale = (1 - NULL_PROBABILITY) / np.bincount(token, pairs.diagonal, len(words))
            joint *= scale.astype(np.float32)[token]
            total = np.bincount(token, joint, len(words)) + self.null[column][words]
            yield joint / total.astype(np.float32)[token]

    def posteriors(self, source: list[int], target: list[int]) -> np.ndarray:
        """(target words, source words): probability that two words of a sentence pair translate each other, 0 to 1."""
        new = len(self.corpus.vocabulary) - len(self.look)
        if new:  # words met since the training: nothing is known of them but their spelling
            self.look = look_numbers(self.corpus.vocabulary)
            self.totals = np.pad(self.totals, ((0, 0), (0, new)))
            self.null = [np.pad(share, (0, new), mode="minimum") for share in self.null]
        sides = np.array(source, np.int32), np.array(target, np.int32)
        pairs = cross(sides, (np.array([len(source)]), np.array([len(target)])))
        to_source, to_target = self.expectations(pairs, self.buckets(pairs.words))
        return (to_source + to_target).reshape(len(target), len(source)) / 2


def as_numpy(sides: tuple[array, array]) -> Sides:
    source, target = (np.array(side, np.int32) for side in sides)
    return source, target


def look_numbers(vocabulary: dict[str, int]) -> np.ndarray:
    """A number for each word that it shares with the words that begin alike; short words and figures have their own."""
    prefixes: dict[str, int] = {}
    looks = (
        prefixes.setdefault(word[:PREFIX_LENGTH], len(prefixes))
        if len(word) >= PREFIX_LENGTH and not word[0].isdigit()
        else -1 - number
        for word, number in vocabulary.items()
    )
    return np.fromiter(looks, np.int32, len(vocabulary))


def split_chunks(lengths: Sides) -> Iterator[tuple[slice, slice, slice]]:
    """Slices (sentences, source words, target words) of at most CHUNK_PAIRS word pairs, or one sentence pair."""
    num_pairs = np.cumsum(lengths[0].astype(np.int64) * lengths[1])
    ends = [np.concatenate(([0], np.cumsum(side, dtype=np.int64))) for side in lengths]
    start = 0
    while start < len(num_pairs):
        done = num_pairs[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(num_pairs, done + CHUNK_PAIRS, side="right")))
        source, target = (slice(int(side[start]), int(side[end])) for side in ends)
        yield slice(start, end), source, target
        start = end
