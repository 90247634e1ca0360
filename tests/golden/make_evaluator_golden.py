"""Make the golden evaluator results with the 2020 library's own squad_evaluate.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    legacy-env/bin/python tests/golden/make_evaluator_golden.py

Writes evaluator_cases.json.gz beside itself: the results of every case of `make_cases`, in its order. The cases are
made anew from a seed wherever they are needed; `Random.random` gives the same numbers in every version of Python.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace

RESULTS = Path(__file__).resolve().parent / "evaluator_cases.json.gz"
NUM_CASES = 1500
WORDS = (
    "the a an The AN cat cats dog. of Amsterdam, 'the' “the” the–a A.N. x_y 1,000 ΣΑΣ İstanbul é ß "
    "the\u00a0a a\u2009dog \x00a\x00 a\tan\nthe \x1c ( -- the-the de het een 'ʼ'"
).split(" ")
NUMBERS = (0, 0.0, 0.5, 1, 1.0, -3.25, 7.5)


def make_cases(num_cases: int = NUM_CASES, seed: int = 2020):
    """Yield (golds, predictions, na_probs or None, na_prob_thresh): ties, articles, odd spaces, ids in any order."""
    draw = random.Random(seed).random

    def pick(items):
        return items[int(draw() * len(items))]

    def text(max_words):
        return " ".join(pick(WORDS) for _ in range(int(draw() * max_words)))

    for _ in range(num_cases):
        golds, predictions = {}, {}
        for number in range(1 + int(draw() * 9)):
            answers = [text(5) for _ in range(pick((0, 0, 1, 1, 2, 3)))]
            golds[f"q{number}"] = answers
            predictions[f"q{number}"] = pick((text(6), "", pick(answers) if answers else "", text(3)))
        order = sorted(predictions, key=lambda qid: draw())
        predictions = {qid: predictions[qid] for qid in order}
        if draw() < 0.2:
            predictions["other"] = text(3)
        na_probs = None
        if draw() < 0.7:
            na_probs = {qid: pick((pick(NUMBERS), draw(), 9 * draw() - 4)) for qid in predictions}
        yield golds, predictions, na_probs, pick((1.0, 1.0, 0.5, 0.0, -1.0))


def main():
    from transformers.data.metrics.squad_metrics import squad_evaluate

    results = []
    for golds, predictions, na_probs, threshold in make_cases():
        examples = [
            SimpleNamespace(qas_id=qid, answers=[{"text": text} for text in texts]) for qid, texts in golds.items()
        ]
        results.append(squad_evaluate(examples, predictions, na_probs, threshold))
    content = json.dumps(results, separators=(",", ":")).encode()
    RESULTS.write_bytes(gzip.compress(content, mtime=0))
    print(f"{len(results)} cases, {RESULTS.stat().st_size} bytes in {RESULTS}")


if __name__ == "__main__":
    main()
