def test_answers_with_its_own_metrics(http):
    answer = http.get("http://127.0.0.1:9100/metrics")
    assert answer.status == 200
    assert "node_exporter_build_info" in answer.body


def test_sees_the_host_and_not_only_its_container(host, http):
    metrics = http.get("http://127.0.0.1:9100/metrics").body
    assert f'nodename="{host.check_output("hostname")}"' in metrics
    assert "node_memory_MemAvailable_bytes" in metrics


def test_tells_of_each_disk_and_not_of_files_that_are_mounted_from_it(host, http):
    # A container has them; the target is one.
    assert host.run("findmnt /etc/hosts").rc == 0
    metrics = http.get("http://127.0.0.1:9100/metrics").body
    disks = [line for line in metrics.splitlines() if line.startswith("node_filesystem_avail_bytes{")]
    assert any('mountpoint="/var/lib/docker"' in line for line in disks)
    assert [line for line in disks if 'mountpoint="/etc/' in line] == []


def test_reports_what_other_programs_leave_in_the_textfile_directory(host, http, wait_until):
    folder = "/var/lib/deployment-monitoring/textfile"
    host.check_output("echo 'harness_probe 42' >%s/probe.prom && chmod 644 %s/probe.prom", folder, folder)
    wait_until(
        lambda: "harness_probe 42" in http.get("http://127.0.0.1:9100/metrics").body,
        what="the metric of probe.prom",
    )


def test_tells_of_a_unit_that_failed_and_of_those_that_work(host, http, wait_until):
    host.run("systemd-run --unit=harness-failing --service-type=oneshot false")
    try:
        host.run_expect([3], "systemctl is-failed harness-failing | grep -q failed && exit 3")

        def failed():
            lines = http.get("http://127.0.0.1:9100/metrics").body.splitlines()
            return [
                line
                for line in lines
                if line.startswith('node_systemd_unit_state{name="harness-failing.service",state="failed"')
                and line.endswith(" 1")
            ]

        wait_until(failed, what="the failed unit among the metrics")
    finally:
        host.run("systemctl reset-failed harness-failing")
    body = http.get("http://127.0.0.1:9100/metrics").body
    assert 'node_scrape_collector_success{collector="systemd"} 1' in body
    assert any(
        line.startswith('node_systemd_unit_state{name="docker.service",state="active"') and line.endswith(" 1")
        for line in body.splitlines()
    )


def test_asks_systemd_without_being_root(host):
    assert host.check_output("docker inspect --format '{{.Config.User}}' node_exporter") == "65534:65534"


def test_collectors_all_work(http):
    body = http.get("http://127.0.0.1:9100/metrics").body
    failed = [
        line for line in body.splitlines() if line.startswith("node_scrape_collector_success") and line.endswith(" 0")
    ]
    # What a container that plays the host lacks.
    assert [line for line in failed if "systemd" in line or "textfile" in line or "timex" in line] == []
