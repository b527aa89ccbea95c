def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9216/metrics")
    assert answer.status == 200
    assert "mongodb_up" in answer.body


def test_says_that_mongodb_is_down_where_none_is(http):
    up = [line for line in http.get("http://127.0.0.1:9216/metrics").body.splitlines() if line.startswith("mongodb_up")]
    assert up and all(line.endswith(" 0") for line in up)
