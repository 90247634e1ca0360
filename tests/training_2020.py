"""The training loop of the 2020 run_squad.py, written plainly: what the project's own loop is compared with.

It runs beside ours in the same process, so that a processor's rounding is the same on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset


@dataclass(frozen=True)
class Settings:
    """The flags of the 2020 script that a loop needs."""

    per_gpu_train_batch_size: int = 8
    num_train_epochs: int = 2
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    adam_epsilon: float = 1e-8
    seed: int = 42


def padded(windows, width: int) -> TensorDataset:
    """input_ids, attention_mask, token_type_ids, start and end position of each window, padded to `width` tokens."""
    ids, mask, types = (np.zeros((len(windows), width), np.int64) for _ in range(3))
    for row in range(len(windows)):
        row_ids, row_types, (length,) = windows.assemble([row])
        ids[row, :length], mask[row, :length], types[row, :length] = row_ids, 1, row_types
    columns = ids, mask, types, windows.start_position.astype(np.int64), windows.end_position.astype(np.int64)
    return TensorDataset(*map(torch.from_numpy, columns))


def span_loss(model, batch, mask_padding: bool) -> torch.Tensor:
    """Mean cross-entropy of start and end; labels are clamped to the window, as 2020's models did.

    mask_padding: padding places are no classes of the softmax (2020 had them as classes).
    """
    ids, mask, types, starts, ends = batch
    output = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    total = 0
    for logits, labels in ((output.start_logits, starts), (output.end_logits, ends)):
        width = logits.size(1)
        logits = logits.masked_fill(mask == 0, -torch.inf) if mask_padding else logits
        total += torch.nn.functional.cross_entropy(logits, labels.clamp(0, width), ignore_index=width)
    return total / 2


def train(model, dataset: TensorDataset, settings: Settings, *, mask_padding: bool = False) -> list[dict[str, float]]:
    """Train in place. Returns loss (mean of the micro-batches), gradient norm and next learning rate of each update."""
    accumulation = settings.gradient_accumulation_steps
    loader = DataLoader(dataset, sampler=RandomSampler(dataset), batch_size=settings.per_gpu_train_batch_size)
    total = len(loader) // accumulation * settings.num_train_epochs
    named = list(model.named_parameters())
    plain = [p for n, p in named if n.endswith("bias") or "LayerNorm.weight" in n]
    decayed = [p for n, p in named if not (n.endswith("bias") or "LayerNorm.weight" in n)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, eps=settings.adam_epsilon, foreach=False)

    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return step / max(1, settings.warmup_steps)
        return max(0.0, (total - step) / max(1, total - settings.warmup_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    torch.manual_seed(settings.seed)
    updates, losses = [], []
    model.train()
    for _ in range(settings.num_train_epochs):
        for number, batch in enumerate(loader, 1):
            loss = span_loss(model, batch, mask_padding) / accumulation
            loss.backward()
            losses.append(loss.detach())
            if number % accumulation == 0:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
                optimizer.step()
                scheduler.step()
                model.zero_grad()
                rate = scheduler.get_last_lr()[0]
                updates.append({"loss": sum(losses).item(), "norm": norm.item(), "lr": rate})
                losses = []
    return updates
