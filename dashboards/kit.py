"""What all dashboards share: texts in two languages, limits that are the alerts' own, panels, layout, links.

A thin layer over grafana-foundation-sdk: a dashboard's own module says what a panel asks and means, this one how
all panels look and behave.
"""

from __future__ import annotations

import contextvars
import json
import re
import typing as t
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    logs,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import loki as loki_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

CHECKOUT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "fr")
COLUMNS = 24
TAG = "deployment-monitoring"

Panel = t.Any
Step = tuple[str, float | None]

_language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")


def say(english: str, french: str) -> str:
    """Return the text in the language that is being generated."""
    return french if _language.get() == "fr" else english


# -- limits ------------------------------------------------------------------------------------------------------------


class Limit(float):
    """A number that is worked out from a variable of the roles: the role puts the user's own value in its place.

    In the generated file stands the variable's default; `limits.json` beside it tells the role which numbers to change.
    """

    variable: str
    factor: float
    offset: float


def _defaults() -> dict[str, t.Any]:
    with open(CHECKOUT / "roles/prometheus/defaults/main.yml") as reader:
        return t.cast("dict[str, t.Any]", yaml.safe_load(reader))


_DEFAULTS = _defaults()


def limit(variable: str, factor: float = 1, offset: float = 0) -> Limit:
    """Return a variable of roles/prometheus as a number of a panel: value * factor + offset."""
    value = Limit(round(float(_DEFAULTS[variable]) * factor + offset, 6))
    value.variable, value.factor, value.offset = variable, factor, offset
    return value


def rising(warning: float | None, critical: float | None = None) -> list[Step]:
    """Green below the warning, orange from there, red from the critical limit on."""
    steps: list[Step] = [("green", None)]
    if warning is not None:
        steps.append(("orange" if critical is not None else "red", warning))
    if critical is not None:
        steps.append(("red", critical))
    return steps


def falling(good: float, poor: float | None = None) -> list[Step]:
    """Green from the good limit on, red below (orange down to the poor one where there is one)."""
    steps: list[Step] = [("red", None)]
    if poor is not None:
        steps.append(("orange", poor))
    steps.append(("green", good))
    return steps


NEUTRAL: list[Step] = [("text", None)]
BLUE: list[Step] = [("blue", None)]

# -- datasources and queries -------------------------------------------------------------------------------------------

PROMETHEUS = common_models.DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = common_models.DataSourceRef(type_val="loki", uid="loki")
GRAFANA = common_models.DataSourceRef(type_val="grafana", uid="-- Grafana --")


def over_time(expr: str, legend: str = "") -> prometheus.Dataquery:
    """Return a query for a curve."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).range().datasource(PROMETHEUS)


def now(expr: str, legend: str = "") -> prometheus.Dataquery:
    """Return a query for the value at the end of the time range: one evaluation, however long the range."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).instant().datasource(PROMETHEUS)


def most(number: int, expr: str, by: str = "host, app") -> str:
    """Return the series of a curve that are the largest at the end of the range.

    topk alone chooses anew at each point: where ranks change, a curve of ten would have many more, all full of holes.

    >>> most(3, "sum by (app) (rate(x{a=\\"b\\"}[5m]))", "app")
    'sum by (app) (rate(x{a="b"}[5m])) and on (app) topk(3, sum by (app) (rate(x{a="b"}[5m] @ end())))'
    """
    at_end = re.sub(r"{[^{}]*}(?:\[[^\]]*\])?", lambda found: f"{found.group()} @ end()", expr)
    return f"{expr} and on ({by}) topk({number}, {at_end})"


def column(expr: str) -> prometheus.Dataquery:
    """Return a query for a column of a table."""
    return now(expr).format(prometheus_models.PromQueryFormat.TABLE)


def log_rate(expr: str, legend: str = "") -> loki.Dataquery:
    """Return a Loki query for a curve."""
    query = loki.Dataquery().expr(expr).legend_format(legend).query_type("range")
    return query.editor_mode(loki_models.QueryEditorMode.CODE).datasource(LOKI)


def log_now(expr: str, legend: str = "") -> loki.Dataquery:
    """Return a Loki query for one value."""
    return log_rate(expr, legend).query_type("instant")


def log_lines(expr: str, lines: int = 200) -> loki.Dataquery:
    """Return a Loki query for lines."""
    return log_rate(expr).max_lines(lines)


# -- panels ------------------------------------------------------------------------------------------------------------

_NO_DATA = ("no data: nothing reports this", "aucune donnée : personne ne le rapporte")


def _steps(steps: list[Step]) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for color, value in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def mapped(**values: tuple[str, str]) -> list[models.ValueMapping]:
    """Return what a value is called and its colour: mapped(_0=("down", "red"), _1=("up", "green"))."""
    options = {
        key.lstrip("_"): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(values.items())
    }
    return [models.ValueMap(options=options)]


def up_down() -> list[models.ValueMapping]:
    """Return how 0 and 1 read where they mean down and up."""
    return mapped(_0=(say("DOWN", "EN PANNE"), "red"), _1=(say("up", "en service"), "green"))


def link(title: str, url: str, blank: bool = False) -> dashboard.DashboardLink:
    """Return a link of a panel or of a value."""
    return dashboard.DashboardLink(title).url(url).target_blank(blank)


def to_dashboard(title: str, uid: str, **variables: str) -> dashboard.DashboardLink:
    """Return a link to another dashboard: it keeps the time range, and the variables that are not named.

    Where some are named, which others there are is the board's to know: it adds them (`_kept`).
    """
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items()) or "&${__all_variables}"
    return link(title, f"/d/{uid}?${{__url_time_range}}{chosen}")


def _kept(value: t.Any, variables: Iterable[str]) -> t.Any:
    """Add to each link to a dashboard the variables that it does not name: all at once would name some twice."""
    if isinstance(value, dict):
        return {key: _kept(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner, variables) for inner in value]
    if isinstance(value, str) and value.startswith("/d/") and "&var-" in value:
        named = re.findall(r"&var-(\w+)=", value)
        return value + "".join(f"&${{{name}:queryparam}}" for name in variables if name not in named)
    return value


def to_logs(title: str, expr: str) -> dashboard.DashboardLink:
    """Return a link to the lines behind a value: Explore on Loki, of the chosen hosts, in the same time range."""
    expr = expr.replace("{", '{host=~"${host:pipe}", ', 1)
    query = {"refId": "A", "expr": expr, "queryType": "range", "datasource": {"type": "loki", "uid": "loki"}}
    pane = {"datasource": "loki", "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}
    panes = urllib.parse.quote(json.dumps({"logs": pane}, ensure_ascii=False, separators=(",", ":")), safe="${}:,[]._")
    return link(title, f"/explore?schemaVersion=1&orgId=1&panes={panes}")


def _common(
    panel: Panel,
    title: str,
    description: str,
    queries: Iterable[t.Any],
    unit: str,
    no_value: str,
    links: Iterable[dashboard.DashboardLink],
) -> Panel:
    panel.title(title).description(description).no_value(no_value or say(*_NO_DATA)).unit(unit)
    for index, query in enumerate(queries):
        panel.with_target(query.ref_id(chr(ord("A") + index)))
    first = next(iter(panel._internal.targets))
    panel.datasource(first.datasource)
    links = list(links)
    if links:
        panel.data_links(links)
    return panel


def number(
    title: str,
    description: str,
    *queries: t.Any,
    unit: str = "short",
    steps: list[Step] | None = None,
    mappings: list[models.ValueMapping] | None = None,
    decimals: int | None = None,
    no_value: str = "",
    links: Iterable[dashboard.DashboardLink] = (),
    reduce: str = "lastNotNull",
    background: bool = False,
    own_links: dict[str, list[dashboard.DashboardLink]] | None = None,
) -> Panel:
    """Return one or several big numbers; those named in `own_links` have these instead of the panel's."""
    panel = _common(stat.Panel(), title, description, queries, unit, no_value, links)
    for name, instead in (own_links or {}).items():
        built = [made.build() for made in instead]
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="links", value=built)])
    panel.thresholds(_steps(steps or NEUTRAL)).graph_mode(common_models.BigValueGraphMode.NONE)
    panel.color_mode(
        common_models.BigValueColorMode.BACKGROUND if background else common_models.BigValueColorMode.VALUE
    )
    panel.reduce_options(common.ReduceDataOptions().calcs([reduce]).values(False).fields(""))
    panel.text_mode(
        common_models.BigValueTextMode.VALUE_AND_NAME if background else common_models.BigValueTextMode.AUTO
    )
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    if mappings:
        panel.mappings(mappings)
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def curves(
    title: str,
    description: str,
    *queries: t.Any,
    unit: str = "short",
    steps: list[Step] | None = None,
    stacked: bool = False,
    bars: bool = False,
    at_least: float | None = 0,
    at_most: float | None = None,
    decimals: int | None = None,
    no_value: str = "",
    links: Iterable[dashboard.DashboardLink] = (),
    every: str = "",
    below: str = "",
    colors: dict[str, str] | None = None,
) -> Panel:
    """Return curves; `steps` are drawn as lines, series that match `below` under the axis."""
    panel = _common(timeseries.Panel(), title, description, queries, unit, no_value, links)
    panel.line_width(1).fill_opacity(10 if not stacked else 40).show_points(common_models.VisibilityMode.NEVER)
    # A gap in the data shows as a gap, unless it is only a missed scrape.
    panel.span_nulls(120000)
    panel.tooltip(
        common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    if steps:
        panel.thresholds(_steps(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if bars:
        panel.draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(60)
    if at_least is not None and not below:
        panel.min(at_least)
    if at_most is not None:
        panel.max(at_most)
    if decimals is not None:
        panel.decimals(decimals)
    if every:
        panel.interval(every)
    if below:
        panel.override_by_regexp(
            f"/{below}/", [models.DynamicConfigValue(id_val="custom.transform", value="negative-Y")]
        )
    for name, color in (colors or {}).items():
        value = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="color", value=value)])
    return panel


def bars(
    title: str,
    description: str,
    *queries: t.Any,
    unit: str = "percentunit",
    steps: list[Step] | None = None,
    at_most: float | None = None,
    no_value: str = "",
    links: Iterable[dashboard.DashboardLink] = (),
) -> Panel:
    """Return horizontal bars, one for each series."""
    panel = _common(bargauge.Panel(), title, description, queries, unit, no_value, links)
    panel.thresholds(_steps(steps or NEUTRAL)).min(0).orientation(common_models.VizOrientation.HORIZONTAL)
    panel.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    if at_most is not None:
        panel.max(at_most)
    return panel


def states(
    title: str,
    description: str,
    *queries: t.Any,
    mappings: list[models.ValueMapping],
    no_value: str = "",
    links: Iterable[dashboard.DashboardLink] = (),
) -> Panel:
    """Return bands that change their colour with the state."""
    panel = _common(statetimeline.Panel(), title, description, queries, "none", no_value, links)
    panel.mappings(mappings).merge_values(True).show_value(common_models.VisibilityMode.NEVER).row_height(0.8)
    panel.thresholds(_steps(NEUTRAL)).fill_opacity(80).line_width(0)
    return panel.legend(
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


class Column(t.NamedTuple):
    """A column of a table: its field (a label, or `Value #A`), its heading, and how its values look."""

    field: str
    heading: str
    unit: str = ""
    steps: list[Step] | None = None
    mappings: list[models.ValueMapping] | None = None
    links: tuple[dashboard.DashboardLink, ...] = ()
    decimals: int | None = None
    width: int = 0
    seconds_ago: bool = False


def rows(
    title: str,
    description: str,
    *queries: t.Any,
    columns: list[Column],
    sort: str = "",
    descending: bool = False,
    no_value: str = "",
) -> Panel:
    """Return a table: the queries' rows that agree in all labels are one row."""
    panel = _common(table.Panel(), title, description, queries, "short", no_value, ())
    panel.thresholds(_steps(NEUTRAL)).filterable(True)
    options: dict[str, t.Any] = {
        "indexByName": {item.field: index for index, item in enumerate(columns)},
        "renameByName": {item.field: item.heading for item in columns},
    }
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))
    keep = "^(" + "|".join(_pattern(item.heading) for item in columns) + ")$"
    panel.with_transformation(
        models.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"pattern": keep}})
    )
    for item in columns:
        properties = []
        if item.unit:
            properties.append(models.DynamicConfigValue(id_val="unit", value=item.unit))
        if item.steps:
            value = {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in item.steps]}
            properties.append(models.DynamicConfigValue(id_val="thresholds", value=value))
            cell = {"type": "color-text"}
            properties.append(models.DynamicConfigValue(id_val="custom.cellOptions", value=cell))
        if item.mappings:
            properties.append(models.DynamicConfigValue(id_val="mappings", value=item.mappings))
            cell = {"type": "color-text"}
            properties.append(models.DynamicConfigValue(id_val="custom.cellOptions", value=cell))
        if item.links:
            built = [made.build() for made in item.links]
            properties.append(models.DynamicConfigValue(id_val="links", value=built))
        if item.decimals is not None:
            properties.append(models.DynamicConfigValue(id_val="decimals", value=item.decimals))
        if item.width:
            properties.append(models.DynamicConfigValue(id_val="custom.width", value=item.width))
        if properties:
            panel.override_by_name(item.heading, properties)
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    return panel


def _pattern(text: str) -> str:
    return "".join("\\" + letter if letter in "()[]{}.*+?^$|/\\" else letter for letter in text)


def lines(title: str, description: str, query: t.Any, no_value: str = "") -> Panel:
    """Return log lines, the newest first."""
    panel = _common(logs.Panel(), title, description, [query], "none", no_value, ())
    panel.show_time(True).wrap_log_message(True).enable_log_details(True)
    return panel.sort_order(common_models.LogsSortOrder.DESCENDING).dedup_strategy(common_models.LogsDedupStrategy.NONE)


# -- variables ---------------------------------------------------------------------------------------------------------


def chosen(
    name: str,
    label: str,
    values: str,
    datasource: common_models.DataSourceRef = PROMETHEUS,
    multi: bool = True,
    anything: str = ".*",
) -> dashboard.QueryVariable:
    """Return a variable whose choices are found in the data; All is one pattern, however many there are."""
    query: t.Any = {"query": values, "refId": name, "qryType": 1}
    if datasource is LOKI:
        selector, _, found = values.removeprefix("label_values(").removesuffix(")").rpartition(",")
        query = {"type": 1, "label": found.strip(), "stream": selector, "refId": name}
    everything = models.VariableOption(selected=True, text=say("All", "Tous"), value="$__all")
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(datasource)
        .query(query)
        .definition(values)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi)
        .include_all(True)
        .all_value(anything)
        .current(everything)
    )


APPS = "app_discovery_app_info"


def apps_wanted(selector: str) -> str:
    """Return how many apps the Port Manager has given a port; nothing where no discovery says so."""
    return f'count({APPS}{{{selector}}}) or 0 * count(app_discovery_apps{{host=~"$host"}})'


def apps_down(selector: str) -> str:
    """Return how many apps are down, as AppDown has it: unprobed ones are as bad. Where none is probed, nothing."""
    probes = f'probe_success{{job="app-health", {selector}}}'
    return (
        f"count(min by (host, project, branch, app) ({probes}) == 0"
        f" or group by (host, project, branch, app) ({APPS}{{{selector}}}) unless on (host, app) {probes}"
        f' and on (host) up{{job="blackbox", host=~"$host"}} == 1)'
        f" or 0 * count({probes})"
    )


def firing(selector: str) -> str:
    """Return how many alerts fire, of the chosen hosts and of none; nothing where there is no such host."""
    return f'count(ALERTS{{alertstate="firing", {selector}, host=~"$host|"}}) or 0 * count(up{{host=~"$host"}})'


def host(of: str = "up") -> dashboard.QueryVariable:
    """Return the variable for the host."""
    # Not `.+` for All: in a link's address a plus is a space.
    return chosen("host", say("Host", "Serveur"), f"label_values({of}, host)")


def project(multi: bool = True) -> dashboard.QueryVariable:
    """Return the variable for the project, of the chosen hosts."""
    return chosen("project", say("Project", "Projet"), f'label_values({APPS}{{host=~"$host"}}, project)', multi=multi)


def branch() -> dashboard.QueryVariable:
    """Return the variable for the branch, of the chosen projects."""
    return chosen(
        "branch", say("Branch", "Branche"), f'label_values({APPS}{{host=~"$host", project=~"$project"}}, branch)'
    )


def app() -> dashboard.QueryVariable:
    """Return the variable for the app, of the chosen branches."""
    selector = f'{APPS}{{host=~"$host", project=~"$project", branch=~"$branch"}}'
    return chosen("app", say("Application", "Application"), f"label_values({selector}, app)")


def text(name: str, label: str, description: str) -> dashboard.TextBoxVariable:
    """Return a variable that people type."""
    empty = models.VariableOption(selected=True, text="", value="")
    return dashboard.TextBoxVariable(name).label(label).description(description).default_value("").current(empty)


# -- dashboards --------------------------------------------------------------------------------------------------------


class _Target:
    """A query of an annotation: the SDK has no builder for Grafana's own."""

    def __init__(self, content: dict[str, t.Any]) -> None:
        self.content = content

    def build(self) -> _Target:
        return self

    def to_json(self) -> dict[str, t.Any]:
        return self.content


def _deployments() -> dashboard.AnnotationQuery:
    expr = '{job="deployment-api", host=~"$host"} |~ "✅|❌" | json'
    content = {"expr": expr, "refId": "deployments", "queryType": "range", "maxLines": 200}
    return (
        dashboard.AnnotationQuery()
        .name(say("Deployments", "Déploiements"))
        .datasource(LOKI)
        .enable(True)
        .icon_color("blue")
        .expr(expr)
        .title_format("{{message}}")
        .text_format("{{message}}")
        .tag_keys("deployment_id,level")
        .target(t.cast("t.Any", _Target(content | {"datasource": {"type": "loki", "uid": "loki"}})))
    )


def _alerts() -> dashboard.AnnotationQuery:
    expr = 'ALERTS{alertstate="firing", severity!~"none|notice", host=~"$host|"}'
    return (
        dashboard.AnnotationQuery()
        .name(say("Alerts", "Alertes"))
        .datasource(PROMETHEUS)
        .enable(False)
        .icon_color("red")
        .expr(expr)
        .step("60s")
        .title_format("{{alertname}}")
        .text_format("{{severity}}: {{host}} {{app}} {{service}}")
        .tag_keys("severity,team")
    )


def _site_changes() -> dashboard.AnnotationQuery:
    content = {"limit": 100, "matchAny": False, "tags": [TAG], "type": "tags"}
    return (
        dashboard.AnnotationQuery()
        .name(say("Changes of the monitoring itself", "Changements du monitoring"))
        .datasource(GRAFANA)
        .enable(True)
        .icon_color("purple")
        .target(t.cast("t.Any", _Target(content | {"refId": "changes"})))
    )


class Board:
    """A dashboard in the making: panels are laid from left to right, each row of the grid as high as its highest."""

    def __init__(self, uid: str, title: str, description: str, *variables: t.Any, since: str = "now-6h") -> None:
        self.uid = uid
        self.variables = [variable.build().name for variable in variables]
        self.builder = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .time(since, "now")
            .refresh("1m")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .editable()
        )
        for variable in variables:
            self.builder.with_variable(variable)
        for annotation in (_deployments(), _alerts(), _site_changes()):
            self.builder.annotation(annotation)
        self.builder.link(
            dashboard.DashboardLink(say("Dashboards", "Tableaux de bord"))
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        self._id = self._x = self._y = self._high = 0

    def row(self, title: str) -> Board:
        """Begin a new row under a heading."""
        self._wrap()
        self._id += 1
        grid = models.GridPos(h=1, w=COLUMNS, x=0, y=self._y)
        self.builder.with_row(dashboard.Row(title).id(self._id).grid_pos(grid))
        self._y += 1
        return self

    def add(self, panel: Panel, width: int, height: int, number: int = 0) -> Board:
        """Put a panel at the next free place.

        :param number: the id of a panel that came between others later, from 101 on: ids stay, for links lead to them.
        """
        if self._x + width > COLUMNS:
            self._wrap()
        if not number:
            self._id += 1
        panel.id(number or self._id).grid_pos(models.GridPos(h=height, w=width, x=self._x, y=self._y))
        self.builder.with_panel(panel)
        self._x += width
        self._high = max(self._high, height)
        return self

    def _wrap(self) -> None:
        self._y += self._high
        self._x = self._high = 0

    def build(self) -> dict[str, t.Any]:
        """Return the dashboard as Grafana reads it, limits still being Limit."""
        return t.cast("dict[str, t.Any]", _kept(_plain(self.builder.build()), self.variables))


# What the SDK writes unasked: `placement` would move links and annotations out of sight, the rest is another kind of
# variable's.
_UNWANTED = {"placement", "auto", "auto_min", "auto_count", "repeatDirection", "fiscalYearStartMonth"}


def _plain(value: t.Any) -> t.Any:
    """Return the SDK's objects as dictionaries and lists."""
    if isinstance(value, Limit):
        return value
    if hasattr(value, "to_json"):
        value = value.to_json()
    if isinstance(value, dict):
        return {
            str(key): _plain(inner)
            for key, inner in value.items()
            # A threshold's first value is null and has to stand there.
            if (inner is not None or key == "value") and key not in _UNWANTED
        }
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value.value if hasattr(value, "value") else value
    return json.loads(json.dumps(value, cls=JSONEncoder))


def in_language(language: str, make: t.Callable[[], Board]) -> dict[str, t.Any]:
    """Return a dashboard in a language."""
    token = _language.set(language)
    try:
        return make().build()
    finally:
        _language.reset(token)


def limits(content: t.Any, path: tuple[str | int, ...] = ()) -> list[dict[str, t.Any]]:
    """Return where in a dashboard a limit stands, and what it is worked out from."""
    if isinstance(content, Limit):
        return [{"at": list(path), "variable": content.variable, "factor": content.factor, "offset": content.offset}]
    items: Iterable[tuple[str | int, t.Any]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    return [found for key, inner in items for found in limits(inner, (*path, key))]
