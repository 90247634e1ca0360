"""Files are whole or untouched."""

from __future__ import annotations

import json
import os

import pytest

from squadlib.console import SquadError
from squadlib.files import (
    atomic_write,
    check_output_dir,
    check_output_path,
    read_json,
    temporary_folder,
    write_json,
)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_json(str(path), {"exact": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(str(path), {"exact": float("nan")})
    with pytest.raises(RuntimeError), atomic_write(str(path)) as out:
        out.write("half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_no_errors_are_swallowed_by_the_shared_writer(tmp_path):
    path = tmp_path / "x.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(ValueError):
        write_json(str(path), {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_bytes_are_written_as_they_are(tmp_path):
    with atomic_write(str(tmp_path / "plot.png"), "wb") as out:
        out.write(b"\xff\r\n")
    assert (tmp_path / "plot.png").read_bytes() == b"\xff\r\n"


def test_places_that_cannot_be_written_to_are_told_before_the_work(tmp_path, monkeypatch):
    faults, folder = [], str(tmp_path)
    check_output_path(f"{folder}/new.json", faults, "--out")
    check_output_dir(f"{folder}/new/folder", faults)
    assert faults == []
    for path in (folder, "/dev/null", f"{folder}/none/x.json"):
        check_output_path(path, faults, "--out")
    (tmp_path / "file").touch()
    check_output_dir(f"{folder}/file/folder", faults)
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder)
    check_output_path(f"{folder}/x.json", faults, "--out")
    check_output_dir(f"{folder}/x", faults)
    assert faults == [
        f"--out {folder} is a folder; name a file",
        "--out /dev/null is a device or pipe; name a file",
        f"--out {folder}/none/x.json: folder {folder}/none does not exist; make it first",
        f"--output_dir {folder}/file/folder: {folder}/file is a file; name a folder",
        f"--out {folder}/x.json: folder {folder} is not writable",
        f"--output_dir {folder}/x: {folder} is not writable; name another folder",
    ]


@pytest.mark.parametrize(("text", "cut"), [('{"a": [1', True), ('{"a": "b', True), ("[1 2]", False)])
def test_only_a_file_that_ends_too_early_is_said_to_be_cut_off(text, cut, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SquadError, match="not valid JSON") as error:
        read_json(str(tmp_path / "x.json"))
    assert ("cut off" in str(error.value)) == cut


def test_temporary_folder_is_new_and_goes(tmp_path):
    folder = tmp_path / "x.tmp"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(RuntimeError), temporary_folder(str(folder)):
        assert not list(folder.iterdir())
        (folder / "half").touch()
        raise RuntimeError
    assert not folder.exists()
