"""Breaks each rule in every small way and sees to it that some case notices.

    mutate.py [RULE...]

Only the cases of the broken rule are run, the quick ones first. A mutant that nobody notices is printed, and the exit
code is 1.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import promtool
import rendering
from cases import CASES

_COMPARED = re.compile(r"(==|!=|>=|<=|>|<) (-?\d+(?:\.\d+)?(?:e\d+)?)")
_FACTOR = re.compile(r"(?<![\w.\"])(\d+(?:\.\d+)?) \*|/ (\d+(?:\.\d+)?(?:e\d+)?)(?!\d)|\], (\d+)\)")
_MATCHER = re.compile(r"(?<=[{,])\s*[a-z_]+(?:=~|!~|!=|=)\"[^\"]*\",?")
_SELECTOR = re.compile(r"\{[^{}]*\}")
_WORD = re.compile(r"\b(unless|and|or)\b")
_FLIPPED = {"==": "!=", "!=": "==", ">": "<", "<": ">", ">=": "<=", "<=": ">="}
_OTHER = {"unless": "and", "and": "or", "or": "and"}
_DURATION = {"s": 1, "m": 60, "h": 3600}
# These come from one template, for each window: three stand for all.
_REPEATED = re.compile(r"^(deployment:(failures:increase|success:ratio)|app:up:ratio)(5m|30m|2h|6h|3d|30d)$")

# Mutants that mean the same, or differ only where no case can be made honestly; each with its reason.
EQUIVALENT: dict[tuple[str, str], str] = {
    ("monitoring:metrics_retention_seconds", "[1e11 → 110000000000]"): "between what is a time and what is none",
    ("monitoring:metrics_retention_seconds", "[1e11 → 90000000000]"): "between what is a time and what is none",
    ("SlowDeployments", "[1 → 2]"): "a second for rounding",
    ("SlowDeployments", "[1 → 0]"): "a second for rounding",
}


class Mutant(t.NamedTuple):
    """One rule with one change."""

    number: int
    rule: str
    kind: str
    what: str
    changes: dict[str, t.Any]


def _numbers(text: str) -> list[str]:
    value = float(text)
    if value == 0:
        return []
    # Of what is counted, the next number; else a tenth.
    counted = value <= 5 and text.isdigit() or text.endswith(".5") and value < 20
    changed = (value + 1, value - 1) if counted else (value * 1.1, value * 0.9)
    return [f"{number:g}" if abs(number) < 1e6 else f"{number:.0f}" for number in changed]


def _expressions(expr: str) -> t.Iterator[tuple[str, str, str]]:
    """Yield (kind, what was done, expression)."""

    def put(begin: int, end: int, text: str) -> str:
        return expr[:begin] + text + expr[end:]

    def shown(begin: int, text: str) -> str:
        return f"…{' '.join(expr[max(0, begin - 40) : begin].split())} [{text}]"

    for found in _COMPARED.finditer(expr):
        operator, number = found.groups()
        yield (
            "comparison",
            shown(found.start(), f"{operator} → {_FLIPPED[operator]}"),
            put(*found.span(1), _FLIPPED[operator]),
        )
        # To be equal or not has no limit; "> 0" keeps a division from zero.
        for other in _numbers(number) if operator not in ("==", "!=") else ():
            yield "threshold", shown(found.start(), f"{number} → {other}"), put(*found.span(2), other)
    for found in _FACTOR.finditer(expr):
        group = found.lastindex or 1
        for other in _numbers(found.group(group)):
            yield "factor", shown(found.start(), f"{found.group(group)} → {other}"), put(*found.span(group), other)
    for selector in _SELECTOR.finditer(expr):
        for found in _MATCHER.finditer(selector.group()):
            begin = selector.start() + found.start()
            yield (
                "matcher",
                shown(begin, f"without {found.group().strip()}"),
                put(begin, begin + len(found.group()), ""),
            )
    # A word inside quotes is none.
    bare = re.sub(r'"[^"]*"', lambda quoted: "_" * len(quoted.group()), expr)
    for found in _WORD.finditer(bare):
        other = _OTHER[found.group()]
        yield "operator", shown(found.start(), f"{found.group()} → {other}"), put(*found.span(), other)


def _durations(text: str) -> list[str]:
    number = re.fullmatch(r"(\d+)([smh])", text)
    if not number:
        raise ValueError(f"cannot change the duration {text}")
    seconds = int(number[1]) * _DURATION[number[2]]
    change = max(15, seconds // 4 // 15 * 15)
    return [f"{seconds + change}s", f"{seconds - change}s"]


def mutants(rules: list[promtool.Rule], names: t.Collection[str] = ()) -> t.Iterator[Mutant]:
    """Yield every mutant of the rules, or of some."""
    for number, rule in enumerate(rules):
        name = promtool.name_of(rule)
        if (names and name not in names) or _REPEATED.match(name):
            continue
        for kind, what, expr in _expressions(rule["expr"]):
            yield Mutant(number, name, kind, what, {"expr": expr})
        for key in ("for", "keep_firing_for"):
            if key in rule:
                for other in _durations(rule[key]):
                    yield Mutant(number, name, key, f"{key}: {rule[key]} → {other}", {key: other})
                yield Mutant(number, name, key, f"without {key}: {rule[key]}", {key: None})


def _survivors(rules: list[promtool.Rule], name: str, mine: list[Mutant]) -> list[Mutant]:
    """Return the mutants of one rule that no case notices."""
    key = "alert" if "alert" in rules[mine[0].number] else "record"
    variants, aliases = {}, {}
    for count, mutant in enumerate(mine):
        alias = f"{name}__m{count}"
        aliases[alias] = mutant
        variants[alias] = [
            {
                **{
                    k: v
                    for k, v in (rule | (mutant.changes if number == mutant.number else {})).items()
                    if v is not None
                },
                key: alias,
            }
            for number, rule in enumerate(rules)
            if promtool.name_of(rule) == name
        ]
    dead = promtool.noticed(rules, name, variants, [case for case in CASES if case.rule == name])
    return [mutant for alias, mutant in aliases.items() if alias not in dead]


def check(rules: list[promtool.Rule], names: t.Collection[str] = ()) -> tuple[dict[str, Counter[str]], list[Mutant]]:
    """Return the killed mutants of each rule by their kinds, and those that survive."""
    by_rule: dict[str, list[Mutant]] = {}
    for mutant in mutants(rules, names):
        by_rule.setdefault(mutant.rule, []).append(mutant)
    killed: dict[str, Counter[str]] = {}
    alive = []
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda item: _survivors(rules, *item), by_rule.items())
        for (name, mine), survivors in zip(by_rule.items(), results, strict=True):
            row = killed.setdefault(name, Counter())
            for mutant in mine:
                if mutant not in survivors:
                    row[mutant.kind] += 1
                elif (name, mutant.what[mutant.what.find("[") :]) in EQUIVALENT:
                    row["equivalent"] += 1
                else:
                    alive.append(mutant)
    return killed, alive


KINDS = ("threshold", "comparison", "matcher", "operator", "factor", "for", "keep_firing_for", "equivalent")


def table(killed: dict[str, Counter[str]], alive: list[Mutant]) -> str:
    """Return what was found as a text."""
    lines = [f"{'rule':44}" + "".join(f"{kind:>12.11}" for kind in KINDS) + f"{'survived':>10}"]
    survivors = Counter(mutant.rule for mutant in alive)
    for rule, row in killed.items():
        lines.append(
            f"{rule:44}" + "".join(f"{row[kind] or '':>12}" for kind in KINDS) + f"{survivors[rule] or '':>10}"
        )
    total = sum((row for row in killed.values()), Counter())
    lines.append(f"{'all':44}" + "".join(f"{total[kind]:>12}" for kind in KINDS) + f"{len(alive):>10}")
    lines += [f"survives: {mutant.rule}: {mutant.what}" for mutant in alive]
    return "\n".join(lines)


def main() -> int:
    """Check the rules as they are rendered by default."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        rendering.render(Path(directory), {"default": rendering.VARIANTS["default"]})
        killed, alive = check(promtool.load(Path(directory) / "default"), sys.argv[1:])
    print(table(killed, alive))
    print(f"{sum(map(Counter.total, killed.values()))} killed, {len(alive)} survived, {time.monotonic() - began:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
