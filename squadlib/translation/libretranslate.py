"""LibreTranslate, a server that anybody can run: lists of texts.

Its text mode turns `&amp;` into `&` in every answer, so a source that shows such a code loses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from squadlib.console import SquadError
from squadlib.translation.engines import Blocked, ServerSettings
from squadlib.translation.json_server import JsonServer, key_from_environment, list_of_texts

PATH, KEY_VARIABLE = "/translate", "LIBRETRANSLATE_API_KEY"
OTHER_NAMES = {"zh-cn": "zh-Hans", "zh-tw": "zh-Hant", "no": "nb"}


@dataclass(frozen=True)
class LibreTranslateSettings(ServerSettings):
    """How the server is asked. It translates the texts of a list one after the other."""

    rate: float = 100.0  # a server of one's own has no limit; another one's answers 429
    workers: int = 2
    timeout: float = 120.0
    base_url: str = ""

    backend: ClassVar[str] = "libretranslate"
    max_strings: ClassVar[float] = 31  # and a control sentence; a server with a lower limit gets halves


class LibreTranslateBackend(JsonServer):
    """A call is one request with a list of texts."""

    def __init__(self, settings: LibreTranslateSettings) -> None:
        key = key_from_environment(KEY_VARIABLE)
        super().__init__(settings.base_url, settings.timeout, key=key, key_variable=KEY_VARIABLE)
        self.fields = {
            "source": OTHER_NAMES.get(settings.source_lang.lower(), settings.source_lang),
            "target": OTHER_NAMES.get(settings.target_lang.lower(), settings.target_lang),
            "format": "text",
            **({"api_key": key} if key else {}),
        }

    def translate(self, strings: list[str]) -> list[str]:
        return list_of_texts(self.post(PATH, {"q": strings, **self.fields}).get("translatedText"), strings)

    def problem(self, status: int, headers: dict[str, str], content: bytes) -> Exception:
        words = self.words(content)
        if status == 403 and "key" not in words.lower():  # shut out for a while after too many requests
            return Blocked(f"{self.base_url}: HTTP 403: {words}")
        if status == 400 and "API key" in words:
            return SquadError(f"{self.base_url}: {words}; put it into {KEY_VARIABLE}")
        if status == 400 and ("not supported" in words or "not available" in words):
            return SquadError(f"{self.base_url}: {words}; {self.base_url}/languages lists its languages")
        return super().problem(status, headers, content)
