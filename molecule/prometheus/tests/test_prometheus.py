def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9090/metrics")
    assert answer.status == 200
    assert "prometheus_build_info" in answer.body


def test_scrapes_itself(http, wait_until):
    def itself():
        targets = http.get("http://127.0.0.1:9090/api/v1/targets?state=active").json()["data"]["activeTargets"]
        return [t for t in targets if t["labels"]["job"] == "prometheus" and t["health"] == "up"]

    wait_until(itself, what="the job prometheus to be up", timeout=40)


def test_scrapes_and_evaluates_every_15_seconds(http):
    loaded = http.get("http://127.0.0.1:9090/api/v1/status/config").json()["data"]["yaml"]
    assert "scrape_interval: 15s" in loaded
    assert "evaluation_interval: 15s" in loaded


def test_keeps_30_days_and_50_gigabytes(http):
    flags = http.get("http://127.0.0.1:9090/api/v1/status/flags").json()["data"]
    assert flags["storage.tsdb.retention.time"] == "30d"
    assert flags["storage.tsdb.retention.size"] in ("50GB", "50GiB")


def test_serves_at_the_root_whatever_path_it_is_published_below(http):
    assert http.get("http://127.0.0.1:9090/-/ready").status == 200
    assert http.get("http://127.0.0.1:9090/prometheus/-/ready").status == 404
    flags = http.get("http://127.0.0.1:9090/api/v1/status/flags").json()["data"]
    assert flags["web.external-url"] == "https://monitoring.example.com/prometheus/"


def rules(http):
    """Return the rules that Prometheus runs, by their names."""
    groups = http.get("http://127.0.0.1:9090/api/v1/rules").json()["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def test_all_rules_are_loaded_and_none_fails(http, wait_until):
    def evaluated():
        found = rules(http)
        return found if found and all(rule["health"] != "unknown" for rule in found.values()) else None

    # The slow group is evaluated within its interval of 3 minutes.
    found = wait_until(evaluated, what="every rule to be evaluated once", timeout=200, every=5)
    assert {"Watchdog", "ServiceDown", "HostDown", "AppDown", "DeploymentSuccessBudgetBurn"} <= set(found)
    assert {"alerts:time_to_recover_seconds:avg30d", "deployment:success:ratio30d"} <= set(found)
    assert {name: rule.get("lastError") for name, rule in found.items() if rule["health"] != "ok"} == {}


def test_no_alert_of_a_service_that_nobody_runs_here(http):
    """Prometheus is alone here: what the inventory promises besides is missing, and nothing else is wrong."""
    firing = http.get("http://127.0.0.1:9090/api/v1/alerts").json()["data"]["alerts"]
    names = {alert["labels"]["alertname"] for alert in firing if alert["state"] == "firing"}
    assert "Watchdog" in names
    assert names <= {"Watchdog", "TargetDown", "ServiceDown", "MongoDBDown", "NotificationsFailing"}


def test_the_own_rule_evaluations_do_not_fail(http):
    query = "sum(prometheus_rule_evaluation_failures_total)"
    answer = http.get(f"http://127.0.0.1:9090/api/v1/query?query={query}").json()["data"]["result"]
    assert [float(sample["value"][1]) for sample in answer] in ([], [0.0])
