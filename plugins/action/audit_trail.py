# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell who runs what from where, which only the controller knows; the module on the host writes it down."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import typing as t
from datetime import UTC, datetime

from ansible import context
from ansible.plugins.action import ActionBase

_MODULE = "nekocheik.deployment_monitoring.audit_trail"
_GIT_SECONDS = 10


class ActionModule(ActionBase):
    """Asks the controller, once for each host that was changed."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        known = task_vars or {}
        arguments = dict(self._task.args)
        changes = arguments.get("changes") or sentences(
            arguments.get("outcomes") or [], arguments.get("services") or {}
        )
        arguments["entry"] = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "who": _who(),
            "from": socket.gethostname(),
            "login": str(known.get("ansible_user") or ""),
            "revision": revision([known.get("playbook_dir"), known.get("inventory_dir")]),
            "playbook": _playbook(),
            "host": known["inventory_hostname"],
            "changes": list(changes),
        }
        # Texts of the comparison stay here: they may tell of an environment.
        arguments.pop("outcomes", None)
        arguments.pop("services", None)
        result.update(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
        result.pop("invocation", None)
        return result


def sentences(outcomes: list[dict[str, t.Any]], services: dict[str, t.Any]) -> list[str]:
    """Return what became of each service: what was done and why, by the names of fields and files alone.

    The values may be secrets; only those of images are told.
    """
    found = []
    for outcome in outcomes:
        reasons = services.get(outcome["name"], {}).get("reasons", [])
        names = [reason if reason.startswith("image: ") else reason.partition(":")[0] for reason in reasons]
        why = f" ({', '.join(dict.fromkeys(names))})" if names else ""
        away = f", away for {outcome['seconds_away']} s" if outcome.get("seconds_away") else ""
        failed = f", failed: {outcome['restored']}" if outcome.get("error") else ""
        found.append(f"{outcome['name']}: {outcome['action']}{why}{away}{failed}")
    return found


def revision(folders: list[str | None]) -> str:
    """Return the git revision of the first folder that is a checkout, with C(-dirty) where it has changes."""
    for folder in folders:
        if not folder or not os.path.isdir(folder):
            continue
        words = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return done.stdout.strip()
    return "no git"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    asked = os.environ.get("SUDO_USER")
    return f"{asked} as {user}" if asked and asked != user else user


def _playbook() -> str:
    # A file, or a playbook's full name in a collection.
    paths = [re.sub(r"\.ya?ml$", "", path) for path in context.CLIARGS.get("args") or ()]
    names = [os.path.basename(path).rpartition(".")[2] for path in paths]
    return " ".join(names) or "unknown"
