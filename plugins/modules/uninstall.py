#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove from a host what the collection made there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall
short_description: Remove from a host what the collection made there, and nothing else
description:
  - Removes the units of systemd that are linked from the configuration, the containers that carry the collection's
    label, the images that it brought (where no container uses them), the configuration, and the metrics of timers.
  - Keeps data, archives of backups and the user's own files in the configuration, unless it is told otherwise.
  - In the directories that it is given it removes only what has a name of the collection's own; whatever else is there
    is somebody else's, and is told.
  - Waits for a run that is changing the host just now, at most five minutes.
  - Looks at the host itself and needs no description of the services, so it can be run again after an interruption.
author: ["nekocheik (@nekocheik)"]
options:
  host:
    description: Name of the host in the inventory, as the names of its archives have it.
    type: str
    required: true
  services:
    description: Names of everything that the collection may have described, which is what its directories are called.
    type: list
    elements: str
    required: true
  timers:
    description: Names of the timers' programs, as the names of their metrics' files have them.
    type: list
    elements: str
    default: []
  config_dir:
    description: Directory with the configuration trees.
    type: path
    required: true
  data_dir:
    description: Directory with the data directories.
    type: path
    required: true
  backup_dir:
    description: Directory with archives of backups.
    type: path
    required: true
  textfile_dir:
    description: Directory with the metrics of timers.
    type: path
    required: true
  files:
    description: Further files that the collection writes.
    type: list
    elements: path
    default: []
  own:
    description: Patterns of paths below I(config_dir) that are the user's own.
    type: list
    elements: str
    default: []
  data:
    description: Whether the data go, too, and the user's own files in the configuration.
    type: bool
    default: false
  archives:
    description: Whether the archives of backups go, too.
    type: bool
    default: false
  images:
    description: Whether the images go that the collection brought.
    type: bool
    default: true
attributes:
  check_mode:
    description: Tells what would go and what would stay.
    support: full
  diff_mode:
    description: Has no diff; C(removed) and C(kept) tell the same.
    support: none
"""

EXAMPLES = r"""
- name: Remove everything but the data
  nekocheik.deployment_monitoring.uninstall:
    host: deploy-1
    services: [prometheus, grafana, node_exporter, docker_proxy, maintenance]
    config_dir: /etc/deployment-monitoring
    data_dir: /var/lib/deployment-monitoring
    backup_dir: /var/backups/deployment-monitoring
    textfile_dir: /var/lib/deployment-monitoring/textfile
"""

RETURN = r"""
removed:
  description: What went, a line for each thing.
  type: list
  elements: str
  returned: always
kept:
  description: What stays, a line for each thing.
  type: list
  elements: str
  returned: always
"""

import contextlib
import fnmatch
import json
import os
import re
import shutil
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock, tree, units
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.container import LABEL
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError

_STAMPS = "/var/lib/systemd/timers"
_LEDGER, _ENGINE = "images.json", "engine.json"
# Beside the services' directories: work that was not done, what the mechanism knows of them, and former data of theirs,
# which may be the only ones.
_WORK = re.compile(r"\.(staging|backup|restore|restore-done|upload-.+)|(images|engine|versions)\.json\.new")
_RECORDS = ("versions.json",)
_FORMER = re.compile(r"\.(former-.+|restore-former|restore-aside)")
# A socket is no data.
_NO_DATA = ("docker_proxy",)


class Uninstall:
    """The removal of one host's part.

    :param engine: C(None) where no engine answers: then there are neither containers nor images.
    :param check: whether it only tells what would go.
    """

    def __init__(self, engine: Engine | None, params: dict[str, t.Any], check: bool) -> None:
        self.engine = engine
        self.params = params
        self.check = check
        self.notes: list[str] = []
        self.removed: list[str] = []
        self.kept: list[str] = []

    def run(self) -> None:
        """Remove it, while nobody else changes anything; what the rest is found by goes last."""
        if self.check:
            self._run()
            return
        # Whatever a timer is doing just now: a backup may take hours.
        for name in self._linked():
            units.end(name)
        with contextlib.ExitStack() as stack:
            backups = f".lock-{self.params['host']}"
            locks = [
                stack.enter_context(host_lock.held(directory, "uninstall", name=name, say=self.notes.append))
                # In the order in which a backup takes them.
                for directory, name in ((self.params["backup_dir"], backups), (self.params["data_dir"], host_lock.NAME))
                if os.path.isdir(directory)
            ]
            self._run()
            for path in locks:
                # With it goes the directory where it was the last thing in it.
                os.unlink(path)
                self._empty(os.path.dirname(path))

    def _run(self) -> None:
        self._units()
        if self.engine:
            self._containers(self.engine)
            self._images(self.engine)
        self._data()
        self._archives()
        for path in self.params["files"]:
            if path and os.path.isfile(path):
                self._file(path)
        self._configuration()

    def _note(self, what: str) -> None:
        self.removed.append(what)

    def _linked(self) -> list[str]:
        """Return the units whose file lies in the configuration."""
        found = []
        for name in sorted(os.listdir(units.SYSTEM)) if os.path.isdir(units.SYSTEM) else []:
            path = os.path.join(units.SYSTEM, name)
            if os.path.islink(path) and _below(os.readlink(path), self.params["config_dir"]):
                found.append(name)
        return found

    def _units(self) -> None:
        """Take out of systemd each unit whose file lies in the configuration."""
        found = self._linked()
        if not found:
            return
        if not self.check:
            units.remove(found)
        for name in found:
            self._note(f"unit {name}")
            stamp = os.path.join(_STAMPS, f"stamp-{name}")
            if not self.check:
                # Whatever it is doing just now.
                units.end(name)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(stamp)

    def _containers(self, engine: Engine) -> None:
        names = [
            entry["Names"][0].lstrip("/") for label in (LABEL, LABEL + ".check") for entry in engine.containers(label)
        ]

        def remove(name: str) -> None:
            actual = engine.container(name)
            if actual and actual["State"]["Running"]:
                # With the time to write what is in memory: the data may stay.
                engine.stop(name, actual["Config"].get("StopTimeout") or 10)
            engine.remove(name)

        if not self.check:
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(remove, names))
        for name in sorted(names):
            self._note(f"container {name}")

    def _images(self, engine: Engine) -> None:
        path = os.path.join(self.params["data_dir"], _LEDGER)
        if not os.path.exists(path):
            return
        with open(path) as reader:
            ledger = json.load(reader)
        gone = {
            entry["ImageID"]
            for entry in engine.get("/containers/json", {"all": 1})
            if not (self.check and (entry.get("Labels") or {}).get(LABEL))
        }
        left = {}
        for reference, identifier in sorted(ledger.items()):
            image = engine.image(reference)
            if image is None or image["Id"] != identifier:
                continue
            if not self.params["images"] or identifier in gone:
                self.kept.append(f"image {reference}" + (": a container uses it" if identifier in gone else ""))
                left[reference] = identifier
                continue
            if not self.check:
                engine.call("DELETE", f"/images/{reference}")
            self._note(f"image {reference}, {image['Size']} bytes")
        if not self.check and not left:
            os.unlink(path)

    def _data(self) -> None:
        root, textfiles = self.params["data_dir"], self.params["textfile_dir"]
        metrics = [f"monitoring_{name}.prom{end}" for name in self.params["timers"] for end in ("", ".new")]
        for name in _names(textfiles):
            path = os.path.join(textfiles, name)
            if name in metrics:
                self._file(path)
            else:
                self._leave(path)
        self._empty(textfiles)
        for name in _names(root):
            path = os.path.join(root, name)
            if name in (_LEDGER, host_lock.NAME) or self._looked_at(path):
                continue
            if name == _ENGINE:
                self.kept.append(f"record {path} of the engine's packages")
            elif name in _NO_DATA or _WORK.fullmatch(name):
                self._tree(path)
            elif name in _RECORDS or _FORMER.fullmatch(name) or name in self.params["services"]:
                if self.params["data"]:
                    self._tree(path)
                else:
                    self.kept.append(f"data {path}, {_size(path)} bytes")
            else:
                self._leave(path)
        self._empty(root)

    def _archives(self) -> None:
        root, host = self.params["backup_dir"], re.escape(self.params["host"])
        ours = re.compile(rf"monitoring-{host}-\d{{8}}T\d{{6}}Z\.tar\.gz(\.age)?(\.sha256)?(?P<part>\.part)?")
        for name in _names(root):
            path, match = os.path.join(root, name), ours.fullmatch(name)
            if name == f".lock-{self.params['host']}":
                continue
            if match and (match["part"] or self.params["archives"]):
                self._file(path)
            elif match:
                self.kept.append(f"archive {path}, {_size(path)} bytes")
            elif not self._looked_at(path):
                # Another host's archives, where they have one disk.
                self._leave(path)
        self._empty(root)

    def _configuration(self) -> None:
        root = self.params["config_dir"]
        trees = [name for name in self.params["services"] if os.path.isdir(os.path.join(root, name))]
        for directory, _directories, files in (entry for name in trees for entry in os.walk(os.path.join(root, name))):
            for name in sorted(files):
                path = os.path.join(directory, name)
                relative = os.path.relpath(path, root)
                if not self.params["data"] and any(fnmatch.fnmatch(relative, own) for own in self.params["own"]):
                    self.kept.append(f"file {path}: yours")
                else:
                    self._file(path)
        marks = [os.path.basename(tree.unfinished(name)) for name in self.params["services"]]
        for name in _names(root):
            path = os.path.join(root, name)
            if name in marks:
                self._file(path)
            elif name not in trees and not self._looked_at(path):
                self._leave(path)
        for name in trees:
            for directory, _directories, _files in sorted(os.walk(os.path.join(root, name)), reverse=True):
                self._empty(directory)
        self._empty(root)

    def _looked_at(self, path: str) -> bool:
        """Whether a directory is, or holds, another one that is gone through by itself."""
        others = (self.params[name] for name in ("textfile_dir", "backup_dir", "config_dir"))
        return any(_below(os.path.realpath(other), os.path.realpath(path), same=True) for other in others)

    def _leave(self, path: str) -> None:
        self.kept.append(f"{path}, which is not ours,")

    def _file(self, path: str) -> None:
        if not self.check:
            os.unlink(path)
        self._note(f"file {path}")

    def _tree(self, path: str) -> None:
        self._note(f"data {path}, {_size(path)} bytes")
        if not self.check:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def _empty(self, directory: str) -> None:
        """Remove a directory that has nothing in it any more."""
        if os.path.isdir(directory) and not os.listdir(directory) and not self.check:
            os.rmdir(directory)
            self._note(f"directory {directory}")


def _names(directory: str) -> list[str]:
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def _below(path: str, root: str, same: bool = False) -> bool:
    path, root = os.path.normpath(path), os.path.normpath(root)
    return path.startswith(root + os.sep) or (same and path == root)


def _size(path: str) -> int:
    total = os.lstat(path).st_size if not os.path.isdir(path) else 0
    for directory, _names, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "timers": {"type": "list", "elements": "str", "default": []},
            "config_dir": {"type": "path", "required": True},
            "data_dir": {"type": "path", "required": True},
            "backup_dir": {"type": "path", "required": True},
            "textfile_dir": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "own": {"type": "list", "elements": "str", "default": []},
            "data": {"type": "bool", "default": False},
            "archives": {"type": "bool", "default": False},
            "images": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    engine: Engine | None = Engine(timeout=120)
    if not engine.answers():
        engine = None
    work = Uninstall(engine, module.params, module.check_mode)
    try:
        work.run()
    except host_lock.LockError as error:
        module.fail_json(msg=f"Nothing was removed: {error}.", removed=[], kept=[])
    except (EngineError, OSError, units.UnitError, ValueError) as error:
        module.fail_json(
            msg=f"Not all was removed: {error}. Run it again when that is mended.",
            changed=bool(work.removed) and not module.check_mode,
            removed=work.removed,
            kept=work.kept,
        )
    for note in work.notes:
        module.warn(note)
    module.exit_json(changed=bool(work.removed), removed=work.removed, kept=work.kept)


if __name__ == "__main__":
    main()
