"""Train as the golden file's runs and print every number as JSON; started by test_run_squad.py in a process of its own.

    OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 … python tests/exact_training.py RUN

The arithmetic kernels are chosen by the environment before torch is imported, hence the process of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import run_squad  # noqa: E402

GOLDEN = HERE / "golden"


def main(name: str) -> None:
    golden = json.loads(gzip.decompress((GOLDEN / "training.json.gz").read_bytes()))
    options = dict(golden["runs"][name]["options"])
    options["per_gpu_train_batch_size"] = options.pop("batch_size")
    flags = {**golden["windows"], **options, "seed": golden["seed"], "logging_steps": 0, "save_steps": 0}
    losses, norms = [], []
    record(losses, norms)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        argv = "--model_type bert --do_train --output_dir out --pad_to_max_length --no_cuda".split()
        argv += ["--model_name_or_path", str(GOLDEN / "tiny_bert"), "--train_file", str(GOLDEN / "mini_squad.json")]
        argv += [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
        code = run_squad.main(argv)
        from safetensors.torch import load_file

        weights = load_file("out/model.safetensors")
    digests = {n: hashlib.sha256(p.numpy().tobytes()).hexdigest() for n, p in weights.items()}
    print(json.dumps({"code": code, "losses": losses, "grad_norms": norms, "final_sha256": digests}))


def record(losses: list[str], norms: list[str]) -> None:
    """Keep each micro-batch loss and each gradient norm, as hexadecimal floats."""
    loss_of, step_of = run_squad.window_loss, run_squad.clip_and_step

    def window_loss(*args):
        loss = loss_of(*args)
        losses.append(loss.item().hex())
        return loss

    def clip_and_step(*args):
        norm = step_of(*args)
        norms.append(norm.item().hex())
        return norm

    run_squad.window_loss, run_squad.clip_and_step = window_loss, clip_and_step


if __name__ == "__main__":
    main(sys.argv[1])
