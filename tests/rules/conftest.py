"""The rendered rules, once for all tests."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import rendering


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the configuration tree of each variant."""
    folder = tmp_path_factory.mktemp("rendered")
    rendering.render(folder)
    return folder


@pytest.fixture(scope="session")
def unused_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
