"""A checkpoint is taken up by another number of processes, or with another batch size: where that goes on."""

from __future__ import annotations

import math
import os
import random
import shutil

import pytest
from processes import Run, flags, write_small_squad
from several_processes import assert_all_done, losses, make_calm_bert, start_ranks

from squadlib.training.checkpoints import check_checkpoint, newest_checkpoint
from squadlib.training.plan import Plan, make_plan
from squadlib.training.resume import move
from squadlib.training.state import TrainingState

ROUNDING = 1e-5  # relative; sums in another order differ by 6e-8 an operation


def states_of(plan: Plan):
    """(step, epoch, update) behind each update of a run, as the loop counts them."""
    for step in range(1, plan.total_updates + 1):
        epoch, update = divmod(step - 1, plan.updates_per_epoch)
        yield step, epoch, update + 1


def test_no_window_is_left_out_and_less_than_an_update_is_seen_twice():
    choice = random.Random(3)
    for _ in range(400):
        num_windows, epochs = choice.randint(1, 60), choice.randint(1, 3)
        sizes = [(choice.randint(1, 9), choice.randint(1, 4)) for _ in range(2)]
        before, plan = (make_plan(num_windows, *size, epochs, 0) for size in sizes)
        for step, epoch, update in states_of(before):
            state = TrainingState(step=step, epoch=epoch, update=update, total_loss=2.0 * step)
            move(state, before, plan, by_epochs=True)
            size = plan.batch_size * plan.accumulation
            done = min(update * before.batch_size * before.accumulation, num_windows)
            again = min(state.update * size, num_windows)
            assert again <= done < again + size and (done < num_windows or again == num_windows)
            assert state.epoch == epoch and state.step == epoch * plan.updates_per_epoch + state.update
            assert state.total_loss == pytest.approx(2.0 * state.step)
            assert (step == before.total_updates) == (done == num_windows and state.step == plan.total_updates)


def test_an_epoch_that_was_over_is_not_begun_again():
    """17 windows by 12 are 2 updates; by 16 they are 2 as well, and 24 // 16 was 1."""
    before, plan = make_plan(17, 12, 1, 3.0, 0), make_plan(17, 16, 1, 3.0, 0)
    state = TrainingState(step=2, epoch=0, update=2)
    move(state, before, plan, by_epochs=True)
    assert (state.update, state.step) == (2, 2)


def test_steps_that_were_asked_for_stay_steps():
    before, plan = make_plan(100, 10, 1, 0, 50), make_plan(100, 20, 1, 0, 50)
    state = TrainingState(step=14, epoch=1, update=4)
    move(state, before, plan, by_epochs=False)
    assert (state.step, state.epoch, state.update) == (14, 1, 2)


def test_the_same_number_of_windows_an_update_is_the_same_place():
    before, plan = make_plan(100, 10, 2, 3.0, 0), make_plan(100, 5, 4, 3.0, 0)
    state = TrainingState(step=7, epoch=1, update=2, total_loss=1.0)
    move(state, before, plan, by_epochs=True)
    assert (state.step, state.epoch, state.update, state.total_loss) == (7, 1, 2, 1.0)


# --- real runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json", 17)


@pytest.fixture(scope="module")
def calm_bert(tmp_path_factory):
    return make_calm_bert(tmp_path_factory.mktemp("model") / "calm")


@pytest.fixture(scope="module")
def unbroken(small, calm_bert, tmp_path_factory):
    """One process, 4 windows an update."""
    folder = tmp_path_factory.mktemp("one")
    run = Run(folder, *command(small, calm_bert), "--per_gpu_train_batch_size", 4)
    assert run.wait() == 0, run.stderr
    return folder


def command(data, model):
    return flags("--num_train_epochs", 2, "--save_steps", 3, "--resume", model=model, train=data)


@pytest.fixture
def stopped(unbroken, tmp_path):
    """The same run as if it had been stopped behind update 3."""
    shutil.copytree(unbroken / "out/checkpoint-3", tmp_path / "out/checkpoint-3")
    shutil.copytree(unbroken / "runs", tmp_path / "runs")
    return tmp_path


def test_one_process_becomes_two_with_the_same_global_batch(stopped, unbroken, small, calm_bert):
    runs = start_ranks(stopped, *command(small, calm_bert), "--per_gpu_train_batch_size", 2)
    assert_all_done(runs)
    assert "another run from here on" not in runs[0].stderr
    ours, theirs = losses(stopped), losses(unbroken)
    assert ours.keys() == theirs.keys() and len(ours) > 8
    for step, loss in ours.items():  # other windows would have quite other losses
        assert loss == pytest.approx(theirs[step], rel=ROUNDING), step


def test_another_batch_size_ends_after_the_same_epochs(stopped, small, calm_bert):
    """12 windows were done: that is 1 update by 8."""
    (num_windows, *_) = check_checkpoint(str(stopped / "out/checkpoint-3"))["plan"]
    run = Run(stopped, *command(small, calm_bert), "--per_gpu_train_batch_size", 8)
    assert run.wait() == 0, run.stderr
    assert "batch size or length differ" in run.stderr and ": 1 updates done" in run.stderr
    total = 2 * math.ceil(num_windows / 8)
    assert f" global_step = {total}," in run.stderr
    assert list(losses(stopped)) == list(range(1, total + 1))


def test_a_checkpoint_with_a_lower_number_is_the_newest_one(stopped, small, calm_bert):
    """The run that goes on with a larger batch counts from 1; its checkpoint-2 is newer than checkpoint-3."""
    run = Run(stopped, *command(small, calm_bert), "--per_gpu_train_batch_size", 8, "--save_steps", 2, hook=die_at_3)
    assert run.wait() == 9, run.stderr
    assert newest_checkpoint(str(stopped / "out")).endswith("checkpoint-2")


def die_at_3() -> None:
    from squadlib.training.loop import Trainer

    one_step = Trainer.one_step

    def step(trainer, batches):
        if trainer.state.step == 2:
            os._exit(9)
        one_step(trainer, batches)

    Trainer.one_step = step
