"""The client of the engine's API, against a real server on a real unix socket that answers as an engine does."""

from __future__ import annotations

import base64
import http.server
import io
import json
import signal
import socket
import struct
import subprocess
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import engine as client
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import (
    Engine,
    EngineError,
    installed,
    split_reference,
)


class Answering(http.server.BaseHTTPRequestHandler):
    """Notes requests and gives the next answer."""

    protocol_version = "HTTP/1.1"
    requests: t.ClassVar[list[tuple[str, str, bytes, t.Any]]] = []
    answer: t.ClassVar[tuple[int, bytes]] = (200, b"{}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _any(self) -> None:
        self.requests.append((self.command, self.path, self._body(), self.headers))
        status, data = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _any

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """HTTP on a unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "engine", 0

    def get_request(self) -> tuple[t.Any, t.Any]:
        return self.socket.accept()[0], ("unix", 0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    Answering.requests.clear()
    Answering.answer = (200, b"{}")
    path = str(tmp_path / "docker.sock")
    with Server(path, Answering) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Engine(path, timeout=5)
        server.shutdown()


def asked() -> tuple[str, str, bytes, t.Any]:
    return Answering.requests[-1]


def test_a_refusal_is_told_in_the_engines_own_words(engine: Engine) -> None:
    Answering.answer = (409, b'{"message": "Conflict. The name is in use"}')
    with pytest.raises(EngineError, match="^Conflict. The name is in use$") as caught:
        engine.create("one", {})
    assert caught.value.status == 409


def test_a_refusal_without_json_is_told_as_it_is(engine: Engine) -> None:
    Answering.answer = (500, b"panic\n")
    with pytest.raises(EngineError, match="^panic$"):
        engine.info()


def test_what_is_not_there_is_none(engine: Engine) -> None:
    Answering.answer = (404, b'{"message": "No such container"}')
    assert engine.container("one") is None
    assert engine.image("a/b:1") is None
    engine.remove("one")


def test_other_refusals_are_not_taken_for_absence(engine: Engine) -> None:
    Answering.answer = (500, b'{"message": "broken"}')
    for question in (lambda: engine.container("one"), lambda: engine.remove("one")):
        with pytest.raises(EngineError, match="broken"):
            question()


def test_an_engine_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    nowhere = Engine(str(tmp_path / "nowhere.sock"))
    assert not nowhere.answers()
    with pytest.raises(EngineError, match="the engine does not answer on .*nowhere.sock"):
        nowhere.info()


def test_an_engine_that_takes_too_long_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(EngineError, match="timed out"):
            Engine(str(tmp_path / "s"), timeout=0.2).info()


def test_an_engine_that_hangs_up_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(EngineError, match="does not answer"):
            Engine(str(tmp_path / "s")).info()


def test_an_engine_that_is_being_started_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    assert not Engine(path).answers_within(0)
    servers = []

    def start() -> None:
        servers.append(Server(path, Answering))  # type: ignore[arg-type]
        servers[0].serve_forever(0.01)

    Answering.answer = (200, b"OK")
    later = threading.Timer(0.7, start)
    later.start()
    assert Engine(path).answers_within(10)
    servers[0].shutdown()
    servers[0].server_close()
    later.join()


@pytest.mark.parametrize("found", ["units/docker.service", "programs/dockerd"])
def test_an_engine_that_is_stopped_is_found_by_its_unit_or_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    for part in ("units", "programs"):
        (tmp_path / part).mkdir()
    monkeypatch.setattr(client, "UNIT_DIRECTORIES", (str(tmp_path / "units"),))
    monkeypatch.setattr(client, "PROGRAM_DIRECTORIES", (str(tmp_path / "programs"),))
    (tmp_path / "units/docker.service").symlink_to("/dev/null")
    (tmp_path / "units/other.service").touch()
    assert installed("docker") == ""
    (tmp_path / "units/docker.service").unlink()
    (tmp_path / found).touch()
    assert installed("docker") == str(tmp_path / found)


def test_an_engine_that_answers_is_there(engine: Engine) -> None:
    assert engine.answers()
    assert asked()[:2] == ("GET", "/_ping")


def test_containers_are_asked_for_by_label_also_those_that_are_stopped(engine: Engine) -> None:
    Answering.answer = (200, b"[]")
    assert engine.containers("a.label") == []
    assert asked()[1] == "/containers/json?all=1&filters=%7B%22label%22%3A+%5B%22a.label%22%5D%7D"


def test_a_container_is_created_from_json_under_its_name(engine: Engine) -> None:
    Answering.answer = (201, b'{"Id": "abc"}')
    assert engine.create("one", {"Image": "a:1"}) == "abc"
    method, path, body, headers = asked()
    assert (method, path, json.loads(body)) == ("POST", "/containers/create?name=one", {"Image": "a:1"})
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda e: e.start("one"), "POST /containers/one/start"),
        (lambda e: e.stop("one", 7), "POST /containers/one/stop?t=7"),
        (lambda e: e.restart("one", 7), "POST /containers/one/restart?t=7"),
        (lambda e: e.rename("one", "two"), "POST /containers/one/rename?name=two"),
        (lambda e: e.remove("one"), "DELETE /containers/one?force=1&v=1"),
        (lambda e: e.image("h:5000/a/b:1"), "GET /images/h%3A5000/a/b%3A1/json"),
    ],
)
def test_each_call_goes_where_the_engine_expects_it(engine: Engine, call: t.Any, path: str) -> None:
    call(engine)
    assert " ".join(asked()[:2]) == path


def test_a_signal_goes_to_the_process_itself(engine: Engine) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        Answering.answer = (200, json.dumps({"State": {"Running": True, "Pid": process.pid}}).encode())
        # Not HUP, which whoever began the tests by nohup ignores.
        engine.signal("one", "USR1")
        assert process.wait(10) == -signal.SIGUSR1


def test_a_container_that_does_not_run_cannot_be_sent_a_signal(engine: Engine) -> None:
    Answering.answer = (200, b'{"State": {"Running": false, "Pid": 0}}')
    with pytest.raises(EngineError, match="does not run"):
        engine.signal("one", "HUP")


def test_an_archive_is_sent_whole_in_pieces(engine: Engine, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    archive = tmp_path / "image.tar"
    archive.write_bytes(data)
    engine.load(str(archive))
    _method, path, body, headers = asked()
    assert path == "/images/load?quiet=1"
    assert headers["Transfer-Encoding"] == "chunked"
    assert body == data


def test_a_stream_may_be_empty(engine: Engine) -> None:
    engine.call("POST", "/images/load", stream=io.BytesIO())
    assert asked()[2] == b""


def test_a_pull_names_image_and_tag(engine: Engine) -> None:
    engine.pull("h:5000/a/b:1.2")
    assert asked()[1] == "/images/create?fromImage=h%3A5000%2Fa%2Fb&tag=1.2"


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


LOGINS = {
    "auths": {
        "mirror.example.com:5000": {"auth": auth("me:pass:word")},
        "https://index.docker.io/v1/": {"auth": auth("hub:secret")},
        "token.example.com": {"auth": auth("x:"), "identitytoken": "of-the-token"},
        "plain.example.com": {"username": "a", "password": "b"},
        "elsewhere.example.com": {},
    },
    "credHelpers": {"helped.example.com": "pass"},
}


@pytest.mark.parametrize(
    ("reference", "login"),
    [
        ("mirror.example.com:5000/a/b:1", {"username": "me", "password": "pass:word"}),
        ("prom/prometheus:v3", {"username": "hub", "password": "secret"}),
        ("haproxy:3", {"username": "hub", "password": "secret"}),
        ("token.example.com/a:1", {"identitytoken": "of-the-token"}),
        ("plain.example.com/a:1", {"username": "a", "password": "b"}),
        ("mirror.example.com/a/b:1", None),
        ("elsewhere.example.com/a:1", None),
        ("unknown.example.com/a:1", None),
    ],
)
def test_a_pull_is_made_with_the_login_of_the_images_own_registry(
    engine: Engine, tmp_path: Path, reference: str, login: dict[str, str] | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LOGINS))
    engine.logins = str(tmp_path / "config.json")
    engine.pull(reference)
    sent = asked()[3]["X-Registry-Auth"]
    if login is None:
        assert sent is None
    else:
        told = json.loads(base64.urlsafe_b64decode(sent))
        assert told.pop("serveraddress") in LOGINS["auths"]
        assert told == login


def test_without_logins_a_pull_is_made_without_one(engine: Engine, tmp_path: Path) -> None:
    engine.logins = str(tmp_path / "config.json")
    engine.pull("a/b:1")
    assert asked()[3]["X-Registry-Auth"] is None


@pytest.mark.parametrize("text", ["{", '{"auths": {"docker.io": {"auth": "hunter2"}}}', '{"auths": ["hunter2"]}'])
def test_logins_that_cannot_be_understood_are_told_and_not_shown(engine: Engine, tmp_path: Path, text: str) -> None:
    engine.logins = str(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EngineError, match="config.json cannot be understood") as caught:
        engine.pull("a/b:1")
    assert "hunter2" not in str(caught.value)


def test_a_login_that_only_a_helper_has_is_told_when_the_pull_fails(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LOGINS))
    engine.logins = str(tmp_path / "config.json")
    engine.pull("helped.example.com/a:1")
    Answering.answer = (500, b'{"message": "no basic auth credentials"}')
    with pytest.raises(EngineError, match="^no basic auth credentials .asked without a login: .* helper pass, "):
        engine.pull("helped.example.com/a:1")
    with pytest.raises(EngineError, match="^no basic auth credentials$"):
        engine.pull("unknown.example.com/a:1")


def test_a_failure_inside_a_successful_answer_is_found(engine: Engine) -> None:
    Answering.answer = (200, b'{"status": "Pulling"}\nnot json\n{"error": "manifest unknown"}\n')
    with pytest.raises(EngineError, match="manifest unknown"):
        engine.pull("a:1")


def test_the_exit_code_is_waited_for(engine: Engine) -> None:
    Answering.answer = (200, b'{"StatusCode": 3}')
    assert engine.wait("one", 5) == 3


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + struct.pack(">I", len(text)) + text


def test_both_streams_of_a_log_are_joined_in_their_order(engine: Engine) -> None:
    Answering.answer = (200, frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"\xff three\n"))
    assert engine.logs("one", 5) == "one\ntwo\n\ufffd three"
    assert asked()[1] == "/containers/one/logs?stdout=1&stderr=1&tail=5"


def test_the_log_of_a_terminal_has_no_frames(engine: Engine) -> None:
    Answering.answer = (200, b"plain\r\nlog\r\n")
    assert engine.logs("one") == "plain\r\nlog"


def test_a_log_that_cannot_be_had_says_so_and_is_no_error(engine: Engine) -> None:
    Answering.answer = (404, b'{"message": "No such container: one"}')
    assert engine.logs("one") == "(no log: No such container: one)"


def test_the_last_words_of_a_program_are_waited_for_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["", "", "fatal: no disk"])
    monkeypatch.setattr(Engine, "logs", lambda *_arguments: next(said))
    assert Engine().last_words("one") == "fatal: no disk"
    monkeypatch.setattr(Engine, "logs", lambda *_arguments: "")
    monkeypatch.setattr(client, "_WORDS_SECONDS", 0.2)
    assert Engine().last_words("one") == ""


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("prom/prometheus:v3", ("prom/prometheus", "v3")),
        ("haproxy", ("haproxy", "latest")),
        ("mirror:5000/prom/prometheus", ("mirror:5000/prom/prometheus", "latest")),
        ("mirror:5000/prom/prometheus:v3", ("mirror:5000/prom/prometheus", "v3")),
        ("a/b@sha256:0f", ("a/b", "sha256:0f")),
        ("mirror:5000/a/b@sha256:0f", ("mirror:5000/a/b", "sha256:0f")),
    ],
)
def test_a_reference_is_split_into_name_and_tag_or_digest(reference: str, parts: tuple[str, str]) -> None:
    assert split_reference(reference) == parts
