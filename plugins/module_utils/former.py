# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a service was before a change, on disk until the change is proved: files, data, and which version wrote them.

It lies beside the data (C(.former-<service>), root's alone: there may be secrets in it), not in the staging directory,
which every run empties first: a run that was killed leaves it to the next one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import threading
import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import probe, tree

# What SQLite keeps beside a database. One that lies there is replayed into whatever database it finds.
_BESIDE = ("", "-journal", "-wal", "-shm")
_JOURNAL = "journal.json"
_VERSIONS = "versions.json"
_versions_lock = threading.Lock()


class Former:
    """The former state of one service. What is not in its journal was not kept whole, and is never put back.

    :param service: the description.
    """

    def __init__(self, service: dict[str, t.Any]) -> None:
        self.service = service
        self.root = os.path.dirname(service["data_dir"])
        self.path = os.path.join(self.root, f".former-{service['name']}")
        self.journal: dict[str, t.Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError), open(os.path.join(self.path, _JOURNAL)) as reader:
            self.journal = json.load(reader)

    def keep_files(self, files: tree.Change, found: dict[str, os.stat_result], ran: bool) -> None:
        """Keep the files that are about to change. Data that an earlier run kept stay as they are.

        :param found: owners and modes by whole path: a container can only use what is its own user's.
        :param ran: whether the former container was running.
        """
        self._make()
        for path in files["changed"] + files["removed"]:
            os.makedirs(os.path.dirname(self._file(path)), mode=0o700, exist_ok=True)
            _copy(os.path.join(self.service["config_dir"], path), self._file(path))
        kept = files["changed"] + files["removed"]
        self._note(added=files["added"], kept=kept, owners=owners(found), ran=ran)

    def put_files_back(self) -> None:
        """Give the configuration its former files, owners and modes."""
        root, group = self.service["config_dir"], int(self.service["user"].split(":")[1])
        for path in self.journal.get("added", []):
            if os.path.lexists(os.path.join(root, path)):
                tree.remove(root, path)
        for path in self.journal.get("kept", []):
            kept = self._file(path)
            if os.path.islink(kept):
                if not os.path.lexists(os.path.join(root, path)):
                    os.symlink(os.readlink(kept), os.path.join(root, path))
            else:
                mode = self.service["files"].get(path, {}).get("mode", 0o640)
                tree.write(root, path, kept, mode, group)
        give(self.journal.get("owners", {}))

    def lacks_room(self) -> str:
        """Return why the data cannot be kept, or an empty text."""
        if "data" in self.journal:
            return ""
        need = sum(os.path.getsize(path) for path in map(self._live, self._names()) if os.path.isfile(path))
        free = probe.free_bytes(self.root)
        if need < free:
            return ""
        return f"{self.root} has {free} bytes free, and to keep the data that the new version converts takes {need}"

    def keep_data(self) -> None:
        """Copy what a newer program converts when it starts. The former program has ended; the next one starts now."""
        if "data" not in self.journal:
            self._make()
            there = [name for name in self._names() if os.path.isfile(self._live(name))]
            for name in there:
                _copy(self._live(name), self._data(name))
            self._note(data=there, directory=self._directory())
        self._note(started=True)

    def put_data_back(self) -> None:
        """Give the service its former data, if it was kept whole and a newer program may have touched it."""
        # A directory that came since, from a backup, has nothing to do with these.
        if not self.journal.get("started") or self.journal["directory"] != self._directory():
            return
        kept = self.journal["data"]
        # First what must not meet a former database.
        for name in self._names():
            if name not in kept and os.path.isfile(self._live(name)):
                os.unlink(self._live(name))
        for name in kept:
            # Moved, so that a full disk is no hindrance; one that is not there was put back before the run was killed.
            if os.path.isfile(self._data(name)):
                _move(self._data(name), self._live(name))

    def note_proved(self) -> None:
        """Write down that the new state was proved: from here on the former one is not wanted any more."""
        self._note(proved=True)

    def forget(self) -> None:
        """Remove all of it."""
        self.journal = {}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, _JOURNAL))
        shutil.rmtree(self.path, ignore_errors=True)

    def _names(self) -> list[str]:
        return [name + ending for name in self.service["converted"] for ending in _BESIDE]

    def _directory(self) -> list[int]:
        """Return what tells the data directory from another one of its name."""
        try:
            status = os.stat(self.service["data_dir"])
        except FileNotFoundError:
            return []
        return [status.st_dev, status.st_ino]

    def _live(self, name: str) -> str:
        return os.path.join(self.service["data_dir"], name)

    def _data(self, name: str) -> str:
        return os.path.join(self.path, "data", name.replace("/", "%"))

    def _file(self, path: str) -> str:
        return os.path.join(self.path, "files", path)

    def _make(self) -> None:
        tree.make_directory(self.root, 0, 0, 0o755)
        for directory in (self.path, os.path.join(self.path, "files"), os.path.join(self.path, "data")):
            tree.make_directory(directory, 0, 0, 0o700)

    def _note(self, **words: t.Any) -> None:
        self.journal = {**self.journal, **words}
        write_json(os.path.join(self.path, _JOURNAL), self.journal)


def owners(found: dict[str, os.stat_result]) -> dict[str, list[int]]:
    """Return the user, group and mode of each path."""
    return {path: [status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)] for path, status in found.items()}


def give(wanted: dict[str, list[int]]) -> None:
    """Give paths that are there their user, group and mode."""
    for path, (user, group, mode) in wanted.items():
        if os.path.exists(path) and not os.path.islink(path):
            os.chown(path, user, group)
            os.chmod(path, mode)


def note_version(service: dict[str, t.Any], image: str) -> None:
    """Write down which version has a service's data now, for the day when its container is gone."""
    if not (service["forward_only"] and service["data_target"]):
        return
    path = os.path.join(os.path.dirname(service["data_dir"]), _VERSIONS)
    with _versions_lock:
        known = _read(path)
        if known.get(service["name"]) != image:
            write_json(path, {**known, service["name"]: image})


def noted_version(service: dict[str, t.Any]) -> str:
    """Return the image that had a service's data last; an empty text where nobody knows, or where there are none."""
    try:
        if not os.listdir(service["data_dir"]):
            return ""
    except FileNotFoundError:
        return ""
    return _read(os.path.join(os.path.dirname(service["data_dir"]), _VERSIONS)).get(service["name"], "")


def write_json(path: str, value: t.Any) -> None:
    """Write a file of root's alone, whole or not at all."""
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as writer:
        json.dump(value, writer, indent=1, sort_keys=True)
        writer.flush()
        os.fsync(writer.fileno())
    os.rename(path + ".new", path)


def _read(path: str) -> dict[str, str]:
    try:
        with open(path) as reader:
            return t.cast("dict[str, str]", json.load(reader))
    except (FileNotFoundError, ValueError):
        return {}


def _copy(source: str, target: str) -> None:
    """Copy a file with its owner, mode and time; under its name it is there whole or not at all."""
    part = target + ".part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    shutil.copy2(source, part, follow_symlinks=False)
    if not os.path.islink(source):
        status = os.stat(source)
        os.chown(part, status.st_uid, status.st_gid)
        os.chmod(part, stat.S_IMODE(status.st_mode))
        with open(part, "rb") as reader:
            os.fsync(reader.fileno())
    os.rename(part, target)


def _move(source: str, target: str) -> None:
    """Put a file in another's place, also where that is on a file system of its own."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        os.unlink(source)
