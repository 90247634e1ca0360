"""The loop has the bits of 2020's, minds its numbers, and stops between two steps when it is asked to."""

from __future__ import annotations

import gzip
import json
import signal
import time

import numpy as np
import pytest
import training_2020
from conftest import GOLDEN
from processes import (
    Run,
    curve,
    file_names,
    flags,
    one_sentence,
    options,
    slow_steps,
    weights,
)

import run_squad
from squadlib.data import load_squad, read_examples
from squadlib.training.checkpoints import check_checkpoint

WINDOW_FLAGS = {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 12}
ACCUMULATED = {"gradient_accumulation_steps": 2, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup_steps": 3}
SETTINGS = {"defaults": training_2020.Settings(), "accumulated": training_2020.Settings(**ACCUMULATED)}


@pytest.fixture(scope="module", params=SETTINGS)
def both_trainings(request, tmp_path_factory):
    """(name of the settings, our curve and weights, those of 2020's loop run beside it in this process)."""
    settings = SETTINGS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ours = train_exactly(folder, settings)
    model = load_tiny()
    dataset = training_2020.padded(golden_windows(), WINDOW_FLAGS["max_seq_length"])
    updates = training_2020.train(model, dataset, settings)
    return request.param, ours, (updates, {name: p.detach().numpy().tobytes() for name, p in model.named_parameters()})


def train_exactly(folder, settings):
    """(curve by tag, bits of the weights) of run_squad.py --pad_to_max_length with these settings."""
    flags = {**vars(settings), **WINDOW_FLAGS, "logging_steps": 1, "save_steps": 0, "output_dir": folder / "out"}
    paths = {"model_name_or_path": GOLDEN / "tiny_bert", "train_file": GOLDEN / "mini_squad.json"}
    argv = [part for name, value in {**flags, **paths}.items() for part in (f"--{name}", str(value))]
    assert run_squad.main(["--model_type", "bert", "--do_train", "--pad_to_max_length", "--no_cuda", *argv]) == 0
    return curve(folder / "runs"), weights(folder / "out")


def load_tiny():
    from transformers import BertForQuestionAnswering

    return BertForQuestionAnswering.from_pretrained(GOLDEN / "tiny_bert", dtype="float32")


def golden_windows():
    from squadlib.model.loading import load_config, load_tokenizer
    from squadlib.model.windows import make_windows

    tokenizer = load_tokenizer(str(GOLDEN / "tiny_bert"), load_config(str(GOLDEN / "tiny_bert")))
    examples = read_examples(load_squad(str(GOLDEN / "mini_squad.json")))
    return make_windows(examples, tokenizer, **WINDOW_FLAGS, training=True)


def test_training_has_the_bits_of_2020s_loop_on_this_machine(both_trainings):
    _, (points, found), (updates, expected) = both_trainings
    for tag, key in ("loss", "loss"), ("train/grad_norm", "norm"), ("lr", "lr"):
        bits = [(step, np.float32(update[key]).tobytes()) for step, update in enumerate(updates, 1)]
        assert points[tag] == bits
    assert found == expected


def test_training_has_the_figures_of_4_57_6(both_trainings):
    """Written down on another processor, so within the rounding of float32."""
    name, (points, _), _ = both_trainings
    golden = json.loads(gzip.decompress((GOLDEN / "training.json.gz").read_bytes()))
    run = {key: np.array([float.fromhex(value) for value in run]) for key, run in golden["runs"][name].items()
           if key in ("losses", "grad_norms", "learning_rates")}  # fmt: skip
    losses = run["losses"].reshape(-1, SETTINGS[name].gradient_accumulation_steps).mean(axis=1)
    # A point has the rate of the update that comes next, 0 after the last one.
    rates = [*run["learning_rates"][1:], 0.0]
    for tag, expected in ("loss", losses), ("train/grad_norm", run["grad_norms"]), ("lr", rates):
        values = [np.frombuffer(bits, np.float32)[0] for _, bits in points[tag]]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-12)


def test_loss_that_is_not_a_number_stops_with_step_questions_and_rate(small, tmp_path):
    more = ("--learning_rate", "1e30", "--max_grad_norm", "1e30", "--save_steps", 1, "--max_steps", 10)
    run = Run(tmp_path, *flags(*more, train=small))
    assert run.wait() == 1
    sentence = one_sentence(run.stderr)
    assert sentence.startswith("step 2: loss nan, gradient norm nan at learning rate 9.00e+29, questions mini-")
    assert "checkpoints are kept" in sentence
    assert file_names(tmp_path / "out") == ["checkpoint-1"]
    assert check_checkpoint(str(tmp_path / "out/checkpoint-1"))["global_step"] == 1


def infinite_in_half_precision() -> None:
    """The third and fifth loss overflow: finite themselves, but not their scaled gradients."""
    from squadlib.training import optimisation

    loss_of, calls = optimisation.window_loss, []

    def window_loss(*args):
        calls.append(1)
        return loss_of(*args) * (1e36 if len(calls) in (3, 5) else 1)

    optimisation.window_loss = window_loss


def test_float16_overflows_are_skipped_and_counted(small, tmp_path):
    run = Run(tmp_path, *flags("--fp16", "--max_steps", 6, train=small), hook=infinite_in_half_precision)
    assert run.wait() == 0, run.stderr
    assert "2 updates were skipped for float16 overflow" in run.stderr


def test_batch_larger_than_the_data_and_accumulation_longer_than_the_run(small, tmp_path):
    more = ("--per_gpu_train_batch_size", 1000, "--gradient_accumulation_steps", 50, "--max_steps", 2)
    run = Run(tmp_path, *flags(*more, train=small))
    assert run.wait() == 0, run.stderr
    assert "global_step = 2," in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_makes_a_checkpoint_at_the_next_step_and_says_how_to_go_on(number, small, unbroken, tmp_path):
    argv = options(small, "padding_free", "--resume")
    run = Run(tmp_path, *argv)
    run.wait_for(lambda: "step 2:" in run.stderr)
    run.kill(number)
    assert run.wait() == 128 + number, run.stderr
    assert "the same command with --resume goes on" in run.stderr and "Traceback" not in run.stderr
    (folder,) = (tmp_path / "out").glob("checkpoint-*")
    assert check_checkpoint(str(folder))["global_step"] == int(folder.name.split("-")[1])
    run = Run(tmp_path, *argv)
    assert run.wait() == 0, run.stderr
    expected = unbroken("padding_free")
    assert weights(tmp_path / "out") == weights(expected / "out")
    assert curve(tmp_path / "runs") == curve(expected / "runs")


def test_second_signal_quits_at_once(small, tmp_path):
    run = Run(tmp_path, *flags(train=small), hook=slow_steps)
    run.wait_for(lambda: "Total optimization steps" in run.stderr)
    time.sleep(0.5)
    run.kill(signal.SIGTERM)
    run.wait_for(lambda: "once more quits at once" in run.stderr)
    started = time.monotonic()
    run.kill(signal.SIGTERM)
    assert run.wait() == 143, run.stderr
    assert time.monotonic() - started < 4
    assert not file_names(tmp_path / "out") and "Traceback" not in run.stderr
