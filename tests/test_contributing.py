"""The engine that CONTRIBUTING.md adds as an example works as it stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from translation_server import reverse_words
from translations import FAST, assert_all_right, small_document, write

from squadlib.translation.table import ENGINES, Engine
from translate_squad import main

MODULE, LINE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        targets = [reverse_words(text) for text in body["texts"]]
        if len(self.server.requests) == 2:  # after the control sentences
            targets.pop()
        raw = json.dumps({"translations": targets}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The module and the line of the page, as if they stood where it says."""
    name = "squadlib.translation.example"
    (tmp_path / "example.py").write_text(MODULE, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(name, tmp_path / "example.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, module)
    specification.loader.exec_module(module)
    lines = eval("{" + LINE + "}", {"Engine": Engine, "ExampleSettings": module.ExampleSettings})
    monkeypatch.setitem(ENGINES, "example", lines["example"])


def test_the_worked_example_is_an_engine(example, tmp_path, monkeypatch):
    monkeypatch.setenv("EXAMPLE_KEY", "secret-1")
    source, output = write(tmp_path / "source.json", small_document()), tmp_path / "nl.json"
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    args = ["--input_file", str(source), "--output_file", str(output), *map(str, FAST), "--backend", "example"]
    try:
        assert main([*args, "--base_url", address]) == 0
    finally:
        server.shutdown()
        server.server_close()
    translated = json.loads(output.read_text("utf-8"))
    assert assert_all_right(translated) == 13 and translated["translation"]["backend"] == "example"
    assert {(path, key) for path, key, _ in server.requests} == {("/translate", "Bearer secret-1")}
    assert len(server.requests) < 8  # two paragraphs, one of them in halves


def test_its_own_flags_are_checked(example, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--input_file", "x.json", "--output_file", "y.json", "--backend", "example"])
    assert end.value.code == 2 and "--backend example needs --base_url" in capsys.readouterr().err


def test_the_example_is_short():
    lines = [line for line in MODULE.splitlines() if line.strip()]
    assert len(lines) <= 35
