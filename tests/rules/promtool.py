"""Runs cases through promtool: a rule of the rendered files with what it needs and nothing else, to be quick."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import tempfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import yaml

CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", Path.home() / ".cache/deployment-monitoring"))
PROMTOOL = CACHE / "bin/promtool"

Rule = dict[str, t.Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Case:
    """What is fed in, and when an alert fires and when it does not; or what an expression says."""

    rule: str
    title: str
    series: str
    fires: str = ""
    silent: str = ""
    labels: str = ""
    count: int = 1
    # Expression → {time: samples as {labels: value}}; for recording rules.
    values: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    # A rule as one would first write it: wrong in this case, while ours is right.
    naive: str = ""
    naive_for: str = ""
    # True where the naive rule fires and must not; else it stays silent and must not.
    naive_fires: bool = False
    step: str = "15s"
    # What the rule reads is fed in, not worked out by other rules.
    alone: bool = False

    @property
    def name(self) -> str:
        """Return how a test is called."""
        return f"{self.rule}: {self.title}"


def load(folder: Path) -> list[Rule]:
    """Return all rules of a rendered tree, recordings first, each in the order of its file."""
    groups = []
    for name in ("recording", "platform", "apps", "host", "stack", "slo"):
        groups += (yaml.load((folder / f"rules/{name}.yml").read_text(), _LOADER) or {}).get("groups") or []
    return [rule for group in groups for rule in group["rules"] or []]


def name_of(rule: Rule) -> str:
    """Return the name of an alert or of what is recorded."""
    return t.cast("str", rule.get("alert") or rule["record"])


def needed(rules: list[Rule], names: t.Iterable[str]) -> list[Rule]:
    """Return the rules of these names and those that they read, in their order."""
    wanted, known = set(names), {name_of(rule) for rule in rules}
    while True:
        text = " ".join(rule["expr"] for rule in rules if name_of(rule) in wanted)
        found = wanted | (set(re.findall(r"[a-zA-Z_][\w:]*", text)) & known)
        if found == wanted:
            return [rule for rule in rules if name_of(rule) in wanted]
        wanted = found


def _series(text: str) -> list[dict[str, str]]:
    found = []
    for line in text.strip().splitlines():
        series, brace, values = line.rpartition("}")
        found.append({"series": series.strip() + brace, "values": values.strip()})
    return found


def _group(case: Case, alert: str, expected: t.Callable[[bool], bool]) -> dict[str, t.Any]:
    matchers = f'alertname="{alert}", alertstate="firing"' + (f", {case.labels}" if case.labels else "")
    checks = []
    for moments, fires in ((case.fires, True), (case.silent, False)):
        for moment in moments.split():
            count = case.count if expected(fires) else 0
            checks.append(
                {
                    "expr": f"count(ALERTS{{{matchers}}}) or vector(0)",
                    "eval_time": moment,
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            )
    for expression, moments_of in case.values.items():
        for moment, samples in moments_of.items():
            checks.append(
                {
                    "expr": expression,
                    "eval_time": moment,
                    "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
                }
            )
    return {"name": case.name, "interval": case.step, "input_series": _series(case.series), "promql_expr_test": checks}


def run(rules: list[Rule], cases: t.Iterable[Case], naive: bool = False) -> str:
    """Run cases against rules; return what promtool complains about, nothing when all is as it should be.

    :param naive: run the naive rules instead; then it is right when they are wrong.
    """
    cases = list(cases)
    problems = ""
    for step, alone in sorted({(case.step, case.alone) for case in cases}):
        mine = [case for case in cases if (case.step, case.alone) == (step, alone)]
        content = [
            {key: value for key, value in rule.items() if key != "annotations"}
            for rule in rules
            if not alone or name_of(rule) in {case.rule for case in mine}
        ]
        groups = []
        for number, case in enumerate(mine):
            if naive:
                rule = {"alert": f"Naive{number}", "expr": case.naive}
                content.append({**rule, "for": case.naive_for} if case.naive_for else rule)
                wrong = Case(**{**vars(case), "fires": case.fires if not case.naive_fires else "", "values": {}})
                if case.naive_fires:
                    wrong = Case(**{**vars(wrong), "silent": case.silent.split()[0]})
                else:
                    wrong = Case(**{**vars(wrong), "silent": "", "fires": case.fires.split()[0]})
                groups.append(_group(wrong, f"Naive{number}", lambda fires: not fires))
            else:
                groups.append(_group(case, case.rule, lambda fires: fires))
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "tested", "rules": content}]}))
            test = {"rule_files": ["rules.json"], "evaluation_interval": step, "tests": groups}
            (folder / "test.json").write_text(json.dumps(test))
            done = subprocess.run(
                [str(PROMTOOL), "test", "rules", str(folder / "test.json")], capture_output=True, text=True, check=False
            )
            if done.returncode:
                problems += done.stdout + done.stderr
    return problems


def changed(rules: list[Rule], number: int, **changes: t.Any) -> list[Rule]:
    """Return a copy of the rules with one of them changed; None removes a key."""
    copied = copy.deepcopy(rules)
    for key, value in changes.items():
        key = key.rstrip("_")
        if value is None:
            copied[number].pop(key, None)
        else:
            copied[number][key] = value
    return copied
