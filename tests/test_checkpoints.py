"""Checkpoints are complete or absent, and a run that was stopped in any way ends with the bits of an unbroken one."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from processes import MINI_SQUAD, TINY_BERT, Run, curve, file_names, flags, prediction_files, weights, write_small_squad

from squadlib.console import SquadError
from squadlib.training.checkpoints import OPTIMIZER_FILE, STATE_FILE, check_checkpoint, newest_checkpoint

VARIANTS = {
    "padding_free": "--gradient_accumulation_steps 2 --evaluate_during_training --num_train_epochs 3",
    "pad_to_max_length": "--pad_to_max_length --gradient_accumulation_steps 2 --num_train_epochs 2.5",
    "weight_decay": "--weight_decay 0.01 --warmup_steps 4 --max_steps 11 --logging_steps 2",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json")


def options(small, variant, *more):
    return flags(*VARIANTS[variant].split(), "--do_eval", "--predict_file", small, *more, train=small)


def same_bits(folder: Path, other: Path) -> bool:
    """Weights, prediction files, results and curve."""
    assert weights(folder / "out") == weights(other / "out")
    assert prediction_files(folder / "out") == prediction_files(other / "out")
    assert curve(folder / "runs") == curve(other / "runs")
    return True


@pytest.fixture(scope="module")
def unbroken(small, tmp_path_factory):
    """folder of a run that nothing disturbed, by variant; each is run once."""

    @functools.cache
    def folder_of(variant):
        folder = tmp_path_factory.mktemp(variant)
        run = Run(folder, *options(small, variant, "--save_steps", 2))
        assert run.wait() == 0, run.stderr
        return folder

    return folder_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_and_resumed_run_has_the_bits_of_an_unbroken_one(variant, small, unbroken, tmp_path):
    expected = unbroken(variant)
    argv = options(small, variant, "--save_steps", 2, "--resume")
    for step in (2, 6):  # an epoch has 5 updates, or 10 without accumulation
        run = Run(tmp_path, *argv)
        run.wait_for((tmp_path / f"out/checkpoint-{step}").is_dir)
        run.kill(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    run = Run(tmp_path, *argv)
    assert run.wait() == 0, run.stderr
    assert "Going on from out/checkpoint-" in run.stderr
    assert same_bits(expected, tmp_path)


def test_checkpoint_as_model_resumes_as_in_2020(small, unbroken, tmp_path):
    expected = unbroken("padding_free")
    shutil.copytree(expected / "out", tmp_path / "out")
    shutil.copytree(expected / "runs", tmp_path / "runs")
    for name in ("model.safetensors", "predictions_.json"):
        (tmp_path / "out" / name).unlink()
    model = ("--model_name_or_path", "out/checkpoint-6", "--overwrite_output_dir")
    run = Run(tmp_path, *options(small, "padding_free", "--save_steps", 0, *model))
    assert run.wait() == 0, run.stderr
    assert "Going on from out/checkpoint-6: 6 updates done" in run.stderr
    assert same_bits(expected, tmp_path)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_makes_a_checkpoint_at_the_next_step_and_says_how_to_go_on(number, small, unbroken, tmp_path):
    argv = options(small, "padding_free", "--resume")
    run = Run(tmp_path, *argv)
    run.wait_for(lambda: "step 2:" in run.stderr)
    run.kill(number)
    assert run.wait() == 128 + number, run.stderr
    assert "the same command with --resume goes on" in run.stderr and "Traceback" not in run.stderr
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    assert check_checkpoint(str(folder))["global_step"] == int(folder.name.split("-")[1])
    run = Run(tmp_path, *argv)
    assert run.wait() == 0, run.stderr
    expected = unbroken("padding_free")
    assert weights(tmp_path / "out") == weights(expected / "out")
    assert curve(tmp_path / "runs") == curve(expected / "runs")


def slow_steps() -> None:
    from squadlib.training import optimisation

    loss_of = optimisation.window_loss

    def window_loss(*args):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.01)
        return loss_of(*args)

    optimisation.window_loss = window_loss


def test_second_signal_quits_at_once(small, tmp_path):
    run = Run(tmp_path, *flags(train=small), hook=slow_steps)
    run.wait_for(lambda: "Total optimization steps" in run.stderr)
    time.sleep(0.5)
    run.kill(signal.SIGTERM)
    run.wait_for(lambda: "once more quits at once" in run.stderr)
    started = time.monotonic()
    run.kill(signal.SIGTERM)
    assert run.wait() == 143, run.stderr
    assert time.monotonic() - started < 4
    assert not file_names(tmp_path / "out") and "Traceback" not in run.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Which checkpoint is taken
# ---------------------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def change_a_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"global_step": 6', '"global_step": 5'))


MODEL = "model.safetensors"
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


def test_two_runs_in_one_folder_are_told_apart(small, tmp_path):
    first = Run(tmp_path, *flags(train=small), hook=slow_steps)
    first.wait_for(lambda: "Total optimization steps" in first.stderr)
    (tmp_path / "second").mkdir()
    second = Run(tmp_path / "second", *flags("--overwrite_output_dir", train=small, out=tmp_path / "out"))
    assert second.wait() == 1
    assert "another run is writing here" in second.stderr and "Traceback" not in second.stderr
    first.kill(signal.SIGKILL)
    first.wait()


def test_checkpoint_of_other_data_is_refused_with_the_way_out(unbroken, tmp_path):
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-2", tmp_path / "checkpoint-2")
    run = Run(tmp_path, *flags("--model_name_or_path", "checkpoint-2", train=MINI_SQUAD))
    assert run.wait() == 1
    assert "was made from other data or window settings, " in run.stderr and f"delete its {STATE_FILE}" in run.stderr
    (tmp_path / "checkpoint-2" / STATE_FILE).unlink()
    run = Run(tmp_path, *flags("--model_name_or_path", "checkpoint-2", "--max_steps", 1, train=MINI_SQUAD))
    assert run.wait() == 0, run.stderr


def test_flags_that_changed_since_the_checkpoint_are_said(small, unbroken, tmp_path):
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-2", tmp_path / "out/checkpoint-2")
    changes = ("--resume", "--learning_rate", "2e-5", "--warmup_steps", "1", "--max_steps", "3")
    run = Run(tmp_path, *options(small, "padding_free", *changes))
    assert run.wait() == 0, run.stderr
    before = json.loads((tmp_path / "out/checkpoint-2/training_args.json").read_text())["learning_rate"]
    expected = f"was made with learning_rate {before} (now 2e-05), warmup_steps 0 (now 1); the new values hold from"
    assert expected in run.stderr


def test_a_flag_that_changes_the_moments_is_named(small, unbroken, tmp_path):
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-2", tmp_path / "out/checkpoint-2")
    run = Run(tmp_path, *options(small, "padding_free", "--resume", "--weight_decay", "0.01"))
    assert run.wait() == 1 and "Traceback" not in run.stderr
    assert "has another shape, as it was made with weight_decay 0.0 (now 0.01); resume with what it had" in run.stderr


def test_state_holds_what_the_promise_names(unbroken):
    folder = unbroken("padding_free") / "out/checkpoint-6"
    state = json.loads((folder / STATE_FILE).read_text())
    assert {"global_step", "epoch", "update", "plan", "run_dir", "world", "files", "digest"} <= set(state)
    from safetensors import safe_open

    with safe_open(folder / OPTIMIZER_FILE, "np") as file:
        names = set(file.keys())
    assert {"rng.0.cpu", "epoch_rng", "exp_avg.qa_outputs.weight", "step.qa_outputs.weight"} <= names
    assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
