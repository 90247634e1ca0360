"""Stand-ins for translation servers on loopback: the page behind mtranslate (the real package reaches it through
`http_proxy`) and the protocols of OpenAI, DeepL and LibreTranslate (reached through --base_url).

All translate by spelling every word backwards, so a test can compute what is right. They refuse bad requests as the
real ones do (tests/real_servers.py compares) and fail in every way that was seen on one: by chance (`fault_rate`), as
told (`script`), or always for a text (`poison`). They count what they answer.
"""

from __future__ import annotations

import collections
import contextlib
import html
import json
import random
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "tiny-chat"  # of the chat server
KEY = "key-that-nobody-may-see-7f3a9"  # every refusal quotes it, so a test finds where it leaks
PAGE = '<html><body><div class="t0-other">x</div><div class="result-container">{}</div><div>Google</div></body></html>'
CAPTCHA = "<html><body>Our systems have detected unusual traffic.<div id='recaptcha'></div></body></html>"
ERROR_TEXT = "Error 500 (Server Error)!!1500.That’s an error.There was an error. Please try again later."


def reverse_words(text):
    """The stand-in's translation: words of two letters and more backwards, everything else kept."""
    return re.sub(r"[^\W\d_]{2,}", lambda word: word.group()[::-1], text)


def right(texts):
    return [reverse_words(text) for text in texts]


# ---------------------------------------------------------------------------------------------------------------------
# Wrong answers in a right envelope: the texts asked -> the texts that come back
# ---------------------------------------------------------------------------------------------------------------------


def empty(texts):
    return [""] * len(texts)


def error_text(texts):
    return [ERROR_TEXT]


def error_line(texts):
    return [ERROR_TEXT, *right(texts[1:])]


def merged_lines(texts):
    return [" ".join(right(texts[:2])), *right(texts[2:])]


def extra_line(texts):
    return ["Vertaling:", *right(texts)]


def swapped_lines(texts):
    """Two neighbours in each other's place that hold different figures; nothing where there are none."""
    figures = [re.findall(r"\d+", text) for text in texts]
    places = [place for place in range(len(texts) - 1) if figures[place] != figures[place + 1]]
    if not places:
        return []
    first, answer = random.Random("".join(texts)).choice(places), right(texts)
    answer[first : first + 2] = answer[first + 1], answer[first]
    return answer


def echo(texts):
    return texts


def echo_of_prose(texts):
    """What is no running text cannot be told from a name that stays, and fails in another way."""
    return [text if len(text.split()) > 5 else "" for text in texts]


def with_source(texts):
    return [f"{text} {reverse_words(text)}" for text in texts]


def nonsense(texts):
    return [f"Ut enim ad minim veniam {len(text)}." for text in texts]


def babble(texts):
    return [text + " la" * 200 for text in right(texts)]


WRONG_ANSWERS = {
    function.__name__: function
    for function in (
        empty, error_text, error_line, merged_lines, extra_line, swapped_lines, echo, with_source, nonsense, babble,
    )
}  # fmt: skip
OF_ONE_TEXT = {name: WRONG_ANSWERS[name] for name in WRONG_ANSWERS if not name.endswith(("_line", "_lines"))}
OF_ONE_TEXT |= {"echo": echo_of_prose, "extra_line": extra_line}


# ---------------------------------------------------------------------------------------------------------------------
# The server, and what its protocols share
# ---------------------------------------------------------------------------------------------------------------------


class TranslationServer(ThreadingHTTPServer):
    """Use as a context manager; `env` and `flags` are what a process needs that is to be served."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        protocol="page",
        latency=0.0,
        fault_rate=0.0,
        faults=(),
        seed=0,
        keeps_lines=True,
        key=KEY,
        limit=None,
        targets=None,
    ):
        super().__init__(("127.0.0.1", 0), PROTOCOLS[protocol])
        self.protocol, self.latency, self.keeps_lines = protocol, latency, keeps_lines
        self.key = key  # None: needs none
        self.limit = limit  # texts a request, where the protocol has no limit of its own
        self.fault_rate, self.faults = fault_rate, list(faults)
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.script = collections.deque()  # names of faults for the next requests; "ok" is none
        self.always = None  # the fault of every request
        self.poison = {}  # text -> the fault of every request that holds it
        self.once = {}  # text -> the fault of the first request that holds it
        self.queries = []  # texts of every request, faults too
        self.received = []  # (path, headers, JSON) of every POST, bad ones too
        self.refused = collections.Counter()  # bad requests, by status
        self.answered = collections.Counter()  # texts of the requests answered well
        self.targets = targets or {}  # of texts that have another translation than their words backwards
        self.num_faults = self.num_connections = 0

    @property
    def asked(self):
        """The texts of all requests, faults too."""
        return [text for texts in self.queries for text in texts]

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def env(self):
        """What a process that is to be served needs in its environment."""
        return self.RequestHandlerClass.env(self)

    @property
    def flags(self):
        """What translate_squad.py needs on its command line."""
        return self.RequestHandlerClass.flags(self)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def choose_fault(self, texts):
        """The fault of this request, or None."""
        with self.lock:
            self.queries.append(texts)
            fault = next((fault for poison, fault in self.poison.items() if any(poison in t for t in texts)), None)
            if first := next((part for part in self.once if any(part in text for text in texts)), None):
                fault = self.once.pop(first)
            elif self.script:
                fault = self.script.popleft()
            elif self.faults and self.random.random() < self.fault_rate:
                fault = self.random.choice(self.faults)
            fault = self.always or fault
            if fault in (None, "ok"):
                return None
            self.num_faults += 1
            return fault

    def handle_error(self, request, client_address):
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    """A protocol reads the texts of a request and writes an answer; faults of the server and the line are here."""

    protocol_version = "HTTP/1.1"
    wrong_answers = WRONG_ANSWERS
    wbufsize = -1  # head and body in one packet: in two, a line that is kept open waits 40 ms for the second
    hang_seconds = 3.0

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.num_connections += 1

    def respond(self, strings):
        """Translate, or fail as told. A string's first line is its text; an answer in its sentence has more."""
        fault = self.server.choose_fault(strings)
        time.sleep(self.server.latency)
        texts = [string.partition("\n")[0] for string in strings]
        if fault is None:
            self.answer([self.server.targets.get(text, reverse_words(text)) for text in texts])
            with self.server.lock:
                self.server.answered.update(strings)
        elif fault in self.wrong_answers:
            wrong = self.wrong_answers[fault](texts)
            self.answer(wrong) if wrong else self.refuse(500, "broken")
        else:
            getattr(self, f"fault_{fault}")(texts)

    def send(self, status, body, **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def fault_429(self, texts):
        self.refuse(429, "Too many requests")

    def fault_429_wait_1s(self, texts):
        self.refuse(429, "Too many requests", Retry_After="1")

    def fault_429_wait_1h(self, texts):
        self.refuse(429, "Too many requests", Retry_After="3600")

    def fault_503(self, texts):
        self.refuse(503, "busy")

    def fault_500(self, texts):
        self.refuse(500, "broken")

    def fault_400(self, texts):
        self.refuse(400, "too long")

    def fault_captcha(self, texts):
        self.send(200, CAPTCHA)

    def fault_hang(self, texts):
        time.sleep(self.hang_seconds)
        self.close_connection = True

    def fault_drip(self, texts):
        """A byte now and then, so that no time-out of the socket ever fires."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)

    def fault_reset(self, texts):
        self.close_connection = True

    def fault_short_body(self, texts):
        self.close_connection = True
        body = self.envelope(right(texts)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])

    def fault_bad_utf8(self, texts):
        self.send(200, self.envelope(["cafXX"] * len(texts)).encode().replace(b"XX", b"\xe9"))

    def answer(self, texts):
        self.send(200, self.envelope(texts), Content_Type=self.content_type)

    def refuse(self, status, message, **headers):
        """An answer that says what is wrong."""
        raise NotImplementedError

    def envelope(self, texts):
        """The body of a good answer."""
        raise NotImplementedError


# ---------------------------------------------------------------------------------------------------------------------
# The protocols
# ---------------------------------------------------------------------------------------------------------------------


class Page(Handler):
    """The free page: a GET through a proxy, the texts its lines."""

    protocol_version = "HTTP/1.0"
    content_type = "text/html"

    @staticmethod
    def env(server):
        return {"http_proxy": server.address, "HTTP_PROXY": server.address, "no_proxy": "", "NO_PROXY": ""}

    @staticmethod
    def flags(server):
        return []

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/sorry/"):
            self.send(429, CAPTCHA)
            return
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        assert url.netloc == "translate.google.com" and query["sl"] and query["tl"], self.path
        self.respond(query["q"][0].split("\n"))

    def envelope(self, texts):
        return PAGE.format(html.escape(("\n" if self.server.keeps_lines else " ").join(texts)))

    def refuse(self, status, message, **headers):
        self.send(status, CAPTCHA if status == 429 else message, **headers)

    def fault_sorry(self, texts):
        self.send(302, "", Location="http://www.google.com/sorry/index?continue=x")

    def fault_br(self, texts):
        self.send(200, self.envelope(right(texts)).replace("\n", "<br>"))

    def fault_tag_inside(self, texts):
        answer = html.escape("\n".join(right(texts)))
        middle = answer.find(" ", len(answer) * 3 // 4)
        self.send(200, PAGE.format(answer[:middle] + "<b>" + answer[middle:] + "</b>"))


class JsonHandler(Handler):
    """A POST of JSON; a protocol says in `refusal` which requests it does not take."""

    content_type = "application/json"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        self.server.received.append((self.path, dict(self.headers), request))
        refusal = self.refusal(request, body)
        if refusal:
            with self.server.lock:
                self.server.refused[refusal[0]] += 1
            self.refuse(*refusal)
        else:
            self.request_json = request
            self.respond(self.texts_of(request))

    def refuse(self, status, message, **headers):
        body = self.error_body(f"{message} [{self.server.key}]" if self.server.key else message)
        self.send(status, json.dumps(body), Content_Type=self.content_type, **headers)

    def fault_no_json(self, texts):
        self.send(200, "upstream timed out", Content_Type="text/plain")

    def fault_other_json(self, texts):
        self.send(200, '{"status": "ok"}', Content_Type=self.content_type)

    def fault_null_text(self, texts):
        self.send(200, self.envelope([None, *right(texts[1:])]), Content_Type=self.content_type)


def string_of(body):
    """The string of a chat request in the words of the built-in prompts, as the cache names it."""
    content = body["messages"][-1]["content"]
    content = content[0]["text"] if isinstance(content, list) else content
    parts = content.split("\n\n")
    return f"{parts[-1]}\n{parts[1]}" if len(parts) == 4 else parts[-1]


def completion(content, finish_reason="stop", **fields):
    """A chat completion as vLLM sends it."""
    message = {"role": "assistant", "content": content, **fields}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    names = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return {**names, "choices": [choice], "usage": usage}


class OpenAI(JsonHandler):
    """Chat completions, a text a request. Errors are {"error": …} as of vLLM and hosted services, or {"detail": …}."""

    wrong_answers = OF_ONE_TEXT

    @staticmethod
    def env(server):
        return {"OPENAI_BASE_URL": f"{server.address}/v1", "OPENAI_API_KEY": server.key or ""}

    @staticmethod
    def flags(server):
        return ["--backend", "openai", "--model_name_or_path", MODEL, "--answers_alone"]  # so a string is a text

    def refusal(self, request, body):
        if self.path != "/v1/chat/completions":
            return 404, "Not Found"
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return 401, "Incorrect API key provided"
        if not isinstance(request, dict) or not isinstance(request.get("messages"), list) or not request["messages"]:
            return 400, "'messages' must be a list"
        if request.get("model") != MODEL:
            return 404, f"The model `{request.get('model')}` does not exist"
        return None

    def texts_of(self, request):
        return [string_of(request)]

    def envelope(self, texts):
        return json.dumps(completion("\n".join(texts) if all(isinstance(text, str) for text in texts) else None))

    def error_body(self, message):
        return {"error": {"message": message, "type": "invalid_request_error", "code": None}}

    def reply(self, content, finish_reason="stop", **fields):
        self.send(200, json.dumps(completion(content, finish_reason, **fields)), Content_Type=self.content_type)

    def fault_quota(self, texts):
        error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
        self.send(429, json.dumps({"error": error}), Content_Type=self.content_type)

    def fault_422(self, texts):
        body = {"detail": [{"loc": ["body"], "msg": "unexpected field"}]}
        self.send(422, json.dumps(body), Content_Type=self.content_type)

    def fault_list(self, texts):
        self.send(200, "[]", Content_Type=self.content_type)

    def fault_no_choices(self, texts):
        body = {"object": "chat.completion", "choices": []}
        self.send(200, json.dumps(body), Content_Type=self.content_type)

    def fault_cut(self, texts):
        self.reply(right(texts)[0][: len(texts[0]) // 2], "length")

    def fault_filtered(self, texts):
        self.reply("", "content_filter")

    def fault_refusal_field(self, texts):
        self.reply(None, refusal="I can't help with that.")

    def fault_refusal(self, texts):
        self.reply("I'm sorry, I cannot translate this text.")

    def fault_label(self, texts):
        self.reply(f"Translation: {right(texts)[0]}")

    def fault_preamble(self, texts):
        self.reply(f"Here is the translation:\n\n{right(texts)[0]}")

    def fault_note(self, texts):
        self.reply(f"{right(texts)[0]}\n\nNote: the year stays as it is.")

    def fault_note_behind(self, texts):
        self.reply(f"{right(texts)[0]} (the name of the town stays)")

    def fault_marked_up(self, texts):
        self.reply(f"**{right(texts)[0]}**")

    def fault_thinking(self, texts):
        self.reply("<think>The user wants a translation of")

    def fault_quoted(self, texts):
        """Unusual, but a translation."""
        self.reply(f' "{right(texts)[0]}"\n')

    def fault_thought(self, texts):
        """Unusual, but a translation."""
        self.reply(f"<think>It is short.\nSo:</think>\n\n{right(texts)[0]}")


class DeepL(JsonHandler):
    """DeepL's protocol; tests/real_servers.py shows that its own client takes this for DeepL."""

    MOST_TEXTS, MOST_BYTES = 50, 128 * 1024
    SOURCES = "EN DE ES FR NL PT ZH".split()
    TARGETS = "DE ES FR NL EN-GB EN-US PT-BR PT-PT ZH ZH-HANS ZH-HANT".split()  # EN and PT need a region

    @staticmethod
    def env(server):
        return {"DEEPL_AUTH_KEY": server.key}

    @staticmethod
    def flags(server):
        return ["--backend", "deepl", "--base_url", server.address]

    def do_GET(self):
        """What the client asks beside translations."""
        usage = {"character_count": 1, "character_limit": 500_000}
        self.send(200, json.dumps(usage), Content_Type=self.content_type)

    def refusal(self, request, body):
        key = self.headers.get("Authorization")
        texts = request.get("text") if isinstance(request, dict) else None
        if self.path != "/v2/translate":
            return 404, "Not found"
        if key != f"DeepL-Auth-Key {self.server.key}":
            return 403, "Forbidden"
        if len(body) > self.MOST_BYTES:
            return 413, "Request Entity Too Large"
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return 400, "Bad request. Reason: parameter 'text' must be a list of strings"
        if not 1 <= len(texts) <= self.MOST_TEXTS:
            return 400, f"Bad request. Reason: {len(texts)} texts"
        if request.get("target_lang", "").upper() not in self.TARGETS:
            return 400, "Value for 'target_lang' not supported."
        if request.get("source_lang", "EN").upper() not in self.SOURCES:
            return 400, "Value for 'source_lang' not supported."
        return None

    def texts_of(self, request):
        return request["text"]

    def envelope(self, texts):
        billed = {"billed_characters": 1} if self.request_json.get("show_billed_characters") else {}
        source = {"detected_source_language": self.request_json.get("source_lang", "EN")}
        return json.dumps({"translations": [{**source, "text": text, **billed} for text in texts]})

    def error_body(self, message):
        return {"message": message}

    def fault_456(self, texts):
        self.refuse(456, "Quota Exceeded")

    def fault_403(self, texts):
        self.refuse(403, "Forbidden")


class LibreTranslate(JsonHandler):
    """LibreTranslate's protocol, as version 1.9 answers."""

    LANGUAGES = "en es nl de fr".split()

    @staticmethod
    def env(server):
        return {"LIBRETRANSLATE_API_KEY": server.key} if server.key else {}

    @staticmethod
    def flags(server):
        return ["--backend", "libretranslate", "--base_url", server.address]

    def refusal(self, request, body):
        if self.path != "/translate":
            return 404, "Not Found"
        if request is None:
            return 400, "The browser (or proxy) sent a request that this server could not understand."
        if not isinstance(request, dict):
            return 400, "Invalid JSON format"
        key, texts = request.get("api_key"), request.get("q")
        if self.server.key and not key:
            return 400, "Please contact the server operator to get an API key"
        if self.server.key and key != self.server.key:
            return 403, "Invalid API key"
        for name in ("q", "source", "target"):
            if not request.get(name):
                return 400, f"Invalid request: missing {name} parameter"
        if isinstance(texts, list) and self.server.limit and len(texts) > self.server.limit:
            return 400, f"Invalid request: request ({len(texts)}) exceeds text limit ({self.server.limit})"
        for name in ("source", "target"):
            if request[name] not in self.LANGUAGES:
                return 400, f"{request[name]} is not supported"
        return None

    def texts_of(self, request):
        return request["q"] if isinstance(request["q"], list) else [request["q"]]

    def envelope(self, texts):
        texts = [text and html.unescape(text) for text in texts]  # as it does in text mode
        return json.dumps({"translatedText": texts if isinstance(self.request_json["q"], list) else texts[0]})

    def error_body(self, message):
        return {"error": message}

    def fault_403(self, texts):
        self.refuse(403, "Too many request limits violations")


PROTOCOLS = {"page": Page, "openai": OpenAI, "deepl": DeepL, "libretranslate": LibreTranslate}


def faults_of(protocol):
    """Names of everything that can go wrong with a server of that protocol."""
    methods = [name for kind in PROTOCOLS[protocol].__mro__ for name in vars(kind) if name.startswith("fault_")]
    return sorted({*PROTOCOLS[protocol].wrong_answers, *(name.removeprefix("fault_") for name in methods)})
