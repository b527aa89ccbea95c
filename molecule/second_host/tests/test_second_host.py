"""A second host with nothing but its line in the inventory is scraped and shipped, and kept apart from the first; that
it is gone is one message.
"""

from __future__ import annotations

import json
import subprocess
import time
from urllib.parse import quote

import testinfra

RECEIVER = "http://127.0.0.1:9099"
FIRST, PLATFORM, OTHER = (f"monitoring-second_host{suffix}" for suffix in ("", "-platform", "-other"))


def other():
    return testinfra.get_host(f"docker://{OTHER}")


def series(http, query):
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(query)}"
    return http.get(url).json()["data"]["result"]


def test_the_second_host_runs_exporters_and_collector_only():
    names = set(other().check_output("docker ps --format '{{.Names}}'").split())
    assert names == {"node_exporter", "cadvisor", "blackbox_exporter", "promtail", "docker_proxy"}


def test_its_exporters_are_scraped(http, wait_until):
    def up():
        return {s["metric"]["job"] for s in series(http, f'up{{host="{OTHER}"}} == 1')}

    wait_until(lambda: up() == {"node", "cadvisor", "blackbox", "promtail"}, what="its four targets up", timeout=60)


def test_instance_keeps_the_hosts_apart(http, wait_until):
    wait_until(lambda: len(series(http, 'up{job="node"}')) == 3, what="three hosts", timeout=45)
    instances = {s["metric"]["instance"] for s in series(http, 'up{job="node"}')}
    assert instances == {f"{name}:9100" for name in (FIRST, PLATFORM, OTHER)}


def test_its_logs_arrive(http, wait_until):
    line = json.dumps({"level": "info", "message": "from the second host"})
    other().check_output("mkdir -p /var/log/port-manager && echo %s >>/var/log/port-manager/test.log", line)
    loki = other().check_output("grep -o 'http://[0-9.]*:3100' /etc/deployment-monitoring/promtail/config.yml")
    query = quote(f'{{job="port-manager", host="{OTHER}"}} |= "from the second host"')

    def found():
        return http.get(f"{loki}/loki/api/v1/query_range?query={query}").json()["data"]["result"]

    wait_until(found, what="the line in Loki", timeout=45)


def test_nothing_of_it_listens_on_all_addresses(host):
    # sshd is the machine's own.
    for machine in (host, other()):
        listening = machine.check_output("ss -H -ltn").splitlines()
        everywhere = [line.split()[3] for line in listening if line.split()[3].startswith(("0.0.0.0:", "*:", "[::]:"))]
        assert {address.rsplit(":", 1)[1] for address in everywhere} <= {"22"}


def test_it_looks_after_itself_without_data_to_back_up():
    told = {}
    for name in ("cleanup", "health_check"):
        words = "cd /etc/deployment-monitoring/maintenance && python3 -B timer.py settings.json %s"
        done = other().run(words, name)
        assert done.rc == 0, done.stdout
        told[name] = json.loads(done.stdout)
    assert {"shipping", "metrics of timers"} <= {one["check"] for one in told["health_check"]["checks"]}
    timers = other().check_output("systemctl list-timers --all --no-legend 'monitoring-*'")
    assert "monitoring-health-check.timer" in timers
    assert "monitoring-cleanup.timer" in timers
    assert "monitoring-backup.timer" not in timers


def told(http):
    """What was told about the second host: channel and title."""
    messages = http.get(f"{RECEIVER}/messages").json()
    return [
        (one["channel"], one["body"]["attachments"][0]["title"]) for one in messages if OTHER in json.dumps(one["body"])
    ]


def test_a_host_that_is_gone_is_one_message_and_so_is_its_return(http, wait_until):
    http.request(f"{RECEIVER}/messages", "--request", "DELETE")
    subprocess.run(["docker", "pause", OTHER], check=True)
    try:
        wait_until(lambda: told(http), what="the message", timeout=90)
        # Its targets' own alerts would have come by now.
        time.sleep(20)
        assert told(http) == [("critical", f"🚨 CRITICAL: HostDown · {OTHER}")]
    finally:
        subprocess.run(["docker", "unpause", OTHER], check=True)
    wait_until(lambda: len(told(http)) > 1, what="the message that it is back", timeout=60)
    assert told(http)[1:] == [("critical", f"✅ Resolved: HostDown · {OTHER}")]
