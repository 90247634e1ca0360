"""The shared room of the toolkit: files, SQuAD data, windows, n-best decoding, question answering.

Every script imports from here; nothing here runs by itself. Heavy libraries (numpy, torch, transformers) are imported
by the functions that need them, so that `--help` and the data scripts start at once.
"""

from __future__ import annotations

import bisect
import codecs
import contextlib
import errno
import functools
import itertools
import json
import math
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

EXIT_OK, EXIT_BAD_DATA, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 75  # 75 is EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 130, 141, 143  # 128 + signal number
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _LazyLogger:
    """`logging.getLogger(name)` that imports logging at its first message: a silent script starts 8 ms earlier."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, method: str) -> Any:
        import logging

        return getattr(logging.getLogger(self.name), method)


logger = _LazyLogger(__name__)


class SquadError(Exception):
    """Bad data or a bad environment: one sentence with the file, the place, what was found and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# Scripts: logging, exit codes, progress
# ---------------------------------------------------------------------------------------------------------------------


def setup_logging(level: int | None = None) -> None:
    """Log to stderr in the format of the 2020 script, from INFO up by default; stdout stays free for results."""
    import logging

    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s",
        datefmt="%m/%d/%Y %H:%M:%S",
        level=logging.INFO if level is None else level,
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


def progress_bar(**options: Any) -> Any:
    """A tqdm bar on stderr that stays quiet when stderr is not a terminal. Takes tqdm's arguments."""
    from tqdm import tqdm

    return tqdm(disable=not sys.stderr.isatty(), dynamic_ncols=True, **options)


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
        return json.loads(raw.removeprefix(codecs.BOM_UTF8).decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise SquadError(f"{path}: byte {error.start} is not valid UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        cut = "; the file looks cut off, download or make it again" if at_end else ""
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


def load_squad(path: str, *, answers_required: bool = True, offsets_required: bool = True) -> dict[str, Any]:
    """A validated SQuAD v1.1 or v2.0 document, as parsed, with three things made uniform in place.

    Every question has a string `id`, a boolean `is_impossible`, and a list `answers` (`[]` where an unanswerable
    question leaves it out). answers_required: an answerable question must have its `answers`. offsets_required:
    every answer_start must lie in its context. Unknown keys are kept.
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
        paragraphs = get_field(article, "paragraphs", list, place)
        for index, paragraph in enumerate(paragraphs, 1):
            place = f'{path}: paragraph {index} of "{article.get("title", number)}"'
            context = _get_text(paragraph, "context", place)
            for qa in get_field(paragraph, "qas", list, place):
                _check_question(qa, context, place, seen, answers_required, offsets_required)
    if not seen:
        raise SquadError(f"{path}: the file has no question")
    return document


def _check_question(
    qa: Any, context: str, place: str, seen: set[str], answers_required: bool, offsets_required: bool
) -> None:
    if not isinstance(qa, dict) or not isinstance(qa.get("id"), (str, int)):
        raise SquadError(f'{place}: a question has no "id" that is text')
    qid = qa["id"] = str(qa["id"])
    _get_text(qa, "id", place)
    place = f"{place}, question {qid}"
    if qid in seen:
        raise SquadError(f"{place}: this id was used before; make the ids unique")
    seen.add(qid)
    _get_text(qa, "question", place)
    if not isinstance(qa.setdefault("is_impossible", False), bool):
        raise SquadError(f"{place}: is_impossible is {qa['is_impossible']!r}; expected true or false")
    if qa["is_impossible"] or not answers_required:
        qa["answers"] = [] if qa.get("answers") is None else qa["answers"]
    for answer in get_field(qa, "answers", list, place):
        _check_answer(answer, context, place, offsets_required)


def _check_answer(answer: Any, context: str, place: str, offsets_required: bool) -> None:
    text = _get_text(answer, "text", f"{place}, answer")
    start = answer.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool):
        raise SquadError(f"{place}: answer_start is {start!r}; expected a character offset (a whole number)")
    if start < 0 and offsets_required:
        raise SquadError(f"{place}: answer_start {start} is negative; offsets count from 0")
    if text and start >= len(context) and offsets_required:
        raise SquadError(f"{place}: answer_start {start} is past the end of a {len(context)}-character context")


def get_field(record: Any, key: str, kind: type, place: str) -> Any:
    """record[key] when it is of the wanted kind (list or str); else SquadError with the place and what was found."""
    if not isinstance(record, dict) or not isinstance(record.get(key), kind):
        found = type(record).__name__ if not isinstance(record, dict) else repr(record.get(key, "nothing"))[:40]
        name = {list: "a list", str: "text"}[kind]
        raise SquadError(f'{place}: "{key}" should be {name}, found {found}')
    return record[key]


def _get_text(record: Any, key: str, place: str) -> str:
    text = get_field(record, key, str, place)
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


# ---------------------------------------------------------------------------------------------------------------------
# Windows: every question with a slice of its context, as flat int32 arrays
# ---------------------------------------------------------------------------------------------------------------------

WORD = re.compile("[^ \t\r\n\u202f]+")  # the 2020 script splits contexts at these five characters and no other
WORD_CHUNK = 1024  # words or texts a call: bounds the memory of the Rust encodings, about 1 KiB each


class PairTemplate(NamedTuple):
    """Special ids around a question and a context piece list, and the segment ids of the five parts.

    BERT: [CLS] question [SEP] context [SEP]; RoBERTa: <s> question </s></s> context </s>.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    segments: tuple[int, int, int, int, int]
    pad_id: int
    cls_index: int

    @property
    def num_special(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class Windows:
    """All windows of a file: the pieces of each distinct context once, and five integers a window.

    examples: the questions, in file order. first_window: int64 (E + 1,), windows of example e are
    [first_window[e], first_window[e + 1]). Per window, int32 (W,): example_index, start and length (pieces of the
    context, relative to its first piece), start_position and end_position (training labels, positions in the window).
    dropped: ids of training questions whose answer is not in the words that its offset names.
    """

    def __init__(self, examples: list[Example], template: PairTemplate, contexts: _Ragged, questions: _Ragged) -> None:
        self.examples, self.template = examples, template
        self.contexts, self.questions = contexts, questions
        self.dropped: list[str] = []

    def __len__(self) -> int:
        return len(self.example_index)

    def words(self, example: int) -> list[str]:
        """The context of an example as the whitespace words that predictions are cut from."""
        return WORD.findall(self.examples[example].context)

    def context_pieces(self, window: int) -> tuple[Any, Any]:
        """(piece ids, word index of each piece) of one window, both int32 (length,)."""
        row = self.context_row[self.example_index[window]]
        first = self.contexts.first[row] + self.start[window]
        span = slice(first, first + self.length[window])
        return self.contexts.values[span], self.contexts.word[span]

    def context_offset(self, window: int) -> int:
        """Position of the window's first context piece."""
        question = self.questions.length(self.question_row[self.example_index[window]])
        return len(self.template.prefix) + question + len(self.template.middle)

    def num_tokens(self) -> Any:
        """Real tokens of each window, specials included: int64 (W,)."""
        rows = self.question_row[self.example_index]
        return self.length + (self.questions.first[rows + 1] - self.questions.first[rows]) + self.template.num_special

    def digest(self) -> str:
        """SHA-256 of all that training sees: a checkpoint belongs to these windows and no others."""
        import hashlib

        arrays = (self.contexts.values, self.questions.values, self.context_row, self.question_row, self.example_index)
        digest = hashlib.sha256()
        for array in (*arrays, self.start, self.length, self.start_position, self.end_position):
            digest.update(array.astype("<i4").tobytes())
        return digest.hexdigest()

    def assemble(self, indices: Iterable[int]) -> tuple[Any, Any, Any]:
        """Windows `indices` laid end to end without padding.

        Returns input_ids and token_type_ids, int64 (total tokens,), and the window lengths, int64 (B,).
        """
        import numpy as np

        template, segments, parts, lengths = self.template, [], [], []
        for window in indices:
            question = self.questions[self.question_row[self.example_index[window]]]
            window_parts = (template.prefix, question, template.middle, self.context_pieces(window)[0], template.suffix)
            sizes = tuple(map(len, window_parts))
            parts += window_parts
            segments += sizes
            lengths.append(sum(sizes))
        input_ids = np.concatenate(parts, dtype=np.int64, casting="unsafe")
        token_type_ids = np.repeat(np.tile(np.array(template.segments, np.int64), len(lengths)), segments)
        return input_ids, token_type_ids, np.array(lengths, np.int64)

    def room(self, max_seq_length: int) -> Any:
        """Context pieces that fit into a window beside each example's question: int64 (E,)."""
        questions = self.questions.first
        return max_seq_length - self.template.num_special - (questions[1:] - questions[:-1])[self.question_row]

    def cut(self, room: Any, step: Any, kept: Any = None) -> None:
        """Lay the windows out: each holds up to room[e] pieces, the next starts step[e] pieces further on.

        A blank context has no window, nor has an example that kept (bool (E,)) leaves out.
        """
        import numpy as np

        total = np.diff(self.contexts.first)[self.context_row]
        short = np.flatnonzero((room < step) & (total > room))
        if len(short):
            raise SquadError(
                f"question {self.examples[short[0]].qid} leaves room for {room[short[0]]} context tokens in a window: "
                f"a doc_stride of {step[short[0]]} would skip some; lower it or raise max_seq_length"
            )
        count = np.where(total > 0, 1 + np.maximum(0, -(-(total - room) // step)), 0)
        if kept is not None:
            count = np.where(kept, count, 0)
        self.first_window = np.concatenate([[0], np.cumsum(count)])
        self.example_index = np.repeat(np.arange(len(count), dtype=np.int32), count)
        index = self.example_index
        self.start = ((np.arange(len(index)) - self.first_window[index]) * step[index]).astype(np.int32)
        self.length = np.minimum(total[index] - self.start, room[index]).astype(np.int32)

    def max_context(self, example: int) -> list[Any]:
        """One bool array (length,) a window of the example: true where the token has its maximum context there.

        Score of a token: min(left, right) + 0.01 * window length; the earlier window wins a tie (Devlin et al. 2019).
        """
        import numpy as np

        first, last = self.first_window[example], self.first_window[example + 1]
        if last - first == 1:
            return [np.ones(self.length[first], bool)]
        starts, lengths = self.start[first:last, None], self.length[first:last, None]
        position = np.arange(starts[-1, 0] + lengths[-1, 0])
        left, right = position - starts, starts + lengths - 1 - position
        scores = np.where((left >= 0) & (right >= 0), np.minimum(left, right) + 0.01 * lengths, -1.0)
        best = scores.argmax(axis=0)
        return [best[s : s + n] == k for k, (s, n) in enumerate(zip(starts[:, 0], lengths[:, 0], strict=True))]


class _Ragged:
    """Rows of different length in one flat int32 array: row r is values[first[r]:first[r + 1]]."""

    def __init__(self, values: Any, first: Any, word: Any = None) -> None:
        self.values, self.first, self.word = values, first, word

    def __getitem__(self, row: int) -> Any:
        return self.values[self.first[row] : self.first[row + 1]]

    def length(self, row: int) -> int:
        return int(self.first[row + 1] - self.first[row])


def make_windows(
    examples: list[Example],
    tokenizer: Any,
    *,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    max_query_length: int = 64,
    training: bool = False,
) -> Windows:
    """Windows of all examples, equal to those of the 2020 script in every field.

    tokenizer: a fast transformers tokenizer. Lengths and doc_stride are in tokens; window k of a context covers its
    pieces [k * doc_stride, k * doc_stride + room) with room = max_seq_length - question - specials. With `training`,
    labels come from the first answer and questions whose answer cannot be found are dropped.
    """
    import numpy as np

    template = pair_template(tokenizer)
    table = _PieceTable(tokenizer)
    context_rows, context_index = _distinct(example.context for example in examples)
    question_rows, question_index = _distinct(example.question for example in examples)
    contexts = table.contexts(list(context_rows))
    questions = table.questions(list(question_rows), max_query_length)
    windows = Windows(examples, template, contexts, questions)
    windows.context_row, windows.question_row = context_index, question_index
    spans = _label_pieces(windows, table) if training else None

    kept = None if spans is None else spans[:, 0] > DROPPED
    room = windows.room(max_seq_length)
    windows.cut(room, np.full_like(room, doc_stride), kept)
    index = windows.example_index
    windows.start_position = windows.end_position = np.zeros(len(index), np.int32)
    if spans is not None:
        windows.dropped = [example.qid for example, keep in zip(examples, kept, strict=True) if not keep]
        offset = max_seq_length - len(template.suffix) - room[index]
        windows.start_position, windows.end_position = _window_labels(windows, spans[index], offset)
    return windows


def _window_labels(windows: Windows, spans: Any, offset: Any) -> tuple[Any, Any]:
    """Label positions in each window; the [CLS] position where the window does not hold the whole answer."""
    import numpy as np

    first = spans - windows.start[:, None]
    inside = (spans[:, 0] >= windows.start) & (first[:, 1] < windows.length) & (spans[:, 0] >= 0)
    labels = np.where(inside[:, None], first + offset[:, None], windows.template.cls_index).astype(np.int32)
    return labels[:, 0].copy(), labels[:, 1].copy()


def pair_template(tokenizer: Any) -> PairTemplate:
    """The special tokens that `tokenizer` puts around a question and a context, read off an encoded pair."""
    tokenizer.backend_tokenizer.no_padding()  # files of sentence encoders ask for both, which would spoil the windows
    tokenizer.backend_tokenizer.no_truncation()
    encoded = tokenizer.backend_tokenizer.encode("a", "b")
    source = encoded.sequence_ids
    question = [i for i, s in enumerate(source) if s == 0]
    context = [i for i, s in enumerate(source) if s == 1]
    if not question or not context or question[0] > context[0]:
        raise SquadError(f"{type(tokenizer).__name__}: a tokenizer that puts the context first is not supported")
    q0, q1, c0, c1 = question[0], question[-1] + 1, context[0], context[-1] + 1
    ids, types = encoded.ids, encoded.type_ids
    prefix, middle, suffix = tuple(ids[:q0]), tuple(ids[q1:c0]), tuple(ids[c1:])
    segments = (types[0], types[q0], types[q1], types[c0], types[-1])
    cls_index = prefix.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in prefix else 0
    pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return PairTemplate(prefix, middle, suffix, segments, pad_id, cls_index)


def _distinct(texts: Iterable[str]) -> tuple[dict[str, int], Any]:
    """({text: row} in order of first use, int32 row of each text)."""
    import numpy as np

    rows: dict[str, int] = {}
    index = np.fromiter((rows.setdefault(text, len(rows)) for text in texts), np.int32)
    return rows, index


def clean_word(word: str) -> str:
    """The word as the 2020 tokenizer saw it: control characters removed, then NFC, which the fast tokenizers skip."""
    if word.isascii():
        return word
    kept = "".join(c for c in word if c.isspace() or not unicodedata.category(c).startswith("C"))
    return unicodedata.normalize("NFC", kept)


class _PieceTable:
    """Pieces of words and texts. Every distinct word of the data goes through the tokenizer once."""

    def __init__(self, tokenizer: Any) -> None:
        import numpy as np

        self.backend = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        # WordPiece splits at whitespace before anything else, so a text is its words; other kinds see whole questions.
        self.by_word = type(self.backend.model).__name__ == "WordPiece"
        # A byte-level tokenizer marks the space before a word; inside a context every word has one (2020's choice).
        byte_level = "ByteLevel" in str(self.backend.pre_tokenizer)
        self.word_prefix = " " if byte_level else ""

        self.word_index: dict[str, int] = {}
        self.pieces = np.zeros(0, np.int32)  # of all words of word_index, end to end
        self.num_pieces = np.zeros(0, np.int64)  # how many each word has

    def contexts(self, texts: list[str]) -> _Ragged:
        """One row a text: the pieces of its words, with the word index of each piece."""
        import numpy as np

        index = self.word_index
        rows = [[index.setdefault(word, len(index)) for word in WORD.findall(text)] for text in texts]
        self._tokenise_new_words()
        word_ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
        return _gather_rows(self.pieces, self.num_pieces, word_ids, _row_starts(map(len, rows)))

    def texts(self, texts: list[str]) -> _Ragged:
        """One row a text, tokenised as a text of its own (questions, answers)."""
        return self.contexts(texts) if self.by_word else _flat_rows(self._encode([clean_word(text) for text in texts]))

    def _tokenise_new_words(self) -> None:
        import numpy as np

        new = itertools.islice(self.word_index, len(self.num_pieces), None)
        words = [self.word_prefix + clean_word(word) for word in new]
        pieces, sizes = [self.pieces], [self.num_pieces]
        for first in range(0, len(words), WORD_CHUNK):
            chunk = words[first : first + WORD_CHUNK]
            if self.by_word:  # as one list of words: a fifth of the time of one call a word
                encoded = self.backend.encode(chunk, is_pretokenized=True, add_special_tokens=False)
                ids, size = encoded.ids, np.bincount(np.array(encoded.word_ids, np.int64), minlength=len(chunk))
            else:
                rows = self._encode(chunk)
                ids, size = list(itertools.chain.from_iterable(rows)), [len(row) for row in rows]
            pieces.append(np.array(ids, np.int32))
            sizes.append(np.array(size, np.int64))
        self.pieces, self.num_pieces = np.concatenate(pieces), np.concatenate(sizes)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Piece ids of each text, no special tokens added."""
        rows: list[list[int]] = []
        for first in range(0, len(texts), WORD_CHUNK):
            chunk = texts[first : first + WORD_CHUNK]
            rows += [e.ids for e in self.backend.encode_batch_fast(chunk, add_special_tokens=False)]
        return rows

    def places(self, word: str) -> list[tuple[int, int]]:
        """First character and end of each piece of a context word."""
        shift = len(self.word_prefix)
        encoding = self.backend.encode(self.word_prefix + clean_word(word), add_special_tokens=False)
        return [(first - shift, end - shift) for first, end in encoding.offsets]

    def questions(self, texts: list[str], max_query_length: int) -> _Ragged:
        """Questions cut to max_query_length pieces."""
        import numpy as np

        whole = self.texts(texts)
        size = np.diff(whole.first)
        keep = np.arange(len(whole.values)) - np.repeat(whole.first[:-1], size) < max_query_length
        return _Ragged(whole.values[keep], _row_starts(np.minimum(size, max_query_length)))


def _flat_rows(rows: list[list[int]]) -> _Ragged:
    import numpy as np

    return _Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32), _row_starts(map(len, rows)))


def _row_starts(lengths: Iterable[int]) -> Any:
    import numpy as np

    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def _gather_rows(values: Any, size: Any, word_ids: Any, first_word: Any) -> _Ragged:
    """Replace each word id by its pieces. values: pieces of all distinct words end to end; size: how many each has."""
    import numpy as np

    offset = np.cumsum(size) - size
    counts = size[word_ids]
    end = np.cumsum(counts)
    position = np.arange(end[-1] if len(end) else 0, dtype=np.int32)
    pieces = values[np.repeat((offset[word_ids] - (end - counts)).astype(np.int32), counts) + position]
    first = np.concatenate([[0], end])[first_word]
    word_in_row = np.arange(len(word_ids)) - np.repeat(first_word[:-1], np.diff(first_word))
    return _Ragged(pieces, first, np.repeat(word_in_row.astype(np.int32), counts))


DROPPED = -2  # span of a training question whose answer is not in the words that its offset names
NO_ANSWER = -1  # span of an unanswerable question


def _label_pieces(windows: Windows, table: _PieceTable) -> Any:
    """First and last context piece of each example's first answer: int64 (E, 2), or NO_ANSWER or DROPPED twice."""
    import numpy as np

    spans = np.full((len(windows.examples), 2), NO_ANSWER, np.int64)
    answerable = [e for e, example in enumerate(windows.examples) if not example.is_impossible]
    texts, rows = _distinct(windows.examples[e].answers[0].text for e in answerable)
    plain = table.texts(list(texts))
    spaced = table.texts([" " + text for text in texts]) if table.word_prefix else plain
    seen, starts, first_piece = -1, [], None
    for example, row in zip(answerable, rows, strict=True):
        context_row = windows.context_row[example]
        if context_row != seen:  # questions of a paragraph follow each other
            seen, (starts, first_piece) = context_row, _word_layout(windows, example)
        span = _answer_words(windows.examples[example], starts)
        forms = (plain[row],) if spaced is plain else (plain[row], spaced[row])
        spans[example] = _answer_pieces(windows.contexts[context_row], first_piece, span, forms)
        if span and not table.by_word and spans[example][1] + 1 == first_piece[span[1] + 1]:
            spans[example] = _trimmed_pieces(table, windows.examples[example], starts, span, first_piece)
    return spans


def _word_layout(windows: Windows, example: int) -> tuple[list[int], Any]:
    """(first character of each word, first piece of each word and the end) of an example's context."""
    import numpy as np

    starts = [match.start() for match in WORD.finditer(windows.examples[example].context)]
    row = windows.context_row[example]
    word_of_piece = windows.contexts.word[windows.contexts.first[row] : windows.contexts.first[row + 1]]
    return starts, np.searchsorted(word_of_piece, np.arange(len(starts) + 1))


def _answer_words(example: Example, starts: list[int]) -> tuple[int, int] | None:
    """First and last word that the answer's offsets touch, or None when its text is not in those words."""
    text, start = example.answers[0]
    first = bisect.bisect_right(starts, start) - 1
    last = bisect.bisect_right(starts, min(start + len(text), len(example.context)) - 1) - 1
    if not text.strip() or first < 0 or last < first:
        return None
    behind = starts[last + 1] if last + 1 < len(starts) else len(example.context)
    actual = " ".join(WORD.findall(example.context[starts[first] : behind]))
    # The second try mends 2020's silent loss of answers with a non-breaking space or another Unicode form.
    found = " ".join(text.split()) in actual or _squash(text) in _squash(actual)
    return (first, last) if found else None


def _squash(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _answer_pieces(pieces: Any, first_piece: Any, span: tuple[int, int] | None, forms: tuple[Any, ...]) -> tuple:
    """First and last piece of the answer, shrunk to its own pieces where they stand inside the words' pieces.

    `(1895-1943)` with the answer `1895` -> the pieces of `1895` alone.
    """
    if span is None:
        return DROPPED, DROPPED
    first, last = int(first_piece[span[0]]), int(first_piece[span[1] + 1]) - 1
    within = pieces[first : last + 1].tolist()
    for form in (form.tolist() for form in forms):
        for shift in range(len(within) - len(form) + 1 if form else 0):
            if within[shift : shift + len(form)] == form:
                return first + shift, first + shift + len(form) - 1
    return (first, last) if first <= last else (DROPPED, DROPPED)


def _trimmed_pieces(table: _PieceTable, example: Example, starts: list[int], span: tuple, first: Any) -> tuple:
    """First and last piece that hold a character of the answer, for tokenizers without word pieces.

    Alone `counterflow` is `▁counterflow`, in `(counterflow),` it is `▁(` `counter` `flow` `),`.
    """
    text, start = example.answers[0]
    begin, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    head, tail = (table.places(WORD.match(example.context, starts[word]).group()) for word in span)
    inner = [i for i, (_, stop) in enumerate(head) if stop > begin - starts[span[0]]]
    outer = [i for i, (place, _) in enumerate(tail) if place < end - starts[span[1]]]
    return first[span[0]] + min(inner, default=0), first[span[1]] + max(outer, default=len(tail) - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Decoding: from start and end logits to n-best lists and answer texts
# ---------------------------------------------------------------------------------------------------------------------

NO_WINDOW = (1000000.0, 0.0)  # null logits of a blank context: the 2020 script's "large and positive"
INDEX_BITS = 20  # positions in a composite sort key; 2**20 is far above any max_seq_length


class Candidate(NamedTuple):
    """One entry of an n-best list; the null answer has the text ""."""

    text: str
    probability: float
    start_logit: float
    end_logit: float


class Prediction(NamedTuple):
    """Decoded answer of one question. null_odds: null score - best non-null score; 0.0 without v2."""

    qid: str
    text: str
    nbest: list[Candidate]
    null_odds: float


class Decoder:
    """n-best decoding of the BERT SQuAD script (Devlin et al. 2019), a block of windows at a time.

    do_lower_case: whether the tokenizer lower-cases, which the realignment of word pieces with the text must follow.
    max_answer_length: tokens, inclusive. null_score_diff_threshold: the null answer is predicted when null_odds is
    strictly above it (v2 only).
    """

    def __init__(
        self,
        windows: Windows,
        tokenizer: Any,
        *,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        version_2_with_negative: bool = True,
        null_score_diff_threshold: float = 0.0,
        do_lower_case: bool = False,
    ) -> None:
        self.windows, self.n_best_size, self.max_answer_length = windows, n_best_size, max_answer_length
        self.with_null, self.threshold = version_2_with_negative, null_score_diff_threshold
        self.answer_text = AnswerText(tokenizer, do_lower_case)

    def decode(self, first: int, last: int, start_logits: Any, end_logits: Any) -> Iterator[Prediction]:
        """Predictions of examples [first, last).

        start_logits, end_logits: float32 (windows of these examples, width); -inf at positions that do not exist.
        Raises SquadError when a logit is not a number.
        """
        import numpy as np

        windows, row = self.windows, self.windows.first_window
        self._refuse_nan(row[first], start_logits, end_logits)
        window, start, end, scores, logits = self._candidates(row[first], row[last], start_logits, end_logits)
        example = windows.example_index[window]
        order = np.lexsort((-scores, example))  # stable: equal sums keep the order window, start rank, end rank
        bounds = np.searchsorted(example[order], np.arange(first, last + 1))
        cls = windows.template.cls_index
        null_logits = np.stack([start_logits[:, cls], end_logits[:, cls]], axis=1).astype(np.float64).tolist()
        shift = windows.start[window]
        columns = [column[order].tolist() for column in (start + shift, end + shift, *logits)]
        for index in range(first, last):
            spans = zip(*(column[bounds[index - first] : bounds[index - first + 1]] for column in columns), strict=True)
            nulls = null_logits[row[index] - row[first] : row[index + 1] - row[first]]
            null = tuple(min(nulls, key=sum, default=NO_WINDOW))  # of equal sums the first window wins
            yield self._predict(index, spans, null)

    def _refuse_nan(self, first_window: int, *logits: Any) -> None:
        import numpy as np

        for values in logits:
            bad = np.flatnonzero(np.isnan(values).any(axis=1) | (values == np.inf).any(axis=1))
            if len(bad):
                example = self.windows.examples[self.windows.example_index[first_window + bad[0]]]
                raise SquadError(
                    f"question {example.qid}: the model's logits are not numbers; the checkpoint is broken"
                )

    def _candidates(self, first: int, last: int, start_logits: Any, end_logits: Any) -> tuple[Any, ...]:
        """All allowed spans of windows [first, last) in the order window, start rank, end rank.

        Returns window, first piece and last piece (within the window's context), float64 sum, and (start, end) logits.
        """
        import numpy as np

        windows, block = self.windows, slice(first, last)
        offset = windows.num_tokens()[block] - windows.length[block] - len(windows.template.suffix)
        starts = _top_positions(start_logits, self.n_best_size) - offset[:, None]
        ends = _top_positions(end_logits, self.n_best_size) - offset[:, None]
        length = windows.length[block, None]
        start_ok = (starts >= 0) & (starts < length)
        end_ok = (ends >= 0) & (ends < length)
        start_ok &= self._max_context(first, last, starts, start_ok)
        width = ends[:, None, :] - starts[:, :, None]
        allowed = start_ok[:, :, None] & end_ok[:, None, :] & (width >= 0) & (width < self.max_answer_length)
        window, start_rank, end_rank = np.nonzero(allowed)
        start, end = starts[window, start_rank], ends[window, end_rank]
        start_logit = start_logits[window, start + offset[window]].astype(np.float64)
        end_logit = end_logits[window, end + offset[window]].astype(np.float64)
        return window + first, start, end, start_logit + end_logit, (start_logit, end_logit)

    def _max_context(self, first: int, last: int, starts: Any, valid: Any) -> Any:
        """Whether each start has its maximum context in its own window: bool, shape of starts."""
        import numpy as np

        windows, result = self.windows, np.ones(starts.shape, bool)
        examples = np.unique(windows.example_index[first:last])
        for example in examples[np.diff(windows.first_window)[examples] > 1]:
            for window, mask in enumerate(windows.max_context(example), windows.first_window[example] - first):
                positions = np.where(valid[window], starts[window], 0)
                result[window] = mask[positions]
        return result

    def _predict(self, example: int, spans: Iterable[tuple], null: tuple[float, float]) -> Prediction:
        nbest = self._nbest(example, spans, null)
        if not nbest or (self.with_null and len(nbest) == 1):
            nbest.insert(0, ("empty", 0.0, 0.0))  # the 2020 script's word for "no span was allowed"
        scores = [start + end for _, start, end in nbest]
        candidates = [
            Candidate(text, probability, start, end)
            for (text, start, end), probability in zip(nbest, _softmax(scores), strict=True)
        ]
        best = next(candidate for candidate in candidates if candidate.text)
        qid = self.windows.examples[example].qid
        if not self.with_null:
            return Prediction(qid, candidates[0].text, candidates, 0.0)
        null_odds = null[0] + null[1] - best.start_logit - best.end_logit
        return Prediction(qid, "" if null_odds > self.threshold else best.text, candidates, null_odds)

    def _nbest(self, example: int, spans: Iterable[tuple], null: tuple[float, float]) -> list[tuple[str, float, float]]:
        """Spans in falling order, each text once, with the null answer behind the spans of equal score."""
        nbest: list[tuple[str, float, float]] = []
        seen: set[str] = set()
        null_score, null_waits = null[0] + null[1], self.with_null
        context = self.answer_text.context(self.windows, example)
        for start, end, start_logit, end_logit in spans:
            if null_waits and start_logit + end_logit < null_score and len(nbest) < self.n_best_size:
                nbest.append(("", *null))
                null_waits = False
            if len(nbest) >= self.n_best_size:
                break
            text = self.answer_text.cut(context, start, end)
            if text not in seen:
                seen.add(text)
                nbest.append((text, start_logit, end_logit))
        if null_waits:
            nbest.append(("", *null))
        return nbest


def _top_positions(logits: Any, size: int) -> Any:
    """Positions of the largest logits of each row, falling, ties by the lower position: int64 (W, size)."""
    import numpy as np

    width = logits.shape[1]
    size = min(size, width)
    # A float32's bits, read as an integer, order like the number itself once the negative half is turned around.
    bits = (logits + np.float32(0.0)).astype(np.float32).view(np.int32).astype(np.int64)  # + 0.0 makes -0.0 equal 0.0
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    keys = (ordered << INDEX_BITS) | (width - 1 - np.arange(width))
    top = np.sort(np.partition(keys, width - size, axis=1)[:, width - size :], axis=1)[:, ::-1]
    return width - 1 - (top & ((1 << INDEX_BITS) - 1))


def _softmax(scores: list[float]) -> list[float]:
    """Probabilities of the kept candidates, in float64 and in the 2020 script's order; sum() rounds otherwise."""
    highest = max(scores)
    exponentials = [math.exp(score - highest) for score in scores]
    total = 0.0
    for value in exponentials:
        total += value
    return [value / total for value in exponentials]


class AnswerText:
    """Cuts answer texts out of the original words.

    Word pieces are realigned with the words through a basic tokenisation, as in the 2020 script; where that fails the
    answer is the whole words. Other tokenizers: the decoded pieces where they stand in the words, else the words.
    """

    def __init__(self, tokenizer: Any, do_lower_case: bool) -> None:
        from tokenizers import normalizers, pre_tokenizers

        self.backend = tokenizer.backend_tokenizer
        self.word_pieces = type(self.backend.model).__name__ == "WordPiece"
        self.normalizer = normalizers.BertNormalizer(lowercase=do_lower_case)
        self.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.lower = do_lower_case
        self.piece = functools.lru_cache(None)(self.backend.id_to_token)  # bounded by the vocabulary
        self.basic = functools.lru_cache(1 << 16)(self._basic)
        self._row: tuple[int, Any] = (-1, None)

    def context(self, windows: Windows, example: int) -> ContextText:
        """The whole context of an example; kept while the context is the same."""
        row = windows.context_row[example]
        if self._row[0] != row:
            span = slice(windows.contexts.first[row], windows.contexts.first[row + 1])
            pieces = list(map(self.piece, windows.contexts.values[span].tolist()))
            words = windows.words(example)
            basic = list(map(self.basic, words)) if self.word_pieces else []
            self._row = (row, ContextText(words, pieces, windows.contexts.word[span].tolist(), basic))
        return self._row[1]

    def cut(self, context: ContextText, first: int, last: int) -> str:
        """The answer that pieces first..last (inclusive) stand for."""
        word = context.word
        first_word, last_word = word[first], word[last]
        text = " ".join(context.words[first_word : last_word + 1])
        starts_word = first == 0 or word[first - 1] != first_word
        if starts_word and (last + 1 == len(word) or word[last + 1] != last_word):
            return text  # whole words need no realignment
        tokens = context.pieces[first : last + 1]
        if self.word_pieces:
            return context.realign(" ".join(tokens).replace(" ##", "").strip(), text, first_word, last_word)
        return self._find(self.backend.decoder.decode(tokens).strip(), text)

    def _basic(self, word: str) -> str:
        """The basic tokens of a word, joined by spaces: `(1895` -> `( 1895`."""
        if word.isascii() and word.isalnum():
            return word.lower() if self.lower else word
        clean = clean_word(word)
        # The 2020 realignment lower-cased whole words, with a final sigma in Greek; the word pieces have none.
        normal = self.normalizer.normalize_str(clean.lower() if self.lower else clean)
        return " ".join(token for token, _ in self.pre_tokenizer.pre_tokenize_str(normal))

    def _find(self, decoded: str, text: str) -> str:
        """The part of `text` that reads as `decoded` but for case and accents: `muller`, `Müller,` -> `Müller`."""
        if decoded and decoded in text:
            return decoded
        folded, wanted = [_fold(c) for c in text], "".join(map(_fold, decoded))
        begin = "".join(folded).find(wanted)
        if begin < 0 or not wanted:
            return text
        place = [i for i, part in enumerate(folded) for _ in part] + [len(text)]
        return text[place[begin] : place[begin + len(wanted)]]


def _fold(character: str) -> str:
    """Lower case without accents, as uncased tokenizers write it; "" for a combining accent."""
    return "".join(c for c in unicodedata.normalize("NFKD", character).lower() if not unicodedata.combining(c))


class ContextText:
    """A context as words and pieces. basic: of each word the basic tokens, joined by spaces; [] without word pieces."""

    def __init__(self, words: list[str], pieces: list[str], word: list[int], basic: list[str]) -> None:
        self.words, self.pieces, self.word, self.basic = words, pieces, word, basic  # word: of each piece
        self.letters = list(itertools.accumulate(map(len, words), initial=0))  # characters before each word
        self.basic_letters = list(itertools.accumulate((len(b) - b.count(" ") for b in basic), initial=0))

    def realign(self, piece_text: str, text: str, first: int, last: int) -> str:
        """The part of `text`, words first..last, that `piece_text` is: `steve smith`, `Steve Smith's` -> `Steve Smith`.

        Place for place, letters that are no space correspond; where their number differs it is the whole text.
        """
        basic = " ".join(filter(None, self.basic[first : last + 1]))
        begin = basic.find(piece_text)
        num_letters = self.letters[last + 1] - self.letters[first]
        if begin < 0 or not piece_text or num_letters != self.basic_letters[last + 1] - self.basic_letters[first]:
            return text
        end = begin + len(piece_text) - 1
        begin, end = (self._place(place - basic.count(" ", 0, place), first) for place in (begin, end))
        return text[begin : end + 1]

    def _place(self, number: int, first: int) -> int:
        """Position of the number-th character that is no space in the words from `first` on, joined by spaces."""
        return number + bisect.bisect_right(self.letters, self.letters[first] + number) - 1 - first


class PredictionFiles:
    """Streams predictions_, nbest_predictions_ and null_odds_ JSON files, byte for byte as the 2020 script wrote them.

    Used as a context manager; each file replaces its old version only when all questions have been written.
    """

    def __init__(self, output_dir: str, prefix: str = "", *, null_odds: bool = True) -> None:
        names = ["predictions_", "nbest_predictions_"] + ["null_odds_"] * null_odds
        self.paths = [os.path.join(output_dir, f"{name}{prefix}.json") for name in names]

    def __enter__(self) -> PredictionFiles:
        self._stack = contextlib.ExitStack()
        self._files = [self._stack.enter_context(atomic_write(path)) for path in self.paths]
        self._separator = "{"
        return self

    def write(self, prediction: Prediction) -> None:
        quote = json.encoder.encode_basestring_ascii
        key = f"{self._separator}\n    {quote(prediction.qid)}: "
        entries = ",\n".join(
            f'        {{\n            "text": {quote(text)},\n            "probability": {probability!r},\n'
            f'            "start_logit": {start!r},\n            "end_logit": {end!r}\n        }}'
            for text, probability, start, end in prediction.nbest
        )
        contents = (quote(prediction.text), f"[\n{entries}\n    ]", repr(prediction.null_odds))
        self._write(*(key + content for content in contents))
        self._separator = ","

    def _write(self, *contents: str, flush: bool = False) -> None:
        """Append to each file; a full disk is told with the name of the file that it hit."""
        for path, file, content in zip(self.paths, self._files, contents, strict=False):
            try:
                file.write(content)
                if flush:
                    file.flush()
            except OSError as error:
                raise SquadError(describe_os_error(error, path)) from error

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is not None:
            return self._stack.__exit__(*error)
        with self._stack:  # all files are whole before the first one replaces its old version
            self._write("\n}\n", "\n}\n", "\n}\n", flush=True)
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Models: loading, and windows laid out as their inputs
# ---------------------------------------------------------------------------------------------------------------------

PADDING_FREE = "padding_free"  # name of our function in transformers' attention registry
TOKEN_BUCKET = 64  # padding-free rows are filled up to a multiple of this
PROBE_TOLERANCE = 1e-4  # relative; a model that ignores the boundaries is off by 1e-2 and more


def load_config(name: str, *, model_type: str | None = None, cache_dir: str | None = None) -> Any:
    """The model's configuration. model_type picks the class for 2019-20 folders whose config.json does not name one."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_QUESTION_ANSWERING_MAPPING, AutoConfig, PretrainedConfig

    try:
        said, _ = PretrainedConfig.get_config_dict(name, cache_dir=cache_dir)
        if not said:
            raise SquadError(f"{name}: it has no config.json, or an empty one; download the folder again")
        if "model_type" in said:
            config = AutoConfig.from_pretrained(name, cache_dir=cache_dir, trust_remote_code=False)
        elif model_type in CONFIG_MAPPING:
            config = CONFIG_MAPPING[model_type].from_pretrained(name, cache_dir=cache_dir)
        else:
            raise SquadError(f"{name}: its config.json names no model_type; add one, bert or roberta for example")
    except SquadError:
        raise
    except Exception as error:  # whatever the configuration class does with values that it was not made for
        place = name if os.path.isdir(name) else f"{name}, which is not a folder here"
        raise SquadError(f"{place}: no usable model configuration: {_first_line(error)}") from error
    if type(config) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        raise SquadError(
            f"{name}: transformers has no question-answering head for the model type {config.model_type}; choose a "
            "model of another type"
        )
    return config


def load_tokenizer(name: str, config: Any, *, do_lower_case: bool | None = None, cache_dir: str | None = None) -> Any:
    """A fast tokenizer. do_lower_case None: what the folder says, and cased where a bare vocab.txt says nothing."""
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        said = get_tokenizer_config(name, cache_dir=cache_dir)
        bare = os.path.isdir(name) and not os.path.exists(os.path.join(name, "tokenizer.json"))
        if do_lower_case is None and bare and os.path.exists(os.path.join(name, "vocab.txt")):
            do_lower_case = bool(said.get("do_lower_case", False))
        options = {} if do_lower_case is None else {"do_lower_case": do_lower_case}
        options["trust_remote_code"] = False  # the library's default is to ask at the terminal
        tokenizer = AutoTokenizer.from_pretrained(name, config=config, cache_dir=cache_dir, **options)
    except Exception as error:  # the Rust core raises plain Exception, for a merges file that does not fit, say
        raise SquadError(
            f"{name}: no usable tokenizer ({_first_line(error)}); check its vocabulary files or name another folder "
            "with --tokenizer_name"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise SquadError(f"{name}: {type(tokenizer).__name__} has no fast version; name another with --tokenizer_name")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise SquadError(f"{name}: it has no vocabulary file; download it again or name a folder with --tokenizer_name")
    if len(tokenizer) > config.vocab_size:
        raise SquadError(
            f"{name}: the tokenizer knows {len(tokenizer)} pieces, the model only {config.vocab_size}; they do not "
            "belong together"
        )
    return tokenizer


def load_model(name: str, config: Any, *, cache_dir: str | None = None) -> Any:
    """A model with a question-answering head. Weights come from safetensors or a plain state dict; code never runs."""
    from transformers import AutoModelForQuestionAnswering
    from transformers.utils import logging as transformers_logging

    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    # float32 as in 2020: transformers 5 would keep the half precision of a checkpoint that was stored so.
    options = {"cache_dir": cache_dir, "trust_remote_code": False, "dtype": "float32"}
    try:
        return AutoModelForQuestionAnswering.from_pretrained(name, config=config, **options)
    except Exception as error:
        reason = _first_line(error) or "a weights file is cut off"
        if "Weights only load failed" in reason:
            reason = "pytorch_model.bin holds something other than tensors, which could run code and was not opened"
        if "ignore_mismatched_sizes" in reason:
            reason = "their shapes are not those of config.json"
        raise SquadError(f"{name}: the weights cannot be loaded: {reason}; download the folder again") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200] if lines else ""


def packed_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None,
    dropout: float = 0.0, lengths: list[int] | None = None, offsets: Any = None, **_: Any
) -> tuple[Any, None]:  # fmt: skip
    """Attention of sequences that lie end to end in one row: each token sees its own sequence only.

    query, key, value: (1, heads, total tokens, head size). lengths: of the sequences; offsets: where they begin and
    end, as int32 (B + 1,) on the GPU, where one kernel does all. Returns (1, total tokens, heads, head size).
    On a CPU torch's fused kernel has no dropout and a slow backward for bfloat16, so with gradients it is spelt out.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention as attend

    if lengths is None:
        raise SquadError(f"{type(module).__name__} does not pass the sequence boundaries on")
    if offsets is not None:
        return _attend_on_gpu(query, key, value, offsets, max(lengths), dropout, scaling).unsqueeze(0), None
    if query.device.type == "cpu" and torch.is_grad_enabled():
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        attended = _attend_with_gradients(query[0] * scaling, key[0], value[0], lengths, dropout)
        return attended.transpose(0, 1).unsqueeze(0), None
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    attended = torch.cat([attend(q, k, v, dropout_p=dropout, scale=scaling) for q, k, v in parts], dim=2)
    return attended.transpose(1, 2), None


def _attend_on_gpu(
    query: Any, key: Any, value: Any, offsets: Any, longest: int, dropout: float, scaling: float | None
) -> Any:
    """(total tokens, heads, head size) by torch's kernels for sequences that lie end to end.

    They are called by their inner names, as torch's own varlen_attn (which has no dropout) and nested tensors do: the
    latter cost milliseconds of Python a layer, more than the kernel. The flash kernel takes half precision from
    sm_80 on; float32, and float16 on older GPUs, go to the memory-efficient one.
    """
    import torch

    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    half = query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] % 8 == 0
    if half and torch.cuda.get_device_capability(query.device) >= (8, 0):
        flash = torch.ops.aten._flash_attention_forward
        sizes = (offsets, offsets, longest, longest)
        return flash(query, key, value, *sizes, dropout, False, False, scale=scaling)[0]
    efficient = torch.ops.aten._efficient_attention_forward
    inputs = (query[None], key[None], value[None], None, offsets, offsets, longest, longest)
    return efficient(*inputs, dropout, 0, torch.is_grad_enabled(), scale=scaling)[0][0]


def _attend_with_gradients(query: Any, key: Any, value: Any, lengths: list[int], dropout: float) -> Any:
    """softmax(query keyᵀ) with dropout, times value, for each sequence: (heads, total tokens, head size)."""
    import torch

    sizes = [len(query) * length**2 for length in lengths]
    factors = dropout_factors(sum(sizes), dropout, query.dtype).split(sizes) if dropout else [None] * len(lengths)
    attended = []
    for q, k, v, kept in zip(*(x.split(lengths, dim=1) for x in (query, key, value)), factors, strict=True):
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
        attended.append(torch.bmm(weights if kept is None else weights * kept.view_as(weights), v))
    return torch.cat(attended, dim=1)


def dropout_factors(size: int, probability: float, dtype: Any) -> Any:
    """What dropout multiplies with: (size,) of 0 with `probability`, a multiple of 2⁻¹⁶, and else 1/(1 - probability).

    16 random bits an element, from numpy's SFC64 with a seed drawn from torch's generator: a sixth of the time that
    torch's own dropout takes on a CPU, where that is a fifth of a training step.
    """
    import numpy as np
    import torch

    dropped = round(probability * 2**16)
    if dropped == 2**16:
        return torch.zeros(size, dtype=dtype)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    bits = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-size // 4)).view(np.int16))[:size]
    factors = torch.empty(size, dtype=dtype)
    torch.ge(bits, dropped - 2**15, out=factors)
    return factors.mul_(2**16 / (2**16 - dropped))


def use_fast_dropout(model: Any) -> None:
    """Exchange the dropout modules for ones that take their random numbers from `dropout_factors` on a CPU."""
    import torch

    class FastDropout(torch.nn.Dropout):
        def forward(self, values: Any) -> Any:
            if values.device.type != "cpu" or not self.training or self.p == 0:
                return super().forward(values)
            return values * dropout_factors(values.numel(), self.p, values.dtype).view(values.shape)

    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is torch.nn.Dropout:
            model.set_submodule(name, FastDropout(module.p).train(module.training))


class WindowModel:
    """A question-answering model together with the layout in which it takes windows.

    layout: "padding_free" (all windows of a batch end to end in one row), "longest" (padded to the longest window of
    the batch) or "max_length" (padded to max_seq_length, as the 2020 script does).
    """

    def __init__(self, model: Any, layout: str, max_seq_length: int) -> None:
        self.model, self.layout, self.max_seq_length = model, layout, max_seq_length
        self.with_segments = (
            model.config.model_type not in NO_SEGMENTS and getattr(model.config, "type_vocab_size", 0) > 1
        )
        self.row_of_id: Any = None  # int64 (vocabulary,): the row of the trained embedding, where only some are kept
        self._stock_attention = model.config._attn_implementation
        self._first_position = _first_position(model)

    @property
    def device(self) -> Any:
        return self.model.device

    def choose_layout(self, windows: Windows) -> None:
        """Go padding-free when a trial on three windows proves that it changes nothing for this model.

        The layout "max_length" stays, as it was asked for.
        """
        error = self._try_padding_free(windows) if len(windows) and self.layout != "max_length" else None
        if error:
            self.use("longest")
            name = type(self.model).__name__
            logger.warning("padding-free training is not possible for %s (%s); padding to the longest", name, error)

    def use(self, layout: str) -> None:
        """Switch to another layout."""
        self.layout = layout
        self.model.set_attn_implementation(PADDING_FREE if layout == PADDING_FREE else self._stock_attention)
        use_fast_dropout(self.model)

    def _try_padding_free(self, windows: Windows) -> str | None:
        """None when padded and padding-free logits and gradients agree, else the reason in a few words.

        The windows are the shortest, the one in the middle and the longest; TF32, which rounds to 1e-3, is off.
        """
        import torch
        from transformers import AttentionInterface

        AttentionInterface.register(PADDING_FREE, packed_attention)
        order = windows.num_tokens().argsort(kind="stable")
        trial = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})
        training, matmul = self.model.training, torch.backends.cuda.matmul
        tf32, matmul.allow_tf32 = matmul.allow_tf32, False
        self.model.eval()
        try:
            self.use("longest")
            expected = self._trial(windows, trial)
            self.use(PADDING_FREE)
            found = self._trial(windows, trial)
            with torch.no_grad():
                evaluated = self.logits(windows, trial)
        except Exception as error:  # whatever a model does with inputs it was not made for
            return f"{type(error).__name__}: {_first_line(error)}"
        finally:
            self.model.train(training)
            matmul.allow_tf32 = tf32
        names = ("logits", "logits", "gradients", "logits", "logits")
        for name, a, b in zip(names, expected + expected[:2], found + evaluated, strict=True):
            finite = torch.isfinite(a)
            if not finite.any():
                return f"its {name} are not numbers"
            scale = a[finite].abs().max().clamp(min=1.0)
            difference = ((a - b)[finite].abs().max() / scale).item()
            if not difference <= PROBE_TOLERANCE:
                return f"its {name} differ by {difference:.1e}"
        return None

    def _trial(self, windows: Windows, indices: list[int]) -> tuple[Any, Any, Any]:
        """Start and end logits, and what their sum has as the gradient of the model's first vector of weights.

        That vector is the first layer norm in a BERT type, so the gradient has come through all layers.
        """
        import torch

        start_logits, end_logits = self.logits(windows, indices)
        first = next(parameter for parameter in self.model.parameters() if parameter.dim() == 1)
        total = sum(logits[torch.isfinite(logits)].sum() for logits in (start_logits, end_logits))
        return start_logits.detach(), end_logits.detach(), torch.autograd.grad(total, first)[0]

    def logits(self, windows: Windows, indices: Any) -> tuple[Any, Any]:
        """Start and end logits of the windows: float32 (B, width); -inf where a window has no token.

        In the layout "max_length" the logits at padding are the model's own, as in the 2020 script.
        """
        import torch

        inputs, lengths = self.inputs(windows, indices)
        output = self.model(**inputs)
        logits = (output.start_logits.float(), output.end_logits.float())
        if self.layout == "max_length":
            return logits
        if self.layout == PADDING_FREE:
            return tuple(_unpack(values[0], lengths) for values in logits)
        padding = inputs["attention_mask"] == 0
        return tuple(torch.masked_fill(values, padding, -math.inf) for values in logits)

    def predict(
        self, windows: Windows, first: int, last: int, batch_size: int, done: Callable[[int], Any] | None = None
    ) -> tuple[Any, Any]:
        """Start and end logits of windows [first, last): float32 (last - first, width), -inf where there is no token.

        Batches are made of windows of like length, but for "max_length". done: called with the size of each batch.
        """
        import numpy as np
        import torch

        tokens = windows.num_tokens()[first:last]
        exact = self.layout == "max_length"
        order = first + (np.arange(last - first) if exact else np.argsort(tokens, kind="stable"))
        width = self.max_seq_length if exact else int(tokens.max(initial=1))
        result = tuple(np.full((last - first, width), -np.inf, np.float32) for _ in range(2))
        parts = []  # on the device until all is queued, so that a GPU never waits
        with torch.no_grad():
            for begin in range(0, len(order), batch_size):
                batch = order[begin : begin + batch_size]
                parts.append((batch - first, torch.stack(self.logits(windows, batch))))
                if done:
                    done(len(batch))
        for rows, logits in parts:
            for target, values in zip(result, logits.cpu().numpy(), strict=True):
                target[rows, : values.shape[1]] = values
        return result

    def inputs(self, windows: Windows, indices: Any) -> tuple[dict[str, Any], Any]:
        """(keyword arguments of the model's forward, window lengths as a list) in the current layout."""
        import numpy as np

        input_ids, segments, lengths = windows.assemble(indices)
        if self.row_of_id is not None:
            input_ids = self.row_of_id[input_ids]
        arrays = {"input_ids": input_ids} | ({"token_type_ids": segments} if self.with_segments else {})
        pad_id = windows.template.pad_id if self.row_of_id is None else self.row_of_id[windows.template.pad_id]
        if self.layout == PADDING_FREE:
            return self._packed_inputs(arrays, lengths, int(pad_id)), lengths.tolist()
        width = self.max_seq_length if self.layout == "max_length" else int(lengths.max())
        real = np.arange(width) < lengths[:, None]
        padded = {name: np.full(real.shape, pad_id if name == "input_ids" else 0) for name in arrays}
        for name, values in arrays.items():
            padded[name][real] = values
        padded["attention_mask"] = real.astype(np.int64)
        return {name: self.to_device(values) for name, values in padded.items()}, lengths.tolist()

    def _packed_inputs(self, arrays: dict[str, Any], lengths: Any, pad_id: int) -> dict[str, Any]:
        """One row of tokens, filled up to a multiple of TOKEN_BUCKET by a last sequence that nobody reads.

        Few different sizes let the kernels' caches and the allocator use again what they have: a fifth less time a
        step, and memory that does not grow.
        """
        import numpy as np

        ends = lengths.cumsum()
        arrays["position_ids"] = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + self._first_position
        filler = -int(ends[-1]) % TOKEN_BUCKET
        if filler:
            fill = {"input_ids": pad_id, "token_type_ids": 0, "position_ids": self._first_position}
            arrays = {name: np.pad(row, (0, filler), constant_values=fill[name]) for name, row in arrays.items()}
            lengths, ends = np.append(lengths, filler), np.append(ends, ends[-1] + filler)
        inputs = {name: self.to_device(row[None]) for name, row in arrays.items()}
        inputs["lengths"] = lengths.tolist()
        if self.device.type == "cuda":
            inputs["offsets"] = self.to_device(np.concatenate([[0], ends]).astype(np.int32))
        return inputs

    def to_device(self, array: Any) -> Any:
        """The array as a tensor on the model's device; on a GPU the copy does not wait."""
        import torch

        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)


NO_SEGMENTS = ("xlm", "roberta", "distilbert", "camembert", "bart", "longformer")  # the 2020 script's list


def _first_position(model: Any) -> int:
    """Position id of the first token: RoBERTa types start behind the padding id of the position embedding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.padding_idx + 1
    return 0


def _unpack(values: Any, lengths: list[int]) -> Any:
    """(total tokens and filler,) -> (B, longest), -inf where a row has ended."""
    import torch

    rows = values[: sum(lengths)].split(lengths)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-math.inf)


def num_positions(model: Any) -> float:
    """The longest window that the model takes, in tokens; RoBERTa's 514 positions are 512 tokens."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions - _first_position(model) if positions else math.inf


# ---------------------------------------------------------------------------------------------------------------------
# Answering questions: the question-answering pipeline that transformers 5 no longer has
# ---------------------------------------------------------------------------------------------------------------------

ANSWER_BLOCK = 256  # questions whose logits are held at a time


class AnswerOptions(NamedTuple):
    """Options of `pipeline` and of each call, under transformers 4's names and with its defaults. Lengths: tokens."""

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False  # whether "" may be the answer
    align_to_words: bool = True  # widen answers to whole words
    doc_stride: int | None = None  # shared by neighbouring windows (default: 128, at most half a window)
    window_step: int | None = None  # from one window to the next; takes the place of doc_stride (not in transformers)
    max_seq_len: int | None = None  # of a window (default: 384, or what the model takes)
    max_question_len: int = 64  # longer questions are cut
    batch_size: int | None = None  # windows (default: 32 on a GPU, 4 on a CPU)


def pipeline(
    task: str = "question-answering", model: Any = None, tokenizer: Any = None, *, device: Any = None, **options: Any
) -> QuestionAnswerer:
    """A question answerer with the call and the results of transformers 4's pipeline("question-answering").

    model, tokenizer: folder, hub name or object; the tokenizer is the model's own unless it is given. device: a
    number, name or torch.device (default: the GPU when there is one). options: see AnswerOptions.
    """
    import torch

    if task != "question-answering":
        raise SquadError(f'pipeline("{task}") does not exist here; the only task is "question-answering"')
    if model is None:
        raise SquadError('name a model: pipeline("question-answering", model="the output_dir of run_squad.py")')
    source = tokenizer[0] if isinstance(tokenizer, tuple) else tokenizer or model  # ("name", {"use_fast": False})
    config = load_config(model) if isinstance(model, str | os.PathLike) else model.config
    if isinstance(source, str | os.PathLike):
        tokenizer = load_tokenizer(source, config)
    elif source is model:
        raise SquadError("a model object needs tokenizer=… beside it")
    if isinstance(model, str | os.PathLike):
        model = load_model(model, config)
    if device is None:
        device = 0 if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = ("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else device
    return QuestionAnswerer(model.to(device).eval(), tokenizer, options)


class QuestionAnswerer:
    """Answers questions from their contexts; made by `pipeline`.

    qa({"question": …, "context": …}) or qa(question=…, context=…) returns {"score", "start", "end", "answer"}: the
    probability, the characters [start, end) of the context, and the text there. Lists give lists of these, and so
    does top_k > 1. Several questions about one context: qa(question=[…], context="…").
    """

    def __init__(self, model: Any, tokenizer: Any, options: dict[str, Any]) -> None:
        self.tokenizer, self.options, self.template = tokenizer, options, pair_template(tokenizer)
        self.num_positions = num_positions(model)
        self.runner = WindowModel(model, "longest", int(min(384, tokenizer.model_max_length, self.num_positions)))
        self._settings({})

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **options: Any) -> Any:
        settings = self._settings(options)
        examples, single = _question_examples(inputs, question, context)
        answers: list[Any] = []
        for first in range(0, len(examples), ANSWER_BLOCK):
            answers += self._answer_block(examples[first : first + ANSWER_BLOCK], settings)
        if settings.top_k == 1:
            answers = [found[0] for found in answers]
        return answers[0] if single else answers

    def _settings(self, options: dict[str, Any]) -> AnswerOptions:
        """The options of one call, over those of the pipeline, with the defaults filled in."""
        options = {"top_k" if name == "topk" else name: value for name, value in {**self.options, **options}.items()}
        unknown = sorted(set(options) - set(AnswerOptions._fields))
        if unknown:
            raise SquadError(f"no such option: {', '.join(unknown)}; there are {', '.join(AnswerOptions._fields)}")
        settings = AnswerOptions(**{name: value for name, value in options.items() if value is not None})
        longest = self.runner.max_seq_length if settings.max_seq_len is None else settings.max_seq_len
        batch_size = settings.batch_size or (4 if self.runner.device.type == "cpu" else 32)
        stride = min(longest // 2, 128) if settings.doc_stride is None else settings.doc_stride
        settings = settings._replace(max_seq_len=longest, doc_stride=stride, batch_size=batch_size)
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len", "batch_size"):
            if getattr(settings, name) < 1:
                raise SquadError(f"{name} is {getattr(settings, name)}; it must be at least 1")
        if settings.max_seq_len > self.num_positions:
            raise SquadError(f"max_seq_len is {settings.max_seq_len}; this model takes {self.num_positions} tokens")
        return settings

    def _answer_block(self, examples: list[Example], settings: AnswerOptions) -> list[list[dict[str, Any]]]:
        import numpy as np

        windows, encodings = self._windows(examples, settings)
        starts, ends = self.runner.predict(windows, 0, len(windows), settings.batch_size)
        if np.isnan(starts).any() or np.isnan(ends).any():
            raise SquadError("the model's logits are not numbers; the checkpoint is broken")
        return [self._answers(windows, e, encodings, starts, ends, settings) for e in range(len(examples))]

    def _windows(self, examples: list[Example], settings: AnswerOptions) -> tuple[Windows, list[Any]]:
        """The windows of a block, and the encoding of each distinct context, which knows the characters of a piece."""
        import numpy as np

        table = _PieceTable(self.tokenizer)
        context_rows, context_index = _distinct(example.context for example in examples)
        question_rows, question_index = _distinct(example.question for example in examples)
        encodings = table.backend.encode_batch(list(context_rows), add_special_tokens=False)
        contexts = _flat_rows([encoding.ids for encoding in encodings])
        contexts.word = _flat_rows([[-1 if w is None else w for w in e.word_ids] for e in encodings]).values
        questions = table.questions(list(question_rows), settings.max_question_len)
        windows = Windows(examples, self.template, contexts, questions)
        windows.context_row, windows.question_row = context_index, question_index
        room = windows.room(settings.max_seq_len)
        step = room - settings.doc_stride if settings.window_step is None else np.minimum(room, settings.window_step)
        windows.cut(room, np.maximum(step, 1))
        return windows, encodings

    def _answers(
        self, windows: Windows, example: int, encodings: list[Any], starts: Any, ends: Any, settings: AnswerOptions
    ) -> list[dict[str, Any]]:
        """The top_k answers of an example; the scores of the same text at several places are added up."""
        context = windows.examples[example].context
        offsets = encodings[windows.context_row[example]].offsets
        count = settings.top_k * 2 + 10 if settings.align_to_words else settings.top_k  # words may coincide
        found: dict[str, dict[str, Any]] = {}
        null_score = 1.0
        for window in range(windows.first_window[example], windows.first_window[example + 1]):
            words = windows.context_pieces(window)[1].tolist()
            first = windows.context_offset(window)
            inside = [self.template.cls_index, *range(first, first + len(words))]
            start, end = _probabilities(starts[window, inside]), _probabilities(ends[window, inside])
            null_score = min(null_score, float(start[0] * end[0]))
            for score, left, right in _best_spans(start[1:], end[1:], settings.max_answer_len, count):
                if settings.align_to_words:
                    left, right = _word_edge(words, left, -1), _word_edge(words, right, 1)
                begin, finish = offsets[windows.start[window] + left][0], offsets[windows.start[window] + right][1]
                text = context[begin:finish].strip()  # sentence pieces hold the space before a word
                begin = context.index(text, begin)
                answer = {"score": 0.0, "start": begin, "end": begin + len(text), "answer": text}
                if text:
                    found.setdefault(text.lower(), answer)["score"] += score
        answers = list(found.values())
        if settings.handle_impossible_answer or not answers:
            score = null_score if settings.handle_impossible_answer else 0.0
            answers.append({"score": score, "start": 0, "end": 0, "answer": ""})
        return sorted(answers, key=lambda answer: -answer["score"])[: settings.top_k]


def _question_examples(inputs: tuple, question: Any, context: Any) -> tuple[list[Example], bool]:
    """(examples, whether one answer rather than a list is wanted) of everything that a call may be given."""
    if len(inputs) == 1 and isinstance(inputs[0], dict):
        question, context = inputs[0].get("question"), inputs[0].get("context")
    elif len(inputs) == 2 and isinstance(inputs[0], str):
        question, context = inputs
    elif inputs:
        records = list(inputs[0]) if len(inputs) == 1 else list(inputs)
        if not all(isinstance(record, dict) for record in records):
            raise SquadError('give questions as {"question": …, "context": …}, one or a list of them')
        question, context = ([record.get(name) for record in records] for name in ("question", "context"))
    single = isinstance(question, str)
    questions = [question] if single else list(question or [])
    contexts = [context] * len(questions) if isinstance(context, str) else list(context or [])
    if len(questions) != len(contexts):
        raise SquadError(f"{len(questions)} questions, but {len(contexts)} contexts")
    for text in [*questions, *contexts]:
        if not isinstance(text, str) or not text:
            raise SquadError(f'each input needs a "question" and a "context" that are text and not empty, not {text!r}')
    pairs = zip(questions, contexts, strict=True)
    return [Example(f"number {n}", q, c, (), False) for n, (q, c) in enumerate(pairs, 1)], single


def _probabilities(logits: Any) -> Any:
    import numpy as np

    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def _best_spans(start: Any, end: Any, longest: int, count: int) -> list[tuple[float, int, int]]:
    """The `count` most probable spans of up to `longest` pieces, as (probability, first, last), falling."""
    import numpy as np

    first = np.repeat(np.arange(len(start)), longest)
    last = first + np.tile(np.arange(longest), len(start))
    inside = last < len(end)
    first, last = first[inside], last[inside]
    scores = start[first] * end[last]
    if len(scores) > count:
        kept = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
        first, last, scores = first[kept], last[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:count]
    return list(zip(scores[order].tolist(), first[order].tolist(), last[order].tolist(), strict=True))


def _word_edge(words: list[int], piece: int, step: int) -> int:
    """The outermost piece of the word of `piece` in one direction; -1 in `words`: belongs to no word."""
    while 0 <= piece + step < len(words) and words[piece + step] == words[piece] >= 0:
        piece += step
    return piece
