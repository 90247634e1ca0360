"""Plain parallel text to learn from: SOURCE, a tab, TARGET on each line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from squadlib.cleaning.corpus import Corpus
from squadlib.console import SquadError, logger
from squadlib.files import decode, open_bytes

MAX_LINE_BYTES = 10_000  # longer lines are no sentences, and never in memory as a whole
MAX_PAIRS = 1_000_000  # of a file: three times what a translation of SQuAD train has


def add_parallel_file(corpus: Corpus, path: str) -> None:
    """Add the pairs of a file to the corpus, and say how many there are and what was left out.

    Raises SquadError at the first line that is no pair.
    """
    pairs, left_out = 0, {"empty": 0, "too long": 0}
    with open_bytes(path) as file:
        for number, raw in enumerate(read_lines(file), 1):
            if raw is None:
                left_out["too long"] += 1
                continue
            line = decode(raw, f"{path}: line {number}").rstrip("\r\n")
            columns = line.split("\t")
            if not all(column.strip() for column in columns) and len(columns) <= 2:
                left_out["empty"] += 1
                continue
            if len(columns) != 2:
                found = f"{len(columns)} columns" if len(columns) > 2 else "no tab"
                raise SquadError(f"{path}: line {number} has {found}; write SOURCE, one tab, TARGET on each line")
            if pairs == MAX_PAIRS:
                logger.warning("%s: only its first %s pairs are learned from", path, f"{MAX_PAIRS:,}")
                break
            corpus.add(*columns)
            pairs += 1
    if not pairs:
        raise SquadError(f"{path}: no pair of texts in it; write SOURCE, one tab, TARGET on each line")
    logger.info(
        "%s pairs of %s to learn from; left out: %d lines with an empty side, %d of more than %s bytes",
        f"{pairs:,}",
        path,
        left_out["empty"],
        left_out["too long"],
        f"{MAX_LINE_BYTES:,}",
    )


def read_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None for one of more than MAX_LINE_BYTES."""
    while line := file.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield None
