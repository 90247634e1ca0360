"""How windows are laid out as the inputs of a model: end to end, padded to the longest, padded to the full width."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from squadlib.console import logger
from squadlib.model.loading import _first_position, first_line
from squadlib.model.packing import packed_attention, use_fast_dropout
from squadlib.model.windows import Windows

PADDING_FREE = "padding_free"  # name of our function in transformers' attention registry
TOKEN_BUCKET = 64  # padding-free rows are filled up to a multiple of this
PROBE_TOLERANCE = 1e-4  # relative; a model that ignores the boundaries is off by 1e-2 and more


class WindowModel:
    """A question-answering model together with the layout in which it takes windows.

    layout: "padding_free" (all windows of a batch end to end in one row), "longest" (padded to the longest window of
    the batch) or "max_length" (padded to max_seq_length, as the 2020 script does).
    """

    def __init__(self, model: Any, layout: str, max_seq_length: int) -> None:
        self.model, self.layout, self.max_seq_length = model, layout, max_seq_length
        self.with_segments = (
            model.config.model_type not in NO_SEGMENTS and getattr(model.config, "type_vocab_size", 0) > 1
        )
        self.row_of_id: Any = None  # int64 (vocabulary,): the row of the trained embedding, where only some are kept
        self._stock_attention = model.config._attn_implementation
        self._first_position = _first_position(model)

    @property
    def device(self) -> Any:
        return self.model.device

    def choose_layout(self, windows: Windows) -> None:
        """Go padding-free when a trial on three windows proves that it changes nothing for this model.

        The layout "max_length" stays, as it was asked for.
        """
        error = self._try_padding_free(windows) if len(windows) and self.layout != "max_length" else None
        if error:
            self.use("longest")
            name = type(self.model).__name__
            logger.warning("padding-free training is not possible for %s (%s); padding to the longest", name, error)

    def use(self, layout: str) -> None:
        """Switch to another layout."""
        self.layout = layout
        self.model.set_attn_implementation(PADDING_FREE if layout == PADDING_FREE else self._stock_attention)
        use_fast_dropout(self.model)

    def _try_padding_free(self, windows: Windows) -> str | None:
        """None when padded and padding-free logits and gradients agree, else the reason in a few words.

        The windows are the shortest, the one in the middle and the longest; TF32, which rounds to 1e-3, is off.
        """
        AttentionInterface.register(PADDING_FREE, packed_attention)
        order = windows.num_tokens().argsort(kind="stable")
        trial = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})
        training, matmul = self.model.training, torch.backends.cuda.matmul
        tf32, matmul.allow_tf32 = matmul.allow_tf32, False
        self.model.eval()
        try:
            self.use("longest")
            expected = self._trial(windows, trial)
            self.use(PADDING_FREE)
            found = self._trial(windows, trial)
            with torch.no_grad():
                evaluated = self.logits(windows, trial)
        except Exception as error:  # whatever a model does with inputs it was not made for
            return f"{type(error).__name__}: {first_line(error)}"
        finally:
            self.model.train(training)
            matmul.allow_tf32 = tf32
        names = ("logits", "logits", "gradients", "logits", "logits")
        for name, a, b in zip(names, expected + expected[:2], found + evaluated, strict=True):
            finite = torch.isfinite(a)
            if not finite.any():
                return f"its {name} are not numbers"
            scale = a[finite].abs().max().clamp(min=1.0)
            difference = ((a - b)[finite].abs().max() / scale).item()
            if not difference <= PROBE_TOLERANCE:
                return f"its {name} differ by {difference:.1e}"
        return None

    def _trial(self, windows: Windows, indices: list[int]) -> tuple[Any, Any, Any]:
        """Start and end logits, and what their sum has as the gradient of the model's first vector of weights.

        That vector is the first layer norm in a BERT type, so the gradient has come through all layers.
        """
        start_logits, end_logits = self.logits(windows, indices)
        first = next(parameter for parameter in self.model.parameters() if parameter.dim() == 1)
        total = sum(logits[torch.isfinite(logits)].sum() for logits in (start_logits, end_logits))
        return start_logits.detach(), end_logits.detach(), torch.autograd.grad(total, first)[0]

    def logits(self, windows: Windows, indices: Any) -> tuple[Any, Any]:
        """Start and end logits of the windows: float32 (B, width); -inf where a window has no token.

        In the layout "max_length" the logits at padding are the model's own, as in the 2020 script.
        """
        inputs, lengths = self.inputs(windows, indices)
        output = self.model(**inputs)
        logits = (output.start_logits.float(), output.end_logits.float())
        if self.layout == "max_length":
            return logits
        if self.layout == PADDING_FREE:
            return tuple(_unpack(values[0], lengths) for values in logits)
        padding = inputs["attention_mask"] == 0
        return tuple(torch.masked_fill(values, padding, -math.inf) for values in logits)

    def predict(
        self, windows: Windows, first: int, last: int, batch_size: int, done: Callable[[int], Any] | None = None
    ) -> tuple[Any, Any]:
        """Start and end logits of windows [first, last): float32 (last - first, width), -inf where there is no token.

        Batches are made of windows of like length, but for "max_length". done: called with the size of each batch.
        """
        tokens = windows.num_tokens()[first:last]
        exact = self.layout == "max_length"
        order = first + (np.arange(last - first) if exact else np.argsort(tokens, kind="stable"))
        width = self.max_seq_length if exact else int(tokens.max(initial=1))
        result = tuple(np.full((last - first, width), -np.inf, np.float32) for _ in range(2))
        parts = []  # on the device until all is queued, so that a GPU never waits
        with torch.no_grad():
            for begin in range(0, len(order), batch_size):
                batch = order[begin : begin + batch_size]
                parts.append((batch - first, torch.stack(self.logits(windows, batch))))
                if done:
                    done(len(batch))
        for rows, logits in parts:
            for target, values in zip(result, logits.cpu().numpy(), strict=True):
                target[rows, : values.shape[1]] = values
        return result

    def inputs(self, windows: Windows, indices: Any) -> tuple[dict[str, Any], Any]:
        """(keyword arguments of the model's forward, window lengths as a list) in the current layout."""
        input_ids, segments, lengths = windows.assemble(indices)
        if self.row_of_id is not None:
            input_ids = self.row_of_id[input_ids]
        arrays = {"input_ids": input_ids} | ({"token_type_ids": segments} if self.with_segments else {})
        pad_id = windows.template.pad_id if self.row_of_id is None else self.row_of_id[windows.template.pad_id]
        if self.layout == PADDING_FREE:
            return self._packed_inputs(arrays, lengths, int(pad_id)), lengths.tolist()
        width = self.max_seq_length if self.layout == "max_length" else int(lengths.max())
        real = np.arange(width) < lengths[:, None]
        padded = {name: np.full(real.shape, pad_id if name == "input_ids" else 0) for name in arrays}
        for name, values in arrays.items():
            padded[name][real] = values
        padded["attention_mask"] = real.astype(np.int64)
        return {name: self.to_device(values) for name, values in padded.items()}, lengths.tolist()

    def _packed_inputs(self, arrays: dict[str, Any], lengths: Any, pad_id: int) -> dict[str, Any]:
        """One row of tokens, filled up to a multiple of TOKEN_BUCKET by a last sequence that nobody reads.

        Few different sizes let the kernels' caches and the allocator use again what they have: a fifth less time a
        step, and memory that does not grow.
        """
        ends = lengths.cumsum()
        arrays["position_ids"] = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + self._first_position
        filler = -int(ends[-1]) % TOKEN_BUCKET
        if filler:
            fill = {"input_ids": pad_id, "token_type_ids": 0, "position_ids": self._first_position}
            arrays = {name: np.pad(row, (0, filler), constant_values=fill[name]) for name, row in arrays.items()}
            lengths, ends = np.append(lengths, filler), np.append(ends, ends[-1] + filler)
        inputs = {name: self.to_device(row[None]) for name, row in arrays.items()}
        inputs["lengths"] = lengths.tolist()
        if self.device.type == "cuda":
            inputs["offsets"] = self.to_device(np.concatenate([[0], ends]).astype(np.int32))
        return inputs

    def to_device(self, array: Any) -> Any:
        """The array as a tensor on the model's device; on a GPU the copy does not wait."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)


NO_SEGMENTS = ("xlm", "roberta", "distilbert", "camembert", "bart", "longformer")  # the 2020 script's list


def _unpack(values: Any, lengths: list[int]) -> Any:
    """(total tokens and filler,) -> (B, longest), -inf where a row has ended."""
    rows = values[: sum(lengths)].split(lengths)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-math.inf)
