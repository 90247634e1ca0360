"""Pack the weights of word_reverser.py as two Argos packages, which LibreTranslate loads. Runs where that is installed.

python benchmarks/servers/argos_packages.py WEIGHTS.npz FOLDER
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import sentencepiece
from ctranslate2.specs import TransformerSpec

LANGUAGES = {"en": "English", "nl": "Dutch"}


def sentence_pieces(words: list[str]) -> bytes:
    """A tokenizer whose pieces are whole words."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, model_type="word", vocab_size=len(words) + 3,
        normalization_rule_name="identity", hard_vocab_limit=False, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def specification(weights: dict[str, np.ndarray], vocabulary: list[str]) -> TransformerSpec:
    """The model as CTranslate2 describes it."""
    spec = TransformerSpec.from_config((1, 1), 4, pre_norm=True)

    def linear(spec: object, weight: np.ndarray, bias: np.ndarray) -> None:
        spec.weight, spec.bias = weight, bias

    def norm(spec: object, name: str) -> None:
        spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def projections(spec: object, name: str, *cuts: slice) -> None:
        for part, cut in zip(spec.linear, cuts, strict=False):
            linear(part, weights[f"{name}.in_proj_weight"][cut], weights[f"{name}.in_proj_bias"][cut])
        linear(spec.linear[-1], weights[f"{name}.out_proj.weight"], weights[f"{name}.out_proj.bias"])

    def half(spec: object, name: str, embeddings: object, side: str, norm_before_inner: int) -> object:
        embeddings.weight = weights[f"{side}.weight"]
        spec.position_encodings.encodings = weights[f"{side}_places"]
        norm(spec.layer_norm, f"layers.{name}.norm")
        layer, prefix = spec.layer[0], f"layers.{name}.layers.0"
        projections(layer.self_attention, f"{prefix}.self_attn", slice(None))
        norm(layer.self_attention.layer_norm, f"{prefix}.norm1")
        for part, linear_name in ((layer.ffn.linear_0, "linear1"), (layer.ffn.linear_1, "linear2")):
            linear(part, weights[f"{prefix}.{linear_name}.weight"], weights[f"{prefix}.{linear_name}.bias"])
        norm(layer.ffn.layer_norm, f"{prefix}.norm{norm_before_inner}")
        return layer

    half(spec.encoder, "encoder", spec.encoder.embeddings[0], "source", 2)
    layer = half(spec.decoder, "decoder", spec.decoder.embeddings, "target", 3)
    size = weights["source.weight"].shape[1]
    projections(layer.attention, "layers.decoder.layers.0.multihead_attn", slice(size), slice(size, None))
    norm(layer.attention.layer_norm, "layers.decoder.layers.0.norm2")
    linear(spec.decoder.projection, weights["output.weight"], weights["output.bias"])
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.validate()
    return spec


def main(weights_file: str, folder: str) -> None:
    weights = dict(np.load(weights_file))
    words = [str(word) for word in weights.pop("words")]
    weights = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
    vocabulary = [*words[:3], *(f"▁{word}" for word in words[3:])]
    pieces = sentence_pieces(words[3:])
    for source, target in (("en", "nl"), ("nl", "en")):  # with one of them the server looks for downloads
        package = Path(folder, f"translate-{source}_{target}-1_0")
        (package / "model").mkdir(parents=True, exist_ok=True)
        specification(weights, vocabulary).save(str(package / "model"))
        (package / "sentencepiece.model").write_bytes(pieces)
        names = {"from_code": source, "from_name": LANGUAGES[source], "to_code": target, "to_name": LANGUAGES[target]}
        versions = {"package_version": "1.0", "argos_version": "1.0", "type": "translate"}
        (package / "metadata.json").write_text(json.dumps({**versions, **names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
