"""Work through a server that may block, fail or answer nonsense."""

from __future__ import annotations

import collections
import contextlib
import math
import random
import time
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from squadlib.console import SquadError, duration, logger, progress_bar
from squadlib.translation.askers import Askers, Request
from squadlib.translation.cache import Cache
from squadlib.translation.canaries import Canaries
from squadlib.translation.checks import translation_fault
from squadlib.translation.context import text_of
from squadlib.translation.engines import Backend, BadText, Blocked, Fault, Hiccup, ServerSettings
from squadlib.translation.line_order import swapped_lines
from squadlib.translation.pace import Pace, StillBlockedError

MAX_REQUEST_CHARS = 5000  # the web page takes no more
MAX_URL_BYTES = 12_000  # the web page refuses about 16 KiB of percent-encoded text
MAX_TRIES = 4  # of one request, before its text is suspected and split
FAULTS_IN_A_ROW = 5  # without one good answer between them: as good as a block
STOP_GRACE = 3.0  # seconds that Ctrl-C waits for answers that are on their way
REPORT_EVERY = 60.0  # seconds between progress lines when stderr is not a terminal


@dataclass(frozen=True)
class WebSettings(ServerSettings):
    """How the web page behind mtranslate is asked."""

    backend: ClassVar[str] = "mtranslate"
    most_chars: ClassVar[int] = MAX_REQUEST_CHARS
    max_bytes: ClassVar[float] = MAX_URL_BYTES
    may_be_cut: ClassVar[bool] = True  # at a "<"


def pack_requests(groups: Iterable[list[str]], canaries: list[str], settings: ServerSettings) -> list[list[str]]:
    """The strings in requests within the engine's limits, each with room for a canary.

    A request never mixes paragraphs unless across_paragraphs is set.
    """
    if settings.max_strings == 1:
        return [[string] for group in groups for string in group]
    if settings.across_paragraphs:
        groups = [[string for group in groups for string in group]]
    canary_chars, canary_bytes = (max(map(measure, canaries)) for measure in (len, encoded_size))
    requests: list[list[str]] = []
    for group in groups:
        count = chars = size = math.inf  # the first string of a group opens a request
        for string in group:
            count, chars, size = count + 1, chars + len(string) + 1, size + encoded_size(string)
            if count > settings.max_strings or chars > settings.max_chars or size > settings.max_bytes:
                requests.append([])
                count, chars, size = 1, canary_chars + len(string) + 1, canary_bytes + encoded_size(string)
            requests[-1].append(string)
    return requests


def encoded_size(string: str) -> int:
    """Bytes of `string` and its line break in the address of a request."""
    return len(urllib.parse.quote(string)) + 3


def translate_by_web(
    backend: Backend,
    cache: Cache,
    groups: list[list[str]],
    canaries: list[str],
    settings: ServerSettings,
    advice: str = "",
) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none.

    advice: for a log line when the server blocks from the start.
    """
    work = Worklist(pack_requests(groups, canaries, settings))
    run = WebRun(backend, cache, Canaries(canaries, cache, travel=settings.max_strings > 1), settings, work)
    run.run(advice)
    faults = ", ".join(f"{count} × {name}" for name, count in run.progress.faults.most_common()) or "none"
    logger.info("%s requests, %d blocks, faults: %s", f"{run.progress.num_requests:,}", run.pace.blocks, faults)
    return work.missing


def check_answer(targets: dict[str, str], target_lang: str, *, may_be_cut: bool) -> None:
    """Raise BadText when a line of an answer is no translation of its string, or stands in the place of another."""
    for source, target in targets.items():
        if fault := translation_fault(text_of(source), target, target_lang, may_be_cut=may_be_cut):
            raise BadText(f'"{text_of(source)[:60]}" came back {fault}')
    if len(targets) < 2:
        return
    sources = list(targets)
    if swap := swapped_lines(sources, list(targets.values())):
        first, second = (sources[index][:60] for index in swap)
        raise BadText(f'"{first}" and "{second}" came back in each other\'s place')


class Worklist:
    """What is still to be asked, what was given up, and how many strings are done."""

    def __init__(self, requests: list[list[str]]) -> None:
        random.shuffle(requests)  # a believable ETA, and two processes on one cache seldom meet
        self.num_strings = sum(map(len, requests))
        self.num_done = 0
        self.queue: collections.deque[Request | list[str]] = collections.deque(requests)  # a list: not asked yet
        self.missing: dict[str, str] = {}  # why, of a string without a valid translation

    def take(self, cache: Cache, *, one_by_one: bool) -> Request | None:
        """The next request, less what another process has asked meanwhile; None when that leaves nothing."""
        entry = self.queue.popleft()
        request = Request(entry) if isinstance(entry, list) else entry
        if known := cache.get(request.strings):
            self.num_done += len(known)
            request.strings = [string for string in request.strings if string not in known]
        if one_by_one and len(request.strings) > 1:
            self.first([Request([string]) for string in request.strings])
            return None
        request.bare |= one_by_one
        return request if request.strings else None

    def first(self, requests: list[Request]) -> None:
        """Ask these before anything else."""
        self.queue.extendleft(reversed(requests))

    def again(self, requests: list[Request]) -> None:
        """Ask these later."""
        self.queue.extend(requests)

    def give_up(self, string: str, reason: str) -> None:
        self.missing[string] = reason
        self.num_done += 1

    def take_back(self, strings: list[str]) -> None:
        """What came of these is not to be trusted: ask them again."""
        self.num_done -= len(strings)
        for string in strings:
            self.missing.pop(string, None)
        self.again([Request([string], bare=True) for string in strings])


@dataclass
class Progress:
    """What has been asked and how it went, for the bar and the last line."""

    num_requests: int = 0
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    latency: float = 0.0  # seconds, moving average
    _shown_at: float = field(default_factory=time.monotonic)

    def add_latency(self, seconds: float) -> None:
        self.latency += (seconds - self.latency) / 20

    def show(self, bar: tqdm, pace: Pace, workers: int, work: Worklist, num_in_flight: int) -> None:
        """Refresh the bar twice a second; log a line a minute where stderr is not a terminal."""
        now = time.monotonic()
        if now - self._shown_at < (REPORT_EVERY if bar.disable else 0.5):
            return
        self._shown_at = now
        speed = max(1 / pace.rate, self.latency / workers)  # seconds a request
        good = max(0.1, 1 - self.faults.total() / max(1, self.num_requests))
        seconds = max(0.0, pace.delay()) + speed / good * (len(work.queue) + num_in_flight)
        line = f"{1 / speed:.2g} requests/s, {pace.blocks} blocks, {duration(seconds)} left"
        if bar.disable:
            logger.info("%s of %s strings, %s", f"{work.num_done:,}", f"{work.num_strings:,}", line)
        else:
            bar.n = work.num_done
            bar.set_postfix_str(line)


class WebRun:
    """One run against a server: threads that ask, and the main thread, which checks, stores and decides."""

    def __init__(
        self, backend: Backend, cache: Cache, canaries: Canaries, settings: ServerSettings, work: Worklist
    ) -> None:
        self.backend, self.cache, self.canaries, self.settings, self.work = backend, cache, canaries, settings, work
        self.pace = Pace(settings.rate, settings.cool_down, settings.give_up_after)
        self.askers = Askers(backend, settings.workers, deadline=3 * settings.timeout)
        self.max_tries = MAX_TRIES * (1 if settings.max_strings > 1 else 2)  # what cannot be split is asked longer
        self.progress = Progress()
        self.faults_in_a_row = 0

    def run(self, advice: str) -> None:
        """Ask everything and store every answer; work.missing then has the reason for every string without one."""
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} strings{postfix}"
        with progress_bar(total=self.work.num_strings, bar_format=form) as bar, logging_redirect_tqdm():
            try:
                while not self._canaries_are_well():  # it waits for the end of the cool-down first
                    if advice and self.pace.blocks == 1:
                        logger.warning("%s", advice)
                while self.work.queue or self.askers.in_flight or self.canaries.unvouched:
                    self._send()
                    if self.work.queue or self.askers.in_flight:
                        self._receive()
                    self.progress.show(bar, self.pace, self.settings.workers, self.work, len(self.askers.in_flight))
            except (KeyboardInterrupt, SystemExit, StillBlockedError, SquadError):
                self._receive_last()
                raise

    def _send(self) -> None:
        """Start requests as far as the pace and the workers allow; ask the canaries first where they are due."""
        at_end = not self.work.queue and not self.askers.in_flight
        if self.canaries.are_due(at_end=at_end) and not self._canaries_are_well():
            return
        while self.work.queue and self.askers.has_room() and self.pace.delay() <= 0:
            if self.canaries.is_lone_due():
                self.canaries.lone_on_its_way = True
                self._start(Request([]))
            elif request := self.work.take(self.cache, one_by_one=not self.canaries.keeps_lines):
                self._start(request)

    def _start(self, request: Request) -> None:
        self._count_request()
        sentences = self.canaries.sentences
        request.canary = None if request.bare else sentences[self.progress.num_requests % len(sentences)]
        request.sent_at = time.monotonic()
        self.askers.send(request)

    def _count_request(self) -> None:
        self.progress.num_requests += 1
        self.pace.sent()

    def _receive(self) -> None:
        """Take one answer; wait for it until the next request is due, a second at most."""
        may_send = self.work.queue and self.askers.has_room()
        request, answer = self.askers.receive(min(1.0, max(0.0, self.pace.delay())) if may_send else 1.0)
        if request:
            self.canaries.lone_on_its_way &= bool(request.strings)
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
        check_answer(targets, self.cache.target_lang, may_be_cut=self.settings.may_be_cut)
        if targets:
            self.cache.put(targets)
        if request.canary:
            self.canaries.vouch()
        else:
            self.canaries.unvouched += targets
        self.faults_in_a_row = 0
        self.pace.good()
        self.work.num_done += len(targets)
        self.progress.add_latency(time.monotonic() - request.sent_at)

    def _react(self, request: Request, fault: Fault) -> None:
        """Cool down, split, ask again later, or give a string up: whatever the fault calls for."""
        self.progress.faults[type(fault).__name__] += 1
        logger.debug("%s", fault)
        self.faults_in_a_row += not isinstance(fault, BadText)
        request.tries += type(fault) is not Blocked  # a block is no fault of the text
        last_try = request.tries >= self.max_tries
        if not request.strings:
            self.canaries.in_doubt |= isinstance(fault, BadText)
        elif len(request.strings) > 1 and (last_try or isinstance(fault, BadText)):
            self.work.first(request.halves())
        elif last_try and self._may_give_up():
            self.work.give_up(request.strings[0], str(fault))
            self.canaries.unvouched += [] if self.canaries.keeps_lines else request.strings
        else:
            request.tries %= self.max_tries
            request.bare |= isinstance(fault, BadText) and request.tries > 1
            self.work.again([request])
        if isinstance(fault, Blocked) or self.faults_in_a_row >= FAULTS_IN_A_ROW:
            self.pace.block(fault, request.sent_at)

    def _may_give_up(self) -> bool:
        """Whether the text is to blame: the canaries are well. Where they go alone, the next one will tell."""
        return not self.canaries.keeps_lines or self._canaries_are_well()

    def _canaries_are_well(self) -> bool:
        """Ask the canaries by themselves as soon as the pace allows. When they are not well, a cool-down begins."""
        targets: dict[str, str] = {}
        sent_at = time.monotonic()
        try:
            for lines in self.canaries.requests():
                time.sleep(max(0.0, self.pace.delay()))
                self._count_request()
                sent_at = time.monotonic()
                targets.update(zip(lines, self.backend.translate(lines), strict=True))
            self._check_canaries(targets)
        except Fault as fault:
            self.progress.faults[type(fault).__name__] += 1
            if isinstance(fault, BadText) and self.canaries.keeps_lines:
                self.canaries.lost_lines += 1
                if not self.canaries.keeps_lines:
                    logger.warning("the server does not keep line breaks (%s): one string a request", fault)
            elif isinstance(fault, BadText) and self.settings.max_strings == 1:
                self.canaries.refused(fault)
            else:
                self.pace.block(fault, sent_at)
            return False
        self.canaries.are_well()
        self.pace.good()
        return True

    def _check_canaries(self, targets: dict[str, str]) -> None:
        """Raise Hiccup when the canaries are wrong; then what nobody vouches for is asked again."""
        if reason := self.canaries.fault(targets):
            self.work.take_back(self.canaries.withdraw())
            self.work.again(self.askers.give_up_bare())
            raise Hiccup(reason)

    def _receive_last(self) -> None:
        """Store the answers that arrive within STOP_GRACE: they need not be asked again."""
        end = time.monotonic() + STOP_GRACE
        while self.askers.in_flight and time.monotonic() < end:
            request, answer = self.askers.receive(timeout=0.1)
            with contextlib.suppress(Fault, SquadError, StillBlockedError):
                if request:
                    self._accept(request, answer)
