"""Attention and dropout for sequences end to end in a row, beside the plain ones."""

from __future__ import annotations

import argparse

import torch
from tiny_runs import FOLDER, tiny_runner

from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model
from squadlib.model.packing import dropout_factors, packed_attention


def test_dropout_factors_are_zero_as_often_as_asked_and_keep_the_mean():
    torch.manual_seed(0)
    for probability in (0.1, 0.5, 0.9):
        factors = dropout_factors(10**6, probability, torch.float32)
        zeros = (factors == 0).double()
        deviation = (probability * (1 - probability) / 10**6) ** 0.5
        assert abs(zeros.mean() - probability) < 5 * deviation + 2**-16
        assert abs(factors.mean() - 1) < 5 * deviation / (1 - probability) + 1e-4
        assert len(factors.unique()) == 2
        for step in (1, 2, 3, 4, 768):  # four elements share a random word
            together = (zeros[step:] * zeros[:-step]).mean()
            assert abs(together - probability**2) < 5e-3 * probability


def test_dropout_factors_at_the_ends_and_in_odd_sizes():
    for size in (1, 2, 3, 5, 1001):
        assert dropout_factors(size, 0.0, torch.float32).tolist() == [1.0] * size
        assert dropout_factors(size, 1.0, torch.float32).tolist() == [0.0] * size
        assert dropout_factors(size, 0.3, torch.bfloat16).dtype == torch.bfloat16


def test_dropout_factors_follow_the_generator_of_torch():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (dropout_factors(999, 0.5, torch.float32) for _ in range(2))
    torch.set_rng_state(state)
    again = dropout_factors(999, 0.5, torch.float32)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_attention_in_training_drops_weights_after_the_softmax(monkeypatch):
    """Spelt out beside torch's kernel without dropout, and beside the formula with factors that are known."""
    torch.manual_seed(0)
    lengths, module = [5, 1, 9], argparse.Namespace()
    inputs = [x.requires_grad_() for x in torch.randn(3, 1, 2, sum(lengths), 8).unbind(0)]

    def attended(dropout=0.0):
        result, _ = packed_attention(module, *inputs, None, lengths=lengths, dropout=dropout)
        return result, torch.autograd.grad(result.square().sum(), inputs)

    with torch.no_grad():
        kernel, _ = packed_attention(module, *inputs, None, lengths=lengths)
    assert torch.allclose(attended()[0], kernel, atol=1e-6)
    factors = torch.arange(2 * (25 + 1 + 81)) % 3 * 0.75
    monkeypatch.setattr("squadlib.model.packing.dropout_factors", lambda size, *_: factors[:size])
    found, gradients = attended(dropout=0.1)
    query, key, value = (x[0, :, 6:] for x in inputs)
    weights = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1) * factors[-162:].view(2, 9, 9)
    expected = (weights @ value).transpose(0, 1)
    assert torch.allclose(found[0, 6:], expected, atol=1e-6)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for gradient, other in zip(gradients, wanted, strict=True):
        assert torch.allclose(gradient[:, :, 6:], other[:, :, 6:], atol=1e-5)


def test_fast_dropout_in_the_model_is_on_in_training_only(windows, monkeypatch):
    runner = tiny_runner(windows, PADDING_FREE, dropout=0.5)
    drawn = [runner.logits(windows, [1, 2])[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    runner.model.eval()
    monkeypatch.setattr("squadlib.model.packing.dropout_factors", None)  # must not be called
    assert torch.equal(*(runner.logits(windows, [1, 2])[0] for _ in range(2)))


def test_the_exact_layout_keeps_the_dropout_of_torch():
    config = load_config(FOLDER)
    exact = WindowModel(load_model(FOLDER, config), "max_length", 64)
    fast = WindowModel(load_model(FOLDER, config), "longest", 64)
    fast.use("longest")
    kinds = [
        {type(module) is torch.nn.Dropout for module in runner.model.modules() if isinstance(module, torch.nn.Dropout)}
        for runner in (exact, fast)
    ]
    assert kinds == [{True}, {False}]
    assert exact.model.state_dict().keys() == fast.model.state_dict().keys()
