"""playbooks/test_alerts.yml sends a test alert through each receiver, and tells the truth about who took it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
TARGET = "monitoring-alertmanager"
RECEIVER = "http://127.0.0.1:9099"
AREAS = ("critical", "deployment", "infrastructure", "applications")
VARIABLES = {
    **{f"alertmanager_slack_webhook_{area}": f"{RECEIVER}/services/{area}" for area in AREAS},
    "alertmanager_watchdog_url": f"{RECEIVER}/webhook/watchdog",
    "alertmanager_wait_interval": "1s",
    "alertmanager_critical_wait_interval": "1s",
    "alertmanager_test_timeout": 20,
}
BROKEN = {
    "alertmanager_extra_receivers": [
        {"name": "pager", "webhook_configs": [{"url": f"{RECEIVER}/broken/pager"}]},
        {"name": "two", "webhook_configs": [{"url": f"{RECEIVER}/webhook/{name}"} for name in ("one", "other")]},
        {"name": "unreached", "webhook_configs": [{"url": f"{RECEIVER}/webhook/unreached"}]},
    ],
    "alertmanager_extra_routes": [
        {"matchers": ['severity="page"'], "receiver": "pager"},
        {"matchers": ['severity="two"'], "receiver": "two"},
        {"matchers": ['severity=~"unreached"'], "receiver": "unreached"},
    ],
}


def play(playbook, *options, **variables):
    """Run a playbook against the target; return its exit code and all that it says."""
    inventory = Path(os.environ["CHECKOUT_STATE"]) / "receivers-inventory"
    inventory.write_text(f"[monitoring]\n{TARGET} ansible_connection=community.docker.docker\n")
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), "-e", f"@{IMAGES}", "-e", json.dumps({**VARIABLES, **variables})]
        + [*options, str(CHECKOUT / playbook)],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Molecule asks for colours where it is looked at, and they are in the midst of folded sentences.
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    return done.returncode, " ".join(said.split())


def apply(**variables):
    """Apply the role with some variables."""
    playbook = Path(os.environ["CHECKOUT_STATE"]) / "receivers.yml"
    role = {"ansible.builtin.include_role": {"name": "nekocheik.deployment_monitoring.alertmanager"}}
    playbook.write_text(json.dumps([{"hosts": "monitoring", "gather_facts": False, "tasks": [role]}]))
    code, said = play(playbook, **variables)
    assert code == 0, said


@pytest.fixture
def messages(http):
    """What the receiver got since the test began."""
    http.request(f"{RECEIVER}/messages", "--request", "DELETE")
    return lambda: http.get(f"{RECEIVER}/messages").json()


def test_every_receiver_takes_its_alert_and_it_is_marked(messages, wait_until):
    apply()
    code, said = play("playbooks/test_alerts.yml")
    assert code == 0, said
    assert "Every receiver took its alert." in said
    # What other tests fired may be told late.
    found = [one for one in messages() if "AlertTest" in json.dumps(one["body"])]
    assert {one["channel"] for one in found} == {*AREAS, "watchdog"}
    assert [one for one in found if "Test of the alerting" not in json.dumps(one["body"])] == []
    wait_until(
        lambda: [one for one in messages() if "Resolved: AlertTest" in json.dumps(one["body"])],
        what="a test alert to be ended",
        timeout=60,
    )


def test_a_receiver_that_does_not_take_it_is_named(messages):
    apply(**BROKEN)
    code, said = play("playbooks/test_alerts.yml", **BROKEN)
    assert code == 2, said
    assert "Not every receiver took its alert." in said
    assert "pager: it does not take messages" in said
    assert "critical: took it" in said
    assert "two: took it" in said
    assert "Not tested, because no route with plain matchers leads to them: unreached." in said


def test_check_mode_sends_nothing(messages):
    code, said = play("playbooks/test_alerts.yml", "--check")
    assert code == 0, said
    assert "would be sent to: applications, critical, deployment, infrastructure, notices, watchdog" in said
    assert not [one for one in messages() if "firing" in json.dumps(one["body"]).lower()]
