"""One process, or several under torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from squadlib.console import SquadError, logger


class Processes(NamedTuple):
    """This process among those of a torchrun; rank 0 writes all files."""

    rank: int
    world: int
    device: Any

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def share(self, batch: Any) -> Any:
        """This process's equal part of a global batch (the last parts may be shorter or empty)."""
        size = -(-len(batch) // self.world)
        return batch[self.rank * size : (self.rank + 1) * size]

    def sum_gradients(self, parameters: list[Any], extra: Any) -> None:
        """Add up gradients, and the small tensor `extra`, over all processes, in one transfer a data type."""
        tensors = [p.grad for p in parameters if p.grad is not None] + [extra]
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every process."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes on rank 0, [] elsewhere."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.gather_object(value, values if self.is_main else None)
        return values if self.is_main else []


def start_processes(local_rank: int, no_cuda: bool) -> Processes:
    """Join the torchrun that started this process, if any, and pick the device."""
    cuda = torch.cuda.is_available() and not no_cuda
    count = torch.cuda.device_count() if cuda else 0
    try:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        local_rank = int(os.environ.get("LOCAL_RANK", local_rank))
        if world > 1 and not (cuda and local_rank >= count):
            device = torch.device("cuda", max(local_rank, 0)) if cuda else None
            dist.init_process_group("nccl" if cuda else "gloo", device_id=device)
    except (ValueError, RuntimeError) as error:
        raise SquadError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')} but the processes do not meet ({str(error)[:200]}); "
            "start them with torchrun, or unset WORLD_SIZE"
        ) from error
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
def torch_errors_explained() -> Iterator[None]:
    """One sentence for the RuntimeErrors of torch that are not bugs: no memory, a GPU too old, a process that ended."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "no kernel image" in text:
            raise SquadError("this build of torch has no code for this GPU; the README says which one has") from error
        if "out of memory" in text or "can't allocate memory" in text:
            raise SquadError(
                f"memory ran out ({text.splitlines()[0][:200]}); lower --per_gpu_train_batch_size and raise "
                "--gradient_accumulation_steps by the same factor, or lower --per_gpu_eval_batch_size"
            ) from error
        if "gloo" in text or "NCCL" in text:
            raise SquadError("another process of this run ended; its own message says why") from error
        raise
