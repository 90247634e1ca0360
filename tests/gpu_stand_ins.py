"""What stands in for a GPU: a trace of all operations for a CUDA graph, attention with a mask for the kernels.

Like a graph a trace knows the tensors, and no number of Python's: what the host would have to ask the device for cannot
be traced, and what was a number when it was recorded stays that number.
"""

from __future__ import annotations

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import scaled_dot_product_attention

from squadlib.model import layout
from squadlib.training import recorded
from squadlib.training.optimisation import Updater


class Trace:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self, work, parameters):
        before = [p.grad.clone() for p in parameters]  # a trace runs, a recording does not
        self.work, self.loss, self.replays = make_fx(work)(), torch.zeros(()), 0
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad.copy_(gradient)

    def replay(self):
        self.replays += 1
        self.loss.copy_(self.work())

    def pool(self):
        return "the pool"


class Recorder:
    """In the place of `record`. parameters: of the last updater that was made."""

    def __init__(self):
        self.traces, self.pools, self.parameters = [], [], []

    def __call__(self, work, pool):
        self.traces.append(Trace(work, self.parameters))
        self.pools.append(pool)
        return self.traces[-1], self.traces[-1].loss


def masked_attention(query, key, value, _, offsets, _offsets, _longest, _longest_key, dropout, *rest, scale):
    """What the memory-efficient kernel documents, from tensors alone."""
    sequence = (torch.arange(query.shape[1])[:, None] >= offsets[1:]).sum(1)
    rows = [x.transpose(1, 2) for x in (query, key, value)]
    mask = sequence[:, None] == sequence
    attended = scaled_dot_product_attention(*rows, attn_mask=mask, dropout_p=dropout, scale=scale)
    return (attended.transpose(1, 2), None)


def stand_in(monkeypatch):
    """Updaters record traces, and take the kernels. Returns the Recorder."""
    found, make = Recorder(), Updater.__init__

    def noted(updater, *args):
        make(updater, *args)
        found.parameters = updater.parameters

    monkeypatch.setattr(Updater, "__init__", noted)
    monkeypatch.setattr(recorded, "record", found)
    monkeypatch.setattr(layout, "has_kernels", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", masked_attention)
    return found
