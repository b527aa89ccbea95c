"""The machine is restarted: everything comes back by itself. The last file, because the others want it up."""

from __future__ import annotations

import subprocess
import time


def test_a_restart_of_the_machine_brings_everything_back(host, http, wait_until):
    name = host.backend.name
    before = set(host.check_output("docker ps --format '{{.Names}}'").split())
    subprocess.run(["docker", "restart", name], check=True, capture_output=True, timeout=60)

    def missing():
        answer = host.run("docker ps --format '{{.Names}}'")
        return before - set(answer.stdout.split()) if answer.rc == 0 else answer.stderr

    deadline = time.monotonic() + 90
    while (away := missing()) and time.monotonic() < deadline:
        time.sleep(2)
    assert not away, host.run("docker ps --all; journalctl --unit docker --lines 20").stdout

    def not_up():
        answer = http.get("http://127.0.0.1:9090/api/v1/query?query=up")
        series = answer.json()["data"]["result"] if answer.status == 200 else []
        return [s["metric"] for s in series if s["value"][1] != "1"] if series else ["Prometheus itself"]

    wait_until(lambda: not not_up(), what="every target to be up again", timeout=120, every=2)
