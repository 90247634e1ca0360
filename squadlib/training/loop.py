"""The training loop."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from squadlib.console import SquadError, logger, progress_bar
from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.prediction import Outcome
from squadlib.model.windows import Windows
from squadlib.training.checkpoints import (
    OPTIMIZER_FILE,
    STATE_FILE,
    changed_flags,
    check_checkpoint,
    checkpoint_step,
    list_checkpoints,
    save_checkpoint,
)
from squadlib.training.optimisation import UsedRows, autocast, clip_and_step, make_optimizer, whole_model, window_loss
from squadlib.training.processes import Processes
from squadlib.training.tensorboard_log import TrainingLog

MOST_IDS = 32  # question ids in an error message


class Plan(NamedTuple):
    """How a training run is cut up. Batches are windows of all processes together; updates are optimiser steps."""

    num_windows: int
    batch_size: int
    accumulation: int
    total_updates: int

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(math.ceil(self.num_windows / self.batch_size) / self.accumulation)

    def micro_batches(self, order: Any, update: int) -> list[Any]:
        """Window indices of each micro-batch of an update; the last update of an epoch takes what is left."""
        size = self.batch_size
        first = update * self.accumulation * size
        last = min(first + self.accumulation * size, self.num_windows)
        return [order[begin : min(begin + size, last)] for begin in range(first, last, size)]


def make_plan(num_windows: int, batch_size: int, accumulation: int, epochs: float, max_steps: int) -> Plan:
    """max_steps > 0 overrides the epochs; a fraction of an epoch is honoured, and at least one update is made."""
    plan = Plan(num_windows, batch_size, accumulation, 0)
    total = max_steps if max_steps > 0 else max(1, int(plan.updates_per_epoch * epochs + 1e-9))
    return plan._replace(total_updates=total)


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up over `warmup` updates, then linear decay to 0 at `total`."""
    if step < warmup:
        return float(step) / float(max(1, warmup))
    return max(0.0, float(total - step) / float(max(1.0, total - warmup)))


def set_seed(seed: int) -> None:
    """Seed random, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def epoch_order(num_windows: int) -> Any:
    """A new shuffle: int64 (num_windows,), drawn from torch's global generator as the 2020 script's DataLoader did.

    The DataLoader draws its own base seed first, then its RandomSampler a seed for the permutation; both are drawn
    here, so that dropout meets the generator in the same state.
    """
    torch.empty((), dtype=torch.int64).random_()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.randperm(num_windows, generator=torch.Generator().manual_seed(seed)).numpy()


class Trainer:
    """One training run: model, optimiser, place in the data, and logs. `run` is the loop."""

    def __init__(
        self,
        args: argparse.Namespace,
        runner: WindowModel,
        tokenizer: Any,
        windows: Windows,
        processes: Processes,
        evaluate: Callable[[], Outcome],
    ) -> None:
        self.args, self.runner, self.tokenizer, self.windows = args, runner, tokenizer, windows
        self.processes, self.evaluate = processes, evaluate
        self.exact = args.pad_to_max_length
        batch_size = args.per_gpu_train_batch_size * processes.world
        epochs, max_steps = args.num_train_epochs, args.max_steps
        self.plan = make_plan(len(windows), batch_size, args.gradient_accumulation_steps, epochs, max_steps)
        # Other layouts leave it to the model to find padding and separators by their ids, which must stay its own.
        cut_rows = args.weight_decay == 0 and runner.layout == PADDING_FREE
        self.used_rows = UsedRows(runner, windows) if cut_rows else None
        self.parameters = [p for p in runner.model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(runner.model, args, self.exact)
        self.scaler = torch.amp.GradScaler(processes.device.type) if args.fp16 else None
        self.step, self.epoch, self.update, self.skipped = 0, 0, 0, 0
        self.loss_sum, self.loss_count, self.total_loss = 0.0, 0, 0.0  # since the last point; since the start
        self.unchecked: list[tuple] = []  # (step, window indices, (loss, norm)) that the host has not seen yet
        self.epoch_rng: Any = None
        self.resumed_rng: Any = None
        self.run_dir: str | None = None
        self.log: TrainingLog | None = None  # on rank 0
        self.started, self.saved_step = time.time(), -1
        self.asked_to_stop = 0  # the signal that this process got, at any time
        self.asked_before: tuple | None = None  # whether any process had got one, a step ago
        self.stop_signal = 0  # the same at a step boundary, when all processes know it

    def run(self) -> None:
        """Train to the end of the plan, or to the step boundary after a signal."""
        if self.resumed_rng is None:
            set_seed(self.args.seed + self.processes.rank)
        self.runner.model.train()
        bar = progress_bar(total=self.plan.total_updates, initial=self.step, unit="step", desc="Training")
        with bar, stop_on_signals(self):
            while self.step < self.plan.total_updates and not self.stop_signal:
                order = self.start_epoch()
                while self.update < self.plan.updates_per_epoch and self.step < self.plan.total_updates:
                    loss, norm, windows = self.one_update(order, self.update)
                    self.step, self.update = self.step + 1, self.update + 1
                    self.after_update(loss, norm, windows)
                    bar.update()
                    if self.stop_signal:
                        break
                if self.update == self.plan.updates_per_epoch and not self.stop_signal:
                    self.epoch, self.update = self.epoch + 1, 0
            self.check_numbers()
            if self.stop_signal and self.saved_step != self.step:
                self.save()

    def start_epoch(self) -> Any:
        """The order of the windows in this epoch, the same in every process and after a resume."""
        resumed, self.resumed_rng = self.resumed_rng, None
        if resumed is not None:
            torch.set_rng_state(self.epoch_rng)
        self.epoch_rng = torch.get_rng_state()
        order = epoch_order(len(self.windows))
        if self.processes.world > 1:
            shared = torch.from_numpy(order).to(self.processes.device)
            torch.distributed.broadcast(shared, 0)
            order = shared.cpu().numpy()
        if resumed is not None:
            set_rng_state(resumed)
        return order

    def one_update(self, order: Any, update: int) -> tuple[Any, Any, Any]:
        """One optimiser step. Returns the loss (mean over its micro-batches), the gradient norm, the window indices."""
        batches = self.plan.micro_batches(order, update)
        total = torch.zeros((), device=self.processes.device)
        for batch in batches:
            mine = self.processes.share(batch)
            with autocast(self.args, self.processes.device):
                loss = window_loss(self.runner, self.windows, mine if len(mine) else batch[:1])
            if self.processes.world > 1:
                loss = loss * (len(mine) / len(batch))  # the sum over processes is the mean over the global batch
            if len(batches) > 1:
                loss = loss / len(batches)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            total += loss.detach()
        asked = float(self.asked_to_stop > 0)
        if self.processes.world > 1:
            extra = torch.stack([total, torch.full((), asked, device=total.device)])
            self.processes.sum_gradients(self.parameters, extra)
            total, asked = extra[0].clone(), self.anyone_asked(extra[1])
        if asked:  # all processes see the same sum, so all stop behind the same step
            self.stop_signal = self.asked_to_stop or signal.SIGTERM
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        norm = clip_and_step(self.optimizer, self.parameters, self.args.max_grad_norm, self.scaler, self.exact)
        self.optimizer.zero_grad()
        return total, norm, [index for batch in batches for index in batch]

    def anyone_asked(self, asked: Any) -> bool:
        """Whether a process asked to stop in the step before, whose sum has reached the host without a wait."""
        before = self.asked_before
        event = torch.cuda.Event() if asked.is_cuda else None
        self.asked_before = (asked.to("cpu", non_blocking=True, copy=True), event)
        if event:
            event.record()
        if before is None:
            return False
        if before[1]:
            before[1].synchronize()
        return before[0].item() > 0

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that follows `step` updates."""
        return self.args.learning_rate * learning_rate_factor(step, self.args.warmup_steps, self.plan.total_updates)

    def after_update(self, loss: Any, norm: Any, indices: Any) -> None:
        """Book-keeping behind a step: numbers checked, curve, evaluation, checkpoint."""
        args = self.args
        self.unchecked.append((self.step, indices, (loss, norm)))
        at_log = args.logging_steps > 0 and self.step % args.logging_steps == 0
        at_save = args.save_steps > 0 and self.step % args.save_steps == 0
        if at_log or at_save or len(self.unchecked) >= (1 if loss.device.type == "cpu" else 50):
            self.check_numbers()
        if self.log:
            self.log.count(indices)
        if at_log and self.log:
            self.log.point(self.loss_sum / self.loss_count, norm.item(), self.learning_rate(self.step))
        if at_log:
            self.loss_sum, self.loss_count = 0.0, 0
            if args.evaluate_during_training and not (args.do_eval and self.step == self.plan.total_updates):
                self.evaluate_now()
        if at_save:
            self.save()

    def evaluate_now(self) -> None:
        with whole_model(self.runner, self.used_rows):
            outcome = self.evaluate()
        self.runner.model.train()
        if self.log:
            self.log.evaluation(outcome)

    def check_numbers(self) -> None:
        """Add up the losses that the device has finished; stop when a number went wrong."""
        for step, indices, (loss, norm) in self.unchecked:
            loss, norm = float(loss), float(norm)
            if self.scaler and math.isfinite(loss) and not math.isfinite(norm):
                self.skipped += 1  # an fp16 overflow: GradScaler skipped the step and halved its scale
            elif not math.isfinite(loss) or not math.isfinite(norm):
                windows = self.windows
                qids = sorted({windows.examples[windows.example_index[index]].qid for index in indices})
                qids[MOST_IDS:] = [f"and {len(qids) - MOST_IDS} more"] * (len(qids) > MOST_IDS)
                rate = self.learning_rate(step - 1)
                raise SquadError(
                    f"step {step}: loss {loss}, gradient norm {norm} at learning rate {rate:.2e}, "
                    f"questions {', '.join(qids)}; lower --learning_rate or add --warmup_steps (checkpoints are kept)"
                )
            self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
            self.total_loss += loss
        self.unchecked.clear()

    def save(self) -> None:
        """checkpoint-N of the state after N updates; older ones beyond save_total_limit go when it is complete."""
        states = self.processes.gather(get_rng_state())
        if self.processes.is_main:
            folder = os.path.join(self.args.output_dir, f"checkpoint-{self.step}")
            save_checkpoint(folder, self, states)
            logger.info("Saved %s", folder)
            limit = self.args.save_total_limit
            own = [f for f in list_checkpoints(self.args.output_dir) if checkpoint_step(f) <= self.step]
            for old in own[:-limit] if limit else []:
                shutil.rmtree(old)
        self.saved_step = self.step
        self.processes.barrier()

    def progress(self) -> dict[str, Any]:
        """What a resumed run needs beside tensors."""
        return {
            "global_step": self.step,
            "epoch": self.epoch,
            "update": self.update,
            "loss_sum": self.loss_sum.hex(),
            "loss_count": self.loss_count,
            "total_loss": self.total_loss.hex(),
            "skipped": self.skipped,
            "world": self.processes.world,
            "plan": list(self.plan),
            "windows": self.windows.digest(),
            "started": self.started,
            "run_dir": self.run_dir,
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def optimizer_tensors(self) -> dict[str, Any]:
        """Optimiser moments by parameter name, and the generator at the start of the epoch."""
        tensors = {"epoch_rng": self.epoch_rng}
        for name, parameter in self.runner.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value
        return tensors

    def restore(self, folder: str) -> None:
        """Go on from a checkpoint: optimiser, schedule, place in the data, random states. The model is loaded."""
        state = check_checkpoint(folder)
        tensors = load_file(os.path.join(folder, OPTIMIZER_FILE))
        if state["windows"] != self.windows.digest():
            raise SquadError(
                f"{folder} was made from other data or window settings, {state['plan'][0]} windows; give the same, or "
                f"delete its {STATE_FILE} to start a new training from its weights"
            )
        self.step, self.epoch, self.update = state["global_step"], state["epoch"], state["update"]
        self.started = state["started"]
        if state["plan"] != list(self.plan):
            logger.warning(
                "%s: batch size or length differ from the run that made it, so this is another run from here on", folder
            )
            done = state["update"] * state["plan"][1] * state["plan"][2]
            self.update = min(done // (self.plan.batch_size * self.plan.accumulation), self.plan.updates_per_epoch)
        self.loss_sum, self.total_loss = float.fromhex(state["loss_sum"]), float.fromhex(state["total_loss"])
        self.loss_count = state["loss_count"]
        self.skipped, self.run_dir, self.epoch_rng = state["skipped"], state["run_dir"], tensors["epoch_rng"]
        self._restore_moments(folder, tensors)
        if changes := changed_flags(folder, self.args):
            logger.warning("%s was made with %s; the new values hold from here on", folder, changes)
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        rank = self.processes.rank
        own = f"rng.{rank}."
        self.resumed_rng = {n.removeprefix(own): tensor for n, tensor in tensors.items() if n.startswith(own)}
        torch.manual_seed(self.args.seed + rank + self.step)  # for what the checkpoint has no state of
        self.resumed_rng = get_rng_state() | self.resumed_rng
        logger.info("Going on from %s: %d updates done", folder, self.step)

    def _restore_moments(self, folder: str, tensors: dict[str, Any]) -> None:
        for name, parameter in self.runner.model.named_parameters():
            moments = {k: tensors[f"{k}.{name}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}.{name}" in tensors}
            if moments and moments["exp_avg"].shape != parameter.shape:
                made_with = changed_flags(folder, self.args) or "another model"
                fault = f"{name} has another shape, as it was made with {made_with}; resume with what it had"
                raise SquadError(f"{folder}/{OPTIMIZER_FILE}: {fault}")
            if moments:  # AdamW as a plain loop counts its steps on the host
                keep = {"step"} if self.exact else set()
                moments = {k: v if k in keep else v.to(parameter.device) for k, v in moments.items()}
                self.optimizer.state[parameter] = moments


def get_rng_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextlib.contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask for a checkpoint at the next step boundary; a second one quits at once."""

    def ask(signum: int, frame: Any) -> None:
        if trainer.asked_to_stop:
            raise SystemExit(128 + signum)
        trainer.asked_to_stop = signum
        logger.warning("signal %d: stopping after this step with a checkpoint; once more quits at once", signum)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
