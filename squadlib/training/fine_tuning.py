"""A run of fine-tuning, from a model folder to a trained model: what run_squad.py puts together."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from squadlib.console import SquadError, logger
from squadlib.files import JsonObject
from squadlib.model.calibration import remove_foreign_calibration
from squadlib.model.layout import LONGEST, MAX_LENGTH, WindowModel
from squadlib.model.loading import (
    load_config,
    load_config_and_tokenizer,
    load_model,
    num_positions,
    set_attention_dropout,
)
from squadlib.model.trial import choose_layout
from squadlib.model.windows import Windows
from squadlib.training.calibration import Report
from squadlib.training.checkpoints import check_space, list_checkpoints, save_final_model
from squadlib.training.embedding_rows import whole_model
from squadlib.training.evaluation import Evaluation, Outcome
from squadlib.training.loop import Trainer
from squadlib.training.model_card import training_files
from squadlib.training.optimisation import Updater
from squadlib.training.plan import TrainingSettings, epoch_shares, make_plan, set_seed
from squadlib.training.processes import Processes
from squadlib.training.resume import find_checkpoint, resume_training, save_training
from squadlib.training.state import TrainingState
from squadlib.training.tensorboard_log import TrainingLog


def log_start(argv: list[str], processes: Processes, seed: int) -> str:
    """Command, versions, device and seed: logged, and returned as lines of a shell."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    versions = f"Python {platform.python_version()}, {packages}"
    place = f"device {processes.device}, {processes.world} process(es), seed {seed}"
    logger.info("Command: run_squad.py %s", shlex.join(argv))
    logger.info("%s; %s", versions, place)
    if "--overwrite_cache" in argv:
        logger.info("--overwrite_cache: nothing to overwrite, windows are made anew each time in seconds")
    lines = [f"{processes.launcher} run_squad.py"]
    for part in map(shlex.quote, argv):
        lines += [part] if part.startswith("--") else [f"{lines.pop()} {part}"]
    return " \\\n  ".join(lines) + f"\n# {versions}\n# {place}"


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it runs, by the names of run_squad.py's flags."""

    model_name_or_path: str
    config_name: str
    tokenizer_name: str
    model_type: str
    do_lower_case: bool | None
    cache_dir: str
    max_seq_length: int
    pad_to_max_length: bool
    bf16: bool
    fp16: bool
    tf32: bool
    attention_dropout: float | None
    seed: int
    do_train: bool
    resume: bool
    output_dir: str


class Start(NamedTuple):
    """What a run begins with. checkpoint: the folder that it goes on from, None for a new training."""

    runner: WindowModel
    tokenizer: PreTrainedTokenizerFast
    checkpoint: str | None


def load_start(settings: ModelSettings, processes: Processes) -> Start:
    """The model and tokenizer that were asked for, or those of the checkpoint to go on from."""
    if settings.bf16 and processes.device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        raise SquadError("this GPU has no bfloat16; use --fp16")
    if settings.tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    name, checkpoint = settings.model_name_or_path, None
    if settings.do_train and processes.is_main:
        checkpoint = find_checkpoint(name, settings.output_dir, settings.resume)
    checkpoint = processes.from_main(checkpoint)
    folder = checkpoint or name
    names = settings.config_name, settings.tokenizer_name, settings.model_type
    config, tokenizer = load_config_and_tokenizer(folder, *names, settings.do_lower_case, settings.cache_dir)
    if settings.attention_dropout is not None:
        set_attention_dropout(config, settings.attention_dropout)
    set_seed(settings.seed)  # decides the weights of a new question-answering head
    return Start(load_runner(folder, config, settings, processes.device), tokenizer, checkpoint)


def load_runner(folder: str, config: PretrainedConfig, settings: ModelSettings, device: torch.device) -> WindowModel:
    """The model of `folder` on a device."""
    model = load_model(folder, config, cache_dir=settings.cache_dir)
    limit, width = num_positions(model), settings.max_seq_length
    if width > limit:
        raise SquadError(f"{folder} has {limit} positions; --max_seq_length {width} does not fit")
    model.to(device)  # type: ignore[arg-type]  # the annotation of transformers takes only a model
    dtype = torch.bfloat16 if settings.bf16 else torch.float16 if settings.fp16 else None
    return WindowModel(model, MAX_LENGTH if settings.pad_to_max_length else LONGEST, width, dtype)


def agree_on_layout(runner: WindowModel, windows: Windows, processes: Processes) -> None:
    """Padding-free when the trial of every process went well, so that all have the same layout."""
    choose_layout(runner, windows)
    layouts = processes.gather(runner.layout)
    agreed = processes.from_main(LONGEST if LONGEST in layouts else runner.layout)
    if agreed != runner.layout:
        runner.use(agreed)


def agree_on_work(all_windows: list[Windows], flags: JsonObject, processes: Processes) -> None:
    """Raise SquadError where a process has other flags or data than rank 0: an older file on a second machine, say.

    They would wait for each other forever, or train without a word on what nobody asked for.
    """
    if processes.world == 1:
        return
    work = {f"--{name}": value for name, value in flags.items() if name != "local_rank"}
    work["windows"] = "".join(windows.digest()[:8] for windows in all_windows)
    faults = [
        f"process {rank} has {name} {other[name]} and process 0 {value}"
        for rank, other in enumerate(processes.gather(work))
        for name, value in work.items()
        if other[name] != value
    ]
    if faults := processes.from_main(faults):
        raise SquadError(f"{faults[0]}; every process needs the same command and the same files")


class FineTuning:
    """A model in training; `run` trains it. log: TensorBoard, on rank 0."""

    def __init__(
        self,
        settings: TrainingSettings,
        runner: WindowModel,
        windows: Windows,
        tokenizer: PreTrainedTokenizerFast,
        processes: Processes,
        flags: JsonObject,
    ) -> None:
        self.settings, self.runner, self.windows, self.tokenizer = settings, runner, windows, tokenizer
        self.processes, self.flags = processes, flags
        self.plan = make_plan(
            len(windows),
            settings.per_gpu_train_batch_size * processes.world,
            settings.gradient_accumulation_steps,
            settings.num_train_epochs,
            settings.max_steps,
        )
        self.updater = Updater(runner, windows, settings, processes)
        self.state = TrainingState()
        self.log: TrainingLog | None = None

    def files_table(self) -> str:
        """Markdown of the training files' windows; "" where there is one file."""
        sizes = self.windows.file_sizes
        shares = epoch_shares([*sizes.values()], self.settings.sampling_temperature)
        return training_files(sizes, shares) if len(sizes) > 1 else ""

    def _start(self, checkpoint: str | None, facts: str, names: list[str]) -> None:
        plan, updater = self.plan, self.updater
        if checkpoint:
            self.state = resume_training(checkpoint, plan, updater, self.flags, self.processes)
        if self.processes.is_main:
            self._check_space()
            self.log = TrainingLog(self.state.run_dir, self.state.step, facts, names)
            self.state.run_dir = self.log.run_dir
        logger.info("***** Running training *****")
        logger.info("  Num examples = %d", len(self.windows.examples))
        logger.info("  Num windows = %d, layout %s", len(self.windows), self.runner.layout)
        if table := self.files_table():
            logger.info("  Files:\n%s", table)
            if self.log:
                self.log.text("data", table, self.state.step)
        logger.info("  Windows per update = %d", plan.batch_size * plan.accumulation)
        logger.info("  Total optimization steps = %d", plan.total_updates)

    def run(self, checkpoint: str | None, facts: str, evaluations: list[Evaluation]) -> None:
        """Train from the beginning or from a checkpoint, and save the model into output_dir.

        facts: of the run, for TensorBoard. evaluations: of --evaluate_during_training. Raises SystemExit after a
        signal.
        """
        self._start(checkpoint, facts, [evaluation.name for evaluation in evaluations])
        settings, state, processes = self.settings, self.state, self.processes
        evaluate = partial(self.evaluate, evaluations)
        trainer = Trainer(
            settings, self.plan, state, self.updater, self.windows, processes, self.log, evaluate, self.save
        )
        trainer.run()
        self.updater.leave()
        if trainer.stop.agreed:
            logger.warning("stopped at step %d; the same command with --resume goes on", state.step)
            raise SystemExit(128 + trainer.stop.agreed)
        logger.info(" global_step = %d, average loss = %s", state.step, state.total_loss / state.step)
        if state.skipped:
            logger.warning("%d updates were skipped for float16 overflow", state.skipped)
        if self.updater.used_rows:
            self.updater.used_rows.swap_out()
        if processes.is_main:
            save_final_model(settings.output_dir, self.runner.model, self.tokenizer, self.flags)
            logger.info("Saved the model to %s", settings.output_dir)
            if old := remove_foreign_calibration(settings.output_dir, self.runner.model):
                logger.warning("removed %s, the calibration of the model that was here before", old)
        processes.barrier()
        if trainer.stop.asked:  # behind the last step
            raise SystemExit(128 + trainer.stop.asked)

    def _check_space(self) -> None:
        """Look for the space that the run will need."""
        settings = self.settings
        every, parameters = settings.save_steps, sum(p.numel() for p in self.updater.parameters)
        steps = range(every, self.plan.total_updates + 1, every) if every > 0 else range(0)
        to_come = [step for step in steps if step > self.state.step]
        with whole_model(self.runner, self.updater.used_rows) as model:
            check_space(settings.output_dir, model, parameters, to_come, settings.save_total_limit)

    def save(self) -> None:
        """checkpoint-N of the state after N updates; older ones go when it is complete."""
        save_training(self.settings, self.plan, self.state, self.updater, self.tokenizer, self.flags, self.processes)

    def evaluate(self, evaluations: list[Evaluation]) -> None:
        """Scores in the middle of training; those of the end are left to --do_eval."""
        if not evaluations or (self.settings.do_eval and self.state.step == self.plan.total_updates):
            return
        with whole_model(self.runner, self.updater.used_rows):
            self.log_evaluation({evaluation.name: evaluation.run(self.runner) for evaluation in evaluations})

    def log_evaluation(self, outcomes: dict[str, Outcome]) -> None:
        if self.log:
            self.log.evaluation(self.state.step, outcomes, self.flags["version_2_with_negative"])

    def finish(self, results: dict[str, dict[str, float]]) -> None:
        """The final scores by name of the file, and the end of the log."""
        if self.log:
            self.log.finish(self.state.step, self.flags, results)


def score_checkpoints(evaluations: list[Evaluation], settings: ModelSettings) -> dict[str, dict[str, float]]:
    """By name of the file, the results of every checkpoint-N of output_dir, `_N` behind their names."""
    results: dict[str, dict[str, float]] = {evaluation.name: {} for evaluation in evaluations}
    windows, processes = evaluations[0].windows, evaluations[0].processes
    for step, folder in processes.from_main(list_checkpoints(settings.output_dir)):
        logger.info("Loading checkpoint %s for evaluation", folder)
        runner = load_runner(folder, load_config(folder), settings, processes.device)
        agree_on_layout(runner, windows, processes)
        for evaluation in evaluations:
            found = evaluation.run(runner, str(step)).results
            results[evaluation.name] |= {f"{key}_{step}": value for key, value in found.items()}
    return results


def log_calibration(report: Report, outcomes: dict[str, Outcome], facts: str, training: FineTuning | None) -> None:
    """The calibration in TensorBoard: in the log of the training, or with the scores in one of its own, at step 0."""
    if training and training.log:
        training.log.calibration(training.state.step, report)
        return
    log = TrainingLog(None, 0, facts, [*outcomes])
    log.evaluation(0, outcomes, report.with_null)
    log.calibration(0, report)
    log.close()
