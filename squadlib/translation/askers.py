"""Requests on their way: what travels together, and the threads that ask."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from squadlib.console import duration
from squadlib.translation.engines import Backend, Hiccup


@dataclass(slots=True)
class Request:
    """Strings that travel together. bare: without a canary at the end. Without strings: a canary alone."""

    strings: list[str]
    bare: bool = False
    tries: int = 0
    canary: str | None = None
    sent_at: float = 0.0

    def halves(self) -> list[Request]:
        middle = len(self.strings) // 2
        return [Request(self.strings[:middle]), Request(self.strings[middle:])]


class Askers:
    """Requests on their way, the threads that ask them, and the answers that the threads bring.

    A thread lives on with its connection. One whose request was given up comes back when its answer does.
    """

    def __init__(self, backend: Backend, workers: int, deadline: float) -> None:
        self.backend, self.workers = backend, workers
        self.deadline = deadline  # seconds; an answer that drips in for longer is given up
        self.in_flight: dict[int, Request] = {}  # by ticket
        self._tickets = itertools.count()
        self._num_idle = 0  # threads
        self._questions: SimpleQueue[tuple[int, list[str]]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, list[str] | BaseException]] = SimpleQueue()

    def has_room(self) -> bool:
        """Whether another request may go on its way."""
        return len(self.in_flight) < self.workers

    def send(self, request: Request) -> None:
        ticket = next(self._tickets)
        self.in_flight[ticket] = request
        self._questions.put((ticket, [*request.strings, *filter(None, [request.canary])]))
        if self._num_idle:
            self._num_idle -= 1
        else:
            threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        while True:
            ticket, strings = self._questions.get()
            try:
                self._answers.put((ticket, self.backend.translate(strings)))
            except BaseException as error:  # for the main thread, which reacts or raises it again
                self._answers.put((ticket, error))

    def receive(self, timeout: float) -> tuple[Request | None, list[str] | BaseException]:
        """(request, its lines or what went wrong); no request when nothing came in `timeout` seconds."""
        answer: list[str] | BaseException = Hiccup(f"no whole answer in {duration(self.deadline)}")
        try:
            ticket, answer = self._answers.get(timeout=timeout)
            self._num_idle += 1
        except Empty:
            overdue = (t for t, r in self.in_flight.items() if time.monotonic() - r.sent_at > self.deadline)
            ticket = next(overdue, -1)
        return self.in_flight.pop(ticket, None), answer  # an answer to no request came after it was given up

    def give_up_bare(self) -> list[Request]:
        """The requests that travel without a canary line; their answers will be passed over."""
        bare = [ticket for ticket, request in self.in_flight.items() if request.bare]
        return [self.in_flight.pop(ticket) for ticket in bare]
