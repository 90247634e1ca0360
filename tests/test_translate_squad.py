"""translate_squad.py: sentences, checks, cache, and the real script against a page that fails in every known way."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from email.utils import formatdate

import pytest
from conftest import ROOT, run_script
from translation_server import ALL_FAULTS, reverse_words

import translate_squad as ts
from utils_squad import SquadError

sys.path.insert(0, str(ROOT / "benchmarks"))
from translate_kill_loop import count_wrong, is_good, kill_loop, make_document, stored_strings

FAST = ("--rate", 500, "--cool_down", 0.02)


def small_document():
    """Two paragraphs, a line break, a repeated answer, an unanswerable question, a plausible answer."""
    first = "Mr. J. Visser built the mill in 1712.  It burned down twice!\nNobody knows who paid for it."
    second = "The mill is on the canal. Its owner, Mrs. de Boer, sells flour and old books to visitors."
    return {
        "version": "v2.0",
        "data": [
            {
                "title": "The mill",
                "paragraphs": [
                    {
                        "context": first,
                        "qas": [
                            question("a", "Who built the mill?", first, "Mr. J. Visser", "J. Visser"),
                            question("b", "When was the mill built?", first, "1712"),
                            {
                                **question("c", "Who rebuilt the mill?", first),
                                "plausible_answers": [{"text": "Nobody", "answer_start": first.index("Nobody")}],
                            },
                        ],
                    },
                    {"context": second, "qas": [question("d", "What does Mrs. de Boer sell?", second, "flour")]},
                ],
            }
        ],
    }


def question(qid, text, context, *answers):
    found = [{"text": answer, "answer_start": context.index(answer)} for answer in answers]
    return {"id": qid, "question": text, "answers": found, "is_impossible": not answers}


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def run_translate(tmp_path, *args, document=None, env=None):
    """Run the script on a document in tmp_path; returns (process, parsed output or None)."""
    source, output = tmp_path / "source.json", tmp_path / "nl.json"
    write(source, document or small_document())
    process = run_script(
        "translate_squad.py", "--input_file", source, "--output_file", output, *FAST, *args, env=env, timeout=120
    )
    return process, json.loads(output.read_text("utf-8")) if output.exists() else None


def assert_all_right(translated):
    checked, wrong, missing = count_wrong(translated)
    assert (wrong, missing) == (0, 0)
    return checked


# --- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        (
            "Mr. J. R. Smith of the U.S. Navy left. He sold No. 5.",
            ["Mr. J. R. Smith of the U.S. Navy left.", "He sold No. 5."],
        ),
        ('"It was cold!" he said. "Yes." The end', ['"It was cold!" he said.', '"Yes."', "The end"]),
        (
            "He won 3.5 points in 1990. Then (see p. 4) he lost.",
            ["He won 3.5 points in 1990.", "Then (see p. 4) he lost."],
        ),
        ("Am 31. Oktober kam er. Dann ging er.", ["Am 31. Oktober kam er.", "Dann ging er."]),
        ("巴黎很大。它是首都！好", ["巴黎很大。", "它是首都！", "好"]),
        ("Title\n\n  One. Two\r\nThree\u2028Four", ["Title", "One.", "Two", "Three", "Four"]),
        ("Trinity-St. Paul's and e.g. Rome vs. Carthage.", ["Trinity-St. Paul's and e.g. Rome vs. Carthage."]),
        ("", []),
        (" \n\t ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_by_hand(text, sentences):
    assert [text[start:end] for start, end in ts.split_sentences(text)] == sentences


def test_sentences_cover_everything_but_white_space():
    rng = random.Random(7)
    for _ in range(2000):
        text = "".join(rng.choice("aB .!?\n\"')é。؟😀\u00a0,;") for _ in range(rng.randrange(60)))
        last = 0
        for start, end in ts.split_sentences(text):
            sentence = text[start:end]
            assert start < end and sentence == sentence.strip() and "\n" not in sentence
            assert not text[last:start].strip()
            last = end
        assert not text[last:].strip()


def test_a_text_without_full_stops_is_cut_within_the_limits():
    for text in ("word, " * 3000, "x" * 5000, "😀" * 5000):
        pieces = [text[start:end] for start, end in ts.split_sentences(text)]
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
        for request in ts.pack_requests([pieces], ts.CANARIES, 4500):
            assert max(map(len, request)) <= ts.MAX_SENTENCE_CHARS
            assert sum(map(ts.encoded_size, [*request, max(ts.CANARIES, key=len)])) <= ts.MAX_URL_BYTES


def test_sentences_agree_with_another_splitter_on_real_text(shared_data):
    document = json.loads((shared_data / "mt_en_es_tune.json").read_text("utf-8"))
    ours, theirs = set(), set()
    for number, paragraph in enumerate(p for article in document["data"] for p in article["paragraphs"]):
        if paragraph["sentences"]:
            ours |= {(number, *span) for span in ts.split_sentences(paragraph["context"])}
            theirs |= {(number, *span[:2]) for span in paragraph["sentences"]}
    assert len(ours & theirs) >= 0.99 * len(theirs)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_each_string_is_planned_once_and_plausible_answers_never():
    strings = all_strings()
    assert len(strings) == len(set(strings)) == 13
    assert "It burned down twice!" in strings and "Mr. J. Visser" in strings
    assert "Nobody" not in strings


def test_requests_keep_order_and_limits():
    groups = ts.strings_by_paragraph(make_document(40))
    for across in (False, True):
        requests = ts.pack_requests(groups, ts.CANARIES, 1000, across_paragraphs=across)
        assert [string for request in requests for string in request] == [s for group in groups for s in group]
        longest = max(map(len, ts.CANARIES))
        assert all(sum(len(s) + 1 for s in request) + longest <= 1000 for request in requests)
    assert len(ts.pack_requests(groups, ts.CANARIES, 4500)) == len([group for group in groups if group])


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


# --- what is written -------------------------------------------------------------------------------------------------


def test_sentence_map_is_exact_with_the_sources_own_white_space():
    context = "  One cat.\n\nTwo dogs.  Three\tbirds.\n"
    targets = {"One cat.": "Een kat.", "Two dogs.": "Twee honden.", "Three birds.": "Drie vogels."}
    context_t, sentences = ts.translate_context(context, targets)
    assert context_t == "  Een kat.\n\nTwee honden.  Drie vogels.\n"
    assert [context_t[ts_:te] for _, _, ts_, te in sentences] == list(targets.values())
    assert [context[s:e] for s, e, _, _ in sentences] == ["One cat.", "Two dogs.", "Three\tbirds."]


def test_sentences_without_space_between_them_get_one_in_the_translation():
    context_t, sentences = ts.translate_context(
        "巴黎很大。它老。", {"巴黎很大。": "Parijs is groot.", "它老。": "Het is oud."}
    )
    assert context_t == "Parijs is groot. Het is oud."
    assert sentences == [[0, 5, 0, 16], [5, 8, 17, 28]]


def test_missing_is_null_never_empty():
    context_t, sentences = ts.translate_context("One. Two.", {"One.": "Een."})
    assert context_t is None and sentences == [[0, 4, None, None], [5, 9, None, None]]
    assert ts.translate_text("What?", {}) is None
    assert ts.translate_text(" ", {}) is None
    assert ts.translate_context("", {}) == (None, [])


def test_a_long_question_goes_by_sentences_and_comes_back_whole():
    text = "Why is it so, and who said it? " * 40
    strings = ts.strings_of(text)
    assert strings == ["Why is it so, and who said it?"] * 40
    assert ts.translate_text(text, {strings[0]: "Waarom?"}) == " ".join(["Waarom?"] * 40)


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


def test_squad_v1_file_of_another_language(tmp_path, serve_translations, shared_data):
    server = serve_translations()
    output = tmp_path / "out.json"
    args = ["--input_file", shared_data / "xquad.de.json", "--output_file", output, "--source_lang", "de", *FAST]
    process = run_script("translate_squad.py", *args, "--target_lang", "fr", env=server.env)
    assert process.returncode == 0, process.stderr
    assert assert_all_right(json.loads(output.read_text("utf-8"))) > 3500
    assert len(server.queries) < 250


# --- is it a translation? --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("The mill burned down in 1712.", "De molen brandde af in 1712.", None),
        ("Beyoncé", "Beyoncé", None),
        ("Super Bowl 50", "Super Bowl 50", None),
        ("1,200", "1.200", None),
        ("Paris is the capital of France.", "巴黎是法国的首都。", None),
        ("HTTP replies with Error 500 (Server Error) then.", "HTTP antwoordt met Error 500 (Server Error).", None),
        ("The mill burned down.", "  ", "empty"),
        ("The mill burned down.", "Error 500 (Server Error)!!1500.That’s an error.", "error page"),
        ("The mill burned down in the same year as the church.", "De molen.", "characters for"),
        ("flour", "meel " * 30, "characters for"),
        ("The mill burned down in 1712.", "The mill burned down in 1712.", "source language"),
        ("who paid for the mill", "who paid for the mill wie de molen betaalde", "source language"),
        ("The mill that he had built was then sold.", "De mill that he had built was then sold.", "source language"),
        ("巴黎是法国的首都。", "巴黎是法国的首都。", "source language"),
        ("The mill burned down in 1712.", "De molen brandde af", "cut off"),
    ],
)  # fmt: skip
def test_translations_are_checked(source, target, reason):
    fault = ts.translation_fault(source, target, "nl", may_be_cut=True)
    assert fault is None if reason is None else reason in fault


def test_a_dropped_full_stop_is_a_fault_only_where_texts_can_be_cut():
    assert ts.translation_fault("The mill burned down in 1712.", "De molen brandde af", "nl") is None
    assert ts.translation_fault("The mill burned down in 1712.", "โรงสีถูกไฟไหม้ในปี 1712", "th", may_be_cut=True) is None


def test_real_translations_pass_the_checks(shared_data):
    """Sentence by sentence, a real system's output; it leaves many words as they are, so a few may fail."""
    document = json.loads((shared_data / "mt_en_es_tune.json").read_text("utf-8"))
    pairs = []
    for paragraph in (p for article in document["data"] for p in article["paragraphs"]):
        for start, end, start_t, end_t in paragraph["sentences"] or []:
            pairs.append((paragraph["context"][start:end], paragraph["context_t"][start_t:end_t]))
        for qa in paragraph["qas"]:
            pairs.append((qa["question"], qa["question_t"]))
            pairs += [(answer["text"], answer["iso_t"]) for answer in qa["answers"] if answer["iso_t"]]
    faults = [(s, t, f) for s, t in pairs if (f := ts.translation_fault(s.strip(), t.strip(), "es", may_be_cut=True))]
    assert len(pairs) > 3000
    assert len(faults) < 0.005 * len(pairs), faults[:20]


def test_canary_faults():
    canary, good = "The bridge was built in 1893.", "De brug is in 1893 gebouwd."
    assert ts.canary_fault(canary, good, None, "nl") is None
    assert ts.canary_fault(canary, "De brug werd in 1893 gebouwd.", good, "nl") is None
    assert ts.canary_fault(canary, "جسر بني عام ١٨٩٣.", None, "ar") is None
    assert "year" in ts.canary_fault(canary, "De brug is gebouwd.", None, "nl")
    assert "before" in ts.canary_fault(canary, "Ut enim ad minim veniam 1893.", good, "nl")


def test_retry_after_as_seconds_and_as_date():
    assert ts.retry_after("120") == 120
    assert 50 < ts.retry_after(formatdate(time.time() + 60, usegmt=True)) <= 61
    assert ts.retry_after(formatdate(0, usegmt=True)) == 0
    assert ts.retry_after("soon") is None and ts.retry_after(None) is None


# --- pace ------------------------------------------------------------------------------------------------------------


def test_rate_halves_on_a_block_and_recovers_slowly():
    pace = ts.Pace(full_rate=2.0, cool_down=30, give_up_after=7200)
    pace.block(ts.Blocked("429"), time.monotonic())
    assert pace.rate == 1.0 and 29 < pace.delay() < 38
    for _ in range(25):
        pace.good()
    assert pace.rate == pytest.approx(1.5)
    for _ in range(100):
        pace.good()
    assert pace.rate == 2.0


def test_blocks_in_a_row_double_the_pause_and_answers_already_on_their_way_do_not_count():
    pace = ts.Pace(full_rate=2.0, cool_down=30, give_up_after=math.inf)
    before = time.monotonic()
    for expected in (30, 60, 120, 240):
        pace.block(ts.Blocked("429"), time.monotonic())
        pace.block(ts.Blocked("429"), before)
        assert expected <= pace.delay() + 1 <= 1.25 * expected + 1
    assert pace.blocks == 4


def test_retry_after_decides_the_first_pause_and_a_wait_past_the_limit_ends_the_run():
    pace = ts.Pace(full_rate=2.0, cool_down=30, give_up_after=7200)
    pace.block(ts.Blocked("429", wait=5), time.monotonic())
    assert 4 < pace.delay() < 7
    with pytest.raises(ts.StillBlockedError):
        pace.block(ts.Blocked("429", wait=8000), time.monotonic())


# --- the cache -------------------------------------------------------------------------------------------------------


def test_cache_never_mixes_backends_or_languages(tmp_path):
    path = str(tmp_path / "cache.sqlite")
    first = ts.Cache(path, "mtranslate", "en", "nl")
    first.put({"cat": "kat"})
    for key in (("hf x", "en", "nl"), ("mtranslate", "en", "de"), ("mtranslate", "de", "nl")):
        assert ts.Cache(path, *key).get(["cat"]) == {}
    second = ts.Cache(path, "mtranslate", "en", "nl")
    second.put({"cat": "poes", "dog": "hond"})
    assert first.get(["cat", "dog", "cow"]) == {"cat": "kat", "dog": "hond"}
    first.forget(["cat"])
    assert second.get(["cat"]) == {}


def test_cache_refuses_an_empty_translation_and_another_programs_file(tmp_path):
    cache = ts.Cache(str(tmp_path / "cache.sqlite"), "mtranslate", "en", "nl")
    with pytest.raises(sqlite3.IntegrityError):
        cache.put({"cat": None})
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE bookmarks (address TEXT)")
    with pytest.raises(SquadError, match="not a translation cache"):
        ts.Cache(str(other), "mtranslate", "en", "nl")


def test_a_damaged_cache_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "nl.json.cache.sqlite").write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    process, translated = run_translate(tmp_path)
    assert process.returncode == 1 and translated is None
    assert "nl.json.cache.sqlite" in process.stderr and "Traceback" not in process.stderr


def test_a_full_disk_under_the_cache_is_one_sentence(tmp_path, serve_translations):
    server = serve_translations()
    process, translated = run_translate_limited(tmp_path, server.env, max_bytes=60_000)
    assert process.returncode == 1 and translated is None
    assert "nl.json.cache.sqlite" in process.stderr and "Traceback" not in process.stderr
    process, translated = run_translate(tmp_path, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


def run_translate_limited(tmp_path, env, max_bytes):
    """The script where no file can grow beyond max_bytes."""
    source, output = write(tmp_path / "source.json", make_document(60)), tmp_path / "nl.json"
    command = [
        sys.executable,
        str(ROOT / "translate_squad.py"),
        "--input_file",
        str(source),
        "--output_file",
        str(output),
    ]
    process = subprocess.run(
        [*command, *map(str, FAST)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes)),
    )
    return process, output.exists() or None


# --- the fault table, through the real package -----------------------------------------------------------------------

REACTIONS = {  # what the page does -> what the run calls it
    "429": "Blocked",
    "429_wait_1s": "Blocked",
    "503": "Blocked",
    "sorry": "Blocked",
    "captcha": "UnknownPage",
    "empty": "UnknownPage",
    "500": "Hiccup",
    "error_text": "Hiccup",
    "error_line": "Hiccup",
    "hang": "Hiccup",
    "drip": "Hiccup",
    "reset": "Hiccup",
    "short_body": "Hiccup",
    "bad_utf8": "Hiccup",
    "echo": "Hiccup",
    "with_source": "Hiccup",
    "nonsense": "Hiccup",
    "babble": "Hiccup",
    "400": "BadText",
    "br": "BadText",
    "merged_lines": "BadText",
    "extra_line": "BadText",
    "tag_inside": "BadText|Hiccup",  # by the line in which it comes
}


def test_every_fault_of_the_stand_in_has_its_reaction():
    assert {*REACTIONS, "429_wait_1h"} == set(ALL_FAULTS)


@pytest.mark.parametrize(("fault", "reaction"), REACTIONS.items())
def test_a_single_fault_is_survived(fault, reaction, tmp_path, serve_translations):
    server = serve_translations()
    server.script.extend(["ok", fault])  # the control sentences, then the first paragraph
    process, translated = run_translate(tmp_path, "--timeout", 0.3, env=server.env)
    assert process.returncode == 0, process.stderr
    assert re.search(f"1 × ({reaction})", process.stderr)
    assert ("waiting" in process.stderr) == (reaction in ("Blocked", "UnknownPage"))
    assert_all_right(translated)
    repeats = [string for string, count in server.answered.items() if count > 1 and string not in ts.CANARIES]
    assert not repeats


@pytest.mark.parametrize("fault", ["400", "echo", "empty", "error_text", "reset", "tag_inside"])
def test_a_text_that_always_fails_costs_only_itself(fault, tmp_path, serve_translations):
    server = serve_translations()
    server.poison["twice"] = fault
    process, translated = run_translate(tmp_path, env=server.env)
    assert process.returncode == 0, process.stderr
    assert "1 of 13 strings have no valid translation" in process.stderr and "13" in process.stdout
    first, second = translated["data"][0]["paragraphs"]
    assert first["context_t"] is None and first["sentences"][1][2:] == [None, None]
    assert first["qas"][0]["question_t"] == reverse_words("Who built the mill?")
    assert second["context_t"] == reverse_words(second["context"])
    server.poison.clear()
    asked = len(server.queries)
    process, translated = run_translate(tmp_path, env=server.env)
    assert_all_right(translated)
    assert len(server.queries) == asked + 2  # the control sentences and the missing one


@pytest.mark.parametrize("fault", ["br", "merged_lines"])
def test_a_text_that_fails_only_in_company_is_translated_alone(fault, tmp_path, serve_translations):
    server = serve_translations()
    server.poison["twice"] = fault
    process, translated = run_translate(tmp_path, env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)


@pytest.mark.parametrize("fault", ["429", "429_wait_1h", "captcha", "reset", "error_text", "nonsense", "echo"])
def test_a_server_that_stays_bad_ends_the_run_with_75_and_nothing_is_lost(fault, tmp_path, serve_translations):
    server = serve_translations()
    document = make_document(12)
    server.script.extend(["ok"] * 6)
    server.always = None
    server.faults, server.fault_rate = [fault], 1.0
    (tmp_path / "nl.json").write_text('"old"')
    process, translated = run_translate(tmp_path, "--give_up_after", 1, document=document, env=server.env)
    assert process.returncode == 75, process.stderr
    assert translated == "old" and "the same command goes on from there" in process.stderr
    stored = stored_strings(tmp_path / "nl.json.cache.sqlite")
    assert set(server.answered) == stored  # five paragraphs and the control sentences
    assert len(server.queries) < 60
    server.fault_rate = 0.0
    process, translated = run_translate(tmp_path, document=document, env=server.env)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert all(count == 1 for string, count in server.answered.items() if string not in ts.CANARIES)


def test_a_server_that_answers_nonsense_from_the_start_is_never_believed(tmp_path, serve_translations):
    server = serve_translations(fault_rate=1.0, faults=["nonsense"])
    process, _ = run_translate(tmp_path, "--give_up_after", 0.2, env=server.env)
    assert process.returncode == 75 and "nonsense" in process.stderr
    assert stored_strings(tmp_path / "nl.json.cache.sqlite") == set()


def test_a_server_that_drops_line_breaks_gets_one_string_a_request(tmp_path, serve_translations):
    server = serve_translations(keeps_lines=False)
    process, translated = run_translate(tmp_path, env=server.env)
    assert process.returncode == 0, process.stderr
    assert "does not keep line breaks" in process.stderr
    assert_all_right(translated)
    assert len(server.queries) == 3 + 3 + 13 + 3  # control sentences thrice together, one by one; strings; control


def test_doubtful_answers_of_a_server_without_line_breaks_are_forgotten_and_asked_again(tmp_path, serve_translations):
    server = serve_translations(keeps_lines=False)
    server.script.extend(["ok"] * 10 + ["nonsense"] * 50)
    document = make_document(10)
    process, translated = run_translate(tmp_path, document=document, env=server.env)
    assert process.returncode == 0, process.stderr
    assert "nonsense" in process.stderr
    assert_all_right(translated)


def test_no_string_is_wrong_under_many_faults_with_several_workers(tmp_path, serve_translations):
    faults = [fault for fault in ALL_FAULTS if fault not in ("429_wait_1s", "429_wait_1h", "hang", "drip")]
    server = serve_translations(fault_rate=0.4, faults=faults, seed=3)
    process, translated = run_translate(tmp_path, "--workers", 4, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert server.num_faults > 20
    assert_all_right(translated)


# --- stopping and going on -------------------------------------------------------------------------------------------


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
    assert all(count == 1 for string, count in server.answered.items() if string not in ts.CANARIES)


def test_two_processes_share_a_cache(tmp_path, serve_translations):
    server = serve_translations(latency=0.02)
    source, cache = write(tmp_path / "source.json", make_document(80)), tmp_path / "cache.sqlite"
    command = [
        sys.executable,
        str(ROOT / "translate_squad.py"),
        "--input_file",
        str(source),
        "--cache_file",
        str(cache),
    ]
    processes = [
        subprocess.Popen(
            [*command, "--output_file", str(tmp_path / f"nl{number}.json"), *map(str, FAST)],
            env={**os.environ, **server.env},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    first, second = ((tmp_path / f"nl{number}.json").read_text("utf-8") for number in range(2))
    assert first == second
    assert_all_right(json.loads(first))
    assert len(server.queries) < 1.3 * 80


def test_a_finished_cache_needs_no_server(tmp_path, serve_translations):
    server = serve_translations()
    _, first = run_translate(tmp_path, env=server.env)
    (tmp_path / "nl.json").unlink()
    process, second = run_translate(tmp_path, env={"http_proxy": "http://127.0.0.1:9", "no_proxy": ""})
    assert process.returncode == 0 and first == second


# --- the memory ------------------------------------------------------------------------------------------------------


def write_memory(tmp_path, strings):
    path = tmp_path / "memory.jsonl"
    lines = (json.dumps({"source": s, "target": reverse_words(s)}) for s in strings)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_memory_translates_everything_without_a_cache_file(tmp_path):
    strings = all_strings()
    memory = write_memory(tmp_path, strings)
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert translated["translation"]["backend"] == "memory"
    assert not list(tmp_path.glob("*.sqlite*"))


def test_memory_lists_what_it_lacks_and_nothing_is_written(tmp_path):
    memory = write_memory(tmp_path, ["Who built the mill?"])
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 1 and translated is None
    assert "no translation of 12 of 13 strings" in process.stderr
    assert '{"source": "It burned down twice!"}' in process.stderr and "and 2 more" in process.stderr


@pytest.mark.parametrize("line", ['{"source": "a"}', "[1]", '{"source": "a", "target": ""}', '{"source": "a", "tar'])
def test_a_bad_line_of_a_memory_is_named(line, tmp_path):
    path = tmp_path / "memory.jsonl"
    path.write_text('{"source": "b", "target": "c"}\n' + line)
    with pytest.raises(SquadError, match="line 2"):
        ts.MemoryBackend(str(path))


# --- the command -----------------------------------------------------------------------------------------------------


def test_help_is_quick_and_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'numpy', 'mtranslate', 'tqdm'}"
    code = f"import sys, translate_squad; print(sorted({heavy} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.stdout.strip() == "[]"
    process = run_script("translate_squad.py", "--help")
    assert process.returncode == 0 and "Exit codes" in process.stdout


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


# --- local models ----------------------------------------------------------------------------------------------------


def all_strings():
    return [string for group in ts.strings_by_paragraph(small_document()) for string in group]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A BART with a word-level vocabulary that has learned to spell the words of small_document() backwards."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast, set_seed

    words = sorted({word for s in all_strings() for text in (s, reverse_words(s)) for word in text.split()})
    vocab = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    sizes = {"encoder_layers": 1, "encoder_ffn_dim": 64, "encoder_attention_heads": 2}
    sizes |= {name.replace("encoder", "decoder"): size for name, size in sizes.items()}
    set_seed(0)
    config = BartConfig(
        vocab_size=len(vocab), d_model=32, max_position_embeddings=40, decoder_start_token_id=2, dropout=0.0, **sizes
    )
    model = BartForConditionalGeneration(config)
    batch = tokenizer(all_strings(), padding=True, return_tensors="pt")
    labels = tokenizer([reverse_words(s) for s in all_strings()], padding=True, return_tensors="pt").input_ids
    labels[labels == 1] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    folder = tmp_path_factory.mktemp("bart")
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tiny_backend(tiny_model):
    return ts.HfBackend(tiny_model, "en", "nl", num_beams=2, dtype="float32", device="cpu")


def test_a_local_model_translates_in_any_batch_and_order(tiny_backend):
    right = [reverse_words(string) for string in all_strings()]
    assert len({len(text.split()) for text in right}) > 3
    assert tiny_backend.translate(all_strings()) == right
    assert tiny_backend.translate(all_strings()[::-1]) == right[::-1]
    assert [tiny_backend.translate([string])[0] for string in all_strings()] == right


def test_a_string_that_is_too_long_for_the_model_is_missing_and_the_rest_is_not(tiny_backend):
    targets = tiny_backend.translate(["Who built the mill?", "mill " * 100, "flour"])
    assert targets[1] == "" and targets[0] and targets[2]


class Dictionary:
    """A local engine that runs out of memory on more than four strings and cannot translate "flour"."""

    def __init__(self):
        self.batches = []

    def translate(self, strings):
        if len(strings) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        self.batches.append(strings)
        return ["" if string == "flour" else reverse_words(string) for string in strings]


def test_local_batches_are_sorted_by_length_halved_when_memory_runs_out_and_stored():
    strings = all_strings()
    cache = ts.Cache(":memory:", "hf x", "en", "nl")
    cache.put({strings[0]: "known"})
    engine = Dictionary()
    missing = ts.translate_locally(engine, cache, strings, batch_size=5)
    assert missing == {"flour": "empty"}
    stored = cache.get(strings)
    assert stored == {s: reverse_words(s) for s in strings if s != "flour"} | {strings[0]: "known"}
    asked = [string for batch in engine.batches for string in batch]
    assert sorted(asked) == sorted(strings[1:])
    spans = sorted((min(map(len, batch)), max(map(len, batch))) for batch in engine.batches)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))


def test_hf_through_the_command_and_the_cache_of_another_beam_size(tiny_model, tmp_path):
    args = ["--backend", "hf", "--model_name_or_path", tiny_model, "--no_cuda", "--batch_size", 4]
    process, translated = run_translate(tmp_path, *args, "--num_beams", 1)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    dry = run_script("translate_squad.py", "--input_file", tmp_path / "source.json", "--dry_run", *args,
                     "--cache_file", tmp_path / "nl.json.cache.sqlite", "--num_beams", 2)  # fmt: skip
    assert "13 different ones, 0 of them in the cache" in dry.stdout


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    process, _ = run_translate(tmp_path, "--backend", "hf", "--model_name_or_path", tmp_path / "empty")
    assert process.returncode == 1 and "no translation model that can be loaded" in process.stderr
    assert "Traceback" not in process.stderr
