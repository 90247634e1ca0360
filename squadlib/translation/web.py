"""Work through a web server that may block, fail or answer nonsense."""

from __future__ import annotations

import collections
import contextlib
import math
import random
import threading
import time
import urllib.error
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from squadlib.console import duration, logger, progress_bar
from squadlib.translation.cache import Cache
from squadlib.translation.checks import canary_fault, translation_fault
from squadlib.translation.engines import Backend, BadText, Blocked, Fault, Hiccup

MAX_URL_BYTES = 12_000  # the web page refuses about 16 KiB of percent-encoded text
MAX_TRIES = 4  # of one request, before its text is suspected and split
FAULTS_IN_A_ROW = 5  # without one good answer between them: as good as a block
CANARY_EVERY = 50  # requests that travel without a canary line, until the canaries are asked on their own
MAX_COOL_DOWN = 1800.0  # seconds
STOP_GRACE = 3.0  # seconds that Ctrl-C waits for answers that are on their way
REPORT_EVERY = 60.0  # seconds between progress lines when stderr is not a terminal


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
