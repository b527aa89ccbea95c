# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a described service is as a container: the engine's request for it, and how a real one differs.

One translation serves both: C(body()) is what a container is created from and what it is compared with, so
that a container which was just created can never differ from its description.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine

LABEL = "nekocheik.deployment_monitoring.service"

# Fields that a container has once and for all; HostConfig's are compared one by one.
_PLAIN_FIELDS = ("Cmd", "Entrypoint", "User", "StopTimeout")


def body(service: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the engine's create request for a described service.

    :param service: a description as C(service_describe) hands it on; see its documentation for the keys.
    """
    request: dict[str, t.Any] = {
        "Image": service["image"],
        "User": service["user"],
        "Env": [f"{key}={value}" for key, value in sorted(_environment(service).items())],
        "Labels": {**service["labels"], LABEL: service["name"]},
        "StopTimeout": service["stop_timeout"],
        "HostConfig": {
            "NetworkMode": service["network"],
            "PidMode": service["pid"],
            "RestartPolicy": {"Name": "unless-stopped"},
            "Privileged": False,
            "ReadonlyRootfs": service["read_only"],
            "CapDrop": ["ALL"],
            "CapAdd": service["capabilities"],
            "SecurityOpt": ["no-new-privileges:true", *(["apparmor=unconfined"] if service.get("dbus") else [])],
            "GroupAdd": [_group(group) for group in service["groups"]],
            "Tmpfs": service["tmpfs"],
            "Memory": service["memory"],
            "NanoCpus": int(min(service["cpus"], processors()) * 1_000_000_000),
            "PidsLimit": service["pids"],
            "PortBindings": {},
            "Mounts": _mounts(service),
            "LogConfig": {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}},
        },
    }
    if service["command"]:
        request["Cmd"] = service["command"]
    if service["entrypoint"]:
        request["Entrypoint"] = service["entrypoint"]
    return request


def processors() -> int:
    """Return how many processors this host has: the engine refuses a limit beyond that."""
    return len(os.sched_getaffinity(0))


def checker_body(service: dict[str, t.Any], staging: str) -> dict[str, t.Any]:
    """Return the create request of the container that checks a staged configuration with the new image.

    It sees what the service will see, except the network, the data and directories that are yet to be made.

    :param staging: the directory on the host that stands in for the configuration.
    """
    mounts = [mount for mount in service["mounts"] if os.path.exists(mount["source"])]
    request = body({**service, "config_dir": staging, "data_target": None, "mounts": mounts})
    request["Entrypoint"] = service["check"]["entrypoint"]
    request["Cmd"] = service["check"]["command"]
    request["Labels"] = {LABEL + ".check": service["name"]}
    request["HostConfig"].update(NetworkMode="none", RestartPolicy={"Name": "no"}, PidMode="")
    return request


def differences(
    service: dict[str, t.Any], actual: dict[str, t.Any], image: dict[str, t.Any] | None
) -> list[tuple[str, t.Any, t.Any]]:
    """Compare a real container with a service's description.

    :param actual: the container's inspection.
    :param image: the inspection of the wanted image, C(None) where the host does not have it yet.
    :returns: (field, what is there, what is wanted) for each difference; empty where nothing differs.
    """
    wanted = body(service)
    found: list[tuple[str, t.Any, t.Any]] = []

    def compare(field: str, is_there: t.Any, is_wanted: t.Any) -> None:
        if (is_there or None) != (is_wanted or None):
            found.append((field, is_there, is_wanted))

    config, host_config = actual["Config"], actual["HostConfig"]
    compare("image", config["Image"], wanted["Image"])
    if image is None:
        return found or [("image", config["Image"], wanted["Image"] + " (not on this host yet)")]
    if not found:
        compare("image id", actual["Image"], image["Id"])
    defaults = image["Config"] or {}
    for field in _PLAIN_FIELDS:
        default = None if field == "Cmd" and "Entrypoint" in wanted else defaults.get(field)
        compare(field.lower(), config.get(field), wanted.get(field) or default)
    image_env = dict(entry.split("=", 1) for entry in defaults.get("Env") or [])
    compare("env", dict(entry.split("=", 1) for entry in config["Env"] or []), {**image_env, **_environment(service)})
    compare("labels", config["Labels"], {**(defaults.get("Labels") or {}), **wanted["Labels"]})
    for field, value in wanted["HostConfig"].items():
        is_there = host_config.get(field)
        compare(_words(field), _normal(field, is_there, value), _normal(field, value, value))
    return found


def _mounts(service: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    mounts = list(service["mounts"])
    if service["config_target"]:
        mounts.insert(0, {"source": service["config_dir"], "target": service["config_target"], "read_only": True})
    if service["data_target"]:
        mounts.insert(0, {"source": service["data_dir"], "target": service["data_target"], "read_only": False})
    result = []
    for mount in mounts:
        entry = {
            "Type": "bind",
            "Source": mount["source"],
            "Target": mount["target"],
            "ReadOnly": mount.get("read_only", True),
        }
        if mount.get("propagation"):
            entry["BindOptions"] = {"Propagation": mount["propagation"]}
        result.append(entry)
    return result


def _environment(service: dict[str, t.Any]) -> dict[str, str]:
    """The environment; C(TZ: host) becomes the name of this host's time zone."""
    return {**service["env"], **({"TZ": _zone()} if service["env"].get("TZ") == "host" else {})}


def _zone() -> str:
    """Return the name of the host's time zone: where its clock's rules are linked from."""
    _, found, name = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return name if found else "UTC"


def _group(group: str) -> str:
    """Resolve C(path:/some/file) to the number of the group that owns that file on this host."""
    text = str(group)
    if not text.startswith("path:"):
        return text
    try:
        return str(os.stat(text[5:]).st_gid)
    except FileNotFoundError:
        # Made by another service's swap in a moment; until then a group that owns nothing.
        return "65534"


def _normal(field: str, value: t.Any, wanted: t.Any) -> t.Any:
    """Bring the spellings of the engine's versions together."""
    if field in ("CapAdd", "CapDrop"):
        return sorted(str(name).upper().replace("CAP_", "") for name in value or [])
    if field == "RestartPolicy":
        return (value or {}).get("Name")
    if field == "Mounts":
        return [{key: entry.get(key) or None for key in ("Type", "Source", "Target", "ReadOnly", "BindOptions")}
                for entry in value or []]  # fmt: skip
    if field == "SecurityOpt":
        # The engine adds label=disable to containers that share the host's processes.
        return [option for option in value or [] if option != "label=disable"]
    if field == "PidsLimit":
        # An engine whose kernel lacks the limit answers null: nothing there could be changed.
        return wanted if value is None else value
    return value


def _words(field: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in field).strip()


def leftover(name: str) -> str:
    """Return the name that a service's former container carries while its successor is being proved."""
    return f"{name}_previous"


def recover(engine: Engine, name: str, between: t.Callable[[], None] = lambda: None, start: bool = True) -> bool:
    """Bring a service back whose swap failed or was cut off (a lost connection, a killed process).

    The former container is the one that was proved; if it is still there, the swap was not finished, so
    whatever carries the service's name now is discarded.

    :param between: gives it its former data, when neither program runs.
    :param start: whether it ran before the change.
    :returns: whether there was anything to bring back.
    """
    if engine.container(leftover(name)) is None:
        return False
    engine.remove(name)
    between()
    engine.rename(leftover(name), name)
    if start:
        engine.start(name)
    return True
