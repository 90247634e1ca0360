"""Fixtures of the whole suite: scripts run as subprocesses, a tiny model made from a config, real data where
SQUAD_TEST_DATA names a folder of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are many times faster so on a busy machine


def run_script(name, *args, cwd=None, env=None, timeout=300, stdin=None):
    """Run a script of the toolkit as a user would; returns the CompletedProcess with text output."""
    command = [sys.executable, str(ROOT / name), *map(str, args)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, timeout=timeout, input=stdin, capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data sets, named by the environment; the tests that need it skip where it is not."""
    folder = os.environ.get("SQUAD_TEST_DATA")
    if not folder:
        pytest.skip("SQUAD_TEST_DATA, a folder of real data sets, is not set")
    return Path(folder)


@pytest.fixture
def serve_translations():
    """Starts stand-in translation servers (tests/translation_server.py) and stops them after the test."""
    from translation_server import TranslationServer

    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(TranslationServer(**options))
