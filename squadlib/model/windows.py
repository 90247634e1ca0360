"""Windows: every question with a slice of its context, as flat int32 arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from squadlib.console import SquadError
from squadlib.data import Example
from squadlib.model.labels import DROPPED, label_pieces
from squadlib.model.pieces import WORD, PieceTable, Ragged, distinct


class PairTemplate(NamedTuple):
    """Special ids around a question and a context piece list, and the segment ids of the five parts.

    BERT: [CLS] question [SEP] context [SEP]; RoBERTa: <s> question </s></s> context </s>.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    segments: tuple[int, int, int, int, int]
    pad_id: int
    cls_index: int

    @property
    def num_special(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class Windows:
    """All windows of a file: the pieces of each distinct context once, and five integers a window.

    examples: the questions, in file order. first_window: int64 (E + 1,), windows of example e are
    [first_window[e], first_window[e + 1]). Per window, int32 (W,): example_index, start and length (pieces of the
    context, relative to its first piece), start_position and end_position (training labels, positions in the window).
    dropped: ids of training questions whose answer is not in the words that its offset names.
    """

    def __init__(self, examples: list[Example], template: PairTemplate, contexts: Ragged, questions: Ragged) -> None:
        self.examples, self.template = examples, template
        self.contexts, self.questions = contexts, questions
        self.dropped: list[str] = []

    def __len__(self) -> int:
        return len(self.example_index)

    def words(self, example: int) -> list[str]:
        """The context of an example as the whitespace words that predictions are cut from."""
        return WORD.findall(self.examples[example].context)

    def context_pieces(self, window: int) -> tuple[Any, Any]:
        """(piece ids, word index of each piece) of one window, both int32 (length,)."""
        row = self.context_row[self.example_index[window]]
        first = self.contexts.first[row] + self.start[window]
        span = slice(first, first + self.length[window])
        return self.contexts.values[span], self.contexts.word[span]

    def context_offset(self, window: int) -> int:
        """Position of the window's first context piece."""
        question = self.questions.length(self.question_row[self.example_index[window]])
        return len(self.template.prefix) + question + len(self.template.middle)

    def num_tokens(self) -> Any:
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

    def assemble(self, indices: Iterable[int]) -> tuple[Any, Any, Any]:
        """Windows `indices` laid end to end without padding.

        Returns input_ids and token_type_ids, int64 (total tokens,), and the window lengths, int64 (B,).
        """
        template, segments, parts, lengths = self.template, [], [], []
        for window in indices:
            question = self.questions[self.question_row[self.example_index[window]]]
            window_parts = (template.prefix, question, template.middle, self.context_pieces(window)[0], template.suffix)
            sizes = tuple(map(len, window_parts))
            parts += window_parts
            segments += sizes
            lengths.append(sum(sizes))
        input_ids = np.concatenate(parts, dtype=np.int64, casting="unsafe")
        token_type_ids = np.repeat(np.tile(np.array(template.segments, np.int64), len(lengths)), segments)
        return input_ids, token_type_ids, np.array(lengths, np.int64)

    def room(self, max_seq_length: int) -> Any:
        """Context pieces that fit into a window beside each example's question: int64 (E,)."""
        questions = self.questions.first
        return max_seq_length - self.template.num_special - (questions[1:] - questions[:-1])[self.question_row]

    def cut(self, room: Any, step: Any, kept: Any = None) -> None:
        """Lay the windows out: each holds up to room[e] pieces, the next starts step[e] pieces further on.

        A blank context has no window, nor has an example that kept (bool (E,)) leaves out.
        """
        total = np.diff(self.contexts.first)[self.context_row]
        short = np.flatnonzero((room < step) & (total > room))
        if len(short):
            raise SquadError(
                f"question {self.examples[short[0]].qid} leaves room for {room[short[0]]} context tokens in a window: "
                f"a doc_stride of {step[short[0]]} would skip some; lower it or raise max_seq_length"
            )
        count = np.where(total > 0, 1 + np.maximum(0, -(-(total - room) // step)), 0)
        if kept is not None:
            count = np.where(kept, count, 0)
        self.first_window = np.concatenate([[0], np.cumsum(count)])
        self.example_index = np.repeat(np.arange(len(count), dtype=np.int32), count)
        index = self.example_index
        self.start = ((np.arange(len(index)) - self.first_window[index]) * step[index]).astype(np.int32)
        self.length = np.minimum(total[index] - self.start, room[index]).astype(np.int32)

    def max_context(self, example: int) -> list[Any]:
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
    tokenizer: Any,
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
    template = pair_template(tokenizer)
    table = PieceTable(tokenizer)
    context_rows, context_index = distinct(example.context for example in examples)
    question_rows, question_index = distinct(example.question for example in examples)
    contexts = table.contexts(list(context_rows))
    questions = table.questions(list(question_rows), max_query_length)
    windows = Windows(examples, template, contexts, questions)
    windows.context_row, windows.question_row = context_index, question_index
    spans = label_pieces(windows, table) if training else None

    kept = None if spans is None else spans[:, 0] > DROPPED
    room = windows.room(max_seq_length)
    windows.cut(room, np.full_like(room, doc_stride), kept)
    index = windows.example_index
    windows.start_position = windows.end_position = np.zeros(len(index), np.int32)
    if spans is not None:
        windows.dropped = [example.qid for example, keep in zip(examples, kept, strict=True) if not keep]
        offset = max_seq_length - len(template.suffix) - room[index]
        windows.start_position, windows.end_position = _window_labels(windows, spans[index], offset)
    return windows


def _window_labels(windows: Windows, spans: Any, offset: Any) -> tuple[Any, Any]:
    """Label positions in each window; the [CLS] position where the window does not hold the whole answer."""
    first = spans - windows.start[:, None]
    inside = (spans[:, 0] >= windows.start) & (first[:, 1] < windows.length) & (spans[:, 0] >= 0)
    labels = np.where(inside[:, None], first + offset[:, None], windows.template.cls_index).astype(np.int32)
    return labels[:, 0].copy(), labels[:, 1].copy()


def pair_template(tokenizer: Any) -> PairTemplate:
    """The special tokens that `tokenizer` puts around a question and a context, read off an encoded pair."""
    tokenizer.backend_tokenizer.no_padding()  # files of sentence encoders ask for both, which would spoil the windows
    tokenizer.backend_tokenizer.no_truncation()
    encoded = tokenizer.backend_tokenizer.encode("a", "b")
    source = encoded.sequence_ids
    question = [i for i, s in enumerate(source) if s == 0]
    context = [i for i, s in enumerate(source) if s == 1]
    if not question or not context or question[0] > context[0]:
        raise SquadError(f"{type(tokenizer).__name__}: a tokenizer that puts the context first is not supported")
    q0, q1, c0, c1 = question[0], question[-1] + 1, context[0], context[-1] + 1
    ids, types = encoded.ids, encoded.type_ids
    prefix, middle, suffix = tuple(ids[:q0]), tuple(ids[q1:c0]), tuple(ids[c1:])
    segments = (types[0], types[q0], types[q1], types[c0], types[-1])
    cls_index = prefix.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in prefix else 0
    pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return PairTemplate(prefix, middle, suffix, segments, pad_id, cls_index)
