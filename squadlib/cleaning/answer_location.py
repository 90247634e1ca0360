"""Where an answer is in the translated context."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.candidates import Candidates, lexical_similarity, occurrences, overlap_with_alignment, windows
from squadlib.cleaning.confidence import probability, weigh
from squadlib.cleaning.corpus import Corpus, Numbers, stretches
from squadlib.cleaning.tokens import Span, fold, fold_text, tokenize, without_article
from squadlib.cleaning.translated_document import Paragraph, SourceAnswer
from squadlib.cleaning.word_alignment import WordAligner

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


class Stretch(NamedTuple):
    """The sentence of an answer and its translation, as far as they are aligned at a time: (first, last) tokens."""

    source: Span
    target: Span


class TokenizedParagraph:
    """A paragraph as tokens: what a search for its answers works on."""

    def __init__(self, paragraph: Paragraph):
        self.paragraph = paragraph
        self.source_tokens = tokenize(paragraph.source)
        self.tokens = tokenize(paragraph.target)
        self.starts = [start for start, _ in self.tokens]
        self.words = [fold(paragraph.target[start:end]) for start, end in self.tokens]

    def source_words(self, span: Span) -> Span:
        """(first, last) of the source tokens that have a part in these characters."""
        first = bisect_right(self.source_tokens, span[0], key=lambda token: token[1])
        return first, max(first, bisect_left(self.source_tokens, span[1], key=lambda token: token[0]))

    def source_words_of(self, stretch: Stretch, span: Span) -> Span:
        """The same, counted from the first token of the stretch."""
        first, last = self.source_words(span)
        low, high = stretch.source
        return min(max(first, low), high) - low, min(max(last, low), high) - low

    def stretch(self, answer: Span, spans: tuple[Span, Span]) -> Stretch:
        """What to align for an answer in these sentences (spans in characters); empty where there is no word."""
        source = self.source_words(spans[0])
        target = bisect_left(self.starts, spans[1][0]), bisect_left(self.starts, spans[1][1])
        parts = stretches(source[1] - source[0], target[1] - target[0])
        if not parts:
            return Stretch((source[0], source[0]), target)
        place = (self.source_words(answer)[0] - source[0]) / (source[1] - source[0])
        number = min(max(0, round(place * (len(parts) + 1)) - 1), len(parts) - 1)
        left, right = parts[number]
        return Stretch((source[0] + left[0], source[0] + left[1]), (target[0] + right[0], target[0] + right[1]))

    def answer_stretches(self) -> list[Stretch]:
        """The different stretches that hold an answer and can be aligned."""
        found: dict[Stretch, None] = {}
        for question in self.paragraph.questions:
            for answer in () if question.is_impossible else question.answers:
                place = source_place(self.paragraph, answer)
                if place and place[1]:
                    found[self.stretch(place[0], place[1])] = None
        return [stretch for stretch in found if stretch.source[0] < stretch.source[1]]

    def number(self, stretch: Stretch, corpus: Corpus) -> Numbers:
        source = corpus.number(self.paragraph.source, self.source_tokens[slice(*stretch.source)])
        return source, corpus.number(self.paragraph.target, self.tokens[slice(*stretch.target)])


def source_place(paragraph: Paragraph, answer: SourceAnswer) -> tuple[Span, tuple[Span, Span] | None] | None:
    """(characters of the answer in the source, its sentence and translation if it has one), None without an answer."""
    start = source_offset(paragraph.source, answer)
    if start is None:
        return None
    span = start, start + len(answer.text)
    return span, paragraph.spans_of(*span)


def make_locators(paragraphs: list[Paragraph], aligner: WordAligner, min_confidence: float) -> list[AnswerLocator]:
    """A locator for each paragraph. The sentences of all their answers are aligned side by side, which is quicker."""
    texts = [TokenizedParagraph(paragraph) for paragraph in paragraphs]
    wanted = [text.answer_stretches() for text in texts]
    numbers = [
        text.number(stretch, aligner.corpus) for text, some in zip(texts, wanted, strict=True) for stretch in some
    ]
    aligned = iter(aligner.align(numbers) if numbers else [])
    return [
        AnswerLocator(text, {stretch: next(aligned) for stretch in some}, aligner.articles, min_confidence)
        for text, some in zip(texts, wanted, strict=True)
    ]


class AnswerLocator:
    """Finds the answers of one paragraph by wording, word alignment and position.

    posteriors: of the stretches that hold its answers, (target tokens, source tokens).
    """

    def __init__(
        self,
        text: TokenizedParagraph,
        posteriors: dict[Stretch, np.ndarray],
        articles: frozenset[str],
        min_confidence: float,
    ):
        self.paragraph, self.tokens, self.starts, self.words = text.paragraph, text.tokens, text.starts, text.words
        self.text, self.posteriors, self.articles, self.min_confidence = text, posteriors, articles, min_confidence

    def locate(self, answer: SourceAnswer) -> Location:
        """The best scored place of the answer."""
        place = source_place(self.paragraph, answer)
        if place is None:
            return Location(None, "", BAD_OFFSET)
        span, spans = place
        if spans is None:
            return Location(None, "", NO_SENTENCE)
        stretch, expected = self.text.stretch(span, spans), expected_start(span[0], spans)
        source = fold_text(answer.text)
        if not source or stretch.target[0] == stretch.target[1]:
            return self.locate_symbol(answer.isolated or answer.text, expected, spans)
        isolated = fold_text(answer.isolated or "")
        candidates = self.candidates(stretch, self.weights(stretch, span), (isolated, source), expected)
        return self.choose(candidates, stretch, span, answer, isolated, spans)

    def weights(self, stretch: Stretch, answer: Span) -> np.ndarray:
        """P(it translates a word of the answer) for each target token of the stretch."""
        if stretch not in self.posteriors:
            return np.zeros(stretch.target[1] - stretch.target[0])
        first, last = self.text.source_words_of(stretch, answer)
        return np.minimum(self.posteriors[stretch][:, first:last].sum(axis=1), 1)

    def candidates(
        self, stretch: Stretch, weights: np.ndarray, wanted: tuple[list[str], list[str]], expected: float
    ) -> Candidates:
        """Windows of the target sentence, and the isolated translation wherever it stands in the paragraph."""
        isolated, source = wanted
        low, high = stretch.target
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
            lexical_similarity(texts, isolated, source, self.articles),
            overlap_with_alignment(first, last, padded),
            np.exp(-distance / POSITION_SCALE),
        )

    def choose(
        self,
        candidates: Candidates,
        stretch: Stretch,
        span: Span,
        answer: SourceAnswer,
        isolated: list[str],
        spans: tuple[Span, Span],
    ) -> Location:
        """The best candidate as a Location, or none when its confidence is too low."""
        best = candidates.best()
        first, last = int(candidates.first[best]), int(candidates.last[best])
        start, end = with_edges(self.paragraph.target, (self.starts[first], self.tokens[last - 1][1]), answer.text)
        text = self.paragraph.target[start:end]
        source, sentence = fold_text(answer.text), stretch.target
        evidence = weigh(
            self.posteriors.get(stretch),
            self.text.source_words_of(stretch, span),
            (first - sentence[0], last - sentence[0]),
            (source, self.words[first:last]),
            float(candidates.lexical[best]),
            bool(isolated),
        )
        confidence = round(probability(evidence), 4)
        places = occurrences(self.words, isolated)
        if confidence < self.min_confidence:
            return Location(None, text, LOW_CONFIDENCE, confidence, spans, len(places))
        if first < sentence[0] or last > sentence[1]:
            strategy = "outside its sentence"
        elif text == (answer.isolated or ""):
            strategy = "letter by letter"
        else:
            matched = self.what_matched(self.words[first:last], isolated, source)
            strategy = matched or ("similar words" if candidates.lexical[best] >= 0.8 else "word alignment")
        resolved_by = candidates.decided_by(best, places, sentence) if len(places) > 1 else ""
        return Location(start, text, strategy, confidence, spans, len(places), resolved_by)

    def what_matched(self, words: list[str], isolated: list[str], source: list[str]) -> str:
        """The wording that was found again, or nothing where it is a new one."""
        articles = self.articles
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


def expected_start(start: int, spans: tuple[Span, Span]) -> float:
    """Where source[start] would be in the translation if both sentences ran at the same pace."""
    (first, last), (target_first, target_last) = spans
    return target_first + (start - first) / (last - first) * (target_last - target_first)


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
