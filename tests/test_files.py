"""Files are whole or untouched."""

from __future__ import annotations

import json

import pytest

from squadlib.files import atomic_write, write_json


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
