"""The model card is true, safe and keeps edits."""

from __future__ import annotations

import json
import os
import re

import pytest
from conftest import ROOT, run_script
from logged_run import CUT, predictions
from processes import MINI_SQUAD, TINY_BERT, flags

import run_squad
from evaluate_v2 import markdown_table
from squadlib.data import load_examples
from squadlib.model.loading import load_config, load_model
from squadlib.training.model_card import CardSettings, is_generated, model_card, translation_record, write_card


def front_matter(card):
    import yaml

    return yaml.safe_load(card.split("---\n")[1])


def test_card_has_the_facts_of_the_run(logged_run):
    folder, _ = logged_run
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


def test_command_of_the_card_is_the_command(logged_run):
    import shlex

    folder, _ = logged_run
    block = re.search(r"```bash\n(.*?)```", (folder / "out/README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    more = ("--predict_file", MINI_SQUAD, "--evaluate_during_training", "--card_license", "apache-2.0")
    assert shlex.split(block.replace("\\\n", ""), comments=True) == ["python", "run_squad.py", *flags(*CUT, *more)]


def test_snippet_of_the_card_answers(logged_run, monkeypatch, capsys):
    import ast

    folder, _ = logged_run
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
        files = {str(train): load_examples(str(MINI_SQUAD), False)}
        card = run_squad.settings(CardSettings, vars(args))
        return model_card(card, "the command", model, files, files, {"": results or {}}, markdown_table)

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


def test_a_working_folder_that_is_not_utf8_does_not_spoil_the_card(card_of, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"mod\xe8le")
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_card(str(tmp_path), card_of(MINI_SQUAD, "--output_dir", "."))
    assert "\n# mod?le\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


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
