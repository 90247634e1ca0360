"""A run of every family from a model folder to a trained model and back."""

from __future__ import annotations

import json

from conftest import SAMPLE
from tiny_models import FAMILIES, WINDOW_SIZES

import run_squad
from squadlib.training.tensorboard_log import TrainingLog


def test_it_trains_predicts_and_comes_back(family, tmp_path, monkeypatch):
    name, folder = family
    monkeypatch.chdir(tmp_path)
    flags = [part for flag, value in WINDOW_SIZES.items() for part in (f"--{flag}", str(value))]
    flags += ["--model_type", FAMILIES[name][0], "--predict_file", str(SAMPLE), "--no_cuda", "--do_eval"]
    train = ["--do_train", "--train_file", str(SAMPLE), "--max_steps", "18", "--learning_rate", "3e-3"]
    train += ["--logging_steps", "6", "--save_steps", "0", "--output_dir", "out", "--model_name_or_path", str(folder)]
    points = []
    monkeypatch.setattr(TrainingLog, "point", lambda log, step, loss, *rest: points.append(loss))
    assert run_squad.main([*flags, *train]) == 0
    assert points[2] < 0.9 * points[0]
    contexts = {
        qa["id"]: " ".join(paragraph["context"].split())
        for article in json.loads(SAMPLE.read_text())["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    for qid, candidates in json.loads((tmp_path / "out" / "nbest_predictions_.json").read_text()).items():
        assert all(c["text"] in contexts[qid] or c["text"] == "empty" for c in candidates)
    assert run_squad.main([*flags, "--output_dir", "again", "--model_name_or_path", "out"]) == 0
    for file_name in ("predictions_.json", "nbest_predictions_.json", "null_odds_.json", "results_.json"):
        assert (tmp_path / "out" / file_name).read_bytes() == (tmp_path / "again" / file_name).read_bytes()
