"""The collection on the path, and what several tests of the plugins start from."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
if str(CHECKOUT / ".collections") not in sys.path:
    sys.path.append(str(CHECKOUT / ".collections"))


@pytest.fixture
def checkout() -> Path:
    """The collection's root."""
    return CHECKOUT


@pytest.fixture
def describe() -> Callable[..., dict[str, t.Any]]:
    """Make a description as service_describe hands it on."""

    def made(**changes: t.Any) -> dict[str, t.Any]:
        return {
            "name": "probe",
            "state": "present",
            "image": "example/probe:1",
            "command": ["--flag"],
            "entrypoint": [],
            "env": {"KEY": "value"},
            "labels": {"kind": "test"},
            "user": "500:600",
            "groups": ["4"],
            "network": "host",
            "pid": "host",
            "capabilities": ["DAC_READ_SEARCH"],
            "read_only": True,
            "tmpfs": {"/tmp": "size=1m"},
            "mounts": [{"source": "/", "target": "/host", "propagation": "rslave"}],
            "memory": 64 << 20,
            "cpus": 0.5,
            "pids": 64,
            "stop_timeout": 5,
            "config_target": "/etc/probe",
            "config_dir": "/srv/etc/probe",
            "data_target": "/data",
            "data_dir": "/srv/data/probe",
            "directories": [],
            "units": [],
            "unwanted": [],
            "initial": {},
            "files": {},
            "keep": [],
            "watched": [],
            "proof": [],
            "converted": [],
            "forward_only": False,
            "listen": [{"address": "127.0.0.1", "port": 1234, "variable": "probe_port"}],
            "ready": {"address": "127.0.0.1", "port": 1234, "path": "/ready"},
            "check": {"entrypoint": ["/bin/check"], "command": ["it"]},
            "reload": None,
            **changes,
        }

    return made
