"""A model, and how windows are laid out as its inputs: end to end, padded to the longest, or to the full width."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel

from squadlib.model.loading import first_position
from squadlib.model.packing import packed_attention, use_fast_dropout
from squadlib.model.windows import Windows

PADDING_FREE = "padding_free"  # name of our function in transformers' attention registry
LONGEST, MAX_LENGTH = "longest", "max_length"
TOKEN_BUCKET = 64  # padding-free rows are filled up to a multiple of this
FIXED_BUCKET = 128  # the same where each size is recorded once, which takes time
NO_SEGMENTS = ("xlm", "roberta", "distilbert", "camembert", "bart", "longformer")  # the 2020 script's list

AttentionInterface.register(PADDING_FREE, packed_attention)


class WindowModel:
    """A question-answering model together with the layout in which it takes windows.

    layout: PADDING_FREE (all windows of a batch end to end in one row), LONGEST (padded to the longest window of the
    batch) or MAX_LENGTH (padded to max_seq_length, as the 2020 script does). dtype: of mixed precision, None for none.
    """

    def __init__(
        self, model: PreTrainedModel, layout: str, max_seq_length: int, dtype: torch.dtype | None = None
    ) -> None:
        self.model, self.layout, self.max_seq_length, self.dtype = model, layout, max_seq_length, dtype
        self.with_segments = (
            model.config.model_type not in NO_SEGMENTS and getattr(model.config, "type_vocab_size", 0) > 1
        )
        # int64 (vocabulary,): the row of the trained embedding, where only some are kept
        self.row_of_id: np.ndarray | None = None
        self.with_kernels = has_kernels(model.device)
        self._stock_attention = model.config._attn_implementation
        self._first_position = first_position(model)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def use(self, layout: str) -> None:
        """Switch to another layout."""
        self.layout = layout
        self.model.set_attn_implementation(PADDING_FREE if layout == PADDING_FREE else self._stock_attention)
        use_fast_dropout(self.model)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Mixed precision for the forward pass and the loss, where it was asked for."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()

    def logits(
        self, windows: Windows, indices: Sequence[int] | np.ndarray, forward: Callable | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Start and end logits of the windows: float32 (B, width); -inf where a window has no token.

        In the layout MAX_LENGTH the logits at padding are the model's own, as in the 2020 script. forward: the model
        as several processes wrap it.
        """
        return self.logits_of(*self.inputs(windows, indices), forward)

    def logits_of(
        self, inputs: dict, lengths: list[int], forward: Callable | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`logits` of what `inputs` returned."""
        output = (forward or self.model)(**inputs)
        start, end = output.start_logits.float(), output.end_logits.float()
        if self.layout == MAX_LENGTH:
            return start, end
        if "offsets" in inputs:
            offsets, width = inputs["offsets"][: len(lengths) + 1], max(lengths)
            return _gather(start[0], offsets, width), _gather(end[0], offsets, width)
        if self.layout == PADDING_FREE:
            return _unpack(start[0], lengths), _unpack(end[0], lengths)
        padding = inputs["attention_mask"] == 0
        return start.masked_fill(padding, -math.inf), end.masked_fill(padding, -math.inf)

    def inputs(
        self, windows: Windows, indices: Sequence[int] | np.ndarray, fixed: bool = False
    ) -> tuple[dict, list[int]]:
        """(keyword arguments of the model's forward, window lengths) in the current layout.

        fixed: for the kernels; only tensors differ between two batches of as many windows and places, as every window
        is said to be of max_seq_length.
        """
        input_ids, segments, lengths = windows.assemble(indices)
        pad_id = windows.template.pad_id
        if self.row_of_id is not None:
            input_ids, pad_id = self.row_of_id[input_ids], int(self.row_of_id[pad_id])
        arrays = {"input_ids": input_ids} | ({"token_type_ids": segments} if self.with_segments else {})
        if self.layout == PADDING_FREE:
            packed = self._packed_inputs(arrays, lengths, pad_id, fixed)
            return packed, [self.max_seq_length] * len(lengths) if fixed else lengths.tolist()
        width = self.max_seq_length if self.layout == MAX_LENGTH else int(lengths.max())
        real = np.arange(width) < lengths[:, None]
        padded = {name: np.full(real.shape, pad_id if name == "input_ids" else 0) for name in arrays}
        for name, values in arrays.items():
            padded[name][real] = values
        padded["attention_mask"] = real.astype(np.int64)
        return {name: self.to_device(values) for name, values in padded.items()}, lengths.tolist()

    def _packed_inputs(self, arrays: dict[str, np.ndarray], lengths: np.ndarray, pad_id: int, fixed: bool) -> dict:
        """One row of tokens, filled up to a multiple of TOKEN_BUCKET by a last sequence that nobody reads.

        Few different sizes let the kernels' caches and the allocator use again what they have: a fifth less time a
        step, and memory that does not grow.
        """
        ends = lengths.cumsum()
        arrays["position_ids"] = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + self._first_position
        filler = -int(ends[-1]) % TOKEN_BUCKET
        if fixed:  # there is always a last sequence
            filler = FIXED_BUCKET - int(ends[-1]) % FIXED_BUCKET
        if filler:
            fill = {"input_ids": pad_id, "token_type_ids": 0, "position_ids": self._first_position}
            arrays = {name: np.pad(row, (0, filler), constant_values=fill[name]) for name, row in arrays.items()}
            lengths, ends = np.append(lengths, filler), np.append(ends, ends[-1] + filler)
        inputs: dict = {name: self.to_device(row[None]) for name, row in arrays.items()}
        if not self.with_kernels:
            return inputs | {"lengths": lengths.tolist()}
        longest = max(self.max_seq_length, FIXED_BUCKET) if fixed else int(lengths.max())
        return inputs | {"offsets": self.to_device(np.concatenate([[0], ends]).astype(np.int32)), "longest": longest}

    def num_places(self, num_tokens: np.ndarray) -> int:
        """Places that a batch of windows takes, padding included. num_tokens: real tokens of each window."""
        if self.layout == PADDING_FREE:
            return int(num_tokens.sum())
        return len(num_tokens) * (self.max_seq_length if self.layout == MAX_LENGTH else int(num_tokens.max(initial=0)))

    def to_device(self, array: np.ndarray) -> torch.Tensor:
        """The array as a tensor on the model's device; on a GPU the copy does not wait."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)


def has_kernels(device: torch.device) -> bool:
    """Whether one kernel takes all the sequences of a row there; see gpu_attention.py."""
    return device.type == "cuda"


def _unpack(values: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """(total tokens and filler,) -> (B, longest), -inf where a row has ended."""
    rows = values[: sum(lengths)].split(lengths)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-math.inf)


def _gather(values: torch.Tensor, offsets: torch.Tensor, width: int) -> torch.Tensor:
    """(total places,) -> (B, width), -inf where a row has ended. offsets: (B + 1,), known to the device alone."""
    places = offsets[:-1, None] + torch.arange(width, device=offsets.device)
    return values[places.clamp(max=len(values) - 1)].masked_fill(places >= offsets[1:, None], -math.inf)
