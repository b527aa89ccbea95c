"""Log sources as the OpenTelemetry Collector reads them. That the result means what it should is asked of the program
itself, beside Promtail, in molecule/otelcol."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import log_sources, otelcol

CHECKOUT = Path(__file__).resolve().parents[3]
FILE: dict[str, t.Any] = {"name": "billing", "path": "/srv/billing/*.log"}


def shipped() -> list[dict[str, t.Any]]:
    text = (CHECKOUT / "roles/service/defaults/main.yml").read_text()
    return t.cast("list[dict[str, t.Any]]", yaml.safe_load(text)["monitoring_log_sources"])


def receiver(source: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
    (found,) = otelcol.receivers([source], options).values()
    return t.cast("dict[str, t.Any]", found)


def operators(source: dict[str, t.Any], kind: str) -> list[dict[str, t.Any]]:
    return [one for one in receiver(source)["operators"] if one["type"] == kind]


def test_of_what_is_shipped_only_containers_are_refused() -> None:
    (problem,) = otelcol.problems(shipped(), [], [])
    assert problem.startswith("monitoring_log_sources: source docker: containers cannot be read by otelcol")
    assert "monitoring_log_collector to promtail or alloy" in problem
    assert problem.endswith("otelcol_ignored_sources: [docker]")
    assert otelcol.problems(shipped(), [], ["docker"]) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"containers": "shop-.*", "path": None}, "source billing: containers cannot be read by otelcol"),
        ({"journal": True, "path": None}, "source billing: journal cannot be read by otelcol (its image has no"),
        ({"stages": [{"drop": {"expression": "x"}}]}, "source billing: stages are Promtail's"),
        ({"format": "json", "metadata": {"a": "b || c"}}, "source billing: 'b || c' is an expression"),
        ({"format": "json", "level": "a[0]"}, "source billing: 'a[0]' is an expression"),
        (
            {"format": "json", "timestamp": {"field": '"x"', "format": "Unix"}},
            "source billing: '\"x\"' is an expression",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(change: dict[str, t.Any], text: str) -> None:
    source = {key: value for key, value in {**FILE, **change}.items() if value is not None}
    assert log_sources.problems([], [source]) == []
    (problem,) = otelcol.problems([], [source], [])
    assert problem.startswith(f"monitoring_log_extra_sources: {text}")
    assert otelcol.problems([], [source], ["billing"]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"format": "json", "metadata": {"a": "b.c", "d": "@e"}, "level": "log-level", "timestamp": "at"},
        {"format": "logfmt", "metadata": ["invoice"], "multiline": r"^\d"},
        {"format": "regex", "expression": "(?P<x>a)", "timestamp": {"field": "x", "format": "UnixMs"}},
        {"labels": {"tier": "back"}, "levels": {"SCHWER": "error"}},
    ],
)
def test_what_it_can_do_is_taken(change: dict[str, t.Any]) -> None:
    assert otelcol.problems([FILE | change], [], []) == []


def test_a_name_that_is_no_source_is_not_given_up() -> None:
    assert otelcol.problems([FILE], [], ["dokcer"]) == [
        "otelcol_ignored_sources: no source is named dokcer; there are billing"
    ]


def test_loki_is_told_every_label() -> None:
    sources = [FILE | {"labels": {"tier": "back"}}, FILE | {"label_fields": ["component", "tier"]}]
    assert otelcol.labels(sources, ["region", "host"]) == [
        *("job", "host", "environment", "level", "filename", "component", "region", "tier")
    ]


def test_a_line_has_its_labels_whatever_it_says() -> None:
    found = receiver(FILE | {"labels": {"tier": 2}}, labels={"host": "a", "environment": "test"})
    assert found["resource"] == {"job": "billing", "host": "a", "environment": "test", "tier": "2"}


def test_a_dollar_is_no_reference() -> None:
    found = receiver(FILE | {"multiline": "^[$]{2}$", "labels": {"price": "${x}"}})
    assert found["multiline"]["line_start_pattern"] == "^[$$]{2}$$"
    assert found["resource"]["price"] == "$${x}"
    regexes = [one["regex"] for one in found["operators"] if "regex" in one]
    assert any(regex.endswith("|$$)") for regex in regexes)
    assert not any(re.search(r"(?<!\$)\$(\$\$)*(?!\$)", regex) for regex in regexes)


@pytest.mark.parametrize("multiline", [None, "^x", {"firstline": "^x", "max_wait_time": "1s"}])
def test_a_record_ends_where_it_ends(multiline: t.Any) -> None:
    found = receiver(FILE | ({"multiline": multiline} if multiline else {}))
    # Never half a line: with the collector's default of 500 ms a slow program's lines would be cut in two.
    expected = {"None": "0s", "^x": "3s"}.get(str(multiline), "1s")
    assert found["force_flush_period"] == expected
    assert found.get("multiline") == ({"line_start_pattern": "^x"} if multiline else None)
    assert found["preserve_trailing_whitespaces"] is (multiline is None)


def test_every_operator_has_a_name_of_its_own_and_nothing_is_left_over() -> None:
    for source in [one for one in shipped() if "path" in one]:
        found = receiver(source)["operators"]
        assert len({one["id"] for one in found}) == len(found)
        removed = [one["id"] for one in found if one["type"] == "remove"]
        used = [one["id"] for one in found if "attributes.__work" in str({**one, "type": ""})]
        assert removed == used[-1:]


def test_no_operator_reports_a_line_that_does_not_fit() -> None:
    for source in [one for one in shipped() if "path" in one]:
        for operator in receiver(source)["operators"]:
            assert operator.get("on_error") == "send_quiet" or operator["type"] == "remove"


def test_a_level_is_known_by_the_same_words_as_everywhere() -> None:
    (value,) = [
        one["value"] for one in operators(FILE | {"levels": {"SCHWER": "error"}}, "add") if "get(" in one["value"]
    ]
    known = yaml.safe_load(re.search(r"\{.*\}", value).group())  # type: ignore[union-attr]
    words = log_sources.level_words({"SCHWER": "error"})
    assert known == {word: level for level, spelt in words.items() for word in spelt}
    assert known["schwer"] == "error"


@pytest.mark.parametrize(
    ("timestamp", "layouts"),
    [
        (None, list(log_sources.TIME_FORMATS)),
        ("at", list(log_sources.TIME_FORMATS)),
        ({"field": "at", "format": "Unix"}, ["s.us"]),
        ({"field": "at", "format": "UnixNs"}, ["ns"]),
        ({"field": "at", "format": "RFC1123Z"}, ["Mon, 02 Jan 2006 15:04:05 -0700"]),
        ({"field": "at", "format": "02/01/2006 15:04", "location": "Europe/Paris"}, ["02/01/2006 15:04"]),
    ],
)
def test_a_time_is_read_by_its_format(timestamp: t.Any, layouts: list[str]) -> None:
    source = FILE | {"format": "json"} | ({"timestamp": timestamp} if timestamp else {})
    found = operators(source, "time_parser")
    assert [one["layout"] for one in found] == layouts
    zone = timestamp.get("location", "UTC") if isinstance(timestamp, dict) else "UTC"
    assert {one["location"] for one in found if one["layout_type"] == "gotime"} <= {zone}
    # A second format is tried only where the first did not fit.
    assert all("timestamp.IsZero()" in one["if"] for one in found)


PAIRS = [
    ("invoice=4711", "4711"),
    ('level=info invoice="a b" x=y', "a b"),
    ("don't stop invoice=1 now", "1"),
    ("xinvoice=1", None),
    ("no pair", None),
]


@pytest.mark.parametrize(("text", "value"), PAIRS)
def test_a_pair_is_found_among_bare_words(text: str, value: str | None) -> None:
    parsers = operators(FILE | {"format": "logfmt", "metadata": ["invoice"]}, "regex_parser")
    (parser,) = [one for one in parsers if one["parse_to"].endswith("pair_invoice")]
    match = re.search(parser["regex"].replace("$$", "$"), text)
    assert (match and (match.group("bare") or match.group("quoted"))) == value
