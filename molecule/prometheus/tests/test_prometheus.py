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
