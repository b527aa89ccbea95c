"""The OpenTelemetry Collector: a line becomes what Promtail makes of it, and none is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

CHECKOUT = Path(__file__).parents[3]
RATE = 1000
FILE = "/var/log/loss/numbers.log"
METRICS = "http://127.0.0.1:8888/metrics"
# Of this run alone.
NAME = f"twin{time.time_ns()}"


def test_answers_ready_and_with_its_own_metrics(http):
    assert http.get("http://127.0.0.1:13133/").json()["status"] == "Server available"
    body = http.get(METRICS).body
    assert 'otelcol_exporter_queue_size{data_type="logs",exporter="otlp_http"}' in body
    # The source of containers is given up; the others are there.
    assert "file_log/docker" not in body


def test_its_own_checker_refuses_a_broken_expression(host):
    """The role has each new configuration checked this way."""
    script = (
        "sed 's/line_start_pattern: .*/line_start_pattern: \"(\"/' /etc/deployment-monitoring/otelcol/config.yaml"
        " >/tmp/config.yaml; grep -c 'line_start_pattern: \"(\"' /tmp/config.yaml;"
        " chmod 644 /tmp/config.yaml; docker run --rm --network=none -v /tmp/config.yaml:/c.yaml"
        " $(docker inspect -f '{{.Config.Image}}' otelcol) validate --config=/c.yaml"
    )
    done = host.run(script)
    assert done.stdout.splitlines()[0] == "1"
    assert done.rc != 0
    assert "missing closing )" in done.stderr


def stamp(ago, form):
    return time.strftime(form, time.gmtime(time.time() - ago))


@pytest.fixture(scope="module")
def corpus():
    """Lines by file; those of the first list say their own time, those of the second do not."""
    iso, old = "%Y-%m-%dT%H:%M:%S", "%b %e %H:%M:%S"
    now = time.time()
    timed = {
        f"/var/log/port-manager/{NAME}.log": [
            json.dumps({"timestamp": stamp(5, iso) + ".123456789Z", "level": "ERROR", "port": 1, "project": "é ❌"}),
            json.dumps({"ts": stamp(5, iso) + "+0100", "severity": "Notice", "port": 1.5, "branch": True}),
            json.dumps({"@timestamp": stamp(5, iso) + ",5", "lvl": 50, "level": "", "port": "8101", "project": None}),
            json.dumps({"time": stamp(5, "%Y-%m-%d %H:%M:%S"), "level": {"no": "word"}, "message": "$1 ${x} $$"}),
            json.dumps({"ts": stamp(6, iso) + "Z", "log": {"level": "warning"}}),
            json.dumps({"ts": stamp(6, iso) + "Z", "log.level": "debug", "log": "no object"}),
        ],
        f"/var/log/{NAME}.log": [
            stamp(7, old) + " web sshd[1]: error: no key",
            stamp(7, "%Y-%m-%d %H:%M:%S") + ",123 WARNING slow",
            stamp(1800, iso) + ".654321+00:00 web cron[1]: CRIT",
            "web " + stamp(9, iso) + "Z  level=debug between  \t",
        ],
        f"/srv/billing/log/{NAME}.log": [
            f'level=warning ts={stamp(3, iso)}Z msg="late, but \\"here\\"" invoice="a b"',
            f"a bare word, don't mind time={stamp(3, iso)}Z severity=E invoice=4711",
        ],
        f"/var/log/legacy/{NAME}.txt": [stamp(4, iso) + "Z SCHWER order-9 verloren", stamp(4, iso) + "Z Warn x"],
        f"/srv/unix/{NAME}.log": [
            json.dumps({"at": {"seconds": int(now) - 3, "a": {"b": "deep"}}, "@odd": 5, "tier": "web"}),
            json.dumps({"at": {"seconds": int(now) - 2.5}, "level": "W", "tier": 7}),
        ],
    }
    untimed = {
        f"/var/log/port-manager/{NAME}.log": ["no JSON at all ERROR here", '{"level": "info"}', "[1]"],
        f"/var/log/{NAME}.log": [
            "[notice] started",
            "E1123 10:00:00.000000 1 main.go:1] gone",
            '{"t":{"$date":"x"},"s":"W","c":"COMMAND","msg":"Slow query"}',
            '{"level":50,"msg":"pino"}',
            "an error in prose is none",
            "  blanks before and after  ",
            "x" * 300_000,
        ],
        f"/srv/unix/{NAME}.log": ['{"at": "no object"}'],
    }
    return timed, untimed


def test_a_line_becomes_what_promtail_makes_of_it(host, corpus, lines, wait_until):
    timed, untimed = corpus
    host.check_output("docker start promtail")
    files = {path: [*timed.get(path, []), *untimed.get(path, [])] for path in {**timed, **untimed}}
    program = (
        "import json, os, sys\n"
        "for path, rows in json.load(sys.stdin).items():\n"
        "    os.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "    open(path, 'a').writelines(row + '\\n' for row in rows)\n"
    )
    subprocess.run(
        ["docker", "exec", "-i", host.backend.name, "python3", "-c", program],
        input=json.dumps(files),
        text=True,
        check=True,
        timeout=60,
    )
    number = sum(map(len, files.values()))

    def got(twin):
        since = time.time() - 7200
        return [
            ({name: value for name, value in labels.items() if name != "environment"}, ns, line)
            for labels, ns, line in lines(f'{{filename=~".*/{NAME}[.].*"}}', since=since, twin=twin)
        ]

    for twin in (True, False):
        wait_until(lambda twin=twin: len(got(twin)) >= number, what=f"{number} lines (of Promtail: {twin})")
    ours, promtails = got(False), got(True)
    assert len(ours) == len(promtails) == number

    def sort(rows):
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    assert sort((labels, line) for labels, _ns, line in ours) == sort((labels, line) for labels, _ns, line in promtails)
    # A line without a time: here it stands at its reading, there (in a file of records) beside its neighbour.
    own = {line for rows in timed.values() for line in rows}
    assert sort((ns, line) for _labels, ns, line in ours if line in own) == sort(
        (ns, line) for _labels, ns, line in promtails if line in own
    )
    assert {line for _labels, _ns, line in ours} >= own


def test_nothing_is_lost_or_doubled_whatever_happens(host, http, wait_until):
    """Restart and kill of the collector, a renamed file, Loki away and the collector restarted then; all while a writer
    numbers its lines."""
    # The other one would send the same lines.
    host.check_output("docker stop -t 5 promtail")
    for name in ("writer.py", "count.py"):
        source, target = str(CHECKOUT / "tests/logs" / name), f"{host.backend.name}:/usr/local/bin/{name}"
        subprocess.run(["docker", "cp", source, target], check=True, capture_output=True, timeout=60)
    host.check_output("rm -rf /var/log/loss; mkdir -p /var/log/loss; systemctl reset-failed counted 2>/dev/null; true")
    since = time.time()
    host.check_output(f"systemd-run --unit=counted /usr/bin/python3 /usr/local/bin/writer.py {FILE} {RATE} 600")
    time.sleep(3)
    host.check_output("docker restart otelcol")
    time.sleep(2)
    host.check_output("mv %s %s.1", FILE, FILE)
    time.sleep(1)
    host.check_output("kill -9 $(docker inspect -f '{{.State.Pid}}' otelcol)")
    time.sleep(3)
    host.check_output("docker stop -t 63 loki")
    time.sleep(2)
    # What it has read and cannot send waits on the disk.
    host.check_output("docker restart otelcol")
    time.sleep(1)
    host.check_output("docker start loki")
    time.sleep(2)
    host.check_output("systemctl stop counted")
    last = int(host.check_output("cat %s.count", FILE))

    def newest():
        ask = urlencode({"limit": 1, "direction": "backward", "query": '{job="loss"}'})
        answer = http.get(f"http://127.0.0.1:3100/loki/api/v1/query_range?{ask}")
        streams = answer.json()["data"]["result"] if answer.status == 200 else []
        return int(streams[0]["values"][0][1].split("line ")[1][:9]) if streams else 0

    wait_until(lambda: newest() >= last, what=f"line {last}", timeout=60)
    window = f"{int(since)} {time.time() + 2:.0f}"
    got = json.loads(host.check_output(f"python3 /usr/local/bin/count.py loss 1 {last} {window}"))
    print(got)
    assert got["written"] > 10 * RATE
    assert (got["lost"], got["doubled"]) == (0, 0), got
