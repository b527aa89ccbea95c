#!/usr/bin/env python3
"""Write each role's meta/argument_specs.yml from its defaults/main.yml, or check that they are in step.

The defaults are the manual: a comment above each variable says what it does, its unit and an example. The same
comment, read by this program, says it to machines:

- the type is the value's own; where the value is a template or empty, `Type: int.` says it;
- `One of: a, b.` lists the choices, `Elements: str.` the type of a list's elements;
- `Secret.` hides the value from messages.

Usage: argument_specs.py [--check]   (exit code 1 when a file was, or would be, changed)
"""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import yaml

ROLES = Path(__file__).parent.parent / "roles"
ENTRY_POINTS = {"service": "apply"}
HEADER = "---\n# Made by tools/argument_specs.py from defaults/main.yml; change it there.\n"


def comments(text: str) -> dict[str, str]:
    """Return the comment above each variable of a defaults file, as one line."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        variable = re.match(r"^(\w+):", line)
        if line.startswith("# "):
            lines.append(line[2:].strip())
        elif variable:
            found[variable.group(1)] = " ".join(lines)
            lines = []
        elif not line.strip():
            lines = []
    return found


def option(comment: str, value: t.Any) -> dict[str, t.Any]:
    """Return the specification of one variable."""
    types = {bool: "bool", int: "int", float: "float", list: "list", dict: "dict"}
    declared = re.search(r"\bType: (\w+)\.", comment)
    choices = re.search(r"\bOne of: ([^.]+)\.", comment)
    elements = re.search(r"\bElements: (\w+)\.", comment)
    spec: dict[str, t.Any] = {"description": re.sub(r"\s*\b(Type|Elements): \w+\.", "", comment)}
    spec["type"] = declared.group(1) if declared else types.get(type(value), "str")
    if elements:
        spec["elements"] = elements.group(1)
    if choices:
        spec["choices"] = [choice.strip() for choice in choices.group(1).split(",")]
    if re.search(r"\bSecret\.", comment):
        spec["no_log"] = True
    return spec


def specification(role: Path) -> str:
    """Return the text of a role's argument_specs.yml.

    :raises ValueError: when a variable has no comment.
    """
    text = (role / "defaults" / "main.yml").read_text()
    described = comments(text)
    values = yaml.safe_load(text)
    bare = [name for name in values if not described.get(name)]
    if bare:
        raise ValueError(f"{role.name}: no comment above {', '.join(bare)}")
    title = re.search(r"^# (.+?)[.\n]", text, re.MULTILINE)
    content = {
        "argument_specs": {
            ENTRY_POINTS.get(role.name, "main"): {
                "short_description": title.group(1) if title else role.name,
                "description": ["Every variable, its meaning and its default are in defaults/main.yml."],
                "options": {name: option(described[name], value) for name, value in values.items()},
            }
        }
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=90, allow_unicode=True)


def main(arguments: list[str]) -> int:
    """Write or check all roles and return the exit code."""
    stale = 0
    for role in sorted(path for path in ROLES.iterdir() if (path / "defaults" / "main.yml").exists()):
        target = role / "meta" / "argument_specs.yml"
        wanted = specification(role)
        if target.exists() and target.read_text() == wanted:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{target} is out of step with defaults/main.yml: run tools/argument_specs.py")
        else:
            target.write_text(wanted)
            print(f"wrote {target}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
