"""What a run leaves on the disk: permissions, room for it, and no half removed checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import stat
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from processes import Run, flags, write_small_squad

import run_squad
from squadlib.console import SquadError
from squadlib.files import atomic_write, check_output_path
from squadlib.model.loading import load_config, load_model
from squadlib.training.checkpoints import (
    check_space,
    list_checkpoints,
    newest_checkpoint,
    no_room,
    state_digest,
)

TINY_BERT = str(ROOT / "tests" / "golden" / "tiny_bert")
GIGABYTE = 10**9


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def umask_022():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_replaced_file_keeps_its_mode_and_a_new_one_has_the_umasks(tmp_path, umask_022):
    for name, before, after in ("new.json", None, 0o644), ("shared.json", 0o640, 0o640), ("open.json", 0o666, 0o666):
        path = tmp_path / name
        if before:
            path.write_text("old")
            path.chmod(before)
        with atomic_write(str(path)) as out:
            out.write("new")
        assert (path.read_text(), mode(path)) == ("new", after)


def test_a_device_or_pipe_is_no_output_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    faults: list[str] = []
    check_output_path(str(tmp_path / "pipe"), faults, "--output_file")
    assert faults == [f"--output_file {tmp_path}/pipe is a device or pipe; name a file"]


def test_weights_can_be_read_by_whom_other_files_can(tmp_path, umask_022):
    small = write_small_squad(tmp_path / "small.json")
    run = Run(tmp_path, *flags("--max_steps", 2, "--save_steps", 2, train=small))
    assert run.wait() == 0, run.stderr
    out = tmp_path / "out"
    assert {mode(path) for path in [*out.glob("*.*"), *out.glob("checkpoint-2/*")] if path.is_file()} == {0o644}
    (out / "model.safetensors").chmod(0o640)
    run = Run(tmp_path, *flags("--max_steps", 1, "--overwrite_output_dir", train=small))
    assert run.wait() == 0, run.stderr
    assert mode(out / "model.safetensors") == 0o640


def die_while_removing():
    """Be killed when the first file of an old checkpoint is gone."""
    rmtree = shutil.rmtree

    def kill(path, *more, **options):
        if "checkpoint-1" in str(path) and os.path.isfile(os.path.join(path, "config.json")):
            os.unlink(os.path.join(path, "config.json"))
            if not str(path).endswith("checkpoint-1.tmp"):
                os._exit(9)
        return rmtree(path, *more, **options)

    shutil.rmtree = kill


def test_killed_inside_the_removal_of_an_old_checkpoint_leaves_no_half_one(tmp_path):
    small = write_small_squad(tmp_path / "small.json")
    more = ["--save_steps", 1, "--save_total_limit", 1, "--do_eval", "--predict_file", small, "--eval_all_checkpoints"]
    run = Run(tmp_path, *flags("--max_steps", 2, *more, train=small), hook=die_while_removing)
    assert run.wait() == 9, run.stderr
    assert [step for step, _ in list_checkpoints(str(tmp_path / "out"))] == [2]
    assert newest_checkpoint(str(tmp_path / "out")).endswith("checkpoint-2")
    run = Run(tmp_path, *flags("--max_steps", 3, "--resume", *more, train=small))
    assert run.wait() == 0, run.stderr
    assert {path.name for path in (tmp_path / "out").glob("checkpoint*")} == {"checkpoint-3"}


@pytest.fixture(scope="module")
def model():
    return load_model(TINY_BERT, load_config(TINY_BERT))


@pytest.mark.parametrize(
    ("steps", "limit", "copies"), [([], 0, 1), ([5, 10, 15], 0, 4), ([5, 10, 15], 1, 3), ([5], 3, 2)]
)
def test_a_run_that_will_not_fit_is_refused_before_it_starts(tmp_path, monkeypatch, model, steps, limit, copies):
    size = sum(parameter.numel() * 4 for parameter in model.state_dict().values())
    checkpoint = size + 8 * 1000
    need = size + (copies - 1) * checkpoint
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=need))
    check_space(str(tmp_path), model, 1000, steps, limit)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=need - 1))
    with pytest.raises(SquadError, match=f"the model and {copies - 1} checkpoints need"):
        check_space(str(tmp_path), model, 1000, steps, limit)


def test_checkpoints_that_stand_already_need_no_room(tmp_path, monkeypatch, model):
    (tmp_path / "checkpoint-5").mkdir()
    size = sum(parameter.numel() * 4 for parameter in model.state_dict().values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))
    check_space(str(tmp_path), model, 1000, [5], 0)


def test_no_room_is_told_before_the_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert run_squad.main(flags("--max_steps", 1)) == 1
    assert "free some or name an --output_dir on another disk" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out/model.safetensors").exists()


@pytest.mark.parametrize(
    ("steps", "limit", "advice"),
    [
        ([5, 10], 0, "free some, raise --save_steps or set --save_total_limit 1"),
        ([5, 10], 1, "free some or raise --save_steps"),
        ([], 0, "free some or name an --output_dir on another disk"),
    ],
)
def test_no_room_gives_no_advice_that_was_followed_already(tmp_path, monkeypatch, model, steps, limit, advice):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(SquadError) as error:
        check_space(str(tmp_path), model, 1000, steps, limit)
    assert str(error.value).endswith(f" are free; {advice}")


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000))
    error = no_room(str(tmp_path / "optimizer.pt"), [torch.zeros(500_000)], OSError("No space left on device"))
    assert "it needs 2.0 MB, 1.5 MB are free; free some, then run the same command again" in str(error)


def test_a_state_whose_keys_are_in_another_order_is_the_same():
    assert state_digest({"step": 5, "epoch": 1}) == state_digest({"epoch": 1, "digest": "old", "step": 5})
    assert state_digest({"step": 5}) != state_digest({"step": 6})


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
def test_a_model_folder_chooses_no_code(tmp_path, key):
    shutil.copytree(TINY_BERT, tmp_path / "model")
    config_file = tmp_path / "model" / "config.json"
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps({**config, key: "kernels-community/flash-attn"}))
    loaded = load_model(str(tmp_path / "model"), load_config(str(tmp_path / "model")))
    assert loaded.config._attn_implementation == "sdpa"


def test_quantised_weights_are_refused_in_one_sentence(tmp_path):
    shutil.copytree(TINY_BERT, tmp_path / "model")
    config_file = tmp_path / "model" / "config.json"
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), **quantised}))
    with pytest.raises(SquadError, match="its weights are quantised and cannot be trained"):
        load_config(str(tmp_path / "model"))
