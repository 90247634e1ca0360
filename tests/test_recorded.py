"""Recorded steps train as steps do that launch each kernel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import tiny_runner
from torch.utils._python_dispatch import TorchDispatchMode

from squadlib.model.layout import PADDING_FREE
from squadlib.training import recorded
from squadlib.training.optimisation import Updater
from squadlib.training.plan import TrainingSettings
from squadlib.training.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
BATCHES = [[0, 1, 2], [40, 41, 42], [1, 2, 0], [2, 0, 3], [50, 51, 52], [5, 6]]


def make_updater(windows, with_kernels=True, **settings):
    """Without dropout, which draws other numbers on a CPU."""
    runner = tiny_runner(windows, PADDING_FREE)
    runner.with_kernels = with_kernels
    return Updater(runner, windows, TrainingSettings("out", **settings), ALONE)


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
    plain, ours = make_updater(windows, False, **settings), make_updater(windows, **settings)
    assert train(ours, updates) == [pytest.approx(pair, rel=1e-4) for pair in train(plain, updates)]
    replays = [[r.graph.replays for r in done.recordings.values()] for done in (ours.recorded, ours.recorded_step)]
    assert len(replays[0]) > 1 and max(replays[0]) > 1
    assert sum(replays[0]) + len(ours.recorded.met) == 2 * len(BATCHES)
    assert sum(replays[1]) == (0 if ours.scaler else len(updates) - 1)
    assert recorder.pools.count(None) == (1 if ours.scaler else 2) and recorder.pools.count("the pool") > 0
    for name, weights in plain.runner.model.state_dict().items():
        if weights.dim() > 1:  # a softmax cancels some vectors: Adam follows the rounding alone
            assert torch.allclose(weights, ours.runner.model.state_dict()[name], atol=1e-4), name


@pytest.mark.parametrize("recorded_before", [0, 1])  # the gradients, then the step
def test_a_step_that_cannot_be_recorded_is_made_kernel_by_kernel(
    windows, recorder, recorded_before, monkeypatch, caplog
):
    def fail(work, pool):
        if len(recorder.traces) == recorded_before:
            raise RuntimeError("operation not permitted when stream is capturing")
        return recorder(work, pool)

    monkeypatch.setattr(recorded, "record", fail)
    updates = [[batch] for batch in BATCHES[:3]]
    plain, ours = make_updater(windows, False), make_updater(windows)
    assert train(ours, updates) == [pytest.approx(pair, rel=1e-4) for pair in train(plain, updates)]
    (line,) = [record.message for record in caplog.records if "CUDA" in record.message]
    assert line.startswith("no CUDA graphs (operation not permitted when stream is capturing); every kernel")


def test_a_recording_that_does_not_see_the_new_batch_is_thrown_away(windows, recorder, monkeypatch, caplog):
    stale = recorded.Recording.replay
    monkeypatch.setattr(recorded.Recording, "replay", lambda self, batch: stale(self, self.batch) * 1.01)
    updates = [[batch] for batch in BATCHES]
    plain, ours = make_updater(windows, False), make_updater(windows)
    assert train(ours, updates) == [pytest.approx(pair, rel=1e-4) for pair in train(plain, updates)]
    assert "the loss of a recording is" in caplog.text


def test_a_loss_of_nothing_at_all_is_recorded(recorder):
    recorder.updater = SimpleNamespace(optimizer=SimpleNamespace(state={}), parameters=[])
    twice = recorded.Recorded(lambda batch: batch["x"] * 2, lambda batch: batch["x"] * 2)
    assert [float(twice({"x": torch.tensor(value)})) for value in (1.0, 0.0, 3.0)] == [2, 0, 6]
    assert recorder.traces[0].replays == 2


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
    updater = make_updater(windows, **settings)
    train(updater, [[BATCHES[0]]] * 2)
    with Asked() as asked:
        for batch in (BATCHES[0], BATCHES[5]):  # recorded, and met for the first time
            loss = updater.gradients([np.array(batch)])
            updater.step(1e-3)
    assert asked.names == [] and len(recorder.traces) == (1 if updater.scaler else 2)
    with asked:
        float(loss)
    assert asked.names == ["aten::_local_scalar_dense"]
