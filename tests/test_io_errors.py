"""A disk that fails (EIO) or gives half of a file: one sentence, exit 1, old files as they were, no half new ones."""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import gzip
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from conftest import ROOT
from processes import TINY_BERT, as_lines, curve, flags, weights, write_small_squad
from test_translation_batch import response
from tiny_models import ROBERTA_SPECIALS, byte_level_bpe, make_tiny_model
from tokenizers import Tokenizer, models
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast
from translations import all_strings, small_document, stored_strings, write

import clean_squad
import evaluate_v2
import run_squad
import translate_squad
from squadlib.console import SquadError
from squadlib.data import load_squad
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.training.checkpoints import load_checkpoint, newest_checkpoint, remove_old_checkpoints
from squadlib.training.model_card import cleaning_rows, translation_record
from squadlib.translation.cache import open_cache
from squadlib.translation.engines import ModelSettings
from squadlib.translation.transformers_model import HfBackend

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
    write(folder / "mill.json", small_document())
    (folder / "prompts.json").write_text(json.dumps({"text": [{"role": "user", "content": "{text}"}]}))
    (folder / "fields.json").write_text('{"temperature": 0}')
    (folder / "pairs.tsv.gz").write_bytes(gzip.compress(b"It is Anna.\tDat is Anna.\n" * 9))
    (folder / "cleaned").mkdir()
    save_translation_model(folder / "engine")
    asked = [json.loads(row) for row in as_lines(load_squad(str(folder / "data.json"))).splitlines()]
    asked = [{**row, "title": title, "id": row["id"] + title} for title in "ab" for row in asked]
    (folder / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("translate", "clean", "train", "export requests"):
            script, argv = COMMANDS[name]
            assert SCRIPTS[script].main(argv) == 0
        requests = [json.loads(line) for line in (folder / "ask.jsonl").read_text().splitlines()]
        (folder / "back.jsonl").write_text("".join(json.dumps(response(request)) + "\n" for request in requests))
        for name in ("predictions_", "null_odds_", "nbest_predictions_"):
            shutil.copy(folder / "out" / f"{name}.json", folder / f"{name}.json")
        predictions = json.loads((folder / "predictions_.json").read_text())
        (folder / "other.json").write_text(json.dumps(dict.fromkeys(predictions, "Anna")))
        (folder / "na_probs.json").write_text(json.dumps(dict.fromkeys(predictions, 0.5)))
        assert run_squad.main(COMMANDS["calibrate"][1]) == 0
    finally:
        os.chdir(before)
    return folder


def save_translation_model(folder: Path) -> None:
    """One with random weights, which loads."""
    names = (f"{side}_{name}" for side in ("encoder", "decoder") for name in ("layers", "ffn_dim", "attention_heads"))
    BartForConditionalGeneration(BartConfig(vocab_size=4, d_model=4, **dict.fromkeys(names, 1))).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(folder)
    HfBackend(ModelSettings("hf", str(folder), "en", "nl", device="cpu"))


MEMORY_FLAGS = ["--backend", "memory", "--memory_file", "memory.jsonl"]
PREDICT = ["--model_name_or_path", "model", "--no_cuda"]
TRAIN = [*flags("--do_eval", "--predict_file", "data.json", "--max_steps", 2, "--save_steps", 1, model="model")]
TRAIN += ["--train_file", "data.json", "--overwrite_output_dir"]
PREDICT_OUT = ["--model_type", "bert", "--model_name_or_path", "out", "--output_dir", "out", "--no_cuda"]
PREDICT_OUT += "--max_seq_length 64 --doc_stride 32 --max_query_length 12".split()
CACHE = "mill_nl.json.cache.sqlite"
CHAT = "--input_file mill.json --output_file mill_nl.json --backend openai".split()
CHAT += "--model_name_or_path m --answers_alone --prompt_file prompts.json --request_fields fields.json".split()
THRESHOLDS = "data.json predictions_.json --null-odds-file null_odds_.json --nbest-file nbest_predictions_.json".split()
COMMANDS = {
    "translate": ("translate", ["--input_file", "source.json", "--output_file", "nl.json", *MEMORY_FLAGS]),
    "clean": ("clean", "--input_file nl.json --output_file c.json --report_file r.json --dropped_file d.json".split()),
    "train": ("run", TRAIN),
    "resume": ("run", [*TRAIN, "--model_name_or_path", "out/checkpoint-1"]),
    "answer": ("run", [*PREDICT, "--do_predict", "--predict_file", "questions.jsonl"]),
    "predict": ("run", [*PREDICT_OUT, "--do_eval", "--predict_file", "data.json"]),
    "predict unscored": (
        "run",
        [*PREDICT_OUT, *"--output_dir out/new --do_predict --predict_file data.json".split()],
    ),
    "all checkpoints": ("run", [*PREDICT_OUT, "--do_eval", "--predict_file", "data.json", "--eval_all_checkpoints"]),
    "calibrate": ("run", [*PREDICT_OUT, "--do_eval", "--predict_file", "two.jsonl", "--calibrate"]),
    "answer calibrated": ("run", [*PREDICT_OUT, "--question", "Who is it?", "--context", "It is Anna."]),
    "answer from a text": ("run", [*PREDICT, "--question", "Who is it?", "--context_file", "context.txt"]),
    "train on rows": ("run", [*TRAIN, "--train_file", "rows.jsonl.gz"]),
    "evaluate rows": ("evaluate", ["rows.jsonl.gz", "predictions_.json", "--na-prob-file", "na_probs.json"]),
    "evaluate": ("evaluate", [*THRESHOLDS, "--out-file", "score.json", "--out-scores-file", "scores.jsonl"]),
    "draw": ("evaluate", [*THRESHOLDS, "--out-image-dir", "images", "--breakdown", "--signature"]),
    "compare": ("evaluate", "data.json predictions_.json other.json --compare --out-file score.json".split()),
    "export strings": ("translate", ["--input_file", "source.json", "--export_strings", "strings.jsonl"]),
    "export requests": ("translate", [*CHAT, "--export_requests", "ask.jsonl"]),
    "import responses": ("translate", [*CHAT, "--import_responses", "back.jsonl"]),
    "plan": ("translate", [*CHAT, "--dry_run"]),
    "translate by a model": (
        "translate",
        "--input_file mill.json --output_file mill_nl.json --backend hf --model_name_or_path engine --no_cuda".split(),
    ),
    "clean with pairs": (
        "clean",
        "--input_file nl.json --output_dir cleaned --parallel_file pairs.tsv.gz".split(),
    ),
}


PNG = b"\x89PNG"


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world to break, which is the working folder. matplotlib is a stand-in, installed or not."""
    pyplot = mock.MagicMock()
    pyplot.subplots.return_value = None, mock.MagicMock()
    pyplot.savefig.side_effect = lambda file, **options: file.write(PNG)
    monkeypatch.setitem(sys.modules, "matplotlib", mock.MagicMock(pyplot=pyplot))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
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
    *(("predict", f"out/{name}") for name in ("config.json", "tokenizer.json", "tokenizer_config.json")),
    ("predict", "out/model.safetensors"),
    ("predict unscored", "out/training_args.json"),
    *(("all checkpoints", f"out/checkpoint-1/{name}") for name in ("config.json", "model.safetensors")),
    ("answer calibrated", "out/calibration.json"),
    ("compare", "other.json"),
    ("export strings", "source.json"),
    ("export requests", "prompts.json"),
    ("export requests", "fields.json"),
    *((name, CACHE) for name in ("export requests", "import responses", "plan")),
    *(
        ("translate by a model", f"engine/{name}")
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
    ),
    ("translate by a model", "engine/model.safetensors"),
    ("clean with pairs", "nl.json"),
    ("clean with pairs", "pairs.tsv.gz"),
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


def test_responses_that_cannot_be_read_are_one_sentence(here, capfd):
    unreadable(here / "back.jsonl")
    assert "back.jsonl: Input/output error" in ends_with_one_sentence("import responses", capfd)


def test_half_of_the_responses_is_counted_and_the_rest_is_asked_again(here, capfd):
    half(here / "back.jsonl")
    assert translate_squad.main(COMMANDS["import responses"][1]) == 0
    assert "1 not a response of a batch" in capfd.readouterr().out and not (here / "mill_nl.json").exists()
    assert 0 < len(stored_strings(here / CACHE)) < len(all_strings())


def test_a_standard_input_that_cannot_be_read_is_one_sentence(here, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BrokenFile(io.BytesIO())))
    assert clean_squad.main(["--input_file", "-", "--output_file", "c.json"]) == 1
    assert "-: cannot be read (Input/output error)" in capfd.readouterr().err


def test_what_the_card_reads_again_is_named_or_left_out(caplog):
    with pytest.raises(SquadError, match=f"{BROKEN_FILE}: cannot be read"):
        translation_record(BROKEN_FILE)
    assert cleaning_rows(BROKEN_FILE) == [] and "the model card goes without it" in caplog.text


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


def test_half_of_the_merges_of_a_vocabulary_is_noticed(tmp_path, caplog):
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("*.md")]
    make_tiny_model("roberta", tmp_path, texts)
    vocabulary, merges = byte_level_bpe(texts, ROBERTA_SPECIALS)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    for number in len(merges), len(merges) // 2:
        lines = "".join(f"{left} {right}\n" for left, right in merges[:number])
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
        load_tokenizer(str(tmp_path), load_config(str(tmp_path)))
        assert ("is its vocabulary cut off?" in caplog.text) is (number < len(merges))


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

    def __iter__(self):
        return iter(self.readline, b"")


def open_broken(real, part, path, *args, **kwargs):
    file = real(path, *args, **kwargs)
    return BrokenFile(file) if part in str(path) else file


# --- writing ---------------------------------------------------------------------------------------------------------


class Failing:
    """EIO at the n-th call of a function of os, or of open() for writing, or at what such a file does first."""

    OF_FILES = ("open", "write", "read")  # read: of a file that is opened for reading

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n, self.calls = name, n, 0

    def patch(self, monkeypatch, folder: Path) -> None:
        self.folder = folder
        owner, name = (builtins, "open") if self.name in self.OF_FILES else (os, self.name)
        monkeypatch.setattr(owner, name, functools.partial(self.counted, getattr(owner, name)))

    def counted(self, real, *args, **kwargs):
        if self.name in self.OF_FILES:
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            here = isinstance(args[0], (str, os.PathLike)) and self.folder in Path(os.path.abspath(args[0])).parents
            if not here or bool(set(mode) & set("wax+")) is (self.name == "read"):
                return real(*args, **kwargs)
        self.calls += 1
        if self.calls == self.n:
            self.path = Path(os.fsdecode(args[0])) if self.name in self.OF_FILES else None
            if self.name in ("write", "read"):
                return BrokenFile(real(*args, **kwargs))
            name = [] if self.name == "fsync" else args[:1]  # a descriptor has none
            raise OSError(errno.EIO, os.strerror(errno.EIO), *name)
        return real(*args, **kwargs)


PREDICTIONS = ("out/predictions_.json", "out/nbest_predictions_.json", "out/null_odds_.json", "out/results_.json")
IMAGES = "pr_exact pr_f1 pr_oracle null_odds_hist breakdown_answer_length breakdown_question_word".split()
WRITERS = {
    "translate": ("nl.json",),
    "clean": ("c.json", "r.json", "d.json"),
    "evaluate": ("score.json", "scores.jsonl"),
    "predict": PREDICTIONS,
    "draw": [f"images/{name}.png" for name in IMAGES],
    "calibrate": (*PREDICTIONS, "out/calibration.json"),
    "compare": ("score.json",),
    "export strings": ("strings.jsonl",),
    "export requests": ("ask.jsonl",),
    "import responses": ("mill_nl.json",),
    "clean with pairs": [f"cleaned/nl_clean{name}.json" for name in ("", "_dropped", "_report")],
}


def is_whole(name: str, content: bytes) -> bool:
    if name.endswith(".png"):
        return content == PNG
    return bool([json.loads(text) for text in (content.splitlines() if name.endswith("l") else [content])])


FUNCTIONS = "open", "write", "fsync", "replace", "read"
CASES = [(name, function) for name in [*WRITERS][:5] for function in FUNCTIONS]
CASES += [(name, function) for name in [*WRITERS][5:] for function in ("write", "read")]  # they write in the same way


@pytest.mark.parametrize(("command", "function"), CASES)
def test_a_file_that_cannot_be_written_is_one_sentence_and_the_old_one_stands(command, function, here, capfd):
    script, argv = COMMANDS[command]
    SCRIPTS[script].main(argv)
    for name in WRITERS[command]:
        (here / name).write_text("old file")
    before = contents(here)
    capfd.readouterr()
    for n in range(1, 30):
        failing = Failing(function, n)
        with pytest.MonkeyPatch.context() as patch:
            failing.patch(patch, here)
            if failing_ends(command, failing, capfd):
                break
        after = contents(here)
        assert after.keys() == before.keys()
        changed = {name for name in after if after[name] != before[name]}
        assert changed <= set(WRITERS[command])
        assert all(is_whole(name, after[name]) for name in changed)
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
    assert "Input/output error" in last and "free some" not in last and not re.search("(^| )output: ", last), said
    assert failing.name != "read" or failing.path.name in last or failing.path.parent.name in last, (failing.path, last)
    return False


@pytest.mark.parametrize(
    ("command", "folder"), [("draw", "images"), ("clean with pairs", "cleaned"), ("predict unscored", "out/new")]
)
def test_a_folder_that_cannot_be_made_is_one_sentence(command, folder, here, capfd):
    shutil.rmtree(here / folder, ignore_errors=True)
    failing = Failing("mkdir", 1)
    with pytest.MonkeyPatch.context() as patch:
        failing.patch(patch, here)
        assert not failing_ends(command, failing, capfd)
    assert not (here / folder).exists()


class BrokenDatabase(sqlite3.Connection):
    """A disk that fails at the n-th statement, or that is full when the database has so many pages."""

    fails_at, pages, calls = 0, 0, 0

    def execute(self, *args):
        BrokenDatabase.calls += 1
        if self.calls == self.fails_at:
            raise sqlite3.OperationalError("disk I/O error")
        if self.calls == 1 and self.pages:
            super().execute(f"PRAGMA max_page_count = {self.pages}")
        return super().execute(*args)


@pytest.mark.parametrize(("fault", "reason"), [("fails_at", "disk I/O error"), ("pages", "database or disk is full")])
def test_a_cache_whose_disk_fails_loses_nothing(fault, reason, here, monkeypatch, capfd):
    argv = COMMANDS["import responses"][1]
    assert translate_squad.main(argv) == 0
    whole = (here / "mill_nl.json").read_bytes()
    connect = sqlite3.connect
    (here / CACHE).unlink()
    with contextlib.closing(connect(CACHE)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("PRAGMA user_version = 1")  # the size of a page is stored with the first one
    with open_cache(CACHE, "another", "en", "nl") as cache:
        cache.put({"cat": "kat"})
    stored = (here / CACHE).read_bytes()
    for n in range(1, 100):
        (here / CACHE).write_bytes(stored)
        (here / "mill_nl.json").write_text("old file")
        monkeypatch.setattr(sqlite3, "connect", functools.partial(connect, factory=BrokenDatabase))
        monkeypatch.setattr(BrokenDatabase, "calls", 0)
        monkeypatch.setattr(BrokenDatabase, fault, n)
        capfd.readouterr()
        code, said = translate_squad.main(argv), capfd.readouterr().err
        monkeypatch.setattr(sqlite3, "connect", connect)
        if code == 0:
            break
        assert code == 1 and "Traceback" not in said and said.count(" - ERROR - ") == 1, said
        assert f"{CACHE}: {reason}; free some space, or move a damaged file away" in said.splitlines()[-1]
        assert (here / "mill_nl.json").read_text() == "old file" and not list(here.glob(".*.tmp"))
        assert "cat" in stored_strings(here / CACHE)
        assert translate_squad.main(argv) == 0 and (here / "mill_nl.json").read_bytes() == whole
    assert n > 2 and (here / "mill_nl.json").read_bytes() == whole


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


class BrokenLog:
    """EIO at some of the writes to TensorBoard's event files, which are opened for each."""

    def __init__(self, broken: Sequence[int]) -> None:
        self.broken, self.calls = broken, 0

    def open(self, path, *args, real=io.open, **kwargs):
        if "tfevents" in os.fsdecode(path):
            self.calls += 1
            if self.calls in self.broken:
                return BrokenFile(real(path, *args, **kwargs))
        return real(path, *args, **kwargs)


FIRST_POINT = 4  # writes: it stands behind the head, the layout and the flags of the run


@pytest.mark.parametrize(("broken", "shown"), [([FIRST_POINT], {2}), (range(FIRST_POINT, 1000), set())])
def test_a_log_that_cannot_be_written_ends_no_training(broken, shown, here, capfd):
    shutil.rmtree(here / "runs")
    whole = weights(here / "out"), weights(here / "out/checkpoint-2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", BrokenLog(broken).open)
        assert run_squad.main(COMMANDS["train"][1]) == 0
    said = capfd.readouterr().err
    assert (
        said.count("Input/output error; the run goes on") == 1
        and "its curves have gaps" in said
        and "Traceback" not in said
    ), said
    assert (weights(here / "out"), weights(here / "out/checkpoint-2")) == whole
    assert {step for step, _ in curve(here / "runs").get("loss", [])} == shown


def test_scores_are_written_before_a_log_that_cannot_be_begun(here, capfd):
    shutil.rmtree(here / "runs")
    (here / "runs").write_text("a file")
    (here / "out/results_.json").unlink()
    assert " - runs/" in ends_with_one_sentence("calibrate", capfd)
    assert json.loads((here / "out/results_.json").read_text())["total"] == 16
