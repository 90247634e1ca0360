"""Only the rows in use are trained, and nothing else changes."""

from __future__ import annotations

import torch
from tiny_runs import FOLDER, tiny_runner, trained

from squadlib.model.layout import PADDING_FREE
from squadlib.model.loading import load_config, load_model
from squadlib.training.embedding_rows import UsedRows, whole_model


def test_used_rows_alone_give_the_same_bits(windows):
    whole, losses = trained(windows, use_rows=False)
    rows, losses_of_rows = trained(windows, use_rows=True)
    assert losses == losses_of_rows
    assert whole.keys() == rows.keys()
    for name, weights in whole.items():
        assert torch.equal(weights, rows[name]), name


def test_used_rows_leave_the_others_as_they_were(windows):
    config = load_config(FOLDER)
    before = load_model(FOLDER, config).get_input_embeddings().weight.detach()
    runner = tiny_runner(windows, PADDING_FREE)
    rows = UsedRows(runner, windows)
    assert 0 < len(rows.ids) < config.vocab_size
    with torch.no_grad():
        rows.rows.weight += 1
    with whole_model(runner, rows) as model:
        difference = model.get_input_embeddings().weight - before
        assert runner.row_of_id is None
    assert torch.equal(
        difference.abs().sum(1) > 0, torch.zeros(config.vocab_size, dtype=bool).index_fill(0, rows.ids, 1)
    )
    assert runner.row_of_id is not None
