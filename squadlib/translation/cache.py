"""Translate a SQuAD file into another language, keeping the source, the sentence map and every answer's translation.

    python translate_squad.py --input_file train-v2.0.json --output_file nl_squadv2_train.json

Reads any SQuAD v1.1 or v2.0 file. Writes the same document with the translations beside the source texts:

    paragraph   context_t   the translated context, sentence by sentence, with the source's own white space between them
                sentences   [[s, e, ts, te], …]: context[s:e] is a sentence, context_t[ts:te] its translation
    question    question_t
    answer      iso_t       the answer translated alone (plausible answers are not sent)

What could not be translated is null. Every answered request goes into an SQLite cache at once, so the same command goes
on where the last one stopped, whatever stopped it. clean_squad.py then finds the answers again, without a network.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import difflib
import email.utils
import http.client
import json
import logging
import math
import os
import random
import re
import shlex
import socket
import sqlite3
import sys
import threading
import time
import unicodedata
import urllib.error
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from utils_squad import (
    EXIT_BLOCKED,
    EXIT_OK,
    SquadError,
    atomic_write,
    check_output_path,
    exit_with_faults,
    load_squad,
    progress_bar,
    script_main,
    setup_logging,
)

logger = logging.getLogger("translate_squad")

MAX_SENTENCE_CHARS = 900  # one string to translate: 900 four-byte characters still fit MAX_URL_BYTES
ABBREVIATION = re.compile(  # words after which a full stop does not end the sentence
    r"(?i:.*[-–/])?(?i:mr|mrs|ms|dr|prof|st|sr|jr|vs|cf|nos?|vols?|figs?|eds?|pp|art|approx|ca|al|gen|col|lt|sgt|capt|"
    r"cmdr|adm|maj|rev|hon|gov|sen|rep|pres|mt|ft|messrs|mme|mlle|bzw|usw|nr|bijv|dhr|mevr|jhr|mw|drs|ing|ir|sra|srta|"
    r"uds?|núm|pág|jan|feb|mar|apr|jun|jul|aug|sept?|oct|okt|nov|dec|dez)"
)
LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s)|[।۔؟]+[”’»)]*(?=\s)|[。！？｡]+[”’」』）]*""")
ACRONYM = re.compile(r"(?:\w\.)*\w|\d\d")  # "J", "U.S", "e.g", and the German "am 31."
MAX_URL_BYTES = 12_000  # the web page refuses about 16 KiB of percent-encoded text
MAX_TRIES = 4  # of one request, before its text is suspected and split
FAULTS_IN_A_ROW = 5  # without one good answer between them: as good as a block
CANARY_EVERY = 50  # requests that travel without a canary line, until the canaries are asked on their own
SAME_TEXT = 0.6  # similarity of a canary's translation to the one of before; a reworded sentence stays above it
MAX_COOL_DOWN = 1800.0  # seconds
STOP_GRACE = 3.0  # seconds that Ctrl-C waits for answers that are on their way
REPORT_EVERY = 60.0  # seconds between progress lines when stderr is not a terminal
CACHE_ID = 0x53515432  # application_id of the SQLite file
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


# ---------------------------------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------------------------------


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Character spans of the sentences of `text`, in order; every character outside them is white space.

    A line break always ends a sentence, so a sentence can travel as one line. In doubt ("J. Smith", "No. 5") there is
    no cut. A sentence of more than MAX_SENTENCE_CHARS is cut at a comma, a space, or hard.
    """
    spans = []
    for line in LINE.finditer(text):
        start = line.start()
        for mark in SENTENCE_END.finditer(line.group()):
            if _ends_sentence(line.group(), mark.start(), mark.end()):
                spans.append((start, line.start() + mark.end()))
                start = line.start() + mark.end()
        spans.append((start, line.end()))
    stripped = [_strip_span(text, *span) for span in spans]
    return [piece for start, end in stripped if start < end for piece in _cut_long(text, start, end)]


def _ends_sentence(line: str, mark: int, end: int) -> bool:
    """Whether the punctuation line[mark:end] ends a sentence: by the word before it and the first letter after it."""
    following = line[end:].lstrip(" \t\u00a0\"'“‘«„([¿¡")[:1]
    if not following or following.islower():
        return line[mark] in "。！？｡" and bool(line[end:].strip())
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
        start = _strip_span(text, cut, end)[0]
    return [*pieces, (start, end)]


# ---------------------------------------------------------------------------------------------------------------------
# What to translate
# ---------------------------------------------------------------------------------------------------------------------


def strings_of(text: str, *, sentences: bool = False) -> list[str]:
    """The strings that stand for `text` in a request, white space made single: its sentences, or else one string.

    A question or answer longer than MAX_SENTENCE_CHARS goes by sentences too.
    """
    if sentences or len(text) > MAX_SENTENCE_CHARS:
        return [" ".join(text[start:end].split()) for start, end in split_sentences(text)]
    return [" ".join(text.split())] if text.strip() else []


def strings_by_paragraph(document: dict[str, Any]) -> list[list[str]]:
    """Everything to translate, a list a paragraph, repeated strings only where they come first."""
    seen: set[str] = set()
    groups = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            strings = strings_of(paragraph["context"], sentences=True)
            strings += [string for qa in paragraph["qas"] for string in strings_of(qa["question"])]
            strings += [string for text in _answer_texts(paragraph) for string in strings_of(text)]
            groups.append([string for string in dict.fromkeys(strings) if string not in seen])
            seen.update(strings)
    return groups


def _answer_texts(paragraph: dict[str, Any]) -> list[str]:
    return [answer["text"] for qa in paragraph["qas"] if not qa["is_impossible"] for answer in qa["answers"]]


def pack_requests(
    groups: Iterable[list[str]], canaries: list[str], max_chars: int, *, across_paragraphs: bool = False
) -> list[list[str]]:
    """The strings in requests within max_chars and MAX_URL_BYTES, each with room for a canary line.

    A request never mixes paragraphs unless across_paragraphs is set.
    """
    if across_paragraphs:
        groups = [[string for group in groups for string in group]]
    canary_chars, canary_bytes = (max(map(measure, canaries)) for measure in (len, encoded_size))
    requests: list[list[str]] = []
    for group in groups:
        chars = size = math.inf  # the first string of a group opens a request
        for string in group:
            chars, size = chars + len(string) + 1, size + encoded_size(string)
            if chars > max_chars or size > MAX_URL_BYTES:
                requests.append([])
                chars, size = canary_chars + len(string) + 1, canary_bytes + encoded_size(string)
            requests[-1].append(string)
    return requests


def encoded_size(string: str) -> int:
    """Bytes of `string` and its line break in the address of a request."""
    return len(urllib.parse.quote(string)) + 3


def translated_document(document: dict[str, Any], targets: dict[str, str], info: dict[str, Any]) -> dict[str, Any]:
    """The document with context_t, sentences, question_t and iso_t beside the source texts; None where missing."""
    articles = []
    for article in document["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            context_t, sentences = translate_context(paragraph["context"], targets)
            qas = [_translated_question(qa, targets) for qa in paragraph["qas"]]
            texts = {"context": paragraph["context"], "context_t": context_t, "sentences": sentences}
            paragraphs.append({**texts, **{k: v for k, v in paragraph.items() if k not in texts}, "qas": qas})
        articles.append({**article, "paragraphs": paragraphs})
    return {"version": document.get("version", "2.0"), "translation": info, **document, "data": articles}


def translate_context(context: str, targets: dict[str, str]) -> tuple[str | None, list[list[int | None]]]:
    """(translated context, sentence map). context_t[ts:te] is the sentence's translation, exactly.

    White space before, between and after the sentences is the source's own; one space where it has none ("。").
    """
    spans = split_sentences(context)
    found = [targets.get(" ".join(context[start:end].split())) for start, end in spans]
    if not spans or None in found:
        return None, [[start, end, None, None] for start, end in spans]
    parts, sentences, length, last = [], [], 0, 0
    for (start, end), target in zip(spans, found, strict=True):
        gap = context[last:start] or (" " if last else "")
        length += len(gap)
        sentences.append([start, end, length, length + len(target)])
        parts += [gap, target]
        length, last = length + len(target), end
    return "".join([*parts, context[last:]]), sentences


def _translated_question(qa: dict[str, Any], targets: dict[str, str]) -> dict[str, Any]:
    question = {"question": qa["question"], "question_t": translate_text(qa["question"], targets)}
    answers = qa["answers"]
    if not qa["is_impossible"]:
        answers = [{**answer, "iso_t": translate_text(answer["text"], targets)} for answer in answers]
    return {**question, **{k: v for k, v in qa.items() if k not in question}, "answers": answers}


def translate_text(text: str, targets: dict[str, str]) -> str | None:
    """The translation of a question or an answer; None when it is missing or the text is empty."""
    found = [targets.get(string) for string in strings_of(text)]
    return None if not found or None in found else " ".join(found)


# ---------------------------------------------------------------------------------------------------------------------
# Is it a translation?
# ---------------------------------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------------------------------
# The cache
# ---------------------------------------------------------------------------------------------------------------------


class Cache:
    """Translations of one backend and language pair in an SQLite file that several processes may share.

    A write is on the disk when put() returns. Others' translations in the same file are never seen.
    """

    WHERE = "backend = ? AND source_lang = ? AND target_lang = ? AND source = ?"

    def __init__(self, path: str, backend: str, source_lang: str, target_lang: str) -> None:
        self.path, self.key = path, (backend, source_lang, target_lang)
        self.database = sqlite3.connect(path, timeout=60, isolation_level=None)
        (found,) = self.database.execute("PRAGMA application_id").fetchone()
        if found != CACHE_ID and self.database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise SquadError(f"{path}: an SQLite file, but not a translation cache; name another --cache_file")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        if found != CACHE_ID:
            self.database.execute(f"PRAGMA application_id = {CACHE_ID}")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS translation (backend TEXT, source_lang TEXT, target_lang TEXT, source TEXT,"
            " target TEXT NOT NULL CHECK (target <> ''), checksum INTEGER NOT NULL,"
            " PRIMARY KEY (backend, source_lang, target_lang, source)) WITHOUT ROWID"
        )

    def get(self, strings: Iterable[str]) -> dict[str, str]:
        """The translations of those strings that have one. SQLite itself does not notice a damaged text."""
        query = f"SELECT target, checksum FROM translation WHERE {self.WHERE}"
        rows = ((string, self.database.execute(query, (*self.key, string)).fetchone()) for string in strings)
        found = {string: row for string, row in rows if row}
        for string, (target, checksum) in found.items():
            if checksum != self._checksum(string, target):
                raise SquadError(f"{self.path}: the entry of {string[:60]!r} is damaged; move the file away")
        return {string: target for string, (target, _) in found.items()}

    def _checksum(self, source: str, target: str) -> int:
        return zlib.crc32(repr((*self.key, source, target)).encode("utf-8", "backslashreplace"))

    def put(self, targets: dict[str, str]) -> None:
        """Store translations in one transaction; a string that another process was faster with keeps its first."""
        with self._transaction():
            rows = [(*self.key, source, target, self._checksum(source, target)) for source, target in targets.items()]
            self.database.executemany("INSERT INTO translation VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)

    def forget(self, strings: Iterable[str]) -> None:
        """Remove translations that turned out to be doubtful."""
        with self._transaction():
            self.database.executemany(f"DELETE FROM translation WHERE {self.WHERE}", [(*self.key, s) for s in strings])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            self.database.rollback()
            raise


# ---------------------------------------------------------------------------------------------------------------------
# Backends: a list of strings in, a list out, order kept
# ---------------------------------------------------------------------------------------------------------------------


class Backend(Protocol):
    """What a translation engine offers."""

    def translate(self, strings: list[str]) -> list[str]:
        """The translations in the same order, "" where there is none."""
        ...


class Fault(Exception):
    """A request without a usable answer. The three kinds below say whom to blame, and so what to do."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds that the server asks for


class Blocked(Fault):
    """The server wants no more requests: everything waits."""


class UnknownPage(Blocked):
    """Nothing where the translation should be: a CAPTCHA, most likely, but perhaps this text's own fault."""


class Hiccup(Fault):
    """The server or the line failed: the same request again, later."""


class BadText(Fault):
    """The server is well but has trouble with this text: halves, one by one at last."""


class MtranslateBackend:
    """The free web page behind the package mtranslate. A call is one request, the strings its lines."""

    def __init__(self, source_lang: str, target_lang: str, timeout: float) -> None:
        try:
            import mtranslate
        except ImportError as error:
            raise SquadError("the package mtranslate is missing; pip install mtranslate") from error
        socket.setdefaulttimeout(timeout)  # the package sets none, so a silent server would hang it for ever
        self.languages = {"to_language": target_lang, "from_language": source_lang}
        self._translate = mtranslate.translate

    def translate(self, strings: list[str]) -> list[str]:
        """As many lines as strings; raises a Fault for everything that the package lets pass or raises itself."""
        try:
            reply = self._translate("\n".join(strings), **self.languages)
        except urllib.error.HTTPError as error:
            raise _http_fault(error) from error
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            reason = getattr(error, "reason", error)
            raise Hiccup(f"{type(error).__name__}: {reason}") from error
        if not reply.strip():
            raise UnknownPage("a page without a translation (CAPTCHA?)")
        if ERROR_PAGE.search(reply) and not ERROR_PAGE.search(" ".join(strings)):
            raise Hiccup(f'error text instead of a translation: "{reply[:40]}…"')
        lines = [" ".join(line.split()) for line in INVISIBLE.sub("", reply).strip("\n").split("\n")]
        if len(lines) != len(strings):
            raise BadText(f"{len(lines)} lines came back for {len(strings)}")
        return lines


def _http_fault(error: urllib.error.HTTPError) -> Fault:
    reason = f"HTTP {error.code} {error.reason}"
    if error.code in (403, 429, 503):
        return Blocked(reason, wait=retry_after(error.headers.get("Retry-After")))
    return (BadText if error.code in (400, 413, 414, 431) else Hiccup)(reason)


def retry_after(value: str | None) -> float | None:
    """Seconds from now in a Retry-After header, given as seconds or as a date; None when it says nothing usable."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class MemoryBackend:
    """A translation memory: a file with one JSON object a line, {"source": "Hello.", "target": "Hallo."}."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.targets: dict[str, str] = {}
        try:
            with open(path, encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        self._add(line, f"{path}: line {number}")
        except (OSError, UnicodeDecodeError) as error:
            raise SquadError(f"{path}: cannot be read as UTF-8 text ({error})") from error

    def _add(self, line: str, place: str) -> None:
        try:
            entry = json.loads(line)
            source, target = (" ".join(entry[key].split()) for key in ("source", "target"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SquadError(
                f'{place}: expected {{"source": "…", "target": "…"}}, found {line.strip()[:60]}'
            ) from error
        if not source or not target:
            raise SquadError(f"{place}: an empty source or target; remove the line")
        if self.targets.setdefault(source, target) != target:
            raise SquadError(f'{place}: a second translation of "{source[:60]}"; keep one')

    def translate(self, strings: list[str]) -> list[str]:
        """Every string's translation; raises SquadError that lists what the memory lacks."""
        misses = [string for string in strings if string not in self.targets]
        if misses:
            some = "".join(f"\n  {json.dumps({'source': miss}, ensure_ascii=False)}" for miss in misses[:10])
            more = f"\n  … and {len(misses) - 10:,} more" if len(misses) > 10 else ""
            raise SquadError(f"{self.path}: no translation of {len(misses):,} of {len(strings):,} strings:{some}{more}")
        return [self.targets[string] for string in strings]


class HfBackend:
    """A local seq2seq model through transformers: MarianMT (opus-mt-en-nl), NLLB, M2M100 and their like."""

    def __init__(
        self, model_dir: str, source_code: str, target_code: str, num_beams: int, dtype: str, device: str | None = None
    ) -> None:
        self.num_beams = num_beams
        try:
            from transformers import AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(model_dir)
            self._load_model(model_dir, dtype, device)
        except ImportError as error:
            missing = "sentencepiece" if "sentencepiece" in str(error).lower() else error.name or "transformers torch"
            raise SquadError(f"{model_dir}: loading it needs another package: pip install {missing}") from error
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SquadError(f"{model_dir}: no translation model that can be loaded ({reason})") from error
        self._set_languages(source_code, target_code)

    def _load_model(self, model_dir: str, dtype: str, device: str | None) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = AutoModelForSeq2SeqLM.from_pretrained(model_dir, dtype=getattr(torch, dtype)).to(device).eval()
        self.max_tokens = getattr(self.model.config, "max_position_embeddings", 512)

    def _set_languages(self, source_code: str, target_code: str) -> None:
        """Tell a model of many languages which to use: by language tokens (NLLB, M2M100) or by a prefix (Marian)."""
        self.prefix, self.target_token = "", None
        if getattr(self.tokenizer, "src_lang", None):
            self._language_token(source_code, "--source_code")
            self.tokenizer.src_lang = source_code
            self.target_token = self._language_token(target_code, "--target_code")
        elif f">>{target_code}<<" in self.tokenizer.get_vocab():
            self.prefix = f">>{target_code}<< "

    def _language_token(self, code: str, flag: str) -> str:
        token = code if "_" in code else f"__{code}__"  # NLLB, mBART: nld_Latn, nl_XX; M2M100: __nl__
        if self.tokenizer.convert_tokens_to_ids(token) in (None, self.tokenizer.unk_token_id):
            raise SquadError(f"{flag} {code} is not a language of this model; NLLB's codes look like nld_Latn")
        return token

    def translate(self, strings: list[str]) -> list[str]:
        """One batch. A string that is too long for the model comes back as ""."""
        encoded = [self.tokenizer(self.prefix + string).input_ids for string in strings]
        fit = [index for index, ids in enumerate(encoded) if len(ids) <= self.max_tokens]
        targets = [""] * len(strings)
        if fit:
            output = self._generate([encoded[index] for index in fit])
            for index, text in zip(fit, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                targets[index] = " ".join(text.split())
        return targets

    def generation_lengths(self, num_tokens: int) -> tuple[int, int]:
        """(least, most) tokens to generate for a longest input of num_tokens: a model may babble on for ever."""
        return 0, min(self.max_tokens - 1, 2 * num_tokens + 20)

    def _generate(self, encoded: list[list[int]]) -> list[list[int]]:
        import torch

        batch = self.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(self.model.device)
        least, most = self.generation_lengths(batch["input_ids"].shape[1])
        options = {"num_beams": self.num_beams, "do_sample": False, "min_new_tokens": least, "max_new_tokens": most}
        if self.target_token:
            options["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids(self.target_token)
        with torch.inference_mode():
            return self.model.generate(**batch, **options).tolist()


class Ct2Backend(HfBackend):
    """The same models through CTranslate2, several times faster on a CPU: see the folder's recipe in README.md."""

    def _load_model(self, model_dir: str, dtype: str, device: str | None) -> None:
        import ctranslate2

        kind = "default" if dtype == "float32" else dtype  # default: as converted
        self.model = ctranslate2.Translator(model_dir, device=device or "auto", compute_type=kind)
        self.max_tokens = 512

    def _generate(self, encoded: list[list[int]]) -> list[list[int]]:
        least, most = self.generation_lengths(max(map(len, encoded)))
        options = {"beam_size": self.num_beams, "min_decoding_length": least, "max_decoding_length": most}
        if self.target_token:
            options["target_prefix"] = [[self.target_token]] * len(encoded)
        results = self.model.translate_batch([self.tokenizer.convert_ids_to_tokens(ids) for ids in encoded], **options)
        return [self.tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]


# ---------------------------------------------------------------------------------------------------------------------
# Local work: batches by length
# ---------------------------------------------------------------------------------------------------------------------


def translate_locally(backend: Backend, cache: Cache, strings: list[str], batch_size: int) -> dict[str, str]:
    """Translate with an engine that neither blocks nor mixes strings up; every batch is stored at once.

    Returns the reason for every string without a valid translation.
    """
    missing = {}
    ordered = sorted(strings, key=len)  # equal lengths together: little time goes into padding
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    random.shuffle(batches)  # a believable ETA, and two processes on one cache seldom meet
    with progress_bar(total=len(strings), unit="string") as bar:
        while batches:
            batch = batches.pop()
            known = cache.get(batch)
            bar.update(len(known))
            batch = [string for string in batch if string not in known]
            try:
                targets = dict(zip(batch, backend.translate(batch), strict=True)) if batch else {}
            except RuntimeError as error:
                if "out of memory" not in str(error) or len(batch) == 1:
                    raise
                logger.warning("%d strings are too many for the memory: halves; lower --batch_size", len(batch))
                batches += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            faults = {source: translation_fault(source, target, cache.key[2]) for source, target in targets.items()}
            cache.put({source: target for source, target in targets.items() if not faults[source]})
            missing.update({source: fault for source, fault in faults.items() if fault})
            bar.update(len(batch))
    return missing


# ---------------------------------------------------------------------------------------------------------------------
# Work through a web server that may block, fail or answer nonsense
# ---------------------------------------------------------------------------------------------------------------------


class StillBlockedError(Exception):
    """The server has been blocking for longer than --give_up_after, or asks for a wait that would end after it."""


@dataclass
class Pace:
    """When the next request may leave: a rate, halved by a block and slowly raised again, and one cool-down for all."""

    full_rate: float  # requests a second
    cool_down: float  # seconds after a first block that names no time; doubled by each block that follows
    give_up_after: float  # seconds without a good answer
    rate: float = 0.0
    blocks: int = 0
    blocks_in_a_row: int = 0
    _blocked_since: float = 0.0
    _cooling_since: float = -math.inf
    _next: float = 0.0

    def __post_init__(self) -> None:
        self.rate = self.full_rate

    def delay(self) -> float:
        """Seconds until the next request may leave; not positive when it may."""
        return self._next - time.monotonic()

    def sent(self) -> None:
        """A request has left."""
        self._next = max(self._next, time.monotonic() + 1 / self.rate)

    def good(self) -> None:
        """A good answer came: a hundredth of the full rate more."""
        self.rate = min(self.full_rate, self.rate + self.full_rate / 100)
        self.blocks_in_a_row = 0

    def block(self, fault: Fault, sent_at: float) -> None:
        """Start a cool-down, unless the blocked request had left before the last one began."""
        now = time.monotonic()
        if sent_at < self._cooling_since:
            return
        if not self.blocks_in_a_row:
            self._blocked_since = now
        pause = fault.wait if fault.wait and not self.blocks_in_a_row else 0.0
        pause = pause or max(fault.wait or 0.0, min(MAX_COOL_DOWN, self.cool_down * 2**self.blocks_in_a_row))
        pause *= random.uniform(1.0, 1.25)
        self.blocks, self.blocks_in_a_row = self.blocks + 1, self.blocks_in_a_row + 1
        self.rate = max(self.rate / 2, self.full_rate / 64)
        self._cooling_since, self._next = now, now + pause
        if self._next - self._blocked_since > self.give_up_after:
            blocked = duration(now - self._blocked_since)
            raise StillBlockedError(f"blocked for {blocked}, the next try would be in {duration(pause)} ({fault})")
        logger.warning("%s: waiting %s, then %.2g requests/s", fault, duration(pause), self.rate)


@dataclass
class Request:
    """Strings that travel together, a line each. bare: without a canary line at the end."""

    strings: list[str]
    bare: bool = False
    tries: int = 0
    canary: str | None = None
    sent_at: float = 0.0

    def halves(self) -> list[Request]:
        middle = len(self.strings) // 2
        return [Request(self.strings[:middle]), Request(self.strings[middle:])]


@dataclass
class WebRun:
    """One run against a web backend: threads that ask, and the main thread, which checks, stores and decides.

    Each request carries a canary as its last line, a sentence whose translation is known, so that an answer vouches for
    itself. A server that does not keep line breaks gets one string a request, and the canaries now and then.
    """

    backend: Backend
    cache: Cache
    pace: Pace
    workers: int
    deadline: float  # seconds; an answer that drips in for longer is given up
    canaries: list[str]
    queue: collections.deque[Request] = field(default_factory=collections.deque)
    in_flight: dict[int, Request] = field(default_factory=dict)  # by ticket
    answers: SimpleQueue = field(default_factory=SimpleQueue)  # (ticket, lines or exception), from the threads
    canary_targets: dict[str, str] = field(default_factory=dict)
    unvouched: list[str] = field(default_factory=list)  # stored from bare requests since the last good canary
    in_doubt: bool = False  # bare requests wait until the canaries are well again
    missing: dict[str, str] = field(default_factory=dict)
    faults: collections.Counter = field(default_factory=collections.Counter)
    faults_in_a_row: int = 0
    lost_lines: int = 0  # times in a row that the canaries came back with another number of lines
    num_requests: int = 0
    latency: float = 0.0  # seconds, moving average
    shown_at: float = field(default_factory=time.monotonic)

    def run(self, requests: Iterable[list[str]]) -> dict[str, str]:
        """Ask everything and store every answer. Returns the reason for every string without a valid translation."""
        from tqdm.contrib.logging import logging_redirect_tqdm

        self.queue.extend(Request(strings) for strings in requests)
        random.shuffle(self.queue)  # a believable ETA, and two processes on one cache seldom meet
        self.canary_targets = self.cache.get(self.canaries)
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} strings{postfix}"
        with progress_bar(total=self._strings_left(), bar_format=form) as bar, logging_redirect_tqdm():
            try:
                while not self._canaries_are_well():
                    pass  # it waits for the end of the cool-down first
                while self.queue or self.in_flight or self.unvouched:
                    self._send()
                    if self.queue or self.in_flight:
                        self._receive()
                    self._show(bar)
            except (KeyboardInterrupt, SystemExit, StillBlockedError):
                self._receive_last()
                raise
        return self.missing

    def _send(self) -> None:
        """Start requests as far as the pace and the workers allow; ask the canaries first where they are due."""
        at_end = not self.queue and not self.in_flight
        due = self.in_doubt or len(self.unvouched) >= CANARY_EVERY or (self.unvouched and at_end)
        if due and not self._canaries_are_well():
            return
        while self.queue and len(self.in_flight) < self.workers and self.pace.delay() <= 0:
            request = self.queue.popleft()
            known = self.cache.get(request.strings)  # another process may have asked
            request.strings = [string for string in request.strings if string not in known]
            if not self._keeps_lines() and not request.bare:
                self.queue.extendleft(Request([string], bare=True) for string in reversed(request.strings))
            elif request.strings:
                self._start(request)

    def _start(self, request: Request) -> None:
        self.num_requests += 1
        request.canary = None if request.bare else self.canaries[self.num_requests % len(self.canaries)]
        request.sent_at = time.monotonic()
        self.in_flight[self.num_requests] = request
        self.pace.sent()
        lines = [*request.strings, *filter(None, [request.canary])]
        threading.Thread(target=self._ask, args=(self.num_requests, lines), daemon=True).start()

    def _ask(self, ticket: int, lines: list[str]) -> None:
        try:
            self.answers.put((ticket, self.backend.translate(lines)))
        except BaseException as error:  # for the main thread, which reacts or raises it again
            self.answers.put((ticket, error))

    def _receive(self) -> None:
        """Take one answer; wait for it until the next request is due, a second at most."""
        may_send = self.queue and len(self.in_flight) < self.workers
        try:
            ticket, answer = self.answers.get(timeout=min(1.0, max(0.0, self.pace.delay())) if may_send else 1.0)
        except Empty:
            overdue = (t for t, r in self.in_flight.items() if time.monotonic() - r.sent_at > self.deadline)
            ticket, answer = next(overdue, None), Hiccup(f"no whole answer in {duration(self.deadline)}")
        if request := self.in_flight.pop(ticket, None):  # else it was given up before
            try:
                self._accept(request, answer)
            except Fault as fault:
                self._react(request, fault)

    def _accept(self, request: Request, answer: list[str] | BaseException) -> None:
        """Check the answer and store it whole; raises a Fault when any line of it is not to be trusted."""
        if isinstance(answer, BaseException):
            raise answer
        if request.canary:
            self._check_canaries({request.canary: answer[-1]})
        targets = dict(zip(request.strings, answer, strict=False))
        for source, target in targets.items():
            if fault := translation_fault(source, target, self.cache.key[2], may_be_cut=True):
                raise BadText(f'"{source[:60]}" came back {fault}')
        self.cache.put(targets)
        self.unvouched = [] if request.canary else [*self.unvouched, *targets]
        self.faults_in_a_row = 0
        self.pace.good()
        self.latency += (time.monotonic() - request.sent_at - self.latency) / 20

    def _react(self, request: Request, fault: Fault) -> None:
        """Cool down, split, ask again later, or give a string up: whatever the fault calls for."""
        self.faults[type(fault).__name__] += 1
        logger.debug("%s", fault)
        self.faults_in_a_row += not isinstance(fault, BadText)
        request.tries += type(fault) is not Blocked  # a block is no fault of the text
        last_try = request.tries >= MAX_TRIES
        if len(request.strings) > 1 and (last_try or isinstance(fault, BadText)):
            self.queue.extendleft(reversed(request.halves()))
        elif last_try and self._canaries_are_well():
            self.missing[request.strings[0]] = str(fault)
        else:
            request.tries %= MAX_TRIES
            request.bare |= isinstance(fault, BadText) and request.tries > 1
            self.queue.append(request)
        if isinstance(fault, Blocked) or self.faults_in_a_row >= FAULTS_IN_A_ROW:
            self.pace.block(fault, request.sent_at)

    def _keeps_lines(self) -> bool:
        return self.lost_lines < 3

    def _canaries_are_well(self) -> bool:
        """Ask the canaries by themselves as soon as the pace allows. When they are not well, a cool-down begins."""
        asked = [self.canaries] if self._keeps_lines() else [[canary] for canary in self.canaries]
        targets: dict[str, str] = {}
        try:
            for lines in asked:
                time.sleep(max(0.0, self.pace.delay()))
                self.num_requests += 1
                self.pace.sent()
                sent_at = time.monotonic()
                targets.update(zip(lines, self.backend.translate(lines), strict=True))
            self._check_canaries(targets)
        except Fault as fault:
            self.faults[type(fault).__name__] += 1
            if isinstance(fault, BadText) and self._keeps_lines():
                self.lost_lines += 1
                if not self._keeps_lines():
                    logger.warning("the server does not keep line breaks (%s): one string a request", fault)
            else:
                self.pace.block(fault, sent_at)
            return False
        if self._keeps_lines():
            self.lost_lines = 0
        self.unvouched.clear()
        self.in_doubt = False
        self.pace.good()
        return True

    def _check_canaries(self, targets: dict[str, str]) -> None:
        """Learn the translations of the canaries; raise Hiccup when they are wrong or not those of before."""
        faults = [canary_fault(c, t, self.canary_targets.get(c), self.cache.key[2]) for c, t in targets.items()]
        if len(targets) > 1 and len(set(targets.values())) == 1:
            faults.append("nonsense: every control sentence has the same translation")
        if reason := next(filter(None, faults), None):
            self.in_doubt = not self._keeps_lines()
            self._ask_again_what_nobody_vouches_for()
            raise Hiccup(reason)
        if new := {canary: target for canary, target in targets.items() if canary not in self.canary_targets}:
            self.cache.put(new)
            self.canary_targets |= new

    def _ask_again_what_nobody_vouches_for(self) -> None:
        self.cache.forget(self.unvouched)
        self.queue.extend(Request([string], bare=True) for string in self.unvouched)
        self.unvouched.clear()
        for ticket in [ticket for ticket, request in self.in_flight.items() if request.bare]:
            self.queue.append(self.in_flight.pop(ticket))  # its answer will be passed over

    def _receive_last(self) -> None:
        """Store the answers that arrive within STOP_GRACE: they need not be asked again."""
        end = time.monotonic() + STOP_GRACE
        while self.in_flight and time.monotonic() < end:
            with contextlib.suppress(Empty, Fault):
                ticket, answer = self.answers.get(timeout=0.1)
                if request := self.in_flight.pop(ticket, None):
                    self._accept(request, answer)

    def _strings_left(self) -> int:
        return sum(len(request.strings) for request in [*self.queue, *self.in_flight.values()])

    def _show(self, bar: Any) -> None:
        """Refresh the bar twice a second; log a line a minute where stderr is not a terminal."""
        now = time.monotonic()
        if now - self.shown_at < (REPORT_EVERY if bar.disable else 0.5):
            return
        self.shown_at = now
        speed = max(1 / self.pace.rate, self.latency / self.workers)  # seconds a request
        good = max(0.1, 1 - self.faults.total() / max(1, self.num_requests))
        seconds = max(0.0, self.pace.delay()) + speed / good * (len(self.queue) + len(self.in_flight))
        done = bar.total - self._strings_left()
        line = f"{1 / speed:.2g} requests/s, {self.pace.blocks} blocks, {duration(seconds)} left"
        if bar.disable:
            logger.info("%s of %s strings, %s", f"{done:,}", f"{bar.total:,}", line)
        else:
            bar.n = done
            bar.set_postfix_str(line)


def duration(seconds: float) -> str:
    """For people: "0.4 s", "45 s", "12 min", "5 h 50 min"."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Translate a SQuAD v1.1 or v2.0 file. Stop it at any time: the same command goes on from there.",
        epilog="Exit codes: 0 done, 1 bad data, 2 wrong flags, 75 blocked for too long (run it again later), "
        "130 Ctrl-C, 143 SIGTERM.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("data").add_argument
    add("--input_file", required=True, metavar="FILE", help="SQuAD JSON file to translate")
    add("--output_file", metavar="FILE", help="translated file to write; not needed with --dry_run")
    add("--source_lang", default="en", metavar="CODE", help="language of the input (default: en)")
    add("--target_lang", default="nl", metavar="CODE", help="language of the output (default: nl)")
    add("--cache_file", metavar="FILE", help="SQLite file of all answers (default: <output_file>.cache.sqlite)")
    add("--dry_run", action="store_true", help="print what would be asked and how long it would take")
    add = parser.add_argument_group("engine").add_argument
    engines = "a free web page, a local model, the same through CTranslate2, or a file (default: mtranslate)"
    add("--backend", choices=["mtranslate", "hf", "ct2", "memory"], default="mtranslate", help=engines)
    form = 'memory: JSON lines {"source": "…", "target": "…"}, a sentence, question or answer each'
    add("--memory_file", metavar="FILE", help=form)
    add = parser.add_argument_group("web page (mtranslate)").add_argument
    add("--rate", type=float, default=1.0, help="requests a second at most (default: 1.0)")
    add("--workers", type=int, default=1, help="requests on their way at the same time (default: 1)")
    add("--max_chars", type=int, default=4500, help="characters a request; the page takes 5,000 (default: 4500)")
    add("--across_paragraphs", action="store_true", help="fill requests to --max_chars: a third as many, or fewer")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="for one answer (default: 30)")
    pause = "first pause when blocked, doubled by each block that follows (default: 30)"
    add("--cool_down", type=float, default=30.0, metavar="SECONDS", help=pause)
    stop = "exit with code 75 after this time without a good answer (default: 7200)"
    add("--give_up_after", type=float, default=7200.0, metavar="SECONDS", help=stop)
    add = parser.add_argument_group("local model (hf, ct2)").add_argument
    model = "MarianMT, NLLB or M2M100, e.g. Helsinki-NLP/opus-mt-en-nl; ct2: a converted folder"
    add("--model_name_or_path", metavar="NAME", help=model)
    add("--source_code", metavar="CODE", help="the model's own code, e.g. eng_Latn (default: --source_lang)")
    add("--target_code", metavar="CODE", help="the model's own code, e.g. nld_Latn (default: --target_lang)")
    add("--num_beams", type=int, default=4, help="1 is about three times as fast and a little worse (default: 4)")
    add("--batch_size", type=int, default=32, help="strings a batch; lower it if memory runs out (default: 32)")
    add("--bf16", action="store_true", help="16-bit weights: Ampere GPUs and newer, recent CPUs")
    add("--fp16", action="store_true", help="16-bit weights for any GPU")
    add("--no_cuda", action="store_true", help="stay on the CPU")
    return parser


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit 2 with every fault of the command line at once."""
    faults: list[str] = []
    for flag in ("source_lang", "target_lang"):
        if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z]{2,4})?", getattr(args, flag)):
            faults.append(f"--{flag} {getattr(args, flag)} is not a language code like en, nl or zh-CN")
    if args.source_lang == args.target_lang:
        faults.append(f"--source_lang and --target_lang are both {args.source_lang}")
    for flag, backends in (("memory_file", ["memory"]), ("model_name_or_path", ["hf", "ct2"])):
        if args.backend in backends and not getattr(args, flag):
            faults.append(f"--backend {args.backend} needs --{flag}")
        elif args.backend not in backends and getattr(args, flag):
            faults.append(f"--{flag} is for --backend {' or '.join(backends)}, not {args.backend}")
    for flag in ("rate", "workers", "timeout", "cool_down", "give_up_after", "num_beams", "batch_size"):
        if not 0 < getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must be more than 0")
    if not MAX_SENTENCE_CHARS + 100 <= args.max_chars <= 5000:
        faults.append(f"--max_chars {args.max_chars} must be between {MAX_SENTENCE_CHARS + 100} and 5000")
    if args.bf16 and args.fp16:
        faults.append("--bf16 and --fp16 exclude each other")
    if args.output_file:
        check_output_path(args.output_file, faults, "--output_file")
        if os.path.realpath(args.output_file) == os.path.realpath(args.input_file):
            faults.append("--output_file is the input file: name another")
    elif not args.dry_run:
        faults.append("--output_file is missing: name the file to write")
    if args.cache_file:
        check_output_path(args.cache_file, faults, "--cache_file")
    exit_with_faults(parser, faults)


def engine_name(args: argparse.Namespace) -> str:
    """Whose translations these are, for the cache's key: another model or beam size is another engine."""
    if not args.model_name_or_path:
        return args.backend
    name = args.model_name_or_path
    name = os.path.realpath(name) if os.path.isdir(name) else name
    codes = f"{args.source_code or args.source_lang}-{args.target_code or args.target_lang}"
    return f"{args.backend} {name} {codes} beams={args.num_beams}"


def open_cache(args: argparse.Namespace) -> Cache:
    """The cache of this engine and language pair; one in memory where nothing needs to be kept."""
    path = args.cache_file or f"{args.output_file}.cache.sqlite"
    if args.backend == "memory" or (args.dry_run and not os.path.exists(path)):
        path = ":memory:"
    return Cache(path, engine_name(args), args.source_lang, args.target_lang)


def choose_canaries(source_lang: str, strings: list[str]) -> list[str]:
    """Control sentences in the source language: for another than English, three of middling length of the file."""
    if source_lang == "en":
        return CANARIES
    return sorted(set(strings), key=lambda string: (abs(len(string) - 60), string))[:3]


def print_plan(args: argparse.Namespace, num_strings: int, todo: list[list[str]], canaries: list[str]) -> None:
    """The plan of a dry run on stdout: strings, characters, requests and the time at the full rate."""
    strings = [string for group in todo for string in group]
    print(f"strings      {num_strings:,} different ones, {num_strings - len(strings):,} of them in the cache")
    print(f"characters   {sum(map(len, strings)):,} to translate")
    if args.backend == "mtranslate" and strings:
        requests = pack_requests(todo, canaries, args.max_chars, across_paragraphs=args.across_paragraphs)
        print(f"requests     {len(requests):,} (one string a request: {len(strings):,})")
        print(f"time         {duration(len(requests) / args.rate)} at {args.rate:g} requests a second")


def translate_strings(
    args: argparse.Namespace, cache: Cache, todo: list[list[str]], canaries: list[str]
) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none."""
    strings = [string for group in todo for string in group]
    if not strings:
        return {}
    if args.backend == "memory":
        cache.put(dict(zip(strings, MemoryBackend(args.memory_file).translate(strings), strict=True)))
        return {}
    if args.backend in ("hf", "ct2"):
        codes = args.source_code or args.source_lang, args.target_code or args.target_lang
        dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
        engine = {"hf": HfBackend, "ct2": Ct2Backend}[args.backend]
        device = "cpu" if args.no_cuda else None
        backend = engine(args.model_name_or_path, *codes, args.num_beams, dtype, device)
        return translate_locally(backend, cache, strings, args.batch_size)
    backend = MtranslateBackend(args.source_lang, args.target_lang, args.timeout)
    pace = Pace(args.rate, args.cool_down, args.give_up_after)
    run = WebRun(backend, cache, pace, args.workers, deadline=3 * args.timeout, canaries=canaries)
    missing = run.run(pack_requests(todo, canaries, args.max_chars, across_paragraphs=args.across_paragraphs))
    faults = ", ".join(f"{count} × {name}" for name, count in run.faults.most_common()) or "none"
    logger.info("%s requests, %d blocks, faults: %s", f"{run.num_requests:,}", run.pace.blocks, faults)
    return missing


def translate_resumably(args: argparse.Namespace, groups: list[list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """({string: translation}, {string: why it has none}); when stopped, says how many are safe and how to go on."""
    strings = [string for group in groups for string in group]
    cache = open_cache(args)
    with contextlib.closing(cache.database):
        known = cache.get(strings)
        todo = [[string for string in group if string not in known] for group in groups]
        canaries = choose_canaries(args.source_lang, strings)  # of all strings: the same ones when the run goes on
        if args.dry_run:
            print_plan(args, len(strings), todo, canaries)
            return known, {}
        if not args.memory_file:
            logger.info("%s different strings, %s of them in %s", f"{len(strings):,}", f"{len(known):,}", cache.path)
        try:
            missing = translate_strings(args, cache, todo, canaries)
        except (KeyboardInterrupt, SystemExit, StillBlockedError):
            known = f"{len(cache.get(strings)):,} of {len(strings):,} strings"
            logger.warning("stopped: %s are in %s; the same command goes on from there", known, cache.path)
            raise
        return cache.get(strings), missing


def report_missing(missing: dict[str, str], num_strings: int, input_file: str) -> None:
    """Log what has no translation; raises SquadError when that is more than half: the engine is the wrong one."""
    if missing:
        some = "".join(f'\n  "{string[:60]}": {reason}' for string, reason in list(missing.items())[:5])
        text = f"{input_file}: {len(missing):,} of {num_strings:,} strings have no valid translation, such as{some}"
        if len(missing) > num_strings / 2:
            raise SquadError(f"{text}\nDoes the engine translate this language pair? Nothing was written")
        logger.warning("%s\nThey are null in the output; the same command asks them again", text)


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    check_args(parser, args)
    setup_logging()
    logger.info("command line: translate_squad.py %s", shlex.join(sys.argv[1:] if argv is None else argv))
    document = load_squad(args.input_file)
    if "translation" in document:
        raise SquadError(f"{args.input_file}: translated already; name the source file")
    groups = strings_by_paragraph(document)
    num_strings = sum(map(len, groups))
    try:
        targets, missing = translate_resumably(args, groups)
    except StillBlockedError as error:
        logger.error("%s; wait some hours, lower --rate, or use a local model", error)
        return EXIT_BLOCKED
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second when SQLite's own message quotes damaged bytes
        cache_file = args.cache_file or f"{args.output_file}.cache.sqlite"
        reason = " ".join(str(error).split())[:200]
        raise SquadError(f"{cache_file}: {reason}; free some space, or move a damaged file away") from error
    if args.dry_run:
        return EXIT_OK
    report_missing(missing, num_strings, args.input_file)
    info = {"source_lang": args.source_lang, "target_lang": args.target_lang, "backend": engine_name(args)}
    with atomic_write(args.output_file) as out:  # compact, like the official files
        json.dump(translated_document(document, targets, info), out, ensure_ascii=False, allow_nan=False)
    print(f"{num_strings:,} different strings, {len(targets):,} translated, {num_strings - len(targets):,} missing")
    stem, extension = os.path.splitext(args.output_file)
    clean = f"python clean_squad.py --input_file {args.output_file} --output_file {stem}_clean{extension}"
    logger.info("wrote %s; next: %s", args.output_file, clean)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
