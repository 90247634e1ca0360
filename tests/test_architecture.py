"""The house: which room may import which, what is imported only when it is needed, and how large a room may be."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys

import pytest
from conftest import ROOT, run_script

SCRIPTS = ("translate_squad", "clean_squad", "run_squad", "evaluate_v2")
BASE = {f"squadlib.{name}" for name in ("console", "files", "data", "sentences")}
HEAVY = {"torch", "transformers"}
FLOORS = {  # a wing: what it may import beside itself and the base
    "squadlib.scoring": (),
    "squadlib.translation": (),
    "squadlib.cleaning": (),
    "squadlib.model": (),
    "squadlib.training": ("squadlib.model",),
}
MOST_LINES, MOST_CLASS_LINES, MOST_ANY = 500, 150, 40


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PATHS = {module_name(path): path for path in (*ROOT.glob("*.py"), *ROOT.glob("squadlib/**/*.py"))}
ROOMS = [name for name in PATHS if name.startswith("squadlib")]
TOP = [name for name in PATHS if name not in ROOMS]  # the scripts and utils_squad


@functools.cache
def tree_of(name):
    return ast.parse(PATHS[name].read_text(encoding="utf-8"))


def imported(node):
    """Names that an import statement brings in: of our own modules the module, of a package its name."""
    assert not (isinstance(node, ast.ImportFrom) and node.level), "imports are written out"
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if name in PATHS else node.module for name in names]
    return {name if name in PATHS else name.split(".")[0] for name in names}


def imports_of(name):
    """Everything that a module imports anywhere."""
    nodes = [node for node in ast.walk(tree_of(name)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return set().union(*map(imported, nodes)) - {name}


def top_imports_of(name):
    """What is imported when the module is: not in functions, not under TYPE_CHECKING."""
    nodes = [node for node in tree_of(name).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return set().union(*map(imported, nodes)) - {name}


def loaded_with(name, seen=()):
    """Everything that importing a module imports, step by step."""
    found = set()
    for other in top_imports_of(name) - set(seen):
        found |= {other} | (loaded_with(other, (*seen, name)) if other in PATHS else set())
    return found


@pytest.mark.parametrize("name", sorted(PATHS))
def test_imports_run_downwards(name):
    ours = imports_of(name) & set(PATHS)
    if name == "evaluate_v2":
        assert not top_imports_of(name) & set(PATHS), "evaluate_v2.py is copied alone into other projects"
        assert all(other.startswith("squadlib.scoring.") for other in ours), (
            "and only flags beyond the metric need more"
        )
    elif name in TOP:
        assert ours <= {*ROOMS, "evaluate_v2"}
    elif name in BASE or name == "squadlib":
        assert ours <= BASE
    else:
        wing = ".".join(name.split(".")[:2])
        allowed = (wing, *FLOORS[wing])
        assert not [other for other in ours - BASE if not other.startswith(allowed)]


def test_there_is_no_circle():
    def visit(name, path):
        assert name not in path, " -> ".join((*path, name))
        for other in sorted(imports_of(name) & set(PATHS)):
            visit(other, (*path, name))

    for name in PATHS:
        visit(name, ())


@pytest.mark.parametrize("name", sorted({*SCRIPTS, *BASE, *(n for n in ROOMS if n.startswith("squadlib.cleaning"))}))
def test_what_needs_no_model_loads_no_torch(name):
    assert not loaded_with(name) & HEAVY


@pytest.mark.parametrize("name", [name for name in ROOMS if name.startswith("squadlib.scoring")])
def test_scoring_needs_the_standard_library_and_comparing_numpy(name):
    others = loaded_with(name) - sys.stdlib_module_names - set(PATHS)
    assert others == ({"numpy"} if name == "squadlib.scoring.comparison" else set())


def run_and_list(names, script, *argv, cwd=None):
    """(those of the modules `names` that running a script loads, the finished process)."""
    command = [sys.executable, "-X", "importtime", str(ROOT / script), *map(str, argv)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return sorted(set(names) & loaded), done


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_waits_for_no_large_library(name):
    # numpy is loaded in a tenth of a second, and clean_squad.py does nothing without it
    names = HEAVY if name == "clean_squad" else {*HEAVY, "numpy"}
    loaded, done = run_and_list(names, f"{name}.py", "--help")
    assert done.returncode == 0 and "usage:" in done.stdout
    assert loaded == []


def test_cleaning_loads_no_torch(tmp_path):
    sample = ROOT / "sample"
    memory = ("--backend", "memory", "--memory_file", sample / "memory_en_nl.jsonl", "--output_file", "nl.json")
    done = run_script("translate_squad.py", "--input_file", sample / "sample-v2.0.json", *memory, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = ("--input_file", "nl.json", "--output_file", "clean.json")
    loaded, done = run_and_list(HEAVY, "clean_squad.py", *files, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "clean.json").stat().st_size > 0, done.stderr
    assert loaded == []


def test_no_room_is_too_large():
    lines = {name: len(PATHS[name].read_text(encoding="utf-8").splitlines()) for name in ROOMS}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    classes = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name in ROOMS
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in classes.items() if count > MOST_CLASS_LINES} == {}


def test_the_command_line_stays_in_the_scripts():
    takers = [
        f"{name}.{function.name}"
        for name in ROOMS
        for function in ast.walk(tree_of(name))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if argument.annotation and "Namespace" in ast.unparse(argument.annotation)
    ]
    assert takers == []


def test_any_stays_at_the_border():
    counts = {
        name: sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree_of(name))) for name in PATHS
    }
    used = {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}
    total = sum(counts.values())
    assert total <= MOST_ANY, f"Any is written {total} times, {MOST_ANY} are allowed: {used}"
