"""Every query of every panel, asked through Grafana, gives what the simulated platform was told to do.

Again on a target that stands: pytest --hosts=docker://monitoring-dashboards molecule/dashboards
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
sys.path.insert(0, str(CHECKOUT / "tests/dashboards"))

import queries as source  # noqa: E402

SECRETS = yaml.safe_load((CHECKOUT / "molecule/shared/secrets.yml").read_text())
ADMIN = f"admin:{SECRETS['grafana_admin_password']}"
PROMTOOL = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "bin/promtool"
TABLE = Path(os.environ["CHECKOUT_STATE"]) / "dashboards-live.md"
ALL = list(source.queries())

# What the platform is told, see prepare.yml and the fixture `world`.
APPS = {"shop-main", "shop-feature-cart", "blog-main", "docs-main"}
MEASURED = APPS - {"docs-main"}  # with /metrics
STOPPED = "docs-main"
RECORDED = (
    *("alerts:time_to_recover_seconds:avg30d", "alerts:response_time_seconds:avg30d"),
    "alerts:false_positive:ratio30d",
)
PORTS = 90
GOOD, BAD, SECONDS = 3, 2, 45.0
ASKED, REFUSED = 3, 2
# Days ago of which a line is given to Loki.
OLD = (2, 7)
BROKEN, SHARE = "shop-main", 0.2
RPS = 5
# Two of a hundred synthetic visitors ask for what there is not: 0.1 a second, of which five minutes see about 30.
MISSED = (0.03, 0.2)
# The synthetic visitors' times are log-normal: each percentile lies in this bucket of the apps' histogram.
P50, P95, P99 = (0.025, 0.05), (0.05, 0.075), (0.075, 0.25)
SERVICES = {"port-manager", "deployment-api", "tunnel-manager"}
HOST = "monitoring-dashboards"

Check = Callable[[list[source.Series]], bool]


# What the target itself and Prometheus' raw samples say, by the fixture `world`; what is expected is worked out of it.
FACTS: dict[str, Any] = {}
Known = Callable[[], Any]


class Expected:
    """What an answer has to be, and how that reads in the table."""

    def __init__(self, words: str | Callable[[], str], holds: Check) -> None:
        self.words, self.holds = words, holds

    def __repr__(self) -> str:
        return self.words if isinstance(self.words, str) else self.words()


def value(wanted: float, tolerance: float = 0.0) -> Expected:
    def holds(found):
        return len(found) == 1 and abs(found[0].last - wanted) <= tolerance

    return Expected(f"{wanted:g}" + (f" ± {tolerance:g}" if tolerance else ""), holds)


def fact(known: Known, tolerance: float = 0.0, share: float = 0.0) -> Expected:
    """One number that the target itself gives too, as near as the time between two looks allows."""

    def allowed():
        return max(tolerance, share * abs(known()))

    def holds(found):
        return len(found) == 1 and abs(found[0].last - known()) <= allowed() + 1e-9

    return Expected(lambda: f"{known():.6g}" + (f" ± {allowed():.3g}" if allowed() else ""), holds)


def facts(label: str, known: Known, tolerance: float = 0.0, share: float = 0.0) -> Expected:
    """One series for each of these, and no other, with the number that the target itself gives."""

    def near(got, wanted):
        return abs(got - wanted) <= max(tolerance, share * abs(wanted)) + 1e-9

    def holds(found):
        got, wanted = {s.labels.get(label): s.last for s in found}, known()
        return set(got) == set(wanted) and all(near(got[name], wanted[name]) for name in wanted)

    def words():
        allowed = f" (± {share:.0%})" if share else f" (± {tolerance:g})" if tolerance else ""
        return ", ".join(f"{name}: {number:.4g}" for name, number in sorted(known().items())) + allowed

    return Expected(words, holds)


def among(label: str, names: Known, count: Known, low: float = 0, high: float = math.inf) -> Expected:
    """So many series, all of these names."""

    def holds(found):
        got = {s.labels.get(label): s.last for s in found}
        return len(got) == len(found) == count() and set(got) <= names() and all(low <= n <= high for n in got.values())

    return Expected(lambda: f"{count()} of {len(names())} known by {label}, each {low:g}..{high:g}", holds)


def if_any(low: float, high: float, there: Known, reason: str) -> Expected:
    """Between these where raw samples say that there is something, else nothing."""

    def holds(found):
        return all(low <= s.last <= high for s in found) and bool(found) == bool(there())

    return Expected(lambda: f"{low:g} to {high:g}" if there() else f"nothing: {reason}", holds)


def between(low: float, high: float, count: int | None = 1) -> Expected:
    def holds(found):
        return bool(found) and (count is None or len(found) == count) and all(low <= s.last <= high for s in found)

    return Expected(f"{low:g} to {high:g}" + ("" if count == 1 else f", {count or 'any number of'} series"), holds)


def usually(low: float, high: float) -> Expected:
    """A curve whose median is within, because a short window has a percentile of its own."""

    def holds(found):
        return len(found) == 1 and low <= statistics.median(float(number) for number in found[0].values) <= high

    return Expected(f"usually {low:g} to {high:g}", holds)


def by(label: str, wanted: dict[str, tuple[float, float]]) -> Expected:
    """One series for each of these, within its bounds, and no other."""

    def holds(found):
        got = {s.labels.get(label): s.last for s in found}
        return set(got) == set(wanted) and all(low <= got[name] <= high for name, (low, high) in wanted.items())

    return Expected(", ".join(f"{name}: {low:g}..{high:g}" for name, (low, high) in sorted(wanted.items())), holds)


def each(label: str, names: set[str], low: float = 0, high: float = math.inf) -> Expected:
    return by(label, dict.fromkeys(names, (low, high)))


def at_least(label: str, names: set[str], low: float = 0, high: float = math.inf) -> Expected:
    def holds(found):
        got = {s.labels.get(label): s.last for s in found}
        return names <= set(got) and all(low <= number <= high for number in got.values())

    return Expected(f"at least {', '.join(sorted(names))}, each {low:g}..{high:g}", holds)


def nothing(reason: str) -> Expected:
    return Expected(f"nothing: {reason}", lambda found: not found)


def log_lines(count: int | None, *words: str) -> Expected:
    def holds(found):
        texts = [str(s.values[0]) for s in found]
        right = all(any(word.lower() in text.lower() for word in words) for text in texts) if words else True
        return right and (len(texts) == count if count is not None else bool(texts))

    return Expected(f"{count if count is not None else 'some'} lines with {' or '.join(words) or 'anything'}", holds)


QUIET = "MongoDB's own figures; FerretDB has none"


def summed(total: float) -> Expected:
    """What was counted in each interval adds up to it."""

    def holds(found):
        return len(found) == 1 and sum(float(number) for number in found[0].values) == total

    return Expected(f"a curve that adds up to {total:g}", holds)


def lines_by(label: str, totals: dict[str, Known], others: set[str] | None = None) -> Expected:
    """Bars of lines: of each of these names they add up to this; where others are named, they are there too."""

    def holds(found):
        got = {s.labels.get(label): sum(float(number) for number in s.values) for s in found}
        right = all(got.get(name) == total() for name, total in totals.items())
        return right and (set(got) == set(totals) if others is None else others <= set(got))

    def words():
        wanted = ", ".join(f"{name}: adds up to {total()}" for name, total in totals.items())
        return wanted + (f"; also {', '.join(sorted(others))}" if others else "")

    return Expected(words, holds)


def expected() -> dict[tuple[str, str, str], Expected]:
    """Return what is known of each query by (dashboard, title, ref)."""
    alive = APPS - {STOPPED}
    ran = {name: (0.0, 0.0) if name == STOPPED else (1.0, 1.0) for name in APPS}
    errors = {name: (SHARE - 0.06, SHARE + 0.06) if name == BROKEN else (0.0, 0.0) for name in MEASURED}
    rate = dict.fromkeys(MEASURED, (RPS * 0.7, RPS * 1.3))
    times = dict.fromkeys(MEASURED, P95)
    uptime = {name: (0.0, 0.5) if name == STOPPED else (0.8, 1.0) for name in APPS}
    budget = 1 - BAD / (GOOD + BAD) / 0.05
    found: dict[tuple[str, str, str], Expected] = {}

    def know(dashboards: str, title: str, ref: str, what: Expected) -> None:
        for dashboard in dashboards.split():
            found[f"{dashboard}-main", title, ref] = what

    know("deployment", "Platform", "A", by("service", dict.fromkeys(SERVICES, (1, 1))))
    know("deployment", "Platform", "B", value(1))
    know("deployment", "Monitoring", "A", at_least("job", {"prometheus", "loki", "node", "mongodb"}, 1, 1))
    know("deployment", "Ports in use", "A", value(PORTS / 900, 1e-9))
    know("slo", "Ports in use", "A", value(PORTS / 900, 1e-9))
    know("deployment", "Allocated", "A", value(PORTS))
    know("deployment", "Free", "A", value(900 - PORTS))
    know("deployment", "Ports over time", "A", value(PORTS))
    know("deployment", "Deployments", "A", value(GOOD + BAD))
    know("deployment", "Requests for a port", "A", summed(ASKED + REFUSED))
    know("deployment", "Requests for a port", "B", summed(REFUSED))
    know("deployment", "Failed", "A", value(BAD))
    know("deployment", "Success, 1 day", "A", value(GOOD / (GOOD + BAD), 0.001))
    know("slo", "Successful deployments", "A", value(GOOD / (GOOD + BAD), 0.001))
    know("deployment", "Average time, 1 h", "A", value(SECONDS, 0.5))
    know("slo", "Average deployment (< 5 min)", "A", value(SECONDS, 0.5))
    know("deployment", "Duration of deployments", "A", between(0, 60))
    know("deployment", "Duration of deployments", "B", value(SECONDS, 0.5))
    know("deployment", "Deployments over time", "A", summed(GOOD))
    know("deployment", "Deployments over time", "B", summed(BAD))
    know("deployment", "Expected", "A", value(len(APPS)))
    know("deployment", "Answering", "A", value(len(alive)))
    know("deployment", "Down", "A", value(1))
    know("applications", "Apps", "A", value(len(APPS)))
    know("applications", "Down", "A", value(1))
    know("project", "Apps", "A", value(len(APPS)))
    know("project", "Down", "A", value(1))
    for dashboard in ("deployment", "applications", "project"):
        title = "Deployed applications"
        know(dashboard, title, "A", each("app", APPS, 1, 1))
        know(dashboard, title, "B", by("app", ran))
        know(dashboard, title, "C", by("app", ran))
        know(dashboard, title, "D", by("app", uptime))
        know(dashboard, title, "E", by("app", rate))
        know(dashboard, title, "F", by("app", errors))
        know(dashboard, title, "G", by("app", times))
    both = "applications project"
    know(both, "Requests", "A", between(RPS * len(MEASURED) * 0.7, RPS * len(MEASURED) * 1.3))
    know(both, "Errors 5xx", "A", value(SHARE / len(MEASURED), 0.03))
    know(both, "Response p95", "A", between(*P95))
    know(both, "Requests by app (10 busiest)", "A", by("app", rate))
    know(both, "Errors 4xx by app (10 most)", "A", by("app", dict.fromkeys(MEASURED, MISSED)))
    know(both, "Errors 5xx by app (10 most)", "A", by("app", {BROKEN: (RPS * SHARE * 0.5, RPS * SHARE * 1.5)}))
    know(both, "Share of errors by app (10 worst)", "A", by("app", errors))
    know("deployment", "Apps with the most errors", "A", by("app", errors))
    know("deployment", "Slowest apps: p95 response time", "A", by("app", times))
    know(both, "p95 by app (10 slowest)", "A", by("app", times))
    know(both, "Response time: p50, p95, p99", "A", usually(*P50))
    know(both, "Response time: p50, p95, p99", "B", usually(*P95))
    know(both, "Response time: p50, p95, p99", "C", usually(*P99))
    know(both, "/health over time (20 least available)", "A", by("app", ran))
    know(both, "Answer time of /health (10 slowest)", "A", each("app", APPS, 0, 10))
    know(both, "Processor by app (10 busiest)", "A", each("app", alive, 0, 1))
    know(both, "Memory by app (10 largest)", "A", each("app", alive, 5e6, 500e6))
    know(both, "Restarts within a day (10 most)", "A", each("app", APPS, 0, 0))
    know(
        "deployment",
        "Error lines of the platform",
        "A",
        lines_by("job", {"deployment-api": lambda: BAD, "port-manager": lambda: REFUSED}),
    )
    know(
        "deployment",
        "Alerts that fire",
        "A",
        facts("alertname", lambda: dict.fromkeys((a["alertname"] for a in FACTS["alerts"]), 1)),
    )
    know("deployment", "Incidents", "A", facts("severity", lambda: counted(a["severity"] for a in FACTS["incidents"])))
    for severity, title in (("critical", "Critical alerts"), ("warning", "Warnings"), ("info", "Performance alerts")):
        know("deployment", title, "A", fact(lambda severity=severity: severities().get(severity, 0)))
    know("slo", "Firing now", "A", fact(lambda: len(FACTS["alerts"])))
    know(
        "deployment",
        "Last errors of the platform",
        "A",
        log_lines(BAD + REFUSED, "❌", "Allocation failed"),
    )
    know("deployment", "Answer time of the services", "A", each("service", SERVICES, 0, 5))
    _infrastructure(know)
    know("infrastructure", "All containers", "D", at_least("container", {f"{app}-deploy" for app in APPS}, 0, 5))
    sources = {"docker", "port-manager", "tunnel-manager", "varlogs"}
    know("logs", "Lines by job", "A", lines_by("job", {"deployment-api": lambda: FACTS["lines"]}, sources))
    know("logs", "Error lines by job", "A", lines_by("job", {"deployment-api": lambda: BAD}, {"docker"}))
    # Each request to the broken app that fails is a line: once a second, for more than five minutes.
    know("logs", "Lines", "A", between(RPS * len(MEASURED) * 300, math.inf))
    know("logs", "Error lines", "A", between(RPS * SHARE * 200, RPS * SHARE * 3600))
    know("logs", "Search in the chosen jobs", "A", log_lines(500))
    know("logs", "Errors of the chosen jobs", "A", log_lines(None, "error", "fail", "fatal"))
    know("logs", "Received by Loki", "A", between(100, 1e6))
    know("logs", "Streams", "A", between(10, 500))
    know(both, "Uptime, 30 days", "A", between(0.6, 0.75))
    know("slo", "Uptime of the apps, 30 days", "A", between(0.6, 0.75))
    for ref in "ABC":
        know("slo", "Uptime of the apps", ref, between(0.6, 0.75))
        know("slo", "Deployments that succeed", ref, value(GOOD / (GOOD + BAD), 0.001))
    for title in ("Public names and certificates",):
        for ref in "AB":
            know("applications", title, ref, nothing("no app has a public name here"))
    wanted = {f"{app}-deploy": (1.0, RPS * 60 * 1.3) for app in MEASURED}
    know("applications", "Lines by app", "A", by("container", wanted))
    know("applications", "Last errors of the apps", "A", log_lines(None, " 500 "))
    know("project", "Log lines of the project", "A", log_lines(500, "GET ", "POST "))
    know("logs", "Deployment $deployment_id", "A", log_lines(2 * (GOOD + BAD), "deploy-"))
    know("logs monitoring", "Lost on the way", "A", nothing("Loki refused none"))
    know("logs monitoring", "Lost on the way", "B", value(0))
    know("logs monitoring", "Lost on the way", "C", nothing("Alloy is not what collects here"))
    know("logs monitoring", "Lost on the way", "D", nothing("otelcol is not what collects here"))
    know("mongodb", "MongoDB", "A", value(1))
    know("mongodb", "Exporter", "A", value(1))
    know("mongodb", "Reached over time", "A", value(1))
    for title in ("Running since", "Operations", "Time of an operation", "Connections", "Network", "Documents"):
        know("mongodb", title, "A", nothing(QUIET))
    know("mongodb", "Memory", "A", nothing(QUIET))
    know("mongodb", "Memory", "B", nothing(QUIET))
    know("mongodb", "Network", "B", nothing(QUIET))
    _monitoring(know)
    know("monitoring", "Configuration in force", "A", value(1))
    know("monitoring", "Apps found", "A", value(len(APPS)))
    know("monitoring", "Discovery: oldest source", "A", between(-5, 120))
    know("monitoring", "Disk of the metrics", "A", value(0))
    know("monitoring", "Notifications that failed", "B", nothing("Prometheus dropped none"))
    know("monitoring", "Files read by the collector", "B", nothing("Alloy is not what collects here"))
    know("monitoring", "Files read by the collector", "C", nothing("otelcol is not what collects here"))
    know("monitoring", "Last good backup", "A", nothing("no backup was made here"))
    know("monitoring", "Timers that failed", "A", nothing("no timer has run yet"))
    know("monitoring", "What was changed by the playbooks", "A", log_lines(1, '"playbook": "converge"'))
    know("project", "Deployments of the project", "A", log_lines(None, "shop/main"))

    def recorded(name):
        return lambda: FACTS["recorded"].get(name)

    # The rules over 30 days are worked out every three minutes: what they have not recorded yet is nothing.
    recovered, answered, false = map(recorded, RECORDED)
    know("slo", "Time to recover", "A", if_any(60, 3600, recovered, "nothing critical"))
    know("slo", "Alerts answered (< 15 min)", "A", if_any(0, 3600, answered, "no alert"))
    know("slo", "False positives (< 5 %)", "A", if_any(0, 1, false, "no alert"))
    know("slo", "Coverage (100 %)", "A", value(1))
    know("slo", "Metrics kept (30 days)", "A", fact(lambda: FACTS["metrics_age"], 90))
    know("slo", "Logs kept (7 days)", "A", value(len(OLD)))
    know("slo", "Left of the deployments' budget", "A", value(budget, 0.01))
    know("slo", "Budgets over time", "A", value(budget, 0.01))
    know("slo", "Left of the uptime budget", "A", between(-79, -48.9))
    know("slo", "Budgets over time", "B", between(-79, -48.9))
    know("slo", "Apps below their objective", "A", between(1, len(APPS)))
    know("slo", "Uptime of the 15 least available apps", "A", by("app", uptime))
    know("slo", "Restarts a day (< 2)", "A", value(0))
    return found


def _infrastructure(know) -> None:
    """What the target's own kernel, df and Docker say."""

    def memory(name):
        return lambda: FACTS["memory"][name] * 1024

    def used(of="MemTotal", free="MemAvailable"):
        return lambda: (FACTS["memory"][of] - FACTS["memory"][free]) * 1024

    def load(place):
        return lambda: FACTS["load"][place]

    here, fullest = "infrastructure", lambda: max(FACTS["disks"].values())
    held = lambda: used()() / memory("MemTotal")()  # noqa: E731
    cores = lambda: {str(core) for core in range(FACTS["cores"])}  # noqa: E731
    know(here, "Processor", "A", between(0.01, 1))
    know("slo", "Processor", "A", between(0.01, 1))
    # The machine's memory is its neighbours' too: other tests take and give back gigabytes between two looks.
    know(here, "Memory", "A", fact(held, 0.1))
    know(here, "Memory in use", "A", fact(held, 0.1))
    # On average, while other tests of this machine take memory and give it back.
    know("slo", "Memory", "A", fact(lambda: FACTS["memory_on_average"], 0.01))
    know(here, "Fullest disk", "A", fact(fullest, 0.02))
    know("slo", "Disk", "A", fact(fullest, 0.02))
    # Within the time between two looks a load of one minute moves by a fifth, and by what begins just then.
    know(here, "Load 5 min per core", "A", fact(lambda: FACTS["load"][1] / FACTS["cores"], 0.5, 0.15))
    know(here, "Load average 1, 5, 15 minutes", "A", fact(load(0), 2, 0.5))
    know(here, "Load average 1, 5, 15 minutes", "B", fact(load(1), 1, 0.2))
    know(here, "Load average 1, 5, 15 minutes", "C", fact(load(2), 0.5, 0.1))
    know(here, "Load average 1, 5, 15 minutes", "D", fact(lambda: FACTS["cores"]))
    know(here, "Network latency p95", "A", between(0, 0.5))
    know("slo", "Network p95 (< 100 ms)", "A", between(0, 0.5))
    know(here, "Latency p95", "A", between(0, 0.5))
    know(here, "Time since boot", "A", fact(lambda: FACTS["up"], 30))
    know(here, "Clock offset", "A", between(0, 0.5))
    know(here, "Failed units", "A", fact(lambda: FACTS["failed_units"]))
    know(here, "Processor by core", "A", among("cpu", cores, lambda: FACTS["cores"], 0, 1))
    modes = {"iowait", "irq", "nice", "softirq", "steal", "system", "user"}
    know(here, "Processor by kind of work", "A", each("mode", modes, 0, 1))
    know(here, "Memory by use", "A", fact(used(), 2.5e9))
    know(here, "Memory by use", "B", fact(used("MemAvailable", "MemFree"), 2.5e9))
    know(here, "Memory by use", "C", fact(memory("MemFree"), 2.5e9))
    know(here, "Swap", "A", fact(used("SwapTotal", "SwapFree"), 1e7))
    know(here, "Swap", "B", fact(memory("SwapTotal")))
    know(here, "Killed for lack of memory", "A", value(0))
    know(here, "Disk by mount", "A", facts("mountpoint", lambda: FACTS["disks"], 0.02))
    know(here, "Free space", "A", facts("mountpoint", lambda: FACTS["free"], 0, 0.1))
    know(here, "Inodes by mount", "A", facts("mountpoint", lambda: FACTS["inodes"], 0.02))
    know(here, "Disk reads and writes", "A", between(1, 1e10))
    know(here, "Disk reads and writes", "B", between(0, 1e10))
    wires = lambda: FACTS["wires"]  # noqa: E731
    know(here, "Traffic in and out", "A", among("device", wires, lambda: len(wires()), 0, 1e9))
    know(here, "Traffic in and out", "B", among("device", wires, lambda: len(wires()), 0, 1e9))
    know(here, "Errors and drops", "A", among("device", wires, lambda: len(wires()), 0, 10))
    containers = lambda: FACTS["containers"]  # noqa: E731
    fifteen = lambda: min(15, len(containers()))  # noqa: E731
    know(here, "Processor of containers (15 busiest)", "A", among("name", containers, fifteen, 0, 4))
    know(here, "Memory of containers (15 largest)", "A", among("name", containers, fifteen, 1e6, 2e9))
    know(here, "All containers", "A", among("name", containers, lambda: len(containers()), 0, 4))
    know(here, "All containers", "B", facts("name", lambda: FACTS["container_memory"], 2e7, 0.4))
    know(here, "All containers", "C", at_least("name", {"prometheus", "grafana"}, 0.001, 1.01))


def _monitoring(know) -> None:
    """What Prometheus' raw samples and its interface say."""
    here, jobs = "monitoring", lambda: FACTS["samples"]

    def most(number):
        return dict(sorted(jobs().items(), key=lambda item: -item[1])[:number])

    names = {"alertmanager", "blackbox", "grafana", "loki", "node", "prometheus", "promtail"}
    know(here, "Targets down", "A", fact(lambda: FACTS["down"]))
    know(here, "Series", "A", fact(lambda: FACTS["series"], 0, 0.02))
    know(here, "Series and their coming and going", "A", fact(lambda: FACTS["series"], 0, 0.02))
    know(here, "Series and their coming and going", "B", between(0, 5000))
    # Every target once in 15 s, and the rules' results on top.
    know(here, "Samples a second", "A", fact(lambda: sum(jobs().values()) / 15, 0, 0.3))
    know(here, "Oldest metric", "A", fact(lambda: FACTS["metrics_age"], 30))
    know(here, "Samples by job", "A", facts("job", lambda: most(15)))
    know(here, "Slowest scrapes", "A", among("job", lambda: set(jobs()), lambda: min(10, len(jobs())), 0, 15))
    groups = lambda: FACTS["rule_groups"]  # noqa: E731
    know(here, "Slowest rule groups", "A", among("rule_group", groups, lambda: min(10, len(groups())), 0, 10))
    for ref in "ABC":
        know(here, "Failures of rules and of targets", ref, value(0))
    know(here, "Disk of the store", "A", value(0))
    know(here, "Disk of the store", "B", between(1e5, 1e9))
    know(here, "Time of queries", "A", at_least("slice", {"inner_eval", "prepare_time"}, 0, 5))
    tried = lambda: FACTS["notified"]  # noqa: E731
    know(here, "Notifications", "A", if_any(0.1, 100, tried, "no alert was sent yet"))
    know(here, "Notifications that failed", "A", if_any(0.1, 100, lambda: FACTS["notified_badly"], "none failed"))
    know(here, "Alerts and silences", "A", at_least("state", {"active", "suppressed", "unprocessed"}, 0, 50))
    know(here, "Alerts and silences", "B", value(0))
    know(here, "Lines taken in", "A", between(RPS, 1000))
    know(here, "Time of Loki's answers", "A", at_least("route", {"/logproto.Pusher/Push"}, 0, 10))
    know(here, "Files read by the collector", "A", fact(lambda: FACTS["followed"]))
    know(here, "Requests to Grafana", "A", at_least("status_code", {"200"}, 0, 100))
    know(here, "Memory by program", "A", at_least("job", names, 5e6, 2e9))
    know(here, "Processor by program", "A", at_least("job", names, 0, 2))


def counted(names) -> dict[str, int]:
    """Return how often each comes."""
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def severities() -> dict[str, int]:
    return counted(alert["severity"] for alert in FACTS["alerts"])


EXPECTED = expected()


def prometheus(http, path):
    return http.get(f"http://127.0.0.1:9090/api/v1/{path}").json()["data"]


def simulate(host, *words):
    return json.loads(host.check_output("simulated-platform control" + " %s" * len(words), *words) or "{}")


@pytest.fixture(scope="module")
def world(host, http, wait_until):
    """The platform after it did what it was told; returns the time range to ask for, in milliseconds."""

    def seen_for(job, seconds):
        query = f"query?query=count_over_time(up%7Bjob%3D%22{job}%22%7D%5B1h%5D)"
        return wait_until(
            lambda: any(float(one["value"][1]) * 15 > seconds for one in prometheus(http, query)["result"]),
            what=f"{seconds} s of {job} in Prometheus",
            timeout=seconds + 60,
            every=3,
        )

    status = http.get("http://127.0.0.1:3004/status").json()
    if not status["totalDeployments"]:
        # increase() stretches what it saw of a window to the whole: too much where it saw seconds only.
        seen_for("deployment-api", 105)
        simulate(host, "port-manager", "fill_ports", f"to={PORTS}", "backing=hidden")
        simulate(host, "deployment-api", "deploy", f"count={GOOD}", f"duration={SECONDS}")
        simulate(host, "deployment-api", "deploy", f"count={BAD}", f"duration={SECONDS}", "outcome=failure")
        for _ in range(ASKED):
            simulate(host, "port-manager", "allocate", "project=shop", "branch=main")
        for _ in range(REFUSED):
            # Each at a moment of its own: Loki keeps lines of the same moment and text once.
            simulate(host, "port-manager", "fail_allocations")
        for days in OLD:
            # Half an hour before the day is over, so that the test has time.
            stamp = str(time.time_ns() - (days * 24 * 3600 - 1800) * 10**9)
            stream = {"stream": {"job": f"old-{days}", "host": HOST}, "values": [[stamp, "a line of long ago"]]}
            given = http.post("http://127.0.0.1:3100/loki/api/v1/push", {"streams": [stream]})
            assert given.status == 204, given.body
        # What was just given is looked for among the last hours only, until it is written away.
        assert http.post("http://127.0.0.1:3100/flush", {}).status == 204

    def scraped():
        result = prometheus(http, f"query?query=timestamp(deployment_total=={GOOD + BAD})")["result"]
        return float(result[0]["value"][1]) if result else None

    counted = float(wait_until(scraped, what="the deployments in Prometheus", timeout=60))
    # Rates look back five minutes, and the rules over long windows are evaluated every three.
    seen_for("app-metrics", 320)
    for rule in ("deployment:success:ratio30d", "app:up:ratio30d", "slo:error_budget_remaining:ratio"):
        found = f"query?query=count({rule})"
        wait_until(lambda found=found: prometheus(http, found)["result"], what=f"the rule {rule}", timeout=240, every=3)
    # Of the app that was stopped before everything else.
    # Grafana asks at whole minutes: one of them has to see it.
    path = "query?query=ALERTS%7Balertname%3D%22AppDown%22%2Calertstate%3D%22firing%22%7D%20offset%2060s"
    wait_until(lambda: prometheus(http, path)["result"], what="AppDown, for a minute", timeout=300, every=3)
    # The curve of deployments has a point at each round five minutes: one that they are in has to be there.
    wait_until(
        lambda: (scraped() or 0) > math.ceil(counted / 300) * 300,
        what="a point of the curve of deployments",
        timeout=320,
        every=3,
    )
    # Every rule once more after the last of them.
    time.sleep(20)
    end = int(scraped() * 1000)
    FACTS.update(learned(host, http, end / 1000))
    return end - 3600_000, end


def learned(host, http, at) -> dict[str, Any]:
    """Return what the target and Prometheus' raw samples say at a moment, and a moment after."""

    def raw(query):
        found = prometheus(http, f"query?time={at}&query=" + urllib.parse.quote(query))["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    mounts = [
        labels["mountpoint"]
        for labels, _ in raw("node_filesystem_size_bytes")
        if labels["fstype"] not in ("tmpfs", "overlay")
    ]

    def df(what):
        return [
            [float(number) for number in line.split()]
            for line in host.check_output(f"df --output={what} -B1 " + "%s " * len(mounts), *mounts).splitlines()[1:]
        ]

    space = dict(zip(mounts, df("size,avail"), strict=True))
    nodes = dict(zip(mounts, df("itotal,iavail"), strict=True))
    kernel = host.check_output("cat /proc/meminfo")
    status = prometheus(http, "status/tsdb?limit=1")["headStats"]
    names = host.check_output("docker ps --format '{{.Names}}'").split()
    containers = json.loads(host.check_output(MEMORY_OF_CONTAINERS))
    firing = 'ALERTS{alertstate="firing",severity!="none"}'
    files = "ls -d /var/log/*log /var/log/*-*/*.log"
    growth = "increase(alertmanager_notifications{}_total[1h]) > 0.5"
    return {
        "alerts": [labels for labels, _ in raw(firing)],
        # A curve's last point is at a round time.
        "incidents": [labels for labels, _ in raw(f"{firing} @ {at // 15 * 15:.0f}")],
        "memory": {line.split(":")[0]: int(line.split()[1]) for line in kernel.splitlines()},
        "cores": int(host.check_output("nproc")),
        "load": [float(number) for number in host.check_output("cat /proc/loadavg").split()[:3]],
        "up": float(host.check_output("cat /proc/uptime").split()[0]),
        "failed_units": len(host.check_output("systemctl list-units --state=failed --plain --no-legend").splitlines()),
        "disks": {name: 1 - avail / size for name, (size, avail) in space.items()},
        "free": {name: avail for name, (_, avail) in space.items()},
        "inodes": {name: 1 - free / total for name, (total, free) in nodes.items()},
        "wires": {name for name in host.check_output("ls /sys/class/net").split() if name.startswith(("e", "wl"))},
        "containers": set(names),
        "container_memory": {name: containers[name] for name in names},
        "lines": int(host.check_output("cat /var/log/deployment-api/*.log | wc -l")),
        "down": sum(number == 0 for _, number in raw("up")),
        "series": status["numSeries"],
        "metrics_age": at - status["minTime"] / 1000,
        "samples": _summed(raw("scrape_samples_post_metric_relabeling"), "job"),
        "rule_groups": {group["name"] for group in prometheus(http, "rules")["groups"]},
        "notified": raw(growth.format("")),
        "notified_badly": raw(growth.format("_failed")),
        "followed": len(
            [path for path in host.check_output(files).split() if not path.endswith(("faillog", "lastlog"))]
        ),
        "recorded": {name: raw(f"last_over_time({name}[30m])") for name in RECORDED},
        "memory_on_average": raw("1 - avg_over_time(node_memory_MemAvailable_bytes[1h]) / node_memory_MemTotal_bytes")[
            0
        ][1],
    }


# The same as Docker's own figure: what is held without the file cache that can be given back.
MEMORY_OF_CONTAINERS = r"""
docker ps --no-trunc --format '{{.Names}} {{.ID}}' | python3 -c '
import json, sys, glob
found = {}
for line in sys.stdin:
    name, number = line.split()
    for path in glob.glob(f"/sys/fs/cgroup/**/*{number}*/memory.current", recursive=True):
        with open(path) as reader:
            held = int(reader.read())
        with open(path.replace("current", "stat")) as reader:
            parts = dict(row.split() for row in reader)
        found[name] = held - int(parts["inactive_file"])
    for path in glob.glob(f"/sys/fs/cgroup/memory/**/*{number}*/memory.usage_in_bytes", recursive=True):
        with open(path) as reader:
            held = int(reader.read())
        with open(path.replace("usage_in_bytes", "stat")) as reader:
            parts = dict(row.split() for row in reader)
        found[name] = held - int(parts["total_inactive_file"])
print(json.dumps(found))'
"""


def _summed(found, label) -> dict[str, float]:
    by_label: dict[str, float] = {}
    for labels, number in found:
        by_label[labels[label]] = by_label.get(labels[label], 0) + number
    return by_label


@pytest.fixture(scope="module")
def answers(http, world):
    """Every query's answer, all variables at All, which is their default."""
    found = {}
    for uid in source.dashboards():
        mine = [query for query in ALL if query.dashboard == uid]
        answer = http.post(
            "http://127.0.0.1:3000/api/ds/query",
            source.request(mine, source.everything(uid), *world),
            user=ADMIN,
            timeout=60,
        )
        assert answer.status in (200, 207, 400), answer.body[:500]
        results = answer.json()["results"]
        found |= {query.name: results[f"q{index}"] for index, query in enumerate(mine)}
    _write(found)
    return found


def shown(result) -> str:
    try:
        found = source.series(result)
    except AssertionError as error:
        return f"ERROR {error}"
    if not found:
        return "nothing"
    if any(isinstance(s.values[0], str) for s in found):
        return f"{len(found)} lines"
    parts = []
    for one in found[:4]:
        name = one.labels.get("app") or next(
            (v for k, v in one.labels.items() if k not in ("host", "instance", "__name__")), ""
        )
        parts.append((f"{name}: " if name else "") + f"{one.last:.4g}")
    return ", ".join(parts) + (f", … {len(found)} series" if len(found) > 4 else "")


def _write(found) -> None:
    rows = ["| dashboard | panel | query | expected | got |", "| --- | --- | --- | --- | --- |"]
    for query in ALL:
        words = repr(EXPECTED[query.dashboard, query.title, query.ref])
        rows.append(f"| {query.dashboard} | {query.title} | {query.ref} | {words} | {shown(found[query.name])} |")
    TABLE.write_text("\n".join(rows) + "\n")


def test_promtool_reads_every_expression(tmp_path):
    found = [query for query in ALL if query.source == "prometheus"]
    rules = [
        {
            "record": f"panel:{query.name.replace('-', '_')}",
            "expr": source.filled(query.expr, source.everything(query.dashboard) | source.INTERNAL),
        }
        for query in found
    ]
    assert len(rules) > 150
    assert not [rule["expr"] for rule in rules if "$" in rule["expr"].replace("$1", "")]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [PROMTOOL, "check", "rules", "--lint=none", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("query", ALL, ids=lambda query: f"{query.name} {query.title}")
def test_a_query_gives_what_the_platform_did(answers, query):
    found = source.series(answers[query.name])
    known = EXPECTED[query.dashboard, query.title, query.ref]
    assert known.holds(found), f"expected {known}, got {shown(answers[query.name])}"
    if query.kind != "logs":
        assert all(math.isfinite(float(number)) for one in found for number in one.values)


def asked(http, world, uid, **chosen):
    """Return a dashboard's answers by (title, ref), with these values chosen."""
    mine = [query for query in ALL if query.dashboard == uid]
    request = source.request(mine, source.everything(uid) | chosen, *world)
    answer = http.post("http://127.0.0.1:3000/api/ds/query", request, user=ADMIN, timeout=60)
    results = answer.json()["results"]
    return {(query.title, query.ref): source.series(results[f"q{index}"]) for index, query in enumerate(mine)}


@pytest.mark.parametrize("uid", ["applications-main", "project-main", "deployment-main"])
def test_a_chosen_app_is_all_that_is_shown(http, world, uid):
    found = asked(http, world, uid, app=BROKEN)
    count = {"deployment-main": "Expected"}.get(uid, "Apps")
    assert found[count, "A"][0].last == 1
    assert found["Down", "A"][0].last == 0
    # Alerts are shown of everything.
    found.pop(("Alerts that fire", "A"), None)
    named = [one.labels["app"] for series in found.values() for one in series if one.labels.get("app")]
    assert len(named) > 5
    assert set(named) == {BROKEN}
    if uid != "deployment-main":
        assert found["Requests", "A"][0].last == pytest.approx(RPS, rel=0.3)
        assert found["Errors 5xx", "A"][0].last == pytest.approx(SHARE, abs=0.05)


def test_a_chosen_project_is_all_that_is_shown(http, world):
    found = asked(http, world, "project-main", project="shop")
    assert found["Apps", "A"][0].last == 2
    named = {one.labels["app"] for series in found.values() for one in series if one.labels.get("app")}
    assert named == {"shop-main", "shop-feature-cart"}
    assert not asked(http, world, "project-main", project="blog")["Deployments of the project", "A"]


def test_a_deployment_is_found_by_its_id(host, http, world):
    logs = http.get("http://127.0.0.1:3004/logs").json()["logs"]
    failed = next(entry["deployment_id"] for entry in logs if "❌" in entry["message"])
    found = asked(http, world, "logs-main", deployment_id=failed)["Deployment $deployment_id", "A"]
    lines = [json.loads(str(one.values[0])) for one in found]
    assert {line["deployment_id"] for line in lines} == {failed}
    assert sorted(line["message"][0] for line in lines) == ["❌", "🚀"]


# What is not of a host: the figures of the mission's operations, and counts of days.
OF_NO_HOST = {
    "Time to recover",
    "Alerts answered (< 15 min)",
    "False positives (< 5 %)",
    "Coverage (100 %)",
    "Metrics kept (30 days)",
    "Logs kept (7 days)",
}


@pytest.mark.parametrize("uid", sorted(source.dashboards()))
def test_a_host_that_there_is_not_shows_nothing(http, world, uid):
    found = asked(http, world, uid, host="nowhere")
    shown = {title for (title, _), series in found.items() if series}
    assert shown <= (OF_NO_HOST if uid == "slo-main" else set())
    if uid == "slo-main":
        assert found["Logs kept (7 days)", "A"][0].last == 0


def test_a_text_is_searched_for_in_the_lines(http, world):
    found = asked(http, world, "logs-main", search="❌")["Search in the chosen jobs", "A"]
    assert len(found) == BAD
    assert all("❌" in str(one.values[0]) for one in found)


def choices(http, world, variable, values):
    """Return what Grafana's page would offer for a variable, asked as it asks."""
    begin, end = (moment // 1000 for moment in world)
    query = source.filled(variable["definition"], values)
    selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(",")
    uid = variable["datasource"]["uid"]
    resources = f"http://127.0.0.1:3000/api/datasources/uid/{uid}/resources"
    if uid == "loki":
        asks = urllib.parse.urlencode({"match[]": selector, "start": begin * 10**9, "end": end * 10**9})
        found = http.get(f"{resources}/series?{asks}", user=ADMIN).json()["data"]
        return {stream[label.strip()] for stream in found}
    asks = urllib.parse.urlencode({"match[]": selector, "start": begin, "end": end})
    return set(http.get(f"{resources}/api/v1/label/{label.strip()}/values?{asks}", user=ADMIN).json()["data"])


BRANCHES = {"main", "feature-cart"}
LOGS = {"docker", "deployment-api", "port-manager", "tunnel-manager", "varlogs"}


@pytest.mark.parametrize("uid", sorted(source.dashboards()))
def test_variables_offer_what_there_is_of_what_was_chosen(http, world, uid):
    everything = source.everything(uid)
    for variable in source.dashboards()[uid]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        name = variable["name"]
        wanted = {"host": {HOST}, "project": {"shop", "blog", "docs"}, "branch": BRANCHES, "app": APPS}.get(name)
        found = choices(http, world, variable, everything)
        assert found == wanted if wanted else found >= LOGS, name
        chain = {
            "project": ({"host": "nowhere"}, set()),
            "branch": ({"project": "blog"}, {"main"}),
            "app": ({"project": "shop", "branch": "main"}, {"shop-main"}),
            "job": ({"host": "nowhere"}, set()),
        }
        if name in chain:
            chosen, left = chain[name]
            assert choices(http, world, variable, everything | chosen) == left, name


@pytest.mark.parametrize("uid", ["deployment-main", "infrastructure-main"])
def test_annotations_mark_deployments_alerts_and_changes(http, world, uid):
    deployments, alerts, changes = source.dashboards()[uid]["annotations"]["list"]

    def ask(annotation, **more):
        source_uid = annotation["datasource"]["uid"]
        query = {"refId": "A", "datasource": {"uid": source_uid, "type": source_uid}, **more}
        for host, wanted in (("nowhere", False), (".*", True)):
            query["expr"] = source.filled(annotation["expr"], {"host": host})
            content = {"queries": [query], "from": str(world[0]), "to": str(world[1])}
            answer = http.post("http://127.0.0.1:3000/api/ds/query", content, user=ADMIN).json()["results"]["A"]
            found = source.series(answer)
            assert bool(found) == wanted, host
        return found

    marks = [str(one.values[0]) for one in ask(deployments, queryType="range", maxLines=200)]
    assert len(marks) == GOOD + BAD
    assert sum("✅" in mark for mark in marks) == GOOD
    firing = {one.labels["alertname"] for one in ask(alerts, range=True, intervalMs=60000, maxDataPoints=500)}
    assert "AppDown" in firing
    tags = "&".join(f"tags={tag}" for tag in changes["target"]["tags"])
    found = http.get(f"http://127.0.0.1:3000/api/annotations?type=annotation&{tags}", user=ADMIN).json()
    assert "grafana: create" in found[-1]["text"]


def test_something_is_expected_of_each_query_and_of_no_other():
    names = [(query.dashboard, query.title, query.ref) for query in ALL]
    assert len(set(names)) == len(names)
    assert set(EXPECTED) == set(names)
