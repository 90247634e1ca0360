"""Attention on a GPU for sequences that lie end to end: which of torch's kernels takes which inputs."""

from __future__ import annotations

import torch
from torch import Tensor

VARLEN, FLASH, EFFICIENT = "varlen_attn", "flash", "memory-efficient"


def choose_kernel(dtype: torch.dtype, head_size: int, capability: tuple[int, int], dropout: float) -> str:
    """The kernel for queries of this type.

    capability: of the GPU; the flash kernels take half precision from (8, 0) on. varlen_attn, the public name of one of
    them, has no dropout in any release; with dropout it is called by its inner name, as nested tensors do, which cost
    milliseconds of Python a layer, more than the kernel. All else (float32, and float16 on a V100) goes to the
    memory-efficient kernel, which has no public name.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    if not half or head_size % 8 or capability < (8, 0):
        return EFFICIENT
    return FLASH if dropout else VARLEN


def attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, dropout: float, scaling: float | None
) -> Tensor:
    """Attention of sequences that lie end to end: (total tokens, heads, head size), as query, key and value.

    offsets: int32 (sequences + 1,), where they begin and end; longest: tokens of the longest.
    """
    kernel = choose_kernel(query.dtype, query.shape[-1], torch.cuda.get_device_capability(query.device), dropout)
    sizes = offsets, offsets, longest, longest
    if kernel == VARLEN:
        from torch.nn.attention.varlen import varlen_attn  # a second of imports that a CPU need not wait for

        attended = varlen_attn(_scaled(query, scaling), key, value, *sizes)
        assert isinstance(attended, Tensor)  # it returns more only where asked to
        return attended
    if kernel == FLASH:
        return torch.ops.aten._flash_attention_forward(query, key, value, *sizes, dropout, False, False, scale=scaling)[
            0
        ]
    inputs = query[None], key[None], value[None], None
    keep_sums = torch.is_grad_enabled()  # of the softmax, for the backward
    efficient = torch.ops.aten._efficient_attention_forward
    return efficient(*inputs, *sizes, dropout, 0, keep_sums, scale=scaling)[0][0]


def _scaled(query: Tensor, scaling: float | None) -> Tensor:
    """The query for a kernel that scales by 1/√(head size) itself: until torch 2.13 varlen_attn takes no other."""
    usual = query.shape[-1] ** -0.5
    return query if scaling is None or scaling == usual else query * (scaling / usual)
