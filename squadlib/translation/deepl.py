"""DeepL, with a key of one's own: lists of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from squadlib.console import SquadError
from squadlib.translation.engines import ServerSettings
from squadlib.translation.json_server import JsonServer, key_from_environment, list_of_texts
from squadlib.translation.pace import StillBlockedError

PATH, KEY_VARIABLE = "/v2/translate", "DEEPL_AUTH_KEY"
FREE_URL, PAID_URL = "https://api-free.deepl.com", "https://api.deepl.com"  # keys of the free one end in ":fx"
QUOTA_USED_UP = 456  # DeepL's own HTTP status
REGIONS = {"EN": "en-GB or en-US", "PT": "pt-BR or pt-PT"}  # targets that are not taken without one
OTHER_NAMES = {"ZH-CN": "ZH-HANS", "ZH-TW": "ZH-HANT", "NO": "NB", "IW": "HE"}


@dataclass(frozen=True)
class DeepLSettings(ServerSettings):
    """How DeepL is asked. It takes 50 texts and 128 KiB a request."""

    rate: float = 10.0
    workers: int = 4
    base_url: str | None = None  # None: DeepL's own, by the key

    backend: ClassVar[str] = "deepl"
    most_chars: ClassVar[int] = 20_000  # six bytes each where JSON escapes them
    max_strings: ClassVar[float] = 49  # and a control sentence

    def __post_init__(self) -> None:
        code = self.target_code
        if code in REGIONS:
            raise SquadError(f"--target_lang {self.target_lang}: DeepL wants the region too: write {REGIONS[code]}")

    @property
    def source_code(self) -> str:
        """DeepL's code of the language; as a source it has no region."""
        return deepl_code(self.source_lang).partition("-")[0]

    @property
    def target_code(self) -> str:
        return deepl_code(self.target_lang)


def deepl_code(code: str) -> str:
    """DeepL's name for a language code: zh-CN -> ZH-HANS."""
    return OTHER_NAMES.get(code.upper(), code.upper())


class DeepLBackend(JsonServer):
    """A call is one request with a list of texts."""

    def __init__(self, settings: DeepLSettings) -> None:
        key = key_from_environment(KEY_VARIABLE)
        if not key:
            raise SquadError(f"--backend deepl needs your key in the environment: export {KEY_VARIABLE}=…")
        address = settings.base_url or (FREE_URL if key.endswith(":fx") else PAID_URL)
        authorization = {"Authorization": f"DeepL-Auth-Key {key}"}
        super().__init__(address, settings.timeout, authorization, key=key, key_variable=KEY_VARIABLE)
        self.fields = {
            "source_lang": settings.source_code,
            "target_lang": settings.target_code,
            "split_sentences": "0",  # ours are cut already
            "preserve_formatting": True,  # an answer keeps its small first letter
        }

    def translate(self, strings: list[str]) -> list[str]:
        answer = self.post(PATH, {"text": strings, **self.fields})
        translations = answer.get("translations")
        texts = [t.get("text") if isinstance(t, dict) else None for t in translations or ()]
        return list_of_texts(texts if isinstance(translations, list) else None, strings)

    def problem(self, status: int, headers: dict[str, str], content: bytes) -> Exception:
        words = self.words(content)
        if status == QUOTA_USED_UP:
            return StillBlockedError(
                f"DeepL's quota for this key is used up ({words}): raise it, or wait for its renewal"
            )
        if status == 400 and "_lang" in words:
            pair = f"from {self.fields['source_lang']} into {self.fields['target_lang']}"
            return SquadError(f"{self.base_url}: DeepL does not translate {pair}: {words}")
        return super().problem(status, headers, content)
