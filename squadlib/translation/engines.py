"""What a translation engine is, how a local model is asked for, and the ways in which a request fails."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol


class Backend(Protocol):
    """What a translation engine offers."""

    def translate(self, strings: list[str]) -> list[str]:
        """The translations in the same order, "" where there is none."""
        ...


@dataclass(frozen=True)
class ModelSettings:
    """A model on this machine: hf runs it through transformers, ct2 through CTranslate2."""

    backend: str  # hf or ct2
    model_name_or_path: str
    source_code: str  # the model's own: en, or eng_Latn for NLLB
    target_code: str
    num_beams: int = 4
    batch_size: int = 32  # strings
    dtype: str = "float32"  # or float16, bfloat16
    device: str | None = None  # None: a GPU where there is one

    @property
    def name(self) -> str:
        """Whose translations these are, for the cache's key: another model or beam size is another engine."""
        path = self.model_name_or_path
        path = os.path.realpath(path) if os.path.isdir(path) else path
        name = f"{self.backend} {path} {self.source_code}-{self.target_code} beams={self.num_beams}"
        return name.encode("utf-8", "backslashreplace").decode()  # a folder's name need not be UTF-8


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
