# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The variables of a role held against its argument specification, before anything is touched.

Ansible's own check knows types and choices. It does not know a variable that nobody reads (C(prometheus_prot)),
a port that does not exist or a size that is none, so this one adds those, and reports all at once.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import typing as t

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import trust_as_template

Spec = dict[str, dict[str, t.Any]]

_DURATION = re.compile(r"^(\d+(ms|s|m|h|d|w|y))+$")
_SIZE = re.compile(r"^\d+(\.\d+)?\s*([kmgt]i?b?|b)?$", re.IGNORECASE)

# Words of the longest prefix, mongodb_exporter written as mongo_db_exporter; and the lengths that _slip() goes by.
_PREFIX_WORDS, _SHORT_WORD, _LONG_WORD = 3, 5, 7


class _Kind(t.NamedTuple):
    """What the ending of a variable's name promises about its value."""

    holds: t.Callable[[t.Any], bool]
    meaning: str


# "More than n" is asked of what Prometheus extrapolates, by half a step: beyond 10 that would be less than its error.
_small_count = _Kind(
    lambda value: 0 <= float(value) <= 10 and float(value).is_integer(), "a count is a whole number from 0 to 10 here"
)

_KINDS: dict[str, _Kind] = {
    "_port": _Kind(lambda value: 1 <= int(value) <= 65535, "a port is a number from 1 to 65535"),
    "_memory": _Kind(lambda value: bool(_SIZE.match(str(value))), "a size is written like 512m or 2g"),
    "_retention_size": _Kind(
        lambda value: bool(re.match(r"^\d+([KMGTPE]i?)?B$", str(value))),
        "Prometheus writes this size like 512MB or 50GB",
    ),
    "_size": _Kind(lambda value: bool(_SIZE.match(str(value))), "a size is written like 512MB or 50GB"),
    "_interval": _Kind(lambda value: bool(_DURATION.match(str(value))), "a duration is written like 15s or 5m"),
    "_retention_time": _Kind(lambda value: bool(_DURATION.match(str(value))), "a duration is written like 30d"),
    # The order matters: the first ending that fits is taken.
    "_objective_percent": _Kind(
        lambda value: 0 < float(value) < 100,
        "an objective is more than 0 and less than 100 percent: 100 allows no failure",
    ),
    "_percent": _Kind(lambda value: 0 < float(value) <= 100, "a share in percent is more than 0 and at most 100"),
    "_ratio": _Kind(lambda value: 0 <= float(value) <= 1, "a ratio is a number from 0 to 1"),
    "_seconds": _Kind(lambda value: 0 < float(value) < 1e10, "a number of seconds is more than 0"),
    "_days": _Kind(lambda value: 0 < float(value) < 1e5, "a number of days is more than 0"),
    "_restarts_count": _small_count,
    "_failures_count": _small_count,
    "_count": _Kind(
        lambda value: float(value) >= 0 and float(value).is_integer(), "a count is a whole number from 0 on"
    ),
    "_cpus": _Kind(lambda value: float(value) >= 0, "a number of processors is 0 (no limit) or more"),
    "_user": _Kind(
        lambda value: bool(re.match(r"^\d+:\d+$", str(value))), "a user is written as two numbers, like 472:472"
    ),
    **dict.fromkeys(
        ("_config_dir", "_data_dir", "_textfile_dir"),
        _Kind(lambda value: str(value).startswith("/"), "a directory on the host is an absolute path"),
    ),
    "_uri": _Kind(
        lambda value: not re.search(r"//[^/@]*:[^/@]*@", str(value)),
        "a password in it would show in the list of processes",
    ),
    "_version": _Kind(
        lambda value: bool(str(value)) and str(value) != "latest",
        "a version is pinned: latest would change under your feet",
    ),
}


@functools.cache
def specification(role_path: str) -> Spec:
    """Return all options of a role, whatever their entry point."""
    entries = _load(os.path.join(role_path, "meta", "argument_specs.yml"))["argument_specs"]
    return {name: spec for entry in entries.values() for name, spec in (entry.get("options") or {}).items()}


@functools.cache
def defaults(role_path: str) -> dict[str, t.Any]:
    """Return a role's defaults as they are written, Jinja and all."""
    return _load(os.path.join(role_path, "defaults", "main.yml")) or {}


def around(role_path: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """Return what a role puts below the variables of the inventory, and above them: C(defaults/) and C(vars/).

    As they are written, for a templar to work them out. Ansible's own loading of a role takes a hundred times longer.
    """
    found = os.path.join(role_path, "vars")
    above: dict[str, t.Any] = {}
    for directory, _names, files in os.walk(found):
        for name in sorted(files):
            above |= _load(os.path.join(directory, name)) or {}
    return _trusted(defaults(role_path)), _trusted(above)


def task(path: str, module: str) -> dict[str, t.Any]:
    """Return the task of a file that uses a module, as it is written, for a templar to work out."""
    return t.cast("dict[str, t.Any]", _trusted(next(task for task in _load(path) if module in task)))


def _load(path: str) -> t.Any:
    with open(path) as reader:
        return yaml.load(reader, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _trusted(value: t.Any) -> t.Any:
    """Return a copy of what a file of this collection says, in which templates count as such."""
    if isinstance(value, dict):
        return {key: _trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) and "{" in value else value


def errors(spec: Spec, values: dict[str, t.Any]) -> list[str]:
    """Return one sentence for each value that a specification refuses.

    :param values: the variables that are set, templated.
    """
    found = []
    for name, option in sorted(spec.items()):
        if name not in values:
            if option.get("required"):
                found.append(f"{name} is not set: {_text(option)}")
            continue
        value = values[name]
        if value is None:
            found.append(f"{name} is set to nothing: give it a value, or leave its line out for the default")
            continue
        hidden = option.get("no_log") or name.endswith("_uri")
        shown = "the value (hidden)" if hidden else repr(value)
        result = ArgumentSpecValidator({name: option}).validate({name: value})
        if result.error_messages:
            reason = f"it must be of the type {option.get('type', 'str')}"
            if option.get("choices"):
                reason = "it must be one of " + ", ".join(map(str, option["choices"]))
            elif (option.get("options") or option.get("elements")) and not hidden:
                reason = "; ".join(result.error_messages)
            found.append(f"{name}: {shown} is refused: {reason}")
            continue
        if option.get("type") == "bool" and not isinstance(value, bool):
            # Jinja takes the text "false" for true.
            found.append(f"{name}: {shown} is a text; set it in a YAML file, an INI inventory cannot say true or false")
            continue
        kind = next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)
        # An empty value means "not set", but for a version.
        if kind and (value != "" or name.endswith("_version")) and not _holds(kind, value):
            found.append(f"{name}: {shown} is refused: {kind.meaning}")
    return found


def unknown(prefixes: dict[str, Spec], names: t.Iterable[str], foreign: t.Iterable[str] = ()) -> list[str]:
    """Return one sentence for each variable that carries a role's prefix and that the role does not know.

    :param prefixes: role name (or C(monitoring)) → its specification.
    :param foreign: prefixes of other roles that begin with one of these.
    """
    found = []
    for prefix, spec in prefixes.items():
        others = tuple(f"{other}_" for other in foreign if other != prefix and other.startswith(prefix + "_"))
        for name in sorted(names):
            if not name.startswith(prefix + "_") or name in spec or (others and name.startswith(others)):
                continue
            near = difflib.get_close_matches(name, spec, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"the role's variables are in roles/{prefix}/defaults"
            found.append(f"{name} is not a variable of this collection: {hint}")
    return found


def misspelt(roles: dict[str, str], names: t.Iterable[str], shared: t.Collection[str] = ()) -> list[str]:
    """Return one sentence for each variable whose prefix is nearly a role's: without that prefix nobody reads it.

    A user's own variable may well resemble a role's name. So it counts only where the rest of it, behind the role's
    prefix, is a variable that there really is.

    :param roles: prefix (a role's name, or C(monitoring)) → the role's path.
    :param shared: prefixes that roles of others have too (C(docker)): whatever begins so and is not nearly one of ours
      is theirs.
    """
    found = []
    known = tuple(f"{prefix}_" for prefix in roles if prefix not in shared)
    ours = {variable for prefix in shared for variable in specification(roles[prefix])}
    for name in sorted(names):
        if name.startswith(known) or name in ours:
            continue
        words = name.split("_")
        heads = ["_".join(words[:count]) for count in range(1, min(len(words), _PREFIX_WORDS + 1))]
        meant = [variable for variable in sorted(ours) if _one_slip(name, variable)]
        meant += [
            prefix + name[len(head) :]
            for head in heads
            for prefix, path in roles.items()
            if _slip(head, prefix) and prefix + name[len(head) :] in specification(path)
        ]
        if meant:
            found.append(f"{name} is not a variable of this collection: did you mean {meant[0]}?")
    return found


def size(text: t.Any) -> int:
    """Return the bytes of a size like C(512m) or C(2g); the units are powers of 1024.

    >>> size("512m")
    536870912
    """
    value = str(text).strip().lower().rstrip("b").rstrip("i")
    factors = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    if value and value[-1] in factors:
        return int(float(value[:-1]) * factors[value[-1]])
    return int(float(value or 0))


def _slip(written: str, meant: str) -> bool:
    """Whether one word is the other one with a slip of the fingers: one in a short word, two in a long one.

    The first letter is rarely wrong. In a short word no letter stands for another: C(allow) is not C(alloy).
    """
    most = 2 if len(meant) >= _LONG_WORD else 1
    if written[:1] != meant[:1] or abs(len(written) - len(meant)) > most:
        return False
    if len(meant) <= _SHORT_WORD and len(written) == len(meant):
        return sorted(written) == sorted(meant) and sum(a != b for a, b in zip(written, meant, strict=True)) == 2
    return _distance(written, meant) <= most


def _one_slip(written: str, meant: str) -> bool:
    return abs(len(written) - len(meant)) <= 1 and _distance(written, meant) == 1


def _distance(one: str, other: str) -> int:
    """Return how many letters were added, left out, replaced or exchanged with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]


def _holds(kind: _Kind, value: t.Any) -> bool:
    try:
        return kind.holds(value)
    except (TypeError, ValueError):
        return False


def _text(option: dict[str, t.Any]) -> str:
    description = option.get("description", "")
    return description if isinstance(description, str) else " ".join(description)
