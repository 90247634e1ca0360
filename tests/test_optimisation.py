"""One optimiser step beside the plain one."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from tiny_runs import FOLDER, tiny_runner, trained

from squadlib.model.layout import LONGEST, PADDING_FREE
from squadlib.model.loading import load_config, load_model
from squadlib.training import optimisation
from squadlib.training.optimisation import Updater, clip_and_step
from squadlib.training.plan import TrainingSettings
from squadlib.training.processes import Processes


def test_folded_clipping_is_clipping(windows):
    """With a large epsilon the update is proportional to the gradient, so that wrong clipping would show."""
    flags = {"steps": 5, "adam_epsilon": 1.0, "learning_rate": 0.1}
    start = load_model(FOLDER, load_config(FOLDER)).state_dict()
    folded, _ = trained(windows, use_rows=False, **flags)
    plain, _ = trained(windows, use_rows=False, exact=True, **flags)
    moved = 0.0
    for name, weights in plain.items():
        assert (weights - folded[name]).abs().max() < 1e-6, name
        moved = max(moved, float((weights - start[name]).abs().max()))
    assert moved > 1e-3


class Alone:
    """In the place of DistributedDataParallel: the processes of a test run one after the other."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.no_sync = model, contextlib.nullcontext

    def __call__(self, *args, **options):
        return self.model(*args, **options)


@pytest.mark.parametrize("sizes", [(4,), (3,), (4, 5), (4, 1)])
def test_shares_of_an_uneven_batch_count_by_their_windows(windows, sizes):
    runner = tiny_runner(windows, LONGEST)
    cpu = torch.device("cpu")
    updater = Updater(runner, windows, TrainingSettings("out", weight_decay=0.1), Processes(0, 1, cpu))
    batches = [np.arange(size) + 2 * number for number, size in enumerate(sizes)]

    def loss_and_gradients(rank, world):
        updater.processes, updater.parallel = Processes(rank, world, cpu), Alone(runner.model) if world > 1 else None
        loss = updater.gradients(batches)
        gradients = torch.cat([parameter.grad.flatten() for parameter in updater.parameters])
        updater.optimizer.zero_grad()
        return loss, gradients

    loss, gradients = loss_and_gradients(0, 1)
    losses, shares = zip(*(loss_and_gradients(rank, 2) for rank in (0, 1)), strict=True)
    assert float(sum(losses)) == pytest.approx(float(loss), rel=1e-5)
    assert (sum(shares) / 2 - gradients).abs().max() < 1e-5 * gradients.abs().max()


def test_what_counts_for_nothing_is_one_window(windows, monkeypatch):
    """Of a process without a share, and of the exchange before the first step."""
    runner = tiny_runner(windows, LONGEST)
    updater = Updater(runner, windows, TrainingSettings("out", weight_decay=0.1), Processes(0, 1, torch.device("cpu")))
    sizes, loss_of = [], optimisation.window_loss

    def window_loss(runner, windows, indices, *rest):
        sizes.append(len(indices))
        return loss_of(runner, windows, indices, *rest)

    monkeypatch.setattr(optimisation, "window_loss", window_loss)
    updater.processes, updater.parallel = Processes(3, 4, torch.device("cpu")), Alone(runner.model)
    updater.gradients([np.arange(3)])
    updater.processes = Processes(0, 4, torch.device("cpu"))
    updater._settle_sums()
    assert sizes == [1, 1]


@pytest.mark.parametrize("exact", [True, False])
def test_gradients_as_small_as_the_guard_against_zero_are_clipped_as_torch_does(exact):
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([1e-6])
    optimizer = torch.optim.AdamW([parameter], lr=1.0, eps=1.0, weight_decay=0.0, fused=not exact)
    assert clip_and_step(optimizer, [parameter], 1e-6, None, exact).item() == pytest.approx(1e-6)
    assert parameter.item() == pytest.approx(-0.5e-6, rel=1e-4)  # norm / (norm + 1e-6), over an epsilon of 1


@pytest.mark.parametrize(
    ("layout", "weight_decay", "cut"), [(PADDING_FREE, 0.0, True), (PADDING_FREE, 0.01, False), (LONGEST, 0.0, False)]
)
def test_rows_out_of_use_are_left_out_only_where_nothing_changes_them(windows, layout, weight_decay, cut):
    settings = TrainingSettings("unused", weight_decay=weight_decay)
    updater = Updater(tiny_runner(windows, layout), windows, settings, Processes(0, 1, torch.device("cpu")))
    assert (updater.used_rows is not None) == cut


def test_bfloat16_learns_what_float32_learns(windows):
    _, losses = trained(windows, use_rows=True, steps=20)
    _, half = trained(windows, use_rows=True, steps=20, bf16=True)
    assert np.allclose(losses, half, rtol=0.05)
    assert half != losses
