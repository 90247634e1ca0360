"""Find the answers of a translated SQuAD file again, and write a plain SQuAD file in the target language.

    python clean_squad.py --input_file nl_squadv2_train.json --output_file nl_squadv2_train_clean.json

Reads what translate_squad.py wrote: a SQuAD document with the source texts under their usual keys and the translations
beside them (`context_t`, `sentences`, `question_t`, and for each answer `iso_t`, the answer translated alone). Writes
title, context, questions and answers of the translation, with `answer_start` counted in the translated context.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utils_squad import (
    check_output_path,
    exit_with_faults,
    load_squad,
    script_main,
    setup_logging,
    write_json,
)

METHODS = ("literal",)

logger = logging.getLogger("clean_squad")


@dataclass(frozen=True)
class Location:
    """Where an answer is in the translated context; start is None when it was not found, and strategy says why."""

    start: int | None
    text: str
    strategy: str
    confidence: float = 1.0


Locate = Callable[[dict[str, Any], dict[str, Any]], Location]  # (paragraph, answer) -> Location


def locate_literally(paragraph: dict[str, Any], answer: dict[str, Any]) -> Location:
    """The rule of the published Dutch set: first literal occurrence of the answer's isolated translation."""
    text = answer.get("iso_t")
    if not text:
        return Location(None, "", "the answer is not translated")
    start = paragraph["context_t"].find(text)
    if start < 0:
        return Location(None, text, "its translation is not in the context, letter by letter")
    return Location(start, text, "literal")


def clean_question(paragraph: dict[str, Any], qa: dict[str, Any], locate: Locate) -> tuple[dict | None, str]:
    """(plain SQuAD question, "") or (None, the reason to drop it)."""
    if not paragraph.get("context_t"):
        return None, "the context is not translated"
    if not qa.get("question_t"):
        return None, "the question is not translated"
    locations = [] if qa["is_impossible"] else [locate(paragraph, answer) for answer in qa["answers"]]
    found = dict.fromkeys((place.text, place.start) for place in locations if place.start is not None)
    if not found and not qa["is_impossible"]:
        return None, locations[0].strategy if locations else "the source has no answer"
    answers = [{"text": text, "answer_start": start} for text, start in found]
    record = {"id": qa["id"], "question": qa["question_t"], "answers": answers, "is_impossible": qa["is_impossible"]}
    return record, ""


def clean_document(document: dict[str, Any], locate: Locate) -> tuple[dict[str, Any], Counter, list[dict[str, Any]]]:
    """(plain SQuAD document, counts by "kept …" / "total …", dropped questions with their reasons)."""
    counts: Counter = Counter()
    dropped, articles = [], []
    for article in document["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            questions = []
            for qa in paragraph["qas"]:
                kind = "unanswerable" if qa["is_impossible"] else "answerable"
                question, reason = clean_question(paragraph, qa, locate)
                counts[f"total {kind}"] += 1
                if question is None:
                    dropped.append({"id": qa["id"], "question": qa["question"], "reason": reason})
                else:
                    counts[f"kept {kind}"] += 1
                    questions.append(question)
            if questions:
                paragraphs.append({"context": paragraph["context_t"], "qas": questions})
        if paragraphs:
            articles.append({"title": article.get("title", ""), "paragraphs": paragraphs})
    return {"version": document.get("version", "v2.0"), "data": articles}, counts, dropped


def format_table(counts: Counter, input_file: str, output_file: str) -> str:
    """The table of the published set (Dataset | # Q&A), with its two kinds of questions."""
    rows = [("Dataset", "# Q&A", "answerable", "unanswerable")]
    for name, stage in ((input_file, "total"), (output_file, "kept")):
        answerable, unanswerable = counts[f"{stage} answerable"], counts[f"{stage} unanswerable"]
        rows.append((name, f"{answerable + unanswerable:,}", f"{answerable:,}", f"{unanswerable:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument("--input_file", required=True, help="file written by translate_squad.py")
    data.add_argument("--output_file", required=True, help="plain SQuAD file to write, in the target language")
    data.add_argument("--dropped_file", help="write the dropped questions with their reasons here (JSON)")
    task = parser.add_argument_group("task")
    task.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="how answers are found (default: %(default)s)"
    )
    return parser


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the command line."""
    faults: list[str] = []
    check_output_path(args.output_file, faults, "--output_file")
    if args.dropped_file:
        check_output_path(args.dropped_file, faults, "--dropped_file")
    return faults


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging()
    exit_with_faults(parser, check_args(args))
    document = load_squad(args.input_file, answers_required=False)
    cleaned, counts, dropped = clean_document(document, locate_literally)
    write_json(args.output_file, cleaned, ensure_ascii=False)
    if args.dropped_file:
        write_json(args.dropped_file, dropped, ensure_ascii=False)
    print(format_table(counts, args.input_file, args.output_file))
    for reason, count in Counter(question["reason"] for question in dropped).most_common():
        print(f"dropped {count:,}: {reason}")
    logger.info("wrote %s; next: python run_squad.py --train_file %s …", args.output_file, args.output_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
