"""squadlib/cleaning/edges.py: what belongs to an answer beside its words."""

from __future__ import annotations

import pytest

from squadlib.cleaning.edges import is_figure_with_letters, with_edges
from squadlib.cleaning.translated_document import SourceAnswer


def edged(target, words, answer, isolated=None):
    start = target.index(words)
    first, last = with_edges(target, (start, start + len(words)), SourceAnswer(answer, 0, isolated))
    return target[first:last]


@pytest.mark.parametrize(
    ("target", "words", "answer", "expected"),
    [
        ("zij zei „het brood”.", "het brood", '"the loaf"', "„het brood”"),
        ("zij zei „het brood”.", "het brood", "the loaf", "het brood"),
        ("woont in Gent.", "Gent", "Ghent.", "Gent."),
        ("Gent", "Gent", '"Ghent".', "Gent"),
        ("hij leerde C++ en las", "C", "C++", "C++"),
    ],
)
def test_edges_follow_the_source_answer(target, words, answer, expected):
    assert edged(target, words, answer) == expected


@pytest.mark.parametrize(
    ("target", "words", "expected"),
    [
        ("神明是摩摩斯 (Momus)。", "摩摩斯 (Momus", "摩摩斯 (Momus)"),
        ("de Wet (1795) hier", "Wet (1795", "Wet (1795)"),
        ("de Wet (van 1795) hier", "van 1795) hier", "(van 1795) hier"),
        ("de Wet (van 1795) hier", "1795) hier", "1795) hier"),
        ("schreef《红色的门》一书", "红色的门", "红色的门"),
        ("schreef《红色的门》一书", "《红色的门", "《红色的门》"),
        ("他说「红门」和『门』", "「红门", "「红门」"),
        ("他说「红门」和『门』", "门』", "『门』"),
        ("一扇门（红色）在", "门（红色", "门（红色）"),
        ("la porte « rouge » ici", "« rouge", "rouge"),
        ("la puerta «roja» es", "puerta «roja", "puerta «roja»"),
        ("das »rote« Tor", "»rote", "»rote«"),
        ("das „rote“ Tor", "„rote", "„rote“"),
        ("das „rote Tor“ hier", "„rote", "rote"),
        ("the “red gate.” Then", "“red gate", "“red gate.”"),
        ("het ''rode'' hek", "''rode", "''rode''"),
        ("het ''rode hek''", "''rode", "rode"),
        ('het "rode" hek', 'het "rode', 'het "rode"'),
        ('het "rode" hek', 'rode"', '"rode"'),
        ("de boeken’ kaft", "boeken’", "boeken’"),
        ("uit ’s-Gravenhage", "’s-Gravenhage", "’s-Gravenhage"),
        ("l’eau (douce", "l’eau (douce", "l’eau (douce"),
    ],
)
def test_a_bracket_or_quote_that_is_opened_is_closed_or_left_out(target, words, expected):
    assert edged(target, words, "x").strip() == expected


@pytest.mark.parametrize(
    ("target", "words", "answer", "isolated", "expected"),
    [
        ("la 12.ª edición", "12", "12th", None, "12.ª"),
        ("el 1.º de mayo", "1", "1", "1", "1.º"),
        ("la 12ª", "12ª", "12th", None, "12ª"),
        ("1990'larda yapıldı", "1990", "1990s", None, "1990'larda"),
        ("1990'da yapıldı", "1990", "1990", None, "1990"),
        ("byggdes på 1990-talet av", "1990", "1990s", None, "1990-talet"),
        ("im 12. Jahrhundert", "12", "12th", "12.", "12."),
        ("im 12. und 13. Jahrhundert", "12", "12th", None, "12."),
        ("es begann mit 12. Dann kam", "12", "12", "12.", "12"),
        ("en el siglo 12. Luego", "siglo 12", "12th century", "siglo 12", "siglo 12"),
        ("kostet 12.5 Mark", "12", "12th", "12.", "12"),
        ("kostte 2 miljoen $ in", "2 miljoen", "$2 million", None, "2 miljoen $"),
        ("kostte $ 2 miljoen in", "2 miljoen", "$2 million", None, "$ 2 miljoen"),
        ("kostte $ 2 miljoen in", "2 miljoen", "2 million", None, "2 miljoen"),
        ("meer dan %12 van", "12", "12%", None, "%12"),
    ],
)
def test_a_figure_is_not_cut_out_of_its_token(target, words, answer, isolated, expected):
    assert edged(target, words, answer, isolated) == expected


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("1990s", "década de 1990", True),
        ("the 139th", "número 139", True),
        ("the 1990s", "los 1990s fueron", False),
        ("1990", "en 1990", False),
        ("19e eeuw", "siglo 19", False),
        ("12,500", "12.500", False),
        ("", "x", False),
    ],
)
def test_a_figure_with_letters_is_not_the_bare_figure(text, target, expected):
    assert is_figure_with_letters(text, target) == expected
