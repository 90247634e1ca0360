"""The word aligner eflomal (Östling and Tiedemann 2016) beside ours: its links, for the same sentence pairs.

`pip install eflomal` compiles it with a C compiler. alignment.py imports this where it is installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import eflomal
import numpy as np

from squadlib.cleaning.corpus import Corpus, Numbers
from squadlib.cleaning.word_alignment import WordAligner


class EflomalAligner(WordAligner):
    """Stands where a WordAligner stands: 1 for a link of both directions, a half for one of a single direction."""

    def __init__(self, corpus: Corpus):
        self.corpus, self.articles = corpus, frozenset[str]()

    def align(self, sentence_pairs: list[Numbers]) -> list[np.ndarray]:
        learned = self.corpus.sentence_pairs()
        source, target = (
            [side.tolist() for side in np.split(words, np.cumsum(lengths)[:-1])]
            for words, lengths in zip(learned.words, learned.lengths, strict=True)
        )
        links = eflomal_links([*zip(source, target, strict=True), *sentence_pairs])[len(source) :]
        return [as_posteriors(found, pair) for found, pair in zip(links, sentence_pairs, strict=True)]


def eflomal_links(pairs: list[Numbers]) -> list[str]:
    """The links "source-target …" of both directions, one line a pair."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("source", "target", "forward", "backward")]
        for side in (0, 1):
            lines = (" ".join(f"w{word}" for word in pair[side]) + "\n" for pair in pairs)
            files[side].write_text("".join(lines), "utf-8")
        with files[0].open() as source, files[1].open() as target:
            links = {"links_filename_fwd": str(files[2]), "links_filename_rev": str(files[3])}
            eflomal.Aligner().align(source, target, **links)
        forward, backward = (file.read_text("utf-8").split("\n")[: len(pairs)] for file in files[2:])
    return [f"{one} {other}" for one, other in zip(forward, backward, strict=True)]


def as_posteriors(links: str, pair: Numbers) -> np.ndarray:
    posteriors = np.zeros((len(pair[1]), len(pair[0])), np.float32)
    for link in links.split():
        source, target = map(int, link.split("-"))
        posteriors[target, source] += 0.5
    return posteriors
