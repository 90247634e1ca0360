"""One process, or several under torchrun: which one this is, what they share, and when they stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from squadlib.console import SquadError, logger

T = TypeVar("T")
ONE_MACHINE = "; start them with torchrun, or unset WORLD_SIZE"
SEVERAL_MACHINES = (
    ": start torchrun on each machine, and where the address above is not that of another one set GLOO_SOCKET_IFNAME "
    "(GPUs: NCCL_SOCKET_IFNAME) to the name of the network card"
)


class Processes(NamedTuple):
    """This process among those of a torchrun; rank 0 writes all files."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def launcher(self) -> str:
        """What starts a script as this run was started."""
        if self.world == 1:
            return "python"
        machines = num_machines()
        nodes = f" --nnodes={machines}" if machines > 1 else ""
        return f"torchrun{nodes} --nproc_per_node={self.world // machines}"

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def shares(self, batch: np.ndarray) -> list[np.ndarray]:
        """The equal parts of a global batch, one a process (the last ones may be shorter or empty)."""
        size = -(-len(batch) // self.world)
        return [batch[rank * size : (rank + 1) * size] for rank in range(self.world)]

    def wrap(self, model: PreTrainedModel, some_unused: bool) -> DistributedDataParallel:
        """The model that averages its gradients over all processes while it computes them.

        some_unused: whether the loss leaves a parameter without gradient, which must be looked for at every step.
        """
        devices = [self.device] if self.device.type == "cuda" else None
        parallel = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=some_unused)
        parallel.broadcast_buffers = False  # they never change; the argument of this name warns from torch 2.13 on
        return parallel

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    def from_main(self, value: T) -> T:
        """Rank 0's value, on every process."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def array_from_main(self, array: np.ndarray) -> np.ndarray:
        """Rank 0's array, on every process."""
        if self.world == 1:
            return array
        shared = torch.from_numpy(array).to(self.device)
        dist.broadcast(shared, 0)
        return shared.cpu().numpy()

    def gather(self, value: T) -> list[T]:
        """The values of all processes on rank 0, [] elsewhere."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.gather_object(value, values if self.is_main else None)
        return values if self.is_main else []


def num_machines() -> int:
    """How many machines the torchrun that started this process has."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def start_processes(local_rank: int, no_cuda: bool) -> Processes:
    """Join the torchrun that started this process, if any, and pick the device."""
    cuda = torch.cuda.is_available() and not no_cuda
    count = torch.cuda.device_count() if cuda else 0
    try:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        local_rank = int(os.environ.get("LOCAL_RANK", local_rank))
        if world > 1 and not (cuda and local_rank >= count):
            device = torch.device("cuda", max(local_rank, 0)) if cuda else None
            with signals_end_at_once(), _nothing_on_stdout():
                dist.init_process_group("nccl" if cuda else "gloo", device_id=device)
    except (ValueError, RuntimeError) as error:
        told = f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')} but the processes do not meet ({str(error)[:200]})"
        raise SquadError(f"{told}{ONE_MACHINE if num_machines() == 1 else SEVERAL_MACHINES}") from error
    if cuda and local_rank >= count:
        raise SquadError(f"process {local_rank} has no GPU of its own; use --nproc_per_node={count} or --no_cuda")
    if world == 1 and count > 1:
        logger.warning(
            "%d GPUs, one is used; for all of them: torchrun --nproc_per_node=%d run_squad.py …", count, count
        )
    device = torch.device("cuda", max(local_rank, 0)) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    elif not no_cuda and torch.backends.mps.is_available():
        device = torch.device("mps")
    return Processes(dist.get_rank() if world > 1 else 0, world, device)


@contextlib.contextmanager
def signals_end_at_once() -> Iterator[None]:
    """For the wait inside torch, half an hour for a process that never comes, where no handler of Python is called.

    A launcher whose other process died before it came sends SIGTERM, and half a minute later SIGKILL.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    own = {number: handler for number, handler in before.items() if callable(handler)}
    for number in own:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _nothing_on_stdout() -> Iterator[None]:
    """Gloo of torch 2.10 prints a line of its own there, where only results belong."""
    sys.stdout.flush()
    stdout = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


class StopRequest:
    """SIGTERM and Ctrl-C ask for a checkpoint at the next step boundary; a second one quits at once.

    Used as a context manager. asked: the signal that this process got, at any time. agreed: the same at a step
    boundary, when all processes know it.
    """

    def __init__(self) -> None:
        self.asked = self.agreed = 0
        self._before: tuple[torch.Tensor, torch.cuda.Event | None] | None = None  # whether any had asked, a step ago

    def __enter__(self) -> StopRequest:
        self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise SystemExit(128 + signum)
        self.asked = signum
        logger.warning("signal %d: stopping after this step with a checkpoint; once more quits at once", signum)

    def agree(self, loss: torch.Tensor, processes: Processes) -> torch.Tensor:
        """The loss summed over all processes. The request travels with it, so that all stop behind the same step."""
        asked = self.asked > 0
        if processes.world > 1:
            loss, any_asked = processes.sum(torch.stack([loss, torch.full_like(loss, float(asked))]))
            asked = self._asked_before(any_asked)
        if asked:
            self.agreed = self.asked or signal.SIGTERM
        return loss

    def _asked_before(self, asked: torch.Tensor) -> bool:
        """Whether a process asked to stop in the step before, whose sum has reached the host without a wait."""
        event = torch.cuda.Event() if asked.is_cuda else None
        before, self._before = self._before, (asked.to("cpu", non_blocking=True, copy=True), event)
        if event:
            event.record()
        if before is None:
            return False
        if before[1]:
            before[1].synchronize()
        return before[0].item() > 0
