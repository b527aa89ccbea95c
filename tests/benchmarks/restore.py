"""Prints what the scenario `backup` found before a backup, after the data were wiped, and after they were restored.

make restore-test    runs the scenario, then this
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FIGURES = Path(os.environ["CHECKOUT_STATE"]) / "restore-figures.json"
WHAT = {
    "samples": "samples of three series",
    "lines": "log lines",
    "silences": "silences that stand",
    "users": "Grafana's users",
    "dashboards": "dashboards made by hand",
    "annotations": "annotations",
    "preferences": "preferences (theme)",
}


def count(what: str, found: Any) -> str:
    """Return how much there is of something."""
    if what == "samples":
        return str(sum(len(values) for _series, values in found))
    return str(found) if what == "preferences" else str(len(found))


def main() -> None:
    """Print the tables."""
    figures = json.loads(FIGURES.read_text())
    places = ("before", "wiped", "same", "other")
    print("| what | before | wiped | restored | on another server | all equal |\n| --- | --- | --- | --- | --- | --- |")
    for what, words in WHAT.items():
        counts = " | ".join(count(what, figures[place][what]) for place in places)
        equal = figures["before"][what] == figures["same"][what] == figures["other"][what]
        print(f"| {words} | {counts} | {'yes' if equal else '**NO**'} |")
    print("\n| service | away, same server, s | away, another server, s |\n| --- | --- | --- |")
    for name, seconds in sorted(figures["same_seconds"].items()):
        print(f"| {name} | {seconds} | {figures['other_seconds'][name]} |")
    print(f"\nArchive: {figures['archive_bytes']} bytes, made in {figures['backup_seconds']} s.")


if __name__ == "__main__":
    main()
