# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The change of one service as a transaction: the new state is proved, or the former one is put back."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import (
    container,
    probe,
    proof,
    tree,
    units,
)
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError

_RELOAD_SECONDS = 30.0
# The engine has a program's last words a moment after they were said.
_LOG_SECONDS = 0.5
_RESTORE_SECONDS = 60.0
_LOG_LINES = 20


class SwapError(Exception):
    """The new state of a service could not be proved."""


class Outcome(t.TypedDict):
    """What became of one service."""

    name: str
    action: str
    seconds_away: float
    error: str
    restored: str
    log: str


class Swap:
    """One service's change.

    :param service: the description.
    :param decision: what C(service_compare) found.
    :param staging_dir: where C(staging.unpack()) left the new configuration, and where the former one is kept
      until the change is proved.
    :param deadline: monotonic seconds at which all services of the host have to be ready.
    :param proof_seconds: within how long after that it has to do its work again; 0 where ready is enough.
    """

    def __init__(
        self,
        engine: Engine,
        service: dict[str, t.Any],
        decision: dict[str, t.Any],
        staging_dir: str,
        deadline: float,
        proof_seconds: float = 0.0,
    ) -> None:
        self.engine = engine
        self.service = service
        self.name: str = service["name"]
        self.action: str = decision["action"]
        self.files: tree.Change = decision["files"]
        self.group = int(service["user"].split(":")[1])
        self.staged = os.path.join(staging_dir, self.name)
        self.former = os.path.join(staging_dir, ".former", self.name)
        self.deadline = deadline
        self.proof_seconds = proof_seconds
        self.seconds_away = 0.0
        self._left = 0.0
        self._restarts = 0
        # Owners and modes before the change: the former container can only use what is its own user's.
        self._owners: dict[str, os.stat_result] = {}

    def prepare(self) -> None:
        """Make the directories; before any container starts, since others may mount them."""
        for path in (self.service["data_dir"], self.service["config_dir"]):
            if os.path.isdir(path):
                self._owners[path] = os.stat(path)
        for path in self.service["directories"]:
            os.makedirs(path, mode=0o755, exist_ok=True)
        if self.service["data_target"] and self.action != "remove":
            user, group = (int(number) for number in self.service["user"].split(":"))
            tree.make_directory(os.path.dirname(self.service["data_dir"]), 0, 0, 0o755)
            tree.make_directory(self.service["data_dir"], user, group, tree.DIRECTORY_MODE)
        if (self.service["config_target"] or self.service["units"]) and self.action != "remove":
            tree.make_directory(os.path.dirname(self.service["config_dir"]), 0, 0, 0o755)
            tree.make_directory(self.service["config_dir"], 0, self.group, tree.DIRECTORY_MODE)

    def run(self) -> Outcome:
        """Make the change; on failure put the former state back."""
        outcome = Outcome(name=self.name, action=self.action, seconds_away=0.0, error="", restored="", log="")
        unfinished = tree.unfinished(self.service["config_dir"])
        try:
            if self.service["config_target"] and self.action in ("reload", "restart", "start", "create", "recreate"):
                with open(unfinished, "w"):
                    pass
            getattr(self, f"_{self.action}")()
        except Exception as error:  # whatever it was, the former state has to come back
            outcome["error"] = (
                str(error) if isinstance(error, (EngineError, OSError, SwapError, units.UnitError)) else repr(error)
            )
            outcome["log"] = "" if self.service["units"] else self.engine.logs(self.name, _LOG_LINES)
            try:
                outcome["restored"] = self._restore()
            except Exception as trouble:
                outcome["restored"] = f"the former service could not be put back: {trouble}"
            if self._left:
                self.seconds_away = time.monotonic() - self._left
        if not outcome["restored"].startswith("the former service could not"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
        outcome["seconds_away"] = round(self.seconds_away, 2)
        return outcome

    # One method for each action of service_compare.

    def _files(self) -> None:
        self._put_files()

    def _reload(self) -> None:
        reload = self.service["reload"]
        target = {**self.service["ready"], **reload}
        before = probe.sample(target, reload["timestamp_metric"]) or 0.0
        # A program that refused an earlier configuration says so until it has taken this one.
        refused_before = probe.sample(target, reload["metric"]) == 0
        self._put_files()
        self.engine.signal(self.name, reload.get("signal", "HUP"))
        deadline = time.monotonic() + _RELOAD_SECONDS
        while time.monotonic() < deadline:
            # The timestamp moves only with a success, the other metric tells of a failure.
            if (probe.sample(target, reload["timestamp_metric"]) or 0.0) > before:
                return
            if not refused_before and probe.sample(target, reload["metric"]) == 0:
                time.sleep(_LOG_SECONDS)
                raise SwapError(f"the program refuses to reload ({reload['metric']} is 0)")
            time.sleep(0.1)
        raise SwapError(f"no sign of a reload within {_RELOAD_SECONDS:.0f} s ({reload['timestamp_metric']})")

    def _restart(self) -> None:
        self._put_files()
        self._away(lambda: self.engine.restart(self.name, self.service["stop_timeout"]))

    def _start(self) -> None:
        self._put_files()
        self._away(lambda: self.engine.start(self.name))

    def _wait(self) -> None:
        try:
            self._prove()
        except SwapError:
            self.deadline = time.monotonic() + _RESTORE_SECONDS
            self._away(lambda: self.engine.restart(self.name, self.service["stop_timeout"]))

    def _create(self) -> None:
        self._recreate()

    def _recreate(self) -> None:
        container.recover(self.engine, self.name)
        self._put_files()
        former = container.leftover(self.name)
        exists = self.engine.container(self.name) is not None
        if exists:
            self.engine.rename(self.name, former)
        # While the former one still serves: to make a container takes as long as to stop one.
        self.engine.create(self.name, container.body(self.service))

        def change() -> None:
            if exists:
                self.engine.stop(former, self.service["stop_timeout"])
                self._keep_data()
            self.engine.start(self.name)

        self._away(change)
        self.engine.remove(former)

    def _units(self) -> None:
        self._put_files()
        units.put(self.service["units"], os.path.join(self.service["config_dir"], units.DIRECTORY))
        self._remove_unwanted()

    def _remove_unwanted(self) -> None:
        for path in self.service["unwanted"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _remove(self) -> None:
        if self.service["units"]:
            units.remove(self.service["units"])
            tree.clear(self.service["config_dir"], self.service["keep"])
            self._remove_unwanted()
            return
        if self.engine.container(self.name):
            self.engine.stop(self.name, self.service["stop_timeout"])
        self.engine.remove(self.name)
        self.engine.remove(container.leftover(self.name))
        tree.clear(self.service["config_dir"], self.service["keep"])

    # The parts.

    def _away(self, change: t.Callable[[], None]) -> None:
        """Make a change that takes the service away, and measure for how long."""
        self._left, since = time.monotonic(), time.time()
        change()
        self._prove()
        self.seconds_away = time.monotonic() - self._left
        if self.proof_seconds and self.service["proof"]:
            deadline = time.monotonic() + self.proof_seconds
            problem = proof.wait(self.service["ready"], self.service["proof"], since, deadline, self._ended)
            if problem:
                raise SwapError(f"it is ready, but does not do its work within {self.proof_seconds:.0f} s: {problem}")

    def _prove(self, deadline: float | None = None) -> None:
        target = self.service["ready"]
        actual = self.engine.container(self.name)
        # It may have crashed long ago, which says nothing about this change.
        self._restarts = actual["RestartCount"] if actual else 0
        problem = probe.wait_ready(target, deadline or self.deadline, self._ended) or self._ended()
        if problem:
            raise SwapError(problem)

    def _ended(self) -> str:
        """Return why the container cannot become ready any more, or an empty text."""
        actual = self.engine.container(self.name)
        if actual is None:
            return "its container is gone"
        # One restart may be a race for a port that is just being freed; two are a program that cannot live.
        if actual["RestartCount"] - self._restarts >= 2 or actual["State"]["Status"] in ("exited", "dead"):
            return f"the program ends by itself (exit code {actual['State']['ExitCode']})"
        return ""

    def _keep_data(self) -> None:
        """Copy what a newer program converts when it starts, so that the former one can be put back with it."""
        for name in self.service["converted"]:
            source = os.path.join(self.service["data_dir"], name)
            if os.path.isfile(source):
                os.makedirs(self.former, exist_ok=True)
                shutil.copy2(source, self._kept_data(name))

    def _kept_data(self, name: str) -> str:
        return os.path.join(self.former, f".data-{name}")

    def _restore_data(self) -> None:
        user, group = (int(number) for number in self.service["user"].split(":"))
        for name in self.service["converted"]:
            if os.path.isfile(self._kept_data(name)):
                target = os.path.join(self.service["data_dir"], name)
                shutil.copy2(self._kept_data(name), target + ".former")
                os.chown(target + ".former", user, group)
                os.replace(target + ".former", target)

    def _put_files(self) -> None:
        root = self.service["config_dir"]
        for path in self.files["changed"] + self.files["removed"] + self.files["permissions"]:
            full = os.path.normpath(os.path.join(root, path))
            self._owners.setdefault(full, os.lstat(full))
        for path in self.files["changed"] + self.files["removed"]:
            kept = os.path.join(self.former, path)
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            shutil.copy2(os.path.join(root, path), kept, follow_symlinks=False)
        for path in self.files["added"] + self.files["changed"]:
            mode = self.service["files"][path]["mode"]
            tree.write(root, path, os.path.join(self.staged, path), mode, self.group)
        for path in self.files["removed"]:
            tree.remove(root, path)
        for path in self.files["permissions"]:
            mode = self.service["files"].get(path, {}).get("mode", tree.DIRECTORY_MODE)
            tree.correct(root, path, mode, self.group)

    def _restore_files(self) -> None:
        root = self.service["config_dir"]
        for path in self.files["added"]:
            if os.path.exists(os.path.join(root, path)):
                tree.remove(root, path)
        for path in self.files["changed"] + self.files["removed"]:
            kept = os.path.join(self.former, path)
            if os.path.islink(kept):
                if not os.path.lexists(os.path.join(root, path)):
                    os.symlink(os.readlink(kept), os.path.join(root, path))
            elif os.path.exists(kept):
                mode = self.service["files"].get(path, {}).get("mode", 0o640)
                tree.write(root, path, kept, mode, self.group)
        for path, status in self._owners.items():
            if os.path.exists(path) and not os.path.islink(path):
                os.chown(path, status.st_uid, status.st_gid)
                os.chmod(path, stat.S_IMODE(status.st_mode))

    def _restore(self) -> str:
        """Put the former files and container back and tell in a sentence how that went."""
        self._restore_files()
        if self.service["units"]:
            directory = os.path.join(self.service["config_dir"], units.DIRECTORY)
            there = [unit for unit in self.service["units"] if os.path.exists(os.path.join(directory, unit))]
            units.remove([unit for unit in self.service["units"] if unit not in there])
            units.put(there, directory)
            return "the former units are in force again" if there else "there were no former units to put back"
        former = container.leftover(self.name)
        if self.action in ("create", "recreate"):
            if self.engine.container(former) is None:
                if self.action == "create":
                    self.engine.remove(self.name)
                    return "there was no former service to put back"
                return "the former service was not stopped"
            self.engine.remove(self.name)
            self._restore_data()
            self.engine.rename(former, self.name)
            self.engine.start(self.name)
        elif self.action == "reload":
            self.engine.signal(self.name, self.service["reload"].get("signal", "HUP"))
        elif self.action == "restart":
            self.engine.restart(self.name, self.service["stop_timeout"])
        else:
            return "it was not running before either" if self.action == "start" else "nothing had to be put back"
        try:
            self._prove(time.monotonic() + _RESTORE_SECONDS)
        except SwapError as error:
            return f"the former service was put back but is not ready: {error}"
        return "the former service runs again"
