"""What is asked of every service that runs in a container; each role's scenario runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = os.environ["MOLECULE_SCENARIO_NAME"]


def variables(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


# As Ansible has them: the role's defaults, and what the test images say of themselves.
VARIABLES = variables(Path(__file__).parents[2] / "roles" / ROLE / "defaults/main.yml") | variables(
    Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
)
PORT = VARIABLES.get(f"{ROLE}_port")


def test_runs_the_version_that_was_asked_for(host):
    image = host.docker(ROLE).inspect()["Config"]["Image"]
    assert image.endswith(f":{VARIABLES[f'{ROLE}_version']}")


@pytest.mark.skipif(PORT is None, reason="it has no port")
def test_listens_on_loopback_only(host):
    listening = host.check_output("ss --no-header --listening --numeric --tcp 'sport = %s'", str(PORT))
    assert {row.split()[3] for row in listening.splitlines()} == {f"127.0.0.1:{PORT}"}


def test_can_neither_write_to_its_image_nor_gain_rights(host):
    settings = host.docker(ROLE).inspect()["HostConfig"]
    assert settings["ReadonlyRootfs"]
    assert not settings["Privileged"]
    assert settings["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in settings["SecurityOpt"]


def test_starts_with_the_machine(host):
    assert host.docker(ROLE).inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
