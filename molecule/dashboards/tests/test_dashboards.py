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
from collections.abc import Callable
from pathlib import Path

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
PORTS = 90
GOOD, BAD, SECONDS = 3, 2, 45.0
BROKEN, SHARE = "shop-main", 0.2
RPS = 5
# The synthetic visitors' times are log-normal: each percentile lies in this bucket of the apps' histogram.
P50, P95, P99 = (0.025, 0.05), (0.05, 0.075), (0.075, 0.25)
SERVICES = {"port-manager", "deployment-api", "tunnel-manager"}
HOST = "monitoring-dashboards"

Check = Callable[[list[source.Series]], bool]


class Expected:
    """What an answer has to be, and how that reads in the table."""

    def __init__(self, words: str, holds: Check) -> None:
        self.words, self.holds = words, holds

    def __repr__(self) -> str:
        return self.words


def value(wanted: float, tolerance: float = 0.0, label: str = "") -> Expected:
    def holds(found):
        return len(found) == 1 and abs(found[0].last - wanted) <= tolerance

    return Expected(f"{wanted:g}" + (f" ± {tolerance:g}" if tolerance else ""), holds)


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


def perhaps(reason: str) -> Expected:
    return Expected(f"perhaps nothing: {reason}", lambda found: all(math.isfinite(s.last) for s in found))


def log_lines(count: int | None, *words: str) -> Expected:
    def holds(found):
        texts = [str(s.values[0]) for s in found]
        right = all(any(word in text for word in words) for text in texts) if words else True
        return right and (len(texts) == count if count is not None else bool(texts))

    return Expected(f"{count if count is not None else 'some'} lines with {' or '.join(words) or 'anything'}", holds)


UNITS: dict[str, tuple[float, float]] = {"percentunit": (0, 1), "none": (0, math.inf)}
QUIET = "MongoDB's own figures; FerretDB has none"
NOT_YET = "the simulated time is too short"


def summed(total: float) -> Expected:
    """What was counted in each interval adds up to it."""

    def holds(found):
        return len(found) == 1 and sum(float(number) for number in found[0].values) == total

    return Expected(f"a curve that adds up to {total:g}", holds)


def expected() -> dict[tuple[str, str, str], Expected]:
    """Return what is known of a query by (dashboard, title, ref); what is not here only has to have sound values."""
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
    know(both, "Errors 4xx by app (10 most)", "A", at_least("app", set(), 0, RPS * 0.1))
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
    know("deployment", "Error lines of the platform", "A", by("job", {"deployment-api": (BAD, BAD)}))
    know("deployment", "Alerts that fire", "A", perhaps("alerts need minutes"))
    know("deployment", "Incidents", "A", perhaps("as above"))
    know(
        "deployment",
        "Last errors of the platform",
        "A",
        log_lines(BAD, "❌"),
    )
    know("deployment", "Answer time of the services", "A", each("service", SERVICES, 0, 5))
    know("infrastructure", "Time since boot", "A", between(60, math.inf))
    know("infrastructure", "Failed units", "A", perhaps("systemd is asked only where the collector is on"))
    know("infrastructure", "Inodes by mount", "A", perhaps("not every file system counts inodes"))
    know("infrastructure", "All containers", "A", at_least("name", {"prometheus", "grafana", "shop-main-deploy"}))
    know("infrastructure", "All containers", "B", at_least("name", {"prometheus", "grafana", "shop-main-deploy"}, 1e6))
    know("infrastructure", "All containers", "C", at_least("name", {"prometheus", "grafana"}, 0.001, 1.01))
    know("infrastructure", "All containers", "D", at_least("container", {f"{app}-deploy" for app in APPS}, 0, 5))
    know("logs", "Lines by job", "A", at_least("job", {"deployment-api", "docker"}, 1))
    know("logs", "Error lines by job", "A", at_least("job", {"deployment-api"}, 1))
    know("logs", "Deployment $deployment_id", "A", log_lines(2 * (GOOD + BAD), "deploy-"))
    know("logs", "Lost on the way", "A", nothing("Loki refused none"))
    know("logs", "Lost on the way", "B", value(0))
    know("logs", "Lost on the way", "C", nothing("Alloy is not what collects here"))
    know("logs", "Lost on the way", "D", nothing("the OpenTelemetry Collector is not what collects here"))
    know("mongodb", "MongoDB", "A", value(1))
    know("mongodb", "Exporter", "A", value(1))
    know("mongodb", "Reached over time", "A", value(1))
    for title in ("Running since", "Operations", "Time of an operation", "Connections", "Network", "Documents"):
        know("mongodb", title, "A", nothing(QUIET))
    know("mongodb", "Memory", "A", nothing(QUIET))
    know("mongodb", "Memory", "B", nothing(QUIET))
    know("mongodb", "Network", "B", nothing(QUIET))
    know("monitoring", "Configuration in force", "A", value(1))
    know("monitoring", "Apps found", "A", value(len(APPS)))
    know("monitoring", "Discovery: oldest source", "A", between(-5, 120))
    know("monitoring", "Disk of the metrics", "A", value(0))
    know("monitoring", "Notifications", "A", perhaps("an alert may have been sent to the webhook that is not there"))
    know("monitoring", "Notifications that failed", "A", perhaps("as above"))
    know("monitoring", "Notifications that failed", "B", nothing("Prometheus dropped none"))
    know("monitoring", "Files read by the collector", "B", nothing("Alloy is not what collects here"))
    know(
        "monitoring",
        "Files read by the collector",
        "C",
        nothing("the OpenTelemetry Collector is not what collects here"),
    )
    know("monitoring", "Last good backup", "A", perhaps("no backup was made here"))
    know("monitoring", "Timers that failed", "A", value(0))
    know("monitoring", "What was changed by the playbooks", "A", log_lines(1, '"playbook": "converge"'))
    know("project", "Deployments of the project", "A", log_lines(None, "shop/main"))
    know("slo", "Time to recover", "A", perhaps("nothing recovered"))
    know("slo", "Alerts answered (< 15 min)", "A", perhaps("nobody answers alerts here"))
    know("slo", "False positives (< 5 %)", "A", perhaps("no alert ended"))
    know("slo", "Left of the deployments' budget", "A", value(budget, 0.01))
    know("slo", "Budgets over time", "A", value(budget, 0.01))
    know("slo", "Left of the uptime budget", "A", between(-200, 0))
    know("slo", "Budgets over time", "B", between(-200, 0))
    know("slo", "Apps below their objective", "A", between(1, len(APPS)))
    know("slo", "Uptime of the 15 least available apps", "A", by("app", uptime))
    know("slo", "Restarts a day (< 2)", "A", value(0))
    return found


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

    def scraped():
        result = prometheus(http, f"query?query=timestamp(deployment_total=={GOOD + BAD})")["result"]
        return float(result[0]["value"][1]) if result else None

    counted = float(wait_until(scraped, what="the deployments in Prometheus", timeout=60))
    # Rates look back five minutes, and the rules over long windows are evaluated every three.
    seen_for("app-metrics", 320)
    for rule in ("deployment:success:ratio30d", "app:up:ratio30d", "slo:error_budget_remaining:ratio"):
        found = f"query?query=count({rule})"
        wait_until(lambda found=found: prometheus(http, found)["result"], what=f"the rule {rule}", timeout=240, every=3)
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
    return end - 3600_000, end


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
        name = one.labels.get("app") or next((v for k, v in one.labels.items() if k not in ("host", "instance")), "")
        parts.append((f"{name}: " if name else "") + f"{one.last:.4g}")
    return ", ".join(parts) + (f", … {len(found)} series" if len(found) > 4 else "")


def _write(found) -> None:
    rows = ["| dashboard | panel | query | expected | got |", "| --- | --- | --- | --- | --- |"]
    for query in ALL:
        known = EXPECTED.get((query.dashboard, query.title, query.ref))
        words = repr(known) if known else f"sound values ({query.unit})"
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
    known = EXPECTED.get((query.dashboard, query.title, query.ref))
    if known:
        assert known.holds(found), f"expected {known}, got {shown(answers[query.name])}"
        return
    assert found, "no data"
    if query.kind == "logs":
        return
    low, high = UNITS.get(query.unit, (0, math.inf))
    for one in found:
        assert all(math.isfinite(float(number)) for number in one.values), one.labels
        assert low - 1e-6 <= one.last <= high + 1e-6, (one.labels, one.last)


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


def test_a_host_that_there_is_not_shows_nothing(http, world):
    found = asked(http, world, "infrastructure-main", host="nowhere")
    assert {key for key, series in found.items() if series} == set()


def test_what_is_expected_belongs_to_a_panel_that_there_is():
    assert set(EXPECTED) <= {(query.dashboard, query.title, query.ref) for query in ALL}
