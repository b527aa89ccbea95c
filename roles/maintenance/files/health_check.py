# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask everything of this host's part of the stack that a healthy one can answer.

Usage: health_check.py SETTINGS [--check] [--wait SECONDS] [--services NAME,NAME]

It prints one JSON object; the exit code is 0 when all is well. With --services only what is about those is asked; the
host itself and C(maintenance), the timers, count as such.

What may only need a moment (a service that starts, a target that was not scraped yet) is asked again until it is well
or the time is over. With --check nothing is written: no line to Loki, none to the file that the collector reads.
"""

from __future__ import annotations

import sys

# Nothing is to be left beside the programs: their directory is compared with what belongs there.
sys.dont_write_bytecode = True

import base64
import contextlib
import datetime
import glob
import http.client
import json
import os
import re
import shutil
import subprocess
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from engine import Engine, EngineError, _UnixConnection

_PAUSE = 2.0
_LOG_FILE_BYTES = 64 * 1024
# Of applications, and of the way to public names: that one of them is down says nothing about the stack.
_FOREIGN_JOBS = re.compile(r"app-(health|metrics|public)|public")
_STAMPS = "/var/lib/systemd/timers"
_COLLECTORS = ("promtail", "alloy", "otelcol")
# What each kind of datasource is asked through Grafana.
_QUESTIONS = {
    "prometheus": "api/v1/query?query=1",
    "loki": "loki/api/v1/labels",
    "alertmanager": "api/v2/status",
}


class AskError(Exception):
    """A program does not answer, or refuses."""


class Finding(t.NamedTuple):
    """One thing that was asked.

    :param reason: empty where it is well.
    :param passing: whether it may be well by itself in a moment.
    """

    service: str
    what: str
    reason: str = ""
    passing: bool = True


def ask(url: str, payload: t.Any = None, password: str = "", timeout: float = 10) -> str:
    """Ask a program over HTTP and return the text of its answer.

    :raises AskError: when it does not answer, or refuses.
    """
    request = urllib.request.Request(url)
    if payload is not None:
        request.data = json.dumps(payload).encode()
        request.add_header("Content-Type", "application/json")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
    try:
        # The stack is in the house: a proxy of the environment has nothing to do with it.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
            return t.cast("str", answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise AskError(f"{url} answers {error.code}: {said[:200]}") from error
    except (OSError, http.client.HTTPException) as error:
        raise AskError(f"{url} does not answer: {error}") from error


def sample(metrics: str, name: str) -> float | None:
    """Return the sum of a metric over its labels, C(None) where there is none."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE)
    return sum(float(value) for value in found) if found else None


class HealthCheck:
    """All questions to one host.

    :param settings: the section C(health_check) of what the role writes.
    :param roster: the services that were described for this host.
    :param writes: whether it may write lines to Loki and to the collector's file.
    :param chosen: what it is asked about; nothing for everything.
    """

    def __init__(
        self,
        settings: dict[str, t.Any],
        roster: list[dict[str, t.Any]],
        writes: bool,
        chosen: t.Collection[str] = (),
    ) -> None:
        self.settings = settings
        self.host: str = settings["host"]
        self.roster = {service["name"]: service for service in roster}
        self.present = {name: service for name, service in self.roster.items() if service["state"] == "present"}
        self.writes = writes
        self.chosen = chosen
        self.engine = Engine(timeout=20)
        # Lines are written once, and looked for until they are there.
        self.mark = uuid.uuid4().hex[:12]
        self._written: set[str] = set()

    def run(self) -> list[Finding]:
        """Ask everything once."""
        asked: list[tuple[str, t.Callable[[], t.Iterable[Finding]]]] = [("", self._containers), ("host", self._host)]
        for name in ("prometheus", "alertmanager", "loki", "grafana"):
            if name in self.present:
                asked.append((name, getattr(self, f"_{name}")))
        asked += [(name, lambda name=name: self._collector(name)) for name in _COLLECTORS if name in self.present]  # type: ignore[misc]
        asked.append(("maintenance", self._timers))
        parts = [part for name, part in asked if not name or not self.chosen or name in self.chosen]
        with ThreadPoolExecutor(max_workers=4) as pool:
            found = [finding for answers in pool.map(_answers, parts) for finding in answers]
        # Of what was asked, some is told of another service: a certificate of the host, by Prometheus.
        others = {*self.roster, "host", "maintenance"}.difference(self.chosen) if self.chosen else set()
        return [finding for finding in found if finding.service not in others]

    def _url(self, name: str) -> str:
        ready = self.roster[name]["ready"]
        address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(ready["address"], ready["address"])
        return f"http://[{address}]:{ready['port']}" if ":" in address else f"http://{address}:{ready['port']}"

    def _containers(self) -> t.Iterator[Finding]:
        """Each container runs, of the image that is wanted, and its program answers."""
        if not self.roster:
            yield Finding("maintenance", "services", "it knows no service of this host: run site.yml", False)
        for name, service in sorted(self.roster.items()):
            try:
                container = Finding(name, "container", *self._container(name, service))
            except EngineError as error:
                container = Finding(name, "container", str(error))
            yield container
            if service["state"] == "present" and not container.reason:
                yield Finding(name, "ready", self._ready(name, service))

    def _container(self, name: str, service: dict[str, t.Any]) -> tuple[str, bool]:
        actual = self.engine.container(name)
        if service["state"] == "absent":
            return ("there is a container, and the service is not wanted here: run site.yml" if actual else ""), False
        if self.engine.container(f"{name}_previous"):
            return "a change of it was cut off: run site.yml, which brings it back or finishes it", True
        if actual is None:
            return "there is no such container: run site.yml", True
        state = actual["State"]
        if state.get("Restarting") or not state["Running"]:
            lines = " | ".join(self.engine.logs(name, 3).splitlines())
            return f"its container is {state['Status']} (exit code {state['ExitCode']}): {lines[-300:]}", True
        if state.get("Paused"):
            return "its container is paused: docker unpause it", False
        if actual["Config"]["Image"] != service["image"]:
            return f"it runs {actual['Config']['Image']}, and {service['image']} is wanted: run site.yml", False
        image = self.engine.image(service["image"])
        if image and image["Id"] != actual["Image"]:
            return f"{service['image']} is another image by now than the one that runs: run site.yml", False
        return "", False

    def _ready(self, name: str, service: dict[str, t.Any]) -> str:
        ready = service["ready"]
        if not ready.get("socket"):
            try:
                ask(self._url(name) + ready["path"], timeout=5)
            except AskError as error:
                return str(error)
            return ""
        connection = _UnixConnection(ready["socket"], 5)
        try:
            connection.request("GET", ready["path"])
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{ready['socket']} does not answer: {error}"
        finally:
            connection.close()
        return "" if status < 300 else f"{ready['socket']} answers {status}"

    def _host(self) -> t.Iterator[Finding]:
        """The host has room, and no restore was cut off."""
        # One that is under way ends in a moment.
        former = os.path.join(self.settings["data_dir"], ".restore-former")
        cut = "a restore was cut off: run playbooks/restore.yml again, it puts the former data back first"
        yield Finding("host", "restore", cut if os.path.exists(former) else "")
        wanted = self.settings["min_free"]
        root = None
        with contextlib.suppress(EngineError):
            root = self.engine.info().get("DockerRootDir")
        for path in dict.fromkeys([*self.settings["directories"], *([root] if root else [])]):
            if not os.path.isdir(path):
                continue
            free = shutil.disk_usage(path).free
            reason = f"{free / (1 << 30):.1f} GiB are free, {wanted / (1 << 30):.1f} GiB are asked for: make room"
            yield Finding("host", f"disk of {path}", reason if free < wanted else "", False)

    def _prometheus(self) -> t.Iterator[Finding]:
        """All targets are up, the rules are evaluated, Alertmanager is reached."""
        url = self._url("prometheus")
        targets = json.loads(ask(f"{url}/api/v1/targets?state=active"))["data"]["activeTargets"]
        ours = [target for target in targets if not _FOREIGN_JOBS.fullmatch(target["labels"].get("job", ""))]
        if not ours:
            yield Finding("prometheus", "targets", "it scrapes nothing")
        for target in ours:
            labels = target["labels"]
            which = labels.get("service") or labels.get("instance")
            name = f"target {labels.get('job')} {which} of {labels.get('host', which)}"
            trouble = target["lastError"] or "not scraped yet"
            yield Finding("prometheus", name, "" if target["health"] == "up" else f"{target['scrapeUrl']}: {trouble}")
        metrics = ask(f"{url}/metrics")
        read = sample(metrics, "prometheus_config_last_reload_success_timestamp_seconds")
        groups = json.loads(ask(f"{url}/api/v1/rules"))["data"]["groups"]
        yield Finding("prometheus", "rules", "" if groups else "it has no rules")
        for group in groups:
            yield Finding("prometheus", f"rules {group['name']}", _rules(group, read or 0.0))
        loaded = sample(metrics, "prometheus_config_last_reload_successful")
        refused = "it refused its last configuration: docker logs prometheus tells why"
        yield Finding("prometheus", "configuration", "" if loaded == 1 else refused, False)
        if "alertmanager" in self.present:
            found = json.loads(ask(f"{url}/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
            yield Finding("prometheus", "Alertmanager", "" if found else "it knows no Alertmanager to send alerts to")
        query = urllib.parse.quote("(probe_ssl_earliest_cert_expiry - time()) / 86400")
        for series in json.loads(ask(f"{url}/api/v1/query?query={query}"))["data"]["result"]:
            labels, days = series["metric"], float(series["value"][1])
            name = labels.get("hostname") or labels.get("target") or labels.get("instance", "")
            short = f"it ends in {days:.0f} days: renew it"
            yield Finding(
                "host", f"certificate of {name}", short if days < self.settings["certificate_days"] else "", False
            )

    def _alertmanager(self) -> t.Iterator[Finding]:
        """What Prometheus always sends has arrived: the way of an alert is open."""
        if not self.settings["watchdog"] or "prometheus" not in self.present:
            return
        found = json.loads(ask(f"{self._url('alertmanager')}/api/v2/alerts?filter=alertname%3D%22Watchdog%22"))
        missing = "the alert Watchdog, which Prometheus always sends, is not there"
        yield Finding("alertmanager", "alerts of Prometheus", "" if found else missing)

    def _loki(self) -> t.Iterator[Finding]:
        """It takes a line and gives it back, and its rules reach Alertmanager."""
        url = self._url("loki")
        metrics = ask(f"{url}/metrics")
        if "alertmanager" in self.present:
            known = sample(metrics, "loki_prometheus_notifications_alertmanagers_discovered")
            # It makes the sender of a tenant's alerts when it has loaded the tenant's rules.
            yield Finding("loki", "Alertmanager", "" if known else "its ruler knows no Alertmanager to send alerts to")
        failing = sample(metrics, "loki_ruler_config_last_reload_successful")
        refused = "its ruler refused the rules: docker logs loki tells why"
        yield Finding("loki", "rules", refused if failing == 0 else "", False)
        if not self.writes:
            ask(f"{url}/loki/api/v1/labels")
            yield Finding("loki", "query")
            return
        labels = {"job": "health-check", "host": self.host, "level": "info"}
        line = f"written by the health check, mark loki-{self.mark}"
        if "loki" not in self._written:
            values = [[str(time.time_ns()), line]]
            ask(f"{url}/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]})
            self._written.add("loki")
        found = self._lines(url, '{job="health-check"}', f"loki-{self.mark}")
        yield Finding("loki", "writing and reading", "" if found else "a line that it took cannot be found again")

    def _collector(self, name: str) -> t.Iterator[Finding]:
        """A line in a log file of the host arrives in Loki."""
        path = self.settings["log_file"]
        if not path or not self.writes:
            return
        if "file" not in self._written:
            fresh = not os.path.exists(path) or os.path.getsize(path) < _LOG_FILE_BYTES
            if not fresh:
                os.unlink(path)
            with open(path, "a") as writer:
                now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
                writer.write(f"{now} health check, mark file-{self.mark}\n")
            os.chmod(path, 0o644)
            self._written.add("file")
        found = self._lines(self.settings["loki_url"], f'{{host="{self.host}"}}', f"file-{self.mark}")
        lost = f"a line in {path} does not arrive in Loki (is that file among monitoring_log_sources?)"
        yield Finding(name, "shipping", "" if found else lost)

    def _lines(self, url: str, selector: str, mark: str) -> bool:
        query = urllib.parse.quote(f'{selector} |= "{mark}"')
        start = int((time.time() - 600) * 1e9)
        answer = json.loads(ask(f"{url}/loki/api/v1/query_range?query={query}&start={start}&limit=1"))
        return bool(answer["data"]["result"])

    def _grafana(self) -> t.Iterator[Finding]:
        """Its datasources answer through it, and it has dashboards."""
        url = self._url("grafana")
        with open(self.settings["grafana_password_file"]) as reader:
            password = f"{self.settings['grafana_login']}:{reader.read().strip()}"
        try:
            sources = json.loads(ask(f"{url}/api/datasources", password=password))
        except AskError as error:
            mend = " (was the administrator's password changed in Grafana?)" if "answers 401" in str(error) else ""
            yield Finding("grafana", "datasources", f"{error}{mend}")
            return
        yield Finding("grafana", "datasources", "" if sources else "it has none", False)
        for source in sources:
            question = _QUESTIONS.get(source["type"])
            path = f"proxy/uid/{source['uid']}/{question}" if question else f"uid/{source['uid']}/health"
            try:
                ask(f"{url}/api/datasources/{path}", password=password)
                yield Finding("grafana", f"datasource {source['name']}")
            except AskError as error:
                yield Finding("grafana", f"datasource {source['name']}", str(error))
        boards = json.loads(ask(f"{url}/api/search?type=dash-db&limit=1", password=password))
        yield Finding("grafana", "dashboards", "" if boards else "it has none")

    def _timers(self) -> t.Iterator[Finding]:
        """Each timer waits, ran in time and went well, and its numbers are where Prometheus gets them."""
        for name, timer in sorted(self.settings["timers"].items()):
            unit = timer["unit"]
            done = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
            state = done.stdout.strip() or done.stderr.strip()
            yield Finding("maintenance", unit, "" if state == "active" else f"it is {state}: run site.yml", False)
            # Its own last result is what this run is about to tell anew.
            if name != "health_check":
                yield Finding("maintenance", f"last run of {name}", self._last_run(name, timer), False)
        age, now = self.settings["backup_age_seconds"], time.time()
        if "backup" in self.settings["timers"]:
            made = self._metric("backup", "monitoring_backup_last_success_timestamp_seconds")
            old = f"the last good one is {(now - (made or 0)) / 3600:.1f} h old, {age / 3600:.0f} h are allowed"
            # One that was never due is no trouble yet; the timer's own line tells when it is.
            yield Finding("maintenance", "backup", old if made is not None and now - made > age else "", False)
        if "node_exporter" in self.present and glob.glob(os.path.join(self.settings["textfile_dir"], "*.prom")):
            error = sample(ask(f"{self._url('node_exporter')}/metrics"), "node_textfile_scrape_error")
            wrong = f"it cannot read a file in {self.settings['textfile_dir']}: docker logs node_exporter tells which"
            yield Finding("node_exporter", "metrics of timers", "" if error == 0 else wrong)

    def _last_run(self, name: str, timer: dict[str, t.Any]) -> str:
        late = 1.5 * timer["interval"]
        ran = self._metric(name, "monitoring_timer_last_run_timestamp_seconds")
        well = self._metric(name, "monitoring_timer_last_result")
        if ran is None or well is None:
            # Before its first run the metric is the time of its installation.
            stamp = os.path.join(_STAMPS, "stamp-" + timer["unit"])
            since = ran or (os.path.getmtime(stamp) if os.path.exists(stamp) else time.time())
            return "it never ran, and should have by now" if time.time() - since > late else ""
        if time.time() - ran > late:
            return f"it ran {(time.time() - ran) / 3600:.1f} h ago, {late / 3600:.0f} h are allowed"
        return "" if well == 1 else f"it failed: journalctl -u {timer['unit'].replace('.timer', '.service')}"

    def _metric(self, name: str, metric: str) -> float | None:
        path = os.path.join(self.settings["textfile_dir"], f"monitoring_{name}.prom")
        if not os.path.exists(path):
            return None
        with open(path) as reader:
            return sample(reader.read(), metric)


def _answers(part: t.Callable[[], t.Iterable[Finding]]) -> list[Finding]:
    """Ask the questions of one service; that it does not answer at all is one finding."""
    found = []
    try:
        for finding in part():
            found.append(finding)
    except (AskError, EngineError, OSError, ValueError, KeyError) as error:
        name = getattr(part, "__name__", "").lstrip("_").replace("<lambda>", "collector")
        said = str(error) if not isinstance(error, (KeyError, ValueError)) else f"unexpected answer: {error!r}"
        found.append(Finding(name, "answers", said))
    return found


def _rules(group: dict[str, t.Any], read: float) -> str:
    """Return what is wrong with a group of rules.

    :param read: when Prometheus read its rules; each group has its first turn within its interval from then on.
    """
    for rule in group["rules"]:
        if rule.get("health") == "err":
            return f"{rule['name']} cannot be evaluated: {rule.get('lastError')}"
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", group.get("lastEvaluation") or "")
    if match is None or match.group(1).startswith("0001"):
        return "not evaluated yet" if time.time() - read > float(group["interval"]) + 30 else ""
    # Written with the server's own zone, so its offset counts.
    offset = re.search(r"([+-]\d\d):?(\d\d)$", group["lastEvaluation"])
    evaluated = datetime.datetime.fromisoformat(match.group(1)).replace(tzinfo=datetime.timezone.utc).timestamp()
    if offset:
        evaluated -= int(offset.group(1)) * 3600 + int(offset.group(1)[0] + offset.group(2)) * 60
    late = time.time() - evaluated
    return f"last evaluated {late:.0f} s ago" if late > 3 * float(group["interval"]) + 30 else ""


def report(host: str, findings: list[Finding]) -> dict[str, t.Any]:
    """Return what there is to tell: for machines, for people (a line for each service), and as metrics."""
    problems = [finding for finding in findings if finding.reason]
    lines = []
    for service in dict.fromkeys(finding.service for finding in findings):
        wrong = [f"{f.what}: {f.reason}" for f in problems if f.service == service]
        asked = sum(finding.service == service for finding in findings)
        lines.append(f"{host} {service}: " + ("; ".join(wrong) if wrong else f"well ({asked} asked)"))
    if not findings:
        lines = [f"{host}: nothing of what was asked about is here"]
    return {
        "host": host,
        "healthy": not problems,
        "checks": [{"service": f.service, "check": f.what, "ok": not f.reason, "reason": f.reason} for f in findings],
        "summary": lines,
        "metrics": {
            "monitoring_health_check_asked": len(findings),
            "monitoring_health_check_problems": len(problems),
        },
    }


def wait_healthy(ask_all: t.Callable[[], list[Finding]], seconds: float) -> list[Finding]:
    """Ask until all is well, nothing is left that may mend itself, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        findings = ask_all()
        waiting = any(finding.reason and finding.passing for finding in findings)
        if not waiting or time.monotonic() + _PAUSE > deadline:
            return findings
        time.sleep(_PAUSE)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    with open(arguments[0]) as reader:
        settings = json.load(reader)["health_check"]
    roster: list[dict[str, t.Any]] = []
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "services.json")
    if os.path.exists(path):
        with open(path) as reader:
            roster = json.load(reader)
    seconds = float(arguments[arguments.index("--wait") + 1]) if "--wait" in arguments else settings["wait_seconds"]
    chosen = arguments[arguments.index("--services") + 1].split(",") if "--services" in arguments else []
    began = time.monotonic()
    check = HealthCheck(settings, roster, "--check" not in arguments, chosen)
    told = report(settings["host"], wait_healthy(check.run, seconds))
    told["seconds"] = round(time.monotonic() - began, 2)
    print(json.dumps(told))
    return 0 if told["healthy"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
