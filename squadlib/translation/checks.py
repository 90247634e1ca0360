"""Is it a translation? What a text shows beside its source."""

from __future__ import annotations

import re
import unicodedata

LANGUAGES_WITHOUT_FULL_STOP = {"th", "lo", "my", "km"}
IDEOGRAPHS = re.compile("[\u3040-\u9fff]+")
ERROR_PAGE = re.compile(
    r"Error \d{3} \(|!!1\s?\d{3}|That[’']s an error|unusual traffic from|encountered a temporary error"
)

COLON = re.compile(r"[^\W\d]\s?:\s|：")  # after a word: a label, an announcement or a note begins or ends there
NOTE = re.compile(r"[(\[（](?:[^\s()]+\s+){3,}[^()]*[)\]）]")  # four words and more in brackets
MARKUP = re.compile(r"\*\*|`|^[#>*-] ")
REFUSAL = re.compile(
    r"^(?:i['’]?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|as an? (?:ai|language model)|i can(?:not|['’]t)|"
    r"i am (?:not able|unable)|i['’]m (?:not able|unable))\b.{0,80}(?:\bcan(?:not|['’]t)\W*$|\b(?:translat|assist|help|"
    r"provide|comply|fulfil|generate|continue|language model|request)|\bai\b)",
    re.IGNORECASE,
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


def reply_fault(source: str, reply: str, sentence_t: str = "") -> str | None:
    """Why the reply of a chat model is not a translation alone; None when nothing speaks against it.

    sentence_t: the translated sentence that the model was shown with an answer.
    """
    if "<think>" in reply and "<think>" not in source:
        return "still thinking"
    if len(lines := [line for line in reply.splitlines() if line.strip()]) > 1:
        return f'{len(lines)} lines for one: "{reply[:60]}"'
    if REFUSAL.match(reply) and not REFUSAL.match(source):
        return f'a refusal: "{reply[:60]}"'
    if COLON.search(f"{reply} ") and not re.search("[:：]", source):
        return f'a label or note: "{reply[:60]}"'
    if (note := NOTE.search(reply)) and not re.search(r"[(\[（]", source) and note[0][1:-1].strip() not in source:
        return f'a note: "{reply[-60:]}"'
    if MARKUP.search(reply) and not MARKUP.search(source):
        return f'marked up: "{reply[:60]}"'
    if reply == sentence_t and len(reply) > 1.5 * len(source):
        return "the whole sentence for a part of it"
    return None


def _weight(text: str) -> int:
    """Length in letters of an alphabet: an ideograph or kana says about as much as three letters."""
    return len(text) + 2 * sum(map(len, IDEOGRAPHS.findall(text)))


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
