"""Local translation beside the plain loop over transformers and CTranslate2: strings a second and peak memory.

    python benchmarks/local_translation.py --quick
    python benchmarks/local_translation.py --json local_translation.json

On a GPU where there is one. Models have random weights at the sizes of opus-mt (marian) and NLLB-600M (nllb), so
nothing is fetched; the vocabulary is learned from the strings: those of dev-v2.0.json in $SQUAD_TEST_DATA, else of
sample/. Random weights never end a sentence by themselves: on each side every translation is made to end at as many
tokens as its own string has. CTranslate2 (where it is installed) has one limit for a batch, the longest string's.
The plain loop: batches of 32 in file order, padded to the longest, the same beams, precision and limits.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import itertools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from common import ROOT, Usage, interleaved, print_table, timed

sys.path.insert(0, str(ROOT))

from squadlib.console import SquadError
from squadlib.data import load_squad
from squadlib.translation.batches import translate_in_batches
from squadlib.translation.cache import Cache
from squadlib.translation.document import flat, strings_by_paragraph
from squadlib.translation.engines import ModelSettings
from squadlib.translation.local_models import LocalModel
from squadlib.translation.transformers_model import HfBackend, Limits

SIZES = {  # model type, tokens of its vocabulary, d_model, layers of each side, heads
    "marian": ("marian", 58_101, 512, 6, 8),
    "nllb": ("m2m_100", 256_206, 1024, 12, 16),
}
LEARNED = 8_000  # tokens of the vocabulary that the strings use
Translations = dict[str, str]
Side = Callable[[list[str]], Translations]


def read_strings(path: Path, number: int) -> list[str]:
    """Strings as translate_squad.py asks them, in file order. Of a shorter file again with its words drawn anew."""
    strings = flat(strings_by_paragraph(load_squad(str(path))))
    draw, words = random.Random(0), [word for string in strings for word in string.split()]
    if number <= len(strings):
        return [strings[index] for index in sorted(draw.sample(range(len(strings)), number))]
    found = dict.fromkeys(strings)
    for string in itertools.cycle(strings):
        if len(found) == number:
            return [*found]
        found[" ".join(draw.choices(words, k=len(string.split())))] = None
    raise AssertionError("no strings")


def make_model(name: str, folder: str, strings: list[str], dtype: str) -> None:
    """A model of random weights and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    model_type, vocab_size, width, layers, heads = SIZES[name]
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["</s>", "<unk>"] if name == "marian" else ["<s>", "<pad>", "</s>", "<unk>"]
    core.train_from_iterator(
        strings, trainers.BpeTrainer(vocab_size=LEARNED, special_tokens=special, show_progress=False)
    )
    core.add_tokens([f"unused{number}" for number in range(core.get_vocab_size(), vocab_size - (name == "marian"))])
    core.add_special_tokens(["<pad>"])  # the last one of a Marian
    end, pad = core.token_to_id("</s>"), core.token_to_id("<pad>")
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    names = {"bos_token": special[0], "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names).save_pretrained(folder)
    side = {"layers": layers, "attention_heads": heads, "ffn_dim": 4 * width}
    sizes = {f"{where}_{what}": size for where in ("encoder", "decoder") for what, size in side.items()}
    tokens = {"eos_token_id": end, "bos_token_id": 0, "pad_token_id": pad, "forced_eos_token_id": None}
    tokens["decoder_start_token_id"] = pad if name == "marian" else end
    config = transformers.CONFIG_MAPPING[model_type](
        vocab_size=vocab_size, d_model=width, max_position_embeddings=512, scale_embedding=True, **sizes, **tokens
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)


def plain_loop(backend: HfBackend, strings: list[str], batch_size: int) -> Translations:
    """What one writes in five minutes."""
    found: Translations = {}
    model, tokenizer = backend.model, backend.tokenizer
    for first in range(0, len(strings), batch_size):
        part = strings[first : first + batch_size]
        batch = tokenizer(part, padding=True, return_tensors="pt").to(model.device)
        lengths = batch["attention_mask"].sum(1).tolist()
        limits = Limits([(length, length) for length in lengths], tokenizer.eos_token_id)
        with torch.inference_mode():
            output = model.generate(
                **batch, num_beams=backend.num_beams, do_sample=False, max_new_tokens=max(lengths),
                logits_processor=[limits],
            )  # fmt: skip
        texts = tokenizer.batch_decode(output, skip_special_tokens=True)
        found |= {string: " ".join(text.split()) for string, text in zip(part, texts, strict=True)}
    return found


def as_the_script_does(backend: LocalModel, strings: list[str]) -> Translations:
    cache = Cache(":memory:", "benchmark", "en", "nl")
    missing = translate_in_batches(backend, cache, strings, None)
    return {**dict.fromkeys(missing, ""), **cache.get(strings)}  # random weights write nonsense, which is refused


def ct2_backends(folder: str, settings: dict[str, Any], dtype: str, notes: dict[str, None]) -> dict[str, LocalModel]:
    """The model in each kind of weights that CTranslate2 can run here."""
    if not importlib.util.find_spec("ctranslate2"):
        notes["CTranslate2 is not installed: left out."] = None
        return {}
    from ctranslate2.converters import TransformersConverter

    from squadlib.translation.ctranslate2_model import Ct2Backend  # here, because the package is optional

    backends: dict[str, LocalModel] = {}
    for kind in dict.fromkeys((dtype, "int8")):
        converted = f"{folder}/ct2-{kind}"
        converter = TransformersConverter(folder, copy_files=["tokenizer.json", "tokenizer_config.json"])
        converter.convert(converted, quantization=kind)
        try:
            backend = Ct2Backend(ModelSettings("ct2", converted, **settings))
            backend.translate(["one string"])
        except (RuntimeError, SquadError) as error:  # no cuBLAS of its version, for instance
            notes[f"CTranslate2 {kind} does not run: {error}"] = None
        else:
            backends[f"ct2 {kind}"] = backend
    return backends


def make_sides(folder: str, args: argparse.Namespace, notes: dict[str, None]) -> tuple[HfBackend, dict[str, Side]]:
    """Our backend, and all sides by name."""
    settings = {"source_code": "en", "target_code": "nl", "num_beams": args.num_beams, "device": args.device}
    ours = HfBackend(ModelSettings("hf", folder, dtype=args.dtype, **settings))
    sides: dict[str, Side] = {"plain loop": lambda strings: plain_loop(ours, strings, args.batch_size)}
    for name, backend in {"ours": ours, **ct2_backends(folder, settings, args.dtype, notes)}.items():
        backend.generation_lengths = lambda num_tokens: (num_tokens, num_tokens)
        sides[name] = functools.partial(as_the_script_does, backend)
    return ours, sides


def with_peak(work: Callable[[], Any], on_gpu: bool) -> Usage:
    """What a piece of work took, with a peak of its own: of torch on a GPU, else of the process, all models in it."""
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        usage = timed(lambda: (work(), torch.cuda.synchronize()))
        return usage._replace(peak_mib=torch.cuda.max_memory_allocated() / 2**20)
    with contextlib.suppress(OSError):  # Linux: the peak so far is forgotten
        Path("/proc/self/clear_refs").write_text("5")
    return timed(work)


def measure(name: str, strings: list[str], args: argparse.Namespace, notes: dict[str, None]) -> dict[str, Any]:
    """Figures of one model, all sides in turn."""
    on_gpu = args.device != "cpu"
    with tempfile.TemporaryDirectory() as folder:
        make_model(name, folder, strings, args.dtype)
        ours, sides = make_sides(folder, args, notes)
        lengths = ours.num_tokens(strings)
        for translate in sides.values():  # kernels are loaded, memory is asked for
            translate(strings[: 256 if on_gpu else 4])
        results: dict[str, Translations] = {}

        def measured(side: str) -> Usage:
            return with_peak(lambda: results.update({side: sides[side](strings)}), on_gpu)

        found = interleaved({side: (lambda side=side: measured(side)) for side in sides}, args.rounds)
    seconds = {side: [usage.wall if on_gpu else usage.cpu for usage in usages] for side, usages in found.items()}
    kept = [string for string in strings if results["ours"][string]]
    same = sum(results["ours"][string] == results["plain loop"][string] for string in kept)
    return {
        "model": name,
        "parameters": sum(weight.numel() for weight in ours.model.parameters()),
        "tokens": {"all": sum(lengths), "median": statistics.median(lengths), "longest": max(lengths)},
        "seconds": seconds,
        "peak_mib": {side: max(usage.peak_mib for usage in usages) for side, usages in found.items()}
        | (dict.fromkeys(side for side in found if side.startswith("ct2")) if on_gpu else {}),  # not torch's memory
        "same_translations": [same, len(kept)],
    }


def print_figures(figures: dict[str, Any], num_strings: int) -> None:
    tokens, plain = figures["tokens"], figures["seconds"]["plain loop"]
    print(f"\n### {figures['model']}, {figures['parameters'] / 1e6:.0f} M parameters\n")
    lengths = f"median {tokens['median']:g}, longest {tokens['longest']}"
    print(f"{num_strings:,} strings, {tokens['all']:,} tokens; {lengths}\n")
    rows = []
    for side, seconds in figures["seconds"].items():
        middle = statistics.median(seconds)
        ratios = [a / b for a, b in zip(plain, seconds, strict=True)]
        speeds = f"{num_strings / middle:.2f}", f"{tokens['all'] / middle:.0f}", f"{statistics.median(ratios):.2f}"
        peak = figures["peak_mib"][side]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append((side, *speeds, spread, "?" if peak is None else f"{peak:,.0f}"))
    print_table(("side", "strings/s", "tokens/s", "× plain loop", "range", "peak MiB"), rows)
    same, kept = figures["same_translations"]
    print(f"\nOf {kept:,} translations that ours kept the plain loop has {same:,} too, token for token.")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    file = Path(os.environ.get("SQUAD_TEST_DATA", ""), "dev-v2.0.json")
    file = file if file.exists() else ROOT / "sample" / "sample-v2.0.json"
    add = parser.add_argument
    add("--input_file", type=Path, default=file, help=f"SQuAD file whose strings are translated ({file.name})")
    add("--models", nargs="+", choices=[*SIZES], default=[*SIZES], help="sizes (both)")
    add("--strings", type=int, help="strings to translate (2,048 on a GPU, 64 on a CPU; a quarter with --quick)")
    add("--rounds", type=int, help="measurements of each side (3; 1 with --quick)")
    add("--batch_size", type=int, default=32, help="of the plain loop, in strings (32)")
    add("--num_beams", type=int, default=4, help="on each side (4)")
    add("--dtype", choices=["float32", "float16", "bfloat16"], help="(bfloat16 on a GPU that has it, else float16)")
    add("--no_cuda", action="store_true", help="stay on the CPU")
    add("--quick", action="store_true", help="fewer strings, one round")
    add("--json", metavar="FILE", help="write the figures there too")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    args.device = "cuda" if torch.cuda.is_available() and not args.no_cuda else "cpu"
    on_gpu = args.device == "cuda"
    args.strings = args.strings or (2_048 if on_gpu else 64) // (4 if args.quick else 1)
    args.rounds = args.rounds or (1 if args.quick else 3)
    half = "bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float16"
    args.dtype = args.dtype or (half if on_gpu else "float32")
    device = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
    setting = f"{device}, torch {torch.__version__}, transformers {transformers.__version__}; "
    setting += f"{args.dtype}, {args.num_beams} beams, {args.rounds} rounds; seconds of "
    setting += "the clock" if on_gpu else "computing, not of the clock"
    print(f"## Local translation\n\n{setting}.", flush=True)
    transformers.utils.logging.disable_progress_bar()
    notes: dict[str, None] = {}
    strings = read_strings(args.input_file, args.strings)
    report: dict[str, Any] = {"setting": setting, "strings": len(strings), "models": []}
    for name in args.models:
        figures = measure(name, strings, args, notes)
        print_figures(figures, len(strings))
        sys.stdout.flush()
        report["models"].append(figures)
    for note in notes:
        print(f"\n{note}")
    if args.json:
        Path(args.json).write_text(json.dumps({**report, "notes": [*notes]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
