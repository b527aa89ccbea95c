"""The queries of the runbooks are PromQL, and their silences are such that amtool understands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", Path.home() / ".cache/deployment-monitoring"))
RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = []
    for page in sorted(RUNBOOKS.glob("*.md")):
        queries = [body for language, body in FENCE.findall(page.read_text()) if language == "promql"]
        name = re.sub(r"\W", "_", page.stem)
        rules += [{"record": f"{name}:{number}", "expr": query} for number, query in enumerate(queries)]
    assert len(rules) > len(list(RUNBOOKS.glob("*.md"))) / 2
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "runbooks", "rules": rules}]}))
    words = [CACHE / "bin/promtool", "check", "rules", tmp_path / "rules.yml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("[A-Z]*[a-z].md")), ids=lambda page: page.name)
def test_a_silence_is_understood(page: Path) -> None:
    for _, body in FENCE.findall(page.read_text()):
        if "silence add" in body:
            # Nobody answers there: what amtool complains of is the connection, and not the command.
            words = body.replace("docker exec alertmanager amtool", str(CACHE / "bin/amtool")).replace(":9093", ":1")
            done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False, timeout=30)
            assert "connection refused" in done.stderr, done.stdout + done.stderr
