"""Make the golden training runs: every loss, gradient norm and final parameter of the 2020 training loop, to the bit.

    python3 -m venv legacy-env && legacy-env/bin/pip install "torch==2.13.*" transformers==4.57.6
    legacy-env/bin/python tests/golden/make_training_golden.py

Reads mini_squad.json and tiny_bert/vocab.txt. Writes, beside itself, tiny_bert/config.json and model.safetensors (the
starting point, QA head included: another library version may draw other initial weights) and training.json.gz.

The steps and their order are those of the 2020 script's train(): they decide which random numbers are drawn when, and
so which windows share a batch. KERNELS keeps the arithmetic the same on every x86-64 machine with AVX2; whoever
compares bits must set the same before importing torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from pathlib import Path

KERNELS = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
os.environ.update(KERNELS)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from make_legacy_golden import get_tokenizer, make_windows, read_examples  # noqa: E402
from torch.utils.data import DataLoader, RandomSampler, TensorDataset  # noqa: E402
from transformers import BertConfig, BertForQuestionAnswering, get_linear_schedule_with_warmup  # noqa: E402

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE / "tiny_bert"
WINDOWS = (64, 32, 12)  # max_seq_length, doc_stride, max_query_length
SEED = 42
DEFAULTS = {
    "batch_size": 8,
    "num_train_epochs": 2,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "max_grad_norm": 1.0,
    "adam_epsilon": 1e-8,
}
RUNS = {
    "defaults": {},
    # 1e-3: big enough steps that a wrong schedule or decay shows at once
    "accumulated": {
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "warmup_steps": 3,
    },
}


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_checkpoint() -> None:
    set_seed(SEED)
    vocab_size = len((CHECKPOINT / "vocab.txt").read_text(encoding="utf-8").splitlines())
    config = BertConfig(
        vocab_size=vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    )  # fmt: skip
    BertForQuestionAnswering(config).save_pretrained(CHECKPOINT)


def make_dataset() -> TensorDataset:
    windows = make_windows(read_examples(training=True), get_tokenizer(lower=False), WINDOWS, training=True)
    keys = ("input_ids", "attention_mask", "token_type_ids", "start_position", "end_position")
    return TensorDataset(*(torch.tensor([getattr(w, key) for w in windows], dtype=torch.long) for key in keys))


def train(dataset: TensorDataset, options: dict) -> dict:
    """One run: the loss of each batch, the gradient norm and learning rate of each update, the final parameters."""
    set_seed(SEED)
    model = BertForQuestionAnswering.from_pretrained(CHECKPOINT)
    initial = fingerprints(model)
    accumulation = options["gradient_accumulation_steps"]
    loader = DataLoader(dataset, sampler=RandomSampler(dataset), batch_size=options["batch_size"])
    assert len(loader) % accumulation == 0, "2020 would carry gradients over into the next epoch; not for a golden"
    total = len(loader) // accumulation * options["num_train_epochs"]
    no_decay = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for n, p in named if not any(nd in n for nd in no_decay)],
            "weight_decay": options["weight_decay"],
        },
        {"params": [p for n, p in named if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options["learning_rate"], eps=options["adam_epsilon"])
    scheduler = get_linear_schedule_with_warmup(optimizer, options["warmup_steps"], total)
    losses, norms, rates = [], [], []
    model.zero_grad()
    set_seed(SEED)
    for _ in range(options["num_train_epochs"]):
        for step, batch in enumerate(loader):
            model.train()
            ids, mask, types, starts, ends = batch
            loss = model(
                input_ids=ids, attention_mask=mask, token_type_ids=types, start_positions=starts, end_positions=ends
            )[0]
            losses.append(loss.item().hex())
            (loss / accumulation if accumulation > 1 else loss).backward()
            if (step + 1) % accumulation == 0:
                norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), options["max_grad_norm"]).item().hex())
                rates.append(scheduler.get_last_lr()[0].hex())
                optimizer.step()
                scheduler.step()
                model.zero_grad()
    return {
        "options": options,
        "initial_sha256": initial,
        "losses": losses,
        "grad_norms": norms,
        "learning_rates": rates,
        "final_sha256": fingerprints(model),
    }


def fingerprints(model: torch.nn.Module) -> dict[str, str]:
    """sha256 of the bytes of each parameter, by name."""
    return {n: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for n, p in model.named_parameters()}


def main() -> None:
    if transformers.__version__ != "4.57.6":
        raise SystemExit(f"transformers {transformers.__version__} found; this program needs 4.57.6")
    torch.set_num_threads(1)
    make_checkpoint()
    dataset = make_dataset()
    golden = {
        "torch": torch.__version__.split("+")[0],
        "environment": KERNELS,
        "windows": dict(zip(("max_seq_length", "doc_stride", "max_query_length"), WINDOWS, strict=True)),
        "num_windows": len(dataset),
        "seed": SEED,
        "runs": {name: train(dataset, {**DEFAULTS, **options}) for name, options in RUNS.items()},
    }
    text = json.dumps(golden, indent=1) + "\n"
    (HERE / "training.json.gz").write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))
    for name, run in golden["runs"].items():
        losses = [float.fromhex(loss) for loss in run["losses"]]
        print(f"{name}: {len(losses)} batches, loss {losses[0]:.4f} -> {losses[-1]:.4f}, {len(dataset)} windows")


if __name__ == "__main__":
    main()
