"""Tells Prometheus which apps should run: the Port Manager's allocations, enriched by what the engine shows.

An app that died is no longer among the running containers, so what should run comes from the Port Manager. Both
sources are strangers: an entry that makes no sense is counted and left out, and never hides the others. While the Port
Manager is away its last answer stays in force, over a restart of this program too.

    python3 app_discovery.py [--check] CONFIG     a JSON file; the keys are those of Settings. --check only reads it

GET /targets/health, /targets/metrics, /targets/public: Prometheus' HTTP service discovery. /metrics: about itself.
/apps/PORT/metrics: those of an app, for a Prometheus on another host. /ready: 200 once the allocations are known,
/healthy: 200 while it serves. Standard library only.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# What is read of an answer, so that no stranger fills the memory: 900 allocations are 100 kB, their containers 2 MB.
MAX_STATUS_BYTES = 2 << 20
MAX_ENGINE_BYTES = 8 << 20
MAX_RELAYED_BYTES = 4 << 20
# That much of an app's metrics shows that they are some.
PROBED_BYTES = 1 << 16
MAX_HEAD_BYTES = 1 << 16
MAX_NUMBER_DIGITS = 18
RELAYS_AT_ONCE = 4
PROBES_AT_ONCE = 16
SAVE_SECONDS = 60.0
MAX_LABEL_LENGTH = 128
HOSTNAME = re.compile(r"^(?=.{1,253}\Z)[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*\Z")
RELAYED = re.compile(r"/apps/([0-9]{1,5})/metrics")
PLAIN_METRICS = "text/plain; version=0.0.4; charset=utf-8"
# What Docker accepts in a container's name; the platform replaces the rest.
UNNAMEABLE = re.compile(r"[^a-zA-Z0-9_.-]+")
EXPOSITION = re.compile(
    rb"^(# (HELP|TYPE) [a-zA-Z_:]|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+]?([0-9.][0-9.eE+-]*|NaN|Inf)( -?[0-9.]+)?$)",
    re.MULTILINE,
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
    """What the engine says of one app's container; no number of restarts where it did not say one."""

    running: bool
    hostname: str
    restarts: int | None = None


class SourceError(Exception):
    """A source did not answer, or answered nonsense."""


class Answer(NamedTuple):
    """What an HTTP server answered."""

    status: int
    body: bytes
    content_type: str


class LimitedSocket(socket.socket):
    """A socket from which only so much is read, and only for so long.

    A server that sends a byte now and then, in the head too, keeps each single read in time, but not all of them.
    """

    ends = 0.0
    left = 0

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        seconds = self.ends - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("an answer that does not end")
        self.settimeout(seconds)
        count = super().recv_into(*arguments, **options)
        self.left -= count
        if self.left < 0:
            raise OSError("an answer that is too long")
        return count


class Connection(http.client.HTTPConnection):
    """One question over HTTP, over TCP or a unix socket; the answer has a limit."""

    def __init__(self, host: str, port: int, timeout: float, limit: int, path: str = "") -> None:
        super().__init__(host, port, timeout=timeout)
        self.limit, self.path = limit, path

    def connect(self) -> None:
        """Connect, by the unix socket where there is a path."""
        if self.path:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            plain.settimeout(self.timeout)
            try:
                plain.connect(self.path)
            except OSError:
                plain.close()
                raise
        else:
            super().connect()
            plain = self.sock
        self.sock = LimitedSocket(fileno=plain.detach())
        self.sock.settimeout(self.timeout)
        self.sock.ends = time.monotonic() + (self.timeout or 5.0)
        # It reads ahead, so there is always room for one more piece.
        self.sock.left = self.limit + MAX_HEAD_BYTES


def fetch(connection: Connection, path: str, cut: bool = False) -> Answer:
    """Ask once and return the answer, as far as the limit where it may be cut.

    :raises SourceError: when nothing answers in time, or more than the limit.
    """
    try:
        connection.request("GET", path, headers={"Host": "localhost", "Accept": "text/plain, */*;q=0.5"})
        answer = connection.getresponse()
        body = bytearray()
        while len(body) <= connection.limit and (chunk := answer.read1(1 << 15)):
            body += chunk
        if len(body) > connection.limit and not cut:
            raise SourceError(f"an answer of more than {connection.limit} bytes")
        return Answer(answer.status, bytes(body[: connection.limit]), answer.headers.get("Content-Type") or "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def fetch_json(connection: Connection, path: str) -> Any:
    """Ask once and return the decoded answer.

    :raises SourceError: as fetch, and for another status than 200 or an answer that is no JSON.
    """
    answer = fetch(connection, path)
    if answer.status != 200:
        raise SourceError(f"status {answer.status}")
    try:
        # One name that is no UTF-8, or one number that Python refuses to read, is not to hide the rest.
        return json.loads(answer.body.decode("utf-8-sig", "replace"), parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"no JSON: {error}") from error


def whole(digits: str) -> int | None:
    """Read a whole number of a size that can be meant."""
    return int(digits) if len(digits) <= MAX_NUMBER_DIGITS else None


def parse_allocations(status: Any, first_port: int, last_port: int) -> tuple[list[App], Counter[str]]:
    """Read the Port Manager's /status; return the apps by port, and how many entries were left out for which reason.

    :raises SourceError: when it is not what a Port Manager answers at all; to take that for "no apps" would forget all.
    """
    database = status.get("database") if isinstance(status, dict) else None
    allocations = database.get("allocations") if isinstance(database, dict) else None
    if not isinstance(allocations, dict):
        raise SourceError("no database.allocations in it")
    return parse_entries(allocations.values(), first_port, last_port)


def parse_entries(entries: Iterable[Any], first_port: int, last_port: int) -> tuple[list[App], Counter[str]]:
    """Read single allocations: the apps by port, and how many were left out for which reason."""
    found: dict[int, App] = {}
    containers: set[str] = set()
    refused: Counter[str] = Counter()
    for entry in entries:
        project, branch, port = (
            (entry.get(key) for key in ("project", "branch", "port")) if isinstance(entry, dict) else (None,) * 3
        )
        if not (text(project) and text(branch)):
            refused["name"] += 1
        elif isinstance(port, bool) or not isinstance(port, int) or not first_port <= port <= last_port:
            refused["port"] += 1
        # shop-main/api and shop/main-api would be one app and one container: the platform can run only one of them.
        elif port in found or (app := App(project, branch, port)).container in containers:
            refused["duplicate"] += 1
        else:
            found[port] = app
            containers.add(app.container)
    return [found[port] for port in sorted(found)], refused


def text(value: Any) -> bool:
    """Whether a value can be a label: a text, not empty, not too long, without control characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL_LENGTH and value.isprintable()


def public_name(labels: Any) -> str:
    """Return the name under which the Tunnel Manager publishes a container with these labels, or nothing."""
    if not isinstance(labels, dict) or labels.get("tunnel.enable") != "true":
        return ""
    hostname = labels.get("tunnel.hostname")
    return hostname if isinstance(hostname, str) and HOSTNAME.match(hostname) else ""


def ask_engine(settings: Settings, apps: list[App], before: dict[str, Container]) -> tuple[dict[str, Container], int]:
    """Return the containers of these apps by name, and how many others look like an app and have no allocation.

    :param before: what was known; a number of restarts stays in force where the engine is too slow to tell it again.
    :raises SourceError: when the engine, or the filter before it, does not answer.
    """
    ends = time.monotonic() + 2 * settings.timeout_seconds

    def ask(path: str) -> Any:
        connection = Connection(
            "localhost", 80, settings.timeout_seconds, MAX_ENGINE_BYTES, path=settings.engine_socket
        )
        return fetch_json(connection, path)

    listed = ask("/containers/json?all=1")
    if not isinstance(listed, list):
        raise SourceError("no list of containers")
    wanted = {app.container for app in apps}
    # One that the engine does not list at all does not run.
    found = dict.fromkeys(wanted, Container(running=False, hostname=""))
    ids: dict[str, str] = {}
    strangers = 0
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        given = entry.get("Names")
        names = [name.removeprefix("/") for name in given if isinstance(name, str)] if isinstance(given, list) else []
        running = entry.get("State") == "running"
        name = next((name for name in names if name in wanted), "")
        if name:
            ids[name] = str(entry.get("Id", ""))
            found[name] = Container(running, public_name(entry.get("Labels")))
        elif running and any(name.endswith("-deploy") for name in names):
            strangers += 1

    def restarts(name: str) -> int | None:
        if time.monotonic() < ends:
            try:
                count = ask(f"/containers/{ids[name]}/json")["RestartCount"]
                if isinstance(count, int) and not isinstance(count, bool):
                    return count
            except (SourceError, KeyError, TypeError):
                # Removed between the two questions, slow, or nonsense.
                pass
        return before[name].restarts if name in before else None

    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        for name, count in zip(ids, pool.map(restarts, ids), strict=True):
            found[name] = replace(found[name], restarts=count)
    return found, strangers


class Discovery:
    """Keeps what is known and refreshes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.saving = threading.Lock()
        self.apps: list[App] | None = None
        self.containers: dict[str, Container] = {}
        self.strangers = 0
        # None until it was found out: to answer an empty list meanwhile would have Prometheus forget its targets.
        self.with_metrics: set[App] | None = None
        self.hostnames: dict[App, str] | None = None
        self.refused: Counter[str] = Counter()
        self.up = {"port-manager": False, "docker": False}
        self.last_success = {"port-manager": 0.0, "docker": 0.0}
        self.errors: Counter[str] = Counter({"port-manager": 0, "docker": 0})
        self.refresh_seconds = 0.0
        self.relays = threading.BoundedSemaphore(RELAYS_AT_ONCE)
        self._probed: dict[App, float] = {}
        self._said: dict[str, str] = {}
        self._saved: tuple[float, Any] = (0.0, None)
        self._load()

    # -- state --------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            with open(self.settings.state_file, encoding="utf-8") as reader:
                kept = json.load(reader)
            entries = kept["apps"]
            apps, refused = parse_entries(entries, self.settings.first_port, self.settings.last_port)
            if refused["name"]:
                raise ValueError("an app without a name")
            of_port = {entry["port"]: entry for entry in entries}
            metrics = {app: of_port[app.port]["metrics"] for app in apps}
            hostnames = {app: of_port[app.port]["hostname"] for app in apps}
            self.last_success["port-manager"] = float(kept["time"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            say(f"{self.settings.state_file} is of no use and will be written anew: {error!r}")
        else:
            self.apps = apps
            # Null is what was not known yet when this was written.
            if None not in metrics.values():
                self.with_metrics = {app for app, has in metrics.items() if has is True}
            if None not in hostnames.values():
                self.hostnames = {app: name for app, name in hostnames.items() if HOSTNAME.match(str(name))}

    def _save(self) -> None:
        """Write what is known, when it changed and now and then for the time in it."""
        with self.saving:
            with self.lock:
                if self.apps is None:
                    return
                metrics, names = self.with_metrics, self.hostnames
                apps = [
                    {
                        **asdict(app),
                        "metrics": None if metrics is None else app in metrics,
                        "hostname": None if names is None else names.get(app, ""),
                    }
                    for app in self.apps
                ]
                at = self.last_success["port-manager"]
            if apps == self._saved[1] and at - self._saved[0] < SAVE_SECONDS:
                return
            draft = self.settings.state_file + ".new"
            try:
                with open(draft, "w", encoding="utf-8") as writer:
                    json.dump({"apps": apps, "time": at}, writer)
                    writer.flush()
                    os.fsync(writer.fileno())
                os.replace(draft, self.settings.state_file)
            except OSError as error:
                self._say("state", f"{self.settings.state_file} cannot be written: {error}")
            else:
                self._saved = (at, apps)
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
        # Whatever nonsense nobody thought of: it must not keep the other source from being asked.
        except Exception as error:
            with self.lock:
                self.up[source] = False
                self.errors[source] += 1
            self._say(source, str(error) if isinstance(error, SourceError) else repr(error))
        else:
            with self.lock:
                self.up[source] = True
                self.last_success[source] = time.time()
            self._say(source, "")

    def refresh(self) -> None:
        """Ask both sources once."""
        began = time.monotonic()
        self._from("port-manager", self._ask_port_manager)
        if self.apps is not None:
            self._from("docker", self._ask_engine)
            self._save()
        self.refresh_seconds = time.monotonic() - began

    def _ask_port_manager(self) -> None:
        url = urlsplit(self.settings.port_manager_url)
        connection = Connection(url.hostname or "", url.port or 80, self.settings.timeout_seconds, MAX_STATUS_BYTES)
        apps, refused = parse_allocations(
            fetch_json(connection, url.path or "/"), self.settings.first_port, self.settings.last_port
        )
        allocated = set(apps)
        with self.lock:
            self.apps, self.refused = apps, refused
            if self.with_metrics is not None:
                self.with_metrics &= allocated
            if self.hostnames is not None:
                self.hostnames = {app: name for app, name in self.hostnames.items() if app in allocated}

    def _ask_engine(self) -> None:
        apps = self.apps or []
        containers, strangers = ask_engine(self.settings, apps, self.containers)
        with self.lock:
            self.containers, self.strangers = containers, strangers
            hostnames = self.hostnames or {}
            for app in apps:
                one = containers[app.container]
                if one.hostname:
                    hostnames[app] = one.hostname
                elif one.restarts is not None:
                    # It is there, and not published. One that is gone keeps its name: it should be there.
                    hostnames.pop(app, None)
            self.hostnames = hostnames

    def look_for_metrics(self) -> None:
        """Ask apps for metrics: a stranger without them is no target that is down.

        One that has them stays a target until it says that there are none (404), or is released.
        """
        apps = self.apps
        if apps is None:
            return
        now = time.monotonic()
        self._probed = {app: self._probed.get(app, 0.0) for app in apps}
        due = [app for app in apps if now >= self._probed[app]]
        with concurrent.futures.ThreadPoolExecutor(max_workers=PROBES_AT_ONCE) as pool:
            answers = list(zip(due, pool.map(self._has_metrics, due), strict=True))
        for app, has in answers:
            # Without an answer it may be starting: soon again.
            self._probed[app] = now + (self.settings.metrics_probe_seconds if has != "silent" else 0.0)
        with self.lock:
            with_metrics = self.with_metrics or set()
            with_metrics |= {app for app, has in answers if has == "yes"}
            with_metrics -= {app for app, has in answers if has == "none"}
            self.with_metrics = with_metrics & set(self.apps or [])
        self._save()

    def _has_metrics(self, app: App) -> str:
        timeout = min(2.0, self.settings.timeout_seconds)
        try:
            answer = fetch(
                Connection("127.0.0.1", app.port, timeout, PROBED_BYTES), self.settings.metrics_path, cut=True
            )
        except SourceError:
            return "silent"
        if answer.status == 200:
            # A page for people, where there were metrics before, is no proof that there will be none.
            return "yes" if EXPOSITION.search(answer.body) else "other"
        return "none" if answer.status in (404, 410) else "other"

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
                with_metrics = self.with_metrics
                return (
                    None
                    if with_metrics is None
                    else [
                        self._group(f"127.0.0.1:{app.port}", app, __metrics_path__=self.settings.metrics_path)
                        for app in self.apps
                        if app in with_metrics
                    ]
                )
            if kind == "public":
                hostnames = self.hostnames
                return (
                    None
                    if hostnames is None
                    else [
                        self._group(
                            f"https://{hostnames[app]}{self.settings.health_path}", app, hostname=hostnames[app]
                        )
                        for app in self.apps
                        if app in hostnames
                    ]
                )
            return [self._group(f"http://127.0.0.1:{app.port}{self.settings.health_path}", app) for app in self.apps]

    def _group(self, address: str, app: App, **more: str) -> dict[str, Any]:
        return {"targets": [address], "labels": {**self.labels(app), **more}}

    def relay(self, port: int) -> Answer:
        """Return the metrics of one app that has some: those on loopback are out of reach of another host."""
        with self.lock:
            known = any(app.port == port for app in self.with_metrics or ())
        if not known:
            return Answer(404, b"no app with metrics has this port\n", "text/plain")
        connection = Connection("127.0.0.1", port, self.settings.timeout_seconds, MAX_RELAYED_BYTES)
        try:
            with self.relays:
                answer = fetch(connection, self.settings.metrics_path)
        except SourceError as error:
            return Answer(502, f"{error}\n".encode(), "text/plain")
        if answer.status != 200:
            return Answer(502, f"the app answered with status {answer.status}\n".encode(), "text/plain")
        fit = answer.content_type.isascii() and text(answer.content_type)
        return answer if fit else answer._replace(content_type=PLAIN_METRICS)

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
        if self.with_metrics is not None:
            yield family(
                "app_discovery_apps_with_metrics", "gauge", "Apps that have metrics.", [({}, len(self.with_metrics))]
            )
        info = []
        for app in apps:
            hostname = (self.hostnames or {}).get(app, "")
            labels = {"project": app.project, "branch": app.branch, "app": app.name, "port": str(app.port)}
            info.append(({**labels, "container": app.container, "hostname": hostname}, 1.0))
        yield family("app_discovery_app_info", "gauge", "An app that should run.", info)
        if known:
            seen = [(app, one) for app in apps if (one := self.containers.get(app.container))]
            for name, words, value in (
                ("running", "Whether the app's container runs.", lambda one: float(one.running)),
                ("restarts", "How often the engine restarted the app's container.", lambda one: one.restarts),
            ):
                samples = [
                    ({"project": app.project, "branch": app.branch, "app": app.name}, value(one))
                    for app, one in seen
                    if value(one) is not None
                ]
                yield family(f"app_discovery_container_{name}", "gauge", words, samples)
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
        elif one := RELAYED.fullmatch(path):
            status, body, content_type = self.discovery.relay(int(one[1]))
            self._send(status, body, content_type)
        elif path == "/metrics":
            self._send(200, self.discovery.exposition(), PLAIN_METRICS)
        elif path == "/healthy":
            self._send(200, "ok\n", "text/plain")
        elif path == "/ready":
            known = self.discovery.apps is not None
            self._send(
                200 if known else 503, "ok\n" if known else "the Port Manager has not answered yet\n", "text/plain"
            )
        else:
            self._send(
                404,
                "there are /targets/{health,metrics,public}, /apps/PORT/metrics, /metrics, /healthy and /ready\n",
                "text/plain",
            )

    def _send(self, status: int, body: str | bytes, content_type: str) -> None:
        data = body.encode() if isinstance(body, str) else body
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


def repeat(work: Callable[[], None], settings: Settings) -> None:
    """Do something for ever, at each turn of the refresh interval."""
    while True:
        began = time.monotonic()
        try:
            work()
        except Exception as error:
            # Better a round without a result, and a line that says so, than no targets at all.
            say(f"{work.__name__}: {error!r}")
        time.sleep(max(0.1, settings.refresh_seconds - (time.monotonic() - began)))


def main() -> None:
    """Run until the process is ended."""
    *options, path = sys.argv[1:]
    try:
        settings = read_settings(path)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"{path}: {error}")
    if options == ["--check"]:
        return
    # As the first process of its container it would not hear the signal at all, and be killed after half a minute.
    # There is nothing to finish: the state is whole at any time.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server, discovery = serve(settings)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"listening on {settings.address}:{settings.port}")
    # Apart from each other: strangers that answer slowly must not delay what the Port Manager says.
    threading.Thread(target=repeat, args=(discovery.look_for_metrics, settings), daemon=True).start()
    repeat(discovery.refresh, settings)


if __name__ == "__main__":
    main()
