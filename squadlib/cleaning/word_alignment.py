"""Which words translate each other, learned from the translated file itself."""

from __future__ import annotations

import math

import numpy as np

from squadlib.cleaning.corpus import Batch, Corpus, Numbers, SentencePairs, Sides
from squadlib.cleaning.jump_model import DISTANCES, NULL_PROBABILITY, first_jumps, follow_jumps, learned_jumps
from squadlib.cleaning.tokens import SOURCE_ARTICLES
from squadlib.console import progress_bar

# First IBM model 1 (Brown et al. 1993) with the diagonal prior of fast_align (Dyer et al. 2013), to learn some words in
# any order of the sentence; then the jump model. A stronger diagonal serves languages in the order of English only.
FIRST_ROUNDS, JUMP_ROUNDS = 3, 3
DIAGONAL = 1.0
PREFIX_LENGTH = 3  # letters that words which look alike begin with
SAME_STEM_COUNT, SAME_PREFIX_COUNT, UNSEEN_COUNT = 2.0, 0.3, 0.001  # times that two words count as seen together
SPARE_BITS = 4  # a table as large as the corpus has many collisions, which cost Turkish 1.3 F1
MAX_TABLE_BITS = 25  # 2**25 pairs of float32 = 128 MiB, however large the corpus
ARTICLE_SHARE, ARTICLE_FREQUENCY = 0.55, 0.002  # what makes a target word an article: see WordAligner.learn_articles


class LexicalTable:
    """P(these two words translate each other): one table of expected counts for both directions.

    The counts are kept at a hash of the two words, in a table of fixed size: pairs that collide share their counts,
    which blurs rare pairs a little and bounds the memory. Words that look alike count as if seen together.
    """

    def __init__(self, vocabulary: dict[str, int], pairs: SentencePairs):
        num_cells = int((pairs.lengths[0].astype(np.int64) * pairs.lengths[1]).sum())
        self.vocabulary = vocabulary
        self.bits = min(MAX_TABLE_BITS, max(12, math.ceil(math.log2(num_cells + 1)) + SPARE_BITS))
        self.counts = np.zeros(1 << self.bits, np.float32)
        self.totals = np.zeros((2, len(vocabulary)), np.float32)  # of each word as (source, target)
        self.looks = look_numbers(vocabulary)
        # what null gives: a word's share of its own language
        frequency = [np.bincount(side, minlength=len(vocabulary)) + 0.01 for side in pairs.words]
        self.null = [(count / count.sum()).astype(np.float32) for count in frequency]

    def buckets(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Index into `counts` for each pair of words."""
        key = source.astype(np.uint64) << np.uint64(32) | target.astype(np.uint64)
        key *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, twice, so that both words reach the top bits
        key ^= key >> np.uint64(32)
        key *= np.uint64(0xD6E8FEB86659FD93)
        return (key >> np.uint64(64 - self.bits)).astype(np.int64)

    def probabilities(self, batch: Batch, buckets: np.ndarray) -> Sides:
        """P(target word | source word) and P(source word | target word), each (pairs, target tokens, source tokens)."""
        source, target = batch.words[0][:, None, :], batch.words[1][:, :, None]
        looks_alike = self.looks[source] == self.looks[target]
        seen = np.where(looks_alike, np.float32(SAME_PREFIX_COUNT + UNSEEN_COUNT), np.float32(UNSEEN_COUNT))
        seen += (source == target) * np.float32(SAME_STEM_COUNT)
        seen += self.counts[buckets]
        # rare pairs count for less, as in variational Bayes: 0.1 -> 0.02, 1 -> 0.7, 10 -> 9.5
        seen *= seen / (seen + np.float32(0.5))
        seen *= batch.cells()
        return seen / (self.totals[0][source] + 1), seen / (self.totals[1][target] + 1)

    def extend(self) -> None:
        """Make room for the words met since the training: nothing is known of them but their spelling."""
        new = len(self.vocabulary) - len(self.looks)
        if new:
            self.looks = look_numbers(self.vocabulary)
            self.totals = np.pad(self.totals, ((0, 0), (0, new)))
            self.null = [np.pad(share, (0, new), mode="minimum") for share in self.null]


class WordAligner:
    """Learns from a corpus, in both directions at once, which words translate each other and how far words jump."""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        pairs = corpus.sentence_pairs()
        self.table = LexicalTable(corpus.vocabulary, pairs)
        self.jumps: list[np.ndarray] | None = None  # weights: of target tokens in the source, and the other way round
        self.train(pairs)
        self.articles = self.learn_articles()

    def train(self, pairs: SentencePairs) -> None:
        """Expectation maximisation, a batch of sentence pairs at a time."""
        batches = pairs.batches()
        total = (FIRST_ROUNDS + JUMP_ROUNDS) * len(pairs.lengths[0])
        with progress_bar(total=total, unit="pair", desc="learning word pairs") as bar:
            for number in range(FIRST_ROUNDS + JUMP_ROUNDS):
                if number == FIRST_ROUNDS:
                    self.jumps = [first_jumps(), first_jumps()]
                counts, totals = np.zeros_like(self.table.counts), np.zeros(self.table.totals.shape)
                jumps_made = no_jumps()
                for numbers in batches:
                    batch = pairs.batch(numbers)
                    self.count(batch, counts, totals, jumps_made)
                    bar.update(len(numbers))
                self.table.counts, self.table.totals = counts, totals.astype(np.float32)
                if self.jumps:
                    self.jumps = [learned_jumps(made) for made in jumps_made]

    def count(self, batch: Batch, counts: np.ndarray, totals: np.ndarray, jumps_made: np.ndarray) -> None:
        """Add the expected counts of a batch."""
        cells, buckets = batch.cells(), self.table.buckets(batch.words[0][:, None, :], batch.words[1][:, :, None])
        source, target = self.both_directions(batch, buckets, jumps_made)
        # between the arithmetic mean (a word may have several translations) and the geometric one (both must agree)
        together = (source + target) / 4 + np.sqrt(source * target) / 2
        np.add.at(counts, buckets[cells], together[cells])
        for side, axis in ((0, 1), (1, 2)):
            totals[side] += np.bincount(batch.words[side].ravel(), together.sum(axis).ravel(), totals.shape[1])

    def both_directions(self, batch: Batch, buckets: np.ndarray, jumps_made: np.ndarray) -> Sides:
        """P(the target token comes from this source token), and the other way round: (pairs, target, source tokens).

        The jumps that were made are added to jumps_made.
        """
        words = self.table.probabilities(batch, buckets)
        null = self.table.null[1][batch.words[1]], self.table.null[0][batch.words[0]]
        if self.jumps is None:
            diagonal = diagonal_prior(batch)
            return (
                explain(words[0] * diagonal, diagonal, null[0][:, :, None], 2),
                explain(words[1] * diagonal, diagonal, null[1][:, None, :], 1),
            )
        from_source, made = follow_jumps(words[0], null[0], *batch.real, self.jumps[0])
        jumps_made[0] += made
        from_target, made = follow_jumps(words[1].transpose(0, 2, 1), null[1], *batch.real[::-1], self.jumps[1])
        jumps_made[1] += made
        return from_source, from_target.transpose(0, 2, 1)

    def align(self, sentence_pairs: list[Numbers]) -> list[np.ndarray]:
        """For each pair (target words, source words): probability that two words translate each other, 0 to 1."""
        self.table.extend()
        pairs = SentencePairs.from_lists(sentence_pairs)
        aligned: dict[int, np.ndarray] = {}
        for numbers in pairs.batches():
            batch = pairs.batch(numbers)
            buckets = self.table.buckets(batch.words[0][:, None, :], batch.words[1][:, :, None])
            source, target = self.both_directions(batch, buckets, no_jumps())
            for number, posteriors in zip(numbers.tolist(), (source + target) / 2, strict=True):
                aligned[number] = posteriors[: pairs.lengths[1][number], : pairs.lengths[0][number]].copy()
        return [aligned[number] for number in range(len(sentence_pairs))]

    def learn_articles(self) -> frozenset[str]:
        """Target words of at most STEM_LENGTH letters, not rare, that mostly stand for an English article."""
        vocabulary, totals = self.corpus.vocabulary, self.table.totals[1]
        numbers = np.arange(len(vocabulary), dtype=np.int32)
        as_article = np.zeros(len(numbers), np.float32)
        for article in SOURCE_ARTICLES & vocabulary.keys():
            as_article += self.table.counts[self.table.buckets(np.full_like(numbers, vocabulary[article]), numbers)]
        frequent = totals >= max(3, ARTICLE_FREQUENCY * totals.sum())
        found = frequent & (as_article > ARTICLE_SHARE * totals)
        return frozenset(word for word, is_article in zip(vocabulary, found, strict=True) if is_article)


def diagonal_prior(batch: Batch) -> np.ndarray:
    """exp(-DIAGONAL · |relative place in the source - in the target|), (pairs, target tokens, source tokens)."""
    source, target = (
        ((np.arange(real.shape[1]) + 0.5) / real.sum(1, keepdims=True)).astype(np.float32) for real in batch.real
    )
    return np.exp(np.float32(-DIAGONAL) * np.abs(source[:, None, :] - target[:, :, None])) * batch.cells()


def explain(words: np.ndarray, prior: np.ndarray, null: np.ndarray, axis: int) -> np.ndarray:
    """P(each token comes from each token along `axis`) by IBM model 1, for words that are already times the prior."""
    words *= np.float32(1 - NULL_PROBABILITY) / np.maximum(prior.sum(axis, keepdims=True), np.float32(1e-9))
    words /= words.sum(axis, keepdims=True) + np.float32(NULL_PROBABILITY) * null
    return words


def no_jumps() -> np.ndarray:
    """Room for the expected number of times that each jump is made, in both directions."""
    return np.zeros((2, len(DISTANCES)))


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
