"""The free web page behind the package mtranslate."""

from __future__ import annotations

import http.client
import re
import socket
import urllib.error

import mtranslate

from squadlib.translation.checks import ERROR_PAGE
from squadlib.translation.engines import BadText, Blocked, Fault, Hiccup, UnknownPage
from squadlib.translation.json_server import retry_after
from squadlib.translation.web import WebSettings

INVISIBLE = re.compile("[\u200b\ufeff]")  # the page scatters zero-width spaces, where no search would find a word


class MtranslateBackend:
    """The page as an engine. A call is one request, the strings its lines."""

    def __init__(self, settings: WebSettings) -> None:
        socket.setdefaulttimeout(settings.timeout)  # the package sets none, so a silent server would hang it for ever
        self.source_lang, self.target_lang = settings.source_lang, settings.target_lang

    def translate(self, strings: list[str]) -> list[str]:
        """As many lines as strings; raises a Fault for everything that the package lets pass or raises itself."""
        try:
            reply = mtranslate.translate("\n".join(strings), self.target_lang, self.source_lang)
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
