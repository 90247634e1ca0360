"""canaries.py: control sentences that come back wrong, and whom they vouch for."""

from __future__ import annotations

from translation_server import reverse_words

from squadlib.translation.cache import Cache
from squadlib.translation.canaries import (
    CANARIES,
    CANARY_EVERY,
    MAX_LOST_LINES,
    Canaries,
    canary_fault,
    choose_canaries,
)


def test_canary_faults():
    canary, good = "The bridge was built in 1893.", "De brug is in 1893 gebouwd."
    assert canary_fault(canary, good, None, "nl") is None
    assert canary_fault(canary, "De brug werd in 1893 gebouwd.", good, "nl") is None
    assert canary_fault(canary, "جسر بني عام ١٨٩٣.", None, "ar") is None
    assert "year" in canary_fault(canary, "De brug is gebouwd.", None, "nl")
    assert "before" in canary_fault(canary, "Ut enim ad minim veniam 1893.", good, "nl")


def guard(known=None):
    cache = Cache(":memory:", "mtranslate", "en", "nl")
    cache.put(known or {})
    return Canaries(CANARIES, cache), cache


RIGHT = {sentence: reverse_words(sentence) for sentence in CANARIES}
WRONG = dict.fromkeys(CANARIES, "Ut enim ad minim veniam.")


def test_translations_of_the_control_sentences_are_learned_once_and_kept():
    canaries, cache = guard()
    assert canaries.fault(RIGHT) is None
    assert cache.get(CANARIES) == canaries.targets == RIGHT
    assert "nonsense" in canaries.fault(WRONG) and canaries.targets == RIGHT
    again, _ = guard(known=RIGHT)
    first = CANARIES[0]
    assert again.fault({first: RIGHT[first]}) is None
    assert "before it was" in again.fault({first: "Ut enim ad minim veniam 1893."})


def test_one_translation_for_all_control_sentences_is_nonsense():
    canaries, cache = guard()
    assert "same translation" in canaries.fault(dict.fromkeys(CANARIES, "In 1893, 1928 en 1957 gebeurde het een."))
    assert cache.get(CANARIES) == {}


def test_bare_answers_are_unvouched_until_a_control_sentence_comes_back_well():
    canaries, cache = guard()
    cache.put({"twice": "eciwt", "once": "ecno"})
    canaries.unvouched += ["twice"]
    assert canaries.are_due(at_end=True) and not canaries.are_due(at_end=False)
    canaries.vouch()
    assert not canaries.are_due(at_end=True)
    canaries.unvouched += ["once"]
    assert canaries.withdraw() == ["once"] and canaries.unvouched == []
    assert cache.get(["twice", "once"]) == {"twice": "eciwt"}
    canaries.unvouched += [str(number) for number in range(CANARY_EVERY)]
    assert canaries.are_due(at_end=False)


def test_a_server_that_loses_lines_is_asked_sentence_by_sentence_and_stays_in_doubt_until_it_is_well():
    canaries, _ = guard()
    canaries.withdraw()
    assert canaries.keeps_lines and canaries.requests() == [CANARIES] and not canaries.are_due(at_end=False)
    canaries.lost_lines = MAX_LOST_LINES - 1
    canaries.are_well()
    assert canaries.lost_lines == 0
    canaries.lost_lines = MAX_LOST_LINES
    assert not canaries.keeps_lines and canaries.requests() == [[sentence] for sentence in CANARIES]
    canaries.withdraw()
    assert canaries.are_due(at_end=False)
    canaries.are_well()
    assert not canaries.are_due(at_end=False) and not canaries.keeps_lines


def test_control_sentences_of_another_language_are_of_the_file():
    strings = ["Eins.", "Am 3. Mai 1810 wurde die neue Bahn nach Hamburg endlich eröffnet.", "x" * 61, "y" * 500]
    assert choose_canaries("en", strings) == CANARIES
    assert choose_canaries("de", strings) == ["x" * 61, strings[1], "Eins."]
