"""Paired tests and intervals: small cases counted out by hand, and what must hold of any scores."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from squadlib.scoring.comparison import Sample, add_comparison, compare, interval, make_sample, resampled_means

TRIALS, SEED = 10_000, 42


def noise(p):
    """Four standard errors of a p value from TRIALS trials."""
    return 4 * math.sqrt(p * (1 - p) / TRIALS) + 2 / TRIALS


def columns(draw, size):
    """(questions, 2): exact and f1 of made-up answers."""
    f1 = draw.choice([0, 50.0, 200 / 3, 100, 100], size)
    return np.column_stack([100.0 * (f1 == 100), f1])


def p_of_all_flips(differences):
    """Share of the 2^n ways to flip signs that give a sum as far from 0."""
    sums = [abs(sum(map(math.prod, zip(signs, differences, strict=True)))) for signs in flips(len(differences))]
    return sum(value >= abs(sum(differences)) - 1e-9 for value in sums) / len(sums)


def flips(number):
    return list(itertools.product((1, -1), repeat=number))


def test_randomisation_equals_the_enumeration_of_all_sign_flips():
    # exact: 6 questions won, 1 lost, 2 equal; of 2^7 flips 16 have 6 or more of one sign: p = 2 * (1 + 7) / 128
    assert p_of_all_flips([100] * 6 + [-100]) == 2 * 8 / 128
    first = np.array([[0, 0.0]] * 6 + [[100, 100.0]] + [[100, 100.0]] * 2)
    second = np.array([[100, 100.0]] * 6 + [[0, 50.0]] + [[100, 100.0]] * 2)
    exact, f1 = compare(first, second, None, TRIALS, SEED)
    assert exact["difference"] == pytest.approx(500 / 9) and f1["difference"] == pytest.approx(550 / 9)
    assert exact["p_randomisation"] == pytest.approx(0.125, abs=noise(0.125))
    expected = p_of_all_flips([100] * 6 + [-50])  # the f1 lost once is the smallest: 6 of one sign and either of it
    assert expected == 4 / 128
    assert f1["p_randomisation"] == pytest.approx(expected, abs=noise(expected))


def test_randomisation_by_article_flips_whole_articles():
    # three articles, 4 + 2 + 2 questions, all won: as questions 2 of 2^8 flips are as extreme, as articles 2 of 2^3
    first, second = np.zeros((8, 2)), np.full((8, 2), 100.0)
    by_question, _ = compare(first, second, None, TRIALS, SEED)
    by_article, _ = compare(first, second, list("aaaabbcc"), TRIALS, SEED)
    assert by_question["p_randomisation"] == pytest.approx(2 / 256, abs=noise(2 / 256))
    assert by_article["p_randomisation"] == pytest.approx(0.25, abs=noise(0.25))


def test_bootstrap_equals_the_enumeration_of_all_draws():
    # differences 100, 100, -50 of three questions: 27 draws, found 50; as far from 50 as 0 or beyond: means 0, -50, 100
    differences = [100, 100, -50]
    means = [sum(draw) / 3 for draw in itertools.product(differences, repeat=3)]
    expected = sum(abs(mean - 50) >= 50 for mean in means) / 27
    assert expected == (6 + 1 + 8) / 27
    figures = compare(np.zeros((3, 1)), np.array(differences, dtype=float)[:, None], None, TRIALS, SEED)[0]
    assert figures["p_bootstrap"] == pytest.approx(expected, abs=noise(expected))
    assert figures["ci95"] == [-50, 100]  # 1/27 and 8/27 of the draws


def test_bootstrap_by_article_weighs_articles_by_their_questions():
    # articles of 3 and 1 questions with means 100 and 0: draws aa, ab, ba, bb have the means 100, 75, 75, 0
    figures = compare(np.zeros((4, 1)), np.array([[100.0], [100], [100], [0]]), list("aaab"), TRIALS, SEED)[0]
    assert figures["difference"] == 75
    assert figures["ci95"] == [0, 100]
    assert figures["p_bootstrap"] == pytest.approx(0.25, abs=noise(0.25))  # bb alone is as far from 75 as 0 is


@pytest.mark.parametrize("clusters", [None, "abcde" * 12])
def test_a_file_against_itself_has_p_1(clusters):
    scores = columns(np.random.RandomState(1), 60)
    for figures in compare(scores, scores, clusters and list(clusters), TRIALS, SEED):
        assert figures == {"difference": 0.0, "ci95": [0.0, 0.0], "p_randomisation": 1.0, "p_bootstrap": 1.0}


@pytest.mark.parametrize("by_article", [False, True])
def test_order_of_questions_and_names_of_articles_change_nothing(by_article):
    draw = np.random.RandomState(2)
    first, second, articles = columns(draw, 200), columns(draw, 200), [str(number // 9) for number in range(200)]
    mixed = random.Random(3).sample(range(200), 200)
    renamed = [f"article {99 - int(articles[place])}" for place in mixed]
    expected = compare(first, second, articles if by_article else None, TRIALS, SEED)
    assert compare(first[mixed], second[mixed], renamed if by_article else None, TRIALS, SEED) == expected


@pytest.mark.parametrize("by_article", [False, True])
def test_files_in_turn_have_the_same_p_and_mirrored_differences(by_article):
    draw = np.random.RandomState(4)
    first, second = columns(draw, 150), columns(draw, 150)
    articles = [str(number // 7) for number in range(150)] if by_article else None
    pairs = zip(*(compare(*pair, articles, TRIALS, SEED) for pair in ((first, second), (second, first))), strict=True)
    for there, back in pairs:
        assert (there["p_randomisation"], there["p_bootstrap"]) == (back["p_randomisation"], back["p_bootstrap"])
        assert there["difference"] == -back["difference"] and there["ci95"] == [-edge for edge in back["ci95"][::-1]]


def test_articles_of_one_question_are_questions():
    draw = np.random.RandomState(5)
    first, second = columns(draw, 80), columns(draw, 80)
    assert compare(first, second, list(map(str, range(80))), TRIALS, SEED) == compare(first, second, None, TRIALS, SEED)


def test_many_trials_in_little_memory_are_the_same_draws(monkeypatch):
    draw = np.random.RandomState(6)
    sample, drawn = make_sample(columns(draw, 300) - columns(draw, 300), None), []
    expected = resampled_means(sample, 1000, np.random.RandomState(SEED))
    monkeypatch.setattr("squadlib.scoring.comparison.MOST_DRAWN", 200)

    class Recorder(np.random.RandomState):
        def multinomial(self, *args, size):
            drawn.append(size * len(sample.counts))
            return super().multinomial(*args, size=size)

    assert resampled_means(sample, 1000, Recorder(SEED)).tolist() == expected.tolist()
    assert len(drawn) > 10 and max(drawn) <= 200


def test_intervals_are_the_middle_95_percent():
    # of 100 questions, half of them right, a draw has 40 or less with p 0.028, 39 or less with 0.018, and so above
    scores = np.array([[100.0]] * 50 + [[0.0]] * 50)
    assert compare(np.zeros((100, 1)), scores, None, TRIALS, SEED)[0]["ci95"] == [40, 60]
    assert interval(scores[:, 0].tolist(), list(map(str, range(100))), TRIALS, SEED) == [40, 60]


def test_equal_units_are_kept_once():
    sample = make_sample(np.array([[100.0], [0], [100 / 3], [100 - 200 / 3], [-0.0]]), None)
    assert sample.sums[:, 0] == pytest.approx([0, 100 / 3, 100], abs=1e-8)  # a third, whichever way it was computed
    assert sample.counts.tolist() == [2, 2, 1] and isinstance(sample, Sample)


def test_independent_files_are_rarely_told_apart():
    """Under the null hypothesis p below 0.05 comes in about one of twenty comparisons."""
    draw = np.random.RandomState(7)
    found = [compare(columns(draw, 100), columns(draw, 100), None, 500, SEED)[1] for _ in range(200)]
    for name in ("p_randomisation", "p_bootstrap"):
        assert 0.01 <= sum(figures[name] < 0.05 for figures in found) / 200 <= 0.10


def test_interval_of_articles_is_wider_where_their_questions_are_alike():
    scores = [100.0] * 50 + [0.0] * 50
    low, high = interval(scores, [str(number // 10) for number in range(100)], 2000, SEED)
    alone = interval(scores, list(map(str, range(100))), 2000, SEED)
    assert (low, high) == (pytest.approx(50 - 31, abs=2), pytest.approx(50 + 31, abs=2))  # 1.96 * 50 / sqrt(10)
    assert alone == [pytest.approx(50 - 9.8, abs=1), pytest.approx(50 + 9.8, abs=1)]


def test_table_says_what_was_drawn():
    better, worse = {"exact": [100.0] * 4, "f1": [100.0] * 4}, {"exact": [0.0] * 4, "f1": [50.0] * 4}
    scored = {"one": ({}, worse), "two": ({}, better), "three": ({}, worse)}
    lines = add_comparison(scored, list("aabb"), TRIALS, SEED).splitlines()
    assert lines[0].startswith("| compared with one | metric |") and len(lines) == 2 + 4 + 2
    assert lines[2].startswith("| two | exact | +100.00 | +100.00 to +100.00 | 0.49")  # of 0.5
    assert lines[5] == "| three | f1 | +0.00 | +0.00 to +0.00 | 1.0000 | 1.0000 |"
    draws = "10,000 trials each, drawn by article (2)"
    few = "so few say little: p randomisation cannot be below 0.5, p bootstrap is too low"
    assert lines[-1] == f"{draws}; {few}; p is not corrected for 2 comparisons."
    assert scored["two"][0]["compared_with"]["one"]["f1"]["difference"] == 50.0 and scored["one"][0] == {}
