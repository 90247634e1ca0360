"""A stand-in for a chat model behind OpenAI's protocol, on loopback: translates as translation_server.py does.

Errors have the forms of real servers: {"error": …} of vLLM and hosted services, {"detail": …} of `transformers serve`.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from translation_server import reverse_words

MODEL, KEY = "tiny-chat", "sk-secret-of-the-tests"


def string_of(body):
    """The string of a request in the words of the built-in prompts, as the cache names it."""
    content = body["messages"][-1]["content"]
    content = content[0]["text"] if isinstance(content, list) else content
    parts = content.split("\n\n")
    return f"{parts[-1]}\n{parts[1]}" if len(parts) == 4 else parts[-1]


class ChatServer(ThreadingHTTPServer):
    """Use as a context manager; `env` is the environment of a process that is to be served.

    needs_key: as a hosted service. targets: translations by text; a text that is not there has its words reversed.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, latency=0.0, fault_rate=0.0, faults=(), seed=0, needs_key=False, targets=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency, self.fault_rate, self.faults, self.needs_key = latency, fault_rate, list(faults), needs_key
        self.targets = targets or {}
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.script = collections.deque()  # names of faults for the next requests; "ok" is none
        self.poison = {}  # text -> the fault of every request that holds it
        self.asked = []  # strings, faults too
        self.answered = collections.Counter()
        self.num_faults = self.num_connections = 0

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that was killed is no news."""

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def env(self):
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": KEY if self.needs_key else ""}

    def choose_fault(self, string):
        """The fault of this request, or None."""
        with self.lock:
            self.asked.append(string)
            fault = next((fault for poison, fault in self.poison.items() if poison in string), None)
            if self.script:
                fault = self.script.popleft()
            elif self.random.random() < self.fault_rate:
                fault = self.random.choice(self.faults)
            fault = None if fault == "ok" else fault
            self.num_faults += fault is not None
            return fault

    def translated(self, string):
        text = string.partition("\n")[0]
        return self.targets.get(text, reverse_words(text))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.num_connections += 1

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self.send(404, {"detail": "Not Found"})
        elif self.server.needs_key and self.headers["Authorization"] != f"Bearer {KEY}":
            self.send(401, {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}})
        elif body["model"] != MODEL:
            self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        else:
            self.answer(body)

    def answer(self, body):
        string = string_of(body)
        fault = self.server.choose_fault(string)
        time.sleep(self.server.latency)
        if fault:
            getattr(self, f"fault_{fault}")(string)
            return
        self.reply(self.server.translated(string))
        with self.server.lock:
            self.server.answered[string] += 1

    def send(self, status, answer, **headers):
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(raw)

    def reply(self, content, finish_reason="stop", **fields):
        self.send(200, completion(content, finish_reason, **fields))

    # --- no answer ---------------------------------------------------------------------------------------------------

    def fault_429(self, string):
        self.send(429, {"error": {"message": "Rate limit reached"}})

    def fault_429_wait_1s(self, string):
        self.send(429, {"error": {"message": "Rate limit reached"}}, Retry_After="1")

    def fault_quota(self, string):
        self.send(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})

    def fault_503(self, string):
        self.send(503, {"error": {"message": "overloaded"}})

    def fault_500(self, string):
        self.send(500, {"detail": "Internal Server Error"})

    def fault_400(self, string):
        self.send(400, {"detail": "the prompt is too long"})

    def fault_422(self, string):
        self.send(422, {"detail": [{"loc": ["body"], "msg": "unexpected field"}]})

    def fault_not_json(self, string):
        self.send(200, b"<html>a proxy</html>")

    def fault_list(self, string):
        self.send(200, [])

    def fault_no_choices(self, string):
        self.send(200, {"object": "chat.completion", "choices": []})

    def fault_hang(self, string):
        time.sleep(3.0)

    def fault_reset(self, string):
        self.close_connection = True

    def fault_short_body(self, string):
        raw = json.dumps(completion(self.server.translated(string))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2])
        self.close_connection = True

    # --- no translation ----------------------------------------------------------------------------------------------

    def fault_empty(self, string):
        self.reply("")

    def fault_null(self, string):
        self.reply(None, "tool_calls")

    def fault_cut(self, string):
        self.reply(self.server.translated(string)[: len(string) // 2], "length")

    def fault_filtered(self, string):
        self.reply("", "content_filter")

    def fault_refusal_field(self, string):
        self.reply(None, refusal="I can't help with that.")

    def fault_refusal(self, string):
        self.reply("I'm sorry, I cannot translate this text.")

    def fault_label(self, string):
        self.reply(f"Translation: {self.server.translated(string)}")

    def fault_preamble(self, string):
        self.reply(f"Here is the translation:\n\n{self.server.translated(string)}")

    def fault_note(self, string):
        self.reply(f"{self.server.translated(string)}\n\nNote: the year stays as it is.")

    def fault_note_behind(self, string):
        self.reply(f"{self.server.translated(string)} (the name of the town stays)")

    def fault_marked_up(self, string):
        self.reply(f"**{self.server.translated(string)}**")

    def fault_thinking(self, string):
        self.reply("<think>The user wants a translation of")

    def fault_babble(self, string):
        self.reply(self.server.translated(string) + " la" * 400)

    def fault_error_text(self, string):
        self.reply("Error 500 (Server Error)!!1500.That’s an error.")

    def fault_echo(self, string):
        """The source; what is no running text cannot be told from a name that stays, and fails in another way."""
        text = string.partition("\n")[0]
        self.reply(text if len(text.split()) > 5 else "")

    # --- unusual, but a translation ----------------------------------------------------------------------------------

    def fault_quoted(self, string):
        self.reply(f' "{self.server.translated(string)}"\n')

    def fault_thought(self, string):
        self.reply(f"<think>It is short.\nSo:</think>\n\n{self.server.translated(string)}")


def completion(content, finish_reason="stop", **fields):
    """A chat completion as vLLM sends it."""
    message = {"role": "assistant", "content": content, **fields}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice],
            "usage": usage}  # fmt: skip


CHAT_FAULTS = [name.removeprefix("fault_") for name in vars(Handler) if name.startswith("fault_")]
HARMLESS = ("quoted", "thought")
