"""Every field of every window, and every byte of every prediction file, beside transformers 4.57.6.

    python benchmarks/legacy_parity.py --data_dir DIR --questions 300

Windows in three sizes, for training and evaluation, and n-best decoding of logits with ties, zeros, peaks in the
question or the padding, with the flags that change the lists. Without --questions the whole file (an hour).
Exit code 1 when anything differs.
"""

from __future__ import annotations

import filecmp
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import LENGTHS, ROOT, Ask, benchmark_parser, legacy_peer, parse_args, print_table, write_part
from our_side import decode, load_examples, load_real_tokenizer

SIZES = (LENGTHS, (128, 32, 24), (64, 16, 12))  # max_seq_length, doc_stride, max_query_length
# Of the Decoder: one of the last three for each kind of logits, and at the usual size the first two as well.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"version_2_with_negative": False},
    {"n_best_size": 1, "max_answer_length": 1, "null_score_diff_threshold": -1.0},
    {"n_best_size": 3, "max_answer_length": 5, "version_2_with_negative": False},
    {"n_best_size": 3, "null_score_diff_threshold": 2.5, "do_lower_case": True},
)


def main() -> int:
    args = parse_args(benchmark_parser(__doc__, questions=None))
    sys.path.insert(0, str(ROOT / "tests" / "golden"))  # synthetic_logits.py
    tokenizer, rows, different = load_real_tokenizer(args.model_dir), [], 0
    with tempfile.TemporaryDirectory() as name, legacy_peer() as legacy:
        folder = Path(name)
        file = folder / "questions.json"
        count = write_part(args.data_file, file, 0, args.questions)
        examples = load_examples(file)
        for training, size in itertools.product((True, False), SIZES):
            windows = make_sized_windows(examples, tokenizer, size, training)
            legacy("load", file, args.model_dir, training)
            legacy("windows", size)
            legacy("dump", folder / "windows.jsonl")
            compared = compare_windows(folder / "windows.jsonl", windows, tokenizer, size[0], training)
            rows.append(("training" if training else "evaluation", "/".join(map(str, size)), "windows", *compared))
            if not training:
                rows.append(("evaluation", "/".join(map(str, size)), "prediction files"))
                rows[-1] += compare_decoding(legacy, windows, tokenizer, size, folder)
            different += sum(row[-1] for row in rows[-2:])
    print(f"{args.data_file.name}, {count:,} questions\n")
    print_table(("for", "tokens", "what", "compared", "differ"), rows)
    return int(different > 0)


def make_sized_windows(examples: list[Any], tokenizer: Any, size: tuple[int, int, int], training: bool) -> Any:
    from utils_squad import make_windows

    names = ("max_seq_length", "doc_stride", "max_query_length")
    return make_windows(examples, tokenizer, **dict(zip(names, size, strict=True)), training=training)


def compare_windows(dump: Path, windows: Any, tokenizer: Any, width: int, training: bool) -> tuple[int, int]:
    """(windows, windows that differ)."""
    count = different = 0
    with dump.open(encoding="utf-8") as lines:
        for line, mine in itertools.zip_longest(lines, legacy_fields(windows, tokenizer, width, training)):
            theirs, count = json.loads(line) if line else {}, count + 1
            if mine != theirs:
                different += 1
                names = [name for name in theirs if (mine or {}).get(name) != theirs[name]]
                print(f"window {count} differs: {', '.join(names) or 'only here'}", file=sys.stderr)
    return count, different


def legacy_fields(windows: Any, tokenizer: Any, width: int, training: bool) -> Iterator[dict[str, Any]]:
    """Every field of the old SquadFeatures for each of our windows."""
    kept, last, template = -1, -1, windows.template
    for number in range(len(windows)):
        index = int(windows.example_index[number])
        if index != last:
            kept, last, masks = kept + 1, index, windows.max_context(index)
        example, offset = windows.examples[index], windows.context_offset(number)
        words = windows.context_pieces(number)[1].tolist()
        mask = masks[number - int(windows.first_window[index])].tolist()
        ids, segments, _ = (array.tolist() for array in windows.assemble([number]))
        pads = width - len(ids)
        start, end = int(windows.start_position[number]), int(windows.end_position[number])
        yield {
            "unique_id": 1000000000 + number,
            "example_index": kept,
            "qas_id": example.qid,
            "input_ids": ids + [template.pad_id] * pads,
            "attention_mask": [1] * len(ids) + [0] * pads,
            "token_type_ids": segments + [0] * pads,
            "cls_index": template.cls_index,
            "paragraph_len": len(words),
            "tokens": tokenizer.convert_ids_to_tokens(ids),
            "token_to_orig_map": {str(offset + i): word for i, word in enumerate(words)},
            "token_is_max_context": {str(offset + i): best for i, best in enumerate(mask)},
            "start_position": start,
            "end_position": end,
            "is_impossible": example.is_impossible or (training and start == template.cls_index),
        }


def compare_decoding(legacy: Ask, windows: Any, tokenizer: Any, size: Any, folder: Path) -> tuple[int, int]:
    """(files, files that are not byte-identical) over all kinds of logits and options."""
    import numpy as np
    from synthetic_logits import KINDS, synthetic_logits

    ids = (windows.assemble([window])[0].tolist() for window in range(len(windows)))
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in ids]
    others, results = itertools.cycle(OPTIONS[2:]), []
    for seed, kind in enumerate(KINDS):
        start, end = synthetic_logits(kind, seed, tokens, size[0])
        logits = folder / f"logits_{size[0]}_{kind}.npz"
        np.savez(logits, start=start, end=end)
        for options in (*OPTIONS[: 2 * (size == LENGTHS)], next(others)):
            legacy("decoding", logits, folder, options)
            decode(windows, tokenizer, start, end, folder, **options)
            names = ["predictions_", "nbest_predictions_", "null_odds_"][
                : 2 + options.get("version_2_with_negative", 1)
            ]
            for name in names:
                results.append(filecmp.cmp(folder / f"{name}.json", folder / f"{name}legacy.json", shallow=False))
                if not results[-1]:
                    print(f"{name}.json differs: {kind} logits, {options}", file=sys.stderr)
        logits.unlink()
    return len(results), results.count(False)


if __name__ == "__main__":
    sys.exit(main())
