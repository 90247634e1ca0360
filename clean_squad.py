"""Find the answers of a translated SQuAD file again, and write a plain SQuAD file in the target language.

    python clean_squad.py --input_file nl_squadv2_train.json --output_file nl_squadv2_train_clean.json

Reads what translate_squad.py wrote: a SQuAD document with the source texts under their usual keys and the translations
beside them (`context_t`, `sentences`, `question_t`, and for each answer `iso_t`, the answer translated alone). Writes
title, context, questions and answers of the translation, with `answer_start` counted in the translated context, and
prints what was kept, what was dropped and why.

--method align (default) learns from the file itself which words translate each other, and looks in the translation of
the answer's sentence for the words that belong to the answer. --method literal is the rule of the published Dutch set:
the first place where the answer's isolated translation stands letter by letter; it loses about a third of the answers.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from squadlib.cleaning.answer_location import NO_ANSWER, Location, Locator, Translation, locate_literally, source_offset
from squadlib.cleaning.sentence_pairs import align_sentences, read_sentence_map
from squadlib.cleaning.tokens import is_echo, usable_text
from squadlib.cleaning.word_alignment import Corpus, WordAligner
from squadlib.console import SquadError, exit_with_faults, logger, progress_bar, script_main, setup_logging
from squadlib.data import iter_questions, load_squad
from squadlib.files import check_output_path, write_json

METHODS = ("align", "literal")
NUM_SAMPLES = 20  # of the least certain answers, in the report
MIN_CONFIDENCE = 0.25  # on real machine translation every answer is above; see benchmarks/README.md


FEW_PAIRS = 1000  # with fewer sentence pairs than this the learned translations are weak


# ---------------------------------------------------------------------------------------------------------------------
# Documents: from the translated file to plain SQuAD
# ---------------------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of one answer."""

    qid: str
    answer: dict[str, Any]
    translation: Translation
    location: Location
    literal: Location


@dataclass
class Result:
    """The cleaned document and all that the report needs."""

    document: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)  # of questions: "source answerable", "kept …", "literal …"
    faults: Counter = field(default_factory=Counter)  # of the input


def read_translation(paragraph: dict[str, Any], faults: Counter) -> Translation:
    """The paragraph in both languages with a sentence map, made here where the file has none."""
    source, target = paragraph["context"], usable_text(paragraph.get("context_t"))
    fault = "the context is not translated" if target is None else ""
    if is_echo(source, target):
        fault = "the translated context is the source again"
    if fault:
        faults[fault] += 1
        return Translation(source, "", [], fault)
    sentences = read_sentence_map(paragraph.get("sentences"), source, target)
    if sentences is None:
        missing = not paragraph.get("sentences")
        faults["no sentence map: made one" if missing else "a sentence map that does not fit: made another"] += 1
        sentences = align_sentences(source, target)
    for sentence in sentences:
        if sentence.target_start is not None:
            translated = target[sentence.target_start : sentence.target_end]
            faults["a sentence left in the source language"] += is_echo(
                source[sentence.start : sentence.end], translated
            )
    return Translation(source, target, sentences)


def read_corpus(document: dict[str, Any], translations: list[Translation]) -> Corpus:
    """Everything that is translated: sentences, questions, isolated answers."""
    corpus = Corpus()
    paragraphs = (paragraph for article in document["data"] for paragraph in article["paragraphs"])
    for paragraph, translation in zip(paragraphs, translations, strict=True):
        for start, end, target_start, target_end in translation.sentences:
            if target_start is not None:
                corpus.add(translation.source[start:end], translation.target[target_start:target_end])
        for qa in paragraph["qas"]:
            corpus.add(qa["question"], usable_text(qa.get("question_t")) or "")
            for answer in qa["answers"]:
                corpus.add(answer["text"], usable_text(answer.get("iso_t")) or "")
    return corpus


def clean(document: dict[str, Any], translations: list[Translation], locator: Locator | None) -> Result:
    """Locate every answer and build the plain document. Without a locator, by the published rule."""
    origin = {"translation": document["translation"]} if "translation" in document else {}  # for the model card
    result = Result({"version": document.get("version", "v2.0"), **origin, "data": []})
    numbered = iter(translations)
    with progress_bar(total=len(translations), unit="paragraph", desc="finding answers") as bar:
        for article in document["data"]:
            paragraphs = []
            for paragraph in article["paragraphs"]:
                translation = next(numbered)
                if locator:
                    locator.open(translation)
                questions = [clean_question(qa, translation, locator, result) for qa in paragraph["qas"]]
                questions = [question for question in questions if question]
                if questions:
                    paragraphs.append({"context": translation.target, "qas": questions})
                bar.update()
            if paragraphs:
                title = usable_text(article.get("title")) or ""
                result.document["data"].append({"title": title, "paragraphs": paragraphs})
    return result


def clean_question(
    qa: dict[str, Any], translation: Translation, locator: Locator | None, result: Result
) -> dict[str, Any] | None:
    """The plain SQuAD question, or None after it was noted in result.dropped."""
    kind = "unanswerable" if qa["is_impossible"] else "answerable"
    result.counts[f"source {kind}"] += 1
    question, fault = read_question(qa, translation)
    outcomes = []
    if not fault and not qa["is_impossible"]:
        for answer in qa["answers"]:
            note_answer_faults(answer, translation, result.faults)
            literal = locate_literally(translation, answer)
            location = locator.locate(answer) if locator else literal
            outcomes.append(Outcome(qa["id"], answer, translation, location, literal))
        result.outcomes.extend(outcomes)
        result.counts["literal answerable"] += any(o.literal.start is not None for o in outcomes)
        if all(o.location.start is None for o in outcomes):
            fault = outcomes[0].location.strategy if outcomes else NO_ANSWER
    if fault:
        result.dropped.append(describe_dropped(qa, fault, outcomes))
        return None
    result.counts[f"kept {kind}"] += 1
    result.counts["literal unanswerable"] += qa["is_impossible"]
    found = dict.fromkeys((o.location.start, o.location.text) for o in outcomes if o.location.start is not None)
    answers = [{"text": text, "answer_start": start} for start, text in found]
    return {"id": qa["id"], "question": question, "answers": answers, "is_impossible": qa["is_impossible"]}


def read_question(qa: dict[str, Any], translation: Translation) -> tuple[str | None, str]:
    """(the translated question, what keeps it or its context from being used)."""
    question = usable_text(qa.get("question_t"))
    if translation.fault or question is None:
        return question, translation.fault or "the question is not translated"
    return question, "the translated question is the source again" if is_echo(qa["question"], question) else ""


def note_answer_faults(answer: dict[str, Any], translation: Translation, faults: Counter) -> None:
    start = source_offset(translation.source, answer)
    if start is None:
        faults["an answer that is not in its source context"] += 1
    elif start != answer["answer_start"]:
        faults["an answer beside its offset: took the nearest place"] += 1
    if usable_text(answer.get("iso_t")) is None:
        faults["an answer without its isolated translation"] += 1


def describe_dropped(qa: dict[str, Any], fault: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """A line of --dropped_file: the question, the reason, and for each answer the reason and the best guess."""
    answers = [
        {
            "text": outcome.answer["text"],
            "iso_t": usable_text(outcome.answer.get("iso_t")),
            "reason": outcome.location.strategy,
            "best_guess": outcome.location.text or None,
            "confidence": outcome.location.confidence,
        }
        for outcome in outcomes
    ]
    kind = {"is_impossible": qa["is_impossible"]}
    return {"id": qa["id"], "question": qa["question"], **kind, "reason": fault, "answers": answers}


# ---------------------------------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------------------------------


def build_report(result: Result, input_file: str, output_file: str, method: str, min_confidence: float) -> dict:
    """All figures of a run, in the order in which they are printed. Holds no time or date: same input, same bytes."""
    located = [o for o in result.outcomes if o.location.start is not None]
    names = {"source": input_file, "kept": f"{output_file} ({method})", "literal": "kept by literal search"}
    answers_written = sum(len(qa["answers"]) for _, qa in iter_questions(result.document))
    return {
        "method": method,
        "min_confidence": min_confidence if method == "align" else None,
        "datasets": [
            {
                "dataset": name,
                "questions": sum(result.counts[f"{stage} {kind}"] for kind in ("answerable", "unanswerable")),
                "answerable": result.counts[f"{stage} answerable"],
                "unanswerable": result.counts[f"{stage} unanswerable"],
            }
            for stage, name in names.items()
        ],
        "answers": {"searched": len(result.outcomes), "located": len(located), "written": answers_written},
        "strategies": ordered(Counter(o.location.strategy for o in located)),
        "dropped": ordered(Counter(question["reason"] for question in result.dropped)),
        "answers_dropped": ordered(Counter(o.location.strategy for o in result.outcomes if o.location.start is None)),
        "input_faults": ordered(result.faults),
        "confidence": histogram([o.location.confidence for o in result.outcomes]),
        "literal": compare_literal(result.outcomes),
        "ambiguous": {
            "answers": sum(o.location.num_places > 1 for o in located),
            "resolved_by": ordered(Counter(o.location.resolved_by for o in located if o.location.resolved_by)),
        },
        "least_certain": [describe_sample(o) for o in least_certain(result.outcomes)],
    }


def ordered(counts: Counter) -> dict[str, int]:
    """The counts as a dict, largest first, without zeros."""
    return {key: count for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count}


def histogram(confidences: list[float]) -> dict[str, int]:
    """Number of answers in each tenth of the confidence, lowest first."""
    tenths = Counter(min(9, int(confidence * 10)) for confidence in confidences)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": tenths[tenth] for tenth in range(10)}


def compare_literal(outcomes: list[Outcome]) -> dict[str, int]:
    """What the published rule finds of the same answers, and how often that is not where the method finds them."""
    both = [o for o in outcomes if o.literal.start is not None and o.location.start is not None]
    elsewhere = sum(o.literal.end <= o.location.start or o.location.end <= o.literal.start for o in both)
    same = sum((o.literal.start, o.literal.text) == (o.location.start, o.location.text) for o in both)
    found = sum(o.literal.start is not None for o in outcomes)
    return {"found": found, "same_span": same, "overlapping": len(both) - same - elsewhere, "elsewhere": elsewhere}


def least_certain(outcomes: list[Outcome]) -> list[Outcome]:
    """The NUM_SAMPLES answers of lowest confidence, among those for which there was a sentence to search."""
    return heapq.nsmallest(
        NUM_SAMPLES, (o for o in outcomes if o.location.spans), key=lambda o: (o.location.confidence, o.qid)
    )


def describe_sample(outcome: Outcome) -> dict[str, Any]:
    location, translation = outcome.location, outcome.translation
    (start, end), (target_start, target_end) = location.spans
    return {
        "id": outcome.qid,
        "confidence": location.confidence,
        "answer": outcome.answer["text"],
        "iso_t": usable_text(outcome.answer.get("iso_t")),
        "found": location.text,
        "kept": location.start is not None,
        "strategy": location.strategy,
        "sentence": translation.source[start:end].strip(),
        "sentence_t": translation.target[target_start:target_end].strip(),
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """The table of the published set (Dataset | # Q&A), with its two kinds of questions."""
    kinds = ("questions", "answerable", "unanswerable")
    cells = [("Dataset", "# Q&A", "answerable", "unanswerable")]
    cells += [(row["dataset"], *(f"{row[kind]:,}" for kind in kinds)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])


def format_counts(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"{count:>9,}  {name}" for name, count in counts.items()), ""] if counts else []


def format_report(report: dict[str, Any]) -> str:
    """The report as text for people."""
    source, kept, literal = report["datasets"]
    answers, others = report["answers"], report["literal"]
    lines = [format_table(report["datasets"]), ""]
    for kind in ("answerable", "unanswerable"):
        share = f"{100 * kept[kind] / max(1, source[kind]):.1f} %"
        lines.append(f"kept {kept[kind]:,} of {source[kind]:,} {kind} questions ({share})")
    lines += [f"{answers['located']:,} of {answers['searched']:,} answers found; {answers['written']:,} different", ""]
    lines += format_counts("Answers found, by what matched:", report["strategies"])
    lines += format_counts("Questions dropped, by reason:", report["dropped"])
    lines += format_counts("Answers dropped, by reason:", report["answers_dropped"])
    lines += format_counts("Faults of the input:", report["input_faults"])
    if report["method"] == "literal":
        return "\n".join(lines).rstrip()
    lines += format_counts("Confidence of the answers:", report["confidence"])
    lines += [
        f"Literal search finds {others['found']:,} of the answers and keeps {literal['answerable']:,} questions; "
        f"{others['elsewhere']:,} of its places are elsewhere.",
        "",
    ]
    ambiguous = report["ambiguous"]
    lines += format_counts(
        f"{ambiguous['answers']:,} answers with several places, decided by:", ambiguous["resolved_by"]
    )
    lines += ["Least certain answers:"] if report["least_certain"] else []
    for sample in report["least_certain"]:
        mark = "" if sample["kept"] else " (dropped)"
        lines.append(
            f"    {sample['confidence']:.2f}  {sample['answer']!r} -> {sample['found']!r}{mark}  {sample['id']}"
        )
        lines += [f"          {sample['sentence']}", f"          {sample['sentence_t']}"]
    return "\n".join(lines).rstrip()


# ---------------------------------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument("--input_file", required=True, help="file written by translate_squad.py")
    data.add_argument("--output_file", required=True, help="plain SQuAD file to write, in the target language")
    task = parser.add_argument_group("task")
    task.add_argument("--method", choices=METHODS, default="align", help="how answers are found (default: align)")
    task.add_argument(
        "--min_confidence",
        type=float,
        default=MIN_CONFIDENCE,
        help="drop answers below this, 0 to 1; raise it for fewer but surer answers (default: %(default)s; align only)",
    )
    output = parser.add_argument_group("output and logging")
    output.add_argument("--report_file", help="write the printed report here as JSON")
    output.add_argument("--dropped_file", help="write the dropped questions with their reasons here as JSON")
    return parser


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the command line."""
    faults: list[str] = []
    files = {"--input_file": args.input_file}
    for flag in ("--output_file", "--report_file", "--dropped_file"):
        path = getattr(args, flag[2:])
        if path:
            check_output_path(path, faults, flag)
            same = [other for other, name in files.items() if os.path.realpath(name) == os.path.realpath(path)]
            faults += [f"{flag} and {other} are the same file ({path}); name another" for other in same]
            files[flag] = path
    if not 0 <= args.min_confidence <= 1:
        faults.append(f"--min_confidence {args.min_confidence} is not a confidence; use 0 to 1")
    return faults


def train_aligner(document: dict[str, Any], translations: list[Translation]) -> WordAligner:
    """The word aligner of this file; says how much it had to learn from."""
    corpus = read_corpus(document, translations)
    logger.info("learning word translations from %s pairs, %s words", f"{len(corpus):,}", f"{len(corpus.vocabulary):,}")
    if len(corpus) < FEW_PAIRS:
        logger.warning(
            "%d translated pairs are few to learn from: answers are found mostly by spelling and position; "
            "clean all files of one translation together if you can",
            len(corpus),
        )
    return WordAligner(corpus)


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging("clean_squad")
    exit_with_faults(parser, check_args(args))
    logger.info("command line: %s", " ".join(sys.argv if argv is None else ["clean_squad.py", *argv]))
    document = load_squad(args.input_file, answers_required=False, offsets_required=False)
    faults: Counter = Counter()
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    translations = [read_translation(paragraph, faults) for paragraph in paragraphs]
    if all(translation.fault for translation in translations):
        raise SquadError(f"{args.input_file}: no paragraph is translated (context_t); run translate_squad.py first")
    aligner = train_aligner(document, translations) if args.method == "align" else None
    result = clean(document, translations, Locator(aligner, args.min_confidence) if aligner else None)
    result.faults.update(faults)
    report = build_report(result, args.input_file, args.output_file, args.method, args.min_confidence)
    write_json(args.output_file, result.document, ensure_ascii=False)
    if args.dropped_file:
        write_json(args.dropped_file, result.dropped, ensure_ascii=False)
    if args.report_file:
        write_json(args.report_file, report, ensure_ascii=False)
    print(format_report(report))
    others = [path for path in (args.dropped_file, args.report_file) if path]
    logger.info(
        "wrote %s; next: python run_squad.py … --train_file %s",
        ", ".join([args.output_file, *others]),
        args.output_file,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
