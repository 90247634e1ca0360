"""Speed beside the 2020 script and run_qa.py, or beside another checkout of this project.

    python benchmarks/speed.py windows|decoding|step|process --data_dir DIR
    python benchmarks/speed.py windows --data_dir DIR --against OTHER_CHECKOUT --rounds 7

windows: training windows of the questions, from the questions in memory. decoding: n-best lists, from windows and
logits in memory to the written files. step: forward, backward and optimiser at the size of mBERT, random weights,
dropout 0.1, batch 8, windows of 200 questions in the order of seed 42. process: one epoch, evaluation and prediction
files of a small model, from start to exit; trained on 500 questions of the file, evaluated on the next 500.

Multilingual vocabulary, 384/128/64 tokens, one thread, every side in a process of its own, all sides in turn. Each row
is compared with the first. --against measures the two checkouts and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
from common import BENCHMARKS, ROOT, Ask, Usage, legacy_python, run_process, write_model, write_part

OURS = "this checkout"
QUESTIONS = {"windows": None, "decoding": None, "step": 200, "process": 500}
Sides = dict[str, Callable[[], Any]]


def main() -> int:
    parser = common.benchmark_parser(__doc__, questions=None, rounds=3)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--hidden_size", type=int, help="width of the model (step: 768, process: 128)")
    parser.add_argument("--layers", type=int, help="layers of the model (step: 12, process: 2)")
    parser.add_argument("--steps", type=int, default=3, help="step: of a measurement, behind one that warms up (3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="step: where (cpu)")
    args = common.parse_args(parser)
    args.questions = args.questions or QUESTIONS[args.part]
    args.checkouts = {OURS: ROOT} | ({str(args.against): args.against.absolute()} if args.against else {})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        count = write_part(args.data_file, folder / "train.json", 0, args.questions)
        sides = PARTS[args.part](args, folder, stack)
        found = common.interleaved(sides, args.rounds)
    print(f"{args.part}, {count:,} questions, rounds: {args.rounds}\n")
    common.print_speeds(found)
    return 0


def our_peers(args: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> dict[str, Ask]:
    peers = {}
    for name, checkout in args.checkouts.items():
        peers[name] = stack.enter_context(common.our_peer(checkout))
        peers[name]("load", folder / "train.json", args.model_dir)
    return peers


def windows_sides(args: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> Sides:
    ours = our_peers(args, folder, stack)
    sides: Sides = {name: partial(ask, "windows") for name, ask in ours.items()}
    if not args.against:
        legacy = stack.enter_context(common.legacy_peer())
        legacy("load", folder / "train.json", args.model_dir, True)
        sides["tokenizer alone"] = partial(ours[OURS], "tokenizer")
        sides["run_qa.py"] = partial(legacy, "run_qa_windows")
        sides["2020 script"] = partial(legacy, "windows")
    return sides


def decoding_sides(args: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> Sides:
    ours = our_peers(args, folder, stack)
    for ask in ours.values():
        ask("make_logits", folder)
    sides: Sides = {name: partial(ask, "decoding", folder) for name, ask in ours.items()}
    if not args.against:
        legacy = stack.enter_context(common.legacy_peer())
        legacy("load", folder / "train.json", args.model_dir, False)
        legacy("windows")
        legacy("run_qa_decoding_work")
        sides["run_qa.py"] = partial(legacy, "run_qa_decoding", folder)
        sides["2020 script"] = partial(legacy, "decoding", folder / "logits.npz", folder)
    return sides


def step_sides(args: argparse.Namespace, folder: Path, _: contextlib.ExitStack) -> Sides:
    write_model(args.model_dir, folder / "model", args.hidden_size or 768, args.layers or 12)
    words = [folder / "result.json", 1, args.steps]
    flags = [*run_squad_flags(folder), "--max_steps", 1000, "--save_steps", 0, *["--no_cuda"] * (args.device == "cpu")]
    sides: Sides = {}
    for name, checkout in args.checkouts.items():
        command = [sys.executable, BENCHMARKS / "our_side.py", checkout, "steps", *words, *flags]
        sides[name] = partial(measure_steps, command, folder)
        if not args.against:
            for more in ("--bf16", "--pad_to_max_length"):
                sides[f"{name} {more}"] = partial(measure_steps, [*command, more], folder)
    if not args.against:
        legacy = [legacy_python(), BENCHMARKS / "legacy_side.py", "steps", folder / "model", folder, args.device]
        sides["2020 loop"] = partial(measure_steps, [*legacy, *words[1:]], folder)
    return sides


def measure_steps(command: list[Any], folder: Path) -> Usage:
    run_process(command, cwd=folder, log=folder / "log")
    return Usage(*json.loads((folder / "result.json").read_text()))


def process_sides(args: argparse.Namespace, folder: Path, _: contextlib.ExitStack) -> Sides:
    write_part(args.data_file, folder / "dev.json", args.questions, 2 * args.questions)
    write_model(args.model_dir, folder / "model", args.hidden_size or 128, args.layers or 2)
    flags = [*run_squad_flags(folder), "--do_eval", "--predict_file", folder / "dev.json", "--num_train_epochs", 1]
    commands = {name: [sys.executable, path / "run_squad.py", *flags] for name, path in args.checkouts.items()}
    if not args.against:
        for name, task in (("run_qa.py with Trainer", "trainer"), ("2020 script", "script")):
            commands[name] = [legacy_python(), BENCHMARKS / "legacy_side.py", task, folder / "model", folder]
    return {name: partial(run_process, words, cwd=folder, log=folder / "log") for name, words in commands.items()}


def run_squad_flags(folder: Path) -> list[Any]:
    flags = ["--model_type", "bert", "--model_name_or_path", folder / "model", "--do_train"]
    return [*flags, "--train_file", folder / "train.json", "--output_dir", folder / "ours", "--overwrite_output_dir"]


PARTS = {"windows": windows_sides, "decoding": decoding_sides, "step": step_sides, "process": process_sides}

if __name__ == "__main__":
    sys.exit(main())
