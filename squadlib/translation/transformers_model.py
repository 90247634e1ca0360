"""A local translation model through transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from squadlib.translation.engines import ModelSettings
from squadlib.translation.local_models import LocalModel


class HfBackend(LocalModel):
    """On a GPU where there is one."""

    def load(self, settings: ModelSettings) -> None:
        device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = getattr(torch, settings.dtype)
        # Nothing in a model folder runs as code or chooses code, a kernel at a hub for instance.
        config = AutoConfig.from_pretrained(settings.model_name_or_path, trust_remote_code=False)
        config._attn_implementation = config._experts_implementation = None
        options = {"config": config, "dtype": dtype, "trust_remote_code": False}
        model = AutoModelForSeq2SeqLM.from_pretrained(settings.model_name_or_path, **options)
        self.model: PreTrainedModel = model.to(device).eval()
        self._generate: Callable[..., torch.Tensor] = model.generate
        self.max_tokens = getattr(self.model.config, "max_position_embeddings", 512)

    def generate(self, encoded: list[list[int]]) -> list[list[int]]:
        batch = self.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(self.model.device)
        least, most = self.generation_lengths(batch["input_ids"].shape[1])
        options = {"num_beams": self.num_beams, "do_sample": False, "min_new_tokens": least, "max_new_tokens": most}
        if self.target_token:
            options["forced_bos_token_id"] = self.token_ids([self.target_token])[0]
        with torch.inference_mode():
            return self._generate(**batch, **options).tolist()
