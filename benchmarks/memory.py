"""Peak memory of run_squad.py with as many questions as SQuAD2.0 trains on, and of the windows alone.

    python benchmarks/memory.py
    python benchmarks/memory.py --questions 20000

The shared questions replicated with distinct ids and, since equal texts are kept once, distinct contexts and
questions; a model of 1 layer x 32 with the real vocabulary; a few training steps and the evaluation of all of them.
"""

from __future__ import annotations

import itertools
import json
import re
import resource
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from common import (
    QUESTIONS,
    ROOT,
    array_bytes,
    benchmark_parser,
    load_examples,
    load_real_tokenizer,
    print_goals,
    print_table,
    run_process,
    use_one_thread,
)
from whole_process import write_model


def main() -> int:
    parser = benchmark_parser(__doc__, repeats=1)
    parser.add_argument("--questions", type=int, default=130_000, help="of the file (130000)")
    parser.add_argument("--max_steps", type=int, default=20, help="training steps (20)")
    parser.add_argument("--windows_of", type=Path, help="internal: make the windows of this file and nothing else")
    args = parser.parse_args()
    use_one_thread()
    if args.windows_of:
        print(json.dumps(windows_alone(args.windows_of, args.data_dir)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, log = folder / "many.json", folder / "log"
        megabytes = write_many([args.data_dir / name for name in QUESTIONS], file, args.questions) / 1e6
        write_model(Namespace(data_dir=args.data_dir, hidden_size=32, num_hidden_layers=1), folder / "model")
        alone = run_process(
            [sys.executable, __file__, "--windows_of", file, "--data_dir", args.data_dir], log=folder / "alone"
        )
        windows = json.loads((folder / "alone").read_text().splitlines()[-1])
        whole = run_process(command(folder, file, args.max_steps), cwd=folder, log=log)
        evaluation = re.search(r"Evaluation done in .*", log.read_text())
    print(
        f"{args.questions:,} questions, {windows['windows']:,} windows, a file of {megabytes:.0f} MB; {evaluation[0]}\n"
    )
    rows = [
        ("imports, before the file is read", windows["imports"], ""),
        ("the file read and parsed", windows["read"], ""),
        (f"its windows made ({windows['bytes']:.0f} bytes a window)", windows["made"], f"{alone.cpu:.0f}"),
        ("run_squad.py: training steps, evaluation, files", whole.peak_mib, f"{whole.cpu:.0f}"),
    ]
    print_table(("up to and with", "peak MiB", "CPU s"), ((n, f"{peak:,.0f}", cpu) for n, peak, cpu in rows))
    print()
    goals = [("peak of run_squad.py, GiB", whole.peak_mib / 1024, "<=", 3.0)]
    print_goals([*goals, ("bytes a window", windows["bytes"], "<=", 300)])
    return 0


def write_many(sources: list[Path], target: Path, count: int) -> int:
    """`count` questions into the file `target`: copies of the sources' with their number behind each text."""
    articles = [a for source in sources for a in json.loads(source.read_text(encoding="utf-8"))["data"]]
    data, left = [], count
    for copy, article in ((c, a) for c in itertools.count() for a in articles):
        paragraphs = []
        for paragraph in article["paragraphs"]:
            qas = [numbered(qa, copy) for qa in paragraph["qas"][:left]]
            left -= len(qas)
            paragraphs.append({"context": f"{paragraph['context']} (copy {copy})", "qas": qas})
        data.append({"title": f"{article.get('title')} {copy}", "paragraphs": paragraphs})
        if not left:
            break
    return target.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")


def numbered(qa: dict[str, Any], copy: int) -> dict[str, Any]:
    return {**qa, "id": f"{qa['id']}-{copy}", "question": f"{qa['question']} ({copy})"}


def windows_alone(file: Path, data_dir: Path) -> dict[str, float]:
    """Peaks in MiB after the imports, after reading, after making the training windows, and bytes a window."""
    from utils_squad import make_windows

    tokenizer = load_real_tokenizer(data_dir)
    peaks = {"imports": peak_mib()}
    examples = load_examples([file])
    peaks["read"] = peak_mib()
    windows = make_windows(examples, tokenizer, training=True)
    peaks["made"] = peak_mib()
    return {**peaks, "windows": len(windows), "bytes": array_bytes(windows) / len(windows)}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def command(folder: Path, file: Path, max_steps: int) -> list[Any]:
    words = [sys.executable, ROOT / "run_squad.py", "--model_type", "bert", "--model_name_or_path", folder / "model"]
    words += ["--do_train", "--do_eval", "--train_file", file, "--predict_file", file, "--max_steps", max_steps]
    return [*words, "--output_dir", folder / "output"]


if __name__ == "__main__":
    sys.exit(main())
