"""What other programs import from utils_squad."""

from __future__ import annotations

import shutil

import utils_squad

CONTEXT = "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland."
QUESTION = "Wat is de hoofdstad van Nederland?"
SNIPPET = """
qa_pipeline = pipeline(
    "question-answering",
    model="henryk/bert-base-multilingual-cased-finetuned-dutch-squad2",
    tokenizer="henryk/bert-base-multilingual-cased-finetuned-dutch-squad2"
)

answer = qa_pipeline({
    'context': "Amsterdam is de hoofdstad en de dichtstbevolkte stad van Nederland.",
    'question': "Wat is de hoofdstad van Nederland?"})
"""


def test_the_published_snippet_runs(sharp_folder, tmp_path, monkeypatch):
    shutil.copytree(sharp_folder, tmp_path / "henryk/bert-base-multilingual-cased-finetuned-dutch-squad2")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("from utils_squad import pipeline\n" + SNIPPET, names)
    answer = names["answer"]
    assert list(answer) == ["score", "start", "end", "answer"]
    assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]] != ""
    assert 0 < answer["score"] <= 1


def test_every_name_that_is_handed_on_is_there():
    assert not [name for name in utils_squad.__all__ if not hasattr(utils_squad, name)]
