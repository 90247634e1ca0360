"""Fine-tune a BERT-type model on SQuAD v1.1 or v2.0 files, predict, and score with the official metric.

    python run_squad.py --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \\
        --train_file nl_squadv2_train_clean.json --predict_file nl_squadv2_dev_clean.json \\
        --num_train_epochs 2 --max_seq_length 384 --doc_stride 128 --save_steps=8000 \\
        --output_dir output --overwrite_cache --overwrite_output_dir
    python run_squad.py --model_name_or_path output --question "…" --context "…"

Reads SQuAD JSON and a model (hub name or folder). Writes to output_dir: model, tokenizer, predictions_.json,
nbest_predictions_.json, null_odds_.json, results_.json, README.md (a model card) and checkpoint-N folders;
TensorBoard logs go to runs/.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import itertools
import json
import logging
import math
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from evaluate_v2 import best_thresholds, markdown_table, squad_evaluate
from utils_squad import (
    EXIT_OK,
    EXIT_USAGE,
    PADDING_FREE,
    Decoder,
    Example,
    PredictionFiles,
    SquadError,
    WindowModel,
    Windows,
    atomic_write,
    describe_os_error,
    exit_with_faults,
    fsync_dir,
    load_config,
    load_model,
    load_squad,
    load_tokenizer,
    make_windows,
    num_positions,
    pipeline,
    progress_bar,
    read_examples,
    read_json,
    script_main,
    setup_logging,
    write_json,
)

NO_FLAGS = """\
run_squad.py: error: no flags were given.
If you pasted the published command: its first line lacks the backslash at the end, so the shell ran this script alone.
Put a backslash after `run_squad.py`, or paste this:

    python run_squad.py \\
      --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \\
      --train_file $SQUAD_DIR/nl_squadv2_train_clean.json --predict_file $SQUAD_DIR/nl_squadv2_dev_clean.json \\
      --num_train_epochs 2 --max_seq_length 384 --doc_stride 128 --save_steps=8000 \\
      --output_dir ../../output --overwrite_cache --overwrite_output_dir

`python run_squad.py --help` lists all flags.
"""
NO_DECAY = ("bias", "LayerNorm.weight")  # parameters without weight decay, by name, as in 2020
DEFAULT_NAMES = {False: ("train-v1.1.json", "dev-v1.1.json"), True: ("train-v2.0.json", "dev-v2.0.json")}
DECODE_BLOCK = 256  # examples whose logits are held at a time
MOST_IDS = 32  # question ids in an error message
STATE_FILE, ARGS_FILE, OPTIMIZER_FILE = "training_state.json", "training_args.json", "optimizer.safetensors"
LEFT_OVER = re.compile(r"(checkpoint-\d+(\.old)?|model)\.tmp|\.(predictions|nbest_predictions|null_odds|results)_.*tmp")
NUM_SAMPLES = 8  # questions shown in TensorBoard
MARKDOWN = re.compile(r"[][\\`*{}<>&|~$#!:@]|(?<![^\W_])_|_(?![^\W_])")  # what has a meaning; "_" has none in a word
RESUMED_FLAGS = """learning_rate warmup_steps weight_decay adam_epsilon max_grad_norm bf16 fp16
pad_to_max_length"""
HPARAMS = """model_type model_name_or_path train_file learning_rate num_train_epochs max_steps warmup_steps weight_decay
per_gpu_train_batch_size gradient_accumulation_steps max_seq_length doc_stride seed bf16 fp16"""

logger = logging.getLogger("run_squad")


# ---------------------------------------------------------------------------------------------------------------------
# Seeds, batches, schedule: small pure functions
# ---------------------------------------------------------------------------------------------------------------------


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
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def epoch_order(num_windows: int) -> Any:
    """A new shuffle: int64 (num_windows,), drawn from torch's global generator as the 2020 script's DataLoader did.

    The DataLoader draws its own base seed first, then its RandomSampler a seed for the permutation; both are drawn
    here, so that dropout meets the generator in the same state.
    """
    import torch

    torch.empty((), dtype=torch.int64).random_()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.randperm(num_windows, generator=torch.Generator().manual_seed(seed)).numpy()


# ---------------------------------------------------------------------------------------------------------------------
# Processes: one, or several under torchrun
# ---------------------------------------------------------------------------------------------------------------------


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
            import torch.distributed as dist

            dist.barrier()

    def share(self, batch: Any) -> Any:
        """This process's equal part of a global batch (the last parts may be shorter or empty)."""
        size = -(-len(batch) // self.world)
        return batch[self.rank * size : (self.rank + 1) * size]

    def sum_gradients(self, parameters: list[Any], extra: Any) -> None:
        """Add up gradients, and the small tensor `extra`, over all processes, in one transfer a data type."""
        import torch
        import torch.distributed as dist

        tensors = [p.grad for p in parameters if p.grad is not None] + [extra]
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def leave(self) -> None:
        if self.world > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every process."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes on rank 0, [] elsewhere."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.gather_object(value, values if self.is_main else None)
        return values if self.is_main else []


def start_processes(local_rank: int, no_cuda: bool) -> Processes:
    """Join the torchrun that started this process, if any, and pick the device."""
    import torch
    import torch.distributed as dist

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


# ---------------------------------------------------------------------------------------------------------------------
# The step: optimiser, clipping, and the rows of the word embedding that are in use
# ---------------------------------------------------------------------------------------------------------------------


class UsedRows:
    """The word embedding cut down to the rows that the training data uses, while training.

    Without weight decay AdamW never changes a row that no token selects (its moments stay 0), so the whole matrix
    with the trained rows put back is the same to the bit; memory and time of the optimiser go down.
    """

    def __init__(self, runner: WindowModel, windows: Windows) -> None:
        import numpy as np
        import torch

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
        import torch

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
    import torch

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
    import torch

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
    import torch

    start_logits, end_logits = runner.logits(windows, indices)
    starts, ends = (runner.to_device(p[indices]).long() for p in (windows.start_position, windows.end_position))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(start_logits, starts) + cross_entropy(end_logits, ends)) / 2


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints: complete or absent, without pickles
# ---------------------------------------------------------------------------------------------------------------------


def save_model_files(folder: str, model: Any, tokenizer: Any, args: argparse.Namespace) -> None:
    """Model, tokenizer and training_args.json into an existing folder."""
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # safetensors reports a full disk as an exception of its own
        raise no_room(os.path.join(folder, "model.safetensors"), model.state_dict().values(), error) from error
    write_json(os.path.join(folder, ARGS_FILE), vars(args))


def save_final_model(args: argparse.Namespace, model: Any, tokenizer: Any) -> None:
    """The model into output_dir: written beside it first, then each file renamed into place."""
    temporary = os.path.join(args.output_dir, "model.tmp")
    with temporary_folder(temporary):
        save_model_files(temporary, model, tokenizer, args)
        for name in os.listdir(temporary):
            sync_file(os.path.join(temporary, name))
            os.replace(os.path.join(temporary, name), os.path.join(args.output_dir, name))
        fsync_dir(args.output_dir)


def sync_file(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(folder: str, trainer: Trainer, rng_states: list[dict[str, Any]]) -> None:
    """Write `folder` (…/checkpoint-N) as `folder`.tmp and rename it when every file is on the disk."""
    from safetensors.torch import save_file

    temporary = folder + ".tmp"
    with temporary_folder(temporary):
        with whole_model(trainer.runner, trainer.used_rows) as model:
            save_model_files(temporary, model, trainer.tokenizer, trainer.args)
        tensors = trainer.optimizer_tensors()
        for rank, state in enumerate(rng_states):
            tensors |= {f"rng.{rank}.{name}": tensor for name, tensor in state.items()}
        try:
            save_file(tensors, os.path.join(temporary, OPTIMIZER_FILE))
        except Exception as error:
            raise no_room(os.path.join(temporary, OPTIMIZER_FILE), tensors.values(), error) from error
        files = {}
        for name in sorted(os.listdir(temporary)):
            path = os.path.join(temporary, name)
            sync_file(path)
            files[name] = [os.path.getsize(path), file_digest(path)]
        state = {**trainer.progress(), "files": files}
        write_json(os.path.join(temporary, STATE_FILE), {**state, "digest": state_digest(state)})
        old = folder + ".old.tmp"
        if os.path.isdir(folder):  # of an earlier run: renamed first, as a half removed one is neither old nor new
            os.rename(folder, old)
        os.rename(temporary, folder)
        fsync_dir(os.path.dirname(folder))
        shutil.rmtree(old, ignore_errors=True)


def changed_flags(folder: str, args: argparse.Namespace) -> str:
    """`learning_rate 5e-05 (now 2e-05), …`: the flags of a checkpoint's training that are not the same now."""
    before = read_json(os.path.join(folder, ARGS_FILE))
    changed = [name for name in RESUMED_FLAGS.split() if name in before and before[name] != getattr(args, name)]
    return ", ".join(f"{name} {before[name]} (now {getattr(args, name)})" for name in changed)


def state_digest(state: dict[str, Any]) -> str:
    """SHA-256 of a training state without its own "digest", so that a changed number is noticed."""
    rest = {key: value for key, value in state.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_state(folder: str) -> dict[str, Any]:
    """The training state of a checkpoint, unharmed; raises SquadError otherwise."""
    state = read_json(os.path.join(folder, STATE_FILE))
    if not isinstance(state, dict) or state.get("digest") != state_digest(state):
        raise SquadError(f"{folder}/{STATE_FILE}: its content has changed since it was written; use another checkpoint")
    return state


def check_checkpoint(folder: str) -> dict[str, Any]:
    """The training state of a checkpoint whose files are all there and unharmed; raises SquadError otherwise."""
    state = read_state(folder)
    for name, (size, digest) in state["files"].items():
        path = os.path.join(folder, os.path.basename(name))
        if not os.path.isfile(path) or os.path.getsize(path) != size:
            raise SquadError(f"{path}: missing or cut off; use another checkpoint")
        if file_digest(path) != digest:
            raise SquadError(f"{path}: its content has changed since it was written; use another checkpoint")
    return state


def checkpoint_step(folder: str) -> int | None:
    """12 for …/checkpoint-12, None for any other name."""
    found = re.fullmatch(r"checkpoint-([0-9]{1,18})", os.path.basename(folder))
    return int(found[1]) if found else None


def list_checkpoints(output_dir: str) -> list[str]:
    """The checkpoint-N folders of output_dir by rising N."""
    folders = [os.path.join(output_dir, name) for name in os.listdir(output_dir)]
    return sorted((f for f in folders if checkpoint_step(f) is not None and os.path.isdir(f)), key=checkpoint_step)


def newest_checkpoint(output_dir: str) -> str | None:
    """The last valid checkpoint of the run that was started last; the reason for each skip is logged."""
    found = []
    for folder in list_checkpoints(output_dir):
        try:
            found.append((read_state(folder)["started"], checkpoint_step(folder), folder))
        except SquadError as error:
            logger.warning("skipping a checkpoint: %s", error)
    for _, _, folder in sorted(found, reverse=True):
        try:
            check_checkpoint(folder)
            return folder
        except SquadError as error:
            logger.warning("skipping a checkpoint: %s", error)
    return None


@contextlib.contextmanager
def temporary_folder(path: str) -> Iterator[None]:
    """A new, empty folder that is gone afterwards, unless it was renamed."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)


def no_room(path: str, tensors: Iterable[Any], error: Exception) -> SquadError:
    """What to say when tensors could not be written, which is most often a full disk."""
    need = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
    free = shutil.disk_usage(os.path.dirname(path)).free / 1e6
    return SquadError(
        f"{path}: could not be written ({error}); it needs {need:.1f} MB, {free:.1f} MB are free; free some, then the "
        "same command with --resume goes on from the last checkpoint"
    )


@contextlib.contextmanager
def locked_output_dir(output_dir: str) -> Iterator[None]:
    """The folder, made where it is missing, without what a killed run left behind, and closed to other runs."""
    import fcntl

    os.makedirs(output_dir, exist_ok=True)
    descriptor = os.open(output_dir, os.O_RDONLY)  # the lock ends with the process, even by kill -9
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SquadError(f"{output_dir}: another run is writing here; wait or name another folder") from error
        except OSError as error:
            logger.warning("%s: a second run here would not be noticed (%s)", output_dir, error.strerror)
        for name in filter(LEFT_OVER.fullmatch, os.listdir(output_dir)):
            path = os.path.join(output_dir, name)
            logger.warning("removing %s, left by a run that was killed", path)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        yield
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


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
        import torch

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
        import torch

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
        import torch

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
        import torch

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
        import torch
        from safetensors.torch import load_file

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


def autocast(args: argparse.Namespace, device: Any) -> Any:
    """Mixed precision for the forward pass, where --bf16 or --fp16 asks for it."""
    import torch

    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()


def get_rng_state() -> dict[str, Any]:
    import torch

    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def set_rng_state(state: dict[str, Any]) -> None:
    import torch

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


class TrainingLog:
    """TensorBoard and console points of a training run. The x-axis is optimiser steps."""

    def __init__(self, trainer: Trainer, facts: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.trainer = trainer
        run_dir = os.path.join("runs", os.path.basename(trainer.run_dir)) if trainer.run_dir else ""
        resumes = os.path.isdir(run_dir)
        purge_step = trainer.step + 1 if resumes else None
        self.run_dir = run_dir if resumes else default_run_dir()
        trainer.run_dir = os.path.basename(self.run_dir)
        self.num_tokens = trainer.windows.num_tokens()
        threading.excepthook = _report_thread_error
        with self._writing():
            self.writer = SummaryWriter(self.run_dir, purge_step=purge_step)
            charts = {name: ["Multiline", [f"eval_(HasAns_|NoAns_)?{name}$"]] for name in ("exact", "f1")}
            self.writer.add_custom_scalars({"All, HasAns and NoAns questions": charts})
            self.writer.add_text("run", textwrap.indent(facts, "    "), trainer.step)  # indented: taken literally

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Flushed behind the block, so that a running TensorBoard shows it now and a full disk is noticed here.

        The count of windows a second begins anew.
        """
        try:
            yield
            self.writer.flush()
        except OSError as error:
            raise SquadError(describe_os_error(error, self.run_dir)) from error
        self.since, self.windows, self.tokens, self.places = time.perf_counter(), 0, 0, 0

    def count(self, indices: Any) -> None:
        """Book an update: its windows, their real tokens, and the places that these take with padding."""
        trainer, tokens = self.trainer, self.num_tokens[indices]
        self.windows += len(indices)
        self.tokens += int(tokens.sum())
        layout, world, size = trainer.runner.layout, trainer.processes.world, trainer.plan.batch_size
        if layout == PADDING_FREE:
            self.places += int(tokens.sum())
        elif layout == "max_length":
            self.places += len(indices) * trainer.args.max_seq_length
        else:
            for batch in (tokens[first : first + size] for first in range(0, len(tokens), size)):
                parts = (trainer.processes._replace(rank=rank).share(batch) for rank in range(world))
                self.places += sum(len(part) * int(part.max(initial=0)) for part in parts)

    def point(self, loss: float, norm: float, lr: float) -> None:
        seconds = time.perf_counter() - self.since
        step = self.trainer.step
        values = {
            "lr": lr,
            "loss": loss,
            "train/grad_norm": norm,
            "train/windows_per_second": self.windows / seconds,
            "train/tokens_per_second": self.tokens / seconds,
            "train/padding_share": 1 - self.tokens / self.places,
            "train/memory_gib": peak_memory(self.trainer.processes.device),
        }
        with self._writing():
            self._add_scalars(values)
        rate = values["train/windows_per_second"]
        logger.info("step %d: loss %.4f, lr %.3e, gradient norm %.3f, %.1f windows/s", step, loss, lr, norm, rate)

    def _add_scalars(self, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, self.trainer.step)

    def evaluation(self, outcome: Outcome) -> None:
        """Scores, the sample questions, and how well the null odds tell answerable questions from the others."""
        import numpy as np
        import torch

        step = self.trainer.step
        with self._writing():
            self._add_scalars({f"eval_{key}": value for key, value in outcome.results.items()})
            self.writer.add_text("eval/samples", sample_table(outcome), step)
            if self.trainer.args.version_2_with_negative:
                has_answer = np.array([bool(texts) for texts in outcome.golds.values()])
                odds = np.array(list(outcome.null_odds.values()))
                answerable = torch.sigmoid(torch.from_numpy(-odds))  # 0.5 is --null_score_diff_threshold 0
                self.writer.add_pr_curve("eval/answerable", has_answer, answerable, step)
                for name, group in ("HasAns", odds[has_answer]), ("NoAns", odds[~has_answer]):
                    if len(group):
                        self.writer.add_histogram(f"eval_null_odds/{name}", group, step)

    def finish(self, results: dict[str, float]) -> None:
        """Flags and final scores for the HPARAMS page, and the end."""
        from torch.utils.tensorboard.summary import hparams

        scores = [f"eval_{key}" for key in results if key.endswith(("exact", "f1"))]
        flags = {name: vars(self.trainer.args)[name] for name in HPARAMS.split()}
        with self._writing():
            for summary in hparams(flags, dict.fromkeys(["loss", *scores], 0.0)):  # only their names are read
                self.writer.file_writer.add_summary(summary, self.trainer.step)
        self.writer.close()


def _report_thread_error(error: Any) -> None:
    """A traceback of a thread that died, but for TensorBoard's writer, which hands its error to the next call."""
    if "Writer" not in type(error.thread).__name__:
        threading.__excepthook__(error)


def peak_memory(device: Any) -> float:
    """GiB: of tensors on the GPU, else of the process."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def sample_table(outcome: Outcome) -> str:
    """Markdown of NUM_SAMPLES questions, the same at every step: spread over the file, half of them answerable."""
    has_ans, no_ans = ([q for q, texts in outcome.golds.items() if bool(texts) is kind] for kind in (True, False))
    num_no_ans = min(len(no_ans), max(NUM_SAMPLES // 2, NUM_SAMPLES - len(has_ans)))
    lines = ["| Question | Gold | Prediction | Null odds |", "|---|---|---|---:|"]
    questions = {example.qid: example.question for example in outcome.examples}
    for group, size in (has_ans, NUM_SAMPLES - num_no_ans), (no_ans, num_no_ans):
        size = min(size, len(group))
        for qid in (group[place * len(group) // size] for place in range(size)):
            texts = questions[qid], " / ".join(dict.fromkeys(outcome.golds[qid])), outcome.predictions[qid]
            cells = [escape_markdown(text) or "*no answer*" for text in texts]
            lines.append(f"| {' | '.join(cells)} | {outcome.null_odds[qid]:.2f} |")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """`text` on one line, which Markdown and HTML show as it is."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def default_run_dir() -> str:
    """runs/<MonDD_HH-MM-SS>_<host>, as in 2020; with a number behind it for a second run in the same second."""
    name = os.path.join("runs", time.strftime("%b%d_%H-%M-%S") + "_" + socket.gethostname())
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if not os.path.exists(candidate))


# ---------------------------------------------------------------------------------------------------------------------
# Prediction and scoring
# ---------------------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """Predictions of a file, by question id in file order; best_answers are those without the null answer."""

    examples: list[Example]
    predictions: dict[str, str]
    best_answers: dict[str, str]
    null_odds: dict[str, float]
    results: dict[str, float]  # scores; {} where there are none, and on all ranks but 0

    @property
    def golds(self) -> dict[str, list[str]]:
        return {example.qid: [answer.text for answer in example.answers] for example in self.examples}


def predict_file(
    args: argparse.Namespace, runner: WindowModel, tokenizer: Any, windows: Windows, processes: Processes, prefix: str
) -> Outcome:
    """Predict every question and stream the prediction files; all processes share the work, rank 0 writes."""
    outcome = Outcome(windows.examples, {}, {}, {}, {})
    decoder = Decoder(
        windows,
        tokenizer,
        n_best_size=args.n_best_size,
        max_answer_length=args.max_answer_length,
        version_2_with_negative=args.version_2_with_negative,
        null_score_diff_threshold=args.null_score_diff_threshold,
        do_lower_case=lower_cases(tokenizer),
    )
    files = PredictionFiles(args.output_dir, prefix, null_odds=args.version_2_with_negative)
    count = len(windows.examples)
    blocks = [(first, min(first + DECODE_BLOCK, count)) for first in range(0, count, DECODE_BLOCK)]
    bar = progress_bar(total=len(windows), unit="window", desc="Evaluating")
    runner.model.eval()
    with bar, files if processes.is_main else contextlib.nullcontext():
        for turn in range(0, len(blocks), processes.world):
            mine = blocks[turn + processes.rank : turn + processes.rank + 1]
            predictions = [p for block in mine for p in decode_block(args, runner, decoder, block, bar)]
            for part in processes.gather(predictions):
                for prediction in part:
                    files.write(prediction)
                    outcome.predictions[prediction.qid] = prediction.text
                    outcome.best_answers[prediction.qid] = next(c.text for c in prediction.nbest if c.text)
                    outcome.null_odds[prediction.qid] = prediction.null_odds
    return outcome


def decode_block(args: argparse.Namespace, runner: WindowModel, decoder: Decoder, block: tuple, bar: Any) -> list:
    """Predictions of examples [block[0], block[1])."""
    windows = decoder.windows
    first, last = (int(windows.first_window[example]) for example in block)
    with autocast(args, runner.device):
        logits = runner.predict(windows, first, last, args.per_gpu_eval_batch_size, bar.update)
    return list(decoder.decode(*block, *logits))


def lower_cases(tokenizer: Any) -> bool:
    """Whether the tokenizer lower-cases, read off what it does."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A").strip() == "a"


def score(outcome: Outcome, with_null: bool) -> dict[str, float]:
    """The results dict of the 2020 script; real thresholds, from the null odds, are logged beside it."""
    golds = outcome.golds
    results = squad_evaluate(golds, outcome.predictions)
    if with_null:
        best = best_thresholds(golds, outcome.best_answers, outcome.null_odds)
        logger.info("Thresholds on the null odds (--null_score_diff_threshold): %s", best)
    return results


def evaluate(
    args: argparse.Namespace,
    runner: WindowModel,
    tokenizer: Any,
    windows: Windows,
    processes: Processes,
    prefix: str = "",
) -> Outcome:
    """Predict, write the files, score."""
    logger.info("***** Running evaluation %s *****", prefix)
    logger.info("  Num examples = %d", len(windows.examples))
    logger.info("  Num windows = %d", len(windows))
    started = time.perf_counter()
    outcome = predict_file(args, runner, tokenizer, windows, processes, prefix)
    seconds = time.perf_counter() - started
    logger.info("  Evaluation done in %.1f s (%.1f windows/s)", seconds, len(windows) / seconds)
    results = score(outcome, args.version_2_with_negative) if processes.is_main else {}
    return outcome._replace(results=results)


# ---------------------------------------------------------------------------------------------------------------------
# Model card
# ---------------------------------------------------------------------------------------------------------------------

CARD_END = "\n<!-- generated by run_squad.py; SHA-256 of the text above: "
CARD = """\
---
{metadata}
---

# {name}

## Details of the language model

{base}: {size}

## Details of the downstream task (Q&A)

{origin}

| Dataset | # Q&A | Answerable | Unanswerable |
|---|---:|---:|---:|
{rows}

## Model benchmark

{benchmark}

## Model training

```bash
{facts}
```

## Model in action

With `utils_squad.py`, which lies beside `run_squad.py`:

```python
from utils_squad import pipeline

qa = pipeline("question-answering", model={folder})
print(qa(question={question}, context={context}))
```
"""


def model_card(
    args: argparse.Namespace, facts: str, model: Any, files: dict[str, list[Example]], results: dict[str, float]
) -> str:
    """Text of the card, with what is known. files: examples by path, the training file's first."""
    from huggingface_hub import EvalResult, ModelCardData

    name, base = os.path.basename(os.path.abspath(args.output_dir)), args.model_name_or_path
    on_hub = not os.path.exists(base)
    rows = []
    for path, examples in files.items():
        answerable = sum(bool(example.answers) for example in examples)
        count = os.path.basename(path), len(examples), answerable, len(examples) - answerable
        report = (not rows and args.cleaning_report) or f"{os.path.splitext(path)[0]}_report.json"
        rows += (os.path.isfile(report) and cleaning_rows(report)) or [count]
    record = translation_record(next(iter(files)))
    task = "squad_v2" if args.version_2_with_negative else "squad"
    about = {"task_type": "question-answering", "dataset_type": task, "dataset_name": os.path.basename([*files][-1])}
    scores = [
        EvalResult(**about, metric_type=kind, metric_value=results[key])
        for kind, key in (("exact_match", "exact"), ("f1", "f1"))
        if key in results
    ]
    metadata = ModelCardData(
        language=record.get("target_lang"),
        license=args.card_license,
        library_name="transformers",
        pipeline_tag="question-answering",
        base_model=base if on_hub else None,
        datasets=[task] if any("squad" in row[0].lower() or row[0] in DEFAULT_NAMES[True] for row in rows) else None,
        metrics=[score.metric_type for score in scores] or None,
        model_name=name if scores else None,
        eval_results=scores or None,
    )
    sizes = {"num_hidden_layers": "layer", "hidden_size": "hidden", "num_attention_heads": "heads"}
    sizes = [f"{getattr(model.config, key)}-{unit}" for key, unit in sizes.items() if hasattr(model.config, key)]
    languages = [escape_markdown(str(record.get(field))) for field in ("source_lang", "target_lang", "backend")]
    lines = [f"| {escape_markdown(row[0])} | {' | '.join(f'{number:,}' for number in row[1:])} |" for row in rows]
    table = markdown_table({escape_markdown(name): results})
    sample = min([*files.values()][-1], key=lambda example: (not example.answers, len(example.context)))
    quote = partial(json.dumps, ensure_ascii=False)  # a string of JSON is one of Python
    return CARD.format(
        metadata=metadata.to_yaml(),
        name=escape_markdown(name),
        base=f"[{base}](https://huggingface.co/{base})" if on_hub else f"`{base}`",
        size=", ".join([model.config.model_type, *sizes, f"{model.num_parameters():,} parameters"]),
        origin="Machine-translated from {} to {} by {}.".format(*languages) if record else "SQuAD-type questions.",
        rows="\n".join(lines),
        benchmark=f"{table}\n\n**Results**:\n\n```\n{results}\n```" if results else "Not scored yet.",
        facts=facts,
        folder=quote(args.output_dir),
        question=quote(sample.question),
        context=quote(sample.context),
    )


def cleaning_rows(report_file: str) -> list[tuple[str, int, int, int]]:
    """The data table of clean_squad.py's report; [], with a warning, when it has none."""
    kinds = "questions", "answerable", "unanswerable"
    try:
        return [(str(row["dataset"]), *(int(row[k]) for k in kinds)) for row in read_json(report_file)["datasets"]]
    except (SquadError, LookupError, TypeError, ValueError):
        logger.warning("%s is not a report of clean_squad.py, so the model card goes without it", report_file)
        return []


def translation_record(path: str) -> dict[str, Any]:
    """Languages and engine of a translated SQuAD file, which stand in front of its data; {} where they do not."""
    with open(path, encoding="utf-8", errors="replace") as file:
        found = re.search(r'"translation":\s*(\{[^{}]*\})', file.read(2000).split('"data"')[0])
    return json.loads(found[1]) if found else {}


def write_card(output_dir: str, text: str) -> None:
    """The card into README.md; beside it when that is no longer as this script wrote it."""
    path = os.path.join(output_dir, "README.md")
    if os.path.lexists(path) and not is_generated(path):
        kept, path = path, os.path.join(output_dir, "README.generated.md")
        logger.warning("%s was edited or is not ours, so it is kept; the new card is %s", kept, path)
    text = text.encode("utf-8", "replace").decode()  # a path may hold bytes that are not UTF-8
    with atomic_write(path) as out:
        out.write(f"{text}{CARD_END}{hashlib.sha256(text.encode()).hexdigest()} -->\n")
    logger.info("Saved the model card to %s", path)


def is_generated(path: str) -> bool:
    """Whether a card is to the byte what this script wrote."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        text, mark, digest = file.read().rpartition(CARD_END)
    return bool(mark) and digest == f"{hashlib.sha256(text.encode()).hexdigest()} -->\n"


# ---------------------------------------------------------------------------------------------------------------------
# Answers on standard output
# ---------------------------------------------------------------------------------------------------------------------

ANSWER_FLAGS = {  # flag: option of utils_squad.pipeline, whose default holds where the flag is not given
    "max_seq_length": "max_seq_len",
    "max_query_length": "max_question_len",
    "max_answer_length": "max_answer_len",
    "n_best_size": "top_k",
    "per_gpu_eval_batch_size": "batch_size",
    "version_2_with_negative": "handle_impossible_answer",
}


def answers_to_stdout(args: argparse.Namespace) -> bool:
    """Whether this is one --question or a file of JSON lines: no output_dir is needed."""
    lines = (args.predict_file or "") == "-" or (args.predict_file or "").endswith((".jsonl", ".ndjson"))
    return args.question is not None or (args.do_predict and lines)


def answer(args: argparse.Namespace, argv: list[str]) -> int:
    """Answer as utils_squad.pipeline does: its dict as one line of JSON a question, the question's id in front."""
    if args.question is not None:
        context = args.context if args.context is not None else read_text(args.context_file)
        records = [{"question": args.question, "context": context}]
    else:
        records = read_questions(os.path.join(args.data_dir, args.predict_file) if args.predict_file != "-" else "-")
    options = answer_options(args, argv)
    with garbage_collector_off():
        config, tokenizer = load_config_and_tokenizer(args, args.model_name_or_path)
        model = load_model(args.model_name_or_path, config, cache_dir=args.cache_dir or None)
    qa = pipeline(model=model, tokenizer=tokenizer, device="cpu" if args.no_cuda else None, **options)
    bar = progress_bar(total=len(records), unit="question", desc="Answering")
    with bar:
        for first in range(0, len(records), DECODE_BLOCK):
            block = records[first : first + DECODE_BLOCK]
            for record, found in zip(block, qa(block), strict=True):
                answers = found if isinstance(found, dict) else {"answers": found}
                named = {"id": record["id"]} if "id" in record else {}
                print(json.dumps({**named, **answers}, ensure_ascii=False), flush=True)
            bar.update(len(block))
    return EXIT_OK


def answer_options(args: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """Options of the pipeline from the flags that were given."""
    parser = build_parser()
    parser.set_defaults(doc_stride=None, **dict.fromkeys(ANSWER_FLAGS))
    given = parser.parse_args(argv)
    options = {option: getattr(given, flag) for flag, option in ANSWER_FLAGS.items()}
    options["window_step"] = given.doc_stride
    return options


def read_text(path: str) -> str:
    """A UTF-8 text file, or standard input for -; it must not be blank."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                raw = file.read()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SquadError(f"{path}: byte {error.start} is not valid UTF-8; save the file as UTF-8") from error
    if not text.strip():
        raise SquadError(f"{path}: the file is empty; there is nothing to work on")
    return text


def read_questions(path: str) -> list[dict[str, Any]]:
    """The records of a JSON-lines file: {"question": …, "context": …} with or without "id" on each line."""
    records = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        try:
            record = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise SquadError(f"{path}: line {number} is not JSON ({error}); each line is one question") from error
        if not line.strip():
            continue
        texts = [record.get(name) for name in ("question", "context")] if isinstance(record, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise SquadError(f'{path}: line {number} needs a "question" and a "context" that are text and not empty')
        records.append(record)
    return records


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The 45 flags of the last legacy script under their old names, modern spellings, and a few of our own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_flags(parser.add_argument_group("model"))
    add_data_flags(parser.add_argument_group("data"))
    add_task_flags(parser.add_argument_group("task"))
    defaults = "where not given: --max_answer_length 15, --n_best_size 1, 4 windows in a batch on a CPU and 32 on a GPU"
    add_answer_flags(parser.add_argument_group("answering to standard output, with a fine-tuned model", defaults))
    add_optimisation_flags(parser.add_argument_group("optimisation"))
    add_output_flags(parser.add_argument_group("output and logging"))
    add_device_flags(parser.add_argument_group("device"))
    group = parser.add_argument_group("debugging")
    group.add_argument("--server_ip", default="", metavar="IP", help="wait for a debugger (debugpy) at this address")
    group.add_argument("--server_port", default="", metavar="PORT", help="port of that debugger")
    return parser


def add_model_flags(group: Any) -> None:
    group.add_argument("--model_type", metavar="TYPE", help="bert, roberta, distilbert, …: the type of the model")
    group.add_argument("--model_name_or_path", metavar="NAME", help="hub name or folder; a checkpoint-N folder resumes")
    group.add_argument("--config_name", default="", metavar="NAME", help="configuration, if not the model's own")
    group.add_argument("--tokenizer_name", default="", metavar="NAME", help="tokenizer, if not the model's own")
    group.add_argument("--cache_dir", default="", metavar="DIR", help="where downloaded models are kept")
    group.add_argument(
        "--do_lower_case",
        action="store_true",
        default=None,
        help="lower-case the text (default: the tokenizer's own way)",
    )


def add_data_flags(group: Any) -> None:
    group.add_argument("--data_dir", default="", metavar="DIR", help="folder of the files (default names: *-v2.0.json)")
    group.add_argument("--train_file", metavar="FILE", help="SQuAD JSON to train on")
    group.add_argument("--predict_file", metavar="FILE", help="SQuAD JSON to predict and score")
    group.add_argument("--max_seq_length", type=int, default=384, metavar="N", help="tokens of a window (384)")
    group.add_argument("--doc_stride", type=int, default=128, metavar="N", help="tokens between window starts (128)")
    group.add_argument("--max_query_length", type=int, default=64, metavar="N", help="tokens kept of a question (64)")
    group.add_argument("--overwrite_cache", action="store_true", help="accepted; there is no feature cache any more")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="accepted; windows need no process pool")


def add_task_flags(group: Any) -> None:
    group.add_argument("--do_train", action="store_true", help="fine-tune on --train_file")
    group.add_argument("--do_eval", action="store_true", help="predict and score --predict_file")
    group.add_argument("--evaluate_during_training", action="store_true", help="score at every logging step too")
    group.add_argument("--eval_all_checkpoints", action="store_true", help="score every checkpoint-N of output_dir too")
    group.add_argument(
        "--version_2_with_negative",
        action="store_true",
        default=None,
        help="questions may be unanswerable (default: yes when the data has a question with is_impossible)",
    )
    group.add_argument(
        "--no_version_2_with_negative",
        dest="version_2_with_negative",
        action="store_false",
        help="always predict an answer, as for SQuAD v1.1",
    )
    group.add_argument(
        "--null_score_diff_threshold",
        type=float,
        default=0.0,
        metavar="X",
        help='answer "" when the null odds are above X (0)',
    )
    group.add_argument("--n_best_size", type=int, default=20, metavar="N", help="answers kept a question (20)")
    group.add_argument("--max_answer_length", type=int, default=30, metavar="N", help="tokens of an answer (30)")
    group.add_argument("--lang_id", type=int, default=0, help="accepted; only XLM models of 2019 used it")
    group.add_argument("--verbose_logging", action="store_true", help="log debug messages")


def add_answer_flags(group: Any) -> None:
    group.add_argument(
        "--do_predict",
        action="store_true",
        help="answer --predict_file without scoring: SQuAD JSON into output_dir, or *.jsonl (- for standard input) "
        'with {"question", "context"} a line to stdout',
    )
    group.add_argument("--question", metavar="TEXT", help="answer this from the context; a line of JSON on stdout")
    group.add_argument("--context", metavar="TEXT", help="text that may hold the answer to --question")
    group.add_argument("--context_file", metavar="FILE", help="the same from a text file (- for standard input)")


def add_optimisation_flags(group: Any) -> None:
    for phase in ("train", "eval"):
        group.add_argument(
            f"--per_gpu_{phase}_batch_size",
            f"--per_device_{phase}_batch_size",
            type=int,
            default=8,
            metavar="N",
            help="windows in a batch on each device (8); lower it if memory runs out",
        )
    group.add_argument("--learning_rate", type=float, default=5e-5, metavar="X", help="peak learning rate (5e-5)")
    group.add_argument("--gradient_accumulation_steps", type=int, default=1, metavar="N", help="batches an update (1)")
    group.add_argument("--weight_decay", type=float, default=0.0, metavar="X", help="AdamW weight decay (0)")
    group.add_argument("--adam_epsilon", type=float, default=1e-8, metavar="X", help="AdamW epsilon (1e-8)")
    group.add_argument("--max_grad_norm", type=float, default=1.0, metavar="X", help="gradients are clipped to it (1)")
    group.add_argument("--num_train_epochs", type=float, default=3.0, metavar="X", help="passes over the data (3)")
    group.add_argument("--max_steps", type=int, default=-1, metavar="N", help="updates; > 0 overrides the epochs")
    group.add_argument("--warmup_steps", type=int, default=0, metavar="N", help="updates of linear warm-up (0)")
    group.add_argument("--seed", type=int, default=42, metavar="N", help="seed of weights, order and dropout (42)")
    group.add_argument(
        "--pad_to_max_length",
        action="store_true",
        help="the 2020 arithmetic to the bit: padding to max_seq_length, plain AdamW; several times slower",
    )


def add_output_flags(group: Any) -> None:
    group.add_argument("--output_dir", metavar="DIR", help="folder for model, predictions and checkpoints")
    group.add_argument("--overwrite_output_dir", action="store_true", help="train into a folder that has files")
    group.add_argument("--resume", action="store_true", help="go on from the newest valid checkpoint in output_dir")
    group.add_argument("--logging_steps", type=int, default=500, metavar="N", help="log a point every N updates (500)")
    group.add_argument("--save_steps", type=int, default=500, metavar="N", help="save every N updates (500); 0: never")
    group.add_argument("--save_total_limit", type=int, default=0, metavar="N", help="checkpoints to keep; 0: all")
    group.add_argument("--card_license", metavar="ID", help="licence named in the model card, e.g. apache-2.0")
    group.add_argument(
        "--cleaning_report",
        metavar="FILE",
        help="clean_squad.py's --report_file, for the model card (default: <train_file without .json>_report.json)",
    )


def add_device_flags(group: Any) -> None:
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    group.add_argument("--bf16", action="store_true", help="bfloat16 mixed precision (recent GPUs and CPUs)")
    group.add_argument("--fp16", action="store_true", help="float16 mixed precision (GPUs)")
    group.add_argument("--fp16_opt_level", default="O1", help="accepted; it belonged to apex")
    group.add_argument("--tf32", action="store_true", help="TF32 matrix products on GPUs that have them")
    group.add_argument("--local_rank", "--local-rank", type=int, default=-1, help="set by torch's launchers")


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the flags, each as one sentence; [] when all is well. Derived names are not written back."""
    faults = check_answering(args) if args.do_predict or args.question is not None else check_task(args)
    positive = "max_seq_length doc_stride max_query_length n_best_size max_answer_length per_gpu_train_batch_size"
    for flag in f"{positive} per_gpu_eval_batch_size gradient_accumulation_steps".split():
        if getattr(args, flag) < 1:
            faults.append(f"--{flag} {getattr(args, flag)} must be at least 1")
    faults += check_ranges(args) + check_window_flags(args) + check_output_dir(args)
    if args.bf16 and args.fp16:
        faults.append("--bf16 and --fp16 exclude each other; take --bf16 where the device has it")
    if bool(args.server_ip) != bool(args.server_port):
        faults.append("--server_ip and --server_port belong together")
    return faults


def check_task(args: argparse.Namespace) -> list[str]:
    """Faults of a run that trains or evaluates."""
    faults = [f"--{f} is required" for f in ("model_type", "model_name_or_path", "output_dir") if not getattr(args, f)]
    if not args.do_train and not args.do_eval:
        faults.append("nothing to do: give --do_train, --do_eval or both, or --do_predict, or --question")
    if args.do_train and not (args.train_file or args.data_dir):
        faults.append("--do_train needs --train_file (or --data_dir with train-v2.0.json)")
    scoring = "--do_eval" if args.do_eval else args.evaluate_during_training and "--evaluate_during_training"
    if scoring and not (args.predict_file or args.data_dir):
        faults.append(f"{scoring} needs --predict_file (or --data_dir with dev-v2.0.json)")
    if args.context is not None or args.context_file:
        faults.append("--context needs a --question")
    if args.cleaning_report and not os.path.isfile(args.cleaning_report):
        faults.append(f"--cleaning_report {args.cleaning_report} is not there; name clean_squad.py's --report_file")
    return faults


def check_answering(args: argparse.Namespace) -> list[str]:
    """Faults of a run that answers without scoring: one --question, or the --predict_file of --do_predict."""
    faults = [] if args.model_name_or_path else ["--model_name_or_path is required"]
    if args.do_train or args.do_eval:
        faults.append("--do_predict and --question answer without scoring; give them without --do_train and --do_eval")
    if args.question is None:
        if args.context is not None or args.context_file:
            faults.append("--context needs a --question")
        if not args.predict_file:
            faults.append("--do_predict needs --predict_file: SQuAD JSON, or *.jsonl or - with JSON lines")
        elif not answers_to_stdout(args) and not args.output_dir:
            faults.append("--do_predict of a SQuAD file needs --output_dir for its predictions")
        return faults
    if args.do_predict:
        faults.append("--question and --do_predict exclude each other")
    if (args.context is None) == (not args.context_file):
        faults.append("--question needs one of --context and --context_file")
    if not args.question.strip() or args.context == "":
        faults.append("--question and --context must not be empty")
    return faults


def check_ranges(args: argparse.Namespace) -> list[str]:
    faults = []
    for flag in ("learning_rate", "adam_epsilon", "max_grad_norm", "num_train_epochs"):
        if not 0 < getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must be a number above 0")
    for flag in ("weight_decay", "warmup_steps", "save_total_limit", "seed"):
        if not 0 <= getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must not be negative")
    if args.seed >= 2**63:
        faults.append(f"--seed {args.seed} is too large; use a number below 2^63")
    if math.isnan(args.null_score_diff_threshold):
        faults.append("--null_score_diff_threshold nan is not a number")
    return faults


def check_window_flags(args: argparse.Namespace) -> list[str]:
    """BERT's 3 special tokens are counted; RoBERTa types have 4, which the windows themselves look at."""
    room = window_room(args)
    if room < 1:
        return [
            f"--max_seq_length {args.max_seq_length} leaves no room for the context beside a question of "
            f"{args.max_query_length} tokens and 3 specials; raise it or lower --max_query_length"
        ]
    if args.doc_stride > room:
        return [
            f"--doc_stride {args.doc_stride} leaves gaps: a window holds "
            f"{args.max_seq_length}-{args.max_query_length}-3 = {room} context tokens; use at most {room}"
        ]
    return []


def window_room(args: argparse.Namespace) -> int:
    """Context tokens of a window beside the longest question and BERT's special tokens."""
    return args.max_seq_length - args.max_query_length - 3


def check_output_dir(args: argparse.Namespace) -> list[str]:
    folder = args.output_dir
    if not folder:
        return []
    parent = os.path.abspath(folder)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        return [f"--output_dir {folder}: {parent} is a file; name a folder"]
    if not os.access(parent, os.W_OK):
        return [f"--output_dir {folder}: {parent} is not writable; name another folder"]
    in_use = os.path.isdir(folder) and os.listdir(folder)
    if args.do_train and in_use and not (args.overwrite_output_dir or args.resume):
        return [f"--output_dir {folder} has files; add --overwrite_output_dir to train into it, or --resume to go on"]
    return []


def data_path(args: argparse.Namespace, training: bool) -> str:
    """The file to read: --train_file or --predict_file under --data_dir, else the official name there."""
    named = args.train_file if training else args.predict_file
    if named:
        return os.path.join(args.data_dir, named)
    names = DEFAULT_NAMES[args.version_2_with_negative is not False]
    return os.path.join(args.data_dir, names[0 if training else 1])


def default_with_null(args: argparse.Namespace, path: str, examples: list[Example]) -> bool:
    """--version_2_with_negative where it is not given: for new questions as in training, else as the data is."""
    trained = os.path.join(args.model_name_or_path, ARGS_FILE)
    if args.do_predict and os.path.isfile(trained):
        with_null = bool(read_json(trained).get("version_2_with_negative"))
        logger.info("%s: --version_2_with_negative is %s, as in training", trained, "on" if with_null else "off")
        return with_null
    return has_unanswerable(path, examples)


def has_unanswerable(path: str, examples: list[Example]) -> bool:
    """Whether the data has a question with is_impossible, with a line that says what follows."""
    count = sum(example.is_impossible for example in examples)
    if count:
        logger.warning(
            "%s has %d unanswerable questions of %d: --version_2_with_negative is on (--no_…: off)",
            path,
            count,
            len(examples),
        )
    return count > 0


def wait_for_debugger(args: argparse.Namespace) -> None:
    if not args.server_ip:
        return
    try:
        import debugpy
    except ImportError as error:
        raise SquadError("--server_ip needs the package debugpy: pip install debugpy") from error
    debugpy.listen((args.server_ip, int(args.server_port)))
    logger.info("waiting for a debugger at %s:%s", args.server_ip, args.server_port)
    debugpy.wait_for_client()


def log_start(argv: list[str], processes: Processes, args: argparse.Namespace) -> str:
    """Command, versions, device and seed: logged, and returned as lines of a shell."""
    import platform

    import torch
    import transformers

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    place = f"device {processes.device}, {processes.world} process(es), seed {args.seed}"
    logger.info("Command: run_squad.py %s", shlex.join(argv))
    logger.info("%s; %s", versions, place)
    if args.overwrite_cache:
        logger.info("--overwrite_cache: nothing to overwrite, windows are made anew each time in seconds")
    program = "python" if processes.world == 1 else f"torchrun --nproc_per_node={processes.world}"
    lines = [f"{program} run_squad.py"]
    for part in map(shlex.quote, argv):
        lines += [part] if part.startswith("--") else [f"{lines.pop()} {part}"]
    return " \\\n  ".join(lines) + f"\n# {versions}\n# {place}"


def load_examples(path: str, training: bool, answers_required: bool = True) -> list[Example]:
    """Questions of a file; training needs an answer for every answerable one."""
    examples = read_examples(load_squad(path, answers_required=answers_required))
    for example in examples if training else []:
        if not example.is_impossible and not example.answers:
            raise SquadError(f"{path}: question {example.qid} has no answer to train on; add one or set is_impossible")
    return examples


def training_windows(args: argparse.Namespace, tokenizer: Any, examples: list[Example], path: str) -> Windows:
    windows = make_windows(examples, tokenizer, **window_flags(args), training=True)
    if windows.dropped:
        first = windows.dropped[0]
        count = len(windows.dropped)
        logger.warning("%s: %d questions dropped, answer not at its offset; the first is %s", path, count, first)
    answerable = sum(not example.is_impossible for example in examples)
    if len(windows.dropped) > answerable / 2:
        raise SquadError(
            f"{path}: {len(windows.dropped)} of {answerable} answers are not at their answer_start; were the contexts "
            "edited? Run clean_squad.py again"
        )
    if not len(windows):
        raise SquadError(f"{path}: no window to train on; every context is blank")
    return windows


def window_flags(args: argparse.Namespace) -> dict[str, int]:
    names = ("max_seq_length", "doc_stride", "max_query_length")
    return {name: getattr(args, name) for name in names}


def load_config_and_tokenizer(args: argparse.Namespace, folder: str) -> tuple[Any, Any]:
    cache_dir, lower = args.cache_dir or None, args.do_lower_case
    config = load_config(args.config_name or folder, model_type=args.model_type, cache_dir=cache_dir)
    if args.model_type not in (None, config.model_type):
        logger.warning("--model_type %s, but %s is of type %s; using that", args.model_type, folder, config.model_type)
    return config, load_tokenizer(args.tokenizer_name or folder, config, do_lower_case=lower, cache_dir=cache_dir)


def load_runner(args: argparse.Namespace, folder: str, config: Any, processes: Processes) -> WindowModel:
    """The model of `folder` on this process's device."""
    model = load_model(folder, config, cache_dir=args.cache_dir or None)
    limit = num_positions(model)
    if args.max_seq_length > limit:
        raise SquadError(f"{folder} has {limit} positions; --max_seq_length {args.max_seq_length} does not fit")
    layout = "max_length" if args.pad_to_max_length else "longest"
    return WindowModel(model.to(processes.device), layout, args.max_seq_length)


def choose_layout(runner: WindowModel, windows: Windows, processes: Processes) -> None:
    """Padding-free when the trial of every process went well, so that all have the same layout."""
    runner.choose_layout(windows)
    layouts = processes.gather(runner.layout)
    agreed = processes.from_main("longest" if "longest" in layouts else runner.layout)
    if agreed != runner.layout:
        runner.use(agreed)


def resume_folder(args: argparse.Namespace) -> str | None:
    """The checkpoint to go on from: the model folder itself when it is a real one, or with --resume the newest."""
    if not args.do_train:
        return None
    if os.path.isfile(os.path.join(args.model_name_or_path, STATE_FILE)):
        check_checkpoint(args.model_name_or_path)
        return args.model_name_or_path
    if not args.resume:
        return None
    folder = newest_checkpoint(args.output_dir)
    if folder is None:
        logger.warning(
            "--resume: no valid checkpoint in %s, starting from %s", args.output_dir, args.model_name_or_path
        )
    return folder


@contextlib.contextmanager
def garbage_collector_off() -> Iterator[None]:
    """For imports and loading: thousands of modules stay for good, and looking for garbage in them takes a sixth of it.

    What is there at the end is never looked through again.
    """
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@script_main
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        sys.stderr.write(NO_FLAGS)
        return EXIT_USAGE
    parser = build_parser()
    args = parser.parse_args(argv)
    exit_with_faults(parser, check_args(args))
    setup_logging(logging.DEBUG if args.verbose_logging else logging.INFO)
    # A second thread that spins for work makes a busy machine twenty times slower; waiting passively costs nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # must stand before torch is imported
    wait_for_debugger(args)
    with contextlib.ExitStack() as stack, torch_errors_explained():
        return answer(args, argv) if answers_to_stdout(args) else run(args, argv, stack)


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


def run(args: argparse.Namespace, argv: list[str], stack: contextlib.ExitStack) -> int:
    """Load, train, save, predict, score, report. stack: holds the lock on output_dir until all is written."""
    train_file, dev_file = data_path(args, True), data_path(args, False)
    train_examples = load_examples(train_file, True) if args.do_train else None
    wants_dev = args.do_eval or args.evaluate_during_training or args.do_predict
    dev_examples = load_examples(dev_file, False, not args.do_predict) if wants_dev else None
    if args.version_2_with_negative is None:
        shown = (dev_file, dev_examples) if wants_dev else (train_file, train_examples)
        args = argparse.Namespace(**{**vars(args), "version_2_with_negative": default_with_null(args, *shown)})
    with garbage_collector_off():
        import torch

        processes = start_processes(args.local_rank, args.no_cuda)
        if not processes.is_main:
            logging.getLogger().setLevel(logging.WARNING)
        facts = log_start(argv, processes, args)
        if args.bf16 and processes.device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
            raise SquadError("this GPU has no bfloat16; use --fp16")
        if args.tf32:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if processes.is_main:
            stack.enter_context(locked_output_dir(args.output_dir))
        resumed = processes.from_main(resume_folder(args) if processes.is_main else None)
        folder = resumed or args.model_name_or_path
        config, tokenizer = load_config_and_tokenizer(args, folder)
        set_seed(args.seed)  # decides the weights of a new question-answering head
        runner = load_runner(args, folder, config, processes)
    dev_windows = make_windows(dev_examples, tokenizer, **window_flags(args)) if wants_dev else None
    windows = training_windows(args, tokenizer, train_examples, train_file) if args.do_train else None
    choose_layout(runner, windows if args.do_train else dev_windows, processes)

    def evaluate_now() -> Outcome:
        return evaluate(args, runner, tokenizer, dev_windows, processes)

    log, results = None, {}
    if args.do_train:
        log = train(args, runner, tokenizer, windows, processes, evaluate_now, resumed, facts)
    if args.do_eval:
        results = report(args, runner, tokenizer, dev_windows, processes, log)
    if log:
        files = {train_file: train_examples} | ({dev_file: dev_examples} if wants_dev else {})
        write_card(args.output_dir, model_card(args, facts, runner.model, files, results))
        log.finish(results)
    if args.do_predict:
        predict_file(args, runner, tokenizer, dev_windows, processes, "")
        logger.info("Saved %s", os.path.join(args.output_dir, "predictions_.json"))
    processes.leave()
    return EXIT_OK


def train(
    args: argparse.Namespace,
    runner: WindowModel,
    tokenizer: Any,
    windows: Windows,
    processes: Processes,
    evaluate_now: Callable[[], Outcome],
    resumed: str | None,
    facts: str,
) -> TrainingLog | None:
    """Train from the start or from a checkpoint, then save the model into output_dir. Rank 0 returns its log."""
    trainer = Trainer(args, runner, tokenizer, windows, processes, evaluate_now)
    if resumed:
        trainer.restore(resumed)
    if processes.is_main:
        trainer.log = TrainingLog(trainer, facts)
    plan = trainer.plan
    logger.info("***** Running training *****")
    logger.info("  Num examples = %d", len(windows.examples))
    logger.info("  Num windows = %d, layout %s", len(windows), runner.layout)
    logger.info("  Windows per update = %d", plan.batch_size * plan.accumulation)
    logger.info("  Total optimization steps = %d", plan.total_updates)
    trainer.run()
    if trainer.stop_signal:
        logger.warning("stopped at step %d; the same command with --resume goes on", trainer.step)
        raise SystemExit(128 + trainer.stop_signal)
    logger.info(" global_step = %d, average loss = %s", trainer.step, trainer.total_loss / trainer.step)
    if trainer.skipped:
        logger.warning("%d updates were skipped for float16 overflow", trainer.skipped)
    if trainer.used_rows:
        trainer.used_rows.swap_out()
    if processes.is_main:
        save_final_model(args, runner.model, tokenizer)
        logger.info("Saved the model to %s", args.output_dir)
    processes.barrier()
    if trainer.asked_to_stop:  # behind the last step
        raise SystemExit(128 + trainer.asked_to_stop)
    return trainer.log


def report(
    args: argparse.Namespace,
    runner: WindowModel,
    tokenizer: Any,
    dev_windows: Windows,
    processes: Processes,
    log: TrainingLog | None,
) -> dict[str, float]:
    """Score the model, with --eval_all_checkpoints every checkpoint of output_dir before it."""
    results: dict[str, float] = {}
    for folder in list_checkpoints(args.output_dir) if args.eval_all_checkpoints else []:
        step = folder.split("-")[-1]
        logger.info("Loading checkpoint %s for evaluation", folder)
        config = load_config(folder)
        other = load_runner(args, folder, config, processes)
        choose_layout(other, dev_windows, processes)
        found = evaluate(args, other, tokenizer, dev_windows, processes, step).results
        results |= {f"{key}_{step}": value for key, value in found.items()}
    outcome = evaluate(args, runner, tokenizer, dev_windows, processes)
    results |= outcome.results
    if processes.is_main:
        logger.info("Results: %s", results)
        write_json(os.path.join(args.output_dir, "results_.json"), results)
        print(json.dumps(results))
    if log:
        log.evaluation(outcome)
    return outcome.results


if __name__ == "__main__":
    sys.exit(main())
