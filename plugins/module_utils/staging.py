# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""New configurations, unpacked beside the live ones and checked by the programs that are about to run them."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import container, tree
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError


def unpack(archive: str, staging_dir: str, services: list[dict[str, t.Any]]) -> None:
    """Unpack the configurations with the owners and modes that they will have when live."""
    shutil.rmtree(staging_dir, ignore_errors=True)
    tree.make_directory(staging_dir, 0, 0, 0o700)
    incoming = os.path.join(staging_dir, ".incoming")
    os.mkdir(incoming, 0o700)
    with tarfile.open(archive) as reader:
        # The archive is the collection's own; the filter guards against a user's file named ../something.
        if hasattr(tarfile, "data_filter"):
            reader.extractall(incoming, filter="data")
        else:
            reader.extractall(incoming)
    for service in services:
        group = int(service["user"].split(":")[1])
        root = os.path.join(staging_dir, service["name"])
        tree.make_directory(root, 0, group, tree.DIRECTORY_MODE)
        for path, entry in service["files"].items():
            tree.write(root, path, os.path.join(incoming, service["name"], path), entry["mode"], group)
        # The user's own files are part of what the program will read, so they are checked with the rest.
        for path in tree.kept(service["config_dir"], service["keep"]):
            tree.write(root, path, os.path.join(service["config_dir"], path), 0o640, group)
    shutil.rmtree(incoming)


def check(engine: Engine, service: dict[str, t.Any], staging_dir: str, timeout: float) -> str:
    """Run one service's checker and return an empty text, or what it says."""
    name = f"{service['name']}_check"
    engine.remove(name)
    try:
        engine.create(name, container.checker_body(service, os.path.join(staging_dir, service["name"])))
        engine.start(name)
        code = engine.wait(name, timeout)
        return "" if code == 0 else engine.last_words(name, 30) or f"the checker ended with {code}"
    except EngineError as error:
        if isinstance(error.__cause__, socket.timeout):
            return f"the checker did not end within {timeout:.0f} s"
        return f"the checker could not run: {error}"
    finally:
        engine.remove(name)


def refusals(engine: Engine, services: list[dict[str, t.Any]], staging_dir: str, timeout: float) -> dict[str, str]:
    """Have each configuration checked, and return what the checkers said of those that they refuse."""
    checked = [service for service in services if service["check"]]
    with ThreadPoolExecutor(max_workers=4) as pool:
        said = list(pool.map(lambda service: check(engine, service, staging_dir, timeout), checked))
    return {service["name"]: text for service, text in zip(checked, said) if text}
