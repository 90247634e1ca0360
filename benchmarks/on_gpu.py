"""All there is to say about this project on one GPU: right before fast, then speed beside its peers, in one run.

    python benchmarks/on_gpu.py --json on_gpu.json > on_gpu.md      the report, in Markdown
    python benchmarks/on_gpu.py --quick                             fewer steps, no compiled peer, no Trainer

It is meant to end within 8 minutes: behind --minutes the sides that are left are left out.

Random weights at the size of mBERT, windows of random pieces with the lengths of SQuAD2.0 (quantiles of 4,487 windows
of 384 tokens); no network, no data. Each part stands alone: one that fails is a line of the report. Exit code 1 when a
check failed. `--device cpu --layers 2 --hidden_size 64 --batch_sizes 2` rehearses it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_peers
import numpy as np
import torch
from common import BENCHMARKS, ROOT
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(ROOT))
from squadlib.console import SquadError, torch_errors_explained
from squadlib.data import load_squad, read_examples
from squadlib.model import gpu_attention, layout
from squadlib.model.answering import pipeline
from squadlib.model.layout import LONGEST, PADDING_FREE, WindowModel
from squadlib.model.loading import set_attention_dropout
from squadlib.model.packing import packed_attention
from squadlib.model.prediction import predict_logits
from squadlib.model.trial import try_padding_free
from squadlib.model.windows import Windows, make_windows
from squadlib.training.optimisation import Updater, window_loss
from squadlib.training.plan import TrainingSettings
from squadlib.training.processes import Processes

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES, USED_PIECES = 119_547, 30_000  # mBERT's vocabulary; the real 4,487 windows use 10,373 rows of it
QUANTILES = (0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)
LENGTHS = (43, 79, 112, 124, 135, 145, 154, 168, 185, 207, 228, 269, 302, 384, 384)  # tokens of a window, specials too
QUESTION_WORDS, WIDTH = 12, 384
STEPS = 6  # of a batch of 4, made twice, where bits are compared
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOSS_SCALE = 1024.0  # float16 would lose small gradients without one


@dataclass
class Report:
    """Markdown and JSON of the same rows."""

    sections: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def section(self, title: str) -> Iterator[list[dict[str, Any]]]:
        """Rows of a table. What ends the section too early is its last row."""
        rows: list[dict[str, Any]] = []
        self.sections.append((title, rows))
        print(f"{self.seconds:6.1f} s  {title}", file=sys.stderr, flush=True)
        try:
            yield rows
        except Exception as error:  # the other sections are worth having
            rows.append({"what": f"ended by {type(error).__name__}: {str(error)[:300]}", "right": False})

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def faults(self) -> int:
        return sum(row.get("right") is False for _, rows in self.sections for row in rows)

    def markdown(self) -> str:
        lines = []
        for title, rows in self.sections:
            names = list(dict.fromkeys(name for row in rows for name in row))
            lines += ["", f"## {title}", "", f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
            lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
        return "\n".join(lines[1:])


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**NO**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


# ---------------------------------------------------------------------------------------------------------------------
# What is run
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """The windows, a folder for files, and where and how large everything is."""

    args: argparse.Namespace
    folder: Path
    windows: Windows
    tokenizer: BertTokenizer

    @property
    def device(self) -> torch.device:
        return torch.device(self.args.device)

    def model(self, dropout: float = 0.1, attention_dropout: float | None = None) -> BertForQuestionAnswering:
        """A new BERT on the device, always the same. attention_dropout: where it is another one."""
        size = self.args.hidden_size
        options = {"hidden_size": size, "intermediate_size": 4 * size, "num_hidden_layers": self.args.layers}
        config = BertConfig(vocab_size=PIECES, num_attention_heads=max(1, size // 64), **options)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        if attention_dropout is not None:
            set_attention_dropout(config, attention_dropout)
        torch.manual_seed(42)
        with self.device:
            return BertForQuestionAnswering(config)

    def runner(self, how: str, precision: str = "float32", *dropout: float | None) -> WindowModel:
        runner = WindowModel(self.model(*dropout), LONGEST, WIDTH, PRECISIONS[precision])
        runner.use(how)
        runner.model.train()
        return runner

    def updater(self, precision: str, *dropout: float | None, graphs: bool = True) -> Updater:
        """Our training step. dropout: of all, and of attention where that is another one."""
        settings = TrainingSettings(str(self.folder), fp16=precision == "float16")
        runner = self.runner(PADDING_FREE, precision, *dropout)
        updater = Updater(runner, self.windows, settings, Processes(0, 1, self.device))
        updater.recorded = updater.recorded if graphs else None
        return updater

    def batches(self, size: int, count: int, seed: int = 0) -> list[np.ndarray]:
        """Random batches of `size` windows."""
        rng = np.random.default_rng(seed)
        return [rng.choice(len(self.windows), size, replace=False) for _ in range(count)]

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def make_work(args: argparse.Namespace, folder: Path) -> Work:
    """A SQuAD file of random words, which are pieces, and its windows."""
    words = [f"w{number}" for number in range(PIECES - len(SPECIALS))]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate([*SPECIALS, *words])}, do_lower_case=False)
    rng = np.random.default_rng(0)
    paragraphs = []
    for number in range(args.windows):
        length = int(np.interp(rng.uniform(0, 100), QUANTILES, LENGTHS)) - 3 - QUESTION_WORDS
        chosen = [words[i] for i in rng.integers(USED_PIECES, size=length + QUESTION_WORDS)]
        context, place = chosen[QUESTION_WORDS:], int(rng.integers(length - 3))
        start, text = len(" ".join([*context[:place], ""])), " ".join(context[place : place + 3])
        qa = {"id": str(number), "question": " ".join(chosen[:QUESTION_WORDS])}
        answer = {"text": text, "answer_start": start}
        paragraphs.append({"context": " ".join(context), "qas": [qa | {"answers": [answer], "is_impossible": False}]})
    path = folder / "random.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "random", "paragraphs": paragraphs}]}))
    windows = make_windows(read_examples(load_squad(str(path))), tokenizer, training=True)
    return Work(args, folder, windows, tokenizer)


# ---------------------------------------------------------------------------------------------------------------------
# Right
# ---------------------------------------------------------------------------------------------------------------------


def machine(work: Work, report: Report) -> None:
    with report.section("machine") as rows:
        rows += [{"what": "torch", "found": torch.__version__}, {"what": "device", "found": str(work.device)}]
        if work.device.type == "cuda":
            properties = torch.cuda.get_device_properties(work.device)
            rows[1]["found"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
            rows.append({"what": "capability", "found": f"{properties.major}.{properties.minor}"})
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            driver = subprocess.run(query, capture_output=True, text=True, check=False)
            rows.append({"what": "driver", "found": driver.stdout.strip()})
            rows.append({"what": "architectures of the build", "found": " ".join(torch.cuda.get_arch_list())})
        lengths = work.windows.num_tokens()
        rows.append({"what": "windows, mean tokens", "found": f"{len(lengths):,}, {lengths.mean():.1f}"})
        rate = matrix_product_rate(work)
        rows.append({"what": "bfloat16 matrix products, TFLOP/s", "found": rate})
        work.args.peak = rate


def matrix_product_rate(work: Work) -> float:
    """TFLOP/s of a large product of random matrices."""
    size = 8192 if work.device.type == "cuda" else 512
    a, b = torch.randn(2, size, size, device=work.device, dtype=torch.bfloat16)
    seconds = timed(work, lambda: a @ b, warmup=3, steps=10)
    return 2 * size**3 / seconds / 1e12


def timed(work: Work, step: Callable[[], object], warmup: int, steps: int) -> float:
    """Seconds a step, when the device has done them all."""
    for _ in range(warmup):
        step()
    work.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    work.synchronize()
    return (time.perf_counter() - started) / steps


def kernels(work: Work, report: Report) -> None:
    """Each kernel against plain attention, and its dropout: of the places, and that two draws differ."""
    with report.section("attention kernels") as rows:
        capability = torch.cuda.get_device_capability() if work.device.type == "cuda" else (0, 0)
        for name, dtype in PRECISIONS.items():
            for dropout in (0.0, 0.1):
                kernel = gpu_attention.choose_kernel(dtype or torch.float32, 64, capability, dropout)
                row = {"precision": name, "dropout": dropout, "kernel": kernel}
                rows.append(row)
                try:
                    row |= kernel_dropout(work, dtype, dropout) if dropout else kernel_error(work, dtype)
                except Exception as error:
                    row |= {"what": f"{type(error).__name__}: {str(error)[:200]}", "right": False}


def attend(work: Work, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> torch.Tensor:
    """Attention of two sequences of 64 tokens each, (128, heads, 64), as the models ask for it."""
    rows = [x.transpose(0, 1)[None] for x in (query, key, value)]
    where: dict[str, Any] = {"lengths": [64, 64]}
    if layout.has_kernels(work.device):
        where = {"offsets": torch.tensor([0, 64, 128], dtype=torch.int32, device=work.device), "longest": 64}
    return packed_attention(torch.nn.Identity(), *rows, None, dropout=dropout, **where)[0][0]


def kernel_error(work: Work, dtype: torch.dtype | None) -> dict[str, Any]:
    """Largest difference of the output and of a gradient from attention in float64."""
    torch.manual_seed(0)
    exact = [torch.randn(128, 12, 64, device=work.device, dtype=torch.float64) for _ in range(3)]
    inputs = [x.to(dtype or torch.float32).requires_grad_() for x in exact]
    exact = [x.requires_grad_() for x in exact]
    found = attend(work, *inputs, 0.0)
    parts = [[x[a : a + 64].transpose(0, 1) for x in exact] for a in (0, 64)]
    expected = torch.cat([torch.nn.functional.scaled_dot_product_attention(*part) for part in parts], 1).transpose(0, 1)
    gradients = (torch.autograd.grad(x.square().sum(), y)[0].double() for x, y in ((found, inputs), (expected, exact)))
    ours, theirs = gradients
    error = (found.double() - expected).abs().max().item()
    slope = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    limit = {None: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}[dtype]
    return {"output off by": error, "gradient off by, relative": slope, "right": max(error, slope) < limit}


def kernel_dropout(work: Work, dtype: torch.dtype | None, dropout: float) -> dict[str, Any]:
    """Equal weights and a value of 1 for each token in a place of its own: what was dropped is 0 in the output."""
    query = torch.zeros(128, 12, 64, device=work.device, dtype=dtype or torch.float32)
    value = torch.eye(64, device=work.device, dtype=query.dtype).repeat(2, 1)[:, None].expand(128, 12, 64).contiguous()
    with torch.enable_grad():
        query.requires_grad_()
        first, second = (attend(work, query, query, value, dropout) == 0 for _ in range(2))
    share, differ = first.float().mean().item(), not torch.equal(first, second)
    return {"share dropped": share, "two draws differ": differ, "right": abs(share - dropout) < 0.01 and differ}


def precision(work: Work, report: Report) -> None:
    """Logits, loss and gradients beside those of padded windows in float32."""
    with report.section("padding-free beside padded, dropout 0, relative to padded float32") as rows:
        (batch,) = work.batches(8, 1)
        reference = outputs(work, LONGEST, "float32", batch)
        trial = try_padding_free(work.runner(PADDING_FREE), work.windows)
        rows.append({"what": "trial of the three windows", "float32": trial or "passed", "right": trial is None})
        for name in PRECISIONS:
            padded, ours = (outputs(work, how, name, batch) for how in (LONGEST, PADDING_FREE))
            for what, expected in reference.items():
                scale = expected.abs().max()
                theirs, mine = ((x[what] - expected).abs().max().item() / scale.item() for x in (padded, ours))
                right = mine <= 2 * theirs + 1e-4
                rows.append({"what": f"{name}: {what}", "padded": theirs, "padding-free": mine, "right": right})


def outputs(work: Work, how: str, precision: str, batch: np.ndarray) -> dict[str, torch.Tensor]:
    """float32 logits at real tokens, loss, and all gradients in one row."""
    runner = work.runner(how, precision, 0.0)
    with runner.autocast():
        start, end = runner.logits(work.windows, batch)
        loss = window_loss(runner, work.windows, batch)
    (loss * LOSS_SCALE).backward()
    gradients = [p.grad.flatten().float() / LOSS_SCALE for p in runner.model.parameters() if p.grad is not None]
    logits = torch.cat([x[torch.isfinite(x)] for x in (start, end)]).detach()
    return {"logits": logits, "loss": loss.detach().float()[None], "gradients": torch.cat(gradients)}


def steps(work: Work, report: Report) -> None:
    """Recorded steps, repeated runs, dropout, overflow."""
    batches = work.batches(4, STEPS) * 2
    with report.section("steps") as rows:
        for name in PRECISIONS:
            plain = losses(work.updater(name, 0.0, graphs=False), batches)
            updater = work.updater(name, 0.0)
            found, again = losses(updater, batches), losses(work.updater(name, 0.0), batches)
            off = max(abs(a - b) / abs(b) for a, b in zip(found, plain, strict=True))
            recorded = len(updater.recorded.recordings) if updater.recorded else 0
            row = {"what": f"{name}: recorded as CUDA graphs", "found": f"{recorded} sizes", "loss off by": off}
            rows.append(row | {"right": off < 1e-2 and (recorded > 0 or work.device.type != "cuda")})
            rows.append({"what": f"{name}: {len(batches)} steps twice, same bits", "found": found == again})
        drawn = len(set(losses(work.updater("bfloat16"), batches[:1] * 5, learning_rate=0.0)))
        rows.append({"what": "dropout draws anew at each replay", "found": str(drawn), "right": drawn == 5})
        rows.append(overflow(work, batches[0]))
        rows.append(nondeterministic(work, batches))


def losses(updater: Updater, batches: list[np.ndarray], learning_rate: float = 5e-5) -> list[float]:
    found = []
    torch.manual_seed(1)
    for batch in batches:
        found.append(updater.gradients([batch]))
        updater.step(learning_rate)
    return [loss.item() for loss in found]


def overflow(work: Work, batch: np.ndarray) -> dict[str, Any]:
    """A gradient that float16 cannot hold: nothing changes but the scale."""
    updater = work.updater("float16")
    assert updater.scaler
    updater.scaler = torch.amp.GradScaler(work.device.type, init_scale=2.0**120)
    before = [p.detach().clone() for p in updater.parameters]
    updater.gradients([batch])
    norm = updater.step(1e-3)
    kept = all(torch.equal(a, b) for a, b in zip(before, updater.parameters, strict=True))
    right = kept and not torch.isfinite(norm).item() and updater.scaler.get_scale() == 2.0**119
    return {"what": "float16 overflow is skipped, the scale halved", "found": f"norm {norm.item()}", "right": right}


def nondeterministic(work: Work, batches: list[np.ndarray]) -> dict[str, Any]:
    """The operations of which torch says that they may round differently at each run."""
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            losses(work.updater("bfloat16", graphs=False), batches[:2])
        finally:
            torch.use_deterministic_algorithms(False)
    names = sorted({str(w.message).split(" does not have")[0][:80] for w in said if "determinis" in str(w.message)})
    return {"what": "operations that are not deterministic", "found": "; ".join(names) or "none named by torch"}


def out_of_memory(work: Work, report: Report) -> None:
    """Gradients of a large batch where a fiftieth of the memory may be used."""
    with report.section("memory") as rows:
        what = {"what": "out of memory in one sentence"}
        updater, (batch,) = work.updater("float32"), work.batches(min(256, len(work.windows)), 1)
        if not limit_memory(work, 0.02):
            rows.append(what | {"found": "needs a GPU"})
            return
        try:
            with torch_errors_explained():
                updater.gradients([batch])
            rows.append(what | {"found": "it did not run out", "right": False})
        except SquadError as error:
            rows.append(what | {"found": str(error)[:120], "right": str(error).startswith("memory ran out (")})
        finally:
            limit_memory(work, 1.0)


def limit_memory(work: Work, share: float) -> bool:
    """Let torch have this share of the device's memory; False where that cannot be said."""
    if work.device.type != "cuda":
        return False
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    return True


def resume(work: Work, report: Report) -> None:
    """run_squad.py on the device: twelve steps, and six steps resumed for six more."""
    with report.section("run_squad.py") as rows:
        model = work.folder / "tiny"
        save_model(work, model, layers=2, size=128)
        whole, broken = (run_squad(work, model, name, "--max_steps", 12, "--save_steps", 6) for name in ("a", "b"))
        rows.append({"what": "twelve steps, twice: same weights", "found": whole == broken})
        (work.folder / "b" / "checkpoint-12").rename(work.folder / "checkpoint-12")
        resumed = run_squad(work, model, "b", "--max_steps", 12, "--save_steps", 6, "--resume")
        same = whole == resumed
        row = {"what": "six steps, and six more with --resume: same weights", "found": same}
        rows.append(row | {"right": same or whole != broken})  # where a run has other bits each time, so has a resume
        first = work.folder / "first.json"
        save_model(work, work.folder / "large")
        words = [sys.executable, BENCHMARKS / "our_side.py", ROOT, "steps", first, 1, 0]
        started = time.perf_counter()
        run([*words, *flags(work, work.folder / "large", "c"), "--bf16"])
        rows.append({"what": "seconds from start to the end of the first step", "found": time.perf_counter() - started})


def save_model(work: Work, folder: Path, layers: int | None = None, size: int | None = None) -> None:
    args = argparse.Namespace(**vars(work.args))
    args.layers, args.hidden_size = layers or args.layers, size or args.hidden_size
    Work(args, folder, work.windows, work.tokenizer).model().save_pretrained(folder)
    work.tokenizer.save_pretrained(folder)


def flags(work: Work, model: Path, output: str) -> list[Any]:
    words = ["--model_type", "bert", "--model_name_or_path", model, "--do_train", "--overwrite_output_dir"]
    words += ["--train_file", work.folder / "random.json", "--output_dir", work.folder / output]
    return words + (["--no_cuda"] if work.device.type == "cpu" else [])


def run_squad(work: Work, model: Path, output: str, *more: Any) -> bytes:
    """The weights after a run."""
    run([sys.executable, ROOT / "run_squad.py", *flags(work, model, output), *more])
    return (work.folder / output / "model.safetensors").read_bytes()


def run(words: list[Any]) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-300:]}")


# ---------------------------------------------------------------------------------------------------------------------
# Fast
# ---------------------------------------------------------------------------------------------------------------------


def speed(work: Work, report: Report) -> None:
    """Ours and the peers at each batch size."""
    for size in work.args.batch_sizes:
        with report.section(f"training, batch {size}, {WIDTH}/128") as rows:
            batches = work.batches(size, work.args.warmup + work.args.steps)
            sides = {f"ours, {name}": our_side(work, name) for name in ("bfloat16", "float16", "float32")}
            sides["ours, bfloat16, kernel by kernel"] = our_side(work, "bfloat16", graphs=False)
            sides["ours, bfloat16, --attention_dropout 0"] = our_side(work, "bfloat16", 0.1, 0.0)
            sides |= gpu_peers.sides(work, compiled=not work.args.quick)
            for name, make in sides.items():
                rows.append({"side": name})
                if report.seconds > 60 * work.args.minutes:
                    rows[-1]["what"] = "left out, the time is over"
                    continue
                try:
                    rows[-1] |= measure(work, make, batches)
                except Exception as error:
                    rows[-1]["what"] = f"{type(error).__name__}: {str(error)[:200]}"
            if not work.args.quick and gpu_peers.has_trainer() and report.seconds < 60 * work.args.minutes:
                rows.append({"side": "Trainer, bfloat16, SDPA, padded to the longest, fused AdamW"})
                rows[-1] |= gpu_peers.measure_trainer(work, size)
            rate = rows[0].get("windows/s")
            for row in rows:
                if rate and row.get("windows/s"):
                    row["ours / it"] = rate / row["windows/s"]
    with report.section("a step of ours, bfloat16") as rows:
        for size in work.args.batch_sizes:
            rows.append({"batch": size} | profile(work, size))


def our_side(
    work: Work, precision: str, *dropout: float | None, graphs: bool = True
) -> Callable[[], Callable[[np.ndarray], object]]:
    """Makes the model, and returns its step."""

    def make() -> Callable[[np.ndarray], object]:
        updater = work.updater(precision, *dropout, graphs=graphs)

        def step(batch: np.ndarray) -> None:
            updater.gradients([batch])
            updater.step(5e-5)

        return step

    return make


def measure(
    work: Work, make: Callable[[], Callable[[np.ndarray], object]], batches: list[np.ndarray]
) -> dict[str, float]:
    """Speed and memory of a side, which has made the same batches twice before, so that what is to be recorded is."""
    warmup, measured = batches[: work.args.warmup], batches[work.args.warmup :]
    cuda = work.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = make()
    started = time.perf_counter()
    for batch in [*warmup, *measured, *measured]:
        step(batch)
    work.synchronize()
    warm = time.perf_counter() - started
    coming = iter(measured)
    seconds = timed(work, lambda: step(next(coming)), warmup=0, steps=len(measured))
    tokens = float(np.mean([work.windows.num_tokens()[batch].sum() for batch in measured]))
    found = {"windows/s": len(batches[0]) / seconds, "tokens/s": tokens / seconds, "ms a step": 1000 * seconds}
    found["share of the matrix peak"] = work_of_a_step(work, batches) / seconds / 1e12 / work.args.peak
    if cuda:
        found["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    found["seconds to warm up"] = warm
    return found


def work_of_a_step(work: Work, batches: list[np.ndarray]) -> float:
    """Multiplications and additions of the matrix products for real tokens alone: three times those of the forward."""
    size, layers = work.args.hidden_size, work.args.layers
    lengths = np.mean([work.windows.num_tokens()[batch].astype(float).sum() for batch in batches])
    squares = np.mean([(work.windows.num_tokens()[batch].astype(float) ** 2).sum() for batch in batches])
    return float(3 * layers * (2 * 12 * size**2 * lengths + 4 * size * squares))


def profile(work: Work, size: int) -> dict[str, Any]:
    """Share of time in which the device works, launches and bytes from the host, of a step."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    updater, batches = work.updater("bfloat16"), work.batches(size, 10)
    losses(updater, batches * 3)
    work.synchronize()
    cuda = work.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with torch_profile(activities=activities) as profiler:
        started = time.perf_counter()
        for batch in batches:
            updater.gradients([batch])
            updater.step(5e-5)
        work.synchronize()
        seconds = time.perf_counter() - started
    inputs = updater.runner.inputs(work.windows, batches[0], fixed=cuda)[0]
    sent = sum(value.numel() * value.element_size() for value in inputs.values() if isinstance(value, torch.Tensor))
    found: dict[str, Any] = {"ms a step, profiled": 100 * seconds, "KiB to the device a step": sent / 1024}
    if cuda:
        events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        found["device busy"] = busy_share([(e.time_range.start, e.time_range.end) for e in events])
        by_name: dict[str, float] = {}
        for e in events:
            by_name[e.name[:60]] = by_name.get(e.name[:60], 0.0) + e.time_range.elapsed_us()
        total = sum(by_name.values())
        longest = sorted(by_name.items(), key=lambda pair: -pair[1])[:6]
        found["most time in"] = "; ".join(f"{name} {time / total:.0%}" for name, time in longest)
    return found


def busy_share(ranges: list[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that some range covers."""
    busy, end = 0.0, -np.inf
    for begin, stop in sorted(ranges):
        busy, end = busy + max(0.0, stop - max(begin, end)), max(end, stop)
    return busy / (end - min(begin for begin, _ in ranges))


def evaluation(work: Work, report: Report) -> None:
    with report.section("evaluation and answering") as rows:
        count = len(work.windows)
        for name in ("float32", "bfloat16"):
            runner = work.runner(PADDING_FREE, name)
            runner.model.eval()
            seconds = timed(work, lambda r=runner: predict_logits(r, work.windows, 0, count, 32), 1, 2)
            rows.append({"what": f"logits, {name}, batch 32", "windows/s": count / seconds})
        model = work.model().eval()
        answer = pipeline("question-answering", model=model, tokenizer=work.tokenizer, device=work.args.device)
        questions = [{"question": e.question, "context": e.context} for e in work.windows.examples]
        seconds = timed(work, lambda: answer(questions), 1, 1)
        rows.append({"what": "pipeline, float32, one answer each", "windows/s": count / seconds})


PARTS = (machine, kernels, precision, steps, out_of_memory, resume, speed, evaluation)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps, no compiled peer, no Trainer")
    parser.add_argument("--json", type=Path, help="file for the same rows")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS], help="parts to run")
    parser.add_argument("--minutes", type=float, default=7, help="no side is begun behind them (7)")
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 12, 32])
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--steps", type=int, help="measured steps of a side (60, with --quick 20)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu rehearses the report")
    args.steps = args.steps or (20 if args.quick else 60)
    args.peak = 1.0
    transformers_logging.set_verbosity_error()
    os.environ["HF_HUB_OFFLINE"] = "1"
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        work = make_work(args, Path(folder))
        for part in PARTS:
            if not args.only or part.__name__ in args.only:
                part(work, report)
    print(report.markdown())
    print(f"\n{report.seconds:.0f} s in all, {report.faults} faults")
    if args.json:
        rows = [{"title": title, "rows": rows} for title, rows in report.sections]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(report.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
