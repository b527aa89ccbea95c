# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove what the collection's earlier runs left on this host, and nothing of anybody else.

Usage: cleanup.py SETTINGS [--check]    prints one JSON object; the exit code is 0 when all of it could be removed.

- Images that the collection brought here (images.json beside the data), that no service of this host is to run, and
  that no container uses; of each the newest former ones stay, for a way back.
- Containers: checkers of configurations that a killed run left, and stopped ones with our label that are no service of
  this host. The former container of a change that was cut off stays: the next run of site.yml needs it.
- Volumes that carry our label and that no container uses.
- Archives of backups beyond what is kept, and directories of killed runs.
"""

from __future__ import annotations

import sys

# Nothing is to be left beside the programs: their directory is compared with what belongs there.
sys.dont_write_bytecode = True

import datetime
import json
import math
import os
import re
import shutil
import time
import typing as t

import backup
from engine import Engine, EngineError, split_reference

LABEL = "nekocheik.deployment_monitoring.service"
# Younger ones may belong to a run that is going on.
_LEFT_SECONDS = 3600
_STAGING = re.compile(r"\.(staging|backup|restore|restore-done|upload-.+)")
_STAGING_SECONDS = 86400
# What a restore that was killed had let come together; see restore.py.
_ASIDE, _ASIDE_SECONDS = ".restore-aside", 7 * 86400


class Item(t.NamedTuple):
    """One thing to remove.

    :param size: the bytes that its removal frees.
    :param remove: does it.
    """

    kind: str
    name: str
    size: int
    remove: t.Callable[[], t.Any]


def former_images(engine: Engine, ledger: dict[str, str], wanted: set[str], keep: int, kept: list[str]) -> list[Item]:
    """Return the images that may go.

    :param ledger: the images that the collection brought here, reference to id.
    :param wanted: the references that the services of this host are to run.
    :param keep: former versions of each image that stay.
    :param kept: references that stay whatever they are.
    """
    used = {entry["ImageID"] for entry in engine.get("/containers/json", {"all": 1})}
    images = {image["Id"]: image for image in engine.get("/system/df", {"type": "image"})["Images"]}
    former: dict[str, list[tuple[float, str, dict[str, t.Any]]]] = {}
    items = []
    for reference, identifier in ledger.items():
        image = images.get(identifier)
        if image is None or identifier in used or reference in wanted or reference in kept:
            continue
        tags = [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
        if reference in tags:
            former.setdefault(split_reference(reference)[0], []).append((_tagged(engine, image), reference, image))
        elif not tags:
            # Its name went to another one that was pulled later.
            items.append(_image(engine, identifier, image, f"{reference} (former)"))
    for versions in former.values():
        for _when, reference, image in sorted(versions, key=lambda version: version[:2], reverse=True)[keep:]:
            items.append(_image(engine, reference, image, reference))
    return items


def _image(engine: Engine, reference: str, image: dict[str, t.Any], name: str) -> Item:
    # A layer that other images have too stays with them, and so does one that has another name.
    others = len(image.get("RepoTags") or []) > 1
    size = 0 if others else image["Size"] - max(0, image.get("SharedSize", 0))
    # Without force the engine refuses one that a container took meanwhile.
    return Item("image", name, size, lambda: engine.call("DELETE", f"/images/{reference}"))


def _tagged(engine: Engine, image: dict[str, t.Any]) -> float:
    """When an image got its name on this host, or was built, where the engine does not know."""
    detail = engine.image(image["Id"]) or {}
    text = (detail.get("Metadata") or {}).get("LastTagTime") or ""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", text)
    if match is None or match.group(1) == "0001":
        return float(image["Created"])
    year, month, day, hour, minute, second = (int(group) for group in match.groups())
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc).timestamp()


def left_containers(engine: Engine, services: set[str], now: float) -> list[Item]:
    """Return the containers that killed runs left."""
    former = {f"{name}_previous" for name in services}
    entries = [(entry, True) for entry in engine.containers(LABEL + ".check")]
    entries += [(entry, False) for entry in engine.containers(LABEL)]
    items = []
    for entry, checker in entries:
        name = entry["Names"][0].lstrip("/")
        stopped = entry["State"] in ("created", "exited", "dead")
        old = now - entry["Created"] > _LEFT_SECONDS
        if old and (checker or (stopped and name not in services and name not in former)):
            detail = engine.get(f"/containers/{entry['Id']}/json", {"size": 1}) or {}
            items.append(
                Item("container", name, detail.get("SizeRw") or 0, lambda i=entry["Id"]: engine.remove(i))  # type: ignore[misc]
            )
    return items


def left_volumes(engine: Engine) -> list[Item]:
    """Return the volumes with our label that no container uses."""
    filters = json.dumps({"dangling": ["true"], "label": [LABEL]})
    return [
        Item(
            "volume",
            volume["Name"],
            backup.size_of(volume["Mountpoint"]),
            lambda name=volume["Name"]: engine.call("DELETE", f"/volumes/{name}"),  # type: ignore[misc]
        )
        for volume in engine.get("/volumes", {"filters": filters}).get("Volumes") or []
    ]


def old_archives(settings: backup.Settings, now: float) -> list[Item]:
    """Return the archives of this host's backups that are too many or too old, by the rule of the backup itself."""
    directory = settings["backup_dir"]
    return [
        Item(
            "archive",
            name,
            os.path.getsize(os.path.join(directory, name)),
            lambda name=name: backup.remove(settings, name),  # type: ignore[misc]
        )
        for name in (backup.superfluous(settings, now) if os.path.isdir(directory) else [])
    ]


def left_directories(data_dir: str, now: float) -> list[Item]:
    """Return the directories of runs that were killed."""
    items = []
    for name in sorted(os.listdir(data_dir)) if os.path.isdir(data_dir) else []:
        path = os.path.join(data_dir, name)
        # .restore-former is the former data, until the next restore has looked at it.
        allowed = _ASIDE_SECONDS if name == _ASIDE else _STAGING_SECONDS if _STAGING.fullmatch(name) else math.inf
        if now - os.lstat(path).st_mtime > allowed:
            items.append(Item("directory", path, backup.size_of(path), lambda p=path: shutil.rmtree(p)))  # type: ignore[misc]
    return items


def _ledger(data_dir: str) -> dict[str, str]:
    path = os.path.join(data_dir, "images.json")
    if not os.path.exists(path):
        return {}
    with open(path) as reader:
        return t.cast("dict[str, str]", json.load(reader))


def run(settings: dict[str, t.Any], services: list[dict[str, t.Any]], check: bool) -> dict[str, t.Any]:
    """Look for what may go, remove it, and return what there is to tell."""
    own, now = settings["cleanup"], time.time()
    engine = Engine(timeout=120)
    wanted = {service["image"] for service in services if service.get("image")}
    items = left_containers(engine, {service["name"] for service in services}, now)
    ledger = _ledger(own["data_dir"])
    items += former_images(engine, ledger, wanted, own["keep_images"], own["kept_images"])
    items += left_volumes(engine)
    if settings.get("backup"):
        items += old_archives(settings["backup"], now)
    items += left_directories(own["data_dir"], now)
    gone, problems = [], []
    for item in items:
        try:
            if not check:
                item.remove()
            gone.append(item)
        except (EngineError, OSError) as error:
            problems.append(f"{item.kind} {item.name}: {error}")
    freed = sum(item.size for item in gone)
    verb = "would go" if check else "gone"
    lines = [f"{own['host']} {item.kind} {item.name}: {verb}, {item.size} bytes" for item in gone]
    lines += [f"{own['host']} {problem}" for problem in problems]
    return {
        "host": own["host"],
        "removed": [{"kind": item.kind, "name": item.name, "bytes": item.size} for item in gone],
        "bytes": freed,
        "problems": problems,
        "summary": [*lines, f"{own['host']}: {len(gone)} {verb}, {freed} bytes"],
        "metrics": {"monitoring_cleanup_removed": len(gone), "monitoring_cleanup_freed_bytes": freed},
    }


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    with open(arguments[0]) as reader:
        settings = json.load(reader)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "services.json")
    try:
        with open(path) as reader:
            services = json.load(reader)
        told = run(settings, services, "--check" in arguments)
    except (EngineError, OSError, ValueError, KeyError) as error:
        # Without knowing its own services it cannot tell what is former.
        print(json.dumps({"error": str(error) if not isinstance(error, KeyError) else f"unexpected: {error!r}"}))
        return 1
    print(json.dumps(told))
    return 1 if told["problems"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
