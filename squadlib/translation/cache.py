"""Translations that are already known, in one SQLite file."""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator

from squadlib.console import SquadError

CACHE_ID = 0x53515432  # application_id of the SQLite file
SYNC_EVERY = 1.0  # seconds
AT_ONCE = 500  # strings that are looked up at once; old versions of SQLite take 999
LOCK_SECONDS = 60.0  # to wait for another process


@contextlib.contextmanager
def open_cache(path: str, backend: str, source_lang: str, target_lang: str) -> Iterator[Cache]:
    """The cache for the length of a block; what SQLite raises becomes one sentence."""
    try:
        cache = Cache(path, backend, source_lang, target_lang)
        with contextlib.closing(cache.database):
            yield cache
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second when SQLite's own message quotes damaged bytes
        reason = " ".join(str(error).split())[:200]
        raise SquadError(f"{path}: {reason}; free some space, or move a damaged file away") from error


class Cache:
    """Translations of one backend and language pair in an SQLite file that several processes may share.

    When put() returns, the translations outlive this process, however it ends. They outlive a power cut too when
    SYNC_EVERY has passed since the last write that waited for the disk; else from the next such write on, or when the
    cache is closed. So a slow server's answers are on the disk at once, a fast one's once a second.
    Others' translations in the same file are never seen.
    """

    KEY = "backend = ? AND source_lang = ? AND target_lang = ?"

    def __init__(self, path: str, backend: str, source_lang: str, target_lang: str) -> None:
        self.path, self.target_lang = path, target_lang
        self.key = backend, source_lang, target_lang
        self.database = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        self._synced_at, self._waits = -math.inf, False
        try:
            with self._transaction():  # of processes that start together one makes the file, the others find it made
                self._make_table()
            self._log_ahead()
            self._wait_for_the_disk(True)
        except BaseException:
            self.database.close()  # else the files of its log stay
            raise

    def _make_table(self) -> None:
        (found,) = self.database.execute("PRAGMA application_id").fetchone()
        if found != CACHE_ID:
            if self.database.execute("SELECT 1 FROM sqlite_master").fetchone():
                reason = "an SQLite file, but not a translation cache; name another --cache_file"
                raise SquadError(f"{self.path}: {reason}")
            self.database.execute(f"PRAGMA application_id = {CACHE_ID}")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS translation (backend TEXT, source_lang TEXT, target_lang TEXT, source TEXT,"
            " target TEXT NOT NULL CHECK (target <> ''), checksum INTEGER NOT NULL,"
            " PRIMARY KEY (backend, source_lang, target_lang, source)) WITHOUT ROWID"
        )

    def _log_ahead(self) -> None:
        """Let others read while one writes. For this change, once a file, SQLite does not wait for its turn itself."""
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                self.database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def get(self, strings: Iterable[str]) -> dict[str, str]:
        """The translations of those strings that have one. SQLite itself does not notice a damaged text."""
        found: dict[str, str] = {}
        remaining = iter(strings)
        while part := list(itertools.islice(remaining, AT_ONCE)):
            own = dict(zip(part, part, strict=True))  # the caller's strings, so that the database's need not stay
            places = ", ".join("?" * len(part))
            query = f"SELECT source, target, checksum FROM translation WHERE {self.KEY} AND source IN ({places})"
            for string, target, checksum in self.database.execute(query, (*self.key, *part)):
                if checksum != self._checksum(string, target):
                    raise SquadError(f"{self.path}: the entry of {string[:60]!r} is damaged; move the file away")
                found[own[string]] = target
        return found

    def lacking(self, strings: list[str]) -> set[str]:
        """Those of the strings that have no translation."""
        parts = (strings[first : first + AT_ONCE] for first in range(0, len(strings), AT_ONCE))
        return {string for part in parts for string in set(part) - self.get(part).keys()}

    def _wait_for_the_disk(self, wait: bool) -> None:
        """Whether the commits that follow are on the disk when they return, with all before them."""
        if wait != self._waits:
            self.database.execute(f"PRAGMA synchronous = {'FULL' if wait else 'NORMAL'}")
        self._waits = wait

    def _checksum(self, source: str, target: str) -> int:
        return zlib.crc32(repr((*self.key, source, target)).encode("utf-8", "backslashreplace"))

    def put(self, targets: dict[str, str]) -> None:
        """Store translations in one transaction; a string that another process was faster with keeps its first."""
        now = time.monotonic()
        if due := now - self._synced_at >= SYNC_EVERY:
            self._synced_at = now
        self._wait_for_the_disk(due)
        rows = [(*self.key, source, target, self._checksum(source, target)) for source, target in targets.items()]
        insert = "INSERT INTO translation VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        if len(rows) == 1:  # a transaction by itself, in a third of the time
            self.database.execute(insert, rows[0])
            return
        with self._transaction():
            self.database.executemany(insert, rows)

    def forget(self, strings: Iterable[str]) -> None:
        """Remove translations that turned out to be doubtful."""
        query = f"DELETE FROM translation WHERE {self.KEY} AND source = ?"
        with self._transaction():
            self.database.executemany(query, [(*self.key, string) for string in strings])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            self.database.rollback()
            raise
