"""Make a tiny BERT with random weights and a vocabulary of your texts: a stand-in for a real checkpoint.

    python sample/make_tiny_bert.py --data_file nl_sample_clean.json --output_dir bert-base-multilingual-cased

It has learnt nothing and can only memorise, which shows in seconds, without a GPU or a download, that a training run
works. Reads SQuAD files; writes config.json, vocab.txt, tokenizer_config.json and model.safetensors, as a cased BERT
from the hub has them. Call the folder bert-base-multilingual-cased and the documented command finds it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 512  # tokens, as in the real model


def make_vocab(texts: Iterable[str], max_words: int) -> list[str]:
    """WordPiece vocabulary: special tokens, every character alone and as a `##` piece, the commonest words."""
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text))
    characters = sorted(set("".join(words)))
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1]
    return [*SPECIAL_TOKENS, *characters, *("##" + c for c in characters), *common[:max_words]]


def make_tiny_bert(
    output_dir: str | Path,
    texts: Iterable[str],
    *,
    hidden_size: int = 64,
    num_layers: int = 2,
    max_words: int = 2000,
    seed: int = 42,
) -> None:
    """Write a cased BERT without a QA head into `output_dir`, which is made if need be."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    vocab = make_vocab(texts, max_words)
    (folder / "vocab.txt").write_text("".join(piece + "\n" for piece in vocab), encoding="utf-8")
    tokenizer_config = {"do_lower_case": False, "model_max_length": MAX_LENGTH, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config) + "\n", encoding="utf-8")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.1,  # five times the usual: words far apart from the start are quicker to tell apart
        hidden_dropout_prob=0.0,  # dropout is against memorising
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def squad_texts(path: str | Path) -> list[str]:
    """Contexts and questions of a SQuAD file."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    return [text for p in paragraphs for text in (p["context"], *(qa["question"] for qa in p["qas"]))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data_file", required=True, nargs="+", help="SQuAD files that the vocabulary should cover")
    parser.add_argument("--output_dir", required=True, help="folder to write the model into")
    parser.add_argument("--hidden_size", type=int, default=64, help="width (default: %(default)s)")
    parser.add_argument("--num_layers", type=int, default=2, help="depth (default: %(default)s)")
    args = parser.parse_args(argv)
    texts = [text for path in args.data_file for text in squad_texts(path)]
    make_tiny_bert(args.output_dir, texts, hidden_size=args.hidden_size, num_layers=args.num_layers)
    print(f"wrote a random {args.num_layers}-layer BERT to {args.output_dir}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
