"""What translate_squad.py wrote, as records: the one place where the cleaning reads its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from squadlib.cleaning.sentence_pairs import SentencePair, align_sentences, read_sentence_map
from squadlib.cleaning.tokens import Span, fold_text

NO_CONTEXT = "the context is not translated"
ECHOED_CONTEXT = "the translated context is the source again"
ECHOED_SENTENCE = "a sentence left in the source language"
NO_MAP = "no sentence map: made one"
WRONG_MAP = "a sentence map that does not fit: made another"


class SourceAnswer(NamedTuple):
    """An answer in the source language. start: its offset as the file has it. isolated: its translation alone."""

    text: str
    start: int
    isolated: str | None


class Question(NamedTuple):
    """A question in both languages; translated is None where there is no usable text."""

    qid: str
    text: str
    translated: str | None
    is_impossible: bool
    answers: tuple[SourceAnswer, ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph in both languages. Without a usable translation, target is empty and `fault` says why."""

    source: str
    target: str
    sentences: list[SentencePair]
    questions: list[Question]
    fault: str = ""
    notes: tuple[str, ...] = ()  # what was wrong with the input and did not keep the paragraph from being used

    def spans_of(self, start: int, end: int) -> tuple[Span, Span] | None:
        """Spans of the sentences that hold source[start:end] and of their translations; None where there is none."""
        held = [pair for pair in self.sentences if max(start, pair.source[0]) < min(end, pair.source[1])]
        if not held:  # the map has a hole here
            return (0, len(self.source)), (0, len(self.target))
        translated = [(pair.source, pair.target) for pair in held if pair.target is not None]
        if not translated:
            return None
        targets = [target for _, target in translated]
        source = translated[0][0][0], translated[-1][0][1]
        return source, (min(first for first, _ in targets), max(last for _, last in targets))


class Article(NamedTuple):
    title: str
    paragraphs: list[Paragraph]


class TranslatedDocument(NamedTuple):
    """head: what the file says of itself (version, translation), carried over as it is."""

    head: dict[str, object]
    articles: list[Article]

    @property
    def paragraphs(self) -> list[Paragraph]:
        return [paragraph for article in self.articles for paragraph in article.paragraphs]


def read_document(document: dict[str, Any]) -> TranslatedDocument:
    """The records of a document that load_squad returned."""
    head = {"version": document.get("version", "v2.0")}
    head |= {"translation": document["translation"]} if "translation" in document else {}  # for the model card
    articles = [
        Article(usable_text(article.get("title")) or "", [read_paragraph(row) for row in article["paragraphs"]])
        for article in document["data"]
    ]
    return TranslatedDocument(head, articles)


def read_paragraph(row: dict[str, Any]) -> Paragraph:
    """The paragraph with a sentence map, made here where the file has none."""
    source, target = row["context"], usable_text(row.get("context_t"))
    questions = [read_question(qa) for qa in row["qas"]]
    if target is None or is_echo(source, target):
        return Paragraph(source, "", [], questions, NO_CONTEXT if target is None else ECHOED_CONTEXT)
    notes = []
    sentences = read_sentence_map(row.get("sentences"), source, target)
    if sentences is None:
        notes.append(WRONG_MAP if row.get("sentences") else NO_MAP)
        sentences = align_sentences(source, target)
    for (start, end), span in sentences:
        if span is not None and is_echo(source[start:end], target[slice(*span)]):
            notes.append(ECHOED_SENTENCE)
    return Paragraph(source, target, sentences, questions, notes=tuple(notes))


def read_question(qa: dict[str, Any]) -> Question:
    answers = (SourceAnswer(a["text"], a["answer_start"], usable_text(a.get("iso_t"))) for a in qa["answers"])
    return Question(qa["id"], qa["question"], usable_text(qa.get("question_t")), qa["is_impossible"], tuple(answers))


def usable_text(value: object) -> str | None:
    """The value if it is text that can be read and written, else None (missing, blank, half a surrogate pair)."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value


def is_echo(source: str, target: str) -> bool:
    """True when the "translation" is the source again: at least four words, and the same ones."""
    source, target = (" ".join(text.casefold().split()) for text in (source, target))
    return source == target and sum(not word[0].isdigit() for word in fold_text(source)) >= 4
