"""Windows against the old library's own output, of every family of models, and on odd texts."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import GOLDEN
from golden_data import as_legacy, get_tokenizer, golden_examples, golden_lines, settings_of
from tiny_models import WINDOW_SIZES, load

from squadlib.console import SquadError
from squadlib.data import Example, load_squad, read_examples
from squadlib.model.layout import WindowModel
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.model.template import pair_template
from squadlib.model.windows import WindowSettings, make_training_windows, make_windows

WINDOW_FILES = sorted(path.name for path in GOLDEN.glob("windows_*.jsonl.xz"))


@pytest.mark.parametrize("name", WINDOW_FILES)
def test_every_field_of_every_window_is_the_old_librarys(name):
    parts = name.removesuffix(".jsonl.xz").split("_")
    numbers, training, tokenizer = [int(n) for n in parts[1:4]], parts[4] == "train", get_tokenizer("lower" in parts)
    windows = make_windows(golden_examples(), tokenizer, **settings_of(numbers), training=training)
    rows = as_legacy(windows, tokenizer, numbers[0], training)
    expected = golden_lines(name)
    assert len(rows) == len(expected) > 100
    for row, golden in zip(rows, expected, strict=True):
        assert row == golden


def test_empty_questions_make_windows():
    examples = [e for e in golden_examples("quirks_squad.json") if e.qid.startswith("quirk-6")]
    assert len(make_windows(examples, get_tokenizer(False))) == 3


def test_tokenizer_file_that_asks_for_padding_and_truncation_changes_no_window(tmp_path):
    """tokenizer.json of a sentence encoder pads every text to 128 tokens: questions of 128 tokens left no room."""
    plain = get_tokenizer(False)
    plain.save_pretrained(tmp_path)
    backend = get_tokenizer(False).backend_tokenizer
    backend.enable_padding(length=128)
    backend.enable_truncation(5)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path), load_config(str(GOLDEN / "tiny_bert")))
    options = {"max_seq_length": 64, "doc_stride": 16, "max_query_length": 12}
    assert make_windows(golden_examples(), tokenizer, **options).digest() == (
        make_windows(golden_examples(), plain, **options).digest()
    )


def test_flat_arrays_stay_under_300_bytes_a_window(shared_data):
    examples = read_examples(load_squad(str(shared_data / "squad2_train_4k.json")))
    folder = str(shared_data / "bert-base-multilingual-cased")
    windows = make_windows(examples, load_tokenizer(folder, load_config(folder)), training=True)
    arrays = [v for holder in (windows, windows.contexts, windows.questions) for v in vars(holder).values()]
    size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    assert size / len(windows) < 300


WITH_SEGMENTS = {"bert", "bertje", "electra", "albert"}  # their models have embeddings of token_type_ids
TWO_SEPARATORS = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"}


def test_windows_are_those_of_the_family(family, examples):
    name, folder = family
    tokenizer, model = load(folder)
    windows = make_windows(examples, tokenizer, **WINDOW_SIZES, training=True)
    template = windows.template
    assert len(template.middle) == 1 + (name in TWO_SEPARATORS)
    assert template.pad_id == tokenizer.pad_token_id
    assert windows.num_tokens().max() == WINDOW_SIZES["max_seq_length"]
    for window in (0, len(windows) // 2, len(windows) - 1):
        ids, segments, _ = windows.assemble([window])
        offset, (pieces, _) = windows.context_offset(window), windows.context_pieces(window)
        assert tuple(ids[offset - len(template.middle) : offset]) == template.middle
        assert ids[offset : offset + len(pieces)].tolist() == pieces.tolist()
        assert tuple(ids[offset + len(pieces) :]) == template.suffix
        expected = 0 if name in TWO_SEPARATORS or name == "modernbert" else 1
        assert set(segments[:offset].tolist()) == {0} and set(segments[offset:].tolist()) == {expected}
    assert WindowModel(model, "longest", 96).with_segments == (name in WITH_SEGMENTS)
    assert windows.dropped == []


def test_a_stride_that_fits_bert_but_not_roberta_is_refused(family, examples):
    tokenizer, _ = load(family[1])
    longest = max(len(tokenizer(e.question, add_special_tokens=False).input_ids) for e in examples)
    sizes = {"max_seq_length": longest + 20, "doc_stride": 17, "max_query_length": longest}
    if pair_template(tokenizer).num_special == 3:
        assert len(make_windows(examples, tokenizer, **sizes))
    else:
        with pytest.raises(SquadError, match="leaves room for 16 context tokens"):
            make_windows(examples, tokenizer, **sizes)


def max_context_of_2020(spans):
    """(first piece, length) of each window -> for each the pieces that have their maximum context there, as 2020."""
    result = []
    for number, (start, length) in enumerate(spans):
        flags = []
        for piece in range(start, start + length):
            scores = [
                (min(piece - s, s + n - 1 - piece) + 0.01 * n, -other)
                for other, (s, n) in enumerate(spans)
                if s <= piece < s + n
            ]
            flags.append(-max(scores)[1] == number)
        result.append(flags)
    return result


@pytest.mark.parametrize(("width", "stride"), [(64, 16), (250, 100), (384, 128), (384, 300)])
def test_maximum_context_is_2020s_for_wide_windows_too(width, stride):
    long = [example for example in golden_examples() if len(example.context) > 300][:4]
    stretched = [example._replace(context=" ".join([example.context] * 6)) for example in long]
    windows = make_windows(
        stretched, get_tokenizer(False), max_seq_length=width, doc_stride=stride, max_query_length=12
    )
    assert np.diff(windows.first_window).max() > 2
    for example in range(len(stretched)):
        block = slice(*windows.first_window[example : example + 2])
        spans = list(zip(windows.start[block].tolist(), windows.length[block].tolist(), strict=True))
        assert [flags.tolist() for flags in windows.max_context(example)] == max_context_of_2020(spans)


def test_maximum_context_of_a_short_last_window():
    example = golden_examples()[0]
    growing = [example._replace(context=" ".join(["the"] * count)) for count in range(350, 520, 3)]
    windows = make_windows(growing, get_tokenizer(False), max_seq_length=384, doc_stride=300, max_query_length=12)
    for number in range(len(growing)):
        block = slice(*windows.first_window[number : number + 2])
        spans = list(zip(windows.start[block].tolist(), windows.length[block].tolist(), strict=True))
        assert [flags.tolist() for flags in windows.max_context(number)] == max_context_of_2020(spans)


def test_a_blank_context_has_no_window():
    examples = [example._replace(context=" \n", answers=()) for example in golden_examples()[:2]] + golden_examples()[
        :1
    ]
    windows = make_windows(examples, get_tokenizer(False), **settings_of((64, 16, 12)))
    assert windows.first_window[:3].tolist() == [0, 0, 0] and len(windows) == windows.first_window[3] > 0


def test_a_file_without_windows_is_refused_in_training():
    blank = [Example("q", "Who?", " ", (), True)]
    with pytest.raises(SquadError, match=r"x\.json: no window to train on"):
        make_training_windows({"x.json": blank}, get_tokenizer(False), WindowSettings(64, 16, 12))
    make_training_windows({"x.json": golden_examples()[:3]}, get_tokenizer(False), WindowSettings(64, 16, 12))
