"""The trial before the first step: padding-free only where it changes nothing for this model."""

from __future__ import annotations

import torch

from squadlib.console import logger
from squadlib.model.layout import LONGEST, MAX_LENGTH, PADDING_FREE, WindowModel
from squadlib.model.loading import first_line
from squadlib.model.windows import Windows

TOLERANCE = 1e-4  # relative; a model that ignores the boundaries is off by 1e-2 and more


def choose_layout(runner: WindowModel, windows: Windows) -> None:
    """Go padding-free when a trial on three windows proves that it changes nothing for this model.

    The layout MAX_LENGTH stays, as it was asked for.
    """
    error = try_padding_free(runner, windows) if len(windows) and runner.layout != MAX_LENGTH else None
    if error:
        runner.use(LONGEST)
        name = type(runner.model).__name__
        logger.warning("padding-free training is not possible for %s (%s); padding to the longest", name, error)


def try_padding_free(runner: WindowModel, windows: Windows) -> str | None:
    """None when padded and padding-free logits and gradients agree, else the reason in a few words.

    The windows are the shortest, the one in the middle and the longest; TF32, which rounds to 1e-3, is off.
    """
    order = windows.num_tokens().argsort(kind="stable")
    trial = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})
    training, matmul = runner.model.training, torch.backends.cuda.matmul
    tf32, matmul.allow_tf32 = matmul.allow_tf32, False
    runner.model.eval()
    try:
        runner.use(LONGEST)
        expected = _logits_and_gradient(runner, windows, trial)
        runner.use(PADDING_FREE)
        found = _logits_and_gradient(runner, windows, trial)
        with torch.no_grad():
            evaluated = runner.logits(windows, trial)
    except Exception as error:  # whatever a model does with inputs it was not made for
        return f"{type(error).__name__}: {first_line(error)}"
    finally:
        runner.model.train(training)
        matmul.allow_tf32 = tf32
    names = ("logits", "logits", "gradients", "logits", "logits")
    pairs = zip(names, (*expected, *expected[:2]), (*found, *evaluated), strict=True)
    return next((fault for name, a, b in pairs if (fault := _difference(name, a, b))), None)


def _difference(name: str, expected: torch.Tensor, found: torch.Tensor) -> str | None:
    finite = torch.isfinite(expected)
    if not finite.any():
        return f"its {name} are not numbers"
    scale = expected[finite].abs().max().clamp(min=1.0)
    difference = ((expected - found)[finite].abs().max() / scale).item()
    return None if difference <= TOLERANCE else f"its {name} differ by {difference:.1e}"  # NaN is no agreement


def _logits_and_gradient(runner: WindowModel, windows: Windows, indices: list[int]) -> tuple[torch.Tensor, ...]:
    """Start and end logits, and what their sum has as the gradient of the model's first vector of weights.

    That vector is the first layer norm in a BERT type, so the gradient has come through all layers.
    """
    start_logits, end_logits = runner.logits(windows, indices)
    first = next(parameter for parameter in runner.model.parameters() if parameter.dim() == 1)
    total = torch.stack([logits[torch.isfinite(logits)].sum() for logits in (start_logits, end_logits)]).sum()
    return start_logits.detach(), end_logits.detach(), torch.autograd.grad(total, first)[0]
