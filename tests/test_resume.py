"""A run that was stopped goes on with the bits of one that was not, or says why it cannot."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from processes import (
    MINI_SQUAD,
    VARIANTS,
    Run,
    flags,
    options,
    same_bits,
)

from squadlib.training.checkpoints import STATE_FILE


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
    changes = (
        "--resume",
        "--learning_rate",
        "2e-5",
        "--warmup_steps",
        "1",
        "--max_steps",
        "3",
        "--attention_dropout",
        "0",
    )
    run = Run(tmp_path, *options(small, "padding_free", *changes))
    assert run.wait() == 0, run.stderr
    before = json.loads((tmp_path / "out/checkpoint-2/training_args.json").read_text())["learning_rate"]
    expected = f"was made with learning_rate {before} (now 2e-05), warmup_steps 0 (now 1), attention_dropout None (now "
    assert expected + "0.0); the new values hold from" in run.stderr
    assert json.loads((tmp_path / "out/config.json").read_text())["attention_probs_dropout_prob"] == 0


def test_a_flag_that_changes_the_moments_is_named(small, unbroken, tmp_path):
    shutil.copytree(unbroken("padding_free") / "out/checkpoint-2", tmp_path / "out/checkpoint-2")
    run = Run(tmp_path, *options(small, "padding_free", "--resume", "--weight_decay", "0.01"))
    assert run.wait() == 1 and "Traceback" not in run.stderr
    assert "has another shape, as it was made with weight_decay 0.0 (now 0.01); resume with what it had" in run.stderr
