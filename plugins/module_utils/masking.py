# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values that sound like secrets, hidden in what is shown of a configuration.

A secret belongs into a file of its own, which is never shown. This is for those that somebody wrote into a
configuration all the same. It goes by the name before the value, in YAML, INI, JSON and the arguments of a program.
"""

from __future__ import annotations

import re

HIDDEN = "(hidden)"

_WORDS = (
    r"passw(?:or)?d|passphrase|secret|token|credentials?|authorization|(?:api|webhook)[_-]?url"
    r"|(?:access|api|encryption|integration|license|private|routing|secret|service|signing)[_-]?key"
)
_HINT = re.compile(rf"(?:{_WORDS})[\"']?\s*[:=]|://[^/\s]*:[^/\s]*@", re.IGNORECASE)
_KEY = rf"[\"']?[\w.-]*(?:{_WORDS})[\"']?\s*[:=]\s*"
# One key and the rest of its line: a value in YAML or INI may have commas and blanks in it.
_LINE = re.compile(rf"(?P<indent>[\s-]*)(?P<key>{_KEY})(?P<value>\S.*)", re.IGNORECASE)
_INLINE = re.compile(rf"({_KEY})(\$\w*\{{[^}}]*\}}|\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,'\"{{}}\[\])&;]+)", re.IGNORECASE)
_USER = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
# What only says where a secret is, or that there is none.
_REFERENCE = re.compile(r"[\"']?(\$\w*[{(].*|true|false|null|none|~|)[\"']?,?$", re.IGNORECASE)


def mask(text: str) -> str:
    """Return a text with the values hidden that stand behind a name like password, secret, token or credentials.

    >>> mask("smtp:\\n  user: me\\n  password: hunter2")
    'smtp:\\n  user: me\\n  password: (hidden)'
    """
    if not _HINT.search(text):
        return text
    shown: list[str] = []
    # Where a hidden value may go on over the next lines: those that are indented further than its key.
    hidden_below: int | None = None
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip())
        if hidden_below is not None and (depth > hidden_below or not line.strip()):
            if line.strip():
                shown.append(" " * depth + HIDDEN)
            else:
                shown.append(line)
            continue
        hidden_below = None
        match = _LINE.fullmatch(line)
        if match and match["value"][0] not in "{[" and not _REFERENCE.match(match["value"]):
            shown.append(f"{match['indent']}{match['key']}{HIDDEN}" + ("," if line.endswith('",') else ""))
            hidden_below = len(match["indent"])
        else:
            shown.append(_USER.sub(rf"\1{HIDDEN}@", _INLINE.sub(_hide, line)))
    return "\n".join(shown)


def _hide(match: re.Match[str]) -> str:
    return match[0] if _REFERENCE.match(match[2]) else match[1] + HIDDEN
