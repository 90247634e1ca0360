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
from squadlib.translation.batches import CPU_TOKENS, GPU_TOKENS, batch_tokens, translate_in_batches
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


def test_a_translation_does_not_depend_on_what_else_is_in_the_batch(tiny_backend):
    """Random weights babble until they are stopped: alone and beside others after the same number of tokens."""
    import torch

    torch.manual_seed(0)
    for weight in tiny_backend.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    tiny_backend.generation_lengths = lambda num_tokens: (0, num_tokens + 4)
    words = sorted({word for string in all_strings() for word in string.split()})
    encoded = tiny_backend.encode([" ".join(words[first : first + 1 + first % 9]) for first in range(len(words) - 9)])
    together, alone = tiny_backend.generate(encoded), [tiny_backend.generate([ids])[0] for ids in encoded]
    pad, end = tiny_backend.tokenizer.pad_token_id, tiny_backend.tokenizer.eos_token_id
    for ids, output in zip(encoded, together, strict=True):
        assert end in output[1 : len(ids) + 5] and set(output[len(ids) + 5 :]) <= {pad}
    same = sum(long[: len(short)] == short for long, short in zip(together, alone, strict=True))
    assert len(encoded) > 30 and same >= len(encoded) - 1  # a tie may be rounded otherwise


def test_a_translation_ends_no_sooner_than_it_may(tiny_backend):
    encoded = tiny_backend.encode(["flour", *all_strings()])
    tiny_backend.generation_lengths = lambda num_tokens: (num_tokens + 3, num_tokens + 3)
    pad = tiny_backend.tokenizer.pad_token_id
    outputs = tiny_backend.generate(encoded)
    found = [sum(token != pad for token in output[1:]) for output in outputs]
    assert found == [len(ids) + 3 for ids in encoded]


class Dictionary:
    """A local engine, a word a token. It cannot translate "flour"; above so many rows × tokens its memory ends."""

    on_gpu = False

    def __init__(self, memory=float("inf"), num_beams=1):
        self.memory, self.num_beams, self.batches, self.failures = memory, num_beams, [], 0

    def num_tokens(self, strings):
        return [len(string.split()) for string in strings]

    def translate(self, strings):
        if len(strings) * max(self.num_tokens(strings)) * self.num_beams > self.memory:
            import torch

            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.batches.append(strings)
        return ["" if string == "flour" else reverse_words(string) for string in strings]


def test_local_batches_hold_strings_of_like_length_and_are_stored():
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
    spans = sorted((min(found), max(found)) for found in map(engine.num_tokens, engine.batches))
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    assert max(map(len, engine.batches)) == 5


def many_strings(number=3000, longest=300):
    """From one word to many, as different as their numbers."""
    return [" ".join(f"w{index}.{word}" for word in range(1 + index % longest)) for index in range(number)]


@pytest.mark.parametrize(("num_beams", "on_gpu"), [(1, False), (4, False), (4, True)])
def test_a_batch_holds_as_many_strings_as_its_tokens_allow_beams_counted(num_beams, on_gpu):
    engine, strings = Dictionary(num_beams=num_beams), many_strings()
    engine.on_gpu = on_gpu
    assert translate_in_batches(engine, Cache(":memory:", "hf x", "en", "nl"), strings, None) == {}
    assert sorted(string for batch in engine.batches for string in batch) == sorted(strings)
    most = GPU_TOKENS if on_gpu else CPU_TOKENS
    sizes = [(batch_tokens(len(b), max(engine.num_tokens(b))) * num_beams, len(b)) for b in engine.batches]
    assert max(tokens for tokens, _ in sizes) <= most
    assert sorted(tokens for tokens, _ in sizes)[1] > 0.75 * most  # all but the last one are full
    assert max(size for _, size in sizes) > 5 * min(size for _, size in sorted(sizes)[1:])


@pytest.mark.parametrize("batch_size", [None, 64])
def test_out_of_memory_halves_the_batches_that_follow_with_one_line_each(batch_size, caplog):
    engine, strings, cache = Dictionary(memory=300), many_strings(400, 60), Cache(":memory:", "hf x", "en", "nl")
    assert translate_in_batches(engine, cache, strings, batch_size) == {}
    assert cache.get(strings) == {string: reverse_words(string) for string in strings}
    lines = [record.message for record in caplog.records if "memory ran out at" in record.message]
    assert 1 <= engine.failures == len(lines) <= 6  # and no batch of the old size is tried again
    assert all("halves from here" in line for line in lines)


def test_a_single_string_without_memory_is_one_sentence_and_the_rest_is_kept(monkeypatch):
    monkeypatch.setattr("random.shuffle", list.reverse)  # the longest last
    strings, cache = ["one two", "a b c d e f"], Cache(":memory:", "hf x", "en", "nl")
    with pytest.raises(SquadError, match="at a single string of 6 tokens, 'a b c d e f'; lower --num_beams"):
        translate_in_batches(Dictionary(memory=5), cache, strings, None)
    assert cache.get(strings) == {"one two": reverse_words("one two")}


def test_another_error_of_the_engine_is_not_taken_for_a_lack_of_memory():
    class Broken(Dictionary):
        def translate(self, strings):
            raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        translate_in_batches(Broken(), Cache(":memory:", "hf x", "en", "nl"), ["one", "two"], None)


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
