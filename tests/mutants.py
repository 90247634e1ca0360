"""Does the suite notice a change? Alters one place of a module at a time and runs the tests of that module.

    python tests/mutants.py                  about 250 mutants; prints the survivors and the share that was killed
    python tests/mutants.py --each 5 windows decoding

A mutant is killed when a test fails, or does not end. Each run is a fork of a process that has imported torch already,
in a copy of the repository. The choice of places is the same at every run. Exit code 1 when a survivor is not in
SURVIVORS, where each has its reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT = 5  # times what the unaltered module's tests take, and at least 60 seconds

TARGETS = {  # module: its tests
    "squadlib/model/windows.py": "test_windows test_labels test_golden",
    "squadlib/model/labels.py": "test_labels test_windows test_golden",
    "squadlib/model/pieces.py": "test_pieces test_windows test_golden",
    "squadlib/model/decoding.py": "test_decoding test_golden test_answer_text",
    "squadlib/model/answer_text.py": "test_answer_text test_decoding test_golden",
    "squadlib/training/plan.py": "test_plan test_loop test_objective test_many_files test_run_squad",
    "squadlib/training/optimisation.py": "test_optimisation test_objective test_recorded test_loop test_processes",
    "squadlib/training/recorded.py": "test_recorded",
    "squadlib/training/checkpoints.py": "test_checkpoints test_power_cut test_output_on_disk test_bad_input",
    "squadlib/training/state.py": "test_state test_resume test_checkpoints test_processes",
    "squadlib/files.py": "test_files test_power_cut test_output_on_disk test_published_files test_data",
    "squadlib/translation/cache.py": "test_translation_cache test_translate_squad test_power_cut",
    "squadlib/scoring/comparison.py": "test_scoring_comparison",
    "squadlib/scoring/normalisation.py": "test_scoring_normalisation",
    "evaluate_v2.py": "test_evaluate_v2 test_evaluate_v2_files test_evaluate_v2_more",
}
COMPARISON = "squadlib/scoring/comparison.py"
WINDOWS, PLAN = "squadlib/model/windows.py", "squadlib/training/plan.py"
DECODING, ANSWER_TEXT = "squadlib/model/decoding.py", "squadlib/model/answer_text.py"
CACHE, EVALUATOR = "squadlib/translation/cache.py", "evaluate_v2.py"
OPTIMISATION, FILES = "squadlib/training/optimisation.py", "squadlib/files.py"
SURVIVORS = {  # (module, altered line): why no test can notice it
    (COMPARISON, "if num_units <= math.log2(trials):"): "the logarithm of the trials is no whole number",
    (
        COMPARISON,
        "return (np.sum(np.abs(means) > np.abs(found) - TOLERANCE, axis=0) + 1) / (len(means) + 1)",
    ): "no mean is beside the found one by just the tolerance",
    (WINDOWS, "kept = spans[:, 1] > DROPPED"): "both ends of a span are DROPPED, or none",
    (
        WINDOWS,
        "scores = np.where((left >= 0) & (right >= 0), np.minimum(left, right) + 0.01 * lengths, -2.0)",
    ): "the score of a window that holds the token is above 0",
    (DECODING, "ordered = np.where(bits <= 0, -(bits & 2147483647), bits)"): "0 either way where the bits are 0",
    (ANSWER_TEXT, "self.basic = functools.lru_cache(2 << 16)(self._basic)"): "the size of a cache",
    (
        ANSWER_TEXT,
        "basic = ' '.join(filter(None, self.basic[first:last + 2]))",
    ): "the first place counts, and that is in the words before",
    (
        ANSWER_TEXT,
        "begin, end = (self._place(place - basic.count(' ', 1, place), first) for place in (begin, end))",
    ): "a joined text does not begin with a space",
    (OPTIMISATION, "self.gradients([np.zeros(2, np.int64)])"): "it counts for nothing",
    (PLAN, "plan = Plan(num_windows, batch_size, accumulation, 1)"): "the number is replaced two lines below",
    (PLAN, "return float(step) / float(max(2, warmup))"): "with a warm-up of 1 the only step before it is 0",
    (OPTIMISATION, "if len(batches) >= 1:"): "a division by 1",
    (
        OPTIMISATION,
        "return torch.optim.AdamW(groups, lr=rate, eps=epsilon, foreach=True)",
    ): "the same arithmetic, in another order of the parameters",
    (
        OPTIMISATION,
        "moments = {k: v if k not in keep else v.to(parameter.device) for k, v in moments.items()}",
    ): "without a GPU all is on one device",
    (
        PLAN,
        "for number, (size, share) in enumerate(zip(sizes, shares, strict=False)):",
    ): "both have as many as there are files",
    (
        COMPARISON,
        "if np.column_stack(mirrored).tolist() >= np.column_stack(sample).tolist():",
    ): "equal ones are the same either way",
    (COMPARISON, "block = max(2, MOST_DRAWN // len(sample.counts))"): "how much is drawn at a time",
    (CACHE, "own = dict(zip(part, part, strict=False))"): "both are the same list",
    (EVALUATOR, "matplotlib.rc('font', size=12)"): "the look of a plot",
    (FILES, "umask = os.umask(1)"): "it is set back in the next line",
}

COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARE |= {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
ARITHMETIC |= {ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Pow: ast.Mult}


def altered(node: ast.AST) -> ast.AST | None:
    """Another node in place of this one; None where there is nothing to alter."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in COMPARE:
        new.ops[0] = COMPARE[type(new.ops[0])]()
    elif isinstance(new, (ast.BinOp, ast.AugAssign)) and type(new.op) in ARITHMETIC:
        new.op = ARITHMETIC[type(new.op)]()
    elif isinstance(new, ast.BoolOp):
        new.op = ast.And() if isinstance(new.op, ast.Or) else ast.Or()
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub)):
        return new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        new.value = not new.value
    elif isinstance(new, ast.Constant) and isinstance(new.value, (int, float)):
        new.value += 1
    elif isinstance(new, ast.Expr) and isinstance(new.value, ast.Call):
        return ast.Pass()
    else:
        return None
    return new


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int | None]]:
    """(parent, field, index) of every node of a function that can be altered, but for messages and annotations."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            yield from _places_in(function)


def _places_in(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    for field, value in ast.iter_fields(node):
        skipped = field in ("annotation", "returns", "decorator_list") or isinstance(node, (ast.Raise, ast.JoinedStr))
        if skipped or (isinstance(node, ast.FunctionDef) and field == "args"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef) or _logs(child):
                continue
            if altered(child):
                yield node, field, index
            yield from _places_in(child)


def _logs(node: ast.AST) -> bool:
    """Whether this is a line for people: `logger.info(…)`."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith(("logger.", "note(", "parser."))


def mutants(source: str, number: int) -> Iterator[tuple[str, str]]:
    """(altered line, altered source) of `number` places, spread over the module, the same at every run."""
    count = len(list(places(ast.parse(source))))
    for chosen in sorted(random.Random(count).sample(range(count), min(number, count))):
        tree = ast.parse(source)
        parent, field, index = list(places(tree))[chosen]
        node = getattr(parent, field) if index is None else getattr(parent, field)[index]
        new = ast.copy_location(altered(node), node)
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new
        text = ast.unparse(ast.fix_missing_locations(tree))
        plain = ast.unparse(ast.parse(source)).splitlines()
        before, after = next((a.strip(), b.strip()) for a, b in zip(plain, text.splitlines(), strict=False) if a != b)
        yield f"{node.lineno}: {after if after != 'pass' else f'without {before}'}", text


def tests_pass(folder: Path, tests: list[str], seconds: float) -> bool:
    """Whether pytest passes in a fork that starts with torch imported."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(folder)
        sys.path[:0] = [str(folder), str(folder / "tests")]
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def run_module(module: str, tests: list[str], number: int) -> tuple[int, list[str]]:
    """(how many mutants were made, those that no test noticed)."""
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "repository"
        ignored = shutil.ignore_patterns(".*", "demo_output", "__pycache__")
        shutil.copytree(ROOT, copied, ignore=ignored)
        started = time.monotonic()
        if not tests_pass(copied, tests, 600):
            sys.exit(f"{module}: its tests do not pass unaltered: {' '.join(tests)}")
        limit = max(60.0, TIME_LIMIT * (time.monotonic() - started))
        source, survivors, count = (ROOT / module).read_text(encoding="utf-8"), [], 0
        for line, text in mutants(source, number):
            (copied / module).write_text(text, encoding="utf-8")
            count += 1
            if tests_pass(copied, tests, limit):
                survivors.append(line)
        return count, survivors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="modules to alter, by a part of their names (default: all)")
    parser.add_argument("--each", type=int, default=22, help="mutants a module (22)")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    import numpy  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    total, unexplained, explained = 0, 0, 0
    for module, tests in TARGETS.items():
        if args.names and not any(name in module for name in args.names):
            continue
        files = [f"tests/{name}.py" for name in tests.split()]
        count, survivors = run_module(module, files, args.each)
        total += count
        print(f"{module}: {count - len(survivors)} of {count} killed", flush=True)
        for line in survivors:
            reason = SURVIVORS.get((module, line.split(": ", 1)[1]))
            explained, unexplained = explained + bool(reason), unexplained + (not reason)
            print(f"    {line}  ({reason or 'no reason is known'})", flush=True)
    killed = total - explained - unexplained
    print(
        f"{killed} of {total} mutants killed ({100 * killed / total:.1f} %), {unexplained} survivors without a reason"
    )
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
