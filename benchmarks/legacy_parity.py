"""Every field of every window, and every byte of every prediction file, beside transformers 4.57.6.

    python benchmarks/legacy_parity.py --legacy_python legacy-env/bin/python --dumps dumps

Runs the programs of ../shared/legacy in the side environment and compares what they write with ours: windows of three
files in three sizes, for training and evaluation, and n-best decoding of logits with ties, zeros, peaks in the
question or the padding. --dumps keeps what they wrote, and what is there already is not made again (an hour's work).
Exit code 1 when anything differs but what is named as mended: training questions that 2020 lost.
"""

from __future__ import annotations

import argparse
import collections
import filecmp
import gzip
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common import (
    ROOT,
    benchmark_parser,
    legacy_fields,
    legacy_python,
    load_examples,
    load_real_tokenizer,
    model_dir,
    now,
    print_table,
    use_one_thread,
)

FILES = (("squad2_train_4k", "train"), ("squad2_dev_2k", "dev"), ("xquad.de", "train"), ("xquad.de", "dev"))
SIZES = ((384, 128, 64), (128, 32, 24), (64, 16, 12))  # max_seq_length, doc_stride, max_query_length
SIZE_FLAGS = ("--max_seq_length", "--doc_stride", "--max_query_length")
MANIFEST = "decoding_manifest.json"
BLOCK = 256  # questions decoded at a time, as in run_squad.py


class Case(NamedTuple):
    """One decoding: logits of a kind over the windows of a file, and flags of dump_predictions.py."""

    data: str
    size: tuple[int, int, int]
    kind: str
    flags: tuple[str, ...]


# What a run of the old library decodes: every kind as SQuAD 2.0 and 1.1, and flags that change the lists.
FLAGS = (
    (),
    ("--v1",),
    ("--n_best_size", "1", "--max_answer_length", "1", "--null_score_diff_threshold", "-1"),
    ("--n_best_size", "3", "--max_answer_length", "5", "--v1"),
    ("--n_best_size", "3", "--null_score_diff_threshold", "2.5", "--do_lower_case"),
)


def main() -> int:
    parser = benchmark_parser(__doc__, repeats=1)
    parser.add_argument("--dumps", type=Path, help="folder for what the old library writes (default: temporary)")
    parser.add_argument("--part", choices=("windows", "decoding"), help="only this (default: both)")
    args = parser.parse_args()
    use_one_thread()
    sys.path.insert(0, str(ROOT / "tests" / "golden"))  # synthetic_logits.py
    tokenizer = load_real_tokenizer(args.data_dir)
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        dumps = args.dumps or Path(temporary)
        dumps.mkdir(parents=True, exist_ok=True)
        if args.part != "decoding":
            different += compare_windows(args, dumps, tokenizer)
        if args.part != "windows":
            different += compare_decoding(args, dumps, Path(temporary), tokenizer)
    print("\nnothing differs" if not different else f"\n{different} DIFFER")
    return int(different > 0)


def run_legacy(args: argparse.Namespace, program: str, *words: Any) -> None:
    command = [legacy_python(args.legacy_python), args.legacy_dir / program, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stderr}")


def size_flags(size: tuple[int, int, int]) -> list[str]:
    return [str(word) for pair in zip(SIZE_FLAGS, size, strict=True) for word in pair]


def our_windows(data_dir: Path, data: str, size: tuple[int, int, int], tokenizer: Any, mode: str) -> Any:
    from utils_squad import make_windows

    lengths = {flag.strip("-"): value for flag, value in zip(SIZE_FLAGS, size, strict=True)}
    examples = load_examples([data_dir / f"{data}.json"])
    return make_windows(examples, tokenizer, **lengths, training=mode == "train")


# ---------------------------------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------------------------------


def compare_windows(args: argparse.Namespace, dumps: Path, tokenizer: Any) -> int:
    rows, total = [], collections.Counter()
    for size, (data, mode) in itertools.product(SIZES, FILES):
        dump = dumps / f"features_{data}_{'_'.join(map(str, size))}_{mode}.jsonl.gz"
        if not dump.exists():
            print(f"the old library makes {dump.name}", file=sys.stderr)
            training = ["--training"] * (mode == "train")
            source = args.data_dir / f"{data}.json"
            part = dump.with_suffix(".part.gz")
            run_legacy(args, "dump_features.py", source, model_dir(args.data_dir), part, *training, *size_flags(size))
            part.rename(dump)
        windows = our_windows(args.data_dir, data, size, tokenizer, mode)
        count, fields, different = compare_fields(dump, windows, tokenizer, size[0], mode)
        total.update(windows=count, fields=fields, different=different)
        rows.append((data, "/".join(map(str, size)), mode, f"{count:,}", f"{fields:,}", different))
    rows.append(("all", "", "", f"{total['windows']:,}", f"{total['fields']:,}", total["different"]))
    print_table(("file", "tokens", "for", "windows", "fields", "windows that differ"), rows)
    print()
    return total["different"]


def compare_fields(dump: Path, windows: Any, tokenizer: Any, length: int, mode: str) -> tuple[int, int, int]:
    """(windows, fields, windows that differ)."""
    count = fields = different = 0
    with gzip.open(dump, "rt", encoding="utf-8") as lines:
        for line, mine in itertools.zip_longest(lines, legacy_fields(windows, tokenizer, length, mode == "train")):
            theirs = json.loads(line) if line else {}
            count, fields = count + 1, fields + len(theirs)
            if mine != theirs:
                different += 1
                names = sorted(name for name in theirs if (mine or {}).get(name) != theirs[name])
                print(f"{dump.name}, window {count}: {', '.join(names) or 'only here'}", file=sys.stderr)
    return count, fields, different


# ---------------------------------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------------------------------


def decoding_cases() -> Iterator[Case]:
    """Every kind of logits under three settings with windows of the usual size, and some under the other sizes."""
    from synthetic_logits import KINDS

    turns = itertools.cycle(FLAGS[2:])
    for kind in KINDS:
        for flags in (*FLAGS[:2], next(turns)):
            yield Case("squad2_dev_2k", SIZES[0], kind, flags)
    for size, kind in itertools.product(SIZES[1:], ("halves", "peaks", "question")):
        yield Case("squad2_dev_2k", size, kind, next(turns))
    for kind, flags in (("peaks", FLAGS[0]), ("halves", FLAGS[1])):
        yield Case("xquad.de", SIZES[0], kind, flags)


def make_decoding_dumps(args: argparse.Namespace, dumps: Path, tokenizer: Any) -> None:
    """Let the old library decode every case; a manifest of them is written when all are there."""
    import numpy as np

    entries, windows_of = [], {}
    for number, case in enumerate(decoding_cases()):
        if (case.data, case.size) not in windows_of:
            windows_of = {(case.data, case.size): our_windows(args.data_dir, case.data, case.size, tokenizer, "dev")}
        data_file = args.data_dir / f"{case.data}.json"
        logits_file, out_dir = dumps / f"logits_{number:02d}.npz", dumps / f"decoding_{number:02d}"
        flags = [*case.flags, *size_flags(case.size)]
        if not (out_dir / "results.json").exists():  # written last
            print(f"the old library decodes case {number}: {case}", file=sys.stderr)
            start, end = case_logits(case, number, windows_of[case.data, case.size], tokenizer)
            np.savez_compressed(logits_file, start=start, end=end)
            run_legacy(args, "dump_predictions.py", data_file, model_dir(args.data_dir), logits_file, out_dir, *flags)
        paths = {"data_file": str(data_file), "logits": str(logits_file), "out_dir": str(out_dir)}
        entries.append({**paths, "kind": case.kind, "args": flags})
    (dumps / MANIFEST).write_text(json.dumps(entries, indent=1))


def case_logits(case: Case, seed: int, windows: Any, tokenizer: Any) -> tuple[Any, Any]:
    from synthetic_logits import synthetic_logits

    ids = (windows.assemble([window])[0].tolist() for window in range(len(windows)))
    return synthetic_logits(case.kind, seed, [tokenizer.convert_ids_to_tokens(row) for row in ids], case.size[0])


def compare_decoding(args: argparse.Namespace, dumps: Path, temporary: Path, tokenizer: Any) -> int:
    if not (dumps / MANIFEST).exists():
        make_decoding_dumps(args, dumps, tokenizer)
    rows, total, windows_of = [], collections.Counter(), {}
    for entry in json.loads((dumps / MANIFEST).read_text()):
        options = decoding_options(entry["args"])
        size, data = tuple(options.pop(flag.strip("-")) for flag in SIZE_FLAGS), Path(entry["data_file"])
        if (data, size) not in windows_of:
            windows_of = {(data, size): our_windows(data.parent, data.stem, size, tokenizer, "dev")}
        windows = windows_of[data, size]
        seconds = decode(windows, tokenizer, entry["logits"], options, temporary)
        equal = compare_files(Path(entry["out_dir"]), temporary)
        count, files, different = len(windows.examples), len(equal), len(equal) - sum(equal.values())
        total.update(cases=1, questions=count, files=files, different=different)
        shown = " ".join(entry["args"][: -2 * len(SIZE_FLAGS)])
        rows.append((data.stem, size[0], entry["kind"], shown, f"{count:,}", files, different, f"{seconds:.1f}"))
    rows.append(
        (f"all {total['cases']}", "", "", "", f"{total['questions']:,}", total["files"], total["different"], "")
    )
    print_table(("file", "tokens", "logits", "flags", "questions", "files", "files that differ", "our CPU s"), rows)
    return total["different"]


def decoding_options(words: list[str]) -> dict[str, Any]:
    """Arguments of Decoder and window lengths from the flags of dump_predictions.py."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--v1", dest="version_2_with_negative", action="store_false")
    flags.add_argument("--do_lower_case", action="store_true")
    flags.add_argument("--n_best_size", type=int, default=20)
    flags.add_argument("--max_answer_length", type=int, default=30)
    flags.add_argument("--null_score_diff_threshold", type=float, default=0.0)
    for flag, length in zip(SIZE_FLAGS, SIZES[0], strict=True):
        flags.add_argument(flag, type=int, default=length)
    return vars(flags.parse_args(words))


def decode(windows: Any, tokenizer: Any, logits_file: str, options: dict[str, Any], folder: Path) -> float:
    """Our prediction files of a case, in `folder`; returns processor seconds."""
    import numpy as np

    from utils_squad import Decoder, PredictionFiles

    with np.load(logits_file) as file:
        start, end = file["start"], file["end"]
    began, count = now(), len(windows.examples)
    decoder = Decoder(windows, tokenizer, **options)
    with PredictionFiles(str(folder), null_odds=options["version_2_with_negative"]) as files:
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            rows = slice(windows.first_window[first], windows.first_window[last])
            for prediction in decoder.decode(first, last, start[rows], end[rows]):
                files.write(prediction)
    return now().cpu - began.cpu


def compare_files(theirs: Path, ours: Path) -> dict[str, bool]:
    """{name: whether our file is byte-identical} of the files that the old library wrote."""
    names = {"predictions": "predictions_", "nbest": "nbest_predictions_", "null_odds": "null_odds_"}
    equal = {
        name: filecmp.cmp(theirs / f"{name}.json", ours / f"{mine}.json", shallow=False)
        for name, mine in names.items()
        if (theirs / f"{name}.json").exists()
    }
    for name in (name for name, same in equal.items() if not same):
        print(f"{theirs}/{name}.json differs", file=sys.stderr)
    return equal


if __name__ == "__main__":
    sys.exit(main())
