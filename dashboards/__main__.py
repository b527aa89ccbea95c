"""Writes the dashboards that the role ships, or tells whether they are in step: python -m dashboards [--check]."""

from __future__ import annotations

import argparse
import json
import sys
import typing as t

import yaml

from . import applications, deployment, infrastructure, logs, mongodb, monitoring, project, slo
from .kit import CHECKOUT, LANGUAGES, Board, in_language, limits

FOLDER = CHECKOUT / "roles/grafana/files/dashboards"
# Read by the rules: the numbers of the panels that alerts link to depend on the panels before them.
PANELS = "../../../prometheus/vars/main/panels.yml"
ALL: dict[str, t.Callable[[], Board]] = {
    module.UID: module.make
    for module in (deployment, infrastructure, applications, slo, logs, mongodb, monitoring, project)
}


def text(content: t.Any) -> str:
    """Return JSON as it is committed: one line for each value, so that a change is read in the diff."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def panels(content: t.Any) -> dict[str, int]:
    """Return the numbers of a dashboard's panels by their titles."""
    return {one["title"]: one["id"] for one in content["panels"] if one["type"] != "row"}


def generated() -> dict[str, str]:
    """Return every generated file by its path below FOLDER."""
    files, found, numbers = {}, {}, {}
    for uid, make in ALL.items():
        for language in LANGUAGES:
            content = in_language(language, make)
            files[f"{language}/{uid}.json"] = text(content)
            # The places do not depend on the language.
            found[uid] = limits(content)
            if language == LANGUAGES[0]:
                numbers[uid] = panels(content)
    files["limits.json"] = text(found)
    shown = yaml.safe_dump({"__prometheus_panels": numbers}, sort_keys=False, allow_unicode=True, width=110)
    files[PANELS] = (
        f"---\n# Made by python -m dashboards: the numbers of the panels by their titles, for links in alerts.\n{shown}"
    )
    return files


def main(arguments: list[str]) -> int:
    """Write or compare; 1 where they are not in step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the files are in step")
    check = parser.parse_args(arguments).check
    files = generated()
    there = {str(path.relative_to(FOLDER)): path for path in FOLDER.rglob("*.json")}
    there |= {PANELS: FOLDER / PANELS} if (FOLDER / PANELS).exists() else {}
    wrong = sorted(
        name for name in files.keys() | there.keys() if name not in there or files.get(name) != there[name].read_text()
    )
    if check:
        for name in wrong:
            print(f"{FOLDER.relative_to(CHECKOUT)}/{name} is out of step: python -m dashboards")
        return int(bool(wrong))
    for name in wrong:
        path = FOLDER / name
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name])
        else:
            path.unlink()
        print(f"wrote {name}" if name in files else f"removed {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
