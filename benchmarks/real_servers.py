"""Real servers and real clients beside our engines and stand-ins, each in an environment of its own under .servers/.

    python benchmarks/real_servers.py
    python benchmarks/real_servers.py deepl libretranslate

openai: `transformers serve` and the package openai; libretranslate: the server itself; deepl: DeepL's client before
our stand-in (the service itself is never called). The models are tiny and made here: they have learned to spell the
words of sample/ backwards, as the stand-ins do, so what is right can be computed. Prints a table of what was shown.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from common import BENCHMARKS, ROOT, make_environment

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from translation_server import KEY, MODEL, TranslationServer, reverse_words, string_of  # noqa: E402
from translations import count_wrong  # noqa: E402

from squadlib.data import load_squad  # noqa: E402
from squadlib.translation.canaries import CANARIES  # noqa: E402
from squadlib.translation.deepl import DeepLBackend, DeepLSettings  # noqa: E402
from translate_squad import strings_by_paragraph  # noqa: E402

SAMPLE = ROOT / "sample" / "sample-v2.0.json"
SIDE = BENCHMARKS / "servers"  # what runs in those environments
PACKAGES = {
    "openai": (
        f"torch=={version('torch').partition('+')[0]}",
        f"transformers[serving]=={version('transformers')}",
        "openai",
    ),
    "libretranslate": ("libretranslate",),
    "deepl": ("deepl",),
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "no_proxy": "*", "NO_PROXY": "*"}
START_SECONDS = 120.0
WITH_CODE = "The old bridge is on &#38; off."  # LibreTranslate turns such a code into its character


class Failed(Exception):
    """A check that did not hold."""


def expect(holds: object, found: object) -> None:
    if not holds:
        raise Failed(str(found)[-600:])


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------


def python_of(name: str) -> Path:
    """The Python of an environment, which is made first where it is missing."""
    return make_environment(ROOT / ".servers" / name, PACKAGES[name])


def run(*command: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    return subprocess.run(words, env={**os.environ, **OFFLINE, **(env or {})}, capture_output=True, text=True)


def run_side(*command: object, env: dict[str, str] | None = None) -> dict:
    """What a program of another environment prints as JSON."""
    done = run(*command, env=env)
    expect(done.returncode == 0, done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.startswith("{") else {}


def translate(folder: Path, *flags: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """translate_squad.py on the sample, into folder/nl.json."""
    files = ("--input_file", SAMPLE, "--output_file", folder / "nl.json")
    return run(sys.executable, ROOT / "translate_squad.py", *files, "--cool_down", 0.05, *flags, env=env)


def translated_well(*flags: object, env: dict[str, str] | None = None, key: Callable[[str], str] = str) -> str:
    """Translate the sample and count. key: what of a text must be right."""
    with tempfile.TemporaryDirectory() as folder:
        done = translate(Path(folder), *flags, env=env)
        expect(done.returncode == 0, done.stderr)
        checked, wrong, missing = count_wrong(json.loads(Path(folder, "nl.json").read_text("utf-8")), key)
    found = f"{checked} texts of sample/: {wrong} wrong, {missing} missing"
    expect(not wrong and not missing, found)
    return found


def refused(code: int, words: str, *flags: object, env: dict[str, str] | None = None) -> str:
    """The sentence with which a run ends."""
    with tempfile.TemporaryDirectory() as folder:
        done = translate(Path(folder), *flags, env=env)
    expect(done.returncode == code and words in done.stderr and "Traceback" not in done.stderr, done.stderr)
    return f"exit {code}, “{words}”"


@contextlib.contextmanager
def server(path: str, *command: object, env: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a server that runs for the length of a block; `path` answers when it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = [*map(str, command), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, env={**os.environ, **OFFLINE, **(env or {})}, stdout=log, stderr=log)
        try:
            end = time.monotonic() + START_SECONDS
            while not is_up(address + path):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise Failed(f"does not start: {log.read()[-600:]}")
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait()


def is_up(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except urllib.error.HTTPError as error:
        return error.code == 429  # it already counts requests
    except (OSError, http.client.HTTPException):
        return False


def ask(url: str, body: object) -> tuple[int, dict]:
    """(status, JSON) of a POST. A body that is text goes as it is."""
    raw = (body if isinstance(body, str) else json.dumps(body)).encode()
    request = urllib.request.Request(url, raw, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# ---------------------------------------------------------------------------------------------------------------------
# OpenAI's protocol
# ---------------------------------------------------------------------------------------------------------------------


def openai_rows(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    python, exchanges, model = python_of("openai"), folder / "exchanges.json", folder / "chat"
    with TranslationServer("openai", key=None) as stand_in:
        translated_well(*(flag for flag in stand_in.flags if flag != "--answers_alone"), env=stand_in.env)
        bodies = [body for _, _, body in stand_in.received]
        answers = [reverse_words(string_of(body).partition("\n")[0]) for body in bodies]
    exchanges.write_text(json.dumps([[body["messages"], answer] for body, answer in zip(bodies, answers, strict=True)]))
    done = run(sys.executable, SIDE / "chat_model.py", exchanges, model)
    expect(done.returncode == 0, done.stderr)
    name = f"transformers serve {version('transformers')}"
    with server("/health", python.parent / "transformers", "serve", model, "--device", "cpu") as address:
        flags = ("--backend", "openai", "--model_name_or_path", model, "--base_url")
        yield name, functools.partial(translated_well, *flags, f"{address}/v1")
        other = (*flags[:3], "other", flags[4], f"{address}/v1")
        yield f"{name}, another model's name", functools.partial(refused, 1, "Server is pinned to", *other)
        yield f"{name}, no /v1 in the address", functools.partial(refused, 1, "HTTP 404: Not Found", *flags, address)
        yield "package openai, exported requests", functools.partial(batch, python, f"{address}/v1", folder, flags[:4])
    yield "package openai before our stand-in", functools.partial(openai_client, python)


def batch(python: Path, url: str, folder: Path, flags: tuple) -> str:
    """Export what is missing, let the real client ask the real server, import: the same file as asked directly."""
    requests, results, direct = (folder / name for name in ("requests.jsonl", "results.jsonl", "direct"))
    direct.mkdir()
    expect(translate(direct, *flags, "--base_url", url).returncode == 0, "the direct run failed")
    rounds = asked = 0
    while not (folder / "nl.json").exists():  # answers follow their sentences in a second round
        rounds += 1
        expect(rounds < 4, "requests are left after three rounds")
        done = translate(folder, *flags, "--export_requests", requests)
        expect(done.returncode == 0, done.stderr)
        found = run_side(python, SIDE / "openai_client.py", "batch", url, requests, results)
        asked += found["requests"]
        done = translate(folder, *flags, "--import_responses", results)
        expect(done.returncode == 0, done.stderr)
    expect((folder / "nl.json").read_bytes() == (direct / "nl.json").read_bytes(), "another file than asked directly")
    return f"{found['version']}: {asked} requests and results valid in {rounds} rounds; imported = asked directly"


def openai_client(python: Path) -> str:
    expected = {"bad": "BadRequestError", "slow": "RateLimitError", "broken": "InternalServerError"}
    expected |= {"busy": "InternalServerError", "model": "NotFoundError", "right": "thgir"}
    with TranslationServer("openai") as stand_in:
        stand_in.poison = {"bad": "400", "slow": "429", "broken": "500", "busy": "503"}
        asked = {name: ["other" if name == "model" else MODEL, f"Translate:\n\n{name}"] for name in expected}
        command = (python, SIDE / "openai_client.py", "outcomes", f"{stand_in.address}/v1", json.dumps(asked))
        found = run_side(*command, env=stand_in.env)
        wrong_key = run_side(*command, env={"OPENAI_API_KEY": "wrong"})
    release = found.pop("version")
    expect(found == expected and wrong_key["right"] == "AuthenticationError", (found, wrong_key))
    return f"{release}: reads its answers, knows 400, 401, 404, 429, 500 and 503 from it"


# ---------------------------------------------------------------------------------------------------------------------
# LibreTranslate
# ---------------------------------------------------------------------------------------------------------------------


def libretranslate_rows(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    python, packages = python_of("libretranslate"), folder / "argos"
    strings = [string for group in strings_by_paragraph(load_squad(str(SAMPLE))) for string in group]
    (folder / "texts.json").write_text(json.dumps([*strings, *CANARIES, WITH_CODE]))
    for command in (
        (sys.executable, SIDE / "word_reverser.py", folder / "texts.json", folder / "weights.npz"),
        (python, SIDE / "argos_packages.py", folder / "weights.npz", packages),
    ):
        done = run(*command)
        expect(done.returncode == 0, done.stderr)
    environment = {"ARGOS_PACKAGES_DIR": str(packages), "HOME": str(folder)}
    start = functools.partial(
        server, "/languages", python, SIDE / "libretranslate_offline.py", "--disable-web-ui", env=environment
    )
    flags = ("--backend", "libretranslate", "--base_url")
    release = run(python, "-c", "import importlib.metadata as m; print(m.version('libretranslate'))").stdout.strip()
    name = f"LibreTranslate {release}"
    with start() as address:
        # it gives a translation the case that its source begins with
        yield name, functools.partial(translated_well, *flags, address, key=str.casefold)
        yield f"{name}, bad requests", functools.partial(same_refusals, address)
        yield (
            f"{name}, a language it lacks",
            functools.partial(refused, 1, "de is not supported", *flags, address, "--target_lang", "de"),
        )
        yield f"{name}, codes of characters", functools.partial(same_code, address)
    with start("--batch-limit", 5) as address:
        yield f"{name}, 5 texts at most", functools.partial(translated_well, *flags, address, key=str.casefold)
    with start("--req-limit", 2) as address:
        for _ in range(3):  # a list that is longer than the limit is let through and not counted
            ask(f"{address}/translate", {"q": "1712", "source": "en", "target": "nl"})
        limited = functools.partial(refused, 75, "HTTP 429: Slowdown:", *flags, address, "--give_up_after", 1)
        yield f"{name}, 2 requests a minute", limited
    keys = folder / "keys.db"
    add_key = "import sys; from libretranslate.api_keys import Database; Database(sys.argv[1]).add(1000, sys.argv[2])"
    done = run(python, "-c", add_key, keys, KEY)
    expect(done.returncode == 0, done.stderr)
    with start("--api-keys", "--api-keys-db-path", keys, "--require-api-key-secret") as address:
        variable = "LIBRETRANSLATE_API_KEY"
        for given, words in (("", f"put it into {variable}"), ("wrong", f"the key was refused; set {variable}")):
            check = functools.partial(refused, 1, words, *flags, address, env={variable: given})
            yield f"{name} with keys, {given or 'none'}", check
        well = functools.partial(translated_well, *flags, address, env={variable: KEY}, key=str.casefold)
        yield f"{name} with keys, the right one", well


def same_refusals(address: str) -> str:
    """The real server and the stand-in refuse the same requests in the same words."""
    good = {"q": ["Hi."], "source": "en", "target": "nl", "format": "text"}
    bad = [
        {**good, "target": "xx"},
        {**good, "source": "xx"},
        {**good, "q": []},
        {**good, "target": ""},
        "no JSON",
        [1],
    ]
    bad += [{name: value for name, value in good.items() if name != left_out} for left_out in ("q", "source", "target")]
    with TranslationServer("libretranslate", key=None) as stand_in:
        for body in bad:
            real, ours = (ask(f"{url}/translate", body) for url in (address, stand_in.address))
            expect(real == ours and real[0] == 400, (body, real, ours))
    return f"{len(bad)} kinds: status and words are the stand-in's"


def same_code(address: str) -> str:
    body = {"q": [WITH_CODE], "source": "en", "target": "nl", "format": "text"}
    with TranslationServer("libretranslate", key=None) as stand_in:
        real, ours = (ask(f"{url}/translate", body)[1]["translatedText"][0] for url in (address, stand_in.address))
    expect(real.casefold() == ours.casefold() and " & " in real, (real, ours))
    return "`&#38;` comes back as `&`, from the stand-in too"


# ---------------------------------------------------------------------------------------------------------------------
# DeepL
# ---------------------------------------------------------------------------------------------------------------------


def deepl_rows(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    python = python_of("deepl")
    with TranslationServer("deepl") as stand_in:
        stand_in.poison = {"busy": "503", "slow": "429", "quota": "456", "bad": "400"}
        texts = ["Old books.", "1712"]
        asked = {"texts": texts, "failing": {name: name for name in stand_in.poison}}
        found = run_side(python, SIDE / "deepl_client.py", stand_in.address, json.dumps(asked), env=stand_in.env)
        theirs = stand_in.received[0]
        os.environ |= stand_in.env
        ours_found = DeepLBackend(DeepLSettings("en", "nl", base_url=stand_in.address)).translate(texts)
        ours = stand_in.received[-1]
        addresses = []
        for os.environ["DEEPL_AUTH_KEY"] in ("abc:fx", "abc"):
            addresses.append(DeepLBackend(DeepLSettings("en", "nl")).base_url)
        name = f"DeepL's client {found['version']}"
        yield f"{name} before our stand-in", functools.partial(deepl_outcomes, found, ours_found)
        yield (
            f"{name} beside our engine",
            functools.partial(deepl_requests, theirs, ours, found["addresses"], addresses),
        )
        stand_in.poison.clear()
        yield (
            "our engine before the same stand-in",
            functools.partial(translated_well, *stand_in.flags, env=stand_in.env),
        )


def deepl_outcomes(found: dict, ours: list[str]) -> str:
    expected = {
        "translations": ours,
        "failures": {
            "busy": ["DeepLException", "503"],
            "slow": ["TooManyRequestsException", "429"],
            "quota": ["QuotaExceededException", "456"],
            "bad": ["DeepLException", "400"],
        },
        "wrong key": ["AuthorizationException", "403"],
        "wrong language": ["DeepLException", "400"],
        "51 texts": ["DeepLException", "400"],
        "too large": ["DeepLException", "413"],
        "regions": [["DeepLException", "None"]] * 2,  # the client itself wants them for EN and PT
    }
    expect({name: found[name] for name in expected} == expected, found)
    return "reads its answers, knows 400, 403, 413, 429, 456 and 503 from it"


def deepl_requests(theirs: tuple, ours: tuple, their_addresses: list[str], addresses: list[str]) -> str:
    headers = [{name.lower(): value for name, value in request[1].items()} for request in (theirs, ours)]
    for name in ("authorization", "content-type"):
        expect(headers[0][name] == headers[1][name], (name, *headers))
    body = {name: value for name, value in theirs[2].items() if name != "show_billed_characters"}
    expect(theirs[0] == ours[0] and body == ours[2], (theirs, ours))
    expect(addresses == their_addresses, (addresses, their_addresses))
    return "same path, headers and JSON (less `show_billed_characters`); same addresses for both kinds of key"


ROWS = {"openai": openai_rows, "libretranslate": libretranslate_rows, "deepl": deepl_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", choices=[*ROWS, []], help="which (all)")
    failed = 0
    print("| real part | what it showed |\n|---|---|", flush=True)
    for protocol in parser.parse_args().protocols or ROWS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                for name, check in ROWS[protocol](Path(folder)):
                    try:
                        shown = check()
                    except Failed as reason:
                        shown, failed = f"FAILED: {' '.join(str(reason).split())}", failed + 1
                    print(f"| {name} | {shown} |", flush=True)
            except Failed as reason:
                print(f"| {protocol} | FAILED: {' '.join(str(reason).split())} |", flush=True)
                failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
