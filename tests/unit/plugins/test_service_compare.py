"""What is refused before anything is changed, told by the variable's name; the comparison itself: tests/integration."""

from __future__ import annotations

import os
import socket
import typing as t
from collections.abc import Callable, Iterator

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


def test_without_root_it_is_refused_before_an_engine_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        params: t.ClassVar[dict[str, t.Any]] = {"plan": [], "engine_timeout": 0}

        def __init__(self, **_options: t.Any) -> None:
            pass

        def fail_json(self, msg: str) -> None:
            raise Told(msg)

    monkeypatch.setattr(service_compare, "AnsibleModule", Module)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(Told, match="^Nothing was changed. This needs root .*, and nobody is not: set ansible_become: "):
        service_compare.main()
