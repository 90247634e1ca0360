"""The special tokens around a question and a context, and their refusal where they are not those of the type."""

from __future__ import annotations

import pytest
from tiny_models import FAMILIES, tiny_tokenizer
from tokenizers.processors import TemplateProcessing

from squadlib.console import SquadError
from squadlib.model.template import pair_template

TEXTS = ["a question and the words of a context"] * 3
TWO_SEPARATORS = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_own_special_tokens(family):
    tokenizer = tiny_tokenizer(family, TEXTS)
    template = pair_template(tokenizer)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    two = family in TWO_SEPARATORS
    assert (template.prefix, template.middle, template.suffix) == ((cls,), (sep,) * (2 if two else 1), (sep,))
    one_segment = two or family == "modernbert"
    assert template.segments == ((0, 0, 0, 0, 0) if one_segment else (0, 0, 0, 1, 1))


@pytest.mark.parametrize(
    ("family", "pair"),
    [
        ("deberta-v2", "$A $B:1"),  # what transformers 5.0.0 built
        ("xlm-roberta", "{cls} $A {sep} $B {sep}"),
        ("mpnet", "{cls} $A {sep} {sep} $B:1 {sep}:1"),
        ("bert", "$A {sep} $B:1 {sep}:1"),
        ("roberta", "{cls} $A $B {sep}"),
    ],
)
def test_missing_special_tokens_are_told_instead_of_wrong_windows(family, pair):
    tokenizer = tiny_tokenizer(family, TEXTS)
    names = {"cls": tokenizer.cls_token, "sep": tokenizer.sep_token}
    specials = [(tokenizer.cls_token, tokenizer.cls_token_id), (tokenizer.sep_token, tokenizer.sep_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A", pair=pair.format(**names), special_tokens=specials
    )
    with pytest.raises(SquadError, match="are not the special tokens of this type"):
        pair_template(tokenizer)
