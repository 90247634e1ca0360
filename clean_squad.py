"""Find the answers of a translated SQuAD file again, and write a plain SQuAD file in the target language.

    python clean_squad.py --input_file nl_squadv2_train.json --output_file nl_squadv2_train_clean.json
    python clean_squad.py --input_file nl_squadv2_train.json nl_squadv2_dev.json --output_dir nl_squad

Reads what translate_squad.py wrote: a SQuAD document with the source texts under their usual keys and the translations
beside them (`context_t`, `sentences`, `question_t`, and for each answer `iso_t`, the answer translated alone). Writes
title, context, questions and answers of the translation, with `answer_start` counted in the translated context, and
prints what was kept, what was dropped and why.

--method align (default) learns from the file itself which words translate each other, and looks in the translation of
the answer's sentence for the words that belong to the answer. The more it has to learn from, the better: give all files
of one translation together, and plain parallel text with --parallel_file.

--method literal is the rule of the published Dutch set: the first place where the answer's isolated translation stands
letter by letter. It kept 62.8 % of the answerable questions of that set's dev file, and keeps 57.4 % of a real
English-Spanish machine translation.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from squadlib.cleaning.corpus import Corpus
from squadlib.cleaning.pairing import WRONG_TRANSLATION, Pairing, check_pairing
from squadlib.cleaning.parallel_text import add_parallel_file
from squadlib.cleaning.questions import QuestionOutcome, clean_paragraphs, dropped_question, plain_question
from squadlib.cleaning.report import Report, Settings, build_report, format_head, format_report
from squadlib.cleaning.translated_document import Article, Paragraph, TranslatedDocument, read_document
from squadlib.cleaning.word_alignment import WordAligner
from squadlib.console import (
    SquadError,
    exit_with_faults,
    garbage_collector_off,
    logger,
    progress_bar,
    script_main,
    setup_logging,
)
from squadlib.data import load_squad
from squadlib.files import check_output_dir, check_output_path, make_dirs, write_json

METHODS = ("align", "literal")
MIN_CONFIDENCE = 0.65  # an answer that is likelier wrong than this is dropped; see docs/cleaning.md
CHUNK_CHARS = 300_000  # of paragraphs that are worked on at a time
FEW_PAIRS = 1000  # with fewer sentence pairs than this the learned translations are weak
WRITTEN = {  # flag of each output file: what --output_dir adds to the input's name
    "--output_file": "_clean.json",
    "--dropped_file": "_clean_dropped.json",
    "--report_file": "_clean_report.json",  # where the model card of run_squad.py looks for it
}


class Job(NamedTuple):
    """A file to clean and the files to write; "" for one that is not wanted."""

    input_file: str
    output_file: str
    dropped_file: str
    report_file: str


class Cleaned(NamedTuple):
    """What became of the questions of a file. notes: what was wrong with its paragraphs."""

    document: TranslatedDocument
    outcomes: list[list[QuestionOutcome]]

    @property
    def questions(self) -> list[QuestionOutcome]:
        return [outcome for paragraph in self.outcomes for outcome in paragraph]

    @property
    def notes(self) -> list[str]:
        return [note for paragraph in self.document.paragraphs for note in paragraph.notes]


def plain_document(
    document: TranslatedDocument, outcomes: list[list[QuestionOutcome]], with_confidence: bool = False
) -> dict[str, object]:
    """The SQuAD document of the kept questions. outcomes: those of each paragraph, in file order."""
    articles, of_paragraph = [], iter(outcomes)
    for article in document.articles:
        paragraphs = []
        for paragraph in article.paragraphs:
            questions = [plain_question(outcome, with_confidence) for outcome in next(of_paragraph) if outcome.kept]
            if questions:
                paragraphs.append({"context": paragraph.target, "qas": questions})
        if paragraphs:
            articles.append({"title": article.title, "paragraphs": paragraphs})
    return {**document.head, "data": articles}


def read_file(path: str) -> TranslatedDocument:
    document = read_document(load_squad(path, answers_required=False, offsets_required=False))
    if all(paragraph.fault for paragraph in document.paragraphs):
        raise SquadError(f"{path}: no paragraph is translated (context_t); run translate_squad.py first")
    return document


def read_corpus(*documents: TranslatedDocument) -> Corpus:
    """Everything that is translated: sentences, questions, isolated answers."""
    corpus = Corpus()
    for paragraph in (paragraph for document in documents for paragraph in document.paragraphs):
        start = corpus.place()
        if not paragraph.fault:
            source, target = corpus.read(paragraph.source), corpus.read(paragraph.target)
            for spans in paragraph.sentences:
                if spans.target is not None:
                    corpus.add_numbers((source.inside(spans.source), target.inside(spans.target)))
        end_of_context = corpus.place()
        for question in paragraph.questions:
            corpus.add(question.text, question.translated or "")
            for answer in question.answers:
                corpus.add(answer.text, answer.isolated or "")
        corpus.end_paragraph(start, end_of_context)
    return corpus


def train_aligner(corpus: Corpus) -> WordAligner:
    """The word aligner of these files; says how much it had to learn from."""
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


def without_wrong_translations(document: TranslatedDocument, pairing: Pairing) -> TranslatedDocument:
    """The document with a fault in each paragraph that is `wrong`; one that has a fault keeps its own."""
    of_paragraph, articles = iter(pairing.wrong.tolist()), []
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
    paragraphs = document.paragraphs
    outcomes: list[list[QuestionOutcome]] = [[] for _ in paragraphs]
    with progress_bar(total=len(paragraphs), unit="paragraph", desc="finding answers") as bar:
        for numbers in split_by_length(paragraphs):
            found = clean_paragraphs([paragraphs[number] for number in numbers], aligner, min_confidence)
            for number, outcome in zip(numbers, found, strict=True):
                outcomes[number] = outcome
            bar.update(len(numbers))
    return outcomes


def split_by_length(paragraphs: list[Paragraph]) -> Iterator[list[int]]:
    """Numbers of some paragraphs at a time, until they have CHUNK_CHARS or more.

    In alphabetical order: what is aligned side by side, and so the last bit of a probability, is not the file's choice.
    """
    chunk, length = [], 0
    keys = [
        (paragraph.source, paragraph.target, min([q.qid for q in paragraph.questions], default=""))
        for paragraph in paragraphs
    ]
    for number in sorted(range(len(paragraphs)), key=keys.__getitem__):
        chunk.append(number)
        length += len(paragraphs[number].source) + len(paragraphs[number].target)
        if length >= CHUNK_CHARS:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """What to write for each input file."""
    if args.output_dir:
        named = [os.path.join(args.output_dir, stem(path)) for path in args.input_file]
        columns = [[name + ending for name in named] for ending in WRITTEN.values()]
    else:
        nothing = [""] * len(args.input_file)
        columns = [getattr(args, flag[2:]) or nothing for flag in WRITTEN]
    return [Job(*row) for row in zip(args.input_file, *columns, strict=True)]


def stem(path: str) -> str:
    """The name of a file without its folder and ending: "nl/train.json.gz" -> "train"."""
    return os.path.splitext(os.path.basename(path).removesuffix(".gz"))[0]


def write_files(job: Job, cleaned: Cleaned, report: Report, with_confidence: bool) -> list[str]:
    """Write what belongs to an input file; returns the paths."""
    write_json(job.output_file, plain_document(*cleaned, with_confidence), ensure_ascii=False)
    if job.dropped_file:
        dropped = [dropped_question(outcome) for outcome in cleaned.questions if not outcome.kept]
        write_json(job.dropped_file, dropped, ensure_ascii=False)
    if job.report_file:
        write_json(job.report_file, report, ensure_ascii=False)
    return [path for path in job[1:] if path]


def format_total(files: list[Cleaned], method: str) -> str:
    """The head of a report about all files together."""
    questions = [question for cleaned in files for question in cleaned.questions]
    report = build_report(questions, [], Settings(f"{len(files)} files together", "kept of them", method, None), None)
    return "\n".join(format_head(report)).rstrip()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--input_file",
        required=True,
        nargs="+",
        metavar="FILE",
        help="file written by translate_squad.py; give all of one translation together: it learns from all of them",
    )
    data.add_argument(
        "--output_file",
        nargs="+",
        metavar="FILE",
        help="plain SQuAD file to write, in the target language; one for each input file, in their order",
    )
    data.add_argument(
        "--output_dir",
        metavar="DIR",
        help="instead: write NAME_clean.json, NAME_clean_report.json and NAME_clean_dropped.json of each input file "
        "NAME.json into this folder, which is made where it is missing",
    )
    data.add_argument(
        "--parallel_file",
        nargs="+",
        metavar="FILE",
        default=[],
        help="plain translated text to learn from too: SOURCE, a tab, TARGET on each line; may be .gz (align only)",
    )
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
    beside = 'write "confidence" beside each answer, for evaluate_v2.py --breakdown'
    output.add_argument("--write_confidence", action="store_true", help=beside)
    output.add_argument(
        "--report_file",
        nargs="+",
        metavar="FILE",
        help="write the printed report here as JSON; one for each input file",
    )
    output.add_argument(
        "--dropped_file",
        nargs="+",
        metavar="FILE",
        help="write the dropped questions with their reasons here as JSON; one for each input file",
    )
    return parser


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the command line."""
    faults = check_output_flags(args)
    if not faults:
        check_outputs(args, faults)
    if args.parallel_file and args.method != "align":
        faults.append(f"--parallel_file is learned from by --method align; --method {args.method} learns nothing")
    if not 0 <= args.min_confidence <= 1:
        faults.append(f"--min_confidence {args.min_confidence} is not a confidence; use 0 to 1")
    return faults


def check_output_flags(args: argparse.Namespace) -> list[str]:
    """What keeps the output files from having a name each."""
    given = {flag: getattr(args, flag[2:]) for flag in WRITTEN if getattr(args, flag[2:])}
    if args.output_dir:
        faults = [f"{flag}: --output_dir names this file itself; leave one of the two out" for flag in given]
        return faults + ["--output_dir: standard input has no name; use --output_file"] * ("-" in args.input_file)
    if not args.output_file:
        return ["--output_file is missing, or --output_dir: where is the plain file to be written?"]
    num_files = len(args.input_file)
    return [
        f"{flag} names {len(paths)} files and --input_file {num_files}; name one for each"
        for flag, paths in given.items()
        if len(paths) != num_files
    ]


def check_outputs(args: argparse.Namespace, faults: list[str]) -> None:
    """Append a fault for each file that cannot be written, or that is also another one."""
    files = {os.path.realpath(path): "--parallel_file" for path in args.parallel_file}
    for path in args.input_file:
        twice = files.get(os.path.realpath(path)) == "--input_file"
        faults += [f"--input_file names {path} twice; once is enough"] * twice
        files[os.path.realpath(path)] = "--input_file"
    if args.output_dir:
        check_output_dir(args.output_dir, faults)
    for job in plan_jobs(args):
        for name, path in zip(WRITTEN, job[1:], strict=True):
            if not path:
                continue
            flag = f"--output_dir for {job.input_file}" if args.output_dir else name
            if not args.output_dir or os.path.isdir(args.output_dir):
                check_output_path(path, faults, flag)
            if os.path.realpath(path) in files:
                faults.append(f"{flag} and {files[os.path.realpath(path)]} are the same file ({path}); name another")
            files[os.path.realpath(path)] = flag


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging("clean_squad")
    exit_with_faults(parser, check_args(args))
    logger.info("command line: %s", shlex.join(sys.argv if argv is None else ["clean_squad.py", *argv]))
    jobs = plan_jobs(args)
    with garbage_collector_off():
        documents = [read_file(job.input_file) for job in jobs]
    aligner, pairings = None, None
    if args.method == "align":
        corpus = read_corpus(*documents)
        for path in args.parallel_file:
            add_parallel_file(corpus, path)
        aligner = train_aligner(corpus)
        pairing = check_paragraphs(aligner, args.min_confidence)
        pairings = pairing.split([len(document.paragraphs) for document in documents])
        if args.min_confidence:
            documents = list(map(without_wrong_translations, documents, pairings))
    files = [Cleaned(document, find_answers(document, aligner, args.min_confidence)) for document in documents]
    if args.output_dir:
        make_dirs(args.output_dir)
    written, reports = [], []
    for number, (job, cleaned) in enumerate(zip(jobs, files, strict=True)):
        settings = Settings(job.input_file, job.output_file, args.method, args.min_confidence if aligner else None)
        report = build_report(cleaned.questions, cleaned.notes, settings, pairings[number] if pairings else None)
        written += write_files(job, cleaned, report, args.write_confidence)
        reports.append(format_report(report))
    if len(jobs) > 1:
        reports.append(format_total(files, args.method))
    print("\n\n".join(reports))
    outputs = zip(("--train_file", "--predict_file"), jobs, strict=False)
    flags = " ".join(f"{flag} {shlex.quote(job.output_file)}" for flag, job in outputs)
    logger.info("wrote %s; next: python run_squad.py … %s", ", ".join(written), flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
