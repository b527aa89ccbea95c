"""The whole site on one machine: every service is the right program, and they work together."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

SECRETS = yaml.safe_load((Path(__file__).parents[2] / "shared/secrets.yml").read_text())
ADMIN = f"admin:{SECRETS['grafana_admin_password']}"

# Every port of the mission, and words that only the right program says there.
SERVICES = {
    "prometheus": ("http://127.0.0.1:9090/metrics", "prometheus_build_info"),
    "alertmanager": ("http://127.0.0.1:9093/metrics", "alertmanager_build_info"),
    "grafana": ("http://127.0.0.1:3000/metrics", "grafana_build_info"),
    "loki": ("http://127.0.0.1:3100/metrics", "loki_build_info"),
    "promtail": ("http://127.0.0.1:9080/metrics", "promtail_build_info"),
    "node_exporter": ("http://127.0.0.1:9100/metrics", "node_exporter_build_info"),
    "cadvisor": ("http://127.0.0.1:8080/metrics", "cadvisor_version_info"),
    "mongodb_exporter": ("http://127.0.0.1:9216/metrics", "mongodb_up"),
    "blackbox_exporter": ("http://127.0.0.1:9115/metrics", "blackbox_exporter_build_info"),
    "app_discovery": ("http://127.0.0.1:9810/metrics", "app_discovery_apps"),
}
JOBS = {
    "prometheus",
    "alertmanager",
    "loki",
    "grafana",
    "node",
    "cadvisor",
    "promtail",
    "blackbox",
    "mongodb",
}


def prometheus(http, path):
    return http.get(f"http://127.0.0.1:9090/api/v1/{path}").json()["data"]


def loki(http, query):
    url = f"http://127.0.0.1:3100/loki/api/v1/query_range?query={quote(query)}"
    return http.get(url).json()["data"]["result"]


@pytest.mark.parametrize("service", SERVICES)
def test_the_right_program_answers_on_its_port(http, service):
    url, words = SERVICES[service]
    answer = http.get(url)
    assert answer.status == 200
    assert words in answer.body


def test_every_prometheus_target_is_up(http, wait_until):
    def unknown_is_over():
        targets = prometheus(http, "targets?state=active")["activeTargets"]
        return targets if all(target["health"] != "unknown" for target in targets) else None

    targets = wait_until(unknown_is_over, what="all targets to be scraped once", timeout=60)
    down = {t["scrapeUrl"]: t["lastError"] for t in targets if t["health"] != "up"}
    assert not down
    assert {t["labels"]["job"] for t in targets} >= JOBS


def test_the_rules_are_loaded_and_none_fails(http, wait_until):
    groups = prometheus(http, "rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert not {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")}


def test_prometheus_knows_its_alertmanager(http):
    urls = [manager["url"] for manager in prometheus(http, "alertmanagers")["activeAlertmanagers"]]
    assert urls == ["http://127.0.0.1:9093/api/v2/alerts"]


def test_the_database_is_seen_through_its_exporter(http, wait_until):
    wait_until(
        lambda: [r for r in prometheus(http, "query?query=mongodb_up")["result"] if r["value"][1] == "1"],
        what="mongodb_up to be 1",
        timeout=45,
    )


def test_loki_returns_a_line_written_seconds_before(host, http, wait_until):
    line = json.dumps(
        {
            "timestamp": host.check_output("date --utc --iso-8601=ns").replace(",", "."),
            "level": "info",
            "message": "written by the test",
            "port": 8123,
        }
    )
    host.check_output("echo %s >>/var/log/port-manager/test.log", line)
    query = '{job="port-manager"} |= "written by the test"'
    wait_until(lambda: loki(http, query), what="the line in Loki")


def test_loki_has_what_containers_write(http, wait_until):
    wait_until(lambda: loki(http, '{job="docker"}'), what="a line of a container in Loki")


def test_of_the_runs_only_the_one_that_changed_something_left_a_line(http, wait_until):
    wait_until(lambda: loki(http, '{job="audit"}'), what="a line of the audit trail")
    lines = [json.loads(line) for stream in loki(http, '{job="audit"}') for _moment, line in stream["values"]]
    # A check and a run that found nothing to change are molecule's before and after it.
    assert [line["changes"] != [] for line in lines if line["playbook"] == "converge"] == [True]


def test_grafana_finds_prometheus_healthy(http):
    answer = http.get("http://127.0.0.1:3000/api/datasources/uid/prometheus/health", user=ADMIN)
    assert answer.json()["status"] == "OK", answer.body


def test_grafana_reaches_loki(http):
    # Its health question is younger than the Grafana of the test images: ask for what it is there for.
    url = "http://127.0.0.1:3000/api/datasources/proxy/uid/loki/loki/api/v1/label/job/values"
    answer = http.get(url, user=ADMIN)
    assert answer.status == 200, answer.body
    assert "port-manager" in answer.json()["data"]


def test_grafana_reaches_the_alertmanager(http):
    # This datasource has no health question of its own.
    url = "http://127.0.0.1:3000/api/datasources/proxy/uid/alertmanager/api/v2/status"
    answer = http.get(url, user=ADMIN)
    assert answer.status == 200, answer.body
    assert answer.json()["versionInfo"]
