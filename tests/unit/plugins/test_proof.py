"""The questions by which a service shows that it does its work."""

from __future__ import annotations

import http.server
import json
import threading
import time
import typing as t
from collections.abc import Iterator

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import proof


class Program(http.server.BaseHTTPRequestHandler):
    """Tells what it was asked."""

    def do_GET(self) -> None:
        self._answer("")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, body: str) -> None:
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()
        heard = {"path": self.path, "body": body, "authorization": self.headers.get("Authorization")}
        self.wfile.write(json.dumps(heard).encode())

    def log_message(self, *_: t.Any) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def target() -> Iterator[dict[str, t.Any]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Program)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"address": "127.0.0.1", "port": server.server_port}
    server.shutdown()


def test_the_time_of_the_change_gets_into_query_and_body(target):
    question = {
        "path": "/q",
        "query": {"query": "up @ @since@ > 1"},
        "expect": r"/q\?query=up\+%40\+1700000000.000\+%3E\+1",
    }
    assert proof.ask(target, question, 1700000000.0) == ""
    question = {
        "path": "/push",
        "body": {"values": [["@since_ns@", "@utc@"]]},
        "expect": "1700000000000000000.*2023-11-14T22:13:20Z",
    }
    assert proof.ask(target, question, 1700000000.0) == ""


def test_a_password_comes_from_its_file(target, tmp_path):
    (tmp_path / "password").write_text("secret\n")
    question = {
        "path": "/",
        "user": "admin",
        "password_file": str(tmp_path / "password"),
        "expect": "Basic YWRtaW46c2VjcmV0",
    }
    assert proof.ask(target, question, 0) == ""


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({"path": "/broken"}, "/broken answers 500: "),
        ({"path": "/", "expect": "^nothing like it"}, "/ does not answer what is expected (^nothing like it): "),
        ({"path": "/", "user": "a", "password_file": "/not/there"}, "/ does not answer: "),
    ],
)
def test_what_is_wrong_is_told(target, question, told):
    assert proof.ask(target, question, 0).startswith(told)


def test_it_asks_again_until_the_deadline_or_the_programs_end(target):
    questions = [{"path": "/"}, {"path": "/broken"}]
    began = time.monotonic()
    assert proof.wait(target, questions, 0, began + 0.6, lambda: "").startswith("/broken answers 500")
    assert time.monotonic() - began >= 0.25
    assert (
        proof.wait(target, questions, 0, time.monotonic() + 60, lambda: "its container is gone")
        == "its container is gone"
    )
    assert proof.wait(target, questions[:1], 0, time.monotonic(), lambda: "gone") == ""


def test_a_question_may_go_to_another_port(target):
    question = {"path": "/q", "port": str(target["port"]), "expect": "/q"}
    assert proof.ask({"address": "127.0.0.1", "port": 1}, question, 0.0) == ""
    del question["port"]
    assert "does not answer" in proof.ask({"address": "127.0.0.1", "port": 1}, question, 0.0)
