"""The Port Manager: gives each deployed app a port of 8100-8999."""

from __future__ import annotations

import asyncio
import json
import resource
import threading
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .service import Refused, Reply, Service, Settings, choice, flag, hand_written, json_reply, whole, words

FIRST_PORT, LAST_PORT = 8100, 8999
CAPACITY = LAST_PORT - FIRST_PORT + 1
FILLER = "filler"


class PortManager(Service):
    """Allocations outlive a restart, counters do not."""

    title = "port-manager"
    log_fields = ("port", "project", "branch")
    upper_levels = True
    builds = ("old", "new")
    hand_written_builds = ("old",)

    def __init__(
        self, settings: Settings, build: str | None = None, metrics: bool = True, seeds: tuple[str, ...] = ()
    ) -> None:
        super().__init__(settings, build, metrics)
        self.routes = {"/status": self.status, "/metrics": self.metrics}
        self.requests = 0
        self.failures = 0
        self.allocations: dict[str, dict[str, Any]] = {}
        self.hidden = 0
        self.backed = False
        self.seeded: list[str] = []
        self.fillers = Fillers(settings.listen)
        self._load()
        for seed in seeds:
            if seed not in self.seeded:
                entry = parse_seed(seed)
                self.allocations[key_of(entry["project"], entry["branch"])] = entry
                self.seeded.append(seed)
        self._save()
        self.registry.register(self)

    def start(self) -> None:
        """Also answer for the filled ports again."""
        super().start()
        self._back_fillers()

    def stop(self) -> None:
        """Also let go of the filled ports."""
        self.fillers.serve([])
        super().stop()

    # -- state --------------------------------------------------------------------------------

    def _load(self) -> None:
        path = self.settings.state_dir and self.settings.state_dir / f"{self.settings.name}.json"
        if path and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.allocations, self.seeded = kept["allocations"], kept["seeded"]
            self.hidden, self.backed = kept["hidden"], kept["backed"]

    def _save(self) -> None:
        if not self.settings.state_dir:
            return
        path = self.settings.state_dir / f"{self.settings.name}.json"
        kept = {
            "allocations": self.allocations,
            "seeded": self.seeded,
            "hidden": self.hidden,
            "backed": self.backed,
        }
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(kept), encoding="utf-8")
        draft.replace(path)

    @property
    def total(self) -> int:
        """Return the number of ports in use."""
        return len(self.allocations) + self.hidden

    def _free_port(self) -> int | None:
        taken = {entry["port"] for entry in self.allocations.values()}
        free = (port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in taken)
        return next(free, None) if self.total < CAPACITY else None

    # -- answers ------------------------------------------------------------------------------

    def status(self) -> Reply:
        """Answer /status."""
        with self.lock:
            return json_reply(
                {
                    "totalAllocations": self.total,
                    "availablePorts": CAPACITY - self.total,
                    "database": {"allocations": self.allocations},
                }
            )

    def exposition(self) -> str:
        """Return what the mission's JavaScript sends."""
        return hand_written(*((name, kind, text, [(name, value)]) for kind, name, text, value in self._values()))

    def collect(self) -> Iterator[Metric]:
        """Return what the newer build sends."""
        with self.lock:
            for kind, name, text, value in self._values():
                family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
                yield family(name, text, value)
            yield CounterMetricFamily(
                "port_manager_allocation_failures", "Total des allocations en échec", self.failures
            )

    def _values(self) -> list[tuple[str, str, str, int]]:
        return [
            ("gauge", "port_manager_total_allocations", "Nombre total d'allocations", self.total),
            ("gauge", "port_manager_available_ports", "Ports disponibles", CAPACITY - self.total),
            (
                "counter",
                "port_manager_allocation_requests_total",
                "Total des demandes d'allocation",
                self.requests,
            ),
        ]

    def tick(self) -> None:
        """Ask again for a port that is already given, as a redeployment does."""
        with self.lock:
            known = [entry for entry in self.allocations.values() if entry["project"] != FILLER]
        if known:
            entry = self.random.choice(known)
            self.do_allocate(entry["project"], entry["branch"])

    # -- control ------------------------------------------------------------------------------

    def do_allocate(self, project: str, branch: str, port: int | None = None) -> dict[str, Any]:
        """Allocate a port: the one asked for, or the lowest free one; the same again for a known app."""
        with self.lock:
            key = key_of(project, branch)
            if port is not None:
                whole(port, "port", FIRST_PORT, LAST_PORT)
            self.requests += 1
            known = self.allocations.get(key)
            if known and port in (None, known["port"]):
                self.log("info", f"Port {known['port']} reused for {key}", **known)
                return dict(known)
            if port is not None:
                taken = port in {entry["port"] for entry in self.allocations.values()}
                chosen = None if taken else port
            else:
                chosen = self._free_port()
            if chosen is None:
                self._refuse(project, branch)
                return {"port": None}
            entry = {"project": project, "branch": branch, "port": chosen}
            self.allocations[key] = entry
            self._save()
            self.log("info", f"Port {chosen} allocated to {key}", **entry)
            return dict(entry)

    def _refuse(self, project: str, branch: str) -> None:
        self.failures += 1
        message = f"Allocation failed for {key_of(project, branch)}: no port available"
        self.log("error", message, project=project, branch=branch)

    def do_release(self, project: str, branch: str) -> dict[str, Any]:
        """Give a port back: the app was removed on purpose."""
        with self.lock:
            key = key_of(project, branch)
            entry = self.allocations.pop(key, None)
            if entry is None:
                raise Refused(f"nothing is allocated to {key}")
            self._save()
            self.log("info", f"Port {entry['port']} released by {key}", **entry)
            return dict(entry)

    def do_fill_ports(self, to: int, backing: str = "serve") -> dict[str, Any]:
        """Bring the number of allocations to `to` with made-up apps, or take such apps away again.

        backing: `serve` answers /health for them (their ports are really open), `none` leaves them
        dead, `hidden` counts them without listing them in /status.
        """
        whole(to, "to", 0, CAPACITY)
        choice(backing, "backing", ("serve", "none", "hidden"))
        with self.lock:
            self.allocations = {key: entry for key, entry in self.allocations.items() if entry["project"] != FILLER}
            self.hidden, self.backed = 0, backing == "serve"
            while self.total < to:
                if backing == "hidden":
                    self.hidden = to - self.total
                    break
                port = self._free_port()
                entry = {"project": FILLER, "branch": str(port), "port": port}
                self.allocations[key_of(FILLER, str(port))] = entry
            self._save()
            level = "warn" if self.total > 0.8 * CAPACITY else "info"
            self.log(level, f"{self.total} of {CAPACITY} ports in use")
        unserved = self._back_fillers()
        return {"totalAllocations": self.total, "unserved": unserved}

    def _back_fillers(self) -> list[int]:
        with self.lock:
            ports = [entry["port"] for entry in self.allocations.values() if entry["project"] == FILLER]
        return self.fillers.serve(ports if self.backed else [])

    def do_fail_allocations(self, count: int = 1) -> dict[str, Any]:
        """Refuse this many allocations at once."""
        with self.lock:
            for _ in range(whole(count, "count", 1, 10_000)):
                self.requests += 1
                self._refuse("test", "main")
            return {"failures": self.failures}

    def do_forget(self, confirm: bool = False) -> None:
        """Lose all allocations, as a Port Manager with an empty database does."""
        if not flag(confirm, "confirm"):
            raise Refused("forget drops every allocation: say confirm=true")
        with self.lock:
            self.allocations, self.hidden = {}, 0
            self._save()
        self._back_fillers()


def key_of(project: str, branch: str) -> str:
    """Return the key under which an allocation is kept."""
    words(project=project, branch=branch)
    return f"{project}-{branch}"


def parse_seed(text: str) -> dict[str, Any]:
    """Read `project:branch:port`; neither name may hold a colon."""
    parts = text.split(":")
    if len(parts) != 3 or not all(parts) or not parts[2].isdigit():
        raise Refused(f"an allocation is written project:branch:port, not {text!r}")
    port = int(parts[2])
    whole(port, "port", FIRST_PORT, LAST_PORT)
    return {"project": parts[0], "branch": parts[1], "port": port}


class Fillers:
    """Answer 200 on many ports from one thread: the apps behind made-up allocations."""

    ANSWER = (
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 20\r\n\r\n"
        b'{"status":"healthy"}'
    )
    MISSING = b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, host: str) -> None:
        self.host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: dict[int, asyncio.AbstractServer] = {}

    def serve(self, ports: list[int]) -> list[int]:
        """Listen on exactly these ports; returns those that another program holds."""
        if not self._loop:
            if not ports:
                return []
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(self._apply(set(ports)), self._loop).result(60)

    async def _apply(self, wanted: set[int]) -> list[int]:
        for port in set(self._servers) - wanted:
            server = self._servers.pop(port)
            server.close()
            await server.wait_closed()
        held = []
        for port in sorted(wanted - set(self._servers)):
            try:
                self._servers[port] = await asyncio.start_server(self._answer, self.host, port)
            except OSError:
                held.append(port)
        return held

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.write(self.ANSWER if head.split(b" ", 2)[1] in (b"/", b"/health") else self.MISSING)
            await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, IndexError):
            pass  # a client that hung up or spoke no HTTP
        finally:
            writer.close()
