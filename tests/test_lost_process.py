"""One of two processes is killed: the other ends with one sentence, and a resume has the bits of an unbroken run."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT
from processes import Run, curve, flags, prediction_files, weights, write_small_squad
from several_processes import assert_all_done, free_port, start_ranks

LOST = "another process of this run ended; its own message says why"


class Dies:
    """SIGKILL of one rank at the n-th call of a function, `os.fsync` for example."""

    def __init__(self, rank: int, function: str, n: int) -> None:
        self.rank, self.function, self.n, self.calls = rank, function, n, 0

    def __call__(self) -> None:
        if int(os.environ["RANK"]) != self.rank:
            return
        module_name, name = self.function.rsplit(".", 1)
        module = importlib.import_module(module_name)
        setattr(module, name, functools.partial(self.counted, getattr(module, name)))

    def counted(self, function, *args, **kwargs):
        self.calls += 1
        if self.calls == self.n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json")


def command(data):
    argv = flags("--do_eval", "--predict_file", data, "--evaluate_during_training", "--resume", train=data)
    return [*argv, "--per_gpu_train_batch_size", 2, "--num_train_epochs", 2, "--save_steps", 2]


@pytest.fixture(scope="module")
def unbroken(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    runs = start_ranks(folder, *command(small))
    assert_all_done(runs)
    return folder


@pytest.mark.parametrize(
    ("rank", "function", "n"),
    [
        (1, "torch.distributed.all_reduce", 4),  # in a step
        (0, "torch.distributed.all_reduce", 4),
        (0, "os.fsync", 25),  # in a save, where the other waits for its end
        (1, "torch.distributed.gather_object", 3),  # in an evaluation
        (0, "os.rename", 1),  # before its first checkpoint has its name
    ],
)
def test_the_other_process_ends_and_a_resume_has_the_bits_of_an_unbroken_run(
    rank, function, n, small, unbroken, tmp_path
):
    runs = start_ranks(tmp_path, *command(small), hook=Dies(rank, function, n))
    assert runs[rank].wait() == -signal.SIGKILL, runs[rank].stderr
    other = runs[1 - rank]
    assert other.wait(60) == 1, other.stderr
    assert LOST in other.stderr and "Traceback" not in other.stderr
    runs = start_ranks(tmp_path, *command(small))
    assert_all_done(runs)
    assert weights(tmp_path / "out") == weights(unbroken / "out")
    assert prediction_files(tmp_path / "out") == prediction_files(unbroken / "out")
    assert curve(tmp_path / "runs") == curve(unbroken / "runs")


def test_a_process_that_waits_for_one_that_never_came_ends_when_it_is_told_to(small, tmp_path):
    """It waits inside torch, where Python's own handler of a signal would not be called for half an hour."""
    port = free_port()
    environment = {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run = Run(tmp_path, *command(small), env=environment)
    run.wait_for(lambda: listens(port))
    run.kill(signal.SIGTERM)
    assert run.wait(60) == -signal.SIGTERM


def listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


DYING = """
import os, signal, sys
from squadlib.console import SquadError, run_and_exit, script_main

class Bar:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # where Python calls the handler
            pass

@script_main
def main(argv=None):
    bar = Bar()
    raise SquadError("another process ended")

run_and_exit(main)
"""


def test_the_launchers_signal_while_the_end_is_told_makes_no_traceback():
    """A progress bar goes with the frames of the error, and SystemExit cannot leave its __del__."""
    done = subprocess.run([sys.executable, "-c", DYING], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "another process ended\n")
