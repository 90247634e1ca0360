"""The jump model: where the translation of the next word is, seen from that of this one.

A hidden Markov model (Vogel, Ney and Tillmann 1996). Each token of one side, in order, comes from a place of the other
side or from none ("null"); how far the places of neighbouring tokens lie apart is learned. After a token from null the
place before it is still remembered.
"""

from __future__ import annotations

import itertools

import numpy as np

NULL_PROBABILITY = 0.04
MAX_JUMP = 100  # tokens; longer jumps count as this one
FLAT_BEYOND = (
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    MAX_JUMP + 1,
)  # long jumps are rare: those between two limits share their mean
UNSEEN_JUMPS = 0.5  # added to the count of each
FIRST_WIDTH = 3.0  # tokens around the next place, before anything is learned
DISTANCES = np.arange(-MAX_JUMP, MAX_JUMP + 1)


def first_jumps() -> np.ndarray:
    """Weights of the jumps -MAX_JUMP to MAX_JUMP to begin with: the next place is the likeliest."""
    return np.exp(-np.abs(DISTANCES - 1) / FIRST_WIDTH) + 1e-3


def learned_jumps(counts: np.ndarray) -> np.ndarray:
    """The weights that follow from the expected number of times that each jump was made."""
    smooth = counts.copy()
    for low, high in itertools.pairwise(FLAT_BEYOND):
        for side in (DISTANCES, -DISTANCES):
            between = (low <= side) & (side < high)
            smooth[between] = counts[between].mean()
    return (smooth + UNSEEN_JUMPS) / max(1.0, counts.sum())


def follow_jumps(
    words: np.ndarray, null: np.ndarray, places: np.ndarray, tokens: np.ndarray, jumps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P(each token comes from each place), the expected number of times that each jump was made).

    words: float32 (pairs, tokens, places), P(the token | the word at this place); null: (pairs, tokens), P(the token |
    null); places, tokens: bool (pairs, …), False where padded. Returns (pairs, tokens, places) and (2 · MAX_JUMP + 1,).
    """
    num_pairs, num_tokens, num_places = words.shape
    # place 0 stands before the sentence, the words are places 1 and up
    distance = (
        np.clip(np.arange(1, num_places + 1) - np.arange(num_places + 1)[:, None], -MAX_JUMP, MAX_JUMP) + MAX_JUMP
    )
    weights = jumps[distance].astype(np.float32)
    # 1 / (the sum of the weights from each place to all the real ones); no jump from a padded place
    scale = np.zeros((num_pairs, num_places + 1), np.float32)
    scale[:, 0] = 1
    scale[:, 1:] = places
    scale /= places.astype(np.float32) @ weights.T
    # of padded tokens nothing moves: they are null for certain
    given = np.where(tokens[:, :, None], words * np.float32(1 - NULL_PROBABILITY), 0).transpose(1, 0, 2).copy()
    skipped = np.where(tokens, null * np.float32(NULL_PROBABILITY), 1).astype(np.float32).T[:, :, None].copy()
    before = np.zeros((num_tokens + 1, num_pairs, num_places + 1), np.float32)  # P(place | the tokens so far)
    before[0, :, 0] = 1
    leap = np.empty_like(given)
    for token in range(num_tokens):
        np.matmul(before[token] * scale, weights, out=leap[token])
        after = np.multiply(before[token], skipped[token], out=before[token + 1])
        after[:, 1:] += leap[token] * given[token]
        after /= after.sum(1, keepdims=True)
    posteriors = np.empty_like(given)
    arrival = np.empty_like(given)  # for the jumps that were made: what was reached, by token
    rest = np.ones((num_pairs, num_places + 1), np.float32)  # P(the tokens to come | place), to a factor
    for token in reversed(range(num_tokens)):
        reached = given[token] * rest[:, 1:]
        found = leap[token] * reached
        stayed = skipped[token] * rest
        share = 1 / (found.sum(1) + (before[token] * stayed).sum(1))[:, None]
        np.multiply(found, share, out=posteriors[token])
        np.multiply(reached, share, out=arrival[token])
        rest = (reached @ weights.T) * scale + stayed
        rest /= rest.sum(1, keepdims=True)
    departure = (before[:-1] * scale).reshape(-1, num_places + 1)
    made = departure.T @ arrival.reshape(-1, num_places) * weights
    counts = np.bincount(distance.ravel(), made.ravel(), len(DISTANCES))
    return posteriors.transpose(1, 0, 2), counts
