"""Make the golden windows and predictions with the 2020 code itself, in the last library that ships it.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    legacy-env/bin/python tests/golden/make_legacy_golden.py

Reads mini_squad.json and tiny_bert/vocab.txt (made by make_mini_squad.py). Writes, beside itself:
windows_<max_seq_length>_<doc_stride>_<max_query_length>_<train|dev>[_lower].jsonl.xz, one window a line, and
decoding.jsonl.xz, one case a line. It only calls transformers 4.57.6 and implements nothing of it again.
"""

from __future__ import annotations

import json
import lzma
import tempfile
from pathlib import Path

import transformers
from synthetic_logits import fingerprint, synthetic_logits
from transformers import BertTokenizer
from transformers.data.metrics import squad_metrics
from transformers.data.processors import squad

HERE = Path(__file__).resolve().parent
NORMAL, TIGHT = (64, 16, 12), (32, 6, 8)  # max_seq_length, doc_stride, max_query_length
WINDOW_SETS = [
    (settings, training, lower)
    for settings, lower in ((NORMAL, False), (TIGHT, False), (NORMAL, True))
    for training in (True, False)
]
FEATURE_KEYS = [
    *("unique_id", "example_index", "qas_id", "input_ids", "attention_mask", "token_type_ids", "cls_index"),
    *("paragraph_len", "tokens", "token_to_orig_map", "token_is_max_context", "start_position", "end_position"),
    "is_impossible",
]

# kind of logits, window settings, and what differs from the defaults of `decode`
CASES = [
    ("plain", NORMAL, {"n_best_size": 20}),
    ("peaks", NORMAL, {"n_best_size": 20}),
    *((kind, NORMAL, {}) for kind in ("halves", "coarse", "zero", "null_only", "null_wins", "question", "padding")),
    *((kind, NORMAL, {"v2": False}) for kind in ("plain", "halves", "zero", "null_only", "question", "peaks")),
    ("plain", NORMAL, {"n_best_size": 1}),
    ("halves", NORMAL, {"n_best_size": 1, "max_answer_length": 1, "null_score_diff_threshold": -1.0}),
    ("halves", NORMAL, {"v2": False, "n_best_size": 8, "max_answer_length": 5}),
    ("peaks", NORMAL, {"null_score_diff_threshold": 2.5}),
    ("peaks", NORMAL, {"null_score_diff_threshold": -1.0, "max_answer_length": 2}),
    ("null_only", NORMAL, {"n_best_size": 1}),
    ("question", NORMAL, {"n_best_size": 1}),
    ("question", NORMAL, {"n_best_size": 1, "v2": False}),
    ("peaks", TIGHT, {}),
    ("coarse", TIGHT, {"n_best_size": 8, "v2": False}),
    ("peaks", NORMAL, {"do_lower_case": True}),  # a cased vocabulary, lower-cased only when the text is realigned
    ("peaks", NORMAL, {"do_lower_case": True, "lower_vocab": True}),
    ("plain", NORMAL, {"do_lower_case": True, "lower_vocab": True, "v2": False}),
]


def make_windows(examples: list, tokenizer: BertTokenizer, settings: tuple[int, int, int], training: bool) -> list:
    """The library's windows, numbered as its (process pool) driver numbers them."""
    squad.squad_convert_example_to_features_init(tokenizer)
    windows, kept = [], 0
    for example in examples:
        made = squad.squad_convert_example_to_features(example, *settings, "max_length", training)
        for window in made:
            window.example_index, window.unique_id = kept, 1000000000 + len(windows)
            windows.append(window)
        kept += bool(made)
    return windows


def read_examples(training: bool) -> list:
    processor = squad.SquadV2Processor()
    read = processor.get_train_examples if training else processor.get_dev_examples
    return read(None, filename=str(HERE / "mini_squad.json"))


def get_tokenizer(lower: bool) -> BertTokenizer:
    return BertTokenizer(str(HERE / "tiny_bert" / "vocab.txt"), do_lower_case=lower)


def decode(
    kind: str,
    settings: tuple[int, int, int],
    seed: int,
    v2: bool = True,
    n_best_size: int = 3,
    max_answer_length: int = 30,
    null_score_diff_threshold: float = 0.0,
    do_lower_case: bool = False,
    lower_vocab: bool = False,
) -> dict:
    """One case: how it was asked for, and what the library predicted and scored."""
    asked = dict(locals())
    tokenizer, examples = get_tokenizer(lower_vocab), read_examples(training=False)
    windows = make_windows(examples, tokenizer, settings, training=False)
    start, end = synthetic_logits(kind, seed, [window.tokens for window in windows], settings[0])
    raw = [squad.SquadResult(w.unique_id, s.tolist(), e.tolist()) for w, s, e in zip(windows, start, end, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("predictions", "nbest", "null_odds")]
        predictions = squad_metrics.compute_predictions_logits(
            examples, windows, raw, n_best_size, max_answer_length, do_lower_case, *files[:2], files[2] if v2 else None,
            False, v2, null_score_diff_threshold, tokenizer,
        )  # fmt: skip
        written = {file.name: json.loads(file.read_text()) for file in files if file.exists()}
    results = squad_metrics.squad_evaluate(examples, predictions)
    return {**asked, "logits_sha256": fingerprint(start, end), **written, "results": results}


def write_xz(name: str, lines: list) -> None:
    """One JSON value a line; xz, because overlapping windows repeat themselves and gzip hardly sees it."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (HERE / name).write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    print(len(lines), "lines ->", name)


def main() -> None:
    if transformers.__version__ != "4.57.6":
        raise SystemExit(f"transformers {transformers.__version__} found; this program needs 4.57.6")
    squad.tqdm = lambda iterable, **_: iterable
    for settings, training, lower in WINDOW_SETS:
        windows = make_windows(read_examples(training), get_tokenizer(lower), settings, training)
        name = "windows_" + "_".join(map(str, settings)) + ("_train" if training else "_dev") + "_lower" * lower
        write_xz(name + ".jsonl.xz", [{key: getattr(window, key) for key in FEATURE_KEYS} for window in windows])
    write_xz("decoding.jsonl.xz", [decode(*case[:2], seed, **case[2]) for seed, case in enumerate(CASES, 42)])


if __name__ == "__main__":
    main()
