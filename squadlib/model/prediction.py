"""From windows to logits, and from predictions to the three files of the 2020 script."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from types import TracebackType

import numpy as np
import torch

from squadlib.console import SquadError, describe_os_error
from squadlib.files import atomic_write
from squadlib.model.decoding import Prediction
from squadlib.model.layout import MAX_LENGTH, WindowModel
from squadlib.model.windows import Windows


def predict_logits(
    runner: WindowModel,
    windows: Windows,
    first: int,
    last: int,
    batch_size: int,
    done: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits of windows [first, last): float32 (last - first, width), -inf where there is no token.

    Batches are made of windows of like length, but for MAX_LENGTH. done: called with the size of each batch.
    """
    tokens = windows.num_tokens()[first:last]
    exact = runner.layout == MAX_LENGTH
    order = first + (np.arange(last - first) if exact else np.argsort(tokens, kind="stable"))
    width = runner.max_seq_length if exact else int(tokens.max(initial=1))
    result = np.full((2, last - first, width), -np.inf, np.float32)
    parts = []  # on the device until all is queued, so that a GPU never waits
    with torch.no_grad(), runner.autocast():
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            parts.append((batch - first, torch.stack(runner.logits(windows, batch))))
            if done:
                done(len(batch))
    for rows, logits in parts:
        for target, values in zip(result, logits.cpu().numpy(), strict=True):
            target[rows, : values.shape[1]] = values
    return result[0], result[1]


class PredictionFiles:
    """Streams predictions_, nbest_predictions_ and null_odds_ JSON files, byte for byte as the 2020 script wrote them.

    Used as a context manager; each file replaces its old version only when all questions have been written.
    """

    def __init__(self, output_dir: str, prefix: str = "", *, null_odds: bool = True) -> None:
        names = ["predictions_", "nbest_predictions_"] + ["null_odds_"] * null_odds
        self.paths = [os.path.join(output_dir, f"{name}{prefix}.json") for name in names]

    def __enter__(self) -> PredictionFiles:
        self._stack = contextlib.ExitStack()
        self._files = [self._stack.enter_context(atomic_write(path)) for path in self.paths]
        self._separator = "{"
        return self

    def write(self, prediction: Prediction) -> None:
        quote = json.encoder.encode_basestring_ascii
        key = f"{self._separator}\n    {quote(prediction.qid)}: "
        entries = ",\n".join(
            f'        {{\n            "text": {quote(text)},\n            "probability": {probability!r},\n'
            f'            "start_logit": {start!r},\n            "end_logit": {end!r}\n        }}'
            for text, probability, start, end in prediction.nbest
        )
        contents = (quote(prediction.text), f"[\n{entries}\n    ]", repr(prediction.null_odds))
        self._write(*(key + content for content in contents))
        self._separator = ","

    def _write(self, *contents: str, flush: bool = False) -> None:
        """Append to each file; a full disk is told with the name of the file that it hit."""
        for path, file, content in zip(self.paths, self._files, contents, strict=False):
            try:
                file.write(content)
                if flush:
                    file.flush()
            except OSError as error:
                raise SquadError(describe_os_error(error, path)) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None:
            return self._stack.__exit__(kind, error, trace)
        with self._stack:  # all files are whole before the first one replaces its old version
            self._write("\n}\n", "\n}\n", "\n}\n", flush=True)
        return None
