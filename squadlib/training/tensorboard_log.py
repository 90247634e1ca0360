"""TensorBoard and console points of a training run. The x-axis is optimiser steps."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from squadlib.console import SquadError, describe_os_error, logger
from squadlib.model.layout import PADDING_FREE
from squadlib.model.prediction import Outcome
from squadlib.training.loop import Trainer

NUM_SAMPLES = 8  # questions shown in TensorBoard
MARKDOWN = re.compile(r"[][\\`*{}<>&|~$#!:@]|(?<![^\W_])_|_(?![^\W_])")  # what has a meaning; "_" has none in a word
HPARAMS = """model_type model_name_or_path train_file learning_rate num_train_epochs max_steps warmup_steps weight_decay
per_gpu_train_batch_size gradient_accumulation_steps max_seq_length doc_stride seed bf16 fp16"""


class TrainingLog:
    """TensorBoard and console points of a training run. The x-axis is optimiser steps."""

    def __init__(self, trainer: Trainer, facts: str) -> None:
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
