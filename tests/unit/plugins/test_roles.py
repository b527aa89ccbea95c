"""All roles are of one shape: who knows one knows all. And their specifications are in step with their defaults."""

from __future__ import annotations

import importlib.util
import re
import types
import typing as t
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
ROLES = CHECKOUT / "roles"
DESCRIBE = "nekocheik.deployment_monitoring.service_describe"
# What is described and applied like a service and is no container: units of the host.
HOST_ROLES = ["maintenance"]
DESCRIBED = sorted(path.parent.parent.name for path in ROLES.glob("*/tasks/describe.yml"))
SERVICES = [role for role in DESCRIBED if role not in HOST_ROLES]
ALL = sorted(path.parent.parent.name for path in ROLES.glob("*/defaults/main.yml"))
PORTS = {
    "node_exporter": 9100,
    "cadvisor": 8080,
    "mongodb_exporter": 9216,
    "blackbox_exporter": 9115,
    "prometheus": 9090,
    "alertmanager": 9093,
    "loki": 3100,
    "promtail": 9080,
    "alloy": 12345,
    "otelcol": 8888,
    "grafana": 3000,
}
# docker_proxy listens on a unix socket.
WITHOUT_PORT = {"docker_proxy"}
COMMON = {
    "state": "str",
    "image": "str",
    "version": "str",
    "user": "str",
    "memory": "str",
    "cpus": "float",
    "extra_arguments": "list",
    "extra_labels": "dict",
    "extra_mounts": "list",
    "extra_files": "dict",
}
LISTENING = {"port": "int", "bind_address": "str"}


def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text())


def defaults(role: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", load(ROLES / role / "defaults/main.yml"))


def options(role: str) -> dict[str, dict[str, t.Any]]:
    entries = load(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    return {name: spec for entry in entries.values() for name, spec in entry["options"].items()}


@pytest.fixture
def tool() -> types.ModuleType:
    """A fresh tools/argument_specs.py."""
    spec = importlib.util.spec_from_file_location("argument_specs", CHECKOUT / "tools/argument_specs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_services_are_those_of_the_mission() -> None:
    assert set(PORTS) | WITHOUT_PORT <= set(SERVICES)


@pytest.mark.parametrize("role", SERVICES)
def test_a_service_has_the_common_variables_with_the_common_types(role: str) -> None:
    expected = COMMON | ({} if role in WITHOUT_PORT else LISTENING)
    found = {what: options(role).get(f"{role}_{what}", {}).get("type") for what in expected}
    assert found == expected


@pytest.mark.parametrize("role", ALL)
def test_each_variable_carries_its_roles_name(role: str) -> None:
    prefix = "monitoring_" if role == "service" else f"{role}_"
    assert [name for name in defaults(role) if not name.startswith(prefix)] == []
    internal = [name for path in (ROLES / role / "vars").rglob("*.yml") for name in load(path)]
    assert [name for name in internal if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", SERVICES)
def test_a_version_is_pinned(role: str) -> None:
    assert re.search(r"\d+\.\d+", str(defaults(role)[f"{role}_version"]))
    assert "latest" not in (ROLES / role / "defaults/main.yml").read_text()
    assert ":" not in defaults(role)[f"{role}_image"]


@pytest.mark.parametrize(("role", "port"), PORTS.items())
def test_a_service_listens_on_the_missions_port(role: str, port: int) -> None:
    assert defaults(role)[f"{role}_port"] == port


def test_the_port_of_loki_is_the_same_where_it_is_guessed() -> None:
    guessed = re.search(r"loki_port \| default\((\d+)\)", defaults("service")["monitoring_loki_url"])
    assert guessed
    assert int(guessed.group(1)) == defaults("loki")["loki_port"]


def test_no_two_services_want_one_port() -> None:
    ports = [value for role in SERVICES for name, value in defaults(role).items() if name.endswith("_port")]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("role", SERVICES)
def test_no_service_has_a_user_of_another(role: str) -> None:
    # Alloy takes over what Promtail left, and never runs beside it.
    same = {"alloy": "promtail", "promtail": "alloy"}.get(role)
    others = {defaults(other)[f"{other}_user"] for other in SERVICES if other not in (role, same)}
    user = defaults(role)[f"{role}_user"]
    assert re.fullmatch(r"\d+:\d+", user)
    assert user not in others


@pytest.mark.parametrize("role", SERVICES)
def test_nobody_but_cadvisor_is_root(role: str) -> None:
    assert (defaults(role)[f"{role}_user"] == "0:0") is (role == "cadvisor")


# What only the running program can be told, after it was applied.
AFTERWARDS = {
    "grafana": [{"name": "Give the folders their permissions", "ansible.builtin.import_tasks": "permissions.yml"}]
}


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_describes_its_service_and_applies_it_and_nothing_else(role: str) -> None:
    assert load(ROLES / role / "tasks/main.yml") == [
        {"name": f"Describe {role}", "ansible.builtin.import_tasks": "describe.yml"},
        {
            "name": "Apply the description",
            "ansible.builtin.import_role": {
                "name": "nekocheik.deployment_monitoring.service",
                "tasks_from": "apply",
            },
        },
        *AFTERWARDS.get(role, []),
    ]
    described = load(ROLES / role / "tasks/describe.yml")[-1][DESCRIBE]
    assert described["name"] == role
    assert described["ready"]["path"].startswith("/")
    if described.get("config_target"):
        assert "check" in described or role in ("grafana", "mongodb_exporter"), "nothing checks its configuration"


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_depends_on_the_mechanism_only(role: str) -> None:
    assert load(ROLES / role / "meta/main.yml")["dependencies"] == [{"role": "nekocheik.deployment_monitoring.service"}]


def test_the_site_describes_every_service_and_so_does_an_upgrade() -> None:
    (task,) = load(CHECKOUT / "playbooks/tasks/describe.yml")
    assert sorted(role for entry in task[DESCRIBE]["services"] for role in entry["roles"]) == DESCRIBED
    for playbook, steps in {"site": ["compare", "change"], "upgrade": ["upgrade"]}.items():
        plays = [play["tasks"] for play in load(CHECKOUT / f"playbooks/{playbook}.yml")]
        deploying = [tasks for tasks in plays if tasks[0].get("ansible.builtin.import_tasks") == "tasks/describe.yml"]
        roles = [
            task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") for task in deploying[0]
        ]
        assert [role["tasks_from"] for role in roles if role] == steps
        assert len(deploying) == (2 if playbook == "upgrade" else 1)


def test_the_site_tells_a_running_program_what_its_role_does() -> None:
    tasks = load(CHECKOUT / "playbooks/tasks/permissions.yml")
    included = [task["ansible.builtin.include_role"] for task in tasks if "ansible.builtin.include_role" in task]
    assert {role["name"].rsplit(".", 1)[1]: role["tasks_from"] for role in included} == {
        role: task["ansible.builtin.import_tasks"].removesuffix(".yml") for role, (task,) in AFTERWARDS.items()
    }


@pytest.mark.parametrize("role", DESCRIBED)
def test_a_description_is_one_task_that_the_site_can_take_over(role: str) -> None:
    """Of the others only what has to be asked of the host, which the site does by itself."""
    asked = {"grafana": ["Find the projects"]}
    tasks = load(ROLES / role / "tasks/describe.yml")
    assert [task["name"] for task in tasks if DESCRIBE not in task] == asked.get(role, [])
    (task,) = [task for task in tasks if DESCRIBE in task]
    assert set(task) <= {"name", "vars", DESCRIBE}


def test_the_removal_the_health_check_and_the_timers_know_all_that_is_described() -> None:
    assert load(ROLES / "maintenance/vars/main.yml")["__maintenance_described"] == DESCRIBED


SECRET = re.compile(r"(password|token|webhook|certificate|secret)", re.IGNORECASE)


@pytest.mark.parametrize("role", ALL)
def test_what_sounds_like_a_secret_is_hidden_and_has_no_default(role: str) -> None:
    for name, option in options(role).items():
        if SECRET.search(name):
            assert option.get("no_log"), name
            assert not defaults(role)[name], name


def test_specifications_are_in_step_with_the_defaults(
    tool: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_a_specification_out_of_step_is_found_and_written(
    tool: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "probe/defaults").mkdir(parents=True)
    (tmp_path / "probe/meta").mkdir()
    (tmp_path / "probe/defaults/main.yml").write_text(
        "---\n# Probe: a thing.\n\n# How many. Example: 3\nprobe_count: 1\n\n"
        "# What. One of: a, b.\nprobe_what: a\n\n# Several. Elements: str.\nprobe_list: []\n\n"
        '# From elsewhere. Type: int.\nprobe_from: "{{ x }}"\n\n# Hidden. Secret.\nprobe_secret: ""\n'
    )
    tool.ROLES = tmp_path
    assert tool.main(["--check"]) == 1
    assert "out of step" in capsys.readouterr().out
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    written = load(tmp_path / "probe/meta/argument_specs.yml")["argument_specs"]["main"]
    found = {
        name: {key: spec[key] for key in spec if key != "description"} for name, spec in written["options"].items()
    }
    assert found == {
        "probe_count": {"type": "int"},
        "probe_what": {"type": "str", "choices": ["a", "b"]},
        "probe_list": {"type": "list", "elements": "str"},
        "probe_from": {"type": "int"},
        "probe_secret": {"type": "str", "no_log": True},
    }


def test_a_variable_without_a_comment_is_refused(tool: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "probe/defaults").mkdir(parents=True)
    (tmp_path / "probe/defaults/main.yml").write_text("---\n# Probe.\n\n# Known.\nprobe_a: 1\n\nprobe_b: 2\n")
    with pytest.raises(ValueError, match="probe: no comment above probe_b"):
        tool.specification(tmp_path / "probe")


def test_alloy_may_read_what_promtail_leaves_it() -> None:
    """The read positions are 0600, in a directory that is 0750: of one user, in two directories."""
    assert defaults("alloy")["alloy_user"] == defaults("promtail")["promtail_user"]
    described = (ROLES / "alloy/vars/main.yml").read_text()
    assert "legacy_positions_file: /former/promtail/positions.yaml" in described
