"""Cutting a text into sentences."""

from __future__ import annotations

import re

MAX_SENTENCE_CHARS = 900  # one string to translate: 900 four-byte characters still fit MAX_URL_BYTES
ABBREVIATION = re.compile(  # words after which a full stop does not end the sentence
    r"(?i:.*[-–/])?(?i:mr|mrs|ms|dr|prof|st|sr|jr|vs|cf|nos?|vols?|figs?|eds?|pp|art|approx|ca|al|gen|col|lt|sgt|capt|"
    r"cmdr|adm|maj|rev|hon|gov|sen|rep|pres|mt|ft|messrs|mme|mlle|bzw|usw|nr|bijv|dhr|mevr|jhr|mw|drs|ing|ir|sra|srta|"
    r"uds?|núm|pág|jan|feb|mar|apr|jun|jul|aug|sept?|oct|okt|nov|dec|dez)"
)
LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
SENTENCE_END = re.compile(  # a run of marks is tried once, at its first, and given up as a whole: linear for "....x"
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s)|(?<![।۔؟])[।۔؟]++[”’»)]*+(?=\s)|[。！？｡]+[”’」』）]*"""
)
AFTER_OPENING = re.compile(r"[^ \t\u00a0\"'“‘«„(\[¿¡]")  # the first character past what may open a sentence
ACRONYM = re.compile(r"(?:\w\.)*\w|\d\d")  # "J", "U.S", "e.g", and the German "am 31."


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Character spans of the sentences of `text`, in order; every character outside them is white space.

    A line break always ends a sentence, so a sentence can travel as one line. In doubt ("J. Smith", "No. 5") there is
    no cut. A sentence of more than MAX_SENTENCE_CHARS is cut at a comma, a space, or hard.
    """
    spans = []
    for found in LINE.finditer(text):
        line, first, start = found[0], found.start(), 0
        for mark in SENTENCE_END.finditer(line):
            if _ends_sentence(line, mark.start(), mark.end()):
                spans.append((first + start, first + mark.end()))
                start = mark.end()
        spans.append((first + start, found.end()))
    stripped = [_strip_span(text, *span) for span in spans]
    return [piece for start, end in stripped if start < end for piece in _cut_long(text, start, end)]


def _ends_sentence(line: str, mark: int, end: int) -> bool:
    """Whether the punctuation line[mark:end] ends a sentence: by the word before it and the first letter after it."""
    following = AFTER_OPENING.search(line, end)
    if not following or following[0].islower():
        return line[mark] in "。！？｡" and (following is not None or bool(line[end:].strip()))
    if line[mark] != "." or line[mark : mark + 2] == "..":
        return True
    word = "".join(line[max(0, mark - 40) : mark].split()[-1:]).lstrip("\"'“‘«„([¿¡")
    return not ABBREVIATION.fullmatch(word) and not ACRONYM.fullmatch(word)


def _strip_span(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


def _cut_long(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The span in pieces of at most MAX_SENTENCE_CHARS, cut in their second half after ";" or ",", or at a space."""
    pieces = []
    while end - start > MAX_SENTENCE_CHARS:
        middle, limit = start + MAX_SENTENCE_CHARS // 2, start + MAX_SENTENCE_CHARS
        places = [text.rfind(mark, middle, limit) for mark in ("; ", ", ", " ")]
        cut = next((place + 1 for place in places if place >= 0), limit)
        pieces.append(_strip_span(text, start, cut))
        start = cut
        while text[start].isspace():  # the span ends in something else
            start += 1
    return [*pieces, (start, end)]
