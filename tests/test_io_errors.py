"""A disk that fails (EIO) or gives half of a file: one sentence, exit 1, old files as they were, no half new ones."""

from __future__ import annotations

import builtins
import errno
import functools
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from processes import TINY_BERT, as_lines, flags, write_small_squad

import clean_squad
import evaluate_v2
import run_squad
import translate_squad
from squadlib.console import SquadError
from squadlib.data import load_squad
from squadlib.training.checkpoints import load_checkpoint, newest_checkpoint, remove_old_checkpoints

SAMPLE, MEMORY = ROOT / "sample" / "sample-v2.0.json", ROOT / "sample" / "memory_en_nl.jsonl"
BROKEN_FILE = "/proc/self/mem"  # the kernel's own EIO for whoever reads its beginning, whatever language they are in
SCRIPTS = {"translate": translate_squad, "clean": clean_squad, "run": run_squad, "evaluate": evaluate_v2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with one of each file that a script reads, and what it writes."""
    folder = tmp_path_factory.mktemp("world")
    write_small_squad(folder / "data.json", 8)
    rows = [json.dumps({"question": f"Who is {n}?", "context": "It is Anna."}) + "\n" for n in range(9)]
    (folder / "questions.jsonl").write_text("".join(rows))
    (folder / "context.txt").write_text("It is Anna.")
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(as_lines(load_squad(str(folder / "data.json"))).encode()))
    shutil.copy(SAMPLE, folder / "source.json")
    shutil.copy(MEMORY, folder / "memory.jsonl")
    shutil.copytree(TINY_BERT, folder / "model")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("translate", "clean", "train"):
            script, argv = COMMANDS[name]
            assert SCRIPTS[script].main(argv) == 0
        for name in ("predictions_", "null_odds_", "nbest_predictions_"):
            shutil.copy(folder / "out" / f"{name}.json", folder / f"{name}.json")
        predictions = json.loads((folder / "predictions_.json").read_text())
        (folder / "na_probs.json").write_text(json.dumps(dict.fromkeys(predictions, 0.5)))
    finally:
        os.chdir(before)
    return folder


MEMORY_FLAGS = ["--backend", "memory", "--memory_file", "memory.jsonl"]
PREDICT = ["--model_name_or_path", "model", "--no_cuda"]
TRAIN = [*flags("--do_eval", "--predict_file", "data.json", "--max_steps", 2, "--save_steps", 1, model="model")]
TRAIN += ["--train_file", "data.json", "--overwrite_output_dir"]
COMMANDS = {
    "translate": ("translate", ["--input_file", "source.json", "--output_file", "nl.json", *MEMORY_FLAGS]),
    "clean": ("clean", "--input_file nl.json --output_file c.json --report_file r.json --dropped_file d.json".split()),
    "train": ("run", TRAIN),
    "resume": ("run", [*TRAIN, "--model_name_or_path", "out/checkpoint-1"]),
    "answer": ("run", [*PREDICT, "--do_predict", "--predict_file", "questions.jsonl"]),
    "predict": (
        "run",
        "--model_type bert --model_name_or_path out --do_eval --predict_file data.json --output_dir out --no_cuda "
        "--max_seq_length 64 --doc_stride 32 --max_query_length 12".split(),
    ),
    "answer from a text": ("run", [*PREDICT, "--question", "Who is it?", "--context_file", "context.txt"]),
    "train on rows": ("run", [*TRAIN, "--train_file", "rows.jsonl.gz"]),
    "evaluate rows": ("evaluate", ["rows.jsonl.gz", "predictions_.json", "--na-prob-file", "na_probs.json"]),
    "evaluate": (
        "evaluate",
        "data.json predictions_.json --null-odds-file null_odds_.json --nbest-file nbest_predictions_.json "
        "--out-file score.json --out-scores-file scores.jsonl".split(),
    ),
}


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world to break, which is the working folder."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but logs and the lock."""
    found = {path: path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    names = {str(path.relative_to(folder)): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if "runs/" not in name and "lock" not in name}


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to(BROKEN_FILE)


def ends_with_one_sentence(command: str, capfd) -> str:
    """What it says at its end."""
    script, argv = COMMANDS[command]
    code = SCRIPTS[script].main(argv)
    said = capfd.readouterr().err
    assert code == 1 and "Traceback" not in said, said
    quiet = "evaluate_v2.py: " if script == "evaluate" else None  # its notes; other scripts have levels
    errors = [line for line in said.splitlines() if (not line.startswith(quiet) if quiet else " - ERROR - " in line)]
    assert len(errors) == 1, said
    return errors[0]


# --- reading ---------------------------------------------------------------------------------------------------------

READERS = [
    ("translate", "source.json"),
    ("translate", "memory.jsonl"),
    ("clean", "nl.json"),
    ("train", "data.json"),
    ("train", "model/config.json"),
    ("train", "model/model.safetensors"),
    ("answer", "questions.jsonl"),
    ("answer", "model/config.json"),
    ("answer", "model/model.safetensors"),
    ("resume", "out/checkpoint-1/training_state.json"),
    ("resume", "out/checkpoint-1/training_args.json"),
    ("resume", "out/checkpoint-1/optimizer.safetensors"),
    ("resume", "out/checkpoint-1/model.safetensors"),
    ("train on rows", "rows.jsonl.gz"),
    ("evaluate rows", "rows.jsonl.gz"),
    ("evaluate rows", "na_probs.json"),
    ("evaluate", "data.json"),
    ("evaluate", "predictions_.json"),
    ("evaluate", "null_odds_.json"),
    ("evaluate", "nbest_predictions_.json"),
]


@pytest.mark.parametrize("fault", [half, unreadable])
@pytest.mark.parametrize(("command", "name"), READERS)
def test_a_file_that_cannot_be_read_whole_is_one_sentence(command, name, fault, here, capfd):
    fault(here / name)
    before = contents(here)
    said = ends_with_one_sentence(command, capfd)
    assert name in said or os.path.dirname(name) in said.split(": ")[0], said
    assert contents(here) == before


def test_a_context_that_cannot_be_read_is_one_sentence(here, capfd):
    unreadable(here / "context.txt")
    assert "context.txt: cannot be read" in ends_with_one_sentence("answer from a text", capfd)


def test_an_old_card_that_cannot_be_read_is_kept_and_ends_no_run(here, capfd):
    unreadable(here / "out/README.md")
    assert run_squad.main(COMMANDS["train"][1]) == 0
    assert "README.md was edited or is not ours, so it is kept" in capfd.readouterr().err
    assert (here / "out/README.md").is_symlink() and (here / "out/README.generated.md").is_file()


def test_a_vocabulary_that_cannot_be_read_is_one_sentence(here, capfd):
    unreadable(here / "model/vocab.txt")
    assert "model" in ends_with_one_sentence("train", capfd)


def test_half_a_vocabulary_is_noticed(here, capfd):
    pieces = (here / "model/vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (here / "model/vocab.txt").write_text("".join(pieces[: len(pieces) // 2]), encoding="utf-8")
    run_squad.main(COMMANDS["train"][1])
    assert "is its vocabulary cut off?" in capfd.readouterr().err


@pytest.mark.parametrize("fault", [half, unreadable])
def test_a_cache_that_cannot_be_read_is_one_sentence(fault, here, capfd):
    cache = here / "nl.json.cache.sqlite"
    database = sqlite3.connect(cache)
    database.execute("CREATE TABLE other (content)")
    database.execute("INSERT INTO other VALUES (zeroblob(20000))")
    database.commit()
    database.close()
    fault(cache)
    before = contents(here)
    argv = ["--input_file", "source.json", "--output_file", "nl.json"]
    assert translate_squad.main(argv) == 1
    said = capfd.readouterr().err
    assert "nl.json.cache.sqlite: " in said.splitlines()[-1] and "Traceback" not in said
    assert contents(here) == before


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "training_state.json"])
def test_a_newest_checkpoint_that_cannot_be_read_is_passed_over(name, here, monkeypatch, caplog):
    monkeypatch.setattr(builtins, "open", functools.partial(open_broken, open, f"checkpoint-2/{name}"))
    assert newest_checkpoint("out").endswith("checkpoint-1")
    assert f"checkpoint-2/{name}: cannot be read (Input/output error)" in caplog.text


class BrokenFile:
    """A file whose every read or write fails."""

    def __init__(self, file) -> None:
        self.file = file

    def __getattr__(self, name):
        if name in ("read", "readinto", "readline", "readlines", "write", "writelines", "_checkReadable"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def open_broken(real, part, path, *args, **kwargs):
    file = real(path, *args, **kwargs)
    return BrokenFile(file) if part in str(path) else file


# --- writing ---------------------------------------------------------------------------------------------------------


class Failing:
    """EIO at the n-th call of a function of os, or of open() for writing."""

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n, self.calls = name, n, 0

    def patch(self, monkeypatch, folder: Path) -> None:
        self.folder = folder
        owner = builtins if self.name in ("open", "write") else os
        name = "open" if self.name == "write" else self.name
        monkeypatch.setattr(owner, name, functools.partial(self.counted, getattr(owner, name)))

    def counted(self, real, *args, **kwargs):
        if self.name in ("open", "write"):
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            here = isinstance(args[0], (str, os.PathLike)) and self.folder in Path(os.path.abspath(args[0])).parents
            if not here or not set(mode) & set("wax+") or "tfevents" in str(args[0]):
                return real(*args, **kwargs)
        self.calls += 1
        if self.calls == self.n:
            if self.name == "write":
                return BrokenFile(real(*args, **kwargs))
            name = [] if self.name == "fsync" else args[:1]  # a descriptor has none
            raise OSError(errno.EIO, os.strerror(errno.EIO), *name)
        return real(*args, **kwargs)


PREDICTIONS = ("out/predictions_.json", "out/nbest_predictions_.json", "out/null_odds_.json", "out/results_.json")
WRITERS = {
    "translate": ("nl.json",),
    "clean": ("c.json", "r.json", "d.json"),
    "evaluate": ("score.json", "scores.jsonl"),
    "predict": PREDICTIONS,
}


@pytest.mark.parametrize("function", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("command", ["translate", "clean", "evaluate", "predict"])
def test_a_file_that_cannot_be_written_is_one_sentence_and_the_old_one_stands(command, function, here, capfd):
    script, argv = COMMANDS[command]
    if command == "evaluate":
        SCRIPTS[script].main(argv)
    for name in WRITERS[command]:
        (here / name).write_text("old file")
    before = contents(here)
    capfd.readouterr()
    for n in range(1, 20):
        failing = Failing(function, n)
        with pytest.MonkeyPatch.context() as patch:
            failing.patch(patch, here)
            if failing_ends(command, failing, capfd):
                break
        after = contents(here)
        assert after.keys() == before.keys()
        changed = {name for name in after if after[name] != before[name]}
        assert changed <= set(WRITERS[command])
        for name in changed:
            [json.loads(line) for line in (after[name].splitlines() if name.endswith("l") else [after[name]])]
    assert failing.calls == n - 1 > 0


def failing_ends(command: str, failing: Failing, capfd) -> bool:
    """Whether the command got through, as it has no n-th call. Otherwise it must end with one sentence."""
    script, argv = COMMANDS[command]
    code = SCRIPTS[script].main(argv)
    said = capfd.readouterr().err
    if failing.calls < failing.n:
        assert code == 0, said
        return True
    assert code == 1 and "Traceback" not in said, said
    last = said.splitlines()[-1]
    assert "Input/output error" in last and "free some" not in last and " output: " not in last, said
    return False


@pytest.mark.parametrize("command", ["translate", "clean", "answer", "evaluate"])
def test_a_full_disk_under_standard_output_is_one_sentence(command, here):
    script, argv = COMMANDS[command]
    argv = argv[:2] if command == "evaluate" else argv  # the others go into files
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = [sys.executable, SCRIPTS[script].__file__, *map(str, argv)]
    with open("/dev/full", "w") as full:
        process = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert "Traceback" not in process.stderr and "Exception ignored" not in process.stderr, process.stderr
    assert process.returncode == 1 and process.stderr.count("output: no space left for writing") == 1


@pytest.mark.parametrize(
    ("function", "n"),
    [("open", 2), ("write", 2), ("fsync", 3), ("fsync", 9), ("rename", 1), ("replace", 1), ("mkdir", 2), ("mkdir", 3)],
)
def test_training_whose_save_fails_is_one_sentence_and_no_half_checkpoint(function, n, here, capfd):
    failing = Failing(function, n)
    started = load_checkpoint("out/checkpoint-2")[0]["started"]
    before = {name: content for name, content in contents(here).items() if "checkpoint-" not in name}
    with pytest.MonkeyPatch.context() as patch:
        failing.patch(patch, here / "out" if function in ("open", "write") else here)
        assert not failing_ends("train", failing, capfd)
    assert not list((here / "out").glob("*.tmp")) and not list((here / "out").glob(".*.tmp"))
    newest = newest_checkpoint("out")
    assert newest and load_checkpoint(newest)[0]["started"] >= started
    assert {name: content for name, content in contents(here).items() if "checkpoint-" not in name} == before


def test_an_old_checkpoint_that_cannot_go_is_one_sentence_and_harms_no_other(here, monkeypatch):
    monkeypatch.setattr(os, "rename", functools.partial(Failing("rename", 1).counted, os.rename))
    with pytest.raises((OSError, SquadError)):
        remove_old_checkpoints("out", 2, 1)
    assert newest_checkpoint("out").endswith("checkpoint-2")
    load_checkpoint("out/checkpoint-1")
