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
import socket
import sqlite3
import sys
import threading
import time
import unicodedata
import urllib.error
import urllib.parse
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
CACHE_ID = 0x53515431  # application_id of the SQLite file
CANARIES = {  # sentences whose translation is known after the first request; each holds a year that must survive
    "en": (
        "The bridge over the river was built in 1893.",
        "In 1928 a young teacher wrote down every song.",
        "Nobody was hurt when the old mill burned in 1957.",
    ),
    "de": (
        "Die Brücke über den Fluss wurde 1893 gebaut.",
        "Im Jahr 1928 schrieb ein junger Lehrer alle Lieder auf.",
        "Niemand wurde verletzt, als 1957 die alte Mühle brannte.",
    ),
    "nl": (
        "De brug over de rivier werd in 1893 gebouwd.",
        "In 1928 schreef een jonge leraar alle liedjes op.",
        "Niemand raakte gewond toen de oude molen in 1957 afbrandde.",
    ),
}
LANGUAGES_WITHOUT_FULL_STOP = {"th", "lo", "my", "km"}
ERROR_PAGE = re.compile(
    r"Error \d{3} \(|!!1\s?\d{3}|That[’']s an error|unusual traffic from your|The server encountered a temporary error"
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
    word = "".join(line[:mark].split()[-1:]).lstrip("\"'“‘«„([¿¡")
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


def pack_requests(groups: Iterable[list[str]], max_chars: int, *, across_paragraphs: bool = False) -> list[list[str]]:
    """The strings in requests within max_chars and MAX_URL_BYTES, each with room for a canary line.

    A request never mixes paragraphs unless across_paragraphs is set.
    """
    if across_paragraphs:
        groups = [[string for group in groups for string in group]]
    canary = max(CANARIES["de"], key=len)
    requests = []
    for group in groups:
        chars = size = math.inf
        for string in group:
            chars, size = chars + len(string) + 1, size + encoded_size(string)
            if chars > max_chars or size > MAX_URL_BYTES:
                requests.append([])
                chars, size = len(string) + len(canary) + 2, encoded_size(string) + encoded_size(canary)
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
            " target TEXT NOT NULL CHECK (target <> ''), PRIMARY KEY (backend, source_lang, target_lang, source))"
            " WITHOUT ROWID"
        )

    def get(self, strings: Iterable[str]) -> dict[str, str]:
        """The translations of those strings that have one."""
        query = (
            "SELECT target FROM translation WHERE backend = ? AND source_lang = ? AND target_lang = ? AND source = ?"
        )
        rows = ((string, self.database.execute(query, (*self.key, string)).fetchone()) for string in strings)
        return {string: row[0] for string, row in rows if row}

    def put(self, targets: dict[str, str]) -> None:
        """Store translations in one transaction; a string that another process was faster with keeps its first."""
        with self._transaction():
            rows = [(*self.key, source, target) for source, target in targets.items()]
            self.database.executemany("INSERT OR IGNORE INTO translation VALUES (?, ?, ?, ?, ?)", rows)

    def forget(self, strings: Iterable[str]) -> None:
        """Remove translations that turned out to be doubtful."""
        where = "backend = ? AND source_lang = ? AND target_lang = ? AND source = ?"
        with self._transaction():
            self.database.executemany(f"DELETE FROM translation WHERE {where}", [(*self.key, s) for s in strings])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            self.database.rollback()
            raise

    def close(self) -> None:
        """Fold the write-ahead log into the file."""
        self.database.close()


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
        lines = [" ".join(line.strip("\u200b\ufeff ").split()) for line in reply.strip("\n").split("\n")]
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
        self,
        model_name_or_path: str,
        source_code: str | None,
        target_code: str | None,
        num_beams: int,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        try:
            import torch
            from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(model_name_or_path)
            self.model = AutoModelForSeq2SeqLM.from_pretrained(model_name_or_path, dtype=getattr(torch, dtype))
        except ImportError as error:
            missing = "sentencepiece" if "sentencepiece" in str(error).lower() else error.name or "torch transformers"
            raise SquadError(
                f"{model_name_or_path}: loading it needs another package; pip install {missing}"
            ) from error
        except (OSError, ValueError) as error:
            raise SquadError(f"{model_name_or_path}: no translation model ({str(error).splitlines()[0]})") from error
        self.torch = torch
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device).eval()
        self.num_beams = num_beams
        self.max_tokens = getattr(self.model.config, "max_position_embeddings", 512)
        self.prefix, self.target_id = "", None
        self._set_languages(source_code, target_code)

    def _set_languages(self, source_code: str | None, target_code: str | None) -> None:
        """Tell a model of many languages which to use: by language tokens (NLLB, M2M100) or by a prefix (Marian)."""
        tokenizer = self.tokenizer
        if hasattr(tokenizer, "src_lang"):
            known = tokenizer.get_vocab()
            for code, flag in ((source_code, "--source_code"), (target_code, "--target_code")):
                if code not in known and f"__{code}__" not in known:
                    raise SquadError(f"{flag} {code} is not a language of this model; NLLB's look like nld_Latn")
            tokenizer.src_lang = source_code
            self.target_id = known[target_code if target_code in known else f"__{target_code}__"]
        elif f">>{target_code}<<" in tokenizer.get_vocab():
            self.prefix = f">>{target_code}<< "

    def translate(self, strings: list[str]) -> list[str]:
        """One batch. A string that is too long for the model comes back as ""."""
        encoded = [self.tokenizer(self.prefix + string).input_ids for string in strings]
        fit = [index for index, ids in enumerate(encoded) if len(ids) <= self.max_tokens]
        targets = [""] * len(strings)
        if fit:
            batch = self.tokenizer.pad({"input_ids": [encoded[index] for index in fit]}, return_tensors="pt")
            with self.torch.inference_mode():
                output = self.model.generate(**batch.to(self.device), **self.generate_options(batch.input_ids.shape[1]))
            for index, text in zip(fit, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                targets[index] = " ".join(text.split())
        return targets

    def generate_options(self, num_tokens: int) -> dict[str, Any]:
        """Options of generate() for a batch of num_tokens input tokens. The length is bound: a model may babble on."""
        options: dict[str, Any] = {"num_beams": self.num_beams, "do_sample": False}
        options["max_new_tokens"] = min(self.max_tokens - 1, 2 * num_tokens + 20)
        if self.target_id is not None:
            options["forced_bos_token_id"] = self.target_id
        return options


# ---------------------------------------------------------------------------------------------------------------------
# Local work: batches by length
# ---------------------------------------------------------------------------------------------------------------------


def translate_locally(backend: Backend, cache: Cache, strings: list[str], batch_size: int) -> dict[str, str]:
    """Translate with an engine that neither blocks nor mixes strings up; every batch is stored at once.

    Returns the reason for every string without a valid translation.
    """
    target_lang, missing = cache.key[2], {}
    ordered = sorted(strings, key=len)  # equal lengths together: no time is spent on padding
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    random.shuffle(batches)  # a believable ETA, and two processes on one cache seldom meet
    with progress_bar(total=len(strings), unit="string") as bar:
        while batches:
            batch = batches.pop()
            known = cache.get(batch)
            todo = [string for string in batch if string not in known]
            try:
                targets = backend.translate(todo) if todo else []
            except RuntimeError as error:
                if "out of memory" not in str(error) or len(todo) == 1:
                    raise
                logger.warning(
                    "%d strings are too many for the memory: halves (a smaller --batch_size helps)", len(todo)
                )
                batches += [todo[: len(todo) // 2], todo[len(todo) // 2 :]]
                bar.update(len(known))
                continue
            faults = {s: translation_fault(s, t, target_lang) for s, t in zip(todo, targets, strict=True)}
            cache.put({s: t for s, t in zip(todo, targets, strict=True) if not faults[s]})
            missing.update({string: fault for string, fault in faults.items() if fault})
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
    """One run against a web backend: threads that ask, and a main thread that checks, stores and decides.

    Each request carries a canary as its last line, a sentence whose translation is known, so that an answer vouches for
    itself. A server that does not keep line breaks gets one string a request and the canaries now and then.
    """

    backend: Backend
    cache: Cache
    pace: Pace
    workers: int
    deadline: float  # seconds; an answer that drips in for longer is given up
    canaries: list[str]
    queue: collections.deque[Request] = field(default_factory=collections.deque)
    in_flight: dict[int, Request] = field(default_factory=dict)
    answers: SimpleQueue = field(default_factory=SimpleQueue)
    known_canaries: dict[str, str] = field(default_factory=dict)
    lost_lines: int = 0  # canary requests that came back with another number of lines
    faults_in_a_row: int = 0
    unvouched: list[str] = field(default_factory=list)  # stored from answers without a canary since the last good one
    missing: dict[str, str] = field(default_factory=dict)
    faults: collections.Counter = field(default_factory=collections.Counter)
    num_requests: int = 0

    def run(self, requests: Iterable[list[str]]) -> dict[str, str]:
        """Ask everything and store every answer. Returns the reason for every string without a valid translation."""
        self.queue.extend(Request(strings) for strings in requests)
        random.shuffle(self.queue)  # a believable ETA, and two processes on one cache seldom meet
        self.known_canaries = self.cache.get(self.canaries)
        with ProgressReport(self) as report:
            while not self._canaries_are_well():
                report.sleep(self.pace.delay())
            try:
                while self.queue or self.in_flight:
                    self._send()
                    self._receive()
                    report.show()
            except (KeyboardInterrupt, SystemExit, StillBlockedError):
                self._receive_last()
                raise
        return self.missing

    def _keeps_lines(self) -> bool:
        return self.lost_lines < 3

    def _send(self) -> None:
        while self.queue and len(self.in_flight) < self.workers and self.pace.delay() <= 0:
            if len(self.unvouched) >= CANARY_EVERY and not self._canaries_are_well():
                return
            request = self.queue.popleft()
            known = self.cache.get(request.strings)  # another process may have asked
            request.strings = [string for string in request.strings if string not in known]
            if not self._keeps_lines() and not request.bare:
                self.queue.extendleft(Request([string], bare=True) for string in reversed(request.strings))
            elif request.strings:
                self._start(request)

    def _start(self, request: Request) -> None:
        self.num_requests += 1
        ticket = self.num_requests
        request.canary = None if request.bare else self.canaries[ticket % len(self.canaries)]
        request.sent_at = time.monotonic()
        self.in_flight[ticket] = request
        self.pace.sent()
        lines = [*request.strings, *([request.canary] if request.canary else [])]
        threading.Thread(target=self._ask, args=(ticket, lines), daemon=True).start()

    def _ask(self, ticket: int, lines: list[str]) -> None:
        try:
            self.answers.put((ticket, self.backend.translate(lines)))
        except BaseException as error:  # the main thread raises it again or reacts
            self.answers.put((ticket, error))

    def _receive(self) -> None:
        """Wait for one answer, or until the next request is due, a second at most."""
        may_send = self.queue and len(self.in_flight) < self.workers
        wait = min(1.0, max(0.0, self.pace.delay())) if may_send else 1.0
        try:
            ticket, answer = self.answers.get(timeout=wait)
        except Empty:
            now = time.monotonic()
            overdue = [ticket for ticket, request in self.in_flight.items() if now - request.sent_at > self.deadline]
            if not overdue:
                return
            ticket, answer = overdue[0], Hiccup(f"no whole answer in {duration(self.deadline)}")
        if request := self.in_flight.pop(ticket, None):
            try:
                self._accept(request, answer)
            except Fault as fault:
                self._react(request, fault)

    def _accept(self, request: Request, answer: list[str] | BaseException) -> None:
        """Check the answer and store it whole; raises a Fault when any line of it is not to be trusted."""
        if isinstance(answer, BaseException):
            raise answer
        target_lang = self.cache.key[2]
        if request.canary:
            before = self.known_canaries[request.canary]
            if fault := canary_fault(request.canary, answer[-1], before, target_lang):
                raise Hiccup(fault)
        targets = dict(zip(request.strings, answer, strict=False))
        for source, target in targets.items():
            if fault := translation_fault(source, target, target_lang, may_be_cut=True):
                raise BadText(f'"{source[:60]}" came back {fault}')
        self.cache.put(targets)
        self.unvouched = [] if request.canary else [*self.unvouched, *targets]
        self.pace.good()
        self.faults_in_a_row = 0

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

    def _canaries_are_well(self) -> bool:
        """Ask the canaries by themselves, at the due time. When they are not well, a cool-down has begun."""
        sent_at = time.monotonic()
        try:
            if self._keeps_lines():
                targets = dict(zip(self.canaries, self._ask_now(self.canaries), strict=True))
            else:
                targets = {canary: self._ask_now([canary])[0] for canary in self.canaries}
            self._check_canaries(targets)
        except Fault as fault:
            self.faults[type(fault).__name__] += 1
            self.lost_lines += isinstance(fault, BadText)
            if isinstance(fault, BadText) and not self._keeps_lines():
                logger.warning("the server does not keep line breaks (%s): one string a request from here on", fault)
            elif not isinstance(fault, BadText):
                self.pace.block(fault, sent_at)
            return False
        self.lost_lines *= not self._keeps_lines()
        self.unvouched.clear()
        self.pace.good()
        return True

    def _ask_now(self, lines: list[str]) -> list[str]:
        time.sleep(max(0.0, self.pace.delay()))
        self.num_requests += 1
        self.pace.sent()
        return self.backend.translate(lines)

    def _check_canaries(self, targets: dict[str, str]) -> None:
        """Raise Hiccup when one is wrong, or when different sentences have the same translation."""
        faults = [canary_fault(c, t, self.known_canaries.get(c), self.cache.key[2]) for c, t in targets.items()]
        if len(targets) > 1 and len(set(targets.values())) == 1:
            faults.append("nonsense: every control sentence has the same translation")
        if reason := next(filter(None, faults), None):
            self.cache.forget(self.unvouched)
            self.queue.extend(Request([string], bare=True) for string in self.unvouched)
            self.unvouched.clear()
            raise Hiccup(reason)
        self.cache.put(targets)
        self.known_canaries = self.cache.get(self.canaries)

    def _receive_last(self) -> None:
        """Store the answers that arrive within STOP_GRACE: they need not be asked again."""
        end = time.monotonic() + STOP_GRACE
        while self.in_flight and time.monotonic() < end:
            with contextlib.suppress(Empty, Fault):
                ticket, answer = self.answers.get(timeout=0.1)
                if request := self.in_flight.pop(ticket, None):
                    self._accept(request, answer)


class ProgressReport:
    """The progress of a WebRun: a bar on a terminal, else a log line a minute."""

    def __init__(self, run: WebRun) -> None:
        self.run, self.total = run, sum(len(request.strings) for request in run.queue)
        self.started = self.shown = time.monotonic()
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} strings {postfix}"
        self.bar = progress_bar(total=self.total, bar_format=form)

    def __enter__(self) -> ProgressReport:
        return self

    def __exit__(self, *error: object) -> None:
        self.show(now=True)
        self.bar.close()

    def left(self) -> int:
        """Strings without an answer."""
        return sum(len(request.strings) for request in [*self.run.queue, *self.run.in_flight.values()])

    def line(self) -> str:
        """Requests a second since the start, blocks, and the time left at the present rate with the faults so far."""
        run, elapsed = self.run, time.monotonic() - self.started
        faults = run.faults.total()
        share = max(0.1, 1 - faults / max(1, run.num_requests))
        latency = elapsed / max(1, run.num_requests) if run.pace.blocks == 0 else 0.0
        seconds = max(1 / run.pace.rate, latency) / share * (len(run.queue) + len(run.in_flight))
        seconds += max(0.0, run.pace.delay())
        speed = run.num_requests / max(elapsed, 1e-9)
        return f"{speed:.2f} requests/s, {run.pace.blocks} blocks, {faults} faults, {duration(seconds)} left"

    def show(self, *, now: bool = False) -> None:
        """Refresh the bar, or log a line when the last one is old enough."""
        if not now and time.monotonic() - self.shown < (REPORT_EVERY if self.bar.disable else 0.5):
            return
        self.shown = time.monotonic()
        done = self.total - self.left()
        if self.bar.disable:
            logger.info("%s of %s strings, %s", f"{done:,}", f"{self.total:,}", self.line())
        else:
            self.bar.n = done
            self.bar.set_postfix_str(self.line())

    def sleep(self, seconds: float) -> None:
        """Sleep through a cool-down with the bar alive."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self.show()
            time.sleep(min(rest, 1.0))


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
        epilog="exit codes: 0 done, 1 bad data, 2 wrong flags, 75 blocked for too long (run it again later), "
        "130 Ctrl-C, 143 SIGTERM",
        allow_abbrev=False,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--input_file", required=True, metavar="FILE", help="SQuAD JSON file to translate")
    data.add_argument("--output_file", metavar="FILE", help="translated file to write; not needed with --dry_run")
    data.add_argument("--source_lang", default="en", metavar="CODE", help="language of the input (default: en)")
    data.add_argument("--target_lang", default="nl", metavar="CODE", help="language of the output (default: nl)")
    data.add_argument(
        "--cache_file", metavar="FILE", help="SQLite file of all answers so far (default: <output_file>.cache.sqlite)"
    )
    data.add_argument("--dry_run", action="store_true", help="print what would be asked and how long it would take")
    task = parser.add_argument_group("engine")
    task.add_argument(
        "--backend",
        choices=("mtranslate", "hf", "memory"),
        default="mtranslate",
        help="mtranslate: a free web page, slow and easily blocked; hf: a local model; memory: a file (default: mtranslate)",
    )
    task.add_argument(
        "--memory_file",
        metavar="FILE",
        help='memory: JSON lines {"source": "…", "target": "…"}, a sentence, a question or an answer each',
    )
    web = parser.add_argument_group("web page (mtranslate)")
    web.add_argument("--rate", type=float, default=1.0, help="requests a second at most (default: 1.0)")
    web.add_argument("--workers", type=int, default=1, help="requests on their way at the same time (default: 1)")
    web.add_argument(
        "--max_chars", type=int, default=4500, help="characters in a request; the page takes 5,000 (default: 4500)"
    )
    web.add_argument(
        "--across_paragraphs",
        action="store_true",
        help="fill requests up to --max_chars: about four times fewer requests",
    )
    web.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for an answer (default: 30)")
    web.add_argument(
        "--cool_down",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="pause after a first block, doubled by each (default: 30)",
    )
    web.add_argument(
        "--give_up_after",
        type=float,
        default=7200.0,
        metavar="SECONDS",
        help="of blocks without a good answer: exit 75 (default: 7200)",
    )
    model = parser.add_argument_group("local model (hf)")
    model.add_argument(
        "--model_name_or_path", metavar="NAME", help="MarianMT, NLLB or M2M100, e.g. Helsinki-NLP/opus-mt-en-nl"
    )
    model.add_argument(
        "--source_code", metavar="CODE", help="the model's own code, e.g. eng_Latn (default: --source_lang)"
    )
    model.add_argument(
        "--target_code", metavar="CODE", help="the model's own code, e.g. nld_Latn (default: --target_lang)"
    )
    model.add_argument(
        "--num_beams", type=int, default=4, help="1 is about twice as fast and a little worse (default: 4)"
    )
    model.add_argument(
        "--batch_size", type=int, default=32, help="strings a batch; less if memory runs out (default: 32)"
    )
    model.add_argument("--bf16", action="store_true", help="16-bit weights: Ampere GPUs and newer, recent CPUs")
    model.add_argument("--fp16", action="store_true", help="16-bit weights for any GPU")
    model.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    return parser


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit 2 with every fault of the command line at once."""
    faults: list[str] = []
    for flag in ("source_lang", "target_lang"):
        if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z]{2,4})?", getattr(args, flag)):
            faults.append(f"--{flag} {getattr(args, flag)} is not a language code like en, nl or zh-CN")
    if args.source_lang == args.target_lang:
        faults.append(f"--source_lang and --target_lang are both {args.source_lang}")
    for backend, flag in (("memory", "memory_file"), ("hf", "model_name_or_path")):
        if args.backend == backend and not getattr(args, flag):
            faults.append(f"--backend {backend} needs --{flag}")
        elif args.backend != backend and getattr(args, flag):
            faults.append(f"--{flag} is for --backend {backend}, not {args.backend}")
    for flag in ("rate", "workers", "timeout", "cool_down", "give_up_after", "num_beams", "batch_size"):
        if not 0 < getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must be more than 0")
    if not MAX_SENTENCE_CHARS + 100 <= args.max_chars <= 5000:
        faults.append(f"--max_chars {args.max_chars} must be between {MAX_SENTENCE_CHARS + 100} and 5000")
    if args.bf16 and args.fp16:
        faults.append("--bf16 and --fp16 exclude each other")
    _check_files(args, faults)
    exit_with_faults(parser, faults)


def _check_files(args: argparse.Namespace, faults: list[str]) -> None:
    if not args.output_file:
        if not args.dry_run:
            faults.append("--output_file is missing: name the file to write")
    else:
        check_output_path(args.output_file, faults, "--output_file")
        if os.path.realpath(args.output_file) == os.path.realpath(args.input_file):
            faults.append("--output_file is the input file: name another")
    if args.cache_file:
        check_output_path(args.cache_file, faults, "--cache_file")


def engine_name(args: argparse.Namespace) -> str:
    """Whose translations these are, for the cache's key: another model or beam size is another engine."""
    if args.backend != "hf":
        return args.backend
    name = args.model_name_or_path
    name = os.path.realpath(name) if os.path.isdir(name) else name
    codes = f"{args.source_code or args.source_lang}-{args.target_code or args.target_lang}"
    return f"hf {name} {codes} beams={args.num_beams}"


def open_cache(args: argparse.Namespace) -> Cache | None:
    """The cache of this engine and language pair; None for a dry run without one, in memory for a memory backend."""
    path = args.cache_file or (f"{args.output_file}.cache.sqlite" if args.output_file else "")
    if args.backend == "memory":
        path = ":memory:"
    elif args.dry_run and not os.path.exists(path):
        return None
    return Cache(path, engine_name(args), args.source_lang, args.target_lang)


def choose_canaries(source_lang: str, groups: list[list[str]]) -> list[str]:
    """Control sentences in the source language; for other languages than in CANARIES, middling ones of the file."""
    if source_lang in CANARIES:
        return list(CANARIES[source_lang])
    strings = {string for group in groups for string in group}
    return sorted(strings, key=lambda string: (abs(len(string) - 60), string))[:3]


def print_plan(args: argparse.Namespace, groups: list[list[str]], todo: list[list[str]]) -> None:
    """The plan of a dry run on stdout: strings, characters, requests and the time at the full rate."""
    num_strings, num_todo = sum(map(len, groups)), sum(map(len, todo))
    print(f"strings      {num_strings:,} different ones, {num_strings - num_todo:,} of them in the cache")
    print(f"characters   {sum(len(string) for group in todo for string in group):,} to translate")
    if args.backend == "mtranslate":
        requests = pack_requests(todo, args.max_chars, across_paragraphs=args.across_paragraphs)
        print(f"requests     {len(requests):,} (one string a request: {num_todo:,})")
        print(f"time         {duration(len(requests) / args.rate)} at {args.rate:g} requests a second")
    elif args.backend == "hf":
        print(f"batches      {math.ceil(num_todo / args.batch_size):,} of {args.batch_size} strings")


def translate_strings(args: argparse.Namespace, cache: Cache, todo: list[list[str]]) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none."""
    strings = [string for group in todo for string in group]
    if not strings:
        return {}
    if args.backend == "memory":
        return translate_locally(MemoryBackend(args.memory_file), cache, strings, batch_size=len(strings))
    if args.backend == "hf":
        codes = args.source_code or args.source_lang, args.target_code or args.target_lang
        dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
        backend = HfBackend(args.model_name_or_path, *codes, args.num_beams, dtype, "cpu" if args.no_cuda else None)
        return translate_locally(backend, cache, strings, args.batch_size)
    run = WebRun(
        backend=MtranslateBackend(args.source_lang, args.target_lang, args.timeout),
        cache=cache,
        pace=Pace(args.rate, args.cool_down, args.give_up_after),
        workers=args.workers,
        deadline=3 * args.timeout,
        canaries=choose_canaries(args.source_lang, todo),
    )
    missing = run.run(pack_requests(todo, args.max_chars, across_paragraphs=args.across_paragraphs))
    faults = ", ".join(f"{count} × {name}" for name, count in run.faults.most_common()) or "none"
    logger.info("%s requests, %d blocks, faults: %s", f"{run.num_requests:,}", run.pace.blocks, faults)
    return missing


def report_missing(missing: dict[str, str], num_strings: int, input_file: str) -> None:
    """Log what has no translation; raises SquadError when that is more than half: the engine is the wrong one."""
    if not missing:
        return
    some = "".join(f'\n  "{string[:60]}": {reason}' for string, reason in list(missing.items())[:5])
    text = f"{input_file}: {len(missing):,} of {num_strings:,} strings have no valid translation, such as{some}"
    if len(missing) > num_strings / 2:
        raise SquadError(f"{text}\nDoes the engine translate this language pair?")
    logger.warning("%s\nThey are null in the output; the same command asks them again.", text)


def write_document(path: str, document: dict[str, Any]) -> None:
    """Write the translated file atomically, compact like the official files."""
    with atomic_write(path) as out:
        json.dump(document, out, ensure_ascii=False, allow_nan=False)
        out.write("\n")


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    check_args(parser, args)
    setup_logging()
    document = load_squad(args.input_file)
    if "translation" in document:
        raise SquadError(f"{args.input_file}: translated already; name the source file")
    groups = strings_by_paragraph(document)
    num_strings = sum(map(len, groups))
    try:
        cache = open_cache(args)
        known = cache.get(string for group in groups for string in group) if cache else {}
        todo = [[string for string in group if string not in known] for group in groups]
        if args.dry_run:
            print_plan(args, groups, todo)
            return EXIT_OK
        logger.info("%s strings, %s of them in %s", f"{num_strings:,}", f"{len(known):,}", cache.path)
        try:
            missing = translate_strings(args, cache, todo)
        except (KeyboardInterrupt, SystemExit, StillBlockedError):
            known = cache.get(string for group in groups for string in group)
            logger.warning(
                "stopped: %s of %s strings are in %s; the same command goes on from there",
                f"{len(known):,}",
                f"{num_strings:,}",
                cache.path,
            )
            raise
        targets = cache.get(string for group in groups for string in group)
        cache.close()
    except StillBlockedError as error:
        logger.error("%s; wait some hours, lower --rate, or use --backend hf", error)
        return EXIT_BLOCKED
    except sqlite3.Error as error:
        raise SquadError(f"{args.cache_file or 'the cache'}: {error}; free space, or move the file away") from error
    report_missing(missing, num_strings, args.input_file)
    info = {
        "source_lang": args.source_lang,
        "target_lang": args.target_lang,
        "backend": engine_name(args),
        "missing": num_strings - len(targets),
    }
    write_document(args.output_file, translated_document(document, targets, info))
    print(f"{num_strings:,} strings: {len(targets):,} translated, {num_strings - len(targets):,} missing")
    stem, extension = os.path.splitext(args.output_file)
    clean = f"python clean_squad.py --input_file {args.output_file} --output_file {stem}_clean{extension}"
    logger.info("wrote %s; next: %s", args.output_file, clean)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
