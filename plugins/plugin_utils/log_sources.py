# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Log sources: what C(monitoring_log_sources) says, checked, and turned into one pipeline for every collector.

A pipeline is a list of stages in Promtail's spelling. Alloy's is made from the very same list (C(alloy_syntax)), so
that both give a line the same labels, time and metadata.
"""

from __future__ import annotations

import re
import typing as t

from . import log_stages

Source = dict[str, t.Any]
Stage = dict[str, t.Any]

VARIABLES = ("monitoring_log_sources", "monitoring_log_extra_sources")
FORMATS = ("json", "logfmt", "text", "regex")
LEVELS = ("error", "warn", "info", "debug")
KINDS = ("path", "containers", "journal")
# Values of these have no end: each would be a stream of its own.
UNBOUNDED = frozenset(
    (
        *("deployment_id", "commit", "commit_sha", "sha", "port", "hostname", "container_id", "image_id", "id", "uuid"),
        *("request_id", "correlation_id", "trace_id", "span_id", "session_id", "transaction_id", "user_id", "user"),
        *("email", "ip", "remote_addr", "client_ip", "url", "uri", "query", "message", "msg", "line", "error"),
        *("timestamp", "time", "ts", "duration", "latency", "pid", "thread", "size", "bytes", "token"),
    )
)
# And of fields that are named so, in one word or several.
_UNBOUNDED_ENDS = re.compile(r"(?:^|_)(?:id|uuid|guid|sha|hash)$")
# Labels that the collection gives a line itself.
RESERVED = frozenset(("job", "host", "environment", "level", "filename", "container", "project", "branch"))

_KEYS = {
    "name": str,
    "path": (str, list),
    "exclude": str,
    "containers": (bool, str),
    "journal": (bool, str),
    "format": str,
    "expression": str,
    "timestamp": (str, dict),
    "level": str,
    "levels": dict,
    "labels": dict,
    "label_fields": list,
    "metadata": (list, dict),
    "multiline": (str, dict),
    "stages": list,
}
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
TIMESTAMP_FIELDS = ("timestamp", "time", "ts", "@timestamp")
LEVEL_FIELDS = (
    *("level", "severity", "lvl", "loglevel", "log_level", "levelname", "severity_text", "severityText", "@level"),
    # As the Elastic schema spells it: one name, or a field of a field.
    "log.level",
)
_WORDS = {
    "error": ("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic", "severe", "error", "err"),
    "warn": ("warning", "warn"),
    "info": ("notice", "informational", "information", "info"),
    "debug": ("debug", "trace", "verbose"),
}
# What programs write where only one letter or number is left: syslog's 0-7, pino's 10-60, glog's and MongoDB's letters;
# and .NET's words of four letters.
_SHORT = {
    "error": ("0", "1", "2", "3", "50", "60", "e", "f", "fail"),
    "warn": ("4", "40", "w"),
    "info": ("5", "6", "30", "i"),
    "debug": ("7", "10", "20", "d", "d1", "d2", "d3", "d4", "d5", "dbug", "trce"),
}
_ANY_WORD = "|".join(word for words in _WORDS.values() for word in words)
# A terminal's colour, before the word and behind it.
_COLOUR = r"\x1b\[[\d;]*m"
_COLOURS = rf"(?:{_COLOUR})*"
# ERROR something, [ERROR] something
_CAPITALS = rf"(?:^|[\s|\[(<]|{_COLOUR})(?P<level>{_ANY_WORD.upper()})(?:[\s|\])>:,]|{_COLOUR}|$)"
# Without a field the level is looked for in the text; the later expression wins, so the surest comes last.
_TEXT_LEVELS = (
    # error: something happened
    rf"(?:^|[\s\]:]|{_COLOUR})(?P<level>{_ANY_WORD}){_COLOURS}:(?:\s|$)",
    # .NET's console
    rf"^{_COLOURS}(?P<level>fail|dbug|trce){_COLOURS}: ",
    _CAPITALS,
    # [error] something, <error>; Apache's [core:error]
    rf"(?i)[\[<](?:\w+:)?{_COLOURS}(?P<level>{_ANY_WORD}){_COLOURS}[\]>]",
    # glog, then MongoDB
    r"^(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d",
    r'"s":"(?P<level>[FEWID]\d?)"',
    # level=error, "level":"error", "level":50, "log.level":"error", levelname=error
    rf"(?i)(?:^|[\s,{{\"'_.@]|{_COLOUR})(?:level(?:name)?|lvl|severity(?:_?text)?|loglevel)[\"']?{_COLOURS}\s*[=:]\s*"
    rf"{_COLOURS}[\"']?(?P<level>{_ANY_WORD}|[1-6]0)(?:[\"'\s,}}]|{_COLOUR}|$)",
)
TEXT_TIME = (
    r"^(?:\S+ )?(?P<timestamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)(?:\s|$)"
)
TIME_FORMATS = (
    *("2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999"),
    *("2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "Jan _2 15:04:05"),
)


def problems(sources: t.Any, extra: t.Any = ()) -> list[str]:
    """Return one sentence for each thing that is wrong with the sources.

    :param sources: the value of C(monitoring_log_sources).
    :param extra: the value of C(monitoring_log_extra_sources).
    """
    found: list[str] = []
    seen: dict[str, str] = {}
    for variable, entries in zip(VARIABLES, (sources, extra or []), strict=True):
        if not isinstance(entries, list):
            found.append(f"{variable} is no list of sources")
            continue
        for number, source in enumerate(entries, 1):
            if not isinstance(source, dict):
                found.append(f"{variable}: entry {number} ({source!r}) is no source; write {{name: …, path: …}}")
                continue
            name = source.get("name")
            if not isinstance(name, str) or not _NAME.match(name):
                found.append(
                    f"{variable}: entry {number} has the name {name!r}; it becomes the label job: small letters, "
                    "numbers, - and _"
                )
                continue
            if name in seen:
                found.append(f"{variable}: two sources are named {name}; the name is the label job, choose another")
            seen[name] = variable
            found += [f"{variable}: source {name}: {what}" for what in _problems(source)]
    return found


def _problems(source: Source) -> list[str]:
    found = [f"{key} is not known; there are {', '.join(_KEYS)}" for key in source if key not in _KEYS]
    for key, kind in _KEYS.items():
        if key in source and not isinstance(source[key], kind):
            found.append(f"{key}: {source[key]!r} is of the wrong type")
    if found:
        return found
    kinds = [kind for kind in KINDS if source.get(kind)]
    if not kinds:
        found.append("it has no path; say path, containers or journal")
    elif len(kinds) > 1:
        found.append(f"it has {' and '.join(kinds)}; a source is one of them")
    for path in paths(source):
        if not re.match(r"^/[^/*?\[{]+/", str(path)):
            found.append(f"path: {path!r} is no absolute path to files below a directory")
    found += _expression("containers", source.get("containers"))
    form = source.get("format", "text")
    if form not in FORMATS:
        found.append(f"format: {form!r} is refused; it is one of {', '.join(FORMATS)}")
    if (form == "regex") != bool(source.get("expression")):
        found.append("the format regex and an expression belong together")
    elif form == "regex" and "(?P<" not in str(source.get("expression")):
        found.append("expression: it names no field; write (?P<name>…)")
    found += _expression("expression", source.get("expression"))
    found += _field_problems(source)
    multiline = source.get("multiline")
    if multiline is not None:
        given = multiline if isinstance(multiline, dict) else {"firstline": multiline}
        found += log_stages.problems("multiline", given)
    metadata = source.get("metadata", [])
    made_of = {name: str(field) for name, field in metadata.items()} if isinstance(metadata, dict) else {}
    for stage in source.get("stages", []):
        found += [f"stages: {what}" for what in _stage_problems(stage, made_of)]
    return found


def _field_problems(source: Source) -> list[str]:
    found = []
    for label in source.get("labels", {}):
        found += [f"labels: {what}" for what in _label_problems(label)]
    for label in source.get("label_fields", []):
        found += [f"label_fields: {what}" for what in _label_problems(label) or _unbounded(label, label)]
    metadata = source.get("metadata", [])
    for name in metadata:
        if not _LABEL.match(str(name)):
            found.append(f"metadata: {name!r} is no name; letters, numbers and _")
    if metadata and source.get("format", "text") == "text":
        found.append("metadata: a text has no fields; use the format json, logfmt or regex")
    for word, level in source.get("levels", {}).items():
        if level not in LEVELS:
            found.append(f"levels: {word} becomes {level!r}; it is one of {', '.join(LEVELS)}")
    timestamp = source.get("timestamp")
    if isinstance(timestamp, dict) and not (
        set(timestamp) <= {"field", "format", "location"}
        and timestamp.get("format")
        and all(isinstance(value, str) for value in timestamp.values())
    ):
        found.append("timestamp: it is a field's name, or has field, format and location")
    if source.get("format") == "json":
        fields = metadata.values() if isinstance(metadata, dict) else metadata
        named = {"metadata": fields, "timestamp": [time_field(source)], "level": [source.get("level")]}
        for key, names in {**named, "label_fields": source.get("label_fields", [])}.items():
            said = [log_stages.jmespath(_quoted(str(name))) for name in names if name]
            found += [f"{key}: {what}" for what in said if what]
    return found


def _label_problems(label: t.Any) -> list[str]:
    if not _LABEL.match(str(label)) or str(label).startswith("__"):
        return [f"{label!r} is no name of a label; letters, numbers and _"]
    if str(label).lower() in UNBOUNDED:
        return [f"{label} has no bounded set of values, each would be a stream of its own; make it metadata"]
    if label in RESERVED:
        return [f"{label} is given by the collection; choose another name"]
    return []


def _unbounded(label: str, field: str) -> list[str]:
    """What a label is made of: orderId and order_id say by their names that there is no end of them."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field).lower()
    if words not in UNBOUNDED and not _UNBOUNDED_ENDS.search(words):
        return []
    which = field if field == label else f"{label} is made of {field}, which"
    return [f"{which} has no bounded set of values, each would be a stream of its own; make it metadata"]


def _expression(what: str, text: t.Any) -> list[str]:
    """Go's expressions, as far as Python's can tell; the collector's own check follows."""
    said = log_stages.expression(text) if isinstance(text, str) else ""
    return [f"{what}: {said}"] if said else []


def _stage_problems(stage: t.Any, made_of: dict[str, str]) -> list[str]:
    """What is wrong with a stage.

    :param made_of: the fields that names of former stages stand for; this one's are added.
    """
    if not isinstance(stage, dict) or len(stage) != 1:
        return [f"{stage!r} is broken; a stage is one name with its settings, like {{drop: {{…}}}}"]
    ((name, settings),) = stage.items()
    found = log_stages.problems(name, settings)
    if found:
        return found
    if name in ("json", "logfmt"):
        fields = settings["expressions" if name == "json" else "mapping"]
        # Of an expression, its last word.
        made_of.update({one: (re.findall(r"\w+", field or one) or [one])[-1] for one, field in fields.items()})
    if name in ("labels", "static_labels"):
        for label, value in settings.items():
            what = [] if label == "level" and name == "labels" else _label_problems(label)
            if name == "labels" and not what:
                field = str(value or label)
                what = _unbounded(label, field) or _unbounded(label, made_of.get(field, ""))
            found += [f"{name}: {one}" for one in what]
    for inner in settings.get("stages", []) if name == "match" else ():
        found += [f"{name}: {what}" for what in _stage_problems(inner, made_of)]
    return found


def paths(source: Source) -> list[str]:
    """Return a source's paths as a list."""
    value = source.get("path") or []
    return [value] if isinstance(value, str) else list(value)


def directories(sources: list[Source]) -> list[str]:
    """Return the directories that have to be mounted for the sources' files: /var/log, and the top ones of others.

    Those at the top exist on every host; a source's own directory may be made after the collector has started.
    """
    found = {"/var/log"}
    for path in (path for source in sources for path in paths(source)):
        if not path.startswith("/var/log/"):
            found.add("/" + path.split("/")[1])
    return sorted(found)


def kind(source: Source) -> str:
    """Return where a source's lines come from: C(path), C(containers) or C(journal)."""
    return next(kind for kind in KINDS if source.get(kind))


def containers(source: Source) -> str:
    """Return the expression for the names of a source's containers, C("") for all."""
    value = source["containers"]
    return "" if value is True or value == ".*" else str(value)


def others(source: Source, sources: list[Source]) -> list[str]:
    """Return the expressions of the containers that belong to other sources: each container is read once.

    Those that a source names are its own; what is left is that of the source of all containers.
    """
    if containers(source):
        before = sources[: [one["name"] for one in sources].index(source["name"])]
        return [containers(one) for one in before if one.get("containers") and containers(one)]
    return [containers(one) for one in sources if one.get("containers") and containers(one)]


def project_expression(projects: list[str]) -> str:
    """Return the expression that splits a container's name: known projects first, then up to the first dash."""
    known = "".join(f"{re.escape(project)}|" for project in sorted(projects, key=len, reverse=True))
    return f"({known}[^-]+)-(.+)-deploy"


def pipeline(source: Source, metrics: bool = True, location: str = "UTC") -> list[Stage]:
    """Return the stages of a source."""
    form = source.get("format", "text")
    stages: list[Stage] = []
    multiline = source.get("multiline")
    if multiline:
        given = multiline if isinstance(multiline, dict) else {"firstline": multiline}
        stages.append({"multiline": {"max_wait_time": "3s", "max_lines": 128, **given}})
    stages += [{"regex": {"expression": expression}} for expression in level_expressions(source)]
    stages += _fields(source, form)
    stages += _time(source, form, location)
    stages.append({"template": {"source": "level", "template": level_template(source.get("levels", {}))}})
    labels = {"level": "level", **{name: name for name in source.get("label_fields", [])}}
    stages.append({"labels": labels})
    if source.get("labels"):
        stages.append({"static_labels": {name: str(value) for name, value in source["labels"].items()}})
    metadata = list(source.get("metadata", []))
    if kind(source) == "journal":
        # A label until here, because relabelling knows nothing else; there are too many units for that.
        stages.append({"labeldrop": ["unit"]})
        metadata.append("unit")
    if metadata:
        stages.append({"structured_metadata": {name: name for name in metadata}})
    stages += source.get("stages", [])
    if any(map(_finds_level, source.get("stages", []))):
        # What the user's own stages have found stands above what was found before them, in any spelling.
        stages.append({"template": {"source": "level", "template": level_template(source.get("levels", {}))}})
        stages.append({"labels": {"level": "level"}})
    if metrics:
        stages.append({"metrics": {"log_lines_total": METRIC}})
    return stages


# Lines by all labels of their stream.
METRIC = {
    "type": "Counter",
    "description": "Log lines that were read, by the labels of their stream",
    "prefix": "monitoring_",
    "max_idle_duration": "24h",
    "config": {"match_all": True, "action": "inc"},
}


def _finds_level(stage: Stage) -> bool:
    """Whether a stage puts something under the name level."""
    ((name, settings),) = stage.items()
    if name in ("regex", "replace"):
        return bool(re.search(r"\(\?P?<level>", settings["expression"]))
    if name == "match":
        return any(map(_finds_level, settings.get("stages", [])))
    found = (
        {"json": settings.get("expressions", {}), "logfmt": settings.get("mapping", {})}
        if name in ("json", "logfmt")
        else {}
    )
    return "level" in found.get(name, {}) or (name == "template" and settings["source"] == "level")


def _fields(source: Source, form: str) -> list[Stage]:
    if form == "regex":
        return [{"regex": {"expression": source["expression"]}}, _chosen("level", [source.get("level", "level")])]
    if form not in ("json", "logfmt"):
        return []
    metadata = source.get("metadata", [])
    names = metadata if isinstance(metadata, dict) else {name: name for name in metadata}
    names = {**{name: name for name in source.get("label_fields", [])}, **names}
    level = [source["level"]] if source.get("level") else list(LEVEL_FIELDS)
    nested = "" if source.get("level") else " || log.level"
    time = [time_field(source)] if time_field(source) else list(TIMESTAMP_FIELDS)
    if form == "json":
        # A name of its own: what the text showed stays where the field is missing.
        expressions = {name: _quoted(field) for name, field in names.items()}
        chosen = [f'"{name}"' for name in level] if nested else [_quoted(source["level"])]
        expressions["level_field"] = " || ".join(chosen) + nested
        expressions["timestamp"] = " || ".join(map(_quoted, time))
        return [{"json": {"expressions": expressions}}, _chosen("level", ["level_field"])]
    mapping = {**names, **{f"level_{n}": field for n, field in enumerate(level)}}
    mapping |= {f"time_{n}": field for n, field in enumerate(time)}
    return [
        {"logfmt": {"mapping": mapping}},
        _chosen("level", [f"level_{n}" for n in range(len(level))]),
        _chosen("timestamp", [f"time_{n}" for n in range(len(time))]),
    ]


def _quoted(field: str) -> str:
    """A field's name for JMESPath; what is an expression already stays one."""
    return field if re.search(r'["\'(|&\[.]', field) else f'"{field}"'


def _chosen(target: str, candidates: list[str]) -> Stage:
    """A stage that takes the first value that there is."""
    text = "".join(f"{{{{ {'else ' if n else ''}if .{name} }}}}{{{{ .{name} }}}}" for n, name in enumerate(candidates))
    return {"template": {"source": target, "template": text + "{{ else }}{{ .Value }}{{ end }}"}}


def time_field(source: Source) -> str:
    """Return the field that a source names for its time, C("") for the usual ones."""
    timestamp = source.get("timestamp", "")
    return str(timestamp.get("field", "")) if isinstance(timestamp, dict) else timestamp


def _time(source: Source, form: str, location: str) -> list[Stage]:
    """The line's own time; the engine and the journal know it already."""
    timestamp = source.get("timestamp")
    if kind(source) != "path" and not timestamp:
        return []
    stages: list[Stage] = []
    field = "timestamp"
    if form == "text":
        stages.append({"regex": {"expression": TEXT_TIME}})
    elif form == "regex":
        field = time_field(source) or "timestamp"
    formats = [timestamp["format"]] if isinstance(timestamp, dict) else list(TIME_FORMATS)
    settings: dict[str, t.Any] = {"source": field, "format": formats[0]}
    if formats[1:]:
        settings["fallback_formats"] = formats[1:]
    zone = timestamp.get("location", location) if isinstance(timestamp, dict) else location
    if zone != "UTC":
        settings["location"] = zone
    # A line without a time stands beside its neighbour in a file of records; in a text the moment of reading is nearer.
    settings["action_on_failure"] = "skip" if form == "text" else "fudge"
    stages.append({"timestamp": settings})
    return stages


def level_expressions(source: Source) -> list[str]:
    """Return the expressions that find a level in a line's text; a later one that matches wins."""
    if kind(source) == "journal":
        # The priority is the level, which relabelling has put there.
        return []
    own = "|".join(re.escape(str(word)) for word in source.get("levels", {}))
    extra = [rf"(?:^|[\s|\[(<]|{_COLOUR})(?P<level>{own})(?:[\s|\])>:,]|{_COLOUR}|$)"] if own else []
    # Records say their level in a field. Only what is none, like a stack trace among them, is looked at so.
    known = _TEXT_LEVELS if source.get("format", "text") == "text" else (_CAPITALS,)
    return [*known, *extra]


def level_words(levels: dict[str, str]) -> dict[str, list[str]]:
    """Return the spellings of each of the four levels, in small letters; own words before the known ones."""
    words: dict[str, list[str]] = {level: [*_WORDS[level], *_SHORT[level]] for level in LEVELS}
    own = {str(word).lower(): level for word, level in levels.items()}
    for level in LEVELS:
        words[level] = [word for word in words[level] if word not in own]
        words[level] += [word for word, its in own.items() if its == level]
    return words


def level_template(levels: dict[str, str]) -> str:
    """Return the template that brings every spelling of a level to one of four, and drops what is none."""
    words = level_words(levels)
    text = "{{ $level := ToLower .Value }}"
    for number, level in enumerate(LEVELS):
        listed = " ".join(f'"{word}"' for word in words[level])
        text += f"{{{{ {'else ' if number else ''}if eq $level {listed} }}}}{level}"
    return text + "{{ end }}"
