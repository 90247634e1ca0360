"""The peers of on_gpu.py: the 2020 loop, a plain loop with the best that Trainer offers, Trainer itself."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Step = Callable[[np.ndarray], object]


def sides(work: Any, compiled: bool) -> dict[str, Callable[[], Step]]:
    """Each makes a model and returns its step. The last ones do what Trainer does, without its book-keeping."""
    found = {
        "2020 loop, float32, padded to 384": partial(plain_step, work, None, True, False, False),
        "2020 loop, bfloat16, padded to 384": partial(plain_step, work, torch.bfloat16, True, False, False),
        "plain loop, bfloat16, SDPA, padded to the longest, fused AdamW": partial(
            plain_step, work, torch.bfloat16, False, True, False
        ),
    }
    if compiled:
        found["the same, compiled"] = partial(plain_step, work, torch.bfloat16, False, True, True)
    return found


def padded(work: Any, batch: np.ndarray, full: bool) -> dict[str, torch.Tensor]:
    """A batch as the model takes it, padded to 384 or to the longest window in steps of 64."""
    ids, types, lengths = work.windows.assemble(batch)
    width = 384 if full else int(-(-lengths.max() // 64) * 64)
    real = np.arange(width) < lengths[:, None]
    arrays = {name: np.zeros(real.shape, np.int64) for name in ("input_ids", "token_type_ids")}
    arrays["input_ids"][real], arrays["token_type_ids"][real] = ids, types
    arrays["attention_mask"] = real.astype(np.int64)
    arrays["start_positions"] = work.windows.start_position[batch].astype(np.int64)
    arrays["end_positions"] = work.windows.end_position[batch].astype(np.int64)
    return {name: torch.from_numpy(array).to(work.device) for name, array in arrays.items()}


def plain_step(work: Any, dtype: torch.dtype | None, as_2020: bool, fused: bool, compiled: bool) -> Step:
    """The model's own loss, clipping, AdamW. as_2020: full width, and the host waits for the loss of every step."""
    model = work.model()
    model.set_attn_implementation("eager" if as_2020 else "sdpa")
    model.train()
    parameters = list(model.parameters())
    how = {"fused": True} if fused else {"foreach": False}
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, eps=1e-8, weight_decay=0.0, **how)
    forward = torch.compile(model, dynamic=True) if compiled else model

    def step(batch: np.ndarray) -> None:
        inputs = padded(work, batch, as_2020)
        with torch.autocast(work.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = forward(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if as_2020:
            loss.item()

    return step


def has_trainer() -> bool:
    """Whether Trainer can be had, which wants a package of its own."""
    return importlib.util.find_spec("accelerate") is not None


def measure_trainer(work: Any, size: int) -> dict[str, float]:
    """Windows a second of Trainer, between the end of its warm-up and its last step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    args, moments = work.args, []

    class Clock(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, __: Any, **___: Any) -> None:
            if state.global_step in (3 * args.warmup, 3 * args.warmup + args.steps):
                work.synchronize()
                moments.append(time.perf_counter())

    model = work.model()
    model.set_attn_implementation("sdpa")
    options: dict[str, Any] = {"per_device_train_batch_size": size, "bf16": True, "optim": "adamw_torch_fused"}
    options |= {"max_steps": 3 * args.warmup + args.steps, "report_to": "none", "save_strategy": "no"}
    options |= {"disable_tqdm": True, "logging_strategy": "no", "use_cpu": work.device.type == "cpu"}
    options |= {"output_dir": str(Path(work.folder) / "trainer"), "remove_unused_columns": False}
    Trainer(
        model=model,
        args=TrainingArguments(**options),
        train_dataset=list(range(len(work.windows))),
        data_collator=lambda rows: {k: v.cpu() for k, v in padded(work, np.array(rows), False).items()},
        callbacks=[Clock()],
    ).train()
    seconds = (moments[1] - moments[0]) / args.steps
    return {"windows/s": size / seconds, "ms a step": 1000 * seconds}
