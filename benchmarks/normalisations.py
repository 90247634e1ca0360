"""The normalisations of squadlib/scoring beside the originals, string by string and as whole evaluations.

    git clone https://github.com/facebookresearch/MLQA && git clone https://github.com/apple/ml-mkqa
    python benchmarks/normalisations.py --mlqa MLQA/mlqa_evaluation_v1.py --mkqa ml-mkqa/mkqa_eval_util.py

For each rule: random strings over the language's letters, its articles, punctuation of all scripts, digits, and spaces
and invisible characters of all kinds; and, where `$SQUAD_TEST_DATA` has XQuAD in the language (xquad.de.json), its
questions, answers and pieces of its contexts. Both sides must cut every string into the same words. Then EM and F1 of
predictions for the XQuAD file from both sides. Exit code 1 when anything differs. The originals are run and nothing is
taken from them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import evaluate_v2  # noqa: E402
from squadlib.scoring import normalisation  # noqa: E402

NUM_STRINGS = 20_000
ALPHABETS = {  # ranges of letters beside a to z
    "ar": "\u0621-\u064a\u064b-\u0652",
    "he": "\u05d0-\u05ea\u05b0-\u05bc",
    "hi": "\u0904-\u0939\u093e-\u094d",
    "ja": "\u3041-\u3096\u30a1-\u30fa\u4e00-\u4e80",
    "km": "\u1780-\u17b3\u17b6-\u17d3",
    "ko": "\uac00-\uacff",
    "ru": "\u0410-\u044f",
    "th": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "vi": "\u00c0-\u01b0\u0300-\u0303\u1ea0-\u1ef9",
    "zh": "\u3400-\u3420\u4e00-\u4eff\u9fa0-\u9fff",
}
LATIN = "\u00c0-\u017f\u0300-\u0308"  # with accents, and accents alone
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»‘’“”„–—…·‐‑·՚׃،؛؟।॥༄៕。、「」『』・！？（）￥€°©§¶†"
INVISIBLE = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2002\u2009\u200b\u200c\u200d\u2028\u2029\u202f\u3000\ufeff"
)
AWKWARD = "İıßΣσςǅﬁ½²Ⅻ①😀\U0001f1f3\U00020000\U0010ffff"
REAL = {"es": "mt_en_es_tune.json"}  # text of a language without XQuAD
NATIVE = {"mkqa-zh": ("zh_cn", "zh_hk", "zh_tw")}  # one rule of ours for three languages of the original


def load(path: str) -> types.ModuleType:
    """The module in a file; its plots are not needed, so matplotlib need not be there."""
    for name in ("matplotlib", "matplotlib.pyplot"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["matplotlib"].use = sys.modules["matplotlib"].pyplot = lambda *_: None
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_strings(language: str, draw: random.Random) -> Iterator[str]:
    """Words of random letters, articles and their neighbours, punctuation, digits, spaces."""
    ranges = ALPHABETS.get(language, LATIN) + "a-zA-Z"
    letters = [chr(code) for first, last in pairs(ranges) for code in range(ord(first), ord(last) + 1)]
    articles = " ".join([*normalisation.WHOLE_WORDS.values(), *normalisation.BEGINNINGS.values(), "ال l' d' dell' un'"])
    own = normalisation.WHOLE_WORDS.get(language, normalisation.BEGINNINGS.get(language, "ال")).split()
    while True:
        parts = []
        for _ in range(draw.randint(0, 8)):
            kind = draw.random()
            if kind < 0.35:
                parts.append("".join(draw.choices(letters, k=draw.randint(1, 6))))
            elif kind < 0.65:
                article = draw.choice(own if kind < 0.55 else articles.split())
                parts.append(draw.choice([article, article.upper(), article.title(), article + draw.choice(letters)]))
            else:
                alphabet = PUNCTUATION if kind < 0.8 else "0123456789" if kind < 0.88 else AWKWARD
                parts.append("".join(draw.choices(alphabet, k=draw.randint(1, 3))))
            parts.append("" if draw.random() < 0.3 else " " if draw.random() < 0.6 else draw.choice(INVISIBLE))
        yield "".join(parts)


def pairs(ranges: str) -> Iterator[tuple[str, str]]:
    for start in range(0, len(ranges), 3):
        yield ranges[start], ranges[start + 2]


def real_strings(path: Path, draw: random.Random) -> Iterator[str]:
    """Questions, answers, and random pieces of the contexts; of a translated file, the translations."""
    suffix = "" if path.name.startswith("xquad") else "_t"
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            context = paragraph[f"context{suffix}"]
            for _ in range(40):
                start = draw.randrange(len(context))
                yield context[start : start + draw.randint(1, 60)]
            for question in paragraph["qas"]:
                yield question[f"question{suffix}"]
                yield from (answer["iso_t" if suffix else "text"] for answer in question["answers"])


def compare_strings(rule: str, originals: list[Callable[[str], str]], data_dir: Path | None) -> tuple[int, int, int]:
    """(different random strings, different real ones, how many of them come out differently)."""
    language, draw = rule.split("-")[1], random.Random(rule)
    path = data_dir / REAL.get(language, f"xquad.{language}.json") if data_dir else Path("none")
    real = set(real_strings(path, draw)) if path.exists() else set()
    strings = random_strings(language, draw)
    made: set[str] = set()
    while len(made) < NUM_STRINGS:
        made.add(next(strings))
    wrong = [
        text
        for text in real | made
        if any(normalisation.normalise(text, rule) != original(text) for original in originals)
    ]
    for text in wrong[:3]:
        print(f"{rule}: {text!r} -> {normalisation.normalise(text, rule)!r}, {originals[0](text)!r}", file=sys.stderr)
    return len(made), len(real), len(wrong)


def compare_scores(rule: str, original: Callable[[list, dict], tuple[float, float]], path: Path) -> tuple[float, ...]:
    """(EM, F1, largest difference) of predictions that are right, cut, or elsewhere in the context."""
    draw, data = random.Random(0), json.loads(path.read_text(encoding="utf-8"))["data"]
    predictions = {}
    for paragraph in (paragraph for article in data for paragraph in article["paragraphs"]):
        for question in paragraph["qas"]:
            text, start = question["answers"][0]["text"], draw.randrange(len(paragraph["context"]))
            piece = paragraph["context"][start : start + 10]
            predictions[question["id"]] = draw.choice(
                [text, text.upper() + ".", text[: len(text) // 2 + 1], text + piece]
            )
    golds = evaluate_v2.read_golds(str(path))
    columns = [list(scores.values()) for scores in evaluate_v2.score_answers(golds, predictions, rule)]
    ours = [100.0 * sum(column) / len(column) for column in columns]
    return (*ours, max(abs(a - b) for a, b in zip(ours, original(data, predictions), strict=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlqa", required=True, help="mlqa_evaluation_v1.py of facebookresearch/MLQA")
    parser.add_argument("--mkqa", required=True, help="mkqa_eval_util.py of apple/ml-mkqa")
    parser.add_argument("--data_dir", default=os.environ.get("SQUAD_TEST_DATA"), help="with xquad.LANGUAGE.json")
    args = parser.parse_args()
    mlqa, mkqa = load(args.mlqa), load(args.mkqa)
    data_dir = Path(args.data_dir) if args.data_dir else None

    def mlqa_scores(language: str) -> Callable[[list, dict], tuple[float, float]]:
        return lambda data, predictions: tuple(mlqa.evaluate(data, predictions, language).values())

    def mkqa_scores(language: str) -> Callable[[list, dict], tuple[float, float]]:
        def score(data: list, predictions: dict) -> tuple[float, float]:
            questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
            golds = [[answer["text"] for answer in qa["answers"]] for qa in questions]
            metrics = mkqa.get_text_metrics([predictions[qa["id"]] for qa in questions], golds, language)
            return tuple(100.0 * sum(metrics[key]) / len(questions) for key in ("exact_match", "f1"))

        return score

    print("| rule | random strings | real strings | different | XQuAD EM/F1 | differs by |\n|---|---|---|---|---|---|")
    total = faults = 0
    for rule in normalisation.NAMES:
        source, language = rule.split("-")
        names = NATIVE.get(rule, (language,))
        side = mlqa.normalize_answer if source == "mlqa" else mkqa.normalize_answer_by_language
        originals = [lambda text, name=name, side=side: side(text, name) for name in names]
        made, real, wrong = compare_strings(rule, originals, data_dir)
        scored = ["–", "–"]
        path = data_dir / f"xquad.{language}.json" if data_dir else Path("none")
        if path.exists():
            scores = mlqa_scores if source == "mlqa" else mkqa_scores
            exact, f1, difference = compare_scores(rule, scores(names[0]), path)
            scored, faults = [f"{exact:.2f}/{f1:.2f}", f"{difference:.0e}"], faults + (difference > 1e-9)
        print(f"| {rule} | {made:,} | {real:,} | {wrong} | {' | '.join(scored)} |", flush=True)
        total, faults = total + made + real, faults + wrong
    print(f"\n{total:,} strings under {len(normalisation.NAMES)} rules; {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
