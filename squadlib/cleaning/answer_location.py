"""Where an answer is in the translated context."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.candidates import Choice, Search, best_choices, occurrences, variants
from squadlib.cleaning.confidence import Evidence, probability, weigh
from squadlib.cleaning.corpus import Corpus, Numbers, stretches
from squadlib.cleaning.edges import is_figure_with_letters, with_edges
from squadlib.cleaning.tokens import Span, fold, fold_text, without_article
from squadlib.cleaning.translated_document import Paragraph, SourceAnswer
from squadlib.cleaning.word_alignment import WordAligner

NOT_TRANSLATED = "the answer is not translated"
NOT_LITERAL = "its translation does not stand in the context letter by letter"
NO_SENTENCE = "the sentence of the answer is not translated"
BAD_OFFSET = "the answer is not in the source context"
NO_PLACE = "nothing in the translated sentence can be the answer"
LOW_CONFIDENCE = "no place is likely enough (--min_confidence)"


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
    return nearest(re.escape(wanted), text, expected)


def nearest(pattern: str, text: str, expected: float) -> tuple[int | None, int]:
    """(the match nearest to `expected`, the number of matches)."""
    places = [match.start() for match in re.finditer(pattern, text)]
    return min(places, key=lambda place: abs(place - expected), default=None), len(places)


class Stretch(NamedTuple):
    """The sentence of an answer and its translation, as far as they are aligned at a time: (first, last) tokens."""

    source: Span
    target: Span

    def words(self) -> bool:
        """Whether there is anything to align."""
        return self.source[0] < self.source[1]


class TokenizedParagraph:
    """A paragraph as tokens: what a search for its answers works on."""

    def __init__(self, paragraph: Paragraph, corpus: Corpus):
        self.paragraph = paragraph
        self.source, self.target = corpus.read(paragraph.source), corpus.read(paragraph.target)
        text = paragraph.target
        self.words = [fold(text[start:end]) for start, end in zip(self.target.starts, self.target.ends, strict=True)]

    def source_words(self, span: Span) -> Span:
        """(first, last) of the source tokens that have a part in these characters."""
        first = bisect_right(self.source.ends, span[0])
        return first, max(first, bisect_left(self.source.starts, span[1]))

    def source_words_of(self, stretch: Stretch, span: Span) -> Span:
        """The same, counted from the first token of the stretch."""
        first, last = self.source_words(span)
        low, high = stretch.source
        return min(max(first, low), high) - low, min(max(last, low), high) - low

    def stretch(self, answer: Span, spans: tuple[Span, Span]) -> Stretch:
        """What to align for an answer in these sentences (spans in characters); empty where there is no word."""
        source = self.source_words(spans[0])
        target = bisect_left(self.target.starts, spans[1][0]), bisect_left(self.target.starts, spans[1][1])
        parts = stretches(source[1] - source[0], target[1] - target[0])
        if not parts:
            return Stretch((source[0], source[0]), target)
        place = (self.source_words(answer)[0] - source[0]) / (source[1] - source[0])
        number = min(max(0, round(place * (len(parts) + 1)) - 1), len(parts) - 1)
        left, right = parts[number]
        return Stretch((source[0] + left[0], source[0] + left[1]), (target[0] + right[0], target[0] + right[1]))

    def places(self) -> dict[SourceAnswer, Place]:
        """Where each of the different answers is in the source, and what to align for it.

        In an order of their own: that of the questions must change nothing, not even how sums are rounded.
        """
        answers = {answer for question in self.paragraph.questions for answer in question.answers}
        found = {}
        for answer in sorted(answers, key=lambda answer: (answer.start, answer.text, answer.isolated or "")):
            place = source_place(self.paragraph, answer)
            if place and place[1]:
                found[answer] = Place(place[0], place[1], self.stretch(place[0], place[1]))
        return found

    def numbers(self, stretch: Stretch) -> Numbers:
        return self.source.numbers[slice(*stretch.source)], self.target.numbers[slice(*stretch.target)]


class Place(NamedTuple):
    """Of an answer: its characters in the source, its sentence and translation, what of them is aligned at a time."""

    span: Span
    spans: tuple[Span, Span]
    stretch: Stretch


def source_place(paragraph: Paragraph, answer: SourceAnswer) -> tuple[Span, tuple[Span, Span] | None] | None:
    """(characters of the answer in the source, its sentence and translation if it has one), None without an answer."""
    start = source_offset(paragraph.source, answer)
    if start is None:
        return None
    span = start, start + len(answer.text)
    return span, paragraph.spans_of(*span)


def make_locators(paragraphs: list[Paragraph], aligner: WordAligner, min_confidence: float) -> list[AnswerLocator]:
    """A locator for each paragraph.

    The sentences of all their answers are aligned side by side, and all answers looked for together: that is quicker.
    """
    texts = [TokenizedParagraph(paragraph, aligner.corpus) for paragraph in paragraphs]
    places = [text.places() for text in texts]
    stretches = [
        list(dict.fromkeys(place.stretch for place in some.values() if place.stretch.words())) for some in places
    ]
    numbers = [text.numbers(stretch) for text, some in zip(texts, stretches, strict=True) for stretch in some]
    aligned = iter(aligner.align(numbers) if numbers else [])
    locators, asked = [], []
    for text, some, wanted in zip(texts, places, stretches, strict=True):
        posteriors = {stretch: next(aligned) for stretch in wanted}
        locators.append(AnswerLocator(text, aligner.articles, min_confidence))
        for answer, place in some.items():
            aligned_here = posteriors.get(place.stretch)
            search = locators[-1].search(answer, place, aligned_here)
            asked += [(locators[-1], answer, place, aligned_here, search)] if search else []
    choices = best_choices([search for *_, search in asked])
    for (locator, answer, place, aligned_here, search), choice in zip(asked, choices, strict=True):
        evidence = locator.evidence(choice, search, answer, place, aligned_here)
        confidence = round(probability(evidence), 4)
        locator.found[answer] = locator.choose(choice, search, answer, place.spans, confidence)
    return locators


class AnswerLocator:
    """Finds the answers of one paragraph by wording, word alignment and position."""

    def __init__(self, text: TokenizedParagraph, articles: frozenset[str], min_confidence: float):
        self.text, self.paragraph, self.articles, self.min_confidence = text, text.paragraph, articles, min_confidence
        self.lengths = np.array([len(word) for word in text.words])
        self.starts = np.array(text.target.starts)
        self.found: dict[SourceAnswer, Location] = {}  # by the search

    def locate(self, answer: SourceAnswer) -> Location:
        """The best scored place of the answer."""
        if answer in self.found:
            return self.found[answer]
        place = source_place(self.paragraph, answer)
        if place is None:
            return Location(None, "", BAD_OFFSET)
        span, spans = place
        if spans is None:
            return Location(None, "", NO_SENTENCE)
        if fold_text(answer.text):  # and no word in the translation of its sentence
            return Location(None, "", NO_PLACE, 0.0, spans)
        return self.locate_symbol(answer.isolated or answer.text, expected_start(span[0], spans), spans)

    def search(self, answer: SourceAnswer, place: Place, posteriors: np.ndarray | None) -> Search | None:
        """What to look for, or nothing where there is no word to look for, or none to look at.

        posteriors: (target tokens, source tokens) of the stretch, None where it has no words on one side.
        """
        source, isolated = fold_text(answer.text), fold_text(answer.isolated or "")
        low, high = place.stretch.target
        if not source or low == high:
            return None
        weights = np.zeros(high - low)
        if posteriors is not None:
            first, last = self.text.source_words_of(place.stretch, place.span)
            weights = np.minimum(posteriors[:, first:last].sum(axis=1), 1)
        return Search(
            self.text.words,
            self.lengths,
            self.starts,
            (low, high),
            weights,
            (len(source), len(isolated) or len(source)),
            occurrences(self.text.words, isolated),
            self.variants(answer, isolated, source),
            expected_start(place.span[0], place.spans),
        )

    def variants(self, answer: SourceAnswer, isolated: list[str], source: list[str]) -> dict[str, float]:
        """What the translated answer may read like. "1990s" is not like "1990", though their figures are the same."""
        target = self.paragraph.target
        if any(character.isdigit() for character in answer.text):
            source = [] if is_figure_with_letters(answer.text, target) else source
            isolated = [] if is_figure_with_letters(answer.isolated or "", target) else isolated
        return variants(isolated, source, self.articles)

    def evidence(
        self, choice: Choice, search: Search, answer: SourceAnswer, place: Place, posteriors: np.ndarray | None
    ) -> Evidence:
        """What speaks for the chosen place."""
        low = search.sentence[0]
        return weigh(
            posteriors,
            self.text.source_words_of(place.stretch, place.span),
            (choice.first - low, choice.last - low),
            (fold_text(answer.text), self.text.words[choice.first : choice.last]),
            choice.lexical,
            bool(fold_text(answer.isolated or "")),
        )

    def choose(
        self, choice: Choice, search: Search, answer: SourceAnswer, spans: tuple[Span, Span], confidence: float
    ) -> Location:
        """The best candidate as a Location, or none when its confidence is too low."""
        first, last, places = choice.first, choice.last, search.places
        target = self.paragraph.target
        start, end = with_edges(target, (self.text.target.starts[first], self.text.target.ends[last - 1]), answer)
        text = target[start:end]
        if confidence < self.min_confidence:
            return Location(None, text, LOW_CONFIDENCE, confidence, spans, len(places))
        if first < search.sentence[0] or last > search.sentence[1]:
            strategy = "outside its sentence"
        elif text == (answer.isolated or ""):
            strategy = "letter by letter"
        else:
            matched = self.what_matched(self.text.words[first:last], answer)
            strategy = matched or ("similar words" if choice.lexical >= 0.8 else "word alignment")
        resolved_by = choice.decided_by(search) if len(places) > 1 else ""
        return Location(start, text, strategy, confidence, spans, len(places), resolved_by)

    def what_matched(self, words: list[str], answer: SourceAnswer) -> str:
        """The wording that was found again, or nothing where it is a new one."""
        articles, isolated = self.articles, fold_text(answer.isolated or "")
        if words == isolated:
            return "other spelling"
        if without_article(words, articles) == without_article(isolated, articles):
            return "other article"
        return "source text kept" if words == fold_text(answer.text) else ""

    def locate_symbol(self, text: str, expected: float, spans: tuple[Span, Span]) -> Location:
        """An answer without a word ("…", "→"): its nearest literal occurrence, never inside a word."""
        pattern = r"(?<!\w)" * text[0].isalnum() + re.escape(text) + r"(?!\w)" * text[-1].isalnum()
        start, num_places = nearest(pattern, self.paragraph.target, expected)
        if start is None:
            return Location(None, "", NO_PLACE, 0.0, spans)
        return Location(start, text, "symbol", 1.0, spans, num_places)


def expected_start(start: int, spans: tuple[Span, Span]) -> float:
    """Where source[start] would be in the translation if both sentences ran at the same pace."""
    (first, last), (target_first, target_last) = spans
    return target_first + (start - first) / (last - first) * (target_last - target_first)
