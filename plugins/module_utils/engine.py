# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A client of the container engine's HTTP API, on the engine's own socket.

Why not the Docker SDK or community.docker's client: the comparison of a whole host and the
transaction that follows run inside one module on the target. With the standard library alone they need
nothing installed there, and start in a tenth of the time that C(import docker) takes.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import struct
import time
import typing as t
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
_WORDS_SECONDS = 1.0
LOGINS = "~root/.docker/config.json"
PROGRAM = "dockerd"
PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/snap/bin", "/opt/bin")
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


class EngineError(Exception):
    """The engine refused a call, or does not answer; the text is the engine's own where there is one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The few calls that comparing, checking and swapping container services need.

    :param path: the engine's unix socket.
    :param timeout: seconds that one call may take; pulls and loads wait without a limit of their own.
    :param logins: the file in which C(docker login) keeps the logins of registries.
    """

    def __init__(self, path: str = SOCKET, timeout: float = 60.0, logins: str = LOGINS) -> None:
        self.path = path
        self.timeout = timeout
        self.logins = os.path.expanduser(logins)

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, t.Any] | None = None,
        body: t.Any = None,
        stream: t.BinaryIO | None = None,
        timeout: float | None = None,
        more_headers: dict[str, str] | None = None,
    ) -> bytes:
        """Make one call and return the answer's body.

        :param stream: sent as the request's body (an image archive), instead of C(body) as JSON.
        :param more_headers: sent besides those that every call needs.
        :raises EngineError: for any status from 400 on, and when the engine cannot be reached.
        """
        url = quote(path) + ("?" + urlencode(query) if query else "")
        headers = {"Host": "localhost", **(more_headers or {})}
        payload: t.Any = None
        if stream is not None:
            headers.update({"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"})
            payload = iter(lambda: stream.read(1 << 20), b"")
        elif body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        connection = _UnixConnection(self.path, timeout or self.timeout)
        try:
            connection.request(method, url, body=payload, headers=headers, encode_chunked=stream is not None)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the engine does not answer on {self.path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise EngineError(_message(data), response.status)
        return data

    def get(self, path: str, query: dict[str, t.Any] | None = None) -> t.Any:
        """Return the decoded answer of a C(GET), or C(None) where there is no such thing."""
        try:
            return json.loads(self.call("GET", path, query))
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def answers(self) -> bool:
        """Whether an engine is there and works."""
        try:
            self.call("GET", "/_ping", timeout=10)
        except EngineError:
            return False
        return True

    def answers_within(self, seconds: float) -> bool:
        """Whether an engine answers, at once or a little later: one that was just started may still be busy."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)
        return True

    def info(self) -> dict[str, t.Any]:
        """Return the engine's description of itself and of its host."""
        return t.cast("dict[str, t.Any]", self.get("/info"))

    def containers(self, label: str) -> list[dict[str, t.Any]]:
        """Return the summaries of all containers, running or not, that carry a label."""
        filters = json.dumps({"label": [label]})
        return t.cast("list[dict[str, t.Any]]", self.get("/containers/json", {"all": 1, "filters": filters}))

    def container(self, name: str) -> dict[str, t.Any] | None:
        """Return the inspection of one container, or C(None)."""
        return t.cast("dict[str, t.Any] | None", self.get(f"/containers/{name}/json"))

    def image(self, reference: str) -> dict[str, t.Any] | None:
        """Return the inspection of one local image, or C(None)."""
        return t.cast("dict[str, t.Any] | None", self.get(f"/images/{reference}/json"))

    def create(self, name: str, body: dict[str, t.Any]) -> str:
        """Create a container and return its id."""
        return t.cast("str", json.loads(self.call("POST", "/containers/create", {"name": name}, body))["Id"])

    def start(self, name: str) -> None:
        """Start a container; one that runs already is left alone."""
        self.call("POST", f"/containers/{name}/start")

    def stop(self, name: str, seconds: int) -> None:
        """Stop a container, by force after C(seconds)."""
        self.call("POST", f"/containers/{name}/stop", {"t": seconds}, timeout=seconds + self.timeout)

    def restart(self, name: str, seconds: int) -> None:
        """Restart a container, stopping it by force after C(seconds)."""
        self.call("POST", f"/containers/{name}/restart", {"t": seconds}, timeout=seconds + self.timeout)

    def signal(self, name: str, signal_name: str) -> None:
        """Send a signal to a container's first process.

        Not by the engine's own call: the engine (20.10 at least) takes any signal for a stop by hand, and does not
        start an C(unless-stopped) container again when the machine boots.
        """
        actual = self.container(name)
        if actual is None or not actual["State"]["Running"]:
            raise EngineError(f"{name} does not run, so it cannot be sent {signal_name}")
        os.kill(actual["State"]["Pid"], getattr(signal, f"SIG{signal_name}"))

    def rename(self, name: str, new_name: str) -> None:
        """Give a container another name."""
        self.call("POST", f"/containers/{name}/rename", {"name": new_name})

    def update(self, name: str, body: dict[str, t.Any]) -> None:
        """Change what the engine can change on a living container (its restart policy)."""
        self.call("POST", f"/containers/{name}/update", body=body)

    def remove(self, name: str) -> None:
        """Remove a container with its anonymous volumes, running or not; none of that name is fine."""
        try:
            self.call("DELETE", f"/containers/{name}", {"force": 1, "v": 1})
        except EngineError as error:
            if error.status != 404:
                raise

    def wait(self, name: str, seconds: float) -> int:
        """Wait until a container ends and return its exit code."""
        answer = json.loads(self.call("POST", f"/containers/{name}/wait", timeout=seconds))
        return int(answer["StatusCode"])

    def logs(self, name: str, lines: int = 20) -> str:
        """Return the last lines that a container wrote, both streams in their order."""
        try:
            raw = self.call("GET", f"/containers/{name}/logs", {"stdout": 1, "stderr": 1, "tail": lines})
        except EngineError as error:
            return f"(no log: {error})"
        return _demultiplex(raw).decode(errors="replace").strip()

    def last_words(self, name: str, lines: int = 20) -> str:
        """Return the last lines of a container that has ended: the engine has them a moment after they were said."""
        deadline = time.monotonic() + _WORDS_SECONDS
        while not (text := self.logs(name, lines)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return text

    def pull(self, reference: str) -> None:
        """Get an image from its registry, with the login that C(docker login) left for root.

        :raises EngineError: also for failures that the engine reports inside a successful answer.
        """
        name, tag = split_reference(reference)
        login, helper = registry_login(reference, self.logins)
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()} if login else {}
        query = {"fromImage": name, "tag": tag}
        try:
            _raise_reported(self.call("POST", "/images/create", query, timeout=3600, more_headers=headers))
        except EngineError as error:
            if not helper:
                raise
            raise EngineError(
                f"{error} (asked without a login: {self.logins} leaves it to the credential helper {helper}, which is "
                "asked by docker's own client alone; docker pull it on the host, or log in without a helper)",
                error.status,
            ) from error

    def load(self, path: str) -> None:
        """Load an image archive (C(docker save), compressed or not)."""
        with open(path, "rb") as archive:
            _raise_reported(self.call("POST", "/images/load", {"quiet": 1}, stream=archive, timeout=3600))


def installed(unit: str) -> str:
    """Return the path of an engine's unit or program on this host, or an empty text: one that is stopped is still one.

    :param unit: the name of its systemd unit.
    """
    paths = [os.path.join(directory, f"{unit}.service") for directory in UNIT_DIRECTORIES]
    paths += [os.path.join(directory, PROGRAM) for directory in PROGRAM_DIRECTORIES]
    # A masked unit is a link to /dev/null: a name that somebody wants to keep from being used.
    return next((path for path in paths if os.path.isfile(path)), "")


def split_reference(reference: str) -> tuple[str, str]:
    """Split an image reference into its name and its tag or digest.

    >>> split_reference("mirror:5000/prom/prometheus:v3.13.2")
    ('mirror:5000/prom/prometheus', 'v3.13.2')
    """
    if "@" in reference:
        name, digest = reference.split("@", 1)
        return name, digest
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, "latest"
    return name, tag


def registry(reference: str) -> str:
    """Return the registry of an image reference.

    >>> registry("mirror:5000/prom/prometheus:v3"), registry("prom/prometheus:v3")
    ('mirror:5000', 'docker.io')
    """
    first, slash, _rest = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def registry_login(reference: str, path: str) -> tuple[dict[str, str] | None, str]:
    """Return the login for the registry of an image, and the credential helper that has it instead.

    :param path: a file as C(docker login) writes it; it may be missing.
    :raises EngineError: when it is there and cannot be understood.
    """
    try:
        with open(path) as reader:
            config = json.load(reader)
        wanted = registry(reference)
        helper = (config.get("credHelpers") or {}).get(wanted) or config.get("credsStore") or ""
        for address, entry in (config.get("auths") or {}).items():
            host = address.partition("://")[2] or address
            if host.partition("/")[0].replace("index.docker.io", "docker.io") != wanted or not entry:
                continue
            if entry.get("identitytoken"):
                return {"identitytoken": entry["identitytoken"], "serveraddress": address}, ""
            name, password = entry.get("username", ""), entry.get("password", "")
            if entry.get("auth"):
                name, _colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
            if name:
                return {"username": name, "password": password, "serveraddress": address}, ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # Without the error's own words: they may have a piece of the file.
        raise EngineError(
            f"{path} cannot be understood ({type(error).__name__}); docker login writes it anew"
        ) from None
    return None, helper


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()


def _raise_reported(answer: bytes) -> None:
    for line in answer.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("error"):
            raise EngineError(str(entry["error"]))


def _demultiplex(raw: bytes) -> bytes:
    """Join the frames of a container's log (an 8-byte header each, unless it has a terminal)."""
    parts: list[bytes] = []
    rest = raw
    while len(rest) >= 8 and rest[0] in (0, 1, 2) and rest[1:4] == b"\0\0\0":
        size = struct.unpack(">I", rest[4:8])[0]
        parts.append(rest[8 : 8 + size])
        rest = rest[8 + size :]
    return b"".join(parts) + rest
