"""Bad input is refused by name through a real run of ansible-playbook, and no run ever prints a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
SECRET = "hunter2-hunter2-hunter2"
GOOD = {"grafana_admin_password": SECRET, "grafana_renderer_token": SECRET}

WEBHOOKS = {
    f"alertmanager_slack_webhook_{name}": SECRET
    for name in ("critical", "deployment", "infrastructure", "applications")
}

# Name → (role, variables besides the good ones, what the run says; empty where it succeeds).
CASES: dict[str, tuple[str, dict[str, t.Any], list[str]]] = {
    "good": ("grafana", {}, []),
    "good with own files and mounts": (
        "prometheus",
        {
            "prometheus_extra_files": {"rules.d/own.yml": "groups: []"},
            "prometheus_extra_mounts": [{"source": "/srv", "target": "/srv", "read_only": True}],
            "prometheus_extra_labels": {"tunnel.enable": True},
        },
        [],
    ),
    "one that goes needs no secret": ("grafana", {"grafana_admin_password": "", "grafana_state": "absent"}, []),
    "good with a second port": ("loki", {"loki_grpc_port": "19095", "loki_bind_address": "10.0.0.1"}, []),
    "good below a path": ("alertmanager", {"alertmanager_external_url": "https://x/alerts/", **WEBHOOKS}, []),
    **{
        f"good with secrets of {role}": (role, {f"{role}_secret_files": {"own": SECRET}}, [])
        for role in ("grafana", "prometheus", "loki")
    },
    "no secret": (
        "grafana",
        {"grafana_admin_password": ""},
        ["The secret grafana_admin_password is not set for no-secret"],
    ),
    "short secret": (
        "grafana",
        {"grafana_admin_password": "hunter2"},
        ["The secret grafana_admin_password (hidden) has fewer than 12 characters"],
    ),
    "public address": (
        "grafana",
        {"grafana_bind_address": "0.0.0.0"},
        ["grafana_bind_address: 0.0.0.0 can be reached by anybody", "monitoring_public_bind"],
    ),
    "public address that is wanted": (
        "grafana",
        {"grafana_bind_address": "51.159.99.160", "monitoring_public_bind": True},
        [],
    ),
    "no address": ("grafana", {"grafana_bind_address": "localhost"}, ["'localhost' is no IP address"]),
    "several at once": (
        "prometheus",
        {"prometheus_prot": 1, "prometheus_port": 70000, "monitoring_enviroment": "x"},
        [
            "prometheus_prot is not a variable of this collection: did you mean prometheus_port?",
            "did you mean monitoring_environment?",
            "prometheus_port: 70000 is refused: a port is a number from 1 to 65535",
        ],
    ),
    "names that nearly begin like ours": (
        "prometheus",
        {"promethues_port": 1, "docker_package": ["docker-ce"], "monitring_environment": "x", "allow_user": "x"},
        [
            "docker_package is not a variable of this collection: did you mean docker_packages?",
            "monitring_environment is not a variable of this collection: did you mean monitoring_environment?",
            "promethues_port is not a variable of this collection: did you mean prometheus_port?",
        ],
    ),
    "good with own variables": ("prometheus", {"allow_user": "x", "docker_proxy_memory": "1g", "docker_users": []}, []),
    "value of the engine's role": (
        "prometheus",
        {"docker_start_seconds": "soon"},
        ["docker_start_seconds: 'soon' is refused: it must be of the type int"],
    ),
    "nothing": ("prometheus", {"prometheus_port": None}, ["prometheus_port is set to nothing"]),
    "file outside": ("prometheus", {"prometheus_extra_files": {"/etc/passwd": ""}}, ["'/etc/passwd' is no path below"]),
    "file above": ("prometheus", {"prometheus_extra_files": {"../x": ""}}, ["'../x' is no path below"]),
    "mount": (
        "prometheus",
        {"prometheus_extra_mounts": [{"src": "/a", "target": "/b"}]},
        ["prometheus_extra_mounts: wrong or missing src, source"],
    ),
    "password in a connection string": (
        "mongodb_exporter",
        {"mongodb_exporter_uri": f"mongodb://u:{SECRET}@h/"},
        ["mongodb_exporter_uri: the value (hidden) is refused"],
    ),
    "dashboard that is no JSON": (
        "grafana",
        {"grafana_extra_files": {"dashboards/own.json": "{"}},
        ["The dashboard dashboards/own.json of grafana_extra_files is not valid JSON"],
    ),
    "dashboard that is missing": (
        "grafana",
        {"grafana_extra_dashboards": ["nowhere.json"]},
        ["grafana_extra_dashboards: nowhere.json cannot be read: No such file or directory"],
    ),
    "home that is missing": (
        "grafana",
        {"grafana_home_dashboard": "nothing"},
        ["grafana_home_dashboard: there is no dashboard 'nothing'"],
    ),
    "limit out of range": (
        "prometheus",
        {"prometheus_alert_cpu_percent": 180, "prometheus_alert_app_uptime_objective_percent": 100},
        [
            "prometheus_alert_cpu_percent: 180 is refused: a share in percent is more than 0 and at most 100",
            "prometheus_alert_app_uptime_objective_percent: 100 is refused: an objective is",
        ],
    ),
    "language": ("prometheus", {"monitoring_language": "de"}, ["monitoring_language: 'de' is refused", "en, fr"]),
    "alert that is unknown": (
        "prometheus",
        {"prometheus_disabled_alerts": ["HighCPU", "HihgMemory"]},
        ["prometheus_disabled_alerts: there is no alert HihgMemory"],
    ),
    "logs that a collector cannot read": (
        "otelcol",
        {"monitoring_log_collector": "otelcol"},
        ["monitoring_log_sources: source docker: containers cannot be read", "otelcol_ignored_sources: [docker]"],
    ),
    "logs that are given up": (
        "otelcol",
        {"monitoring_log_collector": "otelcol", "otelcol_ignored_sources": ["docker"]},
        [],
    ),
    "logs of a collector that is not chosen": ("otelcol", {}, []),
    "undefined": ("prometheus", {"prometheus_memory": "{{ nowhere }}"}, ["prometheus_memory cannot be worked out"]),
}

# Keeps what the plan of each host holds, without contents and with the files' digests, for the tests of good input.
SHOWN = """
import json, os
from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan
class ActionModule(ActionBase):
    _requires_connection = False
    def run(self, tmp=None, task_vars=None):
        host = task_vars["inventory_hostname"]
        (service,) = plan.services(host)
        with open(os.path.join(self._task.args["to"], host + ".json"), "w") as writer:
            json.dump(service, writer)
        return {"changed": False}
"""


class Run(t.NamedTuple):
    """What a run says of the host of one case, all that it says, and the service as it is described."""

    failed: bool
    said: str
    everything: str
    service: dict[str, t.Any]


def host_of(name: str) -> str:
    return name.replace(" ", "-")


def run(folder: Path, role: str) -> dict[str, Run]:
    """Run a role's cases at once, each as a host that knows of no other."""
    (folder / "action_plugins").mkdir(parents=True)
    (folder / "action_plugins/show_plan.py").write_text(SHOWN)
    (folder / "ansible.cfg").touch()
    mine = {name: changes for name, (its, changes, _said) in CASES.items() if its == role}
    good = GOOD if role == "grafana" else {}
    hosts = {host_of(name): {"ansible_connection": "local", **good, **changes} for name, changes in mine.items()}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    import_role = {
        "name": f"nekocheik.deployment_monitoring.{role}",
        "tasks_from": "describe",
        "rolespec_validate": False,
    }
    tasks = [{"ansible.builtin.import_role": import_role}, {"show_plan": {"to": str(folder)}}]
    (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    collections = os.pathsep.join(path for path in sys.path if os.path.isdir(f"{path}/ansible_collections"))
    done = subprocess.run(
        [str(PLAYBOOK), "-vvv", "-f", "2", "-i", "hosts.json", "play.json"],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
        },
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    everything = done.stdout + done.stderr
    recap = dict(re.findall(r"^(\S+) +: ok=\d+ .*failed=(\d+)", everything, re.MULTILINE))
    assert set(recap) == set(hosts), everything
    assert done.returncode == (2 if "1" in recap.values() else 0), everything
    found = {}
    for name in mine:
        host, path = host_of(name), folder / f"{host_of(name)}.json"
        fatal = re.search(rf"^fatal: \[{host}\]: FAILED! => (\{{.*?^\}})", everything, re.MULTILINE | re.DOTALL)
        service = json.loads(path.read_text()) if path.exists() else {}
        found[name] = Run(recap[host] == "1", json.loads(fatal[1])["msg"] if fatal else "", everything, service)
    return found


Runs = dict[str, Run]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All cases, two roles at a time."""
    root = tmp_path_factory.mktemp("describe")
    roles = sorted({role for role, _changes, _said in CASES.values()})
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda role: run(root / role, role), roles))
    return {name: one for several in found for name, one in several.items()}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_bad_input_is_refused_with_its_name_and_the_mend(runs: Runs, name: str) -> None:
    found = runs[name]
    assert found.failed, found.everything
    flat = " ".join(found.said.split())
    for words in ["Nothing was changed", *CASES[name][2]]:
        assert words in flat
    assert "Traceback" not in found.everything
    assert found.service == {}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case[2]])
def test_good_input_is_described(runs: Runs, name: str) -> None:
    found = runs[name]
    assert not found.failed, found.said
    assert found.service["name"] == CASES[name][0]


@pytest.mark.parametrize("name", CASES)
def test_no_run_prints_a_secret_however_wordy_it_is(runs: Runs, name: str) -> None:
    assert "hunter2" not in runs[name].everything


def test_a_secret_is_a_file_of_its_own_and_in_no_other(runs: Runs) -> None:
    service = runs["good"].service
    assert service["files"]["secrets/admin_password"]["secret"]
    assert not service["files"]["grafana.ini"]["secret"]
    assert SECRET not in json.dumps(service)


def test_one_that_goes_gets_no_configuration(runs: Runs) -> None:
    service = runs["one that goes needs no secret"].service
    assert (service["state"], service["files"]) == ("absent", {})


def test_own_files_mounts_and_labels_are_described_as_they_are_meant(runs: Runs) -> None:
    service = runs["good with own files and mounts"].service
    assert "rules.d/own.yml" in service["files"]
    mount = {"source": "/srv", "target": "/srv", "read_only": True, "variable": "prometheus_extra_mounts"}
    assert mount in service["mounts"]
    assert service["labels"] == {"tunnel.enable": "true"}
    assert service["image"] == "prom/prometheus:" + service["image"].rsplit(":", 1)[1]
    assert service["ready"] == {"path": "/-/ready", "address": "127.0.0.1", "port": 9090}
    assert service["memory"] == 2 << 30


def test_every_port_that_a_program_takes_is_described_with_its_variable_and_address(runs: Runs) -> None:
    assert runs["good with a second port"].service["listen"] == [
        {"address": "10.0.0.1", "port": 3100, "variable": "loki_port"},
        {"address": "127.0.0.1", "port": 19095, "variable": "loki_grpc_port"},
    ]


def test_a_program_that_is_published_below_a_path_serves_at_the_root_itself(runs: Runs) -> None:
    command = runs["good below a path"].service["command"]
    assert "--web.external-url=https://x/alerts/" in command
    assert "--web.route-prefix=/" in command
    without = runs["good with own variables"].service["command"]
    assert not [word for word in without if "external-url" in word or "route-prefix" in word]


@pytest.mark.parametrize("role", ["grafana", "prometheus", "loki"])
def test_the_users_own_secrets_are_files_that_no_diff_shows(runs: Runs, role: str) -> None:
    service = runs[f"good with secrets of {role}"].service
    assert service["files"]["secrets/own"]["secret"]
    assert service["files"]["secrets/own"]["mode"] == 0o640
    assert SECRET not in json.dumps(service)
