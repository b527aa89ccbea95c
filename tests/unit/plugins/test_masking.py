"""What is shown of a configuration has no value behind a name that sounds like a secret, and all else as it is."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.masking import HIDDEN, mask

SECRET = 'hunter2, of Graf\'s "own" {x} and y'
NAMES = [
    *("password", "smtp_password", "passwd", "passphrase", "client_secret", "token", "bearer_token", "credentials"),
    *("api_key", "apikey", "private_key", "secret_access_key", "X-Api-Key", "basicAuthPassword", "authorization"),
    *("GF_SMTP_PASSWORD", "slack_api_url", "routing_key"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "written",
    [
        lambda name: yaml.safe_dump({"a": {"user": "me", name: SECRET, "then": "seen"}}, sort_keys=False),
        lambda name: yaml.safe_dump({"a": [{name: SECRET, "user": "me"}, {"then": "seen"}]}, sort_keys=False),
        lambda name: f"a:\n  user: me\n  {name}: |\n    hunter2\n\n    hunter2 again\n  then: seen\n",
        lambda name: f"a: {{user: me, {name}: hunter2, then: seen}}",
        lambda name: f"a:\n  - {{user: me, \"{name}\": 'hunter2 x', then: seen}}",
        lambda name: json.dumps({"user": "me", name: SECRET, "then": "seen"}),
        lambda name: json.dumps({"user": "me", name: SECRET, "then": "seen"}, indent=2),
        lambda name: f"[a]\nuser = me\n{name} = {SECRET}\nthen = seen\n",
        lambda name: f"cmd: ['--user=me', '--{name}=hunter2', '--then=seen'] → None",
        lambda name: f"env: {{'user': 'me', '{name}': 'hunter2'}} → {{'then': 'seen'}}",
        lambda name: f"{name}: hunter2\nuser: me\nthen: seen",
    ],
    ids=["yaml", "list", "block", "flow", "quoted", "json", "indented", "ini", "arguments", "environment", "top"],
)
def test_a_value_behind_such_a_name_is_hidden_and_its_neighbours_are_not(name: str, written: object) -> None:
    text = written(name)  # type: ignore[operator]
    shown = mask(text)
    assert HIDDEN in shown
    assert "hunter2" not in shown
    assert "own" not in shown
    assert "me" in shown
    assert "seen" in shown
    assert name in shown


def test_a_long_value_that_goes_on_over_several_lines_is_hidden_to_its_end() -> None:
    text = yaml.safe_dump({"a": {"private_key": "word " * 60 + "hunter2\nline\n", "zone": "seen"}})
    assert len(text.splitlines()) > 3
    shown = mask(text)
    assert "word" not in shown
    assert "hunter2" not in shown
    assert "zone: seen" in shown


def test_a_password_in_a_url_is_hidden() -> None:
    assert mask("url: http://me:hunter2@db:80/x") == f"url: http://me:{HIDDEN}@db:80/x"


@pytest.mark.parametrize(
    "text",
    [
        "password_file: /etc/prometheus/secrets/remote\nbearer_token_file: /x",
        "password = $__file{/etc/grafana/secrets/smtp}",
        "password: ${PASSWORD}",
        "credentials:\n  type: Bearer\n  user: me",
        "authorization: {type: Bearer, credentials_file: /x}",
        "secret: false",
        "token: null",
        "password = ",
        "summary: The password of somebody was wrong\nsecrets: [a, b]",
        "url: http://db:80/x?a=b",
        "expr: rate(http_requests_total{status='500'}[5m]) > 0",
        "access_key_id: AKIA",
    ],
)
def test_all_else_is_shown_as_it_is(text: str) -> None:
    assert mask(text) == text
