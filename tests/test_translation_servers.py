"""Engines that are servers: the real script against stand-ins that fail in every known way, one row a fault."""

from __future__ import annotations

import re

import pytest
from translation_server import KEY, faults_of
from translations import assert_all_right, make_document, run_translate, small_document, stored_strings

from squadlib.translation.canaries import CANARIES
from squadlib.translation.deepl import FREE_URL, PAID_URL, DeepLBackend, DeepLSettings
from squadlib.translation.libretranslate import LibreTranslateBackend, LibreTranslateSettings

VICTIM = "old books"  # in one sentence of small_document()
LISTS = ("deepl", "libretranslate")  # protocols that take a list of texts
OF_ANY_SERVER = {  # what the server does -> what the run calls it
    "429": "Blocked",
    "429_wait_1s": "Blocked",
    "503": "Blocked",
    "500": "Hiccup",
    "hang": "Hiccup",
    "drip": "Hiccup",
    "reset": "Hiccup|none",  # a line that lay open is opened again at once
    "short_body": "Hiccup|none",
    "bad_utf8": "Hiccup",
    "captcha": "Hiccup",
    "no_json": "Hiccup",
    "other_json": "Hiccup",
    "400": "BadText",
}
OF_A_LIST = {
    "null_text": "Hiccup",
    "empty": "Hiccup",
    "echo": "Hiccup",
    "with_source": "Hiccup",
    "nonsense": "Hiccup",
    "babble": "Hiccup",
    "error_text": "BadText",
    "error_line": "BadText",
    "merged_lines": "BadText",
    "extra_line": "BadText",
    "swapped_lines": "BadText|Hiccup",  # Hiccup when one of them is the control sentence
}
OF_ONE_TEXT = {
    "null_text": "BadText",
    "empty": "BadText",
    "echo": "BadText",
    "with_source": "BadText",
    "babble": "BadText",
    "error_text": "BadText",
    "extra_line": "BadText",
    "preamble": "BadText",
    "note": "BadText",
    "refusal": "BadText",
    "refusal_field": "BadText",
    "label": "BadText",
    "note_behind": "BadText",
    "marked_up": "BadText",
    "thinking": "BadText",
    "cut": "BadText",
    "filtered": "BadText",
    "422": "BadText",
    "list": "Hiccup",
    "no_choices": "Hiccup",
    "quoted": "none",  # a translation all the same
    "thought": "none",
}
REACTIONS = {
    "openai": OF_ANY_SERVER | OF_ONE_TEXT,
    "deepl": OF_ANY_SERVER | OF_A_LIST,
    "libretranslate": OF_ANY_SERVER | OF_A_LIST | {"403": "Blocked"},  # shut out for a while
}
UNSEEN = {"openai": {"nonsense"}, "deepl": set(), "libretranslate": set()}  # alone; the control sentences tell later
END_THE_RUN = {  # fault -> exit code, what is said
    "openai": {"429_wait_1h": (75, "blocked for"), "quota": (75, "You exceeded your current quota")},
    "deepl": {
        "456": (75, "DeepL's quota for this key is used up"),
        "403": (1, "the key was refused; set DEEPL_AUTH_KEY"),
        "429_wait_1h": (75, "blocked for"),
    },
    "libretranslate": {"429_wait_1h": (75, "blocked for")},
}


def rows(table):
    """(protocol, fault, what is expected), for parametrize."""
    return [(protocol, fault, expected) for protocol in table for fault, expected in table[protocol].items()]


@pytest.mark.parametrize("protocol", REACTIONS)
def test_every_fault_of_the_stand_in_has_its_reaction(protocol):
    assert {*REACTIONS[protocol], *END_THE_RUN[protocol], *UNSEEN[protocol]} == set(faults_of(protocol))


@pytest.mark.parametrize(("protocol", "fault", "reaction"), rows(REACTIONS))
def test_a_single_fault_is_survived(protocol, fault, reaction, tmp_path, serve_translations):
    server = serve_translations(protocol=protocol)
    server.once[VICTIM] = fault
    process, translated = run_translate(tmp_path, *server.flags, "--workers", 1, "--timeout", 0.3, env=server.env)
    assert process.returncode == 0, process.stderr
    assert re.search(f"faults: (1 × )?({reaction})\n", process.stderr)
    assert ("waiting" in process.stderr) == (reaction == "Blocked")
    assert_all_right(translated)
    assert [string for string, count in server.answered.items() if count > 1 and string not in CANARIES] == []


@pytest.mark.parametrize(("protocol", "fault", "end"), rows(END_THE_RUN))
def test_what_no_waiting_mends_ends_the_run_and_the_same_command_goes_on(
    protocol, fault, end, tmp_path, serve_translations
):
    server, document = serve_translations(protocol=protocol), make_document(12)
    server.script.extend(["ok"] * 6 + [fault])
    code, words = end
    flags = (*server.flags, "--workers", 1, "--give_up_after", 60)
    process, translated = run_translate(tmp_path, *flags, document=document, env=server.env)
    assert process.returncode == code and words in process.stderr, process.stderr
    assert translated is None and "Traceback" not in process.stderr
    assert "the same command goes on from there" in process.stderr
    assert stored_strings(tmp_path / "nl.json.cache.sqlite") == set(server.answered)
    process, translated = run_translate(tmp_path, *flags, document=document, env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert [string for string, count in server.answered.items() if count > 1 and string not in CANARIES] == []


@pytest.mark.parametrize("protocol", REACTIONS)
def test_no_string_is_wrong_under_many_faults_with_several_workers(protocol, tmp_path, serve_translations):
    slow = {"429_wait_1s", "hang", "drip"}
    faults = [fault for fault in REACTIONS[protocol] if fault not in slow]
    server = serve_translations(protocol=protocol, fault_rate=0.2, faults=faults, seed=3)
    flags = (*server.flags, "--workers", 4)
    process, translated = run_translate(tmp_path, *flags, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert server.num_faults > 10
    assert_all_right(translated)


def test_nonsense_of_a_chat_model_is_taken_back_and_asked_again(tmp_path, serve_translations):
    server, document = serve_translations(protocol="openai"), make_document(20)
    server.script.extend(["ok"] * 10 + ["nonsense"] * 70)
    process, translated = run_translate(tmp_path, *server.flags, document=document, env=server.env)
    assert process.returncode == 0, process.stderr
    assert "nonsense" in process.stderr
    assert_all_right(translated)


@pytest.mark.parametrize("protocol", REACTIONS)
@pytest.mark.parametrize("fault", ["400", "echo", "error_text", "reset", "null_text"])
def test_a_text_that_always_fails_costs_only_itself(protocol, fault, tmp_path, serve_translations):
    server = serve_translations(protocol=protocol)
    server.poison[VICTIM] = fault
    process, translated = run_translate(tmp_path, *server.flags, env=server.env)
    assert process.returncode == 0, process.stderr
    assert "1 of 13 strings have no valid translation" in process.stderr
    assert translated["data"][0]["paragraphs"][1]["context_t"] is None
    server.poison.clear()
    asked = len(server.queries)
    process, translated = run_translate(tmp_path, *server.flags, env=server.env)
    assert_all_right(translated)
    controls = sum(text in CANARIES for texts in server.queries[asked:] for text in texts)
    assert sum(map(len, server.queries[asked:])) == controls + 1  # the missing one


# ---------------------------------------------------------------------------------------------------------------------
# Keys and addresses
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", REACTIONS)
@pytest.mark.parametrize("fault", ["400", "403", "500"])
def test_a_key_stands_in_no_output_even_where_the_server_quotes_it(protocol, fault, tmp_path, serve_translations):
    server = serve_translations(protocol=protocol)
    server.once[VICTIM] = fault
    process, _ = run_translate(tmp_path, *server.flags, "--give_up_after", 0.1, env=server.env)
    assert server.num_faults == 1 and KEY in server.env.values()
    files = [
        path.read_bytes() for path in tmp_path.iterdir()
    ]  # the translated file, which the model card quotes; cache
    assert [text for text in (process.stdout, process.stderr, *map(str, files)) if KEY in text] == []


@pytest.mark.parametrize(
    ("protocol", "variable"), [("deepl", "DEEPL_AUTH_KEY"), ("libretranslate", "LIBRETRANSLATE_API_KEY")]
)
@pytest.mark.parametrize("key", ["wrong-key", "wrong key", "wrong\x07key", "wrong-këy"])
def test_a_wrong_key_is_one_sentence_that_names_the_variable(protocol, variable, key, tmp_path, serve_translations):
    server = serve_translations(protocol=protocol)
    process, translated = run_translate(tmp_path, *server.flags, env={variable: key})
    assert process.returncode == 1 and translated is None and variable in process.stderr
    assert key not in process.stderr and "Traceback" not in process.stderr and server.queries == []


def test_without_a_key_the_variable_is_named(tmp_path, serve_translations):
    for protocol, variable in (("deepl", "DEEPL_AUTH_KEY"), ("libretranslate", "LIBRETRANSLATE_API_KEY")):
        server = serve_translations(protocol=protocol)
        process, translated = run_translate(tmp_path, *server.flags, env={variable: ""})
        assert process.returncode == 1 and translated is None and variable in process.stderr
        assert "Traceback" not in process.stderr


def test_a_server_of_ones_own_needs_no_key(tmp_path, serve_translations):
    server = serve_translations(protocol="libretranslate", key=None)
    process, translated = run_translate(tmp_path, *server.flags, env={"LIBRETRANSLATE_API_KEY": ""})
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


def test_keys_of_the_free_deepl_go_to_the_free_address(monkeypatch):
    for key, address in (("abc:fx", FREE_URL), ("abc", PAID_URL)):
        monkeypatch.setenv("DEEPL_AUTH_KEY", key)
        assert DeepLBackend(DeepLSettings("en", "nl")).base_url == address
        assert DeepLBackend(DeepLSettings("en", "nl", base_url="http://127.0.0.1:1/")).base_url == "http://127.0.0.1:1"


# ---------------------------------------------------------------------------------------------------------------------
# Languages and limits
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "words"), [("en", "en-GB or en-US"), ("pt", "pt-BR or pt-PT")])
def test_deepl_wants_a_region_for_english_and_portuguese(target, words, tmp_path, serve_translations):
    server = serve_translations(protocol="deepl")
    flags = (*server.flags, "--source_lang", "de", "--target_lang", target)
    process, _ = run_translate(tmp_path, *flags, env=server.env)
    assert process.returncode == 1 and words in process.stderr and server.queries == []
    process, translated = run_translate(tmp_path, *flags[:-1], words.split()[0], env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


def test_language_codes_are_written_as_the_server_has_them():
    deepl = DeepLSettings("en-US", "zh-CN")
    assert (deepl.source_code, deepl.target_code) == ("EN", "ZH-HANS")
    assert DeepLSettings("zh-TW", "no").target_code == "NB" and DeepLSettings("zh-TW", "nl").source_code == "ZH"
    libre = LibreTranslateBackend(LibreTranslateSettings("zh-CN", "pt-BR", base_url="http://127.0.0.1:1")).fields
    assert (libre["source"], libre["target"]) == ("zh-Hans", "pt-BR")


@pytest.mark.parametrize("protocol", LISTS)
def test_a_language_that_the_server_does_not_know_is_one_sentence(protocol, tmp_path, serve_translations):
    server = serve_translations(protocol=protocol)
    process, translated = run_translate(tmp_path, *server.flags, "--target_lang", "tlh", env=server.env)
    assert process.returncode == 1 and translated is None
    assert re.search("(?i)tlh.*not supported", process.stderr) and sum(server.refused.values()) == 1


def test_deepl_gets_no_more_than_50_texts_and_128_kib(tmp_path, serve_translations):
    server = serve_translations(protocol="deepl")
    flags = (*server.flags, "--across_paragraphs", "--max_chars", 20_000)
    process, translated = run_translate(tmp_path, *flags, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert max(map(len, server.queries)) == 50 and not server.refused


def test_a_libretranslate_with_a_lower_limit_gets_halves(tmp_path, serve_translations):
    server = serve_translations(protocol="libretranslate", limit=5)
    process, translated = run_translate(tmp_path, *server.flags, env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert server.refused[400] and max(map(len, server.queries)) <= 5


def test_an_html_code_in_a_source_loses_its_form_at_libretranslate_and_nothing_else(tmp_path, serve_translations):
    server, document = serve_translations(protocol="libretranslate"), small_document()
    document["data"][0]["paragraphs"][1]["qas"][0]["question"] = "What does &#38; mean to R&D of the mill?"
    process, translated = run_translate(tmp_path, *server.flags, document=document, env=server.env)
    assert process.returncode == 0, process.stderr
    question = translated["data"][0]["paragraphs"][1]["qas"][0]["question_t"]
    assert question == "tahW seod & naem ot R&D fo eht llim?"
