#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send a marked test alert through each receiver of an Alertmanager, and tell which ones took it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_test
short_description: Send a test alert through each receiver and tell which ones took it
description:
  - Sends alerts named C(AlertTest) to an Alertmanager, one for each receiver, with labels that its routes lead there.
    Which receivers an alert really goes to, Alertmanager says itself. Whether a receiver took it is read from
    Alertmanager's own counters (C(--enable-feature=receiver-name-in-metrics)), never guessed. A receiver with several
    integrations, a pager and a webhook for one, took it when all of them did.
  - Ends its alerts when it is done. Receivers that tell what is resolved tell that too.
author: ["nekocheik (@nekocheik)"]
options:
  address:
    description: Address of the Alertmanager, as seen from the host.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the Alertmanager.
    type: int
    default: 9093
  receivers:
    description: Name of each receiver to the labels of an alert that the routes lead to it.
    type: dict
    required: true
  routes:
    description:
      - The user's own routes; a receiver without labels in I(receivers) gets them from their matchers, those of the
        routes around it too. One that only expressions lead to is not tested, and told.
    type: list
    elements: dict
    default: []
  integrations:
    description: For each receiver how many integrations it has of a kind, where that is more than one.
    type: dict
    default: {}
  timeout:
    description: Seconds within which every receiver has to have taken its alert.
    type: int
    default: 60
attributes:
  check_mode:
    description: Tells which receivers would be tested, and sends nothing.
    support: full
  diff_mode:
    description: Has no diff.
    support: none
"""

EXAMPLES = r"""
- name: Test the receivers
  nekocheik.deployment_monitoring.alert_test:
    receivers:
      critical: {severity: critical, team: infrastructure}
"""

RETURN = r"""
results:
  description: For each receiver its name, whether it took its alert (C(ok)), and why not (C(reason)).
  type: list
  elements: dict
  returned: always
"""

import json
import re
import time
import typing as t
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone

from ansible.module_utils.basic import AnsibleModule

# For each kind of integration how many requests were sent, and how many of them failed.
Counts = dict[str, tuple[float, float]]

_NAME = "AlertTest"
_SAMPLE = re.compile(r"^alertmanager_notification_requests(_failed)?_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MATCHER = re.compile(r'^\s*([a-zA-Z_]\w*)\s*=\s*"?([^"]*)"?\s*$')


class AlertmanagerError(Exception):
    """The Alertmanager does not answer, or refuses."""


def ask(base: str, method: str, path: str, payload: t.Any = None) -> str:
    """Ask the Alertmanager and return the text of its answer."""
    data = json.dumps(payload).encode() if payload is not None else None
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return t.cast("str", answer.read().decode())
    except urllib.error.HTTPError as error:
        raise AlertmanagerError(
            f"{path} answers {error.code}: {error.read().decode(errors='replace')[:200]}"
        ) from error
    except OSError as error:
        raise AlertmanagerError(f"{base} does not answer: {error}") from error


def requests_by_integration(metrics: str) -> dict[str, Counts]:
    """Return for each receiver and each kind of its integrations how many requests were sent, and how many failed.

    Those that never sent anything are there too: Alertmanager begins with all that are configured.
    """
    found: dict[str, Counts] = {}
    for failed, labels, value in _SAMPLE.findall(metrics):
        of = dict(_LABEL.findall(labels))
        if "receiver_name" in of and "integration" in of:
            mine = found.setdefault(of["receiver_name"], {})
            sent, refused = mine.get(of["integration"], (0.0, 0.0))
            mine[of["integration"]] = (sent, float(value)) if failed else (float(value), refused)
    return found


def labels_of_routes(routes: list[dict[str, t.Any]], around: dict[str, str] | None = None) -> dict[str, dict[str, str]]:
    """Return for each receiver of the user's own routes labels that lead to it, where plain matchers tell them."""
    found: dict[str, dict[str, str]] = {}
    for route in routes:
        name = route.get("receiver")
        pairs = [_MATCHER.match(matcher) for matcher in route.get("matchers", [])]
        if not all(pairs):
            continue
        labels = {**(around or {}), **{pair.group(1): pair.group(2) for pair in pairs if pair}}
        if name:
            found.setdefault(name, labels)
        for inner, theirs in labels_of_routes(route.get("routes", []), labels).items():
            found.setdefault(inner, theirs)
    return found


def verdict(before: Counts, now: Counts, integrations: dict[str, int]) -> tuple[bool | None, str]:
    """Return whether a receiver took its alert, None while that is open, and which integrations did not, and why."""
    grown = {
        kind: tuple(after - former for after, former in zip(counts, before.get(kind, (0.0, 0.0))))
        for kind, counts in now.items()
    }
    failed = sorted(kind for kind, (_sent, refused) in grown.items() if refused)
    waiting = sorted(kind for kind, (sent, _refused) in grown.items() if sent < integrations.get(kind, 1))
    if failed:
        return False, (
            f"it does not take messages by {', '.join(failed)}; Alertmanager's log tells why (docker logs alertmanager)"
        )
    return (True, "") if grown and not waiting else (None, ", ".join(waiting))


def alerts(wanted: dict[str, dict[str, str]], mark: str, over: bool) -> list[dict[str, t.Any]]:
    """Return the test alerts as Alertmanager takes them."""
    now = datetime.now(timezone.utc)
    ends = now if over else now + timedelta(minutes=10)
    annotations = {
        "summary": "Test of the alerting: nothing is wrong",
        "description": "Sent by playbooks/test_alerts.yml. Who reads this is reached by alerts.",
    }
    return [
        {
            # Each of a host of its own, or the critical one would silence the others.
            "labels": {"alertname": _NAME, "host": f"{mark}-{name}", "team": "infrastructure", "test": name, **labels},
            "annotations": annotations,
            "startsAt": (now - timedelta(seconds=1)).isoformat(),
            "endsAt": ends.isoformat(),
        }
        for name, labels in wanted.items()
    ]


def reached(base: str, mark: str) -> dict[str, set[str]]:
    """Return for each test alert the receivers that the routes lead it to."""
    listed = json.loads(ask(base, "GET", f"/api/v2/alerts?filter=host%3D~%22{mark}-.%2A%22"))
    return {one["labels"]["test"]: {receiver["name"] for receiver in one["receivers"]} for one in listed}


def run(
    base: str, wanted: dict[str, dict[str, str]], timeout: float, integrations: dict[str, dict[str, int]] | None = None
) -> list[dict[str, t.Any]]:
    """Send the alerts, wait for the receivers, end the alerts, and return what became of each."""
    mark = "alert-test-" + uuid.uuid4().hex[:8]
    before = requests_by_integration(ask(base, "GET", "/metrics"))
    ask(base, "POST", "/api/v2/alerts", alerts(wanted, mark, over=False))
    try:
        leads = reached(base, mark)
        waiting = {name: "" for name in wanted if name in leads.get(name, set())}
        results = {
            name: {"name": name, "ok": False, "reason": f"no route leads {labels} to it"}
            for name, labels in wanted.items()
            if name not in waiting
        }
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline:
            time.sleep(0.5)
            now = requests_by_integration(ask(base, "GET", "/metrics"))
            for name in sorted(waiting):
                counts = (integrations or {}).get(name, {})
                ok, reason = verdict(before.get(name, {}), now.get(name, {}), counts)
                waiting[name] = reason
                if ok is not None:
                    results[name] = {"name": name, "ok": ok, "reason": reason}
                    del waiting[name]
        for name, kinds in waiting.items():
            by = f" by {kinds}" if kinds else ""
            reason = f"nothing was sent to it{by} within {timeout:.0f} s (is it muted now?)"
            results[name] = {"name": name, "ok": False, "reason": reason}
    finally:
        ask(base, "POST", "/api/v2/alerts", alerts(wanted, mark, over=True))
    return [results[name] for name in sorted(results)]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 9093},
            "receivers": {"type": "dict", "required": True},
            "routes": {"type": "list", "elements": "dict", "default": []},
            "integrations": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    own = labels_of_routes(module.params["routes"])
    wanted = {name: labels or own.get(name) for name, labels in module.params["receivers"].items()}
    untested = sorted(name for name, labels in wanted.items() if labels is None)
    note = (
        f" Not tested, because no route with plain matchers leads to them: {', '.join(untested)}." if untested else ""
    )
    wanted = {name: labels for name, labels in wanted.items() if labels is not None}
    if module.check_mode:
        names = ", ".join(sorted(wanted))
        module.exit_json(changed=bool(wanted), results=[], msg=f"A test alert would be sent to: {names}.{note}")
    address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(module.params["address"], module.params["address"])
    try:
        results = run(
            f"http://{address}:{module.params['port']}",
            wanted,
            module.params["timeout"],
            module.params["integrations"],
        )
    except AlertmanagerError as error:
        module.fail_json(msg=f"The Alertmanager cannot be tested: {error}", results=[])
    lines = "; ".join(f"{one['name']}: {'took it' if one['ok'] else one['reason']}" for one in results)
    if not all(one["ok"] for one in results):
        module.fail_json(msg=f"Not every receiver took its alert. {lines}.{note}", results=results)
    every = "Every receiver that was tested" if untested else "Every receiver"
    module.exit_json(changed=True, results=results, msg=f"{every} took its alert. {lines}.{note}")


if __name__ == "__main__":
    main()
