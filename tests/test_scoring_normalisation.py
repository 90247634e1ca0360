"""The rules of MLQA and MKQA by hand, flaws included; benchmarks/normalisations.py has the originals beside them."""

from __future__ import annotations

import pytest

import evaluate_v2
from squadlib.scoring.normalisation import NAMES, normalise


@pytest.mark.parametrize(
    ("rule", "text", "normalised"),
    [
        ("mlqa-en", "“The” cat’s — a  hat!", "cats hat"),  # punctuation of all scripts goes
        ("mkqa-en", "“The” cat’s — a  hat!", "“ ” cat’s — hat"),  # ASCII's goes
        ("mlqa-es", "¿La casa de los Unos?", "casa de"),
        ("mkqa-es", "¿La casa?", "¿ casa"),
        ("mlqa-de", "Des Kaisers einer Bart", "kaisers bart"),
        ("mlqa-vi", "Những con mèo của tôi", "con mèo tôi"),
        ("mlqa-hi", "यह एक किताब है।", "यह एक किताब है"),
        ("mlqa-ar", "الكتاب", "كتاب"),
        ("mlqa-ar", "سالم", "س م"),  # the article is dropped inside words too
        ("mlqa-zh", "北京(Běijīng)2008年。", "北 京 běijīng2008 年"),  # Chinese by character, the rest by spaces
        ("mlqa-zh", "㐀龦ひらがな", "㐀龦ひらがな"),  # rare characters and kana are not cut
        ("mkqa-zh", "北京2008 A", "北 京 2 0 0 8 a"),  # everything by character
        ("mkqa-ja", "東京タワー", "東 京 タ ワ ー"),
        ("mkqa-th", "ที่นี่", "ท ี ่ น ี ่"),  # vowels and tones alone
        ("mkqa-km", "ភ្នំ", "ភ ្ ន ំ"),
        ("mkqa-nl", "Het huis der Staten, 's Lands", "huis staten s lands"),
        ("mkqa-sv", "Ett hus, en båt", "hus båt"),
        ("mkqa-da", "Et hus, en båd", "hus båd"),
        ("mkqa-no", "Ei bok, et hus", "bok hus"),
        ("mkqa-pt", "Os Lusíadas e uma nau", "lusíadas e nau"),
        ("mkqa-fi", "Se on yksi", "on"),
        ("mkqa-hu", "Az egy ház", "ház"),
        ("mkqa-fr", "les lettres de l'Élysée", "s ttres lélysée"),  # words lose an article at their beginning
        ("mkqa-it", "Una luna, un'isola", "luna isola"),
        ("mkqa-it", "illegale", "legale"),
        ("mkqa-tr", "Bir ev, iki ev", "bir ev iki ev"),  # no articles
        ("mkqa-ko", "서울 시", "서울 시"),
        ("mkqa-de", "\u2009DIE\u3000Stra\u00dfe\x85", "straße"),  # spaces of all kinds
    ],
)
def test_rules_by_hand(rule, text, normalised):
    assert normalise(text, rule) == normalised


def test_every_rule_is_idempotent_on_plain_words():
    for rule in NAMES:
        once = normalise("Ab 12 Cd", rule)
        assert normalise(once, rule) == once and once.replace(" ", "") == "ab12cd"


def test_scores_under_a_rule_of_another_data_set():
    golds, predictions = {"a": ["le chat noir"], "b": ["東京"]}, {"a": "un chat blanc", "b": "京都"}
    # fr: "chat noir" and "chat blanc" share one of two words; as Japanese "京都" shares one of two characters
    exact, f1 = evaluate_v2.score_answers(golds, predictions, "mkqa-fr")
    assert (exact, f1) == ({"a": 0, "b": 0}, {"a": 0.5, "b": 0})
    assert evaluate_v2.score_answers(golds, predictions, "mkqa-ja")[1]["b"] == 0.5
    assert evaluate_v2.score_answers(golds, {"a": "Le chat noir.", "b": "東 京"}, "mkqa-ja")[0] == {"a": 1, "b": 1}
