"""Compare `utils_squad.pipeline` with the pipeline of transformers 4.57.6 on real questions.

    python benchmarks/pipeline_parity.py --model_name_or_path output --data_dir DIR

Both sides answer the same questions under the same options, each in its own environment. Prints one row per setting:
answers and spans that are equal, those that differ by a tie (scores within 1e-6), those that differ, the largest
difference of a score, and the questions per second of each side. Exit code 1 when an answer differs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from common import benchmark_parser, legacy_peer, parse_args, print_table

TIE = 1e-6
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "handle_impossible_answer": {"handle_impossible_answer": True},
    "top_k 3": {"top_k": 3},
    "top_k 3, not aligned": {"top_k": 3, "align_to_words": False},
    "windows of 96, stride 32": {"max_seq_len": 96, "doc_stride": 32, "top_k": 2, "handle_impossible_answer": True},
    "max_answer_len 3": {"max_answer_len": 3},
}


def main() -> int:
    parser = benchmark_parser(__doc__, questions=400)
    parser.add_argument("--model_name_or_path", required=True, help="fine-tuned model, a folder")
    args = parse_args(parser)
    folder = str(Path(args.model_name_or_path).absolute())
    work = make_work(args.data_file, args.questions)
    from utils_squad import pipeline

    ours = answer_all(pipeline, folder, work)
    with legacy_peer() as legacy:
        theirs = legacy("answers", folder, work)
    rows = [compare(*sides) for sides in zip(ours, theirs, strict=True)]
    header = ("options", "answers", "equal", "ties", "different", "largest score difference", "here/s", "4.57.6/s")
    print_table(header, rows)
    return int(any(row[4] for row in rows))


def make_work(data_file: Path, questions: int) -> list[dict[str, Any]]:
    """The questions of each setting, spread evenly over the file; a quarter of them for all but the defaults."""
    pairs = [
        {"question": qa["question"].strip(), "context": paragraph["context"]}
        for article in json.loads(data_file.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    work = []
    for name, options in SETTINGS.items():
        count = questions if name == "defaults" else max(1, questions // 4)
        work.append({"name": name, "options": options, "pairs": pairs[:: max(1, len(pairs) // count)][:count]})
    return work


def answer_all(pipeline: Any, folder: str, work: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each setting its name, the answers as lists of dicts, and the questions per second."""
    qa, results = pipeline("question-answering", model=folder, tokenizer=folder), []
    for item in work:
        started = time.perf_counter()
        answers = qa(item["pairs"], **item["options"])
        rate = len(answers) / (time.perf_counter() - started)
        lists = [answer if isinstance(answer, list) else [answer] for answer in answers]
        results.append({"name": item["name"], "answers": lists, "rate": rate})
    return results


def compare(mine: dict[str, Any], theirs: dict[str, Any]) -> tuple:
    """A row of the table: how the answers of one setting agree."""
    equal = ties = different = 0
    largest = 0.0
    for a, b in zip(mine["answers"], theirs["answers"], strict=True):
        different += abs(len(a) - len(b))
        for rank, (ours, other) in enumerate(zip(a, b, strict=False)):
            largest = max(largest, abs(ours["score"] - other["score"]))
            rest = [answer["score"] for i, answer in enumerate(b) if i != rank]
            if all(ours[key] == other[key] for key in ("answer", "start", "end")):
                equal += 1
            elif any(abs(ours["score"] - score) < TIE for score in rest):
                ties += 1
            else:
                different += 1
                print(f"{mine['name']}, rank {rank}: {ours} here, {other} there", file=sys.stderr)
    counts = (equal + ties + different, equal, ties, different)
    return (mine["name"], *counts, f"{largest:.1e}", f"{mine['rate']:.1f}", f"{theirs['rate']:.1f}")


if __name__ == "__main__":
    sys.exit(main())
