"""Chat requests as files: JSON lines for `vllm run-batch` and the batch services of OpenAI and others, and back."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from squadlib.console import SquadError, describe_os_error
from squadlib.files import JsonObject, atomic_write, parse_json
from squadlib.translation.cache import Cache
from squadlib.translation.canaries import Canaries
from squadlib.translation.chat import PATH, ChatSettings, read_reply
from squadlib.translation.checks import translation_fault
from squadlib.translation.context import text_of
from squadlib.translation.engines import Fault

MAX_FILE_REQUESTS, MAX_FILE_BYTES = 50_000, 190_000_000  # hosted services take 50,000 and 200 MB
PUT_EVERY = 1000  # answers


def custom_id(cache: Cache, string: str) -> str:
    """The name of a request: the same for the same string, model, prompt and languages."""
    return "squad-" + hashlib.sha256(repr((*cache.key, string)).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def write_requests(
    path: str, strings: list[str], canaries: list[str], cache: Cache, settings: ChatSettings
) -> list[str]:
    """Write the requests of `strings`, the control sentences first in each file. Returns the files' names.

    More than a service takes goes into a second file, FILE-2.jsonl, and so on.
    """
    lines = (_request_line(string, cache, settings) for string in strings)
    head = [_request_line(sentence, cache, settings) for sentence in canaries if sentence not in set(strings)]
    waiting: list[str] = []
    paths: list[str] = []
    while waiting or (waiting := list(itertools.islice(lines, 1))):
        stem, extension = os.path.splitext(path)
        paths.append(f"{stem}-{len(paths) + 1}{extension}" if paths else path)
        with atomic_write(paths[-1]) as out:
            count, size = len(head), out.write("".join(head))
            while waiting and count < MAX_FILE_REQUESTS and size + len(waiting[0]) <= MAX_FILE_BYTES:
                size += out.write(waiting.pop())
                count += 1
                waiting.extend(itertools.islice(lines, 1))
    return paths


def _request_line(string: str, cache: Cache, settings: ChatSettings) -> str:
    """One line of ASCII: a character is a byte."""
    request = {"custom_id": custom_id(cache, string), "method": "POST", "url": f"/v1{PATH}"}
    return json.dumps({**request, "body": settings.body(string)}) + "\n"


def read_responses(path: str, strings: list[str], canaries: list[str], cache: Cache) -> collections.Counter[str]:
    """Bring a file of responses into the cache, in any order, as often as you like. Returns what became of the lines.

    Raises SquadError, and stores nothing, when the control sentences in it came back wrong.
    """
    _check_control_sentences(path, canaries, cache)
    by_id = {custom_id(cache, string): string for string in strings}
    passed_over = {custom_id(cache, sentence) for sentence in canaries} - by_id.keys()
    counts: collections.Counter[str] = collections.Counter()
    targets: dict[str, str] = {}
    for line in _lines(path):
        response = _parsed(line)
        string = by_id.get(str(response.get("custom_id")))
        if not response:
            counts["not a response of a batch"] += 1
        elif response.get("custom_id") in passed_over:
            counts["control sentences"] += 1
        elif string is None:
            counts["for another file, model or prompt"] += 1
        elif string in targets or cache.get([string]):
            counts["known already"] += 1
        else:
            try:
                targets[string] = _translation(response, string, cache.target_lang)
                counts["stored"] += 1
            except (Fault, ValueError) as error:
                counts[re.sub(r"\d+", "N", str(error).partition(': "')[0])] += 1
        if len(targets) >= PUT_EVERY:
            cache.put(targets)
            targets.clear()
    cache.put(targets)
    return counts


def _check_control_sentences(path: str, canaries: list[str], cache: Cache) -> None:
    ids = {custom_id(cache, sentence): sentence for sentence in canaries}
    marks = [name.encode() for name in ids]
    targets = {}
    for line in _lines(path):
        if any(mark in line for mark in marks):
            response = _parsed(line)
            sentence = ids.get(str(response.get("custom_id")))
            with contextlib.suppress(Fault, ValueError):  # no translation is no nonsense
                if sentence:
                    targets[sentence] = _translation(response, sentence, cache.target_lang)
    if reason := Canaries(canaries, cache).fault(targets):
        raise SquadError(f"{path}: {reason}; nothing of this file was stored")


def _translation(response: JsonObject, string: str, target_lang: str) -> str:
    """The checked translation in a response; raises Fault or ValueError with the reason why there is none."""
    if error := response.get("error"):
        raise ValueError(f"error of the server: {_words(error)}")
    answer: Any = response.get("response")
    if not isinstance(answer, dict):
        raise ValueError("no response")
    if (status := answer.get("status_code", 200)) != 200:
        raise ValueError(f"HTTP {str(status)[:3]} from the server: {_words(answer.get('body'))}")
    reply = read_reply(answer if "choices" in answer else answer.get("body") or {}, string)  # older files: no body
    if fault := translation_fault(text_of(string), reply, target_lang):
        raise ValueError(fault)
    return reply


def _words(error: Any) -> str:
    """What an error says, for a count: short, on one line."""
    while isinstance(error, dict):
        error = next((error[name] for name in ("error", "message", "detail", "code") if error.get(name)), "unknown")
    return " ".join(str(error).split())[:60]


def _parsed(line: bytes) -> JsonObject:
    """The line's JSON object, empty when it is none."""
    try:
        response = parse_json(line.decode(), "")
    except (ValueError, SquadError):
        return {}
    return response if isinstance(response, dict) else {}


def _lines(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            yield from (line for line in file if line.strip())
    except OSError as error:
        raise SquadError(describe_os_error(error, path)) from error
