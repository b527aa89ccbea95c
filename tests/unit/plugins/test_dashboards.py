"""Grafana's dashboards are put together as asked, and what Grafana would choke on is refused by name."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import dashboards

DEFAULTS = {
    "monitoring_language": "en",
    "grafana_dashboards_folder": "Monitoring",
    "grafana_dashboards_editable": False,
    "grafana_home_dashboard": "deployment-main",
    "grafana_extra_dashboards": [],
    "grafana_extra_dashboards_folder": "Own",
    "grafana_projects": [],
    "grafana_folder_permissions": {},
}
SOURCES = b"datasources: [{name: Prometheus, uid: prometheus}, {name: Loki, uid: loki}]"
OWN = {
    "uid": "billing",
    "title": "Billing",
    "panels": [{"datasource": {"uid": "prometheus"}, "targets": [{"datasource": {"uid": "prometheus"}, "expr": "up"}]}],
}


@pytest.fixture(scope="module")
def shipped(request: pytest.FixtureRequest) -> dict[str, bytes]:
    files = Path(__file__).resolve().parents[3] / "roles/grafana/files"
    found = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*.json")}
    return found | {"provisioning/datasources/stack.yml": SOURCES, "grafana.ini": b"[x]"}


Build = t.Callable[..., tuple[dict[str, bytes], list[str]]]


@pytest.fixture
def build(shipped: dict[str, bytes], checkout: Path) -> Build:
    limits = yaml.safe_load((checkout / "roles/prometheus/defaults/main.yml").read_text())

    def built(extra: dict[str, bytes] | None = None, **values: t.Any) -> tuple[dict[str, bytes], list[str]]:
        known = limits | DEFAULTS | values
        return dashboards.build(shipped | (extra or {}), known.get, str)

    return built


def dashboard(contents: dict[str, bytes], path: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(contents[f"dashboards/{path}.json"]))


def test_each_dashboard_is_there_once_in_the_language_that_was_asked_for(build: Build) -> None:
    for language, title in (("en", "Infrastructure overview"), ("fr", "Vue de l'infrastructure")):
        contents, problems = build(monitoring_language=language)
        assert problems == []
        assert dashboard(contents, "Monitoring/infrastructure-main")["title"] == title
        uids = [json.loads(data)["uid"] for path, data in contents.items() if path.startswith("dashboards/")]
        assert len(uids) == len(set(uids)) == 8
        assert all(path.startswith("dashboards/Monitoring/") for path in contents if path.startswith("dashboards/"))
    assert contents["grafana.ini"] == b"[x]"


def test_by_default_what_is_deployed_says_what_is_committed(build: Build, shipped: dict[str, bytes]) -> None:
    contents, _problems = build(grafana_dashboards_editable=True)
    committed = json.loads(shipped["dashboards/en/slo-main.json"])
    assert dashboard(contents, "Monitoring/slo-main") == committed


def test_editing_in_the_browser_is_a_variable(build: Build) -> None:
    assert dashboard(build()[0], "Monitoring/slo-main")["editable"] is False
    assert dashboard(build(grafana_dashboards_editable=True)[0], "Monitoring/slo-main")["editable"] is True


def test_projects_that_were_found_get_a_dashboard_without_any_list(build: Build) -> None:
    found = ["blog", "main", "shop", "a.b", "x" * 33, ""]
    contents, problems = build(__grafana_found_projects=found, grafana_projects=[{"name": "shop", "folder": "Team A"}])
    assert problems == []
    projects = {path for path in contents if path.startswith("dashboards/") and "/Monitoring/" not in path}
    # One that is named is where it was said to be; one whose name is no uid is left to project-main.
    assert projects == {"dashboards/Team A/project-shop.json", "dashboards/blog/project-blog.json"}
    (variable,) = [v for v in dashboard(contents, "blog/project-blog")["templating"]["list"] if v["name"] == "project"]
    assert variable["query"] == "blog"
    contents, problems = build(
        __grafana_found_projects=["blog"],
        grafana_found_projects_folder="Projects",
        grafana_folder_permissions={"Projects": [{"team": "a", "permission": "View"}]},
    )
    assert problems == []
    assert "dashboards/Projects/project-blog.json" in contents


def test_the_home_dashboard_is_the_one_that_was_named(build: Build) -> None:
    assert json.loads(build()[0]["home.json"])["uid"] == "deployment-main"
    assert json.loads(build(grafana_home_dashboard="slo-main")[0]["home.json"])["uid"] == "slo-main"
    assert "home.json" not in build(grafana_home_dashboard="")[0]
    (problem,) = build(grafana_home_dashboard="nothing")[1]
    assert problem.startswith("grafana_home_dashboard: there is no dashboard 'nothing'; there are applications-main")


def test_limits_are_the_values_of_the_alerts(build: Build, shipped: dict[str, bytes]) -> None:
    where = {"at": ["panels", 0, "limit"], "variable": "prometheus_alert_x_percent", "factor": -0.01, "offset": 1}
    extra = {
        "dashboards/en/slo-main.json": json.dumps(
            {"uid": "slo-main", "title": "x", "panels": [{"limit": 0.9}]}
        ).encode(),
        "dashboards/limits.json": json.dumps({"slo-main": [where]}).encode(),
    }
    contents, problems = build(extra, prometheus_alert_x_percent=25)
    assert problems == []
    assert dashboard(contents, "Monitoring/slo-main")["panels"][0]["limit"] == 0.75
    (problem,) = build(extra, prometheus_alert_x_percent="many")[1]
    assert problem == "prometheus_alert_x_percent: 'many' is no number, and dashboards are coloured by it"


def test_a_project_has_a_dashboard_of_its_own_in_its_folder(build: Build) -> None:
    contents, problems = build(grafana_projects=[{"name": "shop", "folder": "Team A"}, {"name": "blog", "title": "B"}])
    assert problems == []
    shop, blog = dashboard(contents, "Team A/project-shop"), dashboard(contents, "blog/project-blog")
    assert (shop["uid"], shop["title"], blog["title"]) == ("project-shop", "Project shop", "B")
    (variable,) = [v for v in shop["templating"]["list"] if v["name"] == "project"]
    assert (variable["type"], variable["query"], variable["hide"]) == ("constant", "shop", 2)
    # The one that has the choice keeps it.
    general = dashboard(contents, "Monitoring/project-main")
    assert [v["type"] for v in general["templating"]["list"] if v["name"] == "project"] == ["query"]


@pytest.mark.parametrize(
    ("projects", "said"),
    [
        ([{"name": "a b"}], "grafana_projects: 'a b' is refused: a name is given once"),
        ([{"name": "a"}, {"name": "a"}], "grafana_projects: 'a' is refused"),
        ([{"name": "main"}], "grafana_projects: 'main' is refused"),
        ([{"name": "a", "dir": "x"}], "grafana_projects: 'a' has dir; a project has a name"),
        ([{"name": "a", "folder": "x/y"}], "grafana_projects: a: 'x/y' is refused as a folder"),
    ],
)
def test_a_wrong_project_is_refused(build: Build, projects: list[dict[str, str]], said: str) -> None:
    assert said in " ".join(build(grafana_projects=projects)[1])


@pytest.mark.parametrize(
    ("permissions", "said"),
    [
        ({"Nowhere": []}, "there is no folder 'Nowhere'; there are Monitoring"),
        ({"Monitoring": [{"team": "a"}]}, "Monitoring: {'team': 'a'} is refused: write it like"),
        ({"Monitoring": [{"role": "Admin", "permission": "View"}]}, "is refused"),
        ({"Monitoring": [{"role": "Viewer", "team": "a", "permission": "View"}]}, "is refused"),
        ({"Monitoring": [{"role": "Viewer", "permission": "Look"}]}, "is refused"),
        ({"Monitoring": ["everybody"]}, "is refused"),
    ],
)
def test_wrong_permissions_are_refused(build: Build, permissions: dict[str, t.Any], said: str) -> None:
    (problem,) = build(grafana_folder_permissions=permissions)[1]
    assert problem.startswith("grafana_folder_permissions: ")
    assert said in problem
    right = {"Monitoring": [{"role": "Viewer", "permission": "View"}, {"team": "a", "permission": "Edit"}]}
    assert build(grafana_folder_permissions=right)[1] == []


@pytest.mark.parametrize("folder", ["", " a", ".hidden", "a/b"])
def test_a_wrong_folder_is_refused(build: Build, folder: str) -> None:
    (problem,) = build(grafana_dashboards_folder=folder)[1]
    assert problem.startswith(f"grafana_dashboards_folder: {folder!r} is refused as a folder")


def test_own_dashboards_come_from_files_folders_and_extra_files(build: Build, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "one.json").write_text(json.dumps(OWN))
    (tmp_path / "more/two.json").write_text(json.dumps(OWN | {"uid": "two", "title": "Two"}))
    (tmp_path / "more/notes.txt").write_text("no dashboard")
    extra = {"dashboards/Team/three.json": json.dumps(OWN | {"uid": "three"}).encode()}
    paths = [str(tmp_path / "one.json"), str(tmp_path / "more")]
    contents, problems = build(extra, grafana_extra_dashboards=paths)
    assert problems == []
    assert dashboard(contents, "Own/billing") == OWN
    assert dashboard(contents, "Own/two")["title"] == "Two"
    assert dashboard(contents, "Team/three")["uid"] == "three"
    assert json.loads(build(extra, grafana_home_dashboard="three")[0]["home.json"])["uid"] == "three"


EXPORTED = {"__inputs": [{"name": "DS_PROM"}], "panels": [{"datasource": {"uid": "${DS_PROM}"}}]}
VARIABLE = {"templating": {"list": [{"type": "datasource", "name": "source"}]}}
LIBRARY = {"panels": [{"type": "row", "panels": [{"targets": [{"datasource": {"uid": "influx"}}]}]}]}
WRONG: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"uid": ', "own.json is not valid JSON: Expecting value"),
    "a list": (b"[]", "own.json is no dashboard"),
    "an answer of the API": (b'{"dashboard": {}, "meta": {}}', "own.json is an answer of Grafana's API"),
    "the new schema": (b'{"apiVersion": "x", "spec": {}}', "own.json has Grafana's new schema"),
    "a taken uid": (
        json.dumps(OWN | {"uid": "slo-main"}).encode(),
        "own.json has the uid slo-main, which is taken by 'Objectives'",
    ),
    "no uid": (json.dumps({"title": "x"}).encode(), "own.json has the uid None: give it one"),
    "no title": (json.dumps(OWN | {"title": ""}).encode(), "own.json has no title"),
    "an unknown datasource": (
        json.dumps(OWN | LIBRARY).encode(),
        "own.json asks the datasource influx, which is not there: use one of Loki, Prometheus, loki, prometheus",
    ),
    "an exported input": (json.dumps(OWN | EXPORTED).encode(), "own.json asks the datasource ${DS_PROM}"),
    "an unknown name": (
        json.dumps(OWN | {"panels": [{"datasource": "Influx"}]}).encode(),
        "asks the datasource Influx",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_dashboard_is_refused_by_name(build: Build, tmp_path: Path, case: str) -> None:
    data, said = WRONG[case]
    (tmp_path / "own.json").write_bytes(data)
    (problem,) = build(grafana_extra_dashboards=[str(tmp_path)])[1]
    assert problem.startswith(("The dashboard", "grafana_extra_dashboards"))
    assert said in problem


@pytest.mark.parametrize(
    "content",
    [
        {"panels": [{"datasource": None}, {"datasource": {"type": "prometheus"}}, {"datasource": "Prometheus"}]},
        {
            "panels": [{"datasource": {"uid": "-- Mixed --"}}],
            "annotations": {"list": [{"datasource": "-- Grafana --"}]},
        },
        {"panels": [{"datasource": {"uid": "${source}"}}, {"datasource": "$source"}]} | VARIABLE,
        {"panels": [{"datasource": {"uid": "own"}}]},
    ],
)
def test_a_datasource_that_is_there_is_not_refused(build: Build, tmp_path: Path, content: dict[str, t.Any]) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN | content))
    extra = {"provisioning/datasources/own.yml": b"datasources: [{name: Own, uid: own}]"}
    assert build(extra, grafana_extra_dashboards=[str(tmp_path)])[1] == []


def test_two_of_one_uid_or_title_are_refused_and_missing_files_named(build: Build, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps(OWN))
    paths = [str(tmp_path / name) for name in ("one.json", "two.json", "three.json", "empty")]
    problems = " ".join(build(grafana_extra_dashboards=paths)[1])
    assert "two.json has the uid billing, which is taken by 'Billing'" in problems
    assert "two.json has the title 'Billing', which is taken in the folder 'Own'" in problems
    assert "three.json cannot be read: No such file or directory" in problems
    assert "there is no .json file in" in problems
