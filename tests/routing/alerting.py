"""Alertmanager's configuration as the role renders it, and what a test asks of a running one and of its receiver."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", "~/.cache/deployment-monitoring")).expanduser()
AMTOOL = CACHE / "bin/amtool"
RECEIVER = CHECKOUT / "tests/receiver/receiver.py"
AREAS = ("critical", "deployment", "infrastructure", "applications")
# Short enough to wait for.
QUICK = {
    "alertmanager_critical_wait_interval": "0s",
    "alertmanager_wait_interval": "1s",
    "alertmanager_critical_news_interval": "1s",
    "alertmanager_news_interval": "1s",
    "alertmanager_watchdog_repeat_interval": "1s",
}

_SAVE = """
import os
from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan
class ActionModule(ActionBase):
    _requires_connection = False
    def run(self, tmp=None, task_vars=None):
        for path, data in plan.contents(task_vars["inventory_hostname"], "alertmanager").items():
            target = os.path.join(self._task.args["to"], path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as writer:
                writer.write(data)
        return {"changed": False}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def render(folder: Path, variables: dict[str, Any]) -> Path:
    """Let the role describe itself with some variables, and return its configuration tree."""
    (folder / "action_plugins").mkdir(parents=True)
    (folder / "action_plugins/save_tree.py").write_text(_SAVE)
    inventory = {"all": {"hosts": {"one": {"ansible_connection": "local", **variables}}}}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    role = {
        "name": "nekocheik.deployment_monitoring.alertmanager",
        "tasks_from": "describe",
        "rolespec_validate": False,
    }
    tree = folder / "tree"
    tasks = [{"ansible.builtin.import_role": role}, {"save_tree": {"to": str(tree)}}]
    (folder / "play.json").write_text(json.dumps([{"hosts": "one", "gather_facts": False, "tasks": tasks}]))
    (folder / "ansible.cfg").touch()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.json", "play.json"],
        cwd=folder,
        env={**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": str(folder / "home")},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree


def webhooks(port: int) -> dict[str, str]:
    """Return the variables that send Slack's messages to the local receiver."""
    return {f"alertmanager_slack_webhook_{area}": f"http://127.0.0.1:{port}/services/{area}" for area in AREAS}


@dataclass
class Alerting:
    """A running Alertmanager and its receiver."""

    port: int
    receiver: int
    tree: Path

    def ask(self, method: str, url: str, payload: Any = None) -> Any:
        data = json.dumps(payload).encode() if payload is not None else None
        asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def send(self, *labels: dict[str, str], since: float = 0, over: bool = False, **annotations: str) -> None:
        """Send alerts as Prometheus does: firing since some seconds, or over now."""
        now = datetime.now(UTC)
        alerts = [
            {
                "labels": one,
                "annotations": {"summary": f"{one['alertname']} happened", **annotations},
                "startsAt": (now - timedelta(seconds=since)).isoformat(),
                "endsAt": (now if over else now + timedelta(hours=1)).isoformat(),
            }
            for one in labels
        ]
        self.ask("POST", f"http://127.0.0.1:{self.port}/api/v2/alerts", alerts)

    def forget(self) -> None:
        self.ask("DELETE", f"http://127.0.0.1:{self.receiver}/messages")

    def messages(self) -> list[dict[str, Any]]:
        return self.ask("GET", f"http://127.0.0.1:{self.receiver}/messages")

    def about(self, words: str) -> list[dict[str, Any]]:
        """Return the messages in which these words are: other tests' alerts may still be told."""
        return [one for one in self.messages() if words in json.dumps(one["body"], ensure_ascii=False)]

    def wait(self, count: int, words: str, seconds: float = 15) -> list[dict[str, Any]]:
        """Return the messages with these words once there are so many, and a moment later still no more."""
        deadline = time.monotonic() + seconds
        while len(self.about(words)) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        found = self.about(words)
        assert len(found) == count, [(one["channel"], one["body"]) for one in found]
        return found
