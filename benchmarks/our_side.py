"""Our side of the speed benchmarks, in a process of its own, from any checkout of the project.

    python benchmarks/our_side.py CHECKOUT serve
    python benchmarks/our_side.py CHECKOUT steps RESULT WARMUP STEPS [flags of run_squad.py]

Only what utils_squad.py hands on and run_squad.py's `main` are used, so that an older checkout runs too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common import LENGTHS, Usage, end_after_steps, peak_mib, realistic_logits, serve, timed

BLOCK = 256  # questions decoded at a time, as in run_squad.py


def main() -> int:
    checkout, task, *words = sys.argv[1:]
    sys.path[0] = checkout
    if task == "serve":
        serve_jobs()
        return 0
    import run_squad

    result, warmup, steps, *flags = words
    end_after_steps(int(warmup), int(steps), Path(result))
    return run_squad.main(flags)


def serve_jobs() -> None:
    """Jobs on one file; `load` comes first."""
    kept: dict[str, Any] = {}

    def load(file: str, model_dir: str) -> None:
        kept.update(tokenizer=load_real_tokenizer(model_dir), examples=load_examples(file))

    def windows() -> Usage:
        from utils_squad import make_windows

        kept.pop("windows", None)
        return timed(lambda: kept.update(windows=make_windows(kept["examples"], kept["tokenizer"], training=True)))

    def tokenizer() -> Usage:
        """The tokenizer alone, each different text once."""
        texts = list(dict.fromkeys(text for e in kept["examples"] for text in (e.context, e.question)))
        backend = kept["tokenizer"].backend_tokenizer
        return timed(lambda: backend.encode_batch(texts, add_special_tokens=False))

    def make_logits(folder: str) -> None:
        kept["evaluated"], kept["logits"] = make_decoding_work(kept["examples"], kept["tokenizer"], Path(folder))

    def decoding(folder: str) -> Usage:
        return timed(lambda: decode(kept["evaluated"], kept["tokenizer"], *kept["logits"], folder))

    def sizes() -> tuple[int, int]:
        return len(kept["windows"]), array_bytes(kept["windows"])

    jobs = (load, windows, tokenizer, make_logits, decoding, sizes, peak_mib)
    serve({job.__name__: job for job in jobs})


def load_examples(file: str | Path) -> list[Any]:
    from utils_squad import load_squad, read_examples

    return read_examples(load_squad(str(file)))


def load_real_tokenizer(model_dir: str | Path) -> Any:
    from utils_squad import load_config, load_tokenizer

    return load_tokenizer(str(model_dir), load_config(str(model_dir)))


def make_decoding_work(examples: list[Any], tokenizer: Any, folder: Path) -> tuple[Any, tuple[Any, Any]]:
    """The windows of all questions as for evaluation, and logits with a peak at the answer that training would see.

    The logits go into folder/logits.npz too.
    """
    import numpy as np

    from utils_squad import make_windows

    windows, labelled = make_windows(examples, tokenizer), make_windows(examples, tokenizer, training=True)
    kept = np.isin(windows.example_index, labelled.example_index)  # the others have an answer that is not found
    positions = np.zeros((2, len(windows)), np.int64)
    positions[:, kept] = labelled.start_position, labelled.end_position
    start, end = realistic_logits(*positions, LENGTHS[0])
    np.savez(folder / "logits.npz", start=start, end=end)
    return windows, (start, end)


def decode(windows: Any, tokenizer: Any, start: Any, end: Any, folder: str | Path, **options: Any) -> None:
    """As run_squad.py does it: a block of questions at a time, streamed into the files. options: of Decoder."""
    from utils_squad import Decoder, PredictionFiles

    decoder, count = Decoder(windows, tokenizer, **options), len(windows.examples)
    with PredictionFiles(str(folder), null_odds=options.get("version_2_with_negative", True)) as files:
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            rows = slice(windows.first_window[first], windows.first_window[last])
            for prediction in decoder.decode(first, last, start[rows], end[rows]):
                files.write(prediction)


def array_bytes(thing: Any) -> int:
    """Bytes of all numpy arrays among the attributes of an object and of its own objects, each array once."""
    parts = [part for value in vars(thing).values() for part in (value, *getattr(value, "__dict__", {}).values())]
    return sum({id(part): part.nbytes for part in parts if hasattr(part, "nbytes")}.values())


if __name__ == "__main__":
    sys.exit(main())
