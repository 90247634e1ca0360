"""One optimiser step: losses and gradients of its micro-batches, clipping, AdamW."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from squadlib.console import logger
from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import first_line
from squadlib.model.windows import Windows
from squadlib.training.embedding_rows import UsedRows
from squadlib.training.plan import TrainingSettings
from squadlib.training.processes import Processes
from squadlib.training.recorded import Recorded

NO_DECAY = ("bias", "LayerNorm.weight")  # parameters without weight decay, by name, as in 2020
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter


class Updater:
    """A model with its optimiser: `gradients` of an update, then `step`."""

    def __init__(self, runner: WindowModel, windows: Windows, settings: TrainingSettings, processes: Processes) -> None:
        self.runner, self.windows, self.settings, self.processes = runner, windows, settings, processes
        # Other layouts leave it to the model to find padding and separators by their ids, which must stay its own.
        cut_rows = settings.weight_decay == 0 and runner.layout == PADDING_FREE
        self.used_rows = UsedRows(runner, windows) if cut_rows else None
        self.parameters = [p for p in runner.model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(runner.model, settings, runner.with_kernels)
        self.scaler = torch.amp.GradScaler(processes.device.type) if settings.fp16 else None
        self.parallel: DistributedDataParallel | None = None
        if processes.world > 1:
            self.parallel = processes.wrap(runner.model, some_unused(runner, windows, self.parameters))
        with_graphs = runner.with_kernels and runner.layout == PADDING_FREE and not self.parallel
        self.recorded = Recorded(self._fixed_gradients, self._fixed_loss) if with_graphs else None
        self.recorded_step = Recorded(self._clip_and_step)
        self.num_tokens = windows.num_tokens()
        if self.parallel:
            self._settle_sums()

    def gradients(self, batches: list[np.ndarray]) -> torch.Tensor:
        """Gradients of the mean loss over the micro-batches, of all processes together.

        Returns this process's part of that loss, whose sum over the processes is the whole.
        """
        if self.recorded:
            try:
                fixed = (self._fixed_batch(batch, 1 / len(batches)) for batch in batches)
                return torch.stack([self.recorded(batch) for batch in fixed]).sum()
            except RuntimeError as error:
                self._leave_graphs(error)
                self.optimizer.zero_grad()
        total = torch.zeros((), device=self.processes.device)
        for number, batch in enumerate(batches, 1):
            mine = self.processes.shares(batch)[self.processes.rank]
            with self._sync(last=number == len(batches)):
                with self.runner.autocast():  # a process without a share goes through the motions
                    loss = window_loss(self.runner, self.windows, mine if len(mine) else batch[:1], self.parallel)
                if self.parallel:
                    loss = loss * (len(mine) / len(batch))
                if len(batches) > 1:
                    loss = loss / len(batches)
                total += loss.detach()
                self._backward(loss * self.processes.world if self.parallel else loss)  # DDP takes the mean
        return total

    def _leave_graphs(self, error: RuntimeError) -> None:
        reason = first_line(error)
        logger.warning("no CUDA graphs (%s); every kernel is launched on its own, which takes longer", reason)
        self.recorded = None

    def _fixed_batch(self, batch: np.ndarray, weight: float) -> dict:
        """Tensors and constants for `_fixed_loss`."""
        inputs, widths = self.runner.inputs(self.windows, batch, fixed=True)
        starts, ends = labels(self.runner, self.windows, batch)
        weights = torch.full((), weight, device=starts.device)
        return {"inputs": [*inputs], "widths": widths, "starts": starts, "ends": ends, "weight": weights, **inputs}

    def _fixed_loss(self, batch: dict) -> torch.Tensor:
        """The weighted mean loss of a batch."""
        with self.runner.autocast():
            logits = self.runner.logits_of({name: batch[name] for name in batch["inputs"]}, batch["widths"])
            return span_loss(*logits, batch["starts"], batch["ends"]) * batch["weight"]

    def _fixed_gradients(self, batch: dict) -> torch.Tensor:
        """Adds the gradients of a batch to those of the parameters. Returns the loss."""
        loss = self._fixed_loss(batch)
        self._backward(loss)
        return loss.detach()

    def _backward(self, loss: torch.Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _settle_sums(self) -> None:
        """Exchange gradients once for nothing: behind the first exchange DDP puts them into another order.

        Among three or more processes the place of a gradient says in which order the processes' parts are added, so
        the first step of a resumed run would round otherwise than the same step of a run that was not stopped.
        """
        self.gradients([np.zeros(1, np.int64)])
        self.optimizer.zero_grad()

    def leave(self) -> None:
        """End the exchange of gradients: it must not outlive the group of processes, as both would wait forever."""
        self.parallel = None

    def _sync(self, last: bool) -> contextlib.AbstractContextManager:
        """Processes exchange gradients with the last micro-batch only."""
        return contextlib.nullcontext() if last or not self.parallel else self.parallel.no_sync()

    def step(self, learning_rate: float) -> torch.Tensor:
        """Update the model. Returns the norm of the gradients before clipping, as a tensor on the device."""
        norm = None
        if self.recorded and not self.scaler:
            rate = torch.full((), learning_rate, device=self.processes.device)
            try:
                norm = self.recorded_step({"learning_rate": rate})
            except RuntimeError as error:  # nothing was done
                self._leave_graphs(error)
        if norm is None:
            norm = self._clip_and_step({"learning_rate": learning_rate})
        self.optimizer.zero_grad(set_to_none=self.recorded is None)
        return norm

    def _clip_and_step(self, batch: dict) -> torch.Tensor:
        """`step` at batch["learning_rate"], a number, or a tensor that may change when this is recorded."""
        for group in self.optimizer.param_groups:
            group["lr"] = batch["learning_rate"]
        settings = self.settings
        return clip_and_step(
            self.optimizer, self.parameters, settings.max_grad_norm, self.scaler, settings.pad_to_max_length
        )

    def sizes(self, batches: list[np.ndarray]) -> tuple[int, int, int]:
        """Windows of an update, their real tokens, and the places that these take with padding."""
        tokens = [self.num_tokens[batch] for batch in batches]
        parts = [part for batch in tokens for part in self.processes.shares(batch)]
        places = sum(self.runner.num_places(part) for part in parts)
        return sum(map(len, tokens)), int(sum(batch.sum() for batch in tokens)), places

    def moments(self) -> dict[str, torch.Tensor]:
        """The optimiser's state by kind and parameter name, as it stands in a checkpoint."""
        return {
            f"{kind}.{name}": value
            for name, parameter in self.runner.model.named_parameters()
            for kind, value in self.optimizer.state.get(parameter, {}).items()
        }

    def restore_moments(self, tensors: dict[str, torch.Tensor]) -> str | None:
        """Take up what `moments` returned. Returns the name of a parameter whose shape is another one."""
        for name, parameter in self.runner.model.named_parameters():
            moments = {kind: tensors[f"{kind}.{name}"] for kind in MOMENTS if f"{kind}.{name}" in tensors}
            if moments and moments["exp_avg"].shape != parameter.shape:
                return name
            if moments:  # AdamW as a plain loop counts its steps on the host
                keep = {"step"} if self.settings.pad_to_max_length else set()
                moments = {k: v if k in keep else v.to(parameter.device) for k, v in moments.items()}
                self.optimizer.state[parameter] = moments
        return None


def make_optimizer(model: PreTrainedModel, settings: TrainingSettings, capturable: bool = False) -> torch.optim.AdamW:
    """AdamW with the 2020 groups: torch's plain loop, whose arithmetic the 2020 script had, or fused.

    capturable: the fused one is to be recorded.
    """
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not any(nd in n for nd in NO_DECAY)], "weight_decay": settings.weight_decay},
        {"params": [p for n, p in named if any(nd in n for nd in NO_DECAY)], "weight_decay": 0.0},
    ]
    rate, epsilon = settings.learning_rate, settings.adam_epsilon
    if settings.pad_to_max_length:
        return torch.optim.AdamW(groups, lr=rate, eps=epsilon, foreach=False)
    return torch.optim.AdamW(groups, lr=rate, eps=epsilon, fused=True, capturable=capturable)


def clip_and_step(
    optimizer: torch.optim.AdamW,
    parameters: list[torch.nn.Parameter],
    max_norm: float,
    scaler: torch.amp.GradScaler | None,
    exact: bool,
) -> torch.Tensor:
    """One update with gradients clipped to max_norm. Returns their norm before clipping, as a tensor on the device.

    The fused optimiser divides by `grad_scale` as it reads the gradients: clipping needs no pass of its own.
    """
    if scaler is not None:
        scaler.unscale_(optimizer)
    if exact or scaler is not None:
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        return norm
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # found_inf skips the step; the loop sees the norm and ends the run
    vars(optimizer).update(grad_scale=((norm + 1e-6) / max_norm).clamp(min=1.0), found_inf=(~norm.isfinite()).float())
    optimizer.step()
    return norm


def some_unused(runner: WindowModel, windows: Windows, parameters: list[torch.nn.Parameter]) -> bool:
    """Whether the loss leaves a parameter without gradient, found out on the first window."""
    loss = window_loss(runner, windows, np.zeros(1, np.int64))
    return any(gradient is None for gradient in torch.autograd.grad(loss, parameters, allow_unused=True))


def window_loss(
    runner: WindowModel, windows: Windows, indices: np.ndarray, forward: Callable | None = None
) -> torch.Tensor:
    """Mean of the start and end cross-entropy over the windows, as a scalar tensor. forward: as in `logits`."""
    start_logits, end_logits = runner.logits(windows, indices, forward)
    starts, ends = labels(runner, windows, indices)
    return span_loss(start_logits, end_logits, starts, ends)


def labels(runner: WindowModel, windows: Windows, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Start and end positions of the windows' answers, int64 (B,) each, on the model's device."""
    starts, ends = (runner.to_device(p[indices]).long() for p in (windows.start_position, windows.end_position))
    return starts, ends


def span_loss(
    start_logits: torch.Tensor, end_logits: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Mean of the two cross-entropies. Logits: float32 (B, width); positions: int64 (B,)."""
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(start_logits, starts) + cross_entropy(end_logits, ends)) / 2
