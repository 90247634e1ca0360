"""What the confidence of clean_squad.py is worth, and the coefficients of squadlib/cleaning/confidence.py.

    python benchmarks/calibration.py                  # fits on all sets; judges each by a fit without its language
    python benchmarks/calibration.py --xquad_dir DIR  # with more languages of XQuAD than $SQUAD_TEST_DATA has
    python benchmarks/calibration.py --as_it_is       # judges the coefficients that stand in confidence.py

Sets: mt_en_es_tune.json of $SQUAD_TEST_DATA and every xquad.<language>.json beside xquad.en.json, each with isolated
answers that are true, damaged (as benchmarks/alignment.py does) and without any.

ece     expected calibration error over ten groups of equal size; right = touches the gold span
>= 0.9  of the answers at 0.9 or more: how many there are, right, exact, %
lost    right answers below --min_confidence, %
cut     answers at or above it whose place was cut out of the translation, %; one a paragraph
kept    with every paragraph's translation moved to the next paragraph: answers at or above it, and after the question
        whether the paragraphs belong together, %
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from alignment import GoldParagraph, damage, normalized, read_set, read_xquad, without_isolated

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import clean_squad  # noqa: E402
from squadlib.cleaning import confidence  # noqa: E402
from squadlib.cleaning.answer_location import AnswerLocator, make_locators  # noqa: E402
from squadlib.cleaning.candidates import Choice, Search  # noqa: E402
from squadlib.cleaning.confidence import Evidence  # noqa: E402
from squadlib.cleaning.pairing import check_pairing  # noqa: E402
from squadlib.cleaning.sentence_pairs import align_sentences  # noqa: E402
from squadlib.cleaning.translated_document import Article, Paragraph, SourceAnswer, TranslatedDocument  # noqa: E402
from squadlib.cleaning.word_alignment import WordAligner  # noqa: E402

CUT_SHARE = 0.05  # of each set's weight in the fit: answers without a place
RIDGE = 1e-3
GROUPS = 10
SURE = 0.9


class Judged(NamedTuple):
    """The answers of one set. evidence: (answers, features); right, exact: bool."""

    evidence: np.ndarray
    right: np.ndarray
    exact: np.ndarray


class Sample(NamedTuple):
    """One set under one kind of isolated answers: its answers, those whose place was cut out, the moved ones."""

    name: str
    isolated: str
    answers: Judged
    cut: Judged
    moved: Judged
    moved_kept: float  # share of the paragraphs that pairing lets pass when all are moved
    whole_dropped: float  # share that pairing drops when none is

    @property
    def language(self) -> str:
        return "es" if self.name == "mt_en_es_tune" else self.name


# ---------------------------------------------------------------------------------------------------------------------
# Sets
# ---------------------------------------------------------------------------------------------------------------------


def judge(pairs: list[GoldParagraph], only: list[int | None] | None = None) -> tuple[Judged, float]:
    """(the evidence for every answer with gold that has a place, the share of paragraphs that pairing drops).

    only: the number of the one answer of each paragraph that is asked for; its gold does not count.
    """
    paragraphs = [pair.paragraph for pair in pairs]
    aligner = WordAligner(clean_squad.read_corpus(TranslatedDocument({}, [Article("", paragraphs)])))
    weighed: dict[tuple[AnswerLocator, SourceAnswer], Evidence] = {}
    weigh = AnswerLocator.evidence

    def keep(locator: AnswerLocator, choice: Choice, search: Search, answer: SourceAnswer, *rest: Any) -> Evidence:
        weighed[locator, answer] = weigh(locator, choice, search, answer, *rest)
        return weighed[locator, answer]

    AnswerLocator.evidence = keep  # type: ignore[method-assign]
    locators = make_locators(paragraphs, aligner, 0.0)
    AnswerLocator.evidence = weigh  # type: ignore[method-assign]
    rows, right, exact = [], [], []
    for number, (paragraph, golds) in enumerate(pairs):
        answers = [answer for question in paragraph.questions for answer in question.answers]
        for place, (answer, gold) in enumerate(zip(answers, golds, strict=True)):
            if gold is None or (only is not None and only[number] != place):
                continue
            found, evidence = locators[number].locate(answer), weighed.get((locators[number], answer))
            if evidence and found.span:
                touches = found.span[0] < gold.start + len(gold.text) and gold.start < found.span[1]
                rows.append(evidence)
                right.append(touches and only is None)
                exact.append(right[-1] and normalized(gold.text, False) == normalized(found.text, False))
    judged = Judged(np.array(rows).reshape(-1, len(Evidence._fields)), np.array(right, bool), np.array(exact, bool))
    return judged, float(check_pairing(aligner).wrong.mean())


def cut_answers(pairs: list[GoldParagraph]) -> tuple[list[GoldParagraph], list[int | None]]:
    """(the paragraphs with the place of one answer removed from the translation, the number of that answer)."""
    rng, cut, numbers = random.Random(0), [], []
    for paragraph, golds in pairs:
        with_gold = [number for number, gold in enumerate(golds) if gold]
        numbers.append(rng.choice(with_gold) if with_gold else None)
        gold = golds[numbers[-1]] if with_gold else None
        if gold:
            end = gold.start + len(gold.text)
            paragraph = retranslated(paragraph, paragraph.target[: gold.start] + paragraph.target[end:])
        cut.append(GoldParagraph(paragraph, golds))
    return cut, numbers


def moved_translations(pairs: list[GoldParagraph]) -> list[GoldParagraph]:
    """Every paragraph with the translation of the next one."""
    targets = [pair.paragraph.target for pair in pairs]
    return [
        GoldParagraph(retranslated(paragraph, target), golds)
        for (paragraph, golds), target in zip(pairs, targets[1:] + targets[:1], strict=True)
    ]


def retranslated(paragraph: Paragraph, target: str) -> Paragraph:
    return replace(paragraph, target=target, sentences=align_sentences(paragraph.source, target))


def damaged(xquad_dir: Path, language: str) -> Callable[[str, str], str | None]:
    texts = (pair.paragraph.target for pair in read_xquad(xquad_dir, language, lambda gold, source: None))
    words = [word for text in texts for word in text.split()]
    rng = random.Random(1)
    return lambda gold, source: damage(gold, source, words, rng)


def read_samples(data_dir: Path, xquad_dir: Path) -> list[Sample]:
    spanish = read_set(data_dir / "mt_en_es_tune.json")
    sets = [("mt_en_es_tune", "true", spanish), ("mt_en_es_tune", "none", without_isolated(spanish))]
    languages = sorted(path.name.split(".")[1] for path in xquad_dir.glob("xquad.*.json"))
    for language in [language for language in languages if language != "en"]:
        kinds = {
            "true": lambda gold, source: gold,
            "damaged": damaged(xquad_dir, language),
            "none": lambda gold, source: None,
        }
        sets += [(language, kind, read_xquad(xquad_dir, language, isolated)) for kind, isolated in kinds.items()]
    samples = []
    for name, kind, pairs in sets:
        print(f"reading {name}, isolated answers: {kind}", file=sys.stderr, flush=True)
        answers, whole_dropped = judge(pairs)
        moved, dropped = judge(moved_translations(pairs))
        samples.append(Sample(name, kind, answers, judge(*cut_answers(pairs))[0], moved, 1 - dropped, whole_dropped))
    return samples


# ---------------------------------------------------------------------------------------------------------------------
# The fit
# ---------------------------------------------------------------------------------------------------------------------


def fit(samples: list[Sample]) -> np.ndarray:
    """Intercept and coefficients. Every sample counts the same, however many answers it has."""
    parts = [(part, share) for sample in samples for part, share in ((sample.answers, 1.0), (sample.cut, CUT_SHARE))]
    evidence = np.concatenate([part.evidence for part, _ in parts])
    right = np.concatenate([part.right for part, _ in parts]).astype(float)
    weights = np.concatenate([np.full(len(part.right), share / max(1, len(part.right))) for part, share in parts])
    return fit_logistic(evidence, right, weights / weights.sum(), RIDGE)


def fit_logistic(features: np.ndarray, right: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """(intercept, one coefficient a feature) of the ridge logistic regression, by Newton's method."""
    mean = weights @ features
    scale = np.sqrt(weights @ (features - mean) ** 2) + 1e-9
    columns = np.column_stack([np.ones(len(features)), (features - mean) / scale])
    penalty = np.full(columns.shape[1], ridge)
    penalty[0] = 0
    found = np.zeros(columns.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-columns @ found))
        slope = columns.T @ (weights * (right - expected)) - penalty * found
        curve = (columns * (weights * expected * (1 - expected))[:, None]).T @ columns + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curve, slope)
        found += step
        if np.abs(step).max() < 1e-9:
            break
    slopes = found[1:] / scale
    return np.concatenate(([found[0] - slopes @ mean], slopes))


def predict(coefficients: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-coefficients[0] - evidence @ coefficients[1:]))


def calibration_error(expected: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over GROUPS groups of equal size."""
    order = np.argsort(expected, kind="stable")
    groups = [group for group in np.array_split(order, GROUPS) if len(group)]
    return sum(len(g) * abs(expected[g].mean() - right[g].mean()) for g in groups) / len(order)


# ---------------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------------


def print_figures(samples: list[Sample], coefficients: dict[str, np.ndarray], threshold: float) -> None:
    """coefficients: of each language, from a fit without it."""
    names = ("answers", "right", "exact", "ece", ">= 0.9", "right", "exact", "lost", "cut", "kept", "paired", "dropped")
    print(f"{'set':15s}{'isolated':9s}" + "".join(f"{name:>8s}" for name in names))
    for sample in samples:
        weights, answers = coefficients[sample.language], sample.answers
        expected = predict(weights, answers.evidence)
        sure = expected >= SURE
        kept = (predict(weights, sample.moved.evidence) >= threshold).mean()
        row = [
            100 * answers.right.mean(),
            100 * answers.exact.mean(),
            calibration_error(expected, answers.right),
            100 * sure.mean(),
            100 * answers.right[sure].mean(),
            100 * answers.exact[sure].mean(),
            100 * (expected[answers.right] < threshold).mean(),
            100 * (predict(weights, sample.cut.evidence) >= threshold).mean(),
            100 * kept,
            100 * kept * sample.moved_kept,
            100 * sample.whole_dropped,
        ]
        figures = "".join(f"{value:8.3f}" if number == 2 else f"{value:8.1f}" for number, value in enumerate(row))
        print(f"{sample.name:15s}{sample.isolated:9s}{len(expected):8d}{figures}")


def print_reliability(samples: list[Sample], coefficients: dict[str, np.ndarray]) -> None:
    """The answers of all sets by confidence."""
    expected = np.concatenate([predict(coefficients[s.language], s.answers.evidence) for s in samples])
    right, exact = (np.concatenate([getattr(s.answers, name) for s in samples]) for name in ("right", "exact"))
    print(f"\n{'confidence':14s}{'answers':>8s}{'mean':>8s}{'right':>8s}{'exact':>8s}")
    edges = (0, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99, 1.01)
    for low, high in itertools.pairwise(edges):
        group = (expected >= low) & (expected < high)
        if group.any():
            shares = "".join(f"{100 * values[group].mean():8.1f}" for values in (expected, right, exact))
            print(f"{low:.2f} to {min(1, high):.2f}  {group.sum():8d}{shares}")


def print_thresholds(samples: list[Sample], coefficients: dict[str, np.ndarray]) -> None:
    """What each threshold costs and buys, means over the sets."""
    for kind, some in (
        ("machine translation", [s for s in samples if s.name.startswith("mt_")]),
        ("human translation", [s for s in samples if not s.name.startswith("mt_")]),
    ):
        print(f"\n{kind:20s}{'lost':>8s}{'at most':>9s}{'cut kept':>9s}{'at most':>9s}{'misplaced':>11s}")
        for threshold in (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9) if some else ():
            lost, cut, misplaced = [], [], []
            for sample in some:
                weights = coefficients[sample.language]
                kept = predict(weights, sample.answers.evidence) >= threshold
                lost.append(100 * (~kept[sample.answers.right]).mean())
                cut.append(100 * (predict(weights, sample.cut.evidence) >= threshold).mean())
                misplaced.append(100 * (~sample.answers.right[kept]).mean())
            figures = np.mean(lost), max(lost), np.mean(cut), max(cut), np.mean(misplaced)
            print(
                f"{threshold:<20.2f}{figures[0]:8.2f}{figures[1]:9.2f}{figures[2]:9.1f}{figures[3]:9.1f}{figures[4]:11.2f}"
            )


def print_coefficients(found: np.ndarray) -> None:
    print("\nCOEFFICIENTS = Evidence(")
    for name, value in zip(Evidence._fields, found[1:], strict=True):
        print(f"    {name}={value:.3f},")
    print(f")\nINTERCEPT = {found[0]:.3f}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    given = os.environ.get("SQUAD_TEST_DATA")
    parser.add_argument("--data_dir", default=given, required=not given, help="folder of the sets ($SQUAD_TEST_DATA)")
    parser.add_argument("--xquad_dir", help="folder of the XQuAD files (default: --data_dir)")
    parser.add_argument("--as_it_is", action="store_true", help="judge the coefficients of confidence.py, fit nothing")
    return parser


def main() -> int:
    args = build_parser().parse_args()
    samples = read_samples(Path(args.data_dir), Path(args.xquad_dir or args.data_dir))
    languages = {sample.language for sample in samples}
    written = np.array([confidence.INTERCEPT, *confidence.COEFFICIENTS])
    if args.as_it_is:
        coefficients = dict.fromkeys(languages, written)
    else:
        coefficients = {left: fit([s for s in samples if s.language != left]) for left in sorted(languages)}
    print_figures(samples, coefficients, clean_squad.MIN_CONFIDENCE)
    print_reliability(samples, coefficients)
    print_thresholds(samples, coefficients)
    if not args.as_it_is:
        print_coefficients(fit(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
