"""Damaged files: 500 mutants for each reader; `python benchmarks/fuzz.py` is the long run."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from fuzz import READERS


@pytest.mark.parametrize("reader", READERS)
def test_mutant_is_refused_in_one_sentence_or_read_as_what_it_says(reader, tmp_path):
    counts = READERS[reader](500, tmp_path)
    assert counts["mutants"] == 500 and counts["refused"] >= 50
