"""Peak memory of run_squad.py with as many questions as SQuAD2.0 trains on, and of the windows alone.

    python benchmarks/memory.py --data_dir DIR
    python benchmarks/memory.py --data_dir DIR --questions 5000

The questions of the file replicated with distinct ids and, since equal texts are kept once, distinct contexts and
questions; a model of 1 layer x 32 with the real vocabulary; a few training steps and the evaluation of all of them.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path

from common import ROOT, benchmark_parser, our_peer, parse_args, print_table, run_process, write_model


def main() -> int:
    parser = benchmark_parser(__doc__, questions=130_000)
    parser.add_argument("--max_steps", type=int, default=20, help="training steps (20)")
    args = parse_args(parser)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "many.json"
        write_many(args.data_file, file, args.questions)
        write_model(args.model_dir, folder / "model", 32, 1)
        with our_peer(ROOT) as ask:
            ask("load", file, args.model_dir)
            read, made, (count, size) = ask("peak_mib"), ask("windows")[2], ask("sizes")
        flags = ["--model_type", "bert", "--model_name_or_path", folder / "model", "--do_train", "--train_file", file]
        flags += ["--do_eval", "--predict_file", file, "--max_steps", args.max_steps, "--output_dir", folder / "output"]
        whole = run_process([sys.executable, ROOT / "run_squad.py", *flags], cwd=folder, log=folder / "log")
    print(f"{args.questions:,} questions, {count:,} windows\n")
    rows = {
        "imports, the file read and parsed": read,
        f"its windows made ({size / count:.0f} bytes a window)": made,
        f"run_squad.py: training steps, evaluation, files ({whole.cpu:.0f} s CPU)": whole.peak_mib,
    }
    print_table(("up to and with", "peak MiB"), ((name, f"{peak:,.0f}") for name, peak in rows.items()))
    return 0


def write_many(source: Path, target: Path, count: int) -> None:
    """`count` questions into the file `target`: copies of the source's with their number behind each text."""
    articles, data, left = json.loads(source.read_text(encoding="utf-8"))["data"], [], count
    for copy, article in ((copy, article) for copy in itertools.count() for article in articles):
        paragraphs = []
        for paragraph in article["paragraphs"]:
            qas = [
                {**qa, "id": f"{qa['id']}-{copy}", "question": f"{qa['question']} ({copy})"}
                for qa in paragraph["qas"][:left]
            ]
            left -= len(qas)
            paragraphs.append({"context": f"{paragraph['context']} (copy {copy})", "qas": qas})
        data.append({"title": f"{article.get('title')} {copy}", "paragraphs": paragraphs})
        if not left:
            break
    target.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
