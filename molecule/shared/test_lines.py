"""What becomes of a line of a file, whichever collector reads it: its labels, time, level and metadata.

And the mission's queries, as far as they ask for files.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

ID = "deploy-1755768199487"
# Where the target of the scenario lives.
PARIS = ZoneInfo("Europe/Paris")
# What an earlier run on the same target wrote is not asked for.
BEGIN = time.time()


def record(level, message, at=None, **fields):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at or time.time()))
    return json.dumps({"timestamp": f"{stamp}.123456789Z", "level": level, "message": message, **fields},
                      ensure_ascii=False)  # fmt: skip


@pytest.fixture(scope="module")
def platform(write, found):
    """Lines of every job, among them those that the mission's queries look for and near misses."""
    write(
        "/var/log/port-manager/pm.log",
        record("info", "allocated", port=8101, project="shop", branch="main"),
        record("ERROR", "no free port", port=8102, project="shop", branch="main"),
        record("error", "small letters are not ERROR", port=8103, project="blog", branch="x-y"),
    )
    write(
        "/var/log/deployment-api/api.log",
        record("info", "🚀 Deployment of shop/main started", deployment_id=ID, commit="a" * 40),
        record("error", "❌ Deployment of shop/main failed", deployment_id=ID, commit="a" * 40),
        record("error", "❌ webhook refused"),
        record("info", "✅ Deployment of blog/main succeeded", deployment_id="deploy-2", commit="b" * 40),
    )
    write(
        "/var/log/tunnel-manager/tm.log",
        record("warn", f"tunnel kept for {ID}", hostname="shop.example.org", container="shop-main-deploy"),
    )
    write("/var/log/syslog", "level=ERROR state=CRITICAL msg=both", "level=ERROR msg=one", "CRITICAL alone")
    found('{job=~"port-manager|deployment-api|tunnel-manager"}', 8)


def test_a_json_line_has_its_own_time_level_and_metadata(platform, found):
    ((labels, ns, line),) = found('{job="port-manager"} |= "no free port"', 1)
    assert labels["level"] == "error"
    assert (labels["port"], labels["project"], labels["branch"]) == ("8102", "shop", "main")
    assert ns % 1_000_000_000 == 123456789
    assert json.loads(line)["port"] == 8102


def test_only_bounded_labels_make_streams(platform, http, lines):
    labels = set(http.get("http://127.0.0.1:3100/loki/api/v1/labels").json()["data"])
    assert "job" in labels
    assert labels <= {"job", "host", "environment", "level", "filename", "container", "project", "branch", "tier"}
    # What one query would otherwise need a label for.
    assert len(lines('{job="port-manager"} | port="8102"')) == 1


# The mission's queries ("Requêtes utiles"), each with what it must return of the lines above.
MISSION = {
    '{job="port-manager"} |= "ERROR" | json': ["no free port", "small letters are not ERROR"],
    '{job="deployment-api"} |= "❌" | json | deployment_id != ""': ["❌ Deployment of shop/main failed"],
    '{job="varlogs"} |= "ERROR" |= "CRITICAL" | logfmt': ["level=ERROR state=CRITICAL msg=both"],
    f'{{job="deployment-api"}} |= "{ID}"': ["🚀 Deployment of shop/main started", "❌ Deployment of shop/main failed"],
    # The same across all jobs that read files.
    f'{{filename=~".+"}} |= "{ID}"': [
        "🚀 Deployment of shop/main started",
        "❌ Deployment of shop/main failed",
        f"tunnel kept for {ID}",
    ],
}


@pytest.mark.parametrize("query", MISSION)
def test_a_query_of_the_mission_returns_exactly_its_lines(platform, found, query, capsys):
    got = [line for _labels, _ns, line in found(query, len(MISSION[query]))]
    with capsys.disabled():
        print(f"\n{query}: expected {len(MISSION[query])}, got {len(got)}")
    said = [json.loads(line)["message"] if line.startswith("{") else line for line in got]
    assert sorted(said) == sorted(MISSION[query])


LEVELS = {
    "{old} web sshd[1]: error: no key": "error",
    "{new},123 WARNING slow": "warn",
    "[notice] started": "info",
    "E1123 10:00:00.000000 1 main.go:1] gone": "error",
    '{"t":{"$date":"x"},"s":"W","c":"COMMAND","msg":"Slow query"}': "warn",
    'ts=x severity="debug" msg=y': "debug",
    '{"level":50,"msg":"pino"}': "error",
    "CRITICAL disk": "error",
    "\x1b[31mERROR\x1b[0m in red": "error",
    "\x1b[33mwarn\x1b[39m: in yellow": "warn",
    "fail: Microsoft.AspNetCore.Server[13]": "error",
    "[Wed Nov 25 13:00:00.1 2026] [core:error] [pid 1:tid 2] AH00126": "error",
    '{"log.level":"warn","message":"of the Elastic schema"}': "warn",
    "levelname=DEBUG msg=python": "debug",
    "an error in prose is none": None,
    "information desk": None,
}


def test_a_text_line_has_the_level_that_it_says(write, found):
    now = {"{old}": "%b %e %H:%M:%S", "{new}": "%Y-%m-%d %H:%M:%S"}
    marked = {}
    for number, (text, level) in enumerate(LEVELS.items()):
        for word, form in now.items():
            text = text.replace(word, datetime.now(PARIS).strftime(form))
        marked[f"{text} #level{number}"] = level
    write("/var/log/levels.log", *marked)
    got = {line: labels.get("level") for labels, _ns, line in found('{job="varlogs"} |= "#level"', len(marked))}
    assert got == marked


def test_a_syslog_line_stands_at_its_own_time(write, found):
    """The old format names no zone: it is the host's."""
    at = BEGIN - 1800
    write(
        "/var/log/syslog",
        datetime.fromtimestamp(at, PARIS).strftime("%b %e %H:%M:%S") + " web cron[1]: #old-format",
        time.strftime("%Y-%m-%dT%H:%M:%S.654321+00:00", time.gmtime(at)) + " web cron[1]: #new-format",
    )
    for mark, fraction in (("#old-format", 0), ("#new-format", 654321000)):
        ((_labels, ns, _line),) = found(f'{{job="varlogs"}} |= "{mark}"', 1, since=at)
        assert ns == int(at) * 1_000_000_000 + fraction


def test_a_source_of_four_lines_is_collected(write, found):
    write("/srv/billing/log/b.log", 'level=warning time=x msg="late" invoice=4711')
    ((labels, _ns, _line),) = found('{job="billing"}', 1)
    assert (labels["level"], labels["invoice"], labels["tier"]) == ("warn", "4711", "back")


def test_several_lines_of_one_trace_are_one(write, found):
    write("/var/log/traces/t.trace", "10:00 ERROR broken", "  at one", "  at two", "10:01 INFO fine")
    texts = [line for _labels, _ns, line in found('{job="traces"}', 2)]
    assert sorted(texts) == ["10:00 ERROR broken\n  at one\n  at two", "10:01 INFO fine"]


def test_an_own_expression_and_own_words_for_levels(write, found):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGIN + 1))
    write("/var/log/legacy/l.txt", f"{stamp} SCHWER order-9 verloren")
    ((labels, ns, _line),) = found('{job="legacy"}', 1)
    assert (labels["level"], labels["order"]) == ("error", "order-9")
    assert ns == int(BEGIN + 1) * 10**9
