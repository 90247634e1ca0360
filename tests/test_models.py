"""Every model family: windows, labels, training, predictions and saving, with a tiny random model of each."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from tiny_models import FAMILIES, make_tiny_model, tiny_tokenizer

import run_squad
from squadlib.console import SquadError
from squadlib.data import load_squad, read_examples
from squadlib.model.answer_text import AnswerText, lower_cases
from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model, load_tokenizer, num_positions
from squadlib.model.template import pair_template
from squadlib.model.trial import choose_layout
from squadlib.model.windows import make_windows
from squadlib.training.fine_tuning import ModelSettings, load_runner
from squadlib.training.optimisation import window_loss
from squadlib.training.tensorboard_log import TrainingLog

SAMPLE = ROOT / "sample" / "sample-v2.0.json"
SIZES = {"max_seq_length": 96, "doc_stride": 32, "max_query_length": 24}
PADDED_ONLY = {"deberta-v2", "longformer", "mpnet", "modernbert"}  # the trial of the first windows finds them out
WITH_SEGMENTS = {"bert", "bertje", "electra", "albert"}  # their models have embeddings of token_type_ids
TWO_SEPARATORS = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"}


def texts_of(examples):
    return list(dict.fromkeys(text for example in examples for text in (example.context, example.question)))


@pytest.fixture(scope="module")
def examples():
    return read_examples(load_squad(str(SAMPLE)))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, examples, tmp_path_factory):
    """(family name, folder of its tiny model)"""
    folder = tmp_path_factory.mktemp(request.param)
    make_tiny_model(request.param, folder, texts_of(examples))
    return request.param, folder


def load(folder, **options):
    config = load_config(str(folder), **options)
    return load_tokenizer(str(folder), config), load_model(str(folder), config)


def label_texts(windows, tokenizer):
    """Per question with a labelled window: the text that its label stands for."""
    cut, found = AnswerText(tokenizer, lower_cases(tokenizer)), {}
    for window in range(len(windows)):
        if windows.start_position[window] == windows.template.cls_index:
            continue
        example, offset = windows.example_index[window], windows.start[window] - windows.context_offset(window)
        first, last = windows.start_position[window] + offset, windows.end_position[window] + offset
        found[windows.examples[example].qid] = cut.cut(cut.context(windows, example), first, last)
    return found


def answer_texts(examples):
    return {e.qid: " ".join(e.answers[0].text.split()) for e in examples if e.answers}


def test_windows_and_labels_are_right(family, examples):
    name, folder = family
    tokenizer, model = load(folder)
    windows = make_windows(examples, tokenizer, **SIZES, training=True)
    template = windows.template
    assert len(template.middle) == 1 + (name in TWO_SEPARATORS)
    assert template.pad_id == tokenizer.pad_token_id
    assert windows.num_tokens().max() == SIZES["max_seq_length"]
    for window in (0, len(windows) // 2, len(windows) - 1):
        ids, segments, _ = windows.assemble([window])
        offset, (pieces, _) = windows.context_offset(window), windows.context_pieces(window)
        assert tuple(ids[offset - len(template.middle) : offset]) == template.middle
        assert ids[offset : offset + len(pieces)].tolist() == pieces.tolist()
        assert tuple(ids[offset + len(pieces) :]) == template.suffix
        expected = 0 if name in TWO_SEPARATORS or name == "modernbert" else 1
        assert set(segments[:offset].tolist()) == {0} and set(segments[offset:].tolist()) == {expected}
    assert WindowModel(model, "longest", 96).with_segments == (name in WITH_SEGMENTS)
    assert windows.dropped == []
    assert label_texts(windows, tokenizer) == answer_texts(examples)


def test_labels_are_right_on_real_questions(shared_data):
    """All equal, but for an answer inside a word (`Tentakel` in `keineTentakel`) and one behind a byte-order mark."""
    for file_name, allowed in (("squad2_dev_2k.json", 0), ("xquad.de.json", 2)):
        examples = [e for e in read_examples(load_squad(str(shared_data / file_name))) if e.answers][:300]
        for name in ("bert", "roberta", "xlm-roberta", "albert", "deberta-v2", "mpnet"):
            tokenizer = tiny_tokenizer(name, texts_of(examples))
            windows = make_windows(examples, tokenizer, training=True)
            found, golds = label_texts(windows, tokenizer), answer_texts(examples)
            wrong = [qid for qid in golds if found.get(qid) != golds[qid]]
            assert len(wrong) <= allowed, (file_name, name, wrong)


def test_it_trains_predicts_and_comes_back(family, tmp_path, monkeypatch):
    name, folder = family
    monkeypatch.chdir(tmp_path)
    flags = [part for flag, value in SIZES.items() for part in (f"--{flag}", str(value))]
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


def test_padding_changes_nothing(family, examples):
    """Same loss and gradients with and without padding, or the family is known to need it."""
    import torch

    name, folder = family
    tokenizer, model = load(folder)
    windows = make_windows(examples, tokenizer, **SIZES, training=True)
    runner = WindowModel(model, "longest", SIZES["max_seq_length"])
    choose_layout(runner, windows)
    assert runner.layout == ("longest" if name in PADDED_ONLY else PADDING_FREE)
    batch = windows.num_tokens().argsort()[[0, 1, -1]]
    found = []
    for layout in (runner.layout, "longest"):
        runner.use(layout)
        loss = window_loss(runner, windows, batch)
        model.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        found.append((loss.item(), norm.item()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


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


def test_a_stride_that_fits_bert_but_not_roberta_is_refused(family, examples):
    tokenizer, _ = load(family[1])
    longest = max(len(tokenizer(e.question, add_special_tokens=False).input_ids) for e in examples)
    sizes = {"max_seq_length": longest + 20, "doc_stride": 17, "max_query_length": longest}
    if pair_template(tokenizer).num_special == 3:
        assert len(make_windows(examples, tokenizer, **sizes))
    else:
        with pytest.raises(SquadError, match="leaves room for 16 context tokens"):
            make_windows(examples, tokenizer, **sizes)


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


def test_answers_of_uncased_models_keep_case_and_accents(examples):
    tokenizer = tiny_tokenizer("albert", texts_of(examples))
    text = AnswerText(tokenizer, True)
    assert text._find("christian muller", "(Christian Müller,") == "Christian Müller"
    assert text._find("cafe", "Cafe\u0301.") == "Cafe\u0301"
    assert text._find("de", "De de") == "de"
    assert text._find("not there", "whole words") == "whole words"
