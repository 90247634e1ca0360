"""json_server.py and connection.py: what each failure becomes, connections that stay, keys that are never shown."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from squadlib.console import SquadError
from squadlib.translation.engines import BadText, Blocked, Hiccup
from squadlib.translation.json_server import JsonServer, base_url_fault, key_from_environment

KEY = "sk-secret"


@contextlib.contextmanager
def serve(*answers, close_after=()):
    """A server that sends these bytes, one for each request; closes the connection behind the numbers close_after."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = {"heads": [], "connections": 0}
    waiting = list(enumerate(answers))

    def read_request(connection, received=b""):
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536) or exit_thread()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536) or exit_thread()
        seen["heads"].append(head)
        return json.loads(body)

    def exit_thread():
        raise ConnectionError

    def run():
        with contextlib.suppress(OSError):
            while waiting:
                connection, _ = listener.accept()
                seen["connections"] += 1
                with contextlib.suppress(ConnectionError), connection:
                    while waiting:
                        read_request(connection)
                        number, answer = waiting.pop(0)
                        connection.sendall(answer)
                        if number in close_after:
                            break

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen["url"] = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    yield seen
    listener.close()


def http(status, content, *headers):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(raw)}", *headers, "", ""]).encode() + raw


def client(seen, timeout=5.0):
    return JsonServer(seen["url"], timeout, {"Authorization": f"Bearer {KEY}"}, key=KEY, key_variable="A_KEY")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http("429 Slow", {"error": {"message": "slow"}}, "Retry-After: 7"), Blocked, "HTTP 429: slow"),
        (http("503 Busy", b"busy"), Blocked, "HTTP 503: busy"),
        (http("500 Oh", {"detail": "oh"}), Hiccup, "HTTP 500: oh"),
        (http("408 Late", {}), Hiccup, "HTTP 408"),
        (http("400 Bad", {"error": "bad language"}), BadText, "HTTP 400: bad language"),
        (http("413 Big", b""), BadText, "HTTP 413: no reason given"),
        (http("422 No", {"detail": [{"loc": ["q"], "msg": "missing"}]}), BadText, "HTTP 422: missing"),
        (http("401 No", {"error": {"message": f"wrong key {KEY}"}}), SquadError, "the key was refused; set A_KEY"),
        (http("403 No", b"no"), SquadError, "the key was refused; set A_KEY"),
        (http("404 No", {"error": {"message": "no model x"}}), SquadError, "no model x; correct --base_url"),
        (http("301 Away", b"", "Location: https://other"), SquadError, "correct --base_url"),
        (http("400 Bad", {"message": f"you sent {KEY} and " + 300 * "x"}), BadText, "you sent … and xxx"),
        (http("200 OK", b"<html>"), Hiccup, "not JSON"),
        (http("200 OK", b'{"a": "\xff"}'), Hiccup, "not JSON"),
        (http("200 OK", b'{"a": "\\ud83d"}'), Hiccup, "not JSON"),
        (http("200 OK", [1]), Hiccup, r"expected a JSON object, found \[1\]"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Hiccup, "not an answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Hiccup, "not an answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", Hiccup, "2 of 50 bytes came"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}", Hiccup, "2 of 5 bytes came"),
    ],
)
def test_what_goes_wrong_has_its_kind_and_the_servers_words_without_the_key(answer, kind, words):
    with serve(answer, close_after=(0,)) as seen, pytest.raises(kind, match=words) as caught:
        client(seen).post("/chat", {"text": "é"})
    assert KEY not in str(caught.value) and len(str(caught.value)) < 300
    assert getattr(caught.value, "wait", None) == (7 if "429" in words else None)


def test_a_server_that_is_not_there_or_says_nothing_is_a_hiccup():
    with serve() as seen:
        pass
    with pytest.raises(Hiccup, match=r"127\.0\.0\.1:\d+/v1: ConnectionRefusedError"):
        client(seen).post("/chat", {})
    with serve(b"", b"") as seen, pytest.raises(Hiccup, match="TimeoutError"):
        client(seen, timeout=0.2).post("/chat", {})


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", {"a": 1}),
        b"HTTP/1.1 100 Continue\r\n\r\n" + http("200 OK", {"a": 1}),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n{"a"\r\n4\r\n: 1}\r\n0\r\nDate: x\r\n\r\n',
    ],
)
def test_a_connection_stays_open_for_the_next_request(answer):
    with serve(answer, answer, answer) as seen:
        server = client(seen)
        assert [server.post("/chat", {}) for _ in range(3)] == [{"a": 1}] * 3
        assert seen["connections"] == 1
        assert seen["heads"][0].startswith(b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("answer", [http("200 OK", {"a": 1}, "Connection: close"), http("200 OK", {"a": 1})])
def test_a_connection_that_was_closed_while_idle_is_opened_again(answer):
    with serve(answer, answer, close_after=(0,)) as seen:
        server = client(seen)
        assert [server.post("/chat", {}) for _ in range(2)] == [{"a": 1}] * 2
        assert seen["connections"] == 2


def test_an_answer_without_a_length_ends_with_the_connection():
    with serve(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}', close_after=(0,)) as seen:
        assert client(seen).post("/chat", {}) == {"a": 1}


def test_half_an_answer_is_not_taken_for_the_next_ones():
    slow = http("200 OK", {"a": 1})
    with serve(slow[:-3], http("200 OK", {"b": 2})) as seen:
        server = client(seen, timeout=0.2)
        with pytest.raises(Hiccup):
            server.post("/chat", {})
        with contextlib.suppress(Hiccup):  # the stand-in serves one connection after the other
            assert server.post("/chat", {}) == {"b": 2}


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:8000/v1", None),
        ("https://api.example.org", None),
        ("http://[::1]:8000", None),
        ("localhost:8000", "is no address"),
        ("ftp://host/", "is no address"),
        ("http://host:99999/", "is no address"),
        ("http://host/v1?key=x", "is no address"),
        ("http://me:secret@host/", "holds a user or password"),
    ],
)
def test_addresses(url, fault):
    found = base_url_fault(url)
    assert found is None if fault is None else fault in found and "secret" not in found


def test_a_key_comes_from_the_environment_and_is_checked(monkeypatch):
    monkeypatch.setenv("A_KEY", " sk-1 \n")
    assert key_from_environment("A_KEY") == "sk-1"
    assert key_from_environment("ABSENT_KEY") is None
    monkeypatch.setenv("A_KEY", "sk-1\r\nX: secret")
    with pytest.raises(SquadError, match="A_KEY holds characters that no key has") as caught:
        key_from_environment("A_KEY")
    assert "secret" not in str(caught.value)
