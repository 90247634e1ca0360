"""From start and end logits to n-best lists."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from squadlib.console import SquadError
from squadlib.model.answer_text import AnswerText
from squadlib.model.windows import Windows

NO_WINDOW = (1000000.0, 0.0)  # null logits of a blank context: the 2020 script's "large and positive"
INDEX_BITS = 20  # positions in a composite sort key; 2**20 is far above any max_seq_length


@dataclass(frozen=True)
class DecodingSettings:
    """How an answer is chosen; see `Decoder`."""

    n_best_size: int = 20
    max_answer_length: int = 30
    version_2_with_negative: bool = True
    null_score_diff_threshold: float = 0.0


class Candidate(NamedTuple):
    """One entry of an n-best list; the null answer has the text ""."""

    text: str
    probability: float
    start_logit: float
    end_logit: float


class Prediction(NamedTuple):
    """Decoded answer of one question. null_odds: null score - best non-null score; 0.0 without v2."""

    qid: str
    text: str
    nbest: list[Candidate]
    null_odds: float


class Decoder:
    """n-best decoding of the BERT SQuAD script (Devlin et al. 2019), a block of windows at a time.

    do_lower_case: whether the tokenizer lower-cases, which the realignment of word pieces with the text must follow.
    max_answer_length: tokens, inclusive. null_score_diff_threshold: the null answer is predicted when null_odds is
    strictly above it (v2 only).
    """

    def __init__(
        self,
        windows: Windows,
        tokenizer: PreTrainedTokenizerFast,
        *,
        n_best_size: int = 20,
        max_answer_length: int = 30,
        version_2_with_negative: bool = True,
        null_score_diff_threshold: float = 0.0,
        do_lower_case: bool = False,
    ) -> None:
        self.windows, self.n_best_size, self.max_answer_length = windows, n_best_size, max_answer_length
        self.with_null, self.threshold = version_2_with_negative, null_score_diff_threshold
        self.answer_text = AnswerText(tokenizer, do_lower_case)

    def decode(self, first: int, last: int, start_logits: np.ndarray, end_logits: np.ndarray) -> Iterator[Prediction]:
        """Predictions of examples [first, last).

        start_logits, end_logits: float32 (windows of these examples, width); -inf at positions that do not exist.
        Raises SquadError when a logit is not a number.
        """
        windows, row = self.windows, self.windows.first_window
        self._refuse_nan(row[first], start_logits, end_logits)
        window, start, end, scores, logits = self._candidates(row[first], row[last], start_logits, end_logits)
        example = windows.example_index[window]
        order = np.lexsort((-scores, example))  # stable: equal sums keep the order window, start rank, end rank
        bounds = np.searchsorted(example[order], np.arange(first, last + 1))
        cls = windows.template.cls_index
        null_logits = np.stack([start_logits[:, cls], end_logits[:, cls]], axis=1).astype(np.float64).tolist()
        shift = windows.start[window]
        columns = [column[order].tolist() for column in (start + shift, end + shift, *logits)]
        for index in range(first, last):
            spans = zip(*(column[bounds[index - first] : bounds[index - first + 1]] for column in columns), strict=True)
            nulls = null_logits[row[index] - row[first] : row[index + 1] - row[first]]
            null = tuple(min(nulls, key=sum, default=NO_WINDOW))  # of equal sums the first window wins
            yield self._predict(index, spans, null)

    def _refuse_nan(self, first_window: int, *logits: np.ndarray) -> None:
        for values in logits:
            bad = np.flatnonzero(np.isnan(values).any(axis=1) | (values == np.inf).any(axis=1))
            if len(bad):
                example = self.windows.examples[self.windows.example_index[first_window + bad[0]]]
                raise SquadError(
                    f"question {example.qid}: the model's logits are not numbers; the checkpoint is broken"
                )

    def _candidates(
        self, first: int, last: int, start_logits: np.ndarray, end_logits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """All allowed spans of windows [first, last) in the order window, start rank, end rank.

        Returns window, first piece and last piece (within the window's context), float64 sum, and (start, end) logits.
        """
        windows, block = self.windows, slice(first, last)
        offset = windows.num_tokens()[block] - windows.length[block] - len(windows.template.suffix)
        starts = _top_positions(start_logits, self.n_best_size) - offset[:, None]
        ends = _top_positions(end_logits, self.n_best_size) - offset[:, None]
        length = windows.length[block, None]
        start_ok = (starts >= 0) & (starts < length)
        end_ok = (ends >= 0) & (ends < length)
        start_ok &= self._max_context(first, last, starts, start_ok)
        width = ends[:, None, :] - starts[:, :, None]
        allowed = start_ok[:, :, None] & end_ok[:, None, :] & (width >= 0) & (width < self.max_answer_length)
        window, start_rank, end_rank = np.nonzero(allowed)
        start, end = starts[window, start_rank], ends[window, end_rank]
        start_logit = start_logits[window, start + offset[window]].astype(np.float64)
        end_logit = end_logits[window, end + offset[window]].astype(np.float64)
        return window + first, start, end, start_logit + end_logit, (start_logit, end_logit)

    def _max_context(self, first: int, last: int, starts: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Whether each start has its maximum context in its own window: bool, shape of starts."""
        windows, result = self.windows, np.ones(starts.shape, bool)
        examples = np.unique(windows.example_index[first:last])
        for example in examples[np.diff(windows.first_window)[examples] > 1]:
            for window, mask in enumerate(windows.max_context(example), windows.first_window[example] - first):
                positions = np.where(valid[window], starts[window], 0)
                result[window] = mask[positions]
        return result

    def _predict(self, example: int, spans: Iterable[tuple], null: tuple[float, float]) -> Prediction:
        nbest = self._nbest(example, spans, null)
        if not nbest or (self.with_null and len(nbest) == 1):
            nbest.insert(0, ("empty", 0.0, 0.0))  # the 2020 script's word for "no span was allowed"
        scores = [start + end for _, start, end in nbest]
        candidates = [
            Candidate(text, probability, start, end)
            for (text, start, end), probability in zip(nbest, _softmax(scores), strict=True)
        ]
        best = next(candidate for candidate in candidates if candidate.text)
        qid = self.windows.examples[example].qid
        if not self.with_null:
            return Prediction(qid, candidates[0].text, candidates, 0.0)
        null_odds = null[0] + null[1] - best.start_logit - best.end_logit
        return Prediction(qid, "" if null_odds > self.threshold else best.text, candidates, null_odds)

    def _nbest(self, example: int, spans: Iterable[tuple], null: tuple[float, float]) -> list[tuple[str, float, float]]:
        """Spans in falling order, each text once, with the null answer behind the spans of equal score."""
        nbest: list[tuple[str, float, float]] = []
        seen: set[str] = set()
        null_score, null_waits = null[0] + null[1], self.with_null
        context = self.answer_text.context(self.windows, example)
        for start, end, start_logit, end_logit in spans:
            if null_waits and start_logit + end_logit < null_score and len(nbest) < self.n_best_size:
                nbest.append(("", *null))
                null_waits = False
            if len(nbest) >= self.n_best_size:
                break
            text = self.answer_text.cut(context, start, end)
            if text not in seen:
                seen.add(text)
                nbest.append((text, start_logit, end_logit))
        if null_waits:
            nbest.append(("", *null))
        return nbest


def _top_positions(logits: np.ndarray, size: int) -> np.ndarray:
    """Positions of the largest logits of each row, falling, ties by the lower position: int64 (W, size)."""
    width = logits.shape[1]
    size = min(size, width)
    # A float32's bits, read as an integer, order like the number itself once the negative half is turned around.
    bits = (logits + np.float32(0.0)).astype(np.float32).view(np.int32).astype(np.int64)  # + 0.0 makes -0.0 equal 0.0
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    keys = (ordered << INDEX_BITS) | (width - 1 - np.arange(width))
    top = np.sort(np.partition(keys, width - size, axis=1)[:, width - size :], axis=1)[:, ::-1]
    return width - 1 - (top & ((1 << INDEX_BITS) - 1))


def _softmax(scores: list[float]) -> list[float]:
    """Probabilities of the kept candidates, in float64 and in the 2020 script's order; sum() rounds otherwise."""
    highest = max(scores)
    exponentials = [math.exp(score - highest) for score in scores]
    total = 0.0
    for value in exponentials:
        total += value
    return [value / total for value in exponentials]
