"""Files that are whole or untouched: atomic writing, careful reading, folders."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from squadlib.console import NO_SPACE, SquadError, describe_os_error

JsonObject = dict[str, Any]  # as parsed
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes one: half of a pair, or one of its two
MAX_DEPTH = 100  # of JSON, whose writer gives up at about 1,000; a SQuAD file has 9 levels
TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"
BROKEN_DISK = {errno.EIO} | NO_SPACE  # other errors of syncing a folder: it cannot be done here
LOCK_FILE = ".run_squad.lock"  # in an output_dir; it stays there, empty


@contextlib.contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file beside `path` that replaces it, flushed to disk, only when the block ends well.

    A kill, an exception or a full disk leaves the old file as it was. mode: "w" (UTF-8, "\\n") or "wb".
    """
    path = os.path.realpath(path)  # a symbolic link keeps pointing at the new content
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    binary = "b" in mode
    try:
        with open(temporary, mode, encoding=None if binary else "utf-8", newline=None if binary else "\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        set_mode(temporary, path)
        os.replace(temporary, path)
        fsync_dir(os.path.dirname(path))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise SquadError(describe_os_error(error, path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def set_mode(new: str, path: str) -> None:
    """Give file `new` the permissions of `path`, which it will replace, or those of any new file."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        umask = os.umask(0)  # it can be read in no other way
        os.umask(umask)
        mode = 0o666 & ~umask
    os.chmod(new, mode)


def fsync_dir(path: str) -> None:
    """Make a rename in folder `path` survive a power cut, where the system lets a folder be synced."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in BROKEN_DISK:
            raise SquadError(describe_os_error(error, path)) from error


def make_dirs(path: str) -> None:
    """Make a folder with those above it, where they are missing; they survive a power cut."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(path):
        make_dirs(parent)
        os.makedirs(path, exist_ok=True)
        fsync_dir(parent)


def write_json(path: str, content: Any, *, ensure_ascii: bool = True) -> None:
    """Write `content` atomically as JSON: indent 4, final newline, NaN refused."""
    with atomic_write(path) as out:
        json.dump(content, out, indent=4, ensure_ascii=ensure_ascii, allow_nan=False)
        out.write("\n")


def check_output_path(path: str, faults: list[str], flag: str) -> None:
    """Append a fault when `path` cannot become an output file, so that hours of work do not end there."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        faults.append(f"{flag} {path} is a folder; name a file")
    elif os.path.exists(path) and not os.path.isfile(path):  # a file that replaces /dev/null would end the device
        faults.append(f"{flag} {path} is a device or pipe; name a file")
    elif not os.path.isdir(folder):
        faults.append(f"{flag} {path}: folder {folder} does not exist; make it first")
    elif not os.access(folder, os.W_OK):
        faults.append(f"{flag} {path}: folder {folder} is not writable")


def check_output_dir(path: str, faults: list[str]) -> None:
    """Append a fault when `path` cannot become a folder that files are written to."""
    parent = os.path.abspath(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        faults.append(f"--output_dir {path}: {parent} is a file; name a folder")
    elif not os.access(parent, os.W_OK):
        faults.append(f"--output_dir {path}: {parent} is not writable; name another folder")


def read_json(path: str) -> Any:
    """The parsed JSON file. UTF-8 with or without BOM; raises SquadError that says what is wrong and where."""
    text = decode(read_bytes(path), path)
    try:
        return parse_json(text, path)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        cut = "; the file looks cut off, download or make it again" if at_end else ""
        place = f"line {error.lineno} column {error.colno}"
        raise SquadError(f"{path}: not valid JSON at {place}: {error.msg}{cut}") from error
    except ValueError as error:
        raise SquadError(f"{path}: not usable JSON: {error}") from error


def read_json_lines(path: str) -> Iterator[tuple[int, Any]]:
    """(line number, parsed line) of a file with one JSON value a line; blank lines are passed over."""
    for number, line in enumerate(decode(read_bytes(path), path).split("\n"), 1):
        if line.strip():
            try:
                yield number, parse_json(line, f"{path}: line {number}")
            except ValueError as error:
                raise SquadError(f"{path}: line {number} is not JSON ({error}); each line is one question") from error


def read_bytes(path: str) -> bytes:
    """A file's content, unpacked where its name ends in .gz; standard input for -. It must not be blank."""
    with open_bytes(path) as file:
        raw = file.read()
    if not raw.strip():
        raise SquadError(f"{path}: the file is empty; download or make it again")
    return raw


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[BinaryIO]:
    """A file to read from, unpacked where its name ends in .gz; standard input for -."""
    try:
        if path == "-":
            yield sys.stdin.buffer
        else:
            with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
                yield cast(BinaryIO, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SquadError(f"{path}: not a whole gzip file ({error}); download or make it again") from error
    except OSError as error:
        raise SquadError(f"{path}: cannot be read ({error.strerror})") from error


def decode(raw: bytes, path: str) -> str:
    """UTF-8 with or without BOM as text; raises SquadError for anything else."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SquadError(f"{path}: the file is UTF-16; save it as UTF-8")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise SquadError(f"{path}: byte {error.start} is not valid UTF-8; save the file as UTF-8") from error


def parse_json(text: str, place: str) -> Any:
    """The parsed text, which can be written again. Raises ValueError for what is no JSON.

    Raises SquadError for what Python reads but no file can hold: half a surrogate pair ("\\ud800"), a number beyond
    all floats (1e999).
    """
    infinite: list[str] = []

    def parse_float(number: str) -> float:
        if math.isinf(value := float(number)):
            infinite.append(number)
        return value

    try:
        content = json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
    except RecursionError as error:  # whose words are others in each Python
        raise ValueError(TOO_DEEP) from error
    _refuse_deep(content)
    if infinite or SURROGATE.search(text):
        _refuse_unwritable(content, place)
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_deep(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        below = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, (dict, list)))
        level = [node for nodes in below for node in nodes]
    if level:
        raise ValueError(TOO_DEEP)


def _refuse_unwritable(content: Any, place: str) -> None:
    stack = [("", content)]
    while stack:
        where, node = stack.pop()
        if isinstance(node, float) and math.isinf(node):
            raise SquadError(f"{place}: {where} is a number too large to be stored; correct it")
        if isinstance(node, str):
            refuse_half_pair(node, f"{place}: {where or 'the text'}")
        elif isinstance(node, dict):
            for key in node:
                refuse_half_pair(key, f"{place}: a key of {where or 'the document'}")
            stack += [(f"{where}.{key}".lstrip("."), value) for key, value in reversed(node.items())]
        elif isinstance(node, list):
            stack += [(f"{where}[{index}]", node[index]) for index in reversed(range(len(node)))]


def refuse_half_pair(text: str, place: str) -> None:
    """Raise SquadError for text that is no Unicode, which neither files nor tokenizers take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SquadError(f"{place} holds half a surrogate pair at character {error.start}; mend the text") from error


def sync_file(path: str) -> None:
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except OSError as error:  # of a descriptor, it does not know the name
        raise SquadError(describe_os_error(error, path)) from error


def file_digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SquadError(f"{path}: cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def temporary_folder(path: str) -> Iterator[None]:
    """A new, empty folder that is gone afterwards, unless it was renamed."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
