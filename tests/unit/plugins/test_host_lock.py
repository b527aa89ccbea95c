"""One change of a host at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock


def test_the_second_one_is_refused_and_was_told_that_it_waits(tmp_path: Path) -> None:
    said: list[str] = []
    holder = f"another run is changing this host: a first one, process {os.getpid()}, since 20"
    with host_lock.held(str(tmp_path), "a first one"):
        for _time in range(2):
            with (
                pytest.raises(host_lock.LockError, match=f"{holder}.*; run again when it has ended"),
                host_lock.held(str(tmp_path), "second", seconds=0.3, say=said.append),
            ):
                pass
    assert len(said) == 2
    assert said[0].startswith(holder)
    with host_lock.held(str(tmp_path), "third", seconds=0) as path:
        text = Path(path).read_text()
    assert re.fullmatch(rf"third, process {os.getpid()}, since [\d-]{{10}} [\d:]{{8}}", text)


def test_after_a_change_that_failed_the_next_one_may_begin(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the first"), host_lock.held(str(tmp_path), "first"):
        raise ValueError("of the first")
    with host_lock.held(str(tmp_path), "second", seconds=0):
        pass


def test_the_second_one_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    done: list[str] = []

    def second() -> None:
        with host_lock.held(str(tmp_path), "second", seconds=10):
            done.append("second")

    with host_lock.held(str(tmp_path), "first"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]


def test_one_that_was_removed_between_its_opening_and_its_locking_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(True)
            (tmp_path / host_lock.NAME).unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(host_lock.fcntl, "flock", late)
    with host_lock.held(str(tmp_path), "first") as path:
        # It holds the file that is there, so a second one has to wait.
        assert Path(path).exists()
        with pytest.raises(host_lock.LockError), host_lock.held(str(tmp_path), "second", seconds=0):
            pass
    assert removed


def test_a_full_disk_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(host_lock.os, "write", full)
    with host_lock.held(str(tmp_path), "first"):
        monkeypatch.undo()
        with (
            pytest.raises(host_lock.LockError, match="this host: it has just begun; run again"),
            host_lock.held(str(tmp_path), "second", seconds=0),
        ):
            pass


def test_a_process_that_is_killed_leaves_it_free(tmp_path: Path) -> None:
    source = f"import sys, time; sys.path.insert(0, {str(Path(host_lock.__file__).parent)!r}); import host_lock\n"
    source += f"with host_lock.held({str(tmp_path)!r}, 'first'): print('held', flush=True); time.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(host_lock.LockError), host_lock.held(str(tmp_path), "second", seconds=0):
            pass
        process.kill()
        process.wait()
    with host_lock.held(str(tmp_path), "third", seconds=0):
        pass
