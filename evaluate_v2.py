"""Score SQuAD v1.1/v2.0 predictions: the official evaluator's options and figures, and what it left out.

    python evaluate_v2.py dev-v2.0.json predictions_.json --null-odds-file null_odds_.json

Reads the data file and one or more prediction files ({question id: answer text}, "" for "no answer"); prints the
results as JSON on stdout, or a Markdown table for several files. Also reads rows as hubs publish them, one question a
line, from files named .jsonl or .ndjson, and any file compressed as .gz:

    {"id": "56d", "context": "…", "question": "…", "answers": {"text": ["Haarlem"], "answer_start": [12]}}
    {"id": "56d", "prediction_text": "in Haarlem", "no_answer_probability": 0.1}

Written from the definition of the metric (Rajpurkar et al. 2016, 2018). This file works alone, copied anywhere, with
Python and nothing else; only --bootstrap needs numpy and --out-image-dir matplotlib. What is no part of the metric
needs the folder squadlib beside it: --compare, --cluster, --breakdown, rules of --normalisation but en and nl.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import gzip
import io
import json
import math
import os
import re
import signal
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from types import ModuleType

EXIT_OK, EXIT_BAD_DATA, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 0, 1, 2, 130, 141  # 128 + signal number
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
VERSION = "1.0"  # part of the signature: raise it when a figure can change
ARTICLES = {"en": ("a", "an", "the"), "nl": ("de", "het", "een")}  # words that the normalisation drops
DROP_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # ASCII punctuation, as in `string`
UNSPACED = "[\u0e00-\u0e7f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{2}"  # Thai, Khmer, Japanese, Chinese
BOOTSTRAP_SEED = 42
MIN_RESAMPLES, COMPARE_TRIALS = 100, 10_000
BREAKDOWNS = ("answerable", "question_word", "answer_length", "context_length", "confidence", "article")
BEYOND_METRIC = "--compare, --cluster, --breakdown and the normalisations of other data sets"
MAX_NUMBER = 1e300  # of a probability or null odds, so that differences stay finite
CURVE_TITLES = {"exact": "Exact match", "f1": "F1", "oracle": "Oracle (is there an answer?)"}
HISTOGRAM_LABELS = {"na_prob": "No-answer probability", "null_odds": "Null odds (null score − best answer's score)"}
TIE_NOTE = (
    "best_*: every no-answer probability is equal, so the figure depends on the order of the predictions and its "
    "threshold cannot be used, as in the results of the 2020 run_squad.py; --null-odds-file gives one that can"
)

Golds = dict[str, list[str]]  # question id -> gold answer texts, [] for an unanswerable question
Texts = Mapping[str, object]  # question id -> predicted answer, "" for none; checked where it is scored
Numbers = dict[str, float]  # question id -> score, probability or null odds; or name -> figure
Results = dict[str, object]  # name -> figure, interval [low, high], or more figures by name
Columns = dict[str, list[float]]  # "exact" and "f1" -> score of every question, 0 to 100, in file order
Evaluation = tuple[Results, Columns]  # of a prediction file
Question = tuple[str, object, object, object]  # place for an error, question, its article, its paragraph; a row thrice


class SquadError(Exception):
    """Bad data or a bad environment: one sentence with the file, the place, what was found and what to do."""


# ---- One answer: normalisation, exact match, F1 ---------------------------------------------------------------------


def normalise_answer(text: str, language: str = "en") -> str:
    """`text` in lower case, without ASCII punctuation and articles, words joined by one space."""
    bare = text.lower().translate(DROP_PUNCTUATION)
    return " ".join(re.sub(rf"\b({'|'.join(ARTICLES[language])})\b", " ", bare).split())


def normalise_all(texts: set[str], language: str = "en") -> dict[str, list[str]]:
    """The words of `normalise_answer(text)` for every text, many times faster.

    Plain ASCII texts are lower-cased and freed of punctuation in one string; in them an article is a word between
    spaces. Beside other characters ("‘the’", tabs) only the regular expression finds it. language: a key of ARTICLES,
    or a name in squadlib/scoring/normalisation.py.
    """
    if language not in ARTICLES:
        from squadlib.scoring.normalisation import normalise

        return {text: normalise(text, language).split() for text in texts}
    articles = frozenset(ARTICLES[language])
    plain = [text for text in texts if text.isascii() and text.isprintable()]
    lines = "\n".join(plain).lower().translate(DROP_PUNCTUATION).split("\n")
    words = {}
    for text, line in zip(plain, map(str.split, lines), strict=False):  # no text at all still makes one line
        words[text] = line if articles.isdisjoint(line) else [word for word in line if word not in articles]
    for text in texts.difference(words):
        words[text] = normalise_answer(text, language).split()
    return words


def f1_of_words(gold: list[str], pred: list[str]) -> float:
    """F1 of two bags of words."""
    shared = set(gold).intersection(pred)
    if not shared:
        return 0
    num_same = sum([min(gold.count(word), pred.count(word)) for word in shared])
    precision, recall = num_same / len(pred), num_same / len(gold)
    return (2 * precision * recall) / (precision + recall)


# ---- All questions: scores, totals, thresholds ----------------------------------------------------------------------


def score_answers(golds: Golds, predictions: Texts, language: str = "en") -> tuple[Numbers, Numbers]:
    """(exact, f1) of every question, 0 to 1, in the order of `golds`; the best over its gold answers.

    golds: question id -> gold answer texts, [] for an unanswerable question, whose one right answer is "".
    Predictions for other questions are ignored. Raises SquadError when one is missing or not text.
    """
    texts = check_predictions(golds, predictions)
    exact: Numbers = dict.fromkeys(golds, 1)
    f1: Numbers = dict.fromkeys(golds, 1.0)
    words = normalise_all(set(texts.values()), language)
    others = [qid for qid, text in texts.items() if text not in golds[qid] or not words[text]]
    words |= normalise_all({answer for qid in others for answer in golds[qid]}, language)
    for qid in others:  # every question but these is right to the letter
        pred = words[texts[qid]]
        gold_words = [words[answer] for answer in golds[qid] if words[answer]]
        if not gold_words:
            exact[qid] = f1[qid] = int(not pred)
        elif pred not in gold_words:
            exact[qid], f1[qid] = 0, max([f1_of_words(gold, pred) for gold in gold_words])
    return exact, f1


def check_predictions(golds: Golds, predictions: Texts) -> dict[str, str]:
    """The prediction of each question. Raises SquadError unless there are questions and each prediction is text."""
    if not golds:
        raise SquadError("there is no question to score")
    check_coverage(golds, predictions, 'prediction; predict the whole data file ("" where there is no answer)')
    texts = {}
    for qid in golds:
        text = predictions[qid]
        if not isinstance(text, str):
            raise SquadError(f'the prediction for question {qid} is {text!r:.40}; expected text ("" for no answer)')
        texts[qid] = text
    return texts


def check_coverage(golds: Golds, values: Mapping[str, object], what: str, place: str = "") -> None:
    """Raise SquadError when a question has no value. what: name of the value; what to do."""
    if missing := [qid for qid in golds if qid not in values]:
        fault = f"{len(missing)} of {len(golds)} questions, the first is {missing[0]}, have no {what}"
        raise SquadError(f"{place}{fault}")


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
    golds: Golds, predictions: Texts, exact: Numbers, f1: Numbers, na_probs: Numbers | None, na_prob_thresh: float
) -> Numbers:
    """`squad_evaluate` from the scores that `score_answers` returned."""
    if na_probs is None:
        na_probs = dict.fromkeys(predictions, 0.0)
    final_exact, final_f1 = apply_no_ans_threshold(golds, exact, f1, na_probs, na_prob_thresh)
    has_ans = [qid for qid in golds if golds[qid]]
    no_ans = [qid for qid in golds if not golds[qid]]
    results: Numbers = {}
    for prefix, group in ("", list(golds)), ("HasAns_", has_ans), ("NoAns_", no_ans):
        if group:
            results[f"{prefix}exact"] = 100.0 * sum([final_exact[qid] for qid in group]) / len(group)
            results[f"{prefix}f1"] = 100.0 * sum([final_f1[qid] for qid in group]) / len(group)
            results[f"{prefix}total"] = len(group)
    ranked = rank(golds, na_probs)
    losses = {qid: -1 if predictions[qid] else 0 for qid in no_ans}
    for name, scores in ("exact", exact), ("f1", f1):
        best, threshold = find_best_threshold(scores | losses, len(no_ans), na_probs, ranked)
        results[f"best_{name}"], results[f"best_{name}_thresh"] = best, threshold
    return results


def apply_no_ans_threshold(
    golds: Golds, exact: Numbers, f1: Numbers, na_probs: Numbers | None, na_prob_thresh: float
) -> tuple[Numbers, Numbers]:
    """(exact, f1) when every question whose probability (0 without `na_probs`) is above the threshold is cut to ""."""
    if na_probs is None:
        na_probs = dict.fromkeys(golds, 0.0)
    check_coverage(golds, na_probs, "no-answer probability; take the file that belongs to these predictions")
    cut = {qid: float(not golds[qid]) for qid in golds if na_probs[qid] > na_prob_thresh}
    return exact | cut, f1 | cut


def rank(golds: Golds, na_probs: Numbers) -> list[str]:
    """The questions by rising no-answer probability; equal ones stay in the order of `na_probs`."""
    return [qid for qid in sorted(na_probs, key=na_probs.__getitem__) if qid in golds]


def find_best_threshold(gains: Numbers, start: int, na_probs: Numbers, ranked: list[str]) -> tuple[float, float]:
    """(best mean score, threshold) over all cuts of the questions `ranked` by probability, the official way.

    gains: what answering a question adds to `start`, the score of answering none. The running score may stop between
    questions of equal probability, where no threshold can cut; it is kept because it is the published figure.
    `best_thresholds` finds one that can be used.
    """
    running = list(accumulate(map(gains.__getitem__, ranked), initial=start))
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


def bootstrap_interval(scores: list[float], num_resamples: int, articles: Sequence[str] = ()) -> list[float]:
    """[low, high]: the middle 95 % of the mean over `num_resamples` draws of the questions, or of whole articles.

    The same scores give the same interval everywhere: numpy has frozen the numbers that RandomState draws.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise SquadError("--bootstrap needs numpy; run `pip install numpy` or leave the flag out") from error
    if articles:
        from squadlib.scoring.comparison import interval

        return interval(scores, articles, num_resamples, BOOTSTRAP_SEED)
    random = np.random.RandomState(BOOTSTRAP_SEED)
    values = np.array(scores, dtype=float)
    means = [values[random.randint(len(values), size=len(values))].mean() for _ in range(num_resamples)]
    return [float(edge) for edge in np.percentile(means, [2.5, 97.5])]


def question_rows(
    golds: Golds, predictions: Texts, na_probs: Numbers | None = None, na_prob_thresh: float = 1.0, language: str = "en"
) -> list[dict[str, object]]:
    """One record a question, in file order; the mean of its exact and f1 (0 to 100) is the reported figure."""
    exact, f1 = score_answers(golds, predictions, language)
    exact, f1 = apply_no_ans_threshold(golds, exact, f1, na_probs, na_prob_thresh)
    rows = []
    for qid, texts in golds.items():
        row: dict[str, object] = {"id": qid, "has_ans": bool(texts), "exact": 100.0 * exact[qid], "f1": 100.0 * f1[qid]}
        rows.append(row | {"pred": predictions[qid], "golds": texts})
        if na_probs is not None:
            rows[-1]["na_prob"] = na_probs[qid]
    return rows


# ---- Files: JSON and rows in, results out ---------------------------------------------------------------------------


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SquadError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: str) -> str:
    """The text of a UTF-8 file with or without BOM, unpacked when its name ends in .gz."""
    raw = read_bytes(path)
    try:
        raw = gzip.decompress(raw) if path.endswith(".gz") else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SquadError(f"{path}: not a whole gzip file ({error}); download or make it again") from error
    if not raw.strip():
        raise SquadError(f"{path}: the file is empty; download or make it again")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SquadError(f"{path}: the file is UTF-16; save it as UTF-8")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise SquadError(f"{path}: byte {error.start} is not valid UTF-8; save the file as UTF-8") from error


def parse_json(text: str, path: str, line: int = 0) -> object:
    """The value of a JSON text. line: its number in a file of rows; 0 for a whole file."""
    place = f"{path}: line {line}" if line else path
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if line else f"line {error.lineno} column {error.colno}"
        at_end = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        cut = "; the file looks cut off, download or make it again" if at_end and not line else ""
        raise SquadError(f"{place}: not valid JSON at {where}: {error.msg}{cut}") from error
    except (ValueError, RecursionError) as error:
        raise SquadError(f"{place}: not usable JSON: {error}") from error


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def has_rows(path: str) -> bool:
    """Whether a file holds one question a line, by its name."""
    return path.removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def read_rows(path: str) -> Iterator[tuple[str, object]]:
    """(place for an error, parsed line) of every line of a file that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}: line {number}", parse_json(line, path, number)


def read_questions(path: str) -> Iterator[Question]:
    """The questions of a SQuAD document or a file of rows, in file order; what is in them was not checked."""
    if has_rows(path):
        yield from ((place, row, row, row) for place, row in read_rows(path))
        return
    document = parse_json(read_text(path), path)
    for number, article in enumerate(get_list(document, "data", path), 1):
        for index, paragraph in enumerate(get_list(article, "paragraphs", f"{path}: article {number}"), 1):
            place = f"{path}: article {number}, paragraph {index}"
            for question in get_list(paragraph, "qas", place):
                yield place, question, article, paragraph


def get_list(record: object, key: str, place: str) -> list[object]:
    """record[key] when it is a list; else SquadError with the place and what was found."""
    if isinstance(record, dict) and isinstance(record.get(key), list):
        return record[key]
    found = repr(record.get(key, "nothing")) if isinstance(record, dict) else type(record).__name__
    raise SquadError(f'{place}: "{key}" should be a list, found {found:.40}')


def read_golds(path: str, questions: Sequence[Question] = ()) -> Golds:
    """Question id -> gold answer texts, in file order. Needs ids and answer texts only, as the official script does.

    As there, the answers decide whether a question is answerable, not `is_impossible`; unlike there, a question marked
    unanswerable may leave `answers` out.
    """
    golds: Golds = {}
    num_contradictions = 0
    for place, question, _, _ in questions or read_questions(path):
        qid, texts, is_impossible = read_question(question, place)
        if qid in golds:
            raise SquadError(f"{place}, question {qid}: this id was used before; make the ids unique")
        golds[qid] = texts
        num_contradictions += is_impossible and bool(texts)
    if not golds:
        raise SquadError(f"{path}: the file has no question")
    if num_contradictions:
        note(f"{num_contradictions} questions are marked is_impossible but have answers: scored by the answers")
    return golds


def read_question(question: object, place: str) -> tuple[str, list[str], bool]:
    """(id, gold answer texts, is_impossible). answers: [{"text": "x"}, …] of SQuAD or {"text": ["x", …]} of a row."""
    qid, fields = split_id(question, place)
    answers = fields.get("answers")
    is_impossible = fields.get("is_impossible") is True
    if isinstance(answers, dict) and "text" in answers:
        column = get_list(answers, "text", f"{place}, question {qid}, answers")
        records: list[object] = [{"text": text} for text in column]
    elif answers is None and is_impossible:
        records = []
    else:
        records = get_list(fields, "answers", f"{place}, question {qid}")
    texts = []
    for record in records:
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise SquadError(f'{place}, question {qid}: an answer has no "text" that is text')
        texts.append(text)
    return qid, texts, is_impossible


def split_id(record: object, place: str) -> tuple[str, dict[str, object]]:
    """(id, record) of a question or row; an id that is a whole number becomes text."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), (str, int)):
        raise SquadError(f'{place}: a question has no "id" that is text')
    return str(record["id"]), record


def read_by_id(path: str, kind: str, column: str = "") -> dict[str, object]:
    """Question id -> value of a JSON object, or of a file of rows {"id": …, column: …}."""
    if not column or not has_rows(path):
        content = parse_json(read_text(path), path)
        if isinstance(content, dict):
            return content
        found = type(content).__name__
        raise SquadError(f"{path}: not a file of {kind}: expected {{question id: …}}, found {found}")
    values: dict[str, object] = {}
    for place, row in read_rows(path):
        qid, fields = split_id(row, place)
        if qid in values or column not in fields:
            fault = "this id was used before; make the ids unique" if qid in values else f'there is no "{column}"'
            raise SquadError(f"{place}, question {qid}: {fault}")
        values[qid] = fields[column]
    return values


def read_numbers(path: str, golds: Golds, kind: str, column: str = "") -> Numbers:
    """Question id -> number for the questions of `golds`, in the order of file `path`."""
    content = read_by_id(path, kind, column)
    check_coverage(golds, content, f"{kind}; take the file that belongs to these predictions", f"{path}: ")
    numbers: Numbers = {}
    for qid, number in content.items():
        if qid in golds:
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < MAX_NUMBER:
                raise SquadError(f"{path}: question {qid}: {number!r:.40} is not a finite number")
            numbers[qid] = number
    return numbers


def read_na_probs(path: str, golds: Golds, threshold: float) -> Numbers:
    """No-answer probabilities; says so when they look like log-odds under the default threshold."""
    na_probs = read_numbers(path, golds, "no-answer probability", "no_answer_probability")
    if threshold == 1.0 and (num_outside := sum(not 0 <= value <= 1 for value in na_probs.values())):
        fault = f"{num_outside} of {len(na_probs)} values are not between 0 and 1; for log-odds --na-prob-thresh 1.0 is"
        note(f"{path}: {fault} an arbitrary cut: set it, or give the file as --null-odds-file")
    return na_probs


def read_nbest_answers(path: str, golds: Golds) -> dict[str, object]:
    """Question id -> best answer with text in an nbest_predictions_.json; "" where there is none."""
    content = read_by_id(path, "n-best lists")
    answers: dict[str, object] = {}
    for qid in golds.keys() & content.keys():
        entries = content[qid]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "text" in entry for entry in entries):
            raise SquadError(f"{path}: question {qid} has no list of entries with a text")
        answers[qid] = next((entry["text"] for entry in entries if entry["text"]), "")
    return answers


def write_file(path: str, content: bytes) -> None:
    """Replace file `path` by `content`, whole or not at all: a kill or a full disk leaves the old file as it was."""
    path = os.path.realpath(path)  # a symbolic link keeps pointing at the new content
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        if os.path.exists(path):
            os.chmod(temporary, os.stat(path).st_mode & 0o777)
        os.replace(temporary, path)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise SquadError(describe_os_error(error, path)) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def sync_folder(path: str) -> None:
    """Make a rename in folder `path` survive a power cut, where the system lets a folder be synced."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EIO or error.errno in NO_SPACE:
            raise


def output_fault(flag: str, path: str) -> str:
    """Why `path` cannot become an output file, "" when it can."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.exists(path) and not os.path.isfile(path):  # a file moved to /dev/null would end the device
        return f"{flag} {path} is {'a folder' if os.path.isdir(path) else 'a device or pipe'}; name a file"
    if not os.path.isdir(folder):
        return f"{flag} {path}: folder {folder} does not exist; make it first"
    return "" if os.access(folder, os.W_OK) else f"{flag} {path}: folder {folder} is not writable"


def describe_os_error(error: OSError, path: str | None = None) -> str:
    """One sentence for an OSError: the file, what happened, and for a full disk what to do."""
    name = path or error.filename or "output"
    if error.errno in NO_SPACE:
        return f"{name}: no space left for writing ({error.strerror}); free some and run the same command again"
    return f"{name}: {error.strerror or error}"


def note(text: str) -> None:
    """A line for people."""
    print(f"evaluate_v2.py: {text}", file=sys.stderr)


def signature(args: argparse.Namespace, pred_file: str, golds: Golds) -> str:
    """One line that says exactly what was scored and how; a hash is the start of `sha256sum FILE`."""
    import hashlib

    fields = {"data": args.data_file, "pred": pred_file, "na_prob": args.na_prob_file, "null_odds": args.null_odds_file}
    fields |= {"compared_with": args.pred_file[0]} if args.compare and pred_file != args.pred_file[0] else {}
    parts = []
    for name, path in fields.items():
        if path:
            parts.append(f"{name}:{hashlib.sha256(read_bytes(path)).hexdigest()[:12]}")
    parts.append(f"questions:{len(golds)}|answerable:{sum(map(bool, golds.values()))}|norm:{args.normalisation}")
    if args.na_prob_file or args.na_prob_thresh != 1.0:
        parts.append(f"na_prob_thresh:{args.na_prob_thresh}")
    draws = {"bootstrap": args.bootstrap, "compare": args.compare and COMPARE_TRIALS, "cluster": args.cluster}
    if args.bootstrap or args.compare:
        parts += [f"{name}:{value}" for name, value in draws.items() if value] + [f"seed:{BOOTSTRAP_SEED}"]
    return "|".join([*parts, f"evaluate_v2:{VERSION}"])


def markdown_table(results: Mapping[str, Mapping[str, object]]) -> str:
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
    stem = os.path.splitext(file_name.removesuffix(".gz"))[0]
    return os.path.basename(folder) if stem.startswith("predictions") else stem


# ---- Plots ----------------------------------------------------------------------------------------------------------


def import_pyplot() -> ModuleType | None:
    """matplotlib.pyplot drawing to files, or None after one line when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        note("no plots drawn: --out-image-dir needs matplotlib for them; run `pip install matplotlib`")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    matplotlib.rc("axes", grid=True)
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("grid", alpha=0.3)
    matplotlib.rc("font", size=11)
    matplotlib.rc("figure", figsize=(6.4, 4.4))
    matplotlib.rc("figure.constrained_layout", use=True)
    matplotlib.rc("savefig", dpi=200)
    return matplotlib.pyplot


def save_plot(plt: ModuleType, path: str) -> None:
    """Write the current figure as PNG, in a folder that is made if need be, and close it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    png = io.BytesIO()
    plt.savefig(png, format="png")
    plt.close()
    write_file(path, png.getvalue())


def plot_precision_recall(
    plt: ModuleType, path: str, title: str, precisions: list[float], recalls: list[float]
) -> None:
    _, axes = plt.subplots()
    axes.fill_between(recalls, precisions, step="post", alpha=0.15, linewidth=0)
    axes.step(recalls, precisions, where="post")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Recall", ylabel="Precision")
    axes.set_title(title)
    save_plot(plt, path)


def plot_histogram(plt: ModuleType, path: str, name: str, golds: Golds, values: Numbers, best: float) -> None:
    """HasAns and NoAns on one axis, with the threshold of the best F1."""
    _, axes = plt.subplots()
    bounds = min(values.values()), max(values.values())
    for label, wanted in ("HasAns", True), ("NoAns", False):
        group = [value for qid, value in values.items() if bool(golds[qid]) is wanted]
        axes.hist(group, bins=50, range=bounds, alpha=0.6, label=f"{label} ({len(group):,})")
    axes.axvline(best, color="black", linestyle="--", linewidth=1, label=f"best F1: {best:.4g}")
    axes.set(xlabel=name, ylabel="Questions")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    save_plot(plt, path)


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
    plt = import_pyplot()
    results = {}
    values, _ = next(iter(rankings.values()))
    oracle = {qid: float(bool(texts)) for qid, texts in golds.items()}
    for name, scores in {"exact": exact, "f1": f1, "oracle": oracle}.items() if any(golds.values()) else ():
        average, precisions, recalls = precision_recall(golds, scores, values)
        results[f"pr_{name}_ap"] = average
        if plt:
            title = f"{CURVE_TITLES[name]}: average precision {average:.1f}"
            plot_precision_recall(plt, os.path.join(folder, f"pr_{name}.png"), title, precisions, recalls)
    if plt:
        for name, (values, best) in rankings.items():
            path = os.path.join(folder, f"{name}_hist.png")
            plot_histogram(plt, path, HISTOGRAM_LABELS[name], golds, values, best)
    return results


# ---- Command line ---------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("evaluate_v2.py", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the line breaks of the description
    parser.add_argument("data_file", help="gold answers: a SQuAD v1.1 or v2.0 file, or .jsonl with a question a line")
    several = "predictions: {question id: answer text}, or .jsonl; several make a table"
    parser.add_argument("pred_file", nargs="+", help=several)

    add = parser.add_argument_group("the official script's options").add_argument
    add("--out-file", "--out_file", "-o", metavar="FILE", help="write the results to this file (default: stdout)")
    probability = "{question id: probability of no answer}, or .jsonl; gives best_* a meaning"
    add("--na-prob-file", "--na_prob_file", "-n", metavar="FILE", help=probability)
    threshold = 'count a question as answered with "" above this probability (default: 1.0, never)'
    add("--na-prob-thresh", "--na_prob_thresh", "-t", type=float, default=1.0, metavar="P", help=threshold)
    images = "draw precision-recall curves and a histogram here (needs -n or --null-odds-file, and matplotlib)"
    add("--out-image-dir", "--out_image_dir", "-p", metavar="DIR", help=f"{images}; adds pr_*_ap")
    add("--verbose", "-v", action="store_true", help="say more about the input on stderr")

    add = parser.add_argument_group("more").add_argument
    odds = "null_odds_.json of run_squad.py: adds best_*_null_odds and the threshold for --null_score_diff_threshold"
    add("--null-odds-file", "--null_odds_file", metavar="FILE", help=odds)
    nbest = "nbest_predictions_.json beside it: lets that threshold also give an answer where the prediction is empty"
    add("--nbest-file", "--nbest_file", metavar="FILE", help=nbest)
    scores = "write one JSON line per question: scores, prediction, golds"
    add("--out-scores-file", "--out_scores_file", metavar="FILE", help=scores)
    interval = "add exact_ci95 and f1_ci95 from N resamples, e.g. 1000 (default: 0, none; needs numpy)"
    add("--bootstrap", type=int, default=0, metavar="N", help=interval)
    line = "say on stderr what was scored and how, in one line to put beside a figure (always with a table)"
    add("--signature", action="store_true", help=line)
    add("--markdown", action="store_true", help="print a Markdown table: EM/F1, HasAns, NoAns")
    rule = (
        "articles that do not count: en a/an/the (default, the published rule), nl de/het/een; or the rules of another"
    )
    add("--normalisation", default="en", metavar="RULE", help=f"{rule} data set: mlqa-de, mkqa-nl, mkqa-th, …")
    tests = "test the difference of each prediction file to the first: paired approximate randomisation and bootstrap"
    add("--compare", action="store_true", help=f"{tests}, {COMPARE_TRIALS:,} trials each (needs numpy)")
    unit = "--compare and --bootstrap draw whole articles, because questions about one text are not independent"
    add("--cluster", choices=["article"], help=unit)
    groups = f"add the scores of groups of questions, by some of {', '.join(BREAKDOWNS)} (default: all but article)"
    add("--breakdown", nargs="*", choices=BREAKDOWNS, metavar="BY", help=groups)
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
    if args.compare and len(set(args.pred_file)) < max(2, len(args.pred_file)):
        faults.append("--compare needs two or more prediction files, each given once")
    if args.cluster and not (args.compare or args.bootstrap):
        faults.append("--cluster is used with --compare or --bootstrap; give one of them")
    if args.normalisation not in ARTICLES:
        from squadlib.scoring.normalisation import NAMES

        if args.normalisation not in NAMES:
            faults.append(f"--normalisation {args.normalisation} is none of {', '.join((*ARTICLES, *NAMES))}")
    single = "na_prob_file", "null_odds_file", "nbest_file", "out_scores_file", "out_image_dir"
    for name in single if len(args.pred_file) > 1 else ():
        if getattr(args, name):
            faults.append(f"--{name.replace('_', '-')} belongs to one prediction file; {len(args.pred_file)} are given")
    for flag, path in ("--out-file", args.out_file), ("--out-scores-file", args.out_scores_file):
        if path and (fault := output_fault(flag, path)):
            faults.append(fault)
    return faults


def evaluate_file(args: argparse.Namespace, pred_file: str, golds: Golds, articles: list[str]) -> Evaluation:
    """The results of one prediction file and its scores; writes its score rows and images where asked for."""
    predictions = read_by_id(pred_file, "predictions", "prediction_text")
    try:
        exact, f1 = score_answers(golds, predictions, args.normalisation)
    except SquadError as error:
        raise SquadError(f"{pred_file}: {error}") from error
    na_probs = read_na_probs(args.na_prob_file, golds, args.na_prob_thresh) if args.na_prob_file else None
    log_input(pred_file, golds, predictions, args.verbose)
    if not makes_table(args) and (na_probs is None or min(na_probs.values()) == max(na_probs.values())):
        note(TIE_NOTE)
    figures = summarise(golds, predictions, exact, f1, na_probs, args.na_prob_thresh)
    rankings = {"na_prob": (na_probs, figures["best_f1_thresh"])} if na_probs else {}
    if args.null_odds_file:
        null_odds = read_numbers(args.null_odds_file, golds, "null odds")
        answers = predictions | (read_nbest_answers(args.nbest_file, golds) if args.nbest_file else {})
        figures |= best_thresholds(golds, answers, null_odds, args.normalisation)
        rankings["null_odds"] = (null_odds, figures["best_f1_null_odds_thresh"])
    if args.out_image_dir and (rankings or args.breakdown is None):
        figures |= draw_images(args.out_image_dir, golds, exact, f1, rankings)
    results: Results = {**figures}
    columns: Columns = {}
    if args.bootstrap or args.compare or args.breakdown is not None:
        final = apply_no_ans_threshold(golds, exact, f1, na_probs, args.na_prob_thresh)
        columns = {"exact": [100.0 * n for n in final[0].values()], "f1": [100.0 * n for n in final[1].values()]}
    for name, column in columns.items() if args.bootstrap else ():
        results[f"{name}_ci95"] = bootstrap_interval(column, args.bootstrap, articles)
    if args.out_scores_file:
        rows = question_rows(golds, predictions, na_probs, args.na_prob_thresh, args.normalisation)
        write_file(args.out_scores_file, "".join(json.dumps(row) + "\n" for row in rows).encode())
    if args.signature or makes_table(args):
        note(f"signature {signature(args, pred_file, golds)}")
    return results, columns


def makes_table(args: argparse.Namespace) -> bool:
    """Whether the output is a table (which has no best_*) instead of JSON."""
    return args.markdown or len(args.pred_file) > 1 or args.breakdown is not None


def name_articles(args: argparse.Namespace, questions: list[Question]) -> list[str]:
    """The article of each question, for --cluster."""
    from squadlib.scoring.questions import article_fault, article_names

    names = article_names(questions)
    if fault := article_fault(names):
        raise SquadError(f"{args.data_file}: {fault}")
    return names


def add_tables(
    args: argparse.Namespace,
    golds: Golds,
    questions: list[Question],
    articles: list[str],
    scored: dict[str, Evaluation],
) -> list[str]:
    """The tables of --compare and --breakdown; their figures become a part of the results."""
    tables = []
    if args.compare:
        from squadlib.scoring.comparison import add_comparison

        tables.append(add_comparison(scored, articles or None, COMPARE_TRIALS, BOOTSTRAP_SEED))
    if args.breakdown is not None:
        from squadlib.scoring.breakdown import add_breakdown, plots

        words = normalise_all({texts[0] for texts in golds.values() if texts}, args.normalisation)
        lengths = [len(words[texts[0]]) if texts else None for texts in golds.values()]
        tables += add_breakdown(scored, questions, lengths, args.breakdown)
        if args.out_image_dir and (plt := import_pyplot()):
            for name in plots(plt, next(iter(scored.values()))[0]):
                save_plot(plt, os.path.join(args.out_image_dir, f"breakdown_{name}.png"))
    return tables


def note_unsplit(golds: Golds, language: str) -> None:
    """Say so when most gold answers are one long word, because their script has no spaces."""
    texts = [answers[0] for answers in golds.values() if answers]
    if 2 * sum(map(str.isascii, texts)) < len(texts):
        words = normalise_all(set(texts), language)
        if 2 * (count := sum(any(re.search(UNSPACED, word) for word in words[text]) for text in texts)) > len(texts):
            fault = f"{count} of {len(texts)} gold answers are in a script without spaces, and F1 counts whole answers"
            note(f"{fault}; use --normalisation mkqa-th, mkqa-zh, mkqa-ja or mkqa-km")


def log_input(pred_file: str, golds: Golds, predictions: Texts, verbose: bool) -> None:
    """Say on stderr what the figures alone do not show."""
    if num_extra := len(predictions) - len(golds):
        note(f"{pred_file}: {num_extra} predictions are for questions that the data file does not have: ignored")
    if verbose:
        num_has_ans, num_empty = sum(map(bool, golds.values())), sum(not predictions[qid] for qid in golds)
        note(f"{len(golds)} questions, {num_has_ans} answerable; {num_empty} predictions are empty")


def print_results(args: argparse.Namespace, results: dict[str, Results], tables: list[str]) -> None:
    """JSON of one prediction file as the official script prints it; tables where there is more."""
    content = next(iter(results.values())) if len(args.pred_file) == 1 else results
    if args.out_file:
        write_file(args.out_file, json.dumps(content).encode())  # the official file: one line, no newline
        note(f"wrote {args.out_file}")
    if makes_table(args):
        print(*[markdown_table(results), *tables], sep="\n\n")
    elif not args.out_file:
        print(json.dumps(content, indent=2))
    sys.stdout.flush()


def flush_or_drop_stdout() -> None:
    """What nobody takes goes nowhere: the interpreter must not try again at exit, and tell of it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    try:
        parser = build_parser()
        args = parser.parse_args(argv)
        if faults := check_args(args):
            parser.exit(EXIT_USAGE, "".join(f"{parser.prog}: error: {fault}\n" for fault in faults))
        questions = list(read_questions(args.data_file)) if args.cluster or args.breakdown is not None else []
        golds = read_golds(args.data_file, questions)
        articles = name_articles(args, questions) if args.cluster else []
        note_unsplit(golds, args.normalisation)
        evaluations = [evaluate_file(args, pred_file, golds, articles) for pred_file in args.pred_file]
        names = list(map(model_name, args.pred_file))
        names = names if len(set(names)) == len(names) else args.pred_file
        scored = dict(zip(names, evaluations, strict=True))
        tables = add_tables(args, golds, questions, articles, scored)
        print_results(args, {name: results for name, (results, _) in scored.items()}, tables)
        return EXIT_OK
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `| head` closed our stdout
        flush_or_drop_stdout()
        return EXIT_BROKEN_PIPE
    except SquadError as error:
        fault = str(error)
    except OSError as error:
        flush_or_drop_stdout()
        fault = describe_os_error(error)
    except ModuleNotFoundError as error:  # what only some flags need is imported where it is used
        fault = f"a flag of this command needs {error.name}; run `pip install {error.name}` or leave it out"
        if (error.name or "").startswith("squadlib"):
            fault = f"{BEYOND_METRIC} need the toolkit's folder squadlib beside evaluate_v2.py; run it there"
    except (MemoryError, RecursionError) as error:
        fault = f"{type(error).__name__} while working on the input: is the file what you think it is?"
    print(fault, file=sys.stderr)
    return EXIT_BAD_DATA


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that `finally` blocks run
    sys.exit(main())
