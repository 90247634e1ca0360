"""A stand-in for the translation page on loopback, reached by the real mtranslate through `http_proxy`.

Translates by spelling every word backwards, so a test can compute what is right. Fails in every way that was seen on
the real page: by chance (`fault_rate`), as told (`script`), or always for a text (`poison`). Counts what it answers.
"""

from __future__ import annotations

import collections
import contextlib
import html
import random
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = '<html><body><div class="t0-other">x</div><div class="result-container">{}</div><div>Google</div></body></html>'
CAPTCHA = "<html><body>Our systems have detected unusual traffic.<div id='recaptcha'></div></body></html>"
ERROR_TEXT = "Error 500 (Server Error)!!1500.That’s an error.There was an error. Please try again later."


def reverse_words(text):
    """The stand-in's translation: words of two letters and more backwards, everything else kept."""
    return re.sub(r"[^\W\d_]{2,}", lambda word: word.group()[::-1], text)


class TranslationServer(ThreadingHTTPServer):
    """Use as a context manager; `env` is the environment for the process that is to be served."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, latency=0.0, fault_rate=0.0, faults=(), seed=0, keeps_lines=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency, self.fault_rate, self.faults, self.keeps_lines = latency, fault_rate, list(faults), keeps_lines
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.script = collections.deque()  # names of faults for the next requests; "ok" is none
        self.always = None  # the fault of every request
        self.poison = {}  # text -> the fault of every request that holds it
        self.queries = []  # lines of every request, faults too
        self.answered = collections.Counter()  # lines of the requests answered well
        self.num_faults = 0

    @property
    def env(self):
        address = f"http://127.0.0.1:{self.server_address[1]}"
        return {"http_proxy": address, "HTTP_PROXY": address, "no_proxy": "", "NO_PROXY": ""}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def choose_fault(self, text):
        """The fault of this request, or None."""
        with self.lock:
            self.queries.append(text.split("\n"))
            fault = next((fault for poison, fault in self.poison.items() if poison in text), None)
            if self.script:
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
    protocol_version = "HTTP/1.0"

    def log_message(self, *args):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/sorry/"):
            self.send(429, CAPTCHA)
            return
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        assert url.netloc == "translate.google.com" and query["sl"] and query["tl"], self.path
        text = query["q"][0]
        fault = self.server.choose_fault(text)
        time.sleep(self.server.latency)
        if fault:
            getattr(self, f"fault_{fault}")(text)
            return
        answer = reverse_words(text)
        self.send_translation(answer if self.server.keeps_lines else answer.replace("\n", " "))
        with self.server.lock:
            self.server.answered.update(text.split("\n"))

    def send(self, status, body, **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def send_translation(self, text, **headers):
        self.send(200, PAGE.format(html.escape(text)), **headers)

    def fault_429(self, text):
        self.send(429, CAPTCHA)

    def fault_429_wait_1s(self, text):
        self.send(429, CAPTCHA, Retry_After="1")

    def fault_429_wait_1h(self, text):
        self.send(429, CAPTCHA, Retry_After="3600")

    def fault_503(self, text):
        self.send(503, "busy")

    def fault_500(self, text):
        self.send(500, "broken")

    def fault_400(self, text):
        self.send(400, "too long")

    def fault_sorry(self, text):
        self.send(302, "", Location="http://www.google.com/sorry/index?continue=x")

    def fault_captcha(self, text):
        self.send(200, CAPTCHA)

    def fault_empty(self, text):
        self.send_translation("")

    def fault_error_text(self, text):
        self.send_translation(ERROR_TEXT)

    def fault_error_line(self, text):
        self.send_translation("\n".join([ERROR_TEXT, *reverse_words(text).split("\n")[1:]]))

    def fault_br(self, text):
        self.send(200, PAGE.format(html.escape(reverse_words(text)).replace("\n", "<br>")))

    def fault_tag_inside(self, text):
        answer = html.escape(reverse_words(text))
        middle = answer.find(" ", len(answer) * 3 // 4)
        self.send(200, PAGE.format(answer[:middle] + "<b>" + answer[middle:] + "</b>"))

    def fault_merged_lines(self, text):
        self.send_translation(reverse_words(text).replace("\n", " ", 1))

    def fault_extra_line(self, text):
        self.send_translation("Vertaling:\n" + reverse_words(text))

    def fault_swapped_lines(self, text):
        """Two neighbours in each other's place that hold different figures; a line without such a neighbour fails."""
        lines, answer = text.split("\n"), reverse_words(text).split("\n")
        figures = [re.findall(r"\d+", line) for line in lines]
        places = [place for place in range(len(lines) - 1) if figures[place] != figures[place + 1]]
        if not places:
            self.fault_500(text)
            return
        with self.server.lock:
            first = self.server.random.choice(places)
        answer[first : first + 2] = answer[first + 1], answer[first]
        self.send_translation("\n".join(answer))

    def fault_echo(self, text):
        self.send_translation(text)

    def fault_with_source(self, text):
        self.send_translation("\n".join(f"{line} {reverse_words(line)}" for line in text.split("\n")))

    def fault_nonsense(self, text):
        lines = (f"Ut enim ad minim veniam {len(line)}." for line in text.split("\n"))
        self.send_translation("\n".join(lines))

    def fault_babble(self, text):
        self.send_translation("\n".join(reverse_words(line) + " la" * 200 for line in text.split("\n")))

    def fault_hang(self, text):
        time.sleep(self.hang_seconds)

    hang_seconds = 3.0

    def fault_drip(self, text):
        """A byte now and then, so that no time-out of the socket ever fires."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)

    def fault_reset(self, text):
        self.close_connection = True

    def fault_short_body(self, text):
        body = PAGE.format(html.escape(reverse_words(text))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])

    def fault_bad_utf8(self, text):
        self.send(200, PAGE.format("caf\x00").encode().replace(b"\x00", b"\xe9"))


ALL_FAULTS = [name.removeprefix("fault_") for name in vars(Handler) if name.startswith("fault_")]
