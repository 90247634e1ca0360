"""The rows of the word embedding that are in use, while training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel

from squadlib.model.layout import WindowModel
from squadlib.model.windows import Windows


def rows_in_use(windows: Windows, num_embeddings: int) -> np.ndarray:
    """Which rows of a word embedding the windows select: bool (num_embeddings,)."""
    template, used = windows.template, np.zeros(num_embeddings, bool)
    special = [*template.prefix, *template.middle, *template.suffix, template.pad_id]
    for ids in (special, windows.contexts.values, windows.questions.values):
        used[np.asarray(ids)] = True
    return used


class UsedRows:
    """The word embedding cut down to the rows that the training data uses, while training.

    Without weight decay AdamW never changes a row that no token selects (its moments stay 0), so the whole matrix
    with the trained rows put back is the same to the bit; memory and time of the optimiser go down.
    """

    def __init__(self, runner: WindowModel, windows: Windows) -> None:
        self.runner = runner
        whole = runner.model.get_input_embeddings()
        if not isinstance(whole, torch.nn.Embedding):
            raise TypeError(f"the word embedding is a {type(whole).__name__}")
        self.whole = whole
        used = rows_in_use(windows, whole.num_embeddings)
        self.row_of_id = np.cumsum(used) - 1
        self.ids = torch.from_numpy(np.flatnonzero(used)).to(whole.weight.device)
        padding = whole.padding_idx
        padding = int(self.row_of_id[padding]) if padding is not None and used[padding] else None
        self.rows = torch.nn.Embedding(len(self.ids), whole.embedding_dim, padding, device=self.ids.device)
        with torch.no_grad():
            self.rows.weight.copy_(whole.weight[self.ids])
        self.swap_in()

    def swap_in(self) -> None:
        self.runner.model.set_input_embeddings(self.rows)
        self.runner.row_of_id = self.row_of_id

    def swap_out(self) -> None:
        """Put the trained rows back into the whole matrix and use that."""
        with torch.no_grad():
            self.whole.weight[self.ids] = self.rows.weight
        self.runner.model.set_input_embeddings(self.whole)
        self.runner.row_of_id = None


@contextlib.contextmanager
def whole_model(runner: WindowModel, used_rows: UsedRows | None) -> Iterator[PreTrainedModel]:
    """The model with its whole word embedding, for saving and evaluating in the middle of training."""
    if used_rows:
        used_rows.swap_out()
    try:
        yield runner.model
    finally:
        if used_rows:
            used_rows.swap_in()
