"""A local translation model through transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, LogitsProcessor, PreTrainedModel

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
        self.on_gpu = device != "cpu"

    def generate(self, encoded: list[list[int]]) -> list[list[int]]:
        batch = self.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(self.model.device)
        limits = Limits([self.generation_lengths(len(ids)) for ids in encoded], self.tokenizer.eos_token_id)
        options = {"num_beams": self.num_beams, "do_sample": False, "max_new_tokens": int(limits.most.max())}
        if self.target_token:
            options["forced_bos_token_id"] = self.token_ids([self.target_token])[0]
        with torch.inference_mode():
            return self._generate(**batch, **options, logits_processor=[limits]).tolist()


class Limits(LogitsProcessor):
    """Ends each string's translation within its own limits, so that it does not depend on what else is in the batch."""

    def __init__(self, lengths: list[tuple[int, int]], eos_token_id: int) -> None:
        self.least, self.most = torch.tensor(lengths).T  # with the end token
        self.end = eos_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids: int (strings × beams, tokens so far). scores: float (strings × beams, vocabulary)."""
        token = input_ids.shape[1]  # the number of this one: a start token was given
        by_string = scores.reshape(len(self.most), -1, scores.shape[-1])
        too_early, due = (self.least > token).nonzero().flatten(), (self.most == token).nonzero().flatten()
        if len(too_early):
            by_string[too_early, :, self.end] = -torch.inf
        if len(due):
            by_string[due] = -torch.inf
            by_string[due, :, self.end] = 0  # as forced_eos_token_id has it, which Marian ends the longest with
        return by_string.reshape(scores.shape)
