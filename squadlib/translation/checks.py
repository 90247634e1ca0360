"""Is it a translation?"""

from __future__ import annotations

import difflib
import re
import unicodedata

SAME_TEXT = 0.6  # similarity of a canary's translation to the one of before; a reworded sentence stays above it
CANARIES = [  # English sentences whose translation is known after the first request; the year must survive
    "The bridge over the river was built in 1893.",
    "In 1928 a young teacher wrote down every song.",
    "Nobody was hurt when the old mill burned in 1957.",
]
INVISIBLE = re.compile("[\u200b\ufeff]")  # the page scatters zero-width spaces, where no search would find a word
LANGUAGES_WITHOUT_FULL_STOP = {"th", "lo", "my", "km"}
ERROR_PAGE = re.compile(
    r"Error \d{3} \(|!!1\s?\d{3}|That[’']s an error|unusual traffic from|encountered a temporary error"
)


def translation_fault(source: str, target: str, target_lang: str, *, may_be_cut: bool = False) -> str | None:
    """Why `target` cannot be a translation of `source`; None when nothing speaks against it.

    A name or number equal to its source is fine. may_be_cut: the server may lose the end of a text (at a "<").
    """
    if not target.strip():
        return "empty"
    if ERROR_PAGE.search(target) and not ERROR_PAGE.search(source):
        return "the text of an error page"
    weights = _weight(source), _weight(target)
    if max(weights) > 3 * min(weights) + 20:
        return f"{len(target)} characters for {len(source)}"
    if _is_echo(source, target):
        return "still in the source language"
    ends = source[-1] in ".?!" and len(source.split()) >= 4 and target_lang not in LANGUAGES_WITHOUT_FULL_STOP
    if may_be_cut and ends and not unicodedata.category(target[-1]).startswith("P"):
        return "cut off"
    return None


def _weight(text: str) -> int:
    """Length in letters of an alphabet: an ideograph or kana says about as much as three letters."""
    return len(text) + 2 * sum("\u3040" <= char <= "\u9fff" for char in text)


def _is_echo(source: str, target: str) -> bool:
    """Whether `target` is the source again, mostly the source's words, or the source with its translation.

    Only running text counts: words in lower case, or eight letters of a script without case ("Lo").
    """
    words = _lower_words(source)
    prose = len(words) >= 4 or sum(unicodedata.category(char) == "Lo" for char in source) >= 8
    if not prose:
        return False
    if source.casefold().rstrip(".?! ") in target.casefold():
        return True
    return len(words) >= 6 and len(words & _lower_words(target)) >= 0.8 * len(words)


def _lower_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]+", text) if word[0].islower()}


def canary_fault(source: str, target: str, before: str | None, target_lang: str) -> str | None:
    """Why the translation of a canary shows that the server answers nonsense; None when it does not."""
    fault = translation_fault(source, target, target_lang, may_be_cut=True)
    if not fault and not set(re.findall(r"\d{4}", source)) <= set(re.findall(r"\d{4}", _latin_digits(target))):
        fault = "the year is lost"
    if not fault and before and similarity(before, target) < SAME_TEXT:
        fault = f'"{target[:60]}", before it was "{before[:60]}"'
    return fault and f'nonsense: the control sentence "{source}" came back wrong ({fault})'


def _latin_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(char, char)) for char in text)


def similarity(left: str, right: str) -> float:
    """Share of characters in common, 0 to 1."""
    return difflib.SequenceMatcher(None, left, right, autojunk=False).ratio()


def choose_canaries(source_lang: str, strings: list[str]) -> list[str]:
    """Control sentences in the source language: for another than English, three of middling length of the file."""
    if source_lang == "en":
        return CANARIES
    return sorted(set(strings), key=lambda string: (abs(len(string) - 60), string))[:3]
