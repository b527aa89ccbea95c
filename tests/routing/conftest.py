"""Configurations, and real Alertmanagers that run them before a local receiver."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from routing.alerting import CACHE, CHECKOUT, QUICK, RECEIVER, Alerting, free_port, render, webhooks


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """rendered(**variables): the configuration tree; each one is made once."""
    made: dict[str, Path] = {}

    def one(**variables: Any) -> Path:
        key = json.dumps(variables, sort_keys=True)
        if key not in made:
            made[key] = render(tmp_path_factory.mktemp("alertmanager") / "play", {**webhooks(9), **variables})
        return made[key]

    return one


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Alerting]]:
    """start(**variables): an Alertmanager with this configuration, and its receiver."""
    image = (
        "monitoring-test/prom/alertmanager:"
        + yaml.safe_load((CACHE / "images/vars.yml").read_text())["alertmanager_version"]
    )
    started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def one(**variables: Any) -> Alerting:
        port, receiver = free_port(), free_port()
        given = {
            **QUICK,
            **webhooks(receiver),
            "alertmanager_watchdog_url": f"http://127.0.0.1:{receiver}/webhook/watchdog",
            **json.loads(json.dumps(variables).replace("RECEIVER", f"http://127.0.0.1:{receiver}")),
        }
        tree = render(tmp_path_factory.mktemp("alertmanager") / "play", given)
        name = f"monitoring-test-routing-{port}"
        subprocess.run(
            ["docker", "run", "--detach", "--rm", "--name", name, "--network=host", "--user=0:0",
             "--label=monitoring-test=routing", f"--label=monitoring-test-checkout={CHECKOUT}",
             f"--volume={tree}:/etc/alertmanager:ro", image,
             "--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/tmp", "--cluster.listen-address=",
             "--enable-feature=receiver-name-in-metrics",
             f"--web.listen-address=127.0.0.1:{port}", "--web.external-url=https://alerts.example.com/"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        started.append((name, subprocess.Popen([sys.executable, RECEIVER, "--port", str(receiver)])))
        alerting = Alerting(port, receiver, tree)
        deadline = time.monotonic() + 20
        while True:
            try:
                # --web.external-url moves nothing but the links where its path is empty.
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2).close()
                alerting.messages()
                return alerting
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline, subprocess.run(
                    ["docker", "logs", name], capture_output=True, text=True, check=False
                ).stderr
                time.sleep(0.1)

    yield one
    for name, process in started:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, stdout=subprocess.DEVNULL)
        process.terminate()
        process.wait()
