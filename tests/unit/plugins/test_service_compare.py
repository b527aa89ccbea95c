"""What is refused before anything is changed, told by the variable's name; the comparison itself: tests/integration."""

from __future__ import annotations

import os
import socket
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.action import service_compare as action
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import service_compare


class Told(Exception):
    """What the module would tell Ansible."""


Describe = Callable[..., dict[str, t.Any]]


def listening(*variables: tuple[str, int]) -> list[dict[str, t.Any]]:
    return [{"address": "127.0.0.1", "port": port, "variable": variable} for variable, port in variables]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this test's own process holds."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize("found", ["create", "recreate", "start", "restart"])
def test_every_port_that_another_program_holds_is_refused_by_its_variable(
    describe: Describe, taken: int, found: str
) -> None:
    service = describe(listen=listening(("probe_port", 1), ("probe_grpc_port", taken)))
    (said,) = service_compare.refusals(None, [service], {"probe": {"action": found}})
    assert said.startswith(f"probe_grpc_port: {taken} is taken on 127.0.0.1 by ")
    assert f"(process {os.getpid()})" in said


@pytest.mark.parametrize("found", ["none", "files", "reload", "wait", "remove"])
def test_a_program_that_goes_on_running_keeps_its_port(describe: Describe, taken: int, found: str) -> None:
    service = describe(listen=listening(("probe_port", taken)))
    assert service_compare.refusals(None, [service], {"probe": {"action": found}}) == []


def test_a_port_that_two_services_want_is_refused_with_both_variables(describe: Describe) -> None:
    one = describe(listen=listening(("loki_port", 3100), ("loki_grpc_port", 9090)))
    other = describe(listen=listening(("prometheus_port", 9090)))
    assert action._clashes([one, other]) == ["prometheus_port: 9090 is also the value of loki_grpc_port; change one"]
    assert action._clashes([one, {**other, "state": "absent"}]) == []


def test_what_is_to_be_mounted_and_is_not_there_is_refused_by_its_variable(describe: Describe, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    service = describe(
        mounts=[
            {"source": str(tmp_path / "there"), "target": "/a", "variable": "probe_there"},
            {"source": str(tmp_path / "moved"), "target": "/b", "variable": "probe_engine_data_dir"},
            {"source": "/nowhere/at/all", "target": "/c"},
        ]
    )
    rest = "is not there on the host, and probe mounts it; name what is there, or make it"
    for found in ("create", "recreate", "start", "restart"):
        assert service_compare.missing_mounts([service], {"probe": {"action": found}}) == [
            f"probe_engine_data_dir: {tmp_path}/moved {rest}",
            f"/nowhere/at/all {rest}",
        ]
    assert service_compare.missing_mounts([service], {"probe": {"action": "none"}}) == []


def test_what_the_run_itself_makes_may_be_mounted(describe: Describe) -> None:
    sources = ["/srv/data/probe", "/srv/data", "/srv/etc/probe", "/srv/text", "/srv/data/probe/socket"]
    service = describe(mounts=[{"source": source, "target": source} for source in sources], directories=["/srv/text"])
    decisions = {"probe": {"action": "create"}}
    assert [said.split()[0] for said in service_compare.missing_mounts([service], decisions)] == [sources[-1]]
    absent = {**describe(name="other"), "state": "absent"}
    service = describe(mounts=[{"source": "/srv/data", "target": "/x"}], data_target=None)
    decisions["other"] = {"action": "none"}
    assert len(service_compare.missing_mounts([service, absent], decisions)) == 1


class Module:
    """Stands in for AnsibleModule."""

    params: t.ClassVar[dict[str, t.Any]] = {}

    def __init__(self, argument_spec: dict[str, t.Any], **_options: t.Any) -> None:
        self.params = {**{name: option.get("default") for name, option in argument_spec.items()}, **self.params}

    def fail_json(self, msg: str) -> None:
        raise Told(msg)

    def exit_json(self, **result: t.Any) -> None:
        raise Told(result)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> type[Module]:
    monkeypatch.setattr(service_compare, "AnsibleModule", Module)
    monkeypatch.setattr(Module, "params", {})
    return Module


def test_without_root_it_is_refused_before_an_engine_is_looked_for(
    module: type[Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(Told, match="^Nothing was changed. This needs root .*, and nobody is not: set ansible_become: "):
        service_compare.main()


@pytest.mark.parametrize(("installed", "told"), [("/usr/bin/dockerd", 0), ("", 1)])
def test_ports_count_once_the_engine_is_started_whose_containers_may_go_on_without_it(
    module: type[Module], monkeypatch: pytest.MonkeyPatch, describe: Describe, taken: int, installed: str, told: int
) -> None:
    monkeypatch.setattr(service_compare.Engine, "answers_within", lambda _engine, _seconds: False)
    monkeypatch.setattr(service_compare, "installed", lambda unit: installed if unit == "docker" else "another")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    module.params = {"plan": [describe(listen=listening(("probe_port", taken)))]}
    with pytest.raises(Told) as caught:
        service_compare.main()
    result = caught.value.args[0]
    assert result["engine_installed"] == installed
    assert result["differs"]
    assert len(result["problems"]) == told


def test_a_diff_hides_what_a_configuration_has_behind_a_name_like_password(
    describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(former: str, later: str) -> list[dict[str, str]]:
        monkeypatch.setattr(action.plan, "contents", lambda _host, _name: {"probe.ini": later.encode()})
        service = describe(files={"probe.ini": {"secret": False}})
        decision = {"action": "restart", "reasons": ["probe.ini: changed"], "files": {"added": [], "changed": []}}
        decision["files"]["changed"] = ["probe.ini"]  # type: ignore[index]
        return action._diff("one", [service], {"probe": decision}, {"probe": {"probe.ini": former}})

    reasons, entry = compared("user = a\npassword = hunter1\n", "user = b\npassword = hunter2\n")
    assert (entry["before"], entry["after"]) == ("user = a\npassword = (hidden)\n", "user = b\npassword = (hidden)\n")
    assert reasons["prepared"] == "probe: restart\n  probe.ini: changed\n"
    # A change that cannot be seen is told.
    reasons, _entry = compared("password = hunter1\n", "password = hunter2\n")
    assert reasons["prepared"].endswith("  probe.ini: only hidden values differ\n")
