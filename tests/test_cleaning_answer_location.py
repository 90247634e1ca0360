"""squadlib/cleaning/answer_location.py and candidates.py: the answers of Dutch samples, and the parts of the search."""

from __future__ import annotations

import random
import unicodedata

from translated_town import TOWN, clean_in_memory, one_question, town_document

from squadlib.cleaning.answer_location import NO_PLACE, source_offset
from squadlib.cleaning.candidates import best_choices
from squadlib.cleaning.translated_document import SourceAnswer


def test_dutch_special_characters():
    document = town_document()
    cleaned = clean_in_memory(document)
    written = {qa["id"]: qa["answers"] for qa in cleaned.document["data"][0]["paragraphs"][0]["qas"]}
    for qa in document["data"][0]["paragraphs"][0]["qas"]:
        expected = {"text": qa["expected"]["text"], "answer_start": qa["expected"]["start"]}
        assert written[qa["id"]] == [expected], qa["answers"]


def test_the_occurrence_in_the_answers_sentence_wins():
    rows = [
        ("Jan met Piet.", "Jan ontmoette Piet.", {}),
        ("Then Piet left.", "Toen ging Piet weg.", {"Piet": ("Piet", "Piet")}),
    ]
    cleaned = clean_in_memory(town_document(rows))
    location = cleaned.answers[0].location
    assert (location.start, location.num_places, location.resolved_by) == (30, 2, "the sentence map")
    assert cleaned.answers[0].literal.start == 14


def test_two_occurrences_in_one_sentence_are_told_apart():
    rows = [
        *TOWN,
        ("Two men from Gent saw two women.", "Twee mannen uit Gent zagen twee vrouwen.", {"two": ("Twee", "twee")}),
    ]
    cleaned = clean_in_memory(town_document(rows))
    location = cleaned.answers[-1].location
    assert location.text == "twee" and location.num_places == 2


def test_answers_never_begin_inside_a_word():
    document = one_question(context_t="De sluiswachter heeft een boot. Een rooddeurtje leidt erheen.", sentences=None)
    cleaned = clean_in_memory(document)
    assert cleaned.answers[0].location.text not in ("rood", "Rood")


def test_equal_spans_are_merged():
    document = one_question()
    qa = document["data"][0]["paragraphs"][0]["qas"][0]
    qa["answers"] = [qa["answers"][0], {**qa["answers"][0], "iso_t": "rode"}]
    cleaned = clean_in_memory(document)
    assert cleaned.document["data"][0]["paragraphs"][0]["qas"][0]["answers"] == [{"text": "rode", "answer_start": 36}]


def test_unspaced_script():
    rows = [
        ("The mill was built in 1742 in Gouda.", "風車は1742年にゴーダで建てられた。", {"1742": ("1742年", "1742")}),
        ("The baker lives in Gouda.", "パン屋はゴーダに住んでいる。", {"Gouda": ("ゴーダ", "ゴーダ")}),
    ]
    cleaned = clean_in_memory(town_document(rows))
    assert [outcome.location.text for outcome in cleaned.answers] == ["1742", "ゴーダ"]


def test_thai_answers_keep_their_vowels_and_marks():
    rows = [
        ("The mill was built in 1742.", "โรงสีสร้างเมื่อปี 1742", {"mill": ("โรงสี", "โรงสี")}),
        ("The town is small.", "เมืองนี้เล็ก", {"town": ("เมือง", "เมือง"), "small": ("เล็ก", "เล็ก")}),
        ("The water is here.", "น้ำอยู่ที่นี่", {"water": ("น้ำ", "น้ำ")}),
    ]
    document = town_document(rows)
    cleaned = clean_in_memory(document)
    expected = [qa["expected"]["text"] for qa in document["data"][0]["paragraphs"][0]["qas"]]
    assert [outcome.location.text for outcome in cleaned.answers] == expected
    for seed in range(20):  # whatever is found, no user-perceived character is cut
        rng = random.Random(seed)
        qas = document["data"][0]["paragraphs"][0]["qas"]
        for qa in qas:
            qa["answers"][0]["iso_t"] = "".join(rng.sample("เแโกขคงนมสรล็ีิ้่าำะ", 4))
        for outcome in clean_in_memory(document).answers:
            text, context = outcome.location.text, document["data"][0]["paragraphs"][0]["context_t"]
            after = context[outcome.location.start + len(text) :][:1]
            before = context[: outcome.location.start][-1:]
            assert unicodedata.category(text[0]) != "Mn" and text[0] not in "าำะ" and before not in [*"เแโใไ"]
            assert text[-1] not in "เแโใไ" and (not after or unicodedata.category(after) != "Mn")


def test_an_answer_on_a_page_without_a_full_stop_is_found():
    rng = random.Random(4)
    english, dutch = ["red", "green", "white", "old", "new"], ["rode", "groene", "witte", "oude", "nieuwe"]
    things, dingen = ["door", "boat", "house", "bridge"], ["deur", "boot", "woning", "brug"]
    pairs = [(rng.randrange(5), rng.randrange(4)) for _ in range(600)]
    source = " and ".join(f"{english[a]} {things[x]} {n}" for n, (a, x) in enumerate(pairs))
    target = " en ".join(f"{dutch[a]} {dingen[x]} {n}" for n, (a, x) in enumerate(pairs))
    rows = [(source, target, {})]
    document = town_document(rows)
    answers = []
    for n in (3, 250, 599):
        a, x = pairs[n]
        answers.append(f"{dutch[a]} {dingen[x]} {n}")
        text = f"{english[a]} {things[x]} {n}"
        answer = {"text": text, "answer_start": source.index(f" {text}") + 1, "iso_t": None}
        qa = {"id": f"a{n}", "question": "Which?", "question_t": "Welke?", "is_impossible": False, "answers": [answer]}
        document["data"][0]["paragraphs"][0]["qas"].append(qa)
    assert [outcome.location.text for outcome in clean_in_memory(document).answers] == answers


def test_alignment_alone_finds_answers_without_isolated_translation():
    rng = random.Random(1)
    english, dutch = ["red", "green", "white", "old", "new"], ["rode", "groene", "witte", "oude", "nieuwe"]
    things, dingen = ["door", "boat", "house", "bridge"], ["deur", "boot", "woning", "brug"]
    rows = []
    for _ in range(150):
        (a, b), (x, y) = rng.sample(range(5), 2), rng.sample(range(4), 2)
        source = f"The {english[a]} {things[x]} and the {english[b]} {things[y]} were sold."
        target = f"De {dutch[a]} {dingen[x]} en de {dutch[b]} {dingen[y]} werden verkocht."
        rows.append((source, target, {f"{english[b]} {things[y]}": (None, f"{dutch[b]} {dingen[y]}")}))
    document = town_document(rows)
    cleaned = clean_in_memory(document)
    expected = [qa["expected"]["text"] for qa in document["data"][0]["paragraphs"][0]["qas"]]
    assert [outcome.location.text for outcome in cleaned.answers] == expected


def test_source_offset_is_mended_to_the_nearest_place():
    source = "red and red and red"
    assert source_offset(source, SourceAnswer("red", 8, None)) == 8
    assert source_offset(source, SourceAnswer("red", 10, None)) == 8
    assert source_offset(source, SourceAnswer("red", 999, None)) == 16
    assert source_offset(source, SourceAnswer("red", -5, None)) == 0
    assert source_offset(source, SourceAnswer("blue", 0, None)) is None


def test_an_empty_target_sentence_gives_no_match_inside_a_word():
    for blank in ([32, 32], [31, 32]):
        document = one_question(iso_t="rood", sentences=[[0, 27, 0, 31], [28, 51, *blank]])
        document["data"][0]["paragraphs"][0]["context_t"] = (
            "De sluiswachter heeft een boot. Een rooddeurtje leidt erheen."
        )
        location = clean_in_memory(document).answers[0].location
        assert (location.start, location.strategy, location.confidence) == (None, NO_PLACE, 0.0)


def test_a_symbol_is_not_found_inside_a_word():
    document = one_question(text="→", answer_start=2, iso_t="pijl")
    paragraph = document["data"][0]["paragraphs"][0]
    paragraph["context"] = "A → and a door."
    paragraph["context_t"] = "Een pijltje en een pijl."
    paragraph["sentences"] = [[0, 15, 0, 24]]
    location = clean_in_memory(document).answers[0].location
    assert (location.start, location.text, location.num_places) == (19, "pijl", 1)


def test_a_decade_is_not_answered_with_the_bare_year():
    rows = [
        (f"The bridge over the {river} was built in the 1{n}0s.", f"El puente del {rio} es de la década de 1{n}0.", {})
        for n, (river, rio) in enumerate(
            [("Tagus", "Tajo"), ("Duero", "Duero"), ("Ebro", "Ebro"), ("Segura", "Segura"), ("Turia", "Turia")] * 16, 10
        )
    ]
    rows.append(
        (
            "It was sold in the 1990s.",
            "Se vendió en la década de 1990.",
            {"1990s": ("Década de 1990", "década de 1990")},
        )
    )
    location = clean_in_memory(town_document(rows)).answers[0].location
    assert location.text == "década de 1990"


def shuffled_questions(document, rng):
    """The same document with paragraphs, questions and answers in another order."""
    paragraphs = document["data"][0]["paragraphs"]
    rng.shuffle(paragraphs)
    for paragraph in paragraphs:
        rng.shuffle(paragraph["qas"])
        for qa in paragraph["qas"]:
            rng.shuffle(qa["answers"])
    return document


def town_in_paragraphs():
    """The town's sentences in paragraphs of three, each with its questions."""
    document, number = {"version": "v2.0", "data": [{"title": "Town", "paragraphs": []}]}, 0
    for first in range(0, len(TOWN), 3):
        paragraph = town_document(TOWN[first : first + 3])["data"][0]["paragraphs"][0]
        for qa in paragraph["qas"]:
            qa["id"], number = f"q{number}", number + 1
            qa["answers"].append({**qa["answers"][0], "iso_t": None})
        document["data"][0]["paragraphs"].append(paragraph)
    return document


def test_the_order_of_paragraphs_questions_and_answers_changes_nothing(monkeypatch):
    """Not even the last bit of a confidence: words are numbered, and sentences aligned, in an order of their own."""
    monkeypatch.setattr("clean_squad.CHUNK_CHARS", 300)  # several chunks
    scores = []

    def with_scores(searches):
        choices = list(best_choices(searches))
        scores.extend(choice.score for choice in choices)
        return choices

    monkeypatch.setattr("squadlib.cleaning.answer_location.best_choices", with_scores)

    def locations(document):
        scores.clear()
        questions = clean_in_memory(document).questions
        found = {question.question.qid: {a.answer: a.location for a in question.answers} for question in questions}
        return found, sorted(scores)

    expected = locations(town_in_paragraphs())
    assert len(expected[0]) > 10 and len(expected[1]) > 10
    for seed in range(5):
        assert locations(shuffled_questions(town_in_paragraphs(), random.Random(seed))) == expected
