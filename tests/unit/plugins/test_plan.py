"""The plan holds rendered secrets: nobody but its owner reads it, and descriptions are handed on without them."""

from __future__ import annotations

import stat
import typing as t
from pathlib import Path

import pytest
from ansible import constants as C
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def service(name: str, **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, **more}


def test_a_plan_can_only_be_read_by_its_owner(temporary: Path) -> None:
    plan.put("host", service("one"), {"a": b"secret"})
    (directory,) = temporary.iterdir()
    (file,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_descriptions_come_without_contents() -> None:
    plan.put("host", service("one"), {"a": b"hunter2"})
    assert plan.services("host") == [service("one")]


def test_contents_survive_byte_for_byte() -> None:
    plan.put("host", service("one"), {"a/b": bytes(range(256)), "c": b""})
    assert plan.contents("host", "one") == {"a/b": bytes(range(256)), "c": b""}
    assert plan.contents("host", "other") == {}


def test_a_service_that_is_described_twice_is_there_once_as_described_last() -> None:
    plan.put("host", service("one", image="a" * 100), {"a": b"1"})
    plan.put("host", service("one", image="b"), {"b": b"2"})
    assert plan.services("host") == [service("one", image="b")]
    assert plan.contents("host", "one") == {"b": b"2"}


def test_each_host_has_a_plan_of_its_own() -> None:
    plan.put("one/../two", service("a"), {})
    plan.put("two", service("b"), {})
    assert plan.services("one/../two") == [service("a")]
    assert plan.services("two") == [service("b")]
    assert plan.services("three") == []


def test_a_cleared_plan_is_empty_and_can_be_filled_again() -> None:
    plan.put("host", service("one"), {"a": b"1"})
    plan.put("other", service("one"), {})
    plan.clear("host")
    plan.clear("never there")
    assert plan.services("host") == []
    assert plan.services("other") == [service("one")]
    plan.put("host", service("two"), {})
    assert plan.services("host") == [service("two")]


def test_services_come_in_the_order_of_their_names() -> None:
    for name in ("b", "c", "a"):
        plan.put("host", service(name), {})
    assert [entry["name"] for entry in plan.services("host")] == ["a", "b", "c"]
