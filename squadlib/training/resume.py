"""What a checkpoint keeps of a training run: saving it, and going on from it."""

from __future__ import annotations

import os
import time

from transformers import PreTrainedTokenizerFast

from squadlib.console import SquadError, logger
from squadlib.files import JsonObject
from squadlib.training.checkpoints import (
    OPTIMIZER_FILE,
    STATE_FILE,
    changed_flags,
    check_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
)
from squadlib.training.embedding_rows import whole_model
from squadlib.training.optimisation import Updater
from squadlib.training.plan import Plan, TrainingSettings
from squadlib.training.processes import Processes
from squadlib.training.state import TrainingState, get_rng_state


def find_checkpoint(model_folder: str, output_dir: str, resume: bool) -> str | None:
    """The checkpoint to go on from: the model folder itself when it is a real one, or with `resume` the newest."""
    if os.path.isfile(os.path.join(model_folder, STATE_FILE)):
        check_checkpoint(model_folder)
        return model_folder
    if not resume:
        return None
    folder = newest_checkpoint(output_dir)
    if folder is None:
        logger.warning("--resume: no valid checkpoint in %s, starting from %s", output_dir, model_folder)
    return folder


def save_training(
    settings: TrainingSettings,
    plan: Plan,
    state: TrainingState,
    updater: Updater,
    tokenizer: PreTrainedTokenizerFast,
    flags: JsonObject,
    processes: Processes,
) -> None:
    """checkpoint-N of the state after N updates; older ones beyond save_total_limit go when it is complete."""
    rng_states = processes.gather(get_rng_state())
    if processes.is_main:
        folder = os.path.join(settings.output_dir, f"checkpoint-{state.step}")
        values = {
            **state.to_json(),
            "world": processes.world,
            "plan": list(plan),
            "windows": updater.windows.digest(),
            "train_files": [[os.path.basename(path), size] for path, size in updater.windows.file_sizes.items()],
            "sampling": sampling(updater),
            "scaler": updater.scaler.state_dict() if updater.scaler else None,
        }
        tensors = state.rng_tensors(rng_states) | updater.moments()
        with whole_model(updater.runner, updater.used_rows) as model:
            save_checkpoint(folder, model, tokenizer, flags, values, tensors)
        logger.info("Saved %s", folder)
        remove_old_checkpoints(settings.output_dir, state.step, settings.save_total_limit)
    processes.barrier()


def sampling(updater: Updater) -> list[float] | None:
    """What chose the windows of each epoch; None where it takes all."""
    sizes, settings = updater.windows.file_sizes.values(), updater.settings
    if len(sizes) < 2 or settings.sampling_temperature == 1:
        return None
    return [settings.sampling_temperature, settings.seed, *sizes]


def _refuse_other_windows(folder: str, saved: JsonObject, updater: Updater) -> None:
    way_out = f"give the same, or delete its {STATE_FILE} to start a new training from its weights"
    if saved["windows"] != updater.windows.digest():
        before = [f"{name} {size}" for name, size in saved.get("train_files", [])]  # there was no list before 2026-11
        now = [f"{os.path.basename(path)} {size}" for path, size in updater.windows.file_sizes.items()]
        several = max(len(before), len(now)) > 1
        files = f" ({', '.join(before)}; now {', '.join(now)})" if several else ""
        raise SquadError(
            f"{folder} was made from other data or window settings, {saved['plan'][0]} windows{files}; {way_out}"
        )
    then, chosen = saved.get("sampling"), sampling(updater)
    if then != chosen:
        told = [
            f"--sampling_temperature {s[0]:g}, seed {s[1]}, files of {' + '.join(map(str, s[2:]))} windows"
            if s
            else "--sampling_temperature 1"
            for s in (then, chosen)
        ]
        raise SquadError(f"{folder} was made with {told[0]}, not with {told[1]}; {way_out}")


def move(state: TrainingState, before: Plan, plan: Plan, *, by_epochs: bool) -> None:
    """Bring the place of a run into another plan of the same windows: to the last update that begins there or before.

    No window of the epoch is left out, and less than an update of them is seen twice. by_epochs: the number of updates
    done becomes what the new plan needs to that place, so that the run ends after the same epochs and the schedule
    goes on where it was; with --max_steps, which counts updates, it stays.
    """
    size, old_size = plan.batch_size * plan.accumulation, before.batch_size * before.accumulation
    state.started = time.time()  # its checkpoints may have lower numbers than those that stand there, and are newer
    if size == old_size:
        return
    done = state.update * old_size
    state.update = plan.updates_per_epoch if done >= plan.num_windows else done // size
    if by_epochs:
        step = state.epoch * plan.updates_per_epoch + state.update
        state.total_loss *= step / state.step  # its mean stays
        state.step = step


def resume_training(
    folder: str, plan: Plan, updater: Updater, flags: JsonObject, processes: Processes
) -> TrainingState:
    """Go on from a checkpoint: optimiser, schedule, place in the data, random states. The model is loaded already.

    Same flags, same number of processes: the bits of a run that was never stopped.
    Another number of processes, the same windows in an update: the same windows in the same order to the end of the
    epoch, and the same numbers but for rounding. Dropout draws other numbers, and after it the later epochs' shuffles.
    Another number of windows in an update: a warning, and the nearest place that begins an update, see `move`.
    Other data or window settings are refused.
    """
    saved, tensors = load_checkpoint(folder)
    _refuse_other_windows(folder, saved, updater)
    state = TrainingState.from_json(saved)
    if saved["plan"] != list(plan):
        logger.warning(
            "%s: batch size or length differ from the run that made it, so this is another run from here on", folder
        )
        move(state, Plan(*saved["plan"]), plan, by_epochs=updater.settings.max_steps <= 0)
    changes = changed_flags(folder, flags)
    if wrong := updater.restore_moments(tensors):
        fault = f"{wrong} has another shape, as it was made with {changes or 'another model'}; resume with what it had"
        raise SquadError(f"{folder}/{OPTIMIZER_FILE}: {fault}")
    if changes:
        logger.warning("%s was made with %s; the new values hold from here on", folder, changes)
    if updater.scaler and saved["scaler"]:
        updater.scaler.load_state_dict(saved["scaler"])
    state.restore_rng(tensors, processes.rank, updater.settings.seed + processes.rank + state.step)
    logger.info("Going on from %s: %d updates done", folder, state.step)
    return state
