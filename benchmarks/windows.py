"""Windows a second beside the 2020 script, run_qa.py and the tokenizer alone, and every field compared.

    python benchmarks/windows.py --legacy_python legacy-env/bin/python

6,078 questions, real multilingual vocabulary, 384/128/64 tokens, training windows with labels, one thread, all sides
in turn. Times start at the questions in memory. Exit code 1 when a field of a window differs from the 2020 script's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

from common import (
    BENCHMARKS,
    QUESTIONS,
    array_bytes,
    benchmark_parser,
    interleaved,
    legacy_fields,
    legacy_python,
    load_examples,
    load_real_tokenizer,
    median,
    model_dir,
    peers,
    print_goals,
    print_table,
    ratio,
    timed,
    use_one_thread,
)

LEGACY, RUN_QA, TOKENIZER, OURS = "2020 script", "run_qa.py", "tokenizer alone", "make_windows"


def main() -> int:
    args = benchmark_parser(__doc__, repeats=3).parse_args()
    use_one_thread()
    from utils_squad import make_windows

    files = [args.data_dir / name for name in QUESTIONS]
    examples, tokenizer = load_examples(files), load_real_tokenizer(args.data_dir)
    backend, texts = tokenizer.backend_tokenizer, distinct_texts(examples)
    side = [legacy_python(args.legacy_python), BENCHMARKS / "legacy_side.py"]
    flags = ["--legacy_dir", args.legacy_dir, "--model_dir", model_dir(args.data_dir), "--data_files", *files]
    with peers([*side, "windows", *flags], [*side, "run_qa_windows", *flags]) as (legacy, run_qa):
        sides = {
            LEGACY: lambda: legacy.ask("measure"),
            RUN_QA: lambda: run_qa.ask("measure"),
            TOKENIZER: lambda: timed(lambda: backend.encode_batch(texts, add_special_tokens=False)),
            OURS: lambda: timed(lambda: make_windows(examples, tokenizer, training=True)),
        }
        found = interleaved(sides, args.repeats)
        windows = make_windows(examples, tokenizer, training=True)
        legacy_bytes = legacy.ask("window_bytes")
        different = compare(legacy, windows, tokenizer)
    report(found, len(examples), array_bytes(windows) / len(windows), legacy_bytes)
    print(f"\n{len(windows)} windows, every field compared with the 2020 script's: {different} differ")
    return int(different > 0)


def distinct_texts(examples: list[Any]) -> list[str]:
    return list(dict.fromkeys([e.context for e in examples] + [e.question for e in examples]))


def compare(legacy: Any, windows: Any, tokenizer: Any) -> int:
    """Number of windows with a field unlike the 2020 script's; the first few are shown."""
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.jsonl"
        legacy.ask("dump", str(path))
        with path.open(encoding="utf-8") as lines:
            for line, mine in zip_longest(lines, legacy_fields(windows, tokenizer, 384, True)):
                theirs = json.loads(line) if line else None
                if theirs != mine:
                    different += 1
                    if different < 4:
                        print(f"window differs: {mine} here, {theirs} in the 2020 script", file=sys.stderr)
    return different


def report(found: dict[str, list], count: int, window_bytes: float, legacy_bytes: float) -> None:
    rows = []
    for name, seconds in found.items():
        middle, against = median(seconds), ratio(seconds, found[OURS])
        size = {LEGACY: f"{legacy_bytes:,.0f}", OURS: f"{window_bytes:.0f}"}.get(name, "")
        times = (f"{middle.cpu:.3f}", f"{middle.wall:.3f}", f"{count / middle.cpu:,.0f}")
        rows.append((name, *times, f"{against.cpu:.2f}", f"{against.wall:.2f}", size))
    header = ("side", "CPU s", "wall s", "questions per CPU s", "CPU time / ours", "wall / ours", "bytes a window")
    print_table(header, rows)
    print()
    print_goals(
        [
            ("speed over the 2020 script", ratio(found[LEGACY], found[OURS]), ">=", 60),
            ("speed over run_qa.py", ratio(found[RUN_QA], found[OURS]), ">=", 7),
            ("time over the tokenizer alone", ratio(found[OURS], found[TOKENIZER]), "<=", 1.5),
            ("bytes a window", window_bytes, "<=", 300),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
