"""One optimiser step beside the plain one."""

from __future__ import annotations

import numpy as np
from tiny_runs import FOLDER, trained

from squadlib.model.loading import load_config, load_model


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


def test_bfloat16_learns_what_float32_learns(windows):
    _, losses = trained(windows, use_rows=True, steps=20)
    _, half = trained(windows, use_rows=True, steps=20, bf16=True)
    assert np.allclose(losses, half, rtol=0.05)
    assert half != losses
