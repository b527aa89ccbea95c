"""Which alert goes to whom: each route by amtool, and the whole of it through a real Alertmanager."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routing.alerting import AMTOOL, Alerting

Rendered = Callable[..., Path]

ROUTES = {
    "severity=critical team=infrastructure alertname=ServiceDown host=one": "critical",
    "severity=critical team=applications alertname=Own host=one": "critical",
    "severity=warning team=infrastructure alertname=HighCPU host=one": "infrastructure",
    "severity=info team=infrastructure alertname=MongoDBSlow host=one": "infrastructure",
    "severity=warning team=deployment alertname=DeploymentFailures host=one": "deployment",
    "severity=info team=deployment alertname=SlowDeployments host=one": "deployment",
    "severity=warning team=applications alertname=AppDown host=one": "applications",
    "severity=info team=applications alertname=ContainerRestartLoop host=one": "applications",
    "severity=none alertname=Watchdog": "watchdog",
    "severity=notice team=deployment alertname=DeploymentNotice": "notices",
    # Somebody's own rule without our labels must not be lost.
    "alertname=Own": "infrastructure",
    "severity=warning team=nobody": "infrastructure",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "webhooks": {},
    "bot": {"alertmanager_slack_bot_token": "xoxb-1"},
    "no slack": {"alertmanager_slack_enabled": False},
    "french": {"monitoring_language": "fr"},
    "watchdog": {"alertmanager_watchdog_url": "http://127.0.0.1:9/"},
    "muted": {
        "alertmanager_mute_times": [
            {"times": [{"start_time": "22:00", "end_time": "24:00"}], "location": "Europe/Paris"},
            {"weekdays": ["saturday", "sunday"]},
        ]
    },
    "own": {
        "alertmanager_secret_files": {"pagerduty_key": "secret-1", "smtp": "secret-2"},
        "alertmanager_extra_receivers": [
            {
                "name": "pager",
                "pagerduty_configs": [{"routing_key_file": "/etc/alertmanager/secrets/pagerduty_key"}],
                "webhook_configs": [{"url": "http://127.0.0.1:9/x"}],
                "email_configs": [
                    {
                        "to": "a@example.com",
                        "from": "b@example.com",
                        "smarthost": "127.0.0.1:25",
                        "auth_username": "b",
                        "auth_password_file": "/etc/alertmanager/secrets/smtp",
                    }
                ],
                "jira_configs": [{"api_url": "http://127.0.0.1:9", "project": "OPS", "issue_type": "Bug"}],
                "opsgenie_configs": [{"api_key_file": "/etc/alertmanager/secrets/smtp"}],
            }
        ],
        "alertmanager_extra_routes": [{"matchers": ['severity="critical"'], "receiver": "pager", "continue": True}],
    },
}


def amtool(*words: str | Path) -> str:
    done = subprocess.run([AMTOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("variant", VARIANTS)
def test_amtool_accepts_what_the_role_renders(rendered: Rendered, tmp_path: Path, variant: str) -> None:
    tree = rendered(**VARIANTS[variant])
    # Their place in the container.
    config = (tree / "alertmanager.yml").read_text().replace("/etc/alertmanager/templates", str(tree / "templates"))
    (tmp_path / "alertmanager.yml").write_text(config)
    assert "SUCCESS" in amtool("check-config", tmp_path / "alertmanager.yml")


@pytest.mark.parametrize("labels", ROUTES)
@pytest.mark.parametrize("variant", ["webhooks", "bot", "muted"])
def test_each_alert_goes_to_one_receiver(rendered: Rendered, labels: str, variant: str) -> None:
    config = rendered(**VARIANTS[variant]) / "alertmanager.yml"
    words = [f'{key}="{value}"' for key, _, value in (word.partition("=") for word in labels.split())]
    assert amtool("config", "routes", "test", f"--config.file={config}", *words) == ROUTES[labels]


def test_own_routes_come_first_and_may_go_on(rendered: Rendered) -> None:
    config = rendered(**VARIANTS["own"]) / "alertmanager.yml"
    told = amtool("config", "routes", "test", f"--config.file={config}", "severity=critical", "team=infrastructure")
    assert told == "pager,critical"


def test_secrets_are_files_and_nowhere_else(rendered: Rendered) -> None:
    tree = rendered(**VARIANTS["own"])
    assert (tree / "secrets/pagerduty_key").read_text() == "secret-1"
    assert "secret-" not in (tree / "alertmanager.yml").read_text()
    assert "xoxb-1" not in (rendered(**VARIANTS["bot"]) / "alertmanager.yml").read_text()


# Through a real Alertmanager.


@pytest.fixture(scope="module")
def alerting(start: Callable[..., Alerting]) -> Alerting:
    return start()


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> None:
    """Each test begins without messages."""
    if "alerting" in request.fixturenames:
        request.getfixturevalue("alerting").forget()


def channels(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(one["channel"] for one in messages)


def down(service: str, host: str) -> dict[str, str]:
    return {
        "alertname": "ServiceDown",
        "severity": "critical",
        "team": "infrastructure",
        "host": host,
        "service": service,
    }


def test_a_critical_alert_is_told_once_in_one_channel(alerting: Alerting) -> None:
    alerting.send(down("port-manager", "once"))
    assert channels(alerting.wait(1, "· once")) == ["critical"]


def test_forty_apps_that_are_down_on_a_host_are_one_message(alerting: Alerting) -> None:
    alerting.send(
        *(
            {
                "alertname": "AppDown",
                "severity": "warning",
                "team": "applications",
                "host": "crowd",
                "app": f"app-{number}",
            }
            for number in range(40)
        )
    )
    (message,) = alerting.wait(1, "· crowd")
    (attachment,) = message["body"]["attachments"]
    assert "AppDown · crowd (40)" in attachment["title"]
    assert attachment["text"].count("AppDown happened") == 10
    assert "and 30 more" in attachment["text"]


# What follows from what; the source fires first, as it does in life or Alertmanager would tell both.
FOLLOWS = {
    "the host": (
        {"alertname": "HostDown", "severity": "critical"},
        [
            {"alertname": "TargetDown", "severity": "warning", "job": "node"},
            {"alertname": "ServiceDown", "severity": "critical", "service": "port-manager"},
            {"alertname": "AppDown", "severity": "warning", "app": "shop-main"},
        ],
        [],
    ),
    "the Deployment API": (
        {"alertname": "ServiceDown", "severity": "critical", "service": "deployment-api"},
        [
            {"alertname": "DeploymentFailures", "severity": "warning"},
            {"alertname": "SlowDeployments", "severity": "info"},
            {"alertname": "TargetDown", "severity": "warning", "job": "deployment-api"},
        ],
        [
            {"alertname": "HighPortUtilization", "severity": "warning"},
            {"alertname": "TargetDown", "severity": "warning", "job": "node"},
        ],
    ),
    "the Port Manager": (
        {"alertname": "ServiceDown", "severity": "critical", "service": "port-manager"},
        [
            {"alertname": "HighPortUtilization", "severity": "warning"},
            {"alertname": "AppDiscoveryStale", "severity": "warning", "source": "port-manager"},
        ],
        [{"alertname": "DeploymentFailures", "severity": "warning"}],
    ),
    "the Tunnel Manager": (
        {"alertname": "ServiceDown", "severity": "critical", "service": "tunnel-manager"},
        [
            {"alertname": "AppPublicNameDown", "severity": "warning", "app": "shop-main"},
            {"alertname": "PublicNameDown", "severity": "warning", "hostname": "grafana.example.com"},
        ],
        [{"alertname": "AppDown", "severity": "warning", "app": "shop-main"}],
    ),
    "MongoDB": (
        {"alertname": "MongoDBDown", "severity": "critical"},
        [
            {"alertname": "MongoDBSlow", "severity": "info"},
            {"alertname": "TargetDown", "severity": "warning", "job": "mongodb"},
        ],
        [{"alertname": "HighCPU", "severity": "warning"}],
    ),
    "a full disk": (
        {"alertname": "DiskSpaceCritical", "severity": "critical", "mountpoint": "/data"},
        [{"alertname": "DiskSpaceLow", "severity": "warning", "mountpoint": "/data"}],
        [{"alertname": "DiskSpaceLow", "severity": "warning", "mountpoint": "/"}],
    ),
    "a disk with little room": (
        {"alertname": "DiskSpaceLow", "severity": "warning", "mountpoint": "/data"},
        [{"alertname": "DiskFillingUp", "severity": "warning", "mountpoint": "/data"}],
        [{"alertname": "DiskFillingUp", "severity": "warning", "mountpoint": "/"}],
    ),
    "an app": (
        {"alertname": "AppDown", "severity": "warning", "app": "shop-main"},
        [{"alertname": "AppHighErrorRate", "severity": "warning", "app": "shop-main"}],
        [{"alertname": "AppHighErrorRate", "severity": "warning", "app": "blog-main"}],
    ),
    "a critical form": (
        {"alertname": "Own", "severity": "critical"},
        [{"alertname": "Own", "severity": "warning"}],
        [{"alertname": "Other", "severity": "warning"}],
    ),
}


@pytest.mark.parametrize("cause", FOLLOWS)
def test_what_follows_from_an_alert_is_silent_on_the_same_host_only(alerting: Alerting, cause: str) -> None:
    source, silent, loud = FOLLOWS[cause]
    host = {"host": cause.replace(" ", "-"), "team": "infrastructure"}
    alerting.send({**source, **host})
    alerting.wait(1, f"· {host['host']}")
    elsewhere = {**host, "host": f"not-{host['host']}"}
    alerting.send(*({**one, **host} for one in silent + loud), *({**one, **elsewhere} for one in silent))
    alerts = alerting.ask("GET", f"http://127.0.0.1:{alerting.port}/api/v2/alerts?filter=host=~%22.*{host['host']}%22")
    suppressed = [one["labels"] for one in alerts if one["status"]["state"] == "suppressed"]
    assert {(one["alertname"], one["host"]) for one in suppressed} == {
        (one["alertname"], host["host"]) for one in silent
    }


def test_an_alert_without_a_host_is_silenced_by_none_that_has_one(alerting: Alerting) -> None:
    alerting.send({"alertname": "HostDown", "severity": "critical", "team": "infrastructure", "host": "x"})
    alerting.wait(1, "· x")
    alerting.send({"alertname": "TargetMissing", "severity": "warning", "team": "infrastructure"})
    assert channels(alerting.wait(1, "TargetMissing")) == ["infrastructure"]


def test_the_dead_mans_switch_leaves_the_server_again_and_again_and_slack_stays_quiet(alerting: Alerting) -> None:
    watchdog = {"alertname": "Watchdog", "severity": "none", "team": "infrastructure"}
    alerting.send(watchdog)
    deadline = time.monotonic() + 15
    while len(alerting.about("Watchdog")) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    told = channels(alerting.about("Watchdog"))
    alerting.send(watchdog, over=True)
    time.sleep(3)
    assert len(told) >= 3
    assert set(channels(alerting.about("Watchdog"))) == {"watchdog"}


def test_each_deployment_is_one_notice_that_is_never_resolved(alerting: Alerting) -> None:
    notices = [
        {
            "alertname": "DeploymentNotice",
            "severity": "notice",
            "team": "deployment",
            "host": "n",
            "deployment_id": f"deploy-{number}",
            "outcome": outcome,
        }
        for number, outcome in enumerate(["success", "failed"])
    ]
    alerting.send(*notices, summary="deploy-0 or deploy-1 is over")
    found = alerting.wait(2, "deploy-")
    assert channels(found) == ["deployment", "deployment"]
    assert {one["body"]["attachments"][0]["color"] for one in found} == {"#2eb886", "#d00000"}
    alerting.send(*notices, over=True, summary="deploy-0 or deploy-1 is over")
    alerting.wait(2, "deploy-")


# What Slack shows.

LINKS = {
    "description": "CPU of web1 at 93 %",
    "dashboard_url": "https://grafana.example.com/d/infrastructure-main?var-host=web1",
    "runbook_url": "https://wiki.example.com/HighCPU.md",
}


def cpu(host: str) -> dict[str, str]:
    return {"alertname": "HighCPU", "severity": "warning", "team": "infrastructure", "host": host, "note": 'a "b" & c'}


def test_a_message_says_what_where_since_when_and_where_to_look(alerting: Alerting) -> None:
    alerting.send(cpu("web1"), since=90, summary="CPU busy", **LINKS)
    (message,) = alerting.wait(1, "· web1")
    (attachment,) = message["body"]["attachments"]
    assert attachment["title"] == "⚠ Warning: HighCPU · web1"
    assert attachment["title_link"] == LINKS["dashboard_url"]
    assert attachment["color"] == "#e8a317"
    text = attachment["text"]
    assert text.startswith("*CPU busy*\nCPU of web1 at 93 %\nSince <!date^")
    assert f"<{LINKS['dashboard_url']}|Dashboard>" in text
    assert f"<{LINKS['runbook_url']}|Runbook>" in text
    silence = "<https://alerts.example.com/#/silences/new?filter=%7Balertname%3D%22HighCPU%22%2Chost%3D%22web1%22%2C"
    assert silence in text
    assert "note%3D%22a+%5C%22b%5C%22+%26+c%22" in text
    assert "|Silence>" in text


CALL = "<!channel> & <@U1>"
SHOWN = "&lt;!channel&gt; &amp; &lt;@U1&gt;"


@pytest.mark.parametrize("severity", ["warning", "notice"])
def test_what_strangers_wrote_calls_nobody(alerting: Alerting, severity: str) -> None:
    labels = {"alertname": "Own", "severity": severity, "team": "deployment", "host": f"{CALL} {severity}"}
    alerting.send(labels, summary=f"Branch {CALL}", description=f"It said: {CALL} {severity}")
    (message,) = alerting.wait(1, f"{SHOWN} {severity}")
    (attachment,) = message["body"]["attachments"]
    assert SHOWN in attachment["title"]
    assert SHOWN in attachment["fallback"]
    assert f"It said: {SHOWN}" in attachment["text"]
    assert "<!channel>" not in json.dumps(message["body"])
    assert "<@U1>" not in json.dumps(message["body"])


def test_a_resolved_message_says_how_long_it_lasted(alerting: Alerting) -> None:
    alerting.send(cpu("web2"), since=125, **LINKS)
    alerting.wait(1, "· web2")
    alerting.send(cpu("web2"), since=125, over=True, **LINKS)
    message = alerting.wait(2, "· web2")[1]
    (attachment,) = message["body"]["attachments"]
    assert attachment["title"] == "✅ Resolved: HighCPU · web2"
    assert attachment["color"] == "#2eb886"
    assert re.search("It lasted 2m [5-9]s", attachment["text"])
    assert "|Silence>" not in attachment["text"]


def test_in_mute_hours_only_what_is_critical_is_told(start: Callable[..., Alerting]) -> None:
    muted = start(alertmanager_mute_times=[{"weekdays": ["sunday:saturday"]}])
    muted.send(
        {"alertname": "Own", "host": "night"},
        {"alertname": "Other", "severity": "warning", "team": "nobody", "host": "night"},
        {"alertname": "HighCPU", "severity": "warning", "team": "infrastructure", "host": "night"},
        {"alertname": "DeploymentNotice", "severity": "notice", "team": "deployment", "host": "night"},
        summary="night",
    )
    # Longer than the others would have waited.
    time.sleep(2)
    muted.send(down("port-manager", "night"))
    assert channels(muted.wait(1, "night")) == ["critical"]


def test_a_bot_writes_french_to_the_channel_that_was_named(start: Callable[..., Alerting]) -> None:
    alerting = start(
        alertmanager_slack_bot_token="xoxb-2",
        alertmanager_slack_bot_url="RECEIVER/api/chat.postMessage",
        alertmanager_slack_channel_critical="#astreinte",
        monitoring_language="fr",
    )
    alerting.send(down("port-manager", "a"), since=10, **LINKS)
    (message,) = alerting.wait(1, "ServiceDown")
    assert (message["channel"], message["token"]) == ("astreinte", "xoxb-2")
    (attachment,) = message["body"]["attachments"]
    assert attachment["title"] == "🚨 CRITIQUE: ServiceDown · a"
    assert "Depuis <!date^" in attachment["text"]
    assert "|Procédure>" in attachment["text"]
