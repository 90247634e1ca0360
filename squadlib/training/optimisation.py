"""An optimiser step: loss, clipping, AdamW, and the rows of the word embedding that are in use."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from squadlib.model.layout import WindowModel
from squadlib.model.windows import Windows

NO_DECAY = ("bias", "LayerNorm.weight")  # parameters without weight decay, by name, as in 2020


class UsedRows:
    """The word embedding cut down to the rows that the training data uses, while training.

    Without weight decay AdamW never changes a row that no token selects (its moments stay 0), so the whole matrix
    with the trained rows put back is the same to the bit; memory and time of the optimiser go down.
    """

    def __init__(self, runner: WindowModel, windows: Windows) -> None:
        self.runner = runner
        template = windows.template
        special = [*template.prefix, *template.middle, *template.suffix, template.pad_id]
        self.whole = runner.model.get_input_embeddings()
        used = np.zeros(self.whole.num_embeddings, bool)
        for ids in (special, windows.contexts.values, windows.questions.values):
            used[np.asarray(ids)] = True
        self.row_of_id = np.cumsum(used) - 1
        ids = torch.from_numpy(np.flatnonzero(used)).to(self.whole.weight.device)
        self.ids, padding = ids, self.whole.padding_idx
        padding = int(self.row_of_id[padding]) if padding is not None and used[padding] else None
        self.rows = torch.nn.Embedding(len(ids), self.whole.embedding_dim, padding, device=ids.device)
        with torch.no_grad():
            self.rows.weight.copy_(self.whole.weight[ids])
        self.swap_in()

    def swap_in(self) -> None:
        self.runner.model.set_input_embeddings(self.rows)
        self.runner.row_of_id = self.row_of_id

    def swap_out(self) -> None:
        """Put the trained rows back into the whole matrix and use that."""
        with torch.no_grad():
            self.whole.weight[self.ids] = self.rows.weight
        self.runner.model.set_input_embeddings(self.whole)
        self.runner.row_of_id = None


@contextlib.contextmanager
def whole_model(runner: WindowModel, used_rows: UsedRows | None) -> Iterator[Any]:
    """The model with its whole word embedding, for saving and evaluating in the middle of training."""
    if used_rows:
        used_rows.swap_out()
    try:
        yield runner.model
    finally:
        if used_rows:
            used_rows.swap_in()


def make_optimizer(model: Any, args: argparse.Namespace, exact: bool) -> Any:
    """AdamW with the 2020 groups. exact: torch's plain loop, whose arithmetic the 2020 script had; else fused."""
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not any(nd in n for nd in NO_DECAY)], "weight_decay": args.weight_decay},
        {"params": [p for n, p in named if any(nd in n for nd in NO_DECAY)], "weight_decay": 0.0},
    ]
    kind = {"foreach": False} if exact else {"fused": True}
    return torch.optim.AdamW(groups, lr=args.learning_rate, eps=args.adam_epsilon, **kind)


def clip_and_step(optimizer: Any, parameters: list[Any], max_norm: float, scaler: Any, exact: bool) -> Any:
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
    optimizer.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1.0)
    optimizer.found_inf = (~norm.isfinite()).float()  # skips the step, until check_numbers ends the run
    optimizer.step()
    return norm


def window_loss(runner: WindowModel, windows: Windows, indices: Any) -> Any:
    """Mean of the start and end cross-entropy over the windows, as a scalar tensor."""
    start_logits, end_logits = runner.logits(windows, indices)
    starts, ends = (runner.to_device(p[indices]).long() for p in (windows.start_position, windows.end_position))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(start_logits, starts) + cross_entropy(end_logits, ends)) / 2


def autocast(args: argparse.Namespace, device: Any) -> Any:
    """Mixed precision for the forward pass, where --bf16 or --fp16 asks for it."""
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
