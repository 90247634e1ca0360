"""Compare `utils_squad.pipeline` with the pipeline of transformers 4.57.6 on real questions.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    python benchmarks/pipeline_parity.py --model_name_or_path output --predict_file dev-v2.0.json \\
        --legacy_python legacy-env/bin/python

Both sides answer the same questions under the same options, each in its own environment. Prints one row per setting:
answers and spans that are equal, those that differ by a tie (scores within 1e-6), those that differ, the largest
difference of a score, and the questions per second of each side. Exit code 1 when an answer differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True, help="fine-tuned model, a folder")
    parser.add_argument("--predict_file", required=True, help="SQuAD JSON whose questions are asked")
    parser.add_argument("--legacy_python", default="", help="Python of an environment with transformers 4.57.6")
    parser.add_argument("--num_questions", type=int, default=400, help="asked under the default options (400)")
    parser.add_argument("--num_others", type=int, default=100, help="asked under each other setting (100)")
    parser.add_argument("--legacy_side", action="store_true", help="internal: read work on stdin, answer on stdout")
    args = parser.parse_args()
    if args.legacy_side:
        import transformers

        json.dump(answer_all(transformers.pipeline, args.model_name_or_path, json.load(sys.stdin)), sys.stdout)
        return 0
    work = make_work(args)
    sys.path.insert(0, str(ROOT))
    import utils_squad

    ours = answer_all(utils_squad.pipeline, args.model_name_or_path, work)
    command = [args.legacy_python, __file__, "--legacy_side", "--predict_file", args.predict_file]
    command += ["--model_name_or_path", args.model_name_or_path]
    done = subprocess.run(command, input=json.dumps(work), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return compare(ours, json.loads(done.stdout))


def make_work(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The questions of each setting, spread evenly over the file."""
    document = json.loads(Path(args.predict_file).read_text(encoding="utf-8"))
    pairs = [
        {"question": qa["question"].strip(), "context": paragraph["context"]}
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    counts = [args.num_questions if name == "defaults" else args.num_others for name in SETTINGS]
    return [
        {"name": name, "options": options, "pairs": pairs[:: max(1, len(pairs) // count)][:count]}
        for (name, options), count in zip(SETTINGS.items(), counts, strict=True)
    ]


def answer_all(pipeline: Any, folder: str, work: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each setting its name, the answers as lists of dicts, and the questions per second."""
    qa = pipeline("question-answering", model=folder, tokenizer=folder)
    results = []
    for item in work:
        started = time.perf_counter()
        answers = qa(item["pairs"], **item["options"])
        rate = len(answers) / (time.perf_counter() - started)
        lists = [answer if isinstance(answer, list) else [answer] for answer in answers]
        results.append({"name": item["name"], "answers": lists, "rate": rate})
    return results


def compare(ours: list[dict[str, Any]], legacy: list[dict[str, Any]]) -> int:
    print("| options | answers | equal | ties | different | largest score difference | here/s | 4.57.6/s |")
    print("|---|---|---|---|---|---|---|---|")
    total_different = 0
    for mine, theirs in zip(ours, legacy, strict=True):
        equal = ties = different = 0
        largest = 0.0
        for a, b in zip(mine["answers"], theirs["answers"], strict=True):
            for rank in range(max(len(a), len(b))):
                if rank >= min(len(a), len(b)):
                    different += 1
                    continue
                gap = abs(a[rank]["score"] - b[rank]["score"])
                largest = max(largest, gap)
                same = all(a[rank][key] == b[rank][key] for key in ("answer", "start", "end"))
                tie = any(abs(a[rank]["score"] - other["score"]) < TIE for i, other in enumerate(b) if i != rank)
                equal, ties, different = equal + same, ties + (tie and not same), different + (not same and not tie)
                if not same and not tie:
                    print(f"{mine['name']}, rank {rank}: {a[rank]} here, {b[rank]} there", file=sys.stderr)
        total_different += different
        row = (mine["name"], equal + ties + different, equal, ties, different, f"{largest:.1e}")
        print(f"| {' | '.join(map(str, row))} | {mine['rate']:.1f} | {theirs['rate']:.1f} |")
    return int(total_different > 0)


if __name__ == "__main__":
    sys.exit(main())
