"""Real processes of run_squad.py that start in milliseconds: a server process imports torch and transformers once, and
each run is a fork of it with its own folder, files for stdout and stderr, signals and limits."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import ROOT

from squadlib.files import LOCK_FILE

TINY_BERT, MINI_SQUAD = ROOT / "tests" / "golden" / "tiny_bert", ROOT / "tests" / "golden" / "mini_squad.json"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["warm_start"])


def _start(process: Any) -> None:
    """The server itself starts with the first process, and finds its modules through PYTHONPATH alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), before]))
    process.start()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def _serve(
    argv: list[str], folder: str, logs: str, environment: dict[str, str], file_limit: int | None, hook: Any
) -> None:
    """In the fork: be `python run_squad.py argv` in `folder`."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(logs, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.chdir(folder)
    os.environ.update(environment)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from tqdm.std import tqdm

    import run_squad

    tqdm.set_lock(threading.RLock())  # its own is a semaphore that all forks share: one killed with it stops the rest
    if hook:
        hook()
    code = 1
    try:
        code = run_squad.main(argv)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(code)


class Run:
    """A running run_squad.py; `wait` gives its exit code (negative: the signal that killed it).

    file_limit: bytes a file may have (RLIMIT_FSIZE). hook: a picklable function that is called before main. logs: the
    folder of its stdout and stderr, if another.
    """

    def __init__(
        self,
        folder: Path,
        *argv: object,
        env: dict | None = None,
        file_limit: int | None = None,
        hook: Callable[[], None] | None = None,
        logs: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.logs = logs or folder
        self.logs.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):
            (self.logs / name).unlink(missing_ok=True)
            (self.logs / name).touch()
        self.pipe, self.read = None, b""
        if file_limit:  # the limit would cut stderr off, were it a file
            (self.logs / "stderr").unlink()
            os.mkfifo(self.logs / "stderr")
            self.pipe = os.open(self.logs / "stderr", os.O_RDWR | os.O_NONBLOCK)
        environment = {name: str(value) for name, value in (env or {}).items()}
        folders = str(folder), str(self.logs)
        arguments = ([str(part) for part in argv], *folders, environment, file_limit, hook)
        self.process = _context.Process(target=_serve, args=arguments, daemon=True)
        _start(self.process)
        self.pid = self.process.pid

    def wait(self, timeout: float = 120) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.stderr)
        return self.process.exitcode

    def wait_for(self, condition, timeout: float = 60) -> None:
        """Until condition() is true; an early end of the run is an error."""
        end = time.monotonic() + timeout
        while not condition():
            if self.process.exitcode is not None or time.monotonic() > end:
                raise TimeoutError(f"exit code {self.process.exitcode}: {self.stderr}")
            time.sleep(0.002)

    def kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def stderr(self) -> str:
        if self.pipe is not None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.read += os.read(self.pipe, 1 << 16)
            return self.read.decode()
        return (self.logs / "stderr").read_text(encoding="utf-8")

    @property
    def stdout(self) -> str:
        return (self.logs / "stdout").read_text(encoding="utf-8")


def flags(*more: object, model: object = TINY_BERT, train: object = MINI_SQUAD, out: object = "out") -> list[str]:
    """A short training run; later flags win."""
    argv = ["--model_type", "bert", "--model_name_or_path", model, "--do_train", "--train_file", train]
    argv += ["--output_dir", out, "--max_seq_length", 64, "--doc_stride", 32, "--max_query_length", 12, "--no_cuda"]
    argv += ["--per_gpu_train_batch_size", 4, "--logging_steps", 1, "--save_steps", 0, "--learning_rate", "1e-3"]
    return [str(part) for part in (*argv, *more)]


def write_small_squad(path: Path, num_questions: int = 14) -> Path:
    """The first questions of the mini file."""
    document = json.loads(MINI_SQUAD.read_text(encoding="utf-8"))
    left = num_questions
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = paragraph["qas"][:left]
            left -= len(paragraph["qas"])
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def as_lines(document: dict[str, Any]) -> str:
    """A SQuAD document as a hub publishes it: a question a line."""
    lines = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")}
                row = {"id": qa["id"], "context": paragraph["context"], "question": qa["question"], "answers": answers}
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def weights(folder: Path) -> dict[str, bytes]:
    """The bits of every parameter in a model folder."""
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(folder / "model.safetensors").items()}


def curve(runs: Path) -> dict[str, list[tuple[int, bytes]]]:
    """(step, float32 bits) of every point that TensorBoard shows of the last run, by tag; not of time and memory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = max(runs.iterdir(), key=lambda run: max(file.stat().st_mtime_ns for file in run.iterdir()))
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if not re.search("per_second|memory", tag)]
    return {
        tag: [(point.step, np.float32(point.value).tobytes()) for point in accumulator.Scalars(tag)] for tag in tags
    }


def file_names(folder: Path) -> list[str]:
    """What a run wrote into its output_dir; the lock that keeps other runs out stays there, empty."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE)


def prediction_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*_.json")}


def compare_ends(unbroken: Path, broken: Path) -> dict[str, bool | int]:
    """What two runs have in common at their ends, and how much of it there is."""
    bits, points = weights(unbroken / "out"), curve(unbroken / "runs")
    return {
        "weights equal": bits == weights(broken / "out"),
        "prediction files equal": prediction_files(unbroken / "out") == prediction_files(broken / "out"),
        "curve equal": points == curve(broken / "runs"),
        "bits compared": 8 * sum(map(len, bits.values())),
        "points compared": sum(map(len, points.values())),
    }


def one_sentence(stderr: str) -> str:
    """The only ERROR line."""
    (line,) = [line for line in stderr.splitlines() if " - ERROR - " in line]
    assert "Traceback" not in stderr
    return line.split(" - ERROR - ", 1)[1].split(" - ", 1)[1]


def eval_flags(model, small, *more):
    argv = ["--model_type", "bert", "--model_name_or_path", model, "--do_eval", "--predict_file", small]
    argv += ["--output_dir", "out", "--max_seq_length", 64, "--doc_stride", 32, "--max_query_length", 12, "--no_cuda"]
    return [str(part) for part in (*argv, *more)]


def set_weights(folder, **changes):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        tensors[name.replace("__", ".")] = change(tensors[name.replace("__", ".")])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


VARIANTS = {
    "padding_free": "--gradient_accumulation_steps 2 --evaluate_during_training --num_train_epochs 3",
    "pad_to_max_length": "--pad_to_max_length --gradient_accumulation_steps 2 --num_train_epochs 2.5",
    "weight_decay": "--weight_decay 0.01 --warmup_steps 4 --max_steps 11 --logging_steps 2",
}


def options(small, variant, *more):
    return flags(*VARIANTS[variant].split(), "--do_eval", "--predict_file", small, *more, train=small)


def same_bits(folder: Path, other: Path) -> bool:
    """Weights, prediction files, results and curve."""
    assert weights(folder / "out") == weights(other / "out")
    assert prediction_files(folder / "out") == prediction_files(other / "out")
    assert curve(folder / "runs") == curve(other / "runs")
    return True


def slow_steps() -> None:
    from squadlib.training import optimisation

    loss_of = optimisation.window_loss

    def window_loss(*args):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.01)
        return loss_of(*args)

    optimisation.window_loss = window_loss
