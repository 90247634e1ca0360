"""Answer texts cut out of the original words."""

from __future__ import annotations

from tiny_models import texts_of, tiny_tokenizer

from squadlib.model.answer_text import AnswerText


def test_answers_of_uncased_models_keep_case_and_accents(examples):
    tokenizer = tiny_tokenizer("albert", texts_of(examples))
    text = AnswerText(tokenizer, True)
    assert text._find("christian muller", "(Christian Müller,") == "Christian Müller"
    assert text._find("cafe", "Cafe\u0301.") == "Cafe\u0301"
    assert text._find("de", "De de") == "de"
    assert text._find("not there", "whole words") == "whole words"
