"""A training run in this process, and what TensorBoard shows of it."""

from __future__ import annotations

import html
import json

from processes import MINI_SQUAD, flags

import run_squad

CUT = ("--max_steps", 6, "--logging_steps", 2, "--learning_rate", "1e-4", "--do_eval")
ALL = {"scalars": 0, "tensors": 0, "histograms": 0}


def run_here(folder, monkeypatch, *more, data=MINI_SQUAD):
    """A training run in this process; returns what TensorBoard reads of its only run folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(folder)
    assert run_squad.main(flags(*CUT, "--predict_file", data, *more, train=data)) == 0
    (run_dir,) = (folder / "runs").iterdir()
    assert [path.name.startswith("events.") for path in run_dir.iterdir()] == [True]  # no folder of hparams beside it
    return EventAccumulator(str(run_dir), size_guidance=ALL).Reload()


def texts(events, tag):
    """Step -> text."""
    return {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{tag}/text_summary")}


def read_cells(table):
    """Rows of a Markdown table as texts, as a browser shows them."""
    return [[html.unescape(cell.strip()) for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:]]


def predictions(folder, name="predictions_.json"):
    return json.loads((folder / "out" / name).read_text())
