# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Units of systemd that lie in a configuration tree of ours, linked into systemd from there."""

from __future__ import annotations

import contextlib
import os
import subprocess

# Where they lie below the tree.
DIRECTORY = "units"
SYSTEM = "/etc/systemd/system"
_PROPERTIES = ("Id", "FragmentPath", "NeedDaemonReload", "UnitFileState", "ActiveState", "LoadState")
_SECONDS = 60


class UnitError(Exception):
    """systemd refused a unit, or is not there; the text is its own."""


def differences(names: list[str], directory: str) -> list[str]:
    """Return a sentence for each unit that systemd does not have as it should: one question for all.

    :param directory: where the unit files are.
    """
    if not os.path.isdir("/run/systemd/system"):
        return ["systemd does not run on this host"]
    answer = _systemctl("show", "--property=" + ",".join(_PROPERTIES), *names)
    found = {}
    for block in answer.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[values.get("Id", "")] = values
    reasons = []
    for name in names:
        unit = found.get(name, {})
        if unit.get("LoadState") != "loaded" or not _same(unit.get("FragmentPath", ""), os.path.join(directory, name)):
            reasons.append(f"{name}: systemd does not have it")
        elif unit.get("NeedDaemonReload") == "yes":
            reasons.append(f"{name}: systemd has not read it since it was changed")
        elif name.endswith(".timer"):
            if unit.get("UnitFileState") != "enabled":
                reasons.append(f"{name}: it does not start with the machine")
            if unit.get("ActiveState") != "active":
                reasons.append(f"{name}: it is {unit.get('ActiveState')}")
    return reasons


def linked(names: list[str]) -> bool:
    """Whether systemd has a link to any of the units."""
    return any(os.path.lexists(os.path.join(SYSTEM, name)) for name in names)


def put(names: list[str], directory: str) -> None:
    """Link the units into systemd, have it read them, and start the timers among them with the machine and now.

    :raises UnitError: when systemd refuses one.
    """
    timers = [name for name in names if name.endswith(".timer")]
    others = [os.path.join(directory, name) for name in names if name not in timers]
    _each("link", others)
    if timers:
        # Links that lead elsewhere would be kept.
        _each("disable", [name for name in timers if os.path.lexists(os.path.join(SYSTEM, name))])
        _systemctl("enable", *(os.path.join(directory, name) for name in timers))
    _systemctl("daemon-reload")
    if timers:
        # A timer that runs already takes a new time only when it is started anew.
        _systemctl("restart", *timers)


def remove(names: list[str]) -> None:
    """Stop the timers and take all units out of systemd. What one of them is doing just now is done to its end."""
    there = [name for name in names if os.path.lexists(os.path.join(SYSTEM, name))]
    timers = [name for name in there if name.endswith(".timer")]
    _each("stop", timers)
    _each("disable", there)
    _systemctl("daemon-reload")


def end(name: str) -> None:
    """Stop a unit that systemd may not have any more, and forget that it failed."""
    for verb in ("stop", "reset-failed"):
        with contextlib.suppress(UnitError):
            _systemctl(verb, name)


def _same(path: str, other: str) -> bool:
    return bool(path) and os.path.realpath(path) == os.path.realpath(other)


def _each(verb: str, units: list[str]) -> None:
    if units:
        _systemctl(verb, *units)


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnitError(f"systemctl {words[0]}: {error}") from error
    if done.returncode:
        raise UnitError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
