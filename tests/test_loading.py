"""Models of every age and family load; broken ones are one sentence, and none runs its code."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from conftest import ROOT, SAMPLE
from processes import Run, eval_flags, file_names, one_sentence
from tiny_models import load, make_tiny_model, texts_of
from tiny_runs import FOLDER

import run_squad
from squadlib.console import SquadError
from squadlib.model.answer_text import lower_cases
from squadlib.model.loading import load_config, load_model, load_tokenizer, num_positions, set_attention_dropout
from squadlib.training.fine_tuning import ModelSettings, load_runner


def test_positions_of_roberta_types_start_behind_the_padding(family):
    import torch

    name, folder = family
    _, model = load(folder)
    assert num_positions(model) == 128  # of 130 in the configuration where the first two are not used
    if name == "roberta":
        args = run_squad.build_parser().parse_args(["--max_seq_length", "129"])
        settings = run_squad.settings(ModelSettings, vars(args))
        with pytest.raises(SquadError, match="has 128 positions; --max_seq_length 129 does not fit"):
            load_runner(str(folder), model.config, settings, torch.device("cpu"))


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_attention_dropout_is_what_was_asked_for(family, probability):
    """Without any other dropout the model draws random numbers only where it is above 0."""
    _, folder = family
    config = load_config(str(folder))
    for name in [name for name in vars(config) if "dropout" in name]:
        setattr(config, name, 1 - probability if name.startswith("att") else 0.0)
    set_attention_dropout(config, probability)
    model = load_model(str(folder), config).train()
    ids = torch.arange(8, 24)[None]
    ids[0, [5, 6, 15]] = config.sep_token_id or 3  # Longformer looks for three
    first, second = (model(input_ids=ids).start_logits for _ in range(2))
    assert torch.equal(first, second) == (probability == 0)


def test_model_type_without_attention_dropout_is_named():
    from transformers import XLNetConfig

    with pytest.raises(SquadError, match="models of type xlnet have no --attention_dropout"):
        set_attention_dropout(XLNetConfig(), 0.1)


def old_folder(folder, texts):
    """A BERT as folders of 2019-20 hold it: no model_type, a bare vocab.txt, a pickle with gamma and beta."""
    import torch
    from safetensors.torch import load_file

    make_tiny_model("bert", folder, texts)
    config = json.loads((folder / "config.json").read_text())
    vocab = load(folder)[0].get_vocab()
    weights = load_file(folder / "model.safetensors")
    for path in folder.iterdir():
        path.unlink()
    kept = {key: value for key, value in config.items() if key not in ("model_type", "architectures", "dtype")}
    (folder / "config.json").write_text(json.dumps(kept))
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)) + "\n", encoding="utf-8")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    assert any(name.endswith("gamma") for name in renamed)
    torch.save(renamed, folder / "pytorch_model.bin")
    return weights


def test_a_folder_of_2019_loads_cased(tmp_path, examples):
    weights = old_folder(tmp_path, texts_of(examples))
    tokenizer, model = load(tmp_path, model_type="bert")
    assert not lower_cases(tokenizer)
    assert tokenizer.tokenize("Haarlem lies") == ["Haarlem", "lies"]
    loaded = model.state_dict()
    assert all((loaded[name] == value).all() for name, value in weights.items())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    tokenizer = load_tokenizer(str(tmp_path), model.config)
    assert lower_cases(tokenizer)
    with pytest.raises(SquadError, match="names no model_type"):
        load_config(str(tmp_path))


def test_a_type_without_a_head_is_one_sentence(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "bert-generation"}')
    flags = ["--model_type", "bert", "--do_eval", "--predict_file", str(SAMPLE), "--output_dir", str(tmp_path / "out")]
    assert run_squad.main(["--model_name_or_path", str(tmp_path), *flags]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no question-answering head for the model type bert-generation" in last


def test_half_precision_checkpoints_are_trained_in_float32(tmp_path):
    config = load_config(FOLDER)
    load_model(FOLDER, config).to(torch.bfloat16).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), load_config(str(tmp_path)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


class Code:
    """Pickles into a command that leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def write_pickle(path, mark, *, bare=False):
    import pickle

    import torch

    if bare:
        path.write_bytes(pickle.dumps(Code(mark)))
    else:
        torch.save({"weights": Code(mark)}, path)


@pytest.mark.parametrize("bare", [False, True])
def test_code_in_pytorch_model_bin_is_refused_and_does_not_run(bare, model, small, tmp_path):
    (model / "model.safetensors").unlink()
    write_pickle(model / "pytorch_model.bin", tmp_path / "pwned", bare=bare)
    run = Run(tmp_path, *eval_flags(model, small))
    assert run.wait() == 1
    assert "which could run code and was not opened" in one_sentence(run.stderr)
    assert not (tmp_path / "pwned").exists()


def test_old_pickles_beside_model_and_data_are_never_opened(model, small, tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "pytorch_model.bin"):
        write_pickle(model / name, tmp_path / "pwned")
    shutil.copy(small, tmp_path / "dev.json")
    write_pickle(tmp_path / "cached_dev_model_64", tmp_path / "pwned")
    write_pickle(tmp_path / "cached_train_model_64", tmp_path / "pwned")
    more = ("--do_train", "--train_file", "dev.json", "--max_steps", 1)
    run = Run(tmp_path, *eval_flags(model, tmp_path / "dev.json", *more))
    assert run.wait() == 0, run.stderr
    assert not (tmp_path / "pwned").exists()


def test_code_that_a_model_folder_brings_does_not_run_and_is_not_asked_for(model, small, tmp_path):
    """Even with answers to every question at hand: `trust_remote_code` is off, not open."""
    (model / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'pwned')!r})\nclass Config: pass\n")
    config = json.loads((model / "config.json").read_text())
    tokenizer = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Config", "evil.Config"]}}
    for name, content in (
        ("tokenizer_config.json", tokenizer),
        ("config.json", {**config, "model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}),
    ):
        (model / name).write_text(json.dumps(content))
        run = Run(tmp_path, *eval_flags(model, small), hook=yes_to_everything)
        assert run.wait() == 1, run.stderr
        one_sentence(run.stderr)
    assert not (tmp_path / "pwned").exists()


def yes_to_everything() -> None:
    import builtins

    builtins.input = lambda *_: "y"


def test_no_script_ever_trusts_remote_code():
    for script in (*ROOT.glob("*.py"), *ROOT.glob("squadlib/**/*.py")):
        text = script.read_text(encoding="utf-8").replace(" ", "")
        assert "trust_remote_code=True" not in text and '"trust_remote_code":True' not in text
        for word in ("pickle", "os.system", "shell=True", "eval(", "exec("):
            calls = [line for line in script.read_text().splitlines() if word in line and "model.eval()" not in line]
            assert not [line for line in calls if f"import {word}" in line or line.strip().startswith(word)], calls


def spoil(name, content):
    return lambda folder: (folder / name).write_text(content) if content is not None else (folder / name).unlink()


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:5000])


def resize(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))


BROKEN_MODELS = {
    "weights cut off": (cut("model.safetensors"), "the weights cannot be loaded"),
    "weights empty": (spoil("model.safetensors", ""), "the weights cannot be loaded"),
    "weights missing": (spoil("model.safetensors", None), "no file named model.safetensors"),
    "weights of another size": (resize, "their shapes are not those of config.json"),
    "config missing": (spoil("config.json", None), "no config.json"),
    "config cut off": (spoil("config.json", '{"model_type": "bert", '), "no usable model configuration"),
    "config is a list": (spoil("config.json", "[]"), "no config.json, or an empty one"),
    "config is a list of lists": (spoil("config.json", '[["a", "b"]]'), "no usable model configuration"),
    "config with a wrong type": (
        spoil("config.json", '{"model_type": "bert", "hidden_size": "x"}'),
        "Field 'hidden_size' expected int",
    ),
    "config of an unknown type": (spoil("config.json", '{"model_type": "evil"}'), "no usable model configuration"),
    "vocabulary missing": (spoil("vocab.txt", None), "it has no vocabulary file"),
    "vocabulary of another model": (spoil("vocab.txt", "\n".join(map(str, range(900)))), "do not belong together"),
    "tokenizer.json broken": (spoil("tokenizer.json", "{"), "no usable tokenizer"),
}


@pytest.mark.parametrize("name", BROKEN_MODELS)
def test_broken_model_folder_is_one_sentence(name, model, small, tmp_path):
    spoiler, expected = BROKEN_MODELS[name]
    spoiler(model)
    run = Run(tmp_path, *eval_flags("model", small))
    assert run.wait() == 1, run.stderr
    sentence = one_sentence(run.stderr)
    assert sentence.startswith("model") and expected in sentence
    assert not file_names(tmp_path / "out")


def test_model_that_is_neither_folder_nor_hub_name_is_one_sentence(small, tmp_path):
    run = Run(tmp_path, *eval_flags("no/such/folder", small), env={"HF_HUB_OFFLINE": 1})
    assert run.wait() == 1
    assert "no/such/folder, which is not a folder here" in one_sentence(run.stderr)
