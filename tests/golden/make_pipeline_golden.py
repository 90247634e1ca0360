"""Make the golden answers of the question-answering pipeline with transformers 4.57.6, the last line that has it.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    legacy-env/bin/python tests/golden/make_pipeline_golden.py

Reads mini_squad.json and tiny_bert. Writes pipeline.json.gz beside itself: the questions, and for each setting its
options and the answers. The random model's head is multiplied by SHARPER, so that no two answers are as good.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from transformers import BertForQuestionAnswering, BertTokenizerFast, pipeline

HERE = Path(__file__).resolve().parent
SHARPER = 60.0
NUM_QUESTIONS = 24
SETTINGS = [
    {},
    {"handle_impossible_answer": True},
    {"top_k": 3},
    {"top_k": 3, "align_to_words": False, "max_answer_len": 4},
    {"top_k": 2, "max_seq_len": 40, "doc_stride": 8, "handle_impossible_answer": True},
]


def main() -> None:
    model = BertForQuestionAnswering.from_pretrained(HERE / "tiny_bert")
    model.qa_outputs.weight.data *= SHARPER
    tokenizer = BertTokenizerFast(str(HERE / "tiny_bert" / "vocab.txt"), do_lower_case=False, model_max_length=128)
    qa = pipeline("question-answering", model=model, tokenizer=tokenizer, device="cpu")
    document = json.loads((HERE / "mini_squad.json").read_text(encoding="utf-8"))
    pairs = [
        {"question": question["question"], "context": paragraph["context"]}
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
        if question["question"].strip() and paragraph["context"].strip()
    ][::2][:NUM_QUESTIONS]
    cases = [{"options": options, "answers": qa(pairs, **options)} for options in SETTINGS]
    content = json.dumps({"sharper": SHARPER, "pairs": pairs, "cases": cases}, ensure_ascii=False, indent=1)
    (HERE / "pipeline.json.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
    gaps = [
        a[0]["score"] - a[1]["score"]
        for case in cases[2:]
        for a in case["answers"]
        if isinstance(a, list) and len(a) > 1
    ]
    print(f"{len(pairs)} questions, {len(cases)} settings, smallest gap between two scores {min(gaps):.1e}")


if __name__ == "__main__":
    main()
