"""Draws the dashboards as pictures, from what a running Grafana really answers to their queries.

    make demo, then
    tests/harness/run uv run --no-project --with-requirements tests/requirements/pictures.txt \
        python tools/dashboard_pictures.py --to docs/images --password-file ~/.cache/deployment-monitoring/demo/…

The Grafana of the test images has no web part, so this is no photograph of Grafana: it draws the deployed dashboards'
panels, at their places, with their units, colours and thresholds, and never a value that was not answered.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import subprocess
import sys
import textwrap
import time
import typing as t
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.dates as mdates  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests/dashboards"))

import queries as source  # noqa: E402

# Pixels of a cell of Grafana's grid, and points of the picture.
CELL_W, CELL_H, DPI = 62, 34, 100
BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#7b8087"
COLORS = {"green": "#73bf69", "red": "#f2495c", "orange": "#ff9830", "blue": "#5794f2", "text": "#ccccdc"}
CURVES = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"]
Panel = dict[str, t.Any]


def human(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f} %"
    if unit == "s":
        for size, name in ((86400 * 7, "weeks"), (86400, "days"), (3600, "h"), (60, "min")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    if unit in ("bytes", "Bps"):
        ending = "/s" if unit == "Bps" else ""
        for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
            if abs(value) >= 1024**power:
                return f"{value / 1024**power:.3g} {name}{ending}"
        return f"{value:.3g} B{ending}"
    ending = {"reqps": " req/s", "cps": " /s", "ops": " /s", "pps": " p/s", "d": " days"}.get(unit, "")
    if unit == "short" and abs(value) >= 1e4:
        return f"{value / 1e6:.3g} M" if abs(value) >= 1e6 else f"{value / 1e3:.3g} K"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value)}{ending}"
    return f"{value:.{3 if decimals is None else max(decimals, 1)}g}{ending}"


def shortened(name: str, room: int) -> str:
    """Return a name that fits. What tells names apart stands at their end: an app's branch, a mount below its host."""
    return name if len(name) <= room else "…" + name[1 - room :]


def color(value: float, steps: list[dict[str, t.Any]]) -> str:
    """Return the colour of a value by its thresholds."""
    found = steps[0]["color"] if steps else "text"
    for step in steps:
        if step["value"] is not None and value >= step["value"]:
            found = step["color"]
    return COLORS.get(found, TEXT)


def mapped(value: t.Any, mappings: list[dict[str, t.Any]]) -> tuple[str, str] | None:
    """Return the text and the colour that a value is called by."""
    key = f"{value:g}" if isinstance(value, (int, float)) else str(value)
    for mapping in mappings:
        option = mapping["options"].get(key)
        if option:
            return option["text"], COLORS.get(option["color"], TEXT)
    return None


def named(legend: str, labels: dict[str, str]) -> str:
    """Return a series' name by its legend."""
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", value)
    return legend


class Picture:
    """One dashboard being drawn."""

    def __init__(self, dashboard: Panel, results: dict[str, list[source.Series]], begin: float, end: float) -> None:
        self.panels = dashboard["panels"]
        self.results, self.begin, self.end = results, begin, end
        self.rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in self.panels) + 1
        self.figure = plt.figure(figsize=(24 * CELL_W / DPI, self.rows * CELL_H / DPI), dpi=DPI, facecolor=BACK)
        self.figure.text(
            0.006, 1 - 0.62 / self.rows, dashboard["title"], color=TEXT, fontsize=13, weight="bold", va="center"
        )
        shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(begin)) + time.strftime(" to %H:%M UTC", time.gmtime(end))
        self.figure.text(0.994, 1 - 0.62 / self.rows, shown, color=FAINT, fontsize=9, va="center", ha="right")
        for panel in self.panels:
            self.draw(panel)

    def box(self, panel: Panel) -> tuple[float, float, float, float]:
        """Return a panel's place in the figure: left, bottom, width, height."""
        place = panel["gridPos"]
        bottom = 1 - (place["y"] + place["h"] + 1) / self.rows
        return (
            place["x"] / 24 + 0.003,
            bottom + 0.1 / self.rows,
            place["w"] / 24 - 0.006,
            (place["h"] - 0.2) / self.rows,
        )

    def draw(self, panel: Panel) -> None:
        """Draw one panel."""
        left, bottom, width, height = self.box(panel)
        if panel["type"] == "row":
            self.figure.text(left, bottom + height / 2, "⌄ " + panel["title"], color=TEXT, fontsize=10, va="center")
            return
        corner = FancyBboxPatch(
            (left, bottom), width, height, boxstyle="square,pad=0", facecolor=PANEL, edgecolor="#25282e",
            transform=self.figure.transFigure, zorder=-1,
        )  # fmt: skip
        self.figure.add_artist(corner)
        top = bottom + height - 0.55 / self.rows
        room = int(panel["gridPos"]["w"] * CELL_W / 6.8)
        title = panel["title"].replace("$deployment_id", "").strip()
        self.figure.text(
            left + 0.004, top, textwrap.shorten(title, room, placeholder="…"), color=TEXT, fontsize=8.5, va="center"
        )
        inner = (left + 0.004, bottom + 0.2 / self.rows, width - 0.008, height - 1.15 / self.rows)
        found = [(target, self.results.get(f"{panel['id']}{target['refId']}", [])) for target in panel["targets"]]
        if not any(series for _, series in found):
            self.words(inner, panel["fieldConfig"]["defaults"]["noValue"], FAINT, 8)
            return
        {
            "stat": self.stat,
            "timeseries": self.timeseries,
            "bargauge": self.bargauge,
            "table": self.table,
            "logs": self.logs,
            "state-timeline": self.states,
        }[panel["type"]](panel, found, inner)

    def words(self, inner: tuple[float, ...], text: str, ink: str, size: float) -> None:
        """Write a text in the middle of a panel."""
        left, bottom, width, height = inner
        room = max(int(width * 24 * CELL_W / 6), 8)
        self.figure.text(
            left + width / 2,
            bottom + height / 2,
            textwrap.fill(text, room),
            color=ink,
            fontsize=size,
            ha="center",
            va="center",
        )

    def stat(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw big numbers."""
        left, bottom, width, height = inner
        defaults = panel["fieldConfig"]["defaults"]
        filled = panel["options"]["colorMode"] == "background"
        items = [
            (named(target.get("legendFormat", ""), one.labels), one.last) for target, series in found for one in series
        ]
        each = width / len(items)
        for index, (name, value) in enumerate(items):
            text, ink = mapped(value, defaults.get("mappings", [])) or (
                human(value, defaults["unit"], defaults.get("decimals")),
                color(value, defaults["thresholds"]["steps"]),
            )
            at = left + index * each
            size = min(22.0, each * 24 * CELL_W / max(len(text), 3) * 0.95, height * self.rows * CELL_H * 0.42)
            if filled:
                tile = FancyBboxPatch(
                    (at + 0.001, bottom), each - 0.002, height, boxstyle="square,pad=0", facecolor=ink,
                    edgecolor="none", transform=self.figure.transFigure,
                )  # fmt: skip
                self.figure.add_artist(tile)
                letters = max(len(name), 4)
                small = min(9.0, each * 24 * CELL_W / letters * 1.15)
                self.figure.text(
                    at + each / 2, bottom + height * 0.7, name, color=BACK, fontsize=small, ha="center", va="center"
                )
                self.figure.text(
                    at + each / 2,
                    bottom + height * 0.35,
                    text,
                    color=BACK,
                    fontsize=min(size, 14),
                    ha="center",
                    va="center",
                )
            else:
                self.figure.text(
                    at + each / 2, bottom + height / 2, text, color=ink, fontsize=size, ha="center", va="center"
                )

    def axes(self, inner: tuple[float, ...]) -> t.Any:
        """Return axes inside a panel."""
        axes = self.figure.add_axes(inner, facecolor=PANEL)
        axes.tick_params(colors=FAINT, labelsize=6.5, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        return axes

    def timeline(self, axes: t.Any) -> None:
        """Make the horizontal axis the chosen time range."""
        axes.set_xlim(
            mdates.epoch2num(self.begin) if hasattr(mdates, "epoch2num") else self.begin / 86400, self.end / 86400
        )
        axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=6))
        axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))

    def timeseries(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw curves, bars or areas."""
        left, bottom, width, height = inner
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        unit = panel["fieldConfig"]["defaults"]["unit"]
        fixed, below = {}, ""
        for override in panel["fieldConfig"]["overrides"]:
            for entry in override["properties"]:
                if entry["id"] == "color":
                    fixed[override["matcher"]["options"]] = COLORS.get(entry["value"]["fixedColor"], TEXT)
                if entry["id"] == "custom.transform":
                    below = override["matcher"]["options"].strip("/")
        shown = [(named(target.get("legendFormat", ""), one.labels), one) for target, series in found for one in series]
        lines = min(len(shown), 4) + (len(shown) > 4)
        legend = lines * 0.44 / self.rows
        axes = self.axes(
            (left + 0.026, bottom + legend + 0.62 / self.rows, width - 0.03, height - legend - 0.75 / self.rows)
        )
        axes.grid(color="#2a2d33", linewidth=0.5)
        stacked: dict[int, float] = {}
        for index, (name, one) in enumerate(shown):
            ink = fixed.get(name, CURVES[index % len(CURVES)])
            values = [float(value) for value in one.values]
            if below and below in name:
                values = [-value for value in values]
            times = [when / 86400e3 for when in one.times]
            floor = [0.0] * len(values)
            if custom.get("stacking", {}).get("mode") == "normal":
                floor = [stacked.get(when, 0.0) for when in one.times]
                values = [value + under for value, under in zip(values, floor, strict=True)]
                stacked.update(zip(one.times, values, strict=True))
            if custom.get("drawStyle") == "bars":
                step = min((b - a for a, b in zip(times, times[1:], strict=False)), default=1 / 1440)
                heights = [value - under for value, under in zip(values, floor, strict=True)]
                axes.bar(times, heights, width=step * 0.9, bottom=floor, color=ink, alpha=0.8, linewidth=0)
            else:
                axes.plot(times, values, color=ink, linewidth=1, marker="." if len(times) == 1 else None)
                axes.fill_between(
                    times, floor, values, color=ink, alpha=0.35 if any(floor) or stacked else 0.08, linewidth=0
                )
            if index < 4:
                text = f"— {textwrap.shorten(name, 60, placeholder='…')}   {human(float(one.values[-1]), unit)}"
                y = bottom + legend - (index + 0.5) * 0.44 / self.rows
                self.figure.text(left, y, text, color=ink, fontsize=6.5, va="center")
        if len(shown) > 4:
            y = bottom + legend - 4.5 * 0.44 / self.rows
            self.figure.text(left, y, f"and {len(shown) - 4} more", color=FAINT, fontsize=6.5, va="center")
        self.timeline(axes)
        low, high = axes.get_ylim()
        if panel["fieldConfig"]["defaults"].get("min") == 0:
            axes.set_ylim(0, high if high > 0 else 1)
        if custom.get("thresholdsStyle"):
            low, high = axes.get_ylim()
            for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
                if step["value"] is not None and low <= step["value"] <= max(high * 1.6, 1e-9):
                    axes.axhline(step["value"], color=COLORS.get(step["color"], TEXT), linewidth=0.8, linestyle="--")
        axes.yaxis.set_major_formatter(
            lambda value, _: human(value, unit, 0 if unit == "percentunit" and high > 0.05 else None)
        )
        axes.yaxis.set_major_locator(plt.MaxNLocator(4))

    def bargauge(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw horizontal bars."""
        left, bottom, width, height = inner
        defaults = panel["fieldConfig"]["defaults"]
        items = [
            (named(target.get("legendFormat", ""), one.labels), one.last) for target, series in found for one in series
        ]
        items = sorted(items, key=lambda item: item[1])[-12:]
        axes = self.axes((left + width * 0.36, bottom, width * 0.5, height))
        high = defaults.get("max") or max(value for _, value in items) or 1
        axes.barh(range(len(items)), [high] * len(items), color="#22252b", height=0.6)
        inks = [color(value, defaults["thresholds"]["steps"]) for _, value in items]
        axes.barh(range(len(items)), [value for _, value in items], color=inks, height=0.6)
        axes.set_xlim(0, high)
        axes.set_xticks([])
        axes.set_yticks(range(len(items)), [shortened(name, 22) for name, _ in items])
        for row, (_, value) in enumerate(items):
            axes.text(
                high * 1.03,
                row,
                human(value, defaults["unit"]),
                color=inks[row],
                fontsize=7,
                va="center",
                clip_on=False,
            )

    def table(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw a table: rows of the queries that agree in all labels are one."""
        left, bottom, width, height = inner
        organize = next(entry for entry in panel["transformations"] if entry["id"] == "organize")["options"]
        headings = organize["renameByName"]
        fields = sorted(headings, key=lambda field: organize["indexByName"][field])
        labels = [field for field in fields if not field.startswith("Value")]
        # Grafana's merge joins rows whose shared columns agree.
        merged: list[dict[str, t.Any]] = []
        for target, series in found:
            for one in series:
                row = {name: value for name, value in one.labels.items() if name in labels}
                match = next((m for m in merged if all(m.get(k, v) == v for k, v in row.items())), None)
                if match is None:
                    merged.append(match := {})
                match.update(row)
                match[f"Value #{target['refId']}"] = one.last
        overrides = {entry["matcher"]["options"]: entry["properties"] for entry in panel["fieldConfig"]["overrides"]}
        weights = [1.6 if field in ("app", "name", "alertname") else 1 for field in fields]
        starts = [sum(weights[:index]) / sum(weights) for index in range(len(fields))]
        step = 0.72 / self.rows
        fit = max(int(height / step) - 1, 1)
        for index, field in enumerate(fields):
            at = left + starts[index] * width
            self.figure.text(
                at, bottom + height - step / 2, headings[field], color=COLORS["blue"], fontsize=7.5, va="center"
            )
            wide = int(weights[index] / sum(weights) * width * 24 * CELL_W / 5.6)
            properties = {entry["id"]: entry["value"] for entry in overrides.get(headings[field], [])}
            for number, row in enumerate(merged[:fit]):
                value = row.get(field)
                ink, text = TEXT, ""
                if isinstance(value, str):
                    text, ink = mapped(value, properties.get("mappings", [])) or (value, TEXT)
                elif value is not None:
                    if "thresholds" in properties:
                        ink = color(value, properties["thresholds"]["steps"])
                    text = human(value, properties.get("unit", "none"), properties.get("decimals"))
                    text, ink = mapped(value, properties.get("mappings", [])) or (text, ink)
                if len(text) > wide:
                    text = text[: max(wide - 1, 1)] + "…"
                self.figure.text(
                    at, bottom + height - (number + 1.5) * step, text, color=ink, fontsize=7.5, va="center"
                )

    def logs(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw the newest lines."""
        left, bottom, width, height = inner
        step = 0.55 / self.rows
        wide = int(width * 24 * CELL_W / 5.1)
        newest = sorted((one for _, series in found for one in series), key=lambda one: -one.times[0])
        for number, one in enumerate(newest[: int(height / step)]):
            when = time.strftime("%H:%M:%S", time.gmtime(one.times[0] / 1000))
            # The font has no emoji.
            line = str(one.values[0]).replace("❌", "✗").replace("✅", "✓").replace("🚀", "»").replace("$", r"\$")
            text = f"{when} {line}"
            text = text if len(text) <= wide else text[: wide - 1] + "…"
            y = bottom + height - (number + 0.5) * step
            self.figure.text(left, y, text, color=TEXT, fontsize=6, family="monospace", va="center")

    def states(self, panel: Panel, found: list[t.Any], inner: tuple[float, ...]) -> None:
        """Draw bands of states."""
        left, bottom, width, height = inner
        mappings = panel["fieldConfig"]["defaults"]["mappings"]
        shown = [(named(target.get("legendFormat", ""), one.labels), one) for target, series in found for one in series]
        axes = self.axes((left + width * 0.17, bottom + 0.6 / self.rows, width * 0.81, height - 0.7 / self.rows))
        for row, (_, one) in enumerate(shown):
            for place, (when, value) in enumerate(zip(one.times, one.values, strict=True)):
                until = one.times[place + 1] if place + 1 < len(one.times) else int(self.end * 1000)
                _, ink = mapped(float(value), mappings) or ("", FAINT)
                axes.barh(row, (until - when) / 86400e3, left=when / 86400e3, color=ink, height=0.8, linewidth=0)
        axes.set_yticks(range(len(shown)), [shortened(name, 22) for name, _ in shown])
        self.timeline(axes)


class Grafana:
    """Asks a Grafana, on this machine or inside a test target."""

    def __init__(self, url: str, login: str, target: str) -> None:
        self.url, self.login, self.target = url, login, target

    def ask(self, path: str, payload: t.Any = None) -> t.Any:
        """Return an answer of its API."""
        if self.target:
            words = ["docker", "exec", "-i", self.target, "curl", "--silent", "--config", "-", self.url + path]
            body = f"user = {json.dumps(self.login)}\n"
            if payload is not None:
                body += 'header = "Content-Type: application/json"\n'
                body += f"data-binary = {json.dumps(json.dumps(payload))}\n"
            done = subprocess.run(words, input=body, capture_output=True, text=True, check=True)
            return json.loads(done.stdout)
        request = urllib.request.Request(self.url + path)
        request.add_header("Authorization", "Basic " + base64.b64encode(self.login.encode()).decode())
        if payload is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(payload).encode()
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


def main() -> None:
    """Draw the dashboards that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uids", nargs="*", default=sorted(source.dashboards()))
    parser.add_argument("--to", type=Path, default=CHECKOUT / "docs/images")
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--target", default="", help="the container of a test target, whose Grafana is asked")
    parser.add_argument("--login", default="admin")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--minutes", type=int, default=30, help="how far the pictures look back")
    options = parser.parse_args()
    grafana = Grafana(options.url, f"{options.login}:{options.password_file.read_text().strip()}", options.target)
    options.to.mkdir(parents=True, exist_ok=True)
    end = math.floor(time.time())
    begin = end - options.minutes * 60
    for uid in options.uids:
        dashboard = grafana.ask(f"/api/dashboards/uid/{uid}")["dashboard"]
        mine = [query for query in source.queries() if query.dashboard == uid]
        request = source.request(mine, source.everything(uid), begin * 1000, end * 1000)
        results = grafana.ask("/api/ds/query", request)["results"]
        found = {f"{query.panel}{query.ref}": source.series(results[f"q{index}"]) for index, query in enumerate(mine)}
        picture = Picture(dashboard, found, begin, end)
        path = options.to / f"{uid}.png"
        picture.figure.savefig(path, facecolor=BACK)
        plt.close(picture.figure)
        print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
