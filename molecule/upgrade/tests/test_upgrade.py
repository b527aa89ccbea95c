"""From the former images to the present ones while everything works; images that cannot live; a play that is cut off.

The tests build on each other, in this order. The tables of docs/operations.md are printed and left in `upgrade.md`
beside the checkout's logs.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
CACHE = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"])
STATE = Path(os.environ["CHECKOUT_STATE"])
TABLE = STATE / "upgrade.md"
TARGET = "monitoring-upgrade"
RATE = 500
SCRAPE_SECONDS = 15
RATIO = 1.3
# What a service needs besides, where it is away for less than a second: ten questions a second tell no less.
GRAIN_SECONDS = 0.3
READY = {
    "node_exporter": "http://127.0.0.1:9100/",
    "cadvisor": "http://127.0.0.1:8080/healthz",
    "blackbox_exporter": "http://127.0.0.1:9115/-/healthy",
    "mongodb_exporter": "http://127.0.0.1:9216/",
    "app_discovery": "http://127.0.0.1:9810/healthy",
    "promtail": "http://127.0.0.1:9080/ready",
    "loki": "http://127.0.0.1:3100/ready",
    "grafana": "http://127.0.0.1:3000/api/health",
    "alertmanager": "http://127.0.0.1:9093/-/ready",
    "prometheus": "http://127.0.0.1:9090/-/ready",
}
JOBS = {
    "node_exporter": "node",
    "blackbox_exporter": "blackbox",
    "mongodb_exporter": "mongodb",
    "app_discovery": "app-discovery",
}
SERVICES = [*READY, "docker_proxy"]
# Asks every service ten times a second; one line for each change between answering and not.
PROBER = r"""
import json, sys, threading, time, urllib.request
def watch(name, url):
    up = None
    while True:
        begun = time.time()
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                now = answer.status < 300
        except OSError:
            now = False
        if now != up:
            print(json.dumps([round(begun, 2), name, now]), flush=True)
            up = now
        time.sleep(max(0, begun + 0.1 - time.time()))
for pair in json.loads(sys.argv[1]).items():
    threading.Thread(target=watch, args=pair, daemon=True).start()
time.sleep(3600)
"""
VERSIONS = yaml.safe_load((CACHE / "images/vars.yml").read_text())


# Images that cannot live; each is made of the present one, in the target's own engine.
BROKEN_TAGS = {"exit": "99.0.0", "silent": "99.1.0", "data": "99.2.0", "refuses": "99.3.0"}
CHECKERS = {
    "prometheus": "/bin/promtool",
    "alertmanager": "/bin/amtool",
    "loki": "/usr/bin/loki",
    "promtail": "/usr/bin/promtail",
    "blackbox_exporter": "/bin/blackbox_exporter",
    "app_discovery": "/usr/bin/python3",
}
DATA = {
    "grafana": ["/var/lib/grafana/grafana.db"],
    "alertmanager": ["/alertmanager/silences", "/alertmanager/nflog"],
    "promtail": ["/promtail/positions.yaml"],
    "prometheus": [],
    "loki": [],
}
# The program of app_discovery is ours and is not in its image: whatever is broken there, the checker meets it first.
BREAKABLE = [name for name in SERVICES if name != "app_discovery"]
BROKEN = {
    # One that spoils its data ends by itself as well.
    "exit": [name for name in BREAKABLE if name not in DATA],
    "silent": BREAKABLE,
    "data": sorted(DATA),
    "refuses": sorted(CHECKERS),
}


def command(playbook: str, *options: str, **variables: object) -> list[str]:
    """How a playbook is run against the target, with the present versions."""
    inventory = STATE / "upgrade-inventory"
    groups = "".join(f"[{group}]\n{TARGET}\n" for group in ("monitoring", "monitored", "platform"))
    inventory.mkdir(exist_ok=True)
    (inventory / "hosts").write_text(
        f"{groups}[all:vars]\nansible_connection=community.docker.docker\nansible_pipelining=true\n"
    )
    for name, source in {"group_vars": "group_vars", "host_vars": "molecule/upgrade/host_vars"}.items():
        if not (inventory / name).exists():
            (inventory / name).symlink_to(CHECKOUT / source)
    return [
        "ansible-playbook",
        f"--inventory={inventory}",
        f"--extra-vars=@{CACHE / 'images/vars.yml'}",
        f"--extra-vars=@{CHECKOUT / 'molecule/shared/secrets.yml'}",
        f"--extra-vars={json.dumps(variables)}",
        *options,
        str(CHECKOUT / f"playbooks/{playbook}.yml"),
    ]


ENVIRONMENT = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}


def play(playbook: str, *options: str, **variables: object) -> tuple[int, str]:
    """Run a playbook; return its exit code and what it says, on one line."""
    done = subprocess.run(
        command(playbook, *options, **variables),
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def write_table(capsys, title: str, head: str, rows: list[str]) -> None:
    text = f"\n{title}\n\n{head}\n|{'---|' * head.count(' | ')}---|\n" + "\n".join(rows) + "\n"
    with capsys.disabled():
        print(text)
    with TABLE.open("a") as file:
        file.write(text)


def versions(host) -> dict[str, str]:
    """The image that each service runs."""
    lines = host.check_output("docker ps --format '{{.Names}} {{.Image}}'").splitlines()
    return {name: image for name, image in (line.split() for line in lines) if name in SERVICES}


def containers(host) -> str:
    return host.check_output(f"docker inspect --format '{{{{.Id}}}} {{{{.Image}}}}' {' '.join(SERVICES)}")


class Prober:
    """Watches all services from outside the stack."""

    def __init__(self, host) -> None:
        self.host = host

    def __enter__(self) -> Prober:
        self.process = subprocess.Popen(
            ["docker", "exec", TARGET, "python3", "-c", PROBER, json.dumps(READY)], stdout=subprocess.PIPE, text=True
        )
        time.sleep(2)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(1)
        self.host.run("pkill -f 'json, sys, threading'")
        self.process.kill()
        self.events = [json.loads(line) for line in self.process.stdout or () if line.strip()]

    def away(self, name: str) -> float:
        """Seconds that a service did not answer, all in all."""
        total, since = 0.0, None
        for at, who, up in self.events:
            if who == name and not up and since is None:
                since = at
            elif who == name and up and since is not None:
                total, since = total + at - since, None
        assert since is None, f"{name} did not come back"
        return total


def is_slow(away: float, least: float) -> bool:
    return away > RATIO * least + GRAIN_SECONDS


def by_hand(host, names: Iterable[str]) -> dict[str, float]:
    """The floor: how long the same containers are away when they are stopped and started by hand."""
    with Prober(host) as floor:
        for name in names:
            again = f"until curl -sf -o /dev/null -m 1 {READY[name]}; do sleep 0.1; done"
            host.check_output(f"docker stop {name} && docker start {name} && timeout 60 sh -c '{again}'")
            time.sleep(1)
    return {name: floor.away(name) for name in names}


def query(http, expression: str) -> list[dict]:
    answer = http.get(f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}")
    return answer.json()["data"]["result"]


def lost_samples(http, since: float, until: float) -> dict[str, int]:
    """How many scrapes of each job are missing or found nobody; not more than one for each of the two reasons.

    A scrape is missing where Prometheus itself was away, and finds nobody where the target was.
    """
    # The scrape after the change is there then.
    time.sleep(max(0.0, until + SCRAPE_SECONDS + 5 - time.time()))
    lost = {}
    for one in query(http, f'up{{job!~"app-.*|health"}}[{int(time.time() - since) + 30}s]'):
        stamps = [float(at) for at, _ in one["values"]]
        # The scrape before is there to tell a gap; what went on before is another test's.
        gaps = [(a, b) for a, b in zip(stamps, stamps[1:], strict=False) if b > since]
        missing = sum(round((b - a) / SCRAPE_SECONDS) - 1 for a, b in gaps)
        nobody = sum(value == "0" for at, value in one["values"] if float(at) > since)
        assert max(missing, nobody) <= 1, one
        lost[one["metric"]["job"]] = missing + nobody
    return lost


def all_lines(host, wait_until, first: int, since: float) -> dict[str, int]:
    """Wait until Loki has all numbered lines from one on; tell how many there are, lost ones and doubled ones."""
    number = last_line(host)
    ask = f"python3 /usr/local/bin/count.py loss {first} {number} {since - 5:.0f} {time.time() + 2:.0f}"
    lines = wait_until(
        lambda: (found := json.loads(host.check_output(ask)))["lost"] == 0 and found,
        what="all numbered lines",
        timeout=60,
        every=5,
    )
    assert lines["doubled"] == 0, lines
    return lines


def steady(http) -> list[dict]:
    return [
        one
        for one in http.get("http://127.0.0.1:9093/api/v2/alerts").json()
        if one["labels"]["alertname"] == "SteadyFire"
    ]


def told(http, word: str) -> list[str]:
    found = http.get("http://127.0.0.1:9099/messages").json()
    return [one["body"]["attachments"][0]["title"] for one in found if word in json.dumps(one["body"])]


@pytest.fixture(scope="module")
def writer(host):
    """500 numbered lines a second."""
    TABLE.unlink(missing_ok=True)
    for name in ("writer.py", "count.py"):
        source = str(CHECKOUT / "tests/logs" / name)
        subprocess.run(["docker", "cp", source, f"{TARGET}:/usr/local/bin/{name}"], check=True)
    host.check_output("mkdir -p /var/log/loss")
    host.check_output(
        f"systemd-run --unit=numbers python3 /usr/local/bin/writer.py /var/log/loss/numbers.log {RATE} 86400"
    )
    yield
    host.run("systemctl stop numbers")


@pytest.fixture(scope="module")
def broken(host) -> None:
    """The images that cannot live. A container for each program, and a commit for each image: a build makes more."""
    script = ["set -e"]
    for name, image in versions(host).items():
        repository = image.rpartition(":")[0]
        places = {"/broken": ("exit", "silent", "data"), CHECKERS.get(name, ""): ("refuses",)}
        for place, kinds in places.items():
            wanted = [kind for kind in kinds if name in BROKEN[kind]]
            if not wanted:
                continue
            script += [
                f"made=$(docker create {repository}:{VERSIONS[f'{name}_version']})",
                f"docker cp /srv/broken/broken $made:{place}",
            ]
            for kind in wanted:
                entry = "" if kind == "refuses" else f"ENTRYPOINT {json.dumps(['/broken', *DATA.get(name, [])])}"
                changes = f"--change 'ENV BROKEN={kind}'" + (f" --change '{entry}'" if entry else "")
                script.append(f"docker commit {changes} $made {repository}:{BROKEN_TAGS[kind]}")
            script.append("docker rm $made")
    host.check_output("sh -c %s", "\n".join(script))


def ask_for(kind: str, services: list[str]) -> dict[str, str]:
    """The variables that ask for broken successors."""
    return {f"{name}_version": BROKEN_TAGS[kind] for name in services}


@pytest.fixture(scope="module")
def load(writer, broken, http, wait_until):
    """The writer, and an alert that fires; what else takes time is made while that comes to be."""
    wait_until(lambda: steady(http) and told(http, "SteadyFire"), what="the steady alert", timeout=180, every=2)
    up = 'count(up{job!~"app.*"} == 1) and min(count_over_time(up{job!~"app.*"}[2m])) >= 3'
    wait_until(lambda: query(http, up), what="three scrapes of all targets", timeout=180, every=3)


def last_line(host) -> int:
    return int(host.check_output("cat /var/log/loss/numbers.log.count"))


def test_check_tells_from_which_version_to_which_and_changes_nothing(host, writer):
    before = containers(host)
    code, said = play("upgrade", "--check")
    assert code == 0, said
    for name, variable in (("prometheus", "prometheus"), ("node-exporter", "node_exporter")):
        old, new = VERSIONS[f"former_{variable}_version"], VERSIONS[f"{variable}_version"]
        assert f"{TARGET} {variable}: monitoring-test/prom/{name}:{old} → monitoring-test/prom/{name}:{new}" in said
    assert "would be changed" in said
    assert containers(host) == before


def test_everything_is_upgraded_under_load_and_nothing_is_lost(host, http, load, wait_until, capsys):
    first, since, former = last_line(host) + 1, time.time(), versions(host)
    with Prober(host) as prober:
        code, said = play("upgrade")
        assert code == 0, said
    until = time.time()
    assert "failed=0" in said
    now = versions(host)
    for name in SERVICES:
        assert now[name].endswith(f":{VERSIONS[f'{name}_version']}"), (name, now[name])
        assert now[name] != former[name]

    lines = all_lines(host, wait_until, first, since)

    # The alert: it goes on, was told once, and its end was not told. Prometheus tells of it when it has held for its
    # time again.
    active = wait_until(lambda: steady(http), what="the steady alert to be told again", timeout=90, every=2)
    assert [one["status"]["state"] for one in active] == ["active"]
    assert len(told(http, "SteadyFire")) == 1, told(http, "SteadyFire")
    others = [title for title in told(http, "") if "SteadyFire" not in title and "Deployment" not in title]
    assert others == []
    silences = http.get("http://127.0.0.1:9093/api/v2/silences").json()
    assert [one["status"]["state"] for one in silences if one["createdBy"] == "upgrade.yml"] == ["expired"]

    # Prometheus was away for a moment itself, and 3.x asks at other moments than 2.x: each job may lack one.
    lost = lost_samples(http, since, until)

    floors = by_hand(host, READY)
    # The rest of the machine may have been busier then than now: whoever seems slow is asked for twice more.
    for _ in range(2):
        doubtful = [name for name in READY if is_slow(prober.away(name), floors[name])]
        if not doubtful:
            break
        floors |= {name: max(seconds, floors[name]) for name, seconds in by_hand(host, doubtful).items()}

    rows, slow = [], []
    for name in SERVICES:
        change = f"{former[name].rpartition(':')[2]} → {now[name].rpartition(':')[2]}"
        samples = lost.get(JOBS.get(name, name), "")
        if name not in READY:
            rows.append(f"| {name} | {change} | | | | {samples} |")
            continue
        away, least = prober.away(name), floors[name]
        rows.append(f"| {name} | {change} | {away:.1f} | {least:.1f} | {away / least:.2f} | {samples} |")
        if is_slow(away, least):
            slow.append(rows[-1])
    rows.append(f"\nLog lines: {lines['written']} written, {lines['lost']} lost, {lines['doubled']} doubled.")
    head = "| service | version | seconds away | stop, start, ready | ratio | samples lost |"
    write_table(capsys, "The upgrade", head, rows)
    assert slow == []


def test_a_second_run_finds_nothing_to_do(host):
    before = containers(host)
    code, said = play("upgrade")
    assert code == 0, said
    assert "changed=0" in said
    assert f"Nothing differs on {TARGET}." in said
    assert containers(host) == before


def test_an_older_version_is_refused_by_name_and_can_be_forced(host):
    before = containers(host)
    code, said = play("upgrade", "--tags", "prometheus", prometheus_version=VERSIONS["former_prometheus_version"])
    assert code != 0
    assert (
        f"prometheus_version: {VERSIONS['former_prometheus_version']} is older than {VERSIONS['prometheus_version']}"
        in said
    )
    assert "monitoring_allow_downgrade" in said
    assert containers(host) == before
    older = {"alertmanager_version": VERSIONS["former_alertmanager_version"], "monitoring_allow_downgrade": True}
    code, said = play("upgrade", "--check", "--tags", "alertmanager", **older)
    assert code == 0, said


def active_silences(http) -> list[str]:
    found = http.get("http://127.0.0.1:9093/api/v2/silences").json()
    return [one["id"] for one in found if one["createdBy"] == "upgrade.yml" and one["status"]["state"] == "active"]


@pytest.fixture(scope="module")
def own_silence(http):
    """A silence of the user's own."""
    answer = http.post(
        "http://127.0.0.1:9093/api/v2/silences",
        {
            "createdBy": "me",
            "comment": "mine",
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "2036-01-01T00:00:00Z",
            "matchers": [{"name": "alertname", "value": "Nothing", "isRegex": False}],
        },
    )
    return answer.json()["silenceID"]


def data(host, http, until: float) -> str:
    """What must not be touched: users, folders, silences; samples and log lines of the minute before a time."""
    found = json.loads(host.check_output("curl -s http://127.0.0.1:9093/api/v2/silences"))
    silences = json.dumps([one for one in found if one["createdBy"] != "upgrade.yml"])
    script = (
        "import sqlite3; db = sqlite3.connect('file:/var/lib/deployment-monitoring/grafana/grafana.db?mode=ro',"
        " uri=True); print(db.execute('select login from user').fetchall(),"
        " db.execute('select count(*) from dashboard').fetchall())"
    )
    counts = [f"sum(count_over_time({name}[1m] @ {until:.0f}))" for name in ("up", "node_cpu_seconds_total")]
    samples = query(http, " + ".join(counts))[0]["value"][1]
    ask = quote('sum(count_over_time({job="loss"}[1m]))')
    answer = http.get(f"http://127.0.0.1:3100/loki/api/v1/query?query={ask}&time={until:.0f}").json()
    lines = answer["data"]["result"][0]["value"][1]
    assert int(samples) > 50, samples
    assert int(lines) > 50 * RATE, lines
    return f"{silences} {host.check_output('python3 -c %s', script)} {samples} samples {lines} lines"


@pytest.fixture(scope="module")
def rolled_back(host, http, load, wait_until, own_silence):
    """rolled_back(kind): what a run says that brings such images; afterwards all is as it was."""

    # What ends by itself shares a run.
    @functools.cache
    def run(*kinds: str) -> str:
        # Lines take a moment from the file to Loki.
        since, first = time.time() - 20, last_line(host) + 1
        before, kept = versions(host), data(host, http, since)
        assert own_silence in kept
        wanted = {name: tag for kind in kinds for name, tag in ask_for(kind, BROKEN[kind]).items()}
        code, said = play("site", **wanted, monitoring_ready_timeout=10)
        assert code != 0
        assert versions(host) == before
        urls = " ".join(f"-o /dev/null {url}" for url in READY.values())
        wait_until(lambda: host.run(f"curl -sf -m 5 --fail-early {urls}").rc == 0, what="all services", every=2)
        assert data(host, http, since) == kept
        # Promtail has its former positions: it goes on where it was.
        all_lines(host, wait_until, first, since)
        return said

    return lambda kind: run("silent") if kind == "silent" else run("exit", "data")


@pytest.mark.parametrize(
    ("kind", "cause", "last_words"),
    [
        # The engine waits longer from one restart to the next; some are given up before the second one.
        ("exit", "(?:the program ends by itself|does not answer)", "this version cannot live"),
        ("silent", "does not answer", ""),
        ("data", "(?:the program ends by itself|does not answer)", "cannot read the data"),
    ],
)
def test_a_broken_image_is_rolled_back_with_its_cause(rolled_back, capsys, kind, cause, last_words):
    said = rolled_back(kind)
    rows = []
    for name in BROKEN[kind]:
        found = re.search(
            rf"{name}: recreate failed: ([^.]*{cause}[^.]*).*?The former service runs again(.*?)(?:recreate failed|$)",
            said,
        )
        assert found, (name, said[-3000:])
        # What the program itself said is told with each.
        assert last_words in found[2], (name, found[2])
        rows.append(f"| {name} | {kind} | {found[1][:90]} | yes |")
    write_table(capsys, f"Broken images: {kind}", "| service | image | cause that is told | former one back |", rows)


def test_an_image_that_refuses_the_configuration_is_never_started(host, broken, capsys):
    before = containers(host)
    code, said = play("site", **ask_for("refuses", BROKEN["refuses"]))
    assert code != 0
    assert "No service was touched." in said
    rows = []
    for name in BROKEN["refuses"]:
        assert f"{name} refuses its new configuration: fatal: this version cannot live" in said
        rows.append(f"| {name} | refuses | refuses its new configuration | never stopped |")
    assert containers(host) == before
    write_table(capsys, "Broken images: refuses", "| service | image | cause that is told | former one back |", rows)


def test_an_upgrade_ends_with_the_first_service_that_does_not_work(host, http, load):
    since = time.time() - 20
    before, kept, silenced = versions(host), data(host, http, since), active_silences(http)
    code, said = play("upgrade", **ask_for("data", ["grafana", "prometheus"]), blackbox_exporter_memory="123m")
    assert code != 0
    assert "grafana: recreate failed" in said
    assert "prometheus: left as it is" in said
    # What came before it, and works, stays.
    assert host.check_output("docker inspect --format '{{.HostConfig.Memory}}' blackbox_exporter") == str(123 << 20)
    assert versions(host) == before
    assert data(host, http, since) == kept
    assert active_silences(http) == silenced


@pytest.fixture(scope="module")
def changes() -> dict[str, tuple[float, float]]:
    """When each playbook began and ended to change one service."""
    return {}


@pytest.mark.parametrize("playbook", ["site", "upgrade"])
def test_with_a_tag_only_that_service_is_changed(host, load, changes, playbook):
    memory = {"blackbox_exporter_memory": "130m" if playbook == "site" else "131m", "node_exporter_memory": "132m"}
    before, since = host.check_output("docker inspect --format '{{.Id}}' node_exporter"), time.time()
    # Nobody listens there: an upgrade goes on without a silence, and says so.
    nobody = {"__service_alertmanager": "http://127.0.0.1:9/api/v2"}
    code, said = play(playbook, "--tags", "blackbox_exporter", **memory, **nobody)
    assert code == 0, said
    assert ("WARNING: no silence" in said) is (playbook == "upgrade"), said
    found = host.check_output("docker inspect --format '{{.HostConfig.Memory}}' blackbox_exporter")
    assert found == str(int(memory["blackbox_exporter_memory"][:-1]) << 20)
    assert host.check_output("docker inspect --format '{{.Id}}' node_exporter") == before
    changes[playbook] = since, time.time()


def test_without_a_tag_the_timers_still_know_all_services(host):
    code, said = play("site", "--check", "--diff", "--skip-tags", "grafana,blackbox_exporter")
    assert code == 0, said
    assert "changed=0" in said
    known = json.loads(host.file("/etc/deployment-monitoring/maintenance/services.json").content_string)
    assert {"grafana", "blackbox_exporter"} <= {one["name"] for one in known}, known


def test_no_other_job_lacks_a_scrape_by_the_upgrade_of_one_service(http, changes):
    # Since then nothing was changed.
    lost = lost_samples(http, *changes["upgrade"])
    assert lost["blackbox"] <= 1, lost
    assert {job: count for job, count in lost.items() if count and job != "blackbox"} == {}


# Waits on the target for a sign that the change has come to a point, and kills what makes it there and then: a module
# is an interpreter that reads its program from its input, and so has no arguments.
WATCH = r"""
import glob, http.client, json, os, socket, sys, time
phase, kill = sys.argv[1], sys.argv[2] == "kill"
data = "/var/lib/deployment-monitoring"
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
def container(name):
    engine = Engine("localhost")
    engine.request("GET", f"/containers/{name}/json")
    answer = engine.getresponse()
    return json.load(answer) if answer.status == 200 else None
def journal():
    try:
        with open(data + "/.former-grafana/journal.json") as reader:
            return json.load(reader)
    except OSError:
        return {}
off = {"State": {"Running": False}}
signs = {
    "staged": lambda: os.path.isdir(data + "/.staging/grafana"),
    "kept aside": lambda: container("grafana_previous"),
    "copied": lambda: "data" in journal(),
    "started": lambda: container("grafana_previous") and (container("grafana") or off)["State"]["Running"],
}
deadline = time.time() + 60
# The engine is not asked before there is something to be seen.
for sign in ("staged", phase):
    while not signs[sign]():
        if time.time() > deadline:
            sys.exit(f"{sign}: never seen")
        time.sleep(0.005)
killed = 0
for path in glob.glob("/proc/[0-9]*/cmdline") if kill else []:
    try:
        with open(path, "rb") as reader:
            words = reader.read().split(b"\0")
        if words[0].rpartition(b"/")[2].startswith(b"python3") and not any(words[1:]):
            os.kill(int(path.split("/")[2]), 9)
            killed += 1
    except (FileNotFoundError, ProcessLookupError):
        pass
print(killed)
"""
CHANGED = ("blackbox_exporter", "grafana")


def cut(phase: str, changed: dict[str, str], what: str) -> int:
    """Begin an upgrade and kill it at a point: the play, and with "kill" what it started on the target as well."""
    process = subprocess.Popen(
        command("upgrade", "--tags", ",".join(CHANGED), **changed),
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        watch = subprocess.run(
            ["docker", "exec", TARGET, "python3", "-c", WATCH, phase, what], capture_output=True, text=True, check=False
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert watch.returncode == 0, watch.stderr
    return int(watch.stdout)


def left(host) -> str:
    """What a change that was cut off leaves."""
    return host.check_output(
        "docker ps -a --format '{{.Names}}' | grep _previous; cd /var/lib/deployment-monitoring;"
        " ls -d .staging .former-* 2>/dev/null; ls -d /etc/deployment-monitoring/*.unfinished 2>/dev/null; true"
    )


def assert_mended(host, http, changed: dict[str, str], before: str, since: float) -> None:
    for name in CHANGED:
        memory = host.check_output(f"docker inspect --format '{{{{.HostConfig.Memory}}}}' {name}")
        assert memory == str(int(changed[f"{name}_memory"][:-1]) << 20)
        assert http.get(READY[name]).status == 200
    assert left(host) == ""
    assert data(host, http, since) == before


@pytest.mark.parametrize("phase", ["staged", "kept aside", "copied", "started"])
def test_a_play_that_is_killed_is_mended_by_the_next_one(host, http, load, phase):
    """With what it started on the target, as when the machine goes down.

    That the run after the next one finds nothing to do, is asked in each phase by tests/integration.
    """
    since = time.time() - 20
    before = data(host, http, since)
    changed = {f"{name}_memory": f"{300 + len(phase)}m" for name in CHANGED}
    assert cut(phase, changed, "kill") == 1
    found = left(host).split()
    assert ".staging" in found
    assert ("grafana_previous" in found) is (phase != "staged"), found
    code, said = play("upgrade", "--tags", ",".join(CHANGED), **changed)
    assert code == 0, said
    assert_mended(host, http, changed, before, since)


def test_what_a_killed_play_had_begun_goes_on_by_itself(host, http, load, wait_until):
    """The connection is lost, the machine is not: the change is one call there."""
    since = time.time() - 20
    before = data(host, http, since)
    changed = {f"{name}_memory": "333m" for name in CHANGED}
    assert cut("kept aside", changed, "look") == 0
    wait_until(lambda: left(host) == "", what="the end of the change", timeout=60)
    assert_mended(host, http, changed, before, since)
    code, said = play("upgrade", "--tags", ",".join(CHANGED), **changed)
    assert code == 0, said
    assert "changed=0" in said
