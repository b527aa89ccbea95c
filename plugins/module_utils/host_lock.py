# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One change of a host at a time: swaps, backups, restores and the removal wait for one another.

The lock is a file in the directory of the data. It is held by the kernel for the process that took it, so one that is
killed leaves nothing that somebody would have to clear away. The standard library alone: the timers' programs use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

NAME = ".lock"
SECONDS = 300.0
_PAUSE = 0.2


class LockError(Exception):
    """Another run is changing this host."""


@contextlib.contextmanager
def held(
    directory: str, seconds: float = SECONDS, name: str = NAME, say: t.Callable[[str], t.Any] = lambda _text: None
) -> t.Iterator[str]:
    """Hold the lock of a directory, and give its path.

    :param seconds: how long another holder is waited for.
    :param say: is told once that there is somebody to wait for.
    :raises LockError: when the other one is not done by then.
    """
    path, deadline, told = os.path.join(directory, name), time.monotonic() + seconds, False
    while (descriptor := _take(path)) is None:
        if time.monotonic() > deadline:
            raise LockError(f"another run is changing this host ({path} was held for {seconds:.0f} s); try again later")
        if not told:
            say(f"another run is changing this host: waiting for {path}, at most {seconds:.0f} s")
            told = True
        time.sleep(_PAUSE)
    try:
        yield path
    finally:
        os.close(descriptor)


def _take(path: str) -> int | None:
    """Return the open file once it is locked; C(None) where another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The removal of everything unlinks it: whoever waited for it then holds a file that nobody else will find.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
