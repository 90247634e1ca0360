"""Kill run_squad.py with SIGKILL at random moments, resume it each time, and compare the end with an unbroken run.

    python benchmarks/kill_and_resume.py --kills 24

Half of the kills hit a save: they come as soon as a checkpoint's temporary folder is seen. Compared are the bits of
all weights, all prediction files and all points of the TensorBoard curve.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from processes import compare_ends, flags, write_small_squad  # noqa: E402


def command(data: Path, max_steps: int) -> list[str]:
    argv = flags("--do_eval", "--predict_file", data, "--resume", "--evaluate_during_training", train=data)
    argv += ["--save_steps", "8", "--save_total_limit", "2", "--logging_steps", "5", "--max_steps", str(max_steps)]
    return [sys.executable, str(ROOT / "run_squad.py"), *argv]


def newest_step(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("out/checkpoint-*[0-9]")), default=0)


def saves_since(moment: float, folder: Path) -> list[Path]:
    """Temporary checkpoint folders of this life, not left over from an earlier one."""
    found = []
    for path in folder.glob("out/checkpoint-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime > moment:
                found.append(path)
    return found


def run_and_kill(argv: list[str], folder: Path, in_save: bool, random_: random.Random) -> str:
    """Start, wait for the first new checkpoint (or a moment), kill. Returns where it hit, "" when the run had ended."""
    before, started = newest_step(folder), time.time()
    with open(folder / "log", "a") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    moment = time.monotonic() + random_.uniform(1, 6)  # from the imports to the middle of training
    while process.poll() is None:
        saving = saves_since(started, folder)
        if in_save and saving and newest_step(folder) > before:
            time.sleep(random_.uniform(0, 0.03))
            break
        if not in_save and time.monotonic() > moment and (newest_step(folder) > before or random_.random() < 0.0005):
            break
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode != -signal.SIGKILL:
        return ""
    return "in a save" if saves_since(started, folder) else "elsewhere"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24, help="kills before the run may end (24)")
    parser.add_argument("--max_steps", type=int, default=600, help="updates of the run (600)")
    args = parser.parse_args()
    random_, places = random.Random(0), []
    with tempfile.TemporaryDirectory() as top:
        data = write_small_squad(Path(top) / "small.json", 30)
        unbroken, broken = Path(top) / "unbroken", Path(top) / "broken"
        unbroken.mkdir(), broken.mkdir()
        argv = command(data, args.max_steps)
        subprocess.run(argv, cwd=unbroken, check=True, capture_output=True)
        while len(places) < args.kills:
            place = run_and_kill(argv, broken, len(places) % 2 == 1, random_)
            if not place:
                sys.exit("the run has ended: raise --max_steps")
            places.append(place)
            print(f"kill {len(places)} {place}, newest checkpoint {newest_step(broken)}", file=sys.stderr)
        finished = subprocess.run(argv, cwd=broken, capture_output=True, text=True)
        if finished.returncode:
            sys.exit(finished.stderr)
        log = (broken / "log").read_text() + finished.stderr
        report = {
            "kills": len(places),
            "in a save": places.count("in a save"),
            "resumed": log.count("Going on from"),
            "tracebacks": log.count("Traceback"),
            **compare_ends(unbroken, broken),
        }
    print(json.dumps(report))
    return int(not all(value for name, value in report.items() if name.endswith("equal")))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
