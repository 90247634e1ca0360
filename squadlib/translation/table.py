"""The engines: a line each. A person adds one here, beside its class; CONTRIBUTING.md shows how."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from squadlib.console import SquadError
from squadlib.translation.chat import ChatSettings
from squadlib.translation.deepl import DeepLSettings
from squadlib.translation.engines import Backend, ModelSettings, ServerSettings
from squadlib.translation.libretranslate import LibreTranslateSettings
from squadlib.translation.memory import MemorySettings
from squadlib.translation.web import WebSettings

EngineSettings = ServerSettings | ModelSettings | MemorySettings


class Engine(NamedTuple):
    """An engine of --backend."""

    summary: str  # for --help
    settings: type[EngineSettings]  # whose fields are flags of translate_squad.py, by name
    place: str  # module and class; imported when it is needed, so that nobody else needs its package
    needs: tuple[str, ...] = ()  # flags of its own without which it cannot work
    takes: tuple[str, ...] = ()  # other flags of its own


ENGINES = {
    "mtranslate": Engine("a free web page", WebSettings, "web_page.MtranslateBackend"),
    "openai": Engine(
        "a chat model behind a server that speaks OpenAI's protocol",
        ChatSettings,
        "chat.ChatBackend",
        needs=("model_name_or_path",),
        takes=("base_url", "prompt_file", "request_fields", "answers_alone", "export_requests", "import_responses"),
    ),
    "hf": Engine("a local model", ModelSettings, "transformers_model.HfBackend", ("model_name_or_path",)),
    "ct2": Engine(
        "the same through CTranslate2", ModelSettings, "ctranslate2_model.Ct2Backend", ("model_name_or_path",)
    ),
    "deepl": Engine("DeepL", DeepLSettings, "deepl.DeepLBackend", takes=("base_url",)),
    "libretranslate": Engine(
        "a LibreTranslate server", LibreTranslateSettings, "libretranslate.LibreTranslateBackend", ("base_url",)
    ),
    "memory": Engine("a file", MemorySettings, "memory.MemoryBackend", ("memory_file",)),
}


def load_backend(settings: EngineSettings) -> Backend:
    """The engine. Its packages are imported here, once the flags are right and there is something to translate."""
    module, name = ENGINES[settings.backend].place.split(".")
    try:
        backend: Backend = getattr(import_module(f"squadlib.translation.{module}"), name)(settings)
    except ImportError as error:
        missing = "sentencepiece" if "sentencepiece" in str(error).lower() else error.name or "transformers torch"
        subject = getattr(settings, "model_name_or_path", f"--backend {settings.backend}")
        raise SquadError(f"{subject}: loading it needs another package: pip install {missing}") from error
    return backend


def own_flag_faults(backend: str, given: set[str]) -> list[str]:
    """What is wrong with flags that only some engines have: missing, or for another engine."""
    engine, faults = ENGINES[backend], []
    faults += [f"--backend {backend} needs --{flag}" for flag in engine.needs if flag not in given]
    for flag in sorted(given):
        takers = [name for name, other in ENGINES.items() if flag in other.needs + other.takes]
        if takers and backend not in takers:
            faults.append(f"--{flag} is for --backend {' or '.join(takers)}, not {backend}")
    return faults
