"""The runs of whole tokens that can be an answer, how well each of them fits, and the best one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from squadlib.cleaning.tokens import SOURCE_ARTICLES, Span, without_article

# Score of a candidate: how much it reads like the isolated translation, how many of its words are translations of the
# answer's words, and how near it is to the relative place of the answer. Moving one by 0.1 changes F1 by less than 0.3.
LEXICAL_WEIGHT, ALIGNMENT_WEIGHT, POSITION_WEIGHT = 0.45, 0.45, 0.1
REORDERED = SOURCE_KEPT = 0.97  # lexical similarity counts a little less in another word order, or with the source text
POSITION_SCALE = 60  # characters
MAX_VARIANTS = 3  # texts that a candidate may read like
ROUNDING = 1e-5  # scores are compared to six digits; a bound this far below the best can be no tie
RUNS_AT_A_TIME = 1 << 18  # of all searches that are made together; one search with more is made alone


class Search(NamedTuple):
    """An answer to look for in the folded words of a translated context. Spans and places are token numbers."""

    words: list[str]
    lengths: np.ndarray  # of the words, in characters
    starts: np.ndarray  # of the words in the context, in characters
    sentence: Span  # where every run is a candidate; not empty
    weights: np.ndarray  # P(it translates a word of the answer) for each token of the sentence
    num_words: tuple[int, int]  # of the answer and of its isolated translation
    places: list[int]  # where the isolated translation stands: candidates outside the sentence too
    variants: dict[str, float]  # what a candidate may read like, and what that counts
    expected: float  # where the answer would begin, in characters, if both sentences ran at the same pace

    def run_lengths(self) -> Span:
        """The shortest and the longest run, in words, that suit an answer and its isolated translation."""
        size = self.sentence[1] - self.sentence[0]
        shortest, longest = max(1, min(self.num_words) // 2), max(self.num_words) * 3 // 2 + 3
        return min(shortest, size), min(longest, size)

    def outside(self) -> list[int]:
        """The places of the isolated translation that are not in the sentence."""
        (low, high), length = self.sentence, self.num_words[1]
        return [place for place in self.places if place < low or place + length > high]

    def num_runs(self) -> int:
        shortest, longest = self.run_lengths()
        size = self.sentence[1] - self.sentence[0]
        return (longest - shortest + 1) * (2 * size - shortest - longest + 2) // 2 + len(self.outside())

    def overlap(self, place: int, length: int) -> float:
        """Soft F1 of the run of this length at this place and the words aligned with the answer."""
        inside = slice(max(0, place - self.sentence[0]), max(0, place + length - self.sentence[0]))
        return float(2 * self.weights[inside].sum() / (length + self.weights.sum()))


class Choice(NamedTuple):
    """The best candidate of a search. first, last: token numbers, last excluded."""

    first: int
    last: int
    lexical: float  # 0 to 1: reads like the isolated translation, or like the source
    overlap: float  # 0 to 1: its words are the translations of the answer's words
    nearness: float  # 0 to 1: stands where the answer stands in the source
    score: float

    def decided_by(self, search: Search) -> str:
        """What chose this one among the places where the isolated translation stands."""
        first, length, (low, high) = self.first, self.last - self.first, search.sentence
        if first not in search.places:
            return "another wording won"
        inside = [place for place in search.places if low <= place < high]
        if inside == [first]:
            return "the sentence map"
        rivals = [
            search.overlap(place, length)
            for place in inside
            if place != first and (place + length <= high or length == search.num_words[1])
        ]
        clear = rivals and self.overlap > max(rivals) + 0.05
        return "the word alignment" if clear else "the position"


def variants(isolated: list[str], source: list[str], articles: frozenset[str]) -> dict[str, float]:
    """What a translated answer may read like, and what that counts: its isolated translation, or the source.

    articles: of the target language; "votes" alone may be translated as "de stemmen", in the sentence as "stemmen".
    """
    bare_source = without_article(source, SOURCE_ARTICLES)
    found = {" ".join(isolated): 1.0, " ".join(source): SOURCE_KEPT, " ".join(bare_source): SOURCE_KEPT}
    if bare_source == source:
        found.setdefault(" ".join(without_article(isolated, articles)), 1.0)
    return {text: factor for text, factor in found.items() if text}


def occurrences(words: list[str], wanted: list[str]) -> list[int]:
    """Where the list `wanted` stands in the list `words`."""
    length = len(wanted)
    places = range(len(words) - length + 1) if wanted else ()
    return [place for place in places if words[place] == wanted[0] and words[place : place + length] == wanted]


def best_choices(searches: list[Search]) -> Iterator[Choice]:
    """The best candidate of each search."""
    together: list[Search] = []
    size = 0
    for search in searches:
        more = search.num_runs() + len(search.words)
        if together and size + more > RUNS_AT_A_TIME:
            yield from Candidates(together).best()
            together, size = [], 0
        together.append(search)
        size += more
    if together:
        yield from Candidates(together).best()


class Candidates:
    """The candidates of some searches, as parallel arrays grouped by search.

    Of some 200 runs that can be an answer a few can be the best: how similar a run is to a text is limited by their
    lengths, and is worked out only where that limit does not keep the run below the best that is known.
    """

    def __init__(self, searches: list[Search]):
        self.searches = searches
        self.words = [word for search in searches for word in search.words]
        sizes = np.array([len(search.words) for search in searches])
        self.base = np.cumsum(sizes) - sizes  # of each search in `words`
        self.search, self.first, self.last = self.runs()
        self.groups = np.searchsorted(self.search, np.arange(len(searches)))
        self.overlap = self.overlap_with_alignment()
        starts = np.concatenate([search.starts for search in searches])
        expected = np.array([search.expected for search in searches])
        self.nearness = np.exp(-np.abs(starts[self.first] - expected[self.search]) / POSITION_SCALE)
        self.known = ALIGNMENT_WEIGHT * self.overlap + POSITION_WEIGHT * self.nearness  # the score without its wording
        texts = [[*search.variants.items()] + [("", 0.0)] * MAX_VARIANTS for search in searches]
        self.variants = [[row[number][0] for row in texts] for number in range(MAX_VARIANTS)]
        self.factors = np.array([[row[number][1] for row in texts] for number in range(MAX_VARIANTS)])

    def runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the search, first and last token of each candidate)."""
        low, high = np.array([search.sentence for search in self.searches]).T
        shortest, longest = np.array([search.run_lengths() for search in self.searches]).T
        num_lengths = longest - shortest + 1
        of_length = np.repeat(np.arange(len(self.searches)), num_lengths)
        length = counting_from(shortest, num_lengths)
        num_places = (high - low)[of_length] - length + 1
        search = np.repeat(of_length, num_places)
        first = counting_from((self.base + low)[of_length], num_places)
        last = first + np.repeat(length, num_places)
        outside = [
            (number, self.base[number] + place, self.base[number] + place + wanted.num_words[1])
            for number, wanted in enumerate(self.searches)
            for place in wanted.outside()
        ]
        if outside:
            search, first, last = (
                np.concatenate((inside, more))
                for inside, more in zip((search, first, last), np.array(outside).T, strict=True)
            )
            order = np.argsort(search, kind="stable")
            search, first, last = search[order], first[order], last[order]
        return search, first, last

    def overlap_with_alignment(self) -> np.ndarray:
        """Soft F1 of each candidate and the words aligned with the answer."""
        weights = np.zeros(len(self.words) + 1)
        for base, search in zip(self.base.tolist(), self.searches, strict=True):
            weights[base + search.sentence[0] + 1 : base + search.sentence[1] + 1] = search.weights
        sums = np.cumsum(weights)
        total = np.array([search.weights.sum(dtype=np.float64) for search in self.searches])
        return 2 * (sums[self.last] - sums[self.first]) / (self.last - self.first + total[self.search])

    def highest_scores(self) -> np.ndarray:
        """What each candidate can score at most: two texts share at most all characters of the shorter one."""
        chars = np.cumsum(np.concatenate([[0], *(search.lengths + 1 for search in self.searches)]))
        length = (chars[self.last] - chars[self.first] - 1).astype(np.float32)
        lexical = np.zeros(len(length), np.float32)
        for texts, factors in zip(self.variants, self.factors.astype(np.float32), strict=True):
            wanted = np.array([len(text) for text in texts], np.float32)[self.search]
            limit = np.minimum(length, wanted)
            limit /= length + wanted
            limit *= 2 * factors[self.search]
            np.maximum(lexical, limit, out=lexical)
        return self.known + LEXICAL_WEIGHT * lexical**2

    def best(self) -> list[Choice]:
        """The highest score of each search; ties go to more alignment, then nearer, then longer, then first."""
        highest = self.highest_scores()
        top = np.maximum.reduceat(highest, self.groups)
        chosen = np.flatnonzero(highest >= top[self.search])
        lexical = self.lexical_similarity(chosen)
        best = np.zeros(len(self.searches))
        np.maximum.at(best, self.search[chosen], self.scores(chosen, lexical))
        rest = np.flatnonzero((highest >= best[self.search] - ROUNDING) & (highest < top[self.search]))
        rest = rest[np.lexsort((-highest[rest], self.search[rest]))]
        while len(rest):  # first the most promising ones of each search, then those that are still possible
            rank = np.arange(len(rest)) - np.searchsorted(self.search[rest], self.search[rest])
            now = rest[rank < 4]
            similar = self.lexical_similarity(now)
            chosen, lexical = np.concatenate((chosen, now)), np.concatenate((lexical, similar))
            np.maximum.at(best, self.search[now], self.scores(now, similar))
            rest = rest[rank >= 4]
            rest = rest[highest[rest] >= best[self.search[rest]] - ROUNDING]
        return self.choices(chosen, lexical)

    def scores(self, chosen: np.ndarray, lexical: np.ndarray) -> np.ndarray:
        return LEXICAL_WEIGHT * lexical**2 + self.known[chosen]

    def choices(self, chosen: np.ndarray, lexical: np.ndarray) -> list[Choice]:
        """The best of the chosen candidates for each search."""
        search, first, last, overlap, nearness = (
            column[chosen] for column in (self.search, self.first, self.last, self.overlap, self.nearness)
        )
        scores = self.scores(chosen, lexical)
        order = np.lexsort((first, first - last, -nearness, -overlap, -scores.round(6), search))
        best = order[np.searchsorted(search[order], np.arange(len(self.searches)))]
        first, last = first[best] - self.base, last[best] - self.base
        columns = (first, last, lexical[best], overlap[best], nearness[best], scores[best])
        return [Choice(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def lexical_similarity(self, chosen: np.ndarray) -> np.ndarray:
        """0 to 1 for each chosen candidate: like the isolated translation, or like the source, as names are."""
        words, search = self.words, self.search[chosen]
        runs = zip(self.first[chosen].tolist(), self.last[chosen].tolist(), strict=True)
        texts = [" ".join(words[first:last]) for first, last in runs]
        best = np.zeros(len(chosen), np.float32)
        for variants, factors in zip(self.variants, self.factors[:, search], strict=True):
            for scorer, weight in ((fuzz.ratio, 1.0), (fuzz.token_sort_ratio, REORDERED)):
                asked = np.flatnonzero(factors * weight > best).tolist()
                if asked:
                    pairs = [variants[number] for number in search[asked].tolist()], [texts[n] for n in asked]
                    similar = process.cpdist(*pairs, scorer=scorer) * np.float32(weight)
                    best[asked] = np.maximum(best[asked], (factors[asked] / 100).astype(np.float32) * similar)
        return best


def counting_from(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, … counts[0] times, then the same from first[1], and so on."""
    return np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
