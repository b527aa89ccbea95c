"""What becomes of a line: its labels, time, level and metadata, and the mission's queries."""

from __future__ import annotations

import json
import time
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

PUSHED = "http://127.0.0.1:3100/loki/api/v1"
ID = "deploy-1755768199487"


# Where the target of the scenario lives.
PARIS = ZoneInfo("Europe/Paris")
# What an earlier run on the same target wrote is not asked for.
BEGIN = time.time()


def lines(http, query, since=BEGIN):
    """The lines of a query: (labels and metadata, nanoseconds, line), oldest first."""
    ask = {"query": query, "start": f"{since - 1:.0f}", "end": f"{time.time() + 60:.0f}", "limit": "5000"}
    answer = http.get(f"{PUSHED}/query_range?{urlencode(ask)}")
    assert answer.status == 200, answer.body
    streams = answer.json()["data"]["result"]
    return sorted(((s["stream"], int(ns), line) for s in streams for ns, line in s["values"]), key=lambda one: one[1])


@pytest.fixture(scope="module")
def write(host):
    """write(path, *lines): appends lines to a file on the target."""

    def written(path, *texts):
        assert host.run("mkdir -p $(dirname %s)", path).rc == 0
        for text in texts:
            host.check_output("printf '%%s\\n' %s >>%s", text, path)

    return written


@pytest.fixture(scope="module")
def found(http, wait_until):
    """found(query, number): the lines, once there are as many."""

    def found(query, number, since=BEGIN):
        wait_until(lambda: len(lines(http, query, since)) >= number, what=f"{number} lines of {query}", timeout=20)
        return lines(http, query, since)

    return found


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


def test_only_bounded_labels_make_streams(platform, http):
    labels = set(http.get(f"{PUSHED}/labels").json()["data"])
    assert "job" in labels
    assert labels <= {"job", "host", "environment", "level", "filename", "container", "project", "branch", "tier"}
    # What one query would otherwise need a label for.
    assert len(lines(http, '{job="port-manager"} | port="8102"')) == 1


# The mission's queries ("Requêtes utiles"), each with what it must return of the lines above.
MISSION = {
    '{job="port-manager"} |= "ERROR" | json': ["no free port", "small letters are not ERROR"],
    '{job="deployment-api"} |= "❌" | json | deployment_id != ""': ["❌ Deployment of shop/main failed"],
    '{job="varlogs"} |= "ERROR" |= "CRITICAL" | logfmt': ["level=ERROR state=CRITICAL msg=both"],
    f'{{job="deployment-api"}} |= "{ID}"': ["🚀 Deployment of shop/main started", "❌ Deployment of shop/main failed"],
    # The same across all jobs.
    f'{{job=~".+"}} |= "{ID}"': [
        "🚀 Deployment of shop/main started",
        "❌ Deployment of shop/main failed",
        f"tunnel kept for {ID}",
        f"an app of {ID}",
    ],
}


@pytest.mark.parametrize("query", MISSION)
def test_a_query_of_the_mission_returns_exactly_its_lines(platform, containers, found, query, capsys):
    got = [line for _labels, _ns, line in found(query, len(MISSION[query]))]
    with capsys.disabled():
        print(f"\n{query}: expected {len(MISSION[query])}, got {len(got)}")
    said = [json.loads(line)["message"] if line.startswith("{") else line for line in got]
    assert sorted(said) == sorted(MISSION[query])


@pytest.fixture(scope="module")
def containers(host, found):
    """Containers named as the platform names them; their image is the simulator's, because it has an interpreter."""
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    said = {
        "shop-feature-cart-deploy": ['{"level":"warn","msg":"restart of the worker"}', "plain restart"],
        "my-shop-main-deploy": ["ERROR no memory", "level=debug msg=fine"],
        "helper": ["nothing to say", f"an app of {ID}"],
    }
    for name, texts in said.items():
        host.run("docker rm -f %s", name)
        program = f"import time; print(*{texts!r}, sep=chr(10), flush=True); time.sleep(3600)"
        host.check_output("docker run -d --name %s --entrypoint python3 %s -c %s", name, image, program)
    found('{job="docker", container=~".*-deploy|helper"}', 6)
    yield
    for name in said:
        host.run("docker rm -f %s", name)


def test_the_missions_query_for_restarting_containers(containers, found, capsys):
    query = '{job="docker"} |= "restart" | json | container="shop-feature-cart-deploy"'
    got = found(query, 2)
    with capsys.disabled():
        print(f"\n{query}: expected 2, got {len(got)}")
    assert [line for _labels, _ns, line in got] == ['{"level":"warn","msg":"restart of the worker"}', "plain restart"]


@pytest.mark.parametrize(
    ("container", "project", "branch"),
    [
        ("shop-feature-cart-deploy", "shop", "feature-cart"),
        ("my-shop-main-deploy", "my-shop", "main"),
        ("helper", None, None),
    ],
)
def test_an_apps_lines_carry_project_and_branch(containers, found, container, project, branch):
    labels = found(f'{{job="docker", container="{container}"}}', 1)[0][0]
    assert (labels.get("project"), labels.get("branch")) == (project, branch)


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


def test_a_line_of_the_journal_has_its_level_and_its_unit(host, found):
    for level, number in (("err", 3), ("warning", 4), ("info", 6), ("debug", 7)):
        script = f"echo '<{number}>#journal {level}'"
        host.check_output("systemd-run --quiet --wait --collect --unit=%s sh -c %s", f"journal-{level}", script)
    got = found('{job="journal"} |~ "^#journal"', 4)
    assert {line: (labels["level"], labels["unit"]) for labels, _ns, line in got} == {
        "#journal err": ("error", "journal-err.service"),
        "#journal warning": ("warn", "journal-warning.service"),
        "#journal info": ("info", "journal-info.service"),
        "#journal debug": ("debug", "journal-debug.service"),
    }
    # Few streams: the unit is none of their labels.
    assert len(found('{job="journal", unit!=""} |= "#journal"', 0)) == 0


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


def test_lines_are_counted_by_level(platform, http):
    rows = http.get("http://127.0.0.1:9080/metrics").body.splitlines()
    counted = [row for row in rows if row.startswith("monitoring_log_lines_total{") and 'level="' in row]
    counted = [row for row in counted if 'job="port-manager"' in row]
    assert {row.split('level="')[1].split('"')[0] for row in counted} == {"error", "info"}
