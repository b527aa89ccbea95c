"""The Deployment API: deploys what GitHub Actions' webhooks ask for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from .service import Reply, Service, Settings, choice, hand_written, json_reply, number, whole, words

LOGS_KEPT = 100


class DeploymentApi(Service):
    """Everything is kept in memory and gone after a restart, as in the real program.

    Builds: `old` sends no failures counter and no _sum/_count, `new` adds these, `newest` also le="600".
    """

    title = "deployment-api"
    log_fields = ("deployment_id", "commit")
    builds = ("old", "new", "newest")
    hand_written_builds = ("old",)

    def __init__(self, settings: Settings, build: str | None = None, metrics: bool = True) -> None:
        self.recent: deque[dict[str, Any]] = deque(maxlen=LOGS_KEPT)
        super().__init__(settings, build, metrics)
        self.routes |= {"/status": self.status, "/logs": self.logs}
        self.durations: list[float] = []
        self.succeeded = 0
        self.running = 0
        self._last_id = 0
        self.registry.register(self)

    # -- answers ------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Return the number of finished deployments."""
        return len(self.durations)

    def status(self) -> Reply:
        """Answer /status."""
        with self.lock:
            return json_reply(
                {
                    "status": "deploying" if self.running else "idle",
                    "totalDeployments": self.total,
                    "successfulDeployments": self.succeeded,
                    "failedDeployments": self.total - self.succeeded,
                }
            )

    def logs(self) -> Reply:
        """Answer /logs: the newest entries, oldest first."""
        with self.lock:
            return json_reply({"logs": list(self.recent)})

    def log(self, level: str, message: str, **fields: Any) -> dict[str, Any]:
        """Keep what belongs to a deployment for /logs as well."""
        entry = super().log(level, message, **fields)
        if "deployment_id" in entry:
            kept = ("timestamp", "level", "message", "deployment_id")
            with self.lock:
                self.recent.append({key: entry[key] for key in kept})
        return entry

    def buckets(self) -> list[tuple[str, int]]:
        """Return the histogram's buckets, cumulative, spelt as the platform spells them."""
        bounds = [60, 300, 600] if self.build == "newest" else [60, 300]
        counted = [(str(bound), sum(value <= bound for value in self.durations)) for bound in bounds]
        return [*counted, ("+Inf", self.total)]

    def exposition(self) -> str:
        """Return what the mission's JavaScript sends."""
        return hand_written(
            ("deployment_total", "counter", "Total déploiements", [("deployment_total", self.total)]),
            (
                "deployment_success_total",
                "counter",
                "Déploiements réussis",
                [("deployment_success_total", self.succeeded)],
            ),
            (
                "deployment_duration_seconds",
                "histogram",
                "Durée des déploiements",
                [(f'deployment_duration_seconds_bucket{{le="{le}"}}', value) for le, value in self.buckets()],
            ),
        )

    def collect(self) -> Iterator[Metric]:
        """Return what the newer builds send."""
        with self.lock:
            yield CounterMetricFamily("deployment", "Total déploiements", self.total)
            yield CounterMetricFamily("deployment_success", "Déploiements réussis", self.succeeded)
            failed = self.total - self.succeeded
            yield CounterMetricFamily("deployment_failures", "Déploiements en échec", failed)
            yield HistogramMetricFamily(
                "deployment_duration_seconds", "Durée des déploiements", self.buckets(), sum(self.durations)
            )

    def tick(self) -> None:
        """Deploy something; one in twenty fails."""
        self.do_deploy(
            project=self.random.choice(("shop", "blog")),
            duration=round(self.random.uniform(15, 90), 1),
            outcome="failure" if self.random.random() < 0.05 else "success",
            takes=2,
        )

    # -- control ------------------------------------------------------------------------------

    def do_deploy(
        self,
        project: str = "shop",
        branch: str = "main",
        outcome: str = "success",
        duration: float = 45.0,
        takes: float = 0.0,
        count: int = 1,
        reason: str = "build exited with code 1",
    ) -> dict[str, Any]:
        """Deploy: `duration` is what the metrics will say, `takes` how long it really is under way."""
        choice(outcome, "outcome", ("success", "failure"))
        number(duration, "duration", 0, 86400)
        number(takes, "takes", 0, 3600)
        words(project=project, branch=branch, reason=reason)
        ids = []
        for _ in range(whole(count, "count", 1, 1000)):
            with self.lock:
                self._last_id = max(self._last_id + 1, time.time_ns() // 1_000_000)
                commit = f"{self.random.getrandbits(160):040x}"
                about = {"deployment_id": f"deploy-{self._last_id}", "commit": commit}
                self.running += 1
            ids.append(about["deployment_id"])
            self.log("info", f"🚀 Deployment of {project}/{branch} started", **about)
            arguments = (f"{project}/{branch}", outcome == "success", duration, reason, about)
            if takes:
                timer = threading.Timer(takes, self._finish, arguments)
                timer.daemon = True
                timer.start()
            else:
                self._finish(*arguments)
        return {"deployment_ids": ids}

    def _finish(self, app: str, success: bool, duration: float, reason: str, about: dict[str, str]) -> None:
        with self.lock:
            self.running -= 1
            self.durations.append(duration)
            self.succeeded += success
        if success:
            self.log("info", f"✅ Deployment of {app} succeeded in {duration:g} s", **about)
        else:
            self.log("error", f"❌ Deployment of {app} failed after {duration:g} s: {reason}", **about)

    def do_fail_deployment(self, count: int = 1, project: str = "shop", branch: str = "main") -> dict[str, Any]:
        """Let deployments fail."""
        return self.do_deploy(project=project, branch=branch, outcome="failure", count=count)
