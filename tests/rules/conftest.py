"""The rendered rules, once for all tests."""

from __future__ import annotations

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
