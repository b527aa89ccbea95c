"""Odd inputs: what becomes of them is defined, and what follows them is not lost."""

from __future__ import annotations

import json
import time
from urllib.parse import urlencode

import pytest

API = "http://127.0.0.1:3100/loki/api/v1"
RATE, SECONDS = 5000, 10


@pytest.fixture
def mark():
    """A word that only this run's lines carry."""
    return f"odd{time.time_ns()}"


@pytest.fixture
def write(host):
    """write(file, expression): what a Python expression gives, as bytes, at the end of a file of the source odd."""

    def written(name, expression):
        program = f"import sys; open('/var/log/odd/{name}', 'ab').write({expression})"
        host.check_output("mkdir -p /var/log/odd && python3 -c %s", program)

    return written


@pytest.fixture
def lines(http, wait_until):
    """lines(query, number): as many lines of the last and the coming day."""

    def asked(query):
        now = time.time()
        ask = {"query": query, "limit": 5000, "start": f"{now - 86400:.0f}", "end": f"{now + 86400:.0f}"}
        answer = http.get(f"{API}/query_range?{urlencode(ask)}")
        assert answer.status == 200, answer.body
        return [(int(ns), line) for stream in answer.json()["data"]["result"] for ns, line in stream["values"]]

    def found(query, number):
        wait_until(lambda: len(asked(query)) >= number, what=f"{number} lines of {query}", timeout=30)
        return sorted(asked(query))

    return found


def test_a_file_and_a_directory_that_appear_later_are_read_from_their_start(host, write, lines, mark):
    write(f"{mark}.log", f"b'first {mark}\\nsecond {mark}\\n'")
    assert [line for _at, line in lines(f'{{job="odd"}} |= "{mark}"', 2)] == [f"first {mark}", f"second {mark}"]


def test_a_line_of_200_kb_is_kept_whole_and_one_above_the_limit_is_cut(write, lines, mark):
    write(
        "long.log", f"b'{mark} ' + b'x' * 200_000 + b'\\n' + b'{mark} ' + b'y' * 300_000 + b'\\n' + b'{mark} after\\n'"
    )
    texts = [line for _at, line in lines(f'{{job="odd"}} |= "{mark}"', 3)]
    assert sorted(len(text) for text in texts) == [len(f"{mark} after"), len(mark) + 1 + 200_000, 256 * 1024]


def test_binary_rubbish_does_no_harm_to_what_follows(write, lines, mark):
    write(
        "rubbish.log", f"bytes(range(256)).replace(b'\\n', b'') * 20 + b'\\n\\xff\\xfe {mark} \\x00\\n{mark} after\\n'"
    )
    texts = [line for _at, line in lines(f'{{job="odd"}} |= "{mark}"', 2)]
    assert f"{mark} after" in texts


def test_a_clock_that_jumps_ahead_and_back_loses_nothing(write, lines, mark):
    """The lines say their time. Ten hours ahead, back again, an hour late: all are kept, at their own time."""
    now = time.time()
    times = [now, now + 10 * 3600, now + 10 * 3600 + 1, now + 1, now + 2, now - 3600]
    rows = "".join(
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.000000Z {mark} {number}\\n"
        for number, at in enumerate(times)
    )
    write("clock.log", f"b'{rows}'")
    got = lines(f'{{job="odd"}} |= "{mark}"', len(times))
    assert [(ns // 10**9, int(line.rsplit(" ", 1)[1])) for ns, line in got] == sorted(
        (int(at), number) for number, at in enumerate(times)
    )


def test_a_time_that_cannot_be_is_refused_counted_and_stops_nothing(http, write, lines, mark):
    before = dropped(http)
    far = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 48 * 3600))
    write("future.log", f"b'{far}.000000Z {mark} far ahead\\n{mark} after\\n'")
    assert [line for _at, line in lines(f'{{job="odd"}} |= "{mark}"', 1)] == [f"{mark} after"]
    assert dropped(http) > before


def dropped(http):
    body = http.get("http://127.0.0.1:3100/metrics").body.splitlines()
    return sum(float(row.rsplit(" ", 1)[1]) for row in body if row.startswith("loki_discarded_samples_total{"))


def test_a_container_that_lives_for_seven_seconds_is_read_to_its_end(host, lines, mark):
    """Looked for every second, and told to the reader every five by Promtail's own discovery."""
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    program = f"import time; print('{mark} first', flush=True); time.sleep(7); print('{mark} last', flush=True)"
    host.check_output("docker run --name %s --entrypoint python3 %s -c %s", f"short-{mark}", image, program)
    try:
        texts = [line for _at, line in lines(f'{{job="docker"}} |= "{mark}"', 2)]
        assert texts == [f"{mark} first", f"{mark} last"]
    finally:
        host.run("docker rm -f %s", f"short-{mark}")


def test_a_container_that_writes_5000_lines_a_second_is_kept_whole(host, http, wait_until):
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    program = (
        "import sys, time\n"
        f"begin = time.monotonic()\n"
        f"for turn in range({SECONDS} * 50):\n"
        f"    sys.stdout.write(''.join(f'line {{turn * {RATE // 50} + n:06d}} ' + 'x' * 80 + chr(10)"
        f" for n in range({RATE // 50})))\n"
        "    sys.stdout.flush()\n"
        "    time.sleep(max(0, begin + (turn + 1) / 50 - time.monotonic()))\n"
        "time.sleep(120)\n"
    )
    host.run("docker rm -f flood-main-deploy")
    since = time.time() - 1
    host.check_output("docker run -d --name flood-main-deploy --entrypoint python3 %s -c %s", image, program)

    def counted():
        window = f"{time.time() - since:.0f}s"
        query = f'sum(count_over_time({{job="docker", container="flood-main-deploy"}}[{window}]))'
        answer = http.get(f"{API}/query?{urlencode({'query': query})}")
        found = answer.json()["data"]["result"] if answer.status == 200 else []
        return int(found[0]["value"][1]) if found else 0

    try:
        wait_until(lambda: counted() >= RATE * SECONDS, what=f"{RATE * SECONDS} lines", timeout=90, every=2)
        took = time.time() - since
        assert counted() == RATE * SECONDS
        print(json.dumps({"what": "a container with 5,000 lines/s", "lines": counted(), "seconds": round(took)}))
    finally:
        host.run("docker rm -f flood-main-deploy")
