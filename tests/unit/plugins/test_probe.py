"""Questions asked of the host and of programs are answered rightly; the programs here are small real ones."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import probe

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
# As /proc/net/tcp and tcp6 have them on a little-endian machine: st 0A listens, 01 is a connection.
TCP = (
    "   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n"
    "   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0\n"
    "   2: 0100007F:2382 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0\n"
)
ROW6 = "   0: {}:0BB8 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 {} 1 0 100 0 0 10 0\n"
TCP6 = (
    ROW6.format("00000000000000000000000000000000", 444)
    + ROW6.format("00000000000000000000000001000000", 555)
    + ROW6.format("0000000000000000FFFF00000A00000A", 666)
)


class Program(http.server.BaseHTTPRequestHandler):
    """Gets ready after some questions."""

    answers: t.ClassVar[list[tuple[int, str]]] = []
    pause = 0.0

    def do_GET(self) -> None:
        time.sleep(self.pause)
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who asked has given up
            self.wfile.write(text.encode())

    def log_message(self, *_arguments: t.Any) -> None:
        pass


@pytest.fixture
def target() -> Iterator[dict[str, t.Any]]:
    """A program on loopback."""
    Program.answers, Program.pause = [(200, "ok")], 0.0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Program) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield {"address": "127.0.0.1", "port": server.server_port, "path": "/ready"}
        server.shutdown()


@pytest.fixture
def nobody() -> dict[str, t.Any]:
    """A port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return {"address": "127.0.0.1", "port": one.getsockname()[1], "path": "/ready"}


def test_listeners_are_read_in_all_spellings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tables = {"/proc/net/tcp": HEADER + TCP, "/proc/net/tcp6": HEADER + TCP6}

    def opened(path: str, *more: t.Any) -> t.IO[str]:
        file = tmp_path / "table"
        file.write_text(tables[path])
        return file.open(*more)

    monkeypatch.setattr(probe, "open", opened, raising=False)
    assert probe.listeners() == [
        probe.Listener("127.0.0.1", 9090, "111"),
        probe.Listener("0.0.0.0", 22, "222"),
        probe.Listener("::", 3000, "444"),
        probe.Listener("::1", 3000, "555"),
        probe.Listener("10.0.0.10", 3000, "666"),
    ]


def test_a_real_listener_is_found_with_the_process_that_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [one for one in probe.listeners() if one.port == port]
        assert found.address == "127.0.0.1"
        program, process, _groups = probe.owner(found.inode)
    assert process == os.getpid()
    assert program == Path("/proc/self/comm").read_text().strip()


def test_a_socket_that_nobody_holds_has_an_owner_without_a_number() -> None:
    assert probe.owner("no such inode") == ("another program", 0, "")


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("0.0.0.0", "10.0.0.1", True),
        ("10.0.0.1", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_addresses_clash_where_they_are_one_or_one_is_all(one: str, other: str, clash: bool) -> None:
    assert probe.overlap(one, other) is clash


def test_a_program_that_answers_is_ready(target: dict[str, t.Any]) -> None:
    assert probe.ready(target) == ""


@pytest.mark.parametrize("address", ["0.0.0.0", ""])
def test_a_program_on_all_addresses_is_asked_on_loopback(target: dict[str, t.Any], address: str) -> None:
    assert probe.ready({**target, "address": address}) == ""


@pytest.mark.parametrize("status", [301, 404, 503])
def test_a_program_that_answers_otherwise_is_not_ready_and_quoted(target: dict[str, t.Any], status: int) -> None:
    Program.answers = [(status, "still replaying " * 100)]
    problem = probe.ready(target)
    assert problem.startswith(f"/ready answers {status}: still replaying")
    assert len(problem) < 250


def test_a_port_without_program_is_not_ready(nobody: dict[str, t.Any]) -> None:
    assert "/ready does not answer: " in probe.ready(nobody)


def test_something_that_does_not_speak_http_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _address = server.accept()
            connection.recv(1000)
            connection.sendall(b"+OK POP3 here\r\n")
            connection.close()

        threading.Thread(target=speak, daemon=True).start()
        port = server.getsockname()[1]
        assert "no HTTP there" in probe.ready({"address": "127.0.0.1", "port": port, "path": "/"})


def test_a_program_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)
            self.server_name, self.server_port = "s", 0

        def get_request(self) -> tuple[t.Any, t.Any]:
            return self.socket.accept()[0], ("unix", 0)

    Program.answers, Program.pause = [(200, "ok")], 0.0
    with Server(path, Program) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert probe.ready({"socket": path, "path": "/"}) == ""
        server.shutdown()


def test_waiting_ends_with_the_first_good_answer(target: dict[str, t.Any]) -> None:
    Program.answers = [(503, "no"), (503, "no"), (200, "ok")]
    began = time.monotonic()
    assert probe.wait_ready(target, began + 10, lambda: "") == ""
    assert 0.1 < time.monotonic() - began < 2


def test_waiting_ends_at_the_deadline_with_the_last_answer(target: dict[str, t.Any]) -> None:
    Program.answers = [(503, "still replaying")]
    began = time.monotonic()
    assert "still replaying" in probe.wait_ready(target, began + 0.5, lambda: "")
    assert 0.2 < time.monotonic() - began < 1


def test_waiting_for_a_program_that_hangs_ends_near_the_deadline(target: dict[str, t.Any]) -> None:
    Program.pause = 3.0
    began = time.monotonic()
    assert "timed out" in probe.wait_ready(target, began + 0.6, lambda: "")
    assert time.monotonic() - began < 1.5


def test_the_engine_is_asked_less_often_than_the_program(nobody: dict[str, t.Any]) -> None:
    looks: list[float] = []
    probe.wait_ready(nobody, time.monotonic() + 1.5, lambda: looks.append(time.monotonic()) or "")  # type: ignore[func-returns-value]
    assert 2 <= len(looks) <= 3


def test_waiting_ends_where_it_is_of_no_use(nobody: dict[str, t.Any]) -> None:
    began = time.monotonic()
    assert probe.wait_ready(nobody, began + 10, lambda: "it has ended") == "it has ended"
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("up 1\n", 1.0),
        ("# HELP up x\nupper 5\nup 0\n", 0.0),
        ("up 1.7e+09\n", 1.7e9),
        ('up{a="b"} 1\n', None),
        ("", None),
    ],
)
def test_a_metric_is_read_by_its_whole_name(target: dict[str, t.Any], text: str, value: float | None) -> None:
    Program.answers = [(200, text)]
    assert probe.sample(target, "up") == value


def test_a_program_that_does_not_answer_has_no_metric(nobody: dict[str, t.Any]) -> None:
    assert probe.sample(nobody, "up") is None


def test_free_room_is_that_of_the_directory_that_will_be_made_there(tmp_path: Path) -> None:
    assert probe.free_bytes(str(tmp_path / "not/yet/there")) == pytest.approx(probe.free_bytes(str(tmp_path)), rel=0.1)


def test_free_room_of_a_relative_path_is_no_endless_question() -> None:
    assert probe.free_bytes("not/there") > 0


def test_the_system_is_known_by_its_own_file() -> None:
    assert probe.operating_system()["ID"]
    assert '"' not in probe.operating_system()["PRETTY_NAME"]
