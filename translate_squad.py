"""Translate a SQuAD file into another language, keeping the source, the sentence map and every answer's translation.

    python translate_squad.py --input_file train-v2.0.json --output_file nl_squadv2_train.json

Reads any SQuAD v1.1 or v2.0 file. Writes the same document with the translations beside the source texts:

    paragraph   context_t   the translated context, sentence by sentence, with the source's own white space between them
                sentences   [[s, e, ts, te], …]: context[s:e] is a sentence, context_t[ts:te] its translation
    question    question_t
    answer      iso_t       the answer translated alone, or in its sentence (plausible answers are not sent)

What could not be translated is null. Every answered request goes into an SQLite cache at once, so the same command goes
on where the last one stopped, whatever stopped it. clean_squad.py then finds the answers again, without a network.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import shlex
import sys
from typing import cast

from squadlib.console import (
    EXIT_BLOCKED,
    EXIT_OK,
    SquadError,
    exit_with_faults,
    logger,
    script_main,
    setup_logging,
)
from squadlib.data import load_squad
from squadlib.files import atomic_write, check_output_path
from squadlib.sentences import MAX_SENTENCE_CHARS
from squadlib.translation.batches import CPU_TOKENS, GPU_TOKENS, translate_in_batches
from squadlib.translation.cache import Cache, open_cache
from squadlib.translation.canaries import choose_canaries
from squadlib.translation.chat import ChatSettings
from squadlib.translation.chat_batch import read_responses, write_requests
from squadlib.translation.context import text_of
from squadlib.translation.document import (
    Wanted,
    flat,
    only,
    strings_by_paragraph,
    translated_document,
    write_document,
)
from squadlib.translation.engines import LocalBackend, ModelSettings, ServerSettings
from squadlib.translation.json_server import base_url_fault
from squadlib.translation.memory import MemorySettings
from squadlib.translation.pace import StillBlockedError
from squadlib.translation.table import ENGINES, EngineSettings, load_backend, own_flag_faults
from squadlib.translation.web import pack_requests, translate_by_web


def print_plan(
    settings: EngineSettings, wanted: Wanted, cache: Cache, canaries: list[str], prices: list[float] | None
) -> None:
    """The plan of a dry run on stdout: strings, characters, requests, time, and the cost at the given prices.

    Answers in sentences that are not translated yet are guessed: a translation is as long as its source.
    """
    answers, _ = wanted.second(lambda strings: {string: string for string in strings} | cache.get(strings))
    todo = only(wanted.first + answers, cache.lacking(flat(wanted.first + answers)))
    num_strings, strings = sum(map(len, wanted.first + answers)), flat(todo)
    print(f"strings      {num_strings:,} different ones, {num_strings - len(strings):,} of them in the cache")
    print(f"characters   {sum(len(text_of(string)) for string in strings):,} to translate")
    if isinstance(settings, ServerSettings) and strings:
        requests = pack_requests(todo, canaries, settings)
        print(f"requests     {len(requests):,} (one string a request: {len(strings):,})")
        amounts = settings.amounts(strings)
        if "characters" not in amounts:
            print("amounts      " + ", ".join(f"about {amount:,} {unit}" for unit, amount in amounts.items()))
        print(f"time         {settings.expected_time(len(requests))}")
        if prices:
            cost = sum(price * amount / 1e6 for price, amount in zip(prices, amounts.values(), strict=False))
            rates = ", ".join(f"{price:g} a million {unit}" for price, unit in zip(prices, amounts, strict=False))
            print(f"cost         about {cost:,.2f} at {rates}")


def translate_strings(
    settings: EngineSettings, cache: Cache, todo: list[list[str]], canaries: list[str], advice: str
) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none."""
    strings = flat(todo)
    if not strings:
        return {}
    backend = load_backend(settings)
    if isinstance(settings, ServerSettings):
        return translate_by_web(backend, cache, todo, canaries, settings, advice)
    if isinstance(settings, ModelSettings):
        return translate_in_batches(cast(LocalBackend, backend), cache, strings, settings.batch_size)
    cache.put(dict(zip(strings, backend.translate(strings), strict=True)))
    return {}


def translate_resumably(
    settings: EngineSettings, cache: Cache, groups: list[list[str]], canaries: list[str], advice: str
) -> dict[str, str]:
    """As translate_strings, of what the cache lacks; when stopped, says how much is safe and how to go on."""
    strings = flat(groups)
    lacking = cache.lacking(strings)
    if not isinstance(settings, MemorySettings):
        num_known = len(strings) - len(lacking)
        logger.info("%s different strings, %s of them in %s", f"{len(strings):,}", f"{num_known:,}", cache.path)
    try:
        return translate_strings(settings, cache, only(groups, lacking), canaries, advice)
    except (KeyboardInterrupt, SystemExit, StillBlockedError, SquadError) as error:
        num_stored = len(strings) - len(cache.lacking(strings))
        if num_stored or not isinstance(error, SquadError):
            stored = f"{num_stored:,} of {len(strings):,} strings"
            logger.warning("stopped: %s are in %s; the same command goes on from there", stored, cache.path)
        raise


def report_missing(missing: dict[str, str], num_strings: int, input_file: str) -> None:
    """Log what has no translation; raises SquadError when that is more than half: the engine is the wrong one."""
    if missing:
        some = "".join(f'\n  "{string[:60]}": {reason}' for string, reason in list(missing.items())[:5])
        text = f"{input_file}: {len(missing):,} of {num_strings:,} strings have no valid translation, such as{some}"
        if len(missing) > num_strings / 2:
            raise SquadError(f"{text}\nDoes the engine translate this language pair? Nothing was written")
        logger.warning("%s\nThey are null in the output; the same command asks them again", text)


def defaults(flag: str) -> str:
    """For --help: the defaults of a flag, as the engines' settings have them."""
    found: dict[str, list[str]] = {}
    for name, engine in ENGINES.items():
        if value := getattr(engine.settings, flag, None):
            found.setdefault(f"{value:g}", []).append(name)
    if len(found) == 1:
        return f"default: {next(iter(found))}"
    return "default: " + ", ".join(f"{value} for {' and '.join(names)}" for value, names in found.items())


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Translate a SQuAD v1.1 or v2.0 file. Stop it at any time: the same command goes on from there.",
        epilog="Exit codes: 0 done, 1 bad data, 2 wrong flags, 75 blocked for too long or quota used up (run it "
        "again later), 130 Ctrl-C, 143 SIGTERM.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("data").add_argument
    add("--input_file", required=True, metavar="FILE", help="SQuAD JSON file to translate")
    add("--output_file", metavar="FILE", help="translated file to write; not needed with --dry_run")
    add("--source_lang", default="en", metavar="CODE", help="language of the input (default: en)")
    add("--target_lang", default="nl", metavar="CODE", help="language of the output (default: nl)")
    add("--cache_file", metavar="FILE", help="SQLite file of all answers (default: <output_file>.cache.sqlite)")
    add("--dry_run", action="store_true", help="print what would be asked, how long it would take, and the cost")
    price = "dry run: of a million characters, or of a million tokens read and written (openai)"
    add("--price_per_million", type=float, nargs="+", metavar="PRICE", help=price)
    add("--from_cache", action="store_true", help="ask nothing: write the output from what the cache has")
    strings = "write the strings of --input_file as JSON lines with empty targets, for --backend memory"
    add("--export_strings", metavar="FILE", help=strings)
    add = parser.add_argument_group("engine").add_argument
    engines = "; ".join(f"{name}: {engine.summary}" for name, engine in ENGINES.items())
    add("--backend", choices=[*ENGINES], default="mtranslate", help=f"{engines} (default: mtranslate)")
    model = "hf: MarianMT, NLLB or M2M100, e.g. Helsinki-NLP/opus-mt-en-nl; ct2: a converted folder; openai: its name "
    add("--model_name_or_path", metavar="NAME", help=f"{model}at the server")
    form = 'memory: JSON lines {"source": "…", "target": "…"}, a sentence, question or answer each'
    add("--memory_file", metavar="FILE", help=form)
    servers = [name for name, engine in ENGINES.items() if issubclass(engine.settings, ServerSettings)]
    add = parser.add_argument_group(f"server ({', '.join(servers)})").add_argument
    add("--rate", type=float, help=f"requests a second at most ({defaults('rate')})")
    add("--workers", type=int, help=f"requests on their way at the same time ({defaults('workers')})")
    add("--max_chars", type=int, help=f"characters a request; the page takes 5,000 ({defaults('max_chars')})")
    address = "address of the server, e.g. http://127.0.0.1:8000/v1 (openai: or OPENAI_BASE_URL; OPENAI_API_KEY if any)"
    add("--base_url", metavar="URL", help=address)
    add("--across_paragraphs", action="store_true", help="fill requests to --max_chars: a third as many, or fewer")
    add("--timeout", type=float, metavar="SECONDS", help=f"for one answer ({defaults('timeout')})")
    pause = f"first pause when blocked, doubled by each block that follows ({defaults('cool_down')})"
    add("--cool_down", type=float, metavar="SECONDS", help=pause)
    stop = f"exit with code 75 after this time without a good answer ({defaults('give_up_after')})"
    add("--give_up_after", type=float, metavar="SECONDS", help=stop)
    add = parser.add_argument_group("chat model (openai)").add_argument
    add("--prompt_file", metavar="FILE", help="JSON file of another wording; see docs/translation.md")
    add("--request_fields", metavar="FILE", help="JSON file of more fields for each request; null takes one away")
    add("--answers_alone", action="store_true", help="ask answers without the sentence in which they stand")
    export = "write what is missing as batch requests (vllm run-batch, hosted services) and ask nothing"
    add("--export_requests", metavar="FILE.jsonl", help=export)
    bring = "bring the responses of such a batch into the cache, and ask nothing"
    add("--import_responses", metavar="FILE.jsonl", nargs="+", help=bring)
    add = parser.add_argument_group("local model (hf, ct2)").add_argument
    add("--source_code", metavar="CODE", help="the model's own code, e.g. eng_Latn (default: --source_lang)")
    add("--target_code", metavar="CODE", help="the model's own code, e.g. nld_Latn (default: --target_lang)")
    add("--num_beams", type=int, help=f"1 is about three times as fast and a little worse ({defaults('num_beams')})")
    tokens = f"{GPU_TOKENS:,} tokens on a GPU, {CPU_TOKENS:,} on a CPU, beams counted, halved when memory runs out"
    add("--batch_size", type=int, help=f"strings a batch (default: as many as are {tokens})")
    add("--bf16", action="store_true", help="16-bit weights: Ampere GPUs and newer, recent CPUs")
    add("--fp16", action="store_true", help="16-bit weights for any GPU")
    add("--no_cuda", action="store_true", help="stay on the CPU")
    return parser


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit 2 with every fault of the command line at once."""
    faults: list[str] = []
    for flag in ("source_lang", "target_lang"):
        if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z]{2,4})?", getattr(args, flag)):
            faults.append(f"--{flag} {getattr(args, flag)} is not a language code like en, nl or zh-CN")
    if args.source_lang == args.target_lang:
        faults.append(f"--source_lang and --target_lang are both {args.source_lang}")
    faults += own_flag_faults(args.backend, {flag for flag, value in vars(args).items() if value})
    for flag in ("rate", "workers", "timeout", "cool_down", "give_up_after", "num_beams", "batch_size"):
        value = getattr(args, flag)
        if value is not None and not 0 < value < math.inf:
            faults.append(f"--{flag} {value} must be more than 0")
    if args.base_url and (fault := base_url_fault(args.base_url)):
        faults.append(f"--base_url {fault}")
    settings = ENGINES[args.backend].settings
    least = MAX_SENTENCE_CHARS + 100  # a sentence and its control sentence must fit
    most = settings.most_chars if issubclass(settings, ServerSettings) else ServerSettings.most_chars
    if args.max_chars is not None and not least <= args.max_chars <= most:
        faults.append(f"--max_chars {args.max_chars} must be between {least} and {most}")
    if args.bf16 and args.fp16:
        faults.append("--bf16 and --fp16 exclude each other")
    if args.output_file:
        check_output_path(args.output_file, faults, "--output_file")
        if os.path.realpath(args.output_file) == os.path.realpath(args.input_file):
            faults.append("--output_file is the input file: name another")
    elif not (args.dry_run or args.export_strings):
        faults.append("--output_file is missing: name the file to write")
    for flag in ("cache_file", "export_strings", "export_requests"):
        if getattr(args, flag):
            check_output_path(getattr(args, flag), faults, f"--{flag}")
    exit_with_faults(parser, faults)


def engine_settings(args: argparse.Namespace) -> EngineSettings:
    """What the flags say about the engine of --backend: its settings' fields by name, defaults where not given."""
    values = {name: value for name, value in vars(args).items() if value is not None}
    values["source_code"] = args.source_code or args.source_lang
    values["target_code"] = args.target_code or args.target_lang
    values["dtype"] = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    values["device"] = "cpu" if args.no_cuda else None
    settings = ENGINES[args.backend].settings
    names = {field.name for field in dataclasses.fields(settings)}
    return settings(**{name: value for name, value in values.items() if name in names})


def choose_cache_file(cache_file: str | None, output_file: str | None, *, memory: bool, dry_run: bool) -> str:
    """Where the answers go; ":memory:" where nothing needs to be kept."""
    path = cache_file or (f"{output_file}.cache.sqlite" if output_file else ":memory:")
    return ":memory:" if memory or (dry_run and not os.path.exists(path)) else path


def translate_all(
    settings: EngineSettings, cache: Cache, wanted: Wanted, canaries: list[str], advice: str
) -> dict[str, str]:
    """Sentences and questions first, then the answers that are asked in their sentences."""
    missing = translate_resumably(settings, cache, wanted.first, canaries, advice)
    if wanted.answers_in_context:
        answers, waiting = wanted.second(cache.get)
        if waiting:
            logger.warning("%s answers are not asked: their sentences have no translation", f"{waiting:,}")
        missing |= translate_resumably(settings, cache, answers, canaries, advice)
    return missing


def import_files(paths: list[str], wanted: Wanted, canaries: list[str], cache: Cache) -> None:
    """Bring files of responses into the cache; what became of their lines goes to stdout."""
    for path in paths:
        counts = read_responses(path, wanted.strings(cache.get)[0], canaries, cache)
        print(f"{path}: {counts.total():,} lines")
        for what, count in counts.most_common(12):
            print(f"{count:>9,} {what}")


def export_missing(path: str, wanted: Wanted, canaries: list[str], cache: Cache, settings: ChatSettings) -> None:
    """Write what can be asked and is not in the cache as requests."""
    strings, waiting = wanted.strings(cache.get)
    lacking = cache.lacking(strings)
    missing = [string for string in strings if string in lacking]
    paths = write_requests(path, missing, canaries, cache, settings)
    print(f"{len(missing):,} requests in {', '.join(paths) or 'no file: nothing is missing'}")
    if waiting:
        print(f"{waiting:,} answers wait for their sentences: import the responses, then export again")


def write_strings(path: str, strings: list[str]) -> None:
    """The strings in reading order, as --backend memory wants them back once their targets are filled in."""
    with atomic_write(path) as out:
        for string in strings:
            out.write(json.dumps({"source": string, "target": ""}, ensure_ascii=False) + "\n")
    print(f"{len(strings):,} strings in {path}; fill in the targets, then: --backend memory --memory_file {path}")


def local_alternative(args: argparse.Namespace) -> str:
    """What to do where the page blocks: the command that needs none."""
    files = ["--input_file", args.input_file, "--output_file", args.output_file]
    languages = ["--source_lang", args.source_lang, "--target_lang", args.target_lang]
    model = ["--model_name_or_path", f"Helsinki-NLP/opus-mt-{args.source_lang}-{args.target_lang}"]
    command = shlex.join(["python", "translate_squad.py", *files, *languages, "--backend", "hf", *model])
    return f"a network that the page blocks stays blocked for hours; a local model needs none: {command}"


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    check_args(parser, args)
    setup_logging("translate_squad")
    logger.info("command line: translate_squad.py %s", shlex.join(sys.argv[1:] if argv is None else argv))
    document = load_squad(args.input_file)
    if "translation" in document:
        raise SquadError(f"{args.input_file}: translated already; name the source file")
    if args.export_strings:
        write_strings(args.export_strings, flat(strings_by_paragraph(document)))
        return EXIT_OK
    settings = engine_settings(args)
    in_context = isinstance(settings, ServerSettings) and settings.answers_in_context
    wanted = Wanted(document, answers_in_context=in_context)
    canaries = choose_canaries(args.source_lang, flat(wanted.first))  # of all: the same ones when the run goes on
    in_memory = isinstance(settings, MemorySettings)
    cache_file = choose_cache_file(args.cache_file, args.output_file, memory=in_memory, dry_run=args.dry_run)
    missing: dict[str, str] = {}
    with open_cache(cache_file, settings.name, args.source_lang, args.target_lang) as cache:
        if args.dry_run:
            print_plan(settings, wanted, cache, canaries, args.price_per_million)
            return EXIT_OK
        if args.import_responses:
            import_files(args.import_responses, wanted, canaries, cache)
        if args.export_requests and isinstance(settings, ChatSettings):
            export_missing(args.export_requests, wanted, canaries, cache, settings)
        if not (args.import_responses or args.export_requests or args.from_cache):
            advice = local_alternative(args) if args.backend == "mtranslate" else ""
            try:
                missing = translate_all(settings, cache, wanted, canaries, advice)
            except StillBlockedError as error:
                logger.error("%s%s", error, advice and f"; {advice}")
                return EXIT_BLOCKED
        strings, waiting = wanted.strings(cache.get)
        num_strings, lacking = len(strings) + waiting, cache.lacking(strings)
        num_missing = len(lacking) + waiting
        print(f"{num_strings:,} different strings, {num_strings - num_missing:,} translated, {num_missing:,} missing")
        if num_missing and (args.import_responses or args.export_requests) and not args.from_cache:
            logger.info("no output yet: export and import the rest, or write it with --from_cache")
            return EXIT_OK
        reasons = missing or {string: "not asked" for string in strings if string in lacking}
        report_missing(reasons, num_strings, args.input_file)
        info = {"source_lang": args.source_lang, "target_lang": args.target_lang, "backend": settings.name}
        del strings  # a third of the memory
        with atomic_write(args.output_file) as out:  # compact, like the official files
            write_document(translated_document(document, cache.get, info, answers_in_context=in_context), out)
    stem, extension = os.path.splitext(args.output_file)
    clean = ["clean_squad.py", "--input_file", args.output_file, "--output_file", f"{stem}_clean{extension}"]
    logger.info("wrote %s; next: %s", args.output_file, shlex.join(["python", *clean]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
