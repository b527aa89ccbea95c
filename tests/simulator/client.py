"""The control interface's client: `python3 -m simulator control <service> <action> [key=value …]`."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PORTS = {"port-manager": 3005, "deployment-api": 3004, "tunnel-manager": 3001}


class ControlError(Exception):
    """The service could not be reached, or refused."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def send(
    service: str,
    action: str | None = None,
    url: str | None = None,
    run_dir: Path | None = None,
    timeout: float = 30.0,
    **parameters: Any,
) -> dict[str, Any]:
    """Send one action, or ask for the state; through the Unix socket where there is one."""
    connection: http.client.HTTPConnection
    sock = run_dir / f"{service}.sock" if run_dir else None
    if url:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=timeout)
    elif sock and sock.exists():
        connection = UnixConnection(sock, timeout)
    elif service in PORTS:
        connection = http.client.HTTPConnection("127.0.0.1", PORTS[service], timeout=timeout)
    else:
        raise ControlError(f"{service}: no socket {sock} and no --url")
    try:
        if action is None:
            connection.request("GET", "/control")
        else:
            connection.request("POST", "/control", json.dumps({"action": action, **parameters}))
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ControlError(f"{service} cannot be reached: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ControlError(f"{service}: {answer.get('error', answer)}")
    return answer


def clear_crash_loop(service: str, state_dir: Path) -> bool:
    """End a crash loop from outside: the program itself may be away at this moment."""
    path = state_dir / f"{service}.crash"
    found = path.exists()
    path.unlink(missing_ok=True)
    return found


def parse_parameter(text: str) -> tuple[str, Any]:
    """Read `key=value`; a value that is JSON is taken as such, anything else is a text."""
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise ControlError(f"a parameter is written key=value, not {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
