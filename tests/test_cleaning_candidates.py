"""squadlib/cleaning/candidates.py: the pruned search finds what trying every candidate finds."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rapidfuzz import fuzz

from squadlib.cleaning import candidates
from squadlib.cleaning.candidates import (
    ALIGNMENT_WEIGHT,
    LEXICAL_WEIGHT,
    POSITION_SCALE,
    POSITION_WEIGHT,
    REORDERED,
    Search,
    best_choices,
    occurrences,
    variants,
)

WORDS = "de het een oude nieuwe molen toren brug bruggen van in op stad steden 1742 17 rivier".split()


def similarity(text, search):
    """By every variant and in both orders, in float32 as the search has it."""
    best = np.float32(0)
    for variant, factor in search.variants.items():
        same, other = (np.float32(scorer(variant, text)) for scorer in (fuzz.ratio, fuzz.token_sort_ratio))
        best = max(best, np.float32(factor / 100) * max(same, np.float32(REORDERED) * other))
    return best


def try_all(search):
    """(first, last) of the best candidate, by scoring each of them."""
    (low, high), (num_source, num_isolated) = search.sentence, search.num_words
    shortest = min(max(1, min(search.num_words) // 2), high - low)
    longest = max(num_source, num_isolated) * 3 // 2 + 3
    runs = {(a, b) for a in range(low, high) for b in range(a + shortest, min(a + longest, high) + 1)}
    runs |= {(place, place + num_isolated) for place in search.places}
    padded = np.zeros(len(search.words))
    padded[low:high] = search.weights
    ranked = []
    for a, b in runs:
        overlap = 2 * padded[a:b].sum() / (b - a + padded.sum())
        nearness = float(np.exp(-abs(search.starts[a] - search.expected) / POSITION_SCALE))
        lexical = similarity(" ".join(search.words[a:b]), search)
        score = float(LEXICAL_WEIGHT * lexical**2) + ALIGNMENT_WEIGHT * overlap + POSITION_WEIGHT * nearness
        ranked.append((-round(score, 6), -round(overlap, 12), -nearness, a - b, a, b))
    return min(ranked)[4:]


def random_search(rng):
    words = rng.choices(WORDS, k=rng.randrange(1, 40))
    lengths = np.array([len(word) for word in words])
    low = rng.randrange(len(words))
    high = rng.randrange(low, len(words)) + 1
    source = rng.choices(WORDS, k=rng.randrange(1, 6))
    isolated = words[low:high][: rng.randrange(5)] if rng.random() < 0.5 else rng.choices(WORDS, k=rng.randrange(4))
    weights = np.array([rng.choice([0, 0, 0, 0.25, 0.5, 1]) for _ in range(high - low)])
    return Search(
        words,
        lengths,
        np.cumsum(lengths + 1) - lengths - 1,
        (low, high),
        weights,
        (len(source), len(isolated) or len(source)),
        occurrences(words, isolated),
        variants(isolated, source, frozenset({"de", "het"})),
        rng.uniform(0, 200),
    )


@pytest.mark.parametrize("at_a_time", [1, 300, 1 << 18], ids=["each alone", "some together", "all together"])
def test_the_pruned_search_finds_what_trying_every_candidate_finds(monkeypatch, at_a_time):
    monkeypatch.setattr(candidates, "RUNS_AT_A_TIME", at_a_time)
    rng = random.Random(5)
    searches = [random_search(rng) for _ in range(400)]
    choices = list(best_choices(searches))
    assert [(choice.first, choice.last) for choice in choices] == [try_all(search) for search in searches]
    for search, choice in zip(searches, choices, strict=True):
        assert choice.lexical == similarity(" ".join(search.words[choice.first : choice.last]), search)
        assert choice.overlap == pytest.approx(search.overlap(choice.first, choice.last - choice.first))


def test_ties_go_to_the_longest_then_the_first():
    ones = np.ones(3, int)
    same = Search(["a", "b", "c"], ones, np.zeros(3), (0, 3), np.ones(3), (3, 3), [], {}, 0.0)
    assert [(c.first, c.last) for c in best_choices([same])] == [(0, 3)]
    silent = same._replace(weights=np.zeros(3), num_words=(1, 1))
    assert [(c.first, c.last) for c in best_choices([silent])] == [(0, 3)]


def test_few_candidates_are_compared_with_the_texts(monkeypatch):
    """Long answers cost the square of their length: that of comparing texts, not of counting runs."""
    compared = []
    similarity_of = candidates.Candidates.lexical_similarity

    def count(self, chosen):
        compared.append(len(chosen))
        return similarity_of(self, chosen)

    monkeypatch.setattr(candidates.Candidates, "lexical_similarity", count)
    rng = random.Random(3)
    words = ["".join(rng.choices("aeioulmnrst", k=rng.randrange(2, 9))) for _ in range(150)]
    lengths = np.array([len(word) for word in words])
    starts = np.cumsum(lengths + 1) - lengths - 1
    isolated = [word if rng.random() < 0.8 else word[:-1] + "x" for word in words]
    weights = np.array([rng.uniform(0.5, 1) for _ in words])
    text = {" ".join(isolated): 1.0}
    search = Search(words, lengths, starts, (0, 150), weights, (140, 150), [], text, 0.0)
    assert [(c.first, c.last) for c in best_choices([search])] == [(0, 150)]
    assert search.num_runs() > 2000 and sum(compared) < 100


def test_small_parts():
    assert occurrences(["a", "b", "a", "b"], ["a", "b"]) == [0, 2]
    assert occurrences(["a"], []) == []
    assert variants(["de", "stem"], ["votes"], frozenset({"de"})) == {"de stem": 1.0, "votes": 0.97, "stem": 1.0}
    assert variants([], ["the", "vote"], frozenset()) == {"the vote": 0.97, "vote": 0.97}
