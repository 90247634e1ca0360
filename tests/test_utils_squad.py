"""Windows and decoding against the old library's own output, and the defects of 2020 that are mended on purpose."""

from __future__ import annotations

import json
import lzma
import sys

import numpy as np
import pytest
from conftest import ROOT

from squadlib.console import SquadError
from squadlib.data import load_squad, read_examples
from squadlib.files import atomic_write, write_json
from squadlib.model.decoding import Decoder
from squadlib.model.loading import load_config, load_tokenizer
from squadlib.model.prediction import PredictionFiles
from squadlib.model.windows import make_windows

GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))
from synthetic_logits import fingerprint, synthetic_logits  # noqa: E402

WINDOW_FILES = sorted(path.name for path in GOLDEN.glob("windows_*.jsonl.xz"))


def golden_lines(name):
    with lzma.open(GOLDEN / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def get_tokenizer(lower):
    folder = str(GOLDEN / "tiny_bert")
    return load_tokenizer(folder, load_config(folder), do_lower_case=lower)


def golden_examples(name="mini_squad.json"):
    return read_examples(load_squad(str(GOLDEN / name)))


def settings_of(numbers):
    return dict(zip(("max_seq_length", "doc_stride", "max_query_length"), numbers, strict=True))


def as_legacy(windows, tokenizer, max_seq_length, training):
    """Every field that the 2020 script's windows have, built from the flat arrays."""
    rows, kept = [], -1
    for index in range(len(windows)):
        example = windows.example_index[index]
        if index == windows.first_window[example]:
            kept += 1
            masks = windows.max_context(example)
        input_ids, segments, (length,) = windows.assemble([index])
        padding = [0] * (max_seq_length - length)
        offset, (_, words) = windows.context_offset(index), windows.context_pieces(index)
        mask = masks[index - windows.first_window[example]]
        start = int(windows.start_position[index])
        rows.append(
            {
                "unique_id": 1000000000 + index,
                "example_index": kept,
                "qas_id": windows.examples[example].qid,
                "input_ids": input_ids.tolist() + padding,
                "attention_mask": [1] * length + padding,
                "token_type_ids": segments.tolist() + padding,
                "cls_index": windows.template.cls_index,
                "paragraph_len": int(windows.length[index]),
                "tokens": tokenizer.convert_ids_to_tokens(input_ids.tolist()),
                "token_to_orig_map": {str(offset + i): int(word) for i, word in enumerate(words)},
                "token_is_max_context": {str(offset + i): bool(best) for i, best in enumerate(mask)},
                "start_position": start,
                "end_position": int(windows.end_position[index]),
                "is_impossible": windows.examples[example].is_impossible or (training and start == 0),
            }
        )
    return rows


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


@pytest.mark.parametrize("case", golden_lines("decoding.jsonl.xz"), ids=lambda c: f"{c['kind']}-{c['seed']}")
def test_predictions_nbest_and_null_odds_are_the_old_librarys(case, tmp_path):
    tokenizer = get_tokenizer(case["lower_vocab"])
    windows = make_windows(golden_examples(), tokenizer, **settings_of(case["settings"]))
    tokens = [row["tokens"] for row in as_legacy(windows, tokenizer, case["settings"][0], False)]
    logits = synthetic_logits(case["kind"], case["seed"], tokens, case["settings"][0])
    assert fingerprint(*logits) == case["logits_sha256"]
    names = ("n_best_size", "max_answer_length", "null_score_diff_threshold", "do_lower_case")
    options = {name: case[name] for name in names}
    decoder = Decoder(windows, tokenizer, version_2_with_negative=case["v2"], **options)
    with PredictionFiles(str(tmp_path), null_odds=case["v2"]) as files:
        for first in range(0, len(windows.examples), 7):  # in blocks, as run_squad.py does
            last = min(first + 7, len(windows.examples))
            rows = slice(windows.first_window[first], windows.first_window[last])
            for prediction in decoder.decode(first, last, logits[0][rows], logits[1][rows]):
                files.write(prediction)
    for name, golden in (("predictions_", "predictions"), ("nbest_predictions_", "nbest"), ("null_odds_", "null_odds")):
        if golden in case:
            # the old library wrote json.dumps(…, indent=4) and a newline: the bytes are the same, numbers included
            assert (tmp_path / f"{name}.json").read_text() == json.dumps(case[golden], indent=4) + "\n"


def test_answers_with_other_spaces_are_kept_that_2020_dropped():
    windows = make_windows(golden_examples("quirks_squad.json"), get_tokenizer(False), training=True)
    assert not {"quirk-1-1", "quirk-2-1"} & set(windows.dropped)


def test_blank_context_has_no_window_and_shifts_nobody():
    examples = golden_examples("quirks_squad.json")
    windows = make_windows(examples, get_tokenizer(False))
    counts = dict(zip((example.qid for example in examples), np.diff(windows.first_window), strict=True))
    assert counts["quirk-3-1"] == counts["quirk-4-1"] == 0
    zeros = np.zeros((len(windows), 384), np.float32)
    predictions = {p.qid: p for p in Decoder(windows, get_tokenizer(False)).decode(0, len(examples), zeros, zeros)}
    assert list(predictions) == [example.qid for example in examples]
    assert predictions["quirk-3-1"].text == predictions["quirk-4-1"].text == ""
    for example in examples:
        assert predictions[example.qid].text in " ".join(example.context.split())


def test_literal_padding_token_in_the_text_cuts_nothing():
    examples = [e for e in golden_examples("quirks_squad.json") if e.qid.startswith("quirk-5")]
    windows = make_windows(examples, get_tokenizer(False), training=True)
    assert windows.dropped == []
    for index, example in enumerate(examples):
        offset, (_, words) = windows.context_offset(index), windows.context_pieces(index)
        first, last = windows.start_position[index] - offset, windows.end_position[index] - offset
        assert first == last  # one special piece, not the [CLS] of a window that lost its answer
        assert windows.words(index)[words[first]].startswith(example.answers[0].text)


def test_empty_questions_make_windows():
    examples = [e for e in golden_examples("quirks_squad.json") if e.qid.startswith("quirk-6")]
    assert len(make_windows(examples, get_tokenizer(False))) == 3


def test_flat_arrays_stay_under_300_bytes_a_window(shared_data):
    examples = read_examples(load_squad(str(shared_data / "squad2_train_4k.json")))
    folder = str(shared_data / "bert-base-multilingual-cased")
    windows = make_windows(examples, load_tokenizer(folder, load_config(folder)), training=True)
    arrays = [v for holder in (windows, windows.contexts, windows.questions) for v in vars(holder).values()]
    size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    assert size / len(windows) < 300


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


def test_nan_logits_name_the_question():
    examples = golden_examples()
    windows = make_windows(examples, get_tokenizer(False), max_seq_length=64, doc_stride=16, max_query_length=12)
    logits = np.zeros((len(windows), 64), np.float32)
    logits[windows.first_window[3], 5] = np.nan
    with pytest.raises(SquadError, match=examples[3].qid):
        list(Decoder(windows, get_tokenizer(False)).decode(0, len(examples), logits, logits))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_json(str(path), {"exact": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(str(path), {"exact": float("nan")})
    with pytest.raises(RuntimeError), atomic_write(str(path)) as out:
        out.write("half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
