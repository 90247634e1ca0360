"""Checkpoints are complete or absent: killed, damaged, in the way of each other, on a full disk."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import pytest
from processes import (
    TINY_BERT,
    Run,
    file_names,
    flags,
    one_sentence,
    options,
    same_bits,
    slow_steps,
    weights,
)

from squadlib.console import SquadError
from squadlib.training.checkpoints import (
    ARGS_FILE,
    OLD,
    OPTIMIZER_FILE,
    RESUMED_FLAGS,
    STATE_FILE,
    changed_flags,
    check_checkpoint,
    locked_output_dir,
    newest_checkpoint,
)

MODEL = "model.safetensors"


class Killer:
    """Counts what changes files (fsync, rename, replace, rmtree, unlink) and dies at the n-th."""

    def __init__(self, n: int) -> None:
        self.n, self.count = n, 0

    def __call__(self) -> None:
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (shutil, "rmtree")):
            setattr(module, name, functools.partial(self.counted, getattr(module, name)))

    def counted(self, function, *args, **kwargs):
        self.count += 1
        if self.count == self.n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)


def test_kill_at_any_file_of_a_save_loses_nothing(small, unbroken, tmp_path):
    """A run whose every life ends at a file operation a little later than the last one's, until one gets through."""
    expected = unbroken("padding_free")
    argv = options(small, "padding_free", "--save_steps", 2, "--save_total_limit", 1, "--resume")
    lives = 0
    for n in (3, 9, 13, 14, 15, 16, 23, 29, 40, 48, 1000):
        lives += 1
        run = Run(tmp_path, *argv, hook=Killer(n))
        if run.wait() == 0:
            break
        assert run.process.exitcode == -signal.SIGKILL, run.stderr
    assert lives >= 8, lives
    assert same_bits(expected, tmp_path)
    assert not [name for name in file_names(tmp_path / "out") if name.endswith(".tmp") or name.startswith(".")]
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def change_a_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"global_step": 6', '"global_step": 5'))


DAMAGES = [
    *((name, Path.unlink, "missing or cut off") for name in (MODEL, OPTIMIZER_FILE, "config.json", "tokenizer.json")),
    *((name, truncate, "missing or cut off") for name in (MODEL, OPTIMIZER_FILE)),
    *((name, flip_a_bit, "content has changed") for name in (MODEL, OPTIMIZER_FILE, "tokenizer.json")),
    (STATE_FILE, change_a_number, "content has changed"),
    (STATE_FILE, Path.unlink, "cannot be read"),
    (STATE_FILE, truncate, "not valid JSON"),
    (STATE_FILE, lambda path: path.write_text(""), "the file is empty"),
    (STATE_FILE, lambda path: path.write_text("[]"), "content has changed"),
    (STATE_FILE, lambda path: path.write_text('{"files": {}}'), "content has changed"),
]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGES)
def test_damaged_newest_checkpoint_is_passed_over_with_the_reason(name, damage, reason, unbroken, tmp_path, caplog):
    for step in (4, 6):
        shutil.copytree(unbroken("padding_free") / f"out/checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    damage(tmp_path / "checkpoint-6" / name)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-4")
    assert f"checkpoint-6/{name}: " in caplog.text and reason in caplog.text
    with pytest.raises(SquadError, match=reason):
        check_checkpoint(str(tmp_path / "checkpoint-6"))


def test_checkpoint_of_an_earlier_run_is_neither_resumed_nor_counted(small, unbroken, tmp_path):
    """--overwrite_output_dir over an old run: its checkpoint-12 must not win over the new run's checkpoint-4."""
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-12", tmp_path / "out/checkpoint-12")
    more = ("--max_steps", 4, "--save_steps", 2, "--save_total_limit", 1, "--overwrite_output_dir", "--seed", 7)
    run = Run(tmp_path, *flags(*more, train=small))
    assert run.wait() == 0, run.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-4"]
    assert newest_checkpoint(str(tmp_path / "out")).endswith("checkpoint-4")


@pytest.mark.parametrize("name", ["my-bert-7", "exp-3/bert", "checkpoint-5"])
def test_path_that_looks_like_a_checkpoint_is_not_one(name, small, tmp_path):
    shutil.copytree(TINY_BERT, tmp_path / name)
    run = Run(tmp_path, *flags("--max_steps", 2, "--model_name_or_path", name, train=small))
    assert run.wait() == 0, run.stderr
    assert "Going on from" not in run.stderr and "global_step = 2," in run.stderr


def test_left_overs_of_a_killed_run_are_removed_at_the_start(small, tmp_path):
    out = tmp_path / "out"
    for name in ("checkpoint-3.tmp", "checkpoint-3.old.tmp", "model.tmp", "checkpoint-keep.tmp"):
        (out / name).mkdir(parents=True)
        (out / name / "model.safetensors").write_bytes(b"half")
    for name in (".predictions_.json.77.tmp", ".nbest_predictions_12.json.77.tmp", ".somebody_elses.json.77.tmp"):
        (out / name).write_text("half")
    run = Run(tmp_path, *flags("--max_steps", 1, "--overwrite_output_dir", train=small))
    assert run.wait() == 0, run.stderr
    left = {path.name for path in out.iterdir() if path.name.endswith("tmp")}
    assert left == {"checkpoint-keep.tmp", ".somebody_elses.json.77.tmp"}
    assert "removing out/checkpoint-3.tmp, left by a run that was killed" in run.stderr


def test_checkpoint_that_had_made_place_for_one_that_never_came_is_back(unbroken, tmp_path, caplog):
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-2", tmp_path / f"checkpoint-2{OLD}")
    with locked_output_dir(str(tmp_path)):
        assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-2")
    assert not (tmp_path / f"checkpoint-2{OLD}").exists() and not caplog.records
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / f"checkpoint-2{OLD}")
    with locked_output_dir(str(tmp_path)):  # the other came
        assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2"}


def test_flag_that_an_older_checkpoint_does_not_know_has_not_changed(unbroken, tmp_path):
    before = json.loads((unbroken("padding_free") / "out/checkpoint-2" / ARGS_FILE).read_text())
    unknown, *known = RESUMED_FLAGS.split()
    (tmp_path / ARGS_FILE).write_text(json.dumps({name: before[name] for name in known}))
    assert changed_flags(str(tmp_path), {**before, unknown: "new"}) == ""


def test_two_runs_in_one_folder_are_told_apart(small, tmp_path):
    first = Run(tmp_path, *flags(train=small), hook=slow_steps)
    first.wait_for(lambda: "Total optimization steps" in first.stderr)
    (tmp_path / "second").mkdir()
    second = Run(tmp_path / "second", *flags("--overwrite_output_dir", train=small, out=tmp_path / "out"))
    assert second.wait() == 1
    assert "another run is writing here" in second.stderr and "Traceback" not in second.stderr
    first.kill(signal.SIGKILL)
    first.wait()


def test_state_holds_what_the_promise_names(unbroken):
    folder = unbroken("padding_free") / "out/checkpoint-6"
    state = json.loads((folder / STATE_FILE).read_text())
    assert {"global_step", "epoch", "update", "plan", "run_dir", "world", "files", "digest"} <= set(state)
    from safetensors import safe_open

    with safe_open(folder / OPTIMIZER_FILE, "np") as file:
        names = set(file.keys())
    assert {"rng.0.cpu", "epoch_rng", "exp_avg.qa_outputs.weight", "step.qa_outputs.weight"} <= names
    assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize(
    ("limit", "file"),
    [
        (100, "runs/"),  # the TensorBoard file
        (20_000, "model.safetensors"),
        (200_000, "optimizer.safetensors"),  # the tiny model has 163 kB, its optimiser state 286 kB
    ],
)
def test_full_disk_while_training_is_named_and_a_re_run_goes_on(limit, file, small, tmp_path):
    argv = flags("--max_steps", 4, "--save_steps", 2, "--resume", train=small)
    first = Run(tmp_path, *argv, "--max_steps", 2)
    assert first.wait() == 0, first.stderr
    before = weights(tmp_path / "out"), weights(tmp_path / "out/checkpoint-2")
    full = Run(tmp_path, *argv, file_limit=limit)
    assert full.wait() == 1, full.stderr
    sentence = one_sentence(full.stderr)
    assert file in sentence and ("free some" in sentence or "no space left" in sentence), sentence
    assert (weights(tmp_path / "out"), weights(tmp_path / "out/checkpoint-2")) == before
    assert not list((tmp_path / "out").glob("*.tmp"))
    again = Run(tmp_path, *argv)
    assert again.wait() == 0, again.stderr
    assert "Going on from out/checkpoint-2" in again.stderr and (tmp_path / "out/checkpoint-4").is_dir()
