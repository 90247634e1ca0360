"""What a translation engine is, how servers and local models are asked for, and how a request fails."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import ClassVar, Protocol

from squadlib.console import duration


class Backend(Protocol):
    """What a translation engine offers."""

    def translate(self, strings: list[str]) -> list[str]:
        """The translations in the same order, "" where there is none."""
        ...


class LocalBackend(Backend, Protocol):
    """A model on this machine: it is given many strings at once, and may run out of memory."""

    num_beams: int
    on_gpu: bool

    def num_tokens(self, strings: list[str]) -> list[int]:
        """Of each string, as the model reads it."""
        ...


@dataclass(frozen=True)
class ModelSettings:
    """A model on this machine: hf runs it through transformers, ct2 through CTranslate2."""

    backend: str  # hf or ct2
    model_name_or_path: str
    source_code: str  # the model's own: en, or eng_Latn for NLLB
    target_code: str
    num_beams: int = 4
    batch_size: int | None = None  # strings; None: by tokens, as batches.py says
    dtype: str = "float32"  # or float16, bfloat16
    device: str | None = None  # None: a GPU where there is one

    @property
    def name(self) -> str:
        """Whose translations these are, for the cache's key: another model or beam size is another engine."""
        path = self.model_name_or_path
        path = os.path.realpath(path) if os.path.isdir(path) else path
        name = f"{self.backend} {path} {self.source_code}-{self.target_code} beams={self.num_beams}"
        return name.encode("utf-8", "backslashreplace").decode()  # a folder's name need not be UTF-8


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked. An engine inherits this, sets the class variables, and changes defaults or adds flags."""

    source_lang: str
    target_lang: str
    rate: float = 1.0  # requests a second at most
    workers: int = 1  # requests on their way at the same time
    max_chars: int = 4500  # of a request
    across_paragraphs: bool = False
    timeout: float = 30.0  # seconds until an answer begins; thrice that until it is whole
    cool_down: float = 30.0  # seconds of a first pause
    give_up_after: float = 7200.0  # seconds without a good answer

    backend: ClassVar[str]  # its name in the table of engines
    most_chars: ClassVar[int] = 5000  # that --max_chars may say
    max_bytes: ClassVar[float] = math.inf  # of a request's strings, as they stand in an address
    max_strings: ClassVar[float] = math.inf  # of a request. 1: control sentences are asked by themselves, now and then;
    # more: one travels at the end of each request, so translate() gets it as the last string
    may_be_cut: ClassVar[bool] = False  # the server may lose the end of a text and not say so

    @property
    def name(self) -> str:
        """Whose translations these are, for the cache's key: all that changes answers, and neither address nor key."""
        return self.backend

    @property
    def answers_in_context(self) -> bool:
        """Whether answers are asked with their sentences: strings of three lines, as in_context() makes them."""
        return False

    def amounts(self, strings: list[str]) -> dict[str, int]:
        """What a service has a price for, by unit, about: characters, or tokens."""
        return {"characters": sum(map(len, strings))}

    def expected_time(self, num_requests: int) -> str:
        """For people, in a dry run."""
        return f"{duration(num_requests / self.rate)} at {self.rate:g} requests a second"


class Fault(Exception):
    """A request without a usable answer. The kinds below say whom to blame, and so what to do."""

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
