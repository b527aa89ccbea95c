def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9093/metrics")
    assert answer.status == 200
    assert "alertmanager_build_info" in answer.body


def test_takes_an_alert_and_shows_it(http, wait_until):
    alert = {"labels": {"alertname": "HarnessProbe", "severity": "info"}}
    assert http.post("http://127.0.0.1:9093/api/v2/alerts", [alert]).status == 200
    wait_until(
        lambda: "HarnessProbe" in http.get("http://127.0.0.1:9093/api/v2/alerts").body,
        what="the alert to be shown",
    )


def test_forms_no_cluster(http):
    assert http.get("http://127.0.0.1:9093/api/v2/status").json()["cluster"]["status"] == "disabled"
