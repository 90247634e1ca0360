"""One optimiser step beside the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import FOLDER, tiny_runner, trained

from squadlib.model.layout import LONGEST, PADDING_FREE
from squadlib.model.loading import load_config, load_model
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
