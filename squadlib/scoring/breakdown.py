"""The questions of a data file in groups, to see where a score comes from: by question word, length, confidence, …"""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypedDict

from squadlib.scoring.questions import Question, Read, describe

Groups = dict[str, list[int]]  # label -> positions of its questions

QUESTION_WORDS = {  # words of one group between spaces, its name first
    "de": "was welche/welcher/welches/welchen/welchem wer/wen/wem/wessen wann warum/wieso/weshalb wie"
    " wo/woher/wohin/worin/womit/wofür/wodurch/wovon",
    "en": "what which who/whose/whom when where why how",
    "es": "qué cuál/cuáles quién/quiénes cuándo/cuando dónde cómo cuánto/cuánta/cuántos/cuántas",
    "fr": "que/qu qui quoi quel/quelle/quels/quelles où quand comment combien pourquoi",
    "nl": "wat welke/welk wie/wiens wanneer waarom hoe hoeveel"
    " waar/waarin/waarmee/waarvan/waarvoor/waardoor/waarop/waaruit",
}
OTHER = "other"
FEWEST = 0.01  # in other languages: the share of the questions that have a word,
RARER = 10  # and how much rarer the contexts have it
WORD = r"[^\s!-/:-@\[-`{-~¿¡„“”‚‘’«»。、，？！؟،।]+"  # \w would cut Hindi and Thai at their vowel signs
ANSWER_WORDS = {1: "1 word", 2: "2 words", 4: "3-4 words", 9: "5-9 words", math.inf: "10 or more words"}  # up to


class Figures(TypedDict):
    total: int
    exact: float
    f1: float


# ---- One grouping a function: the label of each question, None where it belongs to no group -------------------------


def by_answerable(questions: Sequence[Question]) -> Groups:
    return collect("NoAns" if question.answer_words is None else "HasAns" for question in questions)


def by_question_word(questions: Sequence[Question]) -> Groups:
    """By the first question word of a known language, else by the word that is most typical of questions."""
    words = [split(question.text) for question in questions]
    labels = max((label_by_list(words, forms) for forms in QUESTION_WORDS.values()), key=num_labelled)
    if 2 * num_labelled(labels) < len(questions):
        contexts = {question.context for question in questions}
        labels = label_by_rates(words, [word for context in contexts for word in split(context)])
    if 2 * num_labelled(labels) < len(questions):
        return {}
    groups = collect(label or OTHER for label in labels)
    return dict(sorted(groups.items(), key=lambda item: (item[0] == OTHER, -len(item[1]), item[0])))


def label_by_list(questions: Iterable[list[str]], forms: str) -> list[str | None]:
    """For each question, a list of words, the name of its first question word. forms: a value of QUESTION_WORDS."""
    names = {form: group.split("/")[0] for group in forms.split() for form in group.split("/")}
    return [next((names[word] for word in words if word in names), None) for words in questions]


def label_by_rates(questions: Sequence[list[str]], in_contexts: Sequence[str]) -> list[str | None]:
    """For each question its word that is RARER in contexts by the largest factor, of those FEWEST questions have."""
    counts, others = Counter(word for words in questions for word in set(words)), Counter(in_contexts)
    share = (len(in_contexts) + 1) / max(1, sum(map(len, questions)))
    fewest = max(2, FEWEST * len(questions))
    rates = {word: count / (others[word] + 1) * share for word, count in counts.items() if count >= fewest}
    typical = {word: rate for word, rate in rates.items() if rate >= RARER}
    return [max(filter(typical.get, words), key=lambda word: typical[word], default=None) for words in questions]


def split(text: str | None) -> list[str]:
    return re.findall(WORD, (text or "").lower())


def num_labelled(labels: Sequence[str | None]) -> int:
    return sum(label is not None for label in labels)


def by_answer_length(questions: Sequence[Question]) -> Groups:
    """By the number of words that the normalisation makes of the first gold answer."""
    limits = list(ANSWER_WORDS)
    lengths = [question.answer_words for question in questions]
    labels = [None if n is None else ANSWER_WORDS[limits[bisect.bisect_left(limits, n)]] for n in lengths]
    return collect(labels, ANSWER_WORDS.values())


def by_context_length(questions: Sequence[Question]) -> Groups:
    """Four groups of about the same number of questions, by the characters of the context."""
    lengths = [None if question.context is None else len(question.context) for question in questions]
    ranked = sorted(length for length in lengths if length is not None)
    if not ranked:
        return {}
    ends = sorted({ranked[(len(ranked) - 1) * quarter // 4] for quarter in (1, 2, 3, 4)})
    names = [f"{start}-{end} characters" for start, end in zip([ranked[0], *(e + 1 for e in ends)], ends, strict=False)]
    return collect((None if n is None else names[bisect.bisect_left(ends, n)] for n in lengths), names)


def by_confidence(questions: Sequence[Question]) -> Groups:
    """By tenths of the cleaner's confidence."""
    names = [f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}" for tenth in range(10)]
    values = (question.confidence for question in questions)
    return collect((None if value is None else names[max(0, min(9, int(value * 10)))] for value in values), names)


def by_article(questions: Sequence[Question]) -> Groups:
    return collect(question.article for question in questions)


def collect(labels: Iterable[str | None], order: Iterable[str] = ()) -> Groups:
    """The groups that have a question, in the given order, else as they come."""
    groups: Groups = {name: [] for name in order}
    for position, label in enumerate(labels):
        if label is not None:
            groups.setdefault(label, []).append(position)
    return {name: positions for name, positions in groups.items() if positions}


GROUPINGS: dict[str, Callable[[Sequence[Question]], Groups]] = {
    "answerable": by_answerable,
    "question_word": by_question_word,
    "answer_length": by_answer_length,
    "context_length": by_context_length,
    "confidence": by_confidence,
    "article": by_article,
}
DEFAULT = [name for name in GROUPINGS if name != "article"]  # of which there may be hundreds
MISSING = {  # why a grouping finds nothing to go by
    "question_word": "the questions have no typical words in common",
    "answer_length": "no question has an answer",
    "context_length": "there are no contexts",
    "confidence": 'no answer has a "confidence", which clean_squad.py --write_confidence writes',
    "article": 'the rows have no "title"',
}


# ---- Figures, tables, plots -----------------------------------------------------------------------------------------


def add_breakdown(
    scored: Mapping[str, tuple[dict[str, object], Mapping[str, Sequence[float]]]],
    questions: Sequence[Read],
    answer_words: Sequence[int | None],
    groupings: Sequence[str],
) -> list[str]:
    """A table for each of `groupings` (none: DEFAULT); the figures become "breakdown" of each file's results.

    scored: name of a prediction file -> its results, and the scores of its questions by metric.
    """
    described = describe(questions, answer_words)
    breakdowns: dict[str, dict[str, dict[str, Figures]]] = {name: {} for name in scored}
    tables = []
    for grouping in groupings or DEFAULT:
        groups = GROUPINGS[grouping](described)
        title = grouping.replace("_", " ")
        if len(groups) > 1 or (groups and groupings):
            for name, (_, columns) in scored.items():
                breakdowns[name][grouping] = figures_of(groups, columns)
            tables.append(breakdown_table(title, {name: found[grouping] for name, found in breakdowns.items()}))
        elif groupings:
            tables.append(f"No breakdown by {title}: {MISSING[grouping]}.")
    for name, (results, _) in scored.items():
        results["breakdown"] = breakdowns[name]
    return tables


def figures_of(groups: Groups, columns: Mapping[str, Sequence[float]]) -> dict[str, Figures]:
    """The mean scores of each group."""
    figures: dict[str, Figures] = {}
    for label, positions in groups.items():
        exact, f1 = (math.fsum(columns[name][i] for i in positions) / len(positions) for name in ("exact", "f1"))
        figures[label] = {"total": len(positions), "exact": exact, "f1": f1}
    return figures


def breakdown_table(title: str, by_file: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown: a row a group, a column a prediction file. by_file: name -> the file's figures."""
    rows = [[title, "questions", *(f"{name} EM/F1" for name in by_file)]]
    for label, first in next(iter(by_file.values())).items():
        scores = [f"{figures[label]['exact']:.2f}/{figures[label]['f1']:.2f}" for figures in by_file.values()]
        rows.append([label, str(first["total"]), *scores])
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def plots(plt: ModuleType, results: Mapping[str, Any]) -> Iterator[str]:
    """Draws EM and F1 of each group of a file's results as bars; yields a grouping's name when its figure is ready."""
    for grouping, figures in results["breakdown"].items():
        labels = [f"{label} ({numbers['total']:,})" for label, numbers in figures.items()]
        _, axes = plt.subplots(figsize=(6.4, 1.6 + 0.4 * len(labels)))
        for name, key, shift in ("EM", "exact", -0.19), ("F1", "f1", 0.19):
            places = [place + shift for place in range(len(labels))]
            axes.barh(places, [numbers[key] for numbers in figures.values()], height=0.36, label=name)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="Score")
        axes.set_title(f"By {grouping.replace('_', ' ')}", loc="left")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
        yield grouping
