"""Work recorded as CUDA graphs, for a GPU that is faster than its host."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TOLERANCE = 1e-3  # relative, between the loss of a recording and that of the same kernels launched one by one


class Graph(Protocol):
    """torch.cuda.CUDAGraph, as far as it is used here."""

    def replay(self) -> None: ...

    def pool(self) -> object: ...


class Recording(NamedTuple):
    """Replaying the graph reads the tensors of `batch` and leaves what the work returned in `result`."""

    batch: dict
    graph: Graph
    result: Tensor

    def replay(self, batch: dict) -> Tensor:
        """The result for another batch of this size."""
        for name, value in batch.items():
            if isinstance(value, Tensor):
                self.batch[name].copy_(value)
        self.graph.replay()
        return self.result.clone()


class Recorded:
    """Work on batches, tensors and constants by name, by one graph for each size of a batch.

    The kernels of a small batch end sooner than the host can ask for the next ones; a graph is asked for once. A size
    is recorded when it comes a second time: by then its kernels are loaded and all that outlives a step has its place,
    so nobody may set gradients to None. Dropout draws anew at each replay.

    expected: what the first replay of a size must return, dropout included; None where that is not looked at.
    """

    def __init__(self, work: Callable[[dict], Tensor], expected: Callable[[dict], Tensor] | None = None) -> None:
        self.work, self.expected = work, expected
        self.met: set[tuple] = set()
        self.recordings: dict[tuple, Recording] = {}

    def __call__(self, batch: dict) -> Tensor:
        """What `work` returns. RuntimeError: it cannot be recorded, or does something else then, and is half done."""
        size = tuple(value.shape for value in batch.values() if isinstance(value, Tensor))
        if size in self.recordings:
            return self.recordings[size].replay(batch)
        if size in self.met:
            return self._record(size, batch)
        self.met.add(size)
        return self.work(batch)

    def _record(self, size: tuple, batch: dict) -> Tensor:
        expected = None
        if self.expected:
            with torch.random.fork_rng(_devices(batch)), torch.no_grad():
                expected = float(self.expected(batch))
        own = {name: value.clone() if isinstance(value, Tensor) else value for name, value in batch.items()}
        pool = next((recording.graph.pool() for recording in self.recordings.values()), None)
        recording = Recording(own, *record(lambda: self.work(own), pool))
        found = recording.replay(batch)
        if expected is not None and not abs(float(found) - expected) <= TOLERANCE * abs(expected):
            raise RuntimeError(f"the loss of a recording is {float(found):.6g} instead of {expected:.6g}")
        self.recordings[size] = recording
        return found


def record(work: Callable[[], Tensor], pool: object) -> tuple[Graph, Tensor]:
    """(the graph of what `work` asks of the GPU, what it returns); all graphs share the memory of one pool."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):  # type: ignore[arg-type]  # a handle that torch alone makes
        result = work()
    return graph, result


def _devices(batch: dict) -> list[torch.device]:
    """The GPU of a batch, whose random numbers are to be drawn twice."""
    return list({value.device for value in batch.values() if isinstance(value, Tensor) and value.is_cuda})
