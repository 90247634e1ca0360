"""Where an answer begins and ends beside its words: quotes, brackets, full stops, what belongs to a figure."""

from __future__ import annotations

import re
import unicodedata

from squadlib.cleaning.tokens import SOURCE_ARTICLES, Span, tokenize
from squadlib.cleaning.translated_document import SourceAnswer

QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』"
EDGES = "([{<)]}>.,;:!?…¿¡-–—/"
BRACKETS = ("()", "[]", "{}", "（）", "［］", "【】", "《》", "〈〉", "「」", "『』")
QUOTATION = ("«»", "»«", "‹›", "›‹", "“”", "””", "„“", "„”", "‘’", "‚‘", "‚’", '""')  # each opens and closes somewhere
PAIRS = {*BRACKETS, *QUOTATION, "''''", "``''"}
OPENING, CLOSING = {pair[: len(pair) // 2] for pair in PAIRS}, {pair[len(pair) // 2 :] for pair in PAIRS}
MARK = re.compile("|".join(sorted(map(re.escape, OPENING | CLOSING), reverse=True)))
STOPS = ".,!?…"  # may stand between the last word and what closes
UNITS = re.compile("[$€£¥%‰]")
ORDINAL = re.compile(r"\d(?:st|nd|rd|th)\b", re.IGNORECASE)
DECADE = re.compile(r"\d['’]?s\b")


def with_edges(target: str, span: Span, answer: SourceAnswer) -> Span:
    """The span with what belongs to its words: the marks that the source answer has too, in pairs; all of a figure."""
    start, end = span
    end = after_figure(target, end, answer)
    start, end = with_unit(target, start, end, answer)
    tokens = tokenize(answer.text)
    leading = {edge_kind(char) for char in answer.text[: tokens[0][0]]}
    trailing = {edge_kind(char) for char in answer.text[tokens[-1][1] :]}
    while start and edge_kind(target[start - 1]) in leading - {""}:
        start -= 1
    while end < len(target) and edge_kind(target[end]) in trailing - {""}:
        end += 1
    return in_pairs(target, start, end)


def edge_kind(char: str) -> str:
    """The mark or symbol, one for all quotes; nothing for white space and what belongs to a word."""
    if char in QUOTES:
        return '"'
    return char if char in EDGES or unicodedata.category(char)[0] == "S" else ""  # "C++"


def in_pairs(target: str, start: int, end: int) -> Span:
    """The span with both marks of a pair of brackets or quotes, where the other one is next to it, or with neither.

    A mark between the words stays where it is: the words are what was chosen.
    """
    opened, closed = lonely_marks(target, start, end)
    for place in reversed(opened):
        mark, stop = mark_at(target, place), end + (target[end : end + 1] in STOPS and end < len(target))
        for after in (end, stop):
            if mark + mark_at(target, after) in PAIRS:
                end = after + len(mark_at(target, after))
                break
        else:
            start += len(mark) if place == start else 0
    for place in closed:
        mark = mark_at(target, place)
        before = "''" if target[max(0, start - 2) : start] in ("''", "``") else target[max(0, start - 1) : start]
        if before + mark in PAIRS:
            start -= len(before)
        elif place + len(mark) == end:
            end = place
    return start, end


def lonely_marks(target: str, start: int, end: int) -> tuple[list[int], list[int]]:
    """(marks in the span that open what is not closed there, marks that close what is not opened there)."""
    opened: list[int] = []
    closed = []
    for found in MARK.finditer(target, start, end):
        place, mark = found.start(), found[0]
        in_word = mark in "’‘" and target[max(0, place - 1) : place].isalnum()
        if opened and mark_at(target, opened[-1]) + mark in PAIRS:
            opened.pop()
        elif in_word:  # an apostrophe
            continue
        elif mark in OPENING and (place == start or mark not in CLOSING or not target[place - 1].isalnum()):
            opened.append(place)
        else:
            closed.append(place)
    return opened, closed


def mark_at(target: str, place: int) -> str:
    """The mark that begins at this place, or nothing."""
    found = MARK.match(target, place)
    return found[0] if found else ""


def after_figure(target: str, end: int, answer: SourceAnswer) -> int:
    """The end of a figure that stands before `end` with what belongs to it: "12.ª", "1990'larda", "12." as ordinal."""
    if not target[end - 1].isdigit():
        return end
    ordinal = ORDINAL.search(answer.text) is not None
    suffix = re.compile(r"\.?[ªº](?!\w)").match(target, end)
    if not suffix and (ordinal or DECADE.search(answer.text)):
        suffix = re.compile(r"['’\-‑][^\W\d_]+").match(target, end)
    if not suffix and ordinal:
        # or a sentence ends: the stop of an ordinal stands in the isolated translation too, or the sentence goes on
        in_isolated = re.search(r"\d\.(?!\d)", answer.isolated or "")
        goes_on = target[end + 1 :].lstrip()[:1].islower()
        suffix = re.compile(r"\.(?!\d)").match(target, end) if in_isolated or goes_on else None
    return suffix.end() if suffix else end


def with_unit(target: str, start: int, end: int, answer: SourceAnswer) -> Span:
    """The span of an amount with the sign of its unit on the other side: "$2 million" -> "2 miljoen $"."""
    for sign in UNITS.findall(answer.text):
        if sign not in target[start:end] and any(char.isdigit() for char in target[start:end]):
            after = re.compile(rf"\s?{re.escape(sign)}").match(target, end)
            before = re.search(rf"{re.escape(sign)}\s?$", target[max(0, start - 2) : start])
            if after:
                end = after.end()
            elif before:
                start -= len(before[0])
    return start, end


def is_figure_with_letters(text: str, target: str) -> bool:
    """Whether the text is one ("1990s", "the 139th") and does not stand so in the target: the bare figure is not it."""
    words = [text[start:end].casefold() for start, end in tokenize(text)]
    words = [word for word in words if word not in SOURCE_ARTICLES]
    if len(words) != 1 or words[0].isdigit() or not words[0][0].isdigit() or not words[0][-1].isalpha():
        return False
    return not re.search(rf"(?<!\w){re.escape(words[0])}(?!\w)", target.casefold())
