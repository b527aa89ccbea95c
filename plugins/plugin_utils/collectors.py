# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Log sources as Promtail and as Alloy spell them; both from the same pipeline (log_sources)."""

from __future__ import annotations

import json
import re
import typing as t

from . import log_sources as sources_

Options = dict[str, t.Any]

# A container that is gone before it was seen is not read: they are looked for often. (Promtail's reader hears of it
# every 5 s.)
DOCKER_REFRESH = "1s"
DOCKER_SOCKET = "unix:///run/docker-proxy/docker.sock"
# A file that is copied and truncated loses what was not read yet: files are looked at often.
FILE_WATCH = {"min_poll_frequency": "25ms", "max_poll_frequency": "25ms"}
_JOURNAL = "/var/log/journal"


def journal_path(source: sources_.Source) -> str:
    """Return the directory of a source's journal."""
    value = source["journal"]
    return _JOURNAL if value is True else str(value)


def relabel_containers(source: sources_.Source, sources: list[sources_.Source], options: Options) -> list[Options]:
    """Return what turns the engine's words on a container into labels, in Prometheus' spelling."""
    project = sources_.project_expression(options.get("projects", []))
    rules = [
        {"target_label": "job", "replacement": source["name"]},
        {"source_labels": ["__meta_docker_container_name"], "regex": "/(.*)", "target_label": "container"},
        {"source_labels": ["container"], "regex": project, "target_label": "project", "replacement": "$1"},
        {"source_labels": ["container"], "regex": project, "target_label": "branch", "replacement": "$2"},
    ]
    wanted = sources_.containers(source)
    if wanted:
        rules.append({"source_labels": ["container"], "regex": wanted, "action": "keep"})
    others = sources_.others(source, sources)
    if others:
        rules.append({"source_labels": ["container"], "regex": "|".join(others), "action": "drop"})
    return rules


def relabel_journal() -> list[Options]:
    """Return what turns a journal's fields into labels."""
    return [
        {"source_labels": ["__journal_priority_keyword"], "target_label": "level"},
        {"source_labels": ["__journal__systemd_unit"], "target_label": "unit"},
    ]


def promtail(sources: list[sources_.Source], options: Options) -> list[Options]:
    """Return Promtail's scrape_configs."""
    found = []
    for source in sources:
        config: Options = {"job_name": source["name"]}
        kind = sources_.kind(source)
        if kind == "path":
            excluded = {"__path_exclude__": source["exclude"]} if source.get("exclude") else {}
            config["static_configs"] = [
                {"targets": ["localhost"], "labels": {"job": source["name"], "__path__": path, **excluded}}
                for path in sources_.paths(source)
            ]
        elif kind == "containers":
            config["docker_sd_configs"] = [{"host": DOCKER_SOCKET, "refresh_interval": DOCKER_REFRESH}]
            config["relabel_configs"] = relabel_containers(source, sources, options)
        else:
            config["journal"] = {"path": journal_path(source), "max_age": "12h", "labels": {"job": source["name"]}}
            config["relabel_configs"] = relabel_journal()
        config["pipeline_stages"] = _pipeline(source, options)
        found.append(config)
    return found


def alloy(sources: list[sources_.Source], options: Options) -> str:
    """Return Alloy's configuration: every source, then where the lines go."""
    parts = []
    names = component_names(sources)
    for source in sources:
        label = names[source["name"]]
        parts += {"path": _alloy_files, "containers": _alloy_containers, "journal": _alloy_journal}[
            sources_.kind(source)
        ](label, source, sources, options)
        stages = _pipeline(source, options)
        if sources_.kind(source) == "path":
            # Behind the source of lines: the read positions that Promtail leaves know no labels.
            stages = [{"static_labels": {"job": source["name"]}}, *stages]
        parts.append(
            block(
                "loki.process",
                label,
                {"forward_to": Reference("[loki.write.loki.receiver]")},
                [stage_block(stage) for stage in stages],
            )
        )
    endpoint = {
        "url": f"{options['url']}/loki/api/v1/push",
        "batch_wait": "1s",
        "batch_size": options.get("batch_size", "256KiB"),
        "min_backoff_period": "500ms",
        "max_backoff_period": "5s",
        # For ever: what cannot be sent waits in its file.
        "max_backoff_retries": 0,
    }
    parts.append(
        block("loki.write", "loki", {"external_labels": options.get("labels", {})}, [block("endpoint", None, endpoint)])
    )
    return "\n\n".join(parts) + "\n"


def component_names(sources: list[sources_.Source]) -> dict[str, str]:
    """Return what each source's components are called: letters, numbers and _, and no two alike."""
    found: dict[str, str] = {}
    for source in sources:
        label = re.sub(r"\W", "_", source["name"])
        label = f"_{label}" if label[0].isdigit() else label
        while label in found.values():
            label += "_"
        found[source["name"]] = label
    return found


def _pipeline(source: sources_.Source, options: Options) -> list[sources_.Stage]:
    return sources_.pipeline(source, options.get("metrics", True), options.get("location", "UTC"))


def _forward(label: str) -> Options:
    return {"forward_to": Reference(f"[loki.process.{label}.receiver]")}


def _alloy_files(label: str, source: sources_.Source, sources: list[sources_.Source], options: Options) -> list[str]:
    excluded = {"__path_exclude__": source["exclude"]} if source.get("exclude") else {}
    targets = [{"__path__": path, **excluded} for path in sources_.paths(source)]
    read = {"targets": Reference(f"local.file_match.{label}.targets"), **_forward(label)}
    if options.get("legacy_positions_file"):
        read["legacy_positions_file"] = options["legacy_positions_file"]
    return [
        block("local.file_match", label, {"path_targets": targets, "sync_period": "5s"}),
        block("loki.source.file", label, read, [block("file_watch", None, FILE_WATCH)]),
    ]


def _alloy_containers(
    label: str, source: sources_.Source, sources: list[sources_.Source], options: Options
) -> list[str]:
    rules = [block("rule", None, rule) for rule in relabel_containers(source, sources, options)]
    targets = {"targets": Reference(f"discovery.docker.{label}.targets")}
    return [
        block("discovery.docker", label, {"host": DOCKER_SOCKET, "refresh_interval": DOCKER_REFRESH}),
        block("discovery.relabel", label, targets, rules),
        block(
            "loki.source.docker",
            label,
            {"host": DOCKER_SOCKET, "targets": Reference(f"discovery.relabel.{label}.output"), **_forward(label)},
        ),
    ]


def _alloy_journal(label: str, source: sources_.Source, sources: list[sources_.Source], options: Options) -> list[str]:
    rules = [block("rule", None, rule) for rule in relabel_journal()]
    read = {
        "path": journal_path(source),
        "max_age": "12h",
        "labels": {"job": source["name"]},
        "relabel_rules": Reference(f"loki.relabel.{label}.rules"),
        **_forward(label),
    }
    return [
        block("loki.relabel", label, {"forward_to": []}, rules),
        block("loki.source.journal", label, read),
    ]


class Reference(str):
    """Written as it is: another component's export."""


# Stages whose settings Promtail holds bare and Alloy under a name, and stages that are spelt otherwise.
_WRAPPED = {
    "labels": "values",
    "structured_metadata": "values",
    "static_labels": "values",
    "labeldrop": "values",
    "labelallow": "values",
}
_SPELT = {"labeldrop": "label_drop", "labelallow": "label_keep"}


def stage_block(stage: sources_.Stage) -> str:
    """Return a stage in Alloy's spelling."""
    ((name, settings),) = stage.items()
    spelt = f"stage.{_SPELT.get(name, name)}"
    if name in _WRAPPED:
        return block(spelt, None, {_WRAPPED[name]: settings})
    if name == "metrics":
        return block(spelt, None, {}, [_metric_block(metric, given) for metric, given in settings.items()])
    if name == "match":
        inner = [stage_block(one) for one in settings.get("stages", [])]
        return block(spelt, None, {key: value for key, value in settings.items() if key != "stages"}, inner)
    if name == "drop":
        settings = dict(settings)
        if isinstance(settings.get("source"), list):
            settings["source"] = ",".join(settings["source"])
        if "longer_than" in settings:
            # Promtail does not mind small letters.
            settings["longer_than"] = settings["longer_than"].upper()
    return block(spelt, None, settings)


def _metric_block(name: str, given: Options) -> str:
    body = {"name": name, **{key: value for key, value in given.items() if key not in ("type", "config")}}
    return block(f"metric.{given['type'].lower()}", None, {**body, **given["config"]})


def block(kind: str, label: str | None, attributes: Options, blocks: t.Iterable[str] = ()) -> str:
    """Return a block of Alloy's language, indented."""
    head = f'{kind} "{label}"' if label else kind
    lines = [f"{name} = {value(content)}" for name, content in attributes.items()]
    inside = "\n".join([*lines, *blocks])
    indented = "\n".join(f"  {line}" if line else line for line in inside.splitlines())
    return f"{head} {{\n{indented}\n}}" if indented else f"{head} {{ }}"


def value(content: t.Any) -> str:
    """Return a value of Alloy's language.

    >>> value({"a": ["b", True]})
    '{"a" = ["b", true]}'
    """
    if isinstance(content, Reference):
        return str(content)
    if isinstance(content, dict):
        return "{" + ", ".join(f"{json.dumps(str(name))} = {value(one)}" for name, one in content.items()) + "}"
    if isinstance(content, (list, tuple)):
        return "[" + ", ".join(value(one) for one in content) + "]"
    if isinstance(content, (bool, int, float)):
        return json.dumps(content)
    if content is None:
        # What has no name of its own is named as the label or field is.
        return '""'
    return json.dumps(str(content), ensure_ascii=False)
