"""data.py: what is let in can be written again; the places of what is refused."""

from __future__ import annotations

import json

import pytest
from conftest import run_script
from translations import all_strings, small_document, write_memory

from squadlib.console import SquadError
from squadlib.data import load_squad

HALF, HUGE = r"Haar\ud800lem", "1e999"
PLACES = {  # where in small_document(): how the sentence names it
    "title": ("The mill", "data[0].title"),
    "version": ("v2.0", "version"),
    "plausible answer": ("Nobody", "data[0].paragraphs[0].qas[2].plausible_answers[0].text"),
    "unknown key": ("kept", "data[0].paragraphs[0].note[1]"),
    "context": ("The mill is on the canal.", "data[0].paragraphs[1].context"),
}


def odd_document(place, *, number=False):
    """The text of small_document() with what no file can hold at the place."""
    document = small_document()
    document["data"][0]["paragraphs"][0]["note"] = [True, "kept"]
    document["data"][0]["paragraphs"][0]["qas"][2]["plausible_answers"] = [{"text": "Nobody", "answer_start": 62}]
    text, found = json.dumps(document), json.dumps(PLACES[place][0])
    if place == "context":
        return text.replace(found[1:-1], HALF)
    assert text.count(found) == 1
    return text.replace(found, HUGE if number else f'"{HALF}"')


@pytest.mark.parametrize("script", ["translate_squad.py", "clean_squad.py"])
@pytest.mark.parametrize("number", [False, True])
@pytest.mark.parametrize("place", ["title", "version", "plausible answer", "unknown key"])
def test_what_no_file_can_hold_is_refused_at_the_start_and_not_when_the_output_is_written(
    place, number, script, tmp_path
):
    source, output = tmp_path / "source.json", tmp_path / "out.json"
    source.write_text(odd_document(place, number=number))
    args = ["--input_file", source, "--output_file", output]
    if script == "translate_squad.py":
        args += ["--backend", "memory", "--memory_file", write_memory(tmp_path, all_strings())]
    process = run_script(script, *args)
    assert process.returncode == 1 and "Traceback" not in process.stderr and not output.exists()
    last = process.stderr.splitlines()[-1]
    assert f"source.json: {PLACES[place][1]} " in last
    assert ("too large" if number else "half a surrogate pair at character 4") in last


def test_half_a_surrogate_pair_in_a_context_or_a_key_has_its_place(tmp_path):
    path = tmp_path / "source.json"
    path.write_text(odd_document("context"))
    with pytest.raises(SquadError, match=r"data\[0\].paragraphs\[1\].context holds half a surrogate pair at char"):
        load_squad(str(path))
    path.write_text(json.dumps({**small_document(), "x\udc00": {}}))
    with pytest.raises(SquadError, match=r"a key of the document holds half a surrogate pair at character 1"):
        load_squad(str(path))


def test_whole_surrogate_pairs_and_their_names_in_texts_are_let_in(tmp_path):
    path = tmp_path / "source.json"
    document = {**small_document(), "note": ["😀", "\\ud800", 1e300, -0.5]}
    path.write_text(json.dumps(document))
    assert load_squad(str(path))["note"] == document["note"]


@pytest.mark.parametrize("depth", [150, 700, 1200, 5000, 100_000])
def test_what_is_nested_deeper_than_json_can_be_written_is_refused_at_the_start(depth, tmp_path):
    path = tmp_path / "source.json"  # from Python 3.12 on the reader goes deeper than the writer
    path.write_text(json.dumps({**small_document(), "note": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth))
    with pytest.raises(SquadError, match=r"source.json: not usable JSON: "):
        load_squad(str(path))


@pytest.mark.parametrize(("line", "where"), [('"title": "\\ud800", ', "title"), ('"n": -1e400, ', "n")])
def test_lines_of_json_are_refused_by_line_and_place(line, where, tmp_path):
    rest = '"context": "Spaarne", "question": "What?", "answers": {"text": [], "answer_start": []}}'
    (tmp_path / "rows.jsonl").write_text('{"id": "a", ' + rest + '\n{"id": "b", ' + line + rest + "\n")
    with pytest.raises(SquadError, match=f"rows.jsonl: line 2: {where} "):
        load_squad(str(tmp_path / "rows.jsonl"))
