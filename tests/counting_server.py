"""A provider that counts: OpenAI's wire, in a process of its own, with a clock of its own.

It answers whatever comes, and at /counted says when each request came and whose key it bore.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

counted: list[tuple[float, str]] = []


def _payload(**delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
    told = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    usage = {} if delta else {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    return b"data: " + json.dumps({**told, "choices": [choice], **usage}).encode() + b"\n\n"


class Provider(BaseHTTPRequestHandler):
    """Answers at once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        counted.append((time.monotonic(), self.headers["Authorization"]))
        self.rfile.read(int(self.headers["Content-Length"]))
        said = _payload(content="ok") + _payload() + b"data: [DONE]\n\n"
        self._say(said, "text/event-stream")

    def do_GET(self) -> None:
        self._say(json.dumps(counted).encode(), "application/json")

    def _say(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
