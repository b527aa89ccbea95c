"""The rule files as the role really renders them, through its own describe task, for several inventories in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

ONE = {"hosts": ["one"], "platform": ["one"]}
# Name → hosts, platform hosts, and variables.
VARIANTS: dict[str, dict[str, t.Any]] = {
    "default": {**ONE},
    "french": {**ONE, "monitoring_language": "fr"},
    "second-host": {"hosts": ["one", "two"], "platform": ["one"]},
    "two-platforms": {"hosts": ["one", "two"], "platform": ["one", "two"]},
    "no-platform": {"hosts": ["one"], "platform": []},
    "other-limits": {
        **ONE,
        "prometheus_alert_cpu_percent": 62.5,
        "prometheus_alert_cpu_for_interval": "7m",
        "prometheus_alert_disk_free_critical_percent": 3,
        "prometheus_alert_deployment_failures_count": 5,
        "prometheus_alert_deployment_duration_seconds": 120,
        "prometheus_alert_app_uptime_objective_percent": 99.9,
        "prometheus_alert_ignored_file_systems": "nfs4",
        "grafana_external_url": "https://grafana.example.com/",
        "monitoring_runbook_url": "https://wiki.example.com/rb/",
    },
    "disabled": {**ONE, "prometheus_disabled_alerts": ["SystemdUnitFailed", "MongoDBDown", "ServiceDown"]},
    "other-services": {
        **ONE,
        "prometheus_platform_services": [{"name": "billing.v2", "port": 3010, "metrics": True, "health": ""}],
    },
    "no-services": {**ONE, "prometheus_platform_services": []},
}

_SAVE = """
import json, os
from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan
class ActionModule(ActionBase):
    _requires_connection = False
    def run(self, tmp=None, task_vars=None):
        host = task_vars["inventory_hostname"]
        for path, data in plan.contents(host, "prometheus").items():
            target = os.path.join(self._task.args["to"], task_vars["variant"], path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as writer:
                writer.write(data)
        (service,) = [one for one in plan.services(host) if one["name"] == "prometheus"]
        with open(os.path.join(self._task.args["to"], task_vars["variant"] + ".json"), "w") as writer:
            json.dump(service, writer)
        return {"changed": False}
"""


def render(target: Path, variants: t.Mapping[str, dict[str, t.Any]] = VARIANTS) -> None:
    """Write the configuration tree of each variant below a directory, and what else is described beside it."""
    hosts: dict[str, t.Any] = {}
    for name, described in variants.items():
        variant = dict(described)
        watched, platform = variant.pop("hosts"), variant.pop("platform")
        server = f"{name}-one"
        hosts[server] = {
            "variant": name,
            "monitoring_servers": [server],
            "monitoring_hosts": [f"{name}-{host}" for host in watched],
            "monitoring_platform_hosts": [f"{name}-{host}" for host in platform],
            "monitoring_address": "10.0.0.1",
            **variant,
        }
        for other in watched[1:]:
            hosts[f"{name}-{other}"] = {"monitoring_address": "10.0.0.2"}
    describe = {"name": "nekocheik.deployment_monitoring.prometheus", "tasks_from": "describe"}
    play = {
        "hosts": "*-one",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": describe}, {"save_tree": {"to": str(target)}}],
    }
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "action_plugins").mkdir()
        (folder / "action_plugins/save_tree.py").write_text(_SAVE)
        (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (folder / "play.json").write_text(json.dumps([play]))
        (folder / "ansible.cfg").write_text("[defaults]\nstdout_callback = ansible.builtin.default\n")
        done = subprocess.run(
            [str(PLAYBOOK), "-i", "hosts.json", "-f", "2", "play.json"],
            cwd=folder,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(CHECKOUT / ".collections")),
                "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
                "ANSIBLE_HOME": str(folder / "home"),
                "ANSIBLE_LOCALHOST_WARNING": "false",
            },
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
    if done.returncode:
        raise AssertionError(done.stdout[-4000:] + done.stderr[-2000:])


if __name__ == "__main__":
    render(Path(sys.argv[1]), {name: VARIANTS[name] for name in sys.argv[2:] or VARIANTS})
