"""Damage valid files at random and read them: each mutant is refused in one sentence or read as what it says.

    python benchmarks/fuzz.py --mutants 5000

One row a reader: mutants tried, refused, read with another content (a change that the format allows), read unchanged.
A traceback, an answer that breaks the reader's promises, or a silently changed number ends the run. tests/test_fuzz.py
runs the same with 500 mutants.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import clean_squad  # noqa: E402
import evaluate_v2  # noqa: E402
from squadlib.console import SquadError  # noqa: E402
from squadlib.data import load_squad, read_examples  # noqa: E402
from squadlib.files import file_digest  # noqa: E402
from squadlib.training.checkpoints import STATE_FILE, check_checkpoint, state_digest  # noqa: E402
from squadlib.translation.cache import Cache  # noqa: E402

CONTEXT = "The mill of Haarlem was built in 1912 by Jan Smit, and it burnt down in 1932."
CONTEXT_T = "De molen van Haarlem is in 1912 gebouwd door Jan Smit, en in 1932 verbrand."
QUESTIONS = {"When was it built?": "1912", "By whom?": "Jan Smit", "Where does it stand?": "Haarlem", "Why?": None}
VALUES = [None, True, 0, -1, 10**9, 1.5, "", " ", "x", "\ud800", "é", [], {}, [None], [[]], {"text": 3}, "1912"]


def squad_document() -> dict[str, Any]:
    qas = []
    for number, (question, answer) in enumerate(QUESTIONS.items()):
        answers = [{"text": answer, "answer_start": CONTEXT.index(answer)}] if answer else []
        qas.append({"id": f"q{number}", "question": question, "answers": answers, "is_impossible": not answer})
    paragraphs = [{"context": CONTEXT, "qas": qas[:2]}, {"context": CONTEXT, "qas": qas[2:]}]
    return {"version": "v2.0", "data": [{"title": "Molens", "paragraphs": paragraphs}]}


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value in a JSON document."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def mutate_tree(content: Any, draw: random.Random) -> Any:
    """One value of a JSON document replaced, removed, doubled or reversed."""
    content = copy.deepcopy(content)
    node, key = draw.choice(list(places(content)))
    kind = draw.randrange(5)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif kind == 2 and isinstance(node[key], str):
        node[key] = node[key][::-1]
    else:
        node[key] = draw.choice(VALUES)
    return content


def mutate_bytes(raw: bytes, draw: random.Random) -> bytes:
    """One to three edits: a bit, a byte, a piece removed, doubled or overwritten, the end cut off."""
    content = bytearray(raw)
    for _ in range(draw.randint(1, 3)):
        if not content:
            break
        place, length = draw.randrange(len(content)), draw.randint(1, 30)
        piece = content[place : place + length]
        old, new = draw.choice(
            (
                (1, bytes([content[place] ^ 1 << draw.randrange(8)])),
                (1, bytes([draw.choice(b'0123456789"{}[],:-. \nenulltruefalse\xff\x00')])),
                (length, b""),
                (0, piece),
                (len(content), b""),
                (length, draw.randbytes(length)),
            )
        )
        content[place : place + old] = new
    return bytes(content)


def json_mutants(content: Any, count: int, draw: random.Random) -> Any:
    raw = json.dumps(content, ensure_ascii=False).encode()
    for number in range(count):
        yield mutate_bytes(raw, draw) if number % 2 else json.dumps(mutate_tree(content, draw)).encode()


def tally(mutants: Any, path: Path, read: Callable[[], Any], original: Any) -> dict[str, int]:
    """Write each mutant to `path`, read it, and count what came of it. read raises SquadError or returns a content."""
    counts = {"mutants": 0, "refused": 0, "changed": 0, "unchanged": 0}
    for mutant in mutants:
        counts["mutants"] += 1
        path.write_bytes(mutant)
        try:
            counts["unchanged" if read() == original else "changed"] += 1
        except SquadError as error:
            counts["refused"] += 1
            assert "\n" not in str(error) and path.name in str(error), str(error)
    return counts


def fuzz_squad(count: int, folder: Path, seed: int = 0) -> dict[str, int]:
    path, document = folder / "train.json", squad_document()

    def read() -> list[Any]:
        examples = read_examples(load_squad(str(path)))
        assert examples and len({example.qid for example in examples}) == len(examples)
        for example in examples:
            assert all(isinstance(text, str) for text in (example.qid, example.question, example.context))
            assert not (example.is_impossible and example.answers)
            for text, start in example.answers:  # -1: a lost answer
                assert isinstance(text, str) and -1 <= start <= len(example.context)
        return examples

    path.write_text(json.dumps(document))
    return tally(json_mutants(document, count, random.Random(seed)), path, read, read())


def fuzz_manifest(count: int, folder: Path, seed: int = 0) -> dict[str, int]:
    """No mutant may be taken for a state with another number in it."""
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(range(256)))
    entry = [weights.stat().st_size, file_digest(str(weights))]
    state = {"global_step": 12, "epoch": 1, "update": 2, "plan": [46, 4, 1, 24], "loss_sum": (1.5).hex()}
    state |= {"run_dir": "Jan01_00-00-00_host", "scaler": None, "files": {weights.name: entry}, "started": 1.0}
    state["digest"] = state_digest(state)
    mutants = json_mutants(state, count, random.Random(seed))
    path = folder / STATE_FILE
    path.write_text(json.dumps(state))
    counts = tally(mutants, path, lambda: check_checkpoint(str(folder)), state)
    assert not counts["changed"]
    return counts


def quietly(main: Callable[[list[str]], int], *argv: object) -> str:
    """The stdout of a script; raises SquadError with its error line when it ends with 1."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([str(part) for part in argv])
    said = errors.getvalue()
    assert "Traceback" not in said and said.count(" - ERROR - ") <= 1, said
    if code == 1:
        assert said and not out.getvalue(), (said, out.getvalue())
        raise SquadError(said.splitlines()[-1])
    assert code == 0, (code, said)
    return out.getvalue()


def fuzz_scores(count: int, folder: Path, name: str, seed: int = 0) -> dict[str, int]:
    """Predictions (name "preds") or no-answer probabilities (name "na") through the evaluator."""
    contents = {"preds": {f"q{n}": answer or "" for n, answer in enumerate(QUESTIONS.values())}}
    contents |= {"na": {f"q{n}": n / 4 for n in range(4)}, "data": squad_document()}
    paths = {key: folder / f"{key}.json" for key in contents}
    for key, content in contents.items():
        paths[key].write_text(json.dumps(content))

    def read() -> Any:
        out = quietly(evaluate_v2.main, paths["data"], paths["preds"], "-n", paths["na"])
        return json.loads(out, parse_constant=lambda constant: 1 / 0)

    return tally(json_mutants(contents[name], count, random.Random(seed)), paths[name], read, read())


def translated_document() -> dict[str, Any]:
    document = squad_document()
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph |= {"context_t": CONTEXT_T, "sentences": [[0, len(CONTEXT), 0, len(CONTEXT_T)]]}
        for qa in paragraph["qas"]:
            qa["question_t"] = "Vraag: " + qa["question"]
            for answer in qa["answers"]:
                answer["iso_t"] = answer["text"]
    return {**document, "translation": {"source_lang": "en", "target_lang": "nl", "backend": "memory"}}


def fuzz_translated(count: int, folder: Path, seed: int = 0) -> dict[str, int]:
    """What clean_squad.py writes is a valid SQuAD file with every answer at its offset, or nothing at all."""
    path, output, document = folder / "nl.json", folder / "clean.json", translated_document()

    def read() -> Any:
        output.unlink(missing_ok=True)
        method = ("align", "literal")[draw.randrange(2)]
        try:
            quietly(clean_squad.main, "--input_file", path, "--output_file", output, "--method", method)
        except SquadError:
            assert not output.exists()
            raise
        examples = read_examples(load_squad(str(output))) if '"id"' in output.read_text() else []
        for example in examples:
            for text, start in example.answers:
                assert text and example.context[start : start + len(text)] == text
        return examples

    draw = random.Random(seed)
    path.write_text(json.dumps(document))
    return tally(json_mutants(document, count, draw), path, read, read())


def fuzz_cache(count: int, folder: Path, seed: int = 0) -> dict[str, int]:
    """A translation that comes out of a damaged cache is the one that was put in."""
    strings = {f"Sentence {n} of the cache.": f"Zin {n} van de cache, vertaald." for n in range(40)}
    path = folder / "nl.json.cache.sqlite"
    cache = Cache(str(path), "test", "en", "nl")
    cache.put(strings)
    cache.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    cache.database.close()
    raw = path.read_bytes()
    draw = random.Random(seed)

    def read() -> dict[str, str]:
        cache = None
        try:
            cache = Cache(str(path), "test", "en", "nl")
            found = cache.get(strings)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # which the script reports with the file's name
            raise SquadError(f"{path}: {' '.join(str(error).split())}") from error
        finally:
            if cache:
                cache.database.close()
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        for source, target in found.items():
            assert target == strings[source], (source, target)
        return found

    return tally((mutate_bytes(raw, draw) for _ in range(count)), path, read, strings)


READERS: dict[str, Callable[[int, Path], dict[str, int]]] = {
    "SQuAD file": fuzz_squad,
    "checkpoint manifest": fuzz_manifest,
    "predictions": lambda count, folder: fuzz_scores(count, folder, "preds"),
    "na-probs": lambda count, folder: fuzz_scores(count, folder, "na"),
    "translated file": fuzz_translated,
    "translation cache": fuzz_cache,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=5000, help="mutants a reader (5000)")
    args = parser.parse_args()
    for name, fuzz in READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            counts = fuzz(args.mutants, Path(folder))
        print(f"{name:20}", "  ".join(f"{key} {value:5}" for key, value in counts.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
