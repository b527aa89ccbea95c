"""playbooks/upgrade.yml on the controller: in which order, where it ends, and whom it asks for silence."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
# The server that watches is the first of those that are watched, as it is in most inventories.
INVENTORY = """
[monitored]
deploy-1
web-1
[platform]
deploy-1
db-1
[monitoring]
deploy-1
[all:vars]
ansible_connection=local
# Nothing is ever changed on this machine: what would run on a host cannot.
ansible_python_interpreter=/nowhere/python
"""


def run(tmp_path: Path, *words: str) -> tuple[int, str]:
    (tmp_path / "hosts").write_text(INVENTORY)
    done = subprocess.run(
        ["ansible-playbook", "-i", str(tmp_path / "hosts"), *words],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_hosts_that_are_only_watched_come_before_those_that_watch(tmp_path: Path) -> None:
    code, said = run(tmp_path, "playbooks/upgrade.yml", "--list-hosts")
    assert code == 0, said
    plays = re.findall(r"play #\d+ \([^)]*\): (\w+).*\n.*\n    hosts \(\d+\):\n((?: {6}\S+\n?)+)", said)
    assert [(does, sorted(hosts.split())) for does, hosts in plays] == [
        # Only asks.
        ("Find", ["deploy-1"]),
        ("Upgrade", ["db-1", "web-1"]),
        ("Upgrade", ["deploy-1"]),
    ]


def test_a_host_that_fails_leaves_the_later_ones_alone_also_those_of_the_second_play(tmp_path: Path) -> None:
    code, said = run(tmp_path, "playbooks/upgrade.yml", "--tags", "node_exporter", "--limit", "web-1,deploy-1")
    assert code != 0
    assert re.search(r"\[web-1\]: (FAILED|UNREACHABLE)", said), said
    assert "deploy-1" not in said


SERVERS: dict[str, tuple[dict[str, object], str]] = {
    "web-1": ({}, "http://127.0.0.1:9093/api/v2"),
    "db-1": ({"monitoring_bind_address": "10.0.0.12"}, "http://10.0.0.12:9093/api/v2"),
    "deploy-1": (
        {"monitoring_bind_address": "10.0.0.12", "alertmanager_bind_address": "10.0.0.13", "alertmanager_port": 1},
        "http://10.0.0.13:1/api/v2",
    ),
}


def test_silence_is_asked_for_where_alertmanager_listens(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    for host, (own, _url) in SERVERS.items():
        (tmp_path / f"host_vars/{host}.yml").write_text(json.dumps({"monitoring_servers": [host], **own}))
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").symlink_to(CHECKOUT / "roles/service/defaults/main.yml")
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(CHECKOUT / "roles/service/vars/main.yml")],
        "tasks": [{"ansible.builtin.debug": {"msg": "<{{ inventory_hostname }} {{ __service_alertmanager }}>"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    code, said = run(tmp_path, str(tmp_path / "play.yml"))
    assert code == 0, said
    assert set(re.findall(r"<(\S+) (\S+)>", said)) == {(host, url) for host, (_own, url) in SERVERS.items()}
