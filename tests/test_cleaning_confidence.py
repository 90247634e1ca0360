"""squadlib/cleaning/confidence.py: the logistic by hand, its direction, and the evidence of small sentences."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
from conftest import ROOT
from translated_town import TOWN, clean_in_memory, town_document

from squadlib.cleaning import confidence
from squadlib.cleaning.confidence import Evidence, figures, probability, same_figures, weigh

NOTHING = Evidence(*[0.0] * len(Evidence._fields))
# target words "a b c d" of the source words "A B C": a is A's, b and c are B's, d is nobody's
POSTERIORS = np.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.1], [0.1, 0.6, 0.0], [0.0, 0.0, 0.2]])


def weigh_words(answer, place, similarity=0.5, has_isolated=False):
    words = ["x"] * (answer[1] - answer[0]), ["y"] * (place[1] - place[0])
    return weigh(POSTERIORS, answer, place, words, similarity, has_isolated)


def test_the_probability_is_the_logistic_of_the_weighted_sum(monkeypatch):
    monkeypatch.setattr(confidence, "COEFFICIENTS", NOTHING._replace(wording=2.0, margin=-1.0))
    monkeypatch.setattr(confidence, "INTERCEPT", 0.5)
    assert probability(NOTHING) == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert probability(NOTHING._replace(wording=0.25, margin=1.0)) == pytest.approx(0.5)  # 0.5 + 2/4 - 1
    assert probability(NOTHING._replace(wording=1e9)) == 1 and 0 < probability(NOTHING._replace(wording=-1e9)) < 1e-20


def test_evidence_by_hand():
    evidence = weigh_words((1, 2), (1, 3))
    assert evidence.wording == 0.25 and evidence.isolated == evidence.isolated_wording == 0
    assert evidence.reach == pytest.approx(0.8)
    assert evidence.margin == pytest.approx(((0.8 - 0.1) + (0.6 - 0.1)) / 2)
    assert evidence.answer_margin == pytest.approx(0.8 - 0.1)
    assert evidence.sentence == pytest.approx((0.9 + 0.8 + 0.6 + 0.2) / 4)
    assert evidence.answer_length == 0 and evidence.place_length == pytest.approx(math.log(2))
    assert evidence.sentence_length == pytest.approx(math.log(4)) and evidence.outside == 0


@pytest.mark.parametrize("place", [(-2, -1), (4, 5)])
def test_a_place_beyond_the_sentence_has_its_wording_alone(place):
    evidence = weigh_words((1, 2), place, similarity=1.0, has_isolated=True)
    assert (evidence.outside, evidence.reach, evidence.margin, evidence.sentence) == (1, 0, 0, 0)
    assert (evidence.wording, evidence.isolated, evidence.isolated_wording) == (1, 1, 1)


def test_the_whole_sentence_as_answer_has_no_rest_to_compare_with():
    evidence = weigh_words((0, 3), (0, 4))
    assert evidence.margin == pytest.approx((0.9 + 0.8 + 0.6 + 0.2) / 4)
    assert evidence.answer_margin == evidence.reach == pytest.approx((0.9 + 0.8 + 0.2) / 3)


def test_figures_are_compared_in_any_script():
    assert figures(["mei", "1795", "١٢"]) == {"1795", "12"}
    assert same_figures(["12"], ["die", "१२"]) == 1
    assert same_figures(["4", "mei"], ["5", "mei"]) == -1
    assert same_figures(["mei"], ["5"]) == 0


@pytest.mark.parametrize("field", ["wording", "isolated_wording", "reach", "margin", "answer_margin", "figures"])
def test_more_evidence_is_never_less_likely(field):
    assert getattr(confidence.COEFFICIENTS, field) > 0
    values = [probability(NOTHING._replace(**{field: value})) for value in np.linspace(0, 1, 11)]
    assert values == sorted(values) and values[-1] > values[0]


def test_an_answer_whose_words_are_gone_is_less_likely():
    rows = [
        *TOWN,
        ("Two men from Gent saw two women.", "Twee mannen uit Gent zagen twee vrouwen.", {"men": (None, "")}),
    ]
    document = town_document(rows)
    document["data"][0]["paragraphs"][0]["qas"][-1]["answers"][0]["iso_t"] = "mannen"
    whole = clean_in_memory(document).answers[-1].location
    context = document["data"][0]["paragraphs"][0]["context_t"]
    document["data"][0]["paragraphs"][0]["context_t"] = context.replace("Twee mannen uit", "Twee uit      ")
    cut = clean_in_memory(document).answers[-1].location
    assert whole.text == "mannen" and cut.confidence < whole.confidence - 0.3


@pytest.fixture
def calibration(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("calibration")


def test_the_fit_finds_the_coefficients_that_made_the_data(calibration):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 2)) * [1, 3]
    right = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 1.0 * features[:, 0] - 0.4 * features[:, 1])))
    found = calibration.fit_logistic(features, right.astype(float), np.full(20_000, 1 / 20_000), 0.0)
    assert found == pytest.approx([0.5, 1.0, -0.4], abs=0.08)
    assert calibration.calibration_error(calibration.predict(found, features), right) < 0.02


def test_calibration_error_by_hand(calibration):
    expected = np.repeat(np.linspace(0.05, 0.95, 10), 10)
    right = np.concatenate([np.arange(10) < number for number in range(10)])  # tenth by tenth 0.05 too few
    assert calibration.calibration_error(expected, right) == pytest.approx(0.05)
    assert calibration.calibration_error(np.full(40, 0.5), np.arange(40) % 2 == 0) == pytest.approx(0)
