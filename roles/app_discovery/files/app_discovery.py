"""Tells Prometheus which apps should run: the Port Manager's allocations, enriched by what the engine shows.

An app that died is no longer among the running containers, so what should run comes from the Port Manager. Both
sources are strangers: an entry that makes no sense is counted and left out, and never hides the others. While the Port
Manager is away its last answer stays in force, over a restart of this program too.

    python3 app_discovery.py [--check] CONFIG     a JSON file; the keys are those of Settings. --check only reads it

GET /targets/health, /targets/metrics, /targets/public: Prometheus' HTTP service discovery. /metrics: about itself.
/ready: 200 once the allocations are known, /healthy: 200 while it serves. Standard library only.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

MAX_ANSWER_BYTES = 8 << 20
MAX_LABEL_LENGTH = 128
HOSTNAME = re.compile(r"^(?=.{1,253}$)[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*$")
# What Docker accepts in a container's name; the platform replaces the rest.
UNNAMEABLE = re.compile(r"[^a-zA-Z0-9_.-]+")
EXPOSITION = re.compile(
    rb"^(# (HELP|TYPE) |[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eENaInf]+( -?\d+)?$)", re.MULTILINE
)


@dataclass(frozen=True)
class Settings:
    """How the program was told to run. Times are in seconds."""

    address: str
    port: int
    host: str
    port_manager_url: str
    engine_socket: str
    state_file: str
    refresh_seconds: float = 10.0
    timeout_seconds: float = 5.0
    first_port: int = 8100
    last_port: int = 8999
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    metrics_probe_seconds: float = 60.0


@dataclass(frozen=True)
class App:
    """What the Port Manager says that should run."""

    project: str
    branch: str
    port: int

    @property
    def name(self) -> str:
        """Return the label C(app)."""
        return f"{self.project}-{self.branch}"

    @property
    def container(self) -> str:
        """Return the name of its container, as the platform makes it."""
        return UNNAMEABLE.sub("-", f"{self.name}-deploy")


@dataclass(frozen=True)
class Container:
    """What the engine says of one app's container."""

    running: bool
    restarts: int
    hostname: str


class SourceError(Exception):
    """A source did not answer, or answered nonsense."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def fetch(connection: http.client.HTTPConnection, path: str, limit: int = MAX_ANSWER_BYTES) -> tuple[int, bytes]:
    """Ask once and return status and body.

    :raises SourceError: when nothing answers in time, or more than `limit` bytes.
    """
    # A server that sends a byte now and then keeps every single read in time, so the whole has a limit too.
    deadline = time.monotonic() + (connection.timeout or 5.0)
    try:
        connection.request("GET", path, headers={"Host": "localhost", "Accept": "*/*"})
        answer = connection.getresponse()
        body = bytearray()
        while chunk := answer.read1(1 << 16):
            body += chunk
            if len(body) > limit:
                raise SourceError(f"an answer of more than {limit} bytes")
            if time.monotonic() > deadline:
                raise SourceError("an answer that does not end")
        return answer.status, bytes(body)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def fetch_json(connection: http.client.HTTPConnection, path: str) -> Any:
    """Ask once and return the decoded answer.

    :raises SourceError: as fetch, and for another status than 200 or an answer that is no JSON.
    """
    status, body = fetch(connection, path)
    if status != 200:
        raise SourceError(f"status {status}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"no JSON: {error}") from error


def parse_allocations(status: Any, first_port: int, last_port: int) -> tuple[list[App], Counter[str]]:
    """Read the Port Manager's /status; return the apps by port, and how many entries were left out for which reason.

    :raises SourceError: when it is not what a Port Manager answers at all; to take that for "no apps" would forget all.
    """
    database = status.get("database") if isinstance(status, dict) else None
    allocations = database.get("allocations") if isinstance(database, dict) else None
    if not isinstance(allocations, dict):
        raise SourceError("no database.allocations in it")
    found: dict[int, App] = {}
    names: set[tuple[str, str]] = set()
    refused: Counter[str] = Counter()
    for entry in allocations.values():
        project, branch, port = (
            (entry.get(key) for key in ("project", "branch", "port")) if isinstance(entry, dict) else (None,) * 3
        )
        if not (text(project) and text(branch)):
            refused["name"] += 1
        elif isinstance(port, bool) or not isinstance(port, int) or not first_port <= port <= last_port:
            refused["port"] += 1
        elif port in found or (project, branch) in names:
            refused["duplicate"] += 1
        else:
            found[port] = App(project, branch, port)
            names.add((project, branch))
    return [found[port] for port in sorted(found)], refused


def text(value: Any) -> bool:
    """Whether a value can be a label: a text, not empty, not too long, without control characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL_LENGTH and value.isprintable()


def ask_engine(settings: Settings, apps: list[App]) -> tuple[dict[str, Container], int]:
    """Return the containers of these apps by name, and how many others look like an app and have no allocation.

    :raises SourceError: when the engine, or the filter before it, does not answer.
    """

    def ask(path: str) -> Any:
        return fetch_json(UnixConnection(settings.engine_socket, settings.timeout_seconds), path)

    listed = ask("/containers/json?all=1")
    if not isinstance(listed, list):
        raise SourceError("no list of containers")
    wanted = {app.container for app in apps}
    ids: dict[str, str] = {}
    strangers = 0
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        names = [str(name).removeprefix("/") for name in entry.get("Names") or []]
        name = next((name for name in names if name in wanted), "")
        if name:
            ids[name] = str(entry.get("Id", ""))
        elif entry.get("State") == "running" and any(name.endswith("-deploy") for name in names):
            strangers += 1

    def inspect(name: str) -> tuple[str, Container] | None:
        try:
            one = ask(f"/containers/{ids[name]}/json")
            labels = one["Config"].get("Labels") or {}
            hostname = str(labels.get("tunnel.hostname", "")) if labels.get("tunnel.enable") == "true" else ""
            state = one["State"]
            running = bool(state["Running"]) and not state.get("Restarting")
            return name, Container(running, int(one["RestartCount"]), hostname if HOSTNAME.match(hostname) else "")
        except (SourceError, KeyError, TypeError, ValueError, AttributeError):
            # Removed between the two questions, or nonsense: nothing is known of it.
            return None

    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        found = dict(pair for pair in pool.map(inspect, ids) if pair)
    # One that the engine does not list at all does not run.
    return {
        name: found.get(name, Container(False, 0, "")) for name in wanted if name in found or name not in ids
    }, strangers


class Discovery:
    """Keeps what is known and refreshes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.apps: list[App] | None = None
        self.containers: dict[str, Container] = {}
        self.strangers = 0
        self.with_metrics: set[App] = set()
        self.refused: Counter[str] = Counter()
        self.up = {"port-manager": False, "docker": False}
        self.last_success = {"port-manager": 0.0, "docker": 0.0}
        self.errors: Counter[str] = Counter({"port-manager": 0, "docker": 0})
        self.refresh_seconds = 0.0
        self._probed: dict[App, float] = {}
        self._said: dict[str, str] = {}
        self._load()

    # -- state --------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            with open(self.settings.state_file, encoding="utf-8") as reader:
                kept = json.load(reader)
            self.apps = [App(**entry) for entry in kept["apps"]]
            self.with_metrics = {App(**entry) for entry in kept["with_metrics"]} & set(self.apps)
            self.last_success["port-manager"] = float(kept["time"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"{self.settings.state_file} is of no use and will be written anew: {error}")
            self.apps, self.with_metrics = None, set()

    def _save(self) -> None:
        kept = {
            "apps": [asdict(app) for app in self.apps or []],
            "with_metrics": [asdict(app) for app in sorted(self.with_metrics, key=lambda app: app.port)],
            "time": self.last_success["port-manager"],
        }
        draft = self.settings.state_file + ".new"
        try:
            with open(draft, "w", encoding="utf-8") as writer:
                json.dump(kept, writer)
                writer.flush()
                os.fsync(writer.fileno())
            os.replace(draft, self.settings.state_file)
        except OSError as error:
            self._say("state", f"{self.settings.state_file} cannot be written: {error}")
        else:
            self._say("state", "")

    def _say(self, about: str, problem: str) -> None:
        """Log a problem when it begins, changes and ends, not at each round."""
        if self._said.get(about, "") != problem:
            say(f"{about}: {problem or 'works again'}")
            self._said[about] = problem

    # -- refresh ------------------------------------------------------------------------------

    def _from(self, source: str, ask: Callable[[], None]) -> None:
        try:
            ask()
        except SourceError as error:
            self.up[source] = False
            self.errors[source] += 1
            self._say(source, str(error))
        else:
            self.up[source] = True
            self.last_success[source] = time.time()
            self._say(source, "")

    def refresh(self) -> None:
        """Ask both sources once, and look for metrics of apps that are not known to have any."""
        began = time.monotonic()
        before = (self.apps, set(self.with_metrics))
        self._from("port-manager", self._ask_port_manager)
        if self.apps is not None:
            self._from("docker", self._ask_engine)
            self._look_for_metrics()
            if before != (self.apps, self.with_metrics) or self.up["port-manager"]:
                self._save()
        self.refresh_seconds = time.monotonic() - began

    def _ask_port_manager(self) -> None:
        url = urlsplit(self.settings.port_manager_url)
        connection = http.client.HTTPConnection(
            url.hostname or "", url.port or 80, timeout=self.settings.timeout_seconds
        )
        apps, refused = parse_allocations(
            fetch_json(connection, url.path or "/"), self.settings.first_port, self.settings.last_port
        )
        with self.lock:
            self.apps, self.refused = apps, refused
            self.with_metrics &= set(apps)

    def _ask_engine(self) -> None:
        try:
            containers, strangers = ask_engine(self.settings, self.apps or [])
        except SourceError:
            with self.lock:
                # What was known of names stays, what was known of life does not.
                self.strangers = 0
            raise
        with self.lock:
            self.containers, self.strangers = containers, strangers

    def _look_for_metrics(self) -> None:
        """Ask apps for metrics: a stranger without them is no target that is down.

        One that has them stays a target until it says that there are none (404), or is released.
        """
        now = time.monotonic()
        due = [app for app in self.apps or [] if now >= self._probed.get(app, 0.0)]
        self._probed = {app: at for app, at in self._probed.items() if app in set(self.apps or [])}

        def probe(app: App) -> bool | None:
            connection = http.client.HTTPConnection(
                "127.0.0.1", app.port, timeout=min(2.0, self.settings.timeout_seconds)
            )
            try:
                status, body = fetch(connection, self.settings.metrics_path)
            except SourceError:
                return None
            if status == 200:
                return bool(EXPOSITION.search(body))
            return False if status in (404, 405, 410, 501) else None

        with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(zip(due, pool.map(probe, due), strict=True))
        with self.lock:
            for app, has in answers:
                # Without an answer it may be starting: soon again.
                self._probed[app] = now + (self.settings.metrics_probe_seconds if has is not None else 0.0)
                if has:
                    self.with_metrics.add(app)
                elif has is False:
                    self.with_metrics.discard(app)

    # -- answers ------------------------------------------------------------------------------

    def labels(self, app: App) -> dict[str, str]:
        """Return the labels of an app's targets."""
        return {
            "project": app.project,
            "branch": app.branch,
            "app": app.name,
            "port": str(app.port),
            "host": self.settings.host,
            "instance": f"{self.settings.host}:{app.port}",
        }

    def targets(self, kind: str) -> list[dict[str, Any]] | None:
        """Return the targets of a kind as HTTP service discovery wants them, None while nothing is known."""
        with self.lock:
            if self.apps is None:
                return None
            if kind == "metrics":
                chosen = [app for app in self.apps if app in self.with_metrics]
                return [
                    self._group(f"127.0.0.1:{app.port}", app, __metrics_path__=self.settings.metrics_path)
                    for app in chosen
                ]
            if kind == "public":
                return [
                    self._group(f"https://{one.hostname}{self.settings.health_path}", app, hostname=one.hostname)
                    for app in self.apps
                    if (one := self.containers.get(app.container)) and one.hostname
                ]
            return [self._group(f"http://127.0.0.1:{app.port}{self.settings.health_path}", app) for app in self.apps]

    def _group(self, address: str, app: App, **more: str) -> dict[str, Any]:
        return {"targets": [address], "labels": {**self.labels(app), **more}}

    def exposition(self) -> str:
        """Return the program's own metrics."""
        with self.lock:
            return "".join(self._families())

    def _families(self) -> Iterator[str]:
        def family(name: str, kind: str, words: str, samples: list[tuple[dict[str, str], float]]) -> str:
            lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
            for labels, value in samples:
                shown = ",".join(f'{key}="{escape(word)}"' for key, word in labels.items())
                lines.append(f"{name}{{{shown}}} {value:.17g}" if shown else f"{name} {value:.17g}")
            return "\n".join(lines) + "\n"

        apps, known = self.apps or [], self.up["docker"]
        sources = list(self.up)
        yield family(
            "app_discovery_source_up", "gauge", "Whether the source answered when it was last asked.",
            [({"source": s}, float(self.up[s])) for s in sources],
        )  # fmt: skip
        yield family(
            "app_discovery_source_last_success_timestamp_seconds", "gauge", "When the source last answered.",
            [({"source": s}, self.last_success[s]) for s in sources if self.last_success[s]],
        )  # fmt: skip
        yield family(
            "app_discovery_refresh_errors_total", "counter", "Questions that a source did not answer.",
            [({"source": s}, self.errors[s]) for s in sources],
        )  # fmt: skip
        yield family(
            "app_discovery_refresh_duration_seconds", "gauge", "What the last round took.", [({}, self.refresh_seconds)]
        )
        yield family(
            "app_discovery_refused_entries", "gauge", "Allocations that make no sense, by what is wrong with them.",
            [({"reason": reason}, self.refused[reason]) for reason in ("name", "port", "duplicate")],
        )  # fmt: skip
        if self.apps is not None:
            yield family("app_discovery_apps", "gauge", "Apps that should run.", [({}, len(apps))])
            yield family(
                "app_discovery_apps_with_metrics", "gauge", "Apps that have metrics.", [({}, len(self.with_metrics))]
            )
        info = []
        for app in apps:
            one = self.containers.get(app.container)
            labels = {"project": app.project, "branch": app.branch, "app": app.name, "port": str(app.port)}
            info.append(({**labels, "container": app.container, "hostname": one.hostname if one else ""}, 1.0))
        yield family("app_discovery_app_info", "gauge", "An app that should run.", info)
        if known:
            seen = [(app, one) for app in apps if (one := self.containers.get(app.container))]
            for name, kind, words, value in (
                ("running", "gauge", "Whether the app's container runs.", lambda one: float(one.running)),
                ("restarts", "gauge", "How often the engine restarted the app's container.", lambda one: one.restarts),
            ):
                samples = [({"project": a.project, "branch": a.branch, "app": a.name}, value(one)) for a, one in seen]
                yield family(f"app_discovery_container_{name}", kind, words, samples)
            yield family(
                "app_discovery_unallocated_containers", "gauge", "Containers named like apps, without an allocation.",
                [({}, self.strangers)],
            )  # fmt: skip


def escape(word: str) -> str:
    """Escape a label's value for the exposition format."""
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def say(words: str) -> None:
    """Log a line."""
    print(words, file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    """Answers Prometheus."""

    discovery: Discovery
    timeout = 30

    def do_GET(self) -> None:
        """Answer one request."""
        path = urlsplit(self.path).path
        if path in ("/targets/health", "/targets/metrics", "/targets/public"):
            targets = self.discovery.targets(path.rpartition("/")[2])
            # Not an empty list: Prometheus keeps the targets that it has while discovery fails.
            self._send(503 if targets is None else 200, json.dumps(targets), "application/json")
        elif path == "/metrics":
            self._send(200, self.discovery.exposition(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/healthy":
            self._send(200, "ok\n", "text/plain")
        elif path == "/ready":
            known = self.discovery.apps is not None
            self._send(
                200 if known else 503, "ok\n" if known else "the Port Manager has not answered yet\n", "text/plain"
            )
        else:
            self._send(404, "there are /targets/{health,metrics,public}, /metrics, /healthy and /ready\n", "text/plain")

    def _send(self, status: int, body: str, content_type: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the log for what matters."""


def serve(settings: Settings) -> tuple[ThreadingHTTPServer, Discovery]:
    """Open the listener and return it with what it tells; the caller runs both."""
    discovery = Discovery(settings)
    server = ThreadingHTTPServer((settings.address, settings.port), type("Bound", (Handler,), {"discovery": discovery}))
    server.daemon_threads = True
    return server, discovery


def read_settings(path: str) -> Settings:
    """Read and check a configuration.

    :raises ValueError: with what is wrong; also OSError and TypeError, from reading it.
    """
    with open(path, encoding="utf-8") as reader:
        settings = Settings(**json.load(reader))
    url = urlsplit(settings.port_manager_url)
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f"port_manager_url: {settings.port_manager_url!r} is no http:// URL")
    if not 1 <= settings.first_port <= settings.last_port <= 65535:
        raise ValueError(f"first_port and last_port: {settings.first_port}-{settings.last_port} is no range of ports")
    if min(settings.refresh_seconds, settings.timeout_seconds) < 1:
        raise ValueError("refresh_seconds and timeout_seconds are at least 1")
    return settings


def main() -> None:
    """Run until the process is ended."""
    *options, path = sys.argv[1:]
    try:
        settings = read_settings(path)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"{path}: {error}")
    if options == ["--check"]:
        return
    server, discovery = serve(settings)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"listening on {settings.address}:{settings.port}")
    while True:
        began = time.monotonic()
        discovery.refresh()
        time.sleep(max(0.0, settings.refresh_seconds - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
