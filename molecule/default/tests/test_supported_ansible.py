"""The older ansible-core lines deploy the site too, each with the oldest Python that it runs on here.

The newest line made the target; each older one changes a setting, finds nothing left to change, and tells the next
change with --check --diff.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
HARNESS = CHECKOUT / "tests/harness"
OLDER_LINES = ["2.19", "2.20"]


def run(line, words):
    """Run a command with the tools of an ansible-core line and return all that it says."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "VIRTUAL_ENV"))}
    environment |= {"ANSIBLE_CORE": line, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def site(host, line, *options, **variables):
    """Run the site against the target; return what it says, and how many tasks changed something."""
    name = host.backend.name
    inventory = Path(os.environ["CHECKOUT_STATE"]) / "supported-ansible"
    inventory.mkdir(exist_ok=True)
    groups = "".join(f"[{group}]\n{name}\n" for group in ("monitoring", "platform", "monitored"))
    connection = "[all:vars]\nansible_connection=community.docker.docker\nansible_pipelining=true\n"
    (inventory / "hosts").write_text(groups + connection)
    # As molecule has it: what is left to change is what an older line does otherwise.
    if not (inventory / "group_vars").exists():
        (inventory / "group_vars").symlink_to(CHECKOUT / "group_vars")
    given = {**yaml.safe_load((CHECKOUT / "molecule/shared/secrets.yml").read_text()), **variables}
    words = ["ansible-playbook", "-i", str(inventory), "-e", f"@{IMAGES}", "-e", json.dumps(given), "site.yml"]
    said = run(line, [str(HARNESS / "run"), *words, *options])
    return said, int(re.search(rf"{name} .*changed=(\d+)", said).group(1))


@pytest.fixture(scope="module", params=OLDER_LINES)
def line(request):
    """One of the older lines, its tools installed."""
    run(request.param, [str(HARNESS / "setup.sh")])
    ask = "from ansible.release import __version__; print(__version__)"
    version = run(request.param, [str(HARNESS / "run"), "python", "-c", ask])
    assert version.startswith(f"{request.param}."), version
    return request.param


def test_an_older_ansible_changes_the_site_and_then_finds_nothing_to_change(host, http, line):
    interval = {"2.19": "16s", "2.20": "15s"}[line]
    # Of the other services the second run tells.
    _said, changed = site(host, line, "--tags", "prometheus", prometheus_evaluation_interval=interval)
    assert changed == 1
    config = http.get("http://127.0.0.1:9090/api/v1/status/config").json()["data"]["yaml"]
    assert f"evaluation_interval: {interval}" in config
    _said, changed = site(host, line, prometheus_evaluation_interval=interval)
    assert changed == 0


def test_an_older_ansible_tells_a_change_beforehand(host, http, line):
    said, changed = site(host, line, "--check", "--diff", prometheus_evaluation_interval="23s")
    assert changed == 1
    assert "+  evaluation_interval: 23s" in said
    config = http.get("http://127.0.0.1:9090/api/v1/status/config").json()["data"]["yaml"]
    assert "23s" not in config
