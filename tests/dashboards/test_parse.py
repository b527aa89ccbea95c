"""Every PromQL expression of every panel is PromQL: promtool reads them, as rules."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests_dashboards import queries as source

PROMTOOL = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "bin/promtool"


def test_promtool_reads_every_expression(tmp_path):
    found = [query for query in source.queries() if query.source == "prometheus"]
    assert len(found) > 100
    rules = [
        {
            "record": f"panel:{query.name.replace('-', '_')}",
            "expr": source.filled(query.expr, source.everything(query.dashboard) | source.INTERNAL),
        }
        for query in found
    ]
    assert not [rule["expr"] for rule in rules if "$" in rule["expr"].replace("$1", "")]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", "--lint=none", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout
