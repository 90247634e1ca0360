"""Two and four processes train, evaluate, save, resume and stop as one does. They are started as torchrun does it."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT
from processes import Run, eval_flags, flags, one_sentence, prediction_files, same_bits, weights, write_small_squad
from several_processes import assert_all_done, free_port, losses, make_calm_bert, start_ranks

from squadlib.console import SquadError
from squadlib.training.checkpoints import check_checkpoint
from squadlib.training.fine_tuning import log_start
from squadlib.training.processes import Processes, start_processes

TOLERANCE = 1e-5  # relative; sums in another order differ by float32 rounding, 6e-8 an operation


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json", 15)


@pytest.fixture(scope="module")
def calm_bert(tmp_path_factory):
    return make_calm_bert(tmp_path_factory.mktemp("model") / "calm")


def assert_close(folder, other):
    ours, theirs = losses(folder), losses(other)
    assert ours.keys() == theirs.keys() and len(ours) == 6
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=TOLERANCE), step
    ours, theirs = weights(folder / "out"), weights(other / "out")
    no_gradient = ("key.bias", "qa_outputs.bias")  # a softmax cancels them: Adam follows the rounding alone
    for name, bits in ours.items():
        if name.endswith(no_gradient):
            continue
        difference = np.abs(np.frombuffer(bits, np.float32) - np.frombuffer(theirs[name], np.float32)).max()
        assert difference < 1e-4, name


def command(small, model, world):
    """45 windows, 8 a micro-batch of all processes; the last update of an epoch has one such and one of 5.

    Of these 5 two processes have 3 and 2, four have 2, 2, 1 and none.
    """
    argv = flags("--do_eval", "--predict_file", small, "--evaluate_during_training", model=model, train=small)
    argv += ["--gradient_accumulation_steps", 4, "--num_train_epochs", 3, "--save_steps", 3]
    return [*argv, "--per_gpu_train_batch_size", 8 // world]


@pytest.fixture(scope="module")
def trained(small, calm_bert, tmp_path_factory):
    """By the number of processes, the folder of a finished run."""

    @functools.cache
    def train(world):
        folder = tmp_path_factory.mktemp(f"trained_by_{world}")
        assert_all_done(start_ranks(folder, *command(small, calm_bert, world), world=world))
        return folder

    return train


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_train_like_one_with_their_batches_together(world, trained):
    assert_close(trained(world), trained(1))


def test_only_rank_0_writes_and_reports(trained):
    folder = trained(4)
    logs = [(folder / f"rank{rank}/stderr").read_text() for rank in range(4)]
    assert "Results: " in logs[0] and not "".join(logs[1:])
    assert (folder / "rank0/stdout").read_text().startswith('{"exact"')
    assert not any((folder / f"rank{rank}/stdout").read_text() for rank in (1, 2, 3))
    assert len(list((folder / "runs").iterdir())) == 1
    assert check_checkpoint(str(folder / "out/checkpoint-6"))["world"] == 4


def test_libraries_say_nothing(trained):
    lines = (trained(4) / "rank0/stderr").read_text().splitlines()
    assert not [line for line in lines if " - run_squad - " not in line]


def with_an_unused_parameter() -> None:
    """As XLNet's mask embedding: the loss gives it no gradient."""
    from squadlib.training import fine_tuning

    load = fine_tuning.load_model

    def load_model(*args, **options):
        model = load(*args, **options)
        model.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
        return model

    fine_tuning.load_model = load_model


def test_parameter_without_gradient_stays_as_it_is(small, calm_bert, tmp_path):
    runs = []
    for world in (1, 2):
        argv = [*command(small, calm_bert, world), "--weight_decay", 0.1, "--num_train_epochs", 2]
        runs += start_ranks(tmp_path / str(world), *argv, world=world, hook=with_an_unused_parameter)
    assert_all_done(runs)
    ours, theirs = losses(tmp_path / "2"), losses(tmp_path / "1")
    assert ours == pytest.approx(theirs, rel=TOLERANCE) and len(ours) == 4
    for run in runs[:2]:
        assert np.frombuffer(weights(run.folder / "out")["unused"], np.float32).tolist() == [1, 1, 1]
        assert not [line for line in run.stderr.splitlines() if " - run_squad - " not in line]


def nobody_wraps_the_model_any_more() -> None:
    """At the end: a wrapper that outlives the group of processes waits forever for it, about one time in seven."""
    import gc

    import torch.distributed
    from torch.nn.parallel import DistributedDataParallel

    destroy = torch.distributed.destroy_process_group

    def destroy_process_group():
        assert not [thing for thing in gc.get_objects() if isinstance(thing, DistributedDataParallel)]
        destroy()

    torch.distributed.destroy_process_group = destroy_process_group


def test_processes_do_not_wait_for_each_other_at_the_end(small, tmp_path):
    argv = flags("--max_steps", 2, train=small)
    assert_all_done(start_ranks(tmp_path, *argv, hook=nobody_wraps_the_model_any_more))


@pytest.mark.parametrize("world", [2, 4])
def test_sharded_evaluation_writes_the_bytes_of_one_process(world, trained, small, tmp_path):
    argv = eval_flags(trained(1) / "out", small)
    runs = start_ranks(tmp_path, *argv, world=world, hook=blocks_of_three)
    assert_all_done(runs)
    files = prediction_files(trained(1) / "out")
    assert len(files) == 4 and prediction_files(tmp_path / "out") == files


def sees_no_checkpoints() -> None:
    """Rank 1, as on a machine with a disk of its own."""
    from squadlib.training import fine_tuning

    if os.environ["RANK"] == "1":
        fine_tuning.list_checkpoints = lambda folder: []


def test_a_machine_that_sees_no_checkpoints_scores_those_of_the_first(trained, small, tmp_path):
    shutil.copytree(trained(2) / "out/checkpoint-3", tmp_path / "out/checkpoint-3")
    argv = eval_flags(trained(2) / "out", small, "--eval_all_checkpoints")
    runs = start_ranks(tmp_path, *argv, hook=sees_no_checkpoints)
    assert_all_done(runs)
    assert {"f1", "f1_3"} <= json.loads(runs[0].stdout).keys()


def blocks_of_three() -> None:
    from squadlib.training import evaluation

    evaluation.DECODE_BLOCK = 3


@pytest.mark.parametrize(("before", "world"), [(2, 2), (4, 4), (2, 1), (2, 4), (4, 2)])
def test_resume_with_the_same_or_another_number_of_processes(before, world, trained, small, calm_bert, tmp_path):
    for name in ("out/checkpoint-3", "runs"):
        shutil.copytree(trained(before) / name, tmp_path / name)
    runs = start_ranks(tmp_path, *command(small, calm_bert, world), "--resume", world=world)
    assert_all_done(runs)
    assert "Going on from out/checkpoint-3" in runs[0].stderr
    if world == before:
        assert same_bits(tmp_path, trained(before))
    else:
        assert_close(tmp_path, trained(1))


@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_process_stops_all_at_one_step(rank, small, tmp_path):
    runs = start_ranks(tmp_path, *flags("--num_train_epochs", 30, train=small))
    runs[0].wait_for(lambda: "step 3:" in runs[0].stderr)
    runs[rank].kill(signal.SIGTERM)
    assert [run.wait() for run in runs] == [143, 143], [run.stderr for run in runs]
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    check_checkpoint(str(folder))


@pytest.mark.parametrize("rank", [0, 2])
def test_end_of_one_process_ends_the_others_with_one_sentence(rank, small, tmp_path):
    runs = start_ranks(tmp_path, *flags("--num_train_epochs", 30, train=small), world=4)
    runs[0].wait_for(lambda: "step 3:" in runs[0].stderr)
    runs.pop(rank).kill(signal.SIGKILL)
    assert [run.wait() for run in runs] == [1, 1, 1]
    for run in runs:
        assert one_sentence(run.stderr) == "another process of this run ended; its own message says why"


class Differs:
    """Rank 1 has another learning rate, or one question less in its file."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self):
        import run_squad

        if os.environ["RANK"] == "1":
            name, change = ("run", self.run) if self.flag else ("load_examples", self.load_examples)
            setattr(run_squad, name, functools.partial(change, getattr(run_squad, name)))

    def run(self, run, args, *rest):
        setattr(args, self.flag, 0.5)
        return run(args, *rest)

    def load_examples(self, load, *args, **options):
        return load(*args, **options)[:-1]


@pytest.mark.parametrize(
    ("flag", "told"),
    [("learning_rate", "--learning_rate 0.5 and process 0 0.001"), (None, r"windows \w+ and process 0 \w+")],
)
def test_a_process_with_other_flags_or_data_is_told_before_the_first_step(flag, told, small, tmp_path):
    runs = start_ranks(tmp_path, *flags("--weight_decay", 0.1, train=small), hook=Differs(flag))
    for run in runs:
        assert run.wait() == 1, run.stderr
        assert re.match(f"process 1 has {told}; every process needs the same", one_sentence(run.stderr))
    assert not (tmp_path / "runs").exists()


def test_environment_without_other_processes_is_explained(small, tmp_path):
    for environment in ({"WORLD_SIZE": 2}, {"WORLD_SIZE": "two"}):
        run = Run(tmp_path, *flags(train=small), env=environment)
        assert run.wait() == 1
        assert "start them with torchrun, or unset WORLD_SIZE" in run.stderr and "Traceback" not in run.stderr


def test_machines_that_do_not_reach_each_other_are_told_what_to_set(monkeypatch):
    """A machine whose name stands for 127.0.0.1 gives the others that address."""
    for name, value in {"WORLD_SIZE": 4, "RANK": 2, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))

    def init_process_group(*args, **options):
        raise RuntimeError("connection refused, remote=[127.0.0.1]:23436")

    monkeypatch.setattr("torch.distributed.init_process_group", init_process_group)
    with pytest.raises(SquadError, match=r"refused.*: start torchrun on each .* set GLOO_SOCKET_IFNAME \(GPUs: NCCL_"):
        start_processes(-1, True)


def test_the_command_that_is_kept_names_the_machines(monkeypatch):
    def command(world):
        return log_start(["--do_train"], Processes(0, world, torch.device("cpu")), 42).splitlines()[0]

    assert command(1).startswith("python run_squad.py")
    assert command(4).startswith("torchrun --nproc_per_node=4 run_squad.py")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert command(4).startswith("torchrun --nnodes=2 --nproc_per_node=2 run_squad.py")


def test_torchrun_on_two_machines_hands_a_signal_on(small, tmp_path):
    """The real launcher, with the command of two machines: SIGTERM to one of them is a checkpoint of both."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    launcher += ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    argv = [str(ROOT / "run_squad.py"), *flags("--resume", "--num_train_epochs", 500, train=small)]
    machines = []
    for number in (0, 1):
        with open(tmp_path / f"log{number}", "w") as log:
            command = [*launcher, f"--node_rank={number}", *argv]
            machines.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
    while "step 3:" not in (text := (tmp_path / "log0").read_text()):
        assert [machine.poll() for machine in machines] == [None, None], text
        time.sleep(0.01)
    machines[1].send_signal(signal.SIGTERM)
    assert all(machine.wait(60) for machine in machines)
    text = (tmp_path / "log0").read_text()
    assert re.search(r"stopped at step \d+; the same command with --resume goes on", text), text
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    check_checkpoint(str(folder))
    assert not list((tmp_path / "out").glob("*.tmp"))


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine with four GPUs, as far as start_processes can see."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def test_one_process_on_several_gpus_says_how_to_use_them_all(four_gpus, caplog):
    assert start_processes(-1, False).device.index == 0
    assert "4 GPUs, one is used; for all of them: torchrun --nproc_per_node=4 run_squad.py" in caplog.text


def test_more_processes_than_gpus_is_one_sentence(four_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(SquadError, match="process 4 has no GPU of its own; use --nproc_per_node=4"):
        start_processes(-1, False)
