"""What DeepL's own client makes of a server. Runs where the package deepl is installed; prints one JSON object.

DEEPL_AUTH_KEY=… python benchmarks/servers/deepl_client.py URL '{"texts": […], "failing": {name: text}}'
"""

import json
import os
import sys

import deepl
import deepl.http_client

deepl.http_client.max_network_retries = 0  # a failure at once
OPTIONS = {"source_lang": "EN", "split_sentences": "0", "preserve_formatting": True}


def outcome(key: str, url: str, texts: list[str], target_lang: str = "NL") -> list[str]:
    """The translations, or the client's name for what went wrong."""
    try:
        results = deepl.DeepLClient(key, server_url=url).translate_text(texts, target_lang=target_lang, **OPTIONS)
    except deepl.DeepLException as error:
        return [type(error).__name__, str(error.http_status_code)]
    return [result.text for result in results]


url, asked = sys.argv[1], json.loads(sys.argv[2])
key = os.environ["DEEPL_AUTH_KEY"]
found = {
    "version": deepl.__version__,
    "translations": outcome(key, url, asked["texts"]),
    "failures": {name: outcome(key, url, [text]) for name, text in asked["failing"].items()},
    "wrong key": outcome("wrong", url, asked["texts"]),
    "wrong language": outcome(key, url, asked["texts"], "TLH"),
    "51 texts": outcome(key, url, ["a"] * 51),
    "too large": outcome(key, url, ["a" * 132_000]),
    "regions": [outcome(key, url, asked["texts"], code) for code in ("EN", "PT")],
    "addresses": [deepl.DeepLClient(name).server_url for name in ("abc:fx", "abc")],
}
print(json.dumps(found))
