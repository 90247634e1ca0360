"""squadlib/cleaning/word_alignment.py: which words translate each other, learned from made-up languages."""

from __future__ import annotations

import random

import numpy as np
import pytest

from squadlib.cleaning import corpus as corpus_module
from squadlib.cleaning import word_alignment
from squadlib.cleaning.corpus import Corpus, SentencePairs
from squadlib.cleaning.jump_model import MAX_JUMP
from squadlib.cleaning.tokens import tokenize
from squadlib.cleaning.word_alignment import WordAligner, diagonal_prior


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
    posteriors = aligner.align([(source, target)])[0]
    assert posteriors.argmax(axis=1).tolist() == [2, 1, 0]
    assert posteriors.max(axis=1).min() > 0.8
    assert (posteriors.sum(axis=1) <= 1).all() and (posteriors >= 0).all()


@pytest.mark.parametrize("cells", [100, 10_000])
def test_alignment_does_not_depend_on_the_batches(monkeypatch, cells):
    one = WordAligner(made_up_corpus())
    monkeypatch.setattr(corpus_module, "BATCH_CELLS", cells)
    other = WordAligner(made_up_corpus())
    assert (
        np.allclose(one.table.words.counts, other.table.words.counts, atol=1e-3) and one.table.words.counts.max() > 10
    )
    pairs = [([3, 1], [4, 2, 5]), ([6], [9]), ([1, 2, 3, 7, 8], [5, 6, 4])]
    together = one.align(pairs)
    assert [posteriors.shape for posteriors in together] == [(3, 2), (1, 1), (3, 5)]
    assert all(np.allclose(one.align([pair])[0], posteriors) for pair, posteriors in zip(pairs, together, strict=True))


def test_two_trainings_are_equal_to_the_bit():
    one, other = WordAligner(made_up_corpus()), WordAligner(made_up_corpus())
    assert (one.table.words.counts == other.table.words.counts).all() and (one.jumps[0] == other.jumps[0]).all()


def test_backward_order_is_learned_from_the_file():
    aligner = WordAligner(made_up_corpus())
    back, on = aligner.jumps[0][MAX_JUMP - 1], aligner.jumps[0][MAX_JUMP + 1]
    assert back > 20 * on  # one word to the left rather than one to the right


def test_diagonal_prior_of_two_sentence_pairs():
    pairs = SentencePairs.from_lists([([1, 2], [7]), ([3], [8, 9])])
    prior = diagonal_prior(pairs.batch(np.arange(2)))
    quarter = np.exp(-word_alignment.DIAGONAL * 0.25)
    assert np.allclose(prior, [[[quarter, quarter], [0, 0]], [[quarter, 0], [quarter, 0]]])


def test_aligner_without_any_pair_goes_by_spelling():
    corpus = Corpus()
    source = corpus.number("the cathedral 1742", tokenize("the cathedral 1742"))
    target = corpus.number("in 1742 kathedraal cathedrale", tokenize("in 1742 kathedraal cathedrale"))
    posteriors = WordAligner(corpus).align([(source, target)])[0]
    assert posteriors[1].argmax() == 2 and posteriors[3].argmax() == 1


def test_a_number_word_meets_its_figure():
    corpus = Corpus()
    corpus.add("5 twelve", "5 12 2 9")
    source, target = "nine boats carried two people", "ludi 2 v lodkah 9"
    aligner = WordAligner(corpus)
    numbers = [corpus.number(text, tokenize(text)) for text in (source, target)]
    posteriors = aligner.align([(numbers[0], numbers[1])])[0]
    assert posteriors[1].argmax() == 3 and posteriors[4].argmax() == 0


def test_an_inflection_seen_once_is_aligned_like_the_other_inflections_of_its_word():
    rng, corpus = random.Random(2), Corpus()
    endings = ["den", "ler", "ime", "siz", "cik", "mak"]
    for number in range(300):
        first, second, third = rng.sample(range(12), 3)
        corpus.add(
            " ".join(f"w{chr(97 + n)}" for n in (first, second, third)),
            " ".join(f"{chr(97 + n)}kolu{endings[number % 5]}" for n in (third, first, second)),
        )
    aligner = WordAligner(corpus)
    source = corpus.number("wa wb wc", tokenize("wa wb wc"))
    target = corpus.number("bkolumak ckolumak akolumak", tokenize("bkolumak ckolumak akolumak"))
    assert aligner.align([(source, target)])[0].argmax(axis=1).tolist() == [1, 2, 0]


def test_words_with_the_same_beginning_share_a_number():
    words = {"evlerinden": 0, "evlerimiz": 1, "ev": 2, "1234": 3, "12345": 4, "evin": 5}
    assert word_alignment.prefix_numbers(words, 4).tolist() == [0, 0, 2, 3, 4, 5]


def test_what_a_large_file_is_learned_from_is_spread_over_it():
    pairs = SentencePairs.from_lists([([number, number], [number]) for number in range(100)])
    drawn = pairs.evenly_drawn(50)
    chosen = drawn.words[1].tolist()
    assert chosen == drawn.words[0][::2].tolist() and 15 <= len(chosen) <= 35
    assert min(chosen) < 15 and max(chosen) >= 85
    assert drawn.lengths[0].tolist() == [2] * len(chosen) and pairs.evenly_drawn(1000) is pairs


def test_what_a_large_file_is_learned_from_does_not_depend_on_its_order():
    rows = [([number % 7, number], [number]) for number in range(100)]
    drawn = [set(SentencePairs.from_lists(some).evenly_drawn(50).words[1].tolist()) for some in (rows, rows[::-1])]
    assert drawn[0] == drawn[1] and 10 <= len(drawn[0]) <= 40


def test_training_on_a_part_sees_all_in_the_last_round(monkeypatch):
    monkeypatch.setattr(word_alignment, "DRAWN_CELLS", 3000)
    aligner = WordAligner(made_up_corpus())  # 400 pairs of 36 cells: the rounds but the last see a quarter
    assert abs(aligner.table.words.totals[0].sum() - 2400) < 100
