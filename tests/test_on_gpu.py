"""benchmarks/on_gpu.py, rehearsed on a CPU: small, with stand-ins for the kernels and the graphs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import run_squad

sys.path.append(str(ROOT / "benchmarks"))
import gpu_peers
import on_gpu

SMALL = ["--device", "cpu", "--quick", "--hidden_size", "32", "--layers", "1", "--batch_sizes", "2", "--windows", "12"]
SMALL += ["--steps", "1", "--warmup", "1"]


@pytest.fixture
def report(monkeypatch, tmp_path, capsys):
    """Runs some parts; returns exit code, Markdown, and rows by title."""
    monkeypatch.setattr(on_gpu, "PIECES", 400)
    monkeypatch.setattr(on_gpu, "USED_PIECES", 300)
    monkeypatch.setattr(on_gpu, "STEPS", 1)

    def run(*parts):
        code = on_gpu.main([*SMALL, "--json", str(tmp_path / "rows.json"), "--only", *parts])
        sections = json.loads((tmp_path / "rows.json").read_text())
        return code, capsys.readouterr().out, {section["title"]: section["rows"] for section in sections}

    return run


def test_what_is_right_is_told_so(report, recorder):
    code, text, rows = report("machine", "kernels", "precision", "steps", "out_of_memory")
    assert code == 0 and "0 faults" in text and "**NO**" not in text
    assert [row["kernel"] for row in rows["attention kernels"]] == ["memory-efficient"] * 6
    checked = [row for name, part in rows.items() for row in part if "right" in row]
    assert len(checked) >= 20 and all(row["right"] is True for row in checked)
    by_name = {row["what"]: row for row in rows["steps"]}
    assert by_name["float32: recorded as CUDA graphs"]["found"] != "0 sizes" and len(recorder.traces) > 3


def test_each_fault_is_a_line_and_ends_nothing(report, recorder, monkeypatch):
    def wrong(*args, **options):
        attended, weights = attend(*args, **options)
        return attended * 1.05, weights

    def broken(*args):
        raise RuntimeError("no kernel image")

    attend = on_gpu.packed_attention
    monkeypatch.setattr(on_gpu, "packed_attention", wrong)
    monkeypatch.setattr(on_gpu, "overflow", broken)
    code, text, rows = report("kernels", "steps", "evaluation")
    assert code == 1 and "**NO**" in text
    assert [row["right"] for row in rows["attention kernels"]] == [False, True] * 3
    assert rows["steps"][-1] == {"what": "ended by RuntimeError: no kernel image", "right": False}
    assert all(row["windows/s"] > 0 for row in rows["evaluation and answering"])


@pytest.mark.parametrize("reason", ["CUDA out of memory. Tried to allocate 2 GiB", None])
def test_memory_that_runs_out_is_one_sentence(report, monkeypatch, reason):
    def gradients(updater, batches):
        if reason:
            raise on_gpu.torch.OutOfMemoryError(reason)

    limits = []
    monkeypatch.setattr(on_gpu, "limit_memory", lambda work, share: limits.append(share) or True)
    monkeypatch.setattr(on_gpu.Updater, "gradients", gradients)
    code, _, rows = report("out_of_memory")
    (row,) = rows["memory"]
    assert (code, row["right"], limits) == (0 if reason else 1, bool(reason), [0.02, 1.0])
    assert reason is None or "CUDA out of memory" in row["found"]


def test_every_side_is_measured_beside_ours(report):
    code, _, rows = report("machine", "speed")
    sides = rows["training, batch 2, 384/128"]
    assert code == 0 and len(sides) == 5 + 3 and sides[0]["ours / it"] == 1
    assert all(row["windows/s"] > 0 and row["ours / it"] > 0 and "what" not in row for row in sides)
    assert rows["a step of ours, bfloat16"][0]["KiB to the device a step"] > 1


def test_sides_behind_the_time_are_left_out(report):
    code, _, rows = report("machine", "speed", "--minutes", "0")
    assert code == 0 and {row.get("what") for row in rows["training, batch 2, 384/128"]} == {
        "left out, the time is over"
    }


def test_whole_runs_are_given_flags_that_exist(report, monkeypatch):
    said = []

    def run(words):
        words = [str(word) for word in words]
        args = run_squad.build_parser().parse_args(words[words.index("--model_type") :])
        said.append((Path(words[1]).name, args.resume, args.bf16))
        assert Path(args.model_name_or_path, "model.safetensors").exists() and Path(args.train_file[0]).exists()
        (Path(args.output_dir) / "checkpoint-12").mkdir(parents=True)
        (Path(args.output_dir) / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(on_gpu, "run", run)
    code, _, rows = report("resume")
    assert code == 0 and len(rows["run_squad.py"]) == 3
    whole = ("run_squad.py", False, False)
    assert said == [whole, whole, ("run_squad.py", True, False), ("our_side.py", False, True)]


def test_peers_take_the_same_windows(tmp_path):
    args = on_gpu.argparse.Namespace(windows=5, device="cpu")
    work = on_gpu.make_work(args, tmp_path)
    lengths = work.windows.num_tokens()
    for full, width in ((True, 384), (False, -(-max(lengths[[3, 1]]) // 64) * 64)):
        inputs = gpu_peers.padded(work, on_gpu.np.array([3, 1]), full)
        assert inputs["input_ids"].shape == (2, width)
        assert inputs["attention_mask"].sum(1).tolist() == lengths[[3, 1]].tolist()
        row, start, end = (inputs[name][0] for name in ("input_ids", "start_positions", "end_positions"))
        words = work.tokenizer.convert_ids_to_tokens(row[start : end + 1].tolist())
        assert " ".join(words) == work.windows.examples[3].answers[0].text


def test_busy_time_is_counted_once():
    assert on_gpu.busy_share([(0, 4), (1, 2), (3, 6), (8, 10)]) == pytest.approx(0.8)
