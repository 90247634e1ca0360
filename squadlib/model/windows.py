"""Windows: every question with a slice of its context, as flat int32 arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from squadlib.console import SquadError, logger
from squadlib.data import Example
from squadlib.model.labels import DROPPED, label_pieces
from squadlib.model.pieces import WORD, PieceTable, TokenisedExamples, tokenise
from squadlib.model.template import PairTemplate, pair_template


@dataclass(frozen=True)
class WindowSettings:
    """Lengths in tokens; see `make_windows`."""

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64


@dataclass(frozen=True, eq=False)
class Windows(TokenisedExamples):
    """All windows of the questions: beside the pieces of their texts, five integers a window. Made by `cut_windows`.

    first_window: int64 (E + 1,), example e has the windows [first_window[e], first_window[e + 1]). Per window, int32
    (W,): example_index, start and length (pieces of the context, relative to its first piece), start_position and
    end_position (training labels, positions in the window). lost: training examples whose answer is not in the words
    that its offset names. file_sizes: windows of each training file by its path; the files follow each other.
    """

    template: PairTemplate
    first_window: np.ndarray
    example_index: np.ndarray
    start: np.ndarray
    length: np.ndarray
    start_position: np.ndarray
    end_position: np.ndarray
    lost: np.ndarray
    file_sizes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.example_index)

    @property
    def dropped(self) -> list[str]:
        """Ids of the lost examples."""
        return [self.examples[example].qid for example in self.lost]

    def words(self, example: int) -> list[str]:
        """The context of an example as the whitespace words that predictions are cut from."""
        return WORD.findall(self.examples[example].context)

    def context_pieces(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """(piece ids, word index of each piece) of one window, both int32 (length,)."""
        row = self.context_row[self.example_index[window]]
        first = self.contexts.first[row] + self.start[window]
        span = slice(first, first + self.length[window])
        return self.contexts.values[span], self.contexts.word[span]

    def context_offset(self, window: int) -> int:
        """Position of the window's first context piece."""
        question = self.questions.length(self.question_row[self.example_index[window]])
        return len(self.template.prefix) + question + len(self.template.middle)

    def num_tokens(self) -> np.ndarray:
        """Real tokens of each window, specials included: int64 (W,)."""
        rows = self.question_row[self.example_index]
        return self.length + (self.questions.first[rows + 1] - self.questions.first[rows]) + self.template.num_special

    def digest(self) -> str:
        """SHA-256 of all that training sees: a checkpoint belongs to these windows and no others."""
        arrays = (self.contexts.values, self.questions.values, self.context_row, self.question_row, self.example_index)
        digest = hashlib.sha256()
        for array in (*arrays, self.start, self.length, self.start_position, self.end_position):
            digest.update(array.astype("<i4").tobytes())
        return digest.hexdigest()

    def assemble(self, indices: Iterable[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows `indices` laid end to end without padding.

        Returns input_ids and token_type_ids, int64 (total tokens,), and the window lengths, int64 (B,).
        """
        template = self.template
        parts: list[Sequence[int] | np.ndarray] = []
        segments: list[int] = []  # sizes of the parts
        lengths: list[int] = []
        for window in indices:
            question = self.questions[self.question_row[self.example_index[window]]]
            window_parts = (template.prefix, question, template.middle, self.context_pieces(window)[0], template.suffix)
            sizes = tuple(map(len, window_parts))
            parts += window_parts
            segments += sizes
            lengths.append(sum(sizes))
        input_ids = np.concatenate([np.asarray(part, np.int64) for part in parts])
        token_type_ids = np.repeat(np.tile(np.array(template.segments, np.int64), len(lengths)), segments)
        return input_ids, token_type_ids, np.array(lengths, np.int64)

    def max_context(self, example: int) -> list[np.ndarray]:
        """One bool array (length,) a window of the example: true where the token has its maximum context there.

        Score of a token: min(left, right) + 0.01 * window length; the earlier window wins a tie (Devlin et al. 2019).
        """
        first, last = self.first_window[example], self.first_window[example + 1]
        if last - first == 1:
            return [np.ones(self.length[first], bool)]
        starts, lengths = self.start[first:last, None], self.length[first:last, None]
        position = np.arange(starts[-1, 0] + lengths[-1, 0])
        left, right = position - starts, starts + lengths - 1 - position
        scores = np.where((left >= 0) & (right >= 0), np.minimum(left, right) + 0.01 * lengths, -1.0)
        best = scores.argmax(axis=0)
        return [best[s : s + n] == k for k, (s, n) in enumerate(zip(starts[:, 0], lengths[:, 0], strict=True))]


def make_windows(
    examples: list[Example],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    max_query_length: int = 64,
    training: bool = False,
) -> Windows:
    """Windows of all examples, equal to those of the 2020 script in every field.

    tokenizer: a fast transformers tokenizer. Lengths and doc_stride are in tokens; window k of a context covers its
    pieces [k * doc_stride, k * doc_stride + room) with room = max_seq_length - question - specials. With `training`,
    labels come from the first answer and questions whose answer cannot be found are dropped.
    """
    template, table = pair_template(tokenizer), PieceTable(tokenizer)
    texts = tokenise(examples, table, max_query_length)
    room = context_room(texts, template, max_seq_length)
    spans = label_pieces(texts, table) if training else None
    return cut_windows(texts, template, room, np.full_like(room, doc_stride), spans)


def make_training_windows(
    files: dict[str, list[Example]], tokenizer: PreTrainedTokenizerFast, settings: WindowSettings
) -> Windows:
    """Windows to train on, of all files, with what was dropped told. files: examples by path."""
    examples = [example for part in files.values() for example in part]
    windows = make_windows(examples, tokenizer, **vars(settings), training=True)
    sizes, end = {}, 0
    for path, part in files.items():
        first, end = end, end + len(part)
        sizes[path] = int(windows.first_window[end] - windows.first_window[first])
        lost = windows.lost[(windows.lost >= first) & (windows.lost < end)]
        _tell_lost(path, part, lost - first)
        if not sizes[path]:
            raise SquadError(f"{path}: no window to train on; every context is blank")
    return replace(windows, file_sizes=sizes)


def _tell_lost(path: str, examples: list[Example], lost: np.ndarray) -> None:
    """Warn of a file's lost examples, and refuse it when they are too many."""
    count = len(lost)
    if count:
        first = examples[lost[0]].qid
        logger.warning("%s: %d questions dropped, answer not at its offset; the first is %s", path, count, first)
    answerable = sum(not example.is_impossible for example in examples)
    if count > answerable / 2:
        raise SquadError(
            f"{path}: {count} of {answerable} answers are not at their answer_start; were the contexts "
            "edited? Run clean_squad.py again"
        )


def context_room(texts: TokenisedExamples, template: PairTemplate, max_seq_length: int) -> np.ndarray:
    """Context pieces that fit into a window beside each example's question: int64 (E,)."""
    return max_seq_length - template.num_special - np.diff(texts.questions.first)[texts.question_row]


def cut_windows(
    texts: TokenisedExamples,
    template: PairTemplate,
    room: np.ndarray,
    step: np.ndarray,
    spans: np.ndarray | None = None,
) -> Windows:
    """The windows of all examples: each holds up to room[e] pieces, the next starts step[e] pieces further on.

    A blank context has no window. spans: what `label_pieces` returned; DROPPED examples have no window either.
    """
    total = np.diff(texts.contexts.first)[texts.context_row]
    _refuse_gaps(texts, room, step, total)
    count = np.where(total > 0, 1 + np.maximum(0, -(-(total - room) // step)), 0)
    lost = np.zeros(0, np.int64)
    if spans is not None:
        lost = np.flatnonzero(spans[:, 0] <= DROPPED)
        count[lost] = 0
    first_window = np.concatenate([[0], np.cumsum(count)])
    index = np.repeat(np.arange(len(count), dtype=np.int32), count)
    start = ((np.arange(len(index)) - first_window[index]) * step[index]).astype(np.int32)
    length = np.minimum(total[index] - start, room[index]).astype(np.int32)
    labels = (np.zeros(len(index), np.int32),) * 2
    if spans is not None:
        question = np.diff(texts.questions.first)[texts.question_row][index]
        offset = len(template.prefix) + question + len(template.middle)
        labels = _window_labels(spans[index], start, length, offset, template.cls_index)
    return Windows(
        **vars(texts),
        template=template,
        first_window=first_window,
        example_index=index,
        start=start,
        length=length,
        start_position=labels[0],
        end_position=labels[1],
        lost=lost,
    )


def _refuse_gaps(texts: TokenisedExamples, room: np.ndarray, step: np.ndarray, total: np.ndarray) -> None:
    short = np.flatnonzero((room < step) & (total > room))
    if len(short):
        raise SquadError(
            f"question {texts.examples[short[0]].qid} leaves room for {room[short[0]]} context tokens in a window: "
            f"a doc_stride of {step[short[0]]} would skip some; lower it or raise max_seq_length"
        )


def _window_labels(
    spans: np.ndarray, start: np.ndarray, length: np.ndarray, offset: np.ndarray, cls_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Label positions in each window; the [CLS] position where the window does not hold the whole answer.

    spans: int64 (W, 2), of each window's example. offset: position of each window's first context piece.
    """
    first = spans - start[:, None]
    inside = (spans[:, 0] >= start) & (first[:, 1] < length) & (spans[:, 0] >= 0)
    labels = np.where(inside[:, None], first + offset[:, None], cls_index).astype(np.int32)
    return labels[:, 0].copy(), labels[:, 1].copy()
