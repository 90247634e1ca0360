"""How many requests and how much time translate_squad.py needs, beside the plain loop; and what batching brings.

    python benchmarks/translate.py web --input_file dev-v2.0.json --latency 0.1
    python benchmarks/translate.py plan --input_file dev-v2.0.json
    OMP_NUM_THREADS=1 python benchmarks/translate.py local --input_file dev-v2.0.json

`web` asks a stand-in page on loopback with a fixed latency; `plan` scales dry runs to the whole of SQuAD 2.0; `local`
(needs sentencepiece, and ctranslate2 for its part) uses a Marian of true size with random weights, whose output is made
as long as the longest input of a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from squadlib.data import iter_questions, load_squad  # noqa: E402
from squadlib.translation.canaries import CANARIES  # noqa: E402
from squadlib.translation.engines import ModelSettings  # noqa: E402
from squadlib.translation.local_models import LocalModel  # noqa: E402
from squadlib.translation.transformers_model import HfBackend  # noqa: E402
from squadlib.translation.web import WebSettings, pack_requests  # noqa: E402
from translate_squad import strings_by_paragraph  # noqa: E402

FULL_CONTEXTS = 20_239  # paragraphs of SQuAD 2.0, train and dev
VOCAB_SIZE = 58_101  # of opus-mt-en-nl and most other Marian models


def benchmark_web(args: argparse.Namespace) -> None:
    """Requests and wall time of the driver and of `for s in strings: mtranslate.translate(s, "nl", "en")`."""
    from translation_server import TranslationServer

    document = load_squad(args.input_file[0])
    document["data"] = [
        {**article, "paragraphs": article["paragraphs"][: args.paragraphs]} for article in document["data"][:1]
    ]
    texts = [text for group in all_texts(document) for text in group]
    with TranslationServer(latency=args.latency) as server, tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.json")
        source.write_text(json.dumps(document), encoding="utf-8")
        environment = {**os.environ, **server.env}
        loop = "import json, sys, mtranslate\nfor s in json.load(sys.stdin): mtranslate.translate(s, 'nl', 'en')"
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", loop], input=json.dumps(texts), text=True, env=environment, check=True)
        plain = len(server.queries), time.perf_counter() - started
        server.queries.clear()
        command = [sys.executable, str(ROOT / "translate_squad.py"), "--input_file", str(source), "--rate", "1000"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--output_file", str(Path(folder, "nl.json"))], env=environment, check=True, capture_output=True
        )
        ours = len(server.queries), time.perf_counter() - started
    print(f"{len(texts)} texts, {args.latency} s a request, one worker")
    for name, (requests, seconds) in (("plain loop", plain), ("translate_squad.py", ours)):
        print(f"{name:<20}{requests:>7} requests{seconds:>9.1f} s")
    print(f"{'':<20}{plain[0] / ours[0]:>7.1f} × fewer{plain[1] / ours[1]:>10.1f} × faster")


def all_texts(document: dict) -> list[list[str]]:
    """What the 2020 recipe sends, a list a paragraph: the context whole, each question, each different answer."""
    groups = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            qas = paragraph["qas"]
            answers = [answer["text"] for qa in qas if not qa["is_impossible"] for answer in qa["answers"]]
            groups.append([*dict.fromkeys([paragraph["context"], *(qa["question"] for qa in qas), *answers])])
    return groups


def benchmark_plan(args: argparse.Namespace) -> None:
    """Requests for the input files, and for all of SQuAD 2.0 by its number of paragraphs."""
    documents = [load_squad(path) for path in args.input_file]
    groups = [group for document in documents for group in strings_by_paragraph(document)]
    contexts, strings = len(groups), sum(map(len, groups))
    questions = sum(1 for document in documents for _ in iter_questions(document))
    print(f"{questions:,} questions, {contexts:,} paragraphs, {strings:,} different strings")
    for across in (False, True):
        requests = pack_requests(groups, CANARIES, WebSettings("en", "nl", across_paragraphs=across))
        full = len(requests) / contexts * FULL_CONTEXTS
        name = "--across_paragraphs" if across else "a paragraph each"
        print(
            f"{name:<20}{len(requests):>6} requests; all of SQuAD 2.0: {full:,.0f}, {full / 3600:.1f} h at 1 a second"
        )


def make_marian(folder: str, strings: list[str]) -> None:
    """A MarianMT of the size of opus-mt-en-nl (77 M parameters) with random weights, its vocabulary learned here."""
    import shutil

    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    options = {"vocab_size": 8000, "hard_vocab_limit": False, "eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1}
    prefix = f"{folder}/learned"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(strings), model_prefix=prefix, minloglevel=2, **options
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    vocab = {pieces.id_to_piece(number): number for number in range(len(pieces))}
    vocab |= {f"unused{number}": number for number in range(len(pieces), VOCAB_SIZE - 1)} | {"<pad>": VOCAB_SIZE - 1}
    for name in ("source.spm", "target.spm"):
        shutil.copy(f"{prefix}.model", f"{folder}/{name}")
    Path(folder, "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    files = {
        "source_spm": f"{folder}/source.spm",
        "target_spm": f"{folder}/target.spm",
        "vocab": f"{folder}/vocab.json",
    }
    MarianTokenizer(**files, source_lang="en", target_lang="nl").save_pretrained(folder)
    sizes = {"encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    sizes |= {name.replace("encoder", "decoder"): size for name, size in sizes.items()}
    special = {"pad_token_id": VOCAB_SIZE - 1, "decoder_start_token_id": VOCAB_SIZE - 1, "eos_token_id": 0}
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCAB_SIZE, d_model=512, max_position_embeddings=512, activation_function="swish", **sizes, **special
    )
    MarianMTModel(config).save_pretrained(folder)


def benchmark_local(args: argparse.Namespace) -> None:
    """Strings and tokens a second: one by one, batches in file order, batches by length; then CTranslate2."""
    from squadlib.translation.ctranslate2_model import Ct2Backend  # here, because the package is optional

    document = load_squad(args.input_file[0])
    strings = [string for group in strings_by_paragraph(document) for string in group]
    with tempfile.TemporaryDirectory() as folder:
        make_marian(folder, strings)
        strings = random.Random(0).sample(strings, args.strings)
        by_length = sorted(strings, key=len)
        backend = HfBackend(ModelSettings("hf", folder, "en", "nl", args.num_beams, dtype=args.dtype))
        print(f"{len(strings)} strings, beams {args.num_beams}, {args.dtype} on {backend.model.device}")
        one = measure("transformers, one by one", backend, strings[: args.one_by_one], 1, None)
        measure(f"batches of {args.batch_size}, file order", backend, strings, args.batch_size, one)
        hf = measure(f"batches of {args.batch_size}, by length", backend, by_length, args.batch_size, one)
        for kind in ("float32", "int8"):
            converted = f"{folder}/{kind}"
            convert(folder, converted, kind)
            engine = Ct2Backend(ModelSettings("ct2", converted, "en", "nl", args.num_beams))
            faster = measure(f"CTranslate2 {kind}, by length", engine, by_length, args.batch_size, one)
            print(f"    {faster / hf:.1f} × transformers by length")


def convert(folder: str, converted: str, kind: str) -> None:
    """The folder for --backend ct2, as README.md says."""
    from ctranslate2.converters import TransformersConverter

    files = ["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"]
    TransformersConverter(folder, copy_files=files).convert(converted, quantization=kind)


def measure(name: str, backend: LocalModel, strings: list[str], batch_size: int, base: float | None) -> float:
    """Print and return strings a second; every batch generates as many tokens as its longest input has.

    On a CPU seconds of computing count, so that other work on the machine does not; set OMP_NUM_THREADS=1.
    """
    clock = time.process_time if "cpu" in str(backend.model.device) else time.perf_counter
    backend.generation_lengths = lambda num_tokens: (num_tokens, num_tokens)
    tokens = sum(len(backend.tokenizer(string).input_ids) for string in strings)
    backend.translate(strings[:1])
    started = clock()
    for first in range(0, len(strings), batch_size):
        backend.translate(strings[first : first + batch_size])
    seconds = clock() - started
    speed = len(strings) / seconds
    times = f"  {speed / base:5.1f} ×" if base else ""
    print(f"{name:<34}{speed:8.2f} strings/s{tokens / seconds:9.0f} tokens/s{times}", flush=True)
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["web", "plan", "local"])
    parser.add_argument("--input_file", nargs="+", required=True)
    parser.add_argument("--latency", type=float, default=0.1, help="web: seconds an answer takes")
    parser.add_argument("--paragraphs", type=int, default=40, help="web: paragraphs of the first article")
    parser.add_argument("--strings", type=int, default=128, help="local: strings of the file")
    parser.add_argument("--one_by_one", type=int, default=32, help="local: strings to measure one by one")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_beams", type=int, default=4)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    {"web": benchmark_web, "plan": benchmark_plan, "local": benchmark_local}[args.what](args)


if __name__ == "__main__":
    main()
