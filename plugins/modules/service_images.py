#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring images onto a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_images
short_description: Bring the images that a change needs onto the host
description:
  - Gets all missing images in one step, before any service is touched, and fails with the names of all that cannot be
    had.
author: ["nekocheik (@nekocheik)"]
options:
  images:
    description: The references of the images.
    type: list
    elements: str
    required: true
  source:
    description:
      - Where images come from. C(pull) asks the registry, C(archive) loads I(archives), C(present) only looks.
    type: str
    choices: [pull, archive, present]
    default: pull
  archive_dir:
    description:
      - A folder on the controller with the archives (C(docker save)) of servers without internet. An archive is named
        like its image with C(_) for C(/) and C(:), and ends in C(.tar) or C(.tar.gz).
    type: path
  archives:
    description: Image reference to archive on the host. The action plugin fills it in.
    type: dict
    default: {}
  ledger:
    description:
      - File on the host with the images that were brought there by this module. The clean-up and the removal of the
        collection remove no other image.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and tells which images would be fetched.
    support: full
  diff_mode:
    description: Has no diff.
    support: none
"""

EXAMPLES = r"""
- name: Get the images
  nekocheik.deployment_monitoring.service_images:
    images: [prom/prometheus:v3.13.2]
    source: pull
"""

RETURN = r"""
fetched:
  description: The images that were not there before.
  type: list
  elements: str
  returned: success
"""

import contextlib
import json
import os
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import tree
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError


def fetch(engine: Engine, reference: str, source: str, archive: str | None) -> str:
    """Bring one image onto the host and return an empty text, or why it cannot be had."""
    try:
        if source == "pull":
            engine.pull(reference)
        elif source == "archive" and archive:
            engine.load(archive)
        if engine.image(reference) is None:
            return {
                "present": f"{reference} is not on the host (monitoring_image_source: present)",
                "archive": f"{reference} is not what its archive contains",
                "pull": f"{reference} was pulled and is not there",
            }[source]
    except (EngineError, OSError) as error:
        return f"{reference} cannot be had: {error}"
    return ""


def note(engine: Engine, path: str, references: list[str]) -> None:
    """Add the images that were brought here to the list of them: only those does the clean-up ever remove."""
    known: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError), open(path) as reader:
        known = json.load(reader)
    brought = {reference: image["Id"] for reference in references if (image := engine.image(reference))}
    if not brought:
        return
    known.update(brought)
    tree.make_directory(os.path.dirname(path), 0, 0, 0o755)
    with open(path + ".new", "w") as writer:
        json.dump(known, writer, indent=1, sort_keys=True)
    os.rename(path + ".new", path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "source": {"type": "str", "choices": ["pull", "archive", "present"], "default": "pull"},
            "archive_dir": {"type": "path"},
            "archives": {"type": "dict", "default": {}},
            "ledger": {"type": "path"},
        },
        supports_check_mode=True,
    )
    engine, source = Engine(), module.params["source"]
    try:
        missing = [reference for reference in module.params["images"] if engine.image(reference) is None]
    except EngineError as error:
        module.fail_json(msg=f"No service was touched: {error}")
    if module.check_mode and source != "present":
        module.exit_json(changed=bool(missing), fetched=missing)

    def one(reference: str) -> t.Any:
        return fetch(engine, reference, source, module.params["archives"].get(reference))

    with ThreadPoolExecutor(max_workers=3) as pool:
        problems = [problem for problem in pool.map(one, missing) if problem]
    if module.params["ledger"] and source != "present":
        note(engine, module.params["ledger"], missing)
    if problems:
        module.fail_json(
            msg="No service was touched. " + "; ".join(problems) + ". See <role>_image, <role>_version, "
            "monitoring_image_prefix and monitoring_image_source."
        )
    module.exit_json(changed=bool(missing), fetched=missing)


if __name__ == "__main__":
    main()
