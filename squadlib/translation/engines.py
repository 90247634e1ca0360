"""Translation engines: a list of strings in, a list out, order kept."""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import socket
import time
import urllib.error
import urllib.parse
from typing import Protocol

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from squadlib.console import SquadError, logger, progress_bar
from squadlib.translation.cache import Cache
from squadlib.translation.checks import ERROR_PAGE, INVISIBLE, translation_fault


class Backend(Protocol):
    """What a translation engine offers."""

    def translate(self, strings: list[str]) -> list[str]:
        """The translations in the same order, "" where there is none."""
        ...


class Fault(Exception):
    """A request without a usable answer. The three kinds below say whom to blame, and so what to do."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds that the server asks for


class Blocked(Fault):
    """The server wants no more requests: everything waits."""


class UnknownPage(Blocked):
    """Nothing where the translation should be: a CAPTCHA, most likely, but perhaps this text's own fault."""


class Hiccup(Fault):
    """The server or the line failed: the same request again, later."""


class BadText(Fault):
    """The server is well but has trouble with this text: halves, one by one at last."""


class MtranslateBackend:
    """The free web page behind the package mtranslate. A call is one request, the strings its lines."""

    def __init__(self, source_lang: str, target_lang: str, timeout: float) -> None:
        try:
            import mtranslate
        except ImportError as error:
            raise SquadError("the package mtranslate is missing; pip install mtranslate") from error
        socket.setdefaulttimeout(timeout)  # the package sets none, so a silent server would hang it for ever
        self.languages = {"to_language": target_lang, "from_language": source_lang}
        self._translate = mtranslate.translate

    def translate(self, strings: list[str]) -> list[str]:
        """As many lines as strings; raises a Fault for everything that the package lets pass or raises itself."""
        try:
            reply = self._translate("\n".join(strings), **self.languages)
        except urllib.error.HTTPError as error:
            raise _http_fault(error) from error
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            reason = getattr(error, "reason", error)
            raise Hiccup(f"{type(error).__name__}: {reason}") from error
        if not reply.strip():
            raise UnknownPage("a page without a translation (CAPTCHA?)")
        if ERROR_PAGE.search(reply) and not ERROR_PAGE.search(" ".join(strings)):
            raise Hiccup(f'error text instead of a translation: "{reply[:40]}…"')
        lines = [" ".join(line.split()) for line in INVISIBLE.sub("", reply).strip("\n").split("\n")]
        if len(lines) != len(strings):
            raise BadText(f"{len(lines)} lines came back for {len(strings)}")
        return lines


def _http_fault(error: urllib.error.HTTPError) -> Fault:
    reason = f"HTTP {error.code} {error.reason}"
    if error.code in (403, 429, 503):
        return Blocked(reason, wait=retry_after(error.headers.get("Retry-After")))
    return (BadText if error.code in (400, 413, 414, 431) else Hiccup)(reason)


def retry_after(value: str | None) -> float | None:
    """Seconds from now in a Retry-After header, given as seconds or as a date; None when it says nothing usable."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class MemoryBackend:
    """A translation memory: a file with one JSON object a line, {"source": "Hello.", "target": "Hallo."}."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.targets: dict[str, str] = {}
        try:
            with open(path, encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        self._add(line, f"{path}: line {number}")
        except (OSError, UnicodeDecodeError) as error:
            raise SquadError(f"{path}: cannot be read as UTF-8 text ({error})") from error

    def _add(self, line: str, place: str) -> None:
        try:
            entry = json.loads(line)
            source, target = (" ".join(entry[key].split()) for key in ("source", "target"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SquadError(
                f'{place}: expected {{"source": "…", "target": "…"}}, found {line.strip()[:60]}'
            ) from error
        if not source or not target:
            raise SquadError(f"{place}: an empty source or target; remove the line")
        if self.targets.setdefault(source, target) != target:
            raise SquadError(f'{place}: a second translation of "{source[:60]}"; keep one')

    def translate(self, strings: list[str]) -> list[str]:
        """Every string's translation; raises SquadError that lists what the memory lacks."""
        misses = [string for string in strings if string not in self.targets]
        if misses:
            some = "".join(f"\n  {json.dumps({'source': miss}, ensure_ascii=False)}" for miss in misses[:10])
            more = f"\n  … and {len(misses) - 10:,} more" if len(misses) > 10 else ""
            raise SquadError(f"{self.path}: no translation of {len(misses):,} of {len(strings):,} strings:{some}{more}")
        return [self.targets[string] for string in strings]


class HfBackend:
    """A local seq2seq model through transformers: MarianMT (opus-mt-en-nl), NLLB, M2M100 and their like."""

    def __init__(
        self, model_dir: str, source_code: str, target_code: str, num_beams: int, dtype: str, device: str | None = None
    ) -> None:
        self.num_beams = num_beams
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model_dir)
            self._load_model(model_dir, dtype, device)
        except ImportError as error:
            missing = "sentencepiece" if "sentencepiece" in str(error).lower() else error.name or "transformers torch"
            raise SquadError(f"{model_dir}: loading it needs another package: pip install {missing}") from error
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SquadError(f"{model_dir}: no translation model that can be loaded ({reason})") from error
        self._set_languages(source_code, target_code)

    def _load_model(self, model_dir: str, dtype: str, device: str | None) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = AutoModelForSeq2SeqLM.from_pretrained(model_dir, dtype=getattr(torch, dtype)).to(device).eval()
        self.max_tokens = getattr(self.model.config, "max_position_embeddings", 512)

    def _set_languages(self, source_code: str, target_code: str) -> None:
        """Tell a model of many languages which to use: by language tokens (NLLB, M2M100) or by a prefix (Marian)."""
        self.prefix, self.target_token = "", None
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

    def translate(self, strings: list[str]) -> list[str]:
        """One batch. A string that is too long for the model comes back as ""."""
        encoded = [self.tokenizer(self.prefix + string).input_ids for string in strings]
        fit = [index for index, ids in enumerate(encoded) if len(ids) <= self.max_tokens]
        targets = [""] * len(strings)
        if fit:
            output = self._generate([encoded[index] for index in fit])
            for index, text in zip(fit, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                targets[index] = " ".join(text.split())
        return targets

    def generation_lengths(self, num_tokens: int) -> tuple[int, int]:
        """(least, most) tokens to generate for a longest input of num_tokens: a model may babble on for ever."""
        return 0, min(self.max_tokens - 1, 2 * num_tokens + 20)

    def _generate(self, encoded: list[list[int]]) -> list[list[int]]:
        batch = self.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(self.model.device)
        least, most = self.generation_lengths(batch["input_ids"].shape[1])
        options = {"num_beams": self.num_beams, "do_sample": False, "min_new_tokens": least, "max_new_tokens": most}
        if self.target_token:
            options["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids(self.target_token)
        with torch.inference_mode():
            return self.model.generate(**batch, **options).tolist()


class Ct2Backend(HfBackend):
    """The same models through CTranslate2, several times faster on a CPU: see the folder's recipe in README.md."""

    def _load_model(self, model_dir: str, dtype: str, device: str | None) -> None:
        import ctranslate2

        kind = "default" if dtype == "float32" else dtype  # default: as converted
        self.model = ctranslate2.Translator(model_dir, device=device or "auto", compute_type=kind)
        self.max_tokens = 512

    def _generate(self, encoded: list[list[int]]) -> list[list[int]]:
        least, most = self.generation_lengths(max(map(len, encoded)))
        options = {"beam_size": self.num_beams, "min_decoding_length": least, "max_decoding_length": most}
        if self.target_token:
            options["target_prefix"] = [[self.target_token]] * len(encoded)
        results = self.model.translate_batch([self.tokenizer.convert_ids_to_tokens(ids) for ids in encoded], **options)
        return [self.tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]


def translate_locally(backend: Backend, cache: Cache, strings: list[str], batch_size: int) -> dict[str, str]:
    """Translate with an engine that neither blocks nor mixes strings up; every batch is stored at once.

    Returns the reason for every string without a valid translation.
    """
    missing = {}
    ordered = sorted(strings, key=len)  # equal lengths together: little time goes into padding
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    random.shuffle(batches)  # a believable ETA, and two processes on one cache seldom meet
    with progress_bar(total=len(strings), unit="string") as bar:
        while batches:
            batch = batches.pop()
            known = cache.get(batch)
            bar.update(len(known))
            batch = [string for string in batch if string not in known]
            try:
                targets = dict(zip(batch, backend.translate(batch), strict=True)) if batch else {}
            except RuntimeError as error:
                if "out of memory" not in str(error) or len(batch) == 1:
                    raise
                logger.warning("%d strings are too many for the memory: halves; lower --batch_size", len(batch))
                batches += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            faults = {source: translation_fault(source, target, cache.key[2]) for source, target in targets.items()}
            cache.put({source: target for source, target in targets.items() if not faults[source]})
            missing.update({source: fault for source, fault in faults.items() if fault})
            bar.update(len(batch))
    return missing
