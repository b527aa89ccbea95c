"""Where Prometheus finds a service follows from the inventory alone."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nekocheik.deployment_monitoring.plugins.lookup import scrape_targets

NAME = "nekocheik.deployment_monitoring.scrape_targets"
# What Ansible's loader does; it would take over the imports of the other tests.
OPTIONS = yaml.safe_load(scrape_targets.DOCUMENTATION)["options"]
C.config.initialize_plugin_configuration_definitions("lookup", NAME, OPTIONS)


def targets(
    service: str,
    hosts: dict[str, dict[str, t.Any]],
    here: str = "one",
    own: dict[str, t.Any] | None = None,
    **options: t.Any,
) -> list[tuple[str, str]]:
    """Ask the lookup on a host; `own` are variables that only reach that host, like its roles' defaults."""
    known = {"inventory_hostname": here, "hostvars": hosts, **hosts[here], **(own or {})}
    loader = DataLoader()
    lookup = scrape_targets.LookupModule(loader=loader, templar=Templar(loader=loader, variables=known))
    lookup._load_name = NAME
    (found,) = lookup.run([service], variables=known, hosts=list(hosts), **options)
    assert all(entry["port"] == entry["address"].rsplit(":", 1)[1] for entry in found)
    return [(entry["host"], entry["address"]) for entry in found]


def test_this_host_is_asked_on_loopback_and_others_at_their_address() -> None:
    hosts = {"one": {"monitoring_address": "10.0.0.1"}, "two": {"monitoring_address": "10.0.0.2"}}
    assert targets("node_exporter", hosts) == [("one", "127.0.0.1:9100"), ("two", "10.0.0.2:9100")]
    assert targets("node_exporter", hosts, here="two") == [("one", "10.0.0.1:9100"), ("two", "127.0.0.1:9100")]


def test_an_address_falls_back_to_what_ansible_connects_to_and_then_to_the_name() -> None:
    hosts: dict[str, dict[str, t.Any]] = {"one": {}, "two": {"ansible_host": "192.0.2.7"}, "three": {}}
    assert targets("node_exporter", hosts)[1:] == [("two", "192.0.2.7:9100"), ("three", "three:9100")]


def test_a_hosts_own_port_is_followed_here_and_there() -> None:
    hosts: dict[str, dict[str, t.Any]] = {"one": {"node_exporter_port": 19100}, "two": {"node_exporter_port": "29100"}}
    assert targets("node_exporter", hosts) == [("one", "127.0.0.1:19100"), ("two", "two:29100")]


def test_a_host_where_the_service_is_absent_is_left_out() -> None:
    hosts: dict[str, dict[str, t.Any]] = {"one": {}, "two": {"node_exporter_state": "absent"}}
    assert targets("node_exporter", hosts) == [("one", "127.0.0.1:9100")]
    assert targets("node_exporter", {"one": {}}, own={"node_exporter_state": "absent"}) == []


def test_a_service_that_listens_on_another_address_here_is_asked_there() -> None:
    assert targets("node_exporter", {"one": {"node_exporter_bind_address": "10.0.0.1"}}) == [("one", "10.0.0.1:9100")]
    assert targets("node_exporter", {"one": {"node_exporter_bind_address": "0.0.0.0"}}) == [("one", "127.0.0.1:9100")]
    assert targets("node_exporter", {"one": {"monitoring_exporter_bind_address": "10.0.0.9"}}) == [
        ("one", "10.0.0.9:9100")
    ]


def test_a_program_that_is_no_role_is_asked_at_the_given_port() -> None:
    hosts = {"one": {"monitoring_exporter_bind_address": "10.0.0.1"}, "two": {"monitoring_address": "10.0.0.2"}}
    assert targets("port_manager", hosts, port=3005) == [("one", "127.0.0.1:3005"), ("two", "10.0.0.2:3005")]
    with pytest.raises(AnsibleLookupError, match="port_manager is no role with a port"):
        targets("port_manager", hosts)


def test_an_address_of_the_sixth_version_is_bracketed() -> None:
    hosts: dict[str, dict[str, t.Any]] = {"one": {}, "two": {"monitoring_address": "fd00::2"}}
    assert targets("node_exporter", hosts)[1] == ("two", "[fd00::2]:9100")
