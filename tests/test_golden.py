"""The golden files belong to the texts and the recipe beside them: a change to one alone is noticed here."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys

from conftest import GOLDEN
from synthetic_logits import fingerprint, synthetic_logits


def read_lines(name):
    return [json.loads(line) for line in lzma.open(GOLDEN / name, "rt", encoding="utf-8")]


def test_mini_files_are_what_their_program_writes(tmp_path):
    shutil.copy(GOLDEN / "make_mini_squad.py", tmp_path)
    subprocess.run([sys.executable, "make_mini_squad.py"], cwd=tmp_path, check=True)
    for name in ("mini_squad.json", "quirks_squad.json", "tiny_bert/vocab.txt"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_synthetic_logits_are_those_that_the_old_library_decoded():
    for case in read_lines("decoding.jsonl.xz"):
        settings = "_".join(map(str, case["settings"]))
        windows = read_lines(f"windows_{settings}_dev{'_lower' * case['lower_vocab']}.jsonl.xz")
        tokens = [window["tokens"] for window in windows]
        logits = synthetic_logits(case["kind"], case["seed"], tokens, case["settings"][0])
        assert fingerprint(*logits) == case["logits_sha256"], case["kind"]
