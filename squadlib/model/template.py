"""The special tokens that a tokenizer puts around a question and a context."""

from __future__ import annotations

from typing import NamedTuple

import transformers
from transformers import PreTrainedTokenizerFast

from squadlib.console import SquadError

# Two separators between question and context, and one segment: 2020's list of such tokenizers.
TWO_SEPARATORS = ("Roberta", "XLMRoberta", "Camembert", "Bart", "MPNet")


class PairTemplate(NamedTuple):
    """Special ids around a question and a context piece list, and the segment ids of the five parts.

    BERT: [CLS] question [SEP] context [SEP]; RoBERTa: <s> question </s></s> context </s>.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    segments: tuple[int, int, int, int, int]
    pad_id: int
    cls_index: int

    @property
    def num_special(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def pair_template(tokenizer: PreTrainedTokenizerFast) -> PairTemplate:
    """The special tokens that `tokenizer` puts around a question and a context, read off an encoded pair."""
    tokenizer.backend_tokenizer.no_padding()  # files of sentence encoders ask for both, which would spoil the windows
    tokenizer.backend_tokenizer.no_truncation()
    encoded = tokenizer.backend_tokenizer.encode("a", "b")
    source = encoded.sequence_ids
    question = [i for i, s in enumerate(source) if s == 0]
    context = [i for i, s in enumerate(source) if s == 1]
    if not question or not context or question[0] > context[0]:
        raise SquadError(f"{type(tokenizer).__name__}: a tokenizer that puts the context first is not supported")
    q0, q1, c0, c1 = question[0], question[-1] + 1, context[0], context[-1] + 1
    ids, types = encoded.ids, encoded.type_ids
    prefix, middle, suffix = tuple(ids[:q0]), tuple(ids[q1:c0]), tuple(ids[c1:])
    _check_specials(tokenizer, ids, middle, types)
    segments = (types[0], types[q0], types[q1], types[c0], types[-1])
    cls_index = prefix.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in prefix else 0
    pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return PairTemplate(prefix, middle, suffix, segments, pad_id, cls_index)


def _check_specials(
    tokenizer: PreTrainedTokenizerFast, ids: list[int], middle: tuple[int, ...], types: list[int]
) -> None:
    """Refuse what a pair lacks: some versions of transformers build some tokenizers without their special tokens."""
    kind = type(tokenizer).__name__
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    two_separators = kind.startswith(TWO_SEPARATORS)
    wrong = (
        tokenizer("a", "b")["input_ids"] != ids
        or (cls is not None and cls not in ids)
        or (sep is not None and sep not in middle)
        or (two_separators and (len(middle) != 2 or any(types)))
    )
    if wrong:
        pair = " ".join(tokenizer.convert_ids_to_tokens(ids))
        raise SquadError(
            f"{kind}: a question and a context would become `{pair}`, which are not the special tokens of this type "
            f"(transformers {transformers.__version__}); install the versions in requirements.txt, or name another "
            "--tokenizer_name"
        )
