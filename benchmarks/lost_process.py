"""Kill one of the two processes of torchrun at random moments, see how the other ends, resume, and compare the end.

    OMP_NUM_THREADS=1 python benchmarks/lost_process.py --kills 20

A third of the kills comes while torch is loaded or the processes meet, a third in training or evaluation, a third in a
save. The other process must end within --patience seconds and without a traceback. Compared with an unbroken run of two
processes are the bits of all weights, all prediction files and all points of the TensorBoard curve.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from processes import compare_ends, flags, write_small_squad  # noqa: E402

PLACES = ("at the start", "in training", "in a save")
SENTENCES = {
    "another process of this run ended": "said that another ended",
    "signal 15: stopping": "was stopped by the launcher",
    "do not meet": "said that they do not meet",
}


def command(data: Path, log_dir: Path, more: list[str]) -> list[str]:
    argv = flags("--do_eval", "--predict_file", data, "--resume", "--evaluate_during_training", train=data)
    argv += ["--per_gpu_train_batch_size", "2", "--save_steps", "6", "--save_total_limit", "2", "--logging_steps", "3"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--redirects=3"]
    return [sys.executable, *launcher, f"--log-dir={log_dir}", str(ROOT / "run_squad.py"), *argv, *more]


def ranks(launcher: int) -> dict[int, int]:
    """The process ids of a launcher's ranks."""
    found = {}
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        for child in children:
            for entry in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                if entry.startswith(b"RANK="):
                    found[int(entry[5:])] = int(child)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_moment(process: subprocess.Popen, folder: Path, place: str, random_: random.Random) -> bool:
    """Until the moment of the kill; whether the run is still there then."""
    while process.poll() is None and len(ranks(process.pid)) < 2:
        time.sleep(0.01)
    begun = newest_save(folder)
    moment = time.monotonic() + (random_.uniform(0, 4) if place == PLACES[0] else 0)
    while process.poll() is None:
        if place == PLACES[0] and (time.monotonic() > moment or newest_save(folder) > begun):
            return True
        if place != PLACES[0] and newest_save(folder) > begun:
            break
        time.sleep(0.005)
    time.sleep(random_.uniform(0, 1))
    while place == PLACES[2] and process.poll() is None and not list(folder.glob("out/checkpoint-*.tmp")):
        time.sleep(0.0005)
    return process.poll() is None


def newest_save(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("out/checkpoint-*[0-9]")), default=0)


def kill_one(
    argv: list[str], folder: Path, log_dir: Path, place: str, random_: random.Random, patience: float
) -> tuple[float, str] | None:
    """(seconds until the other process was gone, how it ended); None when the run was over before."""
    shutil.rmtree(log_dir, ignore_errors=True)
    with open(folder / "launcher.log", "a") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    if not wait_for_moment(process, folder, place, random_) or len(pids := ranks(process.pid)) < 2:
        process.wait()
        return None
    rank = random_.randrange(2)
    os.kill(pids[rank], signal.SIGKILL)
    killed, other = time.monotonic(), pids[1 - rank]
    while is_running(other) and time.monotonic() < killed + patience:
        time.sleep(0.005)
    seconds = time.monotonic() - killed
    hangs = is_running(other)
    if hangs:
        os.kill(other, signal.SIGKILL)
    process.wait()
    (stderr,) = log_dir.glob(f"*/attempt_0/{1 - rank}/stderr.log")
    said = stderr.read_text(errors="replace")
    ends = [end for sentence, end in SENTENCES.items() if sentence in said]
    how = "HANGS" if hangs else "TRACEBACK" if "Traceback" in said else ends[0] if ends else "was ended by the launcher"
    if how == "TRACEBACK":
        print(said[-2000:], file=sys.stderr)
    return seconds, f"rank {1 - rank} {how}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills before the run may end (20)")
    parser.add_argument("--patience", type=float, default=60, help="seconds that the other may take to end (60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", default="--max_steps 900", help="flags for run_squad.py")
    args = parser.parse_args()
    random_ = random.Random(args.seed)
    seconds, ends = [], collections.Counter()
    with tempfile.TemporaryDirectory() as top:
        data = write_small_squad(Path(top) / "small.json", 20)
        unbroken, broken = Path(top) / "unbroken", Path(top) / "broken"
        unbroken.mkdir(), broken.mkdir()
        argv = command(data, Path(top) / "logs", args.more.split())
        while len(seconds) < args.kills:
            place = PLACES[len(seconds) % 3]
            found = kill_one(argv, broken, Path(top) / "logs", place, random_, args.patience)
            if found is None:
                print("the run has ended: raise --more '--max_steps N'", file=sys.stderr)
                return 1
            seconds.append(found[0])
            ends[found[1]] += 1
            print(f"kill {len(seconds)} {place}: {found[1]} after {found[0]:.2f} s", file=sys.stderr)
        for folder in (broken, unbroken):
            finished = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
            if finished.returncode:
                print(finished.stderr, file=sys.stderr)
                return 1
        report = {
            "kills": len(seconds),
            **dict(sorted(ends.items())),
            "seconds until the other was gone, median": round(sorted(seconds)[len(seconds) // 2], 2),
            "at most": round(max(seconds), 2),
            **compare_ends(unbroken, broken),
        }
    print(json.dumps(report))
    bad = any("HANGS" in end or "TRACEBACK" in end for end in ends)
    return 0 if not bad and all(value for name, value in report.items() if name.endswith("equal")) else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
