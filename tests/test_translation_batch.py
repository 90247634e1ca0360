"""chat_batch.py: requests as files, and their responses in every form and order."""

from __future__ import annotations

import json

import pytest
from conftest import run_script
from translation_server import MODEL, completion, reverse_words, string_of
from translations import assert_all_right, small_document, write

from squadlib.translation import chat_batch
from squadlib.translation.cache import Cache
from squadlib.translation.canaries import CANARIES
from squadlib.translation.chat import ChatSettings


@pytest.fixture
def script(tmp_path):
    """Runs the script on the small document in tmp_path."""
    write(tmp_path / "source.json", small_document())

    def run(*args):
        chat = ("--backend", "openai", "--model_name_or_path", MODEL)
        files = ("--input_file", "source.json", "--output_file", "nl.json")
        return run_script("translate_squad.py", *files, *chat, *args, cwd=tmp_path)

    return run


def read_lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def response(request, content=None, **fields):
    """The line of a batch service that answers a request, as vLLM writes it."""
    body = completion(
        reverse_words(string_of(request["body"]).partition("\n")[0]) if content is None else content, **fields
    )
    answer = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": request["custom_id"], "response": answer, "error": None}


def write_lines(path, lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
    return path.name


def test_sentences_then_answers_go_out_and_come_back_in_any_order_in_parts_and_twice(tmp_path, script):
    done = script("--export_requests", "ask.jsonl")
    assert done.returncode == 0 and "9 requests in ask.jsonl\n4 answers wait for their sentences" in done.stdout
    requests = read_lines(tmp_path / "ask.jsonl")
    assert [string_of(request["body"]) for request in requests[:3]] == CANARIES and len(requests) == 12
    assert all(r.keys() == {"custom_id", "method", "url", "body"} for r in requests)
    assert {(r["method"], r["url"]) for r in requests} == {("POST", "/v1/chat/completions")}
    assert len({r["custom_id"] for r in requests}) == 12 and max(len(r["custom_id"]) for r in requests) <= 64
    responses = [response(request) for request in reversed(requests)]
    done = script("--import_responses", write_lines(tmp_path / "part1.jsonl", responses[:4]))
    assert done.returncode == 0 and "part1.jsonl: 4 lines\n        4 stored\n" in done.stdout
    assert not (tmp_path / "nl.json").exists()
    rest = write_lines(tmp_path / "part2.jsonl", responses[2:])
    done = script("--import_responses", rest, "part1.jsonl", "--export_requests", "answers.jsonl")
    assert (
        "part2.jsonl: 10 lines\n        5 stored\n        3 control sentences\n        2 known already" in done.stdout
    )
    assert "part1.jsonl: 4 lines\n        4 known already" in done.stdout
    assert "4 requests in answers.jsonl" in done.stdout
    requests = read_lines(tmp_path / "answers.jsonl")
    assert sorted("\n" in string_of(r["body"]) for r in requests) == [False] * 3 + [True] * 4
    answers = write_lines(tmp_path / "part3.jsonl", map(response, requests))
    done = script("--import_responses", answers)
    assert done.returncode == 0, done.stderr
    assert assert_all_right(json.loads((tmp_path / "nl.json").read_text("utf-8"))) == 13
    assert "0 requests in no file: nothing is missing" in script("--export_requests", "none.jsonl").stdout
    assert not (tmp_path / "none.jsonl").exists()


def test_both_forms_of_results_are_read():
    cache = Cache(":memory:", "openai x", "en", "nl")
    old = {"custom_id": chat_batch.custom_id(cache, "flour"), "response": completion("ruolf")}
    assert chat_batch._translation(old, "flour", "nl") == "ruolf"
    new = {"custom_id": "x", "response": {"status_code": 200, "body": completion("ruolf")}}
    assert chat_batch._translation(new, "flour", "nl") == "ruolf"


BAD = {  # what a line becomes -> what the count says
    "not a response of a batch": lambda request: "{broken\n",
    "for another file, model or prompt": lambda request: {**response(request), "custom_id": "of another"},
    "error of the server: too long": lambda request: {
        "custom_id": request["custom_id"], "response": None, "error": {"message": "too long"}},
    "error of the server: expired": lambda request: {
        "custom_id": request["custom_id"], "response": None, "error": "expired"},
    "HTTP N from the server: busy": lambda request: {
        "custom_id": request["custom_id"], "response": {"status_code": 503, "body": {"error": {"message": "busy"}}}},
    "no response": lambda request: {"custom_id": request["custom_id"]},
    "an answer without choices and a message": lambda request: {
        "custom_id": request["custom_id"], "response": {"status_code": 200, "body": None}},
    "a label or note": lambda request: response(request, "Translation: x"),
    "a refusal": lambda request: response(request, "I'm sorry, I cannot translate this."),
    "empty": lambda request: response(request, ""),
    "cut off by the limit of tokens": lambda request: response(request, finish_reason="length"),
    "N characters for N": lambda request: response(request, "x" * 900),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_counted_with_its_reason_and_asked_again(reason, tmp_path, script):
    script("--export_requests", "ask.jsonl")
    requests = read_lines(tmp_path / "ask.jsonl")[3:]
    lines = [BAD[reason](requests[0]), *map(response, requests[1:])]
    done = script("--import_responses", write_lines(tmp_path / "back.jsonl", lines), "--export_requests", "again.jsonl")
    assert done.returncode == 0, done.stderr
    assert f"        8 stored\n        1 {reason}\n" in done.stdout
    again = [r for r in read_lines(tmp_path / "again.jsonl") if "\n" not in string_of(r["body"])][3:]
    assert [r["custom_id"] for r in again] == [requests[0]["custom_id"]]
    output = script("--from_cache")
    assert output.returncode == 0 and "have no valid translation" in output.stderr


def test_bytes_that_are_no_text_are_counted(tmp_path, script):
    (tmp_path / "back.jsonl").write_bytes(b"\xff\xfe\n[1]\n" + b'{"custom_id": "\\ud83d"}\n')
    assert "3 not a response of a batch" in script("--import_responses", "back.jsonl").stdout


def test_a_file_whose_control_sentences_are_nonsense_is_refused_whole(tmp_path, script):
    script("--export_requests", "ask.jsonl")
    requests = read_lines(tmp_path / "ask.jsonl")
    lines = [response(r, "Ut enim ad minim veniam, quis nostrud.") for r in requests]
    done = script("--import_responses", write_lines(tmp_path / "back.jsonl", lines))
    assert done.returncode == 1 and "back.jsonl: nonsense" in done.stderr
    assert "nothing of this file was stored" in done.stderr
    done = script("--import_responses", write_lines(tmp_path / "back.jsonl", map(response, requests)))
    assert "9 stored" in done.stdout


def test_more_than_a_service_takes_goes_into_further_files(tmp_path, monkeypatch):
    settings, cache = ChatSettings("en", "nl", model_name_or_path=MODEL), Cache(":memory:", "openai x", "en", "nl")
    strings = [f"Sentence {number}." for number in range(10)]
    monkeypatch.setattr(chat_batch, "MAX_FILE_REQUESTS", 7)  # three of them control sentences
    paths = chat_batch.write_requests(str(tmp_path / "ask.jsonl"), strings, CANARIES, cache, settings)
    assert [path.rpartition("/")[2] for path in paths] == ["ask.jsonl", "ask-2.jsonl", "ask-3.jsonl"]
    found = [[string_of(line["body"]) for line in read_lines(tmp_path / path)] for path in paths]
    assert [part[:3] for part in found] == [CANARIES] * 3
    assert [string for part in found for string in part[3:]] == strings
    monkeypatch.setattr(chat_batch, "MAX_FILE_BYTES", 3000)
    paths = chat_batch.write_requests(str(tmp_path / "small.jsonl"), strings, CANARIES, cache, settings)
    assert max((tmp_path / path).stat().st_size for path in paths) <= 3000 and len(paths) > 3


def test_batches_are_for_chat_models(tmp_path):
    args = ["--input_file", "x.json", "--output_file", tmp_path / "y.json", "--export_requests", tmp_path / "z.jsonl"]
    process = run_script("translate_squad.py", *args)
    assert process.returncode == 2 and "--export_requests is for --backend openai, not mtranslate" in process.stderr
