"""chat.py: prompts, bodies, what a model says beside a translation, and the real script against a stand-in server."""

from __future__ import annotations

import json
import re

import pytest
from conftest import run_script
from translation_server import KEY, MODEL, TranslationServer, completion, faults_of, reverse_words, string_of
from translations import all_strings, assert_all_right, make_document, run_translate, small_document, stored_strings

from squadlib.console import SquadError
from squadlib.translation.canaries import CANARIES
from squadlib.translation.chat import ChatSettings, language_name, read_prompts, read_reply
from squadlib.translation.document import Wanted, flat, sentences_of, translated_document
from squadlib.translation.engines import BadText, Hiccup

CHAT = ("--backend", "openai", "--model_name_or_path", MODEL)


@pytest.fixture
def server():
    with TranslationServer("openai", key=None) as server:
        yield server


def settings(**options):
    return ChatSettings("en", "nl", model_name_or_path=MODEL, **options)


def written(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_a_request_names_model_languages_and_text_and_asks_for_no_stream_at_temperature_0():
    body = settings().body("Who built the mill?")
    assert (body["model"], body["temperature"], body["stream"]) == (MODEL, 0, False)
    content = body["messages"][0]["content"]
    assert content.endswith("\n\nWho built the mill?") and "from English into Dutch" in content
    assert body["max_tokens"] > 3 * len("Who built the mill?")


def test_an_answer_is_asked_with_its_sentence_and_the_sentences_translation():
    string = "the mill\nHe sold the mill.\nHij verkocht de molen."
    content = settings().body(string)["messages"][0]["content"]
    assert all(text in content for text in string.split("\n"))
    assert string_of(settings().body(string)) == string


def test_braces_in_a_text_are_no_placeholders():
    assert settings().body("{sentence} {text} {")["messages"][0]["content"].endswith("\n\n{sentence} {text} {")


def test_languages_have_names_where_they_are_known():
    assert [language_name(code) for code in ("nl", "zh-TW", "xx")] == ["Dutch", "Chinese (zh-TW)", "xx"]


def test_a_prompt_file_can_hold_the_form_of_a_translation_model(tmp_path):
    item = {"type": "text", "source_lang_code": "{source_code}", "target_lang_code": "{target_code}", "text": "{text}"}
    prompts = written(tmp_path / "prompt.json", {"text": [{"role": "user", "content": [item]}]})
    asked = settings(prompt_file=prompts)
    content = {"type": "text", "source_lang_code": "en", "target_lang_code": "nl", "text": "flour"}
    assert asked.body("flour")["messages"] == [{"role": "user", "content": [content]}]
    assert not asked.answers_in_context  # it has no prompt for them
    assert settings().answers_in_context and not settings(answers_alone=True).answers_in_context


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ({"text": [{"role": "user", "content": "{txt}"}]}, r"\{txt\} is no placeholder of \"text\"; these are"),
        ({"text": [{"role": "user", "content": "{text} {sentence}"}]}, r"\{sentence\} is no placeholder"),
        ({"text": [{"role": "user", "content": "Translate!"}]}, r"\"text\" has no \{text\}"),
        ({"text": "Translate {text}"}, "should be a list of messages"),
        ({"answer": []}, "expected"),
        (["{text}"], "expected"),
    ],
)  # fmt: skip
def test_a_wrong_prompt_file_is_one_sentence(prompts, reason, tmp_path):
    with pytest.raises(SquadError, match=f"prompt.json: .*{reason}"):
        read_prompts(written(tmp_path / "prompt.json", prompts))


def test_request_fields_are_added_and_null_takes_one_away(tmp_path):
    fields = {"max_tokens": None, "max_completion_tokens": 500, "temperature": None, "seed": 1}
    body = settings(request_fields=written(tmp_path / "fields.json", fields)).body("flour")
    assert body.keys() == {"model", "messages", "stream", "max_completion_tokens", "seed"}
    with pytest.raises(SquadError, match=r"wrong.json: expected a JSON object of fields other than model"):
        settings(request_fields=written(tmp_path / "wrong.json", {"model": "other"})).body("flour")


def test_the_caches_key_changes_with_model_prompt_and_fields_and_holds_no_address(tmp_path):
    prompts = written(tmp_path / "prompt.json", {"text": [{"role": "user", "content": "Into Dutch: {text}"}]})
    fields = written(tmp_path / "fields.json", {"top_p": 0.5})
    names = [s.name for s in (settings(), settings(prompt_file=prompts), settings(request_fields=fields))]
    names.append(ChatSettings("en", "nl", model_name_or_path="other").name)
    assert len(set(names)) == 4
    assert settings(base_url="http://10.0.0.1:8000/v1", workers=64).name == settings().name


# --- what is answered ------------------------------------------------------------------------------------------------

LONG = "The mill by the canal burned down in 1712."


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("De molen.", "De molen."),
        ('  "De molen."\n', "De molen."),
        ("„De molen.“", "De molen."),
        ("`De molen.`", "De molen."),
        ("<think>It is short.\n</think>\n\nDe molen.", "De molen."),
        ("It is short.\n</think>De molen.", "De molen."),
        ('"De molen" en "de brug"', '"De molen" en "de brug"'),
    ],
)
def test_what_cannot_belong_to_a_translation_is_taken_away(content, target):
    assert read_reply(completion(content), "The mill.") == target


def test_quotation_marks_of_the_source_stay():
    assert read_reply(completion('"De molen."'), '"The mill."') == '"De molen."'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Translation: De molen brandde af in 1712.", "a label"),
        ("Vertaling: De molen brandde af in 1712.", "a label"),
        ("翻译：De molen brandde af in 1712.", "a label"),
        ("Here is the translation:\n\nDe molen brandde af in 1712.", "2 lines for one"),
        ("De molen brandde af in 1712.\n\nNote: 1712 stays.", "2 lines for one"),
        ("De molen brandde af in 1712. Note: the year stays.", "a label or note"),
        ("De molen brandde af in 1712. (The name of the canal was left out)", "a note"),
        ("I'm sorry, I cannot", "a refusal"),
        ("I’m sorry, but I can’t help with that.", "a refusal"),
        ("I cannot translate this text.", "a refusal"),
        ("As an AI language model, I do not have opinions.", "a refusal"),
        ("**De molen** brandde af in 1712.", "marked up"),
        ("```De molen brandde af in 1712.", "marked up"),
        ("<think>The user wants", "still thinking"),
    ],
)
def test_text_that_is_no_translation_is_a_fault(content, reason):
    with pytest.raises(BadText, match=reason):
        read_reply(completion(content), LONG)


@pytest.mark.parametrize(
    "source",
    ["He said: I cannot help (not today).", "I'm sorry, I cannot help you.", "The **bold** one.", "Note: it is late."],
)
def test_what_the_source_has_itself_is_no_fault(source):
    assert read_reply(completion(source), source) == source


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (completion("De molen", "length"), BadText, "cut off by the limit of tokens"),
        (completion("", "content_filter"), BadText, "content filter"),
        (completion(None, refusal="I can't."), BadText, "refused"),
        ({"choices": []}, Hiccup, "without choices"),
        ({"choices": [{"text": "De molen"}]}, Hiccup, "without choices and a message"),
        ({"error": "x"}, Hiccup, "without choices"),
        (completion([{"type": "text"}]), Hiccup, "list"),
    ],
)
def test_an_answer_without_a_whole_text_is_a_fault(answer, kind, reason):
    with pytest.raises(kind, match=reason):
        read_reply(answer, "The mill.")


def test_the_whole_sentence_for_a_part_of_it_is_a_fault():
    string = "the mill\nHe sold the mill by the canal.\nHij verkocht de molen aan het kanaal."
    with pytest.raises(BadText, match="whole sentence"):
        read_reply(completion("Hij verkocht de molen aan het kanaal."), string)
    assert read_reply(completion("de molen"), string) == "de molen"


# --- answers in their sentences --------------------------------------------------------------------------------------


def known_in(targets):
    return lambda strings: {string: targets[string] for string in strings if string in targets}


def test_the_same_answer_in_two_sentences_is_two_strings_and_each_finds_its_own_translation():
    context = "He sold the mill. She bought the mill."
    answers = [{"text": "the mill", "answer_start": 8}, {"text": "the mill", "answer_start": 29}]
    qas = [{"id": str(n), "question": f"{n}?", "answers": [a], "is_impossible": False} for n, a in enumerate(answers)]
    document = {"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
    wanted = Wanted(document, answers_in_context=True)
    assert flat(wanted.first) == ["He sold the mill.", "She bought the mill.", "0?", "1?"]
    assert wanted.second(known_in({})) == ([[]], 2)
    targets = {"He sold the mill.": "Hij verkocht de molen.", "She bought the mill.": "Zij kocht de watermolen."}
    groups, waiting = wanted.second(known_in(targets))
    first, second = flat(groups)
    assert first == "the mill\nHe sold the mill.\nHij verkocht de molen." and waiting == 0
    targets |= {first: "de molen", second: "de watermolen"}
    (article,) = translated_document(document, known_in(targets), {}, answers_in_context=True)["data"]
    found = [qa["answers"][0]["iso_t"] for qa in article["paragraphs"][0]["qas"]]
    assert found == ["de molen", "de watermolen"]


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("One cat.", 0, ["One cat."]),  # a whole sentence has its translation already
        ("cat", -1, ["cat"]),  # published translations: not found
        ("cat", 5, ["cat"]),  # not at its place
        (" cat", 3, ["cat\nOne cat.\nEen kat."]),
        ("cat. Two", 4, ["cat. Two\nOne cat. Two dogs.\nEen kat. Twee honden."]),
    ],
)
def test_an_answer_stands_for_itself_or_in_all_its_sentences(text, start, expected):
    from squadlib.translation.document import answer_strings

    context = "One cat. Two dogs."
    targets = {"One cat.": "Een kat.", "Two dogs.": "Twee honden."}
    answer = {"text": text, "answer_start": start}
    assert answer_strings(answer, context, sentences_of(context), targets) == expected


# --- the script ------------------------------------------------------------------------------------------------------


def test_a_file_is_translated_sentence_by_sentence_then_answers_in_their_sentences(tmp_path, server):
    process, translated = run_translate(tmp_path, *CHAT, env=server.env)
    assert process.returncode == 0, process.stderr
    assert assert_all_right(translated) == 13
    assert translated["translation"]["backend"] == settings().name
    asked = list(server.asked)
    first_answer = next(number for number, string in enumerate(asked) if "\n" in string)
    assert not [string for string in asked[first_answer:] if "\n" not in string and string not in CANARIES]
    assert "flour\nIts owner, Mrs. de Boer, sells flour and old books to visitors." in "".join(asked)
    assert all(count == 1 for string, count in server.answered.items() if string not in CANARIES)
    asked = len(server.asked)
    assert run_translate(tmp_path, *CHAT, env=server.env)[1] == translated
    assert len(server.asked) == asked


def test_answers_alone_are_asked_as_everything_else_and_share_the_sentences_of_the_cache(tmp_path, server):
    run_translate(tmp_path, *CHAT, env=server.env)
    server.queries.clear()
    process, translated = run_translate(tmp_path, *CHAT, "--answers_alone", env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert {string for string in server.asked if string not in CANARIES} == {
        "Mr. J. Visser", "J. Visser", "1712", "flour"
    }  # fmt: skip


@pytest.mark.parametrize("fault", ["400", "422", "empty", "cut", "refusal", "label", "note", "echo", "no_json"])
def test_a_text_that_always_fails_costs_only_itself_and_its_answers(fault, tmp_path, server):
    server.poison["burned down twice"] = fault
    process, translated = run_translate(tmp_path, *CHAT, env=server.env)
    assert process.returncode == 0, process.stderr
    assert '"It burned down twice!": ' in process.stderr
    first, second = translated["data"][0]["paragraphs"]
    assert first["context_t"] is None and first["sentences"][1][2:] == [None, None]
    assert first["qas"][0]["answers"][0]["iso_t"] == reverse_words("Mr. J. Visser")
    assert second["context_t"] == reverse_words(second["context"])
    server.poison.clear()
    process, translated = run_translate(tmp_path, *CHAT, env=server.env)
    assert_all_right(translated)


def test_no_string_is_wrong_under_many_faults_with_many_workers(tmp_path):
    faults = set(faults_of("openai")) - {"429_wait_1s", "429_wait_1h", "hang", "drip", "quota", "nonsense"}
    with TranslationServer("openai", key=None, fault_rate=0.3, faults=sorted(faults), seed=2) as server:
        process, translated = run_translate(
            tmp_path, *CHAT, "--workers", 16, document=make_document(40), env=server.env
        )
    assert process.returncode == 0, process.stderr
    assert server.num_faults > 100
    assert_all_right(translated)


def test_a_server_that_fails_every_text_is_never_believed(tmp_path, server):
    server.script.extend(["ok"] * 20)
    server.faults, server.fault_rate = ["label"], 1.0
    process, translated = run_translate(tmp_path, *CHAT, document=make_document(30), env=server.env)
    assert process.returncode == 1 and translated is None
    assert "a control sentence" in process.stderr and "is not translated (a label or note" in process.stderr
    assert stored_strings(tmp_path / "nl.json.cache.sqlite") <= {*server.answered}
    assert "the same command goes on from there" in process.stderr


def test_threads_and_connections_live_on(tmp_path, server):
    process, _ = run_translate(tmp_path, *CHAT, "--workers", 4, document=make_document(30), env=server.env)
    assert process.returncode == 0, process.stderr
    assert len(server.asked) > 300
    assert server.num_connections <= 2 * (4 + 1)  # two rounds; the workers and the main thread, for control sentences


def test_a_refused_key_is_one_sentence_and_shown_nowhere(tmp_path):
    wrong = "sk-wrong-and-secret"
    with TranslationServer("openai") as server:
        process, translated = run_translate(tmp_path, *CHAT, env={**server.env, "OPENAI_API_KEY": wrong})
        assert process.returncode == 1 and translated is None
        assert "the key was refused; set OPENAI_API_KEY" in process.stderr and wrong not in process.stderr
        process, translated = run_translate(tmp_path, *CHAT, env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert KEY not in process.stderr and not [raw for raw in files if KEY.encode() in raw]


def test_a_wrong_model_is_one_sentence_at_once(tmp_path, server):
    process, _ = run_translate(tmp_path, "--backend", "openai", "--model_name_or_path", "absent", env=server.env)
    assert process.returncode == 1 and "The model `absent` does not exist" in process.stderr
    assert "correct --base_url or the model's name" in process.stderr


@pytest.mark.parametrize(
    ("args", "env", "reason"),
    [
        ([], {}, "needs --base_url or OPENAI_BASE_URL"),
        ([], {"OPENAI_BASE_URL": "http://u:secret@h/v1"}, "OPENAI_BASE_URL holds a user or password"),
        ([], {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": "secret\nX-Other: 1"}, "OPENAI_API_KEY holds"),
        (["--prompt_file", "absent.json"], {"OPENAI_BASE_URL": "http://h/v1"}, "absent.json: cannot be read"),
    ],
)
def test_bad_settings_are_one_sentence(args, env, reason, tmp_path):
    process, _ = run_translate(tmp_path, *CHAT, *args, env={"OPENAI_BASE_URL": "", "OPENAI_API_KEY": "", **env})
    assert process.returncode == 1 and reason in process.stderr
    assert "Traceback" not in process.stderr and "secret" not in process.stderr


def test_bad_flags_exit_2_all_at_once(tmp_path):
    args = ["--input_file", "x.json", "--output_file", tmp_path / "y.json", "--prompt_file", "p.json"]
    args += ["--base_url", "localhost:8000"]
    process = run_script("translate_squad.py", *args)
    assert process.returncode == 2
    assert "--prompt_file is for --backend openai, not mtranslate" in process.stderr
    assert "--base_url is no address like http://127.0.0.1:8000/v1" in process.stderr
    process = run_script("translate_squad.py", *args[:4], "--backend", "openai")
    assert process.returncode == 2 and "--backend openai needs --model_name_or_path" in process.stderr


def test_a_dry_run_counts_requests_tokens_time_and_cost(tmp_path):
    (tmp_path / "source.json").write_text(json.dumps(small_document()))
    args = ["--input_file", tmp_path / "source.json", "--dry_run", *CHAT, "--price_per_million", 1000, 2000]
    plan = run_script("translate_squad.py", *args).stdout
    read, write = (int(found.replace(",", "")) for found in re.findall(r"about ([\d,]+) tokens", plan))
    assert "requests     13 " in plan and write == sum(map(len, all_strings())) // 4 < read
    assert "0.8 s with 16 workers, if a request takes 1 second" in plan
    assert f"about {(1000 * read + 2000 * write) / 1e6:.2f} at 1000 a million tokens to read" in plan
