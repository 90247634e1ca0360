"""run_squad.py as users call it: the published command, its flags, its files, and 2020's numbers to the bit."""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import training_2020
from conftest import ROOT, run_script
from processes import curve, weights

import run_squad
from squadlib.training.plan import learning_rate_factor, make_plan

GOLDEN = ROOT / "tests" / "golden"
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


WINDOW_FLAGS = {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 12}
ACCUMULATED = {"gradient_accumulation_steps": 2, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup_steps": 3}
SETTINGS = {"defaults": training_2020.Settings(), "accumulated": training_2020.Settings(**ACCUMULATED)}


@pytest.fixture(scope="module", params=SETTINGS)
def both_trainings(request, tmp_path_factory):
    """(name of the settings, our curve and weights, those of 2020's loop run beside it in this process)."""
    settings = SETTINGS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ours = train_exactly(folder, settings)
    model = load_tiny()
    dataset = training_2020.padded(golden_windows(), WINDOW_FLAGS["max_seq_length"])
    updates = training_2020.train(model, dataset, settings)
    return request.param, ours, (updates, {name: p.detach().numpy().tobytes() for name, p in model.named_parameters()})


def train_exactly(folder, settings):
    """(curve by tag, bits of the weights) of run_squad.py --pad_to_max_length with these settings."""
    flags = {**vars(settings), **WINDOW_FLAGS, "logging_steps": 1, "save_steps": 0, "output_dir": folder / "out"}
    paths = {"model_name_or_path": GOLDEN / "tiny_bert", "train_file": GOLDEN / "mini_squad.json"}
    argv = [part for name, value in {**flags, **paths}.items() for part in (f"--{name}", str(value))]
    assert run_squad.main(["--model_type", "bert", "--do_train", "--pad_to_max_length", "--no_cuda", *argv]) == 0
    return curve(folder / "runs"), weights(folder / "out")


def load_tiny():
    from transformers import BertForQuestionAnswering

    return BertForQuestionAnswering.from_pretrained(GOLDEN / "tiny_bert", dtype="float32")


def golden_windows():
    from squadlib.data import load_squad, read_examples
    from squadlib.model.loading import load_config, load_tokenizer
    from squadlib.model.windows import make_windows

    tokenizer = load_tokenizer(str(GOLDEN / "tiny_bert"), load_config(str(GOLDEN / "tiny_bert")))
    examples = read_examples(load_squad(str(GOLDEN / "mini_squad.json")))
    return make_windows(examples, tokenizer, **WINDOW_FLAGS, training=True)


def test_training_has_the_bits_of_2020s_loop_on_this_machine(both_trainings):
    _, (points, found), (updates, expected) = both_trainings
    for tag, key in ("loss", "loss"), ("train/grad_norm", "norm"), ("lr", "lr"):
        bits = [(step, np.float32(update[key]).tobytes()) for step, update in enumerate(updates, 1)]
        assert points[tag] == bits
    assert found == expected


def test_training_has_the_figures_of_4_57_6(both_trainings):
    """Written down on another processor, so within the rounding of float32."""
    name, (points, _), _ = both_trainings
    golden = json.loads(gzip.decompress((GOLDEN / "training.json.gz").read_bytes()))
    run = {key: np.array([float.fromhex(value) for value in run]) for key, run in golden["runs"][name].items()
           if key in ("losses", "grad_norms", "learning_rates")}  # fmt: skip
    losses = run["losses"].reshape(-1, SETTINGS[name].gradient_accumulation_steps).mean(axis=1)
    # A point has the rate of the update that comes next, 0 after the last one.
    rates = [*run["learning_rates"][1:], 0.0]
    for tag, expected in ("loss", losses), ("train/grad_norm", run["grad_norms"]), ("lr", rates):
        values = [np.frombuffer(bits, np.float32)[0] for _, bits in points[tag]]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-12)


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


def test_plan_honours_fractions_and_leftovers():
    plan = make_plan(num_windows=21, batch_size=4, accumulation=4, epochs=1.5, max_steps=-1)
    assert (plan.updates_per_epoch, plan.total_updates) == (2, 3)
    assert [len(batch) for batch in plan.micro_batches(range(21), 0)] == [4, 4, 4, 4]
    assert [len(batch) for batch in plan.micro_batches(range(21), 1)] == [4, 1]
    assert make_plan(5, 8, 16, 0.5, -1).total_updates == 1
    assert make_plan(5, 8, 1, 3, 7).total_updates == 7


def test_learning_rate_warms_up_and_decays():
    factors = [learning_rate_factor(step, 2, 6) for step in range(7)]
    assert factors == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
