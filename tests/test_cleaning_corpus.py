"""squadlib/cleaning/corpus.py: batches hold every sentence pair once, and long ones are not left out."""

from __future__ import annotations

import numpy as np
import pytest

from squadlib.cleaning.corpus import BATCH_CELLS, MAX_STRETCH, Corpus, SentencePairs, stretches


def test_word_pairs_of_two_sentences():
    pairs = SentencePairs.from_lists([([1, 2], [7]), ([3], [8, 9])])
    batch = pairs.batch(np.arange(2))
    assert [(side * real).tolist() for side, real in zip(batch.words, batch.real, strict=True)] == [
        [[1, 2], [3, 0]],
        [[7, 0], [8, 9]],
    ]
    assert batch.cells().tolist() == [[[True, True], [False, False]], [[True, False], [True, False]]]


def test_batches_cover_everything_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 250, 500), rng.integers(1, 250, 500)
    words = np.zeros(lengths[0].sum(), np.int32), np.zeros(lengths[1].sum(), np.int32)
    batches = SentencePairs(words, lengths).batches()
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert max(lengths[0][b].max() * lengths[1][b].max() * len(b) for b in batches) <= BATCH_CELLS
    assert len(batches) < 250


@pytest.mark.parametrize("lengths", [(1, 1), (512, 3), (513, 600), (5000, 4000), (20, 2000)])
def test_no_word_of_a_long_sentence_is_left_out(lengths):
    parts = stretches(*lengths)
    for side, length in enumerate(lengths):
        covered = {token for part in parts for token in range(*part[side])}
        assert covered == set(range(length))
    assert all(0 < last - first <= MAX_STRETCH for part in parts for first, last in part)
    assert len(parts) == 1 or max(lengths) > MAX_STRETCH


def test_a_page_without_a_full_stop_is_learned_from():
    corpus = Corpus()
    corpus.add("word " * 2000, "woord " * 1500)
    corpus.add("word", "")
    assert len(corpus) == 7 and sum(corpus.lengths[0]) > 2000
