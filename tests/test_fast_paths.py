"""Every fast path beside the plain one: same numbers, and a way back."""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import pytest
import torch
from conftest import ROOT
from transformers import AttentionInterface

from squadlib.data import load_squad, read_examples
from squadlib.model.decoding import DecodingSettings
from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model, load_tokenizer
from squadlib.model.packing import dropout_factors, packed_attention
from squadlib.model.trial import choose_layout
from squadlib.model.windows import make_windows
from squadlib.training.embedding_rows import UsedRows, whole_model
from squadlib.training.evaluation import Evaluation
from squadlib.training.optimisation import clip_and_step, make_optimizer, window_loss
from squadlib.training.plan import TrainingSettings, set_seed
from squadlib.training.processes import Processes

FOLDER = str(ROOT / "tests" / "golden" / "tiny_bert")
SIZES = {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 12}


@pytest.fixture(scope="module")
def windows():
    examples = read_examples(load_squad(str(ROOT / "tests" / "golden" / "mini_squad.json")))
    return make_windows(examples, load_tokenizer(FOLDER, load_config(FOLDER)), **SIZES, training=True)


def tiny_runner(windows, layout, dropout=0.0):
    config = load_config(FOLDER)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    runner = WindowModel(load_model(FOLDER, config), "longest", 64)
    choose_layout(runner, windows)
    assert runner.layout == PADDING_FREE
    runner.use(layout)
    runner.model.train()
    return runner


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


def varlen_inputs(device="cpu", dtype=torch.float32):
    torch.manual_seed(0)
    lengths = [5, 1, 9]
    inputs = torch.randn(3, 1, 15, 2, 8, device=device, dtype=dtype).transpose(2, 3).unbind(0)
    offsets = torch.tensor([0, 5, 6, 15], dtype=torch.int32, device=device)
    return [x.requires_grad_() for x in inputs], lengths, offsets


@pytest.mark.parametrize(
    ("dtype", "capability", "kernel"),
    [(torch.bfloat16, (9, 0), "_flash"), (torch.float32, (9, 0), "_efficient"), (torch.half, (7, 0), "_efficient")],
)
def test_the_gpu_kernels_get_the_sequences_as_they_lie(dtype, capability, kernel, monkeypatch):
    """A stand-in for the kernel that does what torch's documentation of its arguments says."""
    inputs, lengths, offsets = varlen_inputs(dtype=dtype)
    plain, _ = packed_attention(None, *inputs, None, scaling=0.3, lengths=lengths)
    called = []

    def stand_in(query, key, value, *rest, scale):
        called.append(rest)
        begins = (rest[0] if kernel == "_flash" else rest[1]).tolist()
        rows = [x.reshape(15, 2, 8).transpose(0, 1) for x in (query, key, value)]
        parts = [[x[:, a:b] for x in rows] for a, b in itertools.pairwise(begins)]
        attended = [torch.nn.functional.scaled_dot_product_attention(*part, scale=scale) for part in parts]
        return (torch.cat(attended, dim=1).transpose(0, 1).reshape(query.shape), None)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.ops.aten, f"{kernel}_attention_forward", stand_in)
    found, _ = packed_attention(None, *inputs, None, scaling=0.3, lengths=lengths, offsets=offsets, dropout=0.1)
    assert torch.allclose(plain, found, atol=1e-6 if dtype == torch.float32 else 2e-2)
    assert called[0] == (
        (offsets, offsets, 9, 9, 0.1, False, False)
        if kernel == "_flash"
        else (None, offsets, offsets, 9, 9, 0.1, 0, True)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_gpu_kernels_of_this_torch_take_our_arguments(dtype, monkeypatch):
    """On tensors without content, which still check every argument and shape."""
    inputs, lengths, offsets = varlen_inputs("meta", dtype)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    found, _ = packed_attention(None, *inputs, None, lengths=lengths, offsets=offsets, dropout=0.1)
    assert found.shape == (1, 15, 2, 8) and found.dtype == dtype and found.requires_grad
    if dtype != torch.float32:  # the backward of the other one has no such mode
        assert [g.shape for g in torch.autograd.grad(found.sum(), inputs)] == [(1, 2, 15, 8)] * 3


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


def test_half_precision_checkpoints_are_trained_in_float32(tmp_path):
    config = load_config(FOLDER)
    load_model(FOLDER, config).to(torch.bfloat16).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), load_config(str(tmp_path)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_evaluation_batches_do_not_change_the_predictions(windows, tmp_path):
    """Sorted, padding-free batches of any size give the answers of one window at a time."""
    runner = tiny_runner(windows, PADDING_FREE)
    runner.model.eval()
    tokenizer = load_tokenizer(FOLDER, load_config(FOLDER))
    found = []
    for size in (1, 8, 33):
        one = Processes(0, 1, runner.device)
        evaluation = Evaluation(windows, tokenizer, DecodingSettings(), size, one, str(tmp_path), lambda *_: {})
        found.append(evaluation.predict(runner).predictions)
    assert found[0] == found[1] == found[2]
