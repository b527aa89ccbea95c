def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9115/metrics")
    assert answer.status == 200
    assert "blackbox_exporter_build_info" in answer.body


def test_probes_over_http(http):
    url = "http://127.0.0.1:9115/probe?target=http://127.0.0.1:9115/-/healthy&module=http_2xx"
    assert "probe_success 1" in http.get(url).body
