# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions that are asked of the host itself: who listens where, how much disk is left, which system it is.

And of a program over HTTP, from the host: several images have neither a shell nor a client inside.
"""

from __future__ import annotations

import base64
import glob
import http.client
import ipaddress
import os
import re
import shutil
import time
import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import _UnixConnection

_LISTEN = "0A"
# Between two looks at a container that is waited for: the engine has enough to do while a host's services start.
_ALIVE_SECONDS = 0.4


class Listener(t.NamedTuple):
    """A listening TCP socket."""

    address: str
    port: int
    inode: str


def http_get(
    target: dict[str, t.Any], path: str, timeout: float = 5.0, body: str = "", credentials: str = ""
) -> tuple[int, str]:
    """Ask a program and return the status and the text of its answer.

    :param target: C(address) and C(port), or C(socket): the path of a unix socket.
    :param body: JSON; makes it a POST.
    :param credentials: C(login:password), for programs that ask who wants to know.
    :raises OSError: when nothing answers.
    """
    connection: http.client.HTTPConnection
    if target.get("socket"):
        connection = _UnixConnection(target["socket"], timeout)
    else:
        connection = http.client.HTTPConnection(_reachable(target["address"]), target["port"], timeout=timeout)
    headers = {"Host": "localhost", "User-Agent": "deployment-monitoring"}
    if body:
        headers["Content-Type"] = "application/json"
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    try:
        connection.request("POST" if body else "GET", path, body=body or None, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP there: {error!r}") from error
    finally:
        connection.close()


def ready(target: dict[str, t.Any], timeout: float = 5.0) -> str:
    """Ask once whether a program is ready; return an empty text, or what is wrong."""
    try:
        status, text = http_get(target, target["path"], timeout)
    except OSError as error:
        return f"{target['path']} does not answer: {error}"
    return "" if status < 300 else f"{target['path']} answers {status}: {text.strip()[:200]}"


def wait_ready(target: dict[str, t.Any], deadline: float, alive: t.Callable[[], str]) -> str:
    """Ask until a program is ready, the deadline (monotonic seconds) passes or its container has ended.

    :param alive: returns an empty text, or why waiting on is of no use.
    :returns: an empty text, or what is wrong.
    """
    pause, looked = 0.05, time.monotonic()
    while True:
        problem = ready(target, timeout=max(0.5, min(5.0, deadline - time.monotonic())))
        if not problem:
            return ""
        if time.monotonic() - looked >= _ALIVE_SECONDS:
            ended = alive()
            if ended:
                return ended
            looked = time.monotonic()
        if time.monotonic() + pause > deadline:
            return problem
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def sample(target: dict[str, t.Any], metric: str) -> float | None:
    """Return the value of one label-less metric of a program, C(None) where it has none."""
    try:
        _status, text = http_get(target, target.get("metrics_path", "/metrics"))
    except OSError:
        return None
    found = re.search(rf"^{re.escape(metric)} (\S+)", text, re.MULTILINE)
    return float(found.group(1)) if found else None


def listeners() -> list[Listener]:
    """Return all listening TCP sockets of the host."""
    found = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as table:
                rows = [line.split() for line in table.readlines()[1:]]
        except FileNotFoundError:
            continue
        for row in rows:
            if row[3] == _LISTEN:
                raw, port = row[1].split(":")
                found.append(Listener(_address(raw), int(port, 16), row[9]))
    return found


def owner(inode: str) -> tuple[str, int, str]:
    """Return the name, the number and the control groups of the process that holds a socket."""
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) != f"socket:[{inode}]":
                continue
            process = link.split("/")[2]
            with open(f"/proc/{process}/comm") as comm, open(f"/proc/{process}/cgroup") as cgroup:
                return comm.read().strip(), int(process), cgroup.read()
        except OSError:
            continue
    return "another program", 0, ""


def overlap(one: str, other: str) -> bool:
    """Whether two listening addresses claim the same port: they are the same, or one is all of them."""
    return one == other or "0.0.0.0" in (one, other) or "::" in (one, other)


def free_bytes(path: str) -> int:
    """Return the free bytes of the file system that a path is, or will be, on."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def operating_system() -> dict[str, str]:
    """Return C(/etc/os-release) as a dictionary."""
    values = {}
    try:
        with open("/etc/os-release") as lines:
            for line in lines:
                key, separator, value = line.strip().partition("=")
                if separator:
                    values[key] = value.strip("\"'")
    except FileNotFoundError:
        pass
    return values


def _address(raw: str) -> str:
    """Decode the kernel's spelling of an address (words of four bytes in the host's order)."""
    data = b"".join(bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8))
    address = ipaddress.ip_address(data)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _reachable(address: str) -> str:
    """Return where to ask a program that listens on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address, address)
