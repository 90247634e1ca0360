"""Loading configurations, tokenizers and models, without ever running their code."""

from __future__ import annotations

import math
import os
import sys

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from squadlib.console import SquadError, logger
from squadlib.files import open_bytes

WHOLE_VOCABULARY = 0.95  # of the model's rows; a few are often left over, so that their number is a round one


def load_config(name: str, *, model_type: str | None = None, cache_dir: str | None = None) -> PretrainedConfig:
    """The model's configuration. model_type picks the class for 2019-20 folders whose config.json does not name one."""
    try:
        said, _ = PretrainedConfig.get_config_dict(name, cache_dir=cache_dir or None)
        if not said:
            raise SquadError(f"{name}: it has no config.json, or an empty one; download the folder again")
        if "model_type" in said:
            config = AutoConfig.from_pretrained(name, cache_dir=cache_dir or None, trust_remote_code=False)
        elif model_type is not None and model_type in CONFIG_MAPPING:
            config = CONFIG_MAPPING[model_type].from_pretrained(name, cache_dir=cache_dir or None)
        else:
            raise SquadError(f"{name}: its config.json names no model_type; add one, bert or roberta for example")
    except SquadError:
        raise
    except Exception as error:  # whatever the configuration class does with values that it was not made for
        place = name if os.path.isdir(name) else f"{name}, which is not a folder here"
        raise SquadError(f"{place}: no usable model configuration: {first_line(error)}") from error
    if type(config) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        raise SquadError(
            f"{name}: transformers has no question-answering head for the model type {config.model_type}; choose a "
            "model of another type"
        )
    if getattr(config, "quantization_config", None):
        raise SquadError(
            f"{name}: its weights are quantised and cannot be trained; name the model that it was made from"
        )
    # Nothing in a model folder may choose code: a name of a kernel would be looked for at a hub.
    config._attn_implementation = config._experts_implementation = None
    return config


def load_tokenizer(
    name: str, config: PretrainedConfig, *, do_lower_case: bool | None = None, cache_dir: str | None = None
) -> PreTrainedTokenizerFast:
    """A fast tokenizer. do_lower_case None: what the folder says, and cased where a bare vocab.txt says nothing."""
    try:
        said = get_tokenizer_config(name, cache_dir=cache_dir or None)
        bare = os.path.isdir(name) and not os.path.exists(os.path.join(name, "tokenizer.json"))
        if do_lower_case is None and bare and os.path.exists(os.path.join(name, "vocab.txt")):
            do_lower_case = bool(said.get("do_lower_case", False))
        options = {} if do_lower_case is None else {"do_lower_case": do_lower_case}
        options["trust_remote_code"] = False  # the library's default is to ask at the terminal
        tokenizer = AutoTokenizer.from_pretrained(name, config=config, cache_dir=cache_dir or None, **options)
    except Exception as error:  # the Rust core raises plain Exception, for a merges file that does not fit, say
        raise SquadError(
            f"{name}: no usable tokenizer ({first_line(error)}); check its vocabulary files or name another folder "
            "with --tokenizer_name"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise SquadError(f"{name}: {type(tokenizer).__name__} has no fast version; name another with --tokenizer_name")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise SquadError(f"{name}: it has no vocabulary file; download it again or name a folder with --tokenizer_name")
    if len(tokenizer) > config.vocab_size:
        raise SquadError(
            f"{name}: the tokenizer knows {len(tokenizer)} pieces, the model only {config.vocab_size}; they do not "
            "belong together"
        )
    if (known := num_pieces(name, tokenizer)) < WHOLE_VOCABULARY * config.vocab_size:
        logger.warning(
            "%s: the tokenizer knows %d pieces, the model %d; is its vocabulary cut off?",
            name,
            known,
            config.vocab_size,
        )
    return tokenizer


def set_attention_dropout(config: PretrainedConfig, probability: float) -> None:
    """Dropout of attention weights, under the name that this type of model has for it."""
    names = [name for name in ("attention_probs_dropout_prob", "attention_dropout") if hasattr(config, name)]
    if not names:
        raise SquadError(f"models of type {config.model_type} have no --attention_dropout; leave the flag out")
    setattr(config, names[0], probability)


def num_pieces(name: str, tokenizer: PreTrainedTokenizerFast) -> int:
    """The pieces that a text can come to: of a byte-level BPE a byte, a special token, or what a merge makes."""
    merges = os.path.join(name, "merges.txt")
    if os.path.isfile(os.path.join(name, "tokenizer.json")) or not os.path.isfile(merges):
        return len(tokenizer)
    with open_bytes(merges) as file:
        num_merges = sum(bool(line.strip()) and not line.startswith(b"#version") for line in file)
    return min(len(tokenizer), num_merges + 256 + len(tokenizer.all_special_ids))


def load_config_and_tokenizer(
    folder: str,
    config_name: str | None = None,
    tokenizer_name: str | None = None,
    model_type: str | None = None,
    do_lower_case: bool | None = None,
    cache_dir: str | None = None,
) -> tuple[PretrainedConfig, PreTrainedTokenizerFast]:
    """Of a model folder, unless other names are given for them."""
    config = load_config(config_name or folder, model_type=model_type, cache_dir=cache_dir)
    if model_type not in (None, config.model_type):
        logger.warning("--model_type %s, but %s is of type %s; using that", model_type, folder, config.model_type)
    return config, load_tokenizer(
        tokenizer_name or folder, config, do_lower_case=do_lower_case, cache_dir=cache_dir or None
    )


def load_model(name: str, config: PretrainedConfig, *, cache_dir: str | None = None) -> PreTrainedModel:
    """A model with a question-answering head. Weights come from safetensors or a plain state dict; code never runs."""
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    # float32 as in 2020: transformers 5 would keep the half precision of a checkpoint that was stored so.
    options = {"cache_dir": cache_dir or None, "trust_remote_code": False, "dtype": "float32"}
    try:
        return AutoModelForQuestionAnswering.from_pretrained(name, config=config, **options)
    except Exception as error:
        reason = first_line(error) or "a weights file is cut off"
        if "Weights only load failed" in reason:
            reason = "pytorch_model.bin holds something other than tensors, which could run code and was not opened"
        if "ignore_mismatched_sizes" in reason:
            reason = "their shapes are not those of config.json"
        raise SquadError(f"{name}: the weights cannot be loaded: {reason}; download the folder again") from error


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200] if lines else ""


def first_position(model: PreTrainedModel) -> int:
    """Position id of the first token: RoBERTa types start behind the padding id of the position embedding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.padding_idx + 1
    return 0


def num_positions(model: PreTrainedModel) -> float:
    """The longest window that the model takes, in tokens; RoBERTa's 514 positions are 512 tokens."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions - first_position(model) if positions else math.inf
