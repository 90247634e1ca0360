"""translate_squad.py: what is sent, what is written, stopping and going on, the command."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run_script
from translation_server import reverse_words
from translations import (
    FAST,
    all_strings,
    assert_all_right,
    make_document,
    run_translate,
    small_document,
    write,
    write_memory,
)

from squadlib.console import SquadError
from squadlib.translation.canaries import CANARIES
from squadlib.translation.document import strings_of, translate_context, translate_text, write_document
from squadlib.translation.engines import ModelSettings
from squadlib.translation.table import load_backend
from translate_squad import build_parser, check_args

sys.path.insert(0, str(ROOT / "benchmarks"))
from translate_kill_loop import is_good, kill_loop


def test_each_string_is_planned_once_and_plausible_answers_never():
    strings = all_strings()
    assert len(strings) == len(set(strings)) == 13
    assert "It burned down twice!" in strings and "Mr. J. Visser" in strings
    assert "Nobody" not in strings


def test_dry_run_plans_full_squad_in_about_21_thousand_requests(shared_data, tmp_path):
    """20.2 K contexts in the full set, 646 in the two files."""
    requests = strings = 0
    for name in ("squad2_train_4k.json", "squad2_dev_2k.json"):
        process = run_script("translate_squad.py", "--input_file", shared_data / name, "--dry_run", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        plan = re.search(r"requests +([\d,]+) \(one string a request: ([\d,]+)\)", process.stdout)
        requests += int(plan[1].replace(",", ""))
        strings += int(plan[2].replace(",", ""))
    assert 19_500 < requests / 646 * 20_200 < 22_000
    assert strings > 20 * requests
    assert not list(tmp_path.iterdir())


def test_sentence_map_is_exact_with_the_sources_own_white_space():
    context = "  One cat.\n\nTwo dogs.  Three\tbirds.\n"
    targets = {"One cat.": "Een kat.", "Two dogs.": "Twee honden.", "Three birds.": "Drie vogels."}
    context_t, sentences = translate_context(context, targets)
    assert context_t == "  Een kat.\n\nTwee honden.  Drie vogels.\n"
    assert [context_t[ts_:te] for _, _, ts_, te in sentences] == list(targets.values())
    assert [context[s:e] for s, e, _, _ in sentences] == ["One cat.", "Two dogs.", "Three\tbirds."]


def test_sentences_without_space_between_them_get_one_in_the_translation():
    context_t, sentences = translate_context(
        "巴黎很大。它老。", {"巴黎很大。": "Parijs is groot.", "它老。": "Het is oud."}
    )
    assert context_t == "Parijs is groot. Het is oud."
    assert sentences == [[0, 5, 0, 16], [5, 8, 17, 28]]


def test_missing_is_null_never_empty():
    context_t, sentences = translate_context("One. Two.", {"One.": "Een."})
    assert context_t is None and sentences == [[0, 4, None, None], [5, 9, None, None]]
    assert translate_text("What?", {}) is None
    assert translate_text(" ", {}) is None
    assert translate_context("", {}) == (None, [])


def test_a_long_question_goes_by_sentences_and_comes_back_whole():
    text = "Why is it so, and who said it? " * 40
    strings = strings_of(text)
    assert strings == ["Why is it so, and who said it?"] * 40
    assert translate_text(text, {strings[0]: "Waarom?"}) == " ".join(["Waarom?"] * 40)


def test_output_keeps_source_texts_unknown_keys_and_plausible_answers(tmp_path, serve_translations):
    document = small_document()
    document["data"][0]["paragraphs"][0]["note"] = {"kept": True}
    process, translated = run_translate(tmp_path, document=document, env=serve_translations().env)
    assert process.returncode == 0, process.stderr
    assert assert_all_right(translated) == 13
    assert translated["translation"] == {"source_lang": "en", "target_lang": "nl", "backend": "mtranslate"}
    paragraph, source = translated["data"][0]["paragraphs"][0], document["data"][0]["paragraphs"][0]
    assert list(paragraph)[:3] == ["context", "context_t", "sentences"]
    assert paragraph["note"] == {"kept": True} and translated["data"][0]["title"] == "The mill"
    unanswerable = paragraph["qas"][2]
    assert unanswerable["answers"] == [] and "iso_t" not in unanswerable["plausible_answers"][0]
    for translated_qa, qa in zip(paragraph["qas"], source["qas"], strict=True):
        assert {key: translated_qa[key] for key in ("id", "question", "is_impossible")}.items() <= qa.items()
    last = process.stderr.strip().splitlines()[-1]
    assert "wrote" in last and "clean_squad.py --input_file" in last


def test_the_next_command_can_be_pasted_where_a_path_has_spaces(tmp_path):
    folder = tmp_path / "my files"
    folder.mkdir()
    source, output = write(folder / "source.json", small_document()), folder / "it's Dutch.json"
    memory = ["--backend", "memory", "--memory_file", write_memory(tmp_path, all_strings())]
    process = run_script("translate_squad.py", "--input_file", source, "--output_file", output, *memory)
    command = shlex.split(process.stderr.strip().splitlines()[-1].split("next: ")[1])
    clean = ["python", "clean_squad.py", "--input_file", str(output), "--output_file"]
    assert command == [*clean, str(folder / "it's Dutch_clean.json")]


def test_log_lines_name_the_script_and_not_a_module(tmp_path, serve_translations):
    server = serve_translations()
    server.script.extend(["nonsense", "ok", "429"])
    server.poison["twice"] = "400"
    process, _ = run_translate(tmp_path, env=server.env)
    lines = re.findall(r"^\S+ \S+ - [A-Z]+ - (\S+) - ", process.stderr, re.MULTILINE)
    assert process.returncode == 0 and len(lines) > 5 and set(lines) == {"translate_squad"}
    process, _ = run_translate(tmp_path, "--backend", "memory", "--memory_file", tmp_path / "absent")
    assert " - ERROR - translate_squad - " in process.stderr.splitlines()[-1]


def test_squad_v1_file_of_another_language(tmp_path, serve_translations, shared_data):
    server = serve_translations()
    output = tmp_path / "out.json"
    args = ["--input_file", shared_data / "xquad.de.json", "--output_file", output, "--source_lang", "de", *FAST]
    process = run_script("translate_squad.py", *args, "--target_lang", "fr", env=server.env)
    assert process.returncode == 0, process.stderr
    assert assert_all_right(json.loads(output.read_text("utf-8"))) > 3500
    assert len(server.queries) < 250


def test_kills_lose_nothing_and_repeat_only_what_was_in_flight(tmp_path):
    """The short form of benchmarks/translate_kill_loop.py."""
    figures = kill_loop(tmp_path, kills=5, fault_rate=0.25, workers=2, num_paragraphs=200, seed=1)
    assert is_good(figures), figures
    assert figures["failed_requests"] > 0.2 * figures["requests"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(number, code, tmp_path, serve_translations):
    server = serve_translations(latency=0.05)
    document = make_document(30)
    source, output = write(tmp_path / "source.json", document), tmp_path / "nl.json"
    command = ["translate_squad.py", "--input_file", str(source), "--output_file", str(output), *map(str, FAST)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        env={**os.environ, **server.env},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(server.queries) < 5:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert "the same command goes on from there" in stderr and "Traceback" not in stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"source.json", "nl.json.cache.sqlite"}
    assert run_script(*command, env=server.env).returncode == 0
    assert_all_right(json.loads(output.read_text("utf-8")))
    assert all(count == 1 for string, count in server.answered.items() if string not in CANARIES)


def test_help_is_quick_and_loads_nothing_heavy():
    assert heavy_modules_after("") == []
    process = run_script("translate_squad.py", "--help")
    assert process.returncode == 0 and "Exit codes" in process.stdout


def heavy_modules_after(statement, env=None):
    """What is loaded that is slow to load, in a process that imports the script and runs `statement`."""
    heavy = "{'torch', 'transformers', 'numpy', 'mtranslate'}"
    code = f"import sys, translate_squad\n{statement}\nprint(sorted({heavy} & set(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return ast.literal_eval(process.stdout.splitlines()[-1])


def test_the_page_and_a_memory_load_no_torch(tmp_path, serve_translations):
    source = write(tmp_path / "source.json", small_document())
    args = ["--input_file", str(source), "--output_file", str(tmp_path / "nl.json")]
    memory = ["--backend", "memory", "--memory_file", str(write_memory(tmp_path, all_strings()))]
    assert heavy_modules_after(f"assert translate_squad.main({[*args, *memory]!r}) == 0") == []
    page = [*args, *map(str, FAST)]
    server = serve_translations()
    assert heavy_modules_after(f"assert translate_squad.main({page!r}) == 0", env=server.env) == ["mtranslate"]


@pytest.mark.parametrize(
    ("backend", "package"),
    [("mtranslate", "mtranslate"), ("hf", "torch"), ("hf", "transformers"), ("ct2", "ctranslate2")],
)
def test_a_missing_package_is_one_sentence(backend, package, tmp_path):
    source = write(tmp_path / "source.json", small_document())
    args = ["--input_file", str(source), "--output_file", str(tmp_path / "nl.json"), "--backend", backend]
    args += [] if backend == "mtranslate" else ["--model_name_or_path", "some/model"]
    code = (
        f"import sys; sys.modules[{package!r}] = None; import translate_squad; sys.exit(translate_squad.main({args}))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1 and f"pip install {package}" in process.stderr
    assert "Traceback" not in process.stderr and not (tmp_path / "nl.json").exists()


def test_a_tokenizer_without_its_package_is_one_sentence(monkeypatch):
    def from_pretrained(*args, **options):
        raise ImportError("MarianTokenizer requires the SentencePiece library but it was not found")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", from_pretrained)
    with pytest.raises(SquadError, match="some/model: loading it needs another package: pip install sentencepiece"):
        load_backend(ModelSettings("hf", "some/model", "en", "nl"))


def test_a_dry_run_without_an_output_file_opens_no_cache(tmp_path):
    source = write(tmp_path / "source.json", small_document())
    (tmp_path / "None.cache.sqlite").write_bytes(b"of somebody else")
    process = run_script("translate_squad.py", "--input_file", source, "--dry_run", cwd=tmp_path)
    assert process.returncode == 0 and "13 different ones, 0 of them in the cache" in process.stdout


def test_all_usage_faults_at_once(tmp_path):
    args = ["--input_file", "x.json", "--rate", 0, "--max_chars", 20, "--source_lang", "English", "--bf16", "--fp16"]
    process = run_script("translate_squad.py", *args, "--backend", "hf", "--memory_file", "m", "--cache_file", "no/x")
    assert process.returncode == 2
    for flag in ("--rate", "--max_chars", "--source_lang", "--bf16", "--model_name_or_path", "--memory_file"):
        assert flag in process.stderr
    assert "--output_file is missing" in process.stderr and "no/x" in process.stderr


def test_bad_input_is_one_sentence(tmp_path):
    for content in ("", "{", "{}", '{"data": []}'):
        (tmp_path / "bad.json").write_text(content)
        args = ["--input_file", tmp_path / "bad.json", "--output_file", tmp_path / "out.json"]
        process = run_script("translate_squad.py", *args)
        assert process.returncode == 1 and "bad.json" in process.stderr and "Traceback" not in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_a_translated_file_is_not_translated_again(tmp_path):
    document = {**small_document(), "translation": {"target_lang": "nl"}}
    process, _ = run_translate(tmp_path, document=document)
    assert process.returncode == 1 and "translated already" in process.stderr


def test_strings_go_out_to_a_translator_and_come_back_as_a_memory(tmp_path):
    source, memory = write(tmp_path / "source.json", small_document()), tmp_path / "strings.jsonl"
    process = run_script("translate_squad.py", "--input_file", source, "--export_strings", memory)
    assert process.returncode == 0 and "13 strings in" in process.stdout
    entries = [json.loads(line) for line in memory.read_text("utf-8").splitlines()]
    assert entries == [{"source": string, "target": ""} for string in all_strings()]
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 1 and translated is None
    assert "strings.jsonl: line 1 and 12 more: the target is empty; fill it in or remove the line" in process.stderr
    filled = ({**entry, "target": reverse_words(entry["source"])} for entry in entries)
    memory.write_text("\n".join(map(json.dumps, filled)), "utf-8")
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


def test_a_page_that_blocks_from_the_start_is_told_with_the_command_that_needs_none(tmp_path, serve_translations):
    server = serve_translations(fault_rate=1.0, faults=["429"])
    process, _ = run_translate(tmp_path, "--give_up_after", 0.2, env=server.env)
    assert process.returncode == 75
    first = next(line for line in process.stderr.splitlines() if "a local model needs none: " in line)
    command = shlex.split(first.split("a local model needs none: ")[1])
    assert command[:4] == ["python", "translate_squad.py", "--input_file", str(tmp_path / "source.json")]
    assert command[-4:] == ["--backend", "hf", "--model_name_or_path", "Helsinki-NLP/opus-mt-en-nl"]
    parser = build_parser()
    check_args(parser, parser.parse_args(command[2:]))  # it would exit with 2
    server.fault_rate = 0.0
    server.script.extend(["ok", "429"])
    process, _ = run_translate(tmp_path, env=server.env)
    assert process.returncode == 0 and "a local model needs none" not in process.stderr


def test_from_cache_asks_nothing_and_writes_what_is_there(tmp_path, serve_translations):
    server = serve_translations()
    server.poison["twice"] = "400"
    run_translate(tmp_path, env=server.env)
    (tmp_path / "nl.json").unlink()
    num_queries = len(server.queries)
    process, translated = run_translate(tmp_path, "--from_cache", env=server.env)
    assert process.returncode == 0 and len(server.queries) == num_queries
    assert "1 of 13 strings have no valid translation" in process.stderr and "not asked" in process.stderr
    assert translated["data"][0]["paragraphs"][0]["context_t"] is None


def test_the_output_has_the_bytes_of_json_dump():
    document = {"version": "v2.0", "data": [{"title": "é"}, {"title": None}], "more": [1.5, {}]}
    for content in (document, {**document, "data": []}):
        out = io.StringIO()
        write_document(content, out)
        assert out.getvalue() == json.dumps(content, ensure_ascii=False)
