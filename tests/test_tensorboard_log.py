"""TensorBoard shows what happened, at the right steps, in one run."""

from __future__ import annotations

import html
import json
import math
import re
import time

import pytest
from logged_run import ALL, CUT, predictions, read_cells, run_here, texts
from processes import MINI_SQUAD, TINY_BERT, flags

import run_squad
from squadlib.data import Example, load_examples, load_squad, read_examples
from squadlib.model.layout import WindowModel
from squadlib.training.evaluation import Outcome
from squadlib.training.tensorboard_log import NUM_SAMPLES, sample_table

TRAIN_TAGS = {"grad_norm", "windows_per_second", "tokens_per_second", "padding_share", "memory_gib"}


def test_points_are_at_optimiser_steps_and_the_last_step_is_scored_once(logged_run):
    _, events = logged_run
    tags = events.Tags()["scalars"]
    assert {tag.removeprefix("train/") for tag in tags if tag.startswith("train/")} == TRAIN_TAGS
    assert {"loss", "lr", "eval_exact", "eval_f1", "eval_HasAns_f1", "eval_NoAns_exact"} <= set(tags)
    for tag in tags:
        assert [event.step for event in events.Scalars(tag)] == [2, 4, 6], tag
    assert list(texts(events, "eval/samples")) == [2, 4, 6]
    assert [event.step for event in events.Tensors("eval/answerable")] == [2, 4, 6]
    assert [event.step for event in events.Histograms("eval_null_odds/HasAns")] == [2, 4, 6]


def test_sample_questions_stay_the_same_and_show_the_predictions(logged_run):
    folder, events = logged_run
    tables = {step: read_cells(table) for step, table in texts(events, "eval/samples").items()}
    questions = [row[0] for row in tables[2]]
    assert len(questions) == NUM_SAMPLES
    assert all([row[0] for row in table] == questions for table in tables.values())
    by_question = {" ".join(e.question.split()): e for e in load_examples(str(MINI_SQUAD), False)}
    predicted, odds = predictions(folder), predictions(folder, "null_odds_.json")
    assert sum(not by_question[question].answers for question in questions) == NUM_SAMPLES // 2
    for question, gold, prediction, null_odds in tables[6]:
        example = by_question[question]
        golds = list(dict.fromkeys(answer.text for answer in example.answers))
        assert gold == (" ".join(" / ".join(golds).split()) or "*no answer*")
        assert prediction == (" ".join(predicted[example.qid].split()) or "*no answer*")
        assert null_odds == f"{odds[example.qid]:.2f}"


@pytest.mark.parametrize(("num_has", "num_no"), [(0, 3), (3, 0), (2, 30), (30, 2), (1000, 1000), (0, 0)])
def test_samples_are_spread_over_the_file_whatever_the_mix(num_has, num_no):
    answer = read_examples(load_squad(str(MINI_SQUAD)))[0].answers
    examples = [Example(f"h{i}", f"has {i}", "", answer, False) for i in range(num_has)]
    examples += [Example(f"n{i}", f"no {i}", "", (), True) for i in range(num_no)]
    qids = [example.qid for example in examples]
    outcome = Outcome(examples, dict.fromkeys(qids, ""), {}, dict.fromkeys(qids, 0.0), {})
    questions = [row[0] for row in read_cells(sample_table(outcome))]
    assert len(questions) == len(set(questions)) == min(NUM_SAMPLES, num_has + num_no)
    if num_has == num_no == 1000:
        assert questions == [f"{kind} {i}" for kind in ("has", "no") for i in (0, 250, 500, 750)]


def test_pr_curve_counts_the_questions_that_the_null_odds_call_answerable(logged_run):
    folder, events = logged_run
    odds = predictions(folder, "null_odds_.json")
    answerable = {e.qid: bool(e.answers) for e in load_examples(str(MINI_SQUAD), False)}
    probability = {qid: 1 / (1 + math.exp(value)) for qid, value in odds.items()}
    values = list(events.Tensors("eval/answerable")[-1].tensor_proto.float_val)
    size = len(values) // 6
    true_positives, false_positives, _, _, precision, recall = (values[i * size :][:size] for i in range(6))
    for place in (0, size // 2, size * 4 // 7, size - 1):
        above = [qid for qid, p in probability.items() if math.floor(p * (size - 1)) >= place]
        right = sum(answerable[qid] for qid in above)
        assert (true_positives[place], false_positives[place]) == (right, len(above) - right)
        assert recall[place] == pytest.approx(right / sum(answerable.values()))
        assert precision[place] == pytest.approx(right / max(1, len(above)))


def test_null_odds_histograms_hold_every_question(logged_run):
    folder, events = logged_run
    odds = predictions(folder, "null_odds_.json")
    for name, kind in (("HasAns", True), ("NoAns", False)):
        histogram = events.Histograms(f"eval_null_odds/{name}")[-1].histogram_value
        group = [odds[e.qid] for e in load_examples(str(MINI_SQUAD), False) if bool(e.answers) is kind]
        assert (histogram.num, histogram.min, histogram.max) == (len(group), min(group), max(group))


def test_hparams_name_the_flags_and_the_final_scores(logged_run):
    from tensorboard.plugins.hparams import metadata

    _, events = logged_run
    content = events.summary_metadata
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG].plugin_data.content)
    assert start.hparams["learning_rate"].number_value == 1e-4
    assert start.hparams["model_name_or_path"].string_value == str(TINY_BERT)
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG].plugin_data.content)
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert (
        {"loss", "eval_exact", "eval_f1", "eval_HasAns_f1", "eval_NoAns_exact"}
        <= metrics
        <= set(events.Tags()["scalars"])
    )


def test_command_and_versions_are_a_text(logged_run):
    _, events = logged_run
    (text,) = texts(events, "run").values()
    assert all(line.startswith("    ") for line in text.split("\n"))
    assert "python run_squad.py \\" in text and "--learning_rate 1e-4" in text and ", torch " in text


def test_chart_of_all_has_ans_and_no_ans_finds_its_curves(logged_run):
    from tensorboard.plugins.custom_scalar import layout_pb2

    _, events = logged_run
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    found = {}
    for chart in layout.category[0].chart:
        patterns = chart.multiline.tag
        found[chart.title] = {t for t in events.Tags()["scalars"] for pattern in patterns if re.match(pattern, t)}
    assert found == {name: {f"eval_{group}{name}" for group in ("", "HasAns_", "NoAns_")} for name in ("exact", "f1")}


@pytest.mark.parametrize("layout", ["longest", "max_length"])
def test_padding_share_is_what_the_batches_hold(layout, tmp_path, monkeypatch):
    seen = []
    inputs_of = WindowModel.inputs

    def inputs(self, windows, indices):
        found = inputs_of(self, windows, indices)
        if self.model.training:
            seen.append((found[0]["input_ids"].numel(), int(found[0]["attention_mask"].sum())))
        return found

    monkeypatch.setattr(WindowModel, "inputs", inputs)
    if layout == "longest":
        monkeypatch.setattr("squadlib.training.fine_tuning.choose_layout", lambda runner, windows: None)
    events = run_here(tmp_path, monkeypatch, *(["--pad_to_max_length"] if layout == "max_length" else []))
    shares = [event.value for event in events.Scalars("train/padding_share")]
    pairs = [[sum(numbers) for numbers in zip(*seen[first : first + 2], strict=True)] for first in (0, 2, 4)]
    assert shares == pytest.approx([1 - tokens / places for places, tokens in pairs]) and max(shares) > 0


def test_resumed_run_goes_on_in_its_folder_without_folding_back(tmp_path, monkeypatch):
    run_here(tmp_path, monkeypatch, "--evaluate_during_training", "--save_steps", 3)
    (tmp_path / "out" / "checkpoint-6" / "training_state.json").unlink()
    monkeypatch.setattr(time, "time", lambda clock=time.time: clock() + 1)  # names of event files
    assert run_squad.main(flags(*CUT, "--predict_file", MINI_SQUAD, "--resume", "--evaluate_during_training")) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run_dir,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(run_dir), size_guidance=ALL).Reload()
    for tag in ("loss", "eval_f1", "train/memory_gib"):
        assert [event.step for event in events.Scalars(tag)] == [2, 4, 6], tag
    assert list(texts(events, "eval/samples")) == [2, 4, 6]
    assert list(texts(events, "run")) == [0, 3]


def test_text_of_the_data_cannot_become_markup(tmp_path, monkeypatch):
    from tensorboard.plugin_util import markdown_to_safe_html

    evil = (
        "<script>alert(1)</script> <b>x</b> | **bold** [a](javascript:b) ![i](http://x) `c` _em_ snake_case\n# h &lt;"
    )
    document = json.loads(MINI_SQUAD.read_text(encoding="utf-8"))
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                qa["question"] = evil
    (tmp_path / "evil.json").write_text(json.dumps(document))
    events = run_here(tmp_path, monkeypatch, data=tmp_path / "evil.json")
    shown = markdown_to_safe_html(texts(events, "eval/samples")[6])
    assert not re.search("<(script|b|strong|a|img|code|h1)[ >]", shown)
    assert set(re.findall("<em>.*?</em>", shown)) <= {"<em>no answer</em>"}
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", shown)]
    assert cells.count(" ".join(evil.split())) == NUM_SAMPLES


def test_without_unanswerable_questions_there_are_no_null_odds(tmp_path, monkeypatch):
    events = run_here(tmp_path, monkeypatch, "--no_version_2_with_negative")
    assert not events.Tags()["histograms"] and "eval/answerable" not in events.Tags()["tensors"]


def test_log_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    assert run_squad.main(flags("--max_steps", 1)) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if " - ERROR - " in line]
    assert " - runs/" in error and error.endswith(": Not a directory")
