"""What the comparison finds on a host without that a container has to run."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import swap, tree
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import service_compare

Describe = Callable[..., dict[str, t.Any]]


def test_while_a_restore_holds_the_former_data_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "data/.restore-former").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (sentence,) = service_compare.cut_off([str(tmp_path / "etc"), str(tmp_path / "data")])
    assert sentence.startswith(f"{tmp_path}/data: a restore was cut off")
    assert "run playbooks/restore.yml again, it puts the former data back first" in sentence
    (tmp_path / "data/.restore-former").rmdir()
    assert service_compare.cut_off([str(tmp_path / "etc"), str(tmp_path / "data")]) == []


def test_units_that_never_wrote_their_file_get_one_that_says_since_when(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = tmp_path / "metrics/monitoring_backup.prom"
    metrics.parent.mkdir()
    service = describe(
        units=["x.timer"],
        config_dir=str(tmp_path / "etc"),
        data_dir=str(tmp_path / "data/probe"),
        initial={str(metrics): "installed @now@\n"},
        user="0:0",
    )
    (tmp_path / "etc").mkdir(mode=0o750)
    for module in (service_compare.units, swap.units):
        monkeypatch.setattr(module, "differences", lambda names, directory: [])
        monkeypatch.setattr(module, "put", lambda names, directory: None)
    decision = service_compare.compare_service(None, service)
    assert (decision["action"], decision["reasons"]) == ("units", [f"{metrics}: missing"])
    monkeypatch.setattr(swap.time, "time", lambda: 1700000000.9)
    swap.Swap(Engine("/nowhere"), service, decision, str(tmp_path / "staging"), 0)._units()
    assert metrics.read_text() == "installed 1700000000\n"
    assert oct(metrics.stat().st_mode)[-3:] == "644"
    # What they wrote themselves by now is theirs.
    metrics.write_text("ran")
    assert service_compare.compare_service(None, service)["action"] == "none"
    tree.begin(str(metrics), "installed")
    assert metrics.read_text() == "ran"
