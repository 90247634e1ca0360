"""SQuAD documents: reading, validating, and the questions in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from squadlib.console import SquadError, logger
from squadlib.files import JsonObject, read_json, read_json_lines

NOT_FOUND = -1  # answer_start in published translations, where the answer was not found
OFFICIAL_NAMES = {False: ("train-v1.1.json", "dev-v1.1.json"), True: ("train-v2.0.json", "dev-v2.0.json")}  # by v2


class Answer(NamedTuple):
    """One gold answer. answer_start: 0-based, in Python characters of the context."""

    text: str
    answer_start: int


class Example(NamedTuple):
    """One question with its paragraph. answers is empty for an unanswerable question. article: its title, or number."""

    qid: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    is_impossible: bool
    article: str = ""


ROW_FILES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")  # one question a line, as hubs publish data sets
AVERAGE = "average"  # of all files, beside their names in the results
NAMED = re.compile(r"(\w[\w.-]*)=(.+)")  # a name has no slash, so that ./a=b.json is always a path


def named_files(arguments: list[str], folder: str = "") -> dict[str, str]:
    """Name -> path in `folder` of arguments like `nl=dev_nl.json`; a single one without a name has the name "".

    Others without a name are called as their file: dev_nl.json -> dev_nl. An argument that is itself a file is a path,
    whatever its name. Raises SquadError where two would share a name, in any file that carries it.
    """
    files: dict[str, str] = {}
    for argument in arguments:
        name, path = _split_name(argument, folder)
        if not name and len(arguments) > 1:
            name = re.sub(r"\.(json|jsonl|ndjson)$", "", os.path.basename(path).removesuffix(".gz"))
            name = re.sub(r"[^\w.-]", "_", name)
        path = os.path.join(folder, path)
        for other, taken in files.items():
            if _share_a_name(name, other):
                raise SquadError(
                    f"{taken} and {path} would be told apart by {other} and {name} alone, which are not different "
                    f"enough; put other names in front, as in nl={taken}"
                )
        if name.casefold() == AVERAGE:
            raise SquadError(f'{path} would be called "{AVERAGE}", as the mean of all files is; put a name in front')
        files[name] = path
    distinct_files([*files.values()])
    return files


def distinct_files(paths: list[str]) -> list[str]:
    """The paths, when no two of them are one file; raises SquadError otherwise."""
    seen: set[str] = set()
    for path in paths:
        if os.path.realpath(path) in seen:
            raise SquadError(f"{path} is given twice; name each file once")
        seen.add(os.path.realpath(path))
    return paths


def _split_name(argument: str, folder: str) -> tuple[str, str]:
    """("nl", "dev_nl.json") of nl=dev_nl.json, ("", argument) of a path."""
    found = NAMED.fullmatch(argument)
    if not found:
        return "", argument
    if not os.path.exists(os.path.join(folder, argument)):
        return found[1], found[2]
    if os.path.exists(os.path.join(folder, found[2])):
        raise SquadError(
            f"{argument} is a file, and so is {found[2]}; write ./{argument} for the one, "
            f"{found[1]}=./{found[2]} for the other"
        )
    return "", argument


def _share_a_name(name: str, other: str) -> bool:
    """nl and NL are one on some disks; nl_4 has the files that nl has of checkpoint 4."""
    a, b = name.casefold(), other.casefold()
    return a == b or re.sub(r"_\d+$", "", a) == b or re.sub(r"_\d+$", "", b) == a


def load_squad(path: str, *, answers_required: bool = True, offsets_required: bool = True) -> JsonObject:
    """A validated SQuAD v1.1 or v2.0 document, as parsed, with three things made uniform in place.

    Every question has a string `id`, a boolean `is_impossible`, and a list `answers` (`[]` where an unanswerable
    question leaves it out). answers_required: an answerable question must have its `answers`. offsets_required:
    every answer_start must lie in its context, or be -1, which published translations write for "not found". Unknown
    keys are kept. A file whose name ends as one of ROW_FILES is made into a document first.
    Raises SquadError at the first fault, with file, paragraph, question and remedy.
    """
    document = read_rows(path) if path.endswith(ROW_FILES) else read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise SquadError(f'{path}: not a SQuAD file: no list "data" at the top; expected {{"version": …, "data": […]}}')
    if not document["data"]:
        raise SquadError(f'{path}: "data" is an empty list; there is nothing to work on')
    seen: set[str] = set()
    for number, article in enumerate(document["data"], 1):
        place = f"{path}: article {number}"
        paragraphs = get_field(article, "paragraphs", list, place)
        for index, paragraph in enumerate(paragraphs, 1):
            place = f'{path}: paragraph {index} of "{article.get("title", number)}"'
            context = get_field(paragraph, "context", str, place)
            for qa in get_field(paragraph, "qas", list, place):
                _check_question(qa, context, place, seen, answers_required, offsets_required)
    if not seen:
        raise SquadError(f"{path}: the file has no question")
    return document


def read_rows(path: str) -> JsonObject:
    """Lines {"id", "context", "question", "answers": {"text": […], "answer_start": […]}} as a SQuAD document.

    Neighbouring lines of one context become a paragraph. A question without answers is unanswerable.
    """
    articles: list[JsonObject] = []
    for number, row in read_json_lines(path):
        place = f"{path}: line {number}"
        context, title = get_field(row, "context", str, place), str(row.get("title", ""))
        if not articles or articles[-1]["title"] != title:
            articles.append({"title": title, "paragraphs": []})
        paragraphs = articles[-1]["paragraphs"]
        if not paragraphs or paragraphs[-1]["context"] != context:
            paragraphs.append({"context": context, "qas": []})
        answers = _row_answers(row, place)
        given = {key: value for key, value in row.items() if key not in ("context", "title")}
        paragraphs[-1]["qas"].append({"is_impossible": not answers, **given, "answers": answers})
    return {"version": "v2.0", "data": articles}


def _row_answers(row: JsonObject, place: str) -> list[Any]:
    """The answers of a row as SQuAD has them: a list of records instead of a record of lists."""
    answers = row.get("answers") or []
    if isinstance(answers, list):
        return answers
    texts = get_field(answers, "text", list, f"{place}, answers")
    starts = get_field(answers, "answer_start", list, f"{place}, answers")
    if len(texts) != len(starts):
        raise SquadError(f"{place}: {len(texts)} answer texts, but {len(starts)} answer_start")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _check_question(
    qa: Any, context: str, place: str, seen: set[str], answers_required: bool, offsets_required: bool
) -> None:
    if not isinstance(qa, dict) or not isinstance(qa.get("id"), (str, int)):
        raise SquadError(f'{place}: a question has no "id" that is text')
    qid = qa["id"] = str(qa["id"])
    place = f"{place}, question {qid}"
    if qid in seen:
        raise SquadError(f"{place}: this id was used before; make the ids unique")
    seen.add(qid)
    get_field(qa, "question", str, place)
    if not isinstance(qa.setdefault("is_impossible", False), bool):
        raise SquadError(f"{place}: is_impossible is {qa['is_impossible']!r}; expected true or false")
    if qa["is_impossible"] or not answers_required:
        qa["answers"] = [] if qa.get("answers") is None else qa["answers"]
    for answer in get_field(qa, "answers", list, place):
        _check_answer(answer, context, place, offsets_required)


def _check_answer(answer: Any, context: str, place: str, offsets_required: bool) -> None:
    text = get_field(answer, "text", str, f"{place}, answer")
    start = answer.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool):
        raise SquadError(f"{place}: answer_start is {start!r}; expected a character offset (a whole number)")
    if start < NOT_FOUND and offsets_required:
        raise SquadError(f"{place}: answer_start {start} is negative; offsets count from 0 (-1: not found)")
    if text and start >= len(context) and offsets_required:
        raise SquadError(f"{place}: answer_start {start} is past the end of a {len(context)}-character context")


def get_field(record: Any, key: str, kind: type[list] | type[str], place: str) -> Any:
    """record[key] when it is of the wanted kind (list or str); else SquadError with the place and what was found."""
    if not isinstance(record, dict) or not isinstance(record.get(key), kind):
        found = type(record).__name__ if not isinstance(record, dict) else repr(record.get(key, "nothing"))[:40]
        name = "a list" if kind is list else "text"
        raise SquadError(f'{place}: "{key}" should be {name}, found {found}')
    return record[key]


def iter_questions(document: JsonObject) -> Iterator[tuple[JsonObject, JsonObject]]:
    """(paragraph, question) of a document that load_squad returned, in file order."""
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                yield paragraph, qa


def read_examples(document: JsonObject) -> list[Example]:
    """One Example a question, in file order. Answers of a question marked is_impossible are left out, as in 2020."""
    return [
        Example(
            qa["id"],
            qa["question"],
            paragraph["context"],
            tuple(Answer(a["text"], a["answer_start"]) for a in qa["answers"] if not qa["is_impossible"]),
            qa["is_impossible"],
            str(article.get("title") or number),
        )
        for number, article in enumerate(document["data"], 1)
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def read_questions(path: str) -> list[JsonObject]:
    """The records of a JSON-lines file: {"question": …, "context": …} with or without "id" on each line."""
    records = []
    for number, record in read_json_lines(path):
        texts = [record.get(name) for name in ("question", "context")] if isinstance(record, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise SquadError(f'{path}: line {number} needs a "question" and a "context" that are text and not empty')
        records.append(record)
    return records


def has_unanswerable(files: dict[str, list[Example]]) -> bool:
    """Whether a file has a question with is_impossible, with a line that says what follows. files: by path."""
    counts = {path: sum(example.is_impossible for example in examples) for path, examples in files.items()}
    for path in filter(counts.__getitem__, files):
        logger.warning(
            "%s has %d unanswerable questions of %d: --version_2_with_negative is on (--no_…: off)",
            path,
            counts[path],
            len(files[path]),
        )
    return any(counts.values())


def load_examples(path: str, training: bool, answers_required: bool = True) -> list[Example]:
    """Questions of a file; training needs an answer for every answerable one."""
    examples = read_examples(load_squad(path, answers_required=answers_required))
    for example in examples if training else []:
        if not example.is_impossible and not example.answers:
            raise SquadError(f"{path}: question {example.qid} has no answer to train on; add one or set is_impossible")
    return examples
