"""How long `--help` of every script takes, and what the heavy imports of a training run cost.

    python benchmarks/startup.py

Whole processes, one thread, medians. An empty Python (`-c pass`) is measured beside them.
"""

from __future__ import annotations

import sys
from typing import Any

from common import (
    ROOT,
    benchmark_parser,
    interleaved,
    median,
    print_goals,
    print_table,
    run_process,
    use_one_thread,
)

SCRIPTS = ("clean_squad.py", "evaluate_v2.py", "run_squad.py", "translate_squad.py")
IMPORTS = {  # what run_squad.py imports for a BERT model, one more with each row
    "torch": "import torch",
    "and transformers with a BERT model": (
        "import torch; from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer, "
        "BertForQuestionAnswering"
    ),
    "and TensorBoard's writer": (
        "import torch; from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer, "
        "BertForQuestionAnswering; from torch.utils.tensorboard import SummaryWriter"
    ),
}


def main() -> int:
    args = benchmark_parser(__doc__, repeats=5).parse_args()
    use_one_thread()
    python = sys.executable
    commands: dict[str, list[Any]] = {"an empty Python": ["-c", "pass"]}
    commands |= {f"{script} --help": [ROOT / script, "--help"] for script in SCRIPTS}
    commands |= {f"import {name}": ["-c", code] for name, code in IMPORTS.items()}
    sides = {name: lambda words=words: run_process([python, *words]).seconds for name, words in commands.items()}
    for measure in sides.values():
        measure()  # compiles and brings the files into memory
    found = {name: median(seconds) for name, seconds in interleaved(sides, args.repeats).items()}
    print_table(("process", "CPU s", "wall s"), ((n, f"{s.cpu:.3f}", f"{s.wall:.3f}") for n, s in found.items()))
    print()
    print_goals((name, seconds, "<=", 0.3) for name, seconds in found.items() if name.endswith("--help"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
