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
    legend: str = ""

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
                    legend=target.get("legendFormat", ""),
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


# -- asking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels (of a table's row: its text columns) and its values."""

    labels: dict[str, str]
    values: list[float | str]
    times: tuple[int, ...] = ()

    @property
    def last(self) -> float:
        """Return the newest value."""
        return float(self.values[-1])


def request(found: list[Query], values: dict[str, str], begin_ms: int, end_ms: int) -> dict[str, t.Any]:
    """Return what Grafana's page would send for these queries; each is known by its place in the list."""
    asked = []
    for index, query in enumerate(found):
        one: dict[str, t.Any] = {
            "refId": f"q{index}",
            "datasource": {"uid": query.source, "type": query.source},
            "expr": filled(query.expr, values),
            "intervalMs": 15000,
            "maxDataPoints": 500,
        }
        if query.interval:
            one["interval"] = query.interval
        if query.source == "loki":
            one |= {"queryType": "instant" if query.instant else "range", "maxLines": 500}
        else:
            one |= {"instant": query.instant, "range": not query.instant}
        asked.append(one)
    return {"queries": asked, "from": str(begin_ms), "to": str(end_ms)}


def series(result: dict[str, t.Any]) -> list[Series]:
    """Return the series of one query's result; raises where Grafana says that it went wrong."""
    if result.get("error"):
        raise AssertionError(result["error"])
    found = []
    for frame in result.get("frames", []):
        fields = frame["schema"].get("fields", [])
        columns = frame.get("data", {}).get("values", [])
        if not columns:
            continue
        times = next((column for field, column in zip(fields, columns, strict=True) if field["type"] == "time"), [])
        texts = {
            field["name"]: column for field, column in zip(fields, columns, strict=True) if field["type"] == "string"
        }
        numbers = [(f, c) for f, c in zip(fields, columns, strict=True) if f["type"] == "number"]
        if "Line" in texts or "body" in texts:
            body = texts.get("Line", texts.get("body", []))
            at = times or [0] * len(body)
            found += [Series({}, [line], (when,)) for line, when in zip(body, at, strict=True)]
        elif texts:
            for row in range(len(times or numbers[0][1])):
                labels = {name: column[row] for name, column in texts.items()}
                found.append(Series(labels, [numbers[0][1][row]]))
        else:
            for field, column in numbers:
                there = [place for place, value in enumerate(column) if value is not None]
                if there:
                    values = [column[place] for place in there]
                    at = tuple(times[place] for place in there) if times else ()
                    found.append(Series(field.get("labels") or {}, values, at))
    return found
