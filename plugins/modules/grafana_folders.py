#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say who may see and edit the dashboards of a folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grafana_folders
short_description: Say who may see and edit the dashboards of a folder
description:
  - Gives folders of Grafana exactly the permissions that are listed. Grafana's provisioning files cannot do that.
    Folders that are not listed are left alone.
author: ["nekocheik (@nekocheik)"]
options:
  url:
    description: Where Grafana answers, as seen from the host.
    type: str
    required: true
  login:
    description: Name of the administrator.
    type: str
    required: true
  password_file:
    description: File on the host with the administrator's password.
    type: path
    required: true
  permissions:
    description:
      - Title of a folder to a list of entries. An entry has C(permission) (C(View), C(Edit) or C(Admin)) and one of
        C(role) (C(Viewer) or C(Editor)), C(team) (its name) and C(user) (the login).
    type: dict
    required: true
  timeout:
    description: Seconds to wait for a folder that Grafana is about to make.
    type: int
    default: 30
attributes:
  check_mode:
    description: Can run in check mode and tells which folders would get other permissions.
    support: full
  diff_mode:
    description: Shows the permissions before and after.
    support: full
"""

EXAMPLES = r"""
- name: Only team A sees its dashboards
  nekocheik.deployment_monitoring.grafana_folders:
    url: http://127.0.0.1:3000
    login: admin
    password_file: /etc/deployment-monitoring/grafana/secrets/admin_password
    permissions:
      Team A:
        - {team: a, permission: View}
"""

RETURN = r"""
folders:
  description: The folders whose permissions were changed.
  type: list
  elements: str
  returned: success
"""

import base64
import json
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ansible.module_utils.basic import AnsibleModule

LEVELS = {"View": 1, "Edit": 2, "Admin": 4}
NAMES = {level: name for name, level in LEVELS.items()}


class Refused(Exception):
    """Grafana said no, or knows no such thing."""


class Grafana:
    """Asks Grafana's API as its administrator."""

    def __init__(self, url: str, login: str, password: str) -> None:
        self.url = url.rstrip("/")
        self.authorization = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()

    def ask(self, path: str, payload: t.Any = None) -> t.Any:
        """Return the answer of the API."""
        request = urllib.request.Request(self.url + path, method="GET" if payload is None else "POST")
        request.add_header("Authorization", self.authorization)
        if payload is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(payload).encode()
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            raise Refused(f"Grafana answers {error.code} to {path}: {said}") from error
        except OSError as error:
            raise Refused(f"Grafana does not answer on {self.url}: {error}") from error

    def folder(self, title: str, timeout: int) -> str:
        """Return a folder's uid; Grafana makes the folders of its dashboards some seconds after it started."""
        deadline = time.monotonic() + timeout
        while True:
            found = {folder["title"]: folder["uid"] for folder in self.ask("/api/folders?limit=1000")}
            if title in found:
                return str(found[title])
            if time.monotonic() > deadline:
                raise Refused(f"there is no folder {title!r}; there are {', '.join(sorted(found)) or 'none'}")
            time.sleep(1)

    def item(self, entry: dict[str, str]) -> dict[str, t.Any]:
        """Return an entry as the API spells it."""
        level = LEVELS[entry["permission"]]
        if "role" in entry:
            return {"role": entry["role"], "permission": level}
        if "team" in entry:
            name = entry["team"]
            found = self.ask("/api/teams/search?name=" + urllib.parse.quote(name))["teams"]
            if not found:
                raise Refused(f"there is no team {name!r}: make it in Grafana first")
            return {"teamId": found[0]["id"], "permission": level}
        name = entry["user"]
        try:
            return {
                "userId": self.ask("/api/users/lookup?loginOrEmail=" + urllib.parse.quote(name))["id"],
                "permission": level,
            }
        except Refused as error:
            raise Refused(f"there is no user {name!r}: {error}") from error

    def permissions(self, uid: str) -> list[dict[str, t.Any]]:
        """Return a folder's permissions as the API would take them."""
        found = []
        for item in self.ask(f"/api/folders/{uid}/permissions"):
            level = {"permission": item["permission"]}
            if item.get("inherited"):
                continue
            if item.get("role"):
                found.append({"role": item["role"], **level})
            elif item.get("teamId"):
                found.append({"teamId": item["teamId"], **level})
            elif item.get("userId"):
                found.append({"userId": item["userId"], **level})
        return found


def ordered(items: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Return permissions in an order of their own, so that two lists compare."""
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def shown(items: list[dict[str, t.Any]]) -> list[str]:
    """Return permissions as people read them."""
    texts = []
    for item in items:
        who = next(f"{key} {value}" for key, value in item.items() if key != "permission")
        texts.append(f"{who}: {NAMES.get(item['permission'], item['permission'])}")
    return texts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "login": {"type": "str", "required": True},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "permissions": {"type": "dict", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        with open(module.params["password_file"]) as reader:
            grafana = Grafana(module.params["url"], module.params["login"], reader.read().strip())
    except OSError as error:
        if module.check_mode:
            # Grafana is not there yet.
            module.exit_json(changed=True, folders=sorted(module.params["permissions"]))
        module.fail_json(msg=f"The password of Grafana's administrator cannot be read: {error}")
    changed, before, after = [], {}, {}
    try:
        for title, entries in module.params["permissions"].items():
            uid = grafana.folder(title, 0 if module.check_mode else module.params["timeout"])
            there = ordered(grafana.permissions(uid))
            wanted = ordered([grafana.item(entry) for entry in entries])
            before[title], after[title] = shown(there), shown(wanted)
            if there != wanted:
                changed.append(title)
                if not module.check_mode:
                    grafana.ask(f"/api/folders/{uid}/permissions", {"items": wanted})
    except Refused as error:
        if module.check_mode:
            # A folder, or Grafana itself, that this run would have made.
            module.exit_json(changed=True, folders=sorted(module.params["permissions"]))
        module.fail_json(msg=f"grafana_folder_permissions: {error}", folders=changed)
    diff = {"before": json.dumps(before, indent=1) + "\n", "after": json.dumps(after, indent=1) + "\n"}
    module.exit_json(changed=bool(changed), folders=changed, diff=diff)


if __name__ == "__main__":
    main()
