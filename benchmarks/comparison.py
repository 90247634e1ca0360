"""The tests of `evaluate_v2.py --compare` beside scipy's on the same scores, and their time on a large data set.

    pip install scipy
    python benchmarks/comparison.py xquad.en.json [GAP …]

Pairs of made-up prediction files, from equally good to clearly different. scipy.stats.permutation_test swaps the scores
of each question, or of each article; scipy.stats.bootstrap draws them again. p values must agree within 0.005 and the
ends of the intervals within 0.1 points with 200,000 trials on both sides; beside them stands what the default of
10,000 trials says. Exit code 1 when they do not.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import evaluate_v2  # noqa: E402
from squadlib.scoring.comparison import compare  # noqa: E402
from squadlib.scoring.questions import article_names  # noqa: E402

TRIALS, DEFAULT, SEED = 200_000, evaluate_v2.COMPARE_TRIALS, evaluate_v2.BOOTSTRAP_SEED
GAPS = (0.0, 0.02, 0.05, 0.08)  # in the share of right answers
MOST_P, MOST_EDGE = 0.005, 0.1  # one question of 1,190 is 0.084 points
NUM_LARGE = 142_000  # questions of SQuAD 2.0


def make_predictions(path: str, share: float, seed: int) -> dict[str, str]:
    """Answers of which `share` are right and the others cut, stretched or wrong; a text is easy or hard as a whole."""
    draw, predictions = random.Random(seed), {}
    for article in json.loads(Path(path).read_text(encoding="utf-8"))["data"]:
        ease = draw.gauss(0, 0.05)
        for paragraph in article["paragraphs"]:
            words = paragraph["context"].split()
            for qa in paragraph["qas"]:
                text, start = qa["answers"][0]["text"] if qa["answers"] else "", draw.randrange(len(words))
                wrong = " ".join(words[start : start + draw.randint(1, 4)])
                near = draw.choice([f"{text} {wrong}", text[: len(text) // 2], wrong, ""])
                predictions[qa["id"]] = text if draw.random() < share + ease else near
    return predictions


def score(path: str, predictions: dict[str, str]) -> np.ndarray:
    """(questions, 2): exact and f1, 0 to 100."""
    columns = evaluate_v2.score_answers(evaluate_v2.read_golds(path), predictions)
    return 100.0 * np.column_stack([list(scores.values()) for scores in columns])


def reference(differences: np.ndarray, sizes: np.ndarray) -> tuple[float, float, list[float]]:
    """scipy's (p of the permutation test, p of the bootstrap, interval) of one metric. A row is a unit."""

    def total(x: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.sum(axis=axis)

    swapped = stats.permutation_test(
        (differences[differences != 0],), total, permutation_type="samples", n_resamples=TRIALS, batch=500, rng=1
    )
    found = differences.sum() / sizes.sum()
    drawn = stats.bootstrap(
        (differences, sizes),
        lambda sums, counts, axis=-1: sums.sum(axis=axis) / counts.sum(axis=axis),
        paired=True, n_resamples=TRIALS, batch=500, method="percentile", rng=2,
    )  # fmt: skip
    beyond = np.sum(np.abs(drawn.bootstrap_distribution - found) >= abs(found) - 1e-9)
    return swapped.pvalue, (beyond + 1) / (TRIALS + 1), list(drawn.confidence_interval)


def check(path: str, gaps: Sequence[float]) -> int:
    """Print a row for each gap, unit and metric; returns the number of figures that are too far apart."""
    articles = article_names(list(evaluate_v2.read_questions(path)))
    _, numbers = np.unique(articles, return_inverse=True)
    first, faults, worst = score(path, make_predictions(path, 0.7, 0)), 0, np.zeros(3)
    print("| gap | unit | metric | difference | p randomisation: scipy, ours, default | p bootstrap | furthest end |")
    print("|---|---|---|---|---|---|---|")
    for gap in gaps:
        second = score(path, make_predictions(path, 0.7 + gap, 1 + round(1000 * gap)))
        for unit, clusters in ("question", None), ("article", articles):
            ours, default = (compare(first, second, clusters, trials, SEED) for trials in (TRIALS, DEFAULT))
            for metric, name in enumerate(("exact", "f1")):
                difference = (second - first)[:, metric]
                units = np.arange(len(difference)) if clusters is None else numbers
                sums, sizes = np.bincount(units, difference), np.bincount(units).astype(float)
                swapped, drawn, edges = reference(sums, sizes)
                mine, usual = ours[metric], default[metric]
                off = np.array([
                    abs(mine["p_randomisation"] - swapped),
                    abs(mine["p_bootstrap"] - drawn),
                    np.abs(np.subtract(mine["ci95"], edges)).max(),
                ])  # fmt: skip
                worst, faults = np.maximum(worst, off), faults + int(np.sum(off > (MOST_P, MOST_P, MOST_EDGE)))
                both = f"{swapped:.4f}, {mine['p_randomisation']:.4f}, {usual['p_randomisation']:.4f}"
                boot = f"{drawn:.4f}, {mine['p_bootstrap']:.4f}, {usual['p_bootstrap']:.4f}"
                print(
                    f"| {gap} | {unit} | {name} | {mine['difference']:+.2f} | {both} | {boot} | {off[2]:.3f} |",
                    flush=True,
                )
    print(f"\nfurthest apart: p randomisation {worst[0]:.4f}, p bootstrap {worst[1]:.4f}, ends {worst[2]:.3f} points")
    return faults


def measure() -> None:
    """Time of a comparison of NUM_LARGE questions, each with scores of its own in both files."""
    draw = np.random.RandomState(0)

    def column() -> np.ndarray:
        gold, pred = draw.randint(1, 12, (2, NUM_LARGE))
        f1 = 200.0 * np.minimum(draw.randint(0, 12, NUM_LARGE), np.minimum(gold, pred)) / (gold + pred)
        return np.where(draw.rand(NUM_LARGE) < 0.6, 100.0, f1)

    first, second = (np.column_stack([100.0 * (f1 == 100.0), f1]) for f1 in (column(), column()))
    for unit, clusters in ("question", None), ("article", [str(number // 320) for number in range(NUM_LARGE)]):
        start = time.process_time()
        compare(first, second, clusters, DEFAULT, SEED)
        print(
            f"{NUM_LARGE:,} questions, {DEFAULT:,} trials, by {unit}: {time.process_time() - start:.1f} s of CPU",
            flush=True,
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> int:
    path, *gaps = sys.argv[1:] or sys.exit(__doc__)
    measure()
    return int(check(path, list(map(float, gaps)) or GAPS) > 0)


if __name__ == "__main__":
    sys.exit(main())
