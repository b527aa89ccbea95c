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


def test_lines_are_counted_by_level(http, write, wait_until):
    write("/var/log/deployment-api/counted.log", '{"level":"info"}', '{"level":"ERROR"}')

    def levels():
        rows = http.get("http://127.0.0.1:9080/metrics").body.splitlines()
        counted = [row for row in rows if row.startswith("monitoring_log_lines_total{") and 'level="' in row]
        counted = [row for row in counted if 'job="deployment-api"' in row]
        return {row.split('level="')[1].split('"')[0] for row in counted}

    wait_until(lambda: {"error", "info"} <= levels(), what="counters of both levels")
    assert levels() == {"error", "info"}
