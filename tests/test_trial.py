"""The trial before the first step finds out which models need padding."""

from __future__ import annotations

import pytest
import torch
from tiny_models import WINDOW_SIZES, load
from tiny_runs import FOLDER, tiny_runner
from transformers import AttentionInterface

from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model
from squadlib.model.packing import packed_attention
from squadlib.model.trial import choose_layout
from squadlib.model.windows import make_windows
from squadlib.training.optimisation import window_loss

PADDED_ONLY = {"deberta-v2", "longformer", "mpnet", "modernbert"}  # the trial of the first windows finds them out


def test_padding_changes_nothing(family, examples):
    """Same loss and gradients with and without padding, or the family is known to need it."""
    import torch

    name, folder = family
    tokenizer, model = load(folder)
    windows = make_windows(examples, tokenizer, **WINDOW_SIZES, training=True)
    runner = WindowModel(model, "longest", WINDOW_SIZES["max_seq_length"])
    choose_layout(runner, windows)
    assert runner.layout == ("longest" if name in PADDED_ONLY else PADDING_FREE)
    batch = windows.num_tokens().argsort()[[0, 1, -1]]
    found = []
    for layout in (runner.layout, "longest"):
        runner.use(layout)
        loss = window_loss(runner, windows, batch)
        model.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        found.append((loss.item(), norm.item()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.fixture
def register_attention():
    """Puts another function in the place of packed_attention until the end of the test."""
    yield lambda function: AttentionInterface.register(PADDING_FREE, function)
    AttentionInterface.register(PADDING_FREE, packed_attention)


def test_a_model_that_ignores_the_boundaries_falls_back(windows, register_attention, caplog):
    def attends_to_everything(module, query, key, value, *_, **__):
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value).transpose(1, 2), None

    register_attention(attends_to_everything)
    runner = WindowModel(load_model(FOLDER, load_config(FOLDER)), "longest", 64)
    choose_layout(runner, windows)
    assert runner.layout == "longest"
    assert "its logits differ" in caplog.text and len(caplog.records) == 1
    assert runner.logits(windows, [1, 2])[0].shape[0] == 2


def test_a_backward_that_is_wrong_falls_back(windows, register_attention, caplog):
    def wrong_gradient(*args, **kwargs):
        attended, _ = packed_attention(*args, **kwargs)
        return attended.detach() + 0 * attended, None

    register_attention(wrong_gradient)
    runner = WindowModel(load_model(FOLDER, load_config(FOLDER)), "longest", 64)
    choose_layout(runner, windows)
    assert runner.layout == "longest" and "its gradients differ" in caplog.text


def test_the_trial_leaves_tf32_as_it_was(windows):
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = True
    try:
        tiny_runner(windows, PADDING_FREE)
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = False
