"""The dashboards' style as tests, and the committed files in step with their source."""

from __future__ import annotations

import itertools
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDER = CHECKOUT / "roles/grafana/files/dashboards"
FILES = sorted(FOLDER.glob("*/*.json"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]
UIDS = {
    "deployment-main",
    "infrastructure-main",
    "applications-main",
    "slo-main",
    "logs-main",
    "mongodb-main",
    "monitoring-main",
    "project-main",
}
DATASOURCES = {"prometheus", "loki", "-- Grafana --"}
Dashboard = dict[str, t.Any]


def load(path: Path) -> Dashboard:
    return t.cast("Dashboard", json.loads(path.read_text()))


ALL = {name: load(path) for name, path in zip(NAMES, FILES, strict=True)}
each_dashboard = pytest.mark.parametrize("name", NAMES)


def panels(name: str) -> list[Dashboard]:
    """Return all panels of a dashboard but the headings of rows."""
    return [panel for panel in ALL[name]["panels"] if panel["type"] != "row"]


def expressions(panel: Dashboard) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def test_the_committed_files_are_what_the_source_makes(capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(CHECKOUT))
    try:
        from dashboards.__main__ import main

        assert main(["--check"]) == 0, capsys.readouterr().out
    finally:
        sys.path.remove(str(CHECKOUT))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_there_is_every_dashboard_under_its_uid_in_each_language(language: str) -> None:
    found = {name.split("/")[1]: ALL[name]["uid"] for name in NAMES if name.startswith(language)}
    assert found == {uid: uid for uid in UIDS}


@each_dashboard
def test_a_dashboard_has_title_description_tag_and_a_light_refresh(name: str) -> None:
    dashboard = ALL[name]
    assert dashboard["title"]
    assert len(dashboard["description"]) > 20
    assert dashboard["tags"] == ["deployment-monitoring"]
    assert dashboard["refresh"] == "1m"
    assert dashboard["schemaVersion"] >= 36


@each_dashboard
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    placed = ALL[name]["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    for panel in placed:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, panel["title"]
    for one, other in itertools.combinations(placed, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} and {other['title']} overlap"


@each_dashboard
def test_no_two_panels_have_the_same_title(name: str) -> None:
    titles = [panel["title"] for panel in panels(name)]
    assert sorted(set(titles)) == sorted(titles)


@each_dashboard
def test_a_panel_has_title_description_unit_and_says_what_no_data_means(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert len(panel["description"]) >= 15
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["noValue"]


@each_dashboard
def test_a_panel_and_its_queries_name_their_datasource_by_uid(name: str) -> None:
    for panel in panels(name):
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} <= DATASOURCES
        assert panel["targets"], panel["title"]


@each_dashboard
def test_no_query_names_a_host_a_port_or_an_address(name: str) -> None:
    for panel in panels(name):
        for expr in expressions(panel):
            assert not re.search(r"\d+\.\d+\.\d+\.\d+|localhost|silverhawk|instance=\"", expr), expr
            assert not re.search(r"host(=|=~)\"(?!\$host)", expr), expr


@each_dashboard
def test_log_lines_are_of_the_chosen_hosts_and_apps(name: str) -> None:
    targets = [(panel["title"], target) for panel in panels(name) for target in panel["targets"]]
    targets += [(annotation["name"], annotation) for annotation in ALL[name]["annotations"]["list"]]
    asked = [(title, target["expr"]) for title, target in targets if target["datasource"]["uid"] == "loki"]
    variables = {variable["name"]: variable for variable in ALL[name]["templating"]["list"]}
    asked += [
        (variable["label"], variable["definition"])
        for variable in variables.values()
        if variable.get("datasource", {}).get("uid") == "loki"
    ]
    streams = [(title, stream) for title, expr in asked for stream in re.findall(r"{[^{}]*}", expr)]
    assert len(streams) >= len(asked) >= 1
    for title, stream in streams:
        assert 'host=~"$host"' in stream, title
        if 'job="docker"' in stream and "app" in variables:
            assert 'container=~"($app)-deploy"' in stream, title


def test_a_projects_deployments_are_not_anothers() -> None:
    (panel,) = [one for one in panels("en/project-main") if one["title"] == "Deployments of the project"]
    (expr,) = expressions(panel)
    pattern = expr.split("`")[1].replace("$project", "shop")
    for line in ("🚀 Deployment of shop/main started", "shop/main", '"shop/feature/cart"'):
        assert re.search(pattern, line), line
    for line in ("Deployment of my-shop/main", "Deployment of old.shop/main", "workshop/main", "shop-two/main"):
        assert not re.search(pattern, line), line


@each_dashboard
def test_a_link_to_log_lines_keeps_the_hosts(name: str) -> None:
    for url in re.findall(r'"url": "(/explore[^"]*)"', json.dumps(ALL[name])):
        assert "expr%22:%22{host%3D~%5C%22${host:pipe}%5C%22," in url


@each_dashboard
def test_no_number_is_made_up(name: str) -> None:
    """vector(0) says that all is well where nothing is known: a zero is counted from what there is."""
    for panel in panels(name):
        for target in panel["targets"]:
            made_up = "vector(" in target["expr"]
            assert not made_up or target["datasource"]["uid"] == "loki", panel["title"]


@each_dashboard
def test_rates_follow_the_zoom_and_no_irate_flaps(name: str) -> None:
    for panel in panels(name):
        for expr in expressions(panel):
            assert "irate(" not in expr
            if panel["datasource"]["uid"] != "prometheus":
                continue
            for window in re.findall(r"(?:rate|increase|delta)\([^\[]*\[([^\]]+)\]", expr):
                # A number at the end of the range has a window of its own, curves follow the zoom.
                curve = any(target.get("range") for target in panel["targets"])
                assert window == "$__rate_interval" or (
                    not curve and window in ("5m", "$__range", "$__rate_interval")
                ), expr


@each_dashboard
def test_a_curve_of_many_apps_is_cut_to_the_worst(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            by_app = re.search(r"by \([^)]*\bapp\b", target["expr"]) or "{{app}}" in target.get("legendFormat", "")
            if by_app and target.get("range"):
                assert re.search(r"(topk|bottomk)\(\d+", target["expr"]), target["expr"]


@each_dashboard
def test_the_worst_are_the_same_ones_all_along_a_curve(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            ranked = re.search(r"(topk|bottomk)\(", target["expr"])
            # Loki knows no @ end().
            if ranked and target.get("range"):
                rest = target["expr"][ranked.start() :]
                assert re.search(r" and on \([\w, ]+\) $", target["expr"][: ranked.start()]), target["expr"]
                assert rest.count("}") == rest.count("@ end()"), target["expr"]


@each_dashboard
def test_a_curve_has_a_legend_that_tells_its_series_apart(name: str) -> None:
    for panel in panels(name):
        if panel["type"] != "timeseries":
            continue
        for target in panel["targets"]:
            legend = target["legendFormat"]
            assert legend
            grouped = re.match(r"(?:topk\(\d+, )?\w+ by \(([^)]+)\)", target["expr"])
            if grouped:
                shown = set(re.findall(r"{{(\w+)}}", legend))
                assert shown, f"{panel['title']}: {legend}"
                assert shown <= {label.strip() for label in grouped.group(1).split(",")}, f"{panel['title']}: {legend}"


@each_dashboard
def test_variables_keep_each_others_selection(name: str) -> None:
    variables = {variable["name"]: variable for variable in ALL[name]["templating"]["list"]}
    assert "host" in variables
    chain = ["host", "project", "branch", "app"]
    for before, after in itertools.pairwise(chain):
        if after in variables:
            assert before in variables
            for former in chain[: chain.index(after)]:
                assert f'{former}=~"${former}"' in variables[after]["definition"]
    for variable in variables.values():
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] in DATASOURCES
            assert variable["includeAll"]
            # Whatever there is, All is one short pattern.
            assert variable["allValue"] in (".*", ".+")


@each_dashboard
def test_each_variable_is_used_and_each_used_one_is_there(name: str) -> None:
    dashboard = ALL[name]
    there = {variable["name"] for variable in dashboard["templating"]["list"]}
    queries = json.dumps([panel.get("targets", []) for panel in dashboard["panels"]])
    queries += json.dumps([variable.get("definition", "") for variable in dashboard["templating"]["list"]])
    used = {word for word in re.findall(r"\$(\w+)", queries) if not word.startswith("__") and not word.isdigit()}
    assert used == there


@each_dashboard
def test_deployments_alerts_and_changes_of_the_site_are_annotated(name: str) -> None:
    annotations = ALL[name]["annotations"]["list"]
    assert [annotation["datasource"]["uid"] for annotation in annotations] == ["loki", "prometheus", "-- Grafana --"]
    assert annotations[2]["target"]["tags"] == ["deployment-monitoring"]


@each_dashboard
def test_links_lead_to_dashboards_that_there_are_and_keep_the_time(name: str) -> None:
    (link,) = ALL[name]["links"]
    assert link["keepTime"]
    assert link["includeVars"]
    text = json.dumps(ALL[name])
    urls = re.findall(r'"url": "(/[^"]*)"', text)
    variables = {variable["name"] for variable in ALL[name]["templating"]["list"]}
    for url in urls:
        found = re.match(r"/d/([\w-]+)\?", url)
        if found:
            assert found.group(1) in UIDS
            assert "${__url_time_range}" in url
            named = re.findall(r"&var-(\w+)=", url)
            kept = re.findall(r"&\${(\w+):queryparam}", url)
            # All that this dashboard has, each once: the other one takes those that it knows.
            assert "&${__all_variables}" in url if not named else sorted(kept) == sorted(variables - set(named)), url
        else:
            assert url.startswith("/explore?schemaVersion=1&")
            assert "${__from}" in url
            assert "%22uid%22:%22loki%22" in url


@pytest.mark.parametrize("uid", sorted(UIDS))
def test_french_differs_from_english_in_words_only(uid: str) -> None:
    english, french = ALL[f"en/{uid}"], ALL[f"fr/{uid}"]
    assert [panel["gridPos"] for panel in english["panels"]] == [panel["gridPos"] for panel in french["panels"]]
    for one, other in zip(english["panels"], french["panels"], strict=True):
        if one["type"] != "row":
            assert expressions(one) == expressions(other)
            assert one["description"] != other["description"], one["title"]


def test_every_limit_is_a_variable_of_prometheus_and_its_default_stands_in_the_file() -> None:
    defaults = yaml.safe_load((CHECKOUT / "roles/prometheus/defaults/main.yml").read_text())
    limits = load(FOLDER / "limits.json")
    assert set(limits) == UIDS
    for uid, places in limits.items():
        for place in places:
            for language in ("en", "fr"):
                value: t.Any = ALL[f"{language}/{uid}"]
                for step in place["at"]:
                    value = value[step]
                expected = float(defaults[place["variable"]]) * place["factor"] + place["offset"]
                assert value == pytest.approx(expected), place
