"""The removal, where no engine and no systemd are needed to tell what goes from what stays."""

from __future__ import annotations

import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import uninstall

STAMP = "20260101T020000Z"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Directories with what the collection left there, and with strangers close to it by name."""
    for path in (
        # Ours, and no data.
        "data/.staging/x",
        "data/.backup/x",
        "data/.restore/x",
        "data/.restore-done/x",
        "data/versions.json.new",
        "data/.upload-abc/x",
        "data/docker_proxy/socket",
        "data/textfile/monitoring_backup.prom",
        "data/textfile/monitoring_backup.prom.new",
        "etc/prometheus/prometheus.yml",
        "etc/prometheus/rules/a.yml",
        "etc/grafana.unfinished",
        "backups/monitoring-web-20260101T020000Z.tar.gz.part",
        # Data.
        "data/prometheus/wal/1",
        "data/.restore-former/prometheus/wal/1",
        "data/.restore-aside/prometheus/wal/1",
        "data/.former-loki/x",
        "data/versions.json",
        "etc/prometheus/rules.d/own/own.yml",
        # The only record of what installed the engine.
        "data/engine.json",
        # Archives.
        f"backups/monitoring-web-{STAMP}.tar.gz",
        f"backups/monitoring-web-{STAMP}.tar.gz.age.sha256",
        # Strangers.
        "data/photos/1.jpg",
        "data/.hidden/1",
        "data/restore/1",
        "data/textfile/raid.prom",
        "data/textfile/monitoring_of_somebody.prom",
        "etc/own.conf",
        "etc/other/rules.d/x",
        f"backups/monitoring-web-1-{STAMP}.tar.gz",
        f"backups/monitoring-other-{STAMP}.tar.gz.part",
        "backups/.lock-other",
        "backups/etc.tar.gz",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    return tmp_path


STRANGERS = {
    "data/photos/1.jpg",
    "data/.hidden/1",
    "data/restore/1",
    "data/textfile/raid.prom",
    "data/textfile/monitoring_of_somebody.prom",
    "etc/own.conf",
    "etc/other/rules.d/x",
    f"backups/monitoring-web-1-{STAMP}.tar.gz",
    f"backups/monitoring-other-{STAMP}.tar.gz.part",
    "backups/.lock-other",
    "backups/etc.tar.gz",
}
DATA = {
    "data/prometheus/wal/1",
    "data/.restore-former/prometheus/wal/1",
    "data/.restore-aside/prometheus/wal/1",
    "data/.former-loki/x",
    "data/versions.json",
    "etc/prometheus/rules.d/own/own.yml",
}
ARCHIVES = {f"backups/monitoring-web-{STAMP}.tar.gz", f"backups/monitoring-web-{STAMP}.tar.gz.age.sha256"}
RECORD = {"data/engine.json"}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def remove(root: Path, monkeypatch: pytest.MonkeyPatch, check: bool = False, **asked: t.Any) -> uninstall.Uninstall:
    monkeypatch.setattr(uninstall.units, "SYSTEM", str(root / "systemd"))
    params = {
        "host": "web",
        "services": ["docker_proxy", "grafana", "loki", "maintenance", "prometheus"],
        "timers": ["backup", "cleanup", "health_check"],
        "config_dir": str(root / "etc"),
        "data_dir": str(root / "data"),
        "backup_dir": str(root / "backups"),
        "textfile_dir": str(root / "data/textfile"),
        "files": [],
        "own": ["prometheus/rules.d/*"],
        "data": False,
        "archives": False,
        "images": True,
        **asked,
    }
    work = uninstall.Uninstall(None, params, check)
    work.run()
    return work


def test_data_and_archives_and_strangers_stay_and_all_else_goes(machine: Path, monkeypatch: t.Any) -> None:
    work = remove(machine, monkeypatch)
    assert files(machine) == STRANGERS | DATA | ARCHIVES | RECORD
    kept = "\n".join(work.kept)
    for name in ("photos", ".hidden", "restore", "textfile/raid.prom"):
        assert f"{machine}/data/{name}, which is not ours," in work.kept
    assert f"{machine}/backups/monitoring-web-1-{STAMP}.tar.gz, which is not ours," in work.kept
    assert f"data {machine}/data/.restore-former, " in kept
    assert f"{machine}/data/engine.json" in kept
    assert f"file {machine}/etc/prometheus/rules.d/own/own.yml: yours" in work.kept


def test_asked_to_it_takes_data_and_archives_and_still_no_stranger(machine: Path, monkeypatch: t.Any) -> None:
    remove(machine, monkeypatch, data=True, archives=True)
    assert files(machine) == STRANGERS | RECORD


def test_where_nothing_is_strange_no_directory_is_left(machine: Path, monkeypatch: t.Any) -> None:
    for path in STRANGERS | RECORD:
        (machine / path).unlink()
        if not list((machine / path).parent.iterdir()):
            (machine / path).parent.rmdir()
    (machine / "etc/other").rmdir()
    work = remove(machine, monkeypatch, data=True, archives=True)
    assert list(machine.iterdir()) == []
    assert {f"directory {machine}/{name}" for name in ("data", "etc", "backups")} <= set(work.removed)
    assert remove(machine, monkeypatch, data=True, archives=True).removed == []


def test_in_check_mode_it_tells_the_same_and_touches_nothing(machine: Path, monkeypatch: t.Any) -> None:
    before = files(machine)
    told = remove(machine, monkeypatch, check=True)
    assert files(machine) == before
    done = remove(machine, monkeypatch)
    assert (told.removed, told.kept) == ([line for line in done.removed if "directory " not in line], done.kept)


def test_a_second_run_removes_nothing_more(machine: Path, monkeypatch: t.Any) -> None:
    remove(machine, monkeypatch)
    before = files(machine)
    assert remove(machine, monkeypatch).removed == []
    assert files(machine) == before


def test_archives_below_the_data_stay_with_the_data_gone(machine: Path, monkeypatch: t.Any) -> None:
    (machine / "backups").rename(machine / "data/backups")
    work = remove(machine, monkeypatch, data=True, backup_dir=str(machine / "data/backups"))
    assert {f"data/{path}" for path in ARCHIVES} <= files(machine)
    assert f"{machine}/data/backups, which is not ours," not in work.kept


@pytest.mark.parametrize("lock", ["data/.lock", "backups/.lock-web"])
def test_it_waits_for_whoever_changes_the_host(machine: Path, monkeypatch: t.Any, lock: str) -> None:
    path = machine / lock
    with host_lock.held(str(path.parent), "first", name=path.name):
        thread = threading.Thread(target=remove, args=(machine, monkeypatch))
        thread.start()
        time.sleep(0.5)
        assert (machine / "etc/prometheus/prometheus.yml").exists()
    thread.join(20)
    assert files(machine) == STRANGERS | DATA | ARCHIVES | RECORD
