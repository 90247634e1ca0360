"""What the speed benchmarks share: the side environment with the old library, peers measured in turn, tables.

Standard library only at import: the side environment imports this file too.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
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
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
QUESTIONS = ("squad2_train_4k.json", "squad2_dev_2k.json")  # 4,404 + 1,674 = 6,078


# ---------------------------------------------------------------------------------------------------------------------
# Command line and environments
# ---------------------------------------------------------------------------------------------------------------------


def benchmark_parser(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """A parser with the flags that all speed benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    parser.add_argument("--data_dir", type=Path, default=shared / "data", help=f"SQuAD files ({shared / 'data'})")
    parser.add_argument(
        "--legacy_dir", type=Path, default=shared / "legacy", help=f"dump_features.py ({shared / 'legacy'})"
    )
    parser.add_argument(
        "--legacy_python", type=Path, help="Python with transformers 4.57.6 (default: made in .legacy-env)"
    )
    parser.add_argument("--repeats", type=int, default=repeats, help=f"measurements of each side ({repeats})")
    return parser


def use_one_thread() -> None:
    """One thread for every library; must come before numpy, torch and tokenizers are imported."""
    os.environ.update(ONE_THREAD)
    sys.path.insert(0, str(ROOT))


def legacy_python(given: Path | None) -> Path:
    """The Python of the side environment, which is made first where it is missing."""
    if given:
        return given
    python = LEGACY_ENV / "bin" / "python"
    if not python.exists():
        print(f"making {LEGACY_ENV} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(LEGACY_ENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *LEGACY_PACKAGES], check=True)
    return python


def model_dir(data_dir: Path) -> Path:
    """The real multilingual vocabulary and configuration, without weights."""
    return data_dir / "bert-base-multilingual-cased"


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """Wall time and processor time of one measurement; the latter is what a busy machine disturbs least."""

    wall: float
    cpu: float


def now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


def timed(work: Callable[[], Any]) -> Seconds:
    gc.collect()
    before = now()
    work()
    after = now()
    return Seconds(after.wall - before.wall, after.cpu - before.cpu)


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[Seconds]]:
    """Measurements of all sides in turn, A B C A B C …, so that what else the machine does meets all of them."""
    found: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(repeats):
        for name, measure in sides.items():
            found[name].append(Seconds(*measure()))
            last = found[name][-1]
            print(f"round {number + 1}: {name}: {last.wall:.2f} s, CPU {last.cpu:.2f} s", file=sys.stderr)
    return found


def median(seconds: list[Seconds]) -> Seconds:
    return Seconds(*map(statistics.median, zip(*seconds, strict=True)))


def ratio(slow: list[Seconds], fast: list[Seconds]) -> Seconds:
    """How many times as long `slow` takes: the median over the rounds, each round with itself."""
    pairs = [(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(slow, fast, strict=True)]
    return Seconds(*map(statistics.median, zip(*pairs, strict=True)))


def print_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    header = list(header)
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, row))} |")


def print_goals(goals: Iterable[tuple[str, Seconds | float, str, float]]) -> None:
    """One row a claim. Each goal: (what, figure, ">=" or "<=", floor); of Seconds the processor time decides."""
    rows = []
    for what, figure, sign, floor in goals:
        value = figure.cpu if isinstance(figure, Seconds) else figure
        wall = f"{figure.wall:.3g}" if isinstance(figure, Seconds) else ""
        met = value >= floor if sign == ">=" else value <= floor
        rows.append((what, f"{value:.3g}", wall, f"{'≥' if sign == '>=' else '≤'} {floor:g}", "yes" if met else "NO"))
    print_table(("claim", "measured (CPU time)", "by wall time", "goal", "met"), rows)


# ---------------------------------------------------------------------------------------------------------------------
# Peers: processes of another environment that stay up and measure on demand
# ---------------------------------------------------------------------------------------------------------------------


class Peer:
    """A process that runs `serve`: it loads once, then each `ask` runs one of its jobs while all others wait."""

    def __init__(self, *command: Any) -> None:
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        self._answer()

    def ask(self, job: str, *arguments: Any) -> Any:
        self.process.stdin.write(json.dumps([job, *arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)} ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def peers(*commands: Iterable[Any]) -> Iterator[list[Peer]]:
    """One Peer a command, started one after the other, all ended afterwards."""
    started: list[Peer] = []
    try:
        for command in commands:
            started.append(Peer(*command))
        yield started
    finally:
        for peer in started:
            peer.close()


def serve(jobs: dict[str, Callable[..., Any]]) -> None:
    """The other end of Peer: answer each line of stdin, [job, *arguments] as JSON, with a line of JSON."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not reach the channel
    print("null", file=channel, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(jobs[name](*arguments)), file=channel, flush=True)


class Usage(NamedTuple):
    """What a whole process took."""

    wall: float
    cpu: float
    peak_mib: float

    @property
    def seconds(self) -> Seconds:
        return Seconds(self.wall, self.cpu)


def run_process(command: Iterable[Any], cwd: str | Path | None = None, log: str | Path = os.devnull) -> Usage:
    """Run a command to its end; its output goes to the file `log`. Exits when it fails."""
    command = list(map(str, command))
    with open(log, "w") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} failed with status {status}; see {log}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


# ---------------------------------------------------------------------------------------------------------------------
# Windows: ours as the old library's fields, and logits to decode
# ---------------------------------------------------------------------------------------------------------------------


def load_examples(paths: Iterable[Path]) -> list[Any]:
    from utils_squad import load_squad, read_examples

    return [example for path in paths for example in read_examples(load_squad(str(path)))]


def load_real_tokenizer(data_dir: Path) -> Any:
    from utils_squad import load_config, load_tokenizer

    folder = str(model_dir(data_dir))
    return load_tokenizer(folder, load_config(folder))


def legacy_fields(windows: Any, tokenizer: Any, max_seq_length: int, training: bool) -> Iterator[dict[str, Any]]:
    """Every field of the old SquadFeatures for each of our windows, as dump_features.py writes them."""
    kept, last, pad_id = -1, -1, windows.template.pad_id
    for number in range(len(windows)):
        index = int(windows.example_index[number])
        if index != last:
            kept, last, masks = kept + 1, index, windows.max_context(index)
        example, offset = windows.examples[index], windows.context_offset(number)
        words = windows.context_pieces(number)[1].tolist()
        mask = masks[number - int(windows.first_window[index])].tolist()
        ids, segments, _ = (array.tolist() for array in windows.assemble([number]))
        pads = max_seq_length - len(ids)
        start, end = int(windows.start_position[number]), int(windows.end_position[number])
        yield {
            "unique_id": 1000000000 + number,
            "example_index": kept,
            "qas_id": example.qid,
            "input_ids": ids + [pad_id] * pads,
            "attention_mask": [1] * len(ids) + [0] * pads,
            "token_type_ids": segments + [0] * pads,
            "cls_index": windows.template.cls_index,
            "paragraph_len": len(words),
            "tokens": tokenizer.convert_ids_to_tokens(ids),
            "token_to_orig_map": {str(offset + i): word for i, word in enumerate(words)},
            "token_is_max_context": {str(offset + i): best for i, best in enumerate(mask)},
            "start_position": start,
            "end_position": end,
            "is_impossible": example.is_impossible or (training and start == windows.template.cls_index),
        }


def array_bytes(thing: Any) -> int:
    """Bytes of all numpy arrays among the attributes of an object and of its own objects, each array once."""
    import numpy as np

    arrays: dict[int, int] = {}
    for value in vars(thing).values():
        for part in [value, *getattr(value, "__dict__", {}).values()]:
            if isinstance(part, np.ndarray):
                arrays[id(part)] = part.nbytes
    return sum(arrays.values())


def realistic_logits(start_position: Any, end_position: Any, width: int, seed: int = 42) -> tuple[Any, Any]:
    """float32 (W, width) start and end logits as a trained model gives: noise, a null answer, a peak at the truth.

    start_position, end_position: of the true answer in each window, 0 where it holds none.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    result = []
    for position, neighbour in ((start_position, -1), (end_position, 1)):
        logits = rng.normal(0, 1, (len(position), width)).astype(np.float32)
        rows = np.flatnonzero(position)
        logits[:, 0] += rng.normal(2, 3, len(position)) + np.where(position == 0, 4, 0)
        logits[rows, position[rows]] += 8
        logits[rows, np.clip(position[rows] + neighbour, 0, width - 1)] += 5
        result.append(logits)
    return tuple(result)
