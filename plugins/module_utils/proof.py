# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a service does its work again, beyond being ready: questions about what it is there for.

A question is a dictionary: C(path); C(query), its parameters; C(body), which makes it a POST of JSON; C(expect), a
regular expression that the answer has to have (without it a status below 300 is enough); C(user) and C(password_file)
where the program asks who wants to know; C(port) where it answers on another port than when it is ready. In texts
C(@since@) is when the change began, in seconds since the epoch, C(@since_ns@) the same in nanoseconds, C(@now_ns@) the
present, C(@utc@) the beginning as RFC 3339 writes it.
"""

from __future__ import annotations

import datetime
import json
import re
import time
import typing as t
from urllib.parse import urlencode

from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import probe

_PAUSE = 0.25
_SHOWN = 200


def wait(
    target: dict[str, t.Any],
    questions: list[dict[str, t.Any]],
    since: float,
    deadline: float,
    ended: t.Callable[[], str],
) -> str:
    """Ask until all questions are answered as expected, the deadline (monotonic seconds) passes or the program ends.

    :param since: when the change began, in seconds since the epoch.
    :param ended: returns an empty text, or why asking on is of no use.
    :returns: an empty text, or what is wrong.
    """
    for question in questions:
        while True:
            problem = ask(target, question, since)
            if not problem:
                break
            gone = ended()
            if gone or time.monotonic() + _PAUSE > deadline:
                return gone or problem
            time.sleep(_PAUSE)
    return ""


def ask(target: dict[str, t.Any], question: dict[str, t.Any], since: float) -> str:
    """Ask one question once; return an empty text, or what is wrong."""
    path = question["path"]
    target = {**target, "port": int(question["port"])} if "port" in question else target
    try:
        credentials = _credentials(question)
        body = _filled(json.dumps(question["body"]), since) if "body" in question else ""
        query = urlencode({key: _filled(str(text), since) for key, text in question.get("query", {}).items()})
        status, text = probe.http_get(target, f"{path}?{query}" if query else path, body=body, credentials=credentials)
    except OSError as error:
        return f"{path} does not answer: {error}"
    shown = " ".join(text.split())[:_SHOWN]
    if status >= 300:
        return f"{path} answers {status}: {shown}"
    if not re.search(question.get("expect", ""), text, re.MULTILINE):
        return f"{path} does not answer what is expected ({question['expect']}): {shown}"
    return ""


def _credentials(question: dict[str, t.Any]) -> str:
    if not question.get("password_file"):
        return ""
    with open(question["password_file"]) as reader:
        return f"{question['user']}:{reader.read().strip()}"


def _filled(text: str, since: float) -> str:
    utc = datetime.datetime.fromtimestamp(since, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for token, value in {
        "@since@": f"{since:.3f}",
        "@since_ns@": f"{int(since * 1e9)}",
        "@now_ns@": f"{time.time_ns()}",
        "@utc@": utc,
    }.items():
        text = text.replace(token, value)
    return text
