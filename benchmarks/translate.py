"""How many requests and how much time translate_squad.py needs, beside the plain loop.

    python benchmarks/translate.py web --input_file dev-v2.0.json --latency 0.1
    python benchmarks/translate.py plan --input_file dev-v2.0.json

`web` asks a stand-in page on loopback with a fixed latency; `plan` scales dry runs to the whole of SQuAD 2.0.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from squadlib.data import iter_questions, load_squad  # noqa: E402
from squadlib.translation.canaries import CANARIES  # noqa: E402
from squadlib.translation.chat import ChatSettings  # noqa: E402
from squadlib.translation.context import text_of  # noqa: E402
from squadlib.translation.document import Wanted, flat, strings_by_paragraph, strings_of  # noqa: E402
from squadlib.translation.web import WebSettings, pack_requests  # noqa: E402

FULL_FILES = (19_035, 130_319), (1_204, 11_873)  # paragraphs and questions of SQuAD 2.0, train and dev
FULL_CONTEXTS = sum(contexts for contexts, _ in FULL_FILES)


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


def benchmark_server(args: argparse.Namespace) -> None:
    """Requests a second, and CPU and memory of the driver alone, against a chat server that only takes time."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.json")
        write_many_strings(load_squad(args.input_file[0]), source, args.strings)
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "fast_chat_server.py"), str(args.latency)],
            stdout=subprocess.PIPE,
            text=True,
        )
        port = server.stdout.readline().strip()
        command = [sys.executable, str(ROOT / "translate_squad.py"), "--input_file", str(source), "--backend", "openai"]
        command += ["--model_name_or_path", "m", "--base_url", f"http://127.0.0.1:{port}/v1"]
        command += ["--workers", str(args.workers), "--rate", "10000", "--output_file", str(Path(folder, "nl.json"))]
        started = time.perf_counter()
        driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        first = usage = None
        peak = 0
        while usage is None:
            time.sleep(0.2)
            peak = peak_memory(driver.pid) or peak
            if first is None and (count := requests_so_far(port)) > 3:
                first = time.perf_counter(), count
            pid, _, found = os.wait4(driver.pid, os.WNOHANG)
            usage = found if pid else None
        seconds, requests = time.perf_counter() - started, requests_so_far(port)
        server.kill()
        print(driver.stderr.read()[-600:])
    cpu = usage.ru_utime + usage.ru_stime
    asking = time.perf_counter() - first[0]
    print(f"{requests:,} requests in {seconds:.1f} s, of which asking {asking:.1f} s: "
          f"{(requests - first[1]) / asking:.0f} requests/s of {args.workers / args.latency:.0f}")  # fmt: skip
    print(f"driver: {cpu:.1f} s of CPU, {1000 * cpu / requests:.3f} ms a request, {peak / 1e6:.0f} MB at its peak")


def peak_memory(pid: int) -> int:
    """Bytes of resident memory at the peak; 0 when the process is gone. Linux."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def requests_so_far(port: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return int(answer.read())


def write_many_strings(document: dict, path: Path, num_strings: int) -> None:
    """The document again and again, a number before every text, until it has num_strings different strings."""
    articles, count, part = [], 0, 0
    while count < num_strings:
        part += 1
        for article in document["data"]:
            paragraphs = [numbered(paragraph, part) for paragraph in article["paragraphs"]]
            copy = {"data": [{"paragraphs": paragraphs}]}
            count += sum(map(len, strings_by_paragraph(copy)))
            articles.append({"title": f"{article.get('title')} {part}", "paragraphs": paragraphs})
            if count >= num_strings:
                break
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")


def numbered(paragraph: dict, part: int) -> dict:
    """The paragraph with every word that begins with a capital letter spelled with the number behind it."""
    qas = [
        {
            **qa,
            "id": f"{qa['id']}-{part}",
            "question": f"{part} {qa['question']}",
            "answers": [{"text": again(answer["text"], part), "answer_start": -1} for answer in qa["answers"]],
        }
        for qa in paragraph["qas"]
    ]
    context = again(paragraph["context"], part)
    for qa in qas:
        qa.pop("plausible_answers", None)
        for answer in qa["answers"]:
            answer["answer_start"] = context.find(answer["text"])
    return {"context": context, "qas": qas}


def again(text: str, part: int) -> str:
    return re.sub(r"\w+", lambda word: f"{word[0]}{part}" if len(word[0]) > 2 else word[0], text)


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
    plan_chat(documents)


def plan_chat(documents: list[dict]) -> None:
    """Requests, characters and tokens of a chat model for all of SQuAD 2.0, from documents that are parts of its files.

    Sentences are scaled up by the number of paragraphs, questions and answers by the number of questions.
    """
    chat = ChatSettings("en", "nl", model_name_or_path="m")
    totals: collections.Counter[str] = collections.Counter()
    for document, (full_contexts, full_questions) in zip(documents, FULL_FILES, strict=False):
        wanted = Wanted(document, answers_in_context=True)
        contexts = [p["context"] for article in document["data"] for p in article["paragraphs"]]
        sentences = {string for context in contexts for string in strings_of(context, sentences=True)}
        first = set(flat(wanted.first)) | sentences
        answers = set(flat(wanted.second(lambda strings: {s: s for s in strings})[0]))
        by_questions = full_questions / sum(1 for _ in iter_questions(document))
        parts = (sentences, full_contexts / len(contexts)), ((first - sentences) | answers, by_questions)
        for strings, scale in parts:
            amounts = chat.amounts([*strings]) | {"characters": sum(len(text_of(string)) for string in strings)}
            totals.update({unit: round(scale * amount) for unit, amount in amounts.items()})
            totals["requests"] += round(scale * len(strings))
    print("openai, all of SQuAD 2.0: " + ", ".join(f"{amount:,} {unit}" for unit, amount in totals.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["web", "server", "plan"])
    parser.add_argument("--input_file", nargs="+", required=True)
    parser.add_argument("--latency", type=float, default=0.1, help="web, server: seconds an answer takes")
    parser.add_argument("--workers", type=int, default=64, help="server: requests on their way")
    parser.add_argument("--paragraphs", type=int, default=40, help="web: paragraphs of the first article")
    parser.add_argument("--strings", type=int, default=128, help="server: strings to translate")
    args = parser.parse_args()
    modes = {"web": benchmark_web, "server": benchmark_server, "plan": benchmark_plan}
    modes[args.what](args)


if __name__ == "__main__":
    main()
