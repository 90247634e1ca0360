"""How long `--help` of every script takes, and what the heavy imports of a training run cost.

    python benchmarks/startup.py

Whole processes, one thread, medians, interleaved. An empty Python (`-c pass`) is measured beside them.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from common import ONE_THREAD, ROOT, interleaved, print_speeds, run_process

SCRIPTS = ("clean_squad.py", "evaluate_v2.py", "run_squad.py", "translate_squad.py")
IMPORTS = ("torch", "squadlib.training.fine_tuning, transformers.models.bert.modeling_bert")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each process (5)")
    args = parser.parse_args()
    os.environ.update(ONE_THREAD)
    commands = {"python -c pass": ["-c", "pass"]}
    commands |= {f"{script} --help": [str(ROOT / script), "--help"] for script in SCRIPTS}
    commands |= {f"import {names}": ["-c", f"import {names}"] for names in IMPORTS}
    sides = {name: partial(run_process, [sys.executable, *words], cwd=ROOT) for name, words in commands.items()}
    for measure in sides.values():
        measure()  # compiles and brings the files into memory
    print_speeds(interleaved(sides, args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
