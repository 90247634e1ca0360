"""A small town in two languages, and documents about it as translate_squad.py writes them."""

from __future__ import annotations

from typing import NamedTuple

import clean_squad
from squadlib.cleaning.questions import AnswerOutcome, QuestionOutcome, dropped_question
from squadlib.cleaning.translated_document import read_document

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


class Cleaned(NamedTuple):
    """What the default method made of a document: the plain document, and the fate of every question."""

    document: dict
    questions: list[QuestionOutcome]

    @property
    def answers(self) -> list[AnswerOutcome]:
        return [answer for question in self.questions for answer in question.answers]

    @property
    def dropped(self) -> list[dict]:
        return [dropped_question(question) for question in self.questions if not question.kept]


def clean_in_memory(raw, min_confidence=0.0):
    document = read_document(raw)
    aligner = clean_squad.train_aligner(clean_squad.read_corpus(document))
    outcomes = clean_squad.find_answers(document, aligner, min_confidence)
    return Cleaned(clean_squad.plain_document(document, outcomes), [o for paragraph in outcomes for o in paragraph])


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
