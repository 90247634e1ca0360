"""Find the answers of a translated SQuAD file again, and write a plain SQuAD file in the target language.

    python clean_squad.py --input_file nl_squadv2_train.json --output_file nl_squadv2_train_clean.json

Reads what translate_squad.py wrote: a SQuAD document with the source texts under their usual keys and the translations
beside them (`context_t`, `sentences`, `question_t`, and for each answer `iso_t`, the answer translated alone). Writes
title, context, questions and answers of the translation, with `answer_start` counted in the translated context, and
prints what was kept, what was dropped and why.

--method align (default) learns from the file itself which words translate each other, and looks in the translation of
the answer's sentence for the words that belong to the answer. --method literal is the rule of the published Dutch set:
the first place where the answer's isolated translation stands letter by letter. It kept 62.8 % of the answerable
questions of that set's dev file, and keeps 57.4 % of a real English-Spanish machine translation.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace

from squadlib.cleaning.corpus import Corpus
from squadlib.cleaning.pairing import WRONG_TRANSLATION, Pairing, check_pairing
from squadlib.cleaning.questions import QuestionOutcome, clean_paragraphs, dropped_question, plain_question
from squadlib.cleaning.report import Settings, build_report, format_report
from squadlib.cleaning.translated_document import Article, Paragraph, TranslatedDocument, read_document
from squadlib.cleaning.word_alignment import WordAligner
from squadlib.console import SquadError, exit_with_faults, logger, progress_bar, script_main, setup_logging
from squadlib.data import load_squad
from squadlib.files import check_output_path, write_json

METHODS = ("align", "literal")
MIN_CONFIDENCE = 0.65  # an answer that is likelier wrong than this is dropped; see docs/cleaning.md
CHUNK_CHARS = 300_000  # of paragraphs that are worked on at a time
FEW_PAIRS = 1000  # with fewer sentence pairs than this the learned translations are weak


def plain_document(document: TranslatedDocument, outcomes: list[list[QuestionOutcome]]) -> dict[str, object]:
    """The SQuAD document of the kept questions. outcomes: those of each paragraph, in file order."""
    articles, of_paragraph = [], iter(outcomes)
    for article in document.articles:
        paragraphs = []
        for paragraph in article.paragraphs:
            questions = [plain_question(outcome) for outcome in next(of_paragraph) if outcome.kept]
            if questions:
                paragraphs.append({"context": paragraph.target, "qas": questions})
        if paragraphs:
            articles.append({"title": article.title, "paragraphs": paragraphs})
    return {**document.head, "data": articles}


def read_corpus(document: TranslatedDocument) -> Corpus:
    """Everything that is translated: sentences, questions, isolated answers."""
    corpus = Corpus()
    for paragraph in document.paragraphs:
        start = corpus.place()
        for source, target in paragraph.sentences:
            if target is not None:
                corpus.add(paragraph.source[slice(*source)], paragraph.target[slice(*target)])
        end_of_context = corpus.place()
        for question in paragraph.questions:
            corpus.add(question.text, question.translated or "")
            for answer in question.answers:
                corpus.add(answer.text, answer.isolated or "")
        corpus.end_paragraph(start, end_of_context)
    return corpus


def train_aligner(corpus: Corpus) -> WordAligner:
    """The word aligner of this file; says how much it had to learn from."""
    logger.info("learning word translations from %s pairs, %s words", f"{len(corpus):,}", f"{len(corpus.vocabulary):,}")
    if len(corpus) < FEW_PAIRS:
        logger.warning(
            "%d translated pairs are few to learn from: answers are found mostly by spelling and position; "
            "clean all files of one translation together if you can",
            len(corpus),
        )
    return WordAligner(corpus)


def check_paragraphs(aligner: WordAligner, min_confidence: float) -> Pairing:
    """Whether the paragraphs carry their own translations; says so where they do not."""
    pairing = check_pairing(aligner)
    num_wrong, num_paragraphs = int(pairing.wrong.sum()), len(pairing.wrong)
    if num_wrong:
        logger.warning(
            "%s of %s paragraphs seem to carry the translation of another one%s; look at --dropped_file, and %s",
            f"{num_wrong:,}",
            f"{num_paragraphs:,}",
            "" if min_confidence else " (kept, as --min_confidence 0 asks)",
            "check that context_t belongs to context all through the file"
            if num_wrong > num_paragraphs / 2
            else "translate those again",
        )
    elif not pairing.tested:
        logger.info(
            "%s paragraphs are too few, or too hard to learn from, to tell whether each carries its own translation",
            f"{num_paragraphs:,}",
        )
    return pairing


def without_wrong_translations(document: TranslatedDocument, wrong: list[bool]) -> TranslatedDocument:
    """The document with a fault in each paragraph that is `wrong`; one that has a fault keeps its own."""
    of_paragraph, articles = iter(wrong), []
    for article in document.articles:
        paragraphs = [
            replace(paragraph, fault=paragraph.fault or WRONG_TRANSLATION) if next(of_paragraph) else paragraph
            for paragraph in article.paragraphs
        ]
        articles.append(Article(article.title, paragraphs))
    return document._replace(articles=articles)


def find_answers(
    document: TranslatedDocument, aligner: WordAligner | None, min_confidence: float
) -> list[list[QuestionOutcome]]:
    """What became of the questions of each paragraph. Without an aligner, by the published rule."""
    with progress_bar(total=len(document.paragraphs), unit="paragraph", desc="finding answers") as bar:
        outcomes = []
        for paragraphs in split_by_length(document.paragraphs):
            outcomes += clean_paragraphs(paragraphs, aligner, min_confidence)
            bar.update(len(paragraphs))
    return outcomes


def split_by_length(paragraphs: list[Paragraph]) -> Iterator[list[Paragraph]]:
    """Some paragraphs at a time, until they have CHUNK_CHARS or more."""
    chunk, length = [], 0
    for paragraph in paragraphs:
        chunk.append(paragraph)
        length += len(paragraph.source) + len(paragraph.target)
        if length >= CHUNK_CHARS:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


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
        help="drop answers that are less likely than this to be in the right place, 0 to 1; 0 keeps every place, also "
        "in paragraphs that seem to carry the translation of another one (default: %(default)s; align only)",
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


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging("clean_squad")
    exit_with_faults(parser, check_args(args))
    logger.info("command line: %s", shlex.join(sys.argv if argv is None else ["clean_squad.py", *argv]))
    document = read_document(load_squad(args.input_file, answers_required=False, offsets_required=False))
    if all(paragraph.fault for paragraph in document.paragraphs):
        raise SquadError(f"{args.input_file}: no paragraph is translated (context_t); run translate_squad.py first")
    aligner = train_aligner(read_corpus(document)) if args.method == "align" else None
    pairing = check_paragraphs(aligner, args.min_confidence) if aligner else None
    if pairing and args.min_confidence:
        document = without_wrong_translations(document, pairing.wrong.tolist())
    outcomes = find_answers(document, aligner, args.min_confidence)
    questions = [outcome for paragraph in outcomes for outcome in paragraph]
    notes = [note for paragraph in document.paragraphs for note in paragraph.notes]
    min_confidence = args.min_confidence if aligner else None
    settings = Settings(args.input_file, args.output_file, args.method, min_confidence)
    report = build_report(questions, notes, settings, pairing)
    write_json(args.output_file, plain_document(document, outcomes), ensure_ascii=False)
    if args.dropped_file:
        write_json(args.dropped_file, [dropped_question(o) for o in questions if not o.kept], ensure_ascii=False)
    if args.report_file:
        write_json(args.report_file, report, ensure_ascii=False)
    print(format_report(report))
    written = [path for path in (args.output_file, args.dropped_file, args.report_file) if path]
    next_command = f"python run_squad.py … --train_file {shlex.quote(args.output_file)}"
    logger.info("wrote %s; next: %s", ", ".join(written), next_command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
