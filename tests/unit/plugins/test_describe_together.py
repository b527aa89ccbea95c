"""The site describes all services of a host in one task: each as its role would alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
COLLECTION = "nekocheik.deployment_monitoring"
ENTRIES = yaml.safe_load((CHECKOUT / "playbooks/tasks/describe.yml").read_text())[-1][f"{COLLECTION}.service_describe"]
PLACES = [entry.get("hosts", "all") for entry in ENTRIES["services"]]
ROLES = [role for entry in ENTRIES["services"] for role in entry["roles"]]

# Hands the plan of a host over, and forgets it.
TAKEN = """
import glob, json, os
from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan
class ActionModule(ActionBase):
    _requires_connection = False
    def run(self, tmp=None, task_vars=None):
        host = task_vars["inventory_hostname"]
        with open(f"{self._task.args['to']}-{host}.json", "w") as writer:
            json.dump({one["name"]: one for one in plan.services(host)}, writer)
        plan.clear(host)
        return {"changed": False}
"""
VALUES = {
    "grafana_admin_password": "hunter2-hunter2-hunter2",
    "alertmanager_slack_bot_token": "hunter2-hunter2-hunter2",
    "grafana_home_dashboard": "logs-main",
    "prometheus_extra_rules": {"own": {"groups": []}},
    "mongodb_exporter_extra_arguments": ["--web.disable-exporter-metrics"],
    "monitoring_environment": "{{ 'stag' ~ 'ing' }}",
}
# It knows of no platform: a list that is empty is not all hosts.
SECOND = {"ansible_host": "10.0.0.2", "loki_memory": "3g", "monitoring_platform_hosts": []}
LABELS = {f"{role}_extra_labels": {"of": "{{ monitoring_environment }}"} for role in ("cadvisor", "node_exporter")}
# One that is another each time that it is worked out.
THIRD = {"ansible_host": "10.0.0.3", "monitoring_environment": "{{ 999999999 | random }}", **LABELS}
INVENTORY = {
    "all": {
        "vars": {"ansible_connection": "local", **VALUES},
        "children": {
            "monitoring": {"hosts": {"server": {"ansible_host": "10.0.0.1"}}},
            "platform": {"hosts": {"server": {}}},
            "monitored": {"hosts": {"server": {}, "second": SECOND, "third": THIRD}},
        },
    }
}
Plans = dict[tuple[str, str], dict[str, dict[str, t.Any]]]


def ansible(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), *words],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_ACTION_PLUGINS": str(folder),
            "ANSIBLE_NOCOLOR": "1",
        },
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """Each host's plan, by (how, host): all at once, and by each role's own task."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "take_plan.py").write_text(TAKEN)
    (folder / "hosts.json").write_text(json.dumps(INVENTORY))
    alone = [
        {
            "ansible.builtin.import_role": {
                "name": f"{COLLECTION}.{role}",
                "tasks_from": "describe",
                "rolespec_validate": False,
            },
            "when": f"inventory_hostname in {entry.get('hosts', 'ansible_play_hosts').strip('{} ')}",
        }
        for entry in ENTRIES["services"]
        for role in entry["roles"]
    ]
    together = [
        {"ansible.builtin.import_tasks": str(CHECKOUT / "playbooks/tasks/describe.yml")},
        # For what the roles share.
        {"ansible.builtin.import_role": {"name": f"{COLLECTION}.service", "tasks_from": "apply"}, "when": False},
    ]
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": [*tasks, {"take_plan": {"to": str(folder / how)}}]}
        for how, tasks in {"together": together, "alone": alone}.items()
    ]
    (folder / "play.json").write_text(json.dumps(plays))
    done = ansible(folder, "-vvv", "--diff", "-i", str(folder / "hosts.json"), str(folder / "play.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    # However wordy it is.
    assert "hunter2" not in done.stdout + done.stderr
    return {
        (how, host): json.loads((folder / f"{how}-{host}.json").read_text())
        for how in ("together", "alone")
        for host in ("server", "second", "third")
    }


def test_each_host_gets_the_services_of_its_groups(plans: Plans) -> None:
    assert sorted(plans["together", "server"]) == sorted(ROLES)
    watched = [*ENTRIES["services"][0]["roles"], "maintenance"]
    assert PLACES[0] == "{{ monitoring_hosts }}"
    assert sorted(plans["together", "second"]) == sorted(watched)
    assert {name: len(plan) for (_how, name), plan in plans.items()} == {
        "server": len(ROLES),
        "second": len(watched),
        "third": len(watched),
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_service_is_described_as_its_role_does_alone(plans: Plans, role: str) -> None:
    for host in ("server", "second"):
        together, alone = plans["together", host].get(role), plans["alone", host].get(role)
        if together and together["state"] == "absent":
            # Of what goes nothing is worked out but what the removal asks for.
            asked = ("name", "state", "config_dir", "data_dir", "keep", "files", "ready", "stop_timeout", "converted")
            together, alone = ({key: plan[key] for key in asked} for plan in (together, t.cast("dict", alone)))
        assert together == alone


def test_a_value_is_worked_out_once_for_all_services_of_a_host(plans: Plans) -> None:
    first, other = (plans["together", "third"][role]["labels"]["of"] for role in ("cadvisor", "node_exporter"))
    assert first.isdecimal()
    assert first == other
    alone = [plans["alone", "third"][role]["labels"]["of"] for role in ("cadvisor", "node_exporter")]
    assert alone[0] != alone[1]


def test_of_the_collectors_one_stays(plans: Plans) -> None:
    states = {role: plans["together", "second"][role]["state"] for role in ("promtail", "alloy", "otelcol")}
    assert states == {"promtail": "present", "alloy": "absent", "otelcol": "absent"}


def test_the_maintenance_knows_the_services_that_were_described_before_it(plans: Plans) -> None:
    assert "services.json" in plans["together", "second"]["maintenance"]["files"]


NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def site(tmp_path: Path, playbook: str, values: dict[str, t.Any], *words: str) -> str:
    """Run a playbook against a host that nobody can reach, and return what it says."""
    groups = {name: {"hosts": {"nowhere": {}}} for name in ("monitoring", "monitored", "platform")}
    inventory = {"all": {"hosts": {"nowhere": NOWHERE | {"ansible_host": "127.0.0.1"}}, "children": groups}}
    inventory["all"]["vars"] = {**VALUES, "monitoring_address": "127.0.0.1", **values}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    done = ansible(tmp_path, "-v", "-i", str(tmp_path / "hosts.json"), f"playbooks/{playbook}.yml", *words)
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("playbook", "words", "expected"),
    [
        ("site", ["--tags", "loki"], ["loki"]),
        ("upgrade", ["--tags", "loki,grafana"], ["loki", "grafana"]),
        ("site", ["--skip-tags", ",".join(set(ROLES) - {"cadvisor"})], ["cadvisor"]),
        ("site", ["--tags", "loki,grafana", "--skip-tags", "loki"], ["grafana"]),
        ("site", ["--tags", "somebody-elses"], []),
    ],
)
def test_a_tag_describes_one_service_and_applies_it(
    tmp_path: Path, playbook: str, words: list[str], expected: list[str]
) -> None:
    said = site(tmp_path, playbook, {}, *words)
    described = re.findall(r"ok: \[nowhere\] => changed: false services: (\[\]|(?:- \w+ ?)+)", said)
    assert [re.findall(r"\w+", names) for names in described] == [expected], said
    # Whatever the tags are.
    assert "Compare the host with its plan" in said


def test_all_that_is_wrong_is_told_at_once_and_once(tmp_path: Path) -> None:
    wrong = {"loki_port": 0, "grafana_prot": 1, "monitoring_enviroment": "x", "cadvisor_memory": "{{ nowhere_set }}"}
    said = site(tmp_path, "site", wrong)
    for words in (
        "loki_port: 0 is refused",
        "grafana_prot is not a variable of this collection: did you mean grafana_port?",
        "monitoring_enviroment is not a variable of this collection",
        "cadvisor_memory cannot be worked out",
    ):
        # Ansible says it as an error, and as the task's result.
        assert said.count(words) == 2, said
    assert said.count("Nothing was changed") == 2
    assert "Compare the host" not in said
