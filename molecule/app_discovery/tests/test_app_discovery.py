"""app_discovery beside a simulated platform: what should run is told, whatever happens to run."""

from __future__ import annotations

ADDRESS = "http://127.0.0.1:9810"


def apps(http, kind):
    answer = http.get(f"{ADDRESS}/targets/{kind}")
    return {group["labels"]["app"] for group in answer.json()} if answer.status == 200 else None


def value(http, series):
    lines = dict(line.rsplit(" ", 1) for line in http.get(f"{ADDRESS}/metrics").body.splitlines() if line[0] != "#")
    return lines.get(series)


def test_all_allocated_apps_are_targets(http, wait_until):
    wait_until(lambda: apps(http, "health"), what="the apps", timeout=20)
    assert apps(http, "health") == {"shop-main", "shop-feature-cart", "blog-main", "docs-main"}


def test_an_app_without_metrics_is_no_target_of_metrics(http, wait_until):
    with_metrics = {"shop-main", "shop-feature-cart", "blog-main"}
    wait_until(lambda: apps(http, "metrics") == with_metrics, what="the apps with metrics", timeout=20)


def test_both_sources_answer(http):
    for source in ("port-manager", "docker"):
        assert value(http, f'app_discovery_source_up{{source="{source}"}}') == "1"


def test_an_app_comes_stops_and_goes(host, http, wait_until):
    host.check_output("simulated-platform app-up wiki next-gen 8110")
    wait_until(lambda: "wiki-next-gen" in apps(http, "health"), what="the new app", timeout=20)
    running = 'app_discovery_container_running{project="wiki",branch="next-gen",app="wiki-next-gen"}'
    wait_until(lambda: value(http, running) == "1", what="its container to run", timeout=20)
    host.check_output("docker stop wiki-next-gen-deploy")
    wait_until(lambda: value(http, running) == "0", what="its container to be seen stopped", timeout=20)
    assert "wiki-next-gen" in apps(http, "health"), "stopped unasked, so it stays a target"
    host.check_output("simulated-platform app-down wiki next-gen")
    wait_until(lambda: "wiki-next-gen" not in apps(http, "health"), what="the app to be forgotten", timeout=20)
    assert value(http, running) is None


def test_the_apps_are_known_without_the_port_manager_and_over_a_restart(host, http, wait_until):
    host.check_output("simulated-platform control port-manager down")
    try:
        away = 'app_discovery_source_up{source="port-manager"}'
        wait_until(lambda: value(http, away) == "0", what="the Port Manager to be seen away", timeout=20)
        assert "shop-main" in apps(http, "health")
        host.check_output("docker restart app_discovery")
        wait_until(lambda: http.get(f"{ADDRESS}/healthy").status == 200, what="app_discovery", timeout=20)
        assert "shop-main" in apps(http, "health")
    finally:
        host.check_output("simulated-platform control port-manager up")


def test_metrics_are_relayed_for_a_prometheus_on_another_host(http, wait_until):
    relayed = f"{ADDRESS}/apps/8101/metrics"
    wait_until(lambda: "http_requests_total" in http.get(relayed).body, what="the app's metrics", timeout=30)
    assert http.get(f"{ADDRESS}/apps/8104/metrics").status == 404, "docs-main has none"
    assert http.get(f"{ADDRESS}/apps/9810/metrics").status == 404, "no app"
