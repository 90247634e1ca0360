"""Fixtures of the whole suite: scripts run as subprocesses, tiny models made from a config, runs that several files
look at, real data where SQUAD_TEST_DATA names a folder of it. What is large is imported where it is needed."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import FAMILIES, load, make_tiny_model, texts_of

ROOT = Path(__file__).resolve().parent.parent
GOLDEN, SAMPLE = ROOT / "tests" / "golden", ROOT / "sample" / "sample-v2.0.json"
sys.path[:0] = [str(ROOT), str(GOLDEN)]
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell, which our scripts would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


# ---------------------------------------------------------------------------------------------------------------------
# Questions, windows and models
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A file of 14 questions."""
    from processes import write_small_squad

    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json")


@pytest.fixture(scope="session")
def examples():
    """The questions of the sample."""
    from squadlib.data import load_squad, read_examples

    return read_examples(load_squad(str(SAMPLE)))


@pytest.fixture(scope="session", params=FAMILIES)
def family(request, examples, tmp_path_factory):
    """(family name, folder of its tiny model)"""
    folder = tmp_path_factory.mktemp(request.param)
    make_tiny_model(request.param, folder, texts_of(examples))
    return request.param, folder


@pytest.fixture(scope="session")
def windows():
    """Training windows of the mini file."""
    from golden_data import get_tokenizer, golden_examples

    from squadlib.model.windows import make_windows

    sizes = {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 12}
    return make_windows(golden_examples(), get_tokenizer(False), **sizes, training=True)


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny checkpoint, to be spoilt."""
    shutil.copytree(GOLDEN / "tiny_bert", tmp_path / "model")
    return tmp_path / "model"


# ---------------------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def unbroken(small, tmp_path_factory):
    """folder of a run that nothing disturbed, by variant; each is run once."""
    from processes import Run, options

    @functools.cache
    def folder_of(variant):
        folder = tmp_path_factory.mktemp(variant)
        run = Run(folder, *options(small, variant, "--save_steps", 2))
        assert run.wait() == 0, run.stderr
        return folder

    return folder_of


@pytest.fixture
def recorder(monkeypatch):
    """Steps are recorded as on a GPU, with what stands in for it."""
    from gpu_stand_ins import stand_in

    return stand_in(monkeypatch)


@pytest.fixture(scope="session")
def logged_run(tmp_path_factory):
    """(folder, what TensorBoard reads) of a run that is scored as it trains."""
    from logged_run import run_here

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return folder, run_here(folder, monkeypatch, "--evaluate_during_training", "--card_license", "apache-2.0")


# ---------------------------------------------------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def golden_answers():
    """What transformers 4.57.6 answered; see golden/make_pipeline_golden.py."""
    return json.loads(gzip.open(GOLDEN / "pipeline.json.gz").read())


@pytest.fixture(scope="session")
def sharp(golden_answers):
    """(model, tokenizer): the tiny BERT with the sharper head of the golden answers."""
    tokenizer, model = load(GOLDEN / "tiny_bert")
    model.qa_outputs.weight.data *= golden_answers["sharper"]
    return model, tokenizer


@pytest.fixture(scope="session")
def qa(sharp):
    """The answerer of that model."""
    from squadlib.model.answering import pipeline

    return pipeline("question-answering", model=sharp[0], tokenizer=sharp[1], device="cpu")


@pytest.fixture(scope="session")
def sharp_folder(sharp, tmp_path_factory):
    """The folder of that model."""
    folder = tmp_path_factory.mktemp("sharp")
    sharp[0].save_pretrained(folder)
    sharp[1].save_pretrained(folder)
    return str(folder)
