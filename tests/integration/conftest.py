"""What the integration tests need: the collection on the path, an engine, and images of the probe server."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT / ".collections") not in sys.path:
    sys.path.insert(0, str(CHECKOUT / ".collections"))

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine  # noqa: E402

SOURCE = Path(__file__).parent / "probe-server"
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", "~/.cache/deployment-monitoring")).expanduser()
PREFIX = "swaptest-"

# Version → what its image's environment says, which is how it misbehaves.
VERSIONS = {
    "1": [],
    "2": ["PROBE_VERSION=two"],
    "exits": ["PROBE_EXIT=1"],
    "never-ready": ["PROBE_NEVER_READY=1", "PROBE_VERSION=never"],
    "slow": ["PROBE_READY_AFTER=1.5s"],
    "slow-reload": ["PROBE_SLOW_RELOAD=1s"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is nothing to run on."""
    reason = ""
    if os.geteuid() != 0:
        reason = "needs root: files get owners"
    elif not Engine().answers():
        reason = "no engine answers on /var/run/docker.sock"
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _binary() -> Path:
    """Build the probe server, or take it from the cache."""
    sources = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    path = CACHE / "probe-server" / hashlib.sha256(sources).hexdigest()[:16]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(unfinished), "."],
            cwd=SOURCE,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
            check=True,
        )
        unfinished.rename(path)
    return path


def sweep(engine: Engine) -> None:
    """Remove every container of these tests."""
    for summary in engine.get("/containers/json", {"all": 1}):
        if any(name.startswith("/" + PREFIX) for name in summary["Names"]):
            engine.remove(summary["Id"])


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The machine's own engine, with an image swaptest-probe of each version."""
    found = Engine()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        entry = writer.gettarinfo(str(_binary()), "bin/probe-server")
        entry.mode = 0o755
        with _binary().open("rb") as program:
            writer.addfile(entry, program)
    for version, environment in VERSIONS.items():
        changes = ['ENTRYPOINT ["/bin/probe-server"]', *(f"ENV {entry}" for entry in environment)]
        options = [option for change in changes for option in ("--change", change)]
        subprocess.run(
            ["docker", "import", *options, "-", f"{PREFIX}probe:{version}"],
            input=archive.getvalue(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    sweep(found)
    yield found
    sweep(found)
    for version in VERSIONS:
        found.call("DELETE", f"/images/{PREFIX}probe:{version}", {"force": 1})
