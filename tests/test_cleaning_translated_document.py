"""squadlib/cleaning/translated_document.py: what of a translated file can be used."""

from __future__ import annotations

from squadlib.cleaning.translated_document import is_echo


def test_echo_needs_four_words():
    assert is_echo("The red door is open.", "the  red door is open.")
    assert not is_echo("Willem van Oranje", "Willem van Oranje")
    assert not is_echo("The red door is open.", "De rode deur is open.")
    assert not is_echo("1 2 3 4 5", "1 2 3 4 5")
