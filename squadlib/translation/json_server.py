"""JSON over HTTP for the engines that are servers: lasting connections, and what each failure means."""

from __future__ import annotations

import email.utils
import json
import os
import ssl
import threading
import time
import urllib.parse
from typing import Any

from squadlib.console import SquadError
from squadlib.files import JsonObject, parse_json
from squadlib.translation.connection import Connection, Response
from squadlib.translation.engines import BadText, Blocked, Hiccup

MAX_WORDS = 200  # characters of what a server says that are shown


class JsonServer:
    """POST requests to paths below base_url. Each thread keeps a connection of its own.

    key: in headers or bodies; it is never shown, not even in the server's own words. key_variable: the environment
    variable that it came from, for a message.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float,
        headers: dict[str, str] | None = None,
        *,
        key: str | None = None,
        key_variable: str = "the key",
    ) -> None:
        self.base_url, self.timeout, self.key_variable = base_url.rstrip("/"), timeout, key_variable
        url = urllib.parse.urlsplit(self.base_url)
        self._url = url
        self._key = key
        lines = {
            "Host": url.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json",
            **(headers or {}),
        }
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._context = ssl.create_default_context() if url.scheme == "https" else None
        self._local = threading.local()

    def post(self, path: str, body: JsonObject) -> JsonObject:
        """The JSON object that the server answers; raises a Fault, or SquadError where asking again is no use."""
        raw = json.dumps(body).encode()
        try:
            status, headers, content = self._exchange(path, raw)
        except ssl.SSLCertVerificationError as error:
            raise SquadError(f"{self.base_url}: its certificate is not valid ({error.verify_message})") from error
        except OSError as error:
            raise Hiccup(f"{self.base_url}: {type(error).__name__}: {str(error)[:MAX_WORDS]}") from error
        if status != 200:
            raise self.problem(status, headers, content)
        try:
            answer = parse_json(content.decode(), self.base_url)
        except (ValueError, SquadError) as error:
            raise Hiccup(f"{self.base_url}: an answer that is not JSON: {self._shorten(repr(content[:80]))}") from error
        if not isinstance(answer, dict):
            raise Hiccup(f"{self.base_url}: expected a JSON object, found {self._shorten(repr(answer))}")
        return answer

    def problem(self, status: int, headers: dict[str, str], content: bytes) -> Exception:
        """What an answer without success means; an engine whose server has a code of its own overrides this.

        headers: by lower-case name.
        """
        reason = f"{self.base_url}: HTTP {status}: {self.words(content)}"
        if status in (401, 403):  # without the server's words: some repeat the key
            return SquadError(f"{self.base_url}: HTTP {status}: the key was refused; set {self.key_variable}")
        if status in (429, 503):
            return Blocked(reason, wait=retry_after(headers.get("retry-after")))
        if status in (400, 413, 422):
            return BadText(reason)
        if status >= 500 or status in (408, 409, 425):
            return Hiccup(reason)
        return SquadError(f"{reason}; correct --base_url or the model's name")

    def words(self, content: bytes) -> str:
        """What the server says about its error, on one short line, without the key."""
        text: Any = content.decode("utf-8", "replace")
        try:
            text = json.loads(text)
            while isinstance(text, (dict, list)):  # {"error": {"message": …}}, {"detail": [{"msg": …}]}
                names = ("error", "message", "detail", "msg")
                text = text[0] if isinstance(text, list) else next(text[name] for name in names if text.get(name))
        except (ValueError, RecursionError, LookupError, StopIteration):
            pass
        return self._shorten(str(text))

    def _shorten(self, text: str) -> str:
        if self._key:
            text = text.replace(self._key, "…")
        return " ".join(text.split())[:MAX_WORDS] or "no reason given"

    def _exchange(self, path: str, raw: bytes) -> Response:
        """What the server answers. A connection that it closed while it lay idle is opened again, once."""
        head = f"POST {self._url.path}{path} HTTP/1.1\r\n{self._headers}".encode()
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection and connection.is_open:
            try:
                return connection.post(head, raw)
            except ConnectionError:
                pass
        self._local.connection = connection = Connection(self._url, self.timeout, self._context)
        return connection.post(head, raw)


def list_of_texts(texts: Any, strings: list[str]) -> list[str]:
    """The texts of an answer, a line each; raises a Fault unless there is one for each of the strings."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Hiccup("an answer without a list of texts")
    if len(texts) != len(strings):
        raise BadText(f"{len(texts)} texts came back for {len(strings)}")
    return [" ".join(text.split()) for text in texts]


def key_from_environment(variable: str) -> str | None:
    """The key of a service; None where there is none. A key never stands in a flag, where other users see it."""
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SquadError(f"{variable} holds characters that no key has; copy the key again")
    return key or None


def base_url_fault(base_url: str) -> str | None:
    """Why `base_url` is no address of a server; None when it can be one. Does not repeat a password."""
    try:
        url = urllib.parse.urlsplit(base_url)
        port = url.port
    except ValueError as error:
        return f"is no address ({error})"
    if url.username or url.password:
        return "holds a user or password; keys go into the environment"
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or url.query or url.fragment:
        return "is no address like http://127.0.0.1:8000/v1"
    return None


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
