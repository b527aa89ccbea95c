"""app_discovery against a Port Manager and an engine that are well, away, slow or hostile."""

from __future__ import annotations

import http.server
import importlib.util
import json
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
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
        self.inspections[name] = {
            "State": {"Running": running},
            "RestartCount": restarts,
            "Config": {"Labels": {key.replace("_", "."): value for key, value in labels.items()}},
        }
        listed = [
            {"Id": n, "Names": [f"/{n}"], "State": "running" if i["State"]["Running"] else "exited"}
            for n, i in self.inspections.items()
        ]
        self.containers = (200, json.dumps(listed).encode())

    def discovery(self) -> Any:
        return program.Discovery(program.Settings(**self.settings))

    def refreshed(self) -> Any:
        found = self.discovery()
        found.refresh()
        return found


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
    made.web_port = next(web).server_address[1]  # type: ignore[attr-defined]
    made.settings["port_manager_url"] = f"http://127.0.0.1:{made.web_port}/status"  # type: ignore[attr-defined]
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
    found.refresh()
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
    platform.raw_allocations({"a": good, "b": entry, "c": also})
    found = platform.refreshed()
    assert apps(found.targets("health")) == ["shop-main", "blog-main"]
    for name in ("name", "port", "duplicate"):
        series = f'app_discovery_refused_entries{{reason="{name}"}}'
        assert value(found.exposition(), series) == (1 if name == reason else 0)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"database": {}}'),
        (200, b'{"database": {"allocations": []}}'),
        (500, b'{"database": {"allocations": {}}}'),
        (200, b"[" * 100_000),
        (200, b" " * (9 << 20)),
    ],
    ids=["html", "list", "none", "wrong type", "status 500", "nested", "huge"],
)
def test_an_answer_that_is_none_forgets_nobody(platform: Platform, answer: Answer) -> None:
    platform.allocate(("shop", "main", 8101))
    found = platform.refreshed()
    platform.status = answer
    found.refresh()
    assert apps(found.targets("health")) == ["shop-main"]
    assert value(found.exposition(), 'app_discovery_source_up{source="port-manager"}') == 0
    assert value(found.exposition(), 'app_discovery_refresh_errors_total{source="port-manager"}') == 1


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
    found.refresh()
    assert apps(found.targets("health")) == ["shop-main"]
    series = 'app_discovery_source_last_success_timestamp_seconds{source="port-manager"}'
    assert abs((value(found.exposition(), series) or 0) - time.time()) < 60


@pytest.mark.parametrize("text", ["", "{}", '{"apps": [{"x": 1}], "with_metrics": [], "time": 0}', "[]"])
def test_a_state_that_is_of_no_use_is_like_none(platform: Platform, text: str) -> None:
    Path(str(platform.settings["state_file"])).write_text(text)
    assert platform.discovery().targets("health") is None


def test_without_the_engine_the_targets_stay_and_nothing_is_said_of_containers(platform: Platform) -> None:
    platform.allocate(("shop", "main", 8101))
    platform.run("shop-main-deploy", tunnel_enable="true", tunnel_hostname="shop.example.com")
    found = platform.refreshed()
    assert "app_discovery_container_running" in found.exposition()
    platform.containers = (403, b"")
    found.refresh()
    assert apps(found.targets("health")) == ["shop-main"]
    assert apps(found.targets("public")) == ["shop-main"]
    assert "app_discovery_container_running" not in found.exposition()
    assert value(found.exposition(), 'app_discovery_source_up{source="docker"}') == 0


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


# Apps with metrics.


def test_only_an_app_with_metrics_is_scraped_and_it_stays_a_target_when_it_fails(platform: Platform) -> None:
    port = platform.web_port  # type: ignore[attr-defined]
    platform.allocate(("shop", "main", port))
    platform.settings["metrics_probe_seconds"] = 0.0
    found = platform.refreshed()
    assert found.targets("metrics") == []
    platform.app = (200, b"<html>hello</html>")
    found.refresh()
    assert found.targets("metrics") == []
    platform.app = (200, b"# HELP x y\n# TYPE x counter\nx 1\n")
    found.refresh()
    assert found.targets("metrics")[0]["targets"] == [f"127.0.0.1:{port}"]
    assert found.targets("metrics")[0]["labels"]["__metrics_path__"] == "/metrics"
    platform.app = (500, b"")
    found.refresh()
    assert apps(found.targets("metrics")) == ["shop-main"]
    assert apps(platform.discovery().targets("metrics")) == ["shop-main"], "forgotten over a restart"
    platform.app = (404, b"")
    found.refresh()
    assert found.targets("metrics") == []


def test_an_app_is_not_asked_for_metrics_at_each_round(platform: Platform) -> None:
    port = platform.web_port  # type: ignore[attr-defined]
    platform.allocate(("shop", "main", port))
    found = platform.refreshed()
    platform.app = (200, b"x 1\n")
    found.refresh()
    assert found.targets("metrics") == []


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
    finally:
        server.shutdown()
        server.server_close()
