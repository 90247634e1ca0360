"""The normalisations of MLQA's and MKQA's own evaluators, rule by rule with their flaws: `mlqa-de`, `mkqa-nl`, …

Both put a text in lower case, drop punctuation, then articles, and cut what is left into words. They differ in what
punctuation is (all of Unicode's in MLQA, ASCII's in MKQA) and in how Chinese is cut. Their flaws are kept, because a
figure can only be compared with published ones where it follows the same rules; benchmarks/normalisations.py compares
each with the original (Lewis et al. 2020, Longpre et al. 2021).
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

WHOLE_WORDS = {  # words that do not count
    "da": "en et",
    "de": "ein eine einen einem eines einer der die das den dem des",
    "en": "a an the",
    "es": "un una unos unas el la los las",
    "fi": "se yks yksi",
    "hu": "a az egy",
    "nl": "de het een des der den",
    "no": "en et ei",
    "pt": "o a os as um uma uns umas",
    "sv": "en ett",
    "vi": "của là cái chiếc những",  # "là" is the verb "is"; nothing matches in decomposed Unicode (NFD)
}
BEGINNINGS = {  # MKQA drops these from the beginning of any word: "lettre" -> "ttre", "les" -> "s"
    "fr": "le la du de un",
    "it": "il lo la i gli le del dei degli uno una un",
}
ANYWHERE = {"ar": "ال"}  # dropped inside words too, which falls apart there: "سالم" -> "س م"
BY_CHARACTER = ("ja", "km", "th", "zh")  # MKQA: every character a word, digits and Latin letters too
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
MKQA_LANGUAGES = (*WHOLE_WORDS, *BEGINNINGS, *ANYWHERE, *BY_CHARACTER, "he", "ko", "ms", "pl", "ru", "tr")
NAMES = tuple(sorted([f"mlqa-{name}" for name in MLQA_LANGUAGES] + [f"mkqa-{name}" for name in MKQA_LANGUAGES]))


class Rule(NamedTuple):
    """dropped: characters that go, for str.translate; articles: what becomes a space; alone: what is a word alone."""

    dropped: Mapping[int, int | None]
    articles: re.Pattern[str] | None
    alone: re.Pattern[str] | None


class UnicodePunctuation(dict[int, int | None]):
    """A table for str.translate without punctuation of any script, as Python's own Unicode tables know it."""

    def __missing__(self, code: int) -> int | None:
        letter = chr(code)
        is_punctuation = letter in string.punctuation or unicodedata.category(letter).startswith("P")
        self[code] = None if is_punctuation else code
        return self[code]


@functools.cache
def rule_of(name: str) -> Rule:
    """The rule called `name`, one of NAMES."""
    source, language = name.split("-")
    if source == "mlqa":
        han = re.compile("[\u4e00-\u9fa5]") if language == "zh" else None  # not the rarer ones, nor kana
        return Rule(UnicodePunctuation(), articles_of(language), han)
    alone = re.compile(r"\S") if language in BY_CHARACTER else None
    return Rule(str.maketrans("", "", string.punctuation), articles_of(language), alone)


def articles_of(language: str) -> re.Pattern[str] | None:
    if language in WHOLE_WORDS:
        return re.compile(rf"\b({WHOLE_WORDS[language].replace(' ', '|')})\b")
    if language in BEGINNINGS:
        return re.compile(rf"\b({BEGINNINGS[language].replace(' ', '|')})")
    return re.compile(ANYWHERE[language]) if language in ANYWHERE else None


def normalise(text: str, name: str) -> str:
    """`text` under the rule called `name`, words joined by one space."""
    rule = rule_of(name)
    text = text.lower().translate(rule.dropped)
    if rule.articles:
        text = rule.articles.sub(" ", text)
    if rule.alone:
        text = rule.alone.sub(r" \g<0> ", text)
    return " ".join(text.split())
