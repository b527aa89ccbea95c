"""Stands in for Slack and other receivers: it stores what it gets, and tells it again.

    python3 receiver.py [--listen 127.0.0.1] [--port 9099]

POST /services/CHANNEL        a Slack webhook, bound to a channel
POST /api/chat.postMessage    a Slack bot's message; the channel is in it, the token in the header
POST /webhook/NAME            any other webhook
POST /broken/…                answers 500
POST /slow/…                  answers 500 after two seconds
GET /messages                 all that came: [{"at": seconds, "channel": …, "token": …, "body": …}]
DELETE /messages              forget them
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """The server with what it received, oldest first."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.lock = threading.Lock()
        self.messages: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Answers as Slack does."""

    server: Receiver

    def do_POST(self) -> None:
        """Take a message."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "slow":
            time.sleep(2)
        if kind in ("broken", "slow"):
            self._answer(500, b"broken")
            return
        bot = self.path == "/api/chat.postMessage"
        channel = str(body.get("channel", "")).lstrip("#") if bot else name
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with self.server.lock:
            self.server.messages.append({"at": time.time(), "channel": channel, "token": token, "body": body})
        self._answer(200, b'{"ok": true}' if bot else b"ok")

    def do_GET(self) -> None:
        """Tell what came."""
        with self.server.lock:
            self._answer(200, json.dumps(self.server.messages).encode())

    def do_DELETE(self) -> None:
        """Forget what came."""
        with self.server.lock:
            self.server.messages.clear()
        self._answer(200, b"[]")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if body[:1] in b"[{" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9099)
    options = parser.parse_args()
    Receiver((options.listen, options.port)).serve_forever()


if __name__ == "__main__":
    main()
