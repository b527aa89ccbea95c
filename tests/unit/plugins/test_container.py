"""What a container is created from and what it is compared with is one thing, so each change of one field is found."""

from __future__ import annotations

import copy
import os
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import container

Describe = Callable[..., dict[str, t.Any]]
IMAGE: dict[str, t.Any] = {
    "Id": "sha256:1",
    "Config": {
        "Env": ["PATH=/bin", "KEY=of the image"],
        "Labels": {"maintainer": "somebody", "kind": "image"},
        "Cmd": ["default"],
        "Entrypoint": ["/bin/probe"],
        "User": "nobody",
        "StopTimeout": None,
    },
}


def made(service: dict[str, t.Any], image: dict[str, t.Any] = IMAGE) -> dict[str, t.Any]:
    """Return what an engine's inspection says about a container that was created from a description."""
    request = copy.deepcopy(container.body(service))
    defaults = image["Config"]
    own = dict(entry.split("=", 1) for entry in request["Env"])
    env = {**dict(entry.split("=", 1) for entry in defaults["Env"] or []), **own}
    config = {
        "Image": request["Image"],
        "User": request["User"] or defaults["User"],
        "Env": [f"{key}={value}" for key, value in env.items()],
        "Labels": {**(defaults["Labels"] or {}), **request["Labels"]},
        "StopTimeout": request["StopTimeout"],
        "Cmd": request.get("Cmd") or (None if request.get("Entrypoint") else defaults["Cmd"]),
        "Entrypoint": request.get("Entrypoint") or defaults["Entrypoint"],
    }
    host_config = request["HostConfig"]
    host_config["CapAdd"] = host_config["CapAdd"] or None
    host_config["RestartPolicy"]["MaximumRetryCount"] = 0
    host_config["MemorySwap"] = 2 * host_config["Memory"]
    if host_config["PidMode"] == "host":
        host_config["SecurityOpt"] = [*host_config["SecurityOpt"], "label=disable"]
    return {"Image": image["Id"], "Config": config, "HostConfig": host_config}


CHANGES: dict[str, tuple[t.Any, str]] = {
    "image": ("example/probe:2", "image"),
    "command": (["--other"], "cmd"),
    "entrypoint": (["/bin/other"], "entrypoint"),
    "env": ({"KEY": "other"}, "env"),
    "labels": ({"kind": "other"}, "labels"),
    "user": ("500:601", "user"),
    "groups": (["5"], "group add"),
    "network": ("none", "network mode"),
    "pid": ("", "pid mode"),
    "capabilities": (["NET_RAW"], "cap add"),
    "read_only": (False, "readonly rootfs"),
    "tmpfs": ({"/tmp": "size=2m"}, "tmpfs"),
    "mounts": ([{"source": "/", "target": "/host"}], "mounts"),
    "memory": (65 << 20, "memory"),
    "cpus": (0.6, "nano cpus"),
    "pids": (65, "pids limit"),
    "stop_timeout": (6, "stop timeout"),
    "config_target": ("/etc/other", "mounts"),
    "config_dir": ("/srv/other", "mounts"),
    "data_target": (None, "mounts"),
    "data_dir": ("/srv/other", "mounts"),
}
# What is no property of the container: who listens, what is checked, how it is asked.
BESIDES = {
    "name",
    "state",
    "directories",
    "units",
    "unwanted",
    "initial",
    "files",
    "keep",
    "watched",
    "listen",
    "ready",
    "check",
    "reload",
    "proof",
    "converted",
    "forward_only",
}


def fields(found: list[tuple[str, t.Any, t.Any]]) -> list[str]:
    return [field.replace("stoptimeout", "stop timeout") for field, _there, _wanted in found]


def test_every_key_of_a_description_is_tried_here(describe: Describe) -> None:
    assert set(describe()) == set(CHANGES) | BESIDES


@pytest.mark.parametrize(("there", "asked", "got"), [(1, 2, 1), (4, 2, 2), (1, 0.5, 0.5), (1, 0, 0)])
def test_a_limit_of_processors_is_at_most_what_the_host_has(
    describe: Describe, monkeypatch: pytest.MonkeyPatch, there: int, asked: float, got: float
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(there)))
    service = describe(cpus=asked)
    assert container.body(service)["HostConfig"]["NanoCpus"] == got * 1e9
    assert container.differences(service, made(service), IMAGE) == []


def test_a_container_that_was_just_created_does_not_differ(describe: Describe) -> None:
    assert container.differences(describe(), made(describe()), IMAGE) == []


@pytest.mark.parametrize(
    "changes",
    [{"command": []}, {"entrypoint": ["/x"], "command": []}, {"capabilities": []}, {"mounts": []}, {"tmpfs": {}}],
    ids=str,
)
def test_what_a_description_leaves_to_the_image_does_not_differ(describe: Describe, changes: dict[str, t.Any]) -> None:
    assert container.differences(describe(**changes), made(describe(**changes)), IMAGE) == []


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_field_is_found_and_nothing_else(describe: Describe, key: str) -> None:
    value, field = CHANGES[key]
    found = container.differences(describe(**{key: value}), made(describe()), IMAGE)
    assert fields(found) == [field]


@pytest.mark.parametrize(
    ("part", "field", "value", "name"),
    [
        ("HostConfig", "Memory", 1, "memory"),
        ("HostConfig", "NanoCpus", 1, "nano cpus"),
        ("HostConfig", "PidsLimit", 1, "pids limit"),
        ("HostConfig", "RestartPolicy", {"Name": "no"}, "restart policy"),
        ("HostConfig", "Privileged", True, "privileged"),
        ("HostConfig", "CapDrop", None, "cap drop"),
        ("HostConfig", "CapAdd", ["CAP_SYS_ADMIN"], "cap add"),
        ("HostConfig", "SecurityOpt", None, "security opt"),
        ("HostConfig", "LogConfig", {"Type": "none", "Config": {}}, "log config"),
        ("HostConfig", "PortBindings", {"80/tcp": [{"HostPort": "80"}]}, "port bindings"),
        ("Config", "Env", ["PATH=/bin", "KEY=value", "MORE=1"], "env"),
        ("Config", "Labels", {}, "labels"),
    ],
)
def test_a_container_that_somebody_made_or_changed_by_hand_differs(
    describe: Describe, part: str, field: str, value: t.Any, name: str
) -> None:
    actual = made(describe())
    actual[part][field] = value
    assert fields(container.differences(describe(), actual, IMAGE)) == [name]


def test_a_label_or_variable_that_is_no_longer_wanted_is_found(describe: Describe) -> None:
    found = container.differences(describe(labels={}, env={}), made(describe()), IMAGE)
    assert fields(found) == ["env", "labels"]


def test_a_default_that_another_image_brings_is_no_difference_of_the_description(describe: Describe) -> None:
    image = copy.deepcopy(IMAGE)
    image["Config"].update(Labels=None, Env=None)
    assert container.differences(describe(), made(describe(), image), image) == []


def test_a_tag_that_means_another_image_now_is_found(describe: Describe) -> None:
    assert fields(container.differences(describe(), made(describe()), {**IMAGE, "Id": "sha256:2"})) == ["image id"]


def test_an_image_that_is_not_there_yet_is_a_difference(describe: Describe) -> None:
    ((field, _there, wanted),) = container.differences(describe(), made(describe()), None)
    assert field == "image"
    assert wanted == "example/probe:1 (not on this host yet)"


def test_capabilities_are_compared_whatever_their_spelling_and_order(describe: Describe) -> None:
    service = describe(capabilities=["net_raw", "DAC_READ_SEARCH"])
    actual = made(service)
    actual["HostConfig"]["CapAdd"] = ["CAP_DAC_READ_SEARCH", "CAP_NET_RAW"]
    assert container.differences(service, actual, IMAGE) == []


def test_an_engine_without_the_limit_on_processes_is_no_drift(describe: Describe) -> None:
    actual = made(describe())
    actual["HostConfig"]["PidsLimit"] = None
    assert container.differences(describe(), actual, IMAGE) == []


def test_mounts_are_read_only_unless_asked_for_and_the_data_is_not(describe: Describe) -> None:
    service = describe(mounts=[{"source": "/a", "target": "/b", "read_only": False}, {"source": "/c", "target": "/d"}])
    mounts = {mount["Target"]: mount["ReadOnly"] for mount in container.body(service)["HostConfig"]["Mounts"]}
    assert mounts == {"/data": False, "/etc/probe": True, "/b": False, "/d": True}


def test_a_container_gets_no_more_rights_than_it_is_described_with(describe: Describe) -> None:
    host_config = container.body(describe(capabilities=[]))["HostConfig"]
    assert host_config["CapDrop"] == ["ALL"]
    assert host_config["CapAdd"] == []
    assert host_config["Privileged"] is False
    assert host_config["SecurityOpt"] == ["no-new-privileges:true"]


def test_only_who_asks_the_bus_goes_without_the_profile_that_knows_none(describe: Describe) -> None:
    host_config = container.body(describe(dbus=True))["HostConfig"]
    assert host_config["SecurityOpt"] == ["no-new-privileges:true", "apparmor=unconfined"]


def test_the_group_of_a_file_is_looked_up_on_the_host(describe: Describe, tmp_path: Path) -> None:
    group = container.body(describe(groups=[f"path:{tmp_path}"]))["HostConfig"]["GroupAdd"]
    assert group == [str(os.stat(tmp_path).st_gid)]


def test_a_checker_has_neither_network_nor_data_nor_the_services_label(describe: Describe, tmp_path: Path) -> None:
    service = describe(mounts=[{"source": str(tmp_path), "target": "/a"}, {"source": "/nowhere", "target": "/b"}])
    request = container.checker_body(service, "/staged")
    assert request["Entrypoint"] == ["/bin/check"]
    assert request["Cmd"] == ["it"]
    assert request["HostConfig"]["NetworkMode"] == "none"
    assert request["HostConfig"]["PidMode"] == ""
    assert request["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert container.LABEL not in request["Labels"]
    assert [(mount["Source"], mount["Target"]) for mount in request["HostConfig"]["Mounts"]] == [
        ("/staged", "/etc/probe"),
        (str(tmp_path), "/a"),
    ]


class RecordingEngine:
    """Notes what is asked of it."""

    def __init__(self, *names: str) -> None:
        self.names, self.calls = set(names), list[str]()

    def container(self, name: str) -> dict[str, t.Any] | None:
        return {} if name in self.names else None

    def remove(self, name: str) -> None:
        self.calls.append(f"remove {name}")

    def rename(self, name: str, new_name: str) -> None:
        self.calls.append(f"rename {name} {new_name}")

    def start(self, name: str) -> None:
        self.calls.append(f"start {name}")


def test_a_swap_that_was_cut_off_is_taken_back_to_the_proved_container() -> None:
    engine = RecordingEngine("probe", "probe_previous")
    assert container.recover(t.cast("t.Any", engine), "probe")
    assert engine.calls == ["remove probe", "rename probe_previous probe", "start probe"]


def test_without_a_former_container_nothing_is_taken_back() -> None:
    engine = RecordingEngine("probe")
    assert not container.recover(t.cast("t.Any", engine), "probe")
    assert engine.calls == []


@pytest.mark.parametrize(
    ("link", "zone"),
    [("/usr/share/zoneinfo/Europe/Paris", "Europe/Paris"), ("/etc/localtime", "UTC"), ("/elsewhere/clock", "UTC")],
)
def test_a_program_may_live_in_the_hosts_time_zone(
    describe: Describe, monkeypatch: pytest.MonkeyPatch, link: str, zone: str
) -> None:
    monkeypatch.setattr(os.path, "realpath", {"/etc/localtime": link}.get)
    service = describe(env={"TZ": "host", "KEY": "value"})
    assert container.body(service)["Env"] == ["KEY=value", f"TZ={zone}"]
    assert container.differences(service, made(service), IMAGE) == []
    assert fields(container.differences(service, made(describe(env={"TZ": "Asia/Tokyo", "KEY": "value"})), IMAGE)) == [
        "env"
    ]
    assert container.body(describe(env={"TZ": "Asia/Tokyo"}))["Env"] == ["TZ=Asia/Tokyo"]
