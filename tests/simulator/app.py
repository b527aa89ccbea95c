"""A deployed app: some stranger's web server in a container of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from .service import Reply, Service, Settings, json_reply, not_found, number, whole


class App(Service):
    """Counts every request but those to /health and /metrics; serves itself a steady trickle."""

    title = "app"
    log_fields = ("method", "path", "status")

    def __init__(self, settings: Settings, build: str | None = None, metrics: bool = True, rps: float = 1.0) -> None:
        self.usual_rps = rps
        super().__init__(settings, build, metrics)
        self.routes["/"] = self.home
        self.requests = Counter("http_requests", "HTTP requests served", ["method", "status"], registry=self.registry)
        self.duration = Histogram(
            "http_request_duration_seconds", "Time to answer an HTTP request", registry=self.registry
        )
        self.registry.register(self)

    def _normal(self) -> None:
        super()._normal()
        self.rps = self.usual_rps
        self.extra_series = 0

    def collect(self) -> Iterator[Metric]:
        """Return the flood that `extra_series` asks for."""
        if self.extra_series:
            text = "A label value per visitor: a bad idea"
            family = GaugeMetricFamily("app_session", text, labels=["session"])
            for index in range(self.extra_series):
                family.add_metric([f"{index:08d}"], 1)
            yield family

    def home(self) -> Reply:
        """Answer /."""
        return json_reply({"app": self.settings.name, "status": "ok"})

    def answer(self, method: str, path: str) -> Reply | None:
        """Answer, and count what a visitor asked for."""
        begin = time.perf_counter()
        reply = super().answer(method, path)
        if reply and path not in ("/health", "/metrics"):
            self._count(method, path, reply.status, time.perf_counter() - begin)
        return reply

    def _count(self, method: str, path: str, status: int, seconds: float) -> None:
        self.requests.labels(method, str(status)).inc()
        self.duration.observe(seconds)
        level = "error" if status >= 500 else "info"
        message = f"{method} {path} {status} {seconds * 1000:.0f}ms"
        self.log(level, message, method=method, path=path, status=status)

    def background(self) -> list[Callable[[], None]]:
        """Also serve synthetic visitors."""
        return [*super().background(), self._traffic]

    def _traffic(self) -> None:
        due = time.monotonic()
        while not self.stopping.is_set():
            if self.rps <= 0:
                self.stopping.wait(0.2)
                due = time.monotonic()
                continue
            due = max(due + 1 / self.rps, time.monotonic() - 1)
            if not self.stopping.wait(max(0.0, due - time.monotonic())) and self.mode == "up":
                self.visit()

    def visit(self) -> None:
        """Serve one synthetic visitor: counted like a real one, the time it took made up."""
        method = "POST" if self.random.random() < 0.1 else "GET"
        path = "/missing" if self.random.random() < 0.02 else "/"
        seconds = self.random.lognormvariate(-3.5, 0.5) + self.latency
        if path == "/missing":
            status = not_found(method, path).status
        else:
            status = self.error_status if self.due_error() else 200
        self._count(method, path, status, seconds)

    def do_traffic(self, rps: float) -> None:
        """Change the rate of synthetic requests; 0 stops them."""
        self.rps = number(rps, "rps", 0, 500)

    def do_extra_series(self, count: int = 0) -> None:
        """Expose this many needless series: an app that would flood Prometheus."""
        self.extra_series = whole(count, "count", 0, 200_000)
