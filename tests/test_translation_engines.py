"""The memory, local models and their batches."""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import os
import shutil

import pytest
from conftest import run_script
from translation_server import reverse_words
from translations import all_strings, assert_all_right, run_translate, write_memory

from squadlib.console import SquadError
from squadlib.translation.batches import translate_in_batches
from squadlib.translation.cache import Cache
from squadlib.translation.engines import ModelSettings
from squadlib.translation.memory import MemoryBackend, MemorySettings
from squadlib.translation.transformers_model import HfBackend


def test_memory_translates_everything_without_a_cache_file(tmp_path):
    strings = all_strings()
    memory = write_memory(tmp_path, strings)
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    assert translated["translation"]["backend"] == "memory"
    assert not list(tmp_path.glob("*.sqlite*"))


def test_memory_lists_what_it_lacks_and_nothing_is_written(tmp_path):
    memory = write_memory(tmp_path, ["Who built the mill?"])
    process, translated = run_translate(tmp_path, "--backend", "memory", "--memory_file", memory)
    assert process.returncode == 1 and translated is None
    assert "no translation of 12 of 13 strings" in process.stderr
    assert '{"source": "It burned down twice!"}' in process.stderr and "and 2 more" in process.stderr


@pytest.mark.parametrize("line", ['{"source": "a"}', "[1]", '{"source": "a", "target": ""}', '{"source": "a", "tar'])
def test_a_bad_line_of_a_memory_is_named(line, tmp_path):
    path = tmp_path / "memory.jsonl"
    path.write_text('{"source": "b", "target": "c"}\n' + line)
    with pytest.raises(SquadError, match="line 2"):
        MemoryBackend(MemorySettings(str(path)))


def test_half_a_surrogate_pair_in_a_memory_is_named_before_it_reaches_the_cache(tmp_path):
    path = tmp_path / "memory.jsonl"
    path.write_text('{"source": "b", "target": "c"}\n{"source": "a", "target": "\\ud83d"}')
    with pytest.raises(SquadError, match="line 2: target holds half a surrogate pair"):
        MemoryBackend(MemorySettings(str(path)))


def test_a_model_folder_whose_name_is_not_utf8_is_a_key_of_the_cache():
    name = ModelSettings("hf", os.fsdecode(b"mod\xe8le"), "en", "nl").name
    assert name == "hf mod\\udce8le en-nl beams=4"
    Cache(":memory:", name, "en", "nl").put({"cat": "kat"})


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A BART with a word-level vocabulary that has learned to spell the words of small_document() backwards."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast, set_seed

    words = sorted({word for s in all_strings() for text in (s, reverse_words(s)) for word in text.split()})
    vocab = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    sizes = {"encoder_layers": 1, "encoder_ffn_dim": 64, "encoder_attention_heads": 2}
    sizes |= {name.replace("encoder", "decoder"): size for name, size in sizes.items()}
    set_seed(0)
    config = BartConfig(
        vocab_size=len(vocab), d_model=32, max_position_embeddings=40, decoder_start_token_id=2, dropout=0.0, **sizes
    )
    model = BartForConditionalGeneration(config)
    batch = tokenizer(all_strings(), padding=True, return_tensors="pt")
    labels = tokenizer([reverse_words(s) for s in all_strings()], padding=True, return_tensors="pt").input_ids
    labels[labels == 1] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    folder = tmp_path_factory.mktemp("bart")
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tiny_backend(tiny_model):
    return HfBackend(ModelSettings("hf", tiny_model, "en", "nl", num_beams=2, device="cpu"))


def test_a_local_model_translates_in_any_batch_and_order(tiny_backend):
    right = [reverse_words(string) for string in all_strings()]
    assert len({len(text.split()) for text in right}) > 3
    assert tiny_backend.translate(all_strings()) == right
    assert tiny_backend.translate(all_strings()[::-1]) == right[::-1]
    assert [tiny_backend.translate([string])[0] for string in all_strings()] == right


def test_a_string_that_is_too_long_for_the_model_is_missing_and_the_rest_is_not(tiny_backend):
    targets = tiny_backend.translate(["Who built the mill?", "mill " * 100, "flour"])
    assert targets[1] == "" and targets[0] and targets[2]


class Dictionary:
    """A local engine that runs out of memory on more than four strings and cannot translate "flour"."""

    def __init__(self):
        self.batches = []

    def translate(self, strings):
        if len(strings) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        self.batches.append(strings)
        return ["" if string == "flour" else reverse_words(string) for string in strings]


def test_local_batches_are_sorted_by_length_halved_when_memory_runs_out_and_stored():
    strings = all_strings()
    cache = Cache(":memory:", "hf x", "en", "nl")
    cache.put({strings[0]: "known"})
    engine = Dictionary()
    missing = translate_in_batches(engine, cache, strings, batch_size=5)
    assert missing == {"flour": "empty"}
    stored = cache.get(strings)
    assert stored == {s: reverse_words(s) for s in strings if s != "flour"} | {strings[0]: "known"}
    asked = [string for batch in engine.batches for string in batch]
    assert sorted(asked) == sorted(strings[1:])
    spans = sorted((min(map(len, batch)), max(map(len, batch))) for batch in engine.batches)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))


def test_hf_through_the_command_and_the_cache_of_another_beam_size(tiny_model, tmp_path):
    args = ["--backend", "hf", "--model_name_or_path", tiny_model, "--no_cuda", "--batch_size", 4]
    process, translated = run_translate(tmp_path, *args, "--num_beams", 1)
    assert process.returncode == 0, process.stderr
    assert_all_right(translated)
    dry = run_script("translate_squad.py", "--input_file", tmp_path / "source.json", "--dry_run", *args,
                     "--cache_file", tmp_path / "nl.json.cache.sqlite", "--num_beams", 2)  # fmt: skip
    assert "13 different ones, 0 of them in the cache" in dry.stdout


def test_the_folder_of_a_translation_model_chooses_no_kernel(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_attn_implementation": "kernels-community/flash-attn"}))
    backend = HfBackend(ModelSettings("hf", str(folder), "en", "nl", device="cpu"))
    assert backend.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "AutoConfig", "evil.Config"),
        ("config.json", "AutoModelForSeq2SeqLM", "evil.Config"),
        ("tokenizer_config.json", "AutoTokenizer", ["evil.Config", "evil.Config"]),
    ],
)
def test_code_that_a_translation_model_brings_does_not_run_and_is_not_asked_for(
    tiny_model, tmp_path, monkeypatch, name, key, value
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Config: pass\n")
    content = {**json.loads((folder / name).read_text()), "auto_map": {key: value}}
    content |= {"model_type": "evil"} if name == "config.json" else {"tokenizer_class": "Evil"}
    (folder / name).write_text(json.dumps(content))
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *question: asked.append(question) or "y")
    with contextlib.suppress(SquadError):  # what is left without the code may do
        HfBackend(ModelSettings("hf", str(folder), "en", "nl", device="cpu"))
    assert not asked and not (tmp_path / "ran").exists()


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    process, _ = run_translate(tmp_path, "--backend", "hf", "--model_name_or_path", tmp_path / "empty")
    assert process.returncode == 1 and "no translation model that can be loaded" in process.stderr
    assert "Traceback" not in process.stderr
