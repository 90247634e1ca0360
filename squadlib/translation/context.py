"""Answers in the context of their sentence.

An answer is better translated with its sentence before one's eyes: then it more often stands in the translated context
("contextual label translation", Parekh et al., NAACL 2024). Such an answer is one string of three lines, which no other
string has: itself, its sentence, the sentence's translation. So whatever changes what is asked changes the string, and
the cache, the requests and the checks need no other key.
"""

from __future__ import annotations

from squadlib.files import JsonObject


def in_context(text: str, sentence: str, sentence_t: str) -> str:
    """The string that stands for `text` in its sentence."""
    return f"{text}\n{sentence}\n{sentence_t}"


def text_of(string: str) -> str:
    """What is to be translated of a string: an answer without its sentence, any other string as it is."""
    return string.partition("\n")[0]


def sentences_of(answer: JsonObject, context: str, spans: list[tuple[int, int]]) -> range:
    """The numbers of the sentences of `context` in which an answer stands; none where it does not stand there."""
    start, text = answer["answer_start"], answer["text"]
    if start < 0 or not text.strip() or context[start : start + len(text)] != text:
        return range(0)
    start += len(text) - len(text.lstrip())
    touched = [n for n, (first, last) in enumerate(spans) if first < start + len(text.strip()) and last > start]
    return range(touched[0], touched[-1] + 1) if touched else range(0)
