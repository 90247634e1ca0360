"""A tiny random model and a tokenizer of each family, made on the spot from the texts of a test.

The tokenizer is the class that the family's real checkpoints use, over a vocabulary of the texts, so that splitting,
special tokens, segment ids and position ids are the family's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WINDOW_SIZES = {"max_seq_length": 96, "doc_stride": 32, "max_query_length": 24}  # for the sample, in every family
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# BERTje's vocabulary starts with the separators, so that its padding has id 3.
BERTJE_SPECIALS = ["[SEP]", "[CLS]", "[UNK]", "[PAD]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CAMEMBERT_SPECIALS = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>"]
ALBERT_SPECIALS = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
DEBERTA_SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


def words_of(texts: Iterable[str], number: int = 400) -> list[str]:
    """The commonest words of two letters and more."""
    words = Counter(word for text in texts for word in re.findall(r"\w+", text) if len(word) > 1)
    return [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:number]]


def characters_of(texts: Iterable[str]) -> list[str]:
    return sorted(set("".join(texts)) - set(" \t\r\n"))


def word_pieces(texts: list[str], specials: list[str]) -> dict[str, int]:
    characters = characters_of(texts)
    pieces = [*specials, *characters, *("##" + c for c in characters), *words_of(texts)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def sentence_pieces(texts: list[str], specials: list[str]) -> list[tuple[str, float]]:
    """A Unigram vocabulary: whole words, their first halves, and every character."""
    words = words_of(texts)
    halves = (word[: len(word) // 2 + 1] for word in words if len(word) > 4)
    pieces = dict.fromkeys([*("▁" + word for word in words), *("▁" + half for half in halves), *characters_of(texts)])
    return [*((piece, 0.0) for piece in specials), ("▁", -9.0), *((piece, -8.0) for piece in pieces)]


def byte_level_bpe(texts: list[str], specials: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=700, special_tokens=specials, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def tiny_tokenizer(family: str, texts: list[str]) -> Any:
    """The family's tokenizer over a vocabulary of the texts. family: a key of FAMILIES."""
    import transformers

    if family in ("bert", "distilbert", "electra"):
        return transformers.BertTokenizer(vocab=word_pieces(texts, BERT_SPECIALS), do_lower_case=False)
    if family == "bertje":
        return transformers.BertTokenizer(vocab=word_pieces(texts, BERTJE_SPECIALS), do_lower_case=False)
    if family == "mpnet":
        lowered = [text.lower() for text in texts]
        return transformers.MPNetTokenizer(vocab=word_pieces(lowered, [*ROBERTA_SPECIALS, "[UNK]"]))
    if family in ("roberta", "longformer"):
        vocab, merges = byte_level_bpe(texts, ROBERTA_SPECIALS)
        return transformers.RobertaTokenizer(vocab=vocab, merges=merges)
    if family == "modernbert":
        return modernbert_tokenizer(texts)
    kind, specials = {
        "xlm-roberta": (transformers.XLMRobertaTokenizer, ROBERTA_SPECIALS),
        "camembert": (transformers.CamembertTokenizer, CAMEMBERT_SPECIALS),
        "albert": (transformers.AlbertTokenizer, ALBERT_SPECIALS),
        "deberta-v2": (transformers.DebertaV2Tokenizer, DEBERTA_SPECIALS),
    }[family]
    if family == "albert":
        texts = [text.lower() for text in texts]
    return kind(vocab=sentence_pieces(texts, specials))


def modernbert_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE between [CLS] and [SEP], as in the ModernBERT checkpoints' tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab, merges = byte_level_bpe(texts, BERT_SPECIALS)
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    specials = {f"{name}_token": token for name, token in zip(names, BERT_SPECIALS, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=core, **specials)


# family -> (model type, what its configuration needs beside SIZES)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"max_position_embeddings": 128}),
    "bertje": ("bert", {"max_position_embeddings": 128}),
    "roberta": ("roberta", {"max_position_embeddings": 130}),
    "distilbert": ("distilbert", {"max_position_embeddings": 128}),
    "electra": ("electra", {"max_position_embeddings": 128, "embedding_size": 16}),
    "xlm-roberta": ("xlm-roberta", {"max_position_embeddings": 130, "type_vocab_size": 1}),
    "camembert": ("camembert", {"max_position_embeddings": 130, "type_vocab_size": 1}),
    "albert": ("albert", {"max_position_embeddings": 128, "embedding_size": 16}),
    "deberta-v2": (
        "deberta-v2",
        {
            "max_position_embeddings": 128,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
    ),
    "longformer": ("longformer", {"max_position_embeddings": 130, "attention_window": [16, 16], "type_vocab_size": 1}),
    "mpnet": ("mpnet", {"max_position_embeddings": 130}),
    "modernbert": (
        "modernbert",
        {"max_position_embeddings": 128, "local_attention": 16, "global_attn_every_n_layers": 2},
    ),
}
RENAMED = {  # the sizes of a few configurations have names of their own
    "distilbert": {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    | {"intermediate_size": "hidden_dim", "hidden_dropout_prob": "dropout"}
    | {"attention_probs_dropout_prob": "attention_dropout"},
}
TOKENS = ("pad", "cls", "sep", "bos", "eos")


def make_tiny_model(family: str, folder: Path, texts: Iterable[str], *, seed: int = 42) -> None:
    """Write a random model of the family with a question-answering head, and its tokenizer, into `folder`."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering

    tokenizer = tiny_tokenizer(family, list(texts))
    model_type, extra = FAMILIES[family]
    renamed = RENAMED.get(model_type, {})
    sizes = {renamed.get(name, name): value for name, value in SIZES.items()}
    if model_type == "distilbert":
        sizes["qa_dropout"] = 0.0
    if model_type == "modernbert":
        sizes = {name: value for name, value in sizes.items() if not name.endswith("_dropout_prob")}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in TOKENS}
    config = CONFIG_MAPPING[model_type](vocab_size=len(tokenizer), **sizes, **ids, **extra)
    torch.manual_seed(seed)
    AutoModelForQuestionAnswering.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load(folder: Path, **options: Any) -> tuple[Any, Any]:
    """(tokenizer, model) of a folder."""
    from squadlib.model.loading import load_config, load_model, load_tokenizer

    config = load_config(str(folder), **options)
    return load_tokenizer(str(folder), config), load_model(str(folder), config)


def texts_of(examples: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(text for example in examples for text in (example.context, example.question)))
