"""What torch's kernels for a GPU are given: a stand-in for each kernel does what torch documents of its arguments."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.attention.varlen

from squadlib.model.packing import packed_attention

LENGTHS = [5, 1, 9]
H100, V100 = (9, 0), (7, 0)


def varlen_inputs(device="cpu", dtype=torch.float32):
    torch.manual_seed(0)
    inputs = torch.randn(3, 1, 15, 2, 8, device=device, dtype=dtype).transpose(2, 3).unbind(0)
    offsets = torch.tensor([0, 5, 6, 15], dtype=torch.int32, device=device)
    return [x.requires_grad_() for x in inputs], offsets


def attend_one_by_one(query, key, value, offsets, scale):
    """Each sequence on its own: (total tokens, heads, head size)."""
    rows = [x.transpose(0, 1) for x in (query, key, value)]
    parts = [[x[:, a:b] for x in rows] for a, b in itertools.pairwise(offsets.tolist())]
    attended = [torch.nn.functional.scaled_dot_product_attention(*part, scale=scale) for part in parts]
    return torch.cat(attended, dim=1).transpose(0, 1)


@pytest.fixture
def calls(monkeypatch):
    """(kernel, its arguments behind query, key and value) of each call; the kernels are stand-ins."""
    called = []

    def varlen(query, key, value, *rest):  # positional only, and no scale: what 2.10 and later have in common
        called.append(("varlen_attn", rest))
        return attend_one_by_one(query, key, value, rest[0], None)

    def flash(query, key, value, *rest, scale):
        called.append(("flash", rest))
        return (attend_one_by_one(query, key, value, rest[0], scale), None)

    def efficient(query, key, value, *rest, scale):
        called.append(("memory-efficient", rest))
        return (attend_one_by_one(query[0], key[0], value[0], rest[1], scale)[None], None)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", varlen)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", efficient)
    return called


def attended(inputs, offsets, capability, monkeypatch, **options):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    return packed_attention(None, *inputs, None, offsets=offsets, longest=9, **options)[0]


@pytest.mark.parametrize(
    ("dtype", "capability", "dropout", "kernel"),
    [
        (torch.bfloat16, H100, 0.0, "varlen_attn"),
        (torch.float16, H100, 0.0, "varlen_attn"),
        (torch.bfloat16, H100, 0.1, "flash"),
        (torch.float32, H100, 0.0, "memory-efficient"),
        (torch.float32, H100, 0.1, "memory-efficient"),
        (torch.float16, V100, 0.1, "memory-efficient"),
    ],
)
def test_each_kernel_gets_the_sequences_as_they_lie(dtype, capability, dropout, kernel, calls, monkeypatch):
    inputs, offsets = varlen_inputs(dtype=dtype)
    for scaling in (None, 8**-0.5, 0.3):
        plain, _ = packed_attention(None, *inputs, None, scaling=scaling, lengths=LENGTHS)
        found = attended(inputs, offsets, capability, monkeypatch, scaling=scaling, dropout=dropout)
        assert torch.allclose(plain, found, atol=1e-6 if dtype == torch.float32 else 2e-2)
    sizes = offsets, offsets, 9, 9
    expected = {
        "varlen_attn": sizes,
        "flash": (*sizes, dropout, False, False),
        "memory-efficient": (None, *sizes, dropout, 0, True),
    }
    assert calls == [(kernel, expected[kernel])] * 3


def test_evaluation_keeps_no_sums_for_a_backward(calls, monkeypatch):
    inputs, offsets = varlen_inputs()
    with torch.no_grad():
        attended(inputs, offsets, H100, monkeypatch)
    assert calls[0][1][-1] is False


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_kernels_of_this_torch_take_our_arguments(dtype, dropout, monkeypatch):
    """On tensors without content, which still check every argument and shape."""
    inputs, offsets = varlen_inputs("meta", dtype)
    found = attended(inputs, offsets, H100, monkeypatch, dropout=dropout)
    assert found.shape == (1, 15, 2, 8) and found.dtype == dtype and found.requires_grad
    if dtype != torch.float32:  # the backward of the other one has no such mode
        assert [g.shape for g in torch.autograd.grad(found.sum(), inputs)] == [(1, 2, 15, 8)] * 3
