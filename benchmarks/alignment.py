"""How well clean_squad.py finds answers again: the ladder from literal search to word alignment, on sets with gold.

    python benchmarks/alignment.py                                     # the ladder on ../shared/data/mt_en_es_tune.json
    python benchmarks/alignment.py --data_file other.json --ablations  # another set, and what each part is worth
    python benchmarks/alignment.py --stress                            # XQuAD English-German, isolated answers damaged
    python benchmarks/alignment.py --full_size                         # time and memory at the size of SQuAD train

A set is a file as translate_squad.py writes it with `gold` ({"answer_start", "text"} or null) in each answer.

questions   answerable questions with at least one answer found, %
answers     answers found, % of those with a gold span; the next three are of these
misplaced   spans that do not touch the gold span, %
f1, exact   words in common, the same words: % without case and punctuation, exact without articles too; 0 if misplaced
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import string
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import clean_squad  # noqa: E402
from clean_squad import Location, Locator, Translation, WordAligner, fold_text, occurrences, tokenize  # noqa: E402

SHARED_DATA = ROOT.parent / "shared" / "data"
ARTICLES = (
    {"a", "an", "the", "de", "het", "een", "el", "la", "los", "las", "lo", "un", "una", "unos", "unas", "al", "del"}
    | {"der", "die", "das", "dem", "den", "des", "ein", "eine", "einen", "einem", "einer", "eines", "le", "les", "une"}
    | {"il", "i", "gli", "uno", "els"}
)
PUNCTUATION = str.maketrans("", "", string.punctuation + "“”„‘’‚«»‹›¿¡–—…")
Find = Callable[[Translation, dict[str, Any]], Location | None]

ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no alignment overlap": {"ALIGNMENT_WEIGHT": 0.0, "LEXICAL_WEIGHT": 0.9},
    "no lexical similarity": {"ALIGNMENT_WEIGHT": 0.9, "LEXICAL_WEIGHT": 0.0},
    "no position": {"POSITION_WEIGHT": 0.0},
    "no spelling prior": {"SAME_STEM_COUNT": 0.0, "SAME_PREFIX_COUNT": 0.001},
    "no diagonal prior": {"DIAGONAL": 0.0},
    "whole words, not stems": {"STEM_LENGTH": 50},
    "three iterations": {"NUM_ITERATIONS": 3},
    "a table of 2^16 places": {"MAX_TABLE_BITS": 16},
}


# ---------------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------------


def normalized(text: str, articles: bool) -> list[str]:
    words = text.casefold().translate(PUNCTUATION).split()
    return words if articles else [word for word in words if word not in ARTICLES]


def word_f1(gold: str, found: str) -> float:
    gold_words, found_words = normalized(gold, True), normalized(found, True)
    common = (Counter(gold_words) & Counter(found_words)).total()
    return 2 * common / (len(gold_words) + len(found_words)) if common else float(gold_words == found_words)


def score(answers: list[tuple[str, dict[str, Any], Location | None]]) -> dict[str, float]:
    """The figures of the table, in percent. answers: (question id, answer, where it was found)."""
    kept = {qid for qid, _, place in answers if place and place.start is not None}
    with_gold = [(answer["gold"], place) for _, answer, place in answers if answer.get("gold")]
    found = [(gold, place) for gold, place in with_gold if place and place.start is not None]
    near = [
        (g["text"], p.text)
        for g, p in found
        if p.start < g["answer_start"] + len(g["text"]) and g["answer_start"] < p.end
    ]
    exact = [normalized(gold, False) == normalized(text, False) for gold, text in near]
    share = 100 / max(1, len(found))
    return {
        "questions": 100 * len(kept) / max(1, len({qid for qid, _, _ in answers})),
        "answers": 100 * len(found) / max(1, len(with_gold)),
        "f1": share * sum(word_f1(gold, text) for gold, text in near),
        "exact": share * sum(exact),
        "misplaced": share * (len(found) - len(near)),
    }


def print_row(name: str, figures: dict[str, float]) -> None:
    print(f"{name:32s}" + "".join(f"{figures[key]:11.2f}" for key in figures), flush=True)


def print_header(title: str, keys: tuple[str, ...] = ("questions", "answers", "f1", "exact", "misplaced")) -> None:
    print(f"\n{title:32s}" + "".join(f"{key:>11s}" for key in keys))


# ---------------------------------------------------------------------------------------------------------------------
# The ladder
# ---------------------------------------------------------------------------------------------------------------------


def at(translation: Translation, start: int, length: int) -> Location | None:
    return Location(start, translation.target[start : start + length], "") if start >= 0 else None


def expected_place(translation: Translation, answer: dict[str, Any]) -> float:
    return answer["answer_start"] / len(translation.source) * len(translation.target)


def find_lower_first(translation: Translation, answer: dict[str, Any]) -> Location | None:
    """Literal, after the first letter of the translation took the case of the source answer's first letter."""
    isolated = answer["iso_t"] or ""
    if answer["text"][:1].islower():
        isolated = isolated[:1].lower() + isolated[1:]
    return at(translation, translation.target.find(isolated), len(isolated)) if isolated else None


def find_casefolded(translation: Translation, answer: dict[str, Any]) -> Location | None:
    isolated = (answer["iso_t"] or "").lower()
    return at(translation, translation.target.lower().find(isolated), len(isolated)) if isolated else None


def find_nearest_casefolded(translation: Translation, answer: dict[str, Any]) -> Location | None:
    """Case-folded, whole tokens, the place nearest to the relative offset."""
    isolated, text = (answer["iso_t"] or "").lower(), translation.target.lower()
    places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(isolated)}(?!\w)", text)] if isolated else []
    expected = expected_place(translation, answer)
    return at(translation, min(places, key=lambda place: abs(place - expected), default=-1), len(isolated))


def find_normalized(translation: Translation, answer: dict[str, Any]) -> Location | None:
    """Nearest, in any spelling: accents, quotes, number formats, article aside, the source text where it was kept."""
    tokens = tokenize(translation.target)
    words = [clean_squad.fold(translation.target[start:end]) for start, end in tokens]
    isolated, source = fold_text(answer["iso_t"] or ""), fold_text(answer["text"])
    expected = expected_place(translation, answer)
    for wanted in (isolated, isolated[1:] if isolated[:1] and isolated[0] in ARTICLES else [], source):
        places = occurrences(words, wanted)
        if places:
            first = min(places, key=lambda place: abs(tokens[place][0] - expected))
            start, end = tokens[first][0], tokens[first + len(wanted) - 1][1]
            return at(translation, start, end - start)
    return None


LADDER: dict[str, Find | str] = {
    "literal, first (published rule)": "literal",
    "+ first letter like the source": find_lower_first,
    "case-folded, first": find_casefolded,
    "+ whole tokens, nearest": find_nearest_casefolded,
    "+ any spelling, source kept": find_normalized,
    "align (default)": "align",
}


def read_set(path: str | Path) -> list[tuple[dict[str, Any], Translation]]:
    """(paragraph, its translation) of a file with gold spans."""
    return read_paragraphs(json.loads(Path(path).read_text("utf-8")))


def read_paragraphs(document: dict[str, Any]) -> list[tuple[dict[str, Any], Translation]]:
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    pairs = [(paragraph, clean_squad.read_translation(paragraph, Counter())) for paragraph in paragraphs]
    return [(paragraph, translation) for paragraph, translation in pairs if not translation.fault]


def locate_all(paragraphs: list[tuple[dict, Translation]], method: Find | str, min_confidence: float | None = None):
    """(question id, answer, Location) of every answer. method: "align", "literal" or a function of the ladder."""
    if method == "align":
        document = {"data": [{"paragraphs": [paragraph for paragraph, _ in paragraphs]}]}
        aligner = WordAligner(clean_squad.read_corpus(document, [translation for _, translation in paragraphs]))
        locator = Locator(aligner, clean_squad.MIN_CONFIDENCE if min_confidence is None else min_confidence)
    found = []
    for paragraph, translation in paragraphs:
        if method == "align":
            locator.open(translation)
        for qa in paragraph["qas"]:
            for answer in qa["answers"]:
                if method == "align":
                    place = locator.locate(answer)
                elif method == "literal":
                    place = clean_squad.locate_literally(translation, answer)
                else:
                    place = method(translation, answer)
                found.append((qa["id"], answer, place))
    return found


def print_ladder(title: str, paragraphs: list[tuple[dict, Translation]]) -> None:
    print_header(title)
    for name, method in LADDER.items():
        print_row(name, score(locate_all(paragraphs, method)))


def print_ablations(paragraphs: list[tuple[dict, Translation]]) -> None:
    print_header("ablations")
    for name, changes in ABLATIONS.items():
        before = {key: getattr(clean_squad, key) for key in changes}
        for key, value in changes.items():
            setattr(clean_squad, key, value)
        print_row(name, score(locate_all(paragraphs, "align")))
        for key, value in before.items():
            setattr(clean_squad, key, value)
    bare = [
        ({**p, "sentences": None}, clean_squad.read_translation({**p, "sentences": None}, Counter()))
        for p, _ in paragraphs
    ]
    print_row("sentence map made here", score(locate_all(bare, "align")))
    whole = [(p, Translation(t.source, t.target, [])) for p, t in paragraphs]
    print_row("no sentence map at all", score(locate_all(whole, "align")))
    silent = [
        ({**p, "qas": [{**qa, "answers": [{**a, "iso_t": None} for a in qa["answers"]]} for qa in p["qas"]]}, t)
        for p, t in paragraphs
    ]
    print_row("no isolated translations", score(locate_all(silent, "align")))
    halves = [paragraphs[: len(paragraphs) // 2], paragraphs[len(paragraphs) // 2 :]]
    print_row("learned from half the file", score([found for half in halves for found in locate_all(half, "align")]))
    print_row(
        "learned from one paragraph", score([found for pair in paragraphs for found in locate_all([pair], "align")])
    )


def print_confidence(paragraphs: list[tuple[dict, Translation]]) -> None:
    """What --min_confidence buys: the figures of the answers at or above each threshold."""
    print_header("--min_confidence")
    found = locate_all(paragraphs, "align", 0.0)
    for threshold in (0.0, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75):
        print_row(f"{threshold:.2f}", score([(q, a, p if p.confidence >= threshold else None) for q, a, p in found]))


# ---------------------------------------------------------------------------------------------------------------------
# Stress: human translation, with isolated answers that were damaged on purpose
# ---------------------------------------------------------------------------------------------------------------------


def damage(text: str, source: str, words: list[str], rng: random.Random) -> str | None:
    """What a bad translator may make of an answer: as it is 30 %, other endings, untranslated, wrong words, nothing."""
    chance, parts = rng.random(), text.split()
    if chance < 0.3:
        return text
    if chance < 0.55:
        parts = [
            part[:-1] + rng.choice(["n", "s", "e", "er", ""]) if len(part) > 4 and rng.random() < 0.5 else part
            for part in parts
        ]
        return " ".join(parts)[:1].upper() + " ".join(parts)[1:]
    if chance < 0.7:
        return source
    if chance < 0.75:
        rng.shuffle(parts)
    elif chance < 0.87:
        parts = [rng.choice(words) if rng.random() < 0.5 and not part[0].isdigit() else part for part in parts]
    elif chance < 0.9:
        parts = [rng.choice(words) for _ in parts]
    else:
        return None
    return " ".join(parts)


def read_xquad(isolated: Callable[[str, str], str | None]) -> list[tuple[dict, Translation]]:
    """XQuAD English → German, without sentence map; isolated(gold text, source text) makes each iso_t."""
    english, german = (
        json.loads((SHARED_DATA / f"xquad.{lang}.json").read_text("utf-8"))["data"] for lang in ("en", "de")
    )
    document: dict[str, Any] = {"data": []}
    for source, target in zip(english, german, strict=True):
        paragraphs = []
        for p, q in zip(source["paragraphs"], target["paragraphs"], strict=True):
            gold = {qa["id"]: qa for qa in q["qas"]}
            qas = []
            for qa in p["qas"]:
                other = gold[qa["id"]]
                answer = {**qa["answers"][0], "gold": other["answers"][0]}
                answer["iso_t"] = isolated(answer["gold"]["text"], answer["text"])
                qas.append({**qa, "question_t": other["question"], "answers": [answer]})
            paragraphs.append({"context": p["context"], "context_t": q["context"], "qas": qas})
        document["data"].append({"paragraphs": paragraphs})
    return read_paragraphs(document)


def print_stress() -> None:
    german = json.loads((SHARED_DATA / "xquad.de.json").read_text("utf-8"))["data"]
    words = [word for article in german for p in article["paragraphs"] for word in p["context"].split()]
    rng = random.Random(1)
    print_ladder("XQuAD en-de, damaged iso_t", read_xquad(lambda gold, source: damage(gold, source, words, rng)))
    nothing = read_xquad(lambda gold, source: None)
    print_header("XQuAD en-de, no iso_t")
    print_row("align (default)", score(locate_all(nothing, "align")))
    print_confidence(nothing)


# ---------------------------------------------------------------------------------------------------------------------
# Full size: the set many times over, with words that differ from copy to copy
# ---------------------------------------------------------------------------------------------------------------------


def vary(text: str, copy: int) -> str:
    """The text with a third of its longer words shifted along the alphabet, the same way throughout one copy."""

    def shift(match: re.Match[str]) -> str:
        word = match.group()
        if len(word) < 6 or zlib.crc32(f"{copy % 40}{word.lower()}".encode()) % 3:
            return word
        return "".join(
            chr((ord(c) - first + copy) % 26 + first) if c.isascii() else c
            for c, first in ((c, 97 if c.islower() else 65) for c in word)
        )

    return re.sub(r"[^\W\d_]+", shift, text)


def replicate(document: dict[str, Any], copies: int) -> dict[str, Any]:
    """About 142 K questions and 78 K answers from 133 copies of the tuning set."""
    rng, articles = random.Random(0), []
    for copy in range(copies):
        for article in document["data"]:
            paragraphs = []
            for p in article["paragraphs"]:
                qas = [
                    {
                        **{key: vary(qa[key], copy) for key in ("question", "question_t")},
                        "id": f"{qa['id']}-{copy}",
                        "is_impossible": qa["is_impossible"],
                        "answers": [
                            {
                                "text": vary(a["text"], copy),
                                "answer_start": a["answer_start"],
                                "iso_t": vary(a["iso_t"], copy),
                            }
                            for a in qa["answers"][:1]
                        ],
                    }
                    for qa in p["qas"]
                    if rng.random() < (0.63 if qa["is_impossible"] else 0.88)
                ]
                texts = {key: vary(p[key], copy) for key in ("context", "context_t")}
                paragraphs.append({**texts, "sentences": p["sentences"], "qas": qas})
            articles.append({"title": article["title"], "paragraphs": paragraphs})
    return {"version": "v2.0", "data": articles}


def run_full_size(data_file: str, copies: int) -> None:
    """Clean the replicated set in a process of its own; print its size, time and peak memory."""
    document = replicate(json.loads(Path(data_file).read_text("utf-8")), copies)
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    questions = [qa for paragraph in paragraphs for qa in paragraph["qas"]]
    sentences, answers = sum(len(p["sentences"] or []) for p in paragraphs), sum(len(qa["answers"]) for qa in questions)
    sizes = {
        "paragraphs": len(paragraphs),
        "sentence pairs": sentences,
        "questions": len(questions),
        "answers": answers,
    }
    print("\n" + ", ".join(f"{count:,} {name}" for name, count in sizes.items()))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.json"), Path(folder, "out.json")
        source.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
        command = [
            sys.executable,
            str(ROOT / "clean_squad.py"),
            "--input_file",
            str(source),
            "--output_file",
            str(target),
        ]
        start = time.perf_counter()
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n".join(line for line in output.splitlines() if line.startswith("kept ") and "|" not in line))
    print(
        f"{seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU, peak memory {used.ru_maxrss / 2**20:.2f} GiB"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_file", default=str(SHARED_DATA / "mt_en_es_tune.json"), help="set with gold spans")
    parser.add_argument("--ablations", action="store_true", help="also what each part is worth, and each threshold")
    parser.add_argument("--stress", action="store_true", help="also XQuAD English-German with damaged isolated answers")
    parser.add_argument("--full_size", action="store_true", help="also time and memory on --copies of the set")
    parser.add_argument(
        "--copies", type=int, default=133, help="for --full_size (default: 133, the size of SQuAD train)"
    )
    return parser


def main() -> int:
    args = build_parser().parse_args()
    paragraphs = read_set(args.data_file)
    print_ladder(Path(args.data_file).name, paragraphs)
    if args.ablations:
        print_ablations(paragraphs)
        print_confidence(paragraphs)
    if args.stress:
        print_stress()
    if args.full_size:
        run_full_size(args.data_file, args.copies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
