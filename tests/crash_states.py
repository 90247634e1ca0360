"""What a folder can look like after a power cut: the operations on it are recorded, and those that nothing made durable
are dropped or reordered.

The rules are those of POSIX, harder than any one file system's: what was written to a file is there for certain only
after an fsync of that file, and a name (made, moved or taken away) only after an fsync of its folder.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT_FOLDER = 0  # its number; files and folders are numbered in the order of their making
Name = tuple[int, str]  # number of the folder, name in it


class Write(NamedTuple):
    """Bytes into a file; content None: the file is cut, or lengthened with zeros, at `offset`."""

    number: int
    offset: int
    content: bytes | None


class Link(NamedTuple):
    """Names that change together. A rename takes one away (None) and sets the other; both or neither happen."""

    names: tuple[tuple[Name, int | None], ...]


class Sync(NamedTuple):
    number: int


class Mark(NamedTuple):
    """From here on the program has promised something."""

    text: str


class State(NamedTuple):
    """A folder after a cut, and what had been promised before it."""

    cut: int
    folder: Path
    promised: set[str]


@dataclass
class File:
    """A file's content as the kernel has it; None for a folder."""

    content: bytearray | None


class Disk:
    """A folder, what it held when the recording began, and all that happened to it since."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.operations: list[Any] = []
        self.files = {ROOT_FOLDER: File(None)}
        self.names: dict[Name, int] = {}  # as they are now
        self.look()
        self.files_before = {n: None if f.content is None else bytes(f.content) for n, f in self.files.items()}
        self.names_before = dict(self.names)
        self.operations.clear()

    # -- recording

    def number(self, path: str | os.PathLike) -> int | None:
        """The number of a path in the folder; None for one that is unknown or elsewhere."""
        path = os.path.realpath(os.path.dirname(path)) + os.sep + os.path.basename(path)
        parts = os.path.relpath(path, self.folder).split(os.sep)
        number: int | None = ROOT_FOLDER
        for part in [] if parts == ["."] else parts:
            number = self.names.get((number, part)) if number is not None else None
        return number

    def name(self, path: str | os.PathLike) -> Name | None:
        folder = self.number(os.path.dirname(path))
        return None if folder is None else (folder, os.path.basename(path))

    def make(self, name: Name, folder: bool) -> int:
        number = len(self.files)
        self.files[number] = File(None if folder else bytearray())
        self.link((name, number))
        return number

    def link(self, *names: tuple[Name, int | None]) -> None:
        self.operations.append(Link(names))
        for name, number in names:
            if number is None:
                self.names.pop(name, None)
            else:
                self.names[name] = number

    def rename(self, old: str | os.PathLike, new: str | os.PathLike) -> None:
        before, after = self.name(old), self.name(new)
        if before in self.names and after:
            self.link((before, None), (after, self.names[before]))

    def write(self, number: int, offset: int, content: bytes | None) -> None:
        self.operations.append(Write(number, offset, content))
        apply_write(self.files[number].content, offset, content)

    def sync(self, number: int | None) -> None:
        if number is not None:
            self.operations.append(Sync(number))

    def mark(self, text: str) -> None:
        self.operations.append(Mark(text))

    def look(self) -> None:
        """Record what has changed since the last look, for those who write without being watched."""
        self._look(ROOT_FOLDER, self.folder)

    def _look(self, number: int, folder: Path) -> None:
        there = {entry.name: entry for entry in os.scandir(folder)} if folder.is_dir() else {}
        for name in [name for parent, name in self.names if parent == number and name not in there]:
            self._forget(number, name)
        for name, entry in sorted(there.items()):
            child = self.names.get((number, name))
            if child is None:
                child = self.make((number, name), entry.is_dir())
            if entry.is_dir():
                self._look(child, Path(entry.path))
            elif (content := Path(entry.path).read_bytes()) != self.files[child].content:
                self.write(child, 0, None)
                self.write(child, 0, content)

    def _forget(self, number: int, name: str) -> None:
        child = self.names[number, name]
        for inner in [inner for parent, inner in self.names if parent == child]:
            self._forget(child, inner)
        self.link(((number, name), None))

    # -- replaying

    def states(self, per_cut: int, top: Path, seed: int = 0) -> Iterator[State]:
        """Folders in `top` as they may be after a cut behind each operation; each goes when the next is asked for.

        The first of a cut has lost all that could be lost, the second nothing; the others are drawn.
        """
        for cut in range(len(self.operations) + 1):
            promised = {operation.text for operation in self.operations[:cut] if isinstance(operation, Mark)}
            for variant in range(per_cut):
                choice = random.Random(f"{seed} {cut} {variant}")
                keep = {0: 0.0, 1: 1.0}.get(variant, choice.choice([0.2, 0.5, 0.8]))
                folder = top / f"{cut}.{variant}"
                names = self._names_after(cut, keep, choice)
                self._write_out(ROOT_FOLDER, folder, names, cut, keep, choice)
                yield State(cut, folder, promised)
                shutil.rmtree(folder)

    def _names_after(self, cut: int, keep: float, choice: random.Random) -> dict[Name, int]:
        """The names of all files: those that are durable, and of the rest a part that can be without the others."""
        links = [(at, op) for at, op in enumerate(self.operations[:cut]) if isinstance(op, Link)]
        synced = {op.number: at for at, op in enumerate(self.operations[:cut]) if isinstance(op, Sync)}
        needed: set[Any] = set()
        kept = []
        for at, link in reversed(links):  # what a durable operation needs has happened too
            (folder, _), _ = link.names[-1]
            if synced.get(folder, -1) > at or needed & touched(link):
                needed |= touched(link)
                kept.append(at)
        lost: set[Any] = set()
        names = dict(self.names_before)
        for at, link in links:
            if at not in kept and (choice.random() >= keep or lost & touched(link)):
                lost |= touched(link)
                continue
            for name, number in link.names:
                if number is None:
                    names.pop(name, None)
                else:
                    names[name] = number
        return names

    def _content_after(self, number: int, cut: int, keep: float, choice: random.Random) -> bytes:
        """A file's content: all that was synced, and of the rest the beginning, all but one piece, or some pieces."""
        operations = [(at, op) for at, op in enumerate(self.operations[:cut]) if getattr(op, "number", None) == number]
        synced = max((at for at, op in operations if isinstance(op, Sync)), default=-1)
        content = bytearray(self.files_before.get(number) or b"")
        writes = [(at, op) for at, op in operations if isinstance(op, Write)]
        first_loose = sum(at < synced for at, _ in writes)
        num_loose = len(writes) - first_loose
        way, place = choice.choice(["beginning", "all but one", "some", "torn", "zeros"]), choice.randrange(1 << 30)
        for index, (_, op) in enumerate(writes, -first_loose):
            if index < 0 or keep == 1.0:
                apply_write(content, op.offset, op.content)
            elif keep == 0.0:
                continue
            elif way == "zeros" and op.content:  # the new size is on the disk, what belongs there is not
                apply_write(content, max(len(content), op.offset + len(op.content)), None)
            elif way == "torn" and op.content and index == place % num_loose:
                apply_write(content, op.offset, op.content[: choice.randrange(len(op.content))])
            elif (
                (way == "beginning" and index < place % (num_loose + 1))
                or (way in ("all but one", "torn") and index != place % num_loose)
                or (way == "some" and choice.random() < keep)
            ):
                apply_write(content, op.offset, op.content)
        return bytes(content)

    def _write_out(
        self, number: int, path: Path, names: dict[Name, int], cut: int, keep: float, choice: random.Random
    ) -> None:
        path.mkdir()
        for (folder, name), child in sorted(names.items()):
            if folder != number:
                continue
            if self.files[child].content is None:
                self._write_out(child, path / name, names, cut, keep, choice)
            else:
                (path / name).write_bytes(self._content_after(child, cut, keep, choice))


def touched(link: Link) -> set[Any]:
    """What an operation on names depends on, and what depends on it."""
    return {name for name, _ in link.names} | {number for _, number in link.names if number is not None}


def apply_write(content: bytearray, offset: int, new: bytes | None) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    if new is None:
        del content[offset:]
    else:
        content[offset : offset + len(new)] = new


def record(disk: Disk, monkeypatch: Any) -> None:
    """Record what this process does from now on, of code that calls the functions of `os`."""

    def watched(function: Any, then: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            disk.look()
            result = function(*args, **kwargs)
            then(*args)
            return result

        return call

    def synced(descriptor: int) -> None:
        disk.sync(disk.number(os.readlink(f"/proc/self/fd/{descriptor}")))

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, watched(getattr(os, name), disk.rename))
    for name in ("unlink", "mkdir", "rmdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name), lambda *args: None))
    monkeypatch.setattr(os, "fsync", watched(os.fsync, synced))
