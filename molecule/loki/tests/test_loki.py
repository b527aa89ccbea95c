def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:3100/metrics")
    assert answer.status == 200
    assert "loki_build_info" in answer.body


def test_returns_the_line_that_it_was_given(host, http, wait_until):
    now = host.check_output("date +%s%N")
    stream = {"stream": {"job": "harness"}, "values": [[now, "a line of the test"]]}
    assert http.post("http://127.0.0.1:3100/loki/api/v1/push", {"streams": [stream]}).status == 204
    query = "http://127.0.0.1:3100/loki/api/v1/query_range?query=%7Bjob%3D%22harness%22%7D"
    wait_until(lambda: "a line of the test" in http.get(query).body, what="the line to be found")


def test_deletes_after_seven_days(http):
    loaded = http.get("http://127.0.0.1:3100/config").body
    assert "retention_enabled: true" in loaded
    assert "retention_period: 1w" in loaded or "retention_period: 168h" in loaded
