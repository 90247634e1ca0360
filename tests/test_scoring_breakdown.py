"""Questions in groups: what decides the group, what is left out, and the figures of a group."""

from __future__ import annotations

from unittest import mock

import pytest

from squadlib.scoring.breakdown import DEFAULT, GROUPINGS, add_breakdown, figures_of, plots
from squadlib.scoring.questions import article_fault, article_names, describe


def read(*records, article=None, paragraph=None):
    """Questions of one paragraph as evaluate_v2.read_questions gives them."""
    article, paragraph = article or {"title": "T"}, paragraph or {"context": "c"}
    return [("place", record, article, paragraph) for record in records]


def groups_by(grouping, questions, answer_words=None):
    described = describe(questions, answer_words or [1] * len(questions))
    return {label: len(positions) for label, positions in GROUPINGS[grouping](described).items()}


def asked(*texts):
    return read(*({"question": text} for text in texts))


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        (("What is it?", "In WHICH city?", "Whose is it?", "Name it.", "The who?"), "who:2 what:1 which:1 other:1"),
        (("Welchem Land?", "Welche Stadt?", "Wie viele?", "Nenne es!"), "welche:2 wie:1 other:1"),
        (("Wat is dat?", "Hoeveel?", "Waarin?", "In welk land?"), "hoeveel:1 waar:1 wat:1 welke:1"),
        (("¿Qué es?", "¿En cuántos países?", "¿Quiénes son?"), "cuánto:1 quién:1 qué:1"),
        (("Qu'est-ce ?", "Dans quelle ville ?", "Où ?"), "où:1 que:1 quel:1"),
    ],
)
def test_question_words_of_known_languages(texts, groups):
    found = groups_by("question_word", asked(*texts))
    assert " ".join(f"{name}:{count}" for name, count in found.items()) == groups


def test_question_words_of_another_language_are_those_that_contexts_hardly_have():
    texts = ["Ev nerede?", "Okul nerede?", "Ev kaç yaşında?", "Okul kaç katlı?", "Ev nasıl?"]
    questions = read(*({"question": text} for text in texts), paragraph={"context": "ev okul ve bir ağaç " * 30})
    # "yaşında", "katlı" and "nasıl" stand once, which tells nothing; "ev" and "okul" stand in the context too
    assert groups_by("question_word", questions) == {"kaç": 2, "nerede": 2, "other": 1}


def test_no_question_words_where_spaces_do_not_part_words():
    questions = asked("北京在哪里？", "谁写的？", "何时？", "谁写的？")
    assert groups_by("question_word", questions) == {}
    scored = {"one": ({}, {"exact": [100.0] * 4, "f1": [100.0] * 4})}
    assert add_breakdown(scored, questions, [1] * 4, ["question_word"])[0].startswith("No breakdown by question word:")


def test_answers_by_words_and_unanswerable_questions_apart():
    lengths = [None, 0, 1, 2, 3, 4, 5, 9, 10, 99]
    questions = asked(*"abcdefghij")
    found = {"1 word": 2, "2 words": 1, "3-4 words": 2, "5-9 words": 2, "10 or more words": 2}
    assert groups_by("answer_length", questions, lengths) == found
    assert groups_by("answerable", questions, lengths) == {"NoAns": 1, "HasAns": 9}


def test_contexts_in_quarters():
    questions = [(*asked("?")[0][:3], {"context": "x" * length}) for length in (10, 20, 30, 40, 50, 60, 70, 80)]
    quarters = {"10-20 characters": 2, "21-40 characters": 2, "41-60 characters": 2, "61-80 characters": 2}
    assert groups_by("context_length", questions) == quarters
    assert groups_by("context_length", questions[:1] * 5) == {"10-10 characters": 5}
    assert groups_by("context_length", read({"question": "?"}, paragraph={"other": 1})) == {}


def test_confidence_is_that_of_the_least_certain_answer_or_of_the_question():
    answers = [{"text": "a", "confidence": 0.95}, {"text": "b", "confidence": 0.41}]
    records = [{"answers": answers}, {"answers": [], "confidence": 1}, {"answers": {"text": ["a"]}}, {"answers": []}]
    assert groups_by("confidence", read(*records)) == {"0.4-0.5": 1, "0.9-1.0": 1}


def test_articles_have_their_title_or_number_and_rows_their_title():
    untitled = read({"id": 1}, {"id": 2}, article={"paragraphs": []}) + read({"id": 3}, article={"paragraphs": [1]})
    assert article_names(read({"id": 0}) + untitled) == ["T", "article 2", "article 2", "article 3"]
    rows = [("line 1", row, row, row) for row in ({"title": "A", "context": "c"}, {"context": "c"})]
    assert article_names(rows) == ["A", ""]
    assert 'question 2 has no "title"' in article_fault(["A", "", "B"])
    assert "one article, A" in article_fault(["A", "A"]) and article_fault(["A", "B"]) == ""


def test_figures_are_means_of_the_group():
    columns = {"exact": [100.0, 0.0, 100.0, 0.0], "f1": [100.0, 50.0, 100.0, 0.0]}
    figures = figures_of({"x": [0, 1], "y": [3]}, columns)
    assert figures == {"x": {"total": 2, "exact": 50.0, "f1": 75.0}, "y": {"total": 1, "exact": 0.0, "f1": 0.0}}


def test_groups_of_each_kind_add_up_to_the_questions_they_divide():
    questions = asked("What?", "Who?", "Name it.")
    questions += read({"question": "How?"}, article={"title": "a|b"}, paragraph={"context": "x" * 20})
    columns = {"exact": [100.0, 0.0, 0.0, 100.0], "f1": [100.0, 50.0, 0.0, 100.0]}
    scored = {"one": ({}, columns), "two": ({}, columns)}
    tables = add_breakdown(scored, questions, [None, 1, 2, 3], ())
    breakdown = scored["two"][0]["breakdown"]
    assert list(breakdown) == [name for name in DEFAULT if name != "confidence"] and len(tables) == 4
    for grouping, groups in breakdown.items():
        assert sum(figures["total"] for figures in groups.values()) == (3 if grouping == "answer_length" else 4)
    assert "| question word | questions | one EM/F1 | two EM/F1 |" in tables[1]
    asked_for = add_breakdown(scored, questions, [None, 1, 2, 3], ["article", "confidence"])
    assert "| a/b | 1 | 100.00/100.00 | 100.00/100.00 |" in asked_for[0]
    assert asked_for[1].startswith("No breakdown by confidence: no answer has")


def test_plots_have_a_bar_for_each_group_and_metric():
    drawn = mock.MagicMock()
    drawn.subplots.return_value = (None, drawn.axes)
    figures = {"who": {"total": 1200, "exact": 50.0, "f1": 75.0}, "other": {"total": 1, "exact": 0.0, "f1": 0.0}}
    assert list(plots(drawn, {"breakdown": {"question_word": figures}})) == ["question_word"]
    bars = [(call.kwargs["label"], call.args[1]) for call in drawn.axes.barh.call_args_list]
    assert bars == [("EM", [50.0, 0.0]), ("F1", [75.0, 0.0])]
    drawn.axes.set_yticks.assert_called_once_with(range(2), ["who (1,200)", "other (1)"])


def test_a_single_group_is_shown_only_when_asked_for():
    scored = {"one": ({}, {"exact": [100.0] * 2, "f1": [100.0] * 2})}
    assert add_breakdown(scored, asked("What?", "What?"), [1, 1], ()) == []
    assert scored["one"][0] == {"breakdown": {}}
    assert len(add_breakdown(scored, asked("What?", "What?"), [1, 1], ["answerable"])) == 1
