"""Forward and backward passes recorded as CUDA graphs, for a GPU that is faster than its host."""

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
    """Replaying the graph reads the tensors of `batch` and leaves the loss in `loss`."""

    batch: dict
    graph: Graph
    loss: Tensor

    def replay(self, batch: dict) -> Tensor:
        """The loss of another batch of this size."""
        for name, value in batch.items():
            if isinstance(value, Tensor):
                self.batch[name].copy_(value)
        self.graph.replay()
        return self.loss.clone()


class RecordedGradients:
    """Gradients of batches, by one graph for each size of a batch.

    The kernels of a small batch end sooner than the host can ask for the next ones; a graph is asked for once. A size
    is recorded when it comes a second time: by then its kernels are loaded, and the parameters have the gradients that
    the graph adds to, so nobody may set them to None. Dropout draws anew at each replay.
    """

    def __init__(self, loss_of: Callable[[dict], Tensor], backward: Callable[[Tensor], object]) -> None:
        self.loss_of, self.backward = loss_of, backward
        self.met: set[tuple] = set()
        self.recordings: dict[tuple, Recording] = {}

    def gradients(self, batch: dict) -> Tensor:
        """Add the gradients of a batch, tensors and constants by name, to the parameters' own. Returns the loss.

        Raises RuntimeError where a recording is not possible or does something else; the gradients are then void.
        """
        size = tuple(value.shape for value in batch.values() if isinstance(value, Tensor))
        if size in self.recordings:
            return self.recordings[size].replay(batch)
        if size in self.met:
            return self._record(size, batch)
        self.met.add(size)
        return self._run(batch)

    def _run(self, batch: dict) -> Tensor:
        loss = self.loss_of(batch)
        self.backward(loss)
        return loss.detach()

    def _record(self, size: tuple, batch: dict) -> Tensor:
        """Record this size; its first replay must have the loss, dropout included, that the plain forward pass has."""
        with torch.random.fork_rng(_devices(batch)), torch.no_grad():
            expected = float(self.loss_of(batch))
        own = {name: value.clone() if isinstance(value, Tensor) else value for name, value in batch.items()}
        pool = next((recording.graph.pool() for recording in self.recordings.values()), None)
        recording = Recording(own, *record(lambda: self._run(own), pool))
        found = recording.replay(batch)
        if not abs(float(found) - expected) <= TOLERANCE * abs(expected):
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
