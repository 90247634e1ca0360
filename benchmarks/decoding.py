"""n-best decoding beside the 2020 script and run_qa.py, and the prediction files compared byte for byte.

    python benchmarks/decoding.py --legacy_python legacy-env/bin/python

6,078 questions, 384/128/64 tokens, synthetic logits with peaks at the true answers, one thread, all sides in turn.
Times start at windows and logits in memory and end at the written files. Exit code 1 when a file differs.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import (
    BENCHMARKS,
    QUESTIONS,
    benchmark_parser,
    interleaved,
    legacy_python,
    load_examples,
    load_real_tokenizer,
    median,
    model_dir,
    peers,
    print_goals,
    print_table,
    ratio,
    realistic_logits,
    timed,
    use_one_thread,
)

LEGACY, RUN_QA, OURS = "2020 script", "run_qa.py", "Decoder"
BLOCK = 256  # questions, as in run_squad.py
FILES = ("predictions_", "nbest_predictions_", "null_odds_")


def main() -> int:
    args = benchmark_parser(__doc__, repeats=3).parse_args()
    use_one_thread()
    import numpy as np

    files = [args.data_dir / name for name in QUESTIONS]
    examples, tokenizer = load_examples(files), load_real_tokenizer(args.data_dir)
    windows, logits = make_work(examples, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        for name, values in zip(("start", "end"), logits, strict=True):
            np.save(f"{folder}/{name}.npy", values)
        side = [legacy_python(args.legacy_python), BENCHMARKS / "legacy_side.py"]
        flags = ["--legacy_dir", args.legacy_dir, "--model_dir", model_dir(args.data_dir), "--data_files", *files]
        flags += ["--work_dir", folder]
        with peers([*side, "decoding", *flags], [*side, "run_qa_decoding", *flags]) as (legacy, run_qa):
            sides = {
                LEGACY: lambda: legacy.ask("measure"),
                RUN_QA: lambda: run_qa.ask("measure"),
                OURS: lambda: timed(lambda: decode(windows, tokenizer, logits, folder)),
            }
            found = interleaved(sides, args.repeats)
        equal = {name: filecmp.cmp(f"{folder}/{name}.json", f"{folder}/{name}legacy.json", False) for name in FILES}
        size = sum(Path(f"{folder}/{name}.json").stat().st_size for name in FILES)
    report(found, len(examples))
    verdict = ", ".join(f"{name} {'identical' if same else 'DIFFERENT'}" for name, same in equal.items())
    print(f"\n{len(examples)} questions, {len(windows)} windows, files of {size / 1e6:.1f} MB: {verdict}")
    return int(not all(equal.values()))


def make_work(examples: list[Any], tokenizer: Any) -> tuple[Any, tuple[Any, Any]]:
    """The windows of all questions as for evaluation, and logits with a peak at the answer that training would see."""
    import numpy as np

    from utils_squad import make_windows

    windows, labelled = make_windows(examples, tokenizer), make_windows(examples, tokenizer, training=True)
    kept = np.isin(windows.example_index, labelled.example_index)  # the others have an answer that is not found
    positions = np.zeros((2, len(windows)), np.int64)
    positions[:, kept] = labelled.start_position, labelled.end_position
    return windows, realistic_logits(*positions, 384)


def decode(windows: Any, tokenizer: Any, logits: tuple[Any, Any], folder: str) -> None:
    """As run_squad.py does it: a block of questions at a time, streamed into the three files."""
    from utils_squad import Decoder, PredictionFiles

    decoder, count = Decoder(windows, tokenizer), len(windows.examples)
    with PredictionFiles(folder) as files:
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            rows = slice(windows.first_window[first], windows.first_window[last])
            for prediction in decoder.decode(first, last, logits[0][rows], logits[1][rows]):
                files.write(prediction)


def report(found: dict[str, list], count: int) -> None:
    rows = []
    for name, seconds in found.items():
        middle, against = median(seconds), ratio(seconds, found[OURS])
        times = (f"{middle.cpu:.2f}", f"{middle.wall:.2f}", f"{count / middle.cpu:,.0f}")
        rows.append((name, *times, f"{against.cpu:.2f}", f"{against.wall:.2f}"))
    print_table(("side", "CPU s", "wall s", "questions per CPU s", "CPU time / ours", "wall / ours"), rows)
    print()
    print_goals(
        [
            ("speed over the 2020 script", ratio(found[LEGACY], found[OURS]), ">=", 9),
            ("speed over run_qa.py", ratio(found[RUN_QA], found[OURS]), ">=", 2),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
