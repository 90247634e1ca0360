"""Chat models behind a server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, SGLang, hosted services."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from squadlib.console import SquadError, duration
from squadlib.files import JsonObject, read_json
from squadlib.translation.checks import reply_fault
from squadlib.translation.context import text_of
from squadlib.translation.engines import BadText, Hiccup, ServerSettings
from squadlib.translation.json_server import JsonServer, base_url_fault, key_from_environment
from squadlib.translation.pace import StillBlockedError

PATH = "/chat/completions"  # below base_url
PROMPTS = {  # what --prompt_file replaces
    "text": [
        {
            "role": "user",
            "content": "Translate this text from {source_language} into {target_language}. It may be a sentence, a "
            "question or a name; do not answer a question, translate it. Reply with the translation alone, on one "
            "line.\n\n{text}",
        }
    ],
    "answer": [
        {
            "role": "user",
            "content": "A sentence in {source_language} and its translation into {target_language}:\n\n{sentence}\n"
            "{sentence_t}\n\nIn the same way, translate this part of the sentence, with the words that stand for it in "
            "the translation. Reply with them alone, on one line.\n\n{text}",
        }
    ],
}
COMMON = ("text", "source_language", "target_language", "source_code", "target_code")
PLACEHOLDERS = {"text": COMMON, "answer": (*COMMON, "sentence", "sentence_t")}  # of each prompt
PLACEHOLDER = re.compile(r"\{(\w+)\}")
LANGUAGES = dict(
    pair.split("=")
    for pair in "ar=Arabic bg=Bulgarian bn=Bengali ca=Catalan cs=Czech da=Danish de=German el=Greek en=English "
    "es=Spanish et=Estonian eu=Basque fa=Persian fi=Finnish fr=French fy=Frisian ga=Irish gl=Galician he=Hebrew "
    "hi=Hindi hr=Croatian hu=Hungarian id=Indonesian is=Icelandic it=Italian ja=Japanese ko=Korean lt=Lithuanian "
    "lv=Latvian ms=Malay nb=Norwegian nl=Dutch no=Norwegian pl=Polish pt=Portuguese ro=Romanian ru=Russian sk=Slovak "
    "sl=Slovenian sq=Albanian sr=Serbian sv=Swedish sw=Swahili ta=Tamil te=Telugu th=Thai tr=Turkish uk=Ukrainian "
    "ur=Urdu vi=Vietnamese zh=Chinese".split()
)
CUT = {"length": "cut off by the limit of tokens", "content_filter": "held back by a content filter"}
THINKING = re.compile(r"^(?:\s*<think>)?.*</think>", re.DOTALL)  # some templates open the block in the prompt
QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "「": "」"}


@dataclass(frozen=True, kw_only=True)
class ChatSettings(ServerSettings):
    """Which model, where, and how it is asked."""

    model_name_or_path: str  # its name at the server
    base_url: str | None = None  # None: OPENAI_BASE_URL
    prompt_file: str | None = None
    request_fields: str | None = None  # a JSON file: fields of the body beside ours, null takes one of ours away
    answers_alone: bool = False
    rate: float = 1000.0  # as good as none: the workers are the limit
    workers: int = 16
    timeout: float = 120.0

    backend: ClassVar[str] = "openai"
    max_strings: ClassVar[float] = 1

    @property
    def name(self) -> str:
        wording = json.dumps([self.prompts, self.fields], sort_keys=True)
        return f"openai {self.model_name_or_path} {hashlib.sha256(wording.encode()).hexdigest()[:12]}"

    @property
    def answers_in_context(self) -> bool:
        return not self.answers_alone and "answer" in self.prompts

    @functools.cached_property
    def prompts(self) -> dict[str, list[JsonObject]]:
        return read_prompts(self.prompt_file) if self.prompt_file else PROMPTS

    @functools.cached_property
    def fields(self) -> JsonObject:
        fields = read_json(self.request_fields) if self.request_fields else {}
        if not isinstance(fields, dict) or {"model", "messages", "stream"} & fields.keys():
            expected = "a JSON object of fields other than model, messages and stream"
            raise SquadError(f"{self.request_fields}: expected {expected}")
        return fields

    @functools.cached_property
    def words(self) -> dict[str, str]:
        """What the placeholders of languages stand for."""
        codes = {"source": self.source_lang, "target": self.target_lang}
        return {f"{end}_code": code for end, code in codes.items()} | {
            f"{end}_language": language_name(code) for end, code in codes.items()
        }

    def amounts(self, strings: list[str]) -> dict[str, int]:
        """Tokens, at four characters each; what a model thinks before it answers is not counted."""
        read = sum(len(json.dumps(self.body(string)["messages"])) for string in strings)
        return {"tokens to read": read // 4, "tokens to write": sum(len(text_of(string)) for string in strings) // 4}

    def expected_time(self, num_requests: int) -> str:
        seconds = num_requests / min(self.workers, self.rate)
        return f"{duration(seconds)} with {self.workers} workers, if a request takes 1 second"

    def body(self, string: str) -> JsonObject:
        """The request for a string, or for an answer in its sentence."""
        values = dict(zip(("text", "sentence", "sentence_t"), string.split("\n"), strict=False)) | self.words
        prompt = self.prompts["answer" if "sentence" in values else "text"]
        body = {
            "model": self.model_name_or_path,
            "messages": _filled(prompt, values),
            "temperature": 0,
            "stream": False,
            "max_tokens": 128 + 3 * len(values["text"]),  # three a character: an alphabet that the model hardly knows
        }
        return {name: value for name, value in (body | self.fields).items() if value is not None}


class ChatBackend:
    """A call is one request with one string."""

    def __init__(self, settings: ChatSettings) -> None:
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL", "")
        if not base_url:
            raise SquadError("--backend openai needs --base_url or OPENAI_BASE_URL, such as http://127.0.0.1:8000/v1")
        if fault := base_url_fault(base_url):
            raise SquadError(f"the address in OPENAI_BASE_URL {fault}")
        key = key_from_environment("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.settings = settings
        self.server = ChatServer(base_url, settings.timeout, headers, key=key, key_variable="OPENAI_API_KEY")

    def translate(self, strings: list[str]) -> list[str]:
        """One string in, one out."""
        return [read_reply(self.server.post(PATH, self.settings.body(string)), string) for string in strings]


class ChatServer(JsonServer):
    """Tells a used-up quota, which no waiting mends, from a server that wants fewer requests."""

    def problem(self, status: int, headers: dict[str, str], content: bytes) -> Exception:
        if status == 429 and b"insufficient_quota" in content:
            return StillBlockedError(
                f"{self.base_url}: {self.words(content)}; the same command goes on when it is paid"
            )
        return super().problem(status, headers, content)


def read_reply(answer: JsonObject, string: str) -> str:
    """The translation in a chat completion.

    Taken away is what cannot belong to it: a block of thinking before it, quotation marks around all of it. Raises
    Hiccup where there is no text, BadText where it is no translation or not that alone.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content") or "", message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Hiccup("an answer without choices and a message") from error
    if not isinstance(content, str):
        raise Hiccup(f"the message is no text, but {type(content).__name__}")
    if reason := CUT.get(str(choice.get("finish_reason"))):
        raise BadText(reason)
    if refusal:
        raise BadText(f'refused: "{str(refusal)[:60]}"')
    text, _, context = string.partition("\n")
    reply = _without_quotes(THINKING.sub("", content, count=1).strip(), text)
    if fault := reply_fault(text, reply, context.rpartition("\n")[2]):
        raise BadText(fault)
    return " ".join(reply.split())


def _without_quotes(reply: str, text: str) -> str:
    """The reply without a pair of marks around all of it that the text does not have."""
    inside = reply[1:-1]
    paired = len(reply) > 2 and QUOTES.get(reply[0]) == reply[-1] and not {reply[0], reply[-1]} & set(inside)
    return inside.strip() if paired and text[:1] not in QUOTES else reply


def language_name(code: str) -> str:
    """For a prompt: "Dutch", "Chinese (zh-TW)", or the code of a language whose name is not known here."""
    name = LANGUAGES.get(code.partition("-")[0].lower(), code)
    return name if name == code or "-" not in code else f"{name} ({code})"


def read_prompts(path: str) -> dict[str, list[JsonObject]]:
    """Prompts from a JSON file like PROMPTS, checked; "answer" may be missing: then answers are asked alone."""
    prompts = read_json(path)
    if not isinstance(prompts, dict) or "text" not in prompts or prompts.keys() - PLACEHOLDERS.keys():
        raise SquadError(f'{path}: expected {{"text": [messages], "answer": [messages]}}, the second one if you like')
    for name, messages in prompts.items():
        if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
            raise SquadError(f'{path}: "{name}" should be a list of messages {{"role": "user", "content": "…"}}')
        used = set(PLACEHOLDER.findall(json.dumps(messages)))
        known = "{" + "}, {".join(PLACEHOLDERS[name]) + "}"
        if wrong := sorted(used - set(PLACEHOLDERS[name])):
            raise SquadError(f'{path}: {{{wrong[0]}}} is no placeholder of "{name}"; these are: {known}')
        if "text" not in used:
            raise SquadError(f'{path}: "{name}" has no {{text}}, the place of what is to be translated')
    return prompts


def _filled(template: Any, values: dict[str, str]) -> Any:
    """The template with its placeholders replaced, wherever text stands in it; what they bring is not looked at."""
    if isinstance(template, str):
        return PLACEHOLDER.sub(lambda found: values[found[1]], template)
    if isinstance(template, dict):
        return {name: _filled(value, values) for name, value in template.items()}
    return [_filled(value, values) for value in template] if isinstance(template, list) else template
