"""Seq2seq models on this machine, whatever runs them: languages and lengths."""

from __future__ import annotations

from abc import ABC, abstractmethod

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from squadlib.console import SquadError
from squadlib.translation.engines import ModelSettings

AT_ONCE = 1000  # strings that are cut into tokens at once; the tokenizer's own record of each is large


class LocalModel(ABC):
    """A model of one language pair (MarianMT: opus-mt-en-nl) or of many (NLLB, M2M100). A call is one batch."""

    max_tokens: int  # that the model takes
    on_gpu: bool

    def __init__(self, settings: ModelSettings) -> None:
        self.num_beams = settings.num_beams
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                settings.model_name_or_path,
                trust_remote_code=False,  # the library's default is to ask
            )
            self.load(settings)
        except ImportError:  # table.py names the package
            raise
        except Exception as error:  # of safetensors, CTranslate2 and the tokenizers' Rust core each has its own
            reason = " ".join(str(error).split())[:200]
            message = f"{settings.model_name_or_path}: no translation model that can be loaded ({reason})"
            raise SquadError(message) from error
        self._set_languages(settings.source_code, settings.target_code)

    @abstractmethod
    def load(self, settings: ModelSettings) -> None:
        """Load the model; set max_tokens and on_gpu."""

    @abstractmethod
    def generate(self, encoded: list[list[int]]) -> list[list[int]]:
        """The token ids of the translations of one batch of token ids."""

    def _set_languages(self, source_code: str, target_code: str) -> None:
        """Tell a model of many languages which to use: by language tokens (NLLB, M2M100) or by a prefix (Marian)."""
        self.prefix = ""
        self.target_token: str | None = None
        if getattr(self.tokenizer, "src_lang", None):
            self._language_token(source_code, "--source_code")
            self.tokenizer.src_lang = source_code
            self.target_token = self._language_token(target_code, "--target_code")
        elif f">>{target_code}<<" in self.tokenizer.get_vocab():
            self.prefix = f">>{target_code}<< "

    def _language_token(self, code: str, flag: str) -> str:
        token = code if "_" in code else f"__{code}__"  # NLLB, mBART: nld_Latn, nl_XX; M2M100: __nl__
        if self.tokenizer.convert_tokens_to_ids(token) in (None, self.tokenizer.unk_token_id):
            raise SquadError(f"{flag} {code} is not a language of this model; NLLB's codes look like nld_Latn")
        return token

    def token_ids(self, tokens: list[str]) -> list[int]:
        ids = self.tokenizer.convert_tokens_to_ids(tokens)
        return ids if isinstance(ids, list) else [ids]

    def encode(self, strings: list[str]) -> list[list[int]]:
        return self.tokenizer([self.prefix + string for string in strings]).input_ids if strings else []

    def num_tokens(self, strings: list[str]) -> list[int]:
        parts = (strings[first : first + AT_ONCE] for first in range(0, len(strings), AT_ONCE))
        return [len(ids) for part in parts for ids in self.encode(part)]

    def translate(self, strings: list[str]) -> list[str]:
        """One batch. A string that is too long for the model comes back as ""."""
        encoded = self.encode(strings)
        fit = [index for index, ids in enumerate(encoded) if len(ids) <= self.max_tokens]
        targets = [""] * len(strings)
        if fit:
            output = self.generate([encoded[index] for index in fit])
            for index, text in zip(fit, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                targets[index] = " ".join(text.split())
        return targets

    def generation_lengths(self, num_tokens: int) -> tuple[int, int]:
        """(least, most) tokens to generate for an input of num_tokens: a model may babble on for ever."""
        return 0, min(self.max_tokens - 1, 2 * num_tokens + 20)
