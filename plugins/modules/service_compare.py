#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compare a host with the services that were described for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_compare
short_description: Compare a host with the services that were described for it
description:
  - Compares all services of a host in one round trip with what is really there, which is the files, their owners and
    modes, the containers, their images and whether the programs answer. Changes nothing.
  - Refuses what could not work before anything is changed, which is a system that is not supported, a port that
    another program holds, a disk without room, a mount of what is not there or data that a restore which was cut off
    has set aside. Without root it looks at nothing.
  - Reports C(changed) only in check mode, where it stands for the change that a real run would make.
author: ["nekocheik (@nekocheik)"]
options:
  plan:
    description:
      - The described services. The action plugin fills it in from the run's plan; an empty list given by hand only asks
        whether there is an engine.
    type: list
    elements: dict
    default: []
  min_free_disk:
    description:
      - Bytes that must be free below I(directories) and the engine's own before anything is changed. The action plugin
        also takes sizes like C(2g).
    type: int
    default: 0
  directories:
    description: Directories that the services write to.
    type: list
    elements: path
    default: []
  systems:
    description: Supported systems, each C(id) of C(/etc/os-release) with its lowest version.
    type: dict
    default: {}
  texts:
    description: Whether to return the present text of files that differ, for a diff. Never those of secrets.
    type: bool
    default: false
  allow_downgrade:
    description: Whether a service may get an older version than the one that wrote its data.
    type: bool
    default: true
  engine_unit:
    description: Name of the engine's systemd unit, by which one that does not answer is found to be installed.
    type: str
    default: docker
  engine_timeout:
    description: Seconds to wait for an engine that does not answer at once.
    type: float
    default: 0
attributes:
  check_mode:
    description: Can run in check mode and tells what would change.
    support: full
  diff_mode:
    description: Shows the files, fields and services that differ, without secrets.
    support: full
"""

EXAMPLES = r"""
- name: Compare the host with its plan
  nekocheik.deployment_monitoring.service_compare:
    min_free_disk: 2147483648
    directories: [/var/lib/deployment-monitoring]
  register: service_comparison
"""

RETURN = r"""
engine:
  description: Whether a container engine answers on the host.
  type: bool
  returned: always
engine_installed:
  description: The program or unit of an engine that is installed and does not answer; empty where there is none.
  type: str
  returned: always
services:
  description: For each service that differs, the action that mends it, the reasons, and the files concerned.
  type: dict
  returned: always
differs:
  description: Whether anything differs.
  type: bool
  returned: always
missing_images:
  description: The images that services need and that the host does not have.
  type: list
  elements: str
  returned: always
"""

import fnmatch
import os
import pwd
import re
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import (
    container,
    former,
    masking,
    probe,
    tree,
    units,
)
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import (
    Engine,
    EngineError,
    installed,
)

NONE, FILES, RELOAD, WAIT = "none", "files", "reload", "wait"
RESTART, START, RECREATE, CREATE, REMOVE = "restart", "start", "recreate", "create", "remove"
UNITS = "units"
# Where roles/maintenance/files/restore.py has the former data until the new ones are proved.
RESTORE = ".restore-former"


def compare_service(engine: Engine | None, service: dict[str, t.Any]) -> dict[str, t.Any]:
    """Decide what has to happen to one service.

    :param engine: C(None) where the host has no engine yet: then nothing can be running.
    :returns: C(action), C(reasons) (sentences), C(files) (see C(tree.compare)) and C(image) (whether it is there).
    """
    if service["units"]:
        return compare_units(service)
    actual = engine.container(service["name"]) if engine else None
    if service["state"] == "absent":
        former = engine.container(container.leftover(service["name"])) if engine else None
        there = actual or former or tree.ours(service["config_dir"], service["keep"])
        return _decision(REMOVE if there else NONE, ["it is not wanted here"] if there else [])
    user, group = (int(number) for number in service["user"].split(":"))
    files = tree.compare(service["config_dir"], service["files"], (user, group), service["keep"])
    image = engine.image(service["image"]) if engine else None
    reasons = [f"{path}: {how}" for how, paths in files.items() for path in paths]  # type: ignore[attr-defined]
    if service["data_target"] and not tree.right_directory(service["data_dir"], user, group):
        reasons.append(f"{service['data_dir']}: missing, or not {service['user']}'s own")
    reasons += [f"{path}: missing" for path in service["directories"] if not os.path.isdir(path)]

    previous = engine.container(container.leftover(service["name"])) if engine else None
    # Of a change that was cut off the former one is what there is a way back to, if its data were kept.
    wrote = previous if previous and (service["converted"] or actual is None) else actual

    def decide(action: str, *more: str) -> dict[str, t.Any]:
        images = {"former_image": wrote["Config"]["Image"] if wrote else "", "wanted_image": service["image"]}
        return {**_decision(action, [*more, *reasons], files, image is not None), **images}

    if previous:
        return decide(RECREATE, "an earlier change was cut off")
    if actual is None:
        return decide(CREATE, "there is no such container")
    fields = container.differences(service, actual, image)
    if fields:
        return decide(RECREATE, *(masking.mask(f"{field}: {there} → {wanted}") for field, there, wanted in fields))
    state = actual["State"]
    if state.get("Paused") or state.get("Restarting"):
        return decide(RECREATE, f"the container is {state['Status']}")
    if not state["Running"]:
        return decide(START, f"the container is {state['Status']}")
    unseen = [source for source, target in _own_mounts(service) if not _sees(state["Pid"], source, target)]
    if unseen:
        return decide(RESTART, *(f"{source}: not the directory that the container sees" for source in unseen))
    if os.path.exists(tree.unfinished(service["config_dir"])):
        return decide(RELOAD if service["reload"] else RESTART, "an earlier change was cut off")
    touched = files["added"] + files["changed"] + files["removed"]
    if touched and not all(_matches(path, service["watched"]) for path in touched):
        return decide(RELOAD if service["reload"] else RESTART)
    if reasons:
        return decide(FILES)
    problem = probe.ready(service["ready"]) if service["ready"] else ""
    return decide(WAIT, problem) if problem else decide(NONE)


def compare_units(service: dict[str, t.Any]) -> dict[str, t.Any]:
    """Decide what has to happen to units of the host, which have files and systemd, and no container."""
    left = [path for path in service["unwanted"] if os.path.lexists(path)]
    if service["state"] == "absent":
        there = tree.ours(service["config_dir"], service["keep"]) or units.linked(service["units"]) or left
        return _decision(REMOVE if there else NONE, ["it is not wanted here"] if there else [])
    files = tree.compare(service["config_dir"], service["files"], (0, 0), service["keep"])
    reasons = [f"{path}: {how}" for how, paths in files.items() for path in paths]  # type: ignore[attr-defined]
    reasons += [f"{path}: missing" for path in service["directories"] if not os.path.isdir(path)]
    reasons += [f"{path}: not wanted" for path in left]
    reasons += [f"{path}: missing" for path in service["initial"] if not os.path.exists(path)]
    reasons += ["an earlier change was cut off"] if os.path.exists(tree.unfinished(service["config_dir"])) else []
    reasons += units.differences(service["units"], os.path.join(service["config_dir"], units.DIRECTORY))
    return _decision(UNITS if reasons else NONE, reasons, files)


def refusals(
    engine: Engine | None, services: list[dict[str, t.Any]], decisions: dict[str, dict[str, t.Any]]
) -> list[str]:
    """Return a sentence for each port that a service is about to take and that another program holds."""
    # A restart may be for a port that only the configuration names; those that it has already are ours.
    starting = [s for s in services if decisions[s["name"]]["action"] in (CREATE, RECREATE, START, RESTART)]
    if not any(service["listen"] for service in starting):
        return []
    ours = {entry["Id"] for entry in engine.containers(container.LABEL)} if engine else set()
    listeners = probe.listeners()
    found = []
    for service in starting:
        for wanted in service["listen"]:
            for listener in listeners:
                if listener.port != wanted["port"] or not probe.overlap(listener.address, wanted["address"]):
                    continue
                program, process, groups = probe.owner(listener.inode)
                if not any(identifier in groups for identifier in ours):
                    found.append(
                        f"{wanted['variable']}: {wanted['port']} is taken on {listener.address} by {program} "
                        f"(process {process}); stop it or choose another port"
                    )
                    break
    return found


def missing_mounts(services: list[dict[str, t.Any]], decisions: dict[str, dict[str, t.Any]]) -> list[str]:
    """Return a sentence for each thing that a service is about to mount and that neither is there nor will be made."""
    made = [path for s in services if s["state"] == "present" for path in s["directories"]]
    made += [path for s in services if s["state"] == "present" for path, _target in _own_mounts(s)]
    found = []
    for service in services:
        if decisions[service["name"]]["action"] not in (CREATE, RECREATE, START, RESTART):
            continue
        for mount in service["mounts"]:
            source = os.path.normpath(mount["source"])
            # With a directory come those that it is in.
            if os.path.exists(source) or any(path == source or path.startswith(source + "/") for path in made):
                continue
            variable = f"{mount['variable']}: " if mount.get("variable") else ""
            found.append(
                f"{variable}{source} is not there on the host, and {service['name']} mounts it; name what is there, or "
                "make it"
            )
    return found


def downgrades(services: list[dict[str, t.Any]], decisions: dict[str, dict[str, t.Any]]) -> list[str]:
    """Return a sentence for each service whose data an older version than the one that wrote them would get."""
    found = []
    for service in services:
        decision, wanted = decisions[service["name"]], service["image"]
        if not service["forward_only"] or decision["action"] not in (CREATE, RECREATE):
            continue
        runs, wrote = decision.get("former_image", ""), former.noted_version(service)
        before, how = (wrote, "wrote its data") if version(wrote) > version(runs) else (runs, "runs")
        if version(before) > version(wanted) > ():
            found.append(
                f"{service['name']}_version: {tag(wanted)} is older than {tag(before)}, which {how}, and may not be "
                "able to read its data; make a backup (playbooks/backup.yml) and set monitoring_allow_downgrade to true"
            )
    return found


def tag(image: str) -> str:
    """Return the tag of an image's reference.

    >>> tag("mirror:5000/prom/prometheus:v3.5.3")
    'v3.5.3'
    """
    return image.rpartition("/")[2].partition(":")[2]


def version(image: str) -> tuple[int, ...]:
    """Return the numbers of an image's tag; none where it says none.

    >>> version("prom/prometheus:v3.5.3"), version("haproxy:3.4.0-alpine"), version("own/loki:mine")
    ((3, 5, 3), (3, 4, 0), ())
    """
    match = re.match(r"v?(\d+(?:\.\d+)*)", tag(image))
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def cut_off(directories: list[str]) -> list[str]:
    """Return a sentence where a restore that is not done holds the data of services: they must not go on without."""
    return [
        f"{directory}: a restore was cut off, or is under way; run playbooks/restore.yml again, it puts the former "
        "data back first"
        for directory in directories
        if os.path.exists(os.path.join(directory, RESTORE))
    ]


def host_refusals(
    systems: dict[str, t.Any], directories: list[str], min_free_disk: int, engine: Engine | None
) -> list[str]:
    """Return a sentence for each thing that makes the host unfit for a change."""
    found = []
    system = probe.operating_system()
    lowest = systems.get(system.get("ID", ""))
    version = system.get("VERSION_ID", "0")
    if systems and (lowest is None or _number(version) < _number(str(lowest))):
        known = ", ".join(f"{name} from {least}" for name, least in systems.items())
        found.append(
            f"{system.get('PRETTY_NAME', 'this system')} is not supported (monitoring_supported_systems: {known})"
        )
    root = engine.info().get("DockerRootDir") if engine else None
    for directory in [*directories, *([root] if root else [])]:
        free = probe.free_bytes(directory)
        if free < min_free_disk:
            found.append(
                f"monitoring_min_free_disk_size: {directory} has {free / (1 << 30):.1f} GiB free and "
                f"{min_free_disk / (1 << 30):.1f} GiB are asked for; make room or lower the variable"
            )
    return found


def _own_mounts(service: dict[str, t.Any]) -> list[tuple[str, str]]:
    pairs = [(service["config_dir"], service["config_target"]), (service["data_dir"], service["data_target"])]
    return [(source, target) for source, target in pairs if target]


def _sees(process: int, source: str, target: str) -> bool:
    """Whether a container has a directory of the host as it is now: one that was replaced keeps its old inode there."""
    inside = f"/proc/{process}/root"
    for part in target.strip("/").split("/"):
        inside += "/" + part
        if os.path.islink(inside):
            return True  # leads out of the container, so nothing can be said
    try:
        seen = os.stat(inside)
    except OSError:
        return True
    return os.path.isdir(source) and os.path.samestat(seen, os.stat(source))


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"the user {os.geteuid()}"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def _decision(action: str, reasons: list[str], files: t.Any = None, image: bool = True) -> dict[str, t.Any]:
    empty = tree.Change(added=[], changed=[], removed=[], permissions=[])
    return {"action": action, "reasons": reasons, "files": files or empty, "image": image}


def _texts(services: list[dict[str, t.Any]], decisions: dict[str, dict[str, t.Any]]) -> dict[str, dict[str, str]]:
    """Return the present text of each file that is about to change, but for secrets and files of no record."""
    found: dict[str, dict[str, str]] = {}
    for service in services:
        files = decisions[service["name"]]["files"]
        for path in files["changed"]:
            if not service["files"][path]["secret"]:
                with open(os.path.join(service["config_dir"], path), errors="replace") as reader:
                    found.setdefault(service["name"], {})[path] = reader.read()
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "list", "elements": "dict", "default": []},
            "min_free_disk": {"type": "int", "default": 0},
            "directories": {"type": "list", "elements": "path", "default": []},
            "systems": {"type": "dict", "default": {}},
            "texts": {"type": "bool", "default": False},
            "allow_downgrade": {"type": "bool", "default": True},
            "engine_unit": {"type": "str", "default": "docker"},
            "engine_timeout": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        # Without it the engine's socket and the configuration look as if they were not there.
        module.fail_json(
            msg=f"Nothing was changed. This needs root on the host, and {_account()} is not: set ansible_become: true "
            "for it in the inventory"
        )
    services = module.params["plan"]
    engine: Engine | None = Engine()
    if not engine.answers_within(module.params["engine_timeout"]):
        engine = None
    stopped = "" if engine else installed(module.params["engine_unit"])
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            found = list(pool.map(lambda service: compare_service(engine, service), services))
        decisions = {service["name"]: decision for service, decision in zip(services, found)}
        differing = {name: d for name, d in decisions.items() if d["action"] != NONE}
        problems = cut_off(module.params["directories"])
        if differing:
            problems += host_refusals(
                module.params["systems"], module.params["directories"], module.params["min_free_disk"], engine
            )
            # Under an engine that is stopped its containers may go on, and hold our own ports; it is started first.
            problems += refusals(engine, services, decisions) if not stopped else []
            # What belongs to the engine comes with it.
            problems += missing_mounts(services, decisions) if engine else []
            if not module.params["allow_downgrade"]:
                problems += downgrades(services, decisions)
    except EngineError as error:
        module.fail_json(msg=f"The engine refused a question: {error}")
    module.exit_json(
        changed=False,
        engine=engine is not None,
        engine_installed=stopped,
        problems=problems,
        services=differing,
        differs=bool(differing),
        texts=_texts(services, differing and decisions) if module.params["texts"] and differing else {},
        missing_images=sorted(
            {s["image"] for s in services if not decisions[s["name"]]["image"] and s["state"] == "present"}
        ),
    )


if __name__ == "__main__":
    main()
