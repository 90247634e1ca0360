"""Train a tiny transformer that spells words backwards, as the stand-ins do: a real server then has a right answer.

    python benchmarks/servers/word_reverser.py FILE.json WEIGHTS.npz

FILE.json: a list of texts; the model learns these by heart, word by word. argos_packages.py packs the weights for
LibreTranslate.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from translation_server import reverse_words  # noqa: E402

SIZE, HEADS, INNER, MOST_WORDS, STEPS = 64, 4, 256, 128, 1500
UNKNOWN, START, END = 0, 1, 2
SPECIALS = ["<unk>", "<s>", "</s>"]


class WordReverser(nn.Module):
    """One layer each side, normalised first, positions learned: what a CTranslate2 specification can hold."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(num_words, SIZE), nn.Embedding(num_words, SIZE)
        self.source_places, self.target_places = (nn.Parameter(torch.randn(MOST_WORDS, SIZE) * 0.1) for _ in "ab")
        self.layers = nn.Transformer(SIZE, HEADS, 1, 1, INNER, dropout=0.0, norm_first=True, batch_first=True)
        self.output = nn.Linear(SIZE, num_words)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=1 / math.sqrt(SIZE))

    def forward(self, sources: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """sources, targets: (texts, words), END as padding. Returns the logits of the words after `targets`."""
        padding = sources == END
        future = nn.Transformer.generate_square_subsequent_mask(targets.shape[1])
        source = self.source(sources) * math.sqrt(SIZE) + self.source_places[: sources.shape[1]]
        target = self.target(targets) * math.sqrt(SIZE) + self.target_places[: targets.shape[1]]
        masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding, "tgt_mask": future}
        return self.output(self.layers(source, target, **masks, tgt_is_causal=True))


def padded(rows: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [END] * (longest - len(row)) for row in rows])


def learn(texts: list[str]) -> tuple[WordReverser, list[str]]:
    """The model and its words, once every text comes back right."""
    torch.manual_seed(0)
    pairs = [(text.split(), reverse_words(text).split()) for text in texts]
    words = [*SPECIALS, *sorted({word for pair in pairs for side in pair for word in side})]
    number = {word: index for index, word in enumerate(words)}
    rows = [[[number[word] for word in side] for side in pair] for pair in pairs]
    sources = padded([source for source, _ in rows])
    inputs, labels = (
        padded([before + target + after for _, target in rows]) for before, after in (([START], []), ([], [END]))
    )
    known = padded([[1] * (len(target) + 1) for _, target in rows]) == 1
    model = WordReverser(len(words))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(STEPS):
        logits = model(sources, inputs)[known]
        loss = nn.functional.cross_entropy(logits, labels[known])
        wrong = int((logits.argmax(-1) != labels[known]).sum())
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}, {wrong} words wrong", file=sys.stderr)
        if not wrong and loss < 0.02:
            return model, words
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sys.exit(f"{wrong} words are still wrong after {STEPS} steps")


if __name__ == "__main__":
    model, words = learn(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    np.savez(sys.argv[2], words=np.array(words), **weights)
