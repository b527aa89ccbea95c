"""What Grafana's page does before it asks: the dashboards' variables put into the queries of their panels."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "roles/grafana/files/dashboards"

# What Grafana itself works out from the time range and the panel's width.
INTERNAL = {"__interval": "1m", "__rate_interval": "5m", "__range": "6h", "__interval_ms": "60000"}


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    panel: int
    title: str
    kind: str
    ref: str
    source: str
    expr: str
    instant: bool
    interval: str
    unit: str

    @property
    def name(self) -> str:
        """Return how a test is called."""
        return f"{self.dashboard}-{self.panel}{self.ref}"


def dashboards(language: str = "en") -> dict[str, dict[str, t.Any]]:
    """Return the shipped dashboards by uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / language).glob("*.json"))}


def queries() -> Iterator[Query]:
    """Return every query of every panel."""
    for uid, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield Query(
                    dashboard=uid,
                    panel=panel["id"],
                    title=panel["title"],
                    kind=panel["type"],
                    ref=target["refId"],
                    source=target["datasource"]["uid"],
                    expr=target["expr"],
                    instant=bool(target.get("instant")) or target.get("queryType") == "instant",
                    interval=panel.get("interval", ""),
                    unit=panel["fieldConfig"]["defaults"]["unit"],
                )


def everything(uid: str) -> dict[str, str]:
    """Return a dashboard's variables at All, which is their default."""
    values = {}
    for variable in dashboards()[uid]["templating"]["list"]:
        values[variable["name"]] = variable.get("allValue", "") if variable.get("includeAll") else ""
    return values


def filled(expr: str, values: dict[str, str]) -> str:
    """Return an expression with its variables put in.

    >>> filled('up{host=~"$host"}', {"host": ".+"})
    'up{host=~".+"}'
    """
    return re.sub(r"\$(\w+)", lambda found: values.get(found.group(1), found.group(0)), expr)
