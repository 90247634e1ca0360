"""Whether paragraphs carry their own translations: each should fit its source better than its neighbours' do.

The words of a paragraph are looked for in its translation by what the aligner learned. Learning from a wrong pair makes
that pair fit too, so what a paragraph may have taught itself is taken off first: the rest comes from other paragraphs.
The same is done with the translations of the paragraphs beside it, which share its subject.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.corpus import Corpus, ParagraphWords
from squadlib.cleaning.word_alignment import SAME_PREFIX_COUNT, SAME_STEM_COUNT, LexicalTable, WordAligner

WRONG_TRANSLATION = "the paragraph carries the translation of another one"
CHANCE = 100.0  # two words translate each other when they are seen together this many times as often as by chance
MAX_WORDS = 100  # distinct words of a text that are looked at, the rarest ones
MAX_CELLS = 1 << 26  # pairs of words that are looked at in a whole file
MIN_PARAGRAPHS = 50  # with fewer, too little is learned to tell
CLEAR = 3.0  # standard errors, or standard deviations, that a difference must have to count


class Bag(NamedTuple):
    """A paragraph and its translation as words.

    looked_at: distinct words of the two texts; taught: (words, counts) of them and their questions and answers.
    """

    looked_at: tuple[np.ndarray, np.ndarray]
    taught: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def empty(self) -> bool:
        return not all(map(len, self.looked_at))

    def same_text(self, other: Bag) -> bool:
        return any(np.array_equal(a, b) for a, b in zip(self.looked_at, other.looked_at, strict=True))

    def times(self, side: int, asked: np.ndarray) -> np.ndarray:
        """How often each of the asked words stands in this paragraph, its questions and answers."""
        words, counts = self.taught[side]
        place = np.minimum(np.searchsorted(words, asked), len(words) - 1)
        return np.where(words[place] == asked, counts[place], 0)


@dataclass(frozen=True)
class Pairing:
    """How paragraphs and translations belong together. fit: NaN where there is nothing to compare with."""

    fit: np.ndarray  # of each paragraph: share of its words that its own translation explains, less the neighbours'
    wrong: np.ndarray  # bool, of each paragraph: it carries another text's translation
    tested: bool  # whether there is enough to tell

    def split(self, sizes: list[int]) -> list[Pairing]:
        """Of files that were looked at together, each on its own. sizes: their numbers of paragraphs."""
        ends = np.cumsum(sizes)[:-1]
        parts = zip(np.split(self.fit, ends), np.split(self.wrong, ends), strict=True)
        return [Pairing(fit, wrong, self.tested) for fit, wrong in parts]


def check_pairing(aligner: WordAligner) -> Pairing:
    """What each paragraph of the aligner's corpus has to do with its translation."""
    bags, number_of = make_bags(aligner.corpus)
    fit, spread = measure_fit(aligner.table, bags)
    lowest = lowest_fit(fit[~np.isnan(fit)], spread)
    return Pairing(fit[number_of], (fit < lowest)[number_of], lowest > -math.inf)


def lowest_fit(fit: np.ndarray, spread: float) -> float:
    """What a paragraph must reach; minus infinity where the file is too small to tell.

    spread: standard deviation of the fit of texts that do not belong together.
    """
    if len(fit) < MIN_PARAGRAPHS:
        return -math.inf
    if fit.mean() < 0:
        return math.inf  # all in all the neighbours' translations fit better: the file is mismatched
    if fit.mean() <= CLEAR * fit.std() / math.sqrt(len(fit)):
        return -math.inf
    middle, high = np.quantile(fit[fit > 0], (0.5, 0.84))  # the upper half is free of wrong pairs
    return float(min(middle - CLEAR * (high - middle), spread))


def make_bags(corpus: Corpus) -> tuple[list[Bag], np.ndarray]:
    """(the different pairs of paragraph and translation, the number of that pair for each paragraph)."""
    words = [np.array(side, np.int64) for side in corpus.words]
    frequency = [np.bincount(side, minlength=len(corpus.vocabulary)) for side in words]
    pairs: dict[tuple[bytes, bytes], list[ParagraphWords]] = {}
    keys = []
    for paragraph in corpus.paragraphs:
        keys.append((words[0][paragraph.context[0]].tobytes(), words[1][paragraph.context[1]].tobytes()))
        pairs.setdefault(keys[-1], []).append(paragraph)
    max_words = int(min(MAX_WORDS, math.sqrt(MAX_CELLS / max(1, 3 * len(pairs)))))
    bags = []
    for same in pairs.values():
        looked_at, taught = [], []
        for side in (0, 1):
            distinct = np.unique(words[side][same[0].context[side]])
            looked_at.append(distinct[np.argsort(frequency[side][distinct], kind="stable")][:max_words])
            everything = np.concatenate([words[side][paragraph.everything[side]] for paragraph in same])
            taught.append(np.unique(everything, return_counts=True))
        bags.append(Bag((looked_at[0], looked_at[1]), (taught[0], taught[1])))
    numbers = {key: number for number, key in enumerate(pairs)}
    return bags, np.array([numbers[key] for key in keys], np.int64)


def measure_fit(table: LexicalTable, bags: list[Bag]) -> tuple[np.ndarray, float]:
    """(the fit of each pair, the standard deviation that it has by chance)."""
    num_words = float(table.words.totals[0].sum())
    own = np.array([math.nan if bag.empty() else explained(table, num_words, bag, bag) for bag in bags])
    neighbours: list[list[float]] = [[] for _ in bags]
    differences = []
    for number, bag in enumerate(bags):
        beside = (number + 1) % len(bags)
        comparable = not (bag.empty() or bags[beside].empty() or bag.same_text(bags[beside]))
        if comparable:
            crossed = explained(table, num_words, bag, bags[beside]), explained(table, num_words, bags[beside], bag)
            neighbours[number] += crossed
            neighbours[beside] += crossed
            differences.append(crossed[0] - crossed[1])
    others = np.array([np.mean(some) if some else math.nan for some in neighbours])
    # the difference of two of them varies by 2 variances, that of one and the mean of four by 1.25
    spread = math.sqrt(1.25 / 2 * np.mean(np.square(differences))) if differences else 0.0
    return own - others, spread


def explained(table: LexicalTable, num_words: float, left: Bag, right: Bag) -> float:
    """The share of words with a translation on the other side: the source of `left`, the target of `right`."""
    source, target, words = left.looked_at[0], right.looked_at[1], table.words
    seen = words.counts[words.buckets(source[None, :], target[:, None])]
    for bag in (left,) if left is right else (left, right):  # less what these two can have taught at most
        seen -= np.minimum(bag.times(0, source)[None, :], bag.times(1, target)[:, None]).astype(np.float32)
    seen = np.maximum(seen, 0)
    seen += (source[None, :] == target[:, None]) * np.float32(SAME_STEM_COUNT)
    seen += (table.looks[source][None, :] == table.looks[target][:, None]) * np.float32(SAME_PREFIX_COUNT)
    seen *= seen / (seen + np.float32(0.5))
    by_chance = (words.totals[0][source] + 1)[None, :] * (words.totals[1][target] + 1)[:, None]
    translated = seen > by_chance * (np.float32(CHANCE / num_words))
    return (np.count_nonzero(translated.any(0)) / len(source) + np.count_nonzero(translated.any(1)) / len(target)) / 2
