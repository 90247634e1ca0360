"""How a training run is cut up: its settings, the order of the windows, the learning rate of each update."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch


@dataclass(frozen=True)
class TrainingSettings:
    """How to train, by the names of run_squad.py's flags; its --help says what each one means."""

    output_dir: str
    per_gpu_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int = -1
    learning_rate: float = 5e-5
    warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    fp16: bool = False
    pad_to_max_length: bool = False
    seed: int = 42
    sampling_temperature: float = 1.0
    logging_steps: int = 500
    save_steps: int = 500
    save_total_limit: int = 0
    evaluate_during_training: bool = False
    do_eval: bool = False


class Plan(NamedTuple):
    """How a training run is cut up. Batches are windows of all processes together; updates are optimiser steps."""

    num_windows: int
    batch_size: int
    accumulation: int
    total_updates: int

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(math.ceil(self.num_windows / self.batch_size) / self.accumulation)

    def micro_batches(self, order: np.ndarray, update: int) -> list[np.ndarray]:
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


def epoch_order(num_windows: int) -> np.ndarray:
    """A new shuffle: int64 (num_windows,), drawn from torch's global generator as the 2020 script's DataLoader did.

    The DataLoader draws its own base seed first, then its RandomSampler a seed for the permutation; both are drawn
    here, so that dropout meets the generator in the same state.
    """
    torch.empty((), dtype=torch.int64).random_()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.randperm(num_windows, generator=torch.Generator().manual_seed(seed)).numpy()


def epoch_shares(sizes: list[int], temperature: float) -> list[int]:
    """Windows that an epoch takes of each file: together as many as there are, in the ratio of size^(1/temperature).

    Rounded down, and what is left goes to the largest fractions, of equal ones to the first.
    """
    if temperature == 1:
        return sizes
    weights = (np.array(sizes) / max(sizes)) ** (1 / temperature)
    exact = sum(sizes) * weights / weights.sum()
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: sum(sizes) - shares.sum()]] += 1
    return shares.tolist()


def epoch_windows(sizes: list[int], temperature: float, epoch: int, seed: int) -> np.ndarray:
    """The windows of an epoch, not yet in its order: int64 (sum(sizes),). sizes: windows of each file.

    A file is an endless row of shuffles of its windows, of which each epoch takes its share and the next one goes on:
    no window comes again before all others of its file have come.
    """
    shares = epoch_shares(sizes, temperature)
    if shares == sizes:
        return np.arange(sum(sizes))
    parts, offset = [], 0
    for number, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        begin = epoch * share
        rounds = range(begin // size, -(-(begin + share) // size))
        row = np.concatenate([np.random.default_rng([seed, number, r]).permutation(size) for r in rounds])
        parts.append(offset + row[begin - rounds[0] * size :][:share])
        offset += size
    return np.concatenate(parts)
