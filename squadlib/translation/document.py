"""Which strings stand for a SQuAD document, and the document again with their translations."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TextIO

from squadlib.files import JsonObject
from squadlib.sentences import MAX_SENTENCE_CHARS, split_sentences
from squadlib.translation.context import in_context

LookUp = Callable[[list[str]], dict[str, str]]  # the translations of those strings that have one: Cache.get


class Wanted:
    """The strings that a document needs: first those that stand for themselves, then answers in their sentences."""

    def __init__(self, document: JsonObject, *, answers_in_context: bool) -> None:
        self.document, self.answers_in_context = document, answers_in_context
        self.first = strings_by_paragraph(document, answers=not answers_in_context)

    def second(self, look_up: LookUp) -> tuple[list[list[str]], int]:
        """(the answers in their sentences; how many wait for their sentence's translation)."""
        return answers_by_paragraph(self.document, look_up) if self.answers_in_context else ([], 0)

    def strings(self, look_up: LookUp) -> tuple[list[str], int]:
        """(all that can be asked by now; how many answers wait for their sentence's translation)."""
        answers, waiting = self.second(look_up)
        return [*dict.fromkeys(flat(self.first) + flat(answers))], waiting


def flat(groups: list[list[str]]) -> list[str]:
    return [string for group in groups for string in group]


def only(groups: list[list[str]], strings: set[str]) -> list[list[str]]:
    """Of the groups the strings that are wanted."""
    return [[string for string in group if string in strings] for group in groups]


def strings_of(text: str, *, sentences: bool = False) -> list[str]:
    """The strings that stand for `text` in a request, white space made single: its sentences, or else one string.

    A question or answer longer than MAX_SENTENCE_CHARS goes by sentences too.
    """
    if sentences or len(text) > MAX_SENTENCE_CHARS:
        return [" ".join(text[start:end].split()) for start, end in split_sentences(text)]
    string = " ".join(text.split())
    return [text if string == text else string] if string else []  # the document's own text needs no more memory


def strings_by_paragraph(document: JsonObject, *, answers: bool = True) -> list[list[str]]:
    """Everything to translate, a list a paragraph, repeated strings only where they come first."""
    seen: set[str] = set()
    groups = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            strings = strings_of(paragraph["context"], sentences=True)
            strings += [string for qa in paragraph["qas"] for string in strings_of(qa["question"])]
            texts = (answer["text"] for answer in _answers(paragraph)) if answers else ()
            strings += [string for text in texts for string in strings_of(text)]
            groups.append([string for string in dict.fromkeys(strings) if string not in seen])
            seen.update(strings)
    return groups


def _answers(paragraph: JsonObject) -> list[JsonObject]:
    return [answer for qa in paragraph["qas"] if not qa["is_impossible"] for answer in qa["answers"]]


def answers_by_paragraph(document: JsonObject, look_up: LookUp) -> tuple[list[list[str]], int]:
    """(as strings_by_paragraph, the answers in their sentences; how many wait for their sentence's translation)."""
    seen: set[str] = set()
    waiting: set[str] = set()
    groups = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            sentences = sentences_of(paragraph["context"])
            targets = look_up([source for _, _, source in sentences])
            found = [answer_strings(a, paragraph["context"], sentences, targets) for a in _answers(paragraph)]
            if None in found:  # which ones, is told by sentences that stand for their own translations
                own = {source: source for _, _, source in sentences}
                asked = [answer_strings(a, paragraph["context"], sentences, own) or [] for a in _answers(paragraph)]
                waiting.update(*(a for a, strings in zip(asked, found, strict=True) if strings is None))
            strings = [string for strings in found for string in strings or []]
            groups.append([string for string in dict.fromkeys(strings) if string not in seen])
            seen.update(strings)
    return groups, len(waiting)


Sentences = list[tuple[int, int, str]]  # (start, end, the sentence with single white space)


def sentences_of(context: str) -> Sentences:
    return [(start, end, " ".join(context[start:end].split())) for start, end in split_sentences(context)]


def answer_strings(answer: JsonObject, context: str, sentences: Sentences, targets: dict[str, str]) -> list[str] | None:
    """The strings that stand for an answer in its sentence; None while the sentence's translation is unknown.

    An answer that is a whole sentence, that is very long, or that does not stand in its place, goes alone. One that
    stands in several sentences has them all.
    """
    text, start = answer["text"], answer["answer_start"]
    words = " ".join(text.split())
    end = start + len(text.rstrip())
    sources = [source for first, last, source in sentences if first < end and last > start]
    sentence = " ".join(sources)
    is_there = start >= 0 and context.startswith(text, start)
    if not (words and sources and is_there) or words == sentence or len(words) > MAX_SENTENCE_CHARS:
        return strings_of(text)
    if any(source not in targets for source in sources):
        return None
    return [in_context(words, sentence, " ".join(targets[source] for source in sources))]


def translated_document(
    document: JsonObject, look_up: LookUp, info: JsonObject, *, answers_in_context: bool = False
) -> JsonObject:
    """The document with context_t, sentences, question_t and iso_t beside the source texts; None where missing.

    "data" makes its articles one by one, so that they need not be in memory all at once.
    """
    articles = (_translated_article(article, look_up, answers_in_context) for article in document["data"])
    return {"version": document.get("version", "2.0"), "translation": info, **document, "data": articles}


def _translated_article(article: JsonObject, look_up: LookUp, answers_in_context: bool) -> JsonObject:
    wanted = Wanted({"data": [article]}, answers_in_context=answers_in_context)
    targets = look_up(wanted.strings(look_up)[0])
    paragraphs = []
    for paragraph in article["paragraphs"]:
        context_t, sentences = translate_context(paragraph["context"], targets)
        sources = sentences_of(paragraph["context"]) if answers_in_context else None
        qas = [_translated_question(qa, paragraph["context"], sources, targets) for qa in paragraph["qas"]]
        texts = {"context": paragraph["context"], "context_t": context_t, "sentences": sentences}
        paragraphs.append({**texts, **{k: v for k, v in paragraph.items() if k not in texts}, "qas": qas})
    return {**article, "paragraphs": paragraphs}


def translate_context(context: str, targets: dict[str, str]) -> tuple[str | None, list[list[int | None]]]:
    """(translated context, sentence map). context_t[ts:te] is the sentence's translation, exactly.

    White space before, between and after the sentences is the source's own; one space where it has none ("。").
    """
    spans = split_sentences(context)
    sources = [" ".join(context[start:end].split()) for start, end in spans]
    if not spans or any(source not in targets for source in sources):
        return None, [[start, end, None, None] for start, end in spans]
    parts: list[str] = []
    sentences: list[list[int | None]] = []
    length = last = 0
    for (start, end), source in zip(spans, sources, strict=True):
        gap, target = context[last:start] or (" " if last else ""), targets[source]
        length += len(gap)
        sentences.append([start, end, length, length + len(target)])
        parts += [gap, target]
        length, last = length + len(target), end
    return "".join([*parts, context[last:]]), sentences


def _translated_question(
    qa: JsonObject, context: str, sentences: Sentences | None, targets: dict[str, str]
) -> JsonObject:
    """sentences: of the context, where answers were asked in them."""
    question = {"question": qa["question"], "question_t": translate_text(qa["question"], targets)}
    answers = qa["answers"]
    if not qa["is_impossible"]:
        answers = [{**answer, "iso_t": _translated_answer(answer, context, sentences, targets)} for answer in answers]
    return {**question, **{k: v for k, v in qa.items() if k not in question}, "answers": answers}


def _translated_answer(
    answer: JsonObject, context: str, sentences: Sentences | None, targets: dict[str, str]
) -> str | None:
    if sentences is None:
        return translate_text(answer["text"], targets)
    return _joined(answer_strings(answer, context, sentences, targets) or [], targets)


def translate_text(text: str, targets: dict[str, str]) -> str | None:
    """The translation of a question or an answer; None when it is missing or the text is empty."""
    return _joined(strings_of(text), targets)


def _joined(strings: list[str], targets: dict[str, str]) -> str | None:
    is_whole = strings and all(string in targets for string in strings)
    return " ".join(targets[string] for string in strings) if is_whole else None


def write_document(document: JsonObject, out: TextIO) -> None:
    """What json.dump would write, article by article: in a third of the time, and the text is never whole in memory."""
    separator = "{"
    for name, value in document.items():
        out.write(f"{separator}{_json(name)}: ")
        if name == "data":
            out.write("[")
            for number, article in enumerate(value):
                out.write(", " * bool(number) + _json(article))
            out.write("]")
        else:
            out.write(_json(value))
        separator = ", "
    out.write("}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
