"""What is asked of every service that runs in a container; each role's scenario runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = os.environ.get("MOLECULE_SCENARIO_NAME", "")
DEFAULTS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "roles" / ROLE / "defaults/main.yml").read_text()
)
PORT = DEFAULTS.get(f"{ROLE}_port")


def test_runs_the_image_that_the_role_pins(host):
    image = host.docker(ROLE).inspect()["Config"]["Image"]
    assert image.endswith(f":{DEFAULTS[f'{ROLE}_version']}")


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
