# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of a host: the services that were described for it in this run, kept on the controller.

A plan is a private directory below Ansible's own temporary one, which Ansible removes when the run ends. It
is no fact and no variable on purpose: rendered configurations contain secrets, and facts are printed by
C(-v), kept by fact caches and copied to every worker.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import typing as t

from ansible import constants as C

Service = dict[str, t.Any]


def _directory(host: str) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, "plan-" + hashlib.sha256(host.encode()).hexdigest()[:16])


def put(host: str, service: Service, contents: dict[str, bytes]) -> None:
    """Add a service to a host's plan, or replace it there.

    :param contents: the rendered files by their path; the description only carries their digests.
    """
    directory = _directory(host)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    encoded = {path: base64.b64encode(data).decode() for path, data in contents.items()}
    path = os.path.join(directory, service["name"] + ".json")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as writer:
        json.dump({"service": service, "contents": encoded}, writer)


def empty(host: str) -> bool:
    """Whether nothing was described yet for a host."""
    directory = _directory(host)
    return not (os.path.isdir(directory) and os.listdir(directory))


def services(host: str) -> list[Service]:
    """Return the described services of a host, by name, without the contents of their files."""
    return [t.cast("Service", entry["service"]) for entry in _entries(host)]


def contents(host: str, name: str) -> dict[str, bytes]:
    """Return the rendered files of one service by their path."""
    for entry in _entries(host):
        if entry["service"]["name"] == name:
            return {path: base64.b64decode(data) for path, data in entry["contents"].items()}
    return {}


def clear(host: str) -> None:
    """Forget a host's plan, once it is applied."""
    directory = _directory(host)
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))


def _entries(host: str) -> list[dict[str, t.Any]]:
    directory = _directory(host)
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        with open(os.path.join(directory, name)) as reader:
            found.append(json.load(reader))
    return found
