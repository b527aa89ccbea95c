"""Apps on the loopback of another machine than Prometheus' are found, probed and scraped there."""

from __future__ import annotations

from urllib.parse import quote

import testinfra

PLATFORM = "monitoring-second_host-platform"
APPS = {"shop-main", "shop-feature-cart", "blog-main", "docs-main"}


def platform():
    return testinfra.get_host(f"docker://{PLATFORM}")


def seen(http, query):
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(query)}"
    return {s["metric"].get("app") for s in http.get(url).json()["data"]["result"]}


def test_apps_are_probed_on_their_own_machine(http, wait_until):
    healthy = f'probe_success{{job="app-health",host="{PLATFORM}"}} == 1'
    wait_until(lambda: seen(http, healthy) == APPS, what="healthy apps", timeout=90)


def test_metrics_of_apps_come_through_their_own_machine(host, http, wait_until):
    up = f'up{{job="app-metrics",host="{PLATFORM}"}} == 1'
    wait_until(lambda: seen(http, up) == APPS - {"docs-main"}, what="apps with metrics", timeout=90)
    requests = 'http_requests_total{job="app-metrics",app="blog-main",port="8103"}'
    wait_until(lambda: seen(http, requests), what="an app's own metric", timeout=30)
    listening = platform().check_output("ss -H -ltn 'sport = 8103'")
    assert {line.split()[3] for line in listening.splitlines()} == {"127.0.0.1:8103"}, "it could be had directly"


def test_a_new_app_there_is_found_too(http, wait_until):
    platform().check_output("simulated-platform app-up wiki main 8110")
    probed = 'probe_success{job="app-health",app="wiki-main"} == 1'
    wait_until(lambda: seen(http, probed), what="the new app", timeout=60)


def test_the_server_of_prometheus_runs_nothing_of_the_platform(host):
    names = set(host.check_output("docker ps --format '{{.Names}}'").split())
    assert not names & {"app_discovery", "mongodb_exporter"}
