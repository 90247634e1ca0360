"""TensorBoard and console points of a training run. The x-axis is optimiser steps."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from squadlib.console import SquadError, describe_os_error, escape_markdown, logger
from squadlib.files import JsonObject
from squadlib.training.calibration import Report, reliability, risks, tables
from squadlib.training.evaluation import Outcome, average
from squadlib.training.plots import chart

NUM_SAMPLES = 8  # questions shown in TensorBoard
HPARAMS = """model_type model_name_or_path train_file learning_rate num_train_epochs max_steps warmup_steps weight_decay
per_gpu_train_batch_size gradient_accumulation_steps max_seq_length doc_stride seed bf16 fp16 sampling_temperature"""


class TrainingLog:
    """TensorBoard and console points of a training run. The x-axis is optimiser steps."""

    def __init__(self, run_dir: str | None, step: int, facts: str, names: Sequence[str] = ()) -> None:
        """run_dir: the folder's name in runs/ where a resumed run goes on behind `step`; it is made anew otherwise.

        names: of the files that will be scored.
        """
        folder = os.path.join("runs", os.path.basename(run_dir)) if run_dir else ""
        resumes = os.path.isdir(folder)
        self.folder = folder if resumes else default_run_dir()
        self.since, self.windows, self.tokens, self.places = time.perf_counter(), 0, 0, 0
        self.num_lost = 0
        threading.excepthook = _report_thread_error
        charts = {name: ["Multiline", [f"eval_(HasAns_|NoAns_)?{name}$"]] for name in ("exact", "f1")}
        layout = {"All, HasAns and NoAns questions": charts}
        if any(names):
            layout["All files"] = {name: ["Multiline", [f"eval_{name}(/.+)?$"]] for name in ("exact", "f1")}
        try:
            self.writer = SummaryWriter(self.folder, purge_step=step + 1 if resumes else None)
            self.writer.add_custom_scalars(layout)
            self.writer.add_text("run", textwrap.indent(facts, "    "), step)  # indented: taken literally
            self.writer.flush()
        except OSError as error:
            raise SquadError(describe_os_error(error, self.folder)) from error

    @property
    def run_dir(self) -> str:
        """Name of the folder in runs/."""
        return os.path.basename(self.folder)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Flushed behind the block, so that a running TensorBoard shows it now and a disk that fails is noticed here.

        No run ends for its log: what cannot be written is missing there, and the next block tries a new event file.
        The count of windows a second begins anew.
        """
        try:
            yield
            self.writer.flush()
        except OSError as error:
            if not self.num_lost:
                logger.error("%s: %s; the run goes on, without this in TensorBoard", self.folder, error.strerror)
            self.num_lost += 1
            self.writer.file_writer = self.writer.all_writers = None  # the next call makes another
        self.since, self.windows, self.tokens, self.places = time.perf_counter(), 0, 0, 0

    def count(self, num_windows: int, num_tokens: int, num_places: int) -> None:
        """Book an update: its windows, their real tokens, and the places that these take with padding."""
        self.windows, self.tokens = self.windows + num_windows, self.tokens + num_tokens
        self.places += num_places

    def point(self, step: int, loss: float, norm: float, lr: float, device: torch.device) -> None:
        """A point of the curve, with the speed since the point before."""
        seconds = time.perf_counter() - self.since
        values = {
            "lr": lr,
            "loss": loss,
            "train/grad_norm": norm,
            "train/windows_per_second": self.windows / seconds,
            "train/tokens_per_second": self.tokens / seconds,
            "train/padding_share": 1 - self.tokens / self.places,
            "train/memory_gib": peak_memory(device),
        }
        with self._writing():
            self._add_scalars(values, step)
        rate = values["train/windows_per_second"]
        logger.info("step %d: loss %.4f, lr %.3e, gradient norm %.3f, %.1f windows/s", step, loss, lr, norm, rate)

    def _add_scalars(self, values: dict[str, float], step: int) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        with self._writing():
            self.writer.add_text(tag, markdown, step)

    def evaluation(self, step: int, outcomes: dict[str, Outcome], with_null: bool) -> None:
        """Scores, the sample questions, and how well the null odds tell answerable questions from the others.

        outcomes: by name of the file, which stands behind the tags; in front of them the mean of the files.
        """
        with self._writing():
            results = {name: outcome.results for name, outcome in outcomes.items()}
            self._add_scalars(_score_tags(results), step)
            for name, outcome in outcomes.items():
                self._questions(step, outcome, f"/{name}" if name else "", with_null)

    def _questions(self, step: int, outcome: Outcome, behind: str, with_null: bool) -> None:
        self.writer.add_text(f"eval/samples{behind}", sample_table(outcome), step)
        if with_null:
            has_answer = np.array([bool(texts) for texts in outcome.golds.values()])
            odds = np.array(list(outcome.null_odds.values()))
            answerable = torch.sigmoid(torch.from_numpy(-odds))  # 0.5 is --null_score_diff_threshold 0
            self.writer.add_pr_curve(f"eval/answerable{behind}", has_answer, answerable, step)
            for name, group in ("HasAns", odds[has_answer]), ("NoAns", odds[~has_answer]):
                if len(group):
                    self.writer.add_histogram(f"eval_null_odds{behind}/{name}", group, step)

    def calibration(self, step: int, report: Report) -> None:
        """Is a score the share of right answers, and how many are wrong among those with the highest scores?"""
        with self._writing():
            self.writer.add_text("calibration/groups", tables(report), step)
            for name in report.after:
                sides = {"before": report.before[name], "after": report.after[name]}
                lines = {side: reliability(scores)[:2] for side, scores in sides.items()}
                pictures = {
                    "reliability": chart(f"Reliability {name}", "score", "exactly right", lines, diagonal=True),
                    "risk_coverage": chart(
                        f"Risk against coverage {name}",
                        "share of the questions that is answered",
                        "wrong",
                        {side: risks(scores) for side, scores in sides.items()},
                    ),
                }
                for kind, picture in pictures.items():
                    tag = f"calibration/{kind}{'/' * bool(name)}{name}"
                    self.writer.add_image(tag, picture, step, dataformats="HWC")

    def finish(self, step: int, flags: JsonObject, results: dict[str, dict[str, float]]) -> None:
        """Flags and final scores for the HPARAMS page, and the end. results: by name of the file."""
        scores = [tag for tag in _score_tags(results) if tag.split("/")[0].endswith(("exact", "f1"))]
        shown = {name: flags[name] for name in HPARAMS.split()}
        shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in shown.items()}
        with self._writing():
            for summary in hparams(shown, dict.fromkeys(["loss", *scores], 0.0)):  # only their names are read
                self.writer._get_file_writer().add_summary(summary, step)
        self.close()

    def close(self) -> None:
        with self._writing():
            self.writer.close()
        if self.num_lost:
            logger.error("%s could not be written to %d times: its curves have gaps", self.folder, self.num_lost)


def _score_tags(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Tag -> score: eval_f1 of a file without a name, eval_f1/nl of one with a name, and then eval_f1 is their mean."""
    means = {} if "" in results else average(results)
    tags = {f"eval_{key}": value for key, value in means.items()}
    for name, scores in results.items():
        tags |= {f"eval_{key}{'/' * bool(name)}{name}": value for key, value in scores.items()}
    return tags


def _report_thread_error(error: threading.ExceptHookArgs) -> None:
    """A traceback of a thread that died, but for TensorBoard's writer, which hands its error to the next call."""
    if "Writer" not in type(error.thread).__name__:
        threading.__excepthook__(error)


def peak_memory(device: torch.device) -> float:
    """GiB: of tensors on the GPU, else of the process; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource  # POSIX alone has it
    except ImportError:
        return 0.0
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


def default_run_dir() -> str:
    """runs/<MonDD_HH-MM-SS>_<host>, as in 2020; with a number behind it for a second run in the same second."""
    name = os.path.join("runs", time.strftime("%b%d_%H-%M-%S") + "_" + socket.gethostname())
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if not os.path.exists(candidate))
