"""Which words translate each other, learned from the translated file itself."""

from __future__ import annotations

import math

import numpy as np

from squadlib.cleaning.corpus import Batch, Corpus, Numbers, SentencePairs, Sides
from squadlib.cleaning.jump_model import DISTANCES, NULL_PROBABILITY, first_jumps, follow_jumps, learned_jumps
from squadlib.cleaning.tokens import SOURCE_ARTICLES, STEM_LENGTH
from squadlib.console import progress_bar

# First IBM model 1 (Brown et al. 1993) with the diagonal prior of fast_align (Dyer et al. 2013), to learn some words in
# any order of the sentence; then the jump model. A stronger diagonal serves languages in the order of English only.
FIRST_ROUNDS, JUMP_ROUNDS = 3, 3
DIAGONAL = 1.0
PREFIX_LENGTH = 3  # letters that words which look alike begin with
SAME_STEM_COUNT, SAME_PREFIX_COUNT, UNSEEN_COUNT = 2.0, 0.3, 0.001  # times that two words count as seen together
BEGINNING_LENGTH, BEGINNING_COUNT = 4, 10.0  # letters of a beginning; times seen that what is known of it is worth
SPARE_BITS = 4  # a table as large as the corpus has many collisions, which cost Turkish 1.3 F1
MAX_TABLE_BITS = 25  # 2**25 pairs of float32 = 128 MiB, however large the corpus; twice, for words and beginnings
DRAWN_CELLS = 8_000_000  # word pairs of the sentences that all rounds but the last learn from
NUMBER_WORDS = [word[:STEM_LENGTH] for word in "two three four five six seven eight nine ten eleven twelve".split()]
ARTICLE_SHARE, ARTICLE_FREQUENCY = 0.55, 0.002  # what makes a target word an article: see WordAligner.learn_articles


class Level:
    """Expected counts of the pairs of one kind of form: the words themselves, or their beginnings.

    The counts are kept at a hash of the two forms, in a table of fixed size: pairs that collide share their counts,
    which blurs rare pairs a little and bounds the memory.
    """

    def __init__(self, forms: np.ndarray, bits: int):
        self.forms, self.bits = forms, bits  # forms: the form of each word, as a number
        self.counts = np.zeros(1 << bits, np.float32)
        self.totals = np.zeros((2, len(forms)), np.float32)  # of each form as (source, target)

    def empty(self) -> Level:
        return Level(self.forms, self.bits)

    def extend(self, forms: np.ndarray) -> None:
        self.totals = np.pad(self.totals, ((0, 0), (0, len(forms) - len(self.forms))))
        self.forms = forms

    def buckets_of(self, batch: Batch) -> np.ndarray:
        """Index into `counts` for each word pair of a batch: (pairs, target tokens, source tokens)."""
        return self.buckets(self.forms[batch.words[0]][:, None, :], self.forms[batch.words[1]][:, :, None])

    def buckets(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Index into `counts` for each pair of forms."""
        key = source.astype(np.uint64) << np.uint64(32) | target.astype(np.uint64)
        key *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, twice, so that both words reach the top bits
        key ^= key >> np.uint64(32)
        key *= np.uint64(0xD6E8FEB86659FD93)
        return (key >> np.uint64(64 - self.bits)).astype(np.int64)

    def add(self, batch: Batch, buckets: np.ndarray, together: np.ndarray) -> None:
        """Count the words of a batch as seen together. together: 0 where padded."""
        cells = together > 0  # small counts too: at first there are no others
        np.add.at(self.counts, buckets[cells], together[cells])
        for side, axis in ((0, 1), (1, 2)):
            forms, seen = self.forms[batch.words[side]].ravel(), together.sum(axis).ravel()
            self.totals[side] += np.bincount(forms, seen, self.totals.shape[1]).astype(np.float32)


class LexicalTable:
    """P(these two words translate each other): one table for both directions, and one for the beginnings of words.

    What is known of a rare word comes from its beginning, which it shares with other inflections. Words that look
    alike count as if seen together.
    """

    def __init__(self, vocabulary: dict[str, int], pairs: SentencePairs):
        num_cells = int((pairs.lengths[0].astype(np.int64) * pairs.lengths[1]).sum())
        self.vocabulary = vocabulary
        bits = min(MAX_TABLE_BITS, max(12, math.ceil(math.log2(num_cells + 1)) + SPARE_BITS))
        self.words = Level(np.arange(len(vocabulary), dtype=np.int32), bits)
        self.beginnings = Level(prefix_numbers(vocabulary, BEGINNING_LENGTH), bits)
        self.looks = prefix_numbers(vocabulary, PREFIX_LENGTH)
        self.values = value_numbers(vocabulary)
        # what null gives: a word's share of its own language
        frequency = [np.bincount(side, minlength=len(vocabulary)) + 0.01 for side in pairs.words]
        self.null = [(count / count.sum()).astype(np.float32) for count in frequency]

    def probabilities(self, batch: Batch, buckets: Sides) -> Sides:
        """P(target word | source word) and P(source word | target word), each (pairs, target tokens, source tokens)."""
        words = batch.words[0][:, None, :], batch.words[1][:, :, None]
        looks_alike = self.looks[words[0]] == self.looks[words[1]]
        prior = np.where(looks_alike, np.float32(SAME_PREFIX_COUNT + UNSEEN_COUNT), np.float32(UNSEEN_COUNT))
        prior += (self.values[words[0]] == self.values[words[1]]) * np.float32(SAME_STEM_COUNT)
        cells = batch.cells()
        seen, seen_beginnings = (
            discounted(prior + level.counts[places]) * cells
            for level, places in zip((self.words, self.beginnings), buckets, strict=True)
        )
        seen_beginnings *= np.float32(BEGINNING_COUNT)
        given_source, given_target = (self._smoothed(seen, seen_beginnings, words, side) for side in (0, 1))
        return given_source, given_target

    def _smoothed(self, seen: np.ndarray, beginnings: np.ndarray, words: Sides, side: int) -> np.ndarray:
        """P(word of the other side | word of this side): its counts, and those of the beginnings for a rare word."""
        other = 1 - side
        share = (self.words.totals[other] + np.float32(0.1)) / (
            self.beginnings.totals[other][self.beginnings.forms] + np.float32(0.1)
        )  # P(word | its beginning)
        of_beginning = 1 / (self.beginnings.totals[side][self.beginnings.forms] + 1)
        of_word = 1 / (self.words.totals[side] + np.float32(1 + BEGINNING_COUNT))
        smoothed: np.ndarray = beginnings * of_beginning[words[side]]
        smoothed *= share[words[other]]
        smoothed += seen
        smoothed *= of_word[words[side]]
        return smoothed

    def extend(self) -> None:
        """Make room for the words met since the training: nothing is known of them but their spelling."""
        new = len(self.vocabulary) - len(self.looks)
        if new:
            self.looks = prefix_numbers(self.vocabulary, PREFIX_LENGTH)
            self.values = value_numbers(self.vocabulary)
            self.words.extend(np.arange(len(self.vocabulary), dtype=np.int32))
            self.beginnings.extend(prefix_numbers(self.vocabulary, BEGINNING_LENGTH))
            self.null = [np.pad(share, (0, new), mode="minimum") for share in self.null]


def discounted(counts: np.ndarray) -> np.ndarray:
    """Rare pairs count for less, as in variational Bayes: 0.1 -> 0.02, 1 -> 0.7, 10 -> 9.5."""
    discount: np.ndarray = counts / (counts + np.float32(0.5))
    return np.multiply(discount, counts, out=discount)


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
        """Expectation maximisation, a batch at a time; the last round alone sees all of a large file."""
        drawn = pairs.evenly_drawn(DRAWN_CELLS)
        rounds = [drawn] * (FIRST_ROUNDS + JUMP_ROUNDS - 1) + [pairs]
        with progress_bar(total=sum(len(some) for some in rounds), unit="pair", desc="learning word pairs") as bar:
            for number, some in enumerate(rounds):
                if number == FIRST_ROUNDS:
                    self.jumps = [first_jumps(), first_jumps()]
                levels = self.table.words.empty(), self.table.beginnings.empty()
                jumps_made = no_jumps()
                for numbers in some.batches():
                    self.count(some.batch(numbers), levels, jumps_made)
                    bar.update(len(numbers))
                self.table.words, self.table.beginnings = levels
                if self.jumps:
                    self.jumps = [learned_jumps(made) for made in jumps_made]

    def count(self, batch: Batch, levels: tuple[Level, Level], jumps_made: np.ndarray) -> None:
        """Add the expected counts of a batch to those of words and beginnings."""
        buckets = self.table.words.buckets_of(batch), self.table.beginnings.buckets_of(batch)
        source, target = self.both_directions(batch, buckets, jumps_made)
        # between the arithmetic mean (a word may have several translations) and the geometric one (both must agree)
        together = (source + target) / 4 + np.sqrt(source * target) / 2
        for level, places in zip(levels, buckets, strict=True):
            level.add(batch, places, together)

    def both_directions(self, batch: Batch, buckets: Sides, jumps_made: np.ndarray) -> Sides:
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
            buckets = self.table.words.buckets_of(batch), self.table.beginnings.buckets_of(batch)
            source, target = self.both_directions(batch, buckets, no_jumps())
            for number, posteriors in zip(numbers.tolist(), (source + target) / 2, strict=True):
                aligned[number] = posteriors[: pairs.lengths[1][number], : pairs.lengths[0][number]].copy()
        return [aligned[number] for number in range(len(sentence_pairs))]

    def learn_articles(self) -> frozenset[str]:
        """Target words of at most STEM_LENGTH letters, not rare, that mostly stand for an English article."""
        vocabulary, words = self.corpus.vocabulary, self.table.words
        totals = words.totals[1]
        numbers = np.arange(len(vocabulary), dtype=np.int32)
        as_article = np.zeros(len(numbers), np.float32)
        for article in SOURCE_ARTICLES & vocabulary.keys():
            as_article += words.counts[words.buckets(np.full_like(numbers, vocabulary[article]), numbers)]
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


def prefix_numbers(vocabulary: dict[str, int], length: int) -> np.ndarray:
    """A number for each word that it shares with the words that begin alike, below len(vocabulary).

    Words shorter than `length` and figures have numbers of their own.
    """
    first: dict[str, int] = {}
    numbers = (
        first.setdefault(word[:length], number) if len(word) >= length and not word[0].isdigit() else number
        for word, number in vocabulary.items()
    )
    return np.fromiter(numbers, np.int32, len(vocabulary))


def value_numbers(vocabulary: dict[str, int]) -> np.ndarray:
    """A number for each word, its own, but that of the figure for an English number word: "two" has that of "2"."""
    numbers = np.arange(len(vocabulary), dtype=np.int32)
    for value, word in enumerate(NUMBER_WORDS, 2):
        if word in vocabulary and str(value) in vocabulary:
            numbers[vocabulary[word]] = vocabulary[str(value)]
    return numbers
