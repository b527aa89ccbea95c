"""One change of a host at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import host_lock


def test_the_second_one_is_refused_and_was_told_that_it_waits(tmp_path: Path) -> None:
    said: list[str] = []
    with host_lock.held(str(tmp_path)):  # noqa: SIM117 - the second one is the subject
        with pytest.raises(host_lock.LockError, match="another run is changing this host"):
            with host_lock.held(str(tmp_path), seconds=0.3, say=said.append):
                pass
    assert len(said) == 1
    with host_lock.held(str(tmp_path), seconds=0):
        pass


def test_the_second_one_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    done: list[str] = []

    def second() -> None:
        with host_lock.held(str(tmp_path), seconds=10):
            done.append("second")

    with host_lock.held(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]


def test_one_that_was_removed_with_all_else_keeps_nobody_out_and_lets_nobody_in_twice(tmp_path: Path) -> None:
    entered: list[bool] = []

    def waiting() -> None:
        with host_lock.held(str(tmp_path), seconds=10) as path:
            # It holds the file that is there, so a third one has to wait.
            entered.append(Path(path).exists())
            with pytest.raises(host_lock.LockError), host_lock.held(str(tmp_path), seconds=0):
                pass

    with host_lock.held(str(tmp_path)) as path:
        thread = threading.Thread(target=waiting)
        thread.start()
        time.sleep(0.5)
        Path(path).unlink()
    thread.join(10)
    assert entered == [True]


def test_a_process_that_is_killed_leaves_it_free(tmp_path: Path) -> None:
    source = f"import sys, time; sys.path.insert(0, {str(Path(host_lock.__file__).parent)!r}); import host_lock\n"
    source += f"with host_lock.held({str(tmp_path)!r}): print('held', flush=True); time.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(host_lock.LockError), host_lock.held(str(tmp_path), seconds=0):
            pass
        process.kill()
        process.wait()
    with host_lock.held(str(tmp_path), seconds=0):
        pass
