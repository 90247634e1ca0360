"""Score SQuAD v1.1/v2.0 predictions: the official evaluator's options and figures, and what it left out.

    python evaluate_v2.py dev-v2.0.json predictions_.json --null-odds-file null_odds_.json

Reads the data file and one or more prediction files ({question id: answer text}, "" for "no answer"); prints the
results as JSON on stdout, or a Markdown table for several files. Written from the definition of the metric
(Rajpurkar et al. 2016, 2018). Python alone is enough; only --bootstrap needs numpy and --out-image-dir matplotlib.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import accumulate, chain, compress, groupby
from typing import Any

from squadlib.console import EXIT_OK, SquadError, exit_with_faults, script_main
from squadlib.data import get_field
from squadlib.files import atomic_write, check_output_path, read_json

VERSION = "1.0"  # part of the signature: raise it when a figure can change
ARTICLES = {"en": ("a", "an", "the"), "nl": ("de", "het", "een")}  # words that the normalisation drops
DROP_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # ASCII punctuation, as in `string`
BOOTSTRAP_SEED = 42
MIN_RESAMPLES = 100
MAX_NUMBER = 1e300  # of a probability or null odds, so that differences stay finite
NUMBER_TYPES = frozenset({int, float})  # of JSON; not bool, which is a subclass of int
CURVE_TITLES = {"exact": "Exact match", "f1": "F1", "oracle": "Oracle (is there an answer?)"}
HISTOGRAM_LABELS = {"na_prob": "No-answer probability", "null_odds": "Null odds (null score − best answer's score)"}
TIE_NOTE = (
    "best_*: every no-answer probability is equal, so the figure depends on the order of the predictions and its "
    "threshold cannot be used, as in the results of the 2020 run_squad.py; --null-odds-file gives one that can"
)

Golds = dict[str, list[str]]  # question id -> gold answer texts, [] for an unanswerable question
Texts = dict[str, str]  # question id -> predicted answer, "" for none
Numbers = dict[str, float]  # question id -> score, probability or null odds; or name -> figure


# ---------------------------------------------------------------------------------------------------------------------
# One answer: normalisation, exact match, F1
# ---------------------------------------------------------------------------------------------------------------------


def normalise_answer(text: str, language: str = "en") -> str:
    """`text` in lower case, without ASCII punctuation and articles, words joined by one space."""
    bare = text.lower().translate(DROP_PUNCTUATION)
    return " ".join(re.sub(rf"\b({'|'.join(ARTICLES[language])})\b", " ", bare).split())


def normalise_all(texts: set[str], language: str = "en") -> dict[str, list[str]]:
    """The words of `normalise_answer(text)` for every text, many times faster.

    Plain ASCII texts are lower-cased and freed of punctuation in one string; in them an article is a word between
    spaces. Beside other characters ("‘the’", tabs) only the regular expression finds it.
    """
    articles = frozenset(ARTICLES[language])
    plain = [text for text in texts if text.isascii() and text.isprintable()]
    lines = "\n".join(plain).lower().translate(DROP_PUNCTUATION).split("\n")
    words = {}
    for text, line in zip(plain, map(str.split, lines), strict=False):  # "" splits into one line too many
        words[text] = line if articles.isdisjoint(line) else [word for word in line if word not in articles]
    for text in texts.difference(words):
        words[text] = normalise_answer(text, language).split()
    return words


def f1_of_words(gold: list[str], pred: list[str]) -> float:
    """F1 of two bags of words, neither of them empty."""
    shared = set(gold).intersection(pred)
    if not shared:
        return 0
    num_same = len(shared)
    if len(set(gold)) < len(gold) and len(set(pred)) < len(pred):  # only then can a word be shared twice
        num_same = sum((Counter(gold) & Counter(pred)).values())
    precision = num_same / len(pred)
    recall = num_same / len(gold)
    return (2 * precision * recall) / (precision + recall)


# ---------------------------------------------------------------------------------------------------------------------
# All questions: scores, totals, thresholds
# ---------------------------------------------------------------------------------------------------------------------


def score_answers(golds: Golds, predictions: Texts, language: str = "en") -> tuple[Numbers, Numbers]:
    """(exact, f1) of every question, 0 to 1, in the order of `golds`; the best over its gold answers.

    golds: question id -> gold answer texts, [] for an unanswerable question, whose one right answer is "".
    Predictions for other questions are ignored. Raises SquadError when one is missing or not text.
    """
    texts = check_predictions(golds, predictions)
    words = normalise_all(set(texts), language)
    others: set[str] = set()  # gold answers that are not, letter for letter, the prediction
    for answers, text in zip(golds.values(), texts, strict=True):
        if answers and not (text in answers and words[text]):
            others.update(answers)
    words |= normalise_all(others, language)
    exact, f1 = {}, {}
    for (qid, answers), text in zip(golds.items(), texts, strict=True):
        pred = words[text]
        if pred and text in answers:
            exact[qid], f1[qid] = 1, 1.0
            continue
        gold_words = [gold for answer in set(answers) if (gold := words[answer])] if answers else ()
        if not gold_words:
            exact[qid] = f1[qid] = int(not pred)
        elif pred in gold_words:
            exact[qid], f1[qid] = 1, 1.0
        else:
            exact[qid], f1[qid] = 0, max([f1_of_words(gold, pred) for gold in gold_words]) if pred else 0
    return exact, f1


def check_predictions(golds: Golds, predictions: Texts) -> list[str]:
    """The prediction of each question. Raises SquadError unless there are questions and each prediction is text."""
    if not golds:
        raise SquadError("there is no question to score")
    check_coverage(golds, predictions, 'prediction; predict the whole data file ("" where there is no answer)')
    texts = list(map(predictions.__getitem__, golds))
    for qid in golds if set(map(type, texts)) != {str} else ():
        if not isinstance(predictions[qid], str):
            fault = f"the prediction for question {qid} is {predictions[qid]!r:.40}"
            raise SquadError(f'{fault}; expected text ("" for no answer)')
    return texts


def check_coverage(golds: Golds, values: dict[str, Any], what: str) -> None:
    """Raise SquadError when a question has no value. what: name of the value; what to do."""
    if not golds.keys() <= values.keys():
        missing = [qid for qid in golds if qid not in values]
        raise SquadError(f"{len(missing)} of {len(golds)} questions, the first is {missing[0]}, have no {what}")


def squad_evaluate(
    golds: Golds, predictions: Texts, na_probs: Numbers | None = None, na_prob_thresh: float = 1.0
) -> Numbers:
    """The results of the official evaluator, 0 to 100, in its order of keys, `best_*` always included.

    golds: as in `score_answers`. na_probs: probability of "no answer" (any real number will do); None: all zero, and
    `best_*` then comes from a tie that the order of the predictions decides, as in the published results.
    na_prob_thresh: a question with a larger probability counts as answered with "".
    """
    exact, f1 = score_answers(golds, predictions)
    return summarise(golds, predictions, exact, f1, na_probs, na_prob_thresh)


def summarise(
    golds: Golds,
    predictions: Texts,
    exact: Numbers,
    f1: Numbers,
    na_probs: Numbers | None = None,
    na_prob_thresh: float = 1.0,
) -> Numbers:
    """`squad_evaluate` from the scores that `score_answers` returned."""
    if na_probs is None:
        na_probs = dict.fromkeys(predictions, 0.0)
    final_exact, final_f1 = apply_no_ans_threshold(golds, exact, f1, na_probs, na_prob_thresh)
    results: Numbers = {}
    has_ans = list(map(bool, golds.values()))
    no_ans = [not flag for flag in has_ans]
    for prefix, wanted in ("", [True] * len(golds)), ("HasAns_", has_ans), ("NoAns_", no_ans):
        if total := sum(wanted):
            results[f"{prefix}exact"] = 100.0 * sum(compress(final_exact.values(), wanted)) / total
            results[f"{prefix}f1"] = 100.0 * sum(compress(final_f1.values(), wanted)) / total
            results[f"{prefix}total"] = total
    ranked = rank(golds, na_probs)
    losses = {qid: -1 if predictions[qid] else 0 for qid in compress(golds, no_ans)}
    for name, scores in ("exact", exact), ("f1", f1):
        best, threshold = find_best_threshold(scores | losses, len(losses), na_probs, ranked)
        results[f"best_{name}"], results[f"best_{name}_thresh"] = best, threshold
    return results


def apply_no_ans_threshold(
    golds: Golds, exact: Numbers, f1: Numbers, na_probs: Numbers, na_prob_thresh: float
) -> tuple[Numbers, Numbers]:
    """(exact, f1) when every question whose probability is above the threshold is answered with ""."""
    check_coverage(golds, na_probs, "no-answer probability; take the file that belongs to these predictions")
    cut = {qid: float(not golds[qid]) for qid in golds if na_probs[qid] > na_prob_thresh}
    return exact | cut, f1 | cut


def rank(golds: Golds, na_probs: Numbers) -> list[str]:
    """The questions by rising no-answer probability; equal ones stay in the order of `na_probs`."""
    return [qid for qid in sorted(na_probs, key=na_probs.__getitem__) if qid in golds]


def find_best_threshold(
    gains: Numbers, nothing_answered: int, na_probs: Numbers, ranked: list[str]
) -> tuple[float, float]:
    """(best mean score, threshold) over all cuts of the questions `ranked` by probability, the official way.

    gains: what answering a question adds to the score of `nothing_answered`. The running score may stop between
    questions of equal probability, where no threshold can cut; it is kept because it is the published figure.
    `best_thresholds` finds one that can be used.
    """
    running = list(accumulate(map(gains.__getitem__, ranked), initial=nothing_answered))
    best = max(running)
    position = running.index(best)  # the first of equals
    return 100.0 * best / len(gains), na_probs[ranked[position - 1]] if position else 0.0


def best_thresholds(golds: Golds, answers: Texts, null_odds: Numbers, language: str = "en") -> Numbers:
    """The best exact and f1 (0 to 100) that a threshold on the null odds reaches, and the lowest such threshold.

    answers: best non-empty answer of each question; one that is already "" stays unanswered at every threshold.
    A question is answered when its odds are <= threshold (the rule of --null_score_diff_threshold), so questions with
    equal odds fall on the same side. The order of the questions changes nothing.
    """
    check_coverage(golds, null_odds, "null odds; take the file that belongs to these predictions")
    exact, f1 = score_answers(golds, answers, language)
    ranked = sorted(golds, key=null_odds.__getitem__)
    lowest = math.nextafter(null_odds[ranked[0]], -math.inf)  # answers nothing
    results = {}
    for name, scores in ("exact", exact), ("f1", f1):
        current = best_score = float(sum(1 for texts in golds.values() if not texts))
        best_thresh = lowest
        for odds, tied in groupby(ranked, key=null_odds.__getitem__):
            current += math.fsum(scores[qid] - (not golds[qid]) for qid in tied)
            if current > best_score:
                best_score, best_thresh = current, odds
        results[f"best_{name}_null_odds"] = 100.0 * best_score / len(golds)
        results[f"best_{name}_null_odds_thresh"] = best_thresh
    return results


def precision_recall(golds: Golds, scores: Numbers, na_probs: Numbers) -> tuple[float, list[float], list[float]]:
    """(average precision 0 to 100, precisions, recalls) of answering the questions of low probability first.

    A point of the curve lies wherever a threshold can cut. There must be an answerable question.
    """
    ranked = rank(golds, na_probs)
    num_has_ans = sum(1 for texts in golds.values() if texts)
    true_positives = average = 0.0
    precisions, recalls = [1.0], [0.0]
    for count, qid in enumerate(ranked, 1):
        if golds[qid]:
            true_positives += scores[qid]
        if count == len(ranked) or na_probs[qid] != na_probs[ranked[count]]:
            precision, recall = true_positives / count, true_positives / num_has_ans
            average += precision * (recall - recalls[-1])
            precisions.append(precision)
            recalls.append(recall)
    return 100.0 * average, precisions, recalls


def bootstrap_interval(scores: list[float], num_resamples: int) -> list[float]:
    """[low, high]: the middle 95 % of the mean over `num_resamples` draws of the questions.

    The same scores give the same interval everywhere: numpy has frozen the numbers that RandomState draws.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise SquadError("--bootstrap needs numpy; run `pip install numpy` or leave the flag out") from error
    random = np.random.RandomState(BOOTSTRAP_SEED)
    values = np.array(scores, dtype=float)
    means = [values[random.randint(len(values), size=len(values))].mean() for _ in range(num_resamples)]
    return [float(edge) for edge in np.percentile(means, [2.5, 97.5])]


def question_rows(
    golds: Golds, predictions: Texts, na_probs: Numbers | None = None, na_prob_thresh: float = 1.0, language: str = "en"
) -> list[dict[str, Any]]:
    """One record a question, in file order; the mean of its exact and f1 (0 to 100) is the reported figure."""
    exact, f1 = score_answers(golds, predictions, language)
    probs = dict.fromkeys(golds, 0.0) if na_probs is None else na_probs
    exact, f1 = apply_no_ans_threshold(golds, exact, f1, probs, na_prob_thresh)
    rows = []
    for qid, texts in golds.items():
        row = {"id": qid, "has_ans": bool(texts), "exact": 100.0 * exact[qid], "f1": 100.0 * f1[qid]}
        rows.append(row | {"pred": predictions[qid], "golds": texts})
        if na_probs is not None:
            rows[-1]["na_prob"] = na_probs[qid]
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


def read_golds(path: str) -> Golds:
    """Question id -> gold answer texts, in file order. Needs ids and answer texts only, as the official script does.

    As there, the answers decide whether a question is answerable, not `is_impossible`; unlike there, a question marked
    unanswerable may leave `answers` out.
    """
    document = read_json(path)
    try:
        articles = document["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        questions = [qa for paragraph in paragraphs for qa in paragraph["qas"]]
        answers = [qa["answers"] for qa in questions]
        golds = {qa["id"]: [answer["text"] for answer in qa["answers"]] for qa in questions}
        "".join(chain(golds, *golds.values()))  # TypeError when one of them is not text
        lists = [articles, *(article["paragraphs"] for article in articles), *(place["qas"] for place in paragraphs)]
        contradictions = any(compress(answers, [qa.get("is_impossible") for qa in questions]))
        all_lists = set(map(type, chain(lists, answers))) == {list}
        if golds and len(golds) == len(questions) and all_lists and not contradictions:
            return golds
    except (AttributeError, KeyError, TypeError):
        pass
    return read_odd_golds(document, path)


def read_odd_golds(document: Any, path: str) -> Golds:
    """As read_golds, step by step: for unusual files, and to say what is wrong with the others."""
    golds: Golds = {}
    num_contradictions = 0
    for number, article in enumerate(get_field(document, "data", list, path), 1):
        for index, paragraph in enumerate(get_field(article, "paragraphs", list, f"{path}: article {number}"), 1):
            place = f"{path}: article {number}, paragraph {index}"
            for qa in get_field(paragraph, "qas", list, place):
                qid, texts, is_impossible = read_question(qa, place)
                if qid in golds:
                    raise SquadError(f"{place}, question {qid}: this id was used before; make the ids unique")
                golds[qid] = texts
                num_contradictions += is_impossible and bool(texts)
    if not golds:
        raise SquadError(f"{path}: the file has no question")
    if num_contradictions:
        note(f"{num_contradictions} questions are marked is_impossible but have answers: scored by the answers")
    return golds


def read_question(qa: Any, place: str) -> tuple[str, list[str], bool]:
    """(id, gold answer texts, is_impossible) of one question of the data file."""
    qid = qa.get("id") if isinstance(qa, dict) else None
    if not isinstance(qid, (str, int)):
        raise SquadError(f'{place}: a question has no "id" that is text')
    is_impossible = qa.get("is_impossible") is True
    if is_impossible and qa.get("answers") is None:
        return str(qid), [], True
    try:
        texts = [answer["text"] for answer in get_field(qa, "answers", list, f"{place}, question {qid}")]
        "".join(texts)
    except (KeyError, TypeError):
        raise SquadError(f'{place}, question {qid}: an answer has no "text" that is text') from None
    return str(qid), texts, is_impossible


def note(text: str) -> None:
    """A line for people. Not through logging, which takes as long to import as half of the questions to score."""
    print(f"evaluate_v2.py: {text}", file=sys.stderr)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the file's name in front of a SquadError that the block raises."""
    try:
        yield
    except SquadError as error:
        raise SquadError(f"{path}: {error}") from error


def read_object(path: str, kind: str) -> dict[str, Any]:
    """The JSON object of file `path`, whose keys are question ids."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise SquadError(f"{path}: not a file of {kind}: expected {{question id: …}}, found {type(content).__name__}")
    return content


def read_numbers(path: str, golds: Golds, kind: str) -> Numbers:
    """Question id -> number for the questions of `golds`, in the order of file `path`."""
    content = read_object(path, kind)
    with naming(path):
        check_coverage(golds, content, f"{kind}; take the file that belongs to these predictions")
    numbers = {qid: number for qid, number in content.items() if qid in golds}
    values = numbers.values()
    if set(map(type, values)) <= NUMBER_TYPES and max(map(abs, values)) < MAX_NUMBER:
        return numbers
    bad = next(qid for qid, n in numbers.items() if type(n) not in NUMBER_TYPES or abs(n) >= MAX_NUMBER)
    raise SquadError(f"{path}: question {bad}: {numbers[bad]!r:.40} is not a finite number")


def read_na_probs(path: str, golds: Golds, threshold: float) -> Numbers:
    """No-answer probabilities; says so when they look like log-odds under the default threshold."""
    na_probs = read_numbers(path, golds, "no-answer probability")
    if threshold == 1.0 and (num_outside := sum(not 0 <= value <= 1 for value in na_probs.values())):
        fault = f"{num_outside} of {len(na_probs)} values are not between 0 and 1; for log-odds --na-prob-thresh 1.0 is"
        note(f"{path}: {fault} an arbitrary cut: set it, or give the file as --null-odds-file")
    return na_probs


def read_nbest_answers(path: str, golds: Golds) -> Texts:
    """Question id -> best answer with text in an nbest_predictions_.json; "" where there is none."""
    content = read_object(path, "n-best lists")
    answers = {}
    for qid in golds.keys() & content.keys():
        try:
            answers[qid] = next((entry["text"] for entry in content[qid] if entry["text"]), "")
        except (KeyError, TypeError):
            raise SquadError(f"{path}: question {qid} has no list of entries with a text") from None
    return answers


def signature(args: argparse.Namespace, pred_file: str, golds: Golds) -> str:
    """One line that says exactly what was scored and how; a hash is the start of `sha256sum FILE`."""
    import hashlib

    fields = {"data": args.data_file, "pred": pred_file, "na_prob": args.na_prob_file, "null_odds": args.null_odds_file}
    parts = []
    for name, path in fields.items():
        if path:
            with open(path, "rb") as file:
                parts.append(f"{name}:{hashlib.sha256(file.read()).hexdigest()[:12]}")
    parts.append(f"questions:{len(golds)}|answerable:{sum(map(bool, golds.values()))}|norm:{args.normalisation}")
    if args.na_prob_file or args.na_prob_thresh != 1.0:
        parts.append(f"na_prob_thresh:{args.na_prob_thresh}")
    if args.bootstrap:
        parts.append(f"bootstrap:{args.bootstrap}|seed:{BOOTSTRAP_SEED}")
    return "|".join([*parts, f"evaluate_v2:{VERSION}"])


def markdown_table(results: dict[str, Numbers]) -> str:
    """The published benchmark table, one row a prediction file: exact/f1 of all, HasAns and NoAns questions."""
    lines = ["| Model | EM/F1 | HasAns | NoAns |", "|---|---|---|---|"]
    for name, result in results.items():
        pairs = [(result.get(f"{group}exact"), result.get(f"{group}f1")) for group in ("", "HasAns_", "NoAns_")]
        cells = ["–" if exact is None else f"{exact:.2f}/{f1:.2f}" for exact, f1 in pairs]
        lines.append(f"| {' | '.join([name.replace('|', '/'), *cells])} |")
    return "\n".join(lines)


def model_name(path: str) -> str:
    """Name of a table row: the folder of run_squad.py's predictions_*.json, else the file's own name."""
    folder, file_name = os.path.split(os.path.abspath(path))
    stem = os.path.splitext(file_name)[0]
    return os.path.basename(folder) if stem.startswith("predictions") else stem


# ---------------------------------------------------------------------------------------------------------------------
# Plots
# ---------------------------------------------------------------------------------------------------------------------


def import_pyplot() -> Any:
    """matplotlib.pyplot drawing to files, or None after one line when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        note("no plots drawn: --out-image-dir needs matplotlib for them; run `pip install matplotlib`")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
    matplotlib.rcParams.update({**style, "font.size": 11, "figure.figsize": (6.4, 4.4), "savefig.dpi": 200})
    return matplotlib.pyplot


@contextlib.contextmanager
def new_plot(plt: Any, path: str) -> Iterator[Any]:
    """Axes to draw on; the PNG is written whole or not at all."""
    figure, axes = plt.subplots(layout="constrained")
    yield axes
    with atomic_write(path, "wb") as out:
        figure.savefig(out, format="png")
    plt.close(figure)


def plot_precision_recall(axes: Any, name: str, average: float, precisions: list[float], recalls: list[float]) -> None:
    axes.fill_between(recalls, precisions, step="post", alpha=0.15, linewidth=0)
    axes.step(recalls, precisions, where="post")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Recall", ylabel="Precision")
    axes.set_title(f"{name}: average precision {average:.1f}")


def plot_histogram(axes: Any, golds: Golds, values: Numbers, name: str, best: float) -> None:
    """HasAns and NoAns on one axis, with the threshold of the best F1."""
    bounds = min(values.values()), max(values.values())
    for label, wanted in ("HasAns", True), ("NoAns", False):
        group = [value for qid, value in values.items() if bool(golds[qid]) is wanted]
        axes.hist(group, bins=50, range=bounds, alpha=0.6, label=f"{label} ({len(group):,})")
    axes.axvline(best, color="black", linestyle="--", linewidth=1, label=f"best F1: {best:.4g}")
    axes.set(xlabel=name, ylabel="Questions")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def draw_images(
    folder: str, golds: Golds, exact: Numbers, f1: Numbers, rankings: dict[str, tuple[Numbers, float]]
) -> Numbers:
    """pr_*_ap by the first ranking; writes its curves and a histogram of each ranking into `folder`.

    rankings: name -> (number of each question, threshold of the best F1). Without an answerable question there is no
    recall and so no curve.
    """
    if not rankings:
        note("nothing to draw: --out-image-dir needs --na-prob-file or --null-odds-file")
        return {}
    os.makedirs(folder, exist_ok=True)
    plt = import_pyplot()
    results = {}
    values, _ = next(iter(rankings.values()))
    oracle = {qid: float(bool(texts)) for qid, texts in golds.items()}
    for name, scores in {"exact": exact, "f1": f1, "oracle": oracle}.items() if any(golds.values()) else ():
        curve = precision_recall(golds, scores, values)
        results[f"pr_{name}_ap"] = curve[0]
        if plt:
            with new_plot(plt, os.path.join(folder, f"pr_{name}.png")) as axes:
                plot_precision_recall(axes, CURVE_TITLES[name], *curve)
    for name, (values, best) in rankings.items() if plt else ():
        with new_plot(plt, os.path.join(folder, f"{name}_hist.png")) as axes:
            plot_histogram(axes, golds, values, HISTOGRAM_LABELS[name], best)
    return results


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    formatter = partial(argparse.RawTextHelpFormatter, width=100)  # the terminal's width costs 4 ms to find out
    parser = argparse.ArgumentParser(
        prog="evaluate_v2.py", description=__doc__, formatter_class=formatter, allow_abbrev=False
    )

    def add(group: Any, flag: str, *short: str, **options: Any) -> None:
        spellings = dict.fromkeys((flag, "--" + flag[2:].replace("-", "_"), *short))
        group.add_argument(*spellings, **options)

    parser.add_argument("data_file", help="SQuAD v1.1 or v2.0 file with the gold answers")
    parser.add_argument("pred_file", nargs="+", help="predictions: {question id: answer text}; several make a table")
    official = parser.add_argument_group("the official script's options")
    add(official, "--out-file", "-o", metavar="FILE", help="write the results to this file (default: stdout)")
    add(official, "--na-prob-file", "-n", help="{question id: probability of no answer}; gives best_* a meaning")
    add(
        official, "--na-prob-thresh", "-t", type=float, default=1.0, metavar="P",
        help='count a question as answered with "" above this probability (default: 1.0, never)',
    )  # fmt: skip
    add(
        official, "--out-image-dir", "-p", metavar="DIR",
        help="draw precision-recall curves and a histogram here (needs -n or\n--null-odds-file, and matplotlib); "
        "adds pr_*_ap",
    )  # fmt: skip
    add(official, "--verbose", "-v", action="store_true", help="say more about the input on stderr")
    more = parser.add_argument_group("more")
    add(
        more, "--null-odds-file", metavar="FILE",
        help="null_odds_.json of run_squad.py: adds best_*_null_odds and the threshold to\n"
        "give as --null_score_diff_threshold",
    )  # fmt: skip
    add(
        more, "--nbest-file", metavar="FILE",
        help="nbest_predictions_.json beside it: lets that threshold also give an answer\n"
        "where the prediction is already empty",
    )  # fmt: skip
    add(more, "--out-scores-file", metavar="FILE", help="write one JSON line per question: scores, prediction, golds")
    add(
        more, "--bootstrap", type=int, default=0, metavar="N",
        help="add exact_ci95 and f1_ci95 from N resamples, e.g. 1000 (default: 0, none;\nneeds numpy)",
    )  # fmt: skip
    add(
        more, "--signature", action="store_true",
        help="say on stderr what was scored and how, in one line to put beside a figure\n(always with a table)",
    )  # fmt: skip
    add(more, "--markdown", action="store_true", help="print a Markdown table: EM/F1, HasAns, NoAns")
    add(
        more, "--normalisation", choices=sorted(ARTICLES), default="en",
        help="articles that do not count: en a/an/the (default, the published rule),\nnl de/het/een",
    )  # fmt: skip
    return parser


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the command line."""
    faults: list[str] = []
    if math.isnan(args.na_prob_thresh):
        faults.append("--na-prob-thresh is NaN; give a number")
    if args.bootstrap and args.bootstrap < MIN_RESAMPLES:
        faults.append(f"--bootstrap {args.bootstrap} is too few for an interval; use at least {MIN_RESAMPLES}")
    if args.nbest_file and not args.null_odds_file:
        faults.append("--nbest-file is used with --null-odds-file; give both")
    single = "na_prob_file", "null_odds_file", "nbest_file", "out_scores_file", "out_image_dir"
    for name in single if len(args.pred_file) > 1 else ():
        if getattr(args, name):
            faults.append(f"--{name.replace('_', '-')} belongs to one prediction file; {len(args.pred_file)} are given")
    for flag, path in ("--out-file", args.out_file), ("--out-scores-file", args.out_scores_file):
        if path:
            check_output_path(path, faults, flag)
    return faults


def evaluate_file(args: argparse.Namespace, pred_file: str, golds: Golds) -> dict[str, Any]:
    """The results of one prediction file; writes its score rows and images where asked for."""
    predictions = read_object(pred_file, "predictions")
    with naming(pred_file):
        exact, f1 = score_answers(golds, predictions, args.normalisation)
    na_probs = read_na_probs(args.na_prob_file, golds, args.na_prob_thresh) if args.na_prob_file else None
    log_input(pred_file, golds, predictions, args.verbose)
    if not makes_table(args) and (na_probs is None or min(na_probs.values()) == max(na_probs.values())):
        note(TIE_NOTE)
    results: dict[str, Any] = summarise(golds, predictions, exact, f1, na_probs, args.na_prob_thresh)
    rankings = {"na_prob": (na_probs, results["best_f1_thresh"])} if na_probs else {}
    if args.null_odds_file:
        null_odds = read_numbers(args.null_odds_file, golds, "null odds")
        answers = predictions | (read_nbest_answers(args.nbest_file, golds) if args.nbest_file else {})
        results |= best_thresholds(golds, answers, null_odds, args.normalisation)
        rankings["null_odds"] = (null_odds, results["best_f1_null_odds_thresh"])
    if args.out_image_dir:
        results |= draw_images(args.out_image_dir, golds, exact, f1, rankings)
    if args.bootstrap or args.out_scores_file:
        rows = question_rows(golds, predictions, na_probs, args.na_prob_thresh, args.normalisation)
        for name in ("exact", "f1") if args.bootstrap else ():
            results[f"{name}_ci95"] = bootstrap_interval([row[name] for row in rows], args.bootstrap)
        if args.out_scores_file:
            with atomic_write(args.out_scores_file) as out:
                out.writelines(json.dumps(row) + "\n" for row in rows)
    if args.signature or makes_table(args):
        note(f"signature {signature(args, pred_file, golds)}")
    return results


def makes_table(args: argparse.Namespace) -> bool:
    """Whether the output is a table (which has no best_*) instead of JSON."""
    return args.markdown or len(args.pred_file) > 1


def log_input(pred_file: str, golds: Golds, predictions: Texts, verbose: bool) -> None:
    """Say on stderr what the figures alone do not show."""
    num_extra = len(predictions) - len(golds)
    if num_extra:
        note(f"{pred_file}: {num_extra} predictions are for questions that the data file does not have: ignored")
    if verbose:
        num_has_ans, num_empty = sum(map(bool, golds.values())), sum(not predictions[qid] for qid in golds)
        note(f"{len(golds)} questions, {num_has_ans} answerable; {num_empty} predictions are empty")


def print_results(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """JSON of one prediction file as the official script prints it; a table for several."""
    names = list(map(model_name, args.pred_file))
    if len(set(names)) < len(names):
        names = args.pred_file
    content = results[0] if len(results) == 1 else dict(zip(names, results, strict=True))
    if args.out_file:
        with atomic_write(args.out_file) as out:
            out.write(json.dumps(content))  # byte for byte the official file: one line, no newline
        note(f"wrote {args.out_file}")
    if makes_table(args):
        print(markdown_table(dict(zip(names, results, strict=True))))
    elif not args.out_file:
        print(json.dumps(content, indent=2))


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    exit_with_faults(parser, check_args(args))
    golds = read_golds(args.data_file)
    results = [evaluate_file(args, pred_file, golds) for pred_file in args.pred_file]
    print_results(args, results)
    return EXIT_OK


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and looking for them takes a tenth of the time, also at exit
    exit_code = main()
    gc.freeze()
    sys.exit(exit_code)
