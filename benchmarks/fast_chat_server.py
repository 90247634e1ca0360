"""A chat server that only costs time: answers each request after a fixed latency, thousands a second.

    python benchmarks/fast_chat_server.py 0.2

Prints its port. Translates as tests/translation_server.py does; a GET answers with the number of requests so far.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from translation_server import reverse_words

LATENCY = float(sys.argv[1])
num_requests = 0


class Chat(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        global num_requests
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.received = b""
            self.send(str(num_requests).encode())
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self.received = body[length:]
            num_requests += 1
            text = json.loads(body[:length])["messages"][-1]["content"].rpartition("\n\n")[2]
            message = {"role": "assistant", "content": reverse_words(text)}
            answer = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
            asyncio.get_running_loop().call_later(LATENCY, self.send, answer)

    def send(self, answer):
        head = f"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + answer)


async def main():
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
