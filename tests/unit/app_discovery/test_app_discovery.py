"""app_discovery against a Port Manager and an engine that are well, away, slow or hostile."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "roles/app_discovery/files/app_discovery.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("app_discovery", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["app_discovery"] = module
    spec.loader.exec_module(module)
    return module


program = load()
Answer = tuple[int, bytes]


def serving(answers: dict[str, Callable[[], Answer]], where: Any, kind: Any) -> Iterator[Any]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, lambda: (404, b""))()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return ""

        def log_message(self, format: str, *args: Any) -> None: ...

    server = kind(where, Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Platform:
    """What the two sources and one app answer; a test changes it."""

    def __init__(self, tmp_path: Path) -> None:
        self.status: Answer = (200, b"{}")
        self.containers: Answer = (200, b"[]")
        self.inspections: dict[str, Any] = {}
        self.listed: dict[str, Any] = {}
        self.web_port = 0
        self.app: Answer = (404, b"")
        self.settings = {
            "address": "127.0.0.1",
            "port": 0,
            "host": "web1",
            "engine_socket": str(tmp_path / "engine.sock"),
            "state_file": str(tmp_path / "state.json"),
            "timeout_seconds": 1.0,
            "first_port": 1024,
            "last_port": 65535,
        }

    def allocate(self, *apps: tuple[Any, Any, Any]) -> None:
        entries = {f"{i}": {"project": p, "branch": b, "port": port} for i, (p, b, port) in enumerate(apps)}
        self.raw_allocations(entries)

    def raw_allocations(self, entries: Any) -> None:
        self.status = (200, json.dumps({"totalAllocations": 1, "database": {"allocations": entries}}).encode())

    def run(self, name: str, running: bool = True, restarts: int = 0, **labels: str) -> None:
        self.inspections[name] = {"RestartCount": restarts}
        self.listed[name] = {
            "Id": name,
            "Names": [f"/{name}"],
            "State": "running" if running else "exited",
            "Labels": {key.replace("_", "."): value for key, value in labels.items()},
        }
        self.list_containers()

    def remove(self, name: str) -> None:
        del self.listed[name], self.inspections[name]
        self.list_containers()

    def list_containers(self, *more: Any) -> None:
        self.containers = (200, json.dumps([*self.listed.values(), *more]).encode())

    def discovery(self) -> Any:
        return program.Discovery(program.Settings(**self.settings))

    def refreshed(self) -> Any:
        found = self.discovery()
        again(found)
        return found


def again(found: Any) -> None:
    """One turn of all that the program does in turns."""
    found.refresh()
    found.look_for_metrics()


class Inspections(dict[str, Callable[[], Answer]]):
    def __init__(self, platform: Platform) -> None:
        super().__init__({"/containers/json?all=1": lambda: platform.containers})
        self.platform = platform

    def get(self, path: str, default: Any = None) -> Any:  # type: ignore[override]
        name = path.removeprefix("/containers/").removesuffix("/json")
        if name in self.platform.inspections:
            return lambda: (200, json.dumps(self.platform.inspections[name]).encode())
        return super().get(path, default)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    web = serving(
        {"/status": lambda: made.status, "/metrics": lambda: made.app},
        ("127.0.0.1", 0),
        http.server.ThreadingHTTPServer,
    )
    made.web_port = next(web).server_address[1]
    made.settings["port_manager_url"] = f"http://127.0.0.1:{made.web_port}/status"
    engine = serving(Inspections(made), made.settings["engine_socket"], UnixServer)
    next(engine)
    yield made
    for server in (web, engine):
        next(server, None)


def apps(found: list[dict[str, Any]] | None) -> list[str]:
    assert found is not None
    return [group["labels"]["app"] for group in found]


def value(exposition: str, series: str) -> float | None:
    lines = dict(line.rsplit(" ", 1) for line in exposition.splitlines() if not line.startswith("#"))
    return float(lines[series]) if series in lines else None


# What should run.


def test_an_allocation_is_a_target_whether_or_not_it_runs(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    assert platform.refreshed().targets("health") == [
        {
            "targets": ["http://127.0.0.1:8101/health"],
            "labels": {
                "project": "shop",
                "branch": "main",
                "app": "shop-main",
                "port": "8101",
                "host": "web1",
                "instance": "web1:8101",
            },
        }
    ]


def test_project_and_branch_come_from_the_allocation_since_both_may_contain_dashes(platform: Platform) -> None:
    platform.allocate(("my-shop", "feature-new-cart", 8101))
    platform.run("my-shop-feature-new-cart-deploy", restarts=3)
    found = platform.refreshed()
    labels = found.targets("health")[0]["labels"]
    assert (labels["project"], labels["branch"]) == ("my-shop", "feature-new-cart")
    series = (
        'app_discovery_container_restarts{project="my-shop",branch="feature-new-cart",app="my-shop-feature-new-cart"}'
    )
    assert value(found.exposition(), series) == 3


def test_a_released_app_is_forgotten(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101), ("blog", "main", 8102))
    found = platform.refreshed()
    platform.allocate(("blog", "main", 8102))
    again(found)
    assert apps(found.targets("health")) == ["blog-main"]


def test_an_empty_platform_is_an_answer(platform: Platform) -> None:
    platform.raw_allocations({})
    found = platform.refreshed()
    assert found.targets("health") == []
    assert value(found.exposition(), "app_discovery_apps") == 0


def test_nine_hundred_apps_are_found_in_one_round(platform: Platform) -> None:
    platform.allocate(*(("p", f"b{port}", port) for port in range(8100, 9000)))
    began = time.monotonic()
    found = platform.refreshed()
    assert len(found.targets("health")) == 900
    assert time.monotonic() - began < 10


# Strangers.


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("nonsense", "name"),
        (None, "name"),
        ({"project": "", "branch": "main", "port": 8103}, "name"),
        ({"project": "a\nb", "branch": "main", "port": 8103}, "name"),
        ({"project": ["x"], "branch": "main", "port": 8103}, "name"),
        ({"project": "x" * 1000, "branch": "main", "port": 8103}, "name"),
        ({"project": "a", "branch": "main", "port": "8103"}, "port"),
        ({"project": "a", "branch": "main", "port": True}, "port"),
        ({"project": "a", "branch": "main", "port": 80}, "port"),
        ({"project": "a", "branch": "main", "port": 8103.5}, "port"),
        ({"project": "a", "branch": "main", "port": 10**5000}, "port"),
        ({"project": "a", "branch": "main"}, "port"),
        ({"project": "a", "branch": "main", "port": 8101}, "duplicate"),
        ({"project": "shop", "branch": "main", "port": 8109}, "duplicate"),
    ],
)
def test_an_entry_that_makes_no_sense_is_counted_and_hides_no_other(
    platform: Platform, entry: Any, reason: str
) -> None:
    good = {"project": "shop", "branch": "main", "port": 8101}
    also = {"project": "blog", "branch": "main", "port": 8102}
    sys.set_int_max_str_digits(10_000)
    platform.raw_allocations({"a": good, "b": entry, "c": also})
    sys.set_int_max_str_digits(4300)
    found = platform.refreshed()
    assert apps(found.targets("health")) == ["shop-main", "blog-main"]
    for name in ("name", "port", "duplicate"):
        series = f'app_discovery_refused_entries{{reason="{name}"}}'
        assert value(found.exposition(), series) == (1 if name == reason else 0)


@pytest.mark.parametrize(("project", "branch"), [("shop-main", "api"), ("shop", "main/api"), ("shop", "main-api")])
def test_two_allocations_that_would_be_one_container_are_one_app(platform: Platform, project: str, branch: str) -> None:
    platform.raw_allocations(
        {
            "a": {"project": "shop", "branch": "main-api", "port": 8101},
            "b": {"project": project, "branch": branch, "port": 8102},
            "c": {"project": "blog", "branch": "main", "port": 8103},
        }
    )
    found = platform.refreshed()
    assert apps(found.targets("health")) == ["shop-main-api", "blog-main"]
    assert value(found.exposition(), 'app_discovery_refused_entries{reason="duplicate"}') == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"database": {}}'),
        (200, b'{"database": {"allocations": []}}'),
        (500, b'{"database": {"allocations": {}}}'),
        (200, b"[" * 100_000),
        (200, b" " * (3 << 20)),
    ],
    ids=["html", "list", "none", "wrong type", "status 500", "nested", "huge"],
)
def test_an_answer_that_is_none_forgets_nobody(platform: Platform, answer: Answer) -> None:
    platform.allocate(("shop", "main", 8101))
    found = platform.refreshed()
    platform.status = answer
    again(found)
    assert apps(found.targets("health")) == ["shop-main"]
    assert value(found.exposition(), 'app_discovery_source_up{source="port-manager"}') == 0
    assert value(found.exposition(), 'app_discovery_refresh_errors_total{source="port-manager"}') == 1


def test_a_name_that_is_no_utf_8_hides_no_other(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101), ("b?d", "main", 8102), ("\ud800", "main", 8103))
    platform.status = (200, platform.status[1].replace(b"?", b"\xff"))
    found = platform.refreshed()
    assert apps(found.targets("health")) == ["shop-main", "b\ufffdd-main"]
    assert json.dumps(found.targets("health")).encode()
    assert value(found.exposition(), 'app_discovery_refused_entries{reason="name"}') == 1


def test_names_are_escaped_in_the_exposition(platform: Platform) -> None:
    platform.allocate(('sh"op\\', "é✨", 8101))
    assert 'project="sh\\"op\\\\",branch="é✨"' in platform.refreshed().exposition()


# Sources that are away.


def test_nothing_is_told_before_the_first_answer(platform: Platform) -> None:
    platform.status = (503, b"")
    found = platform.refreshed()
    assert found.targets("health") is None
    assert value(found.exposition(), "app_discovery_apps") is None


def test_what_was_known_outlives_a_restart_without_the_port_manager(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.refreshed()
    platform.status = (503, b"")
    found = platform.discovery()
    assert apps(found.targets("health")) == ["shop-main"]
    again(found)
    assert apps(found.targets("health")) == ["shop-main"]
    series = 'app_discovery_source_last_success_timestamp_seconds{source="port-manager"}'
    assert abs((value(found.exposition(), series) or 0) - time.time()) < 60


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"apps": [{"x": 1}], "time": 0}',
        '{"apps": [{"project": "a", "branch": "b", "port": 8101}], "time": 0}',
        '{"apps": [], "time": null}',
        '{"apps": 5, "time": 0}',
    ],
)
def test_a_state_that_is_of_no_use_is_like_none(platform: Platform, text: str) -> None:
    Path(str(platform.settings["state_file"])).write_text(text)
    assert platform.discovery().targets("health") is None


def test_without_the_engine_the_targets_stay_and_nothing_is_said_of_containers(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy", tunnel_enable="true", tunnel_hostname="shop.example.com")
    found = platform.refreshed()
    assert "app_discovery_container_running" in found.exposition()
    platform.containers = (403, b"")
    again(found)
    assert apps(found.targets("health")) == ["shop-main"]
    assert apps(found.targets("public")) == ["shop-main"]
    assert "app_discovery_container_running" not in found.exposition()
    assert value(found.exposition(), 'app_discovery_source_up{source="docker"}') == 0


@pytest.mark.parametrize(
    "listed", [b"{}", b'"x"', b"[1, {}]", b'[{"Names": 5}, {"Names": [1]}, {"Names": null}]', b"[" * 9999]
)
def test_nonsense_of_the_engine_forgets_nobody_and_ends_nothing(platform: Platform, listed: bytes) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy", tunnel_enable="true", tunnel_hostname="shop.example.com")
    found = platform.refreshed()
    platform.containers = (200, listed)
    again(found)
    assert apps(found.targets("health")) == apps(found.targets("public")) == ["shop-main"]


def test_whatever_one_source_breaks_the_other_is_asked(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy")
    found = platform.refreshed()

    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(program, "parse_allocations", broken)
    found.refresh()
    assert value(found.exposition(), 'app_discovery_source_up{source="port-manager"}') == 0
    assert value(found.exposition(), 'app_discovery_source_up{source="docker"}') == 1


def test_the_state_is_written_when_something_changed_not_at_each_turn(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    found = platform.refreshed()
    state = Path(str(platform.settings["state_file"]))
    written = state.stat().st_ino, state.stat().st_mtime_ns
    again(found)
    assert (state.stat().st_ino, state.stat().st_mtime_ns) == written
    platform.allocate(("shop", "main", 8101), ("blog", "main", 8102))
    again(found)
    assert apps(platform.discovery().targets("health")) == ["shop-main", "blog-main"]


def test_an_app_that_left_the_range_of_ports_is_not_brought_back_by_the_state(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101), ("blog", "main", 9101))
    platform.refreshed()
    platform.settings["last_port"] = 8999
    assert apps(platform.discovery().targets("health")) == ["shop-main"]


# What the engine adds.


def test_a_container_that_stopped_and_one_that_is_gone_do_not_run(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101), ("blog", "main", 8102), ("docs", "main", 8103))
    platform.run("shop-main-deploy")
    platform.run("blog-main-deploy", running=False)
    said = platform.refreshed().exposition()

    def running(project: str) -> float | None:
        labels = f'project="{project}",branch="main",app="{project}-main"'
        return value(said, f"app_discovery_container_running{{{labels}}}")

    assert (running("shop"), running("blog"), running("docs")) == (1, 0, 0)


def test_a_container_without_an_allocation_is_counted(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy")
    platform.run("left-over-deploy")
    platform.run("prometheus")
    assert value(platform.refreshed().exposition(), "app_discovery_unallocated_containers") == 1


@pytest.mark.parametrize(
    ("labels", "hostname"),
    [
        ({"tunnel_enable": "true", "tunnel_hostname": "shop.example.com"}, "shop.example.com"),
        ({"tunnel_enable": "false", "tunnel_hostname": "shop.example.com"}, ""),
        ({"tunnel_enable": "true", "tunnel_hostname": "evil.example.com/@x?"}, ""),
        ({"tunnel_enable": "true"}, ""),
    ],
)
def test_a_public_name_comes_from_the_tunnel_labels(platform: Platform, labels: dict[str, str], hostname: str) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy", **labels)
    groups = platform.refreshed().targets("public")
    expected = [(f"https://{hostname}/health", hostname)] if hostname else []
    assert [(group["targets"][0], group["labels"]["hostname"]) for group in groups] == expected


def test_a_public_name_lasts_while_the_app_should_run(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    assert platform.discovery().targets("public") is None, "nothing is known yet"
    platform.run("shop-main-deploy", tunnel_enable="true", tunnel_hostname="shop.example.com")
    found = platform.refreshed()
    platform.remove("shop-main-deploy")
    again(found)
    assert apps(found.targets("public")) == ["shop-main"], "its container was removed unasked"
    platform.containers = (500, b"")
    assert apps(platform.refreshed().targets("public")) == ["shop-main"], "forgotten over a restart"
    platform.run("shop-main-deploy")
    again(found)
    assert found.targets("public") == [], "no longer published"


def test_restarts_are_the_last_known_ones_where_the_engine_does_not_say(platform: Platform) -> None:
    series = 'app_discovery_container_restarts{project="shop",branch="main",app="shop-main"}'
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy", restarts=4)
    found = platform.refreshed()
    platform.inspections["shop-main-deploy"] = {"RestartCount": "many"}
    again(found)
    assert value(found.exposition(), series) == 4
    unknown = platform.refreshed().exposition()
    assert value(unknown, series) is None
    assert value(unknown, series.replace("restarts", "running")) == 1


# Apps with metrics.


def test_before_the_first_look_nobody_is_told_that_there_are_none(platform: Platform) -> None:
    platform.allocate(("shop", "main", platform.web_port))
    found = platform.discovery()
    found.refresh()
    assert found.targets("metrics") is None
    found.look_for_metrics()
    assert found.targets("metrics") == []
    assert platform.discovery().targets("metrics") == [], "forgotten over a restart"


@pytest.mark.parametrize(
    ("body", "has"),
    [
        (b"x 1\n", True),
        (b"# HELP x y\n", True),
        (b'x{a="b} c"} 1.5e-7 1700000000\n', True),
        (b"x NaN", True),
        (b"x +Inf\n", True),
        (b"", False),
        (b"<html>\n<p>hello</p>\nsee a\nfee Fan\n</html>", False),
        (b'{"x": 1}', False),
        (b"# a heading\n", False),
        (b"\xff\xfe\x00", False),
        (b"x 1\n" * 100_000, True),
        (b"a{" + b"} " * 40_000, False),
    ],
)
def test_metrics_are_told_from_pages(platform: Platform, body: bytes, has: bool) -> None:
    platform.allocate(("shop", "main", platform.web_port))
    platform.app = (200, body)
    began = time.monotonic()
    assert bool(platform.refreshed().targets("metrics")) is has
    assert time.monotonic() - began < 2


def test_only_an_app_with_metrics_is_scraped_and_it_stays_a_target_when_it_fails(platform: Platform) -> None:
    port = platform.web_port
    platform.allocate(("shop", "main", port))
    platform.settings["metrics_probe_seconds"] = 0.0
    found = platform.refreshed()
    assert found.targets("metrics") == []
    platform.app = (200, b"<html>hello</html>")
    again(found)
    assert found.targets("metrics") == []
    platform.app = (200, b"# HELP x y\n# TYPE x counter\nx 1\n")
    again(found)
    assert found.targets("metrics")[0]["targets"] == [f"127.0.0.1:{port}"]
    assert found.targets("metrics")[0]["labels"]["__metrics_path__"] == "/metrics"
    for failure in ((500, b""), (200, b"<html>sorry</html>"), (405, b"")):
        platform.app = failure
        again(found)
        assert apps(found.targets("metrics")) == ["shop-main"], failure
    assert apps(platform.discovery().targets("metrics")) == ["shop-main"], "forgotten over a restart"
    platform.app = (404, b"")
    again(found)
    assert found.targets("metrics") == []


def test_an_app_is_not_asked_for_metrics_at_each_round(platform: Platform) -> None:
    port = platform.web_port
    platform.allocate(("shop", "main", port))
    found = platform.refreshed()
    platform.app = (200, b"x 1\n")
    again(found)
    assert found.targets("metrics") == []


@pytest.fixture
def raw(platform: Platform) -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """raw(talk): a port where `talk` says what it likes to each one who asks."""
    listeners = []

    def listen(talk: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _address = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        peer.recv(4096)
                        talk(peer)

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield listen
    for listener in listeners:
        listener.close()


def drip(start: bytes) -> Callable[[socket.socket], None]:
    def talk(peer: socket.socket) -> None:
        peer.sendall(start)
        for _ in range(200):
            peer.sendall(b"x")
            time.sleep(0.05)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        drip(b"HTTP/1.0 200 OK\r\nX: "),
        drip(b"HTTP/1.0 200 OK\r\n\r\n"),
        lambda peer: peer.sendall(b"HTTP/1.0 200 OK\r\n" + b"X: " + b"y" * 300_000),
        lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        lambda peer: peer.sendall(b"\x00\x01\x02"),
        lambda peer: peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000),
        lambda peer: None,
    ],
    ids=["slow head", "slow body", "long head", "bad chunks", "no HTTP", "continues", "silent"],
)
def test_a_stranger_that_wastes_time_or_memory_is_left_after_a_while(
    platform: Platform, raw: Callable[..., int], talk: Callable[[socket.socket], None]
) -> None:
    platform.allocate(("shop", "main", platform.web_port), ("evil", "main", raw(talk)))
    platform.app = (200, b"x 1\n")
    began = time.monotonic()
    found = platform.refreshed()
    assert time.monotonic() - began < 4
    assert apps(found.targets("metrics")) == ["shop-main"]


def test_a_status_that_never_ends_is_a_failure(platform: Platform, raw: Callable[..., int]) -> None:
    platform.allocate(("shop", "main", 8101))
    found = platform.refreshed()
    port = raw(drip(b"HTTP/1.0 200 OK\r\n\r\n"))
    found.settings = replace(found.settings, port_manager_url=f"http://127.0.0.1:{port}/status")
    found.refresh()
    assert value(found.exposition(), 'app_discovery_source_up{source="port-manager"}') == 0
    assert apps(found.targets("health")) == ["shop-main"]


# For a Prometheus on another host.


def test_metrics_are_relayed_of_known_apps_only(platform: Platform) -> None:
    found = platform.discovery()
    assert found.relay(platform.web_port).status == 404
    platform.allocate(("shop", "main", platform.web_port))
    platform.app = (200, b"x 1\n")
    again(found)
    answer = found.relay(platform.web_port)
    assert (answer.status, answer.body, answer.content_type) == (200, b"x 1\n", program.PLAIN_METRICS)
    assert found.relay(22).status == 404
    platform.app = (500, b"secret trace")
    assert found.relay(platform.web_port)[:2] == (502, b"the app answered with status 500\n")
    platform.app = (200, b"x" * (program.MAX_RELAYED_BYTES + 1))
    assert found.relay(platform.web_port).status == 502


# The configuration.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"port_manager_url": "ftp://x/"}, "no http:// URL"),
        ({"first_port": 9000, "last_port": 8100}, "no range of ports"),
        ({"refresh_seconds": 0.0}, "at least 1"),
        ({"what": 1}, "unexpected keyword"),
    ],
)
def test_a_configuration_is_checked_before_it_is_run(platform: Platform, change: dict[str, Any], words: str) -> None:
    path = Path(str(platform.settings["state_file"])).with_name("config.json")
    path.write_text(json.dumps({**platform.settings, **change}))
    done = subprocess.run([sys.executable, SOURCE, "--check", path], capture_output=True, text=True, timeout=20)
    assert done.returncode == (1 if words else 0), done.stderr
    assert words in done.stderr


def test_it_runs_in_turns_and_ends_when_it_is_told_to(platform: Platform) -> None:
    platform.allocate(("shop", "main", platform.web_port))
    platform.app = (200, b"x 1\n")
    state = Path(str(platform.settings["state_file"]))
    path = state.with_name("config.json")
    path.write_text(json.dumps({**platform.settings, "refresh_seconds": 1.0}))
    with subprocess.Popen([sys.executable, SOURCE, path], stderr=subprocess.PIPE) as process:
        ends = time.monotonic() + 20
        while not (state.exists() and json.loads(state.read_text())["apps"][0]["metrics"]):
            assert time.monotonic() < ends
            time.sleep(0.05)
        process.terminate()
        # Not -15: the first process of a container does not get a signal that it has no answer to.
        assert process.wait(timeout=5) == 0


# Over HTTP.


def test_prometheus_gets_targets_or_a_failure_but_never_an_empty_list_for_want_of_an_answer(platform: Platform) -> None:
    server, discovery = program.serve(program.Settings(**platform.settings))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"

    def get(path: str) -> tuple[int, str, str]:
        try:
            with urllib.request.urlopen(address + path, timeout=5) as answer:
                return answer.status, answer.read().decode(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers["Content-Type"]

    try:
        assert get("/targets/health")[0] == 503
        assert get("/ready")[0] == 503
        assert get("/healthy")[0] == 200
        platform.allocate(("shop", "main", 8101))
        discovery.refresh()
        status, body, kind = get("/targets/health")
        assert (status, kind, len(json.loads(body))) == (200, "application/json", 1)
        assert get("/ready")[0] == 200
        assert "app_discovery_apps 1\n" in get("/metrics")[1]
        assert get("/targets/other")[0] == 404
        assert get("/apps/8101/metrics")[0] == 404
    finally:
        server.shutdown()
        server.server_close()
