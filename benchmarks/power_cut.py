"""Record every system call of a save with strace, and look at the folder as thousands of power cuts would leave it.

    python benchmarks/power_cut.py [--kinds run file cache fast_cache]

run: the real run_squad.py over the folder of an earlier run: checkpoints, final model, predictions. file: one
atomic_write. cache: translate_squad.py's SQLite file, its log and its checkpoints, where every write waits for the
disk; fast_cache: where only the first does, as inside one second: the last ones may be gone, and no other. What was not
synced is dropped or reordered by the rules of tests/crash_states.py; what the program had said before the cut must hold
after it.
Prints a line of JSON a kind: how many states were found old, new, or something else, which makes the exit code 1.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from crash_states import Disk, Mark, State  # noqa: E402

CALLS = (
    "open openat creat close dup dup2 dup3 fcntl lseek write writev pwrite64 pwritev pwritev2 ftruncate truncate "
    "fallocate copy_file_range sendfile mmap fsync fdatasync sync_file_range rename renameat renameat2 unlink unlinkat "
    "link linkat symlink symlinkat mkdir mkdirat rmdir"
)
UNKNOWN = "writev pwritev pwritev2 truncate fallocate copy_file_range sendfile link linkat symlink symlinkat".split()
LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(<.*?>)?( .*)?$")
UNFINISHED = re.compile(r"(?P<pid>\d+) +(?P<start>\w+\(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")
DESCRIPTOR = re.compile(r"^(-?\d+|AT_FDCWD)(?:<([^>]*)>)?$")
NUM_PUTS, WAL_PAGES = 40, 20  # translations of the cache; pages of SQLite's log after which it is taken into the file

WRITE_FILE = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from squadlib.files import atomic_write
with atomic_write("file.json") as out:
    for _ in range(20):
        out.write("new" * 2000)
os.write(2, b"Saved")
"""
FILL_CACHE = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import squadlib.translation.cache
from squadlib.translation.cache import Cache
squadlib.translation.cache.SYNC_EVERY = float(sys.argv[1])
cache = Cache("cache.sqlite", "mtranslate", "en", "nl")
cache.database.execute("PRAGMA wal_autocheckpoint = {WAL_PAGES}")
for number in range({NUM_PUTS}):
    cache.put({{f"{{number}}.{{n}}": f"target {{number}} {{n}} " * 20 for n in range(4)}})
    os.write(2, b"put %d." % number)
cache.forget(["0.0"])
os.write(2, b"forgot.")
cache.database.close()
"""


# ---- Recording ------------------------------------------------------------------------------------------------------


def calls(log: Path) -> Iterator[tuple[str, list[str], int]]:
    """(name, arguments, result) of each system call that did not fail, in the order of their ends."""
    begun: dict[str, str] = {}
    with open(log, encoding="ascii", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if found := UNFINISHED.match(line):
                begun[found["pid"]] = found["start"]
                continue
            if found := RESUMED.match(line):
                line = f"{found['pid']} {begun.pop(found['pid'])}{found['rest']}"
            if (found := LINE.match(line)) and int(found["result"]) >= 0:
                yield found["name"], found["arguments"].split(", "), int(found["result"])


def text(argument: str) -> bytes:
    """A string of strace -xx."""
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


class Replay:
    """Brings the calls of a strace log onto a Disk. marks: patterns whose appearance on stderr is a promise."""

    def __init__(self, disk: Disk, marks: str) -> None:
        self.disk, self.marks = disk, re.compile(marks)
        self.places: dict[str, int] = {}  # of open files by descriptor and path

    def path(self, folder: str, name: str) -> str:
        """The path of openat's first two arguments; the command runs in the recorded folder."""
        found = DESCRIPTOR.match(folder)
        return os.path.join(text(found[2]).decode() if found and found[2] else self.disk.folder, text(name).decode())

    def number(self, descriptor: str) -> int | None:
        found = DESCRIPTOR.match(descriptor)
        return self.disk.number(text(found[2]).decode()) if found and found[2] else None

    def inside(self, path: str) -> bool:
        return Path(path).is_relative_to(self.disk.folder) and not path.endswith("-shm")  # SQLite makes it anew

    def __call__(self, name: str, arguments: list[str], result: int) -> None:
        if name in ("write", "pwrite64") and arguments[0].startswith("2<"):
            for found in self.marks.findall(text(arguments[1]).decode(errors="replace")):
                self.disk.mark(found)
        elif name == "openat":
            self.open(self.path(*arguments[:2]), arguments[2], result)
        elif name in ("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "lseek"):
            self.on_file(name, arguments, result)
        elif name in ("unlink", "rmdir", "unlinkat"):
            self.remove(self.path(*(arguments[:2] if name == "unlinkat" else ("AT_FDCWD", arguments[0]))))
        elif name in ("mkdir", "mkdirat"):
            path = self.path(*(arguments[:2] if name == "mkdirat" else ("AT_FDCWD", arguments[0])))
            if self.inside(path):
                self.disk.make(self.disk.name(path), folder=True)
        elif name in ("rename", "renameat", "renameat2"):
            pairs = [("AT_FDCWD", argument) for argument in arguments] if name == "rename" else None
            pairs = pairs or [(arguments[0], arguments[1]), (arguments[2], arguments[3])]
            self.disk.rename(*(self.path(*pair) for pair in pairs))
        elif name == "mmap" and "PROT_WRITE" in arguments[2] and "MAP_SHARED" in arguments[3]:
            self.refuse(name, arguments[4])
        elif name in UNKNOWN:
            self.refuse(name, *arguments)

    def refuse(self, name: str, *arguments: str) -> None:
        for argument in arguments:
            found = DESCRIPTOR.match(argument)
            path = found[2] if found else argument if argument.startswith('"') else ""
            if path and self.inside(text(path).decode(errors="replace")):
                raise SystemExit(f"{name}({', '.join(arguments)[:200]}) is not recorded: add it to this script")

    def open(self, path: str, how: str, descriptor: int) -> None:
        if not self.inside(path):
            return
        number = self.disk.number(path)
        if number is None and "O_CREAT" in how:
            number = self.disk.make(self.disk.name(path), folder=False)
        elif "O_TRUNC" in how:
            self.disk.write(number, 0, None)
        if number is None:
            raise SystemExit(f"{path} was opened ({how}), but nothing made it")
        content = self.disk.files[number].content
        self.places[f"{descriptor} {path}"] = len(content or b"") if "O_APPEND" in how else 0

    def on_file(self, name: str, arguments: list[str], result: int) -> None:
        number = self.number(arguments[0])
        found = DESCRIPTOR.match(arguments[0])
        if number is None or not found:
            return
        key = f"{found[1]} {text(found[2]).decode()}"
        if name == "write":
            self.disk.write(number, self.places[key], text(arguments[1])[:result])
            self.places[key] += result
        elif name == "pwrite64":
            self.disk.write(number, int(arguments[3]), text(arguments[1])[:result])
        elif name == "ftruncate":
            self.disk.write(number, int(arguments[1]), None)
        elif name == "lseek":
            self.places[key] = result
        else:
            self.disk.sync(number)

    def remove(self, path: str) -> None:
        if self.disk.number(path) is not None:
            self.disk.link((self.disk.name(path), None))


def recorded(folder: Path, command: list[str], marks: str) -> Disk:
    """What a command did to a folder. marks: pattern of the promises in its log."""
    disk = Disk(folder)
    log = folder.parent / "strace.log"
    options = ["-f", "-y", "-xx", "-s", str(1 << 26), "--seccomp-bpf", "-e", f"trace={CALLS.replace(' ', ',')}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["strace", *options, "-o", str(log), *command]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {process.stderr}")
    replay = Replay(disk, marks)
    for call in calls(log):
        replay(*call)
    log.unlink()
    check_recording(disk)
    return disk


def check_recording(disk: Disk) -> None:
    """End when the replay of all calls is not what is there: something was not recorded."""
    for (folder, name), number in disk.names.items():
        path = Path(name)
        while folder:
            folder, parent = next(at for at, child in disk.names.items() if child == folder)
            path = Path(parent) / path
        content = disk.files[number].content
        if not (disk.folder / path).exists() or (content is not None and (disk.folder / path).read_bytes() != content):
            raise SystemExit(f"{path} is not what its recorded writes make")
    there = sum(not path.name.endswith("-shm") for path in disk.folder.rglob("*"))
    if there != len(disk.names):
        raise SystemExit(f"{there} files and folders, {len(disk.names)} recorded")


# ---- What must hold after a cut -------------------------------------------------------------------------------------


def file_kind(top: Path) -> tuple[Disk, Callable[[State], str]]:
    """A file of 100 kB, old or new."""
    folder = top / "disk"
    folder.mkdir()
    (folder / "file.json").write_text("old" * 30_000)
    disk = recorded(folder, [sys.executable, "-c", WRITE_FILE], "Saved")

    def look(state: State) -> str:
        content = (state.folder / "file.json").read_text()
        if content == "new" * 40_000:
            return "new"
        return "old" if content == "old" * 30_000 and not state.promised else "BAD"

    return disk, look


def cache_kind(top: Path, sync_every: float = 0.0) -> tuple[Disk, Callable[[State], str]]:
    """Every translation whose put() had returned is there, and none is another's; of a fast cache the first ones."""
    from squadlib.translation.cache import Cache

    folder = top / "disk"
    folder.mkdir()
    disk = recorded(folder, [sys.executable, "-c", FILL_CACHE, str(sync_every)], r"put \d+|forgot")

    def look(state: State) -> str:
        rubbish = random.Random(state.cut).randbytes(32768)  # the index is shared memory: nobody knows what it holds
        (state.folder / "cache.sqlite-shm").write_bytes(rubbish)
        cache = Cache(str(state.folder / "cache.sqlite"), "mtranslate", "en", "nl")
        assert cache.database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        strings = [f"{number}.{n}" for number in range(NUM_PUTS) for n in range(4)]
        found = cache.get(strings)
        cache.database.close()
        for string, target in found.items():
            number, n = string.split(".")
            assert target == f"target {number} {n} " * 20
        groups = collections.Counter(string.split(".")[0] for string in found)
        promised = {mark.removeprefix("put ") for mark in state.promised if mark != "forgot"}
        whole = {number for number, count in groups.items() if count == 4 or (number == "0" and "0.0" not in found)}
        if sync_every:  # a put after the others: no gap before it
            return "BAD" if whole != set(groups) or whole != set(map(str, range(len(whole)))) else "the first ones"
        if not promised <= whole or whole != set(groups) or ("forgot" in state.promised and "0.0" in found):
            return "BAD"
        return "as promised" if whole == promised else "one put more"

    return disk, look


def run_kind(top: Path) -> tuple[Disk, Callable[[State], str]]:
    """The newest checkpoint, the model and the prediction files of run_squad.py are old or new, and new once said."""
    from processes import TINY_BERT, flags, prediction_files, write_small_squad

    from squadlib.training.checkpoints import check_checkpoint, list_checkpoints, locked_output_dir, newest_checkpoint

    folder = top / "disk"
    folder.mkdir()
    model = top / "model"
    shutil.copytree(TINY_BERT, model)
    data = write_small_squad(top / "small.json", 8)
    argv = flags("--do_eval", "--predict_file", data, "--max_steps", 4, "--save_steps", 2, model=model, train=data)
    argv += ["--save_total_limit", "1", "--overwrite_output_dir"]
    command = [sys.executable, str(ROOT / "run_squad.py"), *argv]
    subprocess.run([*command, "--seed", "7"], cwd=folder, check=True, capture_output=True)
    names = ("model.safetensors", "config.json", "tokenizer.json")
    contents = [{name: (folder / "out" / name).read_bytes() for name in names}]
    predictions = [prediction_files(folder / "out")]
    before = {step: check_checkpoint(path)["started"] for step, path in list_checkpoints(str(folder / "out"))}
    disk = recorded(folder, command, r"Saved out/checkpoint-\d+|Saved the model|Results: ")
    contents.append({name: (folder / "out" / name).read_bytes() for name in names})
    predictions.append(prediction_files(folder / "out"))
    assert contents[0] != contents[1]

    def look(state: State) -> str:
        out = state.folder / "out"
        with locked_output_dir(str(out)):
            newest = newest_checkpoint(str(out))
        for _, path in list_checkpoints(str(out)):
            check_checkpoint(path)
        found = check_checkpoint(newest) if newest else None
        step = found["global_step"] if found and found["started"] not in before.values() else 0
        promised = [int(mark.split("-")[1]) for mark in state.promised if "checkpoint" in mark]
        there = {name: (out / name).read_bytes() for name in names if (out / name).exists()}
        files = prediction_files(out)
        if not found or step < max(promised, default=0) or there not in contents:
            return "BAD"
        if "Saved the model" in state.promised and there != contents[1]:
            return "BAD"
        if any(files[name] not in (old[name] for old in predictions) for name in predictions[0]):
            return "BAD"
        version = "old" if there == contents[0] else "new"
        return f"checkpoint {step or 'old'}, model {version}"

    return disk, look


def fast_cache_kind(top: Path) -> tuple[Disk, Callable[[State], str]]:
    return cache_kind(top, sync_every=1000.0)


KINDS: dict[str, Any] = {"file": file_kind, "cache": cache_kind, "fast_cache": fast_cache_kind, "run": run_kind}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--states", type=int, default=600, help="states of each kind, at least (600)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not shutil.which("strace"):
        print("strace is missing (Debian: apt-get install strace)", file=sys.stderr)
        return 1
    logging.disable(logging.WARNING)
    bad = 0
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as top:
            disk, look = KINDS[kind](Path(top))
            per_cut = max(3, -(-args.states // len(disk.operations)))
            found: collections.Counter[str] = collections.Counter()
            for state in disk.states(per_cut, Path(top), args.seed):
                try:
                    outcome = look(state)
                except Exception as error:
                    outcome = f"BAD: {error!r}"[:200]
                if outcome.startswith("BAD"):
                    print(f"{kind}, state {state.folder.name}: {outcome}", file=sys.stderr)
                    bad += 1
                found[outcome] += 1
        promises = sum(isinstance(operation, Mark) for operation in disk.operations)
        report = {"kind": kind, "operations": len(disk.operations), "promises": promises, "states": found.total()}
        print(json.dumps({**report, **dict(sorted(found.items()))}), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
