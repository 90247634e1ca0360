"""The sample is consistent and complete, the tiny BERT covers it, and demo.sh says what it cannot do."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections import Counter

import pytest
from conftest import ROOT, SAMPLE, run_script

from squadlib.data import iter_questions, load_squad
from squadlib.sentences import split_sentences

MEMORY = ROOT / "sample" / "memory_en_nl.jsonl"


@pytest.fixture(scope="module")
def sample():
    return load_squad(str(SAMPLE))


@pytest.fixture(scope="module")
def memory():
    return [json.loads(line) for line in MEMORY.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tiny_bert_maker():
    spec = importlib.util.spec_from_file_location("make_tiny_bert", ROOT / "sample" / "make_tiny_bert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sample_has_ten_paragraphs_fifty_questions_a_third_unanswerable(sample):
    questions = [qa for _, qa in iter_questions(sample)]
    assert sum(len(article["paragraphs"]) for article in sample["data"]) == 10
    assert Counter(qa["is_impossible"] for qa in questions) == {False: 33, True: 17}
    assert sum("plausible_answers" in qa for qa in questions) >= 3


def test_every_offset_of_the_sample_names_its_answer(sample):
    for paragraph, qa in iter_questions(sample):
        assert bool(qa["answers"]) != qa["is_impossible"]
        for answer in qa["answers"] + qa.get("plausible_answers", []):
            start = answer["answer_start"]
            assert paragraph["context"][start : start + len(answer["text"])] == answer["text"], qa["id"]


def test_memory_holds_exactly_the_texts_that_are_translated(sample, memory):
    texts = set()
    for paragraph, qa in iter_questions(sample):
        context = paragraph["context"]
        texts.update(context[start:end] for start, end in split_sentences(context))
        texts.add(qa["question"])
        texts.update(answer["text"] for answer in qa["answers"])
    assert sorted(entry["source"] for entry in memory) == sorted(texts)
    assert all(entry["target"].strip() for entry in memory)


def test_literal_search_loses_some_answers_of_the_sample(tmp_path):
    translated, cleaned = tmp_path / "nl.json", tmp_path / "nl_clean.json"
    options = ("--backend", "memory", "--memory_file", MEMORY)
    done = run_script("translate_squad.py", "--input_file", SAMPLE, "--output_file", translated, *options)
    assert done.returncode == 0, done.stderr
    done = run_script("clean_squad.py", "--input_file", translated, "--output_file", cleaned, "--method", "literal")
    assert done.returncode == 0, done.stderr
    kept = Counter(qa["is_impossible"] for _, qa in iter_questions(load_squad(str(cleaned))))
    assert kept == {False: 22, True: 17}


def test_tiny_bert_vocabulary_spells_every_word_of_its_texts(tiny_bert_maker, sample):
    texts = tiny_bert_maker.squad_texts(SAMPLE)
    vocab = tiny_bert_maker.make_vocab(texts, max_words=10)
    assert len(vocab) == len(set(vocab)) and vocab.index("[PAD]") == 0
    assert {c for text in texts for c in text if not c.isspace()} <= set(vocab)
    assert "Waddenzee" in tiny_bert_maker.make_vocab(["de Waddenzee"], max_words=2)


def test_tiny_bert_is_the_same_every_time(tiny_bert_maker, tmp_path):
    for name in "ab":
        tiny_bert_maker.make_tiny_bert(tmp_path / name, ["een twee drie"], hidden_size=8)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def run_demo(folder, *args, **environment):
    """demo.sh alone in `folder`: it must stop before it installs anything."""
    shutil.copy(ROOT / "demo.sh", folder)
    return subprocess.run(
        ["bash", "demo.sh", *args],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_demo_without_a_usable_python_says_which_one_it_needs(tmp_path):
    done = run_demo(tmp_path, PYTHON="false")
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr and "PYTHON=" in done.stderr


def test_demo_with_an_unknown_word_names_the_known_ones(tmp_path):
    done = run_demo(tmp_path, "tset")
    assert done.returncode == 1
    assert "'tset' is not known; use: bash demo.sh [test|lint]" in done.stderr
    assert not (tmp_path / ".venv").exists()
