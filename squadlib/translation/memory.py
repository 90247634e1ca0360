"""A translation memory: a file with one JSON object a line, {"source": "Hello.", "target": "Hallo."}."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from squadlib.console import SquadError
from squadlib.files import parse_json


@dataclass(frozen=True)
class MemorySettings:
    """Which memory."""

    memory_file: str
    backend: ClassVar[str] = "memory"
    name: ClassVar[str] = "memory"


class MemoryBackend:
    """A translation memory as an engine: it knows a string or stops the run."""

    def __init__(self, settings: MemorySettings) -> None:
        self.path = path = settings.memory_file
        self.targets: dict[str, str] = {}
        empty: list[int] = []
        try:
            with open(path, encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip() and not self._add(line, f"{path}: line {number}"):
                        empty.append(number)
        except (OSError, UnicodeDecodeError) as error:
            raise SquadError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        if empty:
            more = f" and {len(empty) - 1:,} more" if len(empty) > 1 else ""
            raise SquadError(f"{path}: line {empty[0]}{more}: the target is empty; fill it in or remove the line")

    def _add(self, line: str, place: str) -> bool:
        """Learn a line; whether its target is filled in."""
        try:
            entry = parse_json(line, place)
            source, target = (" ".join(entry[key].split()) for key in ("source", "target"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SquadError(
                f'{place}: expected {{"source": "…", "target": "…"}}, found {line.strip()[:60]}'
            ) from error
        if not source:
            raise SquadError(f"{place}: an empty source; remove the line")
        if target and self.targets.setdefault(source, target) != target:
            raise SquadError(f'{place}: a second translation of "{source[:60]}"; keep one')
        return bool(target)

    def translate(self, strings: list[str]) -> list[str]:
        """Every string's translation; raises SquadError that lists what the memory lacks."""
        misses = [string for string in strings if string not in self.targets]
        if misses:
            some = "".join(f"\n  {json.dumps({'source': miss}, ensure_ascii=False)}" for miss in misses[:10])
            more = f"\n  … and {len(misses) - 10:,} more" if len(misses) > 10 else ""
            raise SquadError(f"{self.path}: no translation of {len(misses):,} of {len(strings):,} strings:{some}{more}")
        return [self.targets[string] for string in strings]
