"""Where an answer is in the translated context: candidates, their scores, the best one."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz import fuzz, process

from squadlib.cleaning.sentence_pairs import Sentence
from squadlib.cleaning.tokens import SOURCE_ARTICLES, Span, fold, fold_text, tokenize, usable_text, without_article
from squadlib.cleaning.word_alignment import MAX_SENTENCE_TOKENS, WordAligner

# Score of a candidate: how much it reads like the isolated translation, how many of its words are translations of the
# answer's words, and how near it is to the relative place of the answer. Moving one by 0.1 changes F1 by less than 0.3.
LEXICAL_WEIGHT, ALIGNMENT_WEIGHT, POSITION_WEIGHT = 0.45, 0.45, 0.1
POSITION_SCALE = 60  # characters
REORDERED = SOURCE_KEPT = 0.97  # lexical similarity counts a little less in another word order, or with the source text
NOT_TRANSLATED = "the answer is not translated"
NOT_LITERAL = "its translation does not stand in the context letter by letter"
NO_SENTENCE = "the sentence of the answer is not translated"
BAD_OFFSET = "the answer is not in the source context"
NO_PLACE = "nothing in the translated sentence can be the answer"
NO_ANSWER = "the source has no answer"
LOW_CONFIDENCE = "no place is likely enough (--min_confidence)"
QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』"
EDGES = "([{<)]}>.,;:!?…¿¡-–—/"


@dataclass(frozen=True)
class Translation:
    """A paragraph in both languages. Without a usable translation, target is empty and `fault` says why."""

    source: str
    target: str
    sentences: list[Sentence]
    fault: str = ""

    def spans_of(self, start: int, end: int) -> tuple[Span, Span] | None:
        """Spans of the sentences that hold source[start:end] and of their translations; None where there is none."""
        held = [sentence for sentence in self.sentences if sentence.start < end and start < sentence.end]
        if not held:  # the map has a hole here
            return (0, len(self.source)), (0, len(self.target))
        held = [sentence for sentence in held if sentence.target_start is not None]
        if not held:
            return None
        target = min(sentence.target_start for sentence in held), max(sentence.target_end for sentence in held)
        return (held[0].start, held[-1].end), target


@dataclass(frozen=True)
class Location:
    """Where an answer is in the translated context. start is None where it is not; then `strategy` says why."""

    start: int | None
    text: str
    strategy: str
    confidence: float = 0.0
    spans: tuple[Span, Span] | None = None  # the sentence of the answer, in the source and in the translation
    num_places: int = 0  # where the isolated translation stands, as whole tokens in any spelling
    resolved_by: str = ""  # what chose among several places

    @property
    def end(self) -> int:
        return (self.start or 0) + len(self.text)


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


def locate_literally(translation: Translation, answer: dict[str, Any]) -> Location:
    """The rule of the published Dutch set: the first place of the isolated translation, letter by letter."""
    isolated = usable_text(answer.get("iso_t"))
    if isolated is None:
        return Location(None, "", NOT_TRANSLATED)
    start = translation.target.find(isolated)
    return Location(start, isolated, "literal", 1.0) if start >= 0 else Location(None, "", NOT_LITERAL)


def source_offset(source: str, answer: dict[str, Any]) -> int | None:
    """Where the answer is in the source: at its offset, else at the occurrence nearest to it, else None."""
    text, start = answer["text"], answer["answer_start"]
    if not text.strip():
        return None
    if start >= 0 and source.startswith(text, start):
        return start
    places = [match.start() for match in re.finditer(re.escape(text), source)]
    return min(places, key=lambda place: abs(place - start), default=None)


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


def with_edges(target: str, span: Span, answer: str) -> Span:
    """The span with the quotes, brackets and full stops around it that the source answer has too."""
    start, end = span
    tokens = tokenize(answer)
    leading = {edge_kind(char) for char in answer[: tokens[0][0]]}
    trailing = {edge_kind(char) for char in answer[tokens[-1][1] :]}
    while start and edge_kind(target[start - 1]) in leading - {""}:
        start -= 1
    while end < len(target) and edge_kind(target[end]) in trailing - {""}:
        end += 1
    return start, end


def edge_kind(char: str) -> str:
    """The punctuation mark, one for all quotes; nothing for white space and what belongs to a word."""
    if char in QUOTES:
        return '"'
    return char if char in EDGES else ""


class Locator:
    """Finds the answers of one paragraph after the other: call open(translation), then locate(answer)."""

    def __init__(self, aligner: WordAligner, min_confidence: float):
        self.aligner = aligner
        self.min_confidence = min_confidence

    def open(self, translation: Translation) -> None:
        self.translation = translation
        self.tokens = tokenize(translation.target)
        self.starts = [start for start, _ in self.tokens]
        self.words = [fold(translation.target[start:end]) for start, end in self.tokens]
        self.posteriors: dict[tuple, np.ndarray] = {}  # of the sentences of this paragraph

    def locate(self, answer: dict[str, Any]) -> Location:
        """The best scored place of the answer in the current paragraph."""
        text, isolated = answer["text"], usable_text(answer.get("iso_t")) or ""
        start = source_offset(self.translation.source, answer)
        if start is None:
            return Location(None, "", BAD_OFFSET)
        spans = self.translation.spans_of(start, start + len(text))
        if spans is None:
            return Location(None, "", NO_SENTENCE)
        low, weights = self.align(spans, (start, start + len(text)))
        (source_start, source_end), (target_start, target_end) = spans
        expected = target_start + (start - source_start) / (source_end - source_start) * (target_end - target_start)
        if not len(weights) or not tokenize(text):
            return self.locate_symbol(isolated or text, expected, spans)
        candidates = self.candidates(low, weights, (fold_text(isolated), fold_text(text)), expected)
        return self.choose(candidates, (low, low + len(weights)), answer, spans)

    def align(self, spans: tuple[Span, Span], answer: Span) -> tuple[int, np.ndarray]:
        """(first token of the target sentence, P(it translates a word of the answer) for each of its tokens)."""
        source = tokenize(self.translation.source, *spans[0])
        low, high = (bisect_left(self.starts, place) for place in spans[1])
        inside = [number for number, (start, end) in enumerate(source) if start < answer[1] and answer[0] < end]
        if not inside or low == high:
            return low, np.zeros(high - low)
        first, last = crop(len(source), inside[0])
        shift, stop = crop(high - low, (high - low) * inside[0] // len(source))
        low, high = low + shift, low + stop
        key = spans, first, low
        if key not in self.posteriors:
            number = self.aligner.corpus.number
            left = number(self.translation.source, source[first:last])
            right = number(self.translation.target, self.tokens[low:high])
            self.posteriors[key] = self.aligner.posteriors(left, right)
        columns = [number - first for number in inside if number < last]
        return low, np.minimum(self.posteriors[key][:, columns].sum(axis=1), 1)

    def candidates(
        self, low: int, weights: np.ndarray, wanted: tuple[list[str], list[str]], expected: float
    ) -> Candidates:
        """Windows of the target sentence, and the isolated translation wherever it stands in the paragraph."""
        isolated, source = wanted
        high = low + len(weights)
        first, last = windows(low, high, (len(source), len(isolated) or len(source)))
        outside = [p for p in occurrences(self.words, isolated) if p < low or p + len(isolated) > high]
        first = np.concatenate((first, np.array(outside, np.int64)))
        last = np.concatenate((last, np.array(outside, np.int64) + len(isolated)))
        texts = [" ".join(self.words[a:b]) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        padded = np.zeros(len(self.words))
        padded[low:high] = weights
        distance = np.abs(np.array(self.starts)[first] - expected)
        return Candidates(
            first,
            last,
            lexical_similarity(texts, isolated, source, self.aligner.articles),
            overlap_with_alignment(first, last, padded),
            np.exp(-distance / POSITION_SCALE),
        )

    def choose(
        self, candidates: Candidates, sentence: Span, answer: dict[str, Any], spans: tuple[Span, Span]
    ) -> Location:
        """The best candidate as a Location, or none when its confidence is too low."""
        best = candidates.best()
        first, last = int(candidates.first[best]), int(candidates.last[best])
        target, isolated = self.translation.target, usable_text(answer.get("iso_t")) or ""
        start, end = with_edges(target, (self.starts[first], self.tokens[last - 1][1]), answer["text"])
        words, wanted, articles = self.words[first:last], fold_text(isolated), self.aligner.articles
        if first < sentence[0] or last > sentence[1]:
            strategy = "outside its sentence"
        elif target[start:end] == isolated:
            strategy = "letter by letter"
        elif words == wanted:
            strategy = "other spelling"
        elif without_article(words, articles) == without_article(wanted, articles):
            strategy = "other article"
        elif words == fold_text(answer["text"]):
            strategy = "source text kept"
        else:
            strategy = "similar words" if candidates.lexical[best] >= 0.8 else "word alignment"
        confidence = round(float(candidates.scores()[best]), 4)
        places = occurrences(self.words, wanted)
        resolved_by = resolution(candidates, best, places, sentence) if len(places) > 1 else ""
        if confidence < self.min_confidence:
            return Location(None, target[start:end], LOW_CONFIDENCE, confidence, spans, len(places))
        return Location(start, target[start:end], strategy, confidence, spans, len(places), resolved_by)

    def locate_symbol(self, text: str, expected: float, spans: tuple[Span, Span]) -> Location:
        """An answer without a word ("…", "→"), or without words to search in: its nearest literal occurrence."""
        places = [match.start() for match in re.finditer(re.escape(text), self.translation.target)]
        if not places:
            return Location(None, "", NO_PLACE, 0.0, spans)
        return Location(min(places, key=lambda place: abs(place - expected)), text, "symbol", 1.0, spans, len(places))


def crop(length: int, middle: int) -> Span:
    """At most MAX_SENTENCE_TOKENS of 0..length around `middle`: a page without a full stop is no sentence."""
    first = max(0, min(middle - MAX_SENTENCE_TOKENS // 2, length - MAX_SENTENCE_TOKENS))
    return first, min(length, first + MAX_SENTENCE_TOKENS)


def resolution(candidates: Candidates, best: int, places: list[int], sentence: Span) -> str:
    """What chose among the places where the isolated translation stands."""
    first = int(candidates.first[best])
    if first not in places:
        return "another wording won"
    inside = [place for place in places if sentence[0] <= place < sentence[1]]
    if inside == [first]:
        return "the sentence map"
    same = (candidates.last - candidates.first == candidates.last[best] - candidates.first[best]) & np.isin(
        candidates.first, inside
    )
    rivals = candidates.overlap[same & (candidates.first != first)]
    clear = len(rivals) and candidates.overlap[best] > rivals.max() + 0.05
    return "the word alignment" if clear else "the position"
