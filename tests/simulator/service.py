"""What every simulated program has: HTTP listener, log, ways to break, control interface."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import random
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

JSON_TYPE = "application/json; charset=utf-8"
PLAIN_TYPE = "text/plain; charset=utf-8"
"""What the mission's JavaScript sends with /metrics."""
EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What JavaScript's Prometheus client sends."""
HANG_LIMIT = 120.0
"""Seconds after which a hanging request is dropped; longer than any client waits."""


class Refused(ValueError):
    """A control request that makes no sense; the message goes to whoever asked."""


@dataclass(frozen=True)
class Settings:
    """How one process was started."""

    name: str
    listen: str = "127.0.0.1"
    port: int = 0
    state_dir: Path | None = None
    run_dir: Path | None = None
    log_file: Path | None = None
    content_type: str | None = None
    activity: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; `then` runs once it has been sent."""

    status: int
    body: bytes
    content_type: str | None = JSON_TYPE
    then: Callable[[], None] | None = None


def json_reply(payload: Any, status: int = 200, then: Callable[[], None] | None = None) -> Reply:
    """Answer as Express' `res.json` does: compact, UTF-8 left as it is."""
    return Reply(status, compact(payload).encode(), JSON_TYPE, then)


def compact(payload: Any) -> str:
    """Serialise like JavaScript's JSON.stringify: no spaces, emoji not escaped."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def now() -> str:
    """Return the time in RFC 3339 with milliseconds, like JavaScript's toISOString."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: Any, name: str, low: float, high: float) -> float:
    """Check a number of a control request."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refused(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
    return value


def whole(value: Any, name: str, low: int, high: int) -> int:
    """Check a whole number of a control request."""
    if number(value, name, low, high) != int(value):
        raise Refused(f"{name} must be a whole number, not {value!r}")
    return int(value)


def flag(value: Any, name: str) -> bool:
    """Check a boolean of a control request."""
    if not isinstance(value, bool):
        raise Refused(f"{name} must be true or false, not {value!r}")
    return value


def choice(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Check one of several words of a control request."""
    words = tuple(allowed)
    if value not in words:
        raise Refused(f"{name} must be one of {', '.join(words)}, not {value!r}")
    return str(value)


def words(**given: Any) -> None:
    """Check that each of these parameters of a control request is a text, and not empty."""
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            raise Refused(f"{name} must be a text, not {value!r}")


def hand_written(*metrics: tuple[str, str, str, list[tuple[str, int]]]) -> str:
    """Write metrics the way the mission's JavaScript does: blank lines, nothing but its own lines."""
    blocks = []
    for name, kind, text, samples in metrics:
        lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{series} {value}" for series, value in samples]
        blocks.append("\n".join(lines) + "\n")
    return "\n" + "\n".join(blocks)


class Registry(CollectorRegistry):
    """Leaves out the `_created` series: the platform's programs are JavaScript, whose client has none."""

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of all collectors."""
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Service:
    """One program of the platform. A method `do_x` is the control action `x`."""

    title = "service"
    log_fields: tuple[str, ...] = ()
    upper_levels = False
    builds: tuple[str, ...] = ("old",)
    hand_written_builds: tuple[str, ...] = ()

    def __init__(self, settings: Settings, build: str | None = None, metrics: bool = True) -> None:
        self.settings = settings
        self.build = build or self.builds[0]
        self.metrics_enabled = metrics
        self.lock = threading.RLock()
        self.random = random.Random(f"{settings.seed}/{settings.name}")
        self.registry = Registry()
        self.routes: dict[str, Callable[[], Reply]] = {"/health": self.health, "/metrics": self.metrics}
        self.stopping = threading.Event()
        self._crash_timer: threading.Timer | None = None
        self._normal()
        self.listener = Listener(self)
        self._control_socket: ControlSocket | None = None

    def _normal(self) -> None:
        """Take back whatever was broken by control."""
        self.mode = "up"
        self.released = threading.Event()
        self.released.set()
        self.health_status = 200
        self.latency = 0.0
        self.slow_metrics = False
        self.error_ratio = 0.0
        self.error_status = 500
        self._error_debt = 0.0
        self._mode_timer: threading.Timer | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the listeners and the background work."""
        self.listener.open()
        if self.settings.run_dir:
            self._control_socket = ControlSocket(self, self.settings.run_dir / f"{self.settings.name}.sock")
        crash = self._crash_file
        if crash and crash.exists():
            self.log("warn", f"{self.settings.name} restarted after a crash")
            after = float(crash.read_text(encoding="utf-8").strip() or 1)
            self._crash_timer = threading.Timer(after, self._crash)
            self._crash_timer.daemon = True
            self._crash_timer.start()
        else:
            self.log("info", f"{self.settings.name} started")
        for work in self.background():
            threading.Thread(target=work, daemon=True).start()

    def stop(self) -> None:
        """Close everything that start opened."""
        self.stopping.set()
        self.released.set()
        for timer in (self._mode_timer, self._crash_timer):
            if timer:
                timer.cancel()
        self.listener.close()
        if self._control_socket:
            self._control_socket.close()
            self._control_socket = None

    def background(self) -> list[Callable[[], None]]:
        """Return the loops that run beside the listener."""
        return [self._activity_loop] if self.settings.activity > 0 else []

    def _activity_loop(self) -> None:
        while not self.stopping.wait(self.settings.activity):
            self.tick()

    def tick(self) -> None:
        """Do one piece of everyday work (only where --activity asks for it)."""

    def terminate(self, code: int) -> None:
        """End the process at once, as a crash does."""
        sys.stdout.flush()
        os._exit(code)

    def _crash(self) -> None:
        self.log("error", f"{self.settings.name} crashed, the engine will restart it")
        self.terminate(1)

    @property
    def _crash_file(self) -> Path | None:
        return self.settings.state_dir / f"{self.settings.name}.crash" if self.settings.state_dir else None

    # -- answers ------------------------------------------------------------------------------

    def answer(self, method: str, path: str) -> Reply | None:
        """Answer a request of the platform's own interface; None closes the connection unanswered."""
        released = self.released
        if self.mode == "hang":
            released.wait(HANG_LIMIT)
            return None
        if self.mode == "error":
            return json_reply({"error": "service unavailable"}, 503)
        if self.latency and (path != "/metrics" or self.slow_metrics):
            time.sleep(self.latency)
        return self.respond(method, path)

    def respond(self, method: str, path: str) -> Reply:
        """Answer as the program does when nothing is in its way."""
        if path not in ("/health", "/metrics") and self.due_error():
            return json_reply({"error": "internal error"}, self.error_status)
        route = self.routes.get(path)
        if route is None or method not in ("GET", "HEAD"):
            return not_found(method, path)
        return route()

    def due_error(self) -> bool:
        """Tell whether this request fails, so that the ratio holds exactly, not on average."""
        with self.lock:
            self._error_debt += self.error_ratio
            if self._error_debt < 1 - 1e-9:
                return False
            self._error_debt -= 1
            return True

    def health(self) -> Reply:
        """Answer /health."""
        well = self.health_status == 200
        return json_reply({"status": "healthy" if well else "unhealthy"}, self.health_status)

    def metrics(self) -> Reply:
        """Answer /metrics in the words of this build."""
        if not self.metrics_enabled:
            return not_found("GET", "/metrics")
        if self.build in self.hand_written_builds:
            with self.lock:
                body, content_type = self.exposition().encode(), PLAIN_TYPE
        else:
            body, content_type = generate_latest(self.registry), EXPOSITION_TYPE
        return Reply(200, body, self._content_type(content_type))

    def _content_type(self, usual: str) -> str | None:
        if self.settings.content_type is None:
            return usual
        return None if self.settings.content_type == "none" else self.settings.content_type

    def exposition(self) -> str:
        """Return the text of /metrics for the hand-written builds."""
        raise NotImplementedError

    # -- log ----------------------------------------------------------------------------------

    def log(self, level: str, message: str, **fields: Any) -> dict[str, Any]:
        """Write one JSON line; fields without a value are left out, as JSON.stringify does."""
        entry: dict[str, Any] = {
            "timestamp": now(),
            "level": level.upper() if self.upper_levels else level.lower(),
            "message": message,
        }
        entry.update((key, value) for key, value in fields.items() if value is not None)
        line = compact(entry) + "\n"
        with self.lock:
            if self.settings.log_file:
                # Opened for each line: a rotated or deleted file is written anew.
                with self.settings.log_file.open("a", encoding="utf-8") as stream:
                    stream.write(line)
            else:
                sys.stdout.write(line)
                sys.stdout.flush()
        return entry

    # -- control ------------------------------------------------------------------------------

    def actions(self) -> list[str]:
        """Return the names of the control actions of this program."""
        return sorted(name[3:] for name in dir(self) if name.startswith("do_"))

    def state(self) -> dict[str, Any]:
        """Return what control has set."""
        return {
            "service": self.title,
            "name": self.settings.name,
            "port": self.listener.port,
            "build": self.build,
            "metrics": self.metrics_enabled,
            "mode": self.mode,
            "health": self.health_status,
            "latency": self.latency,
            "error_ratio": self.error_ratio,
            "crash_loop": bool(self._crash_file and self._crash_file.exists()),
            "actions": self.actions(),
        }

    def control(self, method: str, body: bytes) -> Reply:
        """Answer /control: GET tells the state, POST {"action": …, …} does something."""
        if method == "GET":
            return json_reply(self.state())
        try:
            request = json.loads(body or b"{}")
            if not isinstance(request, dict) or not isinstance(request.get("action"), str):
                raise Refused('send a JSON object such as {"action": "down", "mode": "hang"}')
            name = request.pop("action")
            action = getattr(self, f"do_{name}", None)
            if action is None:
                raise Refused(f"{self.title} has no action {name}; it has {', '.join(self.actions())}")
            try:
                inspect.signature(action).bind(**request)
            except TypeError as error:
                raise Refused(f"{name}: {error}") from None
            result = action(**request)
        except (Refused, json.JSONDecodeError) as error:
            return json_reply({"ok": False, "error": str(error)}, 400)
        if isinstance(result, Reply):
            return result
        return json_reply({"ok": True, **(result or {})})

    def do_down(self, mode: str = "refuse", seconds: float | None = None) -> None:
        """Stop answering: refuse connections, let them hang, or answer 503 to all."""
        choice(mode, "mode", ("refuse", "hang", "error"))
        if seconds is not None:
            number(seconds, "seconds", 0.1, 86400)
        if mode == "refuse" and not self._control_socket and seconds is None:
            raise Refused("refuse closes the control interface too: give seconds, or start with --run-dir")
        self.do_up()
        self.mode = mode
        if mode == "hang":
            self.released = threading.Event()
        if mode == "refuse":
            self.listener.close()
        if seconds is not None:
            self._mode_timer = threading.Timer(seconds, self.do_up)
            self._mode_timer.daemon = True
            self._mode_timer.start()

    def do_up(self) -> None:
        """Answer again."""
        if self._mode_timer:
            self._mode_timer.cancel()
            self._mode_timer = None
        self.mode = "up"
        self.released.set()
        self.listener.open()

    def do_reset(self) -> None:
        """Take back everything that control broke; counters and allocations stay."""
        self.do_up()
        self._normal()
        if self._crash_timer:
            self._crash_timer.cancel()
            self._crash_timer = None
        if self._crash_file:
            self._crash_file.unlink(missing_ok=True)

    def do_health(self, status: int = 503) -> None:
        """Make /health, and nothing else, answer with this status."""
        self.health_status = whole(status, "status", 200, 599)

    def do_slow(self, seconds: float = 2.0, metrics: bool = False) -> None:
        """Delay every answer; /metrics too where asked for."""
        self.latency = number(seconds, "seconds", 0, HANG_LIMIT)
        self.slow_metrics = flag(metrics, "metrics")

    def do_errors(self, ratio: float = 0.2, status: int = 500) -> None:
        """Answer this share of the requests with an error; /health and /metrics stay well."""
        number(ratio, "ratio", 0, 1)
        whole(status, "status", 400, 599)
        with self.lock:
            self.error_ratio, self.error_status, self._error_debt = ratio, status, 0.0

    def do_metrics(self, enabled: bool) -> None:
        """Switch /metrics on or off (off: 404)."""
        self.metrics_enabled = flag(enabled, "enabled")

    def do_build(self, name: str) -> None:
        """Change what /metrics offers, as another build of the program would."""
        self.build = choice(name, "name", self.builds)

    def do_log(self, text: str, level: str = "info", count: int = 1, **fields: Any) -> dict[str, Any]:
        """Write lines to the log; only the fields that the program's own lines have."""
        words(text=text, level=level)
        unknown = set(fields) - set(self.log_fields)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise Refused(f"{self.title} logs no {names}; it has {', '.join(self.log_fields)}")
        for _ in range(whole(count, "count", 1, 100_000)):
            self.log(level, text, **fields)
        return {"lines": count}

    def do_exit(self, code: int = 1) -> Reply:
        """End the process; the engine's restart policy decides what follows."""
        whole(code, "code", 0, 255)
        return json_reply({"ok": True}, then=lambda: self.terminate(code))

    def do_crash_loop(self, enabled: bool = True, after: float = 1.0) -> Reply | None:
        """Crash now and `after` seconds after every start, until switched off."""
        if not self._crash_file:
            raise Refused("a crash loop must outlive the process: start with --state-dir")
        if not flag(enabled, "enabled"):
            if self._crash_timer:
                self._crash_timer.cancel()
            self._crash_file.unlink(missing_ok=True)
            return None
        self._crash_file.write_text(f"{number(after, 'after', 0, 3600)}\n", encoding="utf-8")
        return json_reply({"ok": True}, then=self._crash)


def not_found(method: str, path: str) -> Reply:
    """Answer 404."""
    return json_reply({"error": f"Cannot {method} {path}"}, 404)


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, so that every connection ends with its answer: `refuse` then refuses everybody."""

    service: Service

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/control":
            reply: Reply | None = self.service.control(self.command, body)
        else:
            reply = self.service.answer(self.command, path)
        if reply is None:
            return
        self.send_response(reply.status)
        if reply.content_type:
            self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()
        if reply.then:
            reply.then()

    do_GET = do_HEAD = do_POST = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the program's own log clean."""


class Listener:
    """The service's TCP listener, which can be closed and opened again on the same port."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = service.settings.port
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Listen, if not already listening."""
        with self._lock:
            if self._server:
                return
            handler = type("BoundHandler", (Handler,), {"service": self.service})
            self._server = QuietServer((self.service.settings.listen, self.port), handler)
            self.port = self._server.server_address[1]
            serve(self._server)

    def close(self) -> None:
        """Refuse connections from now on."""
        with self._lock:
            if self._server:
                halt(self._server)
                self._server = None


class QuietServer(ThreadingHTTPServer):
    """A server that does not mind clients who hang up."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report real errors only."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ControlSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The same interface on a Unix socket: still there when the port refuses connections."""

    daemon_threads = True

    def __init__(self, service: Service, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        super().__init__(str(path), type("BoundHandler", (Handler,), {"service": service}))
        serve(self)

    def close(self) -> None:
        """Stop and leave nothing behind."""
        halt(self)
        self.path.unlink(missing_ok=True)


def serve(server: socketserver.TCPServer) -> None:
    """Serve in a thread of its own, which wakes up for requests only."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 1}, daemon=True).start()


def halt(server: socketserver.TCPServer) -> None:
    """Stop serving at once: a connection wakes the thread, which then sees that it is to end."""
    stopper = threading.Thread(target=server.shutdown)
    stopper.start()
    while stopper.is_alive():
        with contextlib.suppress(OSError), socket.socket(server.address_family) as waker:
            waker.connect(server.server_address)
        stopper.join(0.05)
    server.server_close()
