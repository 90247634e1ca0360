"""A power cut at any moment of a save leaves the old or the new one. Crash states are made by tests/crash_states.py."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from crash_states import Disk, record

import evaluate_v2
from squadlib.files import atomic_write, write_json
from squadlib.model.prediction import PredictionFiles
from squadlib.training.checkpoints import (
    check_checkpoint,
    list_checkpoints,
    load_checkpoint,
    locked_output_dir,
    newest_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
    save_final_model,
)
from squadlib.translation.cache import Cache


class Part:
    """A model or tokenizer as far as saving one goes: files whose content names the version."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def save_pretrained(self, folder: str) -> None:
        for name, content in self.files.items():
            with open(os.path.join(folder, name.replace("__", ".")), "w") as out:
                out.write(content)

    def state_dict(self) -> dict:
        return {}


def model(version: str, config: str = "one") -> Part:
    return Part(config__json=f"config {config}", model__safetensors=f"weights {version} for config {config}")


def tokenizer(config: str = "one") -> Part:
    return Part(tokenizer__json=f"tokenizer {config}")


def save(output_dir, step: int, version: str = "a", started: float = 1.0) -> None:
    state = {"global_step": step, "started": started, "version": version}
    tensors = {"moment": torch.full((64,), float(step))}
    save_checkpoint(str(output_dir / f"checkpoint-{step}"), model(version), tokenizer(), {"seed": 1}, state, tensors)


def restart(output_dir) -> dict | None:
    """The state of the checkpoint that the next run would go on from. What is loaded must be what was saved."""
    with locked_output_dir(str(output_dir)):
        folder = newest_checkpoint(str(output_dir))
        for _, path in list_checkpoints(str(output_dir)):
            check_checkpoint(path)  # no damaged one bears the name of a checkpoint
    if folder is None:
        return None
    state, tensors = load_checkpoint(folder)
    assert torch.equal(tensors["moment"], torch.full((64,), float(state["global_step"])))
    with open(os.path.join(folder, "model.safetensors")) as file:
        assert file.read() == f"weights {state['version']} for config one"
    return state


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Does something to a folder, returns the disk that recorded it. before: brings the folder into its old state."""

    def run(before, action):
        folder = tmp_path / "disk"
        folder.mkdir()
        before(folder)
        disk = Disk(folder)
        with monkeypatch.context() as patch:
            record(disk, patch)
            action(folder, disk)
            disk.look()
        return disk

    return run


# --- one file --------------------------------------------------------------------------------------------------------


def write_in_parts(path, disk, parts) -> None:
    with atomic_write(path) as out:
        for part in parts:
            out.write(part)
            out.flush()
            disk.look()


def write_at_once(path, disk, parts) -> None:
    evaluate_v2.write_file(path, "".join(parts).encode())


@pytest.mark.parametrize("write", [write_in_parts, write_at_once])
@pytest.mark.parametrize("old", ["old " * 1000, None])
def test_an_atomically_written_file_is_old_or_new_and_new_once_it_was_said(write, old, recorded, tmp_path):
    parts = [f"new {number} " * 500 for number in range(3)]

    def before(folder):
        if old is not None:
            (folder / "file.json").write_text(old)

    def action(folder, disk):
        write(str(folder / "file.json"), disk, parts)
        disk.mark("written")

    new = "".join(parts)
    seen = set()
    for state in recorded(before, action).states(12, tmp_path):
        path = state.folder / "file.json"
        content = path.read_text() if path.exists() else None
        assert content in ((new,) if state.promised else (old, new)), state
        seen.add(content)
    assert seen == {old, new}


def test_prediction_files_are_each_old_or_new(recorded, tmp_path):
    names = ("predictions_.json", "nbest_predictions_.json", "null_odds_.json")

    def before(folder):
        for name in names:
            write_json(str(folder / name), {"old": name})

    def action(folder, disk):
        with PredictionFiles(str(folder)):
            disk.look()
        disk.mark("written")

    disk = recorded(before, action)
    new = {name: (disk.folder / name).read_text() for name in names}
    for state in disk.states(4, tmp_path):
        for name in names:
            content = (state.folder / name).read_text()
            assert content == new[name] or (not state.promised and json.loads(content) == {"old": name}), state


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_old_or_new_and_new_once_it_was_said(recorded, tmp_path):
    def action(folder, disk):
        save(folder, 4)
        disk.mark("4")
        remove_old_checkpoints(str(folder), 4, 1)
        save(folder, 6)
        disk.mark("6")
        remove_old_checkpoints(str(folder), 6, 1)

    steps = []
    for state in recorded(lambda folder: save(folder, 2), action).states(6, tmp_path):
        found = restart(state.folder)
        assert found and found["global_step"] >= max(map(int, state.promised), default=2), state
        steps.append(found["global_step"])
    assert set(steps) == {2, 4, 6} and len(steps) >= 200


def test_a_checkpoint_in_the_place_of_an_earlier_one_is_old_or_new(recorded, tmp_path):
    """Between its going away and the other's coming there was neither."""

    def action(folder, disk):
        save(folder, 4, "b")
        disk.mark("b")

    versions = []
    for state in recorded(lambda folder: save(folder, 4, "a"), action).states(8, tmp_path):
        found = restart(state.folder)
        assert found and found["version"] in (state.promised or "ab"), state
        versions.append(found["version"])
    assert set(versions) == {"a", "b"}


def test_the_first_checkpoint_of_a_new_output_dir_is_there_once_it_was_said(recorded, tmp_path):
    def action(folder, disk):
        with locked_output_dir(str(folder / "deep" / "out")):
            save(folder / "deep" / "out", 2)
            disk.mark("saved")

    for state in recorded(lambda folder: None, action).states(6, tmp_path):
        found = restart(state.folder / "deep" / "out")
        assert found or not state.promised, state


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["one", "two"])
def test_a_final_model_is_old_or_new_or_noticed(config, recorded, tmp_path):
    """Over a model of the same configuration it is old or new; over another's there may be no weights, and no mix."""

    def before(folder):
        save_final_model(str(folder), model("a"), tokenizer(), {"version": "a"})

    def action(folder, disk):
        save_final_model(str(folder), model("b", config), tokenizer(config), {"version": "b"})
        disk.mark("saved")

    seen = set()
    for state in recorded(before, action).states(8, tmp_path):
        names = ("model.safetensors", "config.json", "tokenizer.json", "training_args.json")
        texts = [(state.folder / name).read_text() for name in names if (state.folder / name).exists()]
        if not texts[0].startswith("weights"):
            assert config == "two" and not state.promised, state
            seen.add("none")
            continue
        weights, *others = texts
        version, of = weights.split()[1], weights.split()[-1]
        assert others[:2] == [f"config {of}", f"tokenizer {of}"], state
        assert version == "b" or not state.promised
        if version == "b":
            assert json.loads(others[2]) == {"version": "b"}, state
        seen.add(version)
    assert seen == ({"a", "b"} if config == "one" else {"a", "b", "none"})


# --- translations ----------------------------------------------------------------------------------------------------


def test_the_cache_waits_for_the_disk(tmp_path):
    """SQLite's own writes are recorded and replayed by benchmarks/power_cut.py."""
    cache = Cache(str(tmp_path / "cache.sqlite"), "mtranslate", "en", "nl")
    settings = [cache.database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]
    cache.put({"cat": "kat"})
    for name in ("cache.sqlite", "cache.sqlite-wal"):  # a cut behind put(): the index, -shm, is made anew
        shutil.copy(tmp_path / name, tmp_path / f"after-{name}")
    assert Cache(str(tmp_path / "after-cache.sqlite"), "mtranslate", "en", "nl").get(["cat"]) == {"cat": "kat"}
