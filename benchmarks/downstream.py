"""Does better cleaning make better models? Cleans a translated file three ways, trains on each, scores real questions.

    python benchmarks/downstream.py --model_name_or_path minilm --work_dir downstream   # three seeds; hours on a CPU

literal   the rule of the published Dutch set: the first place of the isolated translation, letter by letter
nearest   its place as whole tokens in any case, the nearest to where the answer stands in the source
default   clean_squad.py as it is

Each set is trained on twice: for the same number of epochs, and for as many updates as the default's epochs make. Only
answerable questions count, on both sides. Finished runs in --work_dir are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import alignment
import numpy as np
from common import ONE_THREAD, ROOT, print_table, run_process

import clean_squad
from evaluate_v2 import bootstrap_interval, read_golds, score_answers
from squadlib.cleaning.answer_location import NOT_LITERAL, Location
from squadlib.cleaning.questions import clean_question
from squadlib.cleaning.translated_document import Paragraph, SourceAnswer, read_document
from squadlib.data import load_squad

RESAMPLES = 2000
JsonObject = dict[str, Any]


class Run(NamedTuple):
    """One training. updates: 0 where the number of epochs decides."""

    method: str
    updates: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}_{'same_updates' if self.updates else 'same_epochs'}_{self.seed}"


class NearestPlace:
    """The rule `nearest` with the face of an AnswerLocator."""

    def __init__(self, paragraph: Paragraph):
        self.paragraph = paragraph

    def locate(self, answer: SourceAnswer) -> Location:
        return alignment.find_nearest_casefolded(self.paragraph, answer) or Location(None, "", NOT_LITERAL)


def clean_nearest(source: Path, target: Path) -> None:
    document = read_document(load_squad(str(source), answers_required=False, offsets_required=False))
    outcomes = [
        [clean_question(question, paragraph, NearestPlace(paragraph)) for question in paragraph.questions]
        for paragraph in document.paragraphs
    ]
    target.write_text(json.dumps(clean_squad.plain_document(document, outcomes)), encoding="utf-8")


def clean_by_script(method: str) -> Callable[[Path, Path], None]:
    def clean(source: Path, target: Path) -> None:
        files = ("--input_file", str(source), "--output_file", str(target))
        command = [sys.executable, str(ROOT / "clean_squad.py"), *files, "--method", method]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return clean


METHODS: dict[str, Callable[[Path, Path], None]] = {
    "literal": clean_by_script("literal"),
    "nearest": clean_nearest,
    "default": clean_by_script("align"),
}


def write_answerable(source: Path, target: Path) -> int:
    """The answerable questions of a SQuAD file; returns how many there are."""
    document, count = json.loads(source.read_text(encoding="utf-8")), 0
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [qa for qa in paragraph["qas"] if not qa.get("is_impossible")]
            count += len(paragraph["qas"])
        article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
    document["data"] = [article for article in document["data"] if article["paragraphs"]]
    target.write_text(json.dumps(document), encoding="utf-8")
    return count


def train(run: Run, args: argparse.Namespace) -> Path:
    """Train and predict, unless that is done already; returns the folder."""
    folder = args.work_dir / run.name
    if (folder / "results_.json").exists():
        return folder
    files = "--train_file", args.work_dir / f"{run.method}.json", "--predict_file", args.work_dir / "dev.json"
    model = "--model_type", "bert", "--model_name_or_path", args.model_name_or_path, "--no_version_2_with_negative"
    length = ("--max_steps", run.updates) if run.updates else ("--num_train_epochs", args.epochs)
    rate = "--learning_rate", args.learning_rate, "--bf16", "--seed", run.seed
    output = "--save_steps", 0, "--logging_steps", 100, "--output_dir", folder, "--overwrite_output_dir"
    flags = *model, *files, *length, *rate, *output
    command = sys.executable, ROOT / "run_squad.py", "--do_train", "--do_eval", *flags
    run_process(command, cwd=args.work_dir, log=args.work_dir / f"{run.name}.log")
    return folder


def updates_of(folder: Path) -> int:
    """How many updates a finished run made, from its model card's line or log."""
    state = (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8")
    return int(state.rsplit("Total optimization steps = ", 1)[1].split()[0])


def print_results(runs: list[Run], kept: dict[str, int], args: argparse.Namespace) -> None:
    golds, rows = read_golds(str(args.work_dir / "dev.json")), []
    for method, same_updates in dict.fromkeys((run.method, bool(run.updates)) for run in runs):
        scores = []
        for run in runs:
            if (run.method, bool(run.updates)) == (method, same_updates):
                predictions = json.loads((args.work_dir / run.name / "predictions_.json").read_text(encoding="utf-8"))
                scores.append([100 * np.array([*found.values()]) for found in score_answers(golds, predictions)])
        cells = []
        for by_seed in zip(*scores, strict=True):
            means = [question_scores.mean() for question_scores in by_seed]
            low, high = bootstrap_interval(np.mean(by_seed, axis=0).tolist(), RESAMPLES)
            each = ", ".join(f"{mean:.1f}" for mean in means)
            cells += [f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f} ({each})", f"{low:.1f}–{high:.1f}"]
        length = "as many updates as the default" if same_updates else f"{args.epochs} epochs"
        rows.append((method, f"{kept[method]:,}", length, *cells))
    print_table(("cleaning", "questions", "trained for", "EM (each seed)", "95 %", "F1 (each seed)", "95 %"), rows)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = os.environ.get("SQUAD_TEST_DATA")
    parser.add_argument("--data_dir", default=given, required=not given, help="folder of the data ($SQUAD_TEST_DATA)")
    parser.add_argument("--train_file", default="mt_es_en_train.json", help="translated file in it, not cleaned yet")
    parser.add_argument("--predict_file", default="squad2_dev_2k.json", help="SQuAD file in it, in the target language")
    parser.add_argument("--model_name_or_path", required=True, help="a small pretrained model")
    parser.add_argument("--work_dir", required=True, type=Path, help="folder for the cleaned sets and the models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="(42 43 44)")
    parser.add_argument("--epochs", type=int, default=2, help="(2)")
    parser.add_argument("--learning_rate", default="2e-4", help="(2e-4)")
    return parser


def main() -> int:
    args = build_parser().parse_args()
    os.environ.update(ONE_THREAD)
    args.work_dir = args.work_dir.absolute()
    args.work_dir.mkdir(exist_ok=True)
    args.model_name_or_path = os.path.abspath(args.model_name_or_path)
    kept = {}
    for method, clean in METHODS.items():
        whole, answerable = args.work_dir / f"{method}_all.json", args.work_dir / f"{method}.json"
        clean(Path(args.data_dir, args.train_file), whole)
        kept[method] = write_answerable(whole, answerable)
        print(f"{method}: {kept[method]:,} answerable questions kept", file=sys.stderr)
    write_answerable(Path(args.data_dir, args.predict_file), args.work_dir / "dev.json")
    runs = []
    for seed in args.seeds:
        updates = updates_of(train(Run("default", 0, seed), args))
        runs += [Run("default", 0, seed)]
        runs += [Run(method, length, seed) for method in ("literal", "nearest") for length in (0, updates)]
    for run in runs:
        train(run, args)
    print_results(sorted(runs, key=lambda run: (run.method, bool(run.updates))), kept, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
