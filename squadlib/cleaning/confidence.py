"""The probability that a chosen place is where the answer stands.

A logistic regression on what wording and word alignment say of the place. It was fitted on data with gold by
`python benchmarks/calibration.py`, which prints the coefficients below and how far off they are on languages that they
have not seen. What counts as right: the place touches the gold span.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from squadlib.cleaning.tokens import Span, fold


class Evidence(NamedTuple):
    """What speaks for a place. The first nine are 0 to 1 or -1 to 1."""

    wording: float  # similarity to the isolated translation or to the source text, squared
    isolated: float  # 1 if there is an isolated translation
    isolated_wording: float  # the two multiplied
    reach: float  # how surely a word of the answer has its translation in the place
    margin: float  # how much rather the words of the place translate the answer than the rest of the sentence
    answer_margin: float  # how much rather the words of the answer are translated in the place than elsewhere
    sentence: float  # how surely the words of the whole sentence are aligned
    figures: float  # 1 if the answer has figures and the place has them too, -1 if it has not
    outside: float  # 1 if the place is not in the translation of the answer's sentence
    answer_length: float  # logarithms of the number of words: of the answer,
    place_length: float  # of the place,
    sentence_length: float  # of the translated sentence


COEFFICIENTS = Evidence(
    wording=2.186,
    isolated=-1.331,
    isolated_wording=1.546,
    reach=1.960,
    margin=3.393,
    answer_margin=1.059,
    sentence=0.430,
    figures=1.397,
    outside=-0.095,
    answer_length=-0.408,
    place_length=1.379,
    sentence_length=-0.077,
)
INTERCEPT = -2.774


def probability(evidence: Evidence) -> float:
    """P(the place touches the answer), 0 to 1."""
    logit = INTERCEPT + sum(weight * value for weight, value in zip(COEFFICIENTS, evidence, strict=True))
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


def weigh(
    posteriors: np.ndarray | None,
    answer: Span,
    place: Span,
    words: tuple[list[str], list[str]],
    similarity: float,
    has_isolated: bool,
) -> Evidence:
    """The evidence for a place.

    posteriors: of the sentence, (target tokens, source tokens), None where it has no words on one side. answer, place:
    (first, last) source and target tokens of the sentence; a place beyond it is outside. words: of both, folded.
    """
    wording, isolated = similarity**2, float(has_isolated)
    figures = same_figures(*words)
    lengths = [math.log(max(1, len(some))) for some in words]
    num_target = 1 if posteriors is None else len(posteriors)
    outside = posteriors is None or place[0] < 0 or place[1] > num_target or answer[0] >= answer[1]
    aligned = (0.0, 0.0, 0.0, 0.0) if outside or posteriors is None else weigh_alignment(posteriors, answer, place)
    sizes = (*lengths, math.log(num_target))
    return Evidence(wording, isolated, isolated * wording, *aligned, figures, float(outside), *sizes)


def weigh_alignment(posteriors: np.ndarray, answer: Span, place: Span) -> tuple[float, float, float, float]:
    """(reach, margin, answer_margin, sentence) of Evidence."""
    (first, last), (low, high) = answer, place
    inside = posteriors[low:high]
    of_answer = posteriors[:, first:last]
    reach = of_answer[low:high].max(0)
    rest = np.maximum(inside[:, :first].max(1, initial=0), inside[:, last:].max(1, initial=0))
    elsewhere = np.maximum(of_answer[:low].max(0, initial=0), of_answer[high:].max(0, initial=0))
    margin = of_answer[low:high].max(1) - rest
    return (
        float(reach.mean()),
        float(margin.mean()),
        float((reach - elsewhere).mean()),
        float(posteriors.max(1).mean()),
    )


def same_figures(answer: list[str], place: list[str]) -> float:
    """1 if all figures of the answer are in the place, -1 if not, 0 if it has none."""
    wanted = figures(answer)
    if not wanted:
        return 0.0
    return 1.0 if wanted <= figures(place) else -1.0


def figures(words: list[str]) -> set[str]:
    """The numbers among folded words, in any script's digits."""
    return {fold(word) for word in words if word[0].isdigit()}
