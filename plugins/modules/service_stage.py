#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring new configurations onto a host, beside the live ones, and have them checked."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_stage
short_description: Stage new configurations and check each with its own program
description:
  - Unpacks the configurations of all services that differ into a staging directory, and runs each program's own checker
    (promtool, amtool, C(loki -verify-config)) from the image that is about to run, without network and data.
  - No service is touched. A configuration that is refused fails the task with the checker's words.
author: ["nekocheik (@nekocheik)"]
options:
  services:
    description: The services that differ, as C(service_compare) returned them.
    type: dict
    required: true
  staging_dir:
    description: The directory on the host to stage into; emptied first.
    type: path
    required: true
  plan:
    description: The described services. The action plugin fills it in.
    type: list
    elements: dict
    default: []
  archive:
    description: The configurations as an archive on the host. The action plugin fills it in.
    type: path
  timeout:
    description: Seconds that one check may take.
    type: int
    default: 60
attributes:
  check_mode:
    description: Is skipped in check mode, because it writes to the host.
    support: none
  diff_mode:
    description: Has no diff.
    support: none
"""

EXAMPLES = r"""
- name: Check the new configurations
  nekocheik.deployment_monitoring.service_stage:
    services: "{{ service_comparison.services }}"
    staging_dir: /var/lib/deployment-monitoring/.staging
"""

RETURN = r"""
checked:
  description: The services whose configuration was checked.
  type: list
  elements: str
  returned: success
"""

import os
import shutil
import socket
import tarfile
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import container, tree
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError


def unpack(archive: str, staging_dir: str, services: list[dict[str, t.Any]]) -> None:
    """Unpack the configurations with the owners and modes that they will have when live."""
    shutil.rmtree(staging_dir, ignore_errors=True)
    tree.make_directory(staging_dir, 0, 0, 0o700)
    incoming = os.path.join(staging_dir, ".incoming")
    os.mkdir(incoming, 0o700)
    with tarfile.open(archive) as reader:
        # The archive is the collection's own; the filter guards against a user's file named ../something.
        if hasattr(tarfile, "data_filter"):
            reader.extractall(incoming, filter="data")
        else:
            reader.extractall(incoming)
    for service in services:
        group = int(service["user"].split(":")[1])
        root = os.path.join(staging_dir, service["name"])
        tree.make_directory(root, 0, group, tree.DIRECTORY_MODE)
        for path, entry in service["files"].items():
            tree.write(root, path, os.path.join(incoming, service["name"], path), entry["mode"], group)
    shutil.rmtree(incoming)


def check(engine: Engine, service: dict[str, t.Any], staging_dir: str, timeout: float) -> str:
    """Run one service's checker and return an empty text, or what it says."""
    name = f"{service['name']}_check"
    engine.remove(name)
    try:
        engine.create(name, container.checker_body(service, os.path.join(staging_dir, service["name"])))
        engine.start(name)
        code = engine.wait(name, timeout)
        return "" if code == 0 else engine.logs(name, 30) or f"the checker ended with {code}"
    except EngineError as error:
        if isinstance(error.__cause__, socket.timeout):
            return f"the checker did not end within {timeout:.0f} s"
        return f"the checker could not run: {error}"
    finally:
        engine.remove(name)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "staging_dir": {"type": "path", "required": True},
            "plan": {"type": "list", "elements": "dict", "default": []},
            "archive": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
    )
    staging_dir, engine = module.params["staging_dir"], Engine()
    staged = [s for s in module.params["plan"] if s["name"] in module.params["services"] and s["state"] == "present"]
    unpack(module.params["archive"], staging_dir, staged)
    checked = [s for s in staged if s["check"]]
    with ThreadPoolExecutor(max_workers=4) as pool:
        said = list(pool.map(lambda s: check(engine, s, staging_dir, module.params["timeout"]), checked))
    refused = {service["name"]: text for service, text in zip(checked, said) if text}
    if refused:
        shutil.rmtree(staging_dir, ignore_errors=True)
        words = "\n".join(f"{name} refuses its new configuration:\n{text}" for name, text in refused.items())
        module.fail_json(msg=f"No service was touched.\n{words}", refused=refused)
    module.exit_json(changed=False, checked=[service["name"] for service in checked])


if __name__ == "__main__":
    main()
