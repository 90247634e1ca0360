"""Short training runs of the tiny BERT in this process, without run_squad.py around them."""

from __future__ import annotations

import numpy as np
import torch
from conftest import ROOT

from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model
from squadlib.model.trial import choose_layout
from squadlib.training.embedding_rows import UsedRows
from squadlib.training.optimisation import clip_and_step, make_optimizer, window_loss
from squadlib.training.plan import TrainingSettings, set_seed

FOLDER = str(ROOT / "tests" / "golden" / "tiny_bert")


def tiny_runner(windows, layout, dropout=0.0):
    config = load_config(FOLDER)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    runner = WindowModel(load_model(FOLDER, config), "longest", 64)
    choose_layout(runner, windows)
    assert runner.layout == PADDING_FREE
    runner.use(layout)
    runner.model.train()
    return runner


def trained(windows, use_rows, steps=20, exact=False, bf16=False, **flags):
    """Weights after some updates with dropout, with or without the cut-down embedding."""
    runner = tiny_runner(windows, PADDING_FREE, dropout=0.1)
    runner.dtype = torch.bfloat16 if bf16 else None
    settings = TrainingSettings("unused", **{"learning_rate": 1e-3, "pad_to_max_length": exact, **flags})
    rows = UsedRows(runner, windows) if use_rows else None
    optimizer = make_optimizer(runner.model, settings)
    parameters = list(runner.model.parameters())
    set_seed(7)
    losses = []
    for step in range(steps):
        batch = np.arange(step * 8, step * 8 + 8)
        with runner.autocast():
            loss = window_loss(runner, windows, batch)
        loss.backward()
        clip_and_step(optimizer, parameters, 0.5, None, exact)
        optimizer.zero_grad()
        losses.append(loss.item())
    if rows:
        rows.swap_out()
    return runner.model.state_dict(), losses
