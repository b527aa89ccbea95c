"""A restart of Prometheus ends no alert: with the role's own arguments, on data as a former run leaves them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

# isort: split
from promtool import CACHE, PROMTOOL
from rendering import CHECKOUT

FIVE_MINUTES = {"expr": "vector(1)", "for": "5m"}
CONFIG: dict[str, Any] = {"global": {"evaluation_interval": "1s"}, "rule_files": ["/etc/prometheus/rules.yml"]}


def arguments(trees: Path, port: int) -> list[str]:
    """Return the arguments that the role gives, with another port."""
    described = json.loads((trees / "default.json").read_text())["command"]
    return [f"--web.listen-address=127.0.0.1:{port}" if "listen-address" in one else one for one in described]


@pytest.fixture(scope="module")
def address(trees: Path, tmp_path_factory: pytest.TempPathFactory, unused_port: int) -> Iterator[str]:
    """A Prometheus whose former run fired Held for minutes when it ended, a minute ago."""
    folder = tmp_path_factory.mktemp("restarted")
    rules = [{"alert": "Held", **FIVE_MINUTES}, {"alert": "New", **FIVE_MINUTES}]
    (folder / "prometheus.yml").write_text(json.dumps(CONFIG))
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "tested", "rules": rules}]}))
    now = int(time.time())
    former = f'# TYPE ALERTS_FOR_STATE gauge\nALERTS_FOR_STATE{{alertname="Held"}} {now - 600} {now - 60}\n# EOF\n'
    (folder / "former").write_text(former)
    words = [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", folder / "former", folder / "data"]
    subprocess.run(words, check=True, capture_output=True)
    version = yaml.safe_load((CACHE / "images/vars.yml").read_text())["prometheus_version"]
    name = f"monitoring-test-restart-{unused_port}"
    subprocess.run(
        ["docker", "run", "--detach", "--rm", "--name", name, "--network=host", "--user=0:0",
         "--label=monitoring-test=rules", f"--label=monitoring-test-checkout={CHECKOUT}",
         f"--volume={folder}:/etc/prometheus:ro",
         f"--volume={folder / 'data'}:/prometheus", f"monitoring-test/prom/prometheus:{version}",
         *arguments(trees, unused_port)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    yield f"http://127.0.0.1:{unused_port}"
    subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, stdout=subprocess.DEVNULL)


def states(address: str) -> dict[str, str]:
    """Return the state of each alert, nothing while Prometheus starts."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/alerts", timeout=5) as answer:
            alerts = json.load(answer)["data"]["alerts"]
    except (OSError, urllib.error.URLError):
        return {}
    return {one["labels"]["alertname"]: one["state"] for one in alerts}


def test_an_alert_that_fired_before_a_restart_fires_after_it(address: str) -> None:
    deadline = time.monotonic() + 20
    # A former state is taken over in the second round of a group.
    while (found := states(address)).get("Held") != "firing" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found == {"Held": "firing", "New": "pending"}
