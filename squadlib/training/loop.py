"""The training loop: the order of a step, and what happens between two steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch

from squadlib.console import SquadError, progress_bar
from squadlib.model.windows import Windows
from squadlib.training.optimisation import Updater
from squadlib.training.plan import Plan, TrainingSettings, epoch_windows, learning_rate_factor, set_seed
from squadlib.training.processes import Processes, StopRequest
from squadlib.training.state import TrainingState

MOST_IDS = 32  # question ids in an error message
MOST_UNCHECKED = 50  # steps that a GPU may be ahead of the numbers that the host has seen


class Curve(Protocol):
    """Where the points of a run go; see TrainingLog."""

    def count(self, num_windows: int, num_tokens: int, num_places: int) -> None: ...

    def point(self, step: int, loss: float, norm: float, lr: float, device: torch.device) -> None: ...


class Unchecked(NamedTuple):
    """An update whose numbers are still on the device."""

    step: int
    windows: list[np.ndarray]
    loss: torch.Tensor
    norm: torch.Tensor


class Trainer:
    """One training run; `run` is the loop.

    curve: None on all ranks but 0. evaluate, save: called between steps, on all ranks.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        plan: Plan,
        state: TrainingState,
        updater: Updater,
        windows: Windows,
        processes: Processes,
        curve: Curve | None,
        evaluate: Callable[[], None],
        save: Callable[[], None],
    ) -> None:
        self.settings, self.plan, self.state, self.updater = settings, plan, state, updater
        self.windows, self.processes = windows, processes
        self.curve, self.evaluate, self.save = curve, evaluate, save
        self.stop = StopRequest()
        self.unchecked: list[Unchecked] = []
        self.saved_step = -1

    def run(self) -> None:
        """Train to the end of the plan, or to the step boundary after a signal; then `stop.agreed` is its number."""
        plan, state = self.plan, self.state
        if state.resumed_rng is None:
            set_seed(self.settings.seed + self.processes.rank)
        self.updater.runner.model.train()
        bar = progress_bar(total=plan.total_updates, initial=state.step, unit="step", desc="Training")
        with bar, self.stop:
            while state.step < plan.total_updates and not self.stop.agreed:
                order = self.start_epoch()
                while state.update < plan.updates_per_epoch and state.step < plan.total_updates:
                    self.one_step(plan.micro_batches(order, state.update))
                    bar.update()
                    if self.stop.agreed:
                        break
                if state.update == plan.updates_per_epoch and not self.stop.agreed:
                    state.epoch, state.update = state.epoch + 1, 0
            self.check_numbers()
            if self.stop.agreed and self.saved_step != state.step:
                self.save_now()

    def start_epoch(self) -> np.ndarray:
        """The windows of this epoch in its order."""
        sizes, settings, state = [*self.windows.file_sizes.values()], self.settings, self.state
        windows = epoch_windows(sizes, settings.sampling_temperature, state.epoch, settings.seed)
        return windows[state.start_epoch(self.plan.num_windows, self.processes)]

    def one_step(self, batches: list[np.ndarray]) -> None:
        """Forward, backward, update; then the book-keeping of the step."""
        loss = self.stop.agree(self.updater.gradients(batches), self.processes)
        norm = self.updater.step(self.learning_rate(self.state.step))
        self.state.step, self.state.update = self.state.step + 1, self.state.update + 1
        self.unchecked.append(Unchecked(self.state.step, batches, loss, norm))
        self.after_step(batches, norm)

    def after_step(self, batches: list[np.ndarray], norm: torch.Tensor) -> None:
        """Numbers checked, curve, evaluation, checkpoint."""
        settings, step = self.settings, self.state.step
        at_log = settings.logging_steps > 0 and step % settings.logging_steps == 0
        at_save = settings.save_steps > 0 and step % settings.save_steps == 0
        if at_log or at_save or norm.device.type == "cpu" or len(self.unchecked) >= MOST_UNCHECKED:
            self.check_numbers()
        if self.curve:
            self.curve.count(*self.updater.sizes(batches))
        if at_log:
            loss = self.state.mean_loss()
            if self.curve:
                self.curve.point(step, loss, norm.item(), self.learning_rate(step), norm.device)
            if settings.evaluate_during_training:
                self.evaluate()
                self.updater.runner.model.train()
        if at_save:
            self.save_now()

    def save_now(self) -> None:
        self.save()
        self.saved_step = self.state.step

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that follows `step` updates."""
        factor = learning_rate_factor(step, self.settings.warmup_steps, self.plan.total_updates)
        return self.settings.learning_rate * factor

    def check_numbers(self) -> None:
        """Add up the losses that the device has finished; stop when a number went wrong."""
        for update in self.unchecked:
            loss, norm = float(update.loss), float(update.norm)
            if self.updater.scaler and math.isfinite(loss) and not math.isfinite(norm):
                self.state.skipped += 1  # an fp16 overflow: GradScaler skipped the step and halved its scale
            elif not math.isfinite(loss) or not math.isfinite(norm):
                raise SquadError(self._wrong_numbers(update))
            self.state.count_loss(loss)
        self.unchecked.clear()

    def _wrong_numbers(self, update: Unchecked) -> str:
        windows = self.windows
        indices = np.concatenate(update.windows)
        qids = sorted({windows.examples[example].qid for example in windows.example_index[indices]})
        qids[MOST_IDS:] = [f"and {len(qids) - MOST_IDS} more"] * (len(qids) > MOST_IDS)
        rate = self.learning_rate(update.step - 1)
        return (
            f"step {update.step}: loss {float(update.loss)}, gradient norm {float(update.norm)} "
            f"at learning rate {rate:.2e}, questions {', '.join(qids)}; "
            "lower --learning_rate or add --warmup_steps (checkpoints are kept)"
        )
