"""The training step at the size of mBERT-base beside the 2020 loop: forward, backward and optimiser, dropout 0.1.

    python benchmarks/step.py --legacy_python legacy-env/bin/python                 # CPU, one thread
    python benchmarks/step.py --size small --steps 4                                # 4 layers x 256, a quick look
    python benchmarks/step.py --device cuda --steps 100 --batch_size 32 --legacy_python legacy-env/bin/python

Random weights, the real vocabulary, windows of squad2_train_4k.json in the order that seed 42 gives. Each measurement
is a process of its own, so that one model is in memory at a time; its first steps are not counted. On a GPU the table
adds transformers' Trainer, peak memory and the model FLOP utilisation, which counts real tokens only.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import (
    BENCHMARKS,
    Peer,
    Seconds,
    benchmark_parser,
    interleaved,
    legacy_python,
    load_examples,
    load_real_tokenizer,
    median,
    model_dir,
    print_goals,
    print_table,
    ratio,
    serve,
    timed,
    use_one_thread,
)

SIZES = {"base": {}, "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}}
LEGACY, TRAINER = "2020 loop", "Trainer"
OURS = {  # flags of run_squad.py
    "ours": [],
    "ours --bf16": ["--bf16"],
    "ours --pad_to_max_length": ["--pad_to_max_length"],
    "ours --tf32": ["--tf32"],
}
CPU_SIDES = (LEGACY, "ours", "ours --bf16", "ours --pad_to_max_length")
CUDA_SIDES = (LEGACY, TRAINER, TRAINER + " --bf16", "ours", "ours --tf32", "ours --bf16")
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "V100": 125}  # dense bf16 (V100: fp16), NVIDIA data sheets


def main() -> int:
    args = parse_args()
    if args.device == "cpu":
        use_one_thread()
    sys.path.insert(0, str(BENCHMARKS.parent))
    if args.serve is not None:
        serve_ours(args)
        return 0
    from run_squad import epoch_order

    count = args.batch_size * (args.warmup + args.steps)
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = write_model(args, folder)
        windows = make_training_windows(args)
        chosen = seeded_order(epoch_order, len(windows))[:count]
        write_batches(windows, chosen, folder)
        names = args.sides or (CPU_SIDES if args.device == "cpu" else CUDA_SIDES)
        sides = {name: lambda name=name: measure(args, name, folder, peaks) for name in names}
        found = interleaved(sides, args.repeats)
    report(args, found, peaks, config, windows.num_tokens()[chosen[args.batch_size * args.warmup :]])
    return 0


def parse_args() -> argparse.Namespace:
    parser = benchmark_parser(__doc__, repeats=3)
    parser.add_argument("--size", choices=SIZES, default="base", help="12 layers x 768, or 4 x 256 (base)")
    parser.add_argument("--batch_size", type=int, default=8, help="windows a step (8)")
    parser.add_argument("--steps", type=int, default=3, help="steps a measurement (3)")
    parser.add_argument("--warmup", type=int, default=1, help="steps before it (1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sides", nargs="+", help=f"of {(LEGACY, TRAINER, TRAINER + ' --bf16', *OURS)}")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # a side of ours, started by this program
    parser.add_argument("--work_dir", help=argparse.SUPPRESS)
    return parser.parse_args()


def seeded_order(epoch_order: Any, count: int) -> Any:
    """The first epoch's order of windows with the default seed."""
    import torch

    torch.manual_seed(42)
    return epoch_order(count)


def write_model(args: argparse.Namespace, folder: str) -> Any:
    """config.json of the size asked for; each side draws weights of its own."""
    from transformers import BertConfig

    config = BertConfig.from_pretrained(model_dir(args.data_dir), **SIZES[args.size])
    config.intermediate_size = 4 * config.hidden_size
    config.save_pretrained(folder)
    return config


def make_training_windows(args: argparse.Namespace) -> Any:
    from utils_squad import make_windows

    examples = load_examples([args.data_dir / "squad2_train_4k.json"])
    return make_windows(examples, load_real_tokenizer(args.data_dir), training=True)


def write_batches(windows: Any, chosen: Any, folder: str) -> None:
    """The chosen windows padded to 384, for the sides of the other environment."""
    import numpy as np

    arrays = {name: np.zeros((len(chosen), 384), np.int64) for name in ("input_ids", "token_type_ids")}
    lengths = windows.num_tokens()[chosen]
    for row, window in enumerate(chosen):
        ids, segments, _ = windows.assemble([window])
        arrays["input_ids"][row, : len(ids)] = ids
        arrays["token_type_ids"][row, : len(ids)] = segments
    arrays["attention_mask"] = (np.arange(384) < lengths[:, None]).astype(np.int64)
    for name in ("start_position", "end_position"):
        arrays[f"{name}s"] = getattr(windows, name)[chosen].astype(np.int64)
    np.savez(Path(folder) / "batches.npz", **arrays)


def measure(args: argparse.Namespace, name: str, folder: str, peaks: dict[str, float]) -> Seconds:
    """Seconds of args.steps steps of one side, in a new process."""
    numbers = ["--batch_size", args.batch_size, "--warmup", args.warmup, "--device", args.device]
    if name in OURS:
        command = [sys.executable, __file__, f"--serve={name}", "--data_dir", args.data_dir, "--work_dir", folder]
    else:
        task = "trainer_step" if name.startswith(TRAINER) else "step"
        command = [legacy_python(args.legacy_python), BENCHMARKS / "legacy_side.py", task, "--work_dir", folder]
        command += ["--bf16"] * name.endswith("--bf16")
    peer = Peer(*command, *numbers)
    seconds = Seconds(*peer.ask("measure", args.steps))
    peaks[name] = max(peaks.get(name, 0.0), peer.ask("peak_mib"))
    peer.close()
    return seconds


def serve_ours(args: argparse.Namespace) -> None:
    """A side of ours: the Trainer of run_squad.py, step by step."""
    trainer = make_trainer(args, OURS[args.serve])
    order, numbers = trainer.start_epoch(), itertools.count()

    def steps(count: int) -> None:
        for number in itertools.islice(numbers, count):
            done = trainer.one_update(order, number)
            trainer.step += 1
            trainer.after_update(*done)
        trainer.check_numbers()  # reads the losses, so all steps are finished

    steps(args.warmup)
    serve({"measure": lambda count: timed(lambda: steps(count)), "peak_mib": peak_mib})


def make_trainer(args: argparse.Namespace, flags: list[str]) -> Any:
    import torch
    from transformers import AutoModelForQuestionAnswering

    import run_squad
    from utils_squad import WindowModel, load_config

    flags = [*flags, "--output_dir", args.work_dir, "--per_gpu_train_batch_size", str(args.batch_size)]
    flags += ["--save_steps", "0", "--logging_steps", "0"] + ["--no_cuda"] * (args.device == "cpu")
    parsed = run_squad.build_parser().parse_args(flags)
    torch.backends.cuda.matmul.allow_tf32 = parsed.tf32
    processes = run_squad.start_processes(-1, parsed.no_cuda)
    run_squad.set_seed(42)
    model = AutoModelForQuestionAnswering.from_config(load_config(args.work_dir)).to(processes.device).train()
    windows = make_training_windows(args)
    runner = WindowModel(model, "max_length" if parsed.pad_to_max_length else "longest", 384)
    if not parsed.pad_to_max_length:
        runner.choose_layout(windows)
    run_squad.set_seed(42)
    trainer = run_squad.Trainer(parsed, runner, None, windows, processes, dict)
    trainer.log = None
    return trainer


def peak_mib() -> float:
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(args: argparse.Namespace, found: dict[str, list], peaks: dict, config: Any, lengths: Any) -> None:
    count, gpu = args.steps * args.batch_size, args.device == "cuda"
    flops = window_flops(config, lengths)
    rows = []
    for name, seconds in found.items():
        middle, against = median(seconds), ratio(found[LEGACY], seconds) if LEGACY in found else Seconds(0, 0)
        cells = [name, f"{middle.cpu / args.steps:.3f}", f"{middle.wall / args.steps:.3f}"]
        cells += [f"{count / middle.wall:,.1f}", f"{against.cpu:.2f}", f"{against.wall:.2f}", f"{peaks[name]:,.0f}"]
        rows.append([*cells, utilisation(flops / middle.wall)] if gpu else cells)
    header = ["side", "CPU s a step", "wall s", "windows/s (wall)", "speed (CPU time)", "speed (wall)", "peak MiB"]
    print_table(header + ["model FLOP utilisation"] * gpu, rows)
    print(f"\n{args.batch_size} windows a step, {lengths.mean():.0f} of 384 tokens real on average")
    if not gpu and args.size == "base" and LEGACY in found:
        goals = [("ours", 3), ("ours --bf16", 6)]
        print_goals((f"speed of {n}", ratio(found[LEGACY], found[n]), ">=", g) for n, g in goals if n in found)


def window_flops(config: Any, lengths: Any) -> float:
    """FLOP of forward and backward over windows of these lengths: 6 a weight and token, 12 a layer, width and pair."""
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    pairs = 12 * config.num_hidden_layers * config.hidden_size * (lengths.astype(float) ** 2).sum()
    return 6 * config.num_hidden_layers * layer * float(lengths.sum()) + pairs


def utilisation(flops: float) -> str:
    """Of the GPU's dense bf16 peak; the bare number where the GPU is not in the table."""
    import torch

    name = torch.cuda.get_device_name()
    peak = next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    return f"{flops / 1e12:.0f} TFLOP/s" + (f", {100 * flops / 1e12 / peak:.0f} % of {peak}" if peak else "")


if __name__ == "__main__":
    sys.exit(main())
