"""Nobody edits a list: an app that is deployed is watched within a minute, and forgotten when it is removed.

What happens to one app or one target disturbs no other: these stories are told side by side, and each has its own test.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from urllib.parse import quote

import pytest

# The apps that the platform begins with.
EVERYDAY = {"shop-main", "shop-feature-cart", "blog-main", "docs-main"}
WITHIN_SECONDS = 60
# Longer than a turn of app_discovery, one of Prometheus' discovery and one scrape.
SETTLED_SECONDS = 45


def query(http, expression):
    answer = http.get(f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}")
    return {tuple(sorted(s["metric"].items())): float(s["value"][1]) for s in answer.json()["data"]["result"]}


def probe(http, app):
    return list(query(http, f'probe_success{{job="app-health",app="{app}"}}').values())


def scraped(http, app):
    return list(query(http, f'up{{job="app-metrics",app="{app}"}}').values())


def probed(http):
    return {dict(labels)["app"] for labels in query(http, 'probe_success{job="app-health"}')}


def settle():
    """Let a time pass in which a change would show itself: for nothing to happen there is no sign to wait for."""
    time.sleep(SETTLED_SECONDS)


def test_every_app_is_probed_and_only_those_with_metrics_are_scraped(http, wait_until):
    def seen(expression):
        return {dict(labels)["app"] for labels in query(http, expression)}

    wait_until(lambda: seen('probe_success{job="app-health"} == 1') == EVERYDAY, what="healthy apps", timeout=60)
    wait_until(lambda: seen('up{job="app-metrics"} == 1') == EVERYDAY - {"docs-main"}, what="metrics", timeout=60)
    assert not seen('up{job="app-metrics",app="docs-main"}')


def test_the_labels_keep_apps_and_hosts_apart(host, http):
    ((labels, _value),) = query(http, 'probe_success{job="app-health",app="shop-feature-cart"}').items()
    name = host.backend.name
    assert dict(labels) == {
        "__name__": "probe_success",
        "job": "app-health",
        "app": "shop-feature-cart",
        "project": "shop",
        "branch": "feature-cart",
        "port": "8102",
        "host": name,
        "instance": f"{name}:8102",
    }


def life(host, http, wait_until):
    """An app is deployed, stops, and is removed."""
    began = time.monotonic()
    host.check_output("simulated-platform app-up wiki next-gen 8110")
    wait_until(lambda: probe(http, "wiki-next-gen") == [1.0], what="the new app", timeout=WITHIN_SECONDS)
    noted = {"seconds_until_probed": time.monotonic() - began}
    left = WITHIN_SECONDS - (time.monotonic() - began)
    wait_until(lambda: scraped(http, "wiki-next-gen") == [1.0], what="its metrics", timeout=left)
    noted["seconds_until_scraped"] = time.monotonic() - began

    host.check_output("docker stop wiki-next-gen-deploy")
    stopped = time.monotonic()
    wait_until(lambda: probe(http, "wiki-next-gen") == [0.0], what="the stopped app to be seen", timeout=45)
    noted["seconds_until_seen_stopped"] = time.monotonic() - stopped
    running = 'app_discovery_container_running{app="wiki-next-gen"}'
    wait_until(lambda: list(query(http, running).values()) == [0.0], what="its container seen stopped", timeout=45)

    host.check_output("simulated-platform app-down wiki next-gen")
    wait_until(lambda: probe(http, "wiki-next-gen") == [], what="the app to be forgotten", timeout=WITHIN_SECONDS)
    return noted


def removal(host, http, wait_until):
    """An app is deployed and removed."""
    host.check_output("simulated-platform app-up pad main 8111")
    wait_until(lambda: probe(http, "pad-main") == [1.0], what="the new app", timeout=WITHIN_SECONDS)
    host.check_output("simulated-platform app-down pad main")
    began = time.monotonic()
    wait_until(lambda: probe(http, "pad-main") == [], what="the app to be forgotten", timeout=WITHIN_SECONDS)
    noted = {"seconds_until_forgotten": time.monotonic() - began}
    # Between its end and its being forgotten a rule may have begun to wait; it does not come to an alert.
    alerts = 'ALERTS{app="pad-main"}'
    wait_until(lambda: not query(http, alerts), what="no rule to wait for it any more", timeout=60)
    assert not query(http, 'last_over_time(ALERTS{app="pad-main",alertstate="firing"}[10m])')
    return noted


def flood(host, http, wait_until):
    """An app exposes thousands of series."""
    flooder = "shop-feature-cart"
    wait_until(lambda: scraped(http, flooder) == [1.0], what="its metrics", timeout=60)
    host.check_output(f"simulated-platform control {flooder}-deploy extra_series count=5000")
    try:
        wait_until(lambda: scraped(http, flooder) == [0.0], what="the flood to be refused", timeout=45)
        targets = http.get("http://127.0.0.1:9090/api/v1/targets?scrapePool=app-metrics").json()["data"][
            "activeTargets"
        ]
        errors = {target["labels"]["app"]: target["lastError"] for target in targets}
        assert "limit" in errors.pop(flooder)
        # The other stories' apps come and go.
        assert {errors[app] for app in EVERYDAY & set(errors)} == {""}
        assert not query(http, "count(app_session)")
    finally:
        host.check_output(f"simulated-platform control {flooder}-deploy reset")
    wait_until(lambda: scraped(http, flooder) == [1.0], what="its metrics, once it is sane", timeout=45)


def own_target(host, http, wait_until):
    """The user writes a file of targets."""
    path = "/etc/deployment-monitoring/prometheus/targets.d/own.yml"
    host.check_output("echo %s >%s", '- {targets: ["127.0.0.1:9115"], labels: {job: own}}', path)
    try:
        up = 'up{job="own",host="127.0.0.1",instance="127.0.0.1:9115"}'
        wait_until(lambda: list(query(http, up).values()) == [1.0], what="the user's own target", timeout=90)
    finally:
        host.check_output("rm %s", path)
    wait_until(lambda: not query(http, 'up{job="own"}'), what="it to be forgotten", timeout=90)


STORIES = (life, removal, flood, own_target)


@pytest.fixture(scope="module")
def stories(host, http, wait_until):
    """Every story, told to its end: by its name what a test has to ask for its result."""
    with ThreadPoolExecutor() as pool:
        told = {story.__name__: pool.submit(story, host, http, wait_until) for story in STORIES}
        wait(told.values())
    return told


def test_an_app_is_watched_within_a_minute_noticed_when_it_stops_and_forgotten_when_removed(stories, record_property):
    for name, seconds in stories["life"].result().items():
        record_property(name, round(seconds, 1))


def test_an_app_that_is_removed_on_purpose_is_no_alert(stories, record_property):
    for name, seconds in stories["removal"].result().items():
        record_property(name, round(seconds, 1))


def test_an_app_that_floods_is_cut_off_and_harms_nobody(stories):
    stories["flood"].result()


def test_a_file_of_the_users_own_targets_is_read_without_a_run(stories):
    stories["own_target"].result()


def test_apps_stay_watched_while_the_port_manager_is_away(host, http, wait_until):
    everyone = probed(http)
    away = 'app_discovery_source_up{source="port-manager"}'
    host.check_output("simulated-platform control port-manager down")
    try:
        wait_until(lambda: list(query(http, away).values()) == [0.0], what="it to be seen away", timeout=45)
        host.check_output("docker restart app_discovery")
        wait_until(lambda: http.get("http://127.0.0.1:9810/ready").status == 200, what="app_discovery", timeout=30)
        settle()
        assert probed(http) == everyone
    finally:
        host.check_output("simulated-platform control port-manager up")
    wait_until(lambda: list(query(http, away).values()) == [1.0], what="it to be back", timeout=45)


def test_prometheus_keeps_the_apps_while_app_discovery_is_away(host, http, wait_until):
    everyone = probed(http)
    host.check_output("docker stop app_discovery")
    try:
        settle()
        assert probed(http) == everyone
    finally:
        host.check_output("docker start app_discovery")
    wait_until(lambda: list(query(http, 'up{job="app-discovery"}').values()) == [1.0], what="it is back", timeout=45)
    assert probed(http) == everyone
