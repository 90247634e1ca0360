"""squadlib/cleaning/jump_model.py against every path written out, and its padding."""

from __future__ import annotations

import itertools

import numpy as np

from squadlib.cleaning.jump_model import (
    DISTANCES,
    MAX_JUMP,
    NULL_PROBABILITY,
    first_jumps,
    follow_jumps,
    learned_jumps,
)


def every_path(words, null, jumps):
    """Posteriors and jump counts of one sentence pair: the sum over all paths, in plain Python."""
    num_tokens, num_places = words.shape
    posteriors, counts, total = np.zeros(words.shape), np.zeros(len(DISTANCES)), 0.0
    for path in itertools.product(range(-1, num_places), repeat=num_tokens):  # -1: from null
        probability, place, made = 1.0, -1, []
        for token, choice in enumerate(path):
            if choice < 0:
                probability *= NULL_PROBABILITY * null[token]
                continue
            all_jumps = sum(jumps[other - place + MAX_JUMP] for other in range(num_places))
            made.append(choice - place + MAX_JUMP)
            probability *= (1 - NULL_PROBABILITY) * words[token, choice] * jumps[made[-1]] / all_jumps
            place = choice
        total += probability
        for token, choice in enumerate(path):
            posteriors[token, choice] += probability * (choice >= 0)
        np.add.at(counts, made, probability)
    return posteriors / total, counts / total


def test_posteriors_are_the_sum_over_all_paths():
    rng = np.random.default_rng(3)
    sizes, jumps = [(3, 4), (4, 2), (1, 1)], rng.random(len(DISTANCES))
    words, null = np.zeros((3, 4, 4), np.float32), np.zeros((3, 4), np.float32)
    tokens, places = np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    for pair, (num_tokens, num_places) in enumerate(sizes):
        words[pair, :num_tokens, :num_places] = rng.random((num_tokens, num_places)) ** 3
        null[pair, :num_tokens] = rng.random(num_tokens)
        tokens[pair, :num_tokens] = places[pair, :num_places] = True
    posteriors, counts = follow_jumps(words, null, places, tokens, jumps)
    expected = [every_path(words[p, :t, :s], null[p, :t], jumps) for p, (t, s) in enumerate(sizes)]
    for pair, (num_tokens, num_places) in enumerate(sizes):
        assert np.allclose(posteriors[pair, :num_tokens, :num_places], expected[pair][0], atol=1e-5)
        assert not posteriors[pair, num_tokens:].any() and not posteriors[pair, :, num_places:].any()  # padded
    assert np.allclose(counts, sum(made for _, made in expected), atol=1e-4)


def test_unlikely_words_leave_no_nan():
    words, null = np.full((1, 300, 40), 1e-30, np.float32), np.full((1, 300), 1e-7, np.float32)
    posteriors, counts = follow_jumps(words, null, np.ones((1, 40), bool), np.ones((1, 300), bool), first_jumps())
    assert np.isfinite(posteriors).all() and np.isfinite(counts).all()


def test_learned_jumps_follow_the_counts_and_leave_none_impossible():
    counts = np.zeros(len(DISTANCES))
    counts[MAX_JUMP - 1], counts[MAX_JUMP + 1], counts[MAX_JUMP + 20] = 90, 9, 8
    jumps = learned_jumps(counts)
    assert jumps[MAX_JUMP - 1] > 9 * jumps[MAX_JUMP + 1] > jumps[MAX_JUMP + 20] > 0
    assert jumps[MAX_JUMP + 20] == jumps[MAX_JUMP + 16] > jumps[MAX_JUMP - 20] > 0  # rare ones share what was counted
    assert (learned_jumps(np.zeros(len(DISTANCES))) > 0).all()
