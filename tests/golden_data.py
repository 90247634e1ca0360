"""What the golden files hold, and our windows in the shape that the old library gave them."""

from __future__ import annotations

import json
import lzma

from conftest import GOLDEN

from squadlib.data import load_squad, read_examples
from squadlib.model.loading import load_config, load_tokenizer


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
