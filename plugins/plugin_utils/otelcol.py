# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Log sources as the OpenTelemetry Collector reads them: a receiver for each, that does what Promtail's stages do.

What becomes a label is put into the line's resource, which Loki turns into a stream (C(otlp_config)); what becomes
structured metadata is an attribute. Everything that is only needed on the way is below one attribute, which goes at
the end.
"""

from __future__ import annotations

import json
import re
import typing as t

from . import log_sources as sources_

Operator = dict[str, t.Any]

COLLECTOR = "otelcol"
# Labels of every line of a file; Loki has to be told which of a resource's attributes are labels.
LABELS = ("job", "host", "environment", "level", "filename")
_WORK = "attributes.__work"
# The name of a field, or of one inside another. Other collectors take any expression of JMESPath.
_FIELD = re.compile(r"^[\w@-]+(\.[\w@-]+)*$")
_LAYOUTS = {
    "ANSIC": "Mon Jan _2 15:04:05 2006",
    "UnixDate": "Mon Jan _2 15:04:05 MST 2006",
    "RubyDate": "Mon Jan 02 15:04:05 -0700 2006",
    "RFC822": "02 Jan 06 15:04 MST",
    "RFC822Z": "02 Jan 06 15:04 -0700",
    "RFC850": "Monday, 02-Jan-06 15:04:05 MST",
    "RFC1123": "Mon, 02 Jan 2006 15:04:05 MST",
    "RFC1123Z": "Mon, 02 Jan 2006 15:04:05 -0700",
    "RFC3339": "2006-01-02T15:04:05Z07:00",
    "RFC3339Nano": "2006-01-02T15:04:05.999999999Z07:00",
}
# Seconds may have a fraction; a float is read to the microsecond.
_EPOCHS = {"Unix": ("float", "s.us"), "UnixMs": ("int", "ms"), "UnixUs": ("int", "us"), "UnixNs": ("int", "ns")}
# What a field may hold that is as good as none.
_NOTHING = 'nil, "", false'


def problems(sources: list[sources_.Source], extra: list[sources_.Source], ignored: t.Iterable[str]) -> list[str]:
    """Return one sentence for each thing that the other collectors can do and this one cannot.

    :param sources: the value of C(monitoring_log_sources); each by itself is in order.
    :param extra: the value of C(monitoring_log_extra_sources).
    :param ignored: the value of C(otelcol_ignored_sources): names that are given up knowingly.
    """
    names = {source["name"] for source in (*sources, *extra)}
    found = [
        f"otelcol_ignored_sources: no source is named {name}; there are {', '.join(sorted(names))}"
        for name in ignored
        if name not in names
    ]
    for variable, entries in zip(sources_.VARIABLES, (sources, extra), strict=True):
        for source in entries:
            if source["name"] not in ignored:
                found += [f"{variable}: source {source['name']}: {what}" for what in _problems(source)]
    return found


def _problems(source: sources_.Source) -> list[str]:
    name = source["name"]
    give_up = f"or give its lines up by otelcol_ignored_sources: [{name}]"
    if source.get("containers"):
        return [
            f"containers cannot be read by otelcol (their files are root's and do not tell names); set "
            f"monitoring_log_collector to promtail or alloy, {give_up}"
        ]
    if source.get("journal"):
        return [
            "journal cannot be read by otelcol (its image has no journalctl); read /var/log/syslog by path, set "
            f"monitoring_log_collector to promtail or alloy, {give_up}"
        ]
    found = []
    if source.get("stages"):
        found.append(
            "stages are Promtail's and not translated for otelcol; say it by format, timestamp, level, labels, "
            f"metadata or multiline, set monitoring_log_collector to promtail or alloy, {give_up}"
        )
    if source.get("format") == "json":
        fields = [*_fields(source).values(), source.get("level", "level"), sources_.time_field(source) or "time"]
        found += [
            f"{field!r} is an expression; otelcol takes a field's name, or names joined by dots"
            for field in fields
            if not _FIELD.match(str(field))
        ]
    return found


def labels(sources: t.Iterable[sources_.Source], external: t.Iterable[str] = ()) -> list[str]:
    """Return the names of all labels that the lines of these sources have."""
    own = {name for source in sources for name in (*source.get("labels", {}), *source.get("label_fields", []))}
    return [*LABELS, *sorted((own | set(external)) - set(LABELS))]


def receivers(sources: list[sources_.Source], options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the receivers by name.

    :param options: C(labels) of every line, C(location) of times that name none, C(poll_interval).
    """
    found = {}
    for source in sources:
        multiline = source.get("multiline")
        given = multiline if isinstance(multiline, dict) else {"firstline": multiline}
        found[f"file_log/{source['name']}"] = _escaped({
            "include": sources_.paths(source),
            **({"exclude": [source["exclude"]]} if source.get("exclude") else {}),
            "start_at": "beginning",
            "storage": "file_storage",
            "poll_interval": options.get("poll_interval", "200ms"),
            "include_file_path": True,
            "include_file_name": False,
            "preserve_leading_whitespaces": True,
            # The end of a record of several lines is the end of its last line, which is no part of it.
            "preserve_trailing_whitespaces": not multiline,
            **({"multiline": {"line_start_pattern": given["firstline"]}} if multiline else {}),
            # A line is whole when its end was written. The last record of several lines ends when nothing follows.
            "force_flush_period": given.get("max_wait_time", "3s") if multiline else "0s",
            # As Loki has it.
            "max_log_size": "256KiB",
            "max_log_size_behavior": "truncate",
            "on_truncate": "read_whole_file",
            "retry_on_failure": {"enabled": True, "max_elapsed_time": "0s"},
            "resource": {
                "job": source["name"],
                **{name: str(value) for name, value in options.get("labels", {}).items()},
                **{name: str(value) for name, value in source.get("labels", {}).items()},
            },
            "operators": _operators(source, options.get("location", "UTC")),
        })  # fmt: skip
    return found


def _escaped(value: t.Any) -> t.Any:
    """Return a setting as the configuration holds it, where a dollar begins a reference."""
    if isinstance(value, dict):
        return {name: _escaped(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _fields(source: sources_.Source) -> dict[str, str]:
    """Return the fields of a line that become metadata or labels, by the name that they get."""
    metadata = source.get("metadata", [])
    return {
        **{name: name for name in source.get("label_fields", [])},
        **(metadata if isinstance(metadata, dict) else {name: name for name in metadata}),
    }


def _operators(source: sources_.Source, location: str) -> list[Operator]:
    form = source.get("format", "text")
    texts = sources_.level_expressions(source)
    # A match of nothing: it makes the one attribute that everything else is below.
    operators = [_parser("regex_parser", _WORK, regex="^(?P<start>)")]
    operators += [_parser("regex_parser", f"{_WORK}.text{n}", regex=regex) for n, regex in enumerate(texts)]
    operators += _read(source, form)
    found = _level_fields(source, form) + [f"{_WORK}.text{n}?.level" for n in reversed(range(len(texts)))]
    operators += [
        _value(f"{_WORK}.said", _first(found)),
        _value(f"{_WORK}.level", _level(source), when=f"{_WORK}.said != nil"),
        _move(f"{_WORK}.level", "resource.level", when=f"{_WORK}.level != nil"),
    ]
    operators += _time(source, form, location)
    for name, field in _fields(source).items():
        place = "resource" if name in source.get("label_fields", []) else "attributes"
        read = _field(field, form)
        operators.append(_value(f"{place}.{name}", read, when=f'({read}) not in [nil, ""]'))
    operators += [
        {"type": "remove", "field": _WORK},
        _move('attributes["log.file.path"]', "resource.filename"),
    ]
    # An operator's name is its kind: several of one need names of their own.
    return [{"id": f"{source['name']}-{n}", **operator} for n, operator in enumerate(operators)]


def _read(source: sources_.Source, form: str) -> list[Operator]:
    """The operators that find a line's fields."""
    if form == "json":
        return [_parser("json_parser", f"{_WORK}.fields", parse_ints=True)]
    if form == "regex":
        return [_parser("regex_parser", f"{_WORK}.fields", regex=source["expression"])]
    if form == "logfmt":
        # One by one: the collector's own parser of pairs gives up a line at its first word that is none.
        return [
            _parser("regex_parser", f"{_WORK}.{_pair(field)}", regex=_pair_expression(field), when=_contains(field))
            for field in dict.fromkeys([*_level_names(source), *_time_names(source), *_fields(source).values()])
        ]
    return []


def _level_names(source: sources_.Source) -> list[str]:
    return [source["level"]] if source.get("level") else list(sources_.LEVEL_FIELDS)


def _time_names(source: sources_.Source) -> list[str]:
    return [sources_.time_field(source)] if sources_.time_field(source) else list(sources_.TIMESTAMP_FIELDS)


def _level_fields(source: sources_.Source, form: str) -> list[str]:
    if form == "text":
        return []
    if form == "regex":
        return [_field(source.get("level", "level"), form)]
    if form == "logfmt" or source.get("level"):
        return [_field(name, form) for name in _level_names(source)]
    # One of the usual names is spelt with a dot: as one name, or as a field of a field.
    return [*(_nested([name]) for name in _level_names(source)), _field("log.level", form)]


def _pair(field: str) -> str:
    """The name under which a pair is kept; a field's own may have any characters."""
    return "pair_" + re.sub(r"\W", lambda found: f"_{ord(found.group())}_", field)


def _pair_expression(field: str) -> str:
    return rf'(?:^|\s){re.escape(field)}=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]+))'


def _contains(field: str) -> str:
    return f"body contains {json.dumps(field + '=')}"


def _field(field: str, form: str) -> str:
    """Return the expression that reads a field of a line, nil where there is none."""
    if form == "logfmt":
        pair = f"{_WORK}.{_pair(field)}"
        return f'({pair} == nil ? nil : {pair}.bare != "" ? {pair}.bare : {pair}.quoted)'
    if form == "regex":
        return f"({_WORK}.fields ?? {{}})[{json.dumps(field)}]"
    return _nested(field.split("."))


def _nested(names: list[str]) -> str:
    read = f"{_WORK}.fields"
    for name in names:
        # What is no object has no field: get() would refuse it.
        read = f'(type({read}) == "map" ? {read}[{json.dumps(name)}] : nil)'
    return read


def _first(values: list[str]) -> str:
    return f"find([{', '.join(values)}], # not in [{_NOTHING}])"


def _level(source: sources_.Source) -> str:
    words = sources_.level_words(source.get("levels", {}))
    known = {word: level for level, spelt in words.items() for word in spelt}
    return f"get({json.dumps(known, ensure_ascii=False)}, lower(string({_WORK}.said)))"


def _time(source: sources_.Source, form: str, location: str) -> list[Operator]:
    """The line's own time. Without one it stands at the time of reading."""
    timestamp = source.get("timestamp")
    given = timestamp if isinstance(timestamp, dict) else {}
    operators = []
    if form == "text":
        operators.append(_parser("regex_parser", f"{_WORK}.head", regex=sources_.TEXT_TIME))
        read = f"{_WORK}.head?.timestamp"
    elif form == "regex":
        read = _field(sources_.time_field(source) or "timestamp", form)
    else:
        read = _first([_field(name, form) for name in _time_names(source)])
    number, epoch = _EPOCHS.get(given.get("format", ""), ("", ""))
    if epoch:
        operators.append(_value(f"{_WORK}.time", f"{number}({read})", when=f"({read}) != nil"))
        layouts = [{"layout_type": "epoch", "layout": epoch}]
    else:
        operators.append(_value(f"{_WORK}.time", read))
        formats = [given["format"]] if given else list(sources_.TIME_FORMATS)
        place = given.get("location", location)
        layouts = [{"layout_type": "gotime", "layout": _LAYOUTS.get(one, one), "location": place} for one in formats]
    # The first that fits; the others are not tried.
    when = f"{_WORK}.time != nil and timestamp.IsZero()"
    return operators + [
        {"type": "time_parser", "parse_from": f"{_WORK}.time", **layout, "if": when, "on_error": "send_quiet"}
        for layout in layouts
    ]


def _parser(kind: str, target: str, when: str = "", **settings: t.Any) -> Operator:
    condition = {"if": when} if when else {}
    return {
        "type": kind,
        "parse_from": "body",
        "parse_to": target,
        **settings,
        **condition,
        # A line that does not fit is sent as it is, and is nothing to report.
        "on_error": "send_quiet",
    }


def _value(target: str, expression: str, when: str = "") -> Operator:
    condition = {"if": when} if when else {}
    return {"type": "add", "field": target, "value": f"EXPR({expression})", **condition, "on_error": "send_quiet"}


def _move(origin: str, target: str, when: str = "") -> Operator:
    condition = {"if": when} if when else {}
    return {"type": "move", "from": origin, "to": target, **condition, "on_error": "send_quiet"}
