"""The shared room of the toolkit: files, SQuAD data, windows, n-best decoding, question answering.

Every script imports from here; nothing here runs by itself. Heavy libraries (numpy, torch, transformers) are imported
by the functions that need them, so that `--help` and the data scripts start at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

EXIT_OK, EXIT_BAD_DATA, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 75  # 75 is EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 130, 141, 143  # 128 + signal number
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

logger = logging.getLogger(__name__)


class SquadError(Exception):
    """Bad data or a bad environment: one sentence with the file, the place, what was found and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# Scripts: logging, exit codes, progress
# ---------------------------------------------------------------------------------------------------------------------


def setup_logging(level: int = logging.INFO) -> None:
    """Log to stderr in the format of the 2020 script; stdout stays free for results."""
    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s",
        datefmt="%m/%d/%Y %H:%M:%S",
        level=level,
        stream=sys.stderr,
        force=True,
    )


def script_main(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a script's `main(argv) -> int`: errors become one line on stderr and the documented exit code.

    SIGTERM raises SystemExit(143), so that `finally` blocks and temporary files are cleaned up.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        with contextlib.suppress(ValueError):  # ValueError: not in the main thread (tests)
            signal.signal(signal.SIGTERM, _raise_terminated)
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except SquadError as error:
            logger.error("%s", error)
            return EXIT_BAD_DATA
        except KeyboardInterrupt:
            logger.error("stopped by Ctrl-C")
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # `| head` closed our stdout; the interpreter must not flush it again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        except OSError as error:
            logger.error("%s", describe_os_error(error))
            return EXIT_BAD_DATA
        except (MemoryError, RecursionError) as error:
            logger.error("%s while working on the input: is the file what you think it is?", type(error).__name__)
            return EXIT_BAD_DATA

    return wrapper


def _raise_terminated(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)


def describe_os_error(error: OSError, path: str | None = None) -> str:
    """One sentence for an OSError: the file, what happened, and for a full disk what to do."""
    name = path or error.filename or "output"
    if error.errno in NO_SPACE:
        return f"{name}: no space left for writing ({error.strerror}); free some and run the same command again"
    return f"{name}: {error.strerror or error}"


def exit_with_faults(parser: Any, faults: list[str]) -> None:
    """Print every fault of the command line at once and exit 2; return when there is none."""
    if faults:
        parser.exit(EXIT_USAGE, "".join(f"{parser.prog}: error: {fault}\n" for fault in faults))


def progress_bar(iterable: Iterable | None = None, **kwargs: Any) -> Any:
    """A tqdm bar on stderr that stays quiet when stderr is not a terminal. Takes tqdm's arguments."""
    from tqdm import tqdm

    return tqdm(iterable, disable=not sys.stderr.isatty(), dynamic_ncols=True, **kwargs)


# ---------------------------------------------------------------------------------------------------------------------
# Files: whole or untouched
# ---------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file beside `path` that replaces it, flushed to disk, only when the block ends well.

    A kill, an exception or a full disk leaves the old file as it was. mode: "w" (UTF-8, "\\n") or "wb".
    """
    path = os.path.realpath(path)  # a symbolic link keeps pointing at the new content
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    text_options = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode, **text_options) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        fsync_dir(os.path.dirname(path))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise SquadError(describe_os_error(error, path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def fsync_dir(path: str) -> None:
    """Make a rename in folder `path` survive a power cut, where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
    elif not os.path.isdir(folder):
        faults.append(f"{flag} {path}: folder {folder} does not exist; make it first")
    elif not os.access(folder, os.W_OK):
        faults.append(f"{flag} {path}: folder {folder} is not writable")


def read_json(path: str) -> Any:
    """The parsed JSON file. UTF-8 with or without BOM; raises SquadError that says what is wrong and where."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise SquadError(f"{path}: cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise SquadError(f"{path}: the file is empty; download or make it again")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SquadError(f"{path}: the file is UTF-16; save it as UTF-8")
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise SquadError(f"{path}: byte {error.start} is not valid UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        cut = "; the file looks cut off, download or make it again" if error.pos >= len(error.doc.rstrip()) - 1 else ""
        place = f"line {error.lineno} column {error.colno}"
        raise SquadError(f"{path}: not valid JSON at {place}: {error.msg}{cut}") from error
    except (ValueError, RecursionError) as error:
        raise SquadError(f"{path}: not usable JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# ---------------------------------------------------------------------------------------------------------------------
# SQuAD data: reading and validating
# ---------------------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """One gold answer. answer_start: 0-based, in Python characters of the context."""

    text: str
    answer_start: int


class Example(NamedTuple):
    """One question with its paragraph. answers is empty for an unanswerable question."""

    qid: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    is_impossible: bool


def load_squad(path: str, *, answers_required: bool = True) -> dict[str, Any]:
    """A validated SQuAD v1.1 or v2.0 document, as parsed, with three things made uniform in place.

    Every question has a string `id`, a boolean `is_impossible`, and a list `answers` (`[]` where an unanswerable
    question leaves it out). answers_required: an answerable question must have its `answers` key. Unknown keys are kept.
    Raises SquadError at the first fault, with file, paragraph, question and remedy.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise SquadError(f'{path}: not a SQuAD file: no list "data" at the top; expected {{"version": …, "data": […]}}')
    if not document["data"]:
        raise SquadError(f'{path}: "data" is an empty list; there is nothing to work on')
    seen: set[str] = set()
    for number, article in enumerate(document["data"], 1):
        place = f"{path}: article {number}"
        paragraphs = _get(article, "paragraphs", list, place)
        for index, paragraph in enumerate(paragraphs, 1):
            place = f'{path}: paragraph {index} of "{article.get("title", number)}"'
            context = _get_text(paragraph, "context", place)
            for qa in _get(paragraph, "qas", list, place):
                _check_question(qa, context, place, seen, answers_required)
    if not seen:
        raise SquadError(f"{path}: the file has no question")
    return document


def _check_question(qa: Any, context: str, place: str, seen: set[str], answers_required: bool) -> None:
    if not isinstance(qa, dict) or not isinstance(qa.get("id"), (str, int)):
        raise SquadError(f'{place}: a question has no "id" that is text')
    qid = qa["id"] = str(qa["id"])
    place = f"{place}, question {qid}"
    if qid in seen:
        raise SquadError(f"{place}: this id was used before; make the ids unique")
    seen.add(qid)
    _get_text(qa, "question", place)
    if not isinstance(qa.setdefault("is_impossible", False), bool):
        raise SquadError(f"{place}: is_impossible is {qa['is_impossible']!r}; expected true or false")
    if qa["is_impossible"] or not answers_required:
        qa["answers"] = [] if qa.get("answers") is None else qa["answers"]
    for answer in _get(qa, "answers", list, place):
        _check_answer(answer, context, place)


def _check_answer(answer: Any, context: str, place: str) -> None:
    text = _get_text(answer, "text", f"{place}, answer")
    start = answer.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool):
        raise SquadError(f"{place}: answer_start is {start!r}; expected a character offset (a whole number)")
    if start < 0:
        raise SquadError(f"{place}: answer_start {start} is negative; offsets count from 0")
    if text and start >= len(context):
        raise SquadError(f"{place}: answer_start {start} is past the end of a {len(context)}-character context")


def _get(record: Any, key: str, kind: type, place: str) -> Any:
    if not isinstance(record, dict) or not isinstance(record.get(key), kind):
        found = type(record).__name__ if not isinstance(record, dict) else repr(record.get(key, "nothing"))[:40]
        name = {list: "a list", str: "text"}[kind]
        raise SquadError(f'{place}: "{key}" should be {name}, found {found}')
    return record[key]


def _get_text(record: Any, key: str, place: str) -> str:
    text = _get(record, key, str, place)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        fault = f'"{key}" holds half a surrogate pair at character {error.start}; mend the text'
        raise SquadError(f"{place}: {fault}") from error
    return text


def iter_questions(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(paragraph, question) of a document that load_squad returned, in file order."""
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                yield paragraph, qa


def read_examples(document: dict[str, Any]) -> list[Example]:
    """One Example a question, in file order. Answers of a question marked is_impossible are left out, as in 2020."""
    return [
        Example(
            qa["id"],
            qa["question"],
            paragraph["context"],
            tuple(Answer(a["text"], a["answer_start"]) for a in qa["answers"] if not qa["is_impossible"]),
            qa["is_impossible"],
        )
        for paragraph, qa in iter_questions(document)
    ]
