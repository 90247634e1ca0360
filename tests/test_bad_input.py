"""Bad input of run_squad.py: one clear sentence, the documented exit code, nothing written, no traceback."""

from __future__ import annotations

import copy
import json
import os
import shutil

import pytest
from conftest import ROOT
from processes import TINY_BERT, Run, file_names, flags, prediction_files, weights, write_small_squad

import run_squad
from squadlib.data import load_squad, read_examples
from squadlib.files import LOCK_FILE, write_json
from squadlib.training.checkpoints import check_checkpoint

CONTEXT = "De molen van Haarlem is in 1912 gebouwd door Jan Smit, en in 1932 verbrand."
QUESTION = {
    "id": "q1",
    "question": "Wanneer is de molen gebouwd?",
    "is_impossible": False,
    "answers": [{"text": "1912", "answer_start": 27}],
}


def document(context=CONTEXT, **changes):
    """A file of one question; a change to None removes the key."""
    qa = {key: value for key, value in {**copy.deepcopy(QUESTION), **changes}.items() if value is not None}
    return {"version": "v2.0", "data": [{"title": "Molens", "paragraphs": [{"context": context, "qas": [qa]}]}]}


def answers(**changes):
    answer = {key: value for key, value in {"text": "1912", "answer_start": 27, **changes}.items() if value is not None}
    return [answer]


def without(key):
    content = document()
    del content["data"][0]["paragraphs"][0][key]
    return content


def twice():
    content = document()
    content["data"].append(copy.deepcopy(content["data"][0]))
    return content


VALID = json.dumps(document()).encode()
BAD_FILES = {  # name: (content, what the sentence must hold)
    "truncated": (VALID[:150], ("not valid JSON at line 1", "looks cut off")),
    "utf-16": (VALID.decode().encode("utf-16"), ("UTF-16", "save it as UTF-8")),
    "latin-1": (json.dumps(document("Café"), ensure_ascii=False).encode("latin-1"), ("not valid UTF-8", "byte ")),
    "empty": (b"", ("the file is empty",)),
    "spaces only": (b" \n\n", ("the file is empty",)),
    "no JSON": (b"<html>Not found</html>", ("not valid JSON at line 1 column 1",)),
    "NaN": (VALID.replace(b"27", b"NaN"), ("NaN is not a JSON number",)),
    "nested too deep": (b"[" * 200_000, ("usable JSON", "recursion")),
    "a huge number": (VALID.replace(b"27", b"9" * 5000), ("usable JSON",)),
    "half a surrogate pair": (VALID.replace(b"Haarlem", rb"Haar\ud800lem"), ("half a surrogate pair",)),
    "null": (b"null", ('no list "data" at the top',)),
    "number": (b"7", ('no list "data" at the top',)),
    "{}": ({}, ('no list "data" at the top',)),
    "[]": ([], ('no list "data" at the top',)),
    "data is empty": ({"data": []}, ('"data" is an empty list',)),
    "data is text": ({"data": "x"}, ('no list "data" at the top',)),
    "no paragraphs": ({"data": [{"title": "x"}]}, ("article 1", '"paragraphs" should be a list')),
    "article is a list": ({"data": [[]]}, ("article 1", "list")),
    "no question": ({"data": [{"paragraphs": []}]}, ("the file has no question",)),
    "no context": (without("context"), ('paragraph 1 of "Molens"', '"context" should be text')),
    "context is a number": (document(context=5), ('"context" should be text, found 5',)),
    "no qas": (without("qas"), ('"qas" should be a list',)),
    "no id": (document(id=None), ('a question has no "id"',)),
    "id is a list": (document(id=["q1"]), ('a question has no "id"',)),
    "no question text": (document(question=None), ("question q1", '"question" should be text')),
    "no answers": (document(answers=None), ("question q1", '"answers" should be a list')),
    "answers are text": (document(answers="1912"), ('"answers" should be a list',)),
    "answer is text": (document(answers=["1912"]), ("question q1, answer", '"text" should be text')),
    "answer without text": (document(answers=answers(text=None)), ('"text" should be text',)),
    "answer without start": (document(answers=answers(answer_start=None)), ("answer_start is None",)),
    "start is a string": (document(answers=answers(answer_start="27")), ("answer_start is '27'",)),
    "start is a fraction": (document(answers=answers(answer_start=27.5)), ("answer_start is 27.5",)),
    "start is true": (document(answers=answers(answer_start=True)), ("answer_start is True",)),
    "start is negative": (document(answers=answers(answer_start=-1)), ("answer_start -1 is negative",)),
    "start past the end": (document(answers=answers(answer_start=812)), ("812 is past the end of a 75-character",)),
    "start is wrong": (document(answers=answers(answer_start=3)), ("1 of 1 answers are not at their answer_start",)),
    "is_impossible is text": (document(is_impossible="no"), ("is_impossible is 'no'",)),
    "answerable, no answer": (document(answers=[]), ("question q1 has no answer to train on",)),
    "duplicate ids": (twice(), ("question q1", "used before")),
    "blank context": (document("\t \n", is_impossible=True, answers=[]), ("every context is blank",)),
    "control characters only": (document("\x01\x02", is_impossible=True, answers=[]), ("every context is blank",)),
}


def save(content, path):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def one_sentence(stderr: str) -> str:
    """The only ERROR line."""
    (line,) = [line for line in stderr.splitlines() if " - ERROR - " in line]
    assert "Traceback" not in stderr
    return line.split(" - ERROR - ", 1)[1].split(" - ", 1)[1]


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_training_file_is_one_sentence_and_nothing_is_written(name, tmp_path, capfd, monkeypatch):
    content, expected = BAD_FILES[name]
    path = save(content, tmp_path / "train.json")
    monkeypatch.chdir(tmp_path)
    assert run_squad.main(flags(train="train.json")) == 1
    sentence = one_sentence(capfd.readouterr().err)
    assert sentence.startswith("train.json: "), sentence
    for part in expected:
        assert part in sentence
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_FILE]
    assert left == [path], "nothing may be written"


EDGES = {  # valid, if unusual: (context, question changes, the answer that must be found by its offsets)
    "plain": (CONTEXT, {}, "1912"),
    "v1.1 without is_impossible": (CONTEXT, {"is_impossible": None}, "1912"),
    "integer id": (CONTEXT, {"id": 5733}, "1912"),
    "several gold answers": (CONTEXT, {"answers": answers() + answers(text="in 1912", answer_start=24)}, "1912"),
    "emoji": ("😀👨‍👩‍👧 in 1912", {"answers": answers(answer_start=10)}, "1912"),
    "combining marks": ("Cafe\u0301 1912", {"answers": answers(text="Cafe\u0301", answer_start=0)}, "Cafe\u0301"),
    "NFC answer in an NFD context": (
        "Cafe\u0301 1912",
        {"answers": answers(text="Caf\u00e9", answer_start=0)},
        "Caf\u00e9",
    ),
    "non-breaking space": (
        "in 1912\u00a0AD",
        {"answers": answers(text="1912\u00a0AD", answer_start=3)},
        "1912\u00a0AD",
    ),
    "narrow space": ("in 1912\u202fAD", {"answers": answers(text="1912 AD", answer_start=3)}, "1912 AD"),
    "CRLF": ("Een\r\nmolen\r\n1912", {"answers": answers(answer_start=12)}, "1912"),
    "one token": ("1912", {"answers": answers(answer_start=0)}, "1912"),
    "50,000 characters": (CONTEXT * 700, {"answers": answers(answer_start=27 + 75 * 690)}, "1912"),
    "question over the window": (CONTEXT, {"question": "molen " * 900}, "1912"),
    "empty question": (CONTEXT, {"question": ""}, "1912"),
    "answer longer than max_answer_length": (CONTEXT, {"answers": answers(text=CONTEXT, answer_start=0)}, CONTEXT),
    "answer across windows": (
        "molen " * 60,
        {"answers": answers(text="molen " * 49 + "molen", answer_start=6)},
        "molen " * 49 + "molen",
    ),
    "impossible with answers": (CONTEXT, {"is_impossible": True}, None),
    "impossible without the key answers": (CONTEXT, {"is_impossible": True, "answers": None}, None),
    "literal specials": ("[PAD] [SEP] 1912 [CLS]", {"answers": answers(answer_start=12)}, "1912"),
    "blank context": (" ", {"is_impossible": True, "answers": []}, None),
    "control characters only": ("\x01\x02", {"is_impossible": True, "answers": []}, None),
}


@pytest.fixture(scope="module")
def edge_run(tmp_path_factory):
    """One training and evaluation run on all unusual questions in one file, with BOM, in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("edges") / "ouput van ’s ochtends é"
    folder.mkdir()
    content = {"version": "v2.0", "data": []}
    for number, (context, changes, _) in enumerate(EDGES.values()):
        article = document(context, **{"id": f"q{number}", **changes})["data"][0]
        content["data"].append(article)
    (folder / "real train.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    (folder / "link.json").symlink_to("real train.json")
    (folder / "model").symlink_to(TINY_BERT, target_is_directory=True)
    (folder / "elsewhere").mkdir()
    (folder / "uit voer").symlink_to("elsewhere", target_is_directory=True)
    argv = flags("--do_eval", "--predict_file", "link.json", model="model", train="link.json", out="uit voer")
    run = Run(folder, *argv, "--max_steps", 2, "--save_steps", 1)
    assert run.wait() == 0, run.stderr
    return folder, run


def test_unusual_but_valid_input_trains_and_predicts(edge_run):
    folder, run = edge_run
    predictions = json.loads((folder / "elsewhere/predictions_.json").read_text())
    ids = ["5733" if "id" in changes else f"q{n}" for n, (_, changes, _) in enumerate(EDGES.values())]
    assert list(predictions) == ids
    assert "questions dropped" not in run.stderr and '"total": 21' in run.stdout
    assert os.path.islink(folder / "uit voer")


@pytest.mark.parametrize("name", [name for name in EDGES if EDGES[name][2]])
def test_unusual_answer_is_kept_and_labelled(name, tmp_path):
    from squadlib.model.loading import load_config, load_tokenizer
    from squadlib.model.windows import make_windows

    context, changes, text = EDGES[name]
    examples = read_examples(load_squad(str(save(document(context, **changes), tmp_path / "x.json"))))
    assert examples[0].answers[0].text == text
    tokenizer = load_tokenizer(str(TINY_BERT), load_config(str(TINY_BERT)))
    windows = make_windows(examples, tokenizer, max_seq_length=64, doc_stride=32, max_query_length=12, training=True)
    assert not windows.dropped
    if name not in ("answer across windows", "answer longer than max_answer_length"):
        assert (windows.end_position >= windows.start_position).all() and windows.start_position.max() > 0


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------

BAD_FLAGS = {
    "--learning_rat 3e-5": "unrecognized arguments: --learning_rat",
    "--do_trai": "unrecognized arguments: --do_trai",
    "--num_train_epochs two": "invalid float value: 'two'",
    "--num_train_epochs nan": "--num_train_epochs nan must be a number above 0",
    "--learning_rate inf": "--learning_rate inf must be a number above 0",
    "--learning_rate -1": "--learning_rate -1.0 must be a number above 0",
    "--weight_decay -0.1": "--weight_decay -0.1 must not be negative",
    "--save_total_limit -1": "--save_total_limit -1 must not be negative",
    "--per_gpu_train_batch_size 0": "--per_gpu_train_batch_size 0 must be at least 1",
    "--gradient_accumulation_steps 0": "--gradient_accumulation_steps 0 must be at least 1",
    "--n_best_size 0": "--n_best_size 0 must be at least 1",
    "--doc_stride 400": "leaves gaps",
    "--max_seq_length 10": "leaves no room for the context",
    "--seed -5": "--seed -5 must not be negative",
    "--seed 99999999999999999999": "is too large; use a number below 2^63",
    "--evaluate_during_training": "--evaluate_during_training needs --predict_file",
    "--fp16 --bf16": "--bf16 and --fp16 exclude each other",
    "--null_score_diff_threshold nan": "nan is not a number",
    "--do_eval": "--do_eval needs --predict_file",
    "--output_dir FILE": "is a file; name a folder",
    "--output_dir FILE/sub": "is a file; name a folder",
    "--output_dir FULL": "has files; add --overwrite_output_dir",
    "--server_ip 127.0.0.1": "--server_ip and --server_port belong together",
}


@pytest.mark.parametrize("more", BAD_FLAGS)
def test_bad_flags_exit_2_before_anything_is_read(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL/config.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        run_squad.main([*flags(train="not there.json"), *more.split()])
    assert end.value.code == 2
    assert BAD_FLAGS[more] in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "FULL"]


def test_all_faults_of_the_flags_are_named_at_once(capsys):
    with pytest.raises(SystemExit):
        run_squad.main(["--doc_stride", "500", "--n_best_size", "0", "--seed", "-1"])
    err = capsys.readouterr().err
    for part in ("--model_type is required", "--output_dir is required", "leaves gaps", "--n_best_size 0", "--seed -1"):
        assert part in err


@pytest.mark.parametrize("path", ["no such.json", "."])
def test_missing_training_file_is_named(path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run_squad.main(flags(train=path)) == 1
    assert f"{path}: cannot be read (" in one_sentence(capfd.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_output_dir_that_cannot_be_made_is_one_sentence(tmp_path):
    run = Run(tmp_path, *flags("--max_steps", 1, out="/proc/no-such-place/out"))
    assert run.wait() in (1, 2)
    assert "/proc" in run.stderr and "Traceback" not in run.stderr


def test_closed_stdout_ends_quietly_after_all_files_are_written(edge_run, tmp_path):
    folder, _ = edge_run
    argv = ["--model_type", "bert", "--model_name_or_path", str(folder / "elsewhere"), "--do_eval", "--no_cuda"]
    argv += ["--predict_file", str(folder / "link.json"), "--output_dir", "out", "--max_seq_length", "64"]
    argv += ["--doc_stride", "32", "--max_query_length", "12"]
    run = Run(tmp_path, *argv, hook=nobody_reads_stdout)
    assert run.wait() == 141, run.stderr
    assert "Traceback" not in run.stderr and len(prediction_files(tmp_path / "out")) == 4


def nobody_reads_stdout() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_squad(tmp_path_factory.mktemp("data") / "small.json")


def test_loss_that_is_not_a_number_stops_with_step_questions_and_rate(small, tmp_path):
    more = ("--learning_rate", "1e30", "--max_grad_norm", "1e30", "--save_steps", 1, "--max_steps", 10)
    run = Run(tmp_path, *flags(*more, train=small))
    assert run.wait() == 1
    sentence = one_sentence(run.stderr)
    assert sentence.startswith("step 2: loss nan, gradient norm nan at learning rate 9.00e+29, questions mini-")
    assert "checkpoints are kept" in sentence
    assert file_names(tmp_path / "out") == ["checkpoint-1"]
    assert check_checkpoint(str(tmp_path / "out/checkpoint-1"))["global_step"] == 1


def infinite_in_half_precision() -> None:
    """The third and fifth loss overflow: finite themselves, but not their scaled gradients."""
    from squadlib.training import optimisation

    loss_of, calls = optimisation.window_loss, []

    def window_loss(*args):
        calls.append(1)
        return loss_of(*args) * (1e36 if len(calls) in (3, 5) else 1)

    optimisation.window_loss = window_loss


def test_float16_overflows_are_skipped_and_counted(small, tmp_path):
    run = Run(tmp_path, *flags("--fp16", "--max_steps", 6, train=small), hook=infinite_in_half_precision)
    assert run.wait() == 0, run.stderr
    assert "2 updates were skipped for float16 overflow" in run.stderr


def eval_flags(model, small, *more):
    argv = ["--model_type", "bert", "--model_name_or_path", model, "--do_eval", "--predict_file", small]
    argv += ["--output_dir", "out", "--max_seq_length", 64, "--doc_stride", 32, "--max_query_length", 12, "--no_cuda"]
    return [str(part) for part in (*argv, *more)]


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny checkpoint, to be spoilt."""
    shutil.copytree(TINY_BERT, tmp_path / "model")
    return tmp_path / "model"


def set_weights(folder, **changes):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        tensors[name.replace("__", ".")] = change(tensors[name.replace("__", ".")])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("layout", [[], ["--pad_to_max_length"]])
def test_logits_that_are_not_numbers_are_one_sentence_and_old_predictions_stay(layout, model, small, tmp_path):
    set_weights(model, bert__embeddings__LayerNorm__weight=lambda weight: weight * float("nan"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions_.json").write_text("old")
    run = Run(tmp_path, *eval_flags(model, small, *layout))
    assert run.wait() == 1
    assert "question mini-1-1: the model's logits are not numbers; the checkpoint is broken" in one_sentence(run.stderr)
    assert file_names(tmp_path / "out") == ["predictions_.json"]
    assert (tmp_path / "out/predictions_.json").read_text() == "old"


def test_batch_larger_than_the_data_and_accumulation_longer_than_the_run(small, tmp_path):
    more = ("--per_gpu_train_batch_size", 1000, "--gradient_accumulation_steps", 50, "--max_steps", 2)
    run = Run(tmp_path, *flags(*more, train=small))
    assert run.wait() == 0, run.stderr
    assert "global_step = 2," in run.stderr


def test_equal_logits_everywhere_give_valid_files(model, small, tmp_path):
    set_weights(
        model, **{f"bert__embeddings__LayerNorm__{name}": lambda array: array * 0 for name in ("weight", "bias")}
    )
    run = Run(tmp_path, *eval_flags(model, small))
    assert run.wait() == 0, run.stderr
    assert len(json.loads((tmp_path / "out/predictions_.json").read_text())) == 14


def test_only_blank_contexts_predict_nothing_without_a_crash(tmp_path):
    path = save(document(" ", is_impossible=True, answers=[]), tmp_path / "blank.json")
    run = Run(tmp_path, *eval_flags(TINY_BERT, path))
    assert run.wait() == 0, run.stderr
    assert json.loads((tmp_path / "out/predictions_.json").read_text()) == {"q1": ""}


# ---------------------------------------------------------------------------------------------------------------------
# Models that are broken or hostile
# ---------------------------------------------------------------------------------------------------------------------


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


def test_paths_inside_a_data_file_are_never_opened(tmp_path):
    """Names and titles that look like paths stay text; the only files opened are those named on the command line."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    content = document(context=f"{tmp_path / 'pipe'} 1912", id=str(tmp_path / "pipe"), answers=answers(answer_start=0))
    content["data"][0]["title"] = f"../../{tmp_path / 'pipe'}"
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": str(tmp_path / "pipe"), "answer_start": 0}]
    examples = read_examples(load_squad(str(save(content, tmp_path / "x.json"))))
    assert examples[0].qid == str(tmp_path / "pipe")


# ---------------------------------------------------------------------------------------------------------------------
# Full disk
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "file"),
    [
        (100, "runs/"),  # the TensorBoard file
        (20_000, "model.safetensors"),
        (200_000, "optimizer.safetensors"),  # the tiny model has 163 kB, its optimiser state 286 kB
    ],
)
def test_full_disk_while_training_is_named_and_a_re_run_goes_on(limit, file, small, tmp_path):
    argv = flags("--max_steps", 4, "--save_steps", 2, "--resume", train=small)
    first = Run(tmp_path, *argv, "--max_steps", 2)
    assert first.wait() == 0, first.stderr
    before = weights(tmp_path / "out"), weights(tmp_path / "out/checkpoint-2")
    full = Run(tmp_path, *argv, file_limit=limit)
    assert full.wait() == 1, full.stderr
    sentence = one_sentence(full.stderr)
    assert file in sentence and ("free some" in sentence or "no space left" in sentence), sentence
    assert (weights(tmp_path / "out"), weights(tmp_path / "out/checkpoint-2")) == before
    assert not list((tmp_path / "out").glob("*.tmp"))
    again = Run(tmp_path, *argv)
    assert again.wait() == 0, again.stderr
    assert "Going on from out/checkpoint-2" in again.stderr and (tmp_path / "out/checkpoint-4").is_dir()


@pytest.mark.parametrize(("limit", "file"), [(1000, "nbest_predictions_.json"), (300, "predictions_.json")])
def test_full_disk_while_predicting_keeps_the_old_files(limit, file, small, tmp_path):
    argv = eval_flags(TINY_BERT, small)
    assert Run(tmp_path, *argv).wait() == 0
    before = prediction_files(tmp_path / "out")
    full = Run(tmp_path, *argv, "--null_score_diff_threshold", 1, file_limit=limit)
    assert full.wait() == 1
    assert file in one_sentence(full.stderr) and "no space left" in full.stderr
    assert prediction_files(tmp_path / "out") == before
    assert file_names(tmp_path / "out") == sorted(before)
    assert Run(tmp_path, *argv).wait() == 0


def test_no_errors_are_swallowed_by_the_shared_writer(tmp_path):
    path = tmp_path / "x.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(ValueError):
        write_json(str(path), {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1
