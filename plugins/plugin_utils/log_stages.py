# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a collector would refuse, said by the source's name before anything else is done.

C(promtail -check-syntax) reads the YAML and no stage; the check of the new configuration makes them all, but knows no
names of sources, and Alloy's was not run. Here are the settings of each stage, and Go's expressions, templates,
JMESPath and selectors, as far as they can be checked without Go.
"""

from __future__ import annotations

import re
import typing as t
import warnings

Settings = t.Any


class Spec(t.NamedTuple):
    """The settings of a stage by type, and those that it cannot do without."""

    keys: dict[str, t.Any]
    required: tuple[str, ...] = ()


_NUMBER = (int, float)
# What both Promtail and Alloy know. No `metrics`: those of a stage are counted by Loki's own queries as well.
SPECS = {
    "json": Spec({"expressions": dict, "source": str, "drop_malformed": bool}, ("expressions",)),
    "logfmt": Spec({"mapping": dict, "source": str}, ("mapping",)),
    "regex": Spec({"expression": str, "source": str}, ("expression",)),
    "replace": Spec({"expression": str, "source": str, "replace": str}, ("expression",)),
    "template": Spec({"source": str, "template": str}, ("source", "template")),
    "timestamp": Spec(
        {"source": str, "format": str, "fallback_formats": list, "location": str, "action_on_failure": str},
        ("source", "format"),
    ),
    "output": Spec({"source": str}, ("source",)),
    "multiline": Spec({"firstline": str, "max_wait_time": str, "max_lines": int}, ("firstline",)),
    "match": Spec(
        {"selector": str, "stages": list, "action": str, "pipeline_name": str, "drop_counter_reason": str},
        ("selector",),
    ),
    "drop": Spec(
        {"source": (str, list), "separator": str, "expression": str, "value": str, "older_than": str}
        | {"longer_than": str, "drop_counter_reason": str}
    ),
    "limit": Spec(
        {"rate": _NUMBER, "burst": int, "drop": bool, "by_label_name": str, "max_distinct_labels": int},
        ("rate", "burst"),
    ),
    "sampling": Spec({"rate": _NUMBER, "drop_counter_reason": str}, ("rate",)),
    "decolorize": Spec({}),
    "docker": Spec({}),
    "cri": Spec({"max_partial_lines": int, "max_partial_line_size": int, "max_partial_line_size_truncate": bool}),
    "pack": Spec({"labels": list, "ingest_timestamp": bool}, ("labels",)),
    "tenant": Spec({"label": str, "source": str, "value": str}),
}
# Names to fields.
MAPS = ("labels", "static_labels", "structured_metadata")
# Names.
LISTS = ("labeldrop", "labelallow")
STAGES = frozenset((*SPECS, *MAPS, *LISTS))

_DURATION = re.compile(r"^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$")
_SIZE = re.compile(r"^\d+(B|KB|MB|GB)$", re.IGNORECASE)


def problems(name: str, settings: Settings) -> list[str]:
    """Return what is wrong with the settings of a stage; a stage inside it is the caller's to check."""
    if name not in STAGES:
        return [f"{name} is not known; there are {', '.join(sorted(STAGES))}"]
    if not isinstance(settings, list if name in LISTS else dict):
        return [f"the settings of {name}, {settings!r}, are broken"]
    if name in MAPS or name in LISTS:
        return [f"{name}: {what}" for what in (_named(settings) if settings else ["it names none"])]
    spec = SPECS[name]
    found = [
        f"{key} is not known; there are {', '.join(spec.keys) or 'no settings'}"
        for key in settings
        if key not in spec.keys
    ]
    # A mere true is a number to Python.
    found += [
        f"{key}: {settings[key]!r} is of the wrong type"
        for key, kind in spec.keys.items()
        if key in settings
        and (not isinstance(settings[key], kind) or (isinstance(settings[key], bool) and kind is not bool))
    ]
    found += [f"it has no {key}" for key in spec.required if settings.get(key) in (None, "", {}, [])]
    for key in ("expressions", "mapping", "labels", "fallback_formats"):
        found += [] if found else _named(settings.get(key, []))
    found = found or _CHECKS.get(name, lambda _: [])(settings) + _texts(settings, name)
    return [f"{name}: {what}" for what in found]


def _named(names: list[t.Any] | dict[str, t.Any]) -> list[str]:
    """Names, or names and fields; a field may be left out where it is named alike."""
    empty = (str, type(None)) if isinstance(names, dict) else str
    values = names.values() if isinstance(names, dict) else names
    return [f"{value!r} is no text" for value in values if not isinstance(value, empty)]


def _texts(settings: Settings, name: str) -> list[str]:
    """What is written in a language of its own."""
    found = []
    for key in ("expression", "firstline"):
        if key in settings:
            found += [what for what in (expression(settings[key]),) if what]
    for key in ("template", "replace") if name in ("template", "replace") else ():
        if key in settings:
            found += [what for what in (template(settings[key]),) if what]
    for key in ("older_than", "max_wait_time"):
        if key in settings and not _DURATION.match(settings[key]):
            found.append(f"{key}: {settings[key]!r} is no duration, like 90s or 24h")
    if "longer_than" in settings and not _SIZE.match(settings["longer_than"]):
        found.append(f"longer_than: {settings['longer_than']!r} is no size, like 8KB")
    if "source" in settings and settings["source"] in ("", []):
        found.append("source: it names none")
    if isinstance(settings.get("source"), list):
        found += _named(settings["source"])
    return found


def _drop(settings: Settings) -> list[str]:
    conditions = ("source", "expression", "older_than", "longer_than")
    if not any(key in settings for key in conditions):
        return [f"it would drop nothing or everything; say one of {', '.join(conditions)}"]
    if "value" in settings and ("source" not in settings or "expression" in settings):
        return ["value: it goes with source, and without expression"]
    return []


def _match(settings: Settings) -> list[str]:
    found = [what for what in (selector(settings["selector"]),) if what]
    action, inner = settings.get("action", "keep"), settings.get("stages", [])
    if action not in ("keep", "drop"):
        found.append(f"action: {action!r} is refused; it is keep or drop")
    elif (action == "keep") != bool(inner):
        found.append("it has stages where it keeps lines, and none where it drops them")
    return found


def _timestamp(settings: Settings) -> list[str]:
    action = settings.get("action_on_failure", "fudge")
    return [] if action in ("fudge", "skip") else [f"action_on_failure: {action!r} is refused; it is fudge or skip"]


def _limit(settings: Settings) -> list[str]:
    if settings["rate"] <= 0 or settings["burst"] <= 0:
        return ["rate and burst are above 0"]
    return (
        ["by_label_name: it goes with drop: true"] if "by_label_name" in settings and not settings.get("drop") else []
    )


def _sampling(settings: Settings) -> list[str]:
    return [] if 0 <= settings["rate"] <= 1 else [f"rate: {settings['rate']!r} is refused; it is 0 to 1"]


def _tenant(settings: Settings) -> list[str]:
    return [] if len(settings) == 1 else ["it has one of label, source and value"]


def _json(settings: Settings) -> list[str]:
    fields = {name: field or name for name, field in settings["expressions"].items()}
    return [what for what in (jmespath(str(field)) for field in fields.values()) if what]


_CHECKS: dict[str, t.Callable[[Settings], list[str]]] = {
    "drop": _drop,
    "match": _match,
    "timestamp": _timestamp,
    "limit": _limit,
    "sampling": _sampling,
    "tenant": _tenant,
    "json": _json,
}

# Go's expressions (RE2), in pieces.
_PIECE = re.compile(
    r"(?P<literal>\\Q.*?(?:\\E|\Z))"
    r"|(?P<escape>\\x\{[0-9a-fA-F]+\}|\\[pP](?:\{\^?\w+\}|\w)|\\[0-7]{2,3}|\\.)"
    r"|(?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])"
    r"|(?P<group>\(\?(?:P?<(?![=!])\w+>|P=\w+\)|<?[=!]|>|\(|#|[a-zA-Z^-]*[:)])?)"
    r"|(?P<possessive>(?:[*+?]|\{\d+(?:,\d*)?\})\+)"
    r"|(?P<count>\{\d+(?:,\d*)?\})"
    r"|(?P<other>.)",
    re.DOTALL,
)
_IN_SET = (
    (re.compile(r"\[:\^?\w+:\]|\\[pP](?:\{\^?\w+\}|\w)"), r"\\w"),
    (re.compile(r"\\x\{[0-9a-fA-F]+\}"), "x"),
    (re.compile(r"(?<!^)\["), r"\\["),
)
_LACKING = {
    "(?=": "looks ahead or behind",
    "(?!": "looks ahead or behind",
    "(?<=": "looks ahead or behind",
    "(?<!": "looks ahead or behind",
    "(?>": "has an atomic group",
    "(?(": "has a condition",
    "(?#": "has a comment",
}
_MOST_REPEATS = 1000


def expression(text: t.Any) -> str:
    """Return what is wrong with an expression of Go's (RE2), as far as Python's can tell, or C("")."""
    python = ""
    for match in _PIECE.finditer(str(text)):
        kind, piece = t.cast("str", match.lastgroup), match.group()
        lacking, translated = _PIECES.get(kind, lambda piece: ("", piece))(piece)
        if lacking:
            return f"{text!r} {lacking}, which these expressions (RE2) cannot"
        python += translated
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(python)
    except (re.error, OverflowError) as error:
        return f"{text!r} is no expression: {error}"
    return ""


def _escape(piece: str) -> tuple[str, str]:
    letter = piece[1]
    if len(piece) == 2 and (letter in "123456789" or letter == "k"):
        return "refers back to a group", ""
    if letter in "pP":
        return "", r"\w"
    if letter == "z":
        return "", r"\Z"
    if letter in "01234567" or piece.startswith(r"\x{"):
        return "", "x"
    if letter.isascii() and letter.isalpha() and letter not in "abfnrtvxdDsSwWBA":
        return f"has the escape {piece}", ""
    return "", piece


def _set(piece: str) -> tuple[str, str]:
    if re.search(r"(?<!\\)(?:\\\\)*\\[1-9](?![0-7])", piece):
        return "refers back to a group", ""
    for found, instead in _IN_SET:
        piece = found.sub(instead, piece)
    return "", piece


def _group(piece: str) -> tuple[str, str]:
    if piece in _LACKING:
        return _LACKING[piece], ""
    if piece.startswith("(?P="):
        return "refers back to a group", ""
    if piece.endswith(">"):
        # Go takes two groups of one name, too.
        return "", "("
    flags = piece[2:-1]
    if piece[-1] in ":)" and len(piece) > 2:
        if set(flags) - set("imsU-"):
            return f"has the flags {piece}", ""
        # An expression of its own meaning to Go wherever it stands; to Python only at the start.
        return "", "(?:" if piece[-1] == ":" else ""
    return "", piece


def _count(piece: str) -> tuple[str, str]:
    if any(int(number) > _MOST_REPEATS for number in re.findall(r"\d+", piece)):
        return f"repeats more than {_MOST_REPEATS} times", ""
    return "", piece


_PIECES: dict[str, t.Callable[[str], tuple[str, str]]] = {
    "literal": lambda _: ("", "x"),
    "escape": _escape,
    "set": _set,
    "group": _group,
    "possessive": lambda _: ("has a possessive repetition", ""),
    "count": _count,
}

_QUOTED = r'"(?:\\.|[^"\\\n])*"|`[^`]*`|' + r"'(?:\\.|[^'\\\n])*'"
_ACTION = re.compile(r"\{\{(?:-\s)?((?:/\*.*?\*/|" + _QUOTED + r"|(?!\}\})[^\"'`])*?)(?:\s-)?\}\}", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def template(text: t.Any) -> str:
    """Return what is wrong with a template of Go's, as far as can be told without its functions, or C("")."""
    said, open_blocks = str(text), []
    if "{{" in _ACTION.sub("", said):
        return f"{text!r} is no template: it has {{{{ without }}}}"
    for action in _ACTION.findall(said):
        bare = re.sub(r"/\*.*?\*/|" + _QUOTED, " x ", action, flags=re.DOTALL)
        if re.search(r"[\"'`{}\[\]]", bare) or _unbalanced(bare):
            return f"{text!r} is no template: {{{{{action}}}}} is broken"
        words = bare.split()
        word = words[0] if words else ""
        if not word or (word in ("if", "range", "with", "block", "define") and len(words) == 1):
            return f"{text!r} is no template: {{{{{action}}}}} says nothing"
        if word in ("if", "range", "with", "block", "define"):
            open_blocks.append(word)
        elif word in ("end", "else"):
            if not open_blocks:
                return f"{text!r} is no template: {{{{{action}}}}} ends nothing"
            if word == "end":
                open_blocks.pop()
    return f"{text!r} is no template: {open_blocks[-1]} has no end" if open_blocks else ""


def jmespath(text: str) -> str:
    """Return what is wrong with an expression of JMESPath, as far as its signs tell, or C("")."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`|' + r"'(?:\\.|[^'\\])*'", "x", text).strip()
    if re.search(r"[\"'`]", bare):
        return f"{text!r} is no expression (JMESPath): a quote is not closed"
    if _unbalanced(bare):
        return f"{text!r} is no expression (JMESPath): its brackets do not match"
    if not bare or re.search(r"^[.|&)\]]|[.|&(\[,]\s*$|[.,]\s*[.,|)\]]|\(\s*,", bare):
        return f"{text!r} is no expression (JMESPath): something is missing beside a sign"
    inner = r"\[[^\[\]]*\]|\{[^{}]*\}|\([^()]*\)"
    outside = bare
    while re.search(inner, outside):
        outside = re.sub(inner, "", outside)
    if "," in outside:
        return f"{text!r} is no expression (JMESPath): it is two of them"
    if re.search(r"\w\s+\w|@\w|\w-|[^\w\s.\[\]{}()*@|&<>=!?,:-]", bare):
        return f"{text!r} is no expression (JMESPath); a name with other signs than letters, numbers and _ is quoted"
    return ""


_STRING = r'(?:"(?:\\.|[^"\\\n])*"|`[^`]*`)'
_MATCHER = rf"[a-zA-Z_]\w*\s*(?:=~|!~|!=|=)\s*{_STRING}"
_SELECTOR = re.compile(
    rf"^\s*\{{\s*(?:{_MATCHER}(?:\s*,\s*{_MATCHER})*)?\s*\}}(?:\s*(?:\|=|\|~|!=|!~)\s*{_STRING})*\s*$"
)


def selector(text: str) -> str:
    """Return what is wrong with a stage's selector: labels, and filters of the line; or C("")."""
    return "" if _SELECTOR.match(text) else f'{text!r} is no selector, like {{job="shop"}} |= "text"'


def _unbalanced(text: str) -> bool:
    opened: list[str] = []
    for sign in text:
        if sign in _PAIRS.values():
            opened.append(sign)
        elif sign in _PAIRS and (not opened or opened.pop() != _PAIRS[sign]):
            return True
    return bool(opened)
