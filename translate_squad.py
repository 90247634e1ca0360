"""Translate a SQuAD file into another language, keeping the source, the sentence map and every answer's translation.

    python translate_squad.py --input_file train-v2.0.json --output_file nl_squadv2_train.json

Reads any SQuAD v1.1 or v2.0 file. Writes the same document with the translations beside the source texts:

    paragraph   context_t   the translated context, sentence by sentence, with the source's own white space between them
                sentences   [[s, e, ts, te], …]: context[s:e] is a sentence, context_t[ts:te] its translation
    question    question_t
    answer      iso_t       the answer translated alone (plausible answers are not sent)

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

from squadlib.console import (
    EXIT_BLOCKED,
    EXIT_OK,
    SquadError,
    duration,
    exit_with_faults,
    logger,
    script_main,
    setup_logging,
)
from squadlib.data import load_squad
from squadlib.files import JsonObject, atomic_write, check_output_path
from squadlib.sentences import MAX_SENTENCE_CHARS, split_sentences
from squadlib.translation.batches import translate_in_batches
from squadlib.translation.cache import Cache, open_cache
from squadlib.translation.canaries import choose_canaries
from squadlib.translation.engines import ModelSettings, ServerSettings
from squadlib.translation.json_server import base_url_fault
from squadlib.translation.memory import MemorySettings
from squadlib.translation.pace import StillBlockedError
from squadlib.translation.table import ENGINES, EngineSettings, load_backend, own_flag_faults
from squadlib.translation.web import pack_requests, translate_by_web


def strings_of(text: str, *, sentences: bool = False) -> list[str]:
    """The strings that stand for `text` in a request, white space made single: its sentences, or else one string.

    A question or answer longer than MAX_SENTENCE_CHARS goes by sentences too.
    """
    if sentences or len(text) > MAX_SENTENCE_CHARS:
        return [" ".join(text[start:end].split()) for start, end in split_sentences(text)]
    return [" ".join(text.split())] if text.strip() else []


def strings_by_paragraph(document: JsonObject) -> list[list[str]]:
    """Everything to translate, a list a paragraph, repeated strings only where they come first."""
    seen: set[str] = set()
    groups = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            strings = strings_of(paragraph["context"], sentences=True)
            strings += [string for qa in paragraph["qas"] for string in strings_of(qa["question"])]
            strings += [string for text in _answer_texts(paragraph) for string in strings_of(text)]
            groups.append([string for string in dict.fromkeys(strings) if string not in seen])
            seen.update(strings)
    return groups


def without(groups: list[list[str]], known: dict[str, str]) -> list[list[str]]:
    """The groups less the strings whose translation is known."""
    return [[string for string in group if string not in known] for group in groups]


def _answer_texts(paragraph: JsonObject) -> list[str]:
    return [answer["text"] for qa in paragraph["qas"] if not qa["is_impossible"] for answer in qa["answers"]]


def translated_document(document: JsonObject, targets: dict[str, str], info: JsonObject) -> JsonObject:
    """The document with context_t, sentences, question_t and iso_t beside the source texts; None where missing."""
    articles = []
    for article in document["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            context_t, sentences = translate_context(paragraph["context"], targets)
            qas = [_translated_question(qa, targets) for qa in paragraph["qas"]]
            texts = {"context": paragraph["context"], "context_t": context_t, "sentences": sentences}
            paragraphs.append({**texts, **{k: v for k, v in paragraph.items() if k not in texts}, "qas": qas})
        articles.append({**article, "paragraphs": paragraphs})
    return {"version": document.get("version", "2.0"), "translation": info, **document, "data": articles}


def translate_context(context: str, targets: dict[str, str]) -> tuple[str | None, list[list[int | None]]]:
    """(translated context, sentence map). context_t[ts:te] is the sentence's translation, exactly.

    White space before, between and after the sentences is the source's own; one space where it has none ("。").
    """
    spans = split_sentences(context)
    sources = [" ".join(context[start:end].split()) for start, end in spans]
    if not spans or any(source not in targets for source in sources):
        return None, [[start, end, None, None] for start, end in spans]
    parts: list[str] = []
    sentences: list[list[int | None]] = []
    length = last = 0
    for (start, end), source in zip(spans, sources, strict=True):
        gap, target = context[last:start] or (" " if last else ""), targets[source]
        length += len(gap)
        sentences.append([start, end, length, length + len(target)])
        parts += [gap, target]
        length, last = length + len(target), end
    return "".join([*parts, context[last:]]), sentences


def _translated_question(qa: JsonObject, targets: dict[str, str]) -> JsonObject:
    question = {"question": qa["question"], "question_t": translate_text(qa["question"], targets)}
    answers = qa["answers"]
    if not qa["is_impossible"]:
        answers = [{**answer, "iso_t": translate_text(answer["text"], targets)} for answer in answers]
    return {**question, **{k: v for k, v in qa.items() if k not in question}, "answers": answers}


def translate_text(text: str, targets: dict[str, str]) -> str | None:
    """The translation of a question or an answer; None when it is missing or the text is empty."""
    strings = strings_of(text)
    is_whole = strings and all(string in targets for string in strings)
    return " ".join(targets[string] for string in strings) if is_whole else None


def print_plan(settings: EngineSettings, num_strings: int, todo: list[list[str]], canaries: list[str]) -> None:
    """The plan of a dry run on stdout: strings, characters, requests and the time at the full rate."""
    strings = [string for group in todo for string in group]
    print(f"strings      {num_strings:,} different ones, {num_strings - len(strings):,} of them in the cache")
    print(f"characters   {sum(map(len, strings)):,} to translate")
    if isinstance(settings, ServerSettings) and strings:
        requests = pack_requests(todo, canaries, settings)
        print(f"requests     {len(requests):,} (one string a request: {len(strings):,})")
        print(f"time         {duration(len(requests) / settings.rate)} at {settings.rate:g} requests a second")


def translate_strings(
    settings: EngineSettings, cache: Cache, todo: list[list[str]], canaries: list[str]
) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none."""
    strings = [string for group in todo for string in group]
    if not strings:
        return {}
    backend = load_backend(settings)
    if isinstance(settings, ServerSettings):
        return translate_by_web(backend, cache, todo, canaries, settings)
    if isinstance(settings, ModelSettings):
        return translate_in_batches(backend, cache, strings, settings.batch_size)
    cache.put(dict(zip(strings, backend.translate(strings), strict=True)))
    return {}


def translate_resumably(
    settings: EngineSettings, cache: Cache, groups: list[list[str]], canaries: list[str]
) -> dict[str, str]:
    """As translate_strings, of what the cache lacks; when stopped, says how much is safe and how to go on."""
    strings = [string for group in groups for string in group]
    known = cache.get(strings)
    if not isinstance(settings, MemorySettings):
        logger.info("%s different strings, %s of them in %s", f"{len(strings):,}", f"{len(known):,}", cache.path)
    try:
        return translate_strings(settings, cache, without(groups, known), canaries)
    except (KeyboardInterrupt, SystemExit, StillBlockedError, SquadError):
        if stored := len(cache.get(strings)):
            count = f"{stored:,} of {len(strings):,} strings"
            logger.warning("stopped: %s are in %s; the same command goes on from there", count, cache.path)
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
        epilog="Exit codes: 0 done, 1 bad data, 2 wrong flags, 75 blocked for too long (run it again later), "
        "130 Ctrl-C, 143 SIGTERM.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("data").add_argument
    add("--input_file", required=True, metavar="FILE", help="SQuAD JSON file to translate")
    add("--output_file", metavar="FILE", help="translated file to write; not needed with --dry_run")
    add("--source_lang", default="en", metavar="CODE", help="language of the input (default: en)")
    add("--target_lang", default="nl", metavar="CODE", help="language of the output (default: nl)")
    add("--cache_file", metavar="FILE", help="SQLite file of all answers (default: <output_file>.cache.sqlite)")
    add("--dry_run", action="store_true", help="print what would be asked and how long it would take")
    add = parser.add_argument_group("engine").add_argument
    engines = "; ".join(f"{name}: {engine.summary}" for name, engine in ENGINES.items())
    add("--backend", choices=[*ENGINES], default="mtranslate", help=f"{engines} (default: mtranslate)")
    form = 'memory: JSON lines {"source": "…", "target": "…"}, a sentence, question or answer each'
    add("--memory_file", metavar="FILE", help=form)
    servers = [name for name, engine in ENGINES.items() if issubclass(engine.settings, ServerSettings)]
    add = parser.add_argument_group(f"server ({', '.join(servers)})").add_argument
    add("--rate", type=float, help=f"requests a second at most ({defaults('rate')})")
    add("--workers", type=int, help=f"requests on their way at the same time ({defaults('workers')})")
    add("--max_chars", type=int, help=f"characters a request; the page takes 5,000 ({defaults('max_chars')})")
    add("--base_url", metavar="URL", help="address of the server, without a key in it")
    add("--across_paragraphs", action="store_true", help="fill requests to --max_chars: a third as many, or fewer")
    add("--timeout", type=float, metavar="SECONDS", help=f"for one answer ({defaults('timeout')})")
    pause = f"first pause when blocked, doubled by each block that follows ({defaults('cool_down')})"
    add("--cool_down", type=float, metavar="SECONDS", help=pause)
    stop = f"exit with code 75 after this time without a good answer ({defaults('give_up_after')})"
    add("--give_up_after", type=float, metavar="SECONDS", help=stop)
    add = parser.add_argument_group("local model (hf, ct2)").add_argument
    model = "MarianMT, NLLB or M2M100, e.g. Helsinki-NLP/opus-mt-en-nl; ct2: a converted folder"
    add("--model_name_or_path", metavar="NAME", help=model)
    add("--source_code", metavar="CODE", help="the model's own code, e.g. eng_Latn (default: --source_lang)")
    add("--target_code", metavar="CODE", help="the model's own code, e.g. nld_Latn (default: --target_lang)")
    add("--num_beams", type=int, help=f"1 is about three times as fast and a little worse ({defaults('num_beams')})")
    add("--batch_size", type=int, help=f"strings a batch; lower it if memory runs out ({defaults('batch_size')})")
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
    elif not args.dry_run:
        faults.append("--output_file is missing: name the file to write")
    if args.cache_file:
        check_output_path(args.cache_file, faults, "--cache_file")
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
    groups = strings_by_paragraph(document)
    strings = [string for group in groups for string in group]
    canaries = choose_canaries(args.source_lang, strings)  # of all strings: the same ones when the run goes on
    settings = engine_settings(args)
    in_memory = isinstance(settings, MemorySettings)
    cache_file = choose_cache_file(args.cache_file, args.output_file, memory=in_memory, dry_run=args.dry_run)
    with open_cache(cache_file, settings.name, args.source_lang, args.target_lang) as cache:
        if args.dry_run:
            print_plan(settings, len(strings), without(groups, cache.get(strings)), canaries)
            return EXIT_OK
        try:
            missing = translate_resumably(settings, cache, groups, canaries)
        except StillBlockedError as error:
            logger.error("%s", error)
            return EXIT_BLOCKED
        targets = cache.get(strings)
    report_missing(missing, len(strings), args.input_file)
    info = {"source_lang": args.source_lang, "target_lang": args.target_lang, "backend": settings.name}
    with atomic_write(args.output_file) as out:  # compact, like the official files
        json.dump(translated_document(document, targets, info), out, ensure_ascii=False, allow_nan=False)
    print(f"{len(strings):,} different strings, {len(targets):,} translated, {len(strings) - len(targets):,} missing")
    stem, extension = os.path.splitext(args.output_file)
    clean = ["clean_squad.py", "--input_file", args.output_file, "--output_file", f"{stem}_clean{extension}"]
    logger.info("wrote %s; next: %s", args.output_file, shlex.join(["python", *clean]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
