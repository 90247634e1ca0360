"""The state of a run survives being written down."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from squadlib.training.processes import Processes
from squadlib.training.state import TrainingState, get_rng_state, set_rng_state

ONE = Processes(0, 1, torch.device("cpu"))


def test_state_comes_back_from_json_to_the_bit():
    state = TrainingState(step=7, epoch=1, update=2, loss_sum=0.1 + 0.2, loss_count=3, total_loss=1 / 3, skipped=1)
    state.run_dir = "Jan01_00-00-00_host"
    again = TrainingState.from_json(json.loads(json.dumps(state.to_json())))
    assert vars(again) == vars(state)


def test_mean_loss_is_of_the_updates_since_the_last_point():
    state = TrainingState()
    for loss in (1.0, 2.0):
        state.count_loss(loss)
    assert state.mean_loss() == 1.5
    state.count_loss(4.0)
    assert state.mean_loss() == 4.0 and state.total_loss == 7.0


def test_resumed_epoch_has_the_order_and_the_draws_of_the_unbroken_one():
    torch.manual_seed(3)
    state = TrainingState()
    order = state.start_epoch(30, ONE)
    torch.rand(5)
    tensors = state.rng_tensors([get_rng_state()])
    expected = torch.rand(4)
    torch.manual_seed(99)
    resumed = TrainingState()
    resumed.restore_rng(tensors, rank=0, seed=1)
    assert np.array_equal(resumed.start_epoch(30, ONE), order)
    assert torch.equal(torch.rand(4), expected)
    assert resumed.resumed_rng is None  # the next epoch is an ordinary one


def test_each_epoch_of_an_unbroken_run_has_an_order_of_its_own():
    torch.manual_seed(3)
    state = TrainingState()
    assert not np.array_equal(state.start_epoch(30, ONE), state.start_epoch(30, ONE))


@pytest.mark.parametrize(("available", "saved"), [(True, True), (True, False), (False, True)])
def test_random_state_of_a_gpu_is_taken_up_where_there_is_one(available, saved, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "set_rng_state", taken.append)
    set_rng_state({"cpu": torch.get_rng_state()} | ({"cuda": "state"} if saved else {}))
    assert taken == ["state"] * (available and saved)


def test_process_that_a_checkpoint_does_not_know_draws_from_the_seed():
    torch.manual_seed(3)
    state = TrainingState()
    state.start_epoch(5, ONE)
    resumed = TrainingState()
    resumed.restore_rng(state.rng_tensors([get_rng_state()]), rank=1, seed=8)
    assert torch.equal(resumed.resumed_rng["cpu"], torch.manual_seed(8).get_state())
    set_rng_state(resumed.resumed_rng)
