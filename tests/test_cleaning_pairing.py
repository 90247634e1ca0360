"""squadlib/cleaning/pairing.py: paragraphs with another text's translation, in a language made up here."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from conftest import run_script

import clean_squad
from squadlib.cleaning.pairing import WRONG_TRANSLATION, Pairing, check_pairing, lowest_fit
from squadlib.cleaning.questions import dropped_question
from squadlib.cleaning.translated_document import read_document

SYLLABLES = ["ba", "du", "ki", "lo", "me", "ni", "po", "ru", "sa", "ti", "vo", "ze"]
NUM_PARAGRAPHS = 60


def made_up_words(rng, number):
    words = set()
    while len(words) < number:
        words.add("".join(rng.choices(SYLLABLES, k=3)))
    return sorted(words)


def made_up_document(num_paragraphs=NUM_PARAGRAPHS, seed=0):
    """Paragraphs of four sentences of eight words; each word has one translation, which does not look like it."""
    rng = random.Random(seed)
    words = made_up_words(rng, 800)
    source, target = words[:400], words[400:]
    rng.shuffle(target)
    translation = dict(zip(source, target, strict=True))
    paragraphs = []
    for number in range(num_paragraphs):
        sentences = [rng.choices(source, k=8) for _ in range(4)]
        context = " ".join(" ".join(some).capitalize() + "." for some in sentences)
        translated = " ".join(" ".join(translation[word] for word in some).capitalize() + "." for some in sentences)
        answer = sentences[1][3]
        start = context.index(answer, context.index(".") + 2 + sum(len(word) + 1 for word in sentences[1][:3]))
        answers = [{"text": answer, "answer_start": start, "iso_t": translation[answer]}]
        question = {"id": f"q{number}", "question": f"{answer}?", "question_t": f"{translation[answer]}?"}
        qas = [{**question, "is_impossible": False, "answers": answers}]
        paragraphs.append({"context": context, "context_t": translated, "sentences": None, "qas": qas})
    return {"version": "v2.0", "data": [{"title": "Made up", "paragraphs": paragraphs}]}


def move_translations(document, numbers):
    """Each of these paragraphs gets the translation of the next of them."""
    paragraphs = document["data"][0]["paragraphs"]
    targets = [paragraphs[number]["context_t"] for number in numbers]
    for number, target in zip(numbers, targets[1:] + targets[:1], strict=True):
        paragraphs[number]["context_t"] = target
    return document


def pairing_of(document):
    return check_pairing(clean_squad.train_aligner(clean_squad.read_corpus(read_document(document))))


def test_paragraphs_with_their_own_translations_pass():
    pairing = pairing_of(made_up_document())
    assert pairing.tested and not pairing.wrong.any() and pairing.fit.min() > 0


def test_a_few_wrong_paragraphs_are_found():
    """One in six may pass: what fits better by chance than a standard deviation is let alone."""
    moved = [5, 20, 41, 50]
    pairing = pairing_of(move_translations(made_up_document(), moved))
    found = np.flatnonzero(pairing.wrong).tolist()
    assert set(found) <= set(moved) and len(found) >= 3


@pytest.mark.parametrize("step", [1, 7])
def test_a_file_of_moved_translations_is_noticed(step):
    numbers = [(number * step) % NUM_PARAGRAPHS for number in range(NUM_PARAGRAPHS)]
    pairing = pairing_of(move_translations(made_up_document(), numbers))
    assert pairing.tested and pairing.wrong.mean() > 0.9


@pytest.mark.parametrize("num_paragraphs", [1, 2, 49])
def test_a_small_file_is_not_judged(num_paragraphs):
    pairing = pairing_of(move_translations(made_up_document(num_paragraphs), list(range(num_paragraphs))))
    assert not pairing.tested and not pairing.wrong.any() and len(pairing.wrong) == num_paragraphs


def test_a_context_that_is_there_once_a_question_is_not_its_own_neighbour():
    document = made_up_document()
    rows = document["data"][0]["paragraphs"]
    document["data"][0]["paragraphs"] = [row for row in rows for _ in range(3)]
    pairing = pairing_of(document)
    assert len(pairing.wrong) == 3 * NUM_PARAGRAPHS and pairing.tested and not pairing.wrong.any()


def test_untranslated_paragraphs_are_passed_over():
    document = made_up_document()
    document["data"][0]["paragraphs"][7]["context_t"] = None
    pairing = pairing_of(document)
    assert math.isnan(pairing.fit[7]) and not pairing.wrong.any() and pairing.tested


def test_the_lowest_fit_by_hand():
    good = np.linspace(0.4, 0.6, 101)  # middle 0.5, 84th percentile 0.568
    assert lowest_fit(good, 1.0) == pytest.approx(0.5 - 3 * 0.068)
    assert lowest_fit(good, 0.05) == 0.05
    assert lowest_fit(good[:49], 0.05) == -math.inf
    assert lowest_fit(-good, 0.05) == math.inf
    assert lowest_fit(np.linspace(-0.99, 1.0, 101), 0.05) == -math.inf
    assert lowest_fit(np.zeros(60), 0.0) == -math.inf


def test_the_run_says_that_a_file_is_mismatched_and_keeps_none_of_it(tmp_path):
    source, output, report, dropped = (tmp_path / f"{name}.json" for name in ("in", "out", "report", "dropped"))
    document = move_translations(made_up_document(), list(range(NUM_PARAGRAPHS)))
    source.write_text(json.dumps(document), "utf-8")
    files = ["--input_file", source, "--output_file", output, "--report_file", report, "--dropped_file", dropped]
    process = run_script("clean_squad.py", *files)
    assert process.returncode == 0, process.stderr
    figures = json.loads(report.read_text("utf-8"))
    wrong = figures["pairing"]["wrong"]
    assert figures["pairing"]["tested"] and wrong > 0.9 * NUM_PARAGRAPHS
    assert f"{wrong} of {NUM_PARAGRAPHS} paragraphs" in process.stdout and f"{wrong} of" in process.stderr
    assert "context_t belongs to context" in process.stderr
    assert figures["dropped"][WRONG_TRANSLATION] == wrong
    assert len(json.loads(output.read_text("utf-8"))["data"]) <= 1
    kept = run_script("clean_squad.py", *files, "--min_confidence", "0")
    assert "kept 60 of 60 answerable" in kept.stdout and "as --min_confidence 0 asks" in kept.stderr


def test_a_paragraph_that_has_a_fault_keeps_its_own_reason():
    document = made_up_document(3)
    document["data"][0]["paragraphs"][1]["context_t"] = None
    pairing = Pairing(np.zeros(3), np.array([True, True, False]), True)
    marked = clean_squad.without_wrong_translations(read_document(document), pairing)
    outcomes = clean_squad.find_answers(marked, None, 0.5)
    reasons = [dropped_question(outcome)["reason"] for paragraph in outcomes for outcome in paragraph]
    assert reasons == [WRONG_TRANSLATION, "the context is not translated", ""]


def test_files_that_were_looked_at_together_are_split_again():
    pairing = Pairing(np.arange(5.0), np.array([True, False, False, True, False]), True)
    first, second, third = pairing.split([2, 0, 3])
    assert (first.wrong.tolist(), second.wrong.tolist()) == ([True, False], [])
    assert third.fit.tolist() == [2, 3, 4] and third.tested
