"""The range of packages that is declared is the range whose ends were run."""

from __future__ import annotations

import re

from conftest import ROOT


def test_the_ends_of_requirements_are_those_that_versions_sh_runs():
    requirements = (ROOT / "requirements.txt").read_text()
    ends = re.search(r"^ENDS=\((.*)\)$", (ROOT / "tests" / "versions.sh").read_text(), re.M)[1].split()
    oldest, newest = (end.split(":")[1:] for end in ends)
    for name, low, high in zip(("torch", "transformers"), oldest, newest, strict=True):
        least, below = re.search(rf"^{name}>=([\d.]+),<([\d.]+)$", requirements, re.M).groups()
        assert low.removesuffix(".0") == least.removesuffix(".0")
        minor = ".".join(high.split(".")[:2])
        major, number = minor.split(".")
        assert below == f"{major}.{int(number) + 1}"
