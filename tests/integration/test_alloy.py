"""Alloy's configuration: read by its own parser, and of one meaning with Promtail's. (Alloy cannot be built here.)"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import collectors, log_sources, log_stages

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "tests/logs/alloy-syntax"
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", "~/.cache/deployment-monitoring")).expanduser()
OPTIONS = {
    "url": "http://127.0.0.1:3100",
    "labels": {"host": "h"},
    "projects": ["my-shop"],
    "legacy_positions_file": "/former/promtail/positions.yaml",
}
Block = dict[str, t.Any]

# What loki.process knows of each stage, from its reference.
STAGES = {
    "regex": {"expression", "source"},
    "json": {"expressions", "source", "drop_malformed"},
    "logfmt": {"mapping", "source"},
    "template": {"source", "template"},
    "timestamp": {"source", "format", "fallback_formats", "location", "action_on_failure"},
    "labels": {"values"},
    "static_labels": {"values"},
    "structured_metadata": {"values"},
    "label_drop": {"values"},
    "label_keep": {"values"},
    "multiline": {"firstline", "max_wait_time", "max_lines"},
    "drop": {"source", "separator", "expression", "value", "older_than", "longer_than", "drop_counter_reason"},
    "match": {"selector", "pipeline_name", "action", "drop_counter_reason"},
    "metrics": set[str](),
    "replace": {"expression", "source", "replace"},
    "output": {"source"},
    "limit": {"rate", "burst", "drop", "by_label_name", "max_distinct_labels"},
    "sampling": {"rate", "drop_counter_reason"},
    "decolorize": set[str](),
    "docker": set[str](),
    "cri": {"max_partial_lines", "max_partial_line_size", "max_partial_line_size_truncate"},
    "pack": {"labels", "ingest_timestamp"},
    "tenant": {"label", "source", "value"},
}
# One of every stage that a user may add, in Promtail's idioms: a label without a field, small letters, lists.
EVERY_STAGE = [
    {"decolorize": {}},
    {"cri": {"max_partial_lines": 50, "max_partial_line_size": 4096, "max_partial_line_size_truncate": True}},
    {"docker": {}},
    {"json": {"expressions": {"tier": None, "zone": "meta.zone"}, "drop_malformed": True}},
    {"logfmt": {"mapping": {"shop": None, "word": "w"}, "source": "zone"}},
    {"regex": {"expression": r"(?P<first>\S+) \"(?P<second>❌)\"", "source": "word"}},
    {"replace": {"expression": r"password=(\S+)", "replace": '{{ .Value | Hash "salt" }}'}},
    {"template": {"source": "third", "template": "{{ .first }}-{{ .Entry }}"}},
    {"timestamp": {"source": "at", "format": "Unix", "fallback_formats": ["UnixMs"], "action_on_failure": "skip"}},
    {"labels": {"tier": None, "zone": "", "shop": "shop"}},
    {"static_labels": {"region": "eu"}},
    {"structured_metadata": {"first": None, "second": "third"}},
    {"drop": {"source": ["first", "second"], "separator": ";", "value": "a;b", "drop_counter_reason": "both"}},
    {"drop": {"source": "first", "expression": "debug", "older_than": "24h", "longer_than": "8kb"}},
    {"limit": {"rate": 10, "burst": 20, "drop": True, "by_label_name": "tier", "max_distinct_labels": 5}},
    {"sampling": {"rate": 0.25, "drop_counter_reason": "sampled"}},
    {"multiline": {"firstline": r"^\S", "max_wait_time": "1s", "max_lines": 10}},
    {"match": {"selector": '{job="every"} |= "x"', "action": "drop", "drop_counter_reason": "x"}},
    {"match": {"selector": '{job="every"}', "pipeline_name": "p", "stages": [{"labels": {"tier": None}}]}},
    {"labelallow": ["job", "tier", "level"]},
    {"labeldrop": ["zone"]},
    {"pack": {"labels": ["tier"], "ingest_timestamp": False}},
    {"tenant": {"value": "team"}},
    {"output": {"source": "third"}},
]
COUNTER = {"name", "description", "source", "prefix", "max_idle_duration", "value", "match_all", "action"}
COMPONENTS = {
    "local.file_match": {"path_targets", "sync_period"},
    "loki.source.file": {"targets", "forward_to", "legacy_positions_file"},
    "discovery.docker": {"host", "refresh_interval"},
    "discovery.relabel": {"targets"},
    "loki.source.docker": {"host", "targets", "forward_to"},
    "loki.source.journal": {"path", "max_age", "labels", "relabel_rules", "forward_to"},
    "loki.relabel": {"forward_to"},
    "loki.process": {"forward_to"},
    "loki.write": {"external_labels"},
    "logging": {"level", "format"},
}


@pytest.fixture(scope="module")
def parse() -> t.Callable[[str], list[Block]]:
    """Alloy's own parser, built once."""
    sources = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    program = CACHE / "bin" / f"alloy-syntax-{hashlib.sha256(sources).hexdigest()[:12]}"
    if not program.exists():
        caches = {"GOMODCACHE": str(CACHE / "go/mod"), "GOCACHE": str(CACHE / "go/build")}
        unfinished = program.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["go", "build", "-trimpath", "-o", str(unfinished), "."],
            cwd=SOURCE,
            env={**os.environ, **caches, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            check=True,
        )
        unfinished.rename(program)

    def parsed(text: str) -> list[Block]:
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr)
        return t.cast("list[Block]", json.loads(done.stdout))

    return parsed


@pytest.fixture(scope="module")
def sources() -> list[dict[str, t.Any]]:
    """What is shipped, and one of every kind and format besides."""
    shipped = yaml.safe_load((CHECKOUT / "roles/service/defaults/main.yml").read_text())["monitoring_log_sources"]
    match = {"selector": '{job="x"}', "stages": [{"drop": {"expression": '"quoted" \\d+ ❌'}}]}
    return [
        *shipped,
        {"name": "a", "path": ["/srv/a/*.log", "/srv/b/*.log"], "format": "logfmt", "metadata": {"order": "o"}},
        {"name": "b", "path": "/srv/c/*.log", "multiline": r"^\d", "levels": {"SCHWER": "error"}, "labels": {"x": "y"}},
        {
            "name": "c",
            "path": "/srv/d",
            "format": "regex",
            "expression": '(?P<f>"[^"]+")',
            "stages": [{"match": match}],
        },
        {"name": "d", "containers": "shop-.*", "format": "json", "label_fields": ["component"]},
        {"name": "9-journal", "journal": True},
        {"name": "a-b", "path": "/srv/ab/*.log"},
        {"name": "a_b", "path": "/srv/a_b/*.log"},
        {"name": "every", "path": "/srv/every/*.log", "format": "json", "stages": EVERY_STAGE},
        {"name": "volatile", "journal": "/run/log/journal", "timestamp": {"field": "t", "format": "Unix"}},
    ]


@pytest.fixture(scope="module")
def blocks(parse: t.Callable[[str], list[Block]], sources: list[dict[str, t.Any]]) -> list[Block]:
    """The role's own template with these sources, parsed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(CHECKOUT / "roles/alloy/templates"), undefined=jinja2.StrictUndefined
    )
    environment.filters["nekocheik.deployment_monitoring.alloy_config"] = collectors.alloy
    text = environment.get_template("config.alloy.j2").render(
        __alloy_sources=sources, __alloy_options=OPTIONS, alloy_extra_config="livedebugging { enabled = true }"
    )
    return parse(text)


def of(blocks: list[Block], name: str) -> dict[str, Block]:
    return {block["label"]: block for block in blocks if block["name"] == name}


def test_the_parser_refuses_what_is_broken(parse: t.Callable[[str], list[Block]]) -> None:
    with pytest.raises(ValueError, match="config.alloy:1"):
        parse('loki.write "x" { url = }')


def test_every_block_and_setting_is_known(blocks: list[Block]) -> None:
    for block in blocks:
        if block["name"] == "livedebugging":
            continue
        assert set(block["attributes"]) <= COMPONENTS[block["name"]], block["name"]
        if block["name"] == "loki.process":
            known(block["blocks"])


def known(stages: list[Block]) -> None:
    for stage in stages:
        name = stage["name"].removeprefix("stage.")
        assert set(stage["attributes"]) <= STAGES[name], name
        if name == "metrics":
            assert all(set(one["attributes"]) <= COUNTER for one in stage["blocks"])
        else:
            known(stage["blocks"])


def test_every_reference_leads_to_a_component(blocks: list[Block]) -> None:
    there = {f"{block['name']}.{block['label']}" for block in blocks}
    found = set(re.findall(r'"ref": "([\w.]+)\.\w+"', json.dumps(blocks)))
    assert found
    assert found <= there


def said(settings: t.Any, name: str = "") -> t.Any:
    """Return Promtail's settings as both mean them: an empty name is that of its field, a list is one text."""
    if isinstance(settings, list):
        return [said(one) for one in settings]
    if not isinstance(settings, dict):
        return "" if settings is None else settings
    found = {key: said(one, key) for key, one in settings.items()}
    if name == "drop":
        if isinstance(found.get("source"), list):
            found["source"] = ",".join(found["source"])
        if "longer_than" in found:
            found["longer_than"] = found["longer_than"].upper()
    return found


def stage(block: Block) -> dict[str, t.Any]:
    """Return a stage as Promtail spells it."""
    name = block["name"].removeprefix("stage.")
    settings = block["attributes"]
    name = {"label_drop": "labeldrop", "label_keep": "labelallow"}.get(name, name)
    if name in ("labels", "static_labels", "structured_metadata", "labeldrop", "labelallow"):
        return {name: settings["values"]}
    if name == "match":
        inner = [stage(one) for one in block["blocks"]]
        return {name: {**settings, **({"stages": inner} if inner else {})}}
    if name == "metrics":
        metrics = {}
        for one in block["blocks"]:
            given = dict(one["attributes"])
            config = {key: given.pop(key) for key in ("match_all", "action")}
            kind = one["name"].removeprefix("metric.").capitalize()
            metric = given.pop("name")
            metrics[metric] = {"type": kind, **given, "config": config}
        return {name: metrics}
    return {name: settings}


def meaning(blocks: list[Block], source: dict[str, t.Any], label: str) -> dict[str, t.Any]:
    """Return what Alloy does with a source, as a scrape configuration of Promtail."""
    stages = [stage(one) for one in of(blocks, "loki.process")[label]["blocks"]]
    config: dict[str, t.Any] = {"job_name": source["name"]}
    files = of(blocks, "local.file_match")
    if label in files:
        # The job joins behind the reader; Promtail's is there from the start.
        first = stages.pop(0)
        config["static_configs"] = [
            {"targets": ["localhost"], "labels": {**first["static_labels"], **target}}
            for target in files[label]["attributes"]["path_targets"]
        ]
    elif label in of(blocks, "discovery.docker"):
        config["docker_sd_configs"] = [of(blocks, "discovery.docker")[label]["attributes"]]
        config["relabel_configs"] = [one["attributes"] for one in of(blocks, "discovery.relabel")[label]["blocks"]]
    else:
        read = of(blocks, "loki.source.journal")[label]["attributes"]
        config["journal"] = {key: read[key] for key in ("path", "max_age", "labels")}
        config["relabel_configs"] = [one["attributes"] for one in of(blocks, "loki.relabel")[label]["blocks"]]
    config["pipeline_stages"] = stages
    return config


def test_alloy_is_told_what_promtail_is_told(
    blocks: list[Block], sources: list[dict[str, t.Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = collectors.promtail(sources, OPTIONS)
    names = collectors.component_names(sources)
    assert len(set(names.values())) == len(sources)
    rows = ["| source | reads | Promtail: stages, labels | Alloy: stages, labels | the same |", "| --- " * 5 + "|"]
    differ = []
    for source, promtail in zip(sources, expected, strict=True):
        alloy = meaning(blocks, source, names[source["name"]])
        same = alloy == said(promtail)
        differ += [] if same else [(alloy, said(promtail))]
        reads = next(key for key in ("path", "containers", "journal") if source.get(key))
        columns = [f"{len(one['pipeline_stages'])}, {len(labels_of(one))}" for one in (promtail, alloy)]
        rows.append(f"| {source['name']} | {reads} | {columns[0]} | {columns[1]} | {'yes' if same else 'NO'} |")
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert not differ
    assert len(expected) == 14


def labels_of(config: dict[str, t.Any]) -> set[str]:
    """Return the labels that a scrape configuration gives its lines."""
    found = {"job"}
    for rule in config.get("relabel_configs", []):
        found |= {rule["target_label"]} if "target_label" in rule else set()
    for one in config["pipeline_stages"]:
        found |= set(one.get("labels", {})) | set(one.get("static_labels", {}))
        found -= set(one.get("labeldrop", []))
    return found


def test_every_stage_that_a_source_may_have_is_compared() -> None:
    """A stage that the check of sources lets through is spelt for Alloy, too."""
    assert {name for one in EVERY_STAGE for name in one} == log_stages.STAGES
    assert log_sources.problems([{"name": "every", "path": "/srv/every/*.log", "stages": EVERY_STAGE}]) == []


def test_read_positions_are_taken_over_without_labels_before_the_reader(blocks: list[Block]) -> None:
    readers = of(blocks, "loki.source.file")
    assert len(readers) == 10
    for label, reader in readers.items():
        assert reader["attributes"]["legacy_positions_file"] == "/former/promtail/positions.yaml"
        targets = of(blocks, "local.file_match")[label]["attributes"]["path_targets"]
        assert {key for target in targets for key in target} <= {"__path__", "__path_exclude__"}


def test_what_cannot_be_sent_waits_for_ever(blocks: list[Block]) -> None:
    (endpoint,) = of(blocks, "loki.write")["loki"]["blocks"]
    assert endpoint["attributes"]["max_backoff_retries"] == 0
    assert endpoint["attributes"]["url"] == "http://127.0.0.1:3100/loki/api/v1/push"
