"""Several files to train on and to score: what each of them gets, and that one file alone is treated as ever."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from logged_run import ALL, texts
from processes import MINI_SQUAD, Run, curve, flags, one_sentence, prediction_files, same_bits, weights
from several_processes import assert_all_done, start_ranks

import run_squad
from squadlib.console import SquadError
from squadlib.data import named_files
from squadlib.training.evaluation import average
from squadlib.training.plan import epoch_shares, epoch_windows

SIZES = "--max_seq_length 64 --doc_stride 32 --max_query_length 12 --no_cuda".split()
SAMPLED = ("--sampling_temperature", 2, "--num_train_epochs", 2, "--save_steps", 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder of a.json, 8 questions (24 windows), b.json, 20 others (39), and ab.json with those of both."""
    folder = tmp_path_factory.mktemp("files")
    articles = json.loads(MINI_SQUAD.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    pairs = [(paragraph["context"], qa) for paragraph in paragraphs for qa in paragraph["qas"]]
    parts = {"a": pairs[:8], "b": pairs[8:28], "ab": pairs[:28]}
    for name, part in parts.items():
        qas = [{"context": context, "qas": [qa]} for context, qa in part]
        data = [{"title": f"article {n % 3}", "paragraphs": qas[n : n + 1]} for n in range(len(qas))]
        (folder / f"{name}.json").write_text(json.dumps({"version": "v2.0", "data": data}))
    return folder


def train(folder, monkeypatch, *more):
    monkeypatch.chdir(folder)
    assert run_squad.main(flags("--num_train_epochs", 2, *more)) == 0
    return folder


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# ---- names ----


def test_a_file_is_called_as_it_is_told_or_as_it_is_named():
    assert named_files(["x/dev_nl.json"]) == {"": "x/dev_nl.json"}
    assert named_files(["nl=x/dev.json"]) == {"nl": "x/dev.json"}
    found = named_files(["nl=x/dev.json", "x/dev_es.json", "y/zh (new).jsonl.gz"], "data")
    assert found == {"nl": "data/x/dev.json", "dev_es": "data/x/dev_es.json", "zh__new_": "data/y/zh (new).jsonl.gz"}


def test_an_equals_sign_may_stand_in_a_files_own_name(tmp_path):
    (tmp_path / "a=b.json").touch()
    assert named_files(["a=b.json"], str(tmp_path)) == {"": str(tmp_path / "a=b.json")}
    assert named_files(["./a=c.json"]) == {"": "./a=c.json"}
    assert named_files(["x=a=b.json"]) == {"x": "a=b.json"}
    (tmp_path / "b.json").touch()
    with pytest.raises(SquadError, match=r"a=b.json is a file, and so is b.json; write ./a=b.json for the one, a=./b"):
        named_files(["a=b.json"], str(tmp_path))
    assert named_files(["a=./b.json"], str(tmp_path)) == {"a": f"{tmp_path}/./b.json"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nl=dev_nl.json", "nl=dev_es.json"], "dev_nl.json and dev_es.json would be told apart by nl and nl alone"),
        (["nl/dev.json", "es/dev.json"], "by dev and dev alone, which are not different enough; put other names in"),
        (["nl=a.json", "NL=b.json"], "by nl and NL alone"),  # one file on some disks
        (["nl=a.json", "nl_4=b.json"], "by nl and nl_4 alone"),  # predictions_nl_4.json: nl of checkpoint-4
        (["nl=a.json", "es=./a.json"], "./a.json is given twice"),
        (["average=a.json", "b.json"], 'a.json would be called "average"'),
    ],
)
def test_files_that_would_share_a_name_are_refused(arguments, said, capsys):
    with pytest.raises(SquadError) as caught:
        named_files(arguments)
    assert said in str(caught.value)
    with pytest.raises(SystemExit) as caught:
        run_squad.main(flags("--do_eval", "--predict_file", *arguments))
    assert caught.value.code == 2 and said in capsys.readouterr().err


def test_wrong_lists_are_told_with_the_other_flags(capsys):
    with pytest.raises(SystemExit):
        run_squad.main(flags("--sampling_temperature", "0.5", "--train_file", "a.json", "x/../a.json"))
    said = capsys.readouterr().err
    assert "--train_file: x/../a.json is given twice" in said and "--sampling_temperature 0.5 must be" in said
    with pytest.raises(SystemExit):
        run_squad.main(["--do_predict", "--model_name_or_path", "x", "--predict_file", "a.jsonl", "b.jsonl"])
    assert "one file of JSON lines at a time" in capsys.readouterr().err


# ---- training ----


def test_shares_of_an_epoch():
    assert epoch_shares([10, 90], 1) == [10, 90]
    assert epoch_shares([10, 90], 2) == [25, 75]  # 1 : 3
    assert epoch_shares([10, 90], 1e9) == [50, 50]
    assert epoch_shares([1, 1, 1], 5) == [1, 1, 1]
    assert epoch_shares([1, 4, 9], 2) == [2, 5, 7]  # 2.33, 4.67, 7: what is left goes to the largest fraction
    assert sum(epoch_shares([3, 1000, 77, 12], 3.3)) == 1092


def test_no_window_comes_again_before_all_others_of_its_file():
    sizes, seen = [7, 40], np.zeros(47, int)
    assert epoch_windows(sizes, 1, 3, 42).tolist() == list(range(47))
    orders = [epoch_windows(sizes, 3, epoch, 42) for epoch in range(6)]
    shares = epoch_shares(sizes, 3)
    assert shares[0] > 7 and shares[1] < 40
    for epoch, order in enumerate(orders, 1):
        assert ((order < 7).sum(), len(order)) == (shares[0], 47)
        seen += np.bincount(order, minlength=47)
        for part, share, size in zip((seen[:7], seen[7:]), shares, sizes, strict=True):
            assert {*part.tolist()} <= {share * epoch // size, -(-share * epoch // size)}
    assert np.array_equal(epoch_windows(sizes, 3, 4, 42), orders[4])
    assert not np.array_equal(epoch_windows(sizes, 3, 4, 43), orders[4])


def test_two_files_train_as_one_with_the_questions_of_both(files, tmp_path, monkeypatch):
    for name, given in (("two", ["a.json", "b.json"]), ("one", ["ab.json"])):
        (tmp_path / name).mkdir()
        train(tmp_path / name, monkeypatch, "--train_file", *(files / file for file in given))
    assert weights(tmp_path / "two/out") == weights(tmp_path / "one/out")
    assert curve(tmp_path / "two/runs") == curve(tmp_path / "one/runs")


def test_ids_may_repeat_between_files(files, tmp_path, monkeypatch):
    shutil.copy(files / "a.json", tmp_path / "c.json")
    train(tmp_path, monkeypatch, "--train_file", files / "a.json", "c.json")
    assert "| a.json | 24 | 24 |\n| c.json | 24 | 24 |" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sampled(files, tmp_path_factory):
    """A run on two files that nothing disturbed, scored on both as it trains."""
    folder = tmp_path_factory.mktemp("sampled")
    run = Run(folder, *sampled_flags(files, "--save_total_limit", 0))
    assert run.wait() == 0, run.stderr
    return folder, run


def sampled_flags(files, *more):
    pair = files / "a.json", files / "b.json"
    scored = ("--do_eval", "--evaluate_during_training", "--predict_file", f"x={pair[0]}", pair[1])
    return flags(*SAMPLED, *scored, "--logging_steps", 10, "--train_file", *pair, *more)


def test_each_training_file_is_named_with_its_windows(sampled):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, run = sampled
    table = "| a.json | 24 | 28 |\n| b.json | 39 | 35 |"
    (run_dir,) = (folder / "runs").iterdir()
    events = EventAccumulator(str(run_dir), size_guidance=ALL).Reload()
    card = (folder / "out/README.md").read_text(encoding="utf-8")
    for shown in (run.stderr, card, texts(events, "data")[0]):
        assert table in shown
    rows = [line for line in card.split("## Model bench")[0].splitlines() if line.startswith(("| a.", "| b."))]
    assert len(rows) == 4 and rows[2:] == table.splitlines()
    assert read(folder / "out/training_args.json")["train_file"][0].endswith("a.json")


def test_a_resumed_run_on_two_files_has_the_bits_of_an_unbroken_one(files, sampled, tmp_path):
    folder, _ = sampled
    for step in (2, 20):  # inside the first epoch, and the second
        shutil.copytree(folder / f"out/checkpoint-{step}", tmp_path / f"{step}/out/checkpoint-{step}")
        run = Run(tmp_path / str(step), *sampled_flags(files, "--resume"))
        assert run.wait() == 0 and f"Going on from out/checkpoint-{step}" in run.stderr, run.stderr
        assert weights(tmp_path / f"{step}/out") == weights(folder / "out")
        assert prediction_files(tmp_path / f"{step}/out") == prediction_files(folder / "out")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--train_file", "b.json", "a.json"], "63 windows (a.json 24, b.json 39; now b.json 39, a.json 24); give the"),
        (["--train_file", "a.json"], "63 windows (a.json 24, b.json 39; now a.json 24); give the same"),
        (
            ["--sampling_temperature", 1],
            "with --sampling_temperature 2, seed 42, files of 24 + 39 windows, not with --s",
        ),
        (
            ["--seed", 7],
            "not with --sampling_temperature 2, seed 7, files of 24 + 39 windows; give the same, or delete",
        ),
    ],
)
def test_changed_or_reordered_files_are_told_when_a_run_is_resumed(more, said, files, sampled, tmp_path):
    shutil.copytree(sampled[0] / "out/checkpoint-2", tmp_path / "out/checkpoint-2")
    more = [files / part if str(part).endswith(".json") else part for part in more]
    run = Run(tmp_path, *sampled_flags(files, "--resume", *more))
    assert run.wait() == 1 and said in one_sentence(run.stderr)


# ---- scoring ----


def test_the_average_counts_each_file_the_same():
    results = {
        "nl": {"exact": 10.0, "f1": 20.0, "total": 900, "HasAns_exact": 5.0, "best_exact": 50.0, "exact_4": 1.0},
        "es": {"exact": 30.0, "f1": 25.0, "total": 100, "best_exact": 60.0, "exact_4": 2.0, "best_exact_4": 3.0},
    }
    expected = {"exact": 20.0, "f1": 22.5, "total": 1000, "HasAns_exact": 5.0, "exact_4": 1.5}
    assert average(results) == expected and isinstance(average(results)["total"], int)


def test_each_scored_file_has_files_and_scores_of_its_own(files, sampled, tmp_path, capsys, monkeypatch):
    folder, run = sampled
    out, printed = folder / "out", json.loads(run.stdout)
    assert list(printed) == ["x", "b", "average"] and printed == read(out / "results_.json")
    assert printed["average"]["exact"] == (printed["x"]["exact"] + printed["b"]["exact"]) / 2
    assert f"| out (x) | {printed['x']['exact']:.2f}/" in (out / "README.md").read_text(encoding="utf-8")
    assert "| average | " in run.stderr
    assert not (out / "predictions_.json").exists()
    monkeypatch.chdir(tmp_path)
    null = "--version_2_with_negative"
    for name, file in (("x", "a.json"), ("b", "b.json")):
        argv = ["--model_type", "bert", "--model_name_or_path", out, "--do_eval", "--output_dir", name, *SIZES, null]
        assert run_squad.main([*map(str, argv), "--predict_file", str(files / file)]) == 0
        assert json.loads(capsys.readouterr().out) == printed[name] == read(out / f"results_{name}.json")
        for kind in ("predictions", "nbest_predictions", "null_odds", "results"):
            alone = (tmp_path / name / f"{kind}_.json").read_bytes()
            assert (out / f"{kind}_{name}.json").read_bytes() == alone


def test_tensorboard_has_each_file_beside_the_old_tags(sampled):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    folder, run = sampled
    (run_dir,) = (folder / "runs").iterdir()
    events = EventAccumulator(str(run_dir), size_guidance=ALL).Reload()
    printed, tags = json.loads(run.stdout), events.Tags()
    for key in ("exact", "f1", "HasAns_f1", "NoAns_exact"):
        steps = [event.step for event in events.Scalars(f"eval_{key}")]
        assert steps == [10, 20, 30, 32]
        for name, behind in (("average", ""), ("x", "/x"), ("b", "/b")):
            shown = events.Scalars(f"eval_{key}{behind}")[-1].value
            assert shown == pytest.approx(printed[name][key], rel=1e-6)
    assert "eval_best_exact/x" in tags["scalars"] and "eval_best_exact" not in tags["scalars"]
    assert "eval/answerable/b" in tags["tensors"] and "eval_null_odds/x/NoAns" in tags["histograms"]
    assert len(texts(events, "eval/samples/b")) == len(steps)
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["All, HasAns and NoAns questions", "All files"]
    assert [list(chart.multiline.tag) for chart in layout.category[1].chart] == [
        ["eval_exact(/.+)?$"],
        ["eval_f1(/.+)?$"],
    ]


def test_checkpoints_are_scored_on_each_file(files, sampled, tmp_path, monkeypatch, capsys):
    folder, run = sampled
    for step in (2, 4):
        shutil.copytree(folder / f"out/checkpoint-{step}", tmp_path / f"out/checkpoint-{step}")
    monkeypatch.chdir(tmp_path)
    argv = ["--model_type=bert", "--model_name_or_path", folder / "out", "--output_dir=out", *SIZES, "--do_eval"]
    argv += ["--eval_all_checkpoints", "--predict_file", files / "a.json", f"y={files / 'b.json'}"]
    assert run_squad.main([str(part) for part in argv]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("a", "y", "average"):
        assert [key for key in found[name] if key.startswith("exact")] == ["exact_2", "exact_4", "exact"]
    assert found["average"]["exact_2"] == (found["a"]["exact_2"] + found["y"]["exact_2"]) / 2
    assert found["y"]["exact"] == json.loads(run.stdout)["b"]["exact"]
    assert (tmp_path / "out/nbest_predictions_y_4.json").exists() and (tmp_path / "out/predictions_a.json").exists()


def test_several_files_are_answered_without_scoring(files, sampled, tmp_path, monkeypatch):
    folder, _ = sampled
    monkeypatch.chdir(tmp_path)
    argv = ["--model_name_or_path", folder / "out", "--do_predict", "--output_dir=out", *SIZES, "--predict_file"]
    assert run_squad.main([str(part) for part in (*argv, files / "a.json", f"y={files / 'b.json'}")]) == 0
    assert (tmp_path / "out/predictions_y.json").read_bytes() == (folder / "out/predictions_b.json").read_bytes()
    assert (tmp_path / "out/null_odds_a.json").read_bytes() == (folder / "out/null_odds_x.json").read_bytes()


def test_two_processes_score_several_files_as_one_does(files, sampled, tmp_path):
    folder, _ = sampled
    argv = ["--model_type", "bert", "--model_name_or_path", folder / "out", "--do_eval", "--output_dir", "out", *SIZES]
    argv += ["--predict_file", f"x={files / 'a.json'}", files / "b.json"]
    runs = start_ranks(tmp_path, *argv)
    assert_all_done(runs)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json")}
    assert len(found) == 9  # four of each file, and results_.json
    assert found == {name: (folder / "out" / name).read_bytes() for name in found}
    assert json.loads(runs[0].stdout) == read(tmp_path / "out/results_.json") and not runs[1].stdout


def test_two_processes_train_on_several_files(files, tmp_path):
    runs = start_ranks(tmp_path, *flags(*SAMPLED, "--max_steps", 6, "--train_file", files / "a.json", files / "b.json"))
    assert_all_done(runs)
    again = start_ranks(
        tmp_path / "again", *flags(*SAMPLED, "--max_steps", 6, "--train_file", files / "a.json", files / "b.json")
    )
    assert_all_done(again)
    assert same_bits(tmp_path, tmp_path / "again")
