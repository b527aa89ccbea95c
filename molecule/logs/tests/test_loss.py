"""Nothing lost: after everything that may happen each number of the writer is in Loki once.

LOGS_AWAY=600 takes Loki away for the 10 minutes of the report in docs/logs.md; by default it is 60 s. LOGS_COLLECTOR
names another collector, on a target where it is alone. Each row of the report goes to logs-loss.jsonl among the
checkout's own files (LOGS_REPORT).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

CHECKOUT = Path(__file__).parents[3]
RATE = 1000
COLLECTOR = os.environ.get("LOGS_COLLECTOR", "promtail")
AWAY = int(os.environ.get("LOGS_AWAY", "60"))
FILE = "/var/log/loss/numbers.log"
LOKI = "http://127.0.0.1:3100"
CONTAINER = "numbers-main-deploy"
REPORT = Path(os.environ.get("LOGS_REPORT") or Path(os.environ["CHECKOUT_STATE"]) / "logs-loss.jsonl")


def report(**row):
    """Say a row of the table in docs/logs.md."""
    print(json.dumps(row))
    with open(REPORT, "a") as file:
        file.write(json.dumps(row) + "\n")


def outside(*words, timeout=120):
    """Do something to the machine itself."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=timeout).stdout


class Memory(threading.Thread):
    """The most memory that containers of the target took, in MB: the kernel notes it, and is asked every 20 s."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.most, self.over = target, {}, threading.Event()

    def run(self):
        script = (
            f"for n in loki {COLLECTOR}; do p=$(docker inspect -f '{{{{.State.Pid}}}}' $n 2>/dev/null);"
            " echo $n $(awk '/^VmHWM/{print $2}' /proc/$p/status 2>/dev/null); done"
        )
        while not self.over.wait(20):
            done = subprocess.run(
                ["docker", "exec", self.target, "sh", "-c", script], capture_output=True, text=True, check=False
            )
            for row in done.stdout.splitlines():
                name, _, size = row.partition(" ")
                if size.strip().isdigit():
                    self.most[name] = max(self.most.get(name, 0), int(size) // 1024)


@pytest.fixture(scope="module")
def writer(host):
    """1,000 numbered lines a second, from now until the tests are over; it comes back with the machine."""
    for name in ("writer.py", "count.py"):
        outside("docker", "cp", str(CHECKOUT / "tests/logs" / name), f"{host.backend.name}:/usr/local/bin/{name}")
    unit = (
        "[Unit]\nDescription=Numbered lines\n[Service]\nRestart=no\n"
        f"ExecStart=/usr/bin/python3 /usr/local/bin/writer.py {FILE} {RATE} 86400\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    host.check_output("systemctl stop numbers 2>/dev/null; rm -rf /var/log/loss; mkdir -p /var/log/loss")
    host.check_output("printf %s >/etc/systemd/system/numbers.service", unit)
    host.check_output("systemctl daemon-reload && systemctl enable --now numbers")
    memory = Memory(host.backend.name)
    memory.start()
    time.sleep(5)
    yield
    memory.over.set()
    host.run("systemctl disable --now numbers")
    report(what="most memory, MB", **memory.most)


def last(host):
    return int(host.check_output("cat %s.count 2>/dev/null || echo 0", FILE))


def newest(http, ask='{job="loss"}'):
    """The newest number that Loki has."""
    url = f"{LOKI}/loki/api/v1/query_range?{urlencode({'limit': 1, 'direction': 'backward', 'query': ask})}"
    answer = http.get(url)
    if answer.status != 200:
        return 0
    streams = answer.json()["data"]["result"]
    return int(streams[0]["values"][0][1].split("line ")[1][:9]) if streams else 0


def counted(host, job, first, number, since):
    """What Loki has of the numbers of a test, and which it lacks."""
    command = f"python3 /usr/local/bin/count.py {job} {first} {number} {since - 10:.0f} {time.time() + 2:.0f}"
    got = json.loads(host.check_output(command))
    return got, got.pop("lost_numbers")


@pytest.fixture
def nothing_lost(host, http, wait_until, writer, request):
    """Run a test while lines are written, then count those that were written meanwhile."""
    since, first = time.time(), last(host) + 1
    yield
    time.sleep(3)
    number = last(host)
    # With half a minute for each minute away: what waited is read much faster than it was written.
    wait_until(lambda: newest(http) >= number, what=f"line {number}", timeout=120 + AWAY, every=2)
    got, missing = counted(host, "loss", first, number, since)
    report(what=request.node.name.split("[")[0], seconds=round(time.time() - since), **got)
    assert (got["lost"], got["doubled"]) == (0, 0), missing[:3]


@pytest.fixture(scope="module")
def container(host):
    """A container that writes 200 numbered lines a second."""
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    program = (
        "import itertools, time\n"
        "for n in itertools.count(1):\n"
        "    print(f'line {n:09d} of a container', flush=n % 20 == 0)\n"
        "    n % 20 or time.sleep(0.1)\n"
    )
    host.run("docker rm -f %s", CONTAINER)
    host.check_output("docker run -d --name %s --entrypoint python3 %s -c %s", CONTAINER, image, program)
    time.sleep(3)
    yield
    host.run("docker rm -f %s", CONTAINER)


@pytest.fixture
def nothing_lost_of_a_container(host, http, wait_until, writer, container, request):
    """The same for the lines of a container, which no file holds. (The OpenTelemetry Collector reads none.)"""
    if COLLECTOR == "otelcol":
        yield
        return

    def said():
        return int(host.check_output("docker logs --tail 1 %s", CONTAINER).split()[1])

    since, first = time.time(), said() + 1
    yield
    number = said()
    ask = f'{{job="docker",container="{CONTAINER}"}}'
    wait_until(lambda: newest(http, ask) >= number, what=f"line {number} of the container", timeout=60, every=2)
    got, missing = counted(host, "docker", first, number, since)
    report(what=request.node.name.split("[")[0] + ", a container", seconds=round(time.time() - since), **got)
    assert (got["lost"], got["doubled"]) == (0, 0), missing[:3]


def test_the_delay_from_write_to_query(host, http, nothing_lost):
    """Lines of their own beside the thousand each second: from when each was written until a query returns it."""
    script = r"""
import json, time, urllib.parse, urllib.request
begin = time.time()
due = [begin + 0.37 * n for n in range(40)]
written, delays = {}, {}
while len(delays) < 40:
    if len(written) < 40 and time.time() >= due[len(written)]:
        mark, at = f"probe-{time.time_ns()}", time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"
        with open("/var/log/odd/probe.log", "a") as file:
            file.write(stamp + " " + mark + "\n")
        written[mark] = at
    ask = {"query": '{job="odd"} |= "probe-"', "limit": 100, "start": int((begin - 1) * 1e9)}
    url = "http://127.0.0.1:3100/loki/api/v1/query_range?" + urllib.parse.urlencode(ask)
    with urllib.request.urlopen(url) as answer:
        streams = json.load(answer)["data"]["result"]
    now = time.time()
    there = {line.split()[-1] for stream in streams for _at, line in stream["values"]}
    delays |= {mark: now - at for mark, at in written.items() if mark in there and mark not in delays}
    assert now - begin < 120
    time.sleep(0.05)
print(json.dumps(sorted(delays.values())))
"""
    host.check_output("mkdir -p /var/log/odd && touch /var/log/odd/probe.log && sleep 6")
    delays = json.loads(host.check_output("python3 -c %s", script))
    p50, p95 = statistics.median(delays), delays[int(len(delays) * 0.95)]
    report(what="write to query, seconds", p50=round(p50, 2), p95=round(p95, 2), number=len(delays))
    assert p95 <= 5


def test_restart_of_the_collector(host, nothing_lost, nothing_lost_of_a_container):
    host.check_output("docker restart %s", COLLECTOR)
    time.sleep(5)


def test_kill_of_the_collector(host, nothing_lost, nothing_lost_of_a_container):
    host.check_output("kill -9 $(docker inspect -f '{{.State.Pid}}' %s)", COLLECTOR)
    time.sleep(5)


def test_restart_of_loki(host, nothing_lost):
    host.check_output("docker restart -t 63 loki")
    time.sleep(5)


def test_kill_of_loki(host, nothing_lost):
    host.check_output("kill -9 $(docker inspect -f '{{.State.Pid}}' loki)")
    time.sleep(5)


def test_loki_away(host, nothing_lost):
    host.check_output("docker stop -t 63 loki")
    time.sleep(AWAY)
    host.check_output("docker start loki")


def test_rotation_by_rename(host, nothing_lost):
    for number in range(3):
        host.check_output("mv %s %s.%s", FILE, FILE, str(number))
        time.sleep(5)


def test_a_machine_that_starts_again(host, http, nothing_lost, wait_until):
    outside("docker", "restart", "-t", "90", host.backend.name, timeout=180)
    wait_until(lambda: http.get(f"{LOKI}/ready").status == 200, what="Loki", timeout=120)
    # The writer came back with the machine, and writes while the other two are there.
    number = last(host)
    wait_until(lambda: last(host) > number + RATE, what="more lines", timeout=60, every=2)


def test_new_images_of_both(host, nothing_lost):
    """Both containers are made anew from images of another version, side by side, as an upgrade does it."""
    words = ["molecule", "converge", "-s", host.backend.name.removeprefix("monitoring-"), "--", *upgrade(host)]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert host.check_output("docker inspect -f '{{.Config.Image}}' %s", COLLECTOR).endswith(":upgraded")


def upgrade(host):
    """Put the versions `upgraded` onto the machine; they are the same programs under another image."""
    found = []
    for name in ("loki", COLLECTOR):
        image = host.check_output("docker inspect -f '{{.Config.Image}}' %s", name)
        host.check_output("docker tag %s %s", image, image.rsplit(":", 1)[0] + ":upgraded")
        found += ["-e", f"{name}_version=upgraded"]
    return found


def in_no_file(host, first, number):
    """The numbers that rotation itself threw away: they are in none of the files."""
    program = (
        "import glob, re\n"
        "texts = [open(path).read() for path in glob.glob('/var/log/loss/*')]\n"
        "there = {int(n) for text in texts for n in re.findall(r'line (\\d{9})', text)}\n"
        f"print(*(n for n in range({first}, {number} + 1) if n not in there))\n"
    )
    return {int(word) for word in host.check_output("python3 -c %s", program).split()}


def test_rotation_by_copy_and_truncate(host, http, writer, wait_until):
    """What is written between the copy and the truncation is in neither; what is in the copy only, was not read yet."""
    host.run("rm -f /var/log/loss/*.log.*[0-9]")
    since, first = time.time(), last(host) + 1
    time.sleep(2)
    for number in range(3):
        host.check_output("cp %s /var/log/loss/copy.%s && truncate -s 0 %s", FILE, str(number), FILE)
        time.sleep(5)
    number = last(host)
    wait_until(lambda: newest(http) >= number, what=f"line {number}", timeout=60, every=2)
    gone = in_no_file(host, first, number)
    got, missing = counted(host, "loss", first, number, since)
    not_read = len(set(missing) - gone)
    report(what="rotation by copy and truncate, 3 times", thrown_away_by_it=len(gone), not_read_in_time=not_read, **got)
    assert got["doubled"] == 0
    # At most one turn of the writer at each truncation.
    assert not_read <= 3 * RATE / 10
    assert got["lost"] <= 3 * RATE / 10


def test_rotation_while_the_collector_is_down(host, http, writer, wait_until):
    """What it had not read of the former file is lost: no path leads to it any more. All of the new file is read, if it
    is smaller than the former one was: the collector remembers a place for a path."""
    since, first = time.time(), last(host) + 1
    host.check_output("python3 -c %s", f"open('{FILE}', 'a').write(('x' * 200_000 + chr(10)) * 20)")
    time.sleep(2)
    stopped = last(host)
    host.check_output("docker stop %s", COLLECTOR)
    time.sleep(1)
    host.check_output("mv %s %s.down", FILE, FILE)
    moved = last(host)
    time.sleep(1)
    host.check_output("docker start %s", COLLECTOR)
    time.sleep(2)
    number = last(host)
    wait_until(lambda: newest(http) >= number, what=f"line {number}", timeout=60, every=2)
    got, missing = counted(host, "loss", first, number, since)
    report(what="rotation while the collector is down", between_stop_and_rotation=moved - stopped, **got)
    assert got["doubled"] == 0
    # With the turn of the writer that was under way.
    assert all(stopped - RATE / 10 <= one <= moved + RATE / 10 for one in missing), (stopped, moved, missing[:3])


@pytest.mark.parametrize("rotations", [1, 2])
def test_rotation_while_loki_is_away(host, http, writer, wait_until, rotations):
    """The former file is open still and is read to its end. A file between that one and the newest is lost."""
    since, first = time.time(), last(host) + 1
    time.sleep(1)
    host.check_output("docker stop -t 63 loki")
    # Until what it holds is full and it reads no further.
    time.sleep(4)
    before = last(host)
    for number in range(rotations):
        host.check_output("mv %s %s.away%s", FILE, FILE, str(number))
        after = last(host)
        time.sleep(2)
    host.check_output("docker start loki")
    time.sleep(2)
    number = last(host)
    wait_until(lambda: newest(http) >= number, what=f"line {number}", timeout=60, every=2)
    got, missing = counted(host, "loss", first, number, since)
    report(what=f"rotation while Loki is away, {rotations} times", in_the_file_between=after - before, **got)
    assert got["doubled"] == 0
    if rotations == 1:
        assert not missing
    assert all(before - RATE / 10 <= one <= after + RATE / 10 for one in missing), (before, after, missing[:3])
