"""Recorded steps train as steps do that launch each kernel. A trace of all operations stands in for a CUDA graph.

Like a graph a trace knows the tensors, and no number of Python's: what the host would have to ask the device for cannot
be traced, and what was a number when it was recorded stays that number.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import tiny_runner
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from squadlib.model.layout import PADDING_FREE
from squadlib.training import recorded
from squadlib.training.optimisation import Updater
from squadlib.training.plan import TrainingSettings
from squadlib.training.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
BATCHES = [[0, 1, 2], [40, 41, 42], [1, 2, 0], [2, 0, 3], [50, 51, 52], [5, 6]]


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
    """In the place of `record`."""

    def __init__(self):
        self.traces, self.pools, self.parameters = [], [], []

    def __call__(self, work, pool):
        self.traces.append(Trace(work, self.parameters))
        self.pools.append(pool)
        return self.traces[-1], self.traces[-1].loss


def masked_attention(query, key, value, _, offsets, *rest, scale):
    """What the memory-efficient kernel documents, from tensors alone."""
    sequence = (torch.arange(query.shape[1])[:, None] >= offsets[1:]).sum(1)
    rows = [x.transpose(1, 2) for x in (query, key, value)]
    attended = scaled_dot_product_attention(*rows, attn_mask=sequence[:, None] == sequence, scale=scale)
    return (attended.transpose(1, 2), None)


@pytest.fixture
def recorder(monkeypatch):
    found = Recorder()
    monkeypatch.setattr(recorded, "record", found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", masked_attention)
    return found


def make_updater(windows, recorder=None, **settings):
    """recorder: None for one that launches each kernel. Without dropout, which draws other numbers on a CPU."""
    runner = tiny_runner(windows, PADDING_FREE)
    runner.with_kernels = recorder is not None
    updater = Updater(runner, windows, TrainingSettings("out", **settings), ALONE)
    if recorder:
        recorder.parameters = updater.parameters
    return updater


def train(updater, updates):
    """Losses and gradient norms of updates, each a list of batches."""
    found = []
    for batches in updates:
        loss = updater.gradients([np.array(batch) for batch in batches])
        found.append((float(loss), float(updater.step(1e-3))))
    return found


@pytest.mark.parametrize(("settings", "size"), [({}, 1), ({"weight_decay": 0.1}, 3), ({"fp16": True}, 1)])
def test_recorded_steps_train_as_plain_ones_do(windows, recorder, settings, size):
    updates = [BATCHES[first : first + size] for first in range(0, len(BATCHES), size)] * 2
    ours, plain = make_updater(windows, recorder, **settings), make_updater(windows, **settings)
    assert train(ours, updates) == [pytest.approx(pair, rel=1e-4) for pair in train(plain, updates)]
    replays = [trace.replays for trace in recorder.traces]
    assert len(replays) > 1 and max(replays) > 1 and sum(replays) + len(ours.recorded.met) == 2 * len(BATCHES)
    assert recorder.pools == [None, *["the pool"] * (len(replays) - 1)]
    for name, weights in plain.runner.model.state_dict().items():
        if weights.dim() > 1:  # a softmax cancels some vectors: Adam follows the rounding alone
            assert torch.allclose(weights, ours.runner.model.state_dict()[name], atol=1e-4), name


def test_a_step_that_cannot_be_recorded_is_made_kernel_by_kernel(windows, recorder, monkeypatch, caplog):
    def fail(work, pool):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(recorded, "record", fail)
    updates = [BATCHES[first : first + 3] for first in (0, 3)]
    assert train(make_updater(windows, recorder), updates) == [
        pytest.approx(pair, rel=1e-4) for pair in train(make_updater(windows), updates)
    ]
    (line,) = [record.message for record in caplog.records if "CUDA" in record.message]
    assert line.startswith("no CUDA graphs (operation not permitted when stream is capturing); every kernel")


def test_a_recording_that_does_not_see_the_new_batch_is_thrown_away(windows, recorder, monkeypatch, caplog):
    stale = recorded.Recording.replay
    monkeypatch.setattr(recorded.Recording, "replay", lambda self, batch: stale(self, self.batch) * 1.01)
    updates = [[batch] for batch in BATCHES]
    assert train(make_updater(windows, recorder), updates) == [
        pytest.approx(pair, rel=1e-4) for pair in train(make_updater(windows), updates)
    ]
    assert "the loss of a recording is" in caplog.text


class Asked(TorchDispatchMode):
    """Operations through which the host asks for a number of the device, and waits for it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"fp16": True}])
def test_no_step_waits_for_the_device(windows, recorder, settings):
    updater = make_updater(windows, recorder, **settings)
    train(updater, [[BATCHES[0]]] * 2)
    with Asked() as asked:
        for batch in (BATCHES[0], BATCHES[5]):  # recorded, and met for the first time
            loss = updater.gradients([np.array(batch)])
            updater.step(1e-3)
    assert asked.names == [] and len(recorder.traces) == 1
    with asked:
        float(loss)
    assert asked.names == ["aten::_local_scalar_dense"]
