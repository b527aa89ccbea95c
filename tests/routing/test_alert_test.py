"""Whether a receiver took its test alert, as playbooks/test_alerts.yml asks a real Alertmanager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import alert_test

from routing.alerting import Alerting

GOOD = {"url": "RECEIVER/webhook/own"}
SLOW = {"url": "RECEIVER/slow/own"}
# The first one takes its message at once, and the other one does not after two seconds.
RECEIVERS: dict[str, dict[str, Any]] = {
    "good": {"webhook_configs": [GOOD, GOOD]},
    "half": {"webhook_configs": [GOOD], "pagerduty_configs": [{"routing_key": "x", "url": "RECEIVER/slow/pager"}]},
    "second": {"webhook_configs": [GOOD, SLOW]},
    "nothing": {},
}
INTEGRATIONS = {"good": {"webhook": 2}, "half": {"webhook": 1, "pagerduty": 1}, "second": {"webhook": 2}}


@pytest.fixture(scope="module")
def results(start: Callable[..., Alerting]) -> dict[str, tuple[bool, str]]:
    alerting = start(
        alertmanager_extra_receivers=[{"name": name, **configs} for name, configs in RECEIVERS.items()],
        alertmanager_extra_routes=[
            {"matchers": [f'test="{name}"'], "receiver": name, "group_wait": "0s"} for name in RECEIVERS
        ],
    )
    wanted = {name: {"severity": "warning"} for name in (*RECEIVERS, "stranger")}
    told = alert_test.run(f"http://127.0.0.1:{alerting.port}", wanted, 12, INTEGRATIONS)
    return {one["name"]: (one["ok"], one["reason"]) for one in told}


def test_a_receiver_whose_integrations_all_take_it_took_it(results: dict[str, tuple[bool, str]]) -> None:
    assert results["good"] == (True, "")


def test_a_receiver_one_of_whose_integrations_fails_did_not(results: dict[str, tuple[bool, str]]) -> None:
    ok, reason = results["half"]
    assert not ok
    assert "by pagerduty;" in reason


def test_a_receiver_with_two_of_a_kind_needs_both(results: dict[str, tuple[bool, str]]) -> None:
    ok, reason = results["second"]
    assert not ok
    assert "by webhook;" in reason


def test_a_receiver_to_which_nothing_can_be_sent_did_not_take_it(results: dict[str, tuple[bool, str]]) -> None:
    ok, reason = results["nothing"]
    assert not ok
    assert "nothing was sent to it within 12 s" in reason


def test_a_receiver_that_no_route_leads_to_is_told(results: dict[str, tuple[bool, str]]) -> None:
    ok, reason = results["stranger"]
    assert not ok
    assert "no route leads" in reason


def test_labels_come_from_plain_matchers_and_from_those_around() -> None:
    routes = [
        {"matchers": ['severity=~"a|b"'], "receiver": "unknown"},
        {"matchers": ['severity="page"', "team = deployment"], "receiver": "pager"},
        {"matchers": ['severity="page"'], "routes": [{"matchers": ['site="x"'], "receiver": "inner"}]},
        {"matchers": ['severity="other"'], "receiver": "pager"},
    ]
    assert alert_test.labels_of_routes(routes) == {
        "pager": {"severity": "page", "team": "deployment"},
        "inner": {"severity": "page", "site": "x"},
    }
