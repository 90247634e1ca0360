"""Do the lines of an answer stand in the order of the strings that were asked?"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter

FIGURE = re.compile(r"\d+(?:[.,٫٬'’\u00a0\u202f]\d+)*")  # "12,500", "12.500", "3.5"
WORD = re.compile(r"[^\W\d_]{2,}")
QUESTION_MARKS = "?？؟"


def swapped_lines(sources: list[str], targets: list[str]) -> tuple[int, int] | None:
    """Two lines whose translations would fit better in each other's place; None when all stand where they belong.

    Compared are figures, a question mark at the end, and names: words that begin with a capital letter past the
    beginning of a source, and that a translation may keep. Two lines are swapped when they have more of these in
    common crosswise than straight; so what a translation drops or rewords costs nothing. Every swap of two lines is
    seen that changes a figure, a name or a question mark which both translations keep. What is not seen: a swap of
    lines that differ in none of them ("It was red.", "It was blue."), or only in what a translation does not keep
    ("England" and "Inglaterra", "7" and "zeven").
    """
    names = {name for source in sources for name in _names(source)}
    asked = [_marks(source, names) for source in sources]
    found = [_marks(target, names) for target in targets]
    odd = [index for index in range(len(asked)) if asked[index] != found[index]]
    for i, j in itertools.combinations(odd, 2):
        straight = _difference(asked[i], found[i]) + _difference(asked[j], found[j])
        if _difference(asked[i], found[j]) + _difference(asked[j], found[i]) < straight:
            return i, j
    return None


def figures(text: str) -> list[str]:
    """The numbers in `text`: Latin digits, without what stands between them."""
    return ["".join(latin_digits(char) for char in figure if char.isdecimal()) for figure in FIGURE.findall(text)]


def latin_digits(text: str) -> str:
    """`text` with the digits of all scripts as 0 to 9."""
    return "".join(str(unicodedata.digit(char, char)) for char in text)


def _names(source: str) -> list[str]:
    return [word for word in WORD.findall(source.partition(" ")[2]) if word[0].isupper()]


def _marks(text: str, names: set[str]) -> Counter[str]:
    """What a translation keeps of a text: figures, the names among its words, whether it asks."""
    words = set(WORD.findall(text)) & names
    return Counter(figures(text)) + Counter(words) + Counter("?" if text[-1:] in QUESTION_MARKS else "")


def _difference(left: Counter[str], right: Counter[str]) -> int:
    return (left - right).total() + (right - left).total()
