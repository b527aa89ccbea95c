def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:8080/metrics")
    assert answer.status == 200
    assert "cadvisor_version_info" in answer.body


def test_knows_the_containers_by_name(http, wait_until):
    wait_until(
        lambda: 'name="cadvisor"' in http.get("http://127.0.0.1:8080/metrics").body,
        what="a series of its own container",
    )
