"""Answers in the context of their sentence.

An answer is better translated with its sentence before one's eyes: then it more often stands in the translated context
("contextual label translation", Parekh et al., NAACL 2024). Such an answer is one string of three lines, which no other
string has: itself, its sentence, the sentence's translation. So whatever changes what is asked changes the string, and
the cache, the requests and the checks need no other key.
"""

from __future__ import annotations


def in_context(text: str, sentence: str, sentence_t: str) -> str:
    """The string that stands for `text` in its sentence."""
    return f"{text}\n{sentence}\n{sentence_t}"


def text_of(string: str) -> str:
    """What is to be translated of a string: an answer without its sentence, any other string as it is."""
    return string.partition("\n")[0]
