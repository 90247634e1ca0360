"""Several processes of run_squad.py, started as torchrun starts them but without its launcher."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
from processes import TINY_BERT, Run, curve


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_ranks(folder: Path, *argv: object, world: int = 2, hook: Callable[[], None] | None = None) -> list[Run]:
    """All ranks in one folder, each with its log in rank0, rank1, … hook: called in each of them before its main."""
    shared = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        Run(folder, *argv, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, hook=hook, logs=folder / f"rank{rank}")
        for rank in range(world)
    ]


def assert_all_done(runs: list[Run]) -> None:
    assert [run.wait() for run in runs] == [0] * len(runs), [run.stderr for run in runs]


def make_calm_bert(folder: Path) -> Path:
    """The tiny checkpoint without dropout, whose draws depend on the process."""
    shutil.copytree(TINY_BERT, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def losses(folder: Path) -> dict[int, float]:
    """The loss of each step that TensorBoard shows of the last run."""
    return {step: float(np.frombuffer(bits, np.float32)[0]) for step, bits in curve(folder / "runs")["loss"]}
