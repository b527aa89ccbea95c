def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9100/metrics")
    assert answer.status == 200
    assert "node_exporter_build_info" in answer.body


def test_sees_the_host_and_not_only_its_container(host, http):
    metrics = http.get("http://127.0.0.1:9100/metrics").body
    assert f'nodename="{host.check_output("hostname")}"' in metrics
    assert "node_memory_MemAvailable_bytes" in metrics


def test_reports_what_other_programs_leave_in_the_textfile_directory(host, http, wait_until):
    folder = "/var/lib/deployment-monitoring/textfile"
    host.check_output("echo 'harness_probe 42' >%s/probe.prom && chmod 644 %s/probe.prom", folder, folder)
    wait_until(
        lambda: "harness_probe 42" in http.get("http://127.0.0.1:9100/metrics").body,
        what="the metric of probe.prom",
    )
