"""The commands of README.md and docs/ are run, and the outputs there are what they print."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from translation_server import TranslationServer

import run_squad

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}


def commands_of(page):
    """(command, its output) of the console blocks whose commands are Python's."""
    blocks = re.findall(r"```console\n(\$ python.*?)```", PAGES[page].read_text(encoding="utf-8"), re.DOTALL)
    return [found for block in blocks for found in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


IN_DEMO = ("run_squad.py", "make_tiny_bert.py")  # the demo itself runs these; training is too long to be done twice


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    """A folder beside the scripts' copies, as demo_output/ is, with perfect predictions in place of the model's."""
    top = tmp_path_factory.mktemp("readme")
    for path in (*ROOT.glob("*.py"), ROOT / "sample", ROOT / "squadlib"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, top / path.name)
    folder = top / "demo_output"
    (folder / "output").mkdir(parents=True)
    return folder


def test_there_are_commands():
    assert len(commands_of("README.md")) >= 6


@pytest.fixture(scope="module")
def environment():
    """With a chat server in place of a real one, which knows the sample's translations."""
    lines = (ROOT / "sample" / "memory_en_nl.jsonl").read_text(encoding="utf-8").splitlines()
    targets = {entry["source"]: entry["target"] for entry in map(json.loads, lines)}
    with TranslationServer("openai", key=None, targets=targets) as server:
        yield {**os.environ, **server.env}


@pytest.mark.parametrize("page", PAGES)
def test_data_commands_print_what_the_page_shows(page, demo_folder, environment):
    """In demo_output/, as the pages say, after the README's commands; a command without ../ runs beside the scripts."""
    for command, output in commands_of(page):
        words = shlex.split(command)
        if os.path.basename(words[1]) in IN_DEMO:
            continue
        if "evaluate_v2.py" in words[1]:
            write_perfect_predictions(demo_folder)
        cwd = demo_folder if words[1].startswith("../") else demo_folder.parent
        command_line = [sys.executable, *words[1:]]
        done = subprocess.run(command_line, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(output.rstrip("\n")), command


def write_perfect_predictions(folder):
    data = json.loads((folder / "nl_sample_clean.json").read_text(encoding="utf-8"))["data"]
    questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    predictions = {qa["id"]: qa["answers"][0]["text"] if qa["answers"] else "" for qa in questions}
    (folder / "output" / "predictions_.json").write_text(json.dumps(predictions))


def test_training_commands_are_those_of_the_demo():
    demo = " ".join((ROOT / "demo.sh").read_text(encoding="utf-8").replace("\\\n", " ").split())
    trained = {
        page: [command for command, _ in commands_of(page) if os.path.basename(shlex.split(command)[1]) in IN_DEMO]
        for page in PAGES
    }
    assert len(trained["README.md"]) == 2
    for command in itertools.chain.from_iterable(trained.values()):
        assert f"run {command}" in demo


def test_published_command_is_the_one_that_is_tested():
    from test_run_squad import PUBLISHED

    indented = "".join(f"    {line}\n" for line in PUBLISHED.strip().splitlines())
    assert indented in README


def test_every_flag_in_the_readme_exists():
    import clean_squad
    import evaluate_v2
    import translate_squad

    known = {"--nproc_per_node", "--index-url", "--logdir", "--quantization", "--copy_files"}  # of other programs
    for script in (run_squad, clean_squad, evaluate_v2, translate_squad):
        known |= script.build_parser()._option_string_actions.keys()
    used = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", README))
    used -= set(re.findall(r"--\w+", (ROOT / "sample" / "make_tiny_bert.py").read_text(encoding="utf-8")))
    assert used - known == set()
