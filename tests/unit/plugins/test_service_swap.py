"""The module around the transactions; those are tried on a real engine, tests/integration."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import service_swap


class Told(Exception):
    """What the module would tell Ansible."""


class Module:
    """Stands in for AnsibleModule."""

    params: t.ClassVar[dict[str, t.Any]] = {}

    def __init__(self, **_options: t.Any) -> None:
        pass

    def fail_json(self, msg: str, **_more: t.Any) -> None:
        raise Told(msg)


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which a run that goes on keeps the former configuration of a service."""
    monkeypatch.setattr(service_swap, "AnsibleModule", Module)
    monkeypatch.setattr(Module, "params", {"staging_dir": str(tmp_path / ".staging")})
    (tmp_path / ".staging/.former/loki").mkdir(parents=True)
    return tmp_path / ".staging"


def test_a_second_run_is_refused_and_leaves_the_first_ones_way_back(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_swap, "change", lambda _module: service_swap.shutil.rmtree(staging))
    words = (
        "^No service was touched: another run is changing this host: first, process .*; run again when it has ended$"
    )
    with host_lock.held(str(staging.parent), "first"), pytest.raises(Told, match=words):
        service_swap.main()
    assert (staging / ".former/loki").exists()


def test_a_run_holds_the_lock_until_it_ends_and_leaves_nothing_of_it(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(module: Module) -> None:
        with pytest.raises(host_lock.LockError), host_lock.held(str(staging.parent), seconds=0):
            pass
        module.fail_json("refused")

    monkeypatch.setattr(service_swap, "change", refused)
    with pytest.raises(Told, match="refused"):
        service_swap.main()
    assert os.listdir(staging.parent) == [".staging"]
    with host_lock.held(str(staging.parent), seconds=0):
        pass
