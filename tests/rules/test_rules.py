"""Every rule, rendered by the role and run by promtool: it fires when it must, and only then."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

# isort: split
import cases
import mutate
import promtool
import rendering

CHECKOUT = rendering.CHECKOUT
RULES = list(dict.fromkeys(case.rule for case in cases.CASES))
TRAPS = [case for case in cases.CASES if case.naive]
SEVERITIES = {"critical", "warning", "info", "none"}
TEAMS = {"infrastructure", "deployment", "applications"}


@pytest.fixture(scope="session")
def rules(trees: Path) -> list[promtool.Rule]:
    """The rules as they are by default."""
    return promtool.load(trees / "default")


def alerts(trees: Path, variant: str) -> dict[str, promtool.Rule]:
    """Return a variant's alerts by their names."""
    return {rule["alert"]: rule for rule in promtool.load(trees / variant) if "alert" in rule}


@pytest.mark.parametrize("variant", rendering.VARIANTS)
def test_promtool_takes_the_rules_and_its_linter_has_nothing_to_say(trees: Path, variant: str) -> None:
    files = sorted(map(str, (trees / variant / "rules").glob("*.yml")))
    command = [str(promtool.PROMTOOL), "check", "rules", "--lint=all", "--lint-fatal", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert len(files) >= 6
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_it_must_when_it_must(rules: list[promtool.Rule], name: str) -> None:
    mine = [case for case in cases.CASES if case.rule == name]
    problems = promtool.run(rules, mine)
    assert not problems, problems


@pytest.mark.parametrize("trap", TRAPS, ids=[case.name for case in TRAPS])
def test_the_naive_rule_is_wrong_in_the_trap(trap: promtool.Case) -> None:
    problems = promtool.run_naive(trap)
    assert not problems, f"the naive rule is right here, so this is no trap: {problems}"


def test_every_rule_has_cases(rules: list[promtool.Rule]) -> None:
    assert {promtool.name_of(rule) for rule in rules} == set(RULES)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(rules: list[promtool.Rule]) -> None:
    names = {rule["alert"] for rule in rules if "alert" in rule}
    assert {case.rule for case in cases.CASES if case.fires} == names
    assert {case.rule for case in cases.CASES if case.silent} == names - {"Watchdog"}


def test_no_mutant_survives(rules: list[promtool.Rule], capsys: pytest.CaptureFixture[str]) -> None:
    killed, alive = mutate.check(rules)
    text = mutate.table(killed, alive)
    with capsys.disabled():
        print(f"\n{text}")
    assert not alive, text
    assert sum(row.total() for row in killed.values()) > 400


@pytest.mark.parametrize("variant", ["default", "french"])
def test_every_alert_says_what_people_need(trees: Path, variant: str) -> None:
    for name, rule in alerts(trees, variant).items():
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert rule["labels"]["team"] in TEAMS, name
        assert set(rule["annotations"]) == {"summary", "description", "dashboard_url", "runbook_url"}, name
        for text in rule["annotations"].values():
            assert text and not re.search(r"\[\[|\]\]|\[limit\]|\[for\]", text), (name, text)
        page = f"{name}.fr.md" if variant == "french" and rule["labels"]["severity"] == "critical" else f"{name}.md"
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{page}")
        assert (CHECKOUT / "docs/runbooks" / page).exists(), page
        link = rule["annotations"]["dashboard_url"]
        uid = re.match(r"^http://10\.0\.0\.1:3000/d/([a-z-]+)\?", link)
        assert uid and (CHECKOUT / f"roles/grafana/files/dashboards/en/{uid[1]}.json").exists(), link


# No panel is about one name, one certificate, or what is not there.
WITHOUT_PANEL = {"Watchdog", "TargetMissing", "PublicNameDown", "AppPublicNameDown", "CertificateExpiry", "HostDown"}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_links_lead_to_panels_that_exist(trees: Path, language: str) -> None:
    without = set()
    for name, rule in alerts(trees, "default").items():
        uid, number = re.findall(r"/d/([a-z-]+)\?(?:viewPanel=(\d+)&)?", rule["annotations"]["dashboard_url"])[0]
        board = json.loads((CHECKOUT / f"roles/grafana/files/dashboards/{language}/{uid}.json").read_text())
        kinds = {str(panel["id"]): panel["type"] for panel in board["panels"]}
        if number:
            assert kinds.get(number, "row") != "row", (
                f"{name}: run `python -m dashboards`, which writes vars/main/panels.yml"
            )
        else:
            without.add(name)
    assert without == WITHOUT_PANEL


def test_french_says_the_same_of_the_same(trees: Path) -> None:
    english, french = alerts(trees, "default"), alerts(trees, "french")
    assert list(english) == list(french)
    for name in english:
        for what in ("summary", "description"):
            one, other = english[name]["annotations"][what], french[name]["annotations"][what]
            assert one != other, name
            # The same labels and values are filled in.
            assert sorted(re.findall(r"\$\w+(?:\.\w+)?", one)) == sorted(re.findall(r"\$\w+(?:\.\w+)?", other)), name


# Without a number of their own: up or down, or a state with no measure.
WITHOUT_VALUE = {
    "Watchdog", "TargetDown", "TargetMissing", "PublicNameDown", "ConfigurationReloadFailed", "AppDiscoveryStale",
    "TimerFailed", "ServiceDown", "MongoDBDown", "HostDown", "SystemdUnitFailed", "AppDown", "AppPublicNameDown",
}  # fmt: skip


def test_what_has_a_value_says_it(trees: Path) -> None:
    silent = {
        name
        for name, rule in alerts(trees, "default").items()
        if "$value" not in rule["annotations"]["summary"] + rule["annotations"]["description"]
    }
    # DeploymentFailures, HighPortUtilization: in the summary.
    assert silent == WITHOUT_VALUE


def test_messages_are_filled_in(rules: list[promtool.Rule], tmp_path: Path) -> None:
    """What a person reads, word by word, for some that have a value."""
    expected = {
        "HighPortUtilization": (
            'port_manager:port_utilization:ratio{host="a"}',
            0.874,
            "87 % of the ports on a are allocated",
            "More than 80 % for 5m. When none is left, deployments fail.",
        ),
        "MongoDBSlow": (
            'mongodb:op_latency_seconds:avg5m{host="a", op_type="reads"}',
            0.25,
            "MongoDB on a is slow",
            "reads take 250ms on average, for 15m (limit: 0.1 s).",
        ),
        "TimeToRecoverHigh": (
            "alerts:time_to_recover_seconds:avg30d{}",
            5400,
            "Critical states last too long",
            "1h 30m 0s on average over 30 days; the objective is 30 minutes.",
        ),
    }
    groups = []
    for name, (series, value, summary, description) in expected.items():
        (rule,) = [rule for rule in rules if rule.get("alert") == name]
        labels = dict(re.findall(r'(\w+)="(\w+)"', series))
        annotations = {
            "summary": summary,
            "description": description,
            # An hour before the moment of the alert, which is 30 minutes after 1970.
            "dashboard_url": re.sub(
                r"\{\{ with .*\{\{ end \}\}",
                "-1800000",
                rule["annotations"]["dashboard_url"].replace("{{ $labels.host | urlquery }}", "a"),
            ),
            "runbook_url": rule["annotations"]["runbook_url"],
        }
        groups.append(
            {
                "interval": "1m",
                "input_series": [
                    {"series": series, "values": f"{value}x60"},
                    {"series": 'alert:started{severity="critical"}', "values": "1x60"},
                ],
                "alert_rule_test": [
                    {
                        "eval_time": "30m",
                        "alertname": name,
                        "exp_alerts": [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}],
                    }
                ],
            }
        )
    chosen = [rule for rule in rules if rule.get("alert") in expected]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "tested", "rules": chosen}]}))
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": groups}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = [str(promtool.PROMTOOL), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_critical_is_evaluated_every_five_seconds(trees: Path) -> None:
    told = {
        rule["alert"]: group.get("interval")
        for path in (trees / "default/rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if rule.get("labels", {}).get("severity") == "critical"
    }
    # Its own window is minutes.
    del told["NotificationsFailing"]
    assert set(told) == {"ServiceDown", "MongoDBDown", "HostDown", "DiskSpaceCritical", "MemoryCritical"}
    assert set(told.values()) == {"5s"}


def test_limits_are_where_the_variables_say(trees: Path) -> None:
    found = alerts(trees, "other-limits")
    assert "> 62.5" in found["HighCPU"]["expr"] and found["HighCPU"]["for"] == "7m"
    assert "more than 62.5 % for 7m" in found["HighCPU"]["annotations"]["description"]
    assert "\n< 3\n".strip() in found["DiskSpaceCritical"]["expr"]
    assert "> 5.5" in found["DeploymentFailures"]["expr"]
    assert "120(\\\\.0)?" in found["SlowDeployments"]["expr"]
    assert "99.9 / 100" in found["AppUptimeBudgetBurn"]["expr"]
    assert 'fstype!~"nfs4"' in found["InodesLow"]["expr"]
    assert found["HighCPU"]["annotations"]["dashboard_url"].startswith("https://grafana.example.com/d/")
    assert found["HighCPU"]["annotations"]["runbook_url"] == "https://wiki.example.com/rb/HighCPU.md"


def test_what_is_switched_off_is_gone_and_nothing_else(trees: Path) -> None:
    gone = set(alerts(trees, "default")) - set(alerts(trees, "disabled"))
    assert gone == {"SystemdUnitFailed", "MongoDBDown", "ServiceDown"}


def missing(trees: Path, variant: str) -> set[tuple[str, str]]:
    """Return the jobs and hosts that must be there."""
    found = re.findall(
        r'absent\(up\{job="([^"]+)", host="([^"]+)"\}\)', alerts(trees, variant)["TargetMissing"]["expr"]
    )
    return {(job, host.removeprefix(f"{variant}-")) for job, host in found}


def test_what_must_be_there_comes_from_the_inventory(trees: Path) -> None:
    one = missing(trees, "default")
    assert ("mongodb", "one") in one and ("port-manager", "one") in one and ("health", "one") in one
    assert {job for job, _host in missing(trees, "no-platform")} == {job for job, _host in one} - {
        "mongodb",
        "port-manager",
        "deployment-api",
        "app-discovery",
        "health",
    }
    more = missing(trees, "second-host") - one
    assert {host for _job, host in more} == {"two"}
    assert {"node", "cadvisor"} <= {job for job, _host in more}
    assert ("port-manager", "two") in missing(trees, "two-platforms")
    assert ("billing.v2", "one") in missing(trees, "other-services")


@pytest.mark.parametrize("variant", ["default", "second-host", "two-platforms", "no-platform"])
def test_every_expected_target_is_scraped(trees: Path, variant: str) -> None:
    """The twin of "up == 0" would fire for ever if the scrape configuration did not agree with it."""
    config = yaml.safe_load((trees / variant / "prometheus.yml").read_text())
    scraped = {
        (job["job_name"], target["labels"]["host"].removeprefix(f"{variant}-"))
        for job in config["scrape_configs"]
        for target in job.get("static_configs") or []
        if "host" in target.get("labels", {})
    }
    assert missing(trees, variant) == scraped


def documented() -> dict[str, list[str]]:
    """Return the rows of the alerts' table in docs/alerting.md."""
    text = (CHECKOUT / "docs/alerting.md").read_text().split("## Alerts", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row for row in rows}


def test_the_documents_table_is_the_rules(trees: Path) -> None:
    found, rows = alerts(trees, "default"), documented()
    assert list(rows) == list(found)
    variables = yaml.safe_load((CHECKOUT / "roles/prometheus/defaults/main.yml").read_text())
    named: set[str] = set()
    for name, row in rows.items():
        rule = found[name]
        assert row[1] == rule["labels"]["severity"], name
        assert row[2] == rule["labels"]["team"], name
        assert row[4] == rule.get("for", "at once"), name
        mine = re.findall(r"`(\w+)`", row[5])
        assert all(variable in variables for variable in mine), name
        named |= set(mine)
    # Those of no alert, or of all, are told below the table.
    told = named | set(re.findall(r"`(prometheus_alert_\w+)`", (CHECKOUT / "docs/alerting.md").read_text()))
    assert {variable for variable in variables if variable.startswith("prometheus_alert_")} <= told


def test_the_documents_kpis_are_recorded(rules: list[promtool.Rule]) -> None:
    text = (CHECKOUT / "docs/alerting.md").read_text().split("## KPIs and objectives", 1)[1].split("\n## ", 1)[0]
    recorded: set[str] = {t.cast("str", rule["record"]) for rule in rules if "record" in rule}
    named = set(re.findall(r"`([a-z_]+:[\w:]+)`", text))
    assert named and named <= recorded
