"""The machine is restarted: everything comes back by itself. The last file, because the others want it up."""

from __future__ import annotations

import subprocess


def test_a_restart_of_the_machine_brings_everything_back(host, http, wait_until):
    name = host.backend.name
    before = set(host.check_output("docker ps --format '{{.Names}}'").split())
    subprocess.run(["docker", "restart", name], check=True, capture_output=True, timeout=60)

    def running():
        return set(host.run("docker ps --format '{{.Names}}'").stdout.split()) >= before

    wait_until(running, what=f"these containers: {sorted(before)}", timeout=90)

    def not_up():
        answer = http.get("http://127.0.0.1:9090/api/v1/query?query=up")
        series = answer.json()["data"]["result"] if answer.status == 200 else []
        return [s["metric"] for s in series if s["value"][1] != "1"] if series else ["Prometheus itself"]

    wait_until(lambda: not not_up(), what="every target to be up again", timeout=120, every=2)
