"""Predicting and scoring a file of questions; several processes share the work."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from squadlib.console import logger, progress_bar
from squadlib.data import Example
from squadlib.model.answer_text import lower_cases
from squadlib.model.decoding import Decoder, DecodingSettings, Prediction
from squadlib.model.layout import WindowModel
from squadlib.model.prediction import PredictionFiles, predict_logits
from squadlib.model.windows import Windows
from squadlib.training.processes import Processes

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


@dataclass(frozen=True)
class Evaluation:
    """A file of questions, and how it is predicted and scored. batch_size: windows of each process.

    score: (Outcome, whether "" may be an answer) -> results. Files go into output_dir; `name` is in theirs.
    """

    windows: Windows
    tokenizer: PreTrainedTokenizerFast
    decoding: DecodingSettings
    batch_size: int
    processes: Processes
    output_dir: str
    score: Callable[[Outcome, bool], dict[str, float]]
    name: str = ""

    def run(self, runner: WindowModel, prefix: str = "") -> Outcome:
        """Predict, write the files, score. prefix: number of the checkpoint."""
        windows = self.windows
        logger.info("***** Running evaluation %s *****", self._full(prefix))
        logger.info("  Num examples = %d", len(windows.examples))
        logger.info("  Num windows = %d", len(windows))
        started = time.perf_counter()
        outcome = self.predict(runner, prefix)
        seconds = time.perf_counter() - started
        logger.info("  Evaluation done in %.1f s (%.1f windows/s)", seconds, len(windows) / seconds)
        with_null = self.decoding.version_2_with_negative
        return outcome._replace(results=self.score(outcome, with_null) if self.processes.is_main else {})

    def _full(self, prefix: str) -> str:
        """What stands in the names of the prediction files: nl_4 for checkpoint 4."""
        return "_".join(filter(None, (self.name, prefix)))

    def predict(self, runner: WindowModel, prefix: str = "") -> Outcome:
        """Predict every question and stream the prediction files; rank 0 writes."""
        windows, processes, decoding = self.windows, self.processes, self.decoding
        outcome = Outcome(windows.examples, {}, {}, {}, {})
        decoder = Decoder(windows, self.tokenizer, do_lower_case=lower_cases(self.tokenizer), **vars(decoding))
        files = PredictionFiles(self.output_dir, self._full(prefix), null_odds=decoding.version_2_with_negative)
        count = len(windows.examples)
        blocks = [(first, min(first + DECODE_BLOCK, count)) for first in range(0, count, DECODE_BLOCK)]
        bar = progress_bar(total=len(windows), unit="window", desc="Evaluating")
        runner.model.eval()
        with bar, files if processes.is_main else contextlib.nullcontext():
            for turn in range(0, len(blocks), processes.world):
                predictions: list[Prediction] = []
                for first, last in blocks[turn + processes.rank : turn + processes.rank + 1]:
                    begin, end = (int(windows.first_window[example]) for example in (first, last))
                    logits = predict_logits(runner, windows, begin, end, self.batch_size, bar.update)
                    predictions += decoder.decode(first, last, *logits)
                for prediction in (p for part in processes.gather(predictions) for p in part):
                    files.write(prediction)
                    outcome.predictions[prediction.qid] = prediction.text
                    outcome.best_answers[prediction.qid] = next(c.text for c in prediction.nbest if c.text)
                    outcome.null_odds[prediction.qid] = prediction.null_odds
        return outcome


def average(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean of several files' scores: each file counts the same, whatever its size. results: by name of the file.

    A score is the mean over the files that have it; totals are sums; best_* hang on a threshold of their file and are
    left out.
    """
    keys = dict.fromkeys(key for scores in results.values() for key in scores if not key.startswith("best_"))
    means = {}
    for key in keys:
        values = [scores[key] for scores in results.values() if key in scores]
        is_sum = re.search(r"total(_\d+)?$", key)
        means[key] = sum(values) if is_sum else math.fsum(values) / len(values)
    return means
