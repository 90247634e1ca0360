"""Two processes train, evaluate, save, resume and stop as one does. The runs are started as torchrun starts them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from processes import TINY_BERT, Run, curve, flags, prediction_files, weights, write_small_squad

from squadlib.console import SquadError
from squadlib.training.checkpoints import check_checkpoint
from squadlib.training.processes import start_processes

TOLERANCE = 1e-5  # relative; sums in another order differ by float32 rounding, 6e-8 an operation


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json", 17)


@pytest.fixture(scope="module")
def calm_bert(tmp_path_factory):
    """The tiny checkpoint without dropout, whose draws depend on the process."""
    folder = tmp_path_factory.mktemp("model") / "calm"
    shutil.copytree(TINY_BERT, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def start_two(folder, *argv, hook=None):
    """Both processes of `torchrun --nproc_per_node=2 run_squad.py argv`; the second writes its log elsewhere."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    runs = []
    for rank in (0, 1):
        environment = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        runs.append(Run(folder, *argv, env=environment, hook=hook, logs=folder / f"rank{rank}"))
    return runs


def losses(folder):
    return {step: float(np.frombuffer(bits, np.float32)[0]) for step, bits in curve(folder / "runs")["loss"]}


def assert_close(folder, other):
    ours, theirs = losses(folder), losses(other)
    assert ours.keys() == theirs.keys() and len(ours) >= 8
    for step, loss in ours.items():
        assert loss == pytest.approx(theirs[step], rel=TOLERANCE), step
    ours, theirs = weights(folder / "out"), weights(other / "out")
    no_gradient = ("key.bias", "qa_outputs.bias")  # a softmax cancels them: Adam follows the rounding alone
    for name, bits in ours.items():
        if name.endswith(no_gradient):
            continue
        difference = np.abs(np.frombuffer(bits, np.float32) - np.frombuffer(theirs[name], np.float32)).max()
        assert difference < 1e-4, name


@pytest.fixture(scope="module")
def one_process(small, calm_bert, tmp_path_factory):
    """One process with twice the batch; the last update has left-over micro-batches, the last of them 1 window."""
    folder = tmp_path_factory.mktemp("one")
    run = Run(folder, *common(small, calm_bert), "--per_gpu_train_batch_size", 4)
    assert run.wait() == 0, run.stderr
    return folder


def common(small, model):
    argv = flags("--do_eval", "--predict_file", small, "--evaluate_during_training", model=model, train=small)
    return [*argv, "--gradient_accumulation_steps", "3", "--num_train_epochs", "2", "--save_steps", "3"]


@pytest.fixture(scope="module")
def two_processes(small, calm_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    runs = start_two(folder, *common(small, calm_bert), "--per_gpu_train_batch_size", 2)
    assert [run.wait() for run in runs] == [0, 0], [run.stderr for run in runs]
    return folder


def test_two_processes_train_like_one_with_twice_the_batch(one_process, two_processes):
    assert_close(two_processes, one_process)


def test_only_rank_0_writes_and_reports(two_processes):
    logs = [(two_processes / f"rank{rank}/stderr").read_text() for rank in (0, 1)]
    assert "Results: " in logs[0] and "INFO" not in logs[1]
    assert (two_processes / "rank0/stdout").read_text().startswith('{"exact"')
    assert not (two_processes / "rank1/stdout").read_text()
    assert len(list((two_processes / "runs").iterdir())) == 1
    state = check_checkpoint(str(two_processes / "out/checkpoint-6"))
    assert state["world"] == 2


def test_libraries_say_nothing(two_processes):
    for rank in (0, 1):
        lines = (two_processes / f"rank{rank}/stderr").read_text().splitlines()
        assert not [line for line in lines if " - run_squad - " not in line]


def with_an_unused_parameter() -> None:
    """As XLNet's mask embedding: the loss gives it no gradient."""
    import torch

    from squadlib.training import fine_tuning

    load = fine_tuning.load_model

    def load_model(*args, **options):
        model = load(*args, **options)
        model.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
        return model

    fine_tuning.load_model = load_model


def test_parameter_without_gradient_stays_as_it_is(small, calm_bert, tmp_path):
    more = ("--weight_decay", "0.1", "--num_train_epochs", "1")
    argv = [*common(small, calm_bert), *more]
    one = Run(tmp_path / "one", *argv, "--per_gpu_train_batch_size", 4, hook=with_an_unused_parameter)
    two = start_two(tmp_path / "two", *argv, "--per_gpu_train_batch_size", 2, hook=with_an_unused_parameter)
    assert [run.wait() for run in (one, *two)] == [0, 0, 0], [run.stderr for run in (one, *two)]
    ours, theirs = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert ours == pytest.approx(theirs, rel=TOLERANCE) and len(ours) >= 4
    for run in (one, two[0]):
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
    runs = start_two(tmp_path, *flags("--max_steps", 2, train=small), hook=nobody_wraps_the_model_any_more)
    assert [run.wait() for run in runs] == [0, 0], [run.stderr for run in runs]


def test_sharded_evaluation_writes_the_bytes_of_one_process(two_processes, small, tmp_path):
    argv = ["--model_type", "bert", "--model_name_or_path", str(two_processes / "out"), "--do_eval", "--no_cuda"]
    argv += ["--predict_file", str(small), "--max_seq_length", "64", "--doc_stride", "32", "--max_query_length", "12"]
    single = Run(tmp_path / "one", *argv, "--output_dir", "out")
    assert single.wait() == 0, single.stderr
    runs = start_two(tmp_path / "two", *argv, "--output_dir", "out", hook=blocks_of_three)
    assert [run.wait() for run in runs] == [0, 0], runs[0].stderr
    files = prediction_files(tmp_path / "one/out")
    assert len(files) == 4 and prediction_files(tmp_path / "two/out") == files


def blocks_of_three() -> None:
    from squadlib.training import evaluation

    evaluation.DECODE_BLOCK = 3


@pytest.mark.parametrize("world", [2, 1])
def test_resume_with_the_same_or_another_number_of_processes(
    world, one_process, two_processes, small, calm_bert, tmp_path
):
    for name in ("out", "runs"):
        shutil.copytree(two_processes / name, tmp_path / name)
    for folder in (tmp_path / "out").glob("checkpoint-*"):
        if folder.name != "checkpoint-3":
            shutil.rmtree(folder)
    argv = [*common(small, calm_bert), "--resume", "--per_gpu_train_batch_size", 4 // world]
    runs = start_two(tmp_path, *argv) if world == 2 else [Run(tmp_path, *argv)]
    assert [run.wait() for run in runs] == [0] * world, [run.stderr for run in runs]
    assert "Going on from out/checkpoint-3" in runs[0].stderr
    if world == 2:
        assert weights(tmp_path / "out") == weights(two_processes / "out")
        assert curve(tmp_path / "runs") == curve(two_processes / "runs")
    else:
        assert_close(tmp_path, one_process)


@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_process_stops_all_at_one_step(rank, small, tmp_path):
    runs = start_two(tmp_path, *flags("--num_train_epochs", 30, train=small))
    runs[0].wait_for(lambda: "step 3:" in runs[0].stderr)
    runs[rank].kill(signal.SIGTERM)
    assert [run.wait() for run in runs] == [143, 143], [run.stderr for run in runs]
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    check_checkpoint(str(folder))


def test_end_of_one_process_ends_the_other_with_one_sentence(small, tmp_path):
    runs = start_two(tmp_path, *flags("--num_train_epochs", 30, train=small))
    runs[0].wait_for(lambda: "step 3:" in runs[0].stderr)
    runs[1].kill(signal.SIGKILL)
    assert runs[0].wait() == 1
    assert "another process of this run ended" in runs[0].stderr and "Traceback" not in runs[0].stderr


def test_environment_without_other_processes_is_explained(small, tmp_path):
    for environment in ({"WORLD_SIZE": 2}, {"WORLD_SIZE": "two"}):
        run = Run(tmp_path, *flags(train=small), env=environment)
        assert run.wait() == 1
        assert "start them with torchrun, or unset WORLD_SIZE" in run.stderr and "Traceback" not in run.stderr


def test_torchrun_itself_hands_a_signal_on(small, tmp_path):
    """The real launcher once: SIGTERM to it is a checkpoint, and --resume under it goes on to the end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, str(ROOT / "run_squad.py"), *flags("--num_train_epochs", 3, "--resume", train=small)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([*command, "--num_train_epochs", "500"], cwd=tmp_path, stdout=log, stderr=log)
        while "step 3:" not in (text := (tmp_path / "log").read_text()):
            assert process.poll() is None, text
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
    text = (tmp_path / "log").read_text()
    assert re.search(r"stopped at step \d+; the same command with --resume goes on", text), text
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    check_checkpoint(str(folder))
    assert not list((tmp_path / "out").glob("*.tmp"))


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine with four GPUs, as far as start_processes can see."""
    import torch

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
