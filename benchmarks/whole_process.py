"""The whole recipe as one process beside the 2020 script and run_qa.py: wall time, processor time, peak memory.

    python benchmarks/whole_process.py --legacy_python legacy-env/bin/python

500 + 500 questions, one epoch with batch 8, evaluation and prediction files; a model of 2 layers x 128 with random
weights over the real multilingual vocabulary; one thread; the programs run in turn, from start to exit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import (
    BENCHMARKS,
    ROOT,
    Usage,
    benchmark_parser,
    interleaved,
    legacy_python,
    load_real_tokenizer,
    median,
    model_dir,
    print_goals,
    print_table,
    ratio,
    run_process,
    use_one_thread,
)

LEGACY, TRAINER, OURS = "2020 script", "run_qa.py with Trainer", "run_squad.py"


def main() -> int:
    parser = benchmark_parser(__doc__, repeats=3)
    parser.add_argument("--questions", type=int, default=500, help="of each of the two files (500)")
    parser.add_argument("--hidden_size", type=int, default=128, help="width of the model (128)")
    parser.add_argument("--num_hidden_layers", type=int, default=2, help="layers of the model (2)")
    args = parser.parse_args()
    use_one_thread()
    python, peaks = legacy_python(args.legacy_python), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / "train.json", folder / "dev.json"]
        for source, target in zip(("squad2_train_4k.json", "squad2_dev_2k.json"), files, strict=True):
            write_part(args.data_dir / source, target, args.questions)
        write_model(args, folder / "model")
        programs = commands(python, args.legacy_dir, folder, files)
        sides = {side: lambda side=side: measure(side, programs[side], folder, peaks) for side in programs}
        found = interleaved(sides, args.repeats)
    report(found, peaks)
    return 0


def write_part(source: Path, target: Path, count: int) -> None:
    """The first `count` questions of a SQuAD file, article by article."""
    document, left = json.loads(source.read_text(encoding="utf-8")), count
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = paragraph["qas"][:left]
            left -= len(paragraph["qas"])
        article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
    document["data"] = [article for article in document["data"] if article["paragraphs"]]
    target.write_text(json.dumps(document), encoding="utf-8")


def write_model(args: Any, folder: Path) -> None:
    """Random weights, the same for all programs, with the vocabulary as both libraries read it."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    size = {"hidden_size": args.hidden_size, "num_hidden_layers": args.num_hidden_layers}
    heads = {"num_attention_heads": max(1, args.hidden_size // 64), "intermediate_size": 4 * args.hidden_size}
    torch.manual_seed(42)
    BertForQuestionAnswering(BertConfig.from_pretrained(model_dir(args.data_dir), **size, **heads)).save_pretrained(
        folder
    )
    vocabulary = load_real_tokenizer(args.data_dir).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))


def commands(python: Path, legacy_dir: Path, folder: Path, files: list[Path]) -> dict[str, list[Any]]:
    side = ["--legacy_dir", legacy_dir, "--model_dir", folder / "model", "--work_dir", folder, "--data_files", *files]
    ours = [sys.executable, ROOT / "run_squad.py", "--model_type", "bert", "--model_name_or_path", folder / "model"]
    ours += ["--do_train", "--do_eval", "--train_file", files[0], "--predict_file", files[1], "--num_train_epochs", 1]
    ours += ["--output_dir", folder / "ours", "--overwrite_output_dir"]
    return {
        LEGACY: [python, BENCHMARKS / "legacy_side.py", "legacy_script", *side],
        TRAINER: [python, BENCHMARKS / "legacy_side.py", "trainer_script", *side],
        OURS: ours,
    }


def measure(side: str, command: list[Any], folder: Path, peaks: dict[str, list[float]]) -> tuple[float, float]:
    usage: Usage = run_process(command, cwd=folder, log=Path(tempfile.gettempdir()) / "whole_process.log")
    peaks.setdefault(side, []).append(usage.peak_mib)
    return usage.seconds


def report(found: dict[str, list], peaks: dict[str, list[float]]) -> None:
    rows = []
    for name, seconds in found.items():
        middle, against, peak = median(seconds), ratio(seconds, found[OURS]), max(peaks[name])
        times = (f"{middle.cpu:.1f}", f"{middle.wall:.1f}", f"{against.cpu:.2f}", f"{against.wall:.2f}")
        rows.append((name, *times, f"{peak:,.0f}"))
    print_table(("program", "CPU s", "wall s", "CPU time / ours", "wall / ours", "peak MiB"), rows)
    print()
    print_goals(
        [
            ("speed over the 2020 script", ratio(found[LEGACY], found[OURS]), ">=", 3.5),
            ("speed over run_qa.py with Trainer", ratio(found[TRAINER], found[OURS]), ">=", 2.5),
            ("memory, part of the 2020 script's", max(peaks[OURS]) / max(peaks[LEGACY]), "<=", 0.8),
            ("memory, part of Trainer's", max(peaks[OURS]) / max(peaks[TRAINER]), "<=", 0.8),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
