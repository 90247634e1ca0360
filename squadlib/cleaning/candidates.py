"""The runs of whole tokens that can be an answer, and how well each of them fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process

from squadlib.cleaning.tokens import SOURCE_ARTICLES, Span, without_article

# Score of a candidate: how much it reads like the isolated translation, how many of its words are translations of the
# answer's words, and how near it is to the relative place of the answer. Moving one by 0.1 changes F1 by less than 0.3.
LEXICAL_WEIGHT, ALIGNMENT_WEIGHT, POSITION_WEIGHT = 0.45, 0.45, 0.1
REORDERED = SOURCE_KEPT = 0.97  # lexical similarity counts a little less in another word order, or with the source text


@dataclass(frozen=True)
class Candidates:
    """Token windows of a translated context, as parallel arrays. first, last: token numbers, last excluded."""

    first: np.ndarray
    last: np.ndarray
    lexical: np.ndarray  # 0 to 1: reads like the isolated translation, or like the source
    overlap: np.ndarray  # 0 to 1: its words are the translations of the answer's words
    nearness: np.ndarray  # 0 to 1: stands where the answer stands in the source

    def scores(self) -> np.ndarray:
        return LEXICAL_WEIGHT * self.lexical**2 + ALIGNMENT_WEIGHT * self.overlap + POSITION_WEIGHT * self.nearness

    def best(self) -> int:
        """The highest score; ties go to more alignment, then nearer, then longer, then first."""
        shorter = self.first - self.last
        return int(np.lexsort((self.first, shorter, -self.nearness, -self.overlap, -self.scores().round(6)))[0])

    def decided_by(self, best: int, places: list[int], sentence: Span) -> str:
        """What chose candidate `best` among the places (token numbers) where the isolated translation stands."""
        first = int(self.first[best])
        if first not in places:
            return "another wording won"
        inside = [place for place in places if sentence[0] <= place < sentence[1]]
        if inside == [first]:
            return "the sentence map"
        same = (self.last - self.first == self.last[best] - self.first[best]) & np.isin(self.first, inside)
        rivals = self.overlap[same & (self.first != first)]
        clear = len(rivals) and self.overlap[best] > rivals.max() + 0.05
        return "the word alignment" if clear else "the position"


def occurrences(words: list[str], wanted: list[str]) -> list[int]:
    """Where the list `wanted` stands in the list `words`."""
    length = len(wanted)
    places = range(len(words) - length + 1) if wanted else ()
    return [place for place in places if words[place] == wanted[0] and words[place : place + length] == wanted]


def windows(low: int, high: int, num_words: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) of all windows in tokens low..high whose length suits an answer and its isolated translation."""
    size = high - low
    shortest, longest = max(1, min(num_words) // 2), max(num_words) * 3 // 2 + 3
    lengths = np.arange(min(shortest, size), min(longest, size) + 1)
    first = np.concatenate([np.arange(low, high - length + 1) for length in lengths])
    return first, first + np.repeat(lengths, size - lengths + 1)


def lexical_similarity(
    texts: list[str], isolated: list[str], source: list[str], articles: frozenset[str]
) -> np.ndarray:
    """0 to 1 for each text (folded words): like the isolated translation, or like the source, as names are.

    articles: of the target language; "votes" alone may be translated as "de stemmen", in the sentence as "stemmen".
    """
    bare_source = without_article(source, SOURCE_ARTICLES)
    variants = {" ".join(isolated): 1.0, " ".join(source): SOURCE_KEPT, " ".join(bare_source): SOURCE_KEPT}
    if bare_source == source:
        variants.setdefault(" ".join(without_article(isolated, articles)), 1.0)
    best = np.zeros(len(texts), np.float32)
    for variant, factor in variants.items():
        if variant:
            same_order = process.cdist([variant], texts, scorer=fuzz.ratio)[0]
            any_order = process.cdist([variant], texts, scorer=fuzz.token_sort_ratio)[0]
            best = np.maximum(best, factor / 100 * np.maximum(same_order, REORDERED * any_order))
    return best


def overlap_with_alignment(first: np.ndarray, last: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Soft F1 of each window and the words aligned with the answer. weights: P(aligned), one a token."""
    sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
    return 2 * (sums[last] - sums[first]) / (last - first + sums[-1])
