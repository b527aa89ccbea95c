"""The engine that the role installed on a bare machine, and what the role does where one is. A story, in this order."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[3]
STATE = Path(os.environ["CHECKOUT_STATE"])
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
TARGET = "monitoring-docker"
# What is given beside the case's own: nothing there is on the machine, so that installing it would fail.
STRANGE = {"docker_packages": ["no-such-engine"], "docker_start_seconds": 5}


def run(playbook, *words, **variables):
    """Run a playbook against the target; return its exit code and what it said, in one line."""
    hosts = STATE / "docker-inventory"
    line = f"{TARGET} ansible_connection=community.docker.docker\n"
    hosts.write_text("".join(f"[{name}]\n{line}" for name in ("monitoring", "monitored", "platform")))
    secrets = yaml.safe_load((CHECKOUT / "molecule/shared/secrets.yml").read_text())
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), "-e", f"@{IMAGES}", "-e", json.dumps({**secrets, **variables})]
        + [str(playbook), *words],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_SCENARIO_NAME": "docker",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def role(*words, **variables):
    return run(CHECKOUT / "molecule/shared/converge.yml", *words, **variables)


def packages(host):
    """Return the installed packages with their versions."""
    return host.check_output("dpkg-query --show").splitlines()


def test_the_engine_answers(host):
    assert host.run("docker info").rc == 0


def test_the_engine_starts_with_the_machine(host):
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_what_was_installed_is_recorded_for_the_removal(host):
    brought = json.loads(host.file("/var/lib/deployment-monitoring/engine.json").content_string)
    assert {"docker.io", "containerd"} <= set(brought)
    assert "systemd" not in brought


def test_an_engine_that_works_is_left_alone(host):
    before = host.check_output("systemctl show --property=MainPID,ActiveEnterTimestamp docker")
    code, said = role(**STRANGE)
    assert code == 0, said
    assert "changed=0" in said
    assert host.check_output("systemctl show --property=MainPID,ActiveEnterTimestamp docker") == before


def test_an_engine_that_is_stopped_is_started_and_no_other_is_installed(host):
    before = packages(host)
    host.check_output("systemctl stop docker.socket docker.service")
    code, said = role("--check", **STRANGE)
    assert code == 0, said
    assert "changed=1" in said
    assert not host.service("docker").is_running
    code, said = role(**STRANGE)
    assert code == 0, said
    assert "changed=1" in said
    assert host.run("docker info").rc == 0
    assert packages(host) == before


def test_an_engine_that_does_not_come_up_is_refused_by_name_and_no_other_is_installed(host):
    before = packages(host)
    host.check_output("systemctl stop docker.socket docker.service")
    host.check_output("mkdir -p /etc/docker; echo nonsense >/etc/docker/daemon.json")
    code, said = role(**STRANGE)
    host.check_output("rm /etc/docker/daemon.json; systemctl reset-failed; systemctl start docker")
    assert code == 2, said
    for words in ("An engine is installed (", "docker.service) and does not answer", "journalctl -u docker"):
        assert words in said
    assert packages(host) == before


def test_check_mode_tells_what_would_be_installed_and_goes_on(host):
    host.check_output("apt-get purge --yes docker.io containerd runc")
    host.check_output("rm -r /var/lib/apt/lists; mkdir /var/lib/apt/lists")
    before = packages(host)
    code, said = run("site.yml", "--check", "--diff")
    assert code == 0, said
    assert "docker.io would be installed" in said
    assert "prometheus: create" in said
    assert "failed=0" in said
    assert "changed=0" not in said
    assert packages(host) == before
