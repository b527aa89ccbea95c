"""What the tests of all scenarios share: asking a program on the target, and waiting for an answer.

`host` is testinfra's own fixture. A single test file is run again within a second on a target that
`molecule converge -s NAME` left: pytest --hosts=docker://monitoring-NAME molecule/NAME
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

T = TypeVar("T")
LOKI = "http://127.0.0.1:3100/loki/api/v1"
# What an earlier run on the same target wrote is not asked for.
BEGIN = time.time()
# The environment of a second collector that reads the same files, beside the one that is tested.
TWIN = "twin"
# Runs on the target and asks there: one question and one answer a line.
ASKER = """
import base64, http.client, json, sys, urllib.parse

def ask(url, user, content, timeout):
    parts = urllib.parse.urlsplit(url)
    headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()} if user else {}
    if content is not None:
        headers["Content-Type"] = "application/json"
        content = content.encode()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET" if content is None else "POST", path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()

for line in sys.stdin:
    print(json.dumps(ask(**json.loads(line))), flush=True)
"""


@dataclass(frozen=True)
class Response:
    """An HTTP answer; status 0 when there was none, the reason being in the body then."""

    status: int
    body: str

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"expected JSON with status {self.status}, got: {self.body[:500]}") from None


class Http:
    """Asks over HTTP from inside the target: most services listen on its loopback only.

    One process there asks for all the tests of a file, because a test that waits asks often, and `docker exec` costs
    the machine a hundred times what the question does.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.asker: subprocess.Popen[str] | None = None
        self.one_at_a_time = threading.Lock()

    def request(self, url: str, *options: str, timeout: int = 10) -> Response:
        """Ask with options of curl."""
        words = ("--max-time", str(timeout), "--write-out", r"\n%{http_code}", *options, url)
        done = self.host.run("curl --silent --show-error" + " %s" * len(words), *words)
        body, _, status = done.stdout.rpartition("\n")
        return Response(int(status or 0), body or done.stderr)

    def get(self, url: str, user: str | None = None, timeout: int = 10) -> Response:
        return self._ask(url=url, user=user, content=None, timeout=timeout)

    def post(self, url: str, payload: Any, user: str | None = None, timeout: int = 10) -> Response:
        return self._ask(url=url, user=user, content=json.dumps(payload), timeout=timeout)

    def close(self) -> None:
        if self.asker:
            assert self.asker.stdin
            with contextlib.suppress(BrokenPipeError):
                self.asker.stdin.close()
            self.asker.wait()

    def _ask(self, **question: Any) -> Response:
        with self.one_at_a_time:
            # It ends with the target: the next question starts another.
            if not self.asker or self.asker.poll() is not None:
                self.asker = subprocess.Popen(
                    ["docker", "exec", "--interactive", self.host.backend.name, "python3", "-c", ASKER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            assert self.asker.stdin and self.asker.stdout and self.asker.stderr
            try:
                self.asker.stdin.write(json.dumps(question) + "\n")
                self.asker.stdin.flush()
                answer = self.asker.stdout.readline()
            except BrokenPipeError:
                answer = ""
            # Else it is the engine that speaks.
            if answer.startswith("["):
                return Response(*json.loads(answer))
            self.asker.wait()
            return Response(0, answer + self.asker.stderr.read())


@pytest.fixture(scope="module")
def http(host: Host) -> Iterator[Http]:
    asks = Http(host)
    yield asks
    asks.close()


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """wait_until(ask, what="…", timeout=30): the first true answer; fails with the last one."""

    def wait(ask: Callable[[], T], what: str, timeout: float = 30, every: float = 0.5) -> T:
        deadline = time.monotonic() + timeout
        while not (answer := ask()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout:g} s for {what}; last answer: {answer!r}")
            time.sleep(every)
        return answer

    return wait


@pytest.fixture(scope="module")
def lines(http: Http) -> Callable[..., list[tuple[dict[str, str], int, str]]]:
    """lines(query, since=…, twin=False): what Loki has: (labels and metadata, nanoseconds, line), oldest first."""

    def lines(query: str, since: float = BEGIN, twin: bool = False) -> list[tuple[dict[str, str], int, str]]:
        ask = {"query": query, "start": f"{since - 1:.0f}", "end": f"{time.time() + 60:.0f}", "limit": "5000"}
        answer = http.get(f"{LOKI}/query_range?{urlencode(ask)}")
        assert answer.status == 200, answer.body
        streams = [s for s in answer.json()["data"]["result"] if (s["stream"].get("environment") == TWIN) is twin]
        found = ((s["stream"], int(ns), line) for s in streams for ns, line in s["values"])
        return sorted(found, key=lambda one: one[1])

    return lines


@pytest.fixture(scope="module")
def found(
    lines: Callable[..., list[tuple[dict[str, str], int, str]]], wait_until: Callable[..., Any]
) -> Callable[..., list[tuple[dict[str, str], int, str]]]:
    """found(query, number, …): the lines, once there are as many."""

    def found(query: str, number: int, **which: Any) -> list[tuple[dict[str, str], int, str]]:
        wait_until(lambda: len(lines(query, **which)) >= number, what=f"{number} lines of {query}", timeout=20)
        return lines(query, **which)

    return found


@pytest.fixture(scope="module")
def write(host: Host) -> Callable[..., None]:
    """write(path, *lines): appends lines to a file on the target."""

    def write(path: str, *texts: str) -> None:
        assert host.run("mkdir -p $(dirname %s)", path).rc == 0
        for text in texts:
            host.check_output("printf '%%s\\n' %s >>%s", text, path)

    return write


@pytest.fixture(scope="session")
def s3_server() -> Path:
    """The program of an S3-compatible store that checks keys, versitygw: compiled, or taken from the cache."""
    cache = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"])
    source = Path(__file__).parents[1] / "tests/logs/s3-server"
    sources = b"".join(path.read_bytes() for path in sorted(source.iterdir()))
    program = cache / "bin" / f"versitygw-{hashlib.sha256(sources).hexdigest()[:12]}"
    if not program.exists():
        caches = {"GOMODCACHE": str(cache / "go/mod"), "GOCACHE": str(cache / "go/build"), "CGO_ENABLED": "0"}
        unfinished = program.with_suffix(f".{os.getpid()}")
        words = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished)]
        subprocess.run(
            [*words, "github.com/versity/versitygw/cmd/versitygw"],
            cwd=source,
            env={**os.environ, **caches, "GOFLAGS": "-mod=readonly"},
            check=True,
        )
        unfinished.rename(program)
    return program
