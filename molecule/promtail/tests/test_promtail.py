def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9080/metrics")
    assert answer.status == 200
    assert "promtail_build_info" in answer.body


def test_reads_the_log_files_of_the_host(host, http, wait_until):
    host.check_output("mkdir -p /var/log/port-manager && echo '{}' >>/var/log/port-manager/probe.log")
    wait_until(
        lambda: "/var/log/port-manager/probe.log" in http.get("http://127.0.0.1:9080/metrics").body,
        what="the new file to be read",
    )
