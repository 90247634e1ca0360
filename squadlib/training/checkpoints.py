"""Checkpoints: complete or absent, without pickles. They are saved and loaded as plain values and tensors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from squadlib.console import SquadError, logger
from squadlib.files import (
    LOCK_FILE,
    JsonObject,
    file_digest,
    fsync_dir,
    make_dirs,
    read_json,
    set_mode,
    sync_file,
    temporary_folder,
    write_json,
)

STATE_FILE, ARGS_FILE, OPTIMIZER_FILE = "training_state.json", "training_args.json", "optimizer.safetensors"
OLD = ".old.tmp"  # behind the name of a checkpoint that goes
LEFT_OVER = re.compile(r"(checkpoint-\d+(\.old)?|model)\.tmp|\.(predictions|nbest_predictions|null_odds|results)_.*tmp")
RESUMED_FLAGS = """learning_rate warmup_steps weight_decay adam_epsilon max_grad_norm bf16 fp16
pad_to_max_length attention_dropout"""


def save_model_files(
    folder: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, flags: JsonObject
) -> None:
    """Model, tokenizer and training_args.json into an existing folder. flags: of the command line, by name."""
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # safetensors reports a full disk as an exception of its own
        raise no_room(os.path.join(folder, "model.safetensors"), model.state_dict().values(), error) from error
    write_json(os.path.join(folder, ARGS_FILE), flags)


def save_final_model(
    output_dir: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, flags: JsonObject
) -> None:
    """The model into output_dir: written beside it first, then each file renamed into place, the weights last.

    A kill or a power cut leaves the old or the new model: where only the weights and the flags differ, as of the same
    model trained again, the weights decide which. Where its configuration or tokenizer differ, the old weights go
    first: between the two there are none, which loading notices, as it would not notice those of another model.
    """
    temporary = os.path.join(output_dir, "model.tmp")
    with temporary_folder(temporary):
        save_model_files(temporary, model, tokenizer, flags)
        names = sorted(os.listdir(temporary))
        for name in names:
            sync_file(os.path.join(temporary, name))
            # safetensors makes files that only their owner may read
            set_mode(os.path.join(temporary, name), os.path.join(output_dir, name))
        weights = [name for name in names if name.startswith("model")]
        others = [name for name in names if name not in weights]
        if not all(same_content(temporary, output_dir, name) for name in others if name != ARGS_FILE):
            for name in weights:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(output_dir, name))
            fsync_dir(output_dir)
        for group in (others, weights):
            for name in group:
                os.replace(os.path.join(temporary, name), os.path.join(output_dir, name))
            fsync_dir(output_dir)


def same_content(folder: str, other: str, name: str) -> bool:
    old = os.path.join(other, name)
    return os.path.isfile(old) and file_digest(os.path.join(folder, name)) == file_digest(old)


def save_checkpoint(
    folder: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    flags: JsonObject,
    state: JsonObject,
    tensors: dict[str, torch.Tensor],
) -> None:
    """Write `folder` (…/checkpoint-N) as `folder`.tmp and rename it when every file is on the disk.

    state: JSON; tensors: optimiser moments and random states.
    """
    temporary = folder + ".tmp"
    with temporary_folder(temporary):
        save_model_files(temporary, model, tokenizer, flags)
        try:
            save_file(tensors, os.path.join(temporary, OPTIMIZER_FILE))
        except Exception as error:
            raise no_room(os.path.join(temporary, OPTIMIZER_FILE), tensors.values(), error) from error
        files = {}
        for name in sorted(os.listdir(temporary)):
            path = os.path.join(temporary, name)
            sync_file(path)
            set_mode(path, os.path.join(folder, name))
            files[name] = [os.path.getsize(path), file_digest(path)]
        state = {**state, "files": files}
        write_json(os.path.join(temporary, STATE_FILE), {**state, "digest": state_digest(state)})
        with removed(folder):  # of an earlier run
            os.rename(temporary, folder)
            fsync_dir(os.path.dirname(folder))


def load_checkpoint(folder: str) -> tuple[JsonObject, dict[str, torch.Tensor]]:
    """(state, tensors) that `save_checkpoint` was given; raises SquadError when a file is missing or harmed."""
    return check_checkpoint(folder), load_file(os.path.join(folder, OPTIMIZER_FILE))


def changed_flags(folder: str, flags: JsonObject) -> str:
    """`learning_rate 5e-05 (now 2e-05), …`: the flags of a checkpoint's training that are not the same now."""
    before = read_json(os.path.join(folder, ARGS_FILE))
    changed = [name for name in RESUMED_FLAGS.split() if name in before and before[name] != flags[name]]
    return ", ".join(f"{name} {before[name]} (now {flags[name]})" for name in changed)


def state_digest(state: JsonObject) -> str:
    """SHA-256 of a training state without its own "digest", so that a changed number is noticed."""
    rest = {key: value for key, value in state.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_state(folder: str) -> JsonObject:
    """The training state of a checkpoint, unharmed; raises SquadError otherwise."""
    state = read_json(os.path.join(folder, STATE_FILE))
    if not isinstance(state, dict) or state.get("digest") != state_digest(state):
        raise SquadError(f"{folder}/{STATE_FILE}: its content has changed since it was written; use another checkpoint")
    return state


def check_checkpoint(folder: str) -> JsonObject:
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


def list_checkpoints(output_dir: str) -> list[tuple[int, str]]:
    """(N, folder) of each checkpoint-N of output_dir, by rising N."""
    folders = [os.path.join(output_dir, name) for name in os.listdir(output_dir)]
    steps = ((checkpoint_step(folder), folder) for folder in folders if os.path.isdir(folder))
    return sorted((step, folder) for step, folder in steps if step is not None)


def newest_checkpoint(output_dir: str) -> str | None:
    """The last valid checkpoint of the run that was started last; the reason for each skip is logged."""
    found = []
    for step, folder in list_checkpoints(output_dir):
        try:
            found.append((read_state(folder)["started"], step, folder))
        except SquadError as error:
            logger.warning("skipping a checkpoint: %s", error)
    for _, _, folder in sorted(found, reverse=True):
        try:
            check_checkpoint(folder)
            return folder
        except SquadError as error:
            logger.warning("skipping a checkpoint: %s", error)
    return None


def brought_back(old: str) -> bool:
    """Whether a checkpoint that had made place for another is in its place again, as the other never came."""
    folder = old.removesuffix(OLD)
    if os.path.exists(folder):
        return False
    try:
        check_checkpoint(old)
    except SquadError:  # a half removed one, which was to go
        return False
    os.rename(old, folder)
    return True


def remove_old_checkpoints(output_dir: str, step: int, limit: int) -> None:
    """Keep the last `limit` checkpoints up to this step; 0: all."""
    own = [folder for number, folder in list_checkpoints(output_dir) if number <= step]
    for old in own[:-limit] if limit else []:
        with removed(old):
            pass


@contextlib.contextmanager
def removed(folder: str) -> Iterator[None]:
    """Take a checkpoint away, if it is there: renamed first, as a half removed one is neither there nor gone."""
    old = folder + OLD
    if os.path.isdir(folder):
        os.rename(folder, old)
        fsync_dir(os.path.dirname(folder))
    yield
    shutil.rmtree(old, ignore_errors=True)


def no_room(path: str, tensors: Iterable[torch.Tensor], error: Exception) -> SquadError:
    """What to say when tensors could not be written, which is most often a full disk."""
    there = list_checkpoints(os.path.dirname(os.path.dirname(path)))
    again = "the same command with --resume goes on from the last checkpoint" if there else "run the same command again"
    if os.strerror(errno.EIO) in str(error):
        return SquadError(f"{path}: could not be written ({error}); look after the disk, then {again}")
    free = shutil.disk_usage(os.path.dirname(path)).free / 1e6
    return SquadError(
        f"{path}: could not be written ({error}); it needs {num_bytes(tensors) / 1e6:.1f} MB, {free:.1f} MB are free; "
        f"free some, then {again}"
    )


def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_space(output_dir: str, model: PreTrainedModel, num_moments: int, steps: Iterable[int], limit: int) -> None:
    """Raise SquadError when a run will not fit on the disk, before it starts.

    num_moments: parameters that the optimiser keeps two float32 of. steps: at which checkpoints will be written.
    limit: how many of them are kept, 0 for all.
    """
    final = num_bytes(model.state_dict().values())
    new = [step for step in steps if not os.path.isdir(os.path.join(output_dir, f"checkpoint-{step}"))]
    kept = min(len(new), limit + 1) if limit else len(new)  # one more while the newest replaces the oldest
    need, free = final + kept * (final + 8 * num_moments), shutil.disk_usage(output_dir).free
    advice = "free some, raise --save_steps or set --save_total_limit 1"
    if limit == 1:
        advice = "free some or raise --save_steps"
    if not kept:
        advice = "free some or name an --output_dir on another disk"
    if need > free:
        raise SquadError(
            f"{output_dir}: the model and {kept} checkpoints need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            f"{advice}"
        )


@contextlib.contextmanager
def locked_output_dir(output_dir: str) -> Iterator[None]:
    """The folder, made where it is missing, without what a killed run left behind, and closed to other runs."""
    make_dirs(output_dir)
    lock = FileLock(os.path.join(output_dir, LOCK_FILE))  # it ends with the process, even by kill -9
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.acquire(timeout=0))
        except Timeout as error:
            raise SquadError(f"{output_dir}: another run is writing here; wait or name another folder") from error
        except (OSError, NotImplementedError) as error:
            logger.warning("%s: a second run here would not be noticed (%s)", output_dir, error)
        for name in filter(LEFT_OVER.fullmatch, os.listdir(output_dir)):
            path = os.path.join(output_dir, name)
            if name.endswith(OLD) and brought_back(path):
                continue
            logger.warning("removing %s, left by a run that was killed", path)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        yield
