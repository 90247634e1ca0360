"""Is one prediction file better than another, or is the difference chance? Paired tests and resampled intervals.

Two tests ask the same question. Approximate randomisation (Noreen 1989): if the files were equally good, the two scores
of a question could change places; how often does swapping each with probability 1/2 give a difference as large as the
one that was found? Paired bootstrap (Efron and Tibshirani 1993): how far does the difference move from itself when the
questions are drawn again with replacement? Both p values are two-sided and (c + 1) / (n + 1), c of n trials.

What is swapped or drawn is a unit: a question, or all questions of an article at once, since questions about one text
are not independent. Units with equal scores are drawn together, from binomial and multinomial distributions, which is
the same as one by one; so time and memory do not grow with the number of questions but with that of different scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

DECIMALS = 9  # of a score: equal F1 scores that were computed in different ways count as equal
TOLERANCE = 1e-9  # of a mean, for the same reason
MOST_DRAWN = 1 << 22  # numbers held at a time


class Figures(TypedDict):
    """What one file has more than another in one metric, and how sure that is. ci95: [low, high]."""

    difference: float
    ci95: list[float]
    p_randomisation: float
    p_bootstrap: float


class Sample(NamedTuple):
    """The units, equal ones once. sums: (rows, metrics), of a unit; sizes: questions in it; counts: such units."""

    sums: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray

    def mean(self) -> np.ndarray:
        """(metrics,), over all questions."""
        return self.counts @ self.sums / (self.counts @ self.sizes)


def make_sample(scores: np.ndarray, clusters: Sequence[str] | None) -> Sample:
    """scores: (questions, metrics); clusters: the unit of each question, None: each alone. Their order is forgotten."""
    table = np.column_stack([scores, np.ones(len(scores))])
    if clusters is not None:
        names, units = np.unique(np.array(clusters), return_inverse=True)
        order = np.lexsort((*scores.T, units))  # so that sums do not depend on the order of the questions
        rows, table = table, np.zeros((len(names), table.shape[1]))
        np.add.at(table, units[order], rows[order])
    table, counts = np.unique(table.round(DECIMALS), axis=0, return_counts=True)
    return Sample(table[:, :-1], table[:, -1], counts)


def compare(
    first: np.ndarray, second: np.ndarray, clusters: Sequence[str] | None, trials: int, seed: int
) -> list[Figures]:
    """What `second` has more than `first`, for each metric. Both: (questions, metrics), 0 to 100.

    The same questions in another order give the same figures, and the two files in turn the same p values.
    """
    sample, mirrored = make_sample(second - first, clusters), make_sample(first - second, clusters)
    sign = 1.0
    if np.column_stack(mirrored).tolist() > np.column_stack(sample).tolist():
        sample, sign = mirrored, -1.0
    random, found = np.random.RandomState(seed), sample.mean()  # numpy has frozen what RandomState draws
    swapped = swapped_means(sample, trials, random)
    resampled = resampled_means(sample, trials, random)
    p_swapped = share_beyond(swapped, found)
    p_resampled = share_beyond(resampled - found, found)
    edges = np.sort(sign * np.percentile(resampled, [2.5, 97.5], axis=0), axis=0) + 0.0  # no -0.0
    return [
        {
            "difference": float(sign * found[metric] + 0.0),
            "ci95": edges[:, metric].tolist(),
            "p_randomisation": float(p_swapped[metric]),
            "p_bootstrap": float(p_resampled[metric]),
        }
        for metric in range(len(found))
    ]


def share_beyond(means: np.ndarray, found: np.ndarray) -> np.ndarray:
    """p of each metric: how often the means of the trials are as far from 0 as what was found."""
    return (np.sum(np.abs(means) >= np.abs(found) - TOLERANCE, axis=0) + 1) / (len(means) + 1)


def swapped_means(sample: Sample, trials: int, random: np.random.RandomState) -> np.ndarray:
    """(trials, metrics): the mean difference when each unit's difference keeps or changes its sign."""
    totals = np.zeros((trials, sample.sums.shape[1]))
    for sums, count in zip(sample.sums, sample.counts, strict=True):
        if sums.any():
            totals += np.multiply.outer(2 * random.binomial(count, 0.5, trials) - count, sums)
    return totals / (sample.counts @ sample.sizes)


def resampled_means(sample: Sample, trials: int, random: np.random.RandomState) -> np.ndarray:
    """(trials, metrics): the mean over as many units, drawn with replacement."""
    num_units = sample.counts.sum()
    means = []
    block = max(1, MOST_DRAWN // len(sample.counts))
    for start in range(0, trials, block):
        drawn = random.multinomial(num_units, sample.counts / num_units, size=min(block, trials - start))
        means.append(drawn @ sample.sums / (drawn @ sample.sizes)[:, None])
    return np.concatenate(means)


def interval(scores: Sequence[float], clusters: Sequence[str], trials: int, seed: int) -> list[float]:
    """[low, high]: the middle 95 % of the mean when whole clusters are drawn again."""
    sample = make_sample(np.array(scores, dtype=float)[:, None], clusters)
    means = resampled_means(sample, trials, np.random.RandomState(seed))
    return [float(edge) for edge in np.percentile(means, [2.5, 97.5])]


def add_comparison(
    scored: Mapping[str, tuple[dict[str, object], Mapping[str, Sequence[float]]]],
    clusters: Sequence[str] | None,
    trials: int,
    seed: int,
) -> str:
    """A table of every file beside the first; the figures become "compared_with" of its results.

    scored: name of a prediction file -> its results, and the scores of its questions by metric, in one order.
    """
    (first, (_, base)), *others = scored.items()
    lines = [
        f"| compared with {first.replace('|', '/')} | metric | difference | 95 % | p randomisation | p bootstrap |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, (results, columns) in others:
        one, two = (np.column_stack(list(side.values())) for side in (base, columns))
        by_metric = dict(zip(columns, compare(one, two, clusters, trials, seed), strict=True))
        results["compared_with"] = {first: by_metric}
        lines += [f"| {name.replace('|', '/')} | {format_row(*item)} |" for item in by_metric.items()]
    return "\n".join([*lines, "", describe_draws(len(base["exact"]), clusters, trials, len(others))])


def describe_draws(num_questions: int, clusters: Sequence[str] | None, trials: int, num_comparisons: int) -> str:
    """What one must know to read the p values."""
    num_units = len(set(clusters)) if clusters else num_questions
    texts = [f"{trials:,} trials each, drawn by {'article' if clusters else 'question'} ({num_units:,})"]
    if num_units < math.log2(trials):
        floor = f"{2.0 ** (1 - num_units):.2g}"
        texts.append(f"so few say little: p randomisation cannot be below {floor}, p bootstrap is too low")
    if num_comparisons > 1:
        texts.append(f"p is not corrected for {num_comparisons} comparisons")
    return f"{'; '.join(texts)}."


def format_row(metric: str, figures: Figures) -> str:
    low, high = figures["ci95"]
    chances = f"{figures['p_randomisation']:.4f} | {figures['p_bootstrap']:.4f}"
    return f"{metric} | {figures['difference']:+.2f} | {low:+.2f} to {high:+.2f} | {chances}"
