# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One change of a host at a time: swaps, backups, restores and the removal wait for one another.

The lock is a file in the directory of the data, which every one of them may write to, also a unit with a read-only
system. The kernel holds it for the process that took it, so one that is killed leaves nothing to be cleared away. The
standard library alone: the timers' programs use it.
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
    """Another run is changing this host; the text says which."""


@contextlib.contextmanager
def held(
    directory: str,
    what: str = "a change of services",
    seconds: float | None = None,
    name: str = NAME,
    say: t.Callable[[str], t.Any] = lambda _text: None,
) -> t.Iterator[str]:
    """Hold the lock of a directory, and give its path.

    :param what: what is being done, for whoever comes second.
    :param seconds: how long another holder is waited for; C(SECONDS) where it is not given.
    :param say: is told once that there is somebody to wait for.
    :raises LockError: when the other one is not done by then.
    """
    seconds = SECONDS if seconds is None else seconds
    path, deadline, told = os.path.join(directory, name), time.monotonic() + seconds, False
    while (descriptor := _take(path, what)) is None:
        busy = f"another run is changing this host: {_holder(path)}"
        if time.monotonic() >= deadline:
            raise LockError(f"{busy}; run again when it has ended")
        if not told:
            say(f"{busy}; waiting for it, at most {seconds:.0f} s")
            told = True
        time.sleep(_PAUSE)
    try:
        yield path
    finally:
        os.close(descriptor)


def _take(path: str, what: str) -> int | None:
    """Return the open file once it is locked; C(None) where another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The removal of everything unlinks it: whoever waited for it then holds a file that nobody else will find.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            # On a full disk nobody can be told who it is; what makes room has to go on all the same.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                holder = f"{what}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
                os.write(descriptor, holder.encode())
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _holder(path: str) -> str:
    with contextlib.suppress(OSError), open(path, errors="replace") as reader:
        return reader.read().strip() or "it has just begun"
    return "it has just ended"
