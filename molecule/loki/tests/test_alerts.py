"""What Loki tells Alertmanager of the logs. A small server of the test's own stands where Alertmanager would."""

from __future__ import annotations

import json
import time

import pytest

PUSH = "http://127.0.0.1:3100/loki/api/v1/push"
SERVED = "http://127.0.0.1:9093/"
SERVER = """
import http.server, json
told = []
class Alerts(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200); self.end_headers()
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", 9093), Alerts).serve_forever()
"""


@pytest.fixture(scope="module")
def alerts(host, http, wait_until):
    """alerts(name): what was told so far."""
    host.run("systemctl stop alerts 2>/dev/null")
    host.check_output("systemd-run --unit alerts --collect python3 -c %s", SERVER)
    wait_until(lambda: http.get(SERVED).status == 200, what="what stands where Alertmanager would")

    def told(name):
        return [alert for alert in http.get(SERVED).json() if alert["labels"]["alertname"] == name]

    yield told
    host.run("systemctl stop alerts")


@pytest.fixture(scope="module")
def push(http):
    """push(labels, *lines, **metadata): lines of now."""

    def pushed(labels, *texts, **metadata):
        now = time.time_ns()
        values = [[str(now + number), text, metadata] for number, text in enumerate(texts)]
        answer = http.post(PUSH, {"streams": [{"stream": {"host": "web", **labels}, "values": values}]})
        assert answer.status == 204, answer.body

    return pushed


def test_the_rules_are_loaded_and_healthy(http, wait_until):
    def evaluated():
        groups = http.get("http://127.0.0.1:3100/prometheus/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_until(evaluated, what="every rule to be evaluated once", timeout=60)
    names = {"LogErrorBurst", "AuthenticationFailures", "MongoDBSlow", "DeploymentNotice"}
    assert {rule["name"] for rule in rules} == names
    assert not [rule for rule in rules if rule["health"] != "ok"]


def test_each_deployment_is_told_once_by_its_id(host, http, push, alerts, wait_until):
    api = {"job": "deployment-api", "level": "info"}
    push(api, "🚀 started", "✅ built", "✅ Deployment succeeded", deployment_id="deploy-1")
    push(api | {"level": "error"}, "❌ Deployment failed", "❌ rolled back", deployment_id="deploy-2")
    push(api, "🚀 started", deployment_id="deploy-3")
    push(api, "✅ without an id")

    def notices():
        return {
            (one["labels"]["deployment_id"], one["labels"]["outcome"], one["labels"]["severity"], one["labels"]["team"])
            for one in alerts("DeploymentNotice")
        }

    expected = {("deploy-1", "success", "notice", "deployment"), ("deploy-2", "failed", "notice", "deployment")}
    wait_until(lambda: notices() >= expected, what="both notices", timeout=60)
    # The ruler starts again, and the same lines are still there: the same two alerts, no more.
    host.check_output("docker restart -t 63 loki")
    wait_until(lambda: http.get("http://127.0.0.1:3100/ready").status == 200, what="Loki", timeout=60)
    before = len(alerts("DeploymentNotice"))
    wait_until(lambda: len(alerts("DeploymentNotice")) > before, what="the ruler to tell again", timeout=90)
    assert notices() == expected
    labels = {json.dumps(one["labels"], sort_keys=True) for one in alerts("DeploymentNotice")}
    assert len(labels) == 2


def test_a_burst_of_errors_is_told_of_its_service_and_team(push, alerts, wait_until):
    push({"job": "port-manager", "level": "warn"}, *(f"well {number}" for number in range(21)))
    push({"job": "tunnel-manager", "level": "error"}, *(f"just below {number}" for number in range(20)))
    app = {"job": "docker", "container": "shop-main-deploy", "project": "shop", "branch": "main"}
    for labels in ({"job": "deployment-api"}, app, {"job": "varlogs"}):
        push({**labels, "level": "error"}, *(f"no {number}" for number in range(21)))

    def bursts():
        return {(one["labels"]["job"], one["labels"]["team"]) for one in alerts("LogErrorBurst")}

    expected = {("deployment-api", "deployment"), ("docker", "applications"), ("varlogs", "infrastructure")}
    wait_until(lambda: bursts() >= expected, what="three bursts", timeout=60)
    assert bursts() == expected
    assert {
        (one["labels"]["project"], one["labels"]["branch"])
        for one in alerts("LogErrorBurst")
        if one["labels"]["job"] == "docker"
    } == {("shop", "main")}


# What one refused login leaves in auth.log: sshd's and PAM's lines of an unknown user, sudo's of a wrong password.
SSH = (
    "sshd[{n}]: Invalid user admin from 192.0.2.1 port {n}",
    "sshd[{n}]: pam_unix(sshd:auth): check pass; user unknown",
    "sshd[{n}]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1",
    "sshd[{n}]: Failed password for invalid user admin from 192.0.2.1 port {n} ssh2",
    "sshd[{n}]: Connection closed by invalid user admin 192.0.2.1 port {n} [preauth]",
)
SUDO = (
    "sudo: pam_unix(sudo:auth): authentication failure; logname=ops uid=1000 euid=0 tty=/dev/pts/{n} user=ops",
    "sudo:      ops : 3 incorrect password attempts ; TTY=pts/{n} ; PWD=/home/ops ; USER=root ; COMMAND=/usr/bin/id",
)
KEYS = (
    "sshd[{n}]: Failed publickey for root from 192.0.2.1 port {n} ssh2: RSA SHA256:x",
    "sshd[{n}]: Connection closed by authenticating user root 192.0.2.1 port {n} [preauth]",
)


def test_failed_logins_are_told(push, alerts, wait_until):
    """More than 10 logins, however many lines each of them has, and from however many sources they come."""

    def log(lines, number, **labels):
        push({"job": "varlogs", **labels}, *(line.format(n=n) for n in range(number) for line in lines))

    log(SSH, 10, host="just-below")
    log(SSH, 6, host="both")
    log(SSH, 6, host="both", job="journal")
    log(SSH, 11, host="ssh")
    log(SUDO, 11, host="sudo")
    log(KEYS, 11, host="keys", job="journal")

    def told():
        return {one["labels"]["host"] for one in alerts("AuthenticationFailures")}

    wait_until(lambda: told() >= {"ssh", "sudo", "keys"}, what="the alerts", timeout=60)
    assert told() == {"ssh", "sudo", "keys"}
    of_ssh = next(one for one in alerts("AuthenticationFailures") if one["labels"]["host"] == "ssh")
    assert of_ssh["annotations"]["summary"] == "Failed logins on ssh"
    assert of_ssh["annotations"]["description"].startswith("11 refused logins")


def test_slow_operations_in_the_log_of_mongodb_are_told(push, alerts, wait_until):
    # As MongoDB 4.4 and later write it.
    slow = {"t": {"$date": "2026-11-25T10:00:00.000+00:00"}, "s": "I", "c": "COMMAND", "id": 51803, "ctx": "conn7"}
    slow |= {"msg": "Slow query", "attr": {"ns": "tunnels.routes", "planSummary": "COLLSCAN", "durationMillis": 152}}
    text = json.dumps(slow, separators=(",", ":"))
    mongodb = {"job": "docker", "container": "mongodb"}
    push(mongodb, *(text for _ in range(51)))
    push({**mongodb, "host": "just-at-the-limit"}, *(text for _ in range(50)))
    push({**mongodb, "host": "quick"}, *(text.replace("Slow query", "Connection accepted") for _ in range(60)))
    push({**mongodb, "container": "shop-main-deploy", "host": "an-app"}, *(text for _ in range(60)))
    wait_until(lambda: alerts("MongoDBSlow"), what="the alert", timeout=60)
    assert {one["labels"]["host"] for one in alerts("MongoDBSlow")} == {"web"}
    assert {one["labels"]["severity"] for one in alerts("MongoDBSlow")} == {"info"}
