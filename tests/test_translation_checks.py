"""checks.py: what is a translation and what cannot be one."""

from __future__ import annotations

import json

import pytest

from squadlib.translation.checks import translation_fault


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
    fault = translation_fault(source, target, "nl", may_be_cut=True)
    assert fault is None if reason is None else reason in fault


def test_a_dropped_full_stop_is_a_fault_only_where_texts_can_be_cut():
    assert translation_fault("The mill burned down in 1712.", "De molen brandde af", "nl") is None
    assert translation_fault("The mill burned down in 1712.", "โรงสีถูกไฟไหม้ในปี 1712", "th", may_be_cut=True) is None


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
    faults = [(s, t, f) for s, t in pairs if (f := translation_fault(s.strip(), t.strip(), "es", may_be_cut=True))]
    assert len(pairs) > 3000
    assert len(faults) < 0.005 * len(pairs), faults[:20]
