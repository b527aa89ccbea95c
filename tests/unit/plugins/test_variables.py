"""Each value that a role must refuse is refused by its name, before anything is touched, and no secret is shown."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import variables

# Name → values that are refused, values that are taken, and words of the sentence.
KINDS: dict[str, tuple[dict[str, t.Any], list[t.Any], list[t.Any], str]] = {
    "probe_port": ({"type": "int"}, [0, 65536, -1], [1, 65535, "9090"], "a number from 1 to 65535"),
    "probe_memory": ({"type": "str"}, ["much", "12q", "-1g"], ["0", "512m", "2g", "1.5GiB"], "512m or 2g"),
    "monitoring_min_free_disk_size": ({"type": "str"}, ["much"], ["2g", "512MB"], "512MB or 50GB"),
    "probe_retention_size": ({"type": "str"}, ["50", "50g", "50gb", "all"], ["50GB", "512MB", "0B"], "50GB"),
    "probe_scrape_interval": ({"type": "str"}, ["15", "soon", "15 s"], ["15s", "1m30s", "100ms"], "15s or 5m"),
    "probe_retention_time": ({"type": "str"}, ["30", "30 days"], ["30d", "1y", "120h"], "30d"),
    "probe_cpus": ({"type": "float"}, [-1], [0, 0.5, "2"], "0 (no limit) or more"),
    "probe_user": ({"type": "str"}, ["root", "472", "472:grafana"], ["472:472", "0:0"], "472:472"),
    "probe_uri": ({"type": "str"}, ["mongodb://u:p@h/"], ["mongodb://h:27017/", "mongodb://u@h/"], "processes"),
    "probe_version": ({"type": "str"}, ["latest", ""], ["v1.2.3", "13.1.0"], "pinned"),
    "monitoring_config_dir": ({"type": "str"}, ["etc", "./etc", "~/etc"], ["/etc/x"], "absolute path"),
    "monitoring_data_dir": ({"type": "str"}, ["data"], ["/var/lib/x"], "absolute path"),
    "probe_textfile_dir": ({"type": "str"}, ["text"], ["/x"], "absolute path"),
    "probe_state": ({"type": "str", "choices": ["present", "absent"]}, ["gone"], ["present"], "present, absent"),
    "probe_count": ({"type": "int"}, ["many", 1.5], [3, "3"], "of the type int"),
    "probe_requests_count": ({"type": "int"}, [-1], [0, 50], "a whole number from 0 on"),
    "probe_failures_count": ({"type": "int"}, [-1, 11], [0, 10], "a whole number from 0 to 10"),
    "probe_percent": ({"type": "float"}, [0, -5, 101, "nan"], [0.5, 80, "100"], "at most 100"),
    "probe_objective_percent": ({"type": "float"}, [0, 100, 120], [95, 99.9], "100 allows no failure"),
    "probe_ratio": ({"type": "float"}, [-0.1, 1.1], [0, 0.5, 1], "from 0 to 1"),
    "probe_wait_seconds": ({"type": "float"}, [0, -1, "inf"], [0.05, 600], "more than 0"),
    "probe_left_days": ({"type": "float"}, [0, -1], [0.5, 14], "more than 0"),
    "probe_map": ({"type": "dict"}, ["text", [1]], [{}, {"a": 1}], "of the type dict"),
    "probe_flag": ({"type": "bool"}, ["false", "yes", "True"], [True, False], "a text"),
    "probe_list": ({"type": "list", "elements": "dict"}, [["text"]], [[{"a": 1}], []], "dict"),
}
REFUSED = [(name, value) for name, (_spec, wrong, _right, _words) in KINDS.items() for value in wrong]
TAKEN = [(name, value) for name, (_spec, _wrong, right, _words) in KINDS.items() for value in right]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: t.Any) -> None:
    found = variables.errors({name: KINDS[name][0]}, {name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert KINDS[name][3] in found[0]


@pytest.mark.parametrize(("name", "value"), TAKEN)
def test_a_right_value_is_taken(name: str, value: t.Any) -> None:
    assert variables.errors({name: KINDS[name][0]}, {name: value}) == []


@pytest.mark.parametrize("name", KINDS)
def test_a_variable_that_is_set_to_nothing_is_refused(name: str) -> None:
    """A line that ends at its colon: it would reach the description as None."""
    found = variables.errors({name: KINDS[name][0]}, {name: None})
    assert len(found) == 1
    assert found[0].startswith(f"{name} is set to nothing")


def test_a_required_variable_that_is_missing_is_told_with_its_description() -> None:
    spec = {"probe_port": {"type": "int", "required": True, "description": ["What it", "is."]}}
    assert variables.errors(spec, {}) == ["probe_port is not set: What it is."]
    assert variables.errors({"probe_port": {"type": "int"}}, {}) == []


@pytest.mark.parametrize("option", [{"type": "int"}, {"type": "bool"}, {"type": "list", "elements": "int"}])
def test_the_value_of_a_secret_is_never_shown(option: dict[str, t.Any]) -> None:
    value: t.Any = ["hunter2"] if option["type"] == "list" else "hunter2"
    found = variables.errors({"probe_secret": {**option, "no_log": True}}, {"probe_secret": value})
    assert len(found) == 1
    assert "probe_secret: the value (hidden)" in found[0]
    assert "hunter2" not in found[0]


def test_a_password_in_a_connection_string_is_refused_without_showing_it() -> None:
    found = variables.errors({"probe_uri": {"type": "str"}}, {"probe_uri": "mongodb://user:hunter2@db/"})
    assert len(found) == 1
    assert "hunter2" not in found[0]


def test_all_errors_are_told_at_once() -> None:
    spec = {"probe_port": {"type": "int"}, "probe_memory": {"type": "str"}}
    found = variables.errors(spec, {"probe_port": 0, "probe_memory": "x"})
    assert [text.split(":")[0] for text in found] == ["probe_memory", "probe_port"]


SPECS: dict[str, variables.Spec] = {"docker": {"docker_packages": {}}, "monitoring": {"monitoring_address": {}}}


def test_a_mistyped_variable_is_told_with_its_near_miss() -> None:
    found = variables.unknown(SPECS, ["docker_packges", "monitoring_address", "other_thing"])
    assert found == ["docker_packges is not a variable of this collection: did you mean docker_packages?"]


def test_a_variable_that_resembles_none_is_told_where_all_are() -> None:
    assert "the role's variables are in roles/docker/defaults" in variables.unknown(SPECS, ["docker_zzzzzzzz"])[0]


def test_a_variable_of_a_role_with_a_longer_name_is_none_of_ours() -> None:
    assert variables.unknown(SPECS, ["docker_proxy_user"], foreign=["docker", "docker_proxy", "loki"]) == []
    assert len(variables.unknown(SPECS, ["docker_proxy_user"], foreign=["docker", "loki"])) == 1


ROLES = Path(__file__).parents[3] / "roles"
PATHS = {role.name: str(role) for role in ROLES.iterdir() if role.name != "service"}
PATHS["monitoring"] = str(ROLES / "service")
MISSPELT = {
    "promethues_port": "prometheus_port",
    "pometheus_retention_time": "prometheus_retention_time",
    "monitring_environment": "monitoring_environment",
    "graphana_admin_password": "grafana_admin_password",
    "lokki_port": "loki_port",
    "lkoi_port": "loki_port",
    "alloys_version": "alloy_version",
    "dokcer_packages": "docker_packages",
    "docker_package": "docker_packages",
    "docker_units": "docker_unit",
    "docker_proxi_user": "docker_proxy_user",
    "node_exporters_port": "node_exporter_port",
    "nodeexporter_port": "node_exporter_port",
    "mongo_db_exporter_uri": "mongodb_exporter_uri",
    "alert_manager_port": "alertmanager_port",
    "app_discovry_port": "app_discovery_port",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_mistyped_prefix_is_told_with_the_variable_that_is_meant(name: str) -> None:
    assert variables.misspelt(PATHS, [name], ["docker"]) == [
        f"{name} is not a variable of this collection: did you mean {MISSPELT[name]}?"
    ]


@pytest.mark.parametrize(
    "name",
    [
        # Words of their own that resemble a role's name.
        *("allow_user", "allow_version", "advisor_port", "logi_port", "monitor_address", "docket_version", "lock_port"),
        *("mongodb_port", "mongo_uri", "node_port", "app_port", "blackbox_port", "dockerd_port", "promote_version"),
        # Of other people's roles, which begin with docker_ too; and ours.
        *(
            "docker_users",
            "docker_uid",
            "docker_edition",
            "docker_daemon_options",
            "docker_packages",
            "docker_proxy_user",
        ),
        # Near a role's prefix, and no variable of it.
        *("promethues_own_thing", "grafanna_theme_of_ours", "prometheus", "port", "", "_", "ansible_port"),
        # What unknown() tells of.
        "prometheus_prot",
    ],
)
def test_a_variable_of_the_users_own_is_none_of_ours(name: str) -> None:
    assert variables.misspelt(PATHS, [name], ["docker"]) == []


def test_no_variable_of_one_role_is_taken_for_a_mistyped_one_of_another() -> None:
    for prefix, path in PATHS.items():
        others = {other: place for other, place in PATHS.items() if other != prefix}
        assert variables.misspelt(others, variables.specification(path)) == []


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("512m", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("10kb", 10 << 10), ("7", 7), (0, 0), ("1T", 1 << 40)],
)
def test_a_size_is_read_in_powers_of_1024(text: t.Any, bytes_: int) -> None:
    assert variables.size(text) == bytes_


def test_a_specification_is_that_of_all_entry_points(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/argument_specs.yml").write_text(
        "argument_specs: {main: {options: {a: {type: int}}}, apply: {options: {b: {type: str}}}, empty: {}}"
    )
    assert set(variables.specification(str(tmp_path))) == {"a", "b"}


def test_defaults_are_returned_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "defaults").mkdir()
    (tmp_path / "defaults/main.yml").write_text('a: "{{ b }}"\n')
    assert variables.defaults(str(tmp_path)) == {"a": "{{ b }}"}
