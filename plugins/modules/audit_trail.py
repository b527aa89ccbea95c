#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Leave a line of a run in Loki, and an annotation in Grafana."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_trail
short_description: Leave a line of a run in Loki, and an annotation in Grafana
description:
  - Writes who changed what on a host, when, from where and by which revision, to Loki (job C(audit)) and, with the tag
    C(deployment-monitoring), to Grafana. It runs on a host of the stack.
  - Never fails. Where Grafana or Loki does not take it, a warning says so in one line.
author: ["nekocheik (@nekocheik)"]
options:
  changes:
    description: What was done, a short text for each service.
    type: list
    elements: str
    default: []
  outcomes:
    description: What C(service_swap) returned, instead of I(changes).
    type: list
    elements: dict
    default: []
  services:
    description: What C(service_compare) returned, for the reasons of I(outcomes).
    type: dict
    default: {}
  grafana_url:
    description: Where Grafana answers, as seen from the host; empty for no annotation.
    type: str
    default: ""
  grafana_login:
    description: Name of Grafana's administrator.
    type: str
    default: admin
  grafana_password_file:
    description: File on the host with the administrator's password.
    type: path
  loki_url:
    description: Where Loki answers, as seen from the host; empty for no line.
    type: str
    default: ""
  environment:
    description: Name of the installation, a label of the line.
    type: str
    default: production
  entry:
    description: Who, when, from where. The action plugin fills it in.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Writes nothing in check mode.
    support: full
  diff_mode:
    description: Has no diff.
    support: none
"""

EXAMPLES = r"""
- name: Leave a line of it
  nekocheik.deployment_monitoring.audit_trail:
    changes: ["grafana: restored"]
    loki_url: http://127.0.0.1:3100
"""

RETURN = r"""
entry:
  description: What was written.
  type: dict
  returned: always
"""

import base64
import json
import time
import typing as t
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule

_SECONDS = 10
TAG = "deployment-monitoring"


def post(url: str, payload: t.Any, password: str = "") -> str:
    """Post JSON and return an empty text, or why it was not taken."""
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def annotate(params: dict[str, t.Any], entry: dict[str, t.Any], now: float) -> str:
    """Leave the annotation and return an empty text, or why there is none."""
    try:
        with open(params["grafana_password_file"]) as reader:
            password = reader.read().strip()
    except OSError as error:
        return f"Grafana's password cannot be read: {error}"
    text = f"{entry['playbook']} on {entry['host']} by {entry['who']}: " + "; ".join(entry["changes"])
    payload = {"time": int(now * 1000), "tags": [TAG, entry["playbook"], entry["host"]], "text": text}
    url = params["grafana_url"].replace("//0.0.0.0:", "//127.0.0.1:") + "/api/annotations"
    return post(url, payload, f"{params['grafana_login']}:{password}")


def push(params: dict[str, t.Any], entry: dict[str, t.Any], now: float) -> str:
    """Leave the line and return an empty text, or why there is none."""
    labels = {"job": "audit", "host": entry["host"], "environment": params["environment"], "level": "info"}
    values = [[str(int(now * 1e9)), json.dumps(entry, sort_keys=True)]]
    url = params["loki_url"].replace("//0.0.0.0:", "//127.0.0.1:") + "/loki/api/v1/push"
    return post(url, {"streams": [{"stream": labels, "values": values}]})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "changes": {"type": "list", "elements": "str", "default": []},
            "outcomes": {"type": "list", "elements": "dict", "default": []},
            "services": {"type": "dict", "default": {}},
            "grafana_url": {"type": "str", "default": ""},
            "grafana_login": {"type": "str", "default": "admin"},
            "grafana_password_file": {"type": "path", "no_log": False},
            "loki_url": {"type": "str", "default": ""},
            "environment": {"type": "str", "default": "production"},
            "entry": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params, entry, now = module.params, module.params["entry"], time.time()
    if not module.check_mode:
        problems = [push(params, entry, now)] if params["loki_url"] else []
        problems += [annotate(params, entry, now)] if params["grafana_url"] else []
        for problem in filter(None, problems):
            module.warn(f"The audit trail lacks this run: {problem}")
    module.exit_json(changed=False, entry=entry)


if __name__ == "__main__":
    main()
