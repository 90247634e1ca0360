"""What the default layout trains: 2020's objective without padding as classes of its softmax."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import training_2020
from processes import MINI_SQUAD, TINY_BERT, curve

import run_squad
from squadlib.data import load_squad, read_examples
from squadlib.model.loading import load_config, load_model, load_tokenizer
from squadlib.model.windows import make_windows

SIZES = {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 12}
SETTINGS = training_2020.Settings(learning_rate=1e-3, warmup_steps=3, num_train_epochs=2)


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory):
    """The tiny model without dropout, as the two sides would draw other random numbers."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(TINY_BERT, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def losses_of_2020(folder, mask_padding):
    config = load_config(folder)
    examples = read_examples(load_squad(str(MINI_SQUAD)))
    windows = make_windows(examples, load_tokenizer(folder, config), **SIZES, training=True)
    dataset = training_2020.padded(windows, SIZES["max_seq_length"])
    updates = training_2020.train(load_model(folder, config), dataset, SETTINGS, mask_padding=mask_padding)
    return np.array([update["loss"] for update in updates])


def our_losses(folder, out, *more):
    flags = {**vars(SETTINGS), **SIZES, "model_name_or_path": folder, "train_file": MINI_SQUAD, "output_dir": out}
    argv = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    argv += "--model_type bert --do_train --no_cuda --logging_steps 1 --save_steps 0".split()
    assert run_squad.main([*argv, *more]) == 0
    return np.array([np.frombuffer(bits, np.float32)[0] for _, bits in curve(Path("runs"))["loss"]])


def test_default_layout_trains_2020s_loss_with_masked_padding(tmp_path, monkeypatch, without_dropout):
    monkeypatch.chdir(tmp_path)
    found, masked = our_losses(without_dropout, "out"), losses_of_2020(without_dropout, mask_padding=True)
    assert len(found) > 40
    np.testing.assert_allclose(found, masked, rtol=2e-6)
    # and it is another objective than 2020's own: padding made every softmax larger
    assert losses_of_2020(without_dropout, mask_padding=False)[0] > found[0] + 0.1
