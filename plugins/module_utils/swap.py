# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The change of one service as a transaction: the new state is proved, or the former one is put back."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import (
    container,
    former,
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
    :param staging_dir: where the new configuration was unpacked and checked.
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
        self.kept = former.Former(service)
        self.deadline = deadline
        self.proof_seconds = proof_seconds
        self.seconds_away = 0.0
        self._left = 0.0
        self._restarts = 0
        self._made = self._ran = False
        # Owners and modes before the change: the former container can only use what is its own user's.
        self._owners: dict[str, os.stat_result] = {}

    def prepare(self) -> None:
        """Make the directories; before any container starts, since others may mount them."""
        self._owners.clear()
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
            self._resume(unfinished)
            if self.action != "remove":
                # As they are now: a run that this one waited for, or that was killed, may have changed them since.
                owner = (int(self.service["user"].split(":")[0]), self.group)
                root, keep = self.service["config_dir"], self.service["keep"]
                self.files = tree.compare(root, self.service["files"], owner, keep)
            if self.action == "units" or (
                self.service["config_target"] and self.action in ("reload", "restart", "start", "create", "recreate")
            ):
                with open(unfinished, "w"):
                    pass
            getattr(self, f"_{self.action}")()
        except Exception as error:  # whatever it was, the former state has to come back
            outcome["error"] = (
                str(error) if isinstance(error, (EngineError, OSError, SwapError, units.UnitError)) else repr(error)
            )
            outcome["log"] = "" if self.service["units"] else self.engine.last_words(self.name, _LOG_LINES)
            try:
                outcome["restored"] = self._restore()
            except Exception as trouble:
                outcome["restored"] = f"the former service could not be put back: {trouble}"
            if self._left:
                self.seconds_away = time.monotonic() - self._left
        if not outcome["restored"].startswith("the former service could not"):
            self.kept.forget()
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
        previous = container.leftover(self.name)
        before = self.engine.container(previous)
        if before:
            # Cut off on the way to this very image: what is there may have been in use since, and is built upon.
            self._stop_half_made()
            ran = self.kept.journal.get("ran", True)
        else:
            before = self.engine.container(self.name)
            ran = self._ran or bool(before and before["State"]["Running"])
        problem = self.kept.lacks_room()
        if problem:
            raise SwapError(problem)
        self._put_files(ran)
        if before and self.engine.container(previous) is None:
            self.engine.rename(self.name, previous)
        # While the former one still serves: to make a container takes as long as to stop one.
        self._made = True
        self.engine.create(self.name, container.body(self.service))

        def change() -> None:
            if before:
                self.engine.stop(previous, self.service["stop_timeout"])
            self.kept.keep_data()
            self.engine.start(self.name)

        self._away(change)
        former.note_version(self.service, self.service["image"])
        self.kept.note_proved()
        self.engine.remove(previous)

    def _stop_half_made(self) -> None:
        actual = self.engine.container(self.name)
        if actual and actual["State"]["Running"]:
            self.engine.stop(self.name, self.service["stop_timeout"])
        self.engine.remove(self.name)

    def _units(self) -> None:
        self._put_files()
        units.put(self.service["units"], os.path.join(self.service["config_dir"], units.DIRECTORY))
        self._remove_unwanted()
        for path, text in self.service["initial"].items():
            tree.begin(path, text.replace("@now@", str(int(time.time()))))

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
        actual = self.engine.container(self.name)
        if actual:
            former.note_version(self.service, actual["Config"]["Image"])
            self.engine.stop(self.name, self.service["stop_timeout"])
        self.engine.remove(self.name)
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
            return f"the program ends by itself (exit code {self._exit_code(actual)})"
        return ""

    def _exit_code(self, actual: dict[str, t.Any]) -> int:
        """Return what a program ends with that ends again and again: while it runs once more there is no such code."""
        until = time.monotonic() + _LOG_SECONDS
        while actual["State"]["Status"] == "running" and time.monotonic() < until:
            time.sleep(0.05)
            actual = self.engine.container(self.name) or actual
        return int(actual["State"]["ExitCode"])

    def _resume(self, unfinished: str) -> None:
        """Begin where a run that was killed began: with the former files, data and container.

        But for one case: the very image that it was on its way to is wanted again. Then it goes on with the data as
        they are, which may have been in use since, and comes back here only if that fails.
        """
        previous = container.leftover(self.name)
        cut_off = None if self.service["units"] else self.engine.container(previous)
        if self.kept.journal.get("proved"):
            # Killed while it tidied up.
            if cut_off:
                self.engine.remove(previous)
            self.kept.forget()
            return
        if cut_off is None and not os.path.exists(unfinished):
            # Of a change that is in force, or was never begun.
            self.kept.forget()
            return
        self._ran = bool(self.kept.journal.get("ran"))
        self.kept.put_files_back()
        if cut_off and not self._goes_on():
            self._stop_half_made()
            container.recover(self.engine, self.name, self.kept.put_data_back, self.kept.journal.get("ran", True))
            cut_off = None
        if cut_off is None:
            self.kept.forget()
        if self.action != "remove":
            self.prepare()

    def _goes_on(self) -> bool:
        """Whether what is wanted is the image that a run was killed on its way to."""
        actual, image = self.engine.container(self.name), self.engine.image(self.service["image"])
        return bool(self.action == "recreate" and actual and image and actual["Image"] == image["Id"])

    def _put_files(self, ran: bool = True) -> None:
        root = self.service["config_dir"]
        for path in self.files["changed"] + self.files["removed"] + self.files["permissions"]:
            full = os.path.normpath(os.path.join(root, path))
            self._owners.setdefault(full, os.lstat(full))
        self.kept.keep_files(self.files, self._owners, ran)
        for path in self.files["added"] + self.files["changed"]:
            mode = self.service["files"][path]["mode"]
            tree.write(root, path, os.path.join(self.staged, path), mode, self.group)
        for path in self.files["removed"]:
            tree.remove(root, path)
        for path in self.files["permissions"]:
            mode = self.service["files"].get(path, {}).get("mode", tree.DIRECTORY_MODE)
            tree.correct(root, path, mode, self.group)

    def _restore(self) -> str:
        """Put the former files and container back and tell in a sentence how that went."""
        self.kept.put_files_back()
        former.give(former.owners(self._owners))
        if self.service["units"]:
            directory = os.path.join(self.service["config_dir"], units.DIRECTORY)
            there = [unit for unit in self.service["units"] if os.path.exists(os.path.join(directory, unit))]
            units.remove([unit for unit in self.service["units"] if unit not in there])
            units.put(there, directory)
            return "the former units are in force again" if there else "there were no former units to put back"
        if self.action in ("create", "recreate"):
            back = self._restore_container()
            if back:
                return back
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

    def _restore_container(self) -> str:
        """Put the former container back with its data; return an empty text where it is to be proved."""
        ran = self.kept.journal.get("ran", True)
        if container.recover(self.engine, self.name, self.kept.put_data_back, ran):
            return "" if ran else "the former service is back; it did not run before either"
        if self._made:
            self.engine.remove(self.name)
            self.kept.put_data_back()
        elif self.engine.container(self.name):
            return "the former service was not stopped"
        return "there was no former service to put back"
