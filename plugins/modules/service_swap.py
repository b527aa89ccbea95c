#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change the services of a host that differ from their descriptions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_swap
short_description: Check the new configurations, then change the services that differ, each as a transaction
description:
  - Unpacks the configurations of all services that differ into a staging directory, and runs each program's own checker
    (promtool, amtool, C(loki -verify-config)) from the image that is about to run, without network and data. One that
    is refused fails the task with the checker's words before any service is touched.
  - Changes all services that differ side by side, under one deadline; those that are removed go first, so that a
    successor finds what they saved. A change of configuration that the program can reload is reloaded and confirmed by
    the program's own metric. Otherwise the former container is kept aside, the new one is started and proved ready from
    the host.
  - A service that does not get ready gets its former container and configuration back, and the task fails with the
    cause and the last lines that the program wrote.
  - All of it happens in one call on the host, so that a lost connection cannot leave it half done. A killed one is
    mended by the next run.
  - Fails before it touches anything while another run changes the same host.
author: ["nekocheik (@nekocheik)"]
options:
  services:
    description: The services that differ, as C(service_compare) returned them.
    type: dict
    required: true
  staging_dir:
    description: The directory on the host to stage into; emptied first, removed at the end.
    type: path
    required: true
  timeout:
    description: Seconds within which all services have to be ready.
    type: int
    default: 120
  rolling:
    description:
      - Change one service after the other, each with O(timeout) seconds of its own, and end with the first one that
        fails; the later ones are left as they are.
      - Each has to do its work again, as its description's C(proof) says, not only be ready.
    type: bool
    default: false
  order:
    description: Names of services, in the order in which O(rolling) changes them. Others come first.
    type: list
    elements: str
    default: []
  proof_timeout:
    description: Seconds within which a service has to do its work again.
    type: int
    default: 60
  check_timeout:
    description: Seconds that one check of a configuration may take.
    type: int
    default: 60
  preview:
    description: The diff that C(service_compare) made, shown with C(--diff). The action plugin takes it out.
    type: list
    elements: dict
    default: []
  plan:
    description: The described services. The action plugin fills it in.
    type: list
    elements: dict
    default: []
  archive:
    description: The configurations as an archive on the host. The action plugin fills it in.
    type: path
attributes:
  check_mode:
    description: Is skipped in check mode; C(service_compare) tells what it would do.
    support: none
  diff_mode:
    description: Shows what C(service_compare) found.
    support: full
"""

EXAMPLES = r"""
- name: Swap the services that differ
  nekocheik.deployment_monitoring.service_swap:
    services: "{{ service_comparison.services }}"
    staging_dir: /var/lib/deployment-monitoring/.staging
"""

RETURN = r"""
outcomes:
  description: For each service its name, the action, the seconds that it was away, and the error if there was one.
  type: list
  elements: dict
  returned: always
checked:
  description: The services whose new configuration was checked by its own program.
  type: list
  elements: str
  returned: always
"""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock, staging, tree
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.swap import Outcome, Swap


def sentence(outcome: Outcome) -> str:
    """Return what became of a service, for a person."""
    if not outcome["error"]:
        away = f", away for {outcome['seconds_away']} s" if outcome["seconds_away"] else ""
        return f"{outcome['name']}: {outcome['action']}{away}"
    log = "".join(f"\n    {line}" for line in outcome["log"].splitlines())
    return (
        f"{outcome['name']}: {outcome['action']} failed: {outcome['error']}. {outcome['restored'].capitalize()}."
        f"\n  Its last log lines:{log or ' none'}"
    )


def side_by_side(swaps: list[Swap]) -> list[Outcome]:
    """Change all services at once. Those that go have gone before: a successor takes over what they leave."""
    outcomes: dict[str, Outcome] = {}
    began = time.monotonic()
    for leaving in (True, False):
        part = [swap for swap in swaps if (swap.action == "remove") == leaving]
        for swap in part:
            # What the others took to end is not time that it had.
            swap.deadline += time.monotonic() - began
        with ThreadPoolExecutor(max_workers=max(1, len(part))) as pool:
            outcomes |= {outcome["name"]: outcome for outcome in pool.map(Swap.run, part)}
    return [outcomes[swap.name] for swap in swaps]


def one_by_one(swaps: list[Swap], order: list[str], timeout: int) -> list[Outcome]:
    """Change one service after the other until one fails; those that go are the first."""
    outcomes: list[Outcome] = []
    place = {name: number for number, name in enumerate(order)}
    for swap in sorted(swaps, key=lambda swap: (swap.action != "remove", place.get(swap.name, -1))):
        swap.deadline = time.monotonic() + timeout
        outcomes.append(swap.run())
        if outcomes[-1]["error"]:
            break
    return outcomes


def change(module: AnsibleModule) -> None:
    """Check the configurations, change the services, and tell Ansible."""
    decisions, staging_dir = module.params["services"], module.params["staging_dir"]
    engine = Engine(timeout=120)
    staged = [s for s in module.params["plan"] if s["name"] in decisions and s["state"] == "present"]
    staging.unpack(module.params["archive"], staging_dir, staged)
    refused = staging.refusals(engine, staged, staging_dir, module.params["check_timeout"])
    checked = [service["name"] for service in staged if service["check"]]
    if refused:
        shutil.rmtree(staging_dir, ignore_errors=True)
        words = "\n".join(f"{name} refuses its new configuration:\n{text}" for name, text in refused.items())
        module.fail_json(msg=f"No service was touched.\n{words}", outcomes=[], checked=checked)
    deadline = time.monotonic() + module.params["timeout"]
    proof_seconds = module.params["proof_timeout"] if module.params["rolling"] else 0
    swaps = [
        Swap(engine, service, decisions[service["name"]], staging_dir, deadline, proof_seconds)
        for service in module.params["plan"]
        if service["name"] in decisions
    ]
    try:
        for swap in swaps:
            swap.prepare()
    except OSError as error:
        module.fail_json(msg=f"No service was touched: {error}", outcomes=[], checked=checked)
    if module.params["rolling"]:
        outcomes = one_by_one(swaps, module.params["order"], module.params["timeout"])
    else:
        outcomes = side_by_side(swaps)
    shutil.rmtree(staging_dir, ignore_errors=True)
    failed = [outcome for outcome in outcomes if outcome["error"]]
    if failed:
        done = {outcome["name"] for outcome in outcomes}
        left = [f"{swap.name}: left as it is" for swap in swaps if swap.name not in done]
        module.fail_json(
            msg="\n".join([*map(sentence, failed), *left]),
            outcomes=outcomes,
            checked=checked,
            changed=len(failed) < len(outcomes),
        )
    # "wait" only waited: a service that was still starting is no change.
    changed = any(outcome["action"] != "wait" or outcome["seconds_away"] for outcome in outcomes)
    module.exit_json(changed=changed, outcomes=outcomes, checked=checked, msg="\n".join(map(sentence, outcomes)))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "dict", "required": True},
            "staging_dir": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 120},
            "rolling": {"type": "bool", "default": False},
            "order": {"type": "list", "elements": "str", "default": []},
            "proof_timeout": {"type": "int", "default": 60},
            "check_timeout": {"type": "int", "default": 60},
            "preview": {"type": "list", "elements": "dict", "default": []},
            "plan": {"type": "list", "elements": "dict", "default": []},
            "archive": {"type": "path"},
        },
    )
    directory = os.path.dirname(module.params["staging_dir"])
    tree.make_directory(directory, 0, 0, 0o755)
    try:
        # Not waited for: what was compared would not be true any more.
        with host_lock.held(directory, seconds=0) as lock:
            try:
                change(module)
            finally:
                # A refusal leaves nothing; whoever waits for the lock finds that it is gone and makes another.
                os.unlink(lock)
    except host_lock.LockError as error:
        module.fail_json(msg=f"No service was touched: {error}", outcomes=[], checked=[])


if __name__ == "__main__":
    main()
