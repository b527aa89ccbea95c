# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Grafana's dashboards, put together on the controller: the shipped ones in the language and with the limits that were
asked for, one for each project, and the user's own.

Whatever Grafana would only complain about in its log (and go on without) is refused here, by the dashboard's name.
"""

from __future__ import annotations

import json
import os
import re
import typing as t

import yaml

Contents = dict[str, bytes]
Dashboard = dict[str, t.Any]
Value = t.Callable[[str], t.Any]

TREE = "dashboards/"
HOME = "home.json"
_SHIPPED = re.compile(r"^dashboards/(?P<language>[a-z]{2})/(?P<uid>[\w-]+)\.json$")
_LIMITS = "dashboards/limits.json"
_PROJECT = "project-main"
_PERMANENT_SOURCES = {"grafana", "-- Grafana --", "-- Mixed --", "-- Dashboard --"}
_PROJECT_NAME = re.compile(r"^[A-Za-z0-9_-]{1,32}$")
_UID = re.compile(r"^[A-Za-z0-9_-]{1,40}$")


class Refused(ValueError):
    """Says in one sentence what is wrong, and the mend."""


def build(contents: Contents, value: Value, find: t.Callable[[str], str]) -> tuple[Contents, list[str]]:
    """Return Grafana's configuration tree with all dashboards at their places, and what is wrong with it.

    :param contents: the role's files and the user's extra ones, as they are.
    :param value: works out a variable; a role that has no such variable gives its default.
    :param find: makes a path of the user's absolute.
    """
    shipped, limits = _shipped(contents, str(value("monitoring_language") or "en"))
    problems = _adapt(shipped, limits, value)
    folder = str(value("grafana_dashboards_folder"))
    editable = bool(value("grafana_dashboards_editable"))
    found: dict[str, tuple[str, Dashboard]] = {
        uid: (folder, {**dashboard, "editable": editable}) for uid, dashboard in shipped.items()
    }
    for name in ("grafana_dashboards_folder", "grafana_extra_dashboards_folder"):
        problems += _wrong_folder(name, str(value(name)))
    problems += _projects(found, value, editable)
    rest = {path: data for path, data in contents.items() if not path.startswith(TREE)}
    own, refused = _own(contents, value, find)
    problems += refused
    sources = _datasources(rest)
    for name, own_folder, dashboard in own:
        refused = _wrong(name, own_folder, dashboard, found, sources)
        problems += refused
        if not refused:
            found[dashboard["uid"]] = (own_folder, dashboard)
    for uid, (place, dashboard) in found.items():
        rest[f"{TREE}{place}/{uid}.json"] = _encoded(dashboard)
    problems += _permissions(value("grafana_folder_permissions") or {}, {place for place, _ in found.values()})
    problems += _home(rest, found, str(value("grafana_home_dashboard") or ""))
    return rest, problems


# -- the shipped ones --------------------------------------------------------------------------------------------------


def _shipped(contents: Contents, language: str) -> tuple[dict[str, Dashboard], dict[str, t.Any]]:
    found = {}
    for path, data in contents.items():
        match = _SHIPPED.match(path)
        if match and match["language"] == language:
            found[match["uid"]] = json.loads(data)
    return found, json.loads(contents.get(_LIMITS, b"{}"))


def _adapt(shipped: dict[str, Dashboard], limits: dict[str, t.Any], value: Value) -> list[str]:
    """Put the values of the alerts' variables where their defaults stand."""
    problems = {}
    for uid, places in limits.items():
        for place in places:
            name = place["variable"]
            try:
                number = float(value(name)) * place["factor"] + place["offset"]
            except (TypeError, ValueError):
                problems[name] = f"{name}: {value(name)!r} is no number, and dashboards are coloured by it"
                continue
            inner: t.Any = shipped.get(uid)
            if inner is None:
                continue
            for step in place["at"][:-1]:
                inner = inner[step]
            inner[place["at"][-1]] = round(number, 6)
    return list(problems.values())


def _projects(found: dict[str, tuple[str, Dashboard]], value: Value, editable: bool) -> list[str]:
    """Add a dashboard for each project that is named or was found, in a folder of its own."""
    problems = []
    wanted = list(value("grafana_projects") or [])
    named = {str(entry.get("name", "")) for entry in wanted}
    for name in value("__grafana_found_projects") or []:
        # What nobody wrote down is not refused: project-main has it anyway.
        if name not in named and name != "main" and _PROJECT_NAME.match(name):
            wanted.append({"name": name, "folder": str(value("grafana_found_projects_folder") or name)})
    for entry in wanted:
        name = str(entry.get("name", ""))
        uid = f"project-{name}"
        unknown = sorted(set(entry) - {"name", "folder", "title"})
        if unknown:
            problems.append(
                f"grafana_projects: {name or entry!r} has {', '.join(unknown)}; a project has a name, and may have a "
                "folder and a title"
            )
            continue
        if not _UID.match(uid) or uid in found:
            problems.append(
                f"grafana_projects: {name!r} is refused: a name is given once, and has letters, digits, - and _ only, "
                "at most 32"
            )
            continue
        folder = str(entry.get("folder", name))
        problems += _wrong_folder(f"grafana_projects: {name}", folder)
        dashboard = json.loads(json.dumps(found[_PROJECT][1]))
        dashboard.update(uid=uid, title=str(entry.get("title", f"{dashboard['title']} {name}")), editable=editable)
        dashboard["templating"]["list"] = [
            {
                "type": "constant",
                "name": "project",
                "label": variable["label"],
                "query": name,
                "current": {"selected": True, "text": name, "value": name},
                "hide": 2,
                "skipUrlSync": True,
            }
            if variable["name"] == "project"
            else variable
            for variable in dashboard["templating"]["list"]
        ]
        found[uid] = (folder, dashboard)
    return problems


def _home(rest: Contents, found: dict[str, tuple[str, Dashboard]], uid: str) -> list[str]:
    """Put the dashboard that everybody begins with where grafana.ini names it."""
    if not uid:
        return []
    if uid not in found:
        return [f"grafana_home_dashboard: there is no dashboard {uid!r}; there are {', '.join(sorted(found))}"]
    rest[HOME] = _encoded(found[uid][1])
    return []


def _permissions(wanted: dict[str, t.Any], folders: set[str]) -> list[str]:
    """Say what is wrong with the folders' permissions; teams and users are Grafana's to know."""
    problems = [
        f"grafana_folder_permissions: there is no folder {folder!r}; there are {', '.join(sorted(folders))}"
        for folder in wanted
        if folder not in folders
    ]
    for folder, entries in wanted.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            who = sorted(set(entry) - {"permission"}) if isinstance(entry, dict) else []
            right = (
                who in (["role"], ["team"], ["user"])
                and entry.get("permission") in ("View", "Edit", "Admin")
                and entry.get("role", "Viewer") in ("Viewer", "Editor")
            )
            if not right:
                problems.append(
                    f"grafana_folder_permissions: {folder}: {entry!r} is refused: write it like {{team: a, "
                    "permission: View}}, with one of role (Viewer, Editor), team and user, and View, Edit or Admin"
                )
    return problems


def _wrong_folder(name: str, folder: str) -> list[str]:
    if folder and folder == folder.strip() and "/" not in folder and not folder.startswith("."):
        return []
    return [f"{name}: {folder!r} is refused as a folder: it is a name without / that does not begin with a dot"]


# -- the user's own ----------------------------------------------------------------------------------------------------


def _own(
    contents: Contents, value: Value, find: t.Callable[[str], str]
) -> tuple[list[tuple[str, str, Dashboard]], list[str]]:
    """Return the user's dashboards as (where it is from, folder, dashboard), and those that cannot be read."""
    texts: list[tuple[str, str, bytes]] = []
    problems: list[str] = []
    default = str(value("grafana_extra_dashboards_folder"))
    for entry in value("grafana_extra_dashboards") or []:
        path = find(str(entry))
        if os.path.isdir(path):
            names = [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".json")]
            if not names:
                problems.append(f"grafana_extra_dashboards: there is no .json file in {entry}")
        else:
            names = [path]
        for name in names:
            try:
                with open(name, "rb") as reader:
                    texts.append((name, default, reader.read()))
            except OSError as error:
                problems.append(f"grafana_extra_dashboards: {entry} cannot be read: {error.strerror}")
    for path, data in contents.items():
        if path.startswith(TREE) and not _SHIPPED.match(path) and path != _LIMITS:
            below = path.removeprefix(TREE).rpartition("/")[0]
            texts.append((f"{path} of grafana_extra_files", below or default, data))
    read = []
    for name, folder, data in texts:
        try:
            read.append((name, folder, _dashboard(name, data)))
        except Refused as error:
            problems.append(str(error))
    return read, problems


def _dashboard(name: str, data: bytes) -> Dashboard:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise Refused(f"The dashboard {name} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"The dashboard {name} is no dashboard: its JSON is no object")
    if "dashboard" in content and "panels" not in content:
        raise Refused(f"The dashboard {name} is an answer of Grafana's API: keep what is below its key dashboard")
    if "spec" in content or "elements" in content:
        raise Refused(f"The dashboard {name} has Grafana's new schema: export it as the classic one")
    return t.cast("Dashboard", content)


def _wrong(
    name: str, folder: str, dashboard: Dashboard, found: dict[str, tuple[str, Dashboard]], sources: set[str]
) -> list[str]:
    problems = []
    uid, title = dashboard.get("uid"), dashboard.get("title")
    if not isinstance(uid, str) or not _UID.match(uid):
        problems.append(
            f"The dashboard {name} has the uid {uid!r}: give it one of letters, digits, - and _, at most 40, so that "
            "links to it last"
        )
    elif uid in found:
        problems.append(f"The dashboard {name} has the uid {uid}, which is taken by {found[uid][1]['title']!r}")
    if not isinstance(title, str) or not title.strip():
        problems.append(f"The dashboard {name} has no title")
    elif any(folder == place and title == other["title"] for place, other in found.values()):
        problems.append(f"The dashboard {name} has the title {title!r}, which is taken in the folder {folder!r}")
    variables = {
        str(variable.get("name"))
        for variable in _listed(dashboard.get("templating"))
        if variable.get("type") == "datasource"
    }
    unknown = sorted(source for source in _used(dashboard) if not _known(source, sources, variables))
    if unknown:
        problems.append(
            f"The dashboard {name} asks the datasource {', '.join(unknown)}, which is not there: use one of "
            f"{', '.join(sorted(sources))}"
        )
    return problems


def _listed(section: t.Any) -> list[dict[str, t.Any]]:
    entries = section.get("list") if isinstance(section, dict) else None
    return [entry for entry in entries or [] if isinstance(entry, dict)]


def _known(source: str, sources: set[str], variables: set[str]) -> bool:
    variable = re.match(r"^\$(?:\{(\w+)(?::\w+)?\}|(\w+))$", source)
    if variable:
        return (variable[1] or variable[2]) in variables
    return source in sources or source in _PERMANENT_SOURCES


def _used(content: t.Any) -> set[str]:
    """Return every datasource that a dashboard names, by uid or (as old ones do) by name."""
    found: set[str] = set()
    if isinstance(content, dict):
        source = content.get("datasource")
        if isinstance(source, dict) and source.get("uid"):
            found.add(str(source["uid"]))
        elif isinstance(source, str) and source and source != "default":
            found.add(source)
        for key, inner in content.items():
            # What a dashboard was exported with names what it wants, not what it asks.
            if key not in ("__inputs", "__requires", "datasource"):
                found |= _used(inner)
    elif isinstance(content, list):
        for inner in content:
            found |= _used(inner)
    return found


def _datasources(contents: Contents) -> set[str]:
    """Return the uids and names of all datasources that are provisioned, the user's own included."""
    found: set[str] = set()
    for path, data in contents.items():
        if path.startswith("provisioning/datasources/") and path.endswith((".yml", ".yaml")):
            try:
                listed = (yaml.safe_load(data) or {}).get("datasources") or []
            except (yaml.YAMLError, AttributeError):
                # Grafana says so itself, and does not start.
                continue
            for source in listed:
                found |= {str(source[key]) for key in ("uid", "name") if source.get(key)}
    return found


def _encoded(dashboard: Dashboard) -> bytes:
    return (json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n").encode()
