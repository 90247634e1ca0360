"""How well clean_squad.py finds answers again: the ladder from literal search to word alignment, on sets with gold.

    python benchmarks/alignment.py                                     # the ladder on mt_en_es_tune.json
    python benchmarks/alignment.py --data_file other.json --ablations  # another set, and what each part is worth
    python benchmarks/alignment.py --stress                            # XQuAD: isolated answers damaged, or none at all
    python benchmarks/alignment.py --full_size                         # time and memory at the size of SQuAD train

A set, of $SQUAD_TEST_DATA, is a file as translate_squad.py writes it with `gold` ({"answer_start", "text"} or null) in
each answer.

questions   answerable questions with at least one answer found, %
answers     answers found, % of those with a gold span; the next three are of these
misplaced   spans that do not touch the gold span, %
f1, exact   words in common, the same words: % without case and punctuation, exact without articles too; 0 if misplaced
            (characters instead of words in Chinese and Thai, which write no spaces)
"""

from __future__ import annotations

import argparse
import json
import os
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import clean_squad  # noqa: E402
from squadlib.cleaning import candidates, tokens, word_alignment  # noqa: E402
from squadlib.cleaning.answer_location import Location, locate_literally, make_locators  # noqa: E402
from squadlib.cleaning.candidates import occurrences  # noqa: E402
from squadlib.cleaning.corpus import Corpus  # noqa: E402
from squadlib.cleaning.tokens import UNSPACED, fold, fold_text, tokenize  # noqa: E402
from squadlib.cleaning.translated_document import (  # noqa: E402
    Article,
    Paragraph,
    SourceAnswer,
    TranslatedDocument,
    read_document,
)
from squadlib.cleaning.word_alignment import WordAligner  # noqa: E402

ARTICLES = (
    {"a", "an", "the", "de", "het", "een", "el", "la", "los", "las", "lo", "un", "una", "unos", "unas", "al", "del"}
    | {"der", "die", "das", "dem", "den", "des", "ein", "eine", "einen", "einem", "einer", "eines", "le", "les", "une"}
    | {"il", "i", "gli", "uno", "els"}
)
PUNCTUATION = str.maketrans("", "", string.punctuation + "“”„‘’‚«»‹›¿¡–—…")
HUMAN_TRANSLATIONS = ("de", "tr", "zh", "th")  # of XQuAD
Find = Callable[[Paragraph, SourceAnswer], Location | None]
JsonObject = dict[str, Any]

ABLATIONS: dict[str, list[tuple[ModuleType, str, object]]] = {
    "as it is": [],
    "no alignment overlap": [(candidates, "ALIGNMENT_WEIGHT", 0.0), (candidates, "LEXICAL_WEIGHT", 0.9)],
    "no lexical similarity": [(candidates, "ALIGNMENT_WEIGHT", 0.9), (candidates, "LEXICAL_WEIGHT", 0.0)],
    "no position": [(candidates, "POSITION_WEIGHT", 0.0)],
    "no spelling prior": [(word_alignment, "SAME_STEM_COUNT", 0.0), (word_alignment, "SAME_PREFIX_COUNT", 0.001)],
    "no diagonal prior": [(word_alignment, "DIAGONAL", 0.0)],
    "whole words, not stems": [(tokens, "STEM_LENGTH", 50)],
    "no jump model": [(word_alignment, "FIRST_ROUNDS", 5), (word_alignment, "JUMP_ROUNDS", 0)],
    "jumps from the start": [(word_alignment, "FIRST_ROUNDS", 1)],
    "words without their beginnings": [(word_alignment, "BEGINNING_COUNT", 0.0)],
    "a table of 2^16 places": [(word_alignment, "MAX_TABLE_BITS", 16)],
}


class Gold(NamedTuple):
    """Where the answer truly is."""

    start: int
    text: str


class GoldParagraph(NamedTuple):
    """A translated paragraph, and the gold span of each answer of its questions, where one is known."""

    paragraph: Paragraph
    gold: list[Gold | None]


class Found(NamedTuple):
    qid: str
    gold: Gold | None
    place: Location | None


# ---------------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------------


def normalized(text: str, articles: bool) -> list[str]:
    spaced = re.sub(f"([{UNSPACED}])", r" \1 ", text.casefold().translate(PUNCTUATION))
    words = spaced.split()
    return words if articles else [word for word in words if word not in ARTICLES]


def word_f1(gold: str, found: str) -> float:
    gold_words, found_words = normalized(gold, True), normalized(found, True)
    common = (Counter(gold_words) & Counter(found_words)).total()
    return 2 * common / (len(gold_words) + len(found_words)) if common else float(gold_words == found_words)


def score(answers: list[Found]) -> dict[str, float]:
    """The figures of the table, in percent."""
    kept = {qid for qid, _, place in answers if place and place.span}
    with_gold = [(gold, place) for _, gold, place in answers if gold]
    found = [(gold, place.span, place.text) for gold, place in with_gold if place and place.span]
    near = [(g.text, text) for g, span, text in found if span[0] < g.start + len(g.text) and g.start < span[1]]
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


def at(paragraph: Paragraph, start: int, length: int) -> Location | None:
    return Location(start, paragraph.target[start : start + length], "") if start >= 0 else None


def expected_place(paragraph: Paragraph, answer: SourceAnswer) -> float:
    return answer.start / len(paragraph.source) * len(paragraph.target)


def find_lower_first(paragraph: Paragraph, answer: SourceAnswer) -> Location | None:
    """Literal, after the first letter of the translation took the case of the source answer's first letter."""
    isolated = answer.isolated or ""
    if answer.text[:1].islower():
        isolated = isolated[:1].lower() + isolated[1:]
    return at(paragraph, paragraph.target.find(isolated), len(isolated)) if isolated else None


def find_casefolded(paragraph: Paragraph, answer: SourceAnswer) -> Location | None:
    isolated = (answer.isolated or "").lower()
    return at(paragraph, paragraph.target.lower().find(isolated), len(isolated)) if isolated else None


def find_nearest_casefolded(paragraph: Paragraph, answer: SourceAnswer) -> Location | None:
    """Case-folded, whole tokens, the place nearest to the relative offset."""
    isolated, text = (answer.isolated or "").lower(), paragraph.target.lower()
    places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(isolated)}(?!\w)", text)] if isolated else []
    expected = expected_place(paragraph, answer)
    return at(paragraph, min(places, key=lambda place: abs(place - expected), default=-1), len(isolated))


def find_normalized(paragraph: Paragraph, answer: SourceAnswer) -> Location | None:
    """Nearest, in any spelling: accents, quotes, number formats, article aside, the source text where it was kept."""
    spans = tokenize(paragraph.target)
    words = [fold(paragraph.target[start:end]) for start, end in spans]
    isolated, source = fold_text(answer.isolated or ""), fold_text(answer.text)
    expected = expected_place(paragraph, answer)
    for wanted in (isolated, isolated[1:] if isolated[:1] and isolated[0] in ARTICLES else [], source):
        places = occurrences(words, wanted)
        if places:
            first = min(places, key=lambda place: abs(spans[place][0] - expected))
            start, end = spans[first][0], spans[first + len(wanted) - 1][1]
            return at(paragraph, start, end - start)
    return None


LADDER: dict[str, Find | None] = {
    "literal, first (published rule)": locate_literally,
    "+ first letter like the source": find_lower_first,
    "case-folded, first": find_casefolded,
    "+ whole tokens, nearest": find_nearest_casefolded,
    "+ any spelling, source kept": find_normalized,
    "align (default)": None,
}


def read_set(path: str | Path) -> list[GoldParagraph]:
    return read_gold(json.loads(Path(path).read_text("utf-8")))


def read_gold(document: JsonObject) -> list[GoldParagraph]:
    """The usable paragraphs of a document with `gold` in its answers."""
    rows = [row for article in document["data"] for row in article["paragraphs"]]
    pairs = []
    for row, paragraph in zip(rows, read_document(document).paragraphs, strict=True):
        golds = [answer.get("gold") for qa in row["qas"] for answer in qa["answers"]]
        if not paragraph.fault:
            pairs.append(GoldParagraph(paragraph, [Gold(g["answer_start"], g["text"]) if g else None for g in golds]))
    return pairs


def locate_all(
    pairs: list[GoldParagraph],
    method: Find | None,
    min_confidence: float | None = None,
    make_aligner: Callable[[Corpus], WordAligner] = WordAligner,
) -> list[Found]:
    """Every answer. method: a function of the ladder; None: by word alignment."""
    paragraphs = [pair.paragraph for pair in pairs]
    threshold = clean_squad.MIN_CONFIDENCE if min_confidence is None else min_confidence
    if method is None:
        aligner = make_aligner(clean_squad.read_corpus(TranslatedDocument({}, [Article("", paragraphs)])))
    locators = make_locators(paragraphs, aligner, threshold) if method is None else []
    found = []
    for number, (paragraph, golds) in enumerate(pairs):
        locate = partial(method, paragraph) if method else locators[number].locate
        answers = [(question.qid, answer) for question in paragraph.questions for answer in question.answers]
        found += [Found(qid, gold, locate(answer)) for (qid, answer), gold in zip(answers, golds, strict=True)]
    return found


def print_ladder(title: str, pairs: list[GoldParagraph]) -> None:
    print_header(title)
    for name, method in LADDER.items():
        print_row(name, score(locate_all(pairs, method)))
    print_peer("align with eflomal's links", pairs)


def print_peer(name: str, pairs: list[GoldParagraph]) -> None:
    """Our search with the links of eflomal in place of our aligner, where it is installed."""
    try:
        from eflomal_peer import EflomalAligner
    except ImportError:
        print(f"{name:32s} skipped: eflomal is not installed (pip install eflomal)")
        return
    print_row(name, score(locate_all(pairs, None, make_aligner=EflomalAligner)))


def print_ablations(path: str) -> None:
    print_header("ablations")
    pairs = read_set(path)
    for name, changes in ABLATIONS.items():
        before = [(module, key, getattr(module, key)) for module, key, _ in changes]
        for module, key, value in changes:
            setattr(module, key, value)
        print_row(name, score(locate_all(pairs, None)))
        for module, key, value in before:
            setattr(module, key, value)
    document = json.loads(Path(path).read_text("utf-8"))
    for paragraph in (paragraph for article in document["data"] for paragraph in article["paragraphs"]):
        paragraph["sentences"] = None
    print_row("sentence map made here", score(locate_all(read_gold(document), None)))
    whole = [GoldParagraph(replace(paragraph, sentences=[]), gold) for paragraph, gold in pairs]
    print_row("no sentence map at all", score(locate_all(whole, None)))
    print_row("no isolated translations", score(locate_all(without_isolated(pairs), None)))
    halves = [pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]]
    print_row("learned from half the file", score([found for half in halves for found in locate_all(half, None)]))
    print_row("learned from one paragraph", score([found for pair in pairs for found in locate_all([pair], None)]))


def without_isolated(pairs: list[GoldParagraph]) -> list[GoldParagraph]:
    silent = []
    for paragraph, gold in pairs:
        questions = [
            question._replace(answers=tuple(answer._replace(isolated=None) for answer in question.answers))
            for question in paragraph.questions
        ]
        silent.append(GoldParagraph(replace(paragraph, questions=questions), gold))
    return silent


def print_confidence(pairs: list[GoldParagraph]) -> None:
    """What --min_confidence buys: the figures of the answers at or above each threshold."""
    print_header("--min_confidence")
    answers = locate_all(pairs, None, 0.0)
    for threshold in (0.0, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95):
        kept = [a if a.place and a.place.confidence >= threshold else a._replace(place=None) for a in answers]
        print_row(f"{threshold:.2f}", score(kept))


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


def read_xquad(data_dir: Path, language: str, isolated: Callable[[str, str], str | None]) -> list[GoldParagraph]:
    """XQuAD from English, without sentence map; isolated(gold text, source text) makes each iso_t."""
    english, other_language = (
        json.loads((data_dir / f"xquad.{lang}.json").read_text("utf-8"))["data"] for lang in ("en", language)
    )
    document: JsonObject = {"data": []}
    for source, target in zip(english, other_language, strict=True):
        paragraphs = []
        for p, q in zip(source["paragraphs"], target["paragraphs"], strict=True):
            gold = {qa["id"]: qa for qa in q["qas"]}
            qas = []
            for qa in p["qas"]:
                other = gold[qa["id"]]
                answer = {**qa["answers"][0], "gold": other["answers"][0]}
                answer["iso_t"] = isolated(answer["gold"]["text"], answer["text"])
                qas.append({**qa, "question_t": other["question"], "is_impossible": False, "answers": [answer]})
            paragraphs.append({"context": p["context"], "context_t": q["context"], "qas": qas})
        document["data"].append({"paragraphs": paragraphs})
    return read_gold(document)


def print_stress(data_dir: Path) -> None:
    german = json.loads((data_dir / "xquad.de.json").read_text("utf-8"))["data"]
    words = [word for article in german for p in article["paragraphs"] for word in p["context"].split()]
    rng = random.Random(1)
    print_ladder(
        "XQuAD en-de, damaged iso_t", read_xquad(data_dir, "de", lambda gold, source: damage(gold, source, words, rng))
    )
    for title, isolated in {"no iso_t": lambda gold, _: None, "true iso_t": lambda gold, _: gold}.items():
        print_header(f"XQuAD, {title}")
        for language in HUMAN_TRANSLATIONS:
            pairs = read_xquad(data_dir, language, isolated)
            print_row(f"align (default), en-{language}", score(locate_all(pairs, None)))
            print_peer(f"with eflomal's links, en-{language}", pairs)
    print_confidence(read_xquad(data_dir, "de", lambda gold, source: None))


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


def replicate(document: JsonObject, copies: int) -> JsonObject:
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
    given = os.environ.get("SQUAD_TEST_DATA")
    parser.add_argument("--data_dir", default=given, required=not given, help="folder of the data ($SQUAD_TEST_DATA)")
    parser.add_argument("--data_file", help="set with gold spans (default: mt_en_es_tune.json of --data_dir)")
    parser.add_argument("--ablations", action="store_true", help="also what each part is worth, and each threshold")
    parser.add_argument(
        "--stress", action="store_true", help="also XQuAD, with damaged, without and with true isolated answers"
    )
    parser.add_argument("--full_size", action="store_true", help="also time and memory on --copies of the set")
    parser.add_argument(
        "--copies", type=int, default=133, help="for --full_size (default: 133, the size of SQuAD train)"
    )
    return parser


def main() -> int:
    args = build_parser().parse_args()
    args.data_file = args.data_file or str(Path(args.data_dir, "mt_en_es_tune.json"))
    pairs = read_set(args.data_file)
    print_ladder(Path(args.data_file).name, pairs)
    if args.ablations:
        print_ablations(args.data_file)
        print_confidence(pairs)
    if args.stress:
        print_stress(Path(args.data_dir))
    if args.full_size:
        run_full_size(args.data_file, args.copies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
