"""Attention and dropout for sequences that lie end to end in one row, without padding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from squadlib.console import SquadError
from squadlib.model.gpu_attention import attend_on_gpu


def packed_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, lengths: list[int] | None = None,
    offsets: Tensor | None = None, longest: int = 0, **_: object
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of sequences that lie end to end in one row: each token sees its own sequence only.

    query, key, value: (1, heads, total tokens, head size). lengths: of the sequences; on a GPU, where one kernel does
    all, instead of them offsets: where they begin and end, as int32 (B + 1,) on the device, and longest: the most
    tokens of one. Returns (1, total tokens, heads, head size).
    On a CPU torch's fused kernel has no dropout and a slow backward for bfloat16, so with gradients it is spelt out.
    """
    if offsets is not None:
        query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
        return attend_on_gpu(query, key, value, offsets, longest, dropout, scaling).unsqueeze(0), None
    if lengths is None:
        raise SquadError(f"{type(module).__name__} does not pass the sequence boundaries on")
    if query.device.type == "cpu" and torch.is_grad_enabled():
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        attended = _attend_with_gradients(query[0] * scaling, key[0], value[0], lengths, dropout)
        return attended.transpose(0, 1).unsqueeze(0), None
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    attended = torch.cat([attend(q, k, v, dropout_p=dropout, scale=scaling) for q, k, v in parts], dim=2)
    return attended.transpose(1, 2), None


def _attend_with_gradients(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dropout: float) -> Tensor:
    """softmax(query keyᵀ) with dropout, times value, for each sequence: (heads, total tokens, head size)."""
    sizes = [len(query) * length**2 for length in lengths]
    factors = dropout_factors(sum(sizes), dropout, query.dtype).split(sizes) if dropout else [None] * len(lengths)
    attended = []
    for q, k, v, kept in zip(*(x.split(lengths, dim=1) for x in (query, key, value)), factors, strict=True):
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
        attended.append(torch.bmm(weights if kept is None else weights * kept.view_as(weights), v))
    return torch.cat(attended, dim=1)


def dropout_factors(size: int, probability: float, dtype: torch.dtype) -> Tensor:
    """What dropout multiplies with: (size,) of 0 with `probability`, a multiple of 2⁻¹⁶, and else 1/(1 - probability).

    16 random bits an element, from numpy's SFC64 with a seed drawn from torch's generator: a sixth of the time that
    torch's own dropout takes on a CPU, where that is a fifth of a training step.
    """
    dropped = round(probability * 2**16)
    if dropped == 2**16:
        return torch.zeros(size, dtype=dtype)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    bits = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-size // 4)).view(np.int16))[:size]
    factors = torch.empty(size, dtype=dtype)
    torch.ge(bits, dropped - 2**15, out=factors)
    return factors.mul_(2**16 / (2**16 - dropped))


class FastDropout(torch.nn.Dropout):
    """Dropout that takes its random numbers from `dropout_factors` on a CPU."""

    def forward(self, values: Tensor) -> Tensor:
        if values.device.type != "cpu" or not self.training or self.p == 0:
            return super().forward(values)
        return values * dropout_factors(values.numel(), self.p, values.dtype).view(values.shape)


def use_fast_dropout(model: torch.nn.Module) -> None:
    """Exchange a model's dropout modules for fast ones."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is torch.nn.Dropout:
            model.set_submodule(name, FastDropout(module.p).train(module.training))
