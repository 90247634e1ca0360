"""cache.py: keys, other files, damage, a full disk, several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT
from translations import FAST, assert_all_right, make_document, run_translate, stored_strings, write

from squadlib.console import SquadError
from squadlib.translation.cache import LOCK_SECONDS, Cache, open_cache


def test_cache_never_mixes_backends_or_languages(tmp_path):
    path = str(tmp_path / "cache.sqlite")
    first = Cache(path, "mtranslate", "en", "nl")
    first.put({"cat": "kat"})
    for key in (("hf x", "en", "nl"), ("mtranslate", "en", "de"), ("mtranslate", "de", "nl")):
        assert Cache(path, *key).get(["cat"]) == {}
    second = Cache(path, "mtranslate", "en", "nl")
    second.put({"cat": "poes", "dog": "hond"})
    assert first.get(["cat", "dog", "cow"]) == {"cat": "kat", "dog": "hond"}
    first.forget(["cat"])
    assert second.get(["cat"]) == {}


def test_cache_refuses_an_empty_translation_and_another_programs_file(tmp_path):
    cache = Cache(str(tmp_path / "cache.sqlite"), "mtranslate", "en", "nl")
    with pytest.raises(sqlite3.IntegrityError):
        cache.put({"cat": None})
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE bookmarks (address TEXT)")
    with pytest.raises(SquadError, match="not a translation cache"):
        Cache(str(other), "mtranslate", "en", "nl")


def test_a_damaged_cache_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "nl.json.cache.sqlite").write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    process, translated = run_translate(tmp_path)
    assert process.returncode == 1 and translated is None
    assert "nl.json.cache.sqlite" in process.stderr and "Traceback" not in process.stderr


def test_a_full_disk_under_the_cache_is_one_sentence(tmp_path, serve_translations):
    pytest.importorskip("resource")  # only POSIX limits the size of files
    server = serve_translations()
    process, translated = run_translate_limited(tmp_path, server.env, max_bytes=60_000)
    assert process.returncode == 1 and translated is None
    assert "nl.json.cache.sqlite" in process.stderr and "Traceback" not in process.stderr
    process, translated = run_translate(tmp_path, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


def run_translate_limited(tmp_path, env, max_bytes):
    """The script where no file can grow beyond max_bytes."""
    import resource

    source, output = write(tmp_path / "source.json", make_document(60)), tmp_path / "nl.json"
    command = [
        sys.executable,
        str(ROOT / "translate_squad.py"),
        "--input_file",
        str(source),
        "--output_file",
        str(output),
    ]
    process = subprocess.run(
        [*command, *map(str, FAST)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes)),
    )
    return process, output.exists() or None


def test_two_processes_share_a_cache(tmp_path, serve_translations):
    server = serve_translations(latency=0.02)
    source, cache = write(tmp_path / "source.json", make_document(80)), tmp_path / "cache.sqlite"
    command = [
        sys.executable,
        str(ROOT / "translate_squad.py"),
        "--input_file",
        str(source),
        "--cache_file",
        str(cache),
    ]
    processes = [
        subprocess.Popen(
            [*command, "--output_file", str(tmp_path / f"nl{number}.json"), *map(str, FAST)],
            env={**os.environ, **server.env},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    first, second = ((tmp_path / f"nl{number}.json").read_text("utf-8") for number in range(2))
    assert first == second
    assert_all_right(json.loads(first))
    assert len(server.queries) < 1.3 * 80


def open_together(barrier, folder, rounds, results):
    """In a process: open a new cache in each round, at the same moment as the others, and slowly."""

    class SlowConnection(sqlite3.Connection):
        def execute(self, *args):
            time.sleep(random.choice([0.0, 0.0, 0.02]))
            return super().execute(*args)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=SlowConnection)
    for number in range(rounds):
        barrier.wait()
        try:
            with open_cache(str(folder / f"{number}.sqlite"), "mtranslate", "en", "nl") as cache:
                cache.put({"cat": "kat", str(os.getpid()): "x"})
            results.put("opened")
        except BaseException as error:
            results.put(repr(error))


def test_eight_processes_that_start_together_on_a_new_cache_do_not_take_it_for_another_programs_file(tmp_path):
    processes, rounds = 8, 2
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    arguments = barrier, tmp_path, rounds, results
    started = [context.Process(target=open_together, args=arguments, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    assert [results.get(timeout=60) for _ in range(processes * rounds)] == ["opened"] * processes * rounds
    for process in started:
        process.join()
    for number in range(rounds):
        assert len(stored_strings(tmp_path / f"{number}.sqlite")) == 1 + processes


def test_a_finished_cache_needs_no_server(tmp_path, serve_translations):
    server = serve_translations()
    _, first = run_translate(tmp_path, env=server.env)
    (tmp_path / "nl.json").unlink()
    process, second = run_translate(tmp_path, env={"http_proxy": "http://127.0.0.1:9", "no_proxy": ""})
    assert process.returncode == 0 and first == second


def test_a_slow_servers_answers_wait_for_the_disk_and_a_fast_ones_once_a_second(tmp_path, monkeypatch):
    cache, now, waited = Cache(str(tmp_path / "cache.sqlite"), "mtranslate", "en", "nl"), 100.0, []
    for seconds in (0.0, 0.125, 0.5, 0.5, 3.0, 0.75, 0.25):
        now += seconds
        monkeypatch.setattr("squadlib.translation.cache.time.monotonic", lambda now=now: now)
        cache.put({str(now): "x"})
        waited.append(cache.database.execute("PRAGMA synchronous").fetchone()[0] == 2)
    assert waited == [True, False, False, True, True, False, True]
    assert len(stored_strings(tmp_path / "cache.sqlite")) == 7  # whatever ends this process


class Busy:
    """A database that is locked, or broken, for its first calls."""

    def __init__(self, calls: int, reason: str) -> None:
        self.calls, self.reason = calls, reason

    def execute(self, query: str) -> None:
        self.calls -= 1
        if self.calls >= 0:
            raise sqlite3.OperationalError(self.reason)


def test_a_new_cache_waits_for_its_turn_to_log_ahead(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    database = Busy(3, "database is locked")
    Cache._log_ahead(SimpleNamespace(database=database))
    assert database.calls == -1
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        Cache._log_ahead(SimpleNamespace(database=Busy(1, "disk I/O error")))


def test_a_locked_file_is_given_up_when_the_time_is_over(monkeypatch):
    moments = iter([0, LOCK_SECONDS, LOCK_SECONDS + 1])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    database = Busy(9, "database is locked")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Cache._log_ahead(SimpleNamespace(database=database))
    assert database.calls == 7


def test_an_sqlite_that_does_not_wait_for_the_disk_by_itself_is_made_to(tmp_path, monkeypatch):
    def connect(*args, **options):
        database = open_database(*args, **options)
        database.execute("PRAGMA synchronous = NORMAL")  # as it may be built
        return database

    open_database = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    cache = Cache(str(tmp_path / "cache.sqlite"), "mtranslate", "en", "nl")
    assert cache.database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_what_sqlite_says_is_quoted_up_to_200_characters(tmp_path):
    with pytest.raises(SquadError) as error, open_cache(str(tmp_path / "c.sqlite"), "mtranslate", "en", "nl"):
        raise sqlite3.DatabaseError("x" * 300)
    assert str(error.value).count("x") == 200 + str(tmp_path).count("x")
