# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Describe services of a host: check their roles' variables, render their configurations, add them to the plan."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import (
    dashboards,
    log_sources,
    otelcol,
    plan,
    variables,
)

_STRINGS = {"type": "list", "elements": "str", "default": []}
_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "command": _STRINGS,
    "entrypoint": _STRINGS,
    "environment": {"type": "dict", "default": {}},
    "groups": _STRINGS,
    "pid": {"type": "str", "default": ""},
    "capabilities": _STRINGS,
    "dbus": {"type": "bool", "default": False},
    "read_only": {"type": "bool", "default": True},
    "tmpfs": {"type": "dict", "default": {}},
    "ports": {"type": "dict", "default": {}},
    "mounts": {"type": "list", "elements": "dict", "default": []},
    "stop_timeout": {"type": "int", "default": 30},
    "config_target": {"type": "str"},
    "files": {"type": "dict", "default": {}},
    "dashboards": {"type": "bool", "default": False},
    "roster": {"type": "str"},
    "secrets": {"type": "dict", "default": {}},
    "secret_files": {"type": "str"},
    "keep": _STRINGS,
    "watched": _STRINGS,
    "data_target": {"type": "str"},
    "directories": _STRINGS,
    "units": _STRINGS,
    "unwanted": _STRINGS,
    "initial": {"type": "dict", "default": {}},
    "ready": {"type": "dict", "default": {}},
    "proof": {"type": "list", "elements": "dict", "default": []},
    "converted": _STRINGS,
    "forward_only": {"type": "bool", "default": False},
    "check": {"type": "dict"},
    "reload": {"type": "dict"},
}
_SERVICES = {
    "services": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "hosts": {"type": "list", "elements": "str"},
            "roles": {"type": "list", "elements": "str", "required": True},
        },
    }
}
_MODULE = "nekocheik.deployment_monitoring.service_describe"
_ROLES = os.path.join(os.path.dirname(__file__), "..", "..", "roles")
_SHARED_ROLE, _ENGINE_ROLE = "service", "docker"
_FILE_MODE = 0o640
_MACROS = "macros.j2"
# All that the removal of a service asks of its description.
_OF_WHAT_GOES = ("name", "keep", "config_target", "data_target", "converted", "stop_timeout", "ready")


class _Refused(Exception):
    """What is wrong with a service's variables, a sentence each."""


class ActionModule(ActionBase):
    """Runs on the controller only: a description costs no round trip."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        self._values: dict[str, t.Any] = {}
        self._take(task_vars or {})
        try:
            if "services" in self._task.args:
                found = self._describe_all(task_vars or {})
            else:
                arguments = _checked(_ARGUMENTS, self._task.args)
                self._check_variables(arguments["name"])
                found = self._describe(arguments)
        except _Refused as refused:
            sentences = [problem if problem.endswith("?") else f"{problem}." for problem in refused.args]
            raise AnsibleActionFail(" ".join(["Nothing was changed.", *sentences])) from None
        return {**result, "changed": False, **found}

    def _take(self, values: dict[str, t.Any]) -> None:
        """Go by these variables; those that are worked out already stay so."""
        self._vars = {**values, **self._values}
        self._templar = self._templar.copy_with_new_env(available_variables=self._vars)

    def _describe_all(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Describe what the roles of this host describe, each as if it were used alone, in this one process.

        A task costs far more than what most descriptions need, and so does a role that Ansible loads.
        """
        entries, host = _checked(_SERVICES, self._task.args)["services"], self._vars["inventory_hostname"]
        paths = {role: os.path.normpath(os.path.join(_ROLES, role)) for entry in entries for role in entry["roles"]}
        below, above = variables.around(os.path.normpath(os.path.join(_ROLES, _SHARED_ROLE)))
        for path in paths.values():
            defaults, internal = variables.around(path)
            below, above = below | defaults, above | internal
        here = [
            role for entry in entries if entry["hosts"] is None or host in entry["hosts"] for role in entry["roles"]
        ]
        described, problems = [], []
        for role in filter(self._chosen, here):
            task = variables.task(os.path.join(paths[role], "tasks", "describe.yml"), _MODULE)
            self._take({**below, **task_vars, **above, **task.get("vars", {}), "role_path": paths[role]})
            try:
                self._check_variables(role)
                arguments = task[_MODULE]
                if not self._is_wanted(role, arguments):
                    arguments = {key: arguments[key] for key in _OF_WHAT_GOES if key in arguments}
                described.append(self._describe(_checked(_ARGUMENTS, self._templar.template(arguments)))["service"])
            except _Refused as refused:
                problems += refused.args
            except AnsibleUndefinedVariable as error:
                problems.append(f"{role} cannot be described: {error}")
        _refuse(list(dict.fromkeys(problems)))
        return {"services": described}

    def _chosen(self, role: str) -> bool:
        """Whether the tags of the run choose a service: its name is its tag."""
        words = {"all", "tagged", role}
        run, left_out = (words & set(self._vars[f"ansible_{which}_tags"]) for which in ("run", "skip"))
        return bool(run and not left_out)

    def _describe(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        name = arguments["name"]
        # What goes needs neither secrets nor a configuration.
        wanted = self._is_wanted(name, arguments)
        if wanted:
            _refuse(self._refused_secrets(arguments) + self._refused_address(name) + self._refused_extras(name))
        contents = self._contents(arguments) if wanted else {}
        if wanted and arguments["dashboards"]:
            contents, problems = dashboards.build(contents, self._value_or_default, self._loader.path_dwim)
            _refuse(problems)
        if arguments["roster"]:
            self._add_roster(arguments, contents)
        service = self._service(name, arguments, contents)
        plan.put(self._vars["inventory_hostname"], service, contents)
        return {"service": name, "image": service["image"], "files": sorted(contents)}

    def _is_wanted(self, name: str, arguments: dict[str, t.Any]) -> bool:
        return self._of_role(name, "state", "present") != "absent" or bool(arguments.get("units"))

    def _check_variables(self, name: str) -> None:
        """Refuse variables that are not good, before anything is made of them."""
        role, roles = self._vars["role_path"], os.path.dirname(self._vars["role_path"])
        # What all roles share is checked with the first description of a host, not ten times.
        first = plan.empty(self._vars["inventory_hostname"])
        specs = {"monitoring": variables.specification(os.path.join(roles, _SHARED_ROLE))} if first else {}
        specs[name] = variables.specification(role)
        values = {key: self._value(key) for spec in specs.values() for key in spec if key in self._vars}
        names = os.listdir(roles)
        problems = variables.unknown(specs, self._vars, foreign=names)
        if first:
            paths = {other: os.path.join(roles, other) for other in names if other != _SHARED_ROLE}
            paths["monitoring"] = os.path.join(roles, _SHARED_ROLE)
            problems += variables.misspelt(paths, self._vars, shared=[_ENGINE_ROLE])
            # The one role that describes no service.
            engine = variables.specification(paths[_ENGINE_ROLE])
            problems += variables.errors(engine, {key: self._value(key) for key in engine if key in self._vars})
        for spec in specs.values():
            problems += variables.errors(spec, values)
        # Sources are lists of dictionaries with rules of their own; looked at where the shared variables are.
        if not problems and "monitoring" in specs and log_sources.VARIABLES[0] in values:
            problems += log_sources.problems(*(values.get(name, []) for name in log_sources.VARIABLES))
        if not problems and name == otelcol.COLLECTOR and self._of_role(name, "state") == "present":
            sources, extra = (self._value(variable) for variable in log_sources.VARIABLES)
            problems += otelcol.problems(sources, extra, self._of_role(name, "ignored_sources", []))
        _refuse(problems)

    def _refused_secrets(self, arguments: dict[str, t.Any]) -> list[str]:
        problems, host = [], self._vars["inventory_hostname"]
        for secret in arguments["secrets"].values():
            variable, shortest = secret["variable"], secret.get("min_length", 1)
            asked = secret.get("asked", variable)
            value = str(self._value(variable) or "")
            if not value and secret.get("required", True):
                problems.append(
                    f"The secret {asked} is not set for {host}: put it into an encrypted file (ansible-vault create "
                    "group_vars/monitoring/vault.yml; vault.yml.example beside it lists all)"
                )
            elif value and len(value) < shortest:
                problems.append(
                    f"The secret {variable} (hidden) has fewer than {shortest} characters: make one by openssl rand "
                    "-base64 24"
                )
        return problems

    def _refused_address(self, name: str) -> list[str]:
        """A program is on a public address only where that was asked for."""
        variable = f"{name}_bind_address"
        if variable not in self._vars:
            return []
        address = self._value(variable)
        try:
            private = not ipaddress.ip_address(address).is_global and not ipaddress.ip_address(address).is_unspecified
        except ValueError:
            return [f"{variable}: {address!r} is no IP address; set it, or monitoring_address, in host_vars"]
        if private or self._value("monitoring_public_bind"):
            return []
        return [
            f"{variable}: {address} can be reached by anybody; use a private address (monitoring_address in "
            "host_vars), or set monitoring_public_bind to true behind a firewall"
        ]

    def _refused_extras(self, name: str) -> list[str]:
        """A user's own files stay below the configuration tree, and mounts say what the engine asks for."""
        problems = [
            f"{name}_extra_files: {path!r} is no path below the configuration tree; write it like rules.d/own.yml"
            for path in self._of_role(name, "extra_files", {})
            if os.path.normpath(path) != path or path.startswith(("/", "..")) or path == "."
        ]
        for mount in self._of_role(name, "extra_mounts", []):
            wrong = sorted(set(mount) - {"source", "target", "read_only", "propagation"})
            wrong += [key for key in ("source", "target") if not str(mount.get(key, "")).startswith("/")]
            if wrong:
                problems.append(
                    f"{name}_extra_mounts: wrong or missing {', '.join(wrong)}; a mount has an absolute source and "
                    "target, and may have read_only and propagation"
                )
        return problems

    def _value(self, variable: str) -> t.Any:
        """Return a variable's value, worked out once: a template costs a compilation.

        Whatever is rendered from now on finds the value, not its template.
        """
        raw = self._vars[variable]
        if isinstance(raw, (bool, int, float)) or (isinstance(raw, str) and "{" not in raw):
            return raw
        if variable not in self._values:
            try:
                self._values[variable] = self._vars[variable] = self._templar.template(raw)
            except AnsibleUndefinedVariable as error:
                raise _Refused(f"{variable} cannot be worked out: {error}") from error
        return self._values[variable]

    def _value_or_default(self, variable: str) -> t.Any:
        """Return a variable's value; of a role that is not part of the play, its default."""
        if variable in self._vars:
            return self._value(variable)
        prefix = variable.partition("_")[0]
        role = _SHARED_ROLE if prefix == "monitoring" else prefix
        return variables.defaults(os.path.join(os.path.dirname(self._vars["role_path"]), role)).get(variable)

    def _of_role(self, name: str, what: str, default: t.Any = None) -> t.Any:
        """Return the value of a variable that roles have in common, C(<role>_<what>)."""
        variable = f"{name}_{what}"
        return self._value(variable) if variable in self._vars else default

    def _add_roster(self, arguments: dict[str, t.Any], contents: dict[str, bytes]) -> None:
        """Add the list of the services that were described for this host so far in this run."""
        known = [
            {key: service[key] for key in ("name", "state", "image", "ready")}
            for service in plan.services(self._vars["inventory_hostname"])
            if service["name"] != arguments["name"]
        ]
        if known:
            contents[arguments["roster"]] = (json.dumps(known, indent=1, sort_keys=True) + "\n").encode()
        else:
            # Applied alone, a role knows of no other; what the site wrote stays true.
            arguments["keep"] = [*arguments["keep"], arguments["roster"]]

    def _service(self, name: str, arguments: dict[str, t.Any], contents: dict[str, bytes]) -> plan.Service:
        address, port = self._of_role(name, "bind_address", ""), self._of_role(name, "port")
        ready = dict(arguments["ready"])
        if ready and "socket" not in ready:
            ready.update(address=address, port=int(ready.get("port", port)))
        secret = set(arguments["secrets"]) | set(self._own_secrets(arguments))
        return {
            "name": name,
            "state": self._of_role(name, "state", "present"),
            # Units of the host need no container.
            "image": "" if arguments["units"] else self._image(name),
            "command": arguments["command"] + list(self._of_role(name, "extra_arguments", [])),
            "entrypoint": arguments["entrypoint"],
            "env": {**_texts(arguments["environment"]), **_texts(self._of_role(name, "extra_environment", {}))},
            "labels": _texts(self._of_role(name, "extra_labels", {})),
            "user": self._of_role(name, "user", "0:0"),
            "groups": arguments["groups"] + [str(group) for group in self._of_role(name, "extra_groups", [])],
            "network": "host" if port else "none",
            "pid": arguments["pid"],
            "capabilities": arguments["capabilities"],
            "dbus": arguments["dbus"],
            "read_only": arguments["read_only"],
            "tmpfs": _texts(arguments["tmpfs"]),
            "mounts": arguments["mounts"]
            + [{**mount, "variable": f"{name}_extra_mounts"} for mount in self._of_role(name, "extra_mounts", [])],
            "memory": variables.size(self._of_role(name, "memory", 0)),
            "cpus": float(self._of_role(name, "cpus", 0)),
            "pids": int(self._value("monitoring_pids_limit")),
            "stop_timeout": arguments["stop_timeout"],
            "config_target": arguments["config_target"],
            "config_dir": os.path.join(self._value("monitoring_config_dir"), name),
            "data_target": arguments["data_target"],
            "data_dir": os.path.join(self._value("monitoring_data_dir"), name),
            "directories": arguments["directories"],
            "units": arguments["units"],
            "unwanted": arguments["unwanted"],
            "initial": arguments["initial"],
            "files": {
                path: {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "mode": _FILE_MODE,
                    "secret": path in secret,
                }
                for path, data in contents.items()
            },
            "keep": arguments["keep"],
            "watched": arguments["watched"],
            "listen": [
                {"address": at, "port": int(self._value(variable)), "variable": variable}
                for variable, at in ({f"{name}_port": address, **arguments["ports"]} if port else {}).items()
            ],
            "ready": ready,
            "proof": arguments["proof"],
            "converted": arguments["converted"],
            "forward_only": arguments["forward_only"],
            "check": arguments["check"],
            "reload": arguments["reload"],
        }

    def _image(self, name: str) -> str:
        """Return the image's reference, moved below the mirror's prefix where there is one."""
        image, prefix = self._of_role(name, "image"), self._value("monitoring_image_prefix")
        first, slash, rest = image.partition("/")
        if prefix and slash and ("." in first or ":" in first):
            image = rest
        return f"{prefix}{image}:{self._of_role(name, 'version')}"

    def _contents(self, arguments: dict[str, t.Any]) -> dict[str, bytes]:
        contents = self._static() | self._rendered()
        extra = self._of_role(arguments["name"], "extra_files", {})
        for path, text in {**arguments["files"], **extra}.items():
            if text is not None:
                contents[path] = str(text).encode()
        for path, secret in arguments["secrets"].items():
            value = str(self._value(secret["variable"]) or "")
            if value:
                contents[path] = value.encode()
        return contents | self._own_secrets(arguments)

    def _own_secrets(self, arguments: dict[str, t.Any]) -> dict[str, bytes]:
        """Return the files of a variable that holds the user's own secrets, file name to text."""
        variable = arguments["secret_files"]
        found = {}
        for name, value in (self._value(variable) if variable else {}).items():
            if not re.fullmatch(r"[\w.-]+", name) or name.startswith(".") or f"secrets/{name}" in arguments["secrets"]:
                raise _Refused(f"{variable}: {name!r} is no name for a file, or the role's own; use another")
            if not value:
                raise _Refused(f"{variable}: {name} is empty; give it its text")
            found[f"secrets/{name}"] = str(value).encode()
        return found

    def _static(self) -> dict[str, bytes]:
        """Return the role's C(files/), as they are."""
        found = {}
        for path, source in _walk(os.path.join(self._vars["role_path"], "files")):
            with open(source, "rb") as reader:
                found[path] = reader.read()
        return found

    def _rendered(self) -> dict[str, bytes]:
        """Return the role's C(templates/), rendered; one that renders to nothing is not deployed, nor are macros."""
        root = os.path.join(self._vars["role_path"], "templates")
        templar = self._templar.copy_with_new_env(searchpath=[root], available_variables=self._vars)
        found = {}
        for path, source in _walk(root):
            if os.path.basename(path) == _MACROS:
                continue
            with open(source) as reader:
                template = trust_as_template(reader.read())
            try:
                text = templar.template(template, escape_backslashes=False)
            except AnsibleUndefinedVariable as error:
                raise _Refused(f"{path} cannot be rendered: {error}") from error
            if str(text or "").strip():
                found[path.removesuffix(".j2")] = str(text).encode()
        return found


def _refuse(problems: list[str]) -> None:
    if problems:
        raise _Refused(*problems)


def _checked(specification: dict[str, dict[str, t.Any]], arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return a task's arguments with their defaults."""
    checked = ArgumentSpecValidator(specification).validate(arguments)
    if checked.error_messages:
        raise AnsibleActionFail("; ".join(checked.error_messages))
    return checked.validated_parameters


def _walk(root: str) -> list[tuple[str, str]]:
    """Return all files below a directory as (path below it, whole path)."""
    found = []
    for directory, _names, files in os.walk(root):
        for name in sorted(files):
            source = os.path.join(directory, name)
            found.append((os.path.relpath(source, root), source))
    return found


def _texts(values: dict[str, t.Any]) -> dict[str, str]:
    # Written without quotes, true is meant to be the text that it looks like.
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
