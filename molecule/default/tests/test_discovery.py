"""Nobody edits a list: an app that is deployed is watched within a minute, and forgotten when it is removed."""

from __future__ import annotations

from urllib.parse import quote

WITHIN_SECONDS = 60


def query(http, expression):
    answer = http.get(f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}")
    return {tuple(sorted(s["metric"].items())): float(s["value"][1]) for s in answer.json()["data"]["result"]}


def probe(http, app):
    return list(query(http, f'probe_success{{job="app-health",app="{app}"}}').values())


def test_every_app_is_probed_and_only_those_with_metrics_are_scraped(http, wait_until):
    def seen(expression):
        return {dict(labels)["app"] for labels in query(http, expression)}

    everyone = {"shop-main", "shop-feature-cart", "blog-main", "docs-main"}
    wait_until(lambda: seen('probe_success{job="app-health"} == 1') == everyone, what="healthy apps", timeout=60)
    wait_until(lambda: seen('up{job="app-metrics"} == 1') == everyone - {"docs-main"}, what="metrics", timeout=60)
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


def test_an_app_is_watched_within_a_minute_noticed_when_it_stops_and_forgotten_when_removed(host, http, wait_until):
    host.check_output("simulated-platform app-up wiki next-gen 8110")
    wait_until(lambda: probe(http, "wiki-next-gen") == [1.0], what="the new app", timeout=WITHIN_SECONDS)
    host.check_output("docker stop wiki-next-gen-deploy")
    wait_until(lambda: probe(http, "wiki-next-gen") == [0.0], what="the stopped app to be seen", timeout=45)
    host.check_output("simulated-platform app-down wiki next-gen")
    wait_until(lambda: probe(http, "wiki-next-gen") == [], what="the app to be forgotten", timeout=WITHIN_SECONDS)
