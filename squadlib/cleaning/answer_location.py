"""Where an answer is in the translated context."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.candidates import Candidates, lexical_similarity, occurrences, overlap_with_alignment, windows
from squadlib.cleaning.tokens import Span, fold, fold_text, tokenize, without_article
from squadlib.cleaning.translated_document import Paragraph, SourceAnswer
from squadlib.cleaning.word_alignment import MAX_SENTENCE_TOKENS, WordAligner

POSITION_SCALE = 60  # characters
NOT_TRANSLATED = "the answer is not translated"
NOT_LITERAL = "its translation does not stand in the context letter by letter"
NO_SENTENCE = "the sentence of the answer is not translated"
BAD_OFFSET = "the answer is not in the source context"
NO_PLACE = "nothing in the translated sentence can be the answer"
LOW_CONFIDENCE = "no place is likely enough (--min_confidence)"
QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』"
EDGES = "([{<)]}>.,;:!?…¿¡-–—/"


class Location(NamedTuple):
    """Where an answer is in the translated context. start is None where it is not; then `strategy` says why."""

    start: int | None
    text: str
    strategy: str
    confidence: float = 0.0
    spans: tuple[Span, Span] | None = None  # the sentence of the answer, in the source and in the translation
    num_places: int = 0  # where the isolated translation stands, as whole tokens in any spelling
    resolved_by: str = ""  # what chose among several places

    @property
    def span(self) -> Span | None:
        return None if self.start is None else (self.start, self.start + len(self.text))


def locate_literally(paragraph: Paragraph, answer: SourceAnswer) -> Location:
    """The rule of the published Dutch set: the first place of the isolated translation, letter by letter."""
    if answer.isolated is None:
        return Location(None, "", NOT_TRANSLATED)
    start = paragraph.target.find(answer.isolated)
    return Location(start, answer.isolated, "literal", 1.0) if start >= 0 else Location(None, "", NOT_LITERAL)


def source_offset(source: str, answer: SourceAnswer) -> int | None:
    """Where the answer is in the source: at its offset, else at the occurrence nearest to it, else None."""
    if not answer.text.strip():
        return None
    if answer.start >= 0 and source.startswith(answer.text, answer.start):
        return answer.start
    return nearest_occurrence(source, answer.text, answer.start)[0]


def nearest_occurrence(text: str, wanted: str, expected: float) -> tuple[int | None, int]:
    """(the place of `wanted` nearest to `expected`, the number of places)."""
    places = [match.start() for match in re.finditer(re.escape(wanted), text)]
    return min(places, key=lambda place: abs(place - expected), default=None), len(places)


class AnswerLocator:
    """Finds the answers of one paragraph by wording, word alignment and position."""

    def __init__(self, paragraph: Paragraph, aligner: WordAligner, min_confidence: float):
        self.paragraph, self.aligner, self.min_confidence = paragraph, aligner, min_confidence
        self.tokens = tokenize(paragraph.target)
        self.starts = [start for start, _ in self.tokens]
        self.words = [fold(paragraph.target[start:end]) for start, end in self.tokens]
        self.posteriors: dict[tuple[tuple[Span, Span], int, int], np.ndarray] = {}  # by sentences and first tokens

    def locate(self, answer: SourceAnswer) -> Location:
        """The best scored place of the answer."""
        start = source_offset(self.paragraph.source, answer)
        if start is None:
            return Location(None, "", BAD_OFFSET)
        span = start, start + len(answer.text)
        spans = self.paragraph.spans_of(*span)
        if spans is None:
            return Location(None, "", NO_SENTENCE)
        low, weights = self.align(spans, span)
        (source_start, source_end), (target_start, target_end) = spans
        expected = target_start + (start - source_start) / (source_end - source_start) * (target_end - target_start)
        if not len(weights) or not tokenize(answer.text):
            return self.locate_symbol(answer.isolated or answer.text, expected, spans)
        isolated = fold_text(answer.isolated or "")
        candidates = self.candidates(low, weights, (isolated, fold_text(answer.text)), expected)
        return self.choose(candidates, (low, low + len(weights)), answer, isolated, spans)

    def align(self, spans: tuple[Span, Span], answer: Span) -> tuple[int, np.ndarray]:
        """(first token of the target sentence, P(it translates a word of the answer) for each of its tokens)."""
        source = tokenize(self.paragraph.source, *spans[0])
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
            left = number(self.paragraph.source, source[first:last])
            right = number(self.paragraph.target, self.tokens[low:high])
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
        self,
        candidates: Candidates,
        sentence: Span,
        answer: SourceAnswer,
        isolated: list[str],
        spans: tuple[Span, Span],
    ) -> Location:
        """The best candidate as a Location, or none when its confidence is too low."""
        best = candidates.best()
        first, last = int(candidates.first[best]), int(candidates.last[best])
        start, end = with_edges(self.paragraph.target, (self.starts[first], self.tokens[last - 1][1]), answer.text)
        text = self.paragraph.target[start:end]
        confidence = round(float(candidates.scores()[best]), 4)
        places = occurrences(self.words, isolated)
        if confidence < self.min_confidence:
            return Location(None, text, LOW_CONFIDENCE, confidence, spans, len(places))
        if first < sentence[0] or last > sentence[1]:
            strategy = "outside its sentence"
        elif text == (answer.isolated or ""):
            strategy = "letter by letter"
        else:
            matched = self.what_matched(self.words[first:last], isolated, fold_text(answer.text))
            strategy = matched or ("similar words" if candidates.lexical[best] >= 0.8 else "word alignment")
        resolved_by = candidates.decided_by(best, places, sentence) if len(places) > 1 else ""
        return Location(start, text, strategy, confidence, spans, len(places), resolved_by)

    def what_matched(self, words: list[str], isolated: list[str], source: list[str]) -> str:
        """The wording that was found again, or nothing where it is a new one."""
        articles = self.aligner.articles
        if words == isolated:
            return "other spelling"
        if without_article(words, articles) == without_article(isolated, articles):
            return "other article"
        return "source text kept" if words == source else ""

    def locate_symbol(self, text: str, expected: float, spans: tuple[Span, Span]) -> Location:
        """An answer without a word ("…", "→"), or without words to search in: its nearest literal occurrence."""
        start, num_places = nearest_occurrence(self.paragraph.target, text, expected)
        if start is None:
            return Location(None, "", NO_PLACE, 0.0, spans)
        return Location(start, text, "symbol", 1.0, spans, num_places)


def crop(length: int, middle: int) -> Span:
    """At most MAX_SENTENCE_TOKENS of 0..length around `middle`: a page without a full stop is no sentence."""
    first = max(0, min(middle - MAX_SENTENCE_TOKENS // 2, length - MAX_SENTENCE_TOKENS))
    return first, min(length, first + MAX_SENTENCE_TOKENS)


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
