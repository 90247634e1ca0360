"""squadlib/cleaning/sentence_pairs.py: maps that are read, and maps that are made."""

from __future__ import annotations

import pytest

from squadlib.cleaning.sentence_pairs import align_sentences, read_sentence_map


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
    pairs = [(source[slice(*pair.source)], target[slice(*pair.target)]) for pair in align_sentences(source, target)]
    assert pairs[0] == ("The mill stands in Gouda.", "De molen staat in Gouda.")
    assert "1742" in pairs[1][0] and "Nobody" in pairs[1][0] and pairs[1][1].startswith("Jan Smit")
    assert pairs[-1] == ("It burned down in 1903.", "In 1903 brandde hij af.")


@pytest.mark.parametrize(
    ("source", "target"),
    [("A.", "Dit is een zin. " * 300), ("This is one. " * 300, "Ja."), ("word " * 9000, "woord " * 9000), ("", "Ja.")],
)
def test_lopsided_texts_still_get_a_map(source, target):
    sentences = align_sentences(source, target)
    assert all(0 <= pair.target[0] < pair.target[1] <= len(target) for pair in sentences)


def test_a_paragraph_without_full_stops_is_cut_at_its_spaces_where_the_script_has_no_others():
    source = "The mill is old. It was built in 1742 by a baker. The town is small."
    target = "โรงสีเก่ามาก มันถูกสร้างในปี 1742 โดยคนทำขนมปัง เมืองนี้เล็ก"
    pairs = align_sentences(source, target)
    assert len(pairs) == 3
    whole = [target[slice(*pair.target)] for pair in pairs]
    assert "1742" in whole[1] and "โรงสี" in whole[0] and "เมือง" in whole[2]
    assert "เมือง" not in whole[0]  # one piece more on either side, not the whole paragraph
