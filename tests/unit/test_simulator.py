"""The simulated platform keeps the contract that the collection is written against."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from simulator.app import App  # noqa: E402
from simulator.client import ControlError, parse_parameter, send  # noqa: E402
from simulator.deployment_api import DeploymentApi  # noqa: E402
from simulator.port_manager import PortManager  # noqa: E402
from simulator.service import Service, Settings  # noqa: E402
from simulator.tunnel_manager import TunnelManager  # noqa: E402

Start = Callable[..., Service]


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket may have 107 characters only."""
    with tempfile.TemporaryDirectory(prefix="sim") as name:
        yield Path(name)


@pytest.fixture
def start(room: Path) -> Iterator[Start]:
    """Start a service in this process on a port of its own; stop it when the test ends."""
    running: list[Service] = []

    def begin(kind: type[Service], name: str | None = None, listen: str = "127.0.0.1", **options: Any) -> Service:
        settings = Settings(
            name=name or kind.title,
            listen=listen,
            state_dir=room,
            run_dir=room,
            log_file=room / f"{name or kind.title}.log",
            content_type=options.pop("content_type", None),
            activity=options.pop("activity", 0),
        )
        service = kind(settings, **options)
        running.append(service)
        service.start()
        return service

    yield begin
    for service in running:
        service.stop()


def request(
    service: Service,
    path: str,
    method: str = "GET",
    body: Any = None,
    host: str = "127.0.0.1",
    timeout: float = 5,
) -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection(host, service.listener.port, timeout=timeout)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


def get_json(service: Service, path: str) -> Any:
    status, content_type, body = request(service, path)
    assert status == 200
    assert content_type == "application/json; charset=utf-8"
    return json.loads(body)


def act(service: Service, action: str, **parameters: Any) -> dict[str, Any]:
    """Send a control action to the service's own port."""
    status, _, body = request(service, "/control", "POST", {"action": action, **parameters})
    assert status == 200, body
    return json.loads(body)


def samples(service: Service) -> dict[str, float]:
    """Parse /metrics with the official parser: series as it is written → value."""
    status, _, body = request(service, "/metrics")
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def types(service: Service) -> dict[str, str]:
    """Return the # TYPE lines as they are written."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", request(service, "/metrics")[2], re.MULTILINE))


def log_lines(room: Path, name: str) -> list[dict[str, Any]]:
    lines = (room / f"{name}.log").read_text(encoding="utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


# -- Port Manager ---------------------------------------------------------------------------------


def test_port_manager_status_has_exactly_the_contracts_keys(start: Start) -> None:
    manager = start(PortManager, seeds=("shop:main:8101", "shop:feature-cart:8102"))
    assert get_json(manager, "/status") == {
        "totalAllocations": 2,
        "availablePorts": 898,
        "database": {
            "allocations": {
                "shop-main": {"project": "shop", "branch": "main", "port": 8101},
                "shop-feature-cart": {"project": "shop", "branch": "feature-cart", "port": 8102},
            }
        },
    }


def test_port_manager_speaks_only_status_and_metrics(start: Start) -> None:
    manager = start(PortManager)
    assert request(manager, "/health")[0] == 404
    assert request(manager, "/")[0] == 404


PORT_MANAGER_OLD = {
    "port_manager_total_allocations": "gauge",
    "port_manager_available_ports": "gauge",
    "port_manager_allocation_requests_total": "counter",
}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("old", PORT_MANAGER_OLD),
        ("new", {**PORT_MANAGER_OLD, "port_manager_allocation_failures_total": "counter"}),
    ],
)
def test_port_manager_metrics_of_both_builds(start: Start, build: str, expected: dict[str, str]) -> None:
    manager = start(PortManager, build=build, seeds=("shop:main:8101",))
    assert types(manager) == expected
    assert samples(manager) == {
        **dict.fromkeys(expected, 0),
        "port_manager_total_allocations": 1,
        "port_manager_available_ports": 899,
    }


def test_port_manager_allocates_the_lowest_free_port_and_the_same_again(start: Start) -> None:
    manager = start(PortManager, build="new", seeds=("shop:main:8100",))
    assert act(manager, "allocate", project="blog", branch="main")["port"] == 8101
    assert act(manager, "allocate", project="blog", branch="main")["port"] == 8101
    assert act(manager, "allocate", project="api", branch="main", port=8105)["port"] == 8105
    assert act(manager, "allocate", project="api", branch="next", port=8105)["port"] is None
    values = samples(manager)
    assert values["port_manager_allocation_requests_total"] == 4
    assert values["port_manager_allocation_failures_total"] == 1
    assert values["port_manager_total_allocations"] == 3


def test_port_manager_keeps_allocations_but_not_counters_over_a_restart(start: Start) -> None:
    seeds = ("shop:main:8101", "blog:main:8103")
    manager = start(PortManager, seeds=seeds)
    act(manager, "allocate", project="api", branch="main")
    act(manager, "release", project="blog", branch="main")
    manager.stop()
    again = start(PortManager, seeds=seeds)
    assert sorted(get_json(again, "/status")["database"]["allocations"]) == ["api-main", "shop-main"]
    assert samples(again)["port_manager_allocation_requests_total"] == 0


def test_port_manager_full_refuses_and_says_so(start: Start, room: Path) -> None:
    manager = start(PortManager, build="new", seeds=("shop:main:8101",))
    act(manager, "fill_ports", to=900, backing="none")
    status = get_json(manager, "/status")
    assert (status["totalAllocations"], status["availablePorts"]) == (900, 0)
    ports = sorted(entry["port"] for entry in status["database"]["allocations"].values())
    assert ports == list(range(8100, 9000))
    assert act(manager, "allocate", project="late", branch="main")["port"] is None
    assert samples(manager)["port_manager_allocation_failures_total"] == 1
    last = (room / "port-manager.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "ERROR" in last, 'the mission searches for |= "ERROR"'
    act(manager, "fill_ports", to=0)
    assert get_json(manager, "/status")["totalAllocations"] == 1, "real allocations stay"


def test_filled_ports_answer_health_like_the_apps_they_stand_for(start: Start) -> None:
    # Not 127.0.0.1: there a demo may be running on these very ports.
    manager = start(PortManager, listen="127.0.0.77")
    status, _, body = request(manager, "/control", "POST", {"action": "fill_ports", "to": 3}, "127.0.0.77")
    assert (status, json.loads(body)) == (200, {"ok": True, "totalAllocations": 3, "unserved": []})
    for port in (8100, 8101, 8102):
        connection = http.client.HTTPConnection("127.0.0.77", port, timeout=5)
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (200, {"status": "healthy"})
        connection.close()
    request(manager, "/control", "POST", {"action": "fill_ports", "to": 1}, "127.0.0.77")
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.77", 8102, timeout=5).request("GET", "/health")


def test_hidden_fillers_are_counted_but_not_listed(start: Start) -> None:
    manager = start(PortManager, seeds=("shop:main:8101",))
    act(manager, "fill_ports", to=750, backing="hidden")
    status = get_json(manager, "/status")
    assert (status["totalAllocations"], list(status["database"]["allocations"])) == (750, ["shop-main"])
    assert samples(manager)["port_manager_available_ports"] == 150


def test_port_manager_log_lines(start: Start, room: Path) -> None:
    manager = start(PortManager)
    act(manager, "allocate", project="shop", branch="feature-cart")
    line = log_lines(room, "port-manager")[-1]
    assert set(line) == {"timestamp", "level", "message", "port", "project", "branch"}
    assert (line["port"], line["project"], line["branch"]) == (8100, "shop", "feature-cart")
    written = datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))
    assert abs((datetime.now(UTC) - written).total_seconds()) < 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])


# -- Deployment API -------------------------------------------------------------------------------

DEPLOYMENT_OLD = {
    "deployment_total": "counter",
    "deployment_success_total": "counter",
    "deployment_duration_seconds": "histogram",
}
DEPLOYMENT_NEW = {**DEPLOYMENT_OLD, "deployment_failures_total": "counter"}


def bucket(bound: str) -> str:
    return f'deployment_duration_seconds_bucket{{le="{bound}"}}'


OLD_VALUES = {
    "deployment_total": 5,
    "deployment_success_total": 3,
    bucket("60"): 2,
    bucket("300"): 3,
    bucket("+Inf"): 5,
}
NEW_VALUES = {
    **OLD_VALUES,
    "deployment_failures_total": 2,
    "deployment_duration_seconds_count": 5,
    "deployment_duration_seconds_sum": 30 + 60 + 299 + 600 + 601,
}


@pytest.mark.parametrize(
    ("build", "expected_types", "expected"),
    [
        ("old", DEPLOYMENT_OLD, OLD_VALUES),
        ("new", DEPLOYMENT_NEW, NEW_VALUES),
        ("newest", DEPLOYMENT_NEW, {**NEW_VALUES, bucket("600"): 4}),
    ],
)
def test_deployment_metrics_of_all_builds(
    start: Start, build: str, expected_types: dict[str, str], expected: dict[str, float]
) -> None:
    api = start(DeploymentApi, build=build)
    for seconds, outcome in (
        (30, "success"),
        (60, "success"),
        (299, "failure"),
        (600, "success"),
        (601, "failure"),
    ):
        act(api, "deploy", duration=seconds, outcome=outcome)
    assert types(api) == expected_types
    assert samples(api) == expected


def test_deployment_counters_stay_exact_when_large(start: Start) -> None:
    api = start(DeploymentApi)
    api.durations = [1.0] * 1_234_567
    assert "\ndeployment_total 1234567\n" in request(api, "/metrics")[2]


@pytest.mark.parametrize(
    ("build", "given", "expected"),
    [
        ("old", None, "text/plain; charset=utf-8"),
        ("new", None, "text/plain; version=0.0.4; charset=utf-8"),
        ("old", "none", None),
        ("old", "text/html; charset=utf-8", "text/html; charset=utf-8"),
    ],
)
def test_content_type_of_metrics(start: Start, build: str, given: str | None, expected: str | None) -> None:
    api = start(DeploymentApi, build=build, content_type=given)
    assert request(api, "/metrics")[1] == expected


def test_hand_written_metrics_begin_with_an_empty_line_as_the_missions_do(start: Start) -> None:
    assert request(start(DeploymentApi), "/metrics")[2].startswith("\n# HELP deployment_total Total déploiements\n")


def test_deployment_status_and_counters(start: Start) -> None:
    api = start(DeploymentApi)
    assert get_json(api, "/status") == {
        "status": "idle",
        "totalDeployments": 0,
        "successfulDeployments": 0,
        "failedDeployments": 0,
    }
    act(api, "deploy", count=2)
    act(api, "fail_deployment", count=3)
    assert get_json(api, "/status") == {
        "status": "idle",
        "totalDeployments": 5,
        "successfulDeployments": 2,
        "failedDeployments": 3,
    }


def test_a_deployment_under_way_shows_and_is_counted_when_it_ends(start: Start) -> None:
    api = start(DeploymentApi)
    act(api, "deploy", takes=0.4)
    status = get_json(api, "/status")
    assert (status["status"], status["totalDeployments"]) == ("deploying", 0)
    deadline = time.monotonic() + 5
    while get_json(api, "/status")["status"] == "deploying" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert get_json(api, "/status")["totalDeployments"] == 1


def test_deployment_logs_and_log_file_agree(start: Start, room: Path) -> None:
    api = start(DeploymentApi)
    (good,) = act(api, "deploy", project="shop", branch="feature-cart")["deployment_ids"]
    (bad,) = act(api, "fail_deployment", project="blog")["deployment_ids"]
    assert good != bad
    assert all(re.fullmatch(r"deploy-\d{13}", name) for name in (good, bad))
    logs = get_json(api, "/logs")
    assert set(logs) == {"logs"}
    assert all(set(entry) == {"timestamp", "level", "message", "deployment_id"} for entry in logs["logs"])
    told = [(entry["message"][0], entry["level"], entry["deployment_id"]) for entry in logs["logs"]]
    assert told == [("🚀", "info", good), ("✅", "info", good), ("🚀", "info", bad), ("❌", "error", bad)]
    lines = [line for line in log_lines(room, "deployment-api") if "deployment_id" in line]
    assert all(set(line) == {"timestamp", "level", "message", "deployment_id", "commit"} for line in lines)
    assert [{key: line[key] for key in logs["logs"][0]} for line in lines] == logs["logs"]
    assert all(re.fullmatch(r"[0-9a-f]{40}", line["commit"]) for line in lines)
    assert "❌".encode() in (room / "deployment-api.log").read_bytes(), "emoji are written as they are"


def test_deployment_api_is_healthy_and_forgets_over_a_restart(start: Start) -> None:
    api = start(DeploymentApi)
    assert get_json(api, "/health") == {"status": "healthy"}
    act(api, "deploy")
    api.stop()
    again = start(DeploymentApi)
    assert samples(again)["deployment_total"] == 0
    assert get_json(again, "/logs") == {"logs": []}


# -- Tunnel Manager -------------------------------------------------------------------------------


def test_tunnel_manager_has_no_metrics_unless_asked_for(start: Start) -> None:
    manager = start(TunnelManager)
    assert get_json(manager, "/health") == {"status": "healthy"}
    assert request(manager, "/metrics")[0] == 404
    act(manager, "metrics", enabled=True)
    assert samples(manager)["tunnel_manager_active_tunnels"] == 0


def test_tunnel_manager_log_lines(start: Start, room: Path) -> None:
    manager = start(TunnelManager, tunnels=("shop-main-deploy=shop-main.example.test",), metrics=True)
    act(manager, "tunnel", container="blog-main-deploy", hostname="blog-main.example.test")
    assert samples(manager)["tunnel_manager_active_tunnels"] == 2
    lines = [line for line in log_lines(room, "tunnel-manager") if "container" in line]
    assert all(set(line) == {"timestamp", "level", "message", "hostname", "container"} for line in lines)
    assert [line["container"] for line in lines] == ["shop-main-deploy", "blog-main-deploy"]


# -- apps -----------------------------------------------------------------------------------------


def test_app_counts_requests_by_method_and_status(start: Start) -> None:
    app = start(App, "shop-main-deploy", rps=0)
    assert get_json(app, "/health") == {"status": "healthy"}
    for method, path, expected in (
        ("GET", "/", 200),
        ("GET", "/", 200),
        ("POST", "/", 404),
        ("GET", "/no", 404),
    ):
        assert request(app, path, method)[0] == expected
    values = samples(app)
    counted = {name: value for name, value in values.items() if name.startswith("http_requests")}
    assert counted == {
        'http_requests_total{method="GET",status="200"}': 2,
        'http_requests_total{method="POST",status="404"}': 1,
        'http_requests_total{method="GET",status="404"}': 1,
    }, "neither /health nor /metrics is counted, and the Python client's _created is not there"
    assert values["http_request_duration_seconds_count"] == 4
    assert types(app) == {"http_requests_total": "counter", "http_request_duration_seconds": "histogram"}


def test_app_without_metrics_still_answers_health(start: Start) -> None:
    app = start(App, "docs-main-deploy", metrics=False)
    assert request(app, "/metrics")[0] == 404
    assert request(app, "/health")[0] == 200


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 1])
def test_error_ratio_holds_exactly(start: Start, ratio: float) -> None:
    app = start(App, "shop-main-deploy", rps=0)
    act(app, "errors", ratio=ratio, status=502)
    for _ in range(100):
        request(app, "/")
    assert samples(app)['http_requests_total{method="GET",status="502"}'] == round(100 * ratio)
    assert request(app, "/health")[0] == 200, "an app that fails some requests is not an app that is down"


def test_app_serves_itself_a_steady_repeatable_trickle(start: Start) -> None:
    app = start(App, "shop-main-deploy", rps=50)
    time.sleep(1)
    act(app, "traffic", rps=0)
    served = samples(app)["http_request_duration_seconds_count"]
    assert 25 <= served <= 60
    counts = []
    for name in ("one", "one", "two"):
        twin = start(App, name, rps=0)
        for _ in range(200):
            twin.visit()
        counts.append(samples(twin))
        twin.stop()
    assert counts[0] == counts[1] != counts[2]


def test_slow_app_shows_in_its_histogram(start: Start) -> None:
    app = start(App, "shop-main-deploy", rps=0)
    act(app, "slow", seconds=0.3)
    request(app, "/")
    app.visit()
    values = samples(app)
    assert values['http_request_duration_seconds_bucket{le="0.25"}'] == 0
    assert values["http_request_duration_seconds_count"] == 2


def test_app_can_flood_its_metrics(start: Start) -> None:
    app = start(App, "shop-main-deploy", rps=0)
    act(app, "extra_series", count=1000)
    assert sum(name.startswith("app_session{") for name in samples(app)) == 1000


# -- breaking and mending -------------------------------------------------------------------------


def test_refuse_closes_the_port_but_not_the_control_socket(start: Start, room: Path) -> None:
    api = start(DeploymentApi)
    port = api.listener.port
    act(api, "deploy")
    act(api, "down")
    with pytest.raises(ConnectionRefusedError):
        request(api, "/health")
    assert send("deployment-api", run_dir=room)["mode"] == "refuse"
    send("deployment-api", "up", run_dir=room)
    assert api.listener.port == port
    assert samples(api)["deployment_total"] == 1, "a program that was away has not forgotten"


def test_hang_never_answers_until_released(start: Start) -> None:
    api = start(DeploymentApi)
    act(api, "down", mode="hang")
    with pytest.raises(TimeoutError):
        request(api, "/metrics", timeout=0.5)
    act(api, "up")
    assert request(api, "/metrics")[0] == 200


def test_error_mode_and_sick_health(start: Start) -> None:
    api = start(DeploymentApi)
    act(api, "down", mode="error")
    assert {request(api, path)[0] for path in ("/health", "/metrics", "/status")} == {503}
    act(api, "reset")
    act(api, "health", status=500)
    assert (request(api, "/health")[0], request(api, "/metrics")[0]) == (500, 200)


def test_down_for_some_seconds_comes_back_alone(start: Start) -> None:
    api = start(DeploymentApi)
    act(api, "down", seconds=0.3)
    with pytest.raises(ConnectionRefusedError):
        request(api, "/health")
    deadline = time.monotonic() + 5
    while api.mode != "up" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert request(api, "/health")[0] == 200


def test_reset_mends_everything(start: Start) -> None:
    app = start(App, "shop-main-deploy", rps=2)
    sound = get_json(app, "/control")
    for action, parameters in (
        ("slow", {"seconds": 0.1}),
        ("health", {}),
        ("errors", {"ratio": 1}),
        ("traffic", {"rps": 0}),
        ("extra_series", {"count": 5}),
        ("down", {"mode": "error"}),
    ):
        act(app, action, **parameters)
    assert get_json(app, "/control") != sound
    act(app, "reset")
    assert get_json(app, "/control") == sound
    assert (app.rps, app.extra_series) == (2, 0)


def test_log_action_writes_what_a_test_wants_to_find(start: Start, room: Path) -> None:
    manager = start(PortManager)
    act(manager, "log", text="needle", level="error", count=3, port=8107)
    lines = [line for line in log_lines(room, "port-manager") if line["message"] == "needle"]
    assert [(line["level"], line["port"]) for line in lines] == [("ERROR", 8107)] * 3


def test_everyday_activity_only_where_asked_for(start: Start) -> None:
    quiet, busy = (
        start(PortManager, "quiet"),
        start(PortManager, "busy", activity=0.1, seeds=("shop:main:8101",)),
    )
    time.sleep(0.6)
    name = "port_manager_allocation_requests_total"
    assert (samples(quiet)[name], samples(busy)[name] >= 2) == (0, True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("not json", "Expecting value"),
        ([], "send a JSON object"),
        ({"action": "fly"}, "port-manager has no action fly; it has allocate, build, crash_loop"),
        ({"action": "fill_ports"}, "missing a required argument: 'to'"),
        ({"action": "fill_ports", "to": 901}, "to must be a number from 0 to 900, not 901"),
        ({"action": "fill_ports", "to": 1.5}, "to must be a whole number"),
        ({"action": "fill_ports", "to": 5, "backing": "maybe"}, "backing must be one of serve, none, hidden"),
        ({"action": "allocate", "project": "shop", "branch": ""}, "branch must be a text"),
        (
            {"action": "allocate", "project": "shop", "branch": "main", "port": 80},
            "port must be a number from 8100",
        ),
        ({"action": "release", "project": "shop", "branch": "main"}, "nothing is allocated to shop-main"),
        ({"action": "errors", "ratio": 20}, "ratio must be a number from 0 to 1, not 20"),
        ({"action": "down", "mode": "gone"}, "mode must be one of refuse, hang, error"),
        ({"action": "metrics", "enabled": "yes"}, "enabled must be true or false"),
        ({"action": "build", "name": "ancient"}, "name must be one of old, new"),
        (
            {"action": "log", "text": "x", "commit": "y"},
            "port-manager logs no commit; it has port, project, branch",
        ),
        ({"action": "forget"}, "say confirm=true"),
    ],
)
def test_senseless_control_requests_are_refused_by_name(start: Start, body: Any, expected: str) -> None:
    manager = start(PortManager)
    before = samples(manager)
    connection = http.client.HTTPConnection("127.0.0.1", manager.listener.port, timeout=5)
    connection.request("POST", "/control", body if isinstance(body, str) else json.dumps(body))
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert (response.status, answer["ok"]) == (400, False)
    assert expected in answer["error"]
    assert samples(manager) == before


# -- the processes themselves ---------------------------------------------------------------------


@pytest.fixture
def launch(room: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run `python3 -m simulator …` as the container does; wait for its control socket."""
    children: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, name: str) -> subprocess.Popen[str]:
        folders = ["--state-dir", str(room), "--run-dir", str(room), "--port", "0"]
        child = subprocess.Popen(
            [sys.executable, "-m", "simulator", *arguments, *folders],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        deadline = time.monotonic() + 15
        while child.poll() is None and time.monotonic() < deadline:
            try:
                send(name, run_dir=room)
                break
            except ControlError:
                time.sleep(0.05)
        return child

    yield begin
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def control(room: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = ["--run-dir", str(room), "--state-dir", str(room)]
    return subprocess.run(
        [sys.executable, "-m", "simulator", "control", *arguments, *folders],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_process_stops_at_once_when_told_to(launch: Any, room: Path) -> None:
    child = launch("port-manager", "--log-file", str(room / "logs" / "x.log"), name="port-manager")
    child.send_signal(signal.SIGTERM)
    assert child.wait(3) == 0
    assert (room / "logs" / "x.log").read_text().count("\n") == 1
    assert not (room / "port-manager.sock").exists()


def test_client_shows_the_state_acts_and_explains(launch: Any, room: Path) -> None:
    launch("deployment-api", "--build", "newest", "--log-file", "-", name="deployment-api")
    state = json.loads(control(room, "deployment-api").stdout)
    assert (state["build"], state["mode"]) == ("newest", "up")
    done = control(room, "deployment-api", "deploy", "outcome=failure", "count=2", "project=shop")
    assert len(json.loads(done.stdout)["deployment_ids"]) == 2
    refused = control(room, "deployment-api", "deploy", "outcome=perhaps")
    assert refused.returncode == 1
    assert "outcome must be one of success, failure" in refused.stderr
    nobody = control(room, "blog-main-deploy", "up")
    assert nobody.returncode == 1
    assert "blog-main-deploy: no socket" in nobody.stderr


def test_exit_ends_the_process_with_its_code(launch: Any, room: Path) -> None:
    child = launch("app", "--name", "shop-main-deploy", name="shop-main-deploy")
    control(room, "shop-main-deploy", "exit", "code=7")
    assert child.wait(5) == 7


def test_crash_loop_lasts_over_restarts_until_cleared_from_outside(launch: Any, room: Path) -> None:
    name = "shop-main-deploy"
    child = launch("app", "--name", name, "--rps", "0", name=name)
    assert control(room, name, "crash_loop", "after=0.2").returncode == 0
    assert child.wait(5) == 1
    again = launch("app", "--name", name, "--rps", "0", name=name)
    assert again.wait(5) == 1
    words = [json.loads(line)["message"] for line in again.communicate()[0].splitlines()]
    assert words == [f"{name} restarted after a crash", f"{name} crashed, the engine will restart it"]
    cleared = control(room, name, "crash_loop", "enabled=false")
    assert "the loop ends with the next start" in cleared.stdout, "nobody is there to be asked"
    healed = launch("app", "--name", name, name=name)
    time.sleep(0.5)
    assert healed.poll() is None


@pytest.mark.parametrize(("options", "reachable"), [((), False), (("--listen", "0.0.0.0"), True)])
def test_loopback_only_unless_told_otherwise(
    launch: Any, room: Path, options: tuple[str, ...], reachable: bool
) -> None:
    launch("deployment-api", "--log-file", "-", *options, name="deployment-api")
    port = send("deployment-api", run_dir=room)["port"]
    with socket.socket() as probe:
        # The whole of 127/8 is this machine; a program on loopback only listens on 127.0.0.1 of it.
        assert (probe.connect_ex(("127.0.0.2", port)) == 0) is reachable
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_said_in_one_line(start: Start) -> None:
    api = start(DeploymentApi)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "simulator",
            "deployment-api",
            "--port",
            str(api.listener.port),
            "--log-file",
            "-",
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "simulator: [Errno 98] Address already in use\n")


def test_client_parameters_are_json_where_they_can_be() -> None:
    assert [parse_parameter(text)[1] for text in ("a=1", "a=false", "a=main", "a=x=y")] == [
        1,
        False,
        "main",
        "x=y",
    ]
    with pytest.raises(ControlError, match="key=value"):
        parse_parameter("main")
