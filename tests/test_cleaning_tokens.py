"""squadlib/cleaning/tokens.py: whole tokens, and spellings that compare equal."""

from __future__ import annotations

import pytest

from squadlib.cleaning.tokens import fold_text, tokenize


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
