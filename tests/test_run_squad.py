"""run_squad.py as users call it: the published command, its flags and its files."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import GOLDEN, ROOT, run_script

import run_squad

PUBLISHED = """
python run_squad.py \\
  --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \\
  --train_file $SQUAD_DIR/nl_squadv2_train_clean.json --predict_file $SQUAD_DIR/nl_squadv2_dev_clean.json \\
  --num_train_epochs 2 --max_seq_length 384 --doc_stride 128 --save_steps=8000 \\
  --output_dir ../../output --overwrite_cache --overwrite_output_dir
"""
RESULT_KEYS = [
    *("exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total", "NoAns_exact", "NoAns_f1", "NoAns_total"),
    *("best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"),
]
LEGACY_FLAGS = """
model_type model_name_or_path output_dir data_dir train_file predict_file config_name tokenizer_name cache_dir
version_2_with_negative null_score_diff_threshold max_seq_length doc_stride max_query_length do_train do_eval
evaluate_during_training do_lower_case per_gpu_train_batch_size per_gpu_eval_batch_size learning_rate weight_decay
adam_epsilon max_grad_norm gradient_accumulation_steps max_steps warmup_steps num_train_epochs n_best_size
max_answer_length verbose_logging no_cuda overwrite_output_dir overwrite_cache seed lang_id logging_steps save_steps
eval_all_checkpoints local_rank fp16 fp16_opt_level server_ip server_port threads
""".split()


@pytest.fixture(scope="module")
def published_run(tmp_path_factory):
    """The published command, verbatim but for the interpreter, in a folder where a tiny model stands in for the hub's.

    More positions than the golden's tiny model has are needed, so the model is made anew from its configuration.
    """
    top = tmp_path_factory.mktemp("published")
    cwd = top / "a" / "b"
    model = cwd / "bert-base-multilingual-cased"
    model.mkdir(parents=True)
    make_model(model)
    for name in ("train", "dev"):
        shutil.copy(GOLDEN / "mini_squad.json", cwd / f"nl_squadv2_{name}_clean.json")
    script = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'run_squad.py'))}"
    command = PUBLISHED.replace("python run_squad.py", script)
    environment = {**os.environ, "SQUAD_DIR": str(cwd)}
    done = subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done, top / "output", cwd


def make_model(folder, **config):
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(1)
    tiny = json.loads((GOLDEN / "tiny_bert" / "config.json").read_text())
    BertForQuestionAnswering(BertConfig(**{**tiny, "max_position_embeddings": 512, **config})).save_pretrained(folder)
    shutil.copy(GOLDEN / "tiny_bert" / "vocab.txt", folder)


def test_published_command_writes_the_published_files(published_run):
    _, output, _ = published_run
    names = {path.name for path in output.iterdir()}
    assert names >= {"predictions_.json", "nbest_predictions_.json", "null_odds_.json", "results_.json"}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [name for name in names if name.endswith(".tmp")]
    questions = [qa["id"] for _, qa in run_squad_questions()]
    for name in ("predictions_.json", "nbest_predictions_.json", "null_odds_.json"):
        text = (output / name).read_text()
        content = json.loads(text)
        assert list(content) == questions
        assert text == json.dumps(content, indent=4) + "\n"


def run_squad_questions():
    from squadlib.data import iter_questions, load_squad

    return iter_questions(load_squad(str(GOLDEN / "mini_squad.json")))


def test_results_line_has_the_published_shape(published_run):
    done, output, _ = published_run
    line = next(line for line in done.stderr.splitlines() if "Results: {" in line)
    assert re.match(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d - INFO - run_squad - Results: \{'exact': ", line)
    results = ast.literal_eval(line.split("Results: ")[1])
    assert list(results) == RESULT_KEYS
    assert json.loads(done.stdout) == results == json.loads((output / "results_.json").read_text())


def test_negative_questions_are_noticed_without_the_flag(published_run):
    done, output, _ = published_run
    impossible = sum(qa["is_impossible"] for _, qa in run_squad_questions())
    warning = [line for line in done.stderr.splitlines() if "--version_2_with_negative is on" in line]
    assert len(warning) == 1 and f"{impossible} unanswerable" in warning[0]
    assert (output / "null_odds_.json").exists()


def test_tensorboard_has_the_legacy_tags(tmp_path, monkeypatch, published_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, _, cwd = published_run
    make_model(tmp_path / "model")
    run_here(tmp_path, monkeypatch, "--evaluate_during_training", "--max_steps", 4)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_.+", run_dir.name)
    events = EventAccumulator(str(run_dir)).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss", "lr", "eval_exact", "eval_f1", "eval_NoAns_exact", "eval_best_f1_thresh"}
    assert [event.step for event in events.Scalars("loss")] == [2, 4]
    assert events.Scalars("lr")[-1].value == 0.0
    assert list((cwd / "runs").iterdir())


def tiny_flags(folder, data=GOLDEN / "mini_squad.json"):
    """A run of seconds on a model that stands in `folder`/model."""
    fixed = "--model_type bert --do_train --do_eval --max_seq_length 64 --doc_stride 32 --max_query_length 12 --no_cuda"
    paths = ["--model_name_or_path", folder / "model", "--output_dir", folder / "out"]
    return [*fixed.split(), *paths, "--train_file", data, "--predict_file", data, "--logging_steps", 2]


def run_here(folder, monkeypatch, *flags):
    """The same in this process, which has torch loaded already; runs/ goes into `folder`."""
    monkeypatch.chdir(folder)
    assert run_squad.main([str(flag) for flag in (*tiny_flags(folder), *flags)]) == 0


def test_without_negatives_nothing_is_left_unanswered(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    run_here(tmp_path, monkeypatch, "--max_steps", 1, "--no_version_2_with_negative")
    assert not (tmp_path / "out" / "null_odds_.json").exists()
    assert "" not in json.loads((tmp_path / "out" / "predictions_.json").read_text()).values()


def test_default_names_under_data_dir_hold_to_the_end(tmp_path, monkeypatch):
    """train-v2.0.json without unanswerable questions is treated as SQuAD 1.1, but is still that file."""
    document = json.loads((GOLDEN / "mini_squad.json").read_text(encoding="utf-8"))
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [qa for qa in paragraph["qas"] if not qa["is_impossible"]]
    for name in ("train-v2.0.json", "dev-v2.0.json"):
        (tmp_path / name).write_text(json.dumps(document))
    make_model(tmp_path / "model")
    run_here(tmp_path, monkeypatch, "--max_steps", 1, "--train_file=", "--predict_file=", "--data_dir", tmp_path)
    assert "train-v2.0.json" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out/null_odds_.json").exists()


def test_all_checkpoints_are_scored_in_numeric_order(tmp_path, monkeypatch, capsys):
    make_model(tmp_path / "model")
    run_here(tmp_path, monkeypatch, "--max_steps", 12, "--save_steps", 4, "--eval_all_checkpoints")
    results = json.loads(capsys.readouterr().out)
    assert [key for key in results if key.startswith("exact")] == ["exact_4", "exact_8", "exact_12", "exact"]
    assert results["f1_12"] == results["f1"]  # checkpoint-12 holds 12 updates, the final model
    assert (tmp_path / "out" / "predictions_4.json").exists()


def test_every_legacy_flag_is_there():
    options = run_squad.build_parser()._option_string_actions
    assert len(LEGACY_FLAGS) == 45
    assert not [flag for flag in LEGACY_FLAGS if f"--{flag}" not in options]


def test_no_flags_explains_the_missing_backslash():
    done = run_script("run_squad.py")
    assert done.returncode == 2
    assert "lacks the backslash" in done.stderr and "--overwrite_output_dir" in done.stderr


def test_all_faults_are_told_at_once():
    flags = "--do_train --doc_stride 400 --learning_rate -1 --bf16 --fp16 --n_best_size 0"
    done = run_script("run_squad.py", *flags.split())
    assert done.returncode == 2
    wanted = ["--model_type is required", "--output_dir is required", "--do_train needs --train_file"]
    wanted += ["--n_best_size 0 must be at least 1"]
    wanted += ["--doc_stride 400 leaves gaps: a window holds 384-64-3 = 317 context tokens; use at most 317"]
    for fault in [*wanted, "--learning_rate -1.0", "--bf16 and --fp16"]:
        assert fault in done.stderr
    assert "Traceback" not in done.stderr


def test_a_typo_is_an_error():
    done = run_script("run_squad.py", "--model_typ", "bert")
    assert done.returncode == 2 and "--model_typ" in done.stderr


def test_full_output_dir_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    done = run_script("run_squad.py", *tiny_flags(tmp_path))
    assert done.returncode == 2 and "--overwrite_output_dir" in done.stderr
