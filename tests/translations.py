"""What the tests of the translation and the kill loop share: documents, the real script run on them, what is right."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

from conftest import run_script
from translation_server import reverse_words

from squadlib.translation.web_page import INVISIBLE
from translate_squad import strings_by_paragraph

FAST = ("--rate", 500, "--cool_down", 0.02)
NOUNS = "harbour mill tower garden letter bridge captain winter market river painter clock".split()
VERBS = "crossed painted measured forgot repaired described bought heard followed guarded".split()


def small_document():
    """Two paragraphs, a line break, a repeated answer, an unanswerable question, a plausible answer."""
    first = "Mr. J. Visser built the mill in 1712.  It burned down twice!\nNobody knows who paid for it."
    second = "The mill is on the canal. Its owner, Mrs. de Boer, sells flour and old books to visitors."
    return {
        "version": "v2.0",
        "data": [
            {
                "title": "The mill",
                "paragraphs": [
                    {
                        "context": first,
                        "qas": [
                            question("a", "Who built the mill?", first, "Mr. J. Visser", "J. Visser"),
                            question("b", "When was the mill built?", first, "1712"),
                            {
                                **question("c", "Who rebuilt the mill?", first),
                                "plausible_answers": [{"text": "Nobody", "answer_start": first.index("Nobody")}],
                            },
                        ],
                    },
                    {"context": second, "qas": [question("d", "What does Mrs. de Boer sell?", second, "flour")]},
                ],
            }
        ],
    }


def question(qid, text, context, *answers):
    found = [{"text": answer, "answer_start": context.index(answer)} for answer in answers]
    return {"id": qid, "question": text, "answers": found, "is_impossible": not answers}


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_memory(tmp_path, strings):
    path = tmp_path / "memory.jsonl"
    lines = (json.dumps({"source": s, "target": reverse_words(s)}) for s in strings)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run_translate(tmp_path, *args, document=None, env=None):
    """Run the script on a document in tmp_path; returns (process, parsed output or None)."""
    source, output = tmp_path / "source.json", tmp_path / "nl.json"
    write(source, document or small_document())
    process = run_script(
        "translate_squad.py", "--input_file", source, "--output_file", output, *FAST, *args, env=env, timeout=120
    )
    return process, json.loads(output.read_text("utf-8")) if output.exists() else None


def assert_all_right(translated):
    checked, wrong, missing = count_wrong(translated)
    assert (wrong, missing) == (0, 0)
    return checked


def all_strings():
    return [string for group in strings_by_paragraph(small_document()) for string in group]


def make_document(num_paragraphs: int, seed: int = 0) -> dict:
    """A SQuAD 2.0 document of made-up sentences: five sentences, three questions, two answers a paragraph."""
    rng = random.Random(seed)
    paragraphs = []
    for number in range(num_paragraphs):
        words = [(rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS)) for _ in range(5)]
        context = " ".join(
            f"In {1500 + number} the {a} of room {part} {b} the old {c} again." for part, (a, b, c) in enumerate(words)
        )
        qas = []
        for part, (a, b, c) in enumerate(words[:3]):
            question = {"id": f"{number}-{part}", "question": f"What {b} the {c} in {1500 + number}, room {part}?"}
            text = f"the {a} of room {part}"
            answers = [{"text": text, "answer_start": context.index(text)}] if part else []
            plausible = [] if part else [{"text": "In", "answer_start": 0}]
            qas.append({**question, "is_impossible": not part, "answers": answers, "plausible_answers": plausible})
        paragraphs.append({"context": context, "qas": qas})
    return {"version": "v2.0", "data": [{"title": "Made up", "paragraphs": paragraphs}]}


def count_wrong(translated: dict, key: Callable[[str], str] = str) -> tuple[int, int, int]:
    """(checked, wrong, missing) texts of a file that the stand-in server translated; spans are checked too.

    key: what of a text must be right.
    """
    pairs = []
    for article in translated["data"]:
        for paragraph in article["paragraphs"]:
            context, context_t = paragraph["context"], paragraph["context_t"]
            for start, end, start_t, end_t in paragraph["sentences"]:
                target = None if context_t is None else context_t[start_t:end_t]
                pairs.append((context[start:end], target))
            for qa in paragraph["qas"]:
                pairs.append((qa["question"], qa["question_t"]))
                pairs += [(answer["text"], answer["iso_t"]) for answer in qa["answers"]]
    missing = sum(target is None for _, target in pairs)
    expected = (reverse_words(INVISIBLE.sub("", " ".join(source.split()))) for source, _ in pairs)
    found = zip(expected, pairs, strict=True)
    wrong = sum(target is not None and key(target) != key(right) for right, (_, target) in found)
    return len(pairs), wrong, missing


def stored_strings(cache: Path) -> set[str]:
    """The sources in the cache file, read as any other process would."""
    if not cache.exists():
        return set()
    database = sqlite3.connect(cache, timeout=10)
    try:
        return {source for (source,) in database.execute("SELECT source FROM translation")}
    except sqlite3.OperationalError:  # killed before the table was made
        return set()
    finally:
        database.close()
