"""Training labels: the pieces that an answer stands for, in every family of models."""

from __future__ import annotations

import numpy as np
import pytest
from golden_data import get_tokenizer, golden_examples
from tiny_models import WINDOW_SIZES, load, texts_of, tiny_tokenizer

from squadlib.data import Answer, Example, load_squad, read_examples
from squadlib.model.answer_text import AnswerText, lower_cases
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.model.windows import make_windows


def label_texts(windows, tokenizer):
    """Per question with a labelled window: the text that its label stands for."""
    cut, found = AnswerText(tokenizer, lower_cases(tokenizer)), {}
    for window in range(len(windows)):
        if windows.start_position[window] == windows.template.cls_index:
            continue
        example, offset = windows.example_index[window], windows.start[window] - windows.context_offset(window)
        first, last = windows.start_position[window] + offset, windows.end_position[window] + offset
        found[windows.examples[example].qid] = cut.cut(cut.context(windows, example), first, last)
    return found


def answer_texts(examples):
    return {e.qid: " ".join(e.answers[0].text.split()) for e in examples if e.answers}


def test_labels_are_the_answers_in_every_family(family, examples):
    tokenizer, _ = load(family[1])
    windows = make_windows(examples, tokenizer, **WINDOW_SIZES, training=True)
    assert windows.dropped == []
    assert label_texts(windows, tokenizer) == answer_texts(examples)


def test_labels_are_right_on_real_questions(shared_data):
    """All equal, but for an answer inside a word (`Tentakel` in `keineTentakel`) and one behind a byte-order mark."""
    for file_name, allowed in (("squad2_dev_2k.json", 0), ("xquad.de.json", 2)):
        examples = [e for e in read_examples(load_squad(str(shared_data / file_name))) if e.answers][:300]
        for name in ("bert", "roberta", "xlm-roberta", "albert", "deberta-v2", "mpnet"):
            tokenizer = tiny_tokenizer(name, texts_of(examples))
            windows = make_windows(examples, tokenizer, training=True)
            found, golds = label_texts(windows, tokenizer), answer_texts(examples)
            wrong = [qid for qid in golds if found.get(qid) != golds[qid]]
            assert len(wrong) <= allowed, (file_name, name, wrong)


def test_labels_are_the_answers_on_real_data(shared_data):
    examples = read_examples(load_squad(str(shared_data / "xquad.de.json")))
    folder = str(shared_data / "bert-base-multilingual-cased")
    tokenizer = load_tokenizer(folder, load_config(folder))
    windows = make_windows(examples, tokenizer, training=True)
    assert windows.dropped == []
    answered = 0
    for index in np.flatnonzero(windows.start_position):
        input_ids, _, _ = windows.assemble([index])
        pieces = input_ids[windows.start_position[index] : windows.end_position[index] + 1].tolist()
        answer = examples[windows.example_index[index]].answers[0].text
        expected = tokenizer.encode(answer, add_special_tokens=False)
        answered += pieces == expected
    assert answered > 0.99 * len(examples)


def test_answers_with_other_spaces_are_kept_that_2020_dropped():
    windows = make_windows(golden_examples("quirks_squad.json"), get_tokenizer(False), training=True)
    assert not {"quirk-1-1", "quirk-2-1"} & set(windows.dropped)


def test_literal_padding_token_in_the_text_cuts_nothing():
    examples = [e for e in golden_examples("quirks_squad.json") if e.qid.startswith("quirk-5")]
    windows = make_windows(examples, get_tokenizer(False), training=True)
    assert windows.dropped == []
    for index, example in enumerate(examples):
        offset, (_, words) = windows.context_offset(index), windows.context_pieces(index)
        first, last = windows.start_position[index] - offset, windows.end_position[index] - offset
        assert first == last  # one special piece, not the [CLS] of a window that lost its answer
        assert windows.words(index)[words[first]].startswith(example.answers[0].text)


def question(context, answer, start):
    return Example("q", "Which?", context, (Answer(answer, start),), False)


def labelled_pieces(example, tokenizer):
    """The pieces that the label of the one window stands for; None where the question was dropped."""
    windows = make_windows([example], tokenizer, max_seq_length=128, training=True)
    if windows.dropped:
        return None
    ids, _, _ = windows.assemble([0])
    return tokenizer.convert_ids_to_tokens(ids[windows.start_position[0] : windows.end_position[0] + 1].tolist())


@pytest.mark.parametrize("family", ["xlm-roberta", "albert", "camembert"])
@pytest.mark.parametrize("before", ["(", "see ", '"', "well-"])
@pytest.mark.parametrize("behind", [")", "), and", " flow", "’s"])
def test_a_sentence_piece_label_holds_the_answers_letters_and_no_others(family, before, behind):
    tokenizer = tiny_tokenizer(family, ["the counterflow of a river and the well", "see and flow"])
    context = f"The river {before}counterflow{behind} of it"
    pieces = labelled_pieces(question(context, "counterflow", context.index("counterflow")), tokenizer)
    assert "".join(pieces).replace("▁", "") == "counterflow"


def test_an_answer_inside_a_word_of_one_piece_is_that_piece():
    example = question("a museum harbour", "arbour", 10)
    assert labelled_pieces(example, get_tokenizer(False)) == ["harbour"]


def test_an_answer_beside_its_offset_is_dropped_though_it_stands_in_the_next_word():
    assert labelled_pieces(question("museum bridge fam", "fam", 7), get_tokenizer(False)) is None
    assert labelled_pieces(question("museum bridge fam", "fam", 14), get_tokenizer(False)) is not None
