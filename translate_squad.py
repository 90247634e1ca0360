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
import contextlib
import json
import math
import os
import re
import shlex
import sqlite3
import sys
from typing import Any

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
from squadlib.files import atomic_write, check_output_path
from squadlib.sentences import MAX_SENTENCE_CHARS, split_sentences
from squadlib.translation.cache import Cache
from squadlib.translation.checks import choose_canaries
from squadlib.translation.engines import Ct2Backend, HfBackend, MemoryBackend, MtranslateBackend, translate_locally
from squadlib.translation.web import Pace, StillBlockedError, WebRun, pack_requests

# ---------------------------------------------------------------------------------------------------------------------
# What to translate
# ---------------------------------------------------------------------------------------------------------------------


def strings_of(text: str, *, sentences: bool = False) -> list[str]:
    """The strings that stand for `text` in a request, white space made single: its sentences, or else one string.

    A question or answer longer than MAX_SENTENCE_CHARS goes by sentences too.
    """
    if sentences or len(text) > MAX_SENTENCE_CHARS:
        return [" ".join(text[start:end].split()) for start, end in split_sentences(text)]
    return [" ".join(text.split())] if text.strip() else []


def strings_by_paragraph(document: dict[str, Any]) -> list[list[str]]:
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


def _answer_texts(paragraph: dict[str, Any]) -> list[str]:
    return [answer["text"] for qa in paragraph["qas"] if not qa["is_impossible"] for answer in qa["answers"]]


def translated_document(document: dict[str, Any], targets: dict[str, str], info: dict[str, Any]) -> dict[str, Any]:
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
    found = [targets.get(" ".join(context[start:end].split())) for start, end in spans]
    if not spans or None in found:
        return None, [[start, end, None, None] for start, end in spans]
    parts, sentences, length, last = [], [], 0, 0
    for (start, end), target in zip(spans, found, strict=True):
        gap = context[last:start] or (" " if last else "")
        length += len(gap)
        sentences.append([start, end, length, length + len(target)])
        parts += [gap, target]
        length, last = length + len(target), end
    return "".join([*parts, context[last:]]), sentences


def _translated_question(qa: dict[str, Any], targets: dict[str, str]) -> dict[str, Any]:
    question = {"question": qa["question"], "question_t": translate_text(qa["question"], targets)}
    answers = qa["answers"]
    if not qa["is_impossible"]:
        answers = [{**answer, "iso_t": translate_text(answer["text"], targets)} for answer in answers]
    return {**question, **{k: v for k, v in qa.items() if k not in question}, "answers": answers}


def translate_text(text: str, targets: dict[str, str]) -> str | None:
    """The translation of a question or an answer; None when it is missing or the text is empty."""
    found = [targets.get(string) for string in strings_of(text)]
    return None if not found or None in found else " ".join(found)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


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
    engines = "a free web page, a local model, the same through CTranslate2, or a file (default: mtranslate)"
    add("--backend", choices=["mtranslate", "hf", "ct2", "memory"], default="mtranslate", help=engines)
    form = 'memory: JSON lines {"source": "…", "target": "…"}, a sentence, question or answer each'
    add("--memory_file", metavar="FILE", help=form)
    add = parser.add_argument_group("web page (mtranslate)").add_argument
    add("--rate", type=float, default=1.0, help="requests a second at most (default: 1.0)")
    add("--workers", type=int, default=1, help="requests on their way at the same time (default: 1)")
    add("--max_chars", type=int, default=4500, help="characters a request; the page takes 5,000 (default: 4500)")
    add("--across_paragraphs", action="store_true", help="fill requests to --max_chars: a third as many, or fewer")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="for one answer (default: 30)")
    pause = "first pause when blocked, doubled by each block that follows (default: 30)"
    add("--cool_down", type=float, default=30.0, metavar="SECONDS", help=pause)
    stop = "exit with code 75 after this time without a good answer (default: 7200)"
    add("--give_up_after", type=float, default=7200.0, metavar="SECONDS", help=stop)
    add = parser.add_argument_group("local model (hf, ct2)").add_argument
    model = "MarianMT, NLLB or M2M100, e.g. Helsinki-NLP/opus-mt-en-nl; ct2: a converted folder"
    add("--model_name_or_path", metavar="NAME", help=model)
    add("--source_code", metavar="CODE", help="the model's own code, e.g. eng_Latn (default: --source_lang)")
    add("--target_code", metavar="CODE", help="the model's own code, e.g. nld_Latn (default: --target_lang)")
    add("--num_beams", type=int, default=4, help="1 is about three times as fast and a little worse (default: 4)")
    add("--batch_size", type=int, default=32, help="strings a batch; lower it if memory runs out (default: 32)")
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
    for flag, backends in (("memory_file", ["memory"]), ("model_name_or_path", ["hf", "ct2"])):
        if args.backend in backends and not getattr(args, flag):
            faults.append(f"--backend {args.backend} needs --{flag}")
        elif args.backend not in backends and getattr(args, flag):
            faults.append(f"--{flag} is for --backend {' or '.join(backends)}, not {args.backend}")
    for flag in ("rate", "workers", "timeout", "cool_down", "give_up_after", "num_beams", "batch_size"):
        if not 0 < getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must be more than 0")
    if not MAX_SENTENCE_CHARS + 100 <= args.max_chars <= 5000:
        faults.append(f"--max_chars {args.max_chars} must be between {MAX_SENTENCE_CHARS + 100} and 5000")
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


def engine_name(args: argparse.Namespace) -> str:
    """Whose translations these are, for the cache's key: another model or beam size is another engine."""
    if not args.model_name_or_path:
        return args.backend
    name = args.model_name_or_path
    name = os.path.realpath(name) if os.path.isdir(name) else name
    codes = f"{args.source_code or args.source_lang}-{args.target_code or args.target_lang}"
    return f"{args.backend} {name} {codes} beams={args.num_beams}"


def open_cache(args: argparse.Namespace) -> Cache:
    """The cache of this engine and language pair; one in memory where nothing needs to be kept."""
    path = args.cache_file or f"{args.output_file}.cache.sqlite"
    if args.backend == "memory" or (args.dry_run and not os.path.exists(path)):
        path = ":memory:"
    return Cache(path, engine_name(args), args.source_lang, args.target_lang)


def print_plan(args: argparse.Namespace, num_strings: int, todo: list[list[str]], canaries: list[str]) -> None:
    """The plan of a dry run on stdout: strings, characters, requests and the time at the full rate."""
    strings = [string for group in todo for string in group]
    print(f"strings      {num_strings:,} different ones, {num_strings - len(strings):,} of them in the cache")
    print(f"characters   {sum(map(len, strings)):,} to translate")
    if args.backend == "mtranslate" and strings:
        requests = pack_requests(todo, canaries, args.max_chars, across_paragraphs=args.across_paragraphs)
        print(f"requests     {len(requests):,} (one string a request: {len(strings):,})")
        print(f"time         {duration(len(requests) / args.rate)} at {args.rate:g} requests a second")


def translate_strings(
    args: argparse.Namespace, cache: Cache, todo: list[list[str]], canaries: list[str]
) -> dict[str, str]:
    """Put the translations into the cache. Returns the reason for every string that has none."""
    strings = [string for group in todo for string in group]
    if not strings:
        return {}
    if args.backend == "memory":
        cache.put(dict(zip(strings, MemoryBackend(args.memory_file).translate(strings), strict=True)))
        return {}
    if args.backend in ("hf", "ct2"):
        codes = args.source_code or args.source_lang, args.target_code or args.target_lang
        dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
        engine = {"hf": HfBackend, "ct2": Ct2Backend}[args.backend]
        device = "cpu" if args.no_cuda else None
        backend = engine(args.model_name_or_path, *codes, args.num_beams, dtype, device)
        return translate_locally(backend, cache, strings, args.batch_size)
    backend = MtranslateBackend(args.source_lang, args.target_lang, args.timeout)
    pace = Pace(args.rate, args.cool_down, args.give_up_after)
    run = WebRun(backend, cache, pace, args.workers, deadline=3 * args.timeout, canaries=canaries)
    missing = run.run(pack_requests(todo, canaries, args.max_chars, across_paragraphs=args.across_paragraphs))
    faults = ", ".join(f"{count} × {name}" for name, count in run.faults.most_common()) or "none"
    logger.info("%s requests, %d blocks, faults: %s", f"{run.num_requests:,}", run.pace.blocks, faults)
    return missing


def translate_resumably(args: argparse.Namespace, groups: list[list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """({string: translation}, {string: why it has none}); when stopped, says how many are safe and how to go on."""
    strings = [string for group in groups for string in group]
    cache = open_cache(args)
    with contextlib.closing(cache.database):
        known = cache.get(strings)
        todo = [[string for string in group if string not in known] for group in groups]
        canaries = choose_canaries(args.source_lang, strings)  # of all strings: the same ones when the run goes on
        if args.dry_run:
            print_plan(args, len(strings), todo, canaries)
            return known, {}
        if not args.memory_file:
            logger.info("%s different strings, %s of them in %s", f"{len(strings):,}", f"{len(known):,}", cache.path)
        try:
            missing = translate_strings(args, cache, todo, canaries)
        except (KeyboardInterrupt, SystemExit, StillBlockedError):
            known = f"{len(cache.get(strings)):,} of {len(strings):,} strings"
            logger.warning("stopped: %s are in %s; the same command goes on from there", known, cache.path)
            raise
        return cache.get(strings), missing


def report_missing(missing: dict[str, str], num_strings: int, input_file: str) -> None:
    """Log what has no translation; raises SquadError when that is more than half: the engine is the wrong one."""
    if missing:
        some = "".join(f'\n  "{string[:60]}": {reason}' for string, reason in list(missing.items())[:5])
        text = f"{input_file}: {len(missing):,} of {num_strings:,} strings have no valid translation, such as{some}"
        if len(missing) > num_strings / 2:
            raise SquadError(f"{text}\nDoes the engine translate this language pair? Nothing was written")
        logger.warning("%s\nThey are null in the output; the same command asks them again", text)


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
    num_strings = sum(map(len, groups))
    try:
        targets, missing = translate_resumably(args, groups)
    except StillBlockedError as error:
        logger.error("%s; wait some hours, lower --rate, or use a local model", error)
        return EXIT_BLOCKED
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second when SQLite's own message quotes damaged bytes
        cache_file = args.cache_file or f"{args.output_file}.cache.sqlite"
        reason = " ".join(str(error).split())[:200]
        raise SquadError(f"{cache_file}: {reason}; free some space, or move a damaged file away") from error
    if args.dry_run:
        return EXIT_OK
    report_missing(missing, num_strings, args.input_file)
    info = {"source_lang": args.source_lang, "target_lang": args.target_lang, "backend": engine_name(args)}
    with atomic_write(args.output_file) as out:  # compact, like the official files
        json.dump(translated_document(document, targets, info), out, ensure_ascii=False, allow_nan=False)
    print(f"{num_strings:,} different strings, {len(targets):,} translated, {num_strings - len(targets):,} missing")
    stem, extension = os.path.splitext(args.output_file)
    clean = f"python clean_squad.py --input_file {args.output_file} --output_file {stem}_clean{extension}"
    logger.info("wrote %s; next: %s", args.output_file, clean)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
