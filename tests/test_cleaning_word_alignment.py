"""squadlib/cleaning/word_alignment.py: which words translate each other, learned from made-up languages."""

from __future__ import annotations

import random

import numpy as np

from squadlib.cleaning import word_alignment
from squadlib.cleaning.tokens import tokenize
from squadlib.cleaning.word_alignment import Corpus, WordAligner, cross, split_chunks


def test_word_pairs_of_two_sentences():
    pairs = cross((np.array([1, 2, 3]), np.array([7, 8, 9])), (np.array([2, 1]), np.array([1, 2])))
    assert [side.tolist() for side in pairs.words] == [[1, 2, 3, 3], [7, 7, 8, 9]]
    assert [side.tolist() for side in pairs.tokens] == [[0, 1, 2, 2], [0, 0, 1, 2]]
    assert np.allclose(pairs.diagonal, np.exp(-word_alignment.DIAGONAL * 0.25))


def test_chunks_cover_everything_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 250, 500), rng.integers(1, 250, 500)
    chunks = list(split_chunks(lengths))
    assert [chunk[0].start for chunk in chunks] == [0, *(chunk[0].stop for chunk in chunks[:-1])]
    assert (
        chunks[-1][0].stop == 500 and chunks[-1][1].stop == lengths[0].sum() and chunks[-1][2].stop == sum(lengths[1])
    )
    assert max((lengths[0][c[0]] * lengths[1][c[0]]).sum() for c in chunks) <= word_alignment.CHUNK_PAIRS


def made_up_corpus(num_pairs=400, seed=5):
    """Pairs in two invented languages with nothing in common, the second one in reverse order."""
    rng = random.Random(seed)
    corpus = Corpus()
    for _ in range(num_pairs):
        numbers = rng.sample(range(40), 6)
        words = [f"{chr(97 + number % 26)}x{chr(97 + number // 26)}" for number in numbers]
        corpus.add(" ".join(words), " ".join(word[::-1].upper() + "q" for word in reversed(words)))
    return corpus


def test_translations_are_learned_from_pairs_alone():
    corpus = made_up_corpus()
    aligner = WordAligner(corpus)
    source, target = corpus.number("axa bxa cxa", [(0, 3), (4, 7), (8, 11)]), None
    target = corpus.number("AXCq AXBq AXAq", [(0, 4), (5, 9), (10, 14)])
    posteriors = aligner.posteriors(source, target)
    assert posteriors.argmax(axis=1).tolist() == [2, 1, 0]
    assert posteriors.max(axis=1).min() > 0.8
    assert (posteriors.sum(axis=1) <= 2).all() and (posteriors >= 0).all()


def test_alignment_does_not_depend_on_the_chunks(monkeypatch):
    one = WordAligner(made_up_corpus())
    monkeypatch.setattr(word_alignment, "CHUNK_PAIRS", 100)
    other = WordAligner(made_up_corpus())
    assert np.allclose(one.counts, other.counts, atol=1e-3) and one.counts.max() > 10


def test_aligner_without_any_pair_goes_by_spelling():
    corpus = Corpus()
    source = corpus.number("the cathedral 1742", tokenize("the cathedral 1742"))
    target = corpus.number("in 1742 kathedraal cathedrale", tokenize("in 1742 kathedraal cathedrale"))
    posteriors = WordAligner(corpus).posteriors(source, target)
    assert posteriors[1].argmax() == 2 and posteriors[3].argmax() == 1
