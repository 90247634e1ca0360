"""The peer of benchmarks/evaluator.py: what the official SQuAD2.0 evaluator computes, done the way it does it.

Restated, not copied: text by text, character by character, numpy imported at the start, each answer normalised anew for
exact match and for F1, one pass over the questions for every figure. `--lean` leaves numpy out, to show what is
start-up and what is work. Not for use: evaluate_v2.py is.
"""

import argparse
import json
import re
import string
import sys
from collections import Counter, OrderedDict

if "--lean" not in sys.argv:
    import numpy as np  # noqa: F401  the official script imports it for its histograms


def normalize(text):
    punctuation = set(string.punctuation)
    without_punctuation = "".join(c for c in text.lower() if c not in punctuation)
    articles = re.compile(r"\b(a|an|the)\b", re.UNICODE)
    return " ".join(re.sub(articles, " ", without_punctuation).split())


def words_of(text):
    return normalize(text).split() if text else []


def exact_of(gold, pred):
    return int(normalize(gold) == normalize(pred))


def f1_of(gold, pred):
    gold_words, pred_words = words_of(gold), words_of(pred)
    same = sum((Counter(gold_words) & Counter(pred_words)).values())
    if not gold_words or not pred_words:
        return int(gold_words == pred_words)
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(pred_words), 1.0 * same / len(gold_words)
    return (2 * precision * recall) / (precision + recall)


def questions(data):
    for article in data:
        for paragraph in article["paragraphs"]:
            yield from paragraph["qas"]


def raw_scores(data, preds):
    exact, f1 = {}, {}
    for qa in questions(data):
        golds = [a["text"] for a in qa["answers"] if normalize(a["text"])] or [""]
        exact[qa["id"]] = max(exact_of(gold, preds[qa["id"]]) for gold in golds)
        f1[qa["id"]] = max(f1_of(gold, preds[qa["id"]]) for gold in golds)
    return exact, f1


def cut(scores, na_probs, has_ans, threshold):
    return {q: float(not has_ans[q]) if na_probs[q] > threshold else s for q, s in scores.items()}


def totals(exact, f1, qids):
    mean = [("exact", exact), ("f1", f1)]
    return OrderedDict([(n, 100.0 * sum(s[q] for q in qids) / len(qids)) for n, s in mean] + [("total", len(qids))])


def best_threshold(preds, scores, na_probs, has_ans):
    current = best = sum(1 for q in has_ans if not has_ans[q])
    best_thresh = 0.0
    for qid in sorted(na_probs, key=lambda q: na_probs[q]):
        if qid not in scores:
            continue
        current += scores[qid] if has_ans[qid] else (-1 if preds[qid] else 0)
        if current > best:
            best, best_thresh = current, na_probs[qid]
    return 100.0 * best / len(scores), best_thresh


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data_file")
    parser.add_argument("pred_file")
    parser.add_argument("--na-prob-file", "-n")
    parser.add_argument("--na-prob-thresh", "-t", type=float, default=1.0)
    parser.add_argument("--lean", action="store_true")
    args = parser.parse_args()
    with open(args.data_file) as file:
        data = json.load(file)["data"]
    with open(args.pred_file) as file:
        preds = json.load(file)
    na_probs = dict.fromkeys(preds, 0.0)
    if args.na_prob_file:
        with open(args.na_prob_file) as file:
            na_probs = json.load(file)
    has_ans = {qa["id"]: bool(qa["answers"]) for qa in questions(data)}
    exact, f1 = raw_scores(data, preds)
    final = [cut(scores, na_probs, has_ans, args.na_prob_thresh) for scores in (exact, f1)]
    results = totals(*final, list(exact))
    for prefix, wanted in ("HasAns", True), ("NoAns", False):
        group = totals(*final, [q for q in has_ans if has_ans[q] is wanted])
        results.update((f"{prefix}_{name}", value) for name, value in group.items())
    if args.na_prob_file:
        for name, scores in ("exact", exact), ("f1", f1):
            best = best_threshold(preds, scores, na_probs, has_ans)
            results[f"best_{name}"], results[f"best_{name}_thresh"] = best
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
