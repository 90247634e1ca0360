"""When the next request may leave, and when a block has lasted too long."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass

from squadlib.console import duration, logger
from squadlib.translation.engines import Fault

MAX_COOL_DOWN = 1800.0  # seconds


class StillBlockedError(Exception):
    """Asking again is no use for hours: the reason, and what to do until then. The same command goes on later."""


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
            reason = f"blocked for {blocked}, the next try would be in {duration(pause)} ({fault})"
            raise StillBlockedError(f"{reason}; wait some hours, lower --rate, or use a local model")
        logger.warning("%s: waiting %s, then %.2g requests/s", fault, duration(pause), self.rate)
