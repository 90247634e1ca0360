"""web.py and its pace: requests, and the real script against a page that fails in every known way."""

from __future__ import annotations

import math
import re
import time
from email.utils import formatdate

import pytest
from translation_server import faults_of, reverse_words
from translations import assert_all_right, make_document, run_translate, stored_strings

from squadlib.translation.canaries import CANARIES
from squadlib.translation.engines import Blocked
from squadlib.translation.pace import Pace, StillBlockedError
from squadlib.translation.web import WebSettings, pack_requests
from squadlib.translation.web_page import retry_after
from translate_squad import strings_by_paragraph


def test_requests_keep_order_and_limits():
    groups = strings_by_paragraph(make_document(40))
    for across in (False, True):
        settings = WebSettings("en", "nl", max_chars=1000, across_paragraphs=across)
        requests = pack_requests(groups, CANARIES, settings)
        assert [string for request in requests for string in request] == [s for group in groups for s in group]
        longest = max(map(len, CANARIES))
        assert all(sum(len(s) + 1 for s in request) + longest <= 1000 for request in requests)
    assert len(pack_requests(groups, CANARIES, WebSettings("en", "nl"))) == len([group for group in groups if group])


def test_retry_after_as_seconds_and_as_date():
    assert retry_after("120") == 120
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 61
    assert retry_after(formatdate(0, usegmt=True)) == 0
    assert retry_after("soon") is None and retry_after(None) is None


def test_rate_halves_on_a_block_and_recovers_slowly():
    pace = Pace(full_rate=2.0, cool_down=30, give_up_after=7200)
    pace.block(Blocked("429"), time.monotonic())
    assert pace.rate == 1.0 and 29 < pace.delay() < 38
    for _ in range(25):
        pace.good()
    assert pace.rate == pytest.approx(1.5)
    for _ in range(100):
        pace.good()
    assert pace.rate == 2.0


def test_blocks_in_a_row_double_the_pause_and_answers_already_on_their_way_do_not_count():
    pace = Pace(full_rate=2.0, cool_down=30, give_up_after=math.inf)
    before = time.monotonic()
    for expected in (30, 60, 120, 240):
        pace.block(Blocked("429"), time.monotonic())
        pace.block(Blocked("429"), before)
        assert expected <= pace.delay() + 1 <= 1.25 * expected + 1
    assert pace.blocks == 4


def test_retry_after_decides_the_first_pause_and_a_wait_past_the_limit_ends_the_run():
    pace = Pace(full_rate=2.0, cool_down=30, give_up_after=7200)
    pace.block(Blocked("429", wait=5), time.monotonic())
    assert 4 < pace.delay() < 7
    with pytest.raises(StillBlockedError):
        pace.block(Blocked("429", wait=8000), time.monotonic())


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
    "swapped_lines": "BadText|Hiccup",  # Hiccup when one of them is the control sentence
}


def test_every_fault_of_the_stand_in_has_its_reaction():
    assert {*REACTIONS, "429_wait_1h"} == set(faults_of("page"))


@pytest.mark.parametrize(("fault", "reaction"), REACTIONS.items())
def test_a_single_fault_is_survived(fault, reaction, tmp_path, serve_translations):
    server = serve_translations()
    server.script.extend(["ok", fault])  # the control sentences, then the first paragraph
    process, translated = run_translate(tmp_path, "--timeout", 0.3, env=server.env)
    assert process.returncode == 0, process.stderr
    assert re.search(f"1 × ({reaction})", process.stderr)
    assert ("waiting" in process.stderr) == (reaction in ("Blocked", "UnknownPage"))
    assert_all_right(translated)
    repeats = [string for string, count in server.answered.items() if count > 1 and string not in CANARIES]
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
    assert all(count == 1 for string, count in server.answered.items() if string not in CANARIES)


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
    faults = [fault for fault in faults_of("page") if fault not in ("429_wait_1s", "429_wait_1h", "hang", "drip")]
    server = serve_translations(fault_rate=0.4, faults=faults, seed=3)
    process, translated = run_translate(tmp_path, "--workers", 4, document=make_document(60), env=server.env)
    assert process.returncode == 0, process.stderr
    assert server.num_faults > 20
    assert_all_right(translated)
