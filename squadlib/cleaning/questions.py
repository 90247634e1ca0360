"""What becomes of a question: kept with its answers in the translation, or dropped for a reason."""

from __future__ import annotations

from typing import NamedTuple

from squadlib.cleaning.answer_location import (
    AnswerLocator,
    Location,
    locate_literally,
    make_locators,
    source_offset,
)
from squadlib.cleaning.translated_document import Paragraph, Question, SourceAnswer, is_echo
from squadlib.cleaning.word_alignment import WordAligner

NO_QUESTION = "the question is not translated"
ECHOED_QUESTION = "the translated question is the source again"
NO_ANSWER = "the source has no answer"
NOT_IN_SOURCE = "an answer that is not in its source context"
BESIDE_OFFSET = "an answer beside its offset: took the nearest place"
NOT_ISOLATED = "an answer without its isolated translation"


class AnswerOutcome(NamedTuple):
    """Where one answer was found, by the method of this run and by the published rule."""

    answer: SourceAnswer
    location: Location
    literal: Location


class QuestionOutcome(NamedTuple):
    """What became of one question: kept, or dropped for `reason`. answers: those that were looked for."""

    question: Question
    paragraph: Paragraph
    reason: str
    answers: list[AnswerOutcome]
    notes: list[str]  # what was wrong with the answers of the input

    @property
    def kept(self) -> bool:
        return not self.reason

    @property
    def kept_literally(self) -> bool:
        """Whether the published rule keeps the question."""
        if self.question.is_impossible:
            return self.kept
        return any(outcome.literal.start is not None for outcome in self.answers)

    def found(self) -> list[tuple[int, str]]:
        """(answer_start, text) of the different answers, in the order of the source."""
        locations = (outcome.location for outcome in self.answers)
        return list(dict.fromkeys((place.start, place.text) for place in locations if place.start is not None))


def clean_paragraphs(
    paragraphs: list[Paragraph], aligner: WordAligner | None, min_confidence: float
) -> list[list[QuestionOutcome]]:
    """The outcomes of each paragraph's questions. Without an aligner, by the published rule."""
    usable = [paragraph for paragraph in paragraphs if not paragraph.fault]
    locators = iter(make_locators(usable, aligner, min_confidence) if aligner else ())
    outcomes = []
    for paragraph in paragraphs:
        locator = None if paragraph.fault else next(locators, None)
        outcomes.append([clean_question(question, paragraph, locator) for question in paragraph.questions])
    return outcomes


def clean_question(question: Question, paragraph: Paragraph, locator: AnswerLocator | None) -> QuestionOutcome:
    reason = paragraph.fault or question_fault(question)
    if reason or question.is_impossible:
        return QuestionOutcome(question, paragraph, reason, [], [])
    answers, notes = [], []
    for answer in question.answers:
        notes += answer_notes(answer, paragraph.source)
        literal = locate_literally(paragraph, answer)
        answers.append(AnswerOutcome(answer, locator.locate(answer) if locator else literal, literal))
    if all(outcome.location.start is None for outcome in answers):
        reason = answers[0].location.strategy if answers else NO_ANSWER
    return QuestionOutcome(question, paragraph, reason, answers, notes)


def question_fault(question: Question) -> str:
    """What keeps the translated question from being used, or nothing."""
    if question.translated is None:
        return NO_QUESTION
    return ECHOED_QUESTION if is_echo(question.text, question.translated) else ""


def answer_notes(answer: SourceAnswer, source: str) -> list[str]:
    start = source_offset(source, answer)
    notes = [NOT_IN_SOURCE] if start is None else [BESIDE_OFFSET] if start != answer.start else []
    return notes + [NOT_ISOLATED] * (answer.isolated is None)


def plain_question(outcome: QuestionOutcome, with_confidence: bool = False) -> dict[str, object]:
    """The kept question as plain SQuAD has it; with_confidence: and how sure the place of each answer is."""
    question = outcome.question
    answers: list[dict[str, object]] = [{"text": text, "answer_start": start} for start, text in outcome.found()]
    for answer in answers if with_confidence else ():
        places = [o.location for o in outcome.answers if o.location.start == answer["answer_start"]]
        answer["confidence"] = max(place.confidence for place in places if place.text == answer["text"])
    texts = {"id": question.qid, "question": question.translated}
    return {**texts, "answers": answers, "is_impossible": question.is_impossible}


def dropped_question(outcome: QuestionOutcome) -> dict[str, object]:
    """A line of --dropped_file: the question, the reason, and for each answer the reason and the best guess."""
    question = outcome.question
    answers = [
        {
            "text": answer.text,
            "iso_t": answer.isolated,
            "reason": location.strategy,
            "best_guess": location.text or None,
            "confidence": location.confidence,
        }
        for answer, location, _ in outcome.answers
    ]
    about = {"id": question.qid, "question": question.text, "is_impossible": question.is_impossible}
    return {**about, "reason": outcome.reason, "answers": answers}
