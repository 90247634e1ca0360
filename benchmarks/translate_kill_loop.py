"""Kill translate_squad.py with SIGKILL again and again while the server fails; then let it finish, and count.

    python benchmarks/translate_kill_loop.py --kills 40 --fault_rate 0.25
    python benchmarks/translate_kill_loop.py --protocol deepl --kills 20 --fault_rate 0.2

Prints what was lost (nothing may be), what is wrong (nothing) and what was asked twice (no more than was in flight).
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

from translation_server import PROTOCOLS, TranslationServer, faults_of  # noqa: E402
from translations import count_wrong, make_document, stored_strings  # noqa: E402

from translate_squad import strings_by_paragraph  # noqa: E402

MOST_STRINGS_A_REQUEST = 10  # a paragraph of make_document
SLOW_FAULTS = {"hang", "drip", "429_wait_1s", "429_wait_1h"}
NOT_PLAYED = {
    "deepl": {"403", "456"},  # they end a run
    "openai": {"quota", "nonsense"},  # nothing shows nonsense of a single answer
}


def kill_loop(
    folder: Path,
    *,
    kills: int,
    fault_rate: float,
    workers: int,
    num_paragraphs: int,
    seed: int = 0,
    protocol: str = "page",
) -> dict:
    """Figures of a run that is killed `kills` times at random moments, and then ends."""
    source, output, cache = folder / "source.json", folder / "nl.json", folder / "cache.sqlite"
    document = make_document(num_paragraphs, seed)
    source.write_text(json.dumps(document), encoding="utf-8")
    strings = {string for group in strings_by_paragraph(document) for string in group}
    rng = random.Random(seed)
    faults = sorted({*faults_of(protocol)} - SLOW_FAULTS - NOT_PLAYED.get(protocol, set()))
    command = [sys.executable, str(ROOT / "translate_squad.py"), "--input_file", source, "--output_file", output]
    command += ["--cache_file", cache, "--rate", "500", "--workers", str(workers), "--cool_down", "0.01"]
    lost = []  # strings answered well but not stored, at each kill
    with TranslationServer(protocol, latency=0.02, fault_rate=fault_rate, faults=faults, seed=seed) as server:
        environment = {**os.environ, **server.env}
        command += server.flags

        def count_unused_answers() -> int:
            return sum(server.answered[string] for string in strings) - len(stored_strings(cache) & strings)

        for kill in range(kills):
            num_queries = len(server.queries)
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(server.queries) == num_queries and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.6))
            if process.poll() is not None:
                raise RuntimeError(f"ended with {process.returncode} before kill {kill + 1}")
            process.kill()
            process.wait()
            time.sleep(0.1)  # the server finishes what it was answering
            lost.append(count_unused_answers() - sum(lost))
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"the last run ended with {process.returncode}: {process.stderr[-2000:]}")
        after_the_last_kill = count_unused_answers() - sum(lost)
    checked, wrong, missing = count_wrong(json.loads(output.read_text("utf-8")))
    return {
        "protocol": protocol,
        "kills": len(lost),
        "requests": len(server.queries),
        "failed_requests": server.num_faults,
        "strings": len(strings),
        "checked": checked,
        "wrong": wrong,
        "missing": missing,
        "asked_twice": sum(server.answered[string] - 1 for string in strings),
        "most_lost_at_a_kill": max(lost),
        "most_in_flight": workers * MOST_STRINGS_A_REQUEST,
        "asked_twice_without_a_kill": after_the_last_kill,
    }


def is_good(figures: dict) -> bool:
    """Whether nothing is wrong or missing, and nothing was asked twice but what was in flight at a kill.

    A chat model is asked again for what came before a control sentence that failed.
    """
    again = figures["asked_twice_without_a_kill"] if figures["protocol"] != "openai" else 0
    bad = figures["wrong"], figures["missing"], again
    return not any(bad) and figures["most_lost_at_a_kill"] <= figures["most_in_flight"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=PROTOCOLS, default="page")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--fault_rate", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--num_paragraphs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory() as folder:
        figures = kill_loop(Path(folder), **vars(parser.parse_args()))
    print(json.dumps(figures, indent=4))
    sys.exit(0 if is_good(figures) else 1)


if __name__ == "__main__":
    main()
