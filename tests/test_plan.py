"""How a run is cut up: updates, leftovers, the learning rate, the order of the windows."""

from __future__ import annotations

import random

import numpy as np
import torch

from squadlib.training.plan import epoch_order, learning_rate_factor, make_plan, set_seed


def test_plan_honours_fractions_and_leftovers():
    plan = make_plan(num_windows=21, batch_size=4, accumulation=4, epochs=1.5, max_steps=-1)
    assert (plan.updates_per_epoch, plan.total_updates) == (2, 3)
    assert [len(batch) for batch in plan.micro_batches(range(21), 0)] == [4, 4, 4, 4]
    assert [len(batch) for batch in plan.micro_batches(range(21), 1)] == [4, 1]
    assert make_plan(5, 8, 16, 0.5, -1).total_updates == 1
    assert make_plan(5, 8, 1, 3, 7).total_updates == 7
    assert (make_plan(5, 8, 1, 3, 0).total_updates, make_plan(5, 8, 1, 3, 1).total_updates) == (3, 1)


def test_learning_rate_warms_up_and_decays():
    factors = [learning_rate_factor(step, 2, 6) for step in range(7)]
    assert factors == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_seed_sets_all_generators_and_may_be_longer_than_numpys():
    drawn = []
    for _ in range(2):
        set_seed(2**32 + 5)
        drawn.append((random.random(), np.random.random(), torch.rand(()).item()))
    np.random.seed(5)
    assert drawn[0] == drawn[1] and drawn[0][1] == np.random.random()


def test_order_of_an_epoch_is_that_of_the_loader_of_2020():
    """And it leaves the generator where the loader does, as dropout draws from it next."""
    data = torch.utils.data.TensorDataset(torch.arange(23))
    torch.manual_seed(7)
    expected = [int(batch[0]) for batch in torch.utils.data.DataLoader(data, shuffle=True, batch_size=None)]
    state = torch.get_rng_state()
    torch.manual_seed(7)
    assert epoch_order(23).tolist() == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_of_any_size_seeds_every_generator():
    draws = []
    for seed in (36, 100, 100 + 2**32):
        set_seed(seed)
        draws.append((random.random(), np.random.random(), torch.rand(1).item()))
    assert len(set(draws[0] + draws[1])) == 6
    assert draws[2][1] == draws[1][1] and draws[2][0] != draws[1][0]  # numpy takes 32 bits
