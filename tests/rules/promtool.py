"""Runs cases through promtool: a rule of the rendered files with what it needs and nothing else, to be quick."""

from __future__ import annotations

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
# It lives for moments: what it leaves need not be collected so often.
_QUICK = {**os.environ, "GOGC": "400"}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
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


def _checks(case: Case, alert: str, fires: str, silent: str) -> list[dict[str, t.Any]]:
    matchers = f'alertname="{alert}", alertstate="firing"' + (f", {case.labels}" if case.labels else "")
    checks = []
    for moments, count in ((fires, case.count), (silent, 0)):
        for moment in moments.split():
            checks.append(
                {
                    "expr": f"count(ALERTS{{{matchers}}}) or vector(0)",
                    "eval_time": moment,
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            )
    return checks


def _values(case: Case, name: str) -> list[dict[str, t.Any]]:
    return [
        {
            "expr": re.sub(rf"(?<![\w:]){re.escape(case.rule)}(?![\w:])", name, expression),
            "eval_time": moment,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for expression, moments in case.values.items()
        for moment, samples in moments.items()
    ]


def _test(rules: list[Rule], step: str, groups: list[tuple[Case, list[dict[str, t.Any]]]]) -> str:
    content = [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules]
    tests = [
        {"name": case.name, "interval": step, "input_series": _series(case.series), "promql_expr_test": checks}
        for case, checks in groups
    ]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "tested", "rules": content}]}))
        test = {"rule_files": ["rules.json"], "evaluation_interval": step, "tests": tests}
        (folder / "test.json").write_text(json.dumps(test))
        command = [str(PROMTOOL), "test", "rules", str(folder / "test.json")]
        done = subprocess.run(command, env=_QUICK, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def _seconds(duration: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[smhdw])", duration))


def _kinds(cases: t.Iterable[Case]) -> list[tuple[str, bool, list[Case]]]:
    """Return the cases that can be run together, with their step and whether they are alone."""
    found: dict[tuple[str, bool], list[Case]] = {}
    for case in cases:
        found.setdefault((case.step, case.alone), []).append(case)
    return [(*key, mine) for key, mine in sorted(found.items(), key=lambda item: (not item[0][1], item[0][0]))]


def _rounds(case: Case) -> float:
    """Return how often the rules are evaluated until the last moment that is asked about."""
    moments = [*case.fires.split(), *case.silent.split(), *(m for asked in case.values.values() for m in asked)]
    return max(map(_seconds, moments)) / _seconds(case.step)


def run(rules: list[Rule], cases: t.Iterable[Case]) -> str:
    """Run cases against rules; return what promtool complains about, nothing when all is as it should be."""
    problems = ""
    for step, alone, mine in _kinds(cases):
        names = {case.rule for case in mine}
        wanted = [rule for rule in rules if name_of(rule) in names] if alone else needed(rules, names)
        groups = [(c, _checks(c, c.rule, c.fires, c.silent) + _values(c, c.rule)) for c in mine]
        problems += _test(wanted, step, groups)
    return problems


def ask(series: str, expr: str, moment: str, samples: dict[str, float], step: str = "15s") -> str:
    """Return what promtool complains about where an expression does not say this of these series."""
    case = Case("", "", series)
    wanted = [{"labels": labels, "value": value} for labels, value in samples.items()]
    return _test([], step, [(case, [{"expr": expr, "eval_time": moment, "exp_samples": wanted}])])


def run_naive(case: Case) -> str:
    """Run a trap's naive rule; return what is wrong where it is right after all."""
    rule = {"alert": "Naive", "expr": case.naive} | ({"for": case.naive_for} if case.naive_for else {})
    if case.naive_fires:
        checks = _checks(case, "Naive", case.silent.split()[0], "")
    else:
        checks = _checks(case, "Naive", "", case.fires.split()[0])
    for check in checks:
        check["expr"] = 'count(ALERTS{alertname="Naive", alertstate="firing"}) or vector(0)'
    return _test([rule], case.step, [(case, checks)])


def noticed(rules: list[Rule], name: str, variants: dict[str, list[Rule]], cases: t.Iterable[Case]) -> set[str]:
    """Return those variants of a rule for which some case does not hold. All are run at once, under other names.

    :param variants: another name, which ends in two underscores, m and a number, to the rules that have it.
    """
    alive = dict(variants)
    # Case by case, the short ones first: what one has noticed need not be evaluated in the longer ones.
    for case in sorted(cases, key=_rounds):
        # Where a variant cannot be evaluated, promtool gives up before it asks: that one is out, and again.
        while alive:
            others = [] if case.alone else [rule for rule in needed(rules, [name]) if name_of(rule) != name]
            content = others + [rule for variant in alive.values() for rule in variant]
            checks = []
            for alias in alive:
                checks += _checks(case, alias, case.fires, case.silent) + _values(case, alias)
            said = _test(content, case.step, [(case, checks)])
            found = {alias for alias in re.findall(r"[\w:]+__m\d+", said) if alias in alive}
            if said and not found:
                raise AssertionError(said[:3000])
            for alias in found:
                del alive[alias]
            if not re.search(r"err: |could not parse", said):
                break
    return set(variants) - set(alive)
