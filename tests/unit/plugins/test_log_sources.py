"""Log sources: what is refused, by name, and what a collector is told."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import collectors, log_sources
from jinja2.nativetypes import NativeEnvironment

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
            "source shop: stages: match: labels: user_id has no bounded set",
        ),
    ],
)
def test_a_bad_source_is_refused_by_its_name(source: dict[str, t.Any], said: str) -> None:
    (problem,) = log_sources.problems([source])
    assert problem.startswith("monitoring_log_sources: ")
    assert re.search(said, problem), problem


# What Promtail would end of when it starts; `promtail -check-syntax` says nothing of it.
BROKEN = [
    ({"drop": {}}, "drop: it would drop nothing or everything"),
    ({"drop": {"longr_than": "8KB"}}, "drop: longr_than is not known"),
    ({"drop": {"longer_than": "8 kilo"}}, "drop: longer_than: '8 kilo' is no size"),
    ({"drop": {"older_than": "1d"}}, "drop: older_than: '1d' is no duration"),
    ({"drop": {"value": "x", "expression": "y"}}, "drop: value: it goes with source"),
    ({"drop": {"source": ["a", 1]}}, "drop: 1 is no text"),
    ({"timestamp": {"source": "x"}}, "timestamp: it has no format"),
    (
        {"timestamp": {"source": "x", "format": "Unix", "action_on_failure": "now"}},
        "timestamp: action_on_failure: 'now'",
    ),
    ({"template": {"source": "x", "template": "{{ if }"}}, "template: '{{ if }' is no template: it has {{ without }}"),
    ({"template": {"source": "x", "template": "{{ if .a }}b"}}, "template: .* is no template: if has no end"),
    ({"template": {"source": "x", "template": "{{ end }}"}}, "template: .*ends nothing"),
    ({"template": {"source": "x", "template": "{{ (.a }}"}}, r"template: .*{{ \(.a }} is broken"),
    ({"json": {"expressions": {"a": "foo["}}}, r"json: 'foo\[' is no expression \(JMESPath\): its brackets"),
    ({"json": {"expressions": {"a": "user-agent"}}}, "json: 'user-agent' is no expression .* is quoted"),
    ({"json": {"expressions": {"a": "b ||"}}}, "json: .*something is missing beside a sign"),
    ({"json": {}}, "json: it has no expressions"),
    ({"logfmt": {"mapping": {"a": 1}}}, "logfmt: 1 is no text"),
    ({"regex": {"expression": r"(?P<a>x)\1"}}, "regex: .* refers back to a group, which these expressions"),
    ({"regex": {"expression": r"(?P<a>x)(?P=a)"}}, "regex: .* refers back to a group"),
    ({"regex": {"expression": "(?<=x)y"}}, "regex: .* looks ahead or behind"),
    ({"regex": {"expression": "(?>x)"}}, "regex: .* has an atomic group"),
    ({"regex": {"expression": "x*+"}}, "regex: .* has a possessive repetition"),
    ({"regex": {"expression": r"x\Z"}}, r"regex: .* has the escape \\Z"),
    ({"regex": {"expression": "(?x)a"}}, r"regex: .* has the flags \(\?x\)"),
    ({"regex": {"expression": "x{1001}"}}, "regex: .* repeats more than 1000 times"),
    ({"replace": {"expression": "x", "replace": "{{ .Value"}}, "replace: .* is no template"),
    ({"multiline": {"firstline": r"(a)\1"}}, "multiline: .* refers back to a group"),
    ({"multiline": {"firstline": "a", "max_wait_time": "3"}}, "multiline: max_wait_time: '3' is no duration"),
    ({"match": {"stages": [{"decolorize": {}}]}}, "match: it has no selector"),
    ({"match": {"selector": "job=x", "stages": [{"decolorize": {}}]}}, "match: 'job=x' is no selector"),
    ({"match": {"selector": "{}"}}, "match: it has stages where it keeps lines"),
    ({"match": {"selector": '{a="b"}', "stages": [{"drop": {}}]}}, "match: drop: it would drop nothing"),
    ({"limit": {"rate": 5}}, "limit: it has no burst"),
    ({"limit": {"rate": 5, "burst": 0}}, "limit: rate and burst are above 0"),
    ({"limit": {"rate": True, "burst": 5}}, "limit: rate: True is of the wrong type"),
    ({"sampling": {"rate": 2}}, "sampling: rate: 2 is refused"),
    ({"tenant": {"value": "a", "label": "b"}}, "tenant: it has one of"),
    ({"output": {"source": ""}}, "output: it has no source"),
    ({"docker": {"x": 1}}, "docker: x is not known; there are no settings"),
    ({"pack": {"labels": []}}, "pack: it has no labels"),
    ({"labeldrop": []}, "labeldrop: it names none"),
    ({"labels": {"tier": 1}}, "labels: 1 is no text"),
    ({"metrics": {"x": {"type": "Counter"}}}, "metrics is not known"),
]


@pytest.mark.parametrize(("stage", "said"), BROKEN)
def test_a_broken_stage_is_refused(stage: dict[str, t.Any], said: str) -> None:
    (problem,) = log_sources.problems([GOOD | {"stages": [stage]}])
    assert re.search(f"source shop: stages: {said}", problem), problem


@pytest.mark.parametrize(
    "stage",
    [
        {"drop": {"source": ["a", "b"], "value": "x;y", "older_than": "1h30m", "longer_than": "8kb"}},
        {"template": {"source": "x", "template": '{{ if eq .a "}}" }}b{{ else if .c }}{{ .d }}{{ else }}e{{- end -}}'}},
        {"template": {"source": "x", "template": "no {action} }} at all"}},
        {
            "json": {
                "expressions": {"a": None, "b": '"user-agent"', "c": "x[?level=='e'].y | [0]", "d": "f(a, &b) || c"}
            }
        },
        {"regex": {"expression": r"(?i)^[[:alpha:]]+\p{L}*?(?<word>[]\w[])\Q(\E{1,1000}(?U:x+)\z|\x{1F600}|\07|\12"}},
        {"regex": {"expression": "(?P<at>a)|(?P<at>b)"}},
        {"match": {"selector": '{a="b}", c!~`d`} |~ "e{" != "f"', "stages": [{"decolorize": {}}]}},
        {"match": {"selector": "{}", "action": "drop"}},
        {"limit": {"rate": 0.5, "burst": 5, "drop": True, "by_label_name": "tier"}},
        {"labels": {"tier": None, "zone": "region"}},
        {"cri": {"max_partial_lines": 5}},
    ],
)
def test_a_stage_that_go_takes_is_taken(stage: dict[str, t.Any]) -> None:
    assert log_sources.problems([GOOD | {"stages": [stage]}]) == []


@pytest.mark.parametrize("key", ["metadata", "label_fields", "timestamp", "level"])
def test_a_broken_path_of_a_field_is_refused(key: str) -> None:
    (problem,) = log_sources.problems([GOOD | {key: "a[" if key in ("timestamp", "level") else ["a["]}])[-1:]
    assert "a[" in problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_fields": ["order_id"]}, "label_fields: order_id has no bounded set"),
        ({"label_fields": ["customer_id"]}, "label_fields: customer_id has no bounded set"),
        ({"label_fields": ["gitSha"]}, "label_fields: gitSha has no bounded set"),
        (
            {"stages": [{"labels": {"dep": "deployment_id"}}]},
            "stages: labels: dep is made of deployment_id, which has no",
        ),
        ({"stages": [{"labels": {"dep": "orderId"}}]}, "stages: labels: dep is made of orderId, which has no"),
        ({"stages": [{"labels": {"file_hash": None}}]}, "stages: labels: file_hash has no bounded set"),
        ({"stages": [{"labels": {"level": "request_id"}}]}, "stages: labels: level is made of request_id"),
        (
            {"metadata": {"dep": "deployment_id"}, "stages": [{"labels": {"dep": None}}]},
            "stages: labels: dep is made of deployment_id",
        ),
        (
            {"stages": [{"json": {"expressions": {"a": "context.trace_id"}}}, {"labels": {"b": "a"}}]},
            "stages: labels: b is made of trace_id",
        ),
    ],
)
def test_a_label_is_looked_at_by_what_it_is_made_of(changes: dict[str, t.Any], said: str) -> None:
    (problem,) = log_sources.problems([GOOD | changes])
    assert said in problem
    assert problem.endswith("make it metadata")


def test_names_that_only_sound_like_ids_are_labels() -> None:
    assert log_sources.problems([GOOD | {"label_fields": ["grid", "paid", "hashed", "idle"]}]) == []
    # One value, said by the user himself.
    assert log_sources.problems([GOOD | {"labels": {"customer_id": "acme"}}]) == []


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
        ("\x1b[31mERROR\x1b[0m no", "ERROR"),
        ("10:00 \x1b[1;33mwarn\x1b[39m: winston", "warn"),
        ("[\x1b[36mINFO\x1b[0m] x", "INFO"),
        ("\x1b[90mlevel=\x1b[0m\x1b[31merror\x1b[0m", "error"),
        ("fail: Microsoft.AspNetCore[1]", "fail"),
        ("\x1b[40m\x1b[32minfo\x1b[39m\x1b[22m\x1b[49m: Microsoft.Hosting[0]", "info"),
        ("trce: x", "trce"),
        ("it may fail: x", None),
        ("[Wed Nov 25 13:00:00.1 2026] [core:error] [pid 1:tid 2] AH1", "error"),
        ("[pid:12] x", None),
        ('{"log.level":"warn","message":"x"}', "warn"),
        ('{"@level":"debug"}', "debug"),
        ('{"levelname": "ERROR"}', "ERROR"),
        ("severity_text=WARN x", "WARN"),
        ("no error here", None),
        ("level=11", None),
        ("TERROR", None),
    ],
)
def test_a_level_is_found_in_a_text(text: str, level: str | None) -> None:
    assert level_of(text) == level


@pytest.mark.parametrize("field", log_sources.LEVEL_FIELDS)
@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_a_record_says_its_level_under_any_of_the_usual_names(form: str, field: str) -> None:
    stages = log_sources.pipeline({"name": "x", "path": "/var/log/x", "format": form})
    read = next(stage[form] for stage in stages if form in stage)
    if form == "logfmt":
        assert field in read["mapping"].values()
    else:
        assert f'"{field}"' in read["expressions"]["level_field"].split(" || ")
        assert log_sources.log_stages.jmespath(read["expressions"]["level_field"]) == ""


def test_a_level_may_be_a_field_of_a_field() -> None:
    stages = log_sources.pipeline({"name": "x", "path": "/var/log/x", "format": "json"})
    assert stages[1]["json"]["expressions"]["level_field"].endswith('"log.level" || log.level')


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ({"regex": {"expression": r"sev (?P<level>\w)"}}, True),
        ({"json": {"expressions": {"level": "meta.grade"}}}, True),
        ({"match": {"selector": "{}", "stages": [{"template": {"source": "level", "template": "x"}}]}}, True),
        ({"regex": {"expression": r"(?P<grade>\w)"}}, False),
        ({"drop": {"longer_than": "8KB"}}, False),
    ],
)
def test_a_users_own_stage_may_find_the_level(stage: dict[str, t.Any], again: bool) -> None:
    """It runs after the level was looked for; what it finds is brought to one of the four as well, and is the label."""
    stages = log_sources.pipeline(GOOD | {"stages": [stage]}, metrics=False)
    after = stages[stages.index(stage) + 1 :]
    assert [next(iter(one)) for one in after] == (["template", "labels"] if again else [])
    if again:
        assert after[0]["template"]["template"] == log_sources.level_template({})
        assert after[1] == {"labels": {"level": "level"}}


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
        ({"tier": None}, '{"tier" = ""}'),
    ],
)
def test_a_value_is_written_as_alloy_reads_it(content: t.Any, text: str) -> None:
    assert collectors.value(content) == text


def test_no_two_sources_share_the_name_of_their_components() -> None:
    names = ["a-b", "a_b", "a_b_", "a-b_", "9"]
    found = collectors.component_names([{"name": name} for name in names])
    assert found == {"a-b": "a_b", "a_b": "a_b_", "a_b_": "a_b__", "a-b_": "a_b___", "9": "_9"}


@pytest.mark.parametrize("role", ["promtail", "alloy"])
def test_the_journals_own_group_reads_it(role: str) -> None:
    """Under /run/log/journal on a host that keeps none."""
    roles = Path(__file__).parents[3] / "roles"
    template = yaml.safe_load((roles / role / "vars/main.yml").read_text())[f"__{role}_journals"]
    environment = NativeEnvironment()
    environment.filters["regex_replace"] = lambda value, found, instead: re.sub(found, instead, value)
    sources = [
        {"journal": True},
        {"journal": "/run/log/journal"},
        {"journal": True},
        {"journal": False},
        {"path": "/x"},
    ]
    found = environment.from_string(template).render({f"__{role}_sources": sources})
    assert list(found) == ["/var/log/journal", "/run/log/journal"]
    assert (
        f"__{role}_journals | map('regex_replace', '^', 'path:')" in (roles / role / "tasks/describe.yml").read_text()
    )
