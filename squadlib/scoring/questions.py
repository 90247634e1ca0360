"""The questions of a data file as evaluate_v2.py reads them, with what they can be grouped by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Read = tuple[str, object, object, object]  # place for an error, question, its article, its paragraph; a row thrice


class Question(NamedTuple):
    """None stands where the data does not have it.

    answer_words: of the first gold answer, normalised; None for an unanswerable question. confidence: of the cleaner,
    the lowest of its answers.
    """

    text: str | None
    context: str | None
    article: str | None
    answer_words: int | None
    confidence: float | None


def describe(questions: Sequence[Read], answer_words: Sequence[int | None]) -> list[Question]:
    """answer_words: of the first gold answer of each question, None for an unanswerable one."""
    names = article_names(questions)
    return [
        Question(
            get_text(record, "question"), get_text(paragraph, "context"), name or None, words, confidence_of(record)
        )
        for (_, record, _, paragraph), name, words in zip(questions, names, answer_words, strict=True)
    ]


def article_names(questions: Iterable[Read]) -> list[str]:
    """The title of each question's article; without one its number in a SQuAD document, "" in rows."""
    names: list[str] = []
    numbers: dict[int, int] = {}
    for _, record, article, _ in questions:
        number = numbers.setdefault(id(article), len(numbers) + 1)
        names.append(get_text(article, "title") or ("" if article is record else f"article {number}"))
    return names


def article_fault(names: Sequence[str]) -> str:
    """Why whole articles cannot be drawn, "" when they can."""
    if "" in names:
        return f'question {names.index("") + 1} has no "title", by which --cluster knows its article; add it'
    return "" if len(set(names)) > 1 else f"all questions are of one article, {names[0]}: --cluster has nothing to draw"


def get_text(record: object, key: str) -> str | None:
    value = record.get(key) if isinstance(record, dict) else None
    return value if isinstance(value, str) and value.strip() else None


def confidence_of(record: object) -> float | None:
    """The cleaner's confidence in a question, which stands in its answers or in itself."""
    if not isinstance(record, dict):
        return None
    answers = record.get("answers")
    found = [place.get("confidence") for place in (record, *(answers if isinstance(answers, list) else ())) if place]
    return min([value for value in found if isinstance(value, (int, float))], default=None)
