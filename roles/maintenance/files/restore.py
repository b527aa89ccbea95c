# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give services of this host the data of a backup, of this host or of another.

Usage: restore.py SETTINGS --archive FILE|newest [--services NAME,NAME] [--identity FILE] [--check]
Prints one JSON object; the exit code is 0 when all services are ready with the archive's data.

The archive is unpacked and hashed as a whole before any service is touched. The former data are set aside, and put
back when a service does not get ready; a run that was killed is undone by the next one. The configuration is not
restored: it comes from site.yml. Only Prometheus' own files of the user (rules.d and the like) are, where they are
missing.
"""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True

import argparse
import contextlib
import json
import os
import re
import shutil
import time
import typing as t

import archive
import backup
import host_lock
from engine import Engine, EngineError

_READY_SECONDS = 180.0
_STAGING, _FORMER, _DONE = ".restore", ".restore-former", ".restore-done"
# What services collected between a run that was killed and its undoing: the last of each, until the clean-up takes it.
_ASIDE = ".restore-aside"
# In the directory of former data: which services are being exchanged, and which files were added.
_JOURNAL = ".journal.json"


class RestoreError(Exception):
    """Nothing was restored, or what was begun was undone; the text says which."""


class Restore:
    """One run.

    :param names: the services that are asked for; none for all that the archive has.
    """

    def __init__(self, settings: backup.Settings, engine: Engine, names: list[str]) -> None:
        self.settings, self.engine, self.names = settings, engine, names
        root = settings["data_dir"]
        self.staging, self.former, self.done, self.aside = (
            os.path.join(root, name) for name in (_STAGING, _FORMER, _DONE, _ASIDE)
        )
        self.services = settings["services"]
        # What became of each service, for a person.
        self.summary: list[str] = []

    def run(self, path: str, identity: str, check: bool) -> dict[str, t.Any]:
        """Restore an archive, or with C(check) only tell what would be done."""
        for leftover in (self.staging, self.done):
            shutil.rmtree(leftover, ignore_errors=True)
        os.mkdir(self.staging, 0o700)
        try:
            header = archive.unpack(path, self.staging, identity, lambda header: self._accept(header, path))
            told = {"host": header["host"], "made": header["made"], "images": header["images"]}
            plan = {name: header["bytes"][name] for name in self.names}
            if check:
                self._tell(
                    {name: f"would get the data of {header['host']}, {size} bytes" for name, size in plan.items()}
                )
                return {**told, "would_restore": plan}
            away = self._swap()
            self._tell(
                {
                    name: f"has the data of {header['host']}, {size} bytes, away for {away[name]} s"
                    for name, size in plan.items()
                }
            )
            return {**told, "restored": plan, "seconds_away": away}
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)

    def _tell(self, lines: dict[str, str]) -> None:
        self.summary += [f"{self.settings['host']} {name}: {line}" for name, line in lines.items()]

    def _accept(self, header: dict[str, t.Any], path: str) -> None:
        """Refuse what this host cannot take, before more than the header is unpacked."""
        there = sorted(header["bytes"])
        self.names = self.names or [name for name in there if name in self.services]
        problems = [f"the archive has no {name}; it has {', '.join(there)}" for name in self.names if name not in there]
        problems += [f"{name} is not a service of this host" for name in self.names if name not in self.services]
        if not self.names:
            problems.append("this host has none of the archive's services: run site.yml first")
        for name in self.names if not problems else []:
            actual = self.engine.container(name)
            if actual is None:
                problems.append(f"{name} is not on this host: run site.yml first")
                continue
            if self.engine.container(f"{name}_previous"):
                problems.append(f"a change of {name} was cut off: run site.yml first, which ends it or takes it back")
            theirs, ours = version(header["images"][name]), version(actual["Config"]["Image"])
            if theirs > ours > ():
                problems.append(
                    f"the data of {name} are of the version {dotted(theirs)}, and {dotted(ours)} runs here, which may "
                    "not be able to read them: upgrade it first"
                )
        free, need = shutil.disk_usage(self.staging).free, sum(header["bytes"].values()) + self.settings["min_free"]
        if free < need:
            problems.append(
                f"{self.settings['data_dir']} has {free / (1 << 30):.1f} GiB free and {need / (1 << 30):.1f} GiB are "
                "needed, since the former data are kept until the restored ones are proved"
            )
        if problems:
            raise RestoreError(f"Nothing was touched. {path}: {'; '.join(problems)}")

    def _swap(self) -> dict[str, float]:
        """Exchange the data of all services; when one does not get ready, put all of them back."""
        os.mkdir(self.former, 0o700)
        away: dict[str, float] = {}
        since: dict[str, float] = {}
        name, added = "", t.cast("list[str]", [])
        self._note(added)
        try:
            for name in self.names:
                since[name] = time.monotonic()
                self._exchange(name)
                self._add_own_files(name, added)
                self.engine.start(name)
                self._prove(name)
                away[name] = round(time.monotonic() - since[name], 2)
        except BaseException as error:  # whatever it was, also a request to end: the former data have to come back
            log = self.engine.logs(name, 10)
            said = "; ".join(self.recover(keep=False)) or "nothing had to be put back"
            gone = {one: round(time.monotonic() - moment, 2) for one, moment in since.items()}
            self._tell({one: f"was not restored, away for {gone[one]} s at most" for one in gone})
            raise RestoreError(f"{name} could not be restored: {error}. {said}. Its last log lines: {log}") from error
        os.rename(self.former, self.done)
        shutil.rmtree(self.done, ignore_errors=True)
        return away

    def _note(self, added: list[str]) -> None:
        """Write down, before it is done, what a run that is killed leaves to be undone."""
        path = os.path.join(self.former, _JOURNAL)
        with open(path + ".new", "w") as writer:
            json.dump({"services": self.names, "added": added}, writer)
            writer.flush()
            os.fsync(writer.fileno())
        os.rename(path + ".new", path)

    def _exchange(self, name: str) -> None:
        """Stop a service, set its data aside and put the archive's in their place."""
        actual = self.engine.container(name)
        assert actual is not None
        user, group = owner(actual)
        place, new = self.services[name]["data_dir"], os.path.join(self.staging, "data", name)
        if not os.path.isdir(place):
            raise RestoreError(f"{place} is missing: run site.yml first")
        os.makedirs(new, exist_ok=True)
        for directory, names, files in os.walk(new):
            for path in [directory, *(os.path.join(directory, entry) for entry in [*names, *files])]:
                os.chown(path, user, group)
            os.chmod(directory, 0o750)
        self.engine.stop(name, actual["Config"].get("StopTimeout") or 60)
        os.rename(place, os.path.join(self.former, name))
        os.rename(new, place)

    def _add_own_files(self, name: str, added: list[str]) -> None:
        """Add the user's own files that are missing; of those that are there, theirs is the newer."""
        service = self.services[name]
        actual = self.engine.container(name)
        group = owner(actual)[1] if actual else 0

        def add(path: str, mode: int, make: t.Callable[[], t.Any]) -> None:
            if not os.path.lexists(path):
                added.append(path)
                self._note(added)
                make()
                os.chown(path, 0, group)
                os.chmod(path, mode)

        for folder in service["own_files"]:
            source = os.path.join(self.staging, "config", name, folder)
            for directory, _names, files in os.walk(source):
                target = os.path.normpath(
                    os.path.join(service["config_dir"], folder, os.path.relpath(directory, source))
                )
                add(target, 0o750, lambda target=target: os.mkdir(target))  # type: ignore[misc]
                for entry in sorted(files):
                    place, content = os.path.join(target, entry), os.path.join(directory, entry)
                    add(place, 0o640, lambda content=content, place=place: shutil.copyfile(content, place))  # type: ignore[misc]

    def _prove(self, name: str) -> None:
        service, deadline, problem = self.services[name], time.monotonic() + _READY_SECONDS, ""
        while time.monotonic() < deadline:
            actual = self.engine.container(name)
            if actual is None or actual["State"]["Status"] in ("exited", "dead") or actual["RestartCount"] >= 3:
                raise RestoreError("it ends by itself with these data")
            try:
                backup.ask(service, service["ready"], timeout=5)
                return
            except backup.BackupError as error:
                problem = str(error)
            time.sleep(0.2)
        raise RestoreError(f"it does not get ready: {problem}")

    def recover(self, keep: bool = True) -> list[str]:
        """Put back whatever former data there are: of this run, or of one that was killed.

        :param keep: whether what is in their place is set aside: after a run that was killed, services may have gone on
          with it. It is not when the archive's data were refused a moment ago.
        """
        if not os.path.isdir(self.former):
            return []
        notes, journal = [], os.path.join(self.former, _JOURNAL)
        begun: dict[str, list[str]] = {"services": [], "added": []}
        if os.path.exists(journal):
            with open(journal) as reader:
                begun.update(json.load(reader))
        for path in reversed(begun["added"]):
            with contextlib.suppress(OSError):
                # A directory that got something of somebody else's meanwhile stays.
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        kept = [name for name in sorted(os.listdir(self.former)) if not name.startswith(".journal")]
        set_aside = []
        for name in kept:
            if name not in self.services:
                raise RestoreError(
                    f"{os.path.join(self.former, name)} is what a restore that was killed set aside, and {name} is not "
                    "a service of this host any more: put it where it belongs, or remove it"
                )
            place = self.services[name]["data_dir"]
            with contextlib.suppress(EngineError):
                self.engine.stop(name, 60)
            if keep and os.path.isdir(place) and os.listdir(place):
                self._set_aside(name, place)
                set_aside.append(name)
            shutil.rmtree(place, ignore_errors=True)
            os.rename(os.path.join(self.former, name), place)
        # Those too that were stopped before their data were moved.
        begun["services"] = [name for name in sorted({*kept, *begun["services"]}) if name in self.services]
        for name in begun["services"]:
            with contextlib.suppress(EngineError):
                self.engine.start(name)
        for name in begun["services"]:
            said = [f"{name} has its former data again"] if name in kept else []
            said += [f"(what was in their place is in {os.path.join(self.aside, name)})"] if name in set_aside else []
            try:
                self._prove(name)
            except RestoreError as error:
                said = [*(said or [name]), f"and is not ready: {error}"]
            notes += [" ".join(said)] if said else []
        shutil.rmtree(self.former)
        return notes

    def _set_aside(self, name: str, place: str) -> None:
        os.makedirs(self.aside, mode=0o700, exist_ok=True)
        target = os.path.join(self.aside, name)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(place, target)


def owner(actual: dict[str, t.Any]) -> tuple[int, int]:
    """Return the user and group numbers that a container runs as."""
    user, _, group = str(actual["Config"].get("User") or "0:0").partition(":")
    return int(user), int(group or user)


def version(image: str) -> tuple[int, ...]:
    """Return the numbers of an image's tag; none where it says none.

    >>> version("mirror:5000/prom/prometheus:v3.13.2")
    (3, 13, 2)
    """
    tag = image.rpartition("/")[2].partition(":")[2]
    match = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def dotted(numbers: tuple[int, ...]) -> str:
    """Return a version as it is written."""
    return ".".join(map(str, numbers))


def main(words: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("settings")
    parser.add_argument("--archive", required=True)
    parser.add_argument("--services", default="")
    parser.add_argument("--identity", default="")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(words)
    with open(given.settings) as reader:
        settings = t.cast("backup.Settings", json.load(reader)["backup"])
    names = [name for name in given.services.split(",") if name]
    backup.end_in_order()
    os.umask(0o077)
    notes: list[str] = []
    restore = Restore(settings, Engine(), names)

    def say(**more: t.Any) -> None:
        lines = [f"{settings['host']}: {note}" for note in notes]
        print(json.dumps({**more, "notes": notes, "summary": [*lines, *restore.summary]}))

    try:
        with backup.locked(settings, "a restore"), backup.alone(settings, "a restore", given.check, notes):
            # Whatever becomes of this run: what an earlier one left half done is put right.
            if not given.check:
                notes += restore.recover()
            elif os.path.isdir(restore.former):
                notes.append("a restore was cut off: the former data would be put back first")
            path = backup.newest(settings) if given.archive == "newest" else os.path.abspath(given.archive)
            told = restore.run(path, given.identity, given.check)
    except (archive.ArchiveError, host_lock.LockError) as error:
        say(error=f"Nothing was touched. {error}")
        return 1
    except (RestoreError, backup.BackupError, EngineError, OSError, ValueError) as error:
        say(error=str(error))
        return 1
    except KeyError as error:
        say(error=f"not in the archive: {error}")
        return 1
    say(**told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
