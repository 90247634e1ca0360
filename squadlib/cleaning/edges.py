"""Where an answer begins and ends beside its words: quotes, brackets, full stops, what belongs to a figure."""

from __future__ import annotations

from squadlib.cleaning.tokens import Span, tokenize
from squadlib.cleaning.translated_document import SourceAnswer

QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』"
EDGES = "([{<)]}>.,;:!?…¿¡-–—/"


def with_edges(target: str, span: Span, answer: SourceAnswer) -> Span:
    """The span with the quotes, brackets and full stops around it that the source answer has too."""
    start, end = span
    tokens = tokenize(answer.text)
    leading = {edge_kind(char) for char in answer.text[: tokens[0][0]]}
    trailing = {edge_kind(char) for char in answer.text[tokens[-1][1] :]}
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
