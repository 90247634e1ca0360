"""Predictions of a file of questions."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from typing import Any, NamedTuple

from squadlib.console import SquadError, describe_os_error, progress_bar
from squadlib.data import Example
from squadlib.files import atomic_write
from squadlib.model.answer_text import lower_cases
from squadlib.model.decoding import Decoder, Prediction
from squadlib.model.layout import WindowModel
from squadlib.model.windows import Windows
from squadlib.training.optimisation import autocast
from squadlib.training.processes import Processes


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

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is not None:
            return self._stack.__exit__(*error)
        with self._stack:  # all files are whole before the first one replaces its old version
            self._write("\n}\n", "\n}\n", "\n}\n", flush=True)
        return None


DECODE_BLOCK = 256  # examples whose logits are held at a time


class Outcome(NamedTuple):
    """Predictions of a file, by question id in file order; best_answers are those without the null answer."""

    examples: list[Example]
    predictions: dict[str, str]
    best_answers: dict[str, str]
    null_odds: dict[str, float]
    results: dict[str, float]  # scores; {} where there are none, and on all ranks but 0

    @property
    def golds(self) -> dict[str, list[str]]:
        return {example.qid: [answer.text for answer in example.answers] for example in self.examples}


def predict_file(
    args: argparse.Namespace, runner: WindowModel, tokenizer: Any, windows: Windows, processes: Processes, prefix: str
) -> Outcome:
    """Predict every question and stream the prediction files; all processes share the work, rank 0 writes."""
    outcome = Outcome(windows.examples, {}, {}, {}, {})
    decoder = Decoder(
        windows,
        tokenizer,
        n_best_size=args.n_best_size,
        max_answer_length=args.max_answer_length,
        version_2_with_negative=args.version_2_with_negative,
        null_score_diff_threshold=args.null_score_diff_threshold,
        do_lower_case=lower_cases(tokenizer),
    )
    files = PredictionFiles(args.output_dir, prefix, null_odds=args.version_2_with_negative)
    count = len(windows.examples)
    blocks = [(first, min(first + DECODE_BLOCK, count)) for first in range(0, count, DECODE_BLOCK)]
    bar = progress_bar(total=len(windows), unit="window", desc="Evaluating")
    runner.model.eval()
    with bar, files if processes.is_main else contextlib.nullcontext():
        for turn in range(0, len(blocks), processes.world):
            mine = blocks[turn + processes.rank : turn + processes.rank + 1]
            predictions = [p for block in mine for p in decode_block(args, runner, decoder, block, bar)]
            for part in processes.gather(predictions):
                for prediction in part:
                    files.write(prediction)
                    outcome.predictions[prediction.qid] = prediction.text
                    outcome.best_answers[prediction.qid] = next(c.text for c in prediction.nbest if c.text)
                    outcome.null_odds[prediction.qid] = prediction.null_odds
    return outcome


def decode_block(args: argparse.Namespace, runner: WindowModel, decoder: Decoder, block: tuple, bar: Any) -> list:
    """Predictions of examples [block[0], block[1])."""
    windows = decoder.windows
    first, last = (int(windows.first_window[example]) for example in block)
    with autocast(args, runner.device):
        logits = runner.predict(windows, first, last, args.per_gpu_eval_batch_size, bar.update)
    return list(decoder.decode(*block, *logits))
