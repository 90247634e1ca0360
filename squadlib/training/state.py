"""Where a training run stands: its place in the data, its losses, its random states; all that a resume needs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from squadlib.files import JsonObject
from squadlib.training.plan import epoch_order
from squadlib.training.processes import Processes


@dataclass
class TrainingState:
    """Plain values, counted by the loop, saved and loaded by checkpoints."""

    step: int = 0  # updates done
    epoch: int = 0
    update: int = 0  # of this epoch
    loss_sum: float = 0.0  # since the last point of the curve
    loss_count: int = 0
    total_loss: float = 0.0  # since the start
    skipped: int = 0  # updates lost to float16 overflow
    started: float = field(default_factory=time.time)
    run_dir: str | None = None  # name of the folder in runs/
    epoch_rng: torch.Tensor | None = None  # generator at the start of the epoch
    resumed_rng: dict[str, torch.Tensor] | None = None  # where a resumed run goes on inside its epoch

    def start_epoch(self, num_windows: int, processes: Processes) -> np.ndarray:
        """The order of the windows in this epoch, the same in every process and after a resume."""
        resumed, self.resumed_rng = self.resumed_rng, None
        if resumed is not None and self.epoch_rng is not None:
            torch.set_rng_state(self.epoch_rng)
        self.epoch_rng = torch.get_rng_state()
        order = processes.array_from_main(epoch_order(num_windows))
        if resumed is not None:
            set_rng_state(resumed)
        return order

    def count_loss(self, loss: float) -> None:
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
        self.total_loss += loss

    def mean_loss(self) -> float:
        """Of the updates since the last call."""
        mean = self.loss_sum / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def to_json(self) -> JsonObject:
        return {
            "global_step": self.step,
            "epoch": self.epoch,
            "update": self.update,
            "loss_sum": self.loss_sum.hex(),
            "loss_count": self.loss_count,
            "total_loss": self.total_loss.hex(),
            "skipped": self.skipped,
            "started": self.started,
            "run_dir": self.run_dir,
        }

    @classmethod
    def from_json(cls, saved: JsonObject) -> TrainingState:
        return cls(
            step=saved["global_step"],
            epoch=saved["epoch"],
            update=saved["update"],
            loss_sum=float.fromhex(saved["loss_sum"]),
            loss_count=saved["loss_count"],
            total_loss=float.fromhex(saved["total_loss"]),
            skipped=saved["skipped"],
            started=saved["started"],
            run_dir=saved["run_dir"],
        )

    def rng_tensors(self, rng_states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The random states by the names that they have in a checkpoint. rng_states: of each process."""
        tensors = {} if self.epoch_rng is None else {"epoch_rng": self.epoch_rng}
        for rank, state in enumerate(rng_states):
            tensors |= {f"rng.{rank}.{name}": tensor for name, tensor in state.items()}
        return tensors

    def restore_rng(self, tensors: dict[str, torch.Tensor], rank: int, seed: int) -> None:
        """Take up the random states of `rng_tensors`. seed: for what the checkpoint has no state of."""
        own = f"rng.{rank}."
        torch.manual_seed(seed)
        saved = {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}
        self.epoch_rng, self.resumed_rng = tensors["epoch_rng"], get_rng_state() | saved


def get_rng_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
