"""What the benchmarks share: flags, data, models, processes measured in turn, tables.

Standard library only at import: the side environment with the old library imports this file too.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
LEGACY_ENV = ROOT / ".legacy-env"
LEGACY_PACKAGES = ("torch>=2.10,<2.14", "transformers==4.57.6", "datasets", "accelerate")
MODEL_DIR = "bert-base-multilingual-cased"
LENGTHS = (384, 128, 64)  # max_seq_length, doc_stride, max_query_length of the published command
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "HF_HUB_OFFLINE"), "1")
ONE_THREAD |= {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive", "TRANSFORMERS_VERBOSITY": "error"}
Ask = Callable[..., Any]


# ---------------------------------------------------------------------------------------------------------------------
# Flags, data, models
# ---------------------------------------------------------------------------------------------------------------------


def benchmark_parser(description: str | None, questions: int | None, rounds: int = 0) -> argparse.ArgumentParser:
    """A parser with the flags of the data, and `--rounds` where there are any."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = os.environ.get("SQUAD_TEST_DATA")
    parser.add_argument("--data_dir", default=given, required=not given, help="folder of the data ($SQUAD_TEST_DATA)")
    parser.add_argument("--data_file", default="dev-v2.0.json", help="SQuAD file in it (dev-v2.0.json)")
    parser.add_argument("--model_dir", default=MODEL_DIR, help=f"config.json and vocab.txt, in it ({MODEL_DIR})")
    parser.add_argument("--questions", type=int, default=questions, help=f"of the file ({questions or 'all'})")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"measurements of each side ({rounds})")
    return parser


def parse_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with the file and the model checked; from here on every process has one thread."""
    args = parser.parse_args()
    args.data_dir = Path(args.data_dir).absolute()
    args.data_file = args.data_dir / args.data_file
    args.model_dir = args.data_dir / args.model_dir
    for path in (args.data_file, args.model_dir / "vocab.txt"):
        if not path.exists():
            parser.error(f"{path} is not there; benchmarks/README.md has the commands that fetch it")
    os.environ.update(ONE_THREAD)
    sys.path.insert(0, str(ROOT))
    return args


def write_part(source: Path, target: Path, first: int, last: int | None) -> int:
    """Questions [first, last) of a SQuAD file into another; returns how many there are."""
    document, number = json.loads(source.read_text(encoding="utf-8")), 0
    last = sys.maxsize if last is None else last
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            qas = paragraph["qas"]
            paragraph["qas"] = qas[max(0, first - number) : max(0, last - number)]
            number += len(qas)
        article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
    document["data"] = [article for article in document["data"] if article["paragraphs"]]
    target.write_text(json.dumps(document), encoding="utf-8")
    return min(number, last) - min(number, first)


def write_model(vocabulary: Path, folder: Path, hidden_size: int, layers: int) -> None:
    """A BERT with random weights over the vocabulary of another, as both libraries read it."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    size = {"hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, "num_hidden_layers": layers}
    config = BertConfig.from_pretrained(vocabulary, **size, num_attention_heads=max(1, hidden_size // 64))
    torch.manual_seed(42)
    BertForQuestionAnswering(config).save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(vocabulary / name, folder / name)


def realistic_logits(start_position: Any, end_position: Any, width: int, seed: int = 42) -> tuple[Any, Any]:
    """float32 (W, width) start and end logits as a trained model gives: noise, a null answer, a peak at the truth.

    start_position, end_position: of the true answer in each window, 0 where it holds none.
    """
    import numpy as np

    rng, result = np.random.default_rng(seed), []
    for position, neighbour in ((start_position, -1), (end_position, 1)):
        logits = rng.normal(0, 1, (len(position), width)).astype(np.float32)
        rows = np.flatnonzero(position)
        logits[:, 0] += rng.normal(2, 3, len(position)) + np.where(position == 0, 4, 0)
        logits[rows, position[rows]] += 8
        logits[rows, np.clip(position[rows] + neighbour, 0, width - 1)] += 5
        result.append(logits)
    return result[0], result[1]


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    """Of a piece of work or of a whole process. Processor time is what a busy machine disturbs least."""

    wall: float
    cpu: float
    peak_mib: float


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now() -> Usage:
    return Usage(time.perf_counter(), time.process_time(), peak_mib())


def since(before: Usage) -> Usage:
    after = now()
    return Usage(after.wall - before.wall, after.cpu - before.cpu, after.peak_mib)


def timed(work: Callable[[], Any]) -> Usage:
    gc.collect()
    before = now()
    work()
    return since(before)


def interleaved(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Usage]]:
    """Measurements of all sides in turn, A B C A B C …, so that what else the machine does meets all of them."""
    found: dict[str, list[Usage]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            last = Usage(*measure())
            found[name].append(last)
            print(f"round {number + 1}: {name}: {last.wall:.2f} s, CPU {last.cpu:.2f} s", file=sys.stderr)
    return found


def print_speeds(found: dict[str, list[Usage]]) -> None:
    """Medians of each side, and how many times the processor time of the first side it takes.

    That ratio is the median over the rounds, each round with itself; behind it the lowest and the highest.
    """
    first, rows = next(iter(found.values())), []
    for name, usages in found.items():
        wall, cpu, _ = map(statistics.median, zip(*usages, strict=True))
        ratios = [a.cpu / b.cpu for a, b in zip(usages, first, strict=True)]
        spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
        peak = max(usage.peak_mib for usage in usages)
        rows.append((name, f"{cpu:.3f}", f"{wall:.3f}", f"{statistics.median(ratios):.3f}", spread, f"{peak:,.0f}"))
    print_table(("side", "CPU s", "wall s", "CPU time / first", "range", "peak MiB"), rows)


def print_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    header = list(header)
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, row))} |")


def end_after_steps(warmup: int, steps: int, result: Path) -> None:
    """Measure optimiser steps (warmup, warmup + steps] of whatever loop this process runs, then end it.

    result: file for the Usage, as JSON.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    moments: list[Usage] = []

    def after_step(*_: Any) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        moments.append(now())
        if len(moments) == warmup + steps:
            usage = since(moments[warmup - 1])
            if torch.cuda.is_initialized():
                usage = usage._replace(peak_mib=torch.cuda.max_memory_allocated() / 2**20)
            result.write_text(json.dumps(usage))
            os._exit(0)

    register_optimizer_step_post_hook(after_step)


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------


def make_environment(folder: Path, packages: Iterable[str]) -> Path:
    """The Python of an environment with those packages, which is made first where it is missing."""
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        print(f"making {folder} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return python


def legacy_python() -> Path:
    """The Python of the environment with the old library."""
    return make_environment(LEGACY_ENV, LEGACY_PACKAGES)


@contextlib.contextmanager
def peer(*command: Any) -> Iterator[Ask]:
    """A process that runs `serve`: it loads once, then each ask(job, *arguments) runs a job while all others wait."""
    words, pipe = list(map(str, command)), subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:

        def ask(job: str, *arguments: Any) -> Any:
            assert process.stdin and process.stdout
            print(json.dumps([job, *arguments], default=str), file=process.stdin)
            line = process.stdout.readline()
            if not line:
                sys.exit(f"{words} ended with code {process.wait()}")
            return json.loads(line)

        yield ask


def our_peer(checkout: Path) -> contextlib.AbstractContextManager[Ask]:
    return peer(sys.executable, BENCHMARKS / "our_side.py", checkout, "serve")


def legacy_peer() -> contextlib.AbstractContextManager[Ask]:
    return peer(legacy_python(), BENCHMARKS / "legacy_side.py", "serve")


def serve(jobs: dict[str, Callable[..., Any]]) -> None:
    """The other end of `peer`: answer each line of stdin, [job, *arguments] as JSON, with a line of JSON."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not reach the channel
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(jobs[name](*arguments)), file=channel, flush=True)


def run_process(command: Iterable[Any], cwd: Path | None = None, log: str | Path = os.devnull) -> Usage:
    """Run a command to its end; its output goes to the file `log`. Exits when it fails."""
    command = list(map(str, command))
    with open(log, "w") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        tail = "" if log == os.devnull else Path(log).read_text()[-2000:]
        sys.exit(f"{' '.join(command)} failed with status {status}\n{tail}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
