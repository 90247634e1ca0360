"""TensorBoard shows what happened, at the right steps, in one run; the model card is true, safe and keeps edits."""

from __future__ import annotations

import html
import json
import math
import re
import time

import pytest
from conftest import ROOT, run_script
from processes import MINI_SQUAD, TINY_BERT, flags

import run_squad
from evaluate_v2 import markdown_table
from squadlib.data import Example, load_examples, load_squad, read_examples
from squadlib.model.layout import WindowModel
from squadlib.model.loading import load_config, load_model
from squadlib.training.evaluation import Outcome
from squadlib.training.model_card import CardSettings, is_generated, model_card, translation_record, write_card
from squadlib.training.tensorboard_log import NUM_SAMPLES, sample_table

TRAIN_TAGS = {"grad_norm", "windows_per_second", "tokens_per_second", "padding_share", "memory_gib"}
CUT = ("--max_steps", 6, "--logging_steps", 2, "--learning_rate", "1e-4", "--do_eval")
ALL = {"scalars": 0, "tensors": 0, "histograms": 0}


def run_here(folder, monkeypatch, *more, data=MINI_SQUAD):
    """A training run in this process; returns what TensorBoard reads of its only run folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(folder)
    assert run_squad.main(flags(*CUT, "--predict_file", data, *more, train=data)) == 0
    (run_dir,) = (folder / "runs").iterdir()
    assert [path.name.startswith("events.") for path in run_dir.iterdir()] == [True]  # no folder of hparams beside it
    return EventAccumulator(str(run_dir), size_guidance=ALL).Reload()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return folder, run_here(folder, monkeypatch, "--evaluate_during_training", "--card_license", "apache-2.0")


def texts(events, tag):
    """Step -> text."""
    return {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{tag}/text_summary")}


def read_cells(table):
    """Rows of a Markdown table as texts, as a browser shows them."""
    return [[html.unescape(cell.strip()) for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:]]


def predictions(folder, name="predictions_.json"):
    return json.loads((folder / "out" / name).read_text())


# ---------------------------------------------------------------------------------------------------------------------
# TensorBoard
# ---------------------------------------------------------------------------------------------------------------------


def test_points_are_at_optimiser_steps_and_the_last_step_is_scored_once(run):
    _, events = run
    tags = events.Tags()["scalars"]
    assert {tag.removeprefix("train/") for tag in tags if tag.startswith("train/")} == TRAIN_TAGS
    assert {"loss", "lr", "eval_exact", "eval_f1", "eval_HasAns_f1", "eval_NoAns_exact"} <= set(tags)
    for tag in tags:
        assert [event.step for event in events.Scalars(tag)] == [2, 4, 6], tag
    assert list(texts(events, "eval/samples")) == [2, 4, 6]
    assert [event.step for event in events.Tensors("eval/answerable")] == [2, 4, 6]
    assert [event.step for event in events.Histograms("eval_null_odds/HasAns")] == [2, 4, 6]


def test_sample_questions_stay_the_same_and_show_the_predictions(run):
    folder, events = run
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


def test_pr_curve_counts_the_questions_that_the_null_odds_call_answerable(run):
    folder, events = run
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


def test_null_odds_histograms_hold_every_question(run):
    folder, events = run
    odds = predictions(folder, "null_odds_.json")
    for name, kind in (("HasAns", True), ("NoAns", False)):
        histogram = events.Histograms(f"eval_null_odds/{name}")[-1].histogram_value
        group = [odds[e.qid] for e in load_examples(str(MINI_SQUAD), False) if bool(e.answers) is kind]
        assert (histogram.num, histogram.min, histogram.max) == (len(group), min(group), max(group))


def test_hparams_name_the_flags_and_the_final_scores(run):
    from tensorboard.plugins.hparams import metadata

    _, events = run
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


def test_command_and_versions_are_a_text(run):
    _, events = run
    (text,) = texts(events, "run").values()
    assert all(line.startswith("    ") for line in text.split("\n"))
    assert "python run_squad.py \\" in text and "--learning_rate 1e-4" in text and ", torch " in text


def test_chart_of_all_has_ans_and_no_ans_finds_its_curves(run):
    from tensorboard.plugins.custom_scalar import layout_pb2

    _, events = run
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


# ---------------------------------------------------------------------------------------------------------------------
# Model card
# ---------------------------------------------------------------------------------------------------------------------


def front_matter(card):
    import yaml

    return yaml.safe_load(card.split("---\n")[1])


def test_card_has_the_facts_of_the_run(run):
    folder, _ = run
    card, results = (folder / "out/README.md").read_text(encoding="utf-8"), predictions(folder, "results_.json")
    metadata = front_matter(card)
    assert metadata["pipeline_tag"] == "question-answering" and metadata["license"] == "apache-2.0"
    assert "base_model" not in metadata and "language" not in metadata  # a folder, and not a translation
    (found,) = metadata["model-index"][0]["results"]
    assert found["dataset"] == {"name": "mini_squad.json", "type": "squad_v2"}
    values = {metric["type"]: metric["value"] for metric in found["metrics"]}
    assert values == {"exact_match": results["exact"], "f1": results["f1"]}
    assert f"```\n{results}\n```" in card and "2-layer, 32-hidden, 2-heads" in card
    examples = load_examples(str(MINI_SQUAD), False)
    answerable = sum(bool(example.answers) for example in examples)
    assert f"| mini_squad.json | {len(examples)} | {answerable} | {len(examples) - answerable} |" in card


def test_command_of_the_card_is_the_command(run):
    import shlex

    folder, _ = run
    block = re.search(r"```bash\n(.*?)```", (folder / "out/README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    more = ("--predict_file", MINI_SQUAD, "--evaluate_during_training", "--card_license", "apache-2.0")
    assert shlex.split(block.replace("\\\n", ""), comments=True) == ["python", "run_squad.py", *flags(*CUT, *more)]


def test_snippet_of_the_card_answers(run, monkeypatch, capsys):
    import ast

    folder, _ = run
    code = re.search(r"```python\n(.*?)```", (folder / "out/README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    monkeypatch.chdir(folder)
    exec(code, {})
    assert set(ast.literal_eval(capsys.readouterr().out)) == {"score", "start", "end", "answer"}


@pytest.fixture(scope="module")
def card_of():
    """The card of a run that is not made, with a tiny model and the given flags."""
    model = load_model(str(TINY_BERT), load_config(str(TINY_BERT)))

    def make(train, *more, results=None):
        args = run_squad.build_parser().parse_args(flags(*more, train=train))
        examples = load_examples(str(MINI_SQUAD), False)
        card = run_squad.settings(CardSettings, vars(args))
        return model_card(card, "the command", model, {str(train): examples}, results or {}, markdown_table)

    return make


def test_card_has_the_table_of_the_cleaning_report(card_of, tmp_path):
    rows = [("SQuAD2.0 <b>", 130319, 86821, 43498), ("nl_squad.json (align)", 130000, 86502, 43498)]
    keys = ("dataset", "questions", "answerable", "unanswerable")
    report = {"datasets": [dict(zip(keys, row, strict=True)) for row in rows]}
    train = tmp_path / "nl.json"
    train.write_text('{"version": "v2.0", "translation": {"source_lang": "en", "target_lang": "nl", "backend": "m_t"}}')
    for name, more in (("nl_report.json", []), ("other.json", ["--cleaning_report", tmp_path / "other.json"])):
        (tmp_path / name).write_text(json.dumps(report))
        card = card_of(train, *more)
        (tmp_path / name).unlink()
        assert "| SQuAD2.0 &#60;b&#62; | 130,319 | 86,821 | 43,498 |\n| nl_squad.json (align) | 130,000 |" in card
        assert "Machine-translated from en to nl by m_t." in card
        assert front_matter(card)["language"] == "nl" and front_matter(card)["datasets"] == ["squad"]


def test_languages_come_through_translating_and_cleaning(tmp_path):
    sample = ROOT / "sample"
    memory = ("--backend", "memory", "--memory_file", sample / "memory_en_nl.jsonl", "--output_file", "nl.json")
    done = run_script("translate_squad.py", "--input_file", sample / "sample-v2.0.json", *memory, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_script("clean_squad.py", "--input_file", "nl.json", "--output_file", "clean.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = translation_record(str(tmp_path / "clean.json"))
    assert (record["source_lang"], record["target_lang"], record["backend"]) == ("en", "nl", "memory")


def test_broken_cleaning_report_is_left_out_with_a_warning(card_of, tmp_path, caplog):
    (tmp_path / "nl.json").write_text("{}")
    for content in ("", "[]", '{"datasets": 3}', '{"datasets": [{"dataset": "x"}]}'):
        (tmp_path / "nl_report.json").write_text(content)
        assert "| nl.json | 59 |" in card_of(tmp_path / "nl.json")
    assert caplog.text.count("is not a report of clean_squad.py") == 4


def test_base_model_is_named_when_it_is_of_the_hub(card_of, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    card = card_of(tmp_path / "x.json", "--model_name_or_path", "GroNLP/bert-base-dutch-cased")
    metadata = front_matter(card)
    assert metadata["base_model"] == "GroNLP/bert-base-dutch-cased" and "datasets" not in metadata
    assert "model-index" not in metadata and "Not scored yet." in card


def test_odd_names_stay_valid_yaml(card_of, tmp_path, monkeypatch):
    odd = "a: \"b\" 'c' #d \x7f\u2028é\udcff|<i>.json"
    monkeypatch.setattr("squadlib.training.model_card.translation_record", lambda path: {})
    results = dict.fromkeys(["exact", "f1"], 50.0)
    card = card_of(tmp_path / odd, "--card_license", odd, "--output_dir", tmp_path / odd, results=results)
    write_card(str(tmp_path), card)
    metadata = front_matter((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert metadata["license"] == odd and metadata["model-index"][0]["results"][0]["dataset"]["name"] == odd
    assert is_generated(str(tmp_path / "README.md"))


def test_card_edited_by_hand_is_never_overwritten(tmp_path, caplog):
    card, other = tmp_path / "README.md", tmp_path / "README.generated.md"
    write_card(str(tmp_path), "first\n")
    write_card(str(tmp_path), "second\n")
    assert card.read_text().startswith("second\n") and not other.exists()
    written = card.read_text()
    for edited in (written.replace("second", "mine"), written + "more", written[:-1], "all mine", "", written * 2):
        card.write_text(edited)
        write_card(str(tmp_path), "third\n")
        assert card.read_text() == edited and other.read_text().startswith("third\n")
        assert f"{card} was edited or is not ours, so it is kept; the new card is {other}" in caplog.text
    card.write_bytes(b"\xff\xfe not UTF-8")
    write_card(str(tmp_path), "fourth\n")
    assert card.read_bytes() == b"\xff\xfe not UTF-8"


def test_missing_cleaning_report_is_said_before_training(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_squad.main(flags("--cleaning_report", tmp_path / "none.json"))
    assert "--cleaning_report" in capsys.readouterr().err
