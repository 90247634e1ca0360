"""Score SQuAD v1.1/v2.0 predictions: the official evaluator's options and figures, and what it left out.

    python evaluate_v2.py dev-v2.0.json predictions_.json --na-prob-file na_probs.json

Reads the data file and a JSON object {question id: answer text}; "" means "no answer". Prints the results as JSON on
stdout. Written from the definition of the metric (Rajpurkar et al. 2016 and 2018); no library outside Python is needed.
"""

from __future__ import annotations

import re
import string
from collections import Counter

from utils_squad import SquadError

ARTICLES = {"en": ("a", "an", "the"), "nl": ("de", "het", "een")}  # words that the normalisation drops
DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


# ---------------------------------------------------------------------------------------------------------------------
# One answer: normalisation, exact match, F1
# ---------------------------------------------------------------------------------------------------------------------


def normalise_answer(text: str, language: str = "en") -> str:
    """`text` in lower case, without ASCII punctuation and articles, words joined by one space."""
    bare = text.lower().translate(DROP_PUNCTUATION)
    return " ".join(re.sub(rf"\b({'|'.join(ARTICLES[language])})\b", " ", bare).split())


def normalise_all(texts: set[str], language: str = "en") -> dict[str, list[str]]:
    """The words of `normalise_answer(text)` for every text, many times faster.

    Plain ASCII texts are lower-cased and stripped of punctuation in one string. In them an article is a whole word
    between spaces; beside other characters ("‘the’") only the regular expression knows.
    """
    articles = ARTICLES[language]
    plain = [text for text in texts if text.isascii() and text.isprintable()]
    lines = "\n".join(plain).lower().translate(DROP_PUNCTUATION).split("\n")
    words = {text: [w for w in line.split() if w not in articles] for text, line in zip(plain, lines, strict=False)}
    words.update((text, normalise_answer(text, language).split()) for text in texts.difference(words))
    return words


def f1_of_words(gold: list[str], pred: list[str]) -> float:
    """F1 of two bags of words. When one of them is empty: 1 if both are, else 0."""
    if not gold or not pred:
        return int(gold == pred)
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
# All questions
# ---------------------------------------------------------------------------------------------------------------------


def score_answers(
    golds: dict[str, list[str]], predictions: dict[str, str], language: str = "en"
) -> tuple[dict[str, int], dict[str, float]]:
    """(exact, f1) of every question, 0 to 1, in the order of `golds`; the best over its gold answers.

    golds: question id -> gold answer texts, [] for an unanswerable question, whose one right answer is "".
    Predictions for other questions are ignored. Raises SquadError when one is missing or not text.
    """
    check_predictions(golds, predictions)
    texts = {predictions[qid] for qid in golds}.union(*golds.values())
    words = normalise_all(texts, language)
    exact, f1 = {}, {}
    for qid, answers in golds.items():
        pred = words[predictions[qid]]
        gold_words = [words[answer] for answer in answers if words[answer]] or [[]]
        if pred in gold_words:
            exact[qid], f1[qid] = 1, 1.0 if pred else 1
        else:
            exact[qid], f1[qid] = 0, max(f1_of_words(gold, pred) for gold in gold_words)
    return exact, f1


def check_predictions(golds: dict[str, list[str]], predictions: dict[str, str]) -> None:
    """Raise SquadError unless every question has a prediction that is text."""
    missing = [qid for qid in golds if qid not in predictions]
    if missing:
        count = f"{len(missing)} of {len(golds)} questions have no prediction, the first is {missing[0]}"
        raise SquadError(f'{count}; predict the whole data file ("" where there is no answer)')
    for qid in golds:
        if not isinstance(predictions[qid], str):
            fault = f"the prediction for question {qid} is {predictions[qid]!r:.40}"
            raise SquadError(f'{fault}; expected text ("" for no answer)')


def squad_evaluate(
    golds: dict[str, list[str]],
    predictions: dict[str, str],
    na_probs: dict[str, float] | None = None,
    na_prob_thresh: float = 1.0,
) -> dict[str, float]:
    """The results of the official evaluator, 0 to 100, in its order of keys, `best_*` always included.

    golds: as in `score_answers`. na_probs: probability of "no answer" (any real number will do); None: all zero, and
    `best_*` then comes from a tie that the order of the predictions decides, as in the published results.
    na_prob_thresh: a question with a larger probability counts as answered with "".
    """
    exact, f1 = score_answers(golds, predictions)
    return summarise(golds, predictions, exact, f1, na_probs, na_prob_thresh)


def summarise(
    golds: dict[str, list[str]],
    predictions: dict[str, str],
    exact: dict[str, int],
    f1: dict[str, float],
    na_probs: dict[str, float] | None = None,
    na_prob_thresh: float = 1.0,
) -> dict[str, float]:
    """`squad_evaluate` from the scores that `score_answers` returned."""
    if not golds:
        raise SquadError("there is no question to score")
    if na_probs is None:
        na_probs = dict.fromkeys(predictions, 0.0)
    final_exact = apply_no_ans_threshold(golds, exact, na_probs, na_prob_thresh)
    final_f1 = apply_no_ans_threshold(golds, f1, na_probs, na_prob_thresh)
    results = {}
    has_ans = [qid for qid, answers in golds.items() if answers]
    no_ans = [qid for qid, answers in golds.items() if not answers]
    for prefix, qids in ("", list(golds)), ("HasAns_", has_ans), ("NoAns_", no_ans):
        if qids:
            results[f"{prefix}exact"] = 100.0 * sum(final_exact[qid] for qid in qids) / len(qids)
            results[f"{prefix}f1"] = 100.0 * sum(final_f1[qid] for qid in qids) / len(qids)
            results[f"{prefix}total"] = len(qids)
    ranked = [qid for qid in sorted(na_probs, key=na_probs.__getitem__) if qid in golds]
    for name, scores in ("exact", exact), ("f1", f1):
        best, threshold = find_best_threshold(golds, predictions, scores, na_probs, ranked)
        results[f"best_{name}"], results[f"best_{name}_thresh"] = best, threshold
    return results


def apply_no_ans_threshold(
    golds: dict[str, list[str]], scores: dict[str, float], na_probs: dict[str, float], threshold: float
) -> dict[str, float]:
    """The scores when every question whose probability is above `threshold` is answered with ""."""
    missing = [qid for qid in golds if qid not in na_probs]
    if missing:
        count = f"{len(missing)} of {len(golds)} questions have no no-answer probability"
        raise SquadError(f"{count}, the first is {missing[0]}; take the file that belongs to these predictions")
    return {qid: float(not golds[qid]) if na_probs[qid] > threshold else score for qid, score in scores.items()}


def find_best_threshold(
    golds: dict[str, list[str]],
    predictions: dict[str, str],
    scores: dict[str, float],
    na_probs: dict[str, float],
    ranked: list[str],
) -> tuple[float, float]:
    """(best mean score, threshold) over all cuts of the questions `ranked` by probability, the official way.

    The running score may stop between questions of equal probability, where no threshold can cut: the figure is kept
    because it is the published one. `best_thresholds` gives one that can be used.
    """
    current = best_score = sum(1 for answers in golds.values() if not answers)  # every question answered with ""
    best_thresh = 0.0
    for qid in ranked:
        current += scores[qid] if golds[qid] else -1 if predictions[qid] else 0
        if current > best_score:
            best_score, best_thresh = current, na_probs[qid]
    return 100.0 * best_score / len(scores), best_thresh
