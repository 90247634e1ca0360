"""Questions, files and a call of main for the tests of evaluate_v2.py."""

from __future__ import annotations

import importlib.util
import json

import pytest

import evaluate_v2


def load_program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def squad(golds):
    """A SQuAD document with these questions; the unanswerable ones are marked."""
    qas = [
        {
            "id": qid,
            "question": "?",
            "is_impossible": not texts,
            "answers": [{"text": t, "answer_start": 0} for t in texts],
        }
        for qid, texts in golds.items()
    ]
    return {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "c", "qas": qas}]}]}


@pytest.fixture
def files(tmp_path):
    """Write objects as <name>.json into a folder; returns its path."""

    def write(**contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write


GOLDS = {"a": ["the cat", "black cat"], "b": [], "c": ["Amsterdam"], "d": []}
PREDS = {"a": "a black cat sat", "b": "", "c": "amsterdam!", "d": "Delft"}
ODDS = {"a": -2.0, "b": 3.5, "c": -2.0, "d": -2.0}


@pytest.fixture
def run_main(capsys):
    """Call main in this process; returns (exit code, stdout, stderr, its lines that are not notes: the error)."""

    def run(*args):
        code = evaluate_v2.main(list(map(str, args)))
        out, err = capsys.readouterr()
        lines = err.removesuffix("\n").split("\n") if err else []
        return code, out, err, [line for line in lines if not line.startswith("evaluate_v2.py: ")]

    return run
