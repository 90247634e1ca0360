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
    """In the place of torch.cuda.CUDAGraph.

    lasting: tensors that the work may change. Making a trace runs the work, recording a graph does not.
    """

    def __init__(self, work, lasting):
        before = [tensor.detach().clone() for tensor in lasting]
        self.work, self.result, self.replays = make_fx(work)(), torch.zeros(()), 0
        with torch.no_grad():
            for tensor, value in zip(lasting, before, strict=True):
                tensor.copy_(value)

    def replay(self):
        self.replays += 1
        with torch.no_grad():  # the backward pass is a part of it
            self.result.copy_(self.work())

    def pool(self):
        return "the pool"


class Recorder:
    """In the place of `record`. updater: the last one that was made."""

    def __init__(self):
        self.updater, self.traces, self.pools = None, [], []

    def __call__(self, work, pool):
        moments = [value for state in self.updater.optimizer.state.values() for value in state.values()]
        parameters = self.updater.parameters
        trace = Trace(work, [*parameters, *(p.grad for p in parameters), *moments])
        self.traces.append(trace)
        self.pools.append(pool)
        return trace, trace.result


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
        found.updater = updater

    monkeypatch.setattr(Updater, "__init__", noted)
    monkeypatch.setattr(recorded, "record", found)
    monkeypatch.setattr(layout, "has_kernels", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", masked_attention)
    return found
