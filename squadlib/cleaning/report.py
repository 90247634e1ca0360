"""The report of a cleaning: what was kept, what was dropped and why, as JSON and as text for people."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypedDict

from squadlib.cleaning.pairing import Pairing
from squadlib.cleaning.questions import AnswerOutcome, QuestionOutcome

NUM_SAMPLES = 20  # of the least certain answers


class Settings(NamedTuple):
    """What was asked for. min_confidence is None for a method that has none."""

    input_file: str
    output_file: str
    method: str
    min_confidence: float | None


class DatasetRow(TypedDict):
    dataset: str
    questions: int
    answerable: int
    unanswerable: int


class Sample(TypedDict):
    """One of the least certain answers. found: the best guess where it was not kept."""

    id: str
    confidence: float
    answer: str
    iso_t: str | None
    found: str
    kept: bool
    strategy: str
    sentence: str
    sentence_t: str


class Ambiguous(TypedDict):
    """Answers whose isolated translation stands in several places, and what chose among them."""

    answers: int
    resolved_by: dict[str, int]


class PairingRow(TypedDict):
    """Whether paragraphs carry their own translations. tested: the file was large enough to tell."""

    paragraphs: int
    tested: bool
    wrong: int


class Report(TypedDict):
    """All figures of a run, in the order in which they are printed. Holds no time or date: same input, same bytes."""

    method: str
    min_confidence: float | None
    datasets: list[DatasetRow]  # the source, what was kept, what literal search would have kept
    answers: dict[str, int]
    strategies: dict[str, int]
    dropped: dict[str, int]
    answers_dropped: dict[str, int]
    input_faults: dict[str, int]
    pairing: PairingRow | None  # None for a method that does not look
    confidence: dict[str, int]
    expected_right: float  # number of the answers found that are in the right place by their confidences
    literal: dict[str, int]
    ambiguous: Ambiguous
    least_certain: list[Sample]


def build_report(
    outcomes: list[QuestionOutcome], paragraph_notes: Iterable[str], settings: Settings, pairing: Pairing | None
) -> Report:
    """paragraph_notes: what was wrong with the paragraphs of the input."""
    answers = [answer for outcome in outcomes for answer in outcome.answers]
    found = [answer.location for answer in answers if answer.location.start is not None]
    notes = Counter(paragraph_notes) + Counter(note for outcome in outcomes for note in outcome.notes)
    return {
        "method": settings.method,
        "min_confidence": settings.min_confidence,
        "datasets": [
            count_questions(settings.input_file, outcomes),
            count_questions(f"{settings.output_file} ({settings.method})", [o for o in outcomes if o.kept]),
            count_questions("kept by literal search", [o for o in outcomes if o.kept_literally]),
        ],
        "answers": {
            "searched": len(answers),
            "located": len(found),
            "written": sum(len(outcome.found()) for outcome in outcomes),
        },
        "strategies": count(location.strategy for location in found),
        "dropped": count(outcome.reason for outcome in outcomes if not outcome.kept),
        "answers_dropped": count(answer.location.strategy for answer in answers if answer.location.start is None),
        "input_faults": ordered(notes),
        "pairing": count_pairing(pairing) if pairing else None,
        "confidence": histogram([answer.location.confidence for answer in answers]),
        "expected_right": round(sum(location.confidence for location in found), 1),
        "literal": compare_literal(answers),
        "ambiguous": {
            "answers": sum(location.num_places > 1 for location in found),
            "resolved_by": count(location.resolved_by for location in found if location.resolved_by),
        },
        "least_certain": least_certain(outcomes),
    }


def count_pairing(pairing: Pairing) -> PairingRow:
    return {"paragraphs": len(pairing.wrong), "tested": pairing.tested, "wrong": int(pairing.wrong.sum())}


def count_questions(name: str, outcomes: list[QuestionOutcome]) -> DatasetRow:
    unanswerable = sum(outcome.question.is_impossible for outcome in outcomes)
    answerable = len(outcomes) - unanswerable
    return {"dataset": name, "questions": len(outcomes), "answerable": answerable, "unanswerable": unanswerable}


def count(names: Iterable[str]) -> dict[str, int]:
    return ordered(Counter(names))


def ordered(counts: Counter[str]) -> dict[str, int]:
    """The counts as a dict, largest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def histogram(confidences: list[float]) -> dict[str, int]:
    """Number of answers in each tenth of the confidence, lowest first."""
    tenths = Counter(min(9, int(confidence * 10)) for confidence in confidences)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": tenths[tenth] for tenth in range(10)}


def compare_literal(answers: list[AnswerOutcome]) -> dict[str, int]:
    """What the published rule finds of the same answers, and how often that is not where the method finds them."""
    spans = [(answer.literal.span, answer.location.span) for answer in answers]
    both = [(literal, span) for literal, span in spans if literal and span]
    elsewhere = sum(literal[1] <= span[0] or span[1] <= literal[0] for literal, span in both)
    same = sum(literal == span for literal, span in both)
    found = sum(literal is not None for literal, _ in spans)
    return {"found": found, "same_span": same, "overlapping": len(both) - same - elsewhere, "elsewhere": elsewhere}


def least_certain(outcomes: list[QuestionOutcome]) -> list[Sample]:
    """The NUM_SAMPLES answers of lowest confidence, among those for which there was a sentence to search."""
    searched = ((outcome, answer) for outcome in outcomes for answer in outcome.answers if answer.location.spans)
    lowest = heapq.nsmallest(
        NUM_SAMPLES, searched, key=lambda pair: (pair[1].location.confidence, pair[0].question.qid)
    )
    return [describe_sample(outcome, answer) for outcome, answer in lowest]


def describe_sample(outcome: QuestionOutcome, answer: AnswerOutcome) -> Sample:
    location, paragraph = answer.location, outcome.paragraph
    source, target = location.spans or ((0, 0), (0, 0))
    return {
        "id": outcome.question.qid,
        "confidence": location.confidence,
        "answer": answer.answer.text,
        "iso_t": answer.answer.isolated,
        "found": location.text,
        "kept": location.start is not None,
        "strategy": location.strategy,
        "sentence": paragraph.source[slice(*source)].strip(),
        "sentence_t": paragraph.target[slice(*target)].strip(),
    }


def format_table(rows: list[DatasetRow]) -> str:
    """The table of the published set (Dataset | # Q&A), with its two kinds of questions."""
    cells = [("Dataset", "# Q&A", "answerable", "unanswerable")]
    cells += [
        (row["dataset"], f"{row['questions']:,}", f"{row['answerable']:,}", f"{row['unanswerable']:,}") for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])


def format_counts(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"{count:>9,}  {name}" for name, count in counts.items()), ""] if counts else []


def format_report(report: Report) -> str:
    """The report as text for people."""
    others, ambiguous, literal = report["literal"], report["ambiguous"], report["datasets"][2]
    lines = format_head(report)
    lines += format_counts("Answers found, by what matched:", report["strategies"])
    lines += format_counts("Questions dropped, by reason:", report["dropped"])
    lines += format_counts("Answers dropped, by reason:", report["answers_dropped"])
    lines += format_counts("Faults of the input:", report["input_faults"])
    if report["method"] == "literal":
        return "\n".join(lines).rstrip()
    pairing = report["pairing"]
    if pairing and pairing["wrong"]:
        wrong, paragraphs = pairing["wrong"], pairing["paragraphs"]
        lines += [f"{wrong:,} of {paragraphs:,} paragraphs seem to carry the translation of another one.", ""]
    lines += format_counts("Confidence of the answers:", report["confidence"])
    lines += [f"By their confidence {report['expected_right']:,.1f} of the answers found are in the right place.", ""]
    lines += [
        f"Literal search finds {others['found']:,} of the answers and keeps {literal['answerable']:,} questions; "
        f"{others['elsewhere']:,} of its places are elsewhere.",
        "",
    ]
    places = ambiguous["answers"]
    lines += format_counts(f"{places:,} answers with several places, decided by:", ambiguous["resolved_by"])
    lines += ["Least certain answers:"] if report["least_certain"] else []
    for sample in report["least_certain"]:
        lines += format_sample(sample)
    return "\n".join(lines).rstrip()


def format_head(report: Report) -> list[str]:
    """How much was kept."""
    (source, kept, _), answers = report["datasets"], report["answers"]
    shares = [format_share(kind, kept[kind], source[kind]) for kind in ("answerable", "unanswerable")]
    found = f"{answers['located']:,} of {answers['searched']:,} answers found; {answers['written']:,} different"
    return [format_table(report["datasets"]), "", *shares, found, ""]


def format_share(kind: str, kept: int, of: int) -> str:
    return f"kept {kept:,} of {of:,} {kind} questions ({100 * kept / max(1, of):.1f} %)"


def format_sample(sample: Sample) -> list[str]:
    mark = "" if sample["kept"] else " (dropped)"
    found = f"{sample['confidence']:.2f}  {sample['answer']!r} -> {sample['found']!r}{mark}  {sample['id']}"
    return [f"    {found}", f"          {sample['sentence']}", f"          {sample['sentence_t']}"]
