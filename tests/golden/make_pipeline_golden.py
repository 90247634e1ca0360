"""Make the golden answers of the question-answering pipeline with transformers 4.57.6, the last line that has it.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    legacy-env/bin/python tests/golden/make_pipeline_golden.py

Reads mini_squad.json and tiny_bert. Writes pipeline.json.gz beside itself: the questions of mini_squad.json, and for
each setting its options and the answers; groups of questions on which a reader may go wrong, in the same form; and
calls, each a set of keyword arguments with the result. The texts of the groups were written for this project. The
random model's head is multiplied by SHARPER, so that no two answers are as good.
"""

from __future__ import annotations

import gzip
import itertools
import json
import unicodedata
import warnings
from pathlib import Path

from transformers import BertForQuestionAnswering, BertTokenizerFast, QuestionAnsweringPipeline, pipeline

HERE = Path(__file__).resolve().parent
SHARPER = 60.0
NUM_QUESTIONS = 24
ALL = 100_000  # more answers than there are pairs of pieces
SETTINGS = [
    {},
    {"handle_impossible_answer": True},
    {"top_k": 3},
    {"top_k": 3, "align_to_words": False, "max_answer_len": 4},
    {"top_k": 2, "max_seq_len": 40, "doc_stride": 8, "handle_impossible_answer": True},
]
SHORT = "Nobody is sure of the owner: the mill went from family to family, and at last to the church."
LONG_QUESTIONS = [  # 66 to 90 pieces
    "In the year that the dike was closed, and before the harbour office was pulled down, who could say of each boat "
    "which family had built it, when it was painted, what it had cost and where it was going, and why did nobody go "
    "down to the museum with the key, or ask after the green book?",
    "What did they say at the church, when the bell rings and the boats come back in the evening, and nobody asks what "
    "the herring cost, or who bought it, or which boat had not come, because the list in the book is long, and the "
    "last page of it was not written by the owner of the mill?",
    "Who? " * 34,
]
ACCENTS = [  # each is asked composed (NFC) and decomposed (NFD), of both forms of its context
    ("Where is Café René, and does Renée serve crème brûlée?", "Café René in Curaçao serves crème brûlée to Renée."),
    ("Ông tên là gì, và quán ở đâu?", "Quán cà phê của ông Nguyễn Văn Đức ở phố Hàng Bạc, cạnh hồ, và đã cũ."),
    ("방앗간은 언제 지었나요?", "방앗간은 1740년에 지었고, 지금은 박물관이다. The mill was built in 1740."),
    ("Hur stavas ångström i dag?", "Förr skrevs det Å, i dag skrivs ångström; Ångström was a name."),
]
OWNER = ("Who is sure of the owner?", SHORT)
PAGE = ("What is at the last page?", "On the last page is a line: no boats.")
LOSER = ("Where is it?", "It is in the museum.")  # beside data= or X= it is not asked


def main() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    model = BertForQuestionAnswering.from_pretrained(HERE / "tiny_bert")
    model.qa_outputs.weight.data *= SHARPER
    tokenizer = BertTokenizerFast(str(HERE / "tiny_bert" / "vocab.txt"), do_lower_case=False, model_max_length=128)
    qa = pipeline("question-answering", model=model, tokenizer=tokenizer, device="cpu")
    pairs, long_context = mini_questions()
    golden = {
        "sharper": SHARPER,
        "pairs": pairs,
        "cases": answer_all(qa, pairs, SETTINGS),
        "groups": make_groups(qa, long_context),
        "calls": [{"inputs": inputs, "result": qa(**inputs)} for inputs in make_calls(long_context)],
    }
    sizes = [len(tokenizer.tokenize(question)) for question in LONG_QUESTIONS]
    assert min(sizes) > 64, sizes
    content = json.dumps(golden, ensure_ascii=True, indent=1)  # escapes: no editor can normalise the texts
    (HERE / "pipeline.json.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
    for name, group in {"mini_squad.json": golden, **golden["groups"]}.items():
        print(
            f"{name}: {len(group['pairs'])} questions, {len(group['cases'])} settings, {smallest_gap(group['cases'])}"
        )


def mini_questions() -> tuple[list[dict], str]:
    """(questions of mini_squad.json with their contexts, its longest context)."""
    document = json.loads((HERE / "mini_squad.json").read_text(encoding="utf-8"))
    pairs = [
        {"question": question["question"], "context": paragraph["context"]}
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
        if question["question"].strip() and paragraph["context"].strip()
    ]
    return pairs[::2][:NUM_QUESTIONS], max((pair["context"] for pair in pairs), key=len)


def answer_all(qa: QuestionAnsweringPipeline, pairs: list[dict], settings: list[dict]) -> list[dict]:
    return [{"options": options, "answers": qa(pairs, **options)} for options in settings]


def make_groups(qa: QuestionAnsweringPipeline, long_context: str) -> dict[str, dict]:
    forms = [[unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in pair] for pair in ACCENTS]
    groups = {
        "questions of more than 64 pieces": (
            [(question, SHORT) for question in LONG_QUESTIONS],
            [{}, {"top_k": 3, "handle_impossible_answer": True}, {"max_answer_len": 3}],
        ),
        "questions of more than 64 pieces, several windows": (
            [(question, long_context) for question in LONG_QUESTIONS],
            [{"doc_stride": 8}, {"doc_stride": 20, "top_k": 2, "handle_impossible_answer": True}],
        ),
        "questions and contexts that are not in NFC": (
            [(question, context) for q1, c1, q2, c2 in forms for question in (q1, q2) for context in (c1, c2)],
            [{}, {"top_k": 3}, {"align_to_words": False}, {"handle_impossible_answer": True, "max_seq_len": 96}],
        ),
        "top_k above 10": ([OWNER, PAGE], [{"top_k": 12}, {"top_k": 12, "handle_impossible_answer": True}]),
        "more answers wanted than there are": (
            [OWNER, PAGE, ("Who?", "Jan"), ("Who?", "Jan Piet")],
            [
                {"top_k": ALL},
                {"top_k": ALL, "handle_impossible_answer": True},
                {"top_k": ALL, "align_to_words": False, "max_answer_len": 2},
            ],
        ),
    }
    return {name: make_group(qa, *parts) for name, parts in groups.items()}


def make_group(qa: QuestionAnsweringPipeline, texts: list[tuple[str, str]], settings: list[dict]) -> dict:
    pairs = [{"question": question, "context": context} for question, context in texts]
    return {"pairs": pairs, "cases": answer_all(qa, pairs, settings)}


def make_calls(long_context: str) -> list[dict]:
    one, other, loser = ({"question": question, "context": context} for question, context in (OWNER, PAGE, LOSER))
    columns = {"question": [OWNER[0], PAGE[0]], "context": [OWNER[1], PAGE[1]]}
    named = [{name: value} for name in ("data", "X") for value in (one, [one], [one, other], columns)]
    long = {"question": OWNER[0], "context": long_context}
    padded = [{**long, "padding": padding} for padding in (True, False, "longest", "max_length", "do_not_pad", None)]
    return [
        *named,
        {"data": [one, other], **loser},
        {"X": one, "data": [one, other]},
        {"data": [one, other], "top_k": 2, "padding": "longest"},
        *padded,
        {**long, "padding": "max_length", "top_k": 3, "handle_impossible_answer": True},
        {"question": columns["question"], "context": columns["context"]},
        {"question": columns["question"], "context": SHORT},
    ]


def smallest_gap(cases: list[dict]) -> str:
    """The smallest difference between two scores that follow each other, in parts of the larger one."""
    lists = [found for case in cases for found in case["answers"] if isinstance(found, list)]
    pairs = [pair for found in lists for pair in itertools.pairwise(answer["score"] for answer in found)]
    return f"smallest relative gap between two scores {min((1 - b / a for a, b in pairs if b > 0), default=1):.1e}"


if __name__ == "__main__":
    main()
