"""Logits that are hard on n-best decoding, the same on every machine, to make the goldens and to test with them."""

from __future__ import annotations

import hashlib

import numpy as np

KINDS = ("plain", "halves", "coarse", "zero", "null_only", "null_wins", "question", "padding", "peaks")


def synthetic_logits(kind: str, seed: int, tokens: list[list[str]], seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits, float32 (windows, seq_len).

    tokens: the word pieces of each window, "[CLS] question [SEP] context [SEP]", without padding.
    """
    # RandomState, because numpy promises that its numbers never change
    logits = np.random.RandomState(seed).normal(0.0, 3.0, (2, len(tokens), seq_len))
    if kind == "halves":  # many ties
        logits = np.round(logits) / 2
    elif kind == "coarse":  # nearly everything is tied
        logits = np.round(logits / 4)
    elif kind == "zero":
        logits[:] = 0.0
    elif kind == "null_only":
        logits = logits / 100 - 20
        logits[:, :, 0] = 8.0
    elif kind == "null_wins":
        logits[:, :, 0] = 30.0
    for index, pieces in enumerate(tokens):
        first_sep, last = pieces.index("[SEP]"), len(pieces) - 1
        if kind == "question":  # with a small n-best no span is allowed at all
            logits[:, index, 1 : first_sep + 1] += 25.0
        elif kind == "padding":
            logits[:, index, last + 1 :] += 25.0
        elif kind == "peaks":  # what a trained model gives: one span, its neighbours and the null answer
            start = first_sep + 1 + (seed + 7 * index) % max(last - first_sep - 1, 1)
            end = min(start + index % 4, seq_len - 1)
            logits[0, index, [start - 1, start]] += 5.0, 8.0
            logits[1, index, [end - 1, end]] += 5.0, 8.0
            logits[:, index, 0] += 4.0 * (index % 3)
    start, end = logits.astype(np.float32)
    return start, end


def fingerprint(*arrays: np.ndarray) -> str:
    """sha256 of the arrays' bytes: tells a test that its logits are those of the golden."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
