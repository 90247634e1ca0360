"""Whole tokens of a text, and the forms in which they are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

STEM_LENGTH = 5  # letters: the word alignment compares words by their beginning, endings inflect
SOURCE_ARTICLES = frozenset({"the", "a", "an"})
UNSPACED = (  # Thai, Lao, Burmese, Khmer, kana, Han: scripts that write no space between words
    "\u0e00-\u0eff\u1000-\u109f\uaa60-\uaa7f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\uff66-\uff9f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
LEADING_VOWELS = "\u0e40-\u0e44\u0ec0-\u0ec4"  # Thai and Lao: written before the consonant they belong to
TRAILING_VOWELS = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"  # and after it, though they are letters to Unicode
STACKERS = "\u1039\u17d2"  # Burmese and Khmer: the next consonant stands below this one
JOINERS = "\u00ad\u200b-\u200d\u2060"  # soft hyphen, zero-width characters: inside a word, never seen
Span = tuple[int, int]  # first and last, last excluded


@lru_cache(maxsize=1)
def token_pattern() -> re.Pattern[str]:
    """The pattern of one whole token: a word, a number, an abbreviation, a symbol that is read aloud."""
    marks = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
    marks += "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variants of a character
    letters = rf"[^\W_{UNSPACED}]*(?:[{marks}{JOINERS}]+[^\W_{UNSPACED}]*)*"
    after = rf"[{STACKERS}][{UNSPACED}]|[{marks}{JOINERS}{TRAILING_VOWELS}]"
    return re.compile(
        r"(?:[^\W\d_]{1,2}\.){2,}"  # d.w.z.  v.Chr.  EE.UU.
        rf"|[^\W\d_{UNSPACED}]{letters}"
        r"|\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\w)"  # 1 234 567
        rf"|\d+(?:[.,:]\d+)*{letters}"  # 1.234,5  19e  1990s
        rf"|[{LEADING_VOWELS}]*[{UNSPACED}](?:{after})*"  # what is read as one character: never cut
        r"|[$€£¥%‰°#&]"
        r"|(?<!\w)['’‘][sntSNT](?!\w)"  # 's-Hertogenbosch, 't
    )


def tokenize(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """(start, end) of every token of text[start:end], in characters of `text`."""
    return [match.span() for match in token_pattern().finditer(text, start, len(text) if end is None else end)]


@lru_cache(maxsize=1 << 18)
def fold(token: str) -> str:
    """The token without case, accents, joiners and typography; of a number its digits only, as 0 to 9.

    "België" -> "belgie", "1.234,50" and "1,234.50" -> "123450", "١٩٩٥" -> "1995", "’s" -> "'s"
    """
    if token[0].isdigit():
        return "".join(str(unicodedata.digit(char)) for char in token if char.isdigit())
    text = unicodedata.normalize("NFKD", token.casefold().replace("’", "'").replace("‘", "'"))
    if is_unspaced(token):
        return text  # vowel signs and tones are no accents
    return "".join(char for char in text if unicodedata.category(char)[0] not in "MC") or token


def is_unspaced(token: str) -> bool:
    """Whether the token is a character of a script that writes no space between words."""
    return unspaced_pattern().match(token) is not None


@lru_cache(maxsize=1)
def unspaced_pattern() -> re.Pattern[str]:
    return re.compile(f"[{UNSPACED}]")


def fold_text(text: str) -> list[str]:
    return [fold(text[start:end]) for start, end in tokenize(text)]


def stem(token: str) -> str:
    """What stands for the token in the word alignment: the first letters of its folded form, or its digits."""
    folded = fold(token)
    return folded if folded[0].isdigit() else folded[:STEM_LENGTH]


def without_article(words: list[str], articles: frozenset[str]) -> list[str]:
    return words[1:] if len(words) > 1 and words[0] in articles else words
