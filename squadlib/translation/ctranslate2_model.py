"""A local translation model through CTranslate2, several times faster on a CPU. Takes a converted folder."""

from __future__ import annotations

import ctranslate2

from squadlib.translation.engines import ModelSettings
from squadlib.translation.local_models import LocalModel


class Ct2Backend(LocalModel):
    """The converted folder holds the tokenizer's files too: see README.md for the command that makes it."""

    model: ctranslate2.Translator

    def load(self, settings: ModelSettings) -> None:
        kind = "default" if settings.dtype == "float32" else settings.dtype  # default: as converted
        device = settings.device or "auto"
        self.model = ctranslate2.Translator(settings.model_name_or_path, device=device, compute_type=kind)
        self.max_tokens, self.on_gpu = 512, self.model.device != "cpu"

    def generate(self, encoded: list[list[int]]) -> list[list[int]]:
        least, most = self.generation_lengths(max(map(len, encoded)))  # it knows no limits for each string
        results = self.model.translate_batch(
            [self.tokenizer.convert_ids_to_tokens(ids) for ids in encoded],
            beam_size=self.num_beams,
            min_decoding_length=least,
            max_decoding_length=most,
            target_prefix=[[self.target_token]] * len(encoded) if self.target_token else None,
        )
        return [self.token_ids(result.hypotheses[0]) for result in results]
