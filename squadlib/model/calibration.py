"""A temperature for the scores of `pipeline`, kept beside the model that it was fitted to."""

from __future__ import annotations

import hashlib
import math
import os
from typing import NamedTuple

from transformers import PreTrainedModel

from squadlib.console import SquadError
from squadlib.files import JsonObject, read_json, write_json

CALIBRATION_FILE = "calibration.json"


class Calibration(NamedTuple):
    """What makes a score the probability that the answer is exactly right.

    temperature: all logits are divided by it, for the score alone; which answer comes first is left as it is.
    null_threshold: "" comes first where the logarithm of its score, less that of the best answer, is above it.
    """

    temperature: float
    null_threshold: float = 0.0


def save_calibration(folder: str, model: PreTrainedModel, calibration: Calibration, facts: JsonObject) -> str:
    """The path of the file that is written. facts: what it was fitted on, for people."""
    path = os.path.join(folder, CALIBRATION_FILE)
    write_json(path, {**calibration._asdict(), **facts, "weights": weights_digest(model)}, ensure_ascii=False)
    return path


def load_calibration(folder: str, model: PreTrainedModel) -> Calibration | None:
    """The calibration in a model's folder, None where there is none; raises SquadError for that of another model."""
    path = os.path.join(folder, CALIBRATION_FILE)
    if not os.path.isfile(path):
        return None
    content = read_json(path)
    way_out = (
        "make it again with run_squad.py --do_eval --calibrate, delete it, or ask without it: "
        "--no_calibration, pipeline(…, calibration=False)"
    )
    given = [content.get(name) for name in Calibration._fields] if isinstance(content, dict) else []
    values = [float(value) for value in given if isinstance(value, (int, float)) and math.isfinite(value)]
    if len(values) < len(Calibration._fields) or values[0] <= 0:
        raise SquadError(f"{path}: it has no temperature above 0 with a null_threshold; {way_out}")
    if content.get("weights") != weights_digest(model):
        raise SquadError(f"{path}: it is the calibration of another model than the one beside it; {way_out}")
    return Calibration(*values)


def remove_foreign_calibration(folder: str, model: PreTrainedModel) -> str | None:
    """Take away the calibration of the model that stood in the folder before; returns its path if there was one."""
    try:
        load_calibration(folder, model)
    except SquadError:
        path = os.path.join(folder, CALIBRATION_FILE)
        os.unlink(path)
        return path
    return None


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 of all parameters with their names, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
