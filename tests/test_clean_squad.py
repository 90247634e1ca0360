"""clean_squad.py: tokens, sentence maps, word alignment, the answers of Dutch samples, bad input, gold spans."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from conftest import run_script

import clean_squad
from clean_squad import (
    Candidates,
    Corpus,
    Locator,
    WordAligner,
    align_sentences,
    clean,
    cross,
    fold_text,
    is_echo,
    occurrences,
    overlap_with_alignment,
    read_corpus,
    read_sentence_map,
    read_translation,
    source_offset,
    split_chunks,
    tokenize,
    with_edges,
)

# One small town in two languages, written for these tests: enough sentences to learn from, with the forms that
# translators produce. Each entry: English, Dutch, {answer: (isolated translation, expected text)}.
TOWN = [
    ("The town has 12,500 inhabitants.", "De stad telt 12.500 inwoners.", {"12,500": ("12,500", "12.500")}),
    (
        "About 3.5 percent of them are bakers.",
        "Ongeveer 3,5 procent van hen is bakker.",
        {"3.5 percent": ("3.5 procent", "3,5 procent")},
    ),
    (
        "The bridge cost $2 million in 1931.",
        "De brug kostte 2 miljoen $ in 1931.",
        {"$2 million": ("$ 2 miljoen", "2 miljoen $")},
    ),
    ("The city council meets in May.", "De gemeenteraad vergadert in mei.", {}),
    ("Nobody saw the city council again.", "Niemand zag de gemeenteraad terug.", {}),
    (
        "The city council bought the old windmill.",
        "De gemeenteraad kocht de oude windmolen.",
        {
            "city council": ("De stadsraad", "gemeenteraad"),
            "the old windmill": ("De oude windmolen", "de oude windmolen"),
        },
    ),
    (
        'The baker called it "the golden loaf" at once.',
        "De bakker noemde het meteen „het gouden brood”.",
        {'"the golden loaf"': ('"Het gouden brood"', "„het gouden brood”")},
    ),
    (
        "The lock keeper lives in The Hague now.",
        "De sluiswachter woont nu in ’s-Gravenhage.",
        {"The Hague": ("'s-Gravenhage", "’s-Gravenhage")},
    ),
    (
        "The French-Dutch treaty was signed on 4 May 1795.",
        "Het Frans-Nederlandse verdrag werd op 4\u00a0mei\u00a01795 getekend.",
        {
            "4 May 1795": ("4 mei 1795", "4\u00a0mei\u00a01795"),
            "French-Dutch treaty": ("Frans-Nederlands verdrag", "Frans-Nederlandse verdrag"),
        },
    ),
    (
        "Population growth stopped in the 1990s.",
        "De bevolkingsgroei stopte in de jaren 90.",
        {"Population growth": ("Bevolkings groei", "bevolkingsgroei")},
    ),
    (
        "The café of the Coppens family burned down.",
        "Het cafe van de familie Coppens brandde af.",
        {"The café": ("Het café", "Het cafe"), "Coppens": ("Coppens", "Coppens")},
    ),
    (
        "The old windmill grinds flour for the baker.",
        "De oude windmolen maalt meel voor de bakker.",
        {"flour": ("Bloem", "meel"), "the baker": ("De bakker", "de bakker")},
    ),
    (
        "About 40,000 visitors came in May.",
        "In mei kwamen ongeveer 40 000 bezoekers.",
        {"40,000 visitors": ("40.000 bezoekers", "40 000 bezoekers")},
    ),
    (
        "The mayor (a former baker) opened the bridge.",
        "De burgemeester (een voormalige bakker) opende de brug.",
        {"(a former baker)": ("(een voormalig bakker)", "(een voormalige bakker)")},
    ),
]


def town_document(rows=TOWN):
    """The town as one translated paragraph; answers in the order of TOWN, question ids a0, a1, …"""
    source, target, sentences, qas = "", "", [], []
    for english, dutch, answers in rows:
        source, target = source + " " * bool(source), target + " " * bool(target)
        start, target_start = len(source), len(target)
        source, target = source + english, target + dutch
        sentences.append([start, len(source), target_start, len(target)])
        for text, (isolated, expected) in answers.items():
            answer = {"text": text, "answer_start": start + english.index(text), "iso_t": isolated}
            question = {"question": f"Question {len(qas)}?", "question_t": f"Vraag {len(qas)}?"}
            gold = {"text": expected, "start": target_start + dutch.index(expected)}
            qas.append(
                {"id": f"a{len(qas)}", **question, "is_impossible": False, "answers": [answer], "expected": gold}
            )
    paragraph = {"context": source, "context_t": target, "sentences": sentences, "qas": qas}
    return {"version": "v2.0", "data": [{"title": "Town", "paragraphs": [paragraph]}]}


def one_question(**changes):
    """A document of one question about the lock keeper; `changes` replace values by key, wherever the key is."""
    answer = {"text": "red", "answer_start": 29, "iso_t": "Rood"}
    qa = {"id": "q1", "question": "Which?", "question_t": "Welke?", "is_impossible": False, "answers": [answer]}
    paragraph = {
        "context": "The lock keeper has a boat. A red door leads to it.",
        "context_t": "De sluiswachter heeft een boot. Een rode deur leidt erheen.",
        "sentences": [[0, 27, 0, 31], [28, 51, 32, 59]],
        "qas": [qa],
    }
    answer["answer_start"] = paragraph["context"].index("red")
    for key, value in changes.items():
        record = next(record for record in (answer, qa, paragraph) if key in record)
        record[key] = value
    return {"version": "v2.0", "data": [{"title": "Lock", "paragraphs": [paragraph]}]}


def clean_in_memory(document, min_confidence=0.0):
    """(Result, Locator) of a document, by the default method."""
    faults = clean_squad.Counter()
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    translations = [read_translation(paragraph, faults) for paragraph in paragraphs]
    locator = Locator(WordAligner(read_corpus(document, translations)), min_confidence)
    result = clean(document, translations, locator)
    result.faults.update(faults)
    return result, locator


@pytest.fixture
def clean_file(tmp_path):
    """Run the script on a document; returns (CompletedProcess, output, report, dropped), None for what is absent."""

    def run(document, *flags):
        source = tmp_path / "in.json"
        text = document if isinstance(document, str) else json.dumps(document)
        source.write_text(text, encoding="utf-8")
        paths = [tmp_path / name for name in ("out.json", "report.json", "dropped.json")]
        files = ["--output_file", paths[0], "--report_file", paths[1], "--dropped_file", paths[2]]
        process = run_script("clean_squad.py", "--input_file", source, *files, *flags)
        return process, *(json.loads(path.read_text("utf-8")) if path.exists() else None for path in paths)

    return run


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("De VN-resolutie, d.w.z. een wet.", ["De", "VN", "resolutie", "d.w.z.", "een", "wet"]),
        ("1.234,50 of 1 234 567 of 12\u00a0500", ["1.234,50", "of", "1 234 567", "of", "12\u00a0500"]),
        ("de 19e eeuw, jaren 1990s", ["de", "19e", "eeuw", "jaren", "1990s"]),
        ("’s-Hertogenbosch in 't zuiden, foto's", ["’s", "Hertogenbosch", "in", "'t", "zuiden", "foto", "s"]),
        ("l'Espagne dell’acqua", ["l", "Espagne", "dell", "acqua"]),
        ("€ 5, $20, 5 %, 3°", ["€", "5", "$", "20", "5", "%", "3", "°"]),
        ("co\u00adope\u200bra\u0301tie", ["co\u00adope\u200bra\u0301tie"]),
        ("東京は2020年", ["東", "京", "は", "2020", "年"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("", []),
    ],
)
def test_tokens_are_whole(text, tokens):
    assert [text[start:end] for start, end in tokenize(text)] == tokens


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("België", "BELGIE"),
        ("1,234.50", "1.234,50"),
        ("40\u202f000", "40,000"),
        ("co\u00adoperatie", "coöperatie"),
        ("Straße", "strasse"),
        ("’s-Gravenhage", "'S-GRAVENHAGE"),
        ("ﬁets", "fiets"),
    ],
)
def test_spellings_that_compare_equal(left, right):
    assert fold_text(left) == fold_text(right)


@pytest.mark.parametrize(
    ("target", "span", "answer", "expected"),
    [
        ("zij zei „het brood”.", (9, 18), '"the loaf"', "„het brood”"),
        ("zij zei „het brood”.", (9, 18), "the loaf", "het brood"),
        ("de Wet (1795) hier", (8, 12), "Law (1795)", "1795)"),
        ("woont in Gent.", (9, 13), "Ghent.", "Gent."),
        ("Gent", (0, 4), '"Ghent".', "Gent"),
    ],
)
def test_edges_follow_the_source_answer(target, span, answer, expected):
    start, end = with_edges(target, span, answer)
    assert target[start:end] == expected


def test_echo_needs_four_words():
    assert is_echo("The red door is open.", "the  red door is open.")
    assert not is_echo("Willem van Oranje", "Willem van Oranje")
    assert not is_echo("The red door is open.", "De rode deur is open.")
    assert not is_echo("1 2 3 4 5", "1 2 3 4 5")


# ---------------------------------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "0-5",
        [[0, 5]],
        [[0, 5, 0, 99]],
        [[0, 99, 0, 5]],
        [[5, 0, 0, 5]],
        [[0, 5, 5, 0]],
        [[0.0, 5, 0, 5]],
        [[2, 5, 0, 2], [0, 2, 2, 5]],
        [{"s": 0}],
    ],
)
def test_a_map_that_does_not_fit_is_refused(raw):
    assert read_sentence_map(raw, "a b c d e", "v w x y z") is None


def test_sentences_are_paired_without_a_map():
    source = "The mill stands in Gouda. It was built in 1742 by Jan Smit. Nobody knows why. It burned down in 1903."
    target = "De molen staat in Gouda. Jan Smit bouwde hem in 1742, en niemand weet waarom. In 1903 brandde hij af."
    pairs = [
        (source[row.start : row.end], target[row.target_start : row.target_end])
        for row in align_sentences(source, target)
    ]
    assert pairs[0] == ("The mill stands in Gouda.", "De molen staat in Gouda.")
    assert "1742" in pairs[1][0] and "Nobody" in pairs[1][0] and pairs[1][1].startswith("Jan Smit")
    assert pairs[-1] == ("It burned down in 1903.", "In 1903 brandde hij af.")


@pytest.mark.parametrize(
    ("source", "target"),
    [("A.", "Dit is een zin. " * 300), ("This is one. " * 300, "Ja."), ("word " * 9000, "woord " * 9000), ("", "Ja.")],
)
def test_lopsided_texts_still_get_a_map(source, target):
    sentences = align_sentences(source, target)
    assert all(0 <= row.target_start < row.target_end <= len(target) for row in sentences)


# ---------------------------------------------------------------------------------------------------------------------
# Word alignment
# ---------------------------------------------------------------------------------------------------------------------


def test_word_pairs_of_two_sentences():
    pairs = cross((np.array([1, 2, 3]), np.array([7, 8, 9])), (np.array([2, 1]), np.array([1, 2])))
    assert [side.tolist() for side in pairs.words] == [[1, 2, 3, 3], [7, 7, 8, 9]]
    assert [side.tolist() for side in pairs.tokens] == [[0, 1, 2, 2], [0, 0, 1, 2]]
    assert np.allclose(pairs.diagonal, np.exp(-clean_squad.DIAGONAL * 0.25))


def test_chunks_cover_everything_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 250, 500), rng.integers(1, 250, 500)
    chunks = list(split_chunks(lengths))
    assert [chunk[0].start for chunk in chunks] == [0, *(chunk[0].stop for chunk in chunks[:-1])]
    assert (
        chunks[-1][0].stop == 500 and chunks[-1][1].stop == lengths[0].sum() and chunks[-1][2].stop == sum(lengths[1])
    )
    assert max((lengths[0][c[0]] * lengths[1][c[0]]).sum() for c in chunks) <= clean_squad.CHUNK_PAIRS


def made_up_corpus(num_pairs=400, seed=5):
    """Pairs in two invented languages with nothing in common, the second one in reverse order."""
    rng = random.Random(seed)
    corpus = Corpus()
    for _ in range(num_pairs):
        numbers = rng.sample(range(40), 6)
        words = [f"{chr(97 + number % 26)}x{chr(97 + number // 26)}" for number in numbers]
        corpus.add(" ".join(words), " ".join(word[::-1].upper() + "q" for word in reversed(words)))
    return corpus


def test_translations_are_learned_from_pairs_alone():
    corpus = made_up_corpus()
    aligner = WordAligner(corpus)
    source, target = corpus.number("axa bxa cxa", [(0, 3), (4, 7), (8, 11)]), None
    target = corpus.number("AXCq AXBq AXAq", [(0, 4), (5, 9), (10, 14)])
    posteriors = aligner.posteriors(source, target)
    assert posteriors.argmax(axis=1).tolist() == [2, 1, 0]
    assert posteriors.max(axis=1).min() > 0.8
    assert (posteriors.sum(axis=1) <= 2).all() and (posteriors >= 0).all()


def test_alignment_does_not_depend_on_the_chunks(monkeypatch):
    one = WordAligner(made_up_corpus())
    monkeypatch.setattr(clean_squad, "CHUNK_PAIRS", 100)
    other = WordAligner(made_up_corpus())
    assert np.allclose(one.counts, other.counts, atol=1e-3) and one.counts.max() > 10


def test_aligner_without_any_pair_goes_by_spelling():
    corpus = Corpus()
    source = corpus.number("the cathedral 1742", tokenize("the cathedral 1742"))
    target = corpus.number("in 1742 kathedraal cathedrale", tokenize("in 1742 kathedraal cathedrale"))
    posteriors = WordAligner(corpus).posteriors(source, target)
    assert posteriors[1].argmax() == 2 and posteriors[3].argmax() == 1


# ---------------------------------------------------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------------------------------------------------


def test_dutch_special_characters():
    document = town_document()
    result, _ = clean_in_memory(document)
    written = {qa["id"]: qa["answers"] for qa in result.document["data"][0]["paragraphs"][0]["qas"]}
    for qa in document["data"][0]["paragraphs"][0]["qas"]:
        expected = {"text": qa["expected"]["text"], "answer_start": qa["expected"]["start"]}
        assert written[qa["id"]] == [expected], qa["answers"]


def test_the_occurrence_in_the_answers_sentence_wins():
    rows = [
        ("Jan met Piet.", "Jan ontmoette Piet.", {}),
        ("Then Piet left.", "Toen ging Piet weg.", {"Piet": ("Piet", "Piet")}),
    ]
    result, _ = clean_in_memory(town_document(rows))
    location = result.outcomes[0].location
    assert (location.start, location.num_places, location.resolved_by) == (30, 2, "the sentence map")
    assert result.outcomes[0].literal.start == 14


def test_two_occurrences_in_one_sentence_are_told_apart():
    rows = [
        *TOWN,
        ("Two men from Gent saw two women.", "Twee mannen uit Gent zagen twee vrouwen.", {"two": ("Twee", "twee")}),
    ]
    result, _ = clean_in_memory(town_document(rows))
    location = result.outcomes[-1].location
    assert location.text == "twee" and location.num_places == 2


def test_answers_never_begin_inside_a_word():
    document = one_question(context_t="De sluiswachter heeft een boot. Een rooddeurtje leidt erheen.", sentences=None)
    result, _ = clean_in_memory(document)
    assert result.outcomes[0].location.text not in ("rood", "Rood")


def test_equal_spans_are_merged():
    document = one_question()
    qa = document["data"][0]["paragraphs"][0]["qas"][0]
    qa["answers"] = [qa["answers"][0], {**qa["answers"][0], "iso_t": "rode"}]
    result, _ = clean_in_memory(document)
    assert result.document["data"][0]["paragraphs"][0]["qas"][0]["answers"] == [{"text": "rode", "answer_start": 36}]


def test_unspaced_script():
    rows = [
        ("The mill was built in 1742 in Gouda.", "風車は1742年にゴーダで建てられた。", {"1742": ("1742年", "1742")}),
        ("The baker lives in Gouda.", "パン屋はゴーダに住んでいる。", {"Gouda": ("ゴーダ", "ゴーダ")}),
    ]
    result, _ = clean_in_memory(town_document(rows))
    assert [outcome.location.text for outcome in result.outcomes] == ["1742", "ゴーダ"]


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
    result, _ = clean_in_memory(document)
    expected = [qa["expected"]["text"] for qa in document["data"][0]["paragraphs"][0]["qas"]]
    assert [outcome.location.text for outcome in result.outcomes] == expected


def test_source_offset_is_mended_to_the_nearest_place():
    source = "red and red and red"
    assert source_offset(source, {"text": "red", "answer_start": 8}) == 8
    assert source_offset(source, {"text": "red", "answer_start": 10}) == 8
    assert source_offset(source, {"text": "red", "answer_start": 999}) == 16
    assert source_offset(source, {"text": "red", "answer_start": -5}) == 0
    assert source_offset(source, {"text": "blue", "answer_start": 0}) is None


def test_small_parts():
    assert occurrences(["a", "b", "a", "b"], ["a", "b"]) == [0, 2]
    assert occurrences(["a"], []) == []
    first, last = np.array([0, 1, 1]), np.array([1, 2, 3])
    assert np.allclose(overlap_with_alignment(first, last, np.array([0.0, 1.0, 0.0])), [0, 1, 2 / 3])
    ties = Candidates(first, last, *(np.ones(3) for _ in range(3)))
    assert ties.best() == 2  # the longest


def test_a_permutation_of_the_questions_changes_no_answer():
    document, shuffled = town_document(), town_document()
    random.Random(0).shuffle(shuffled["data"][0]["paragraphs"][0]["qas"])
    spans = [
        {outcome.qid: (outcome.location.start, outcome.location.text) for outcome in clean_in_memory(d)[0].outcomes}
        for d in (document, shuffled)
    ]
    assert spans[0] == spans[1]


# ---------------------------------------------------------------------------------------------------------------------
# The script: output, reports, bad input
# ---------------------------------------------------------------------------------------------------------------------


def check_plain_squad(document):
    """Assert that the document is plain SQuAD with true offsets and unique ids; returns the ids."""
    ids = []
    assert set(document) - {"translation"} == {"version", "data"}
    for article in document["data"]:
        assert set(article) == {"title", "paragraphs"}
        for paragraph in article["paragraphs"]:
            assert set(paragraph) == {"context", "qas"}
            for qa in paragraph["qas"]:
                ids.append(qa["id"])
                assert set(qa) == {"id", "question", "answers", "is_impossible"}
                assert bool(qa["answers"]) != qa["is_impossible"]
                for answer in qa["answers"]:
                    assert set(answer) == {"text", "answer_start"}
                    start = answer["answer_start"]
                    assert (
                        answer["text"] and paragraph["context"][start : start + len(answer["text"])] == answer["text"]
                    )
    assert len(set(ids)) == len(ids)
    return ids


def test_the_script_writes_plain_squad_and_a_report(clean_file):
    process, output, report, dropped = clean_file(town_document())
    assert process.returncode == 0, process.stderr
    assert len(check_plain_squad(output)) == 16 == report["datasets"][1]["questions"]
    assert dropped == [] and report["dropped"] == {}
    assert "Dataset" in process.stdout and "# Q&A" in process.stdout
    assert "few to learn from" in process.stderr and "wrote" in process.stderr.splitlines()[-1]
    assert sum(report["confidence"].values()) == 16 and len(report["least_certain"]) == 16
    assert sum(report["strategies"].values()) == 16


def test_two_runs_are_equal_to_the_byte(clean_file, tmp_path):
    names = ("out.json", "report.json", "dropped.json")
    clean_file(town_document())
    first = [(tmp_path / name).read_bytes() for name in names]
    clean_file(town_document())
    assert first == [(tmp_path / name).read_bytes() for name in names]


def test_literal_is_the_published_rule(clean_file):
    _, output, report, dropped = clean_file(town_document(), "--method", "literal")
    document = town_document()
    context = document["data"][0]["paragraphs"][0]["context_t"]
    expected = {
        qa["id"]: [{"text": qa["answers"][0]["iso_t"], "answer_start": context.find(qa["answers"][0]["iso_t"])}]
        for qa in document["data"][0]["paragraphs"][0]["qas"]
        if qa["answers"][0]["iso_t"] in context
    }
    assert {qa["id"]: qa["answers"] for qa in output["data"][0]["paragraphs"][0]["qas"]} == expected
    assert len(dropped) == 16 - len(expected) == report["dropped"][clean_squad.NOT_LITERAL]
    assert report["datasets"][1]["answerable"] == report["datasets"][2]["answerable"] == len(expected)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question_t": None}, "the question is not translated"),
        ({"question_t": 5}, "the question is not translated"),
        ({"question": "Which red door is it?", "question_t": "Which red door is it?"}, "question is the source again"),
        ({"answers": []}, clean_squad.NO_ANSWER),
        ({"answers": None}, clean_squad.NO_ANSWER),
        ({"text": "blue"}, clean_squad.BAD_OFFSET),
        ({"text": " "}, clean_squad.BAD_OFFSET),
        ({"sentences": [[0, 27, 0, 31], [28, 51, None, None]]}, clean_squad.NO_SENTENCE),
        ({"iso_t": "Zzz", "context_t": "De sluiswachter heeft een boot. 1 2 3."}, clean_squad.LOW_CONFIDENCE),
    ],
)
def test_a_dropped_question_has_its_reason(clean_file, changes, reason):
    document = one_question(**changes)
    kept = one_question()["data"][0]
    kept["paragraphs"][0]["qas"][0]["id"] = "q2"
    document["data"].append(kept)
    process, output, report, dropped = clean_file(document, "--min_confidence", "0.3")
    assert process.returncode == 0, process.stderr
    assert check_plain_squad(output) == ["q2"]
    assert [question["id"] for question in dropped] == ["q1"] and reason in dropped[0]["reason"]
    assert report["dropped"] == {dropped[0]["reason"]: 1}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sentences": None}, "no sentence map"),
        ({"sentences": [[0, 999, 0, 5]]}, "does not fit"),
        ({"sentences": "nonsense"}, "does not fit"),
        ({"answer_start": 999}, "beside its offset"),
        ({"answer_start": -4}, "beside its offset"),
        ({"iso_t": None}, "without its isolated translation"),
        ({"iso_t": ["red"]}, "without its isolated translation"),
        ({"sentences": [[0, 27, 0, 31]]}, ""),
    ],
)
def test_what_can_be_mended_is_kept_and_counted(clean_file, changes, fault):
    process, output, report, dropped = clean_file(one_question(**changes), "--min_confidence", "0")
    assert process.returncode == 0, process.stderr
    assert check_plain_squad(output) == ["q1"] and dropped == []
    assert not fault or any(fault in name and fault in process.stdout for name in report["input_faults"])


def test_unanswerable_questions_are_kept_unless_untranslated(clean_file):
    document = one_question(is_impossible=True)
    qas = document["data"][0]["paragraphs"][0]["qas"]
    qas.append({"id": "q2", "question": "Why?", "question_t": None, "is_impossible": True})
    _, output, report, dropped = clean_file(document)
    assert check_plain_squad(output) == ["q1"] and [question["id"] for question in dropped] == ["q2"]
    assert report["datasets"][1] | {"dataset": ""} == {
        "dataset": "",
        "questions": 1,
        "answerable": 0,
        "unanswerable": 1,
    }


def test_untranslated_paragraphs_are_counted(clean_file):
    document = town_document()
    blank, echo = one_question(context_t=None), one_question()
    echo["data"][0]["paragraphs"][0]["context_t"] = echo["data"][0]["paragraphs"][0]["context"]
    echo["data"][0]["paragraphs"][0]["qas"][0]["id"] = "q2"
    document["data"] += blank["data"] + echo["data"]
    _, output, report, dropped = clean_file(document)
    assert len(check_plain_squad(output)) == 16 and len(dropped) == 2
    assert report["dropped"] == {"the context is not translated": 1, "the translated context is the source again": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [', "not valid JSON"),
        ("{}", "not a SQuAD file"),
        (json.dumps(one_question(context_t=None)), "run translate_squad.py first"),
    ],
)
def test_unusable_files_end_in_one_sentence(clean_file, text, message):
    process, output, report, dropped = clean_file(text)
    assert process.returncode == 1 and message in process.stderr and "Traceback" not in process.stderr
    assert output is report is dropped is None


def test_all_faults_of_the_command_line_at_once(tmp_path):
    path = tmp_path / "same.json"
    arguments = ["--input_file", path, "--output_file", path, "--report_file", tmp_path, "--min_confidence", "3"]
    process = run_script("clean_squad.py", *arguments)
    assert process.returncode == 2
    assert all(flag in process.stderr for flag in ("--output_file", "--report_file", "--min_confidence"))
    assert run_script("clean_squad.py", "--input", "x", "--output_file", "y").returncode == 2  # no abbreviations


def test_random_damage_never_crashes(tmp_path):
    rng = random.Random(7)
    values = [None, "", " ", 5, [], {}, "\ud800", "x" * 50, True, [[0, 5, None, None]], [[0, 5, 0, 5]]]
    for _ in range(150):
        document = town_document()
        paragraph = document["data"][0]["paragraphs"][0]
        for _ in range(3):
            record = rng.choice([paragraph, qa := rng.choice(paragraph["qas"]), qa["answers"][0]])
            key = rng.choice(
                [key for key in record if key in ("context_t", "sentences", "question_t", "iso_t")] or ["n"]
            )
            record[key] = rng.choice(values)
        result, _ = clean_in_memory(document, 0.3)
        ids = check_plain_squad(result.document)
        assert sorted(ids + [question["id"] for question in result.dropped]) == sorted(
            qa["id"] for qa in paragraph["qas"]
        )


# ---------------------------------------------------------------------------------------------------------------------
# Real machine translation with gold spans
# ---------------------------------------------------------------------------------------------------------------------


def test_gold_spans_of_real_machine_translation(shared_data):
    from benchmarks.alignment import locate_all, read_set, score

    paragraphs = read_set(shared_data / "mt_en_es_tune.json")
    figures = score(locate_all(paragraphs, "align"))
    assert figures["questions"] == 100
    assert figures["f1"] >= 99.0 and figures["exact"] >= 98.0 and figures["misplaced"] <= 0.5
    literal = score(locate_all(paragraphs, "literal"))
    assert literal["questions"] < 60 and literal["misplaced"] > 4
