"""benchmarks/local_translation.py rehearsed with tiny sizes: every side makes the same strings, as long as it must."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import ROOT, SAMPLE

sys.path.insert(0, str(ROOT / "benchmarks"))

import local_translation

from squadlib.translation.transformers_model import HfBackend

ARGS = ["--no_cuda", "--quick", "--input_file", str(SAMPLE), "--num_beams", "2"]


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch):
    tiny = {name: (model_type, 900, 16, 1, 2) for name, (model_type, *_) in local_translation.SIZES.items()}
    monkeypatch.setattr(local_translation, "SIZES", tiny)
    monkeypatch.setattr(local_translation, "LEARNED", 800)


def test_the_benchmark_reports_both_sizes_in_markdown_and_json(tmp_path, capsys, monkeypatch):
    lengths = []
    generate = HfBackend.generate

    def watched(backend, encoded):
        outputs = generate(backend, encoded)
        pad = backend.tokenizer.pad_token_id
        start = backend.model.config.decoder_start_token_id
        for ids, output in zip(encoded, outputs, strict=True):
            assert output[0] == start
            lengths.append((len(ids), sum(token != pad for token in output[1:])))
        return outputs

    monkeypatch.setattr(HfBackend, "generate", watched)
    report = tmp_path / "report.json"
    local_translation.main([*ARGS, "--strings", "40", "--json", str(report)])
    assert len(lengths) >= 80 and all(tokens == own for own, tokens in lengths)
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["strings"] == 40 and [figures["model"] for figures in found["models"]] == ["marian", "nllb"]
    printed = capsys.readouterr().out
    for figures in found["models"]:
        assert {"plain loop", "ours"} <= set(figures["seconds"])
        same, kept = figures["same_translations"]
        assert kept >= 30 and same >= kept - 1  # a tie may be rounded otherwise
        assert f"### {figures['model']}" in printed
    assert printed.count("| side | strings/s |") == 2 and printed.count("\n| ours | ") == 2


def test_a_file_with_fewer_strings_is_drawn_again_at_its_own_lengths():
    some = local_translation.read_strings(SAMPLE, 100)
    many = local_translation.read_strings(SAMPLE, 2000)
    assert len(set(some)) == 100 and len(set(many)) == 2000

    def mean(strings):
        return sum(len(string.split()) for string in strings) / len(strings)

    assert mean(many) == pytest.approx(mean(some), rel=0.3)
