"""The layouts of a batch give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import tiny_runner

from squadlib.model.layout import PADDING_FREE
from squadlib.training.optimisation import window_loss


def gradients(runner, windows, indices):
    runner.model.zero_grad()
    loss = window_loss(runner, windows, np.array(indices))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in runner.model.named_parameters()}


@pytest.mark.parametrize("batch", [[7], [0, 1, 2], list(range(40, 72))])
def test_padding_free_loss_and_gradients_are_those_of_masked_padding(windows, batch):
    loss, grads = gradients(tiny_runner(windows, PADDING_FREE), windows, batch)
    expected_loss, expected = gradients(tiny_runner(windows, "longest"), windows, batch)
    assert abs(loss - expected_loss) < 1e-6
    assert expected.keys() == grads.keys()
    for name, gradient in grads.items():
        assert (gradient - expected[name]).abs().max() < 1e-6, name
    assert max(g.abs().max() for g in grads.values()) > 1e-3


def test_padding_free_windows_do_not_see_each_other(windows):
    runner = tiny_runner(windows, PADDING_FREE)
    with torch.no_grad():
        alone, _ = runner.logits(windows, [5])
        among, _ = runner.logits(windows, [3, 5, 90])
    assert torch.allclose(alone[0], among[1][: alone.shape[1]], atol=1e-6)
    assert torch.isneginf(among[1][alone.shape[1] :]).all()
