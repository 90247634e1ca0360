"""Speed of evaluate_v2.py against the official script's logic, whole process, on the same files.

    python benchmarks/evaluator.py dev-v2.0.json [MORE.json …]

Joins the SQuAD files, makes predictions about as good as BERT's and
no-answer probabilities from a seed, checks that both programs print the same bytes, and runs them in turn. Wall time
is what a user waits; CPU time is the fairer figure on a busy machine. Prints medians and ratios as a Markdown table.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
PEER, OURS = ROOT / "benchmarks" / "official_evaluator.py", ROOT / "evaluate_v2.py"
PROGRAMS = {
    "official logic": [PEER],
    "official logic without its numpy import": [PEER, "--lean"],
    "evaluate_v2.py": [OURS],
    "evaluate_v2.py --help": [OURS, "--help"],
    "python -c pass": ["-c", "pass"],
}


def make_files(folder: Path) -> tuple[int, list[str]]:
    """(number of questions, arguments): the data, predictions right four times in five, na_probs that lean right."""
    draw = random.Random(0)
    data = []
    for path in sys.argv[1:] or sys.exit(__doc__):
        data += json.loads(Path(path).read_text(encoding="utf-8"))["data"]
    predictions, na_probs = {}, {}
    for paragraph in (paragraph for article in data for paragraph in article["paragraphs"]):
        words = paragraph["context"].split()
        for qa in paragraph["qas"]:
            golds, start = [answer["text"] for answer in qa["answers"]], draw.randrange(len(words))
            span = " ".join(words[start : start + draw.randint(1, 4)])
            right, near = draw.random() < 0.8, draw.random() < 0.5
            wrong = f"{draw.choice(golds)} {span}" if golds and near else span
            predictions[qa["id"]] = (draw.choice(golds) if golds else "") if right else wrong
            na_probs[qa["id"]] = draw.betavariate(1, 3) if golds else draw.betavariate(3, 1)
    for name, content in {"data": {"data": data}, "predictions": predictions, "na_probs": na_probs}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return len(predictions), ["data.json", "predictions.json", "-n", "na_probs.json", "-t", "0.9"]


def run(arguments: list, folder: Path) -> tuple[bytes, float, float]:
    """(stdout, wall seconds, CPU seconds) of one process; byte code of imported modules is cached as usual."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    start = time.perf_counter()
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} ended with exit code {process.returncode}")
    return output, time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_questions, files = make_files(folder)
        times: dict[str, list[tuple[float, float]]] = {program: [] for program in PROGRAMS}
        outputs = set()
        for number in range(ROUNDS + 1):
            for program, arguments in PROGRAMS.items():
                scores = "--help" not in arguments and "-c" not in arguments
                output, *seconds = run([*arguments, *(files if scores else [])], folder)
                outputs.update([output] if scores else [])
                if number:  # the first round fills the caches
                    times[program].append(seconds)
    print(f"{num_questions} questions, {ROUNDS} rounds, output identical: {'yes' if len(outputs) == 1 else 'NO'}\n")
    print("| program | wall, ms | CPU, ms | times as fast: wall | CPU |\n|---|---|---|---|---|")
    wall, cpu = ({key: 1000 * statistics.median(run[i] for run in runs) for key, runs in times.items()} for i in (0, 1))
    for key in PROGRAMS:
        ratios = [f"{value['official logic'] / value[key]:.2f}" for value in (wall, cpu)]
        print(f"| {key} | {wall[key]:.0f} | {cpu[key]:.0f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
