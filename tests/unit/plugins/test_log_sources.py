"""Log sources: what is refused, by name, and what a collector is told."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import collectors, log_sources

GOOD = {"name": "shop", "path": "/var/log/shop/*.log", "format": "json", "metadata": ["order"]}


def defaults() -> list[dict[str, t.Any]]:
    text = (Path(__file__).parents[3] / "roles/service/defaults/main.yml").read_text()
    return t.cast("list[dict[str, t.Any]]", yaml.safe_load(text)["monitoring_log_sources"])


def test_the_sources_that_are_shipped_are_taken() -> None:
    assert log_sources.problems(defaults()) == []
    assert [source["name"] for source in defaults()] == [
        *("port-manager", "deployment-api", "tunnel-manager", "varlogs", "docker")
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"name": "shop"}, "source shop: it has no path"),
        ({"path": "/var/log/x/*.log"}, "entry 1 has the name None"),
        ({"name": "Shop!", "path": "/var/log/x/*.log"}, "entry 1 has the name 'Shop!'"),
        ({"name": "shop", "path": "log/*.log"}, "source shop: path: 'log/\\*.log' is no absolute path"),
        ({"name": "shop", "path": "/*.log"}, "source shop: path: '/\\*.log' is no absolute path"),
        ({"name": "shop", "path": "/a/b", "containers": True}, "source shop: it has path and containers"),
        (GOOD | {"format": "xml"}, "source shop: format: 'xml' is refused"),
        (GOOD | {"pth": "/x"}, "source shop: pth is not known"),
        (GOOD | {"metadata": "order"}, "source shop: metadata: 'order' is of the wrong type"),
        (GOOD | {"metadata": ["or-der"]}, "source shop: metadata: 'or-der' is no name"),
        (GOOD | {"format": "text"}, "source shop: metadata: a text has no fields"),
        (GOOD | {"format": "regex"}, "source shop: the format regex and an expression"),
        (GOOD | {"format": "regex", "expression": "x"}, "source shop: expression: it names no field"),
        (GOOD | {"format": "regex", "expression": "(?P<a>"}, "source shop: expression: .* is no expression"),
        (GOOD | {"multiline": "^(?!x)"}, "source shop: multiline: .* looks ahead"),
        (GOOD | {"multiline": {"max_lines": 3}}, "source shop: multiline: it has no firstline"),
        (GOOD | {"levels": {"SEVERE": "awful"}}, "source shop: levels: SEVERE becomes 'awful'"),
        (GOOD | {"timestamp": {"field": "t"}}, "source shop: timestamp"),
        (GOOD | {"labels": {"job": "x"}}, "source shop: labels: job is given by the collection"),
        (GOOD | {"labels": {"a-b": "x"}}, "source shop: labels: 'a-b' is no name of a label"),
        (GOOD | {"stages": ["drop"]}, "source shop: stages: 'drop' is broken"),
        (GOOD | {"stages": [{"drop": {}, "limit": {}}]}, "source shop: stages: .* is broken"),
        (GOOD | {"stages": [{"grok": {}}]}, "source shop: stages: grok is not known"),
        (GOOD | {"stages": [{"drop": "x"}]}, "source shop: stages: the settings of drop"),
        (GOOD | {"stages": [{"regex": {"expression": "("}}]}, "source shop: stages: regex: '\\(' is no expression"),
        (
            GOOD | {"stages": [{"match": {"selector": "{}", "stages": [{"labels": {"user_id": None}}]}}]},
            "source shop: labels: user_id has no bounded set",
        ),
    ],
)
def test_a_bad_source_is_refused_by_its_name(source: dict[str, t.Any], said: str) -> None:
    (problem,) = log_sources.problems([source])
    assert problem.startswith("monitoring_log_sources: ")
    assert re.search(said, problem), problem


@pytest.mark.parametrize("label", ["deployment_id", "commit", "port", "hostname", "request_id", "timestamp"])
@pytest.mark.parametrize("key", ["labels", "label_fields", "stages"])
def test_an_unbounded_label_is_refused_wherever_it_is_written(label: str, key: str) -> None:
    value = {"labels": {label: "x"}, "label_fields": [label], "stages": [{"labels": {label: ""}}]}[key]
    (problem,) = log_sources.problems([GOOD | {key: value}])
    assert f"{label} has no bounded set of values" in problem
    assert log_sources.problems([GOOD | {"metadata": [label]}]) == []


def test_two_sources_of_one_name_are_refused_across_both_variables() -> None:
    (problem,) = log_sources.problems([GOOD], [GOOD])
    assert problem == (
        "monitoring_log_extra_sources: two sources are named shop; the name is the label job, choose another"
    )


@pytest.mark.parametrize("value", [None, "x", {"name": "x"}])
def test_what_is_no_list_is_refused(value: t.Any) -> None:
    assert log_sources.problems(value) == ["monitoring_log_sources is no list of sources"]
    (problem,) = log_sources.problems(["x"])
    assert problem.startswith("monitoring_log_sources: entry 1 ('x') is no source")


def test_directories_that_may_be_made_later_are_mounted_from_the_top() -> None:
    sources = [{"path": ["/srv/a/*.log", "/opt/b/c/{d,e}.log"]}, {"path": "/var/log/x/*.log"}, {"containers": True}]
    assert log_sources.directories(sources) == ["/opt", "/srv", "/var/log"]


@pytest.mark.parametrize(
    ("container", "project", "branch"),
    [
        ("shop-main-deploy", "shop", "main"),
        ("shop-feature-cart-deploy", "shop", "feature-cart"),
        ("my-shop-main-deploy", "my-shop", "main"),
        ("my-shop-admin-main-deploy", "my-shop-admin", "main"),
    ],
)
def test_a_containers_name_is_a_project_and_a_branch(container: str, project: str, branch: str) -> None:
    match = re.fullmatch(log_sources.project_expression(["my-shop", "my-shop-admin"]), container)
    assert match
    assert match.groups() == (project, branch)


def test_a_container_is_read_by_one_source() -> None:
    sources: list[dict[str, t.Any]] = [
        {"name": "docker", "containers": True},
        {"name": "shop", "containers": "shop-.*"},
        {"name": "main", "containers": ".*-main-deploy"},
    ]
    dropped = {}
    for config in collectors.promtail(sources, {}):
        rules = [rule for rule in config["relabel_configs"] if rule.get("action") == "drop"]
        dropped[config["job_name"]] = [rule["regex"] for rule in rules]
    assert dropped == {"docker": ["shop-.*|.*-main-deploy"], "shop": [], "main": ["shop-.*"]}


def level_of(text: str) -> str | None:
    """What the expressions find, the last one winning, as the collectors do it."""
    found = None
    for stage in log_sources.pipeline({"name": "x", "path": "/var/log/x"}):
        if "regex" in stage and "?P<level>" in stage["regex"]["expression"]:
            match = re.search(stage["regex"]["expression"], text)
            found = match.group("level") if match else found
    return found


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("ERROR no", "ERROR"),
        ("sshd[1]: error: no", "error"),
        ("INFO all is well, no ERROR", "INFO"),
        ('{"level":"warn"}', "warn"),
        ('ERROR {"level":30}', "30"),
        ("level=debug", "debug"),
        ("no error here", None),
        ("level=11", None),
        ("TERROR", None),
    ],
)
def test_a_level_is_found_in_a_text(text: str, level: str | None) -> None:
    assert level_of(text) == level


def test_own_words_for_levels_win() -> None:
    template = log_sources.level_template({"Severe": "warn", "SCHWER": "error"})
    error, warn = template.split("}}error{{")[0], template.split("}}error{{")[1].split("}}warn{{")[0]
    assert '"schwer"' in error
    assert '"severe"' not in error
    assert '"severe"' in warn


def stages_of(text: str) -> list[str]:
    """The stages of an Alloy configuration, in order, in Promtail's spelling."""
    spelt = {"label_drop": "labeldrop", "label_keep": "labelallow"}
    return [spelt.get(name, name) for name in re.findall(r"stage\.(\w+) \{", text)]


def test_both_collectors_are_told_the_same_stages() -> None:
    source = GOOD | {"stages": [{"drop": {"longer_than": "1MB"}}, {"labeldrop": ["tier"]}], "labels": {"tier": "x"}}
    (promtail,) = collectors.promtail([source], {})
    alloy = collectors.alloy([source], {"url": "http://loki"})
    expected = [next(iter(stage)) for stage in promtail["pipeline_stages"]]
    assert stages_of(alloy) == ["static_labels", *expected]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('a"b\\d\n', r'"a\"b\\d\n"'),
        (True, "true"),
        ({"a": [1, "❌"]}, '{"a" = [1, "❌"]}'),
        (collectors.Reference("x.y"), "x.y"),
    ],
)
def test_a_value_is_written_as_alloy_reads_it(content: t.Any, text: str) -> None:
    assert collectors.value(content) == text
