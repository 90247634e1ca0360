"""line_order.py: two lines that change places, and real translations, of which none did."""

from __future__ import annotations

import itertools
import json

import pytest
from conftest import ROOT

from squadlib.translation.canaries import CANARIES
from squadlib.translation.line_order import figures, swapped_lines
from squadlib.translation.web import WebSettings, pack_requests
from translate_squad import strings_by_paragraph

PAIRS = [
    ("The mill of Jan Visser burned down in 1712.", "De molen van Jan Visser brandde af in 1712."),
    ("It cost 12,500 guilders.", "Het kostte 12.500 gulden."),
    ("Nobody knows who paid for it.", "Niemand weet wie ervoor betaalde."),
    ("The owner was a friend of Mrs. de Boer.", "De eigenaar was een vriend van mevrouw de Boer."),
    ("Where did Jan Visser live?", "Waar woonde Jan Visser?"),
    ("Visser", "Visser"),
]


def with_swap(pairs, first, second):
    """(sources, targets) of the pairs with two targets in each other's place."""
    targets = [target for _, target in pairs]
    targets[first], targets[second] = targets[second], targets[first]
    return [source for source, _ in pairs], targets


@pytest.mark.parametrize(("first", "second"), itertools.combinations(range(len(PAIRS)), 2))
def test_two_lines_swapped_inside_an_answer_are_seen_by_figures_names_and_question_marks(first, second):
    assert swapped_lines(*with_swap(PAIRS, first, second)) is not None
    two = [PAIRS[first], PAIRS[second]]
    assert swapped_lines(*with_swap(two, 0, 0)) is None


def test_the_swapped_lines_themselves_are_named():
    assert swapped_lines(*with_swap(PAIRS, 1, 3)) == (1, 3)
    assert swapped_lines(*with_swap(PAIRS, 0, 0)) is None
    sources, targets = with_swap(PAIRS, 0, 0)
    assert swapped_lines(sources, targets[1:] + targets[:1]) is not None  # all shifted by one


def test_figures_are_compared_without_separators_and_in_any_script():
    assert figures("12,500 of 1 in 3.5, 1914–1918, B2") == figures("١٢٬٥٠٠ / ۱ / ३,५ / 1914-1918 (B2)")
    assert figures("12\u202f500") == figures("12’500") == ["12500"]
    arabic = [("In 1893.", "في عام ١٨٩٣."), ("In 1928.", "في عام ١٩٢٨.")]
    assert swapped_lines(*with_swap(arabic, 0, 1)) == (0, 1)


def test_what_a_translation_drops_or_rewords_is_no_swap():
    pairs = [
        ("In the 1960s England won twice.", "In de jaren zestig won Engeland 2 keer."),
        ("England lost in the 1960s.", "In de jaren 60 verloor Engeland."),
        ("How many cups did the U.S. win?", "Hoeveel bekers wonnen de VS?"),
    ]
    assert swapped_lines(*with_swap(pairs, 0, 0)) is None


def test_lines_that_differ_in_nothing_kept_cannot_be_told_apart():
    pairs = [("It was red.", "Het was rood."), ("It was blue.", "Het was blauw.")]
    assert swapped_lines(*with_swap(pairs, 0, 1)) is None


def real_requests(paragraphs):
    """(sources, targets) as the script would ask them."""
    for targets in paragraphs:
        for request in pack_requests([list(targets)], CANARIES, WebSettings("en", "es")):
            yield request, [targets[source] for source in request]


def machine_translated(path):
    """{source: target} of every paragraph of a translated file."""
    for article in json.loads(path.read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            context, context_t = paragraph["context"], paragraph["context_t"]
            pairs = [(context[s:e], context_t[ts:te]) for s, e, ts, te in paragraph["sentences"] or []]
            pairs += [(qa["question"], qa["question_t"]) for qa in paragraph["qas"]]
            pairs += [(answer["text"], answer["iso_t"]) for qa in paragraph["qas"] for answer in qa["answers"]]
            yield {" ".join(source.split()): " ".join(target.split()) for source, target in pairs if source and target}


def test_real_translations_are_in_order_and_their_swaps_are_seen(shared_data):
    requests = list(real_requests(machine_translated(shared_data / "mt_en_es_tune.json")))
    assert sum(len(sources) for sources, _ in requests) > 3000
    assert [sources for sources, targets in requests if swapped_lines(sources, targets)] == []
    changed = seen = 0
    for sources, targets in requests:
        pairs = list(zip(sources, targets, strict=True))
        kept = [figures(source) == figures(target) for source, target in pairs]
        for first in range(len(sources) - 1):
            if kept[first] and kept[first + 1] and set(figures(sources[first])) != set(figures(sources[first + 1])):
                changed += 1
                seen += swapped_lines(*with_swap(pairs, first, first + 1)) is not None
    assert seen == changed > 500


def test_the_sample_is_in_order():
    lines = (ROOT / "sample" / "memory_en_nl.jsonl").read_text("utf-8").splitlines()
    memory = {entry["source"]: entry["target"] for entry in map(json.loads, lines)}
    document = json.loads((ROOT / "sample" / "sample-v2.0.json").read_text("utf-8"))
    for group in strings_by_paragraph(document):
        assert swapped_lines(group, [memory[string] for string in group]) is None
