"""Backup, wreck, restore: onto the same server and onto another, and what is refused on the way. In this order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import testinfra
import yaml

CHECKOUT = Path(__file__).parents[3]
STATE = Path(os.environ["CHECKOUT_STATE"])
SECRETS = yaml.safe_load((CHECKOUT / "molecule/shared/secrets.yml").read_text())
FIRST, OTHER = "monitoring-backup", "monitoring-backup-other"
SERVICES = ("alertmanager", "grafana", "loki", "prometheus")
GRAFANA, LOKI = "http://127.0.0.1:3000/api", "http://127.0.0.1:3100/loki/api/v1"
ALERTMANAGER, PROMETHEUS = "http://127.0.0.1:9093/api/v2", "http://127.0.0.1:9090/api/v1"
ADMIN = "admin:" + SECRETS["grafana_admin_password"]
LINES = 500
ARCHIVES = "/var/backups/deployment-monitoring"
PROGRAMS = "/etc/deployment-monitoring/maintenance"


def playbook(name, *words, host=FIRST, **variables):
    """Run a playbook against one of the servers; return its exit code and what it said, in one line."""
    hosts = STATE / "backup-inventory"
    hosts.write_text(f"[monitoring]\n{host} ansible_connection=community.docker.docker\n")
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), "-e", json.dumps(variables), f"playbooks/{name}.yml", *words],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


class Stack:
    """What a stack knows, asked of its programs."""

    def __init__(self, name):
        self.host = testinfra.get_host(f"docker://{name}")

    def curl(self, url, *words):
        answer = self.host.check_output("curl --silent --show-error --fail" + " %s" * (len(words) + 1), *words, url)
        return json.loads(answer) if answer else None

    def post(self, url, payload, *words):
        header = "Content-Type: application/json"
        return self.curl(url, "--header", header, "--data-binary", json.dumps(payload), *words)

    def samples(self, moment):
        """Every sample of some series up to a moment: times and values."""
        query = ("--get", "--data-urlencode", 'query={__name__=~"up|node_load1|prometheus_tsdb_head_series"}[1h]')
        found = self.curl(f"{PROMETHEUS}/query", *query, "--data", f"time={moment}")["data"]["result"]
        return sorted((sorted(series["metric"].items()), series["values"]) for series in found)

    def lines(self, moment):
        """Every log line of the test up to a moment, with its time."""
        query = ("--get", "--data-urlencode", 'query={job="backup-test"}', "--data", "limit=5000")
        span = f"start={int((moment - 3600) * 1e9)}&end={int(moment * 1e9)}"
        found = self.curl(f"{LOKI}/query_range", *query, "--data", span)["data"]["result"]
        return sorted(tuple(value[:2]) for stream in found for value in stream["values"])

    def silences(self):
        """Every silence that stands."""
        found = self.curl(f"{ALERTMANAGER}/silences")
        keys = ("id", "matchers", "startsAt", "endsAt", "createdBy", "comment")
        return sorted(
            json.dumps([entry[key] for key in keys]) for entry in found if entry["status"]["state"] == "active"
        )

    def users(self):
        found = self.curl(f"{GRAFANA}/users", "--user", ADMIN)
        return sorted((user["login"], user["email"], user["name"]) for user in found)

    def preferences(self):
        return self.curl(f"{GRAFANA}/org/preferences", "--user", ADMIN)["theme"]

    def annotations(self):
        found = self.curl(f"{GRAFANA}/annotations?tags=backup-test", "--user", ADMIN)
        return sorted((entry["text"], entry["time"], entry["tags"]) for entry in found)

    def all(self, moment):
        return {
            "samples": self.samples(moment),
            "lines": self.lines(moment),
            "silences": self.silences(),
            "users": self.users(),
            "preferences": self.preferences(),
            "annotations": self.annotations(),
        }

    def started(self):
        """When each container was started: a service that nobody touched has the same."""
        return {name: self.host.docker(name).inspect()["State"]["StartedAt"] for name in SERVICES}

    def archives(self):
        return sorted(path for path in self.host.file(ARCHIVES).listdir() if path.endswith(".tar.gz"))


@pytest.fixture(scope="module")
def first():
    return Stack(FIRST)


@pytest.fixture(scope="module")
def other():
    return Stack(OTHER)


@pytest.fixture(scope="module")
def known(first, wait_until):
    """Put something into each service; return the moment and all that they know of it."""
    now = time.time()
    values = [[str(int((now - 600) * 1e9) + number), f"line {number} of the test"] for number in range(LINES)]
    first.post(f"{LOKI}/push", {"streams": [{"stream": {"job": "backup-test"}, "values": values}]})
    stamp = "%Y-%m-%dT%H:%M:%S.000Z"
    for comment in ("stands", "is ended"):
        silence = first.post(
            f"{ALERTMANAGER}/silences",
            {
                "matchers": [{"name": "alertname", "value": "Some.*", "isRegex": True}],
                "startsAt": time.strftime(stamp, time.gmtime(now)),
                "endsAt": time.strftime(stamp, time.gmtime(now + 7200)),
                "createdBy": "molecule",
                "comment": comment,
            },
        )
    first.curl(f"{ALERTMANAGER}/silence/{silence['silenceID']}", "--request", "DELETE")
    user = {"login": "ada", "email": "ada@example.com", "name": "Ada", "password": "of-a-throw-away-user"}
    first.post(f"{GRAFANA}/admin/users", user, "--user", ADMIN)
    first.post(f"{GRAFANA}/org/preferences", {"theme": "light"}, "--user", ADMIN, "--request", "PUT")
    note = {"text": "a note of the test", "tags": ["backup-test"], "time": int(now * 1000)}
    first.post(f"{GRAFANA}/annotations", note, "--user", ADMIN)
    wait_until(lambda: len(first.samples(time.time())) >= 3, what="some samples", timeout=60)
    moment = time.time()
    return moment, first.all(moment)


def test_something_is_known_of_each(known):
    _moment, found = known
    assert len(found["lines"]) == LINES
    assert [json.loads(silence)[-1] for silence in found["silences"]] == ["stands"]
    assert ("ada", "ada@example.com", "Ada") in found["users"]
    assert found["preferences"] == "light"
    assert len(found["annotations"]) == 1
    assert sum(len(values) for _series, values in found["samples"]) >= 3


def test_the_timer_waits_for_two_in_the_morning(first):
    words = "systemctl show monitoring-backup.timer --property=NextElapseUSecRealtime,ActiveState"
    timer = first.host.check_output(words)
    assert " 02:00:00 " in timer
    assert "ActiveState=active" in timer


def test_without_a_laptop_a_backup_is_made_and_its_metrics_are_in_prometheus(first, known, wait_until):
    began = int(time.time())
    first.host.check_output("systemctl start monitoring-backup.service")
    expected = {
        "monitoring_backup_last_success_timestamp_seconds": began,
        'monitoring_timer_last_run_timestamp_seconds{timer="backup"}': began,
        'monitoring_timer_last_result{timer="backup"}': 1,
        'monitoring_timer_interval_seconds{timer="backup"}': 86400,
        "monitoring_backup_size_bytes": 10_000,
        "monitoring_backup_duration_seconds": 0.01,
    }
    for query, least in expected.items():
        words = ("--get", "--data-urlencode", f"query={query} >= {least}")
        wait_until(lambda w=words: first.curl(f"{PROMETHEUS}/query", *w)["data"]["result"], what=query, timeout=45)


def test_only_root_may_read_the_archives(first):
    modes = first.host.check_output(f"find {ARCHIVES} -printf '%M %u %f\\n'").splitlines()
    assert modes[0].startswith("drwx------ root")
    assert len(modes) > 2
    assert {line.split()[0] for line in modes[1:]} == {"-rw-------"}


def test_the_archive_has_what_the_system_can_check_too(first):
    assert "OK" in first.host.check_output(f"cd {ARCHIVES} && sha256sum -c *.sha256")
    listed = first.host.check_output(f"tar tzf {ARCHIVES}/{first.archives()[0]}").splitlines()
    assert listed[0] == "backup.json"
    assert listed[-1] == "manifest.json"
    assert {"data/grafana/grafana.db", "config/prometheus/prometheus.yml"} <= set(listed)


def test_in_check_mode_the_playbook_makes_no_archive(first):
    before = first.archives()
    code, said = playbook("backup", "--check")
    assert code == 0, said
    assert "could be backed up to" in said
    assert first.archives() == before


@pytest.fixture(scope="module")
def fetched(first, known, tmp_path_factory):
    """The archive that the playbook made and brought here."""
    folder = tmp_path_factory.mktemp("archives")
    time.sleep(1.1)  # archives are named by the second
    code, said = playbook("backup", maintenance_backup_fetch_dir=str(folder))
    assert code == 0, said
    assert "changed=2" in said
    (archive,) = folder.glob("*.tar.gz")
    assert Path(f"{archive}.sha256").is_file()
    return archive


def test_a_wrecked_server_knows_all_again(first, known, fetched):
    moment, before = known
    paths = " ".join(f"/var/lib/deployment-monitoring/{name}/*" for name in SERVICES)
    first.host.check_output(f"docker stop -t 0 {' '.join(SERVICES)}; rm -rf {paths}; docker start {' '.join(SERVICES)}")
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and first.host.run("curl -sf http://127.0.0.1:3000/api/health").rc:
        time.sleep(0.5)
    assert first.users() != before["users"], "nothing was wrecked"
    code, said = playbook("restore")
    assert code == 0, said
    assert first.all(moment) == before


def test_a_restore_of_one_service_touches_no_other(first, known):
    moment, before = known
    started = first.started()
    identifier = first.curl(f"{GRAFANA}/annotations?tags=backup-test", "--user", ADMIN)[0]["id"]
    first.curl(f"{GRAFANA}/annotations/{identifier}", "--user", ADMIN, "--request", "DELETE")
    assert first.annotations() == []
    code, said = playbook("restore", maintenance_restore_services=["grafana"])
    assert code == 0, said
    assert first.all(moment) == before
    assert {name for name, when in first.started().items() if when != started[name]} == {"grafana"}


def test_another_server_takes_the_backup_over(other, known, fetched):
    moment, before = known
    assert other.lines(moment) == []
    code, said = playbook("restore", "--check", host=OTHER, maintenance_restore_upload=str(fetched))
    assert code == 0, said
    assert "would be restored" in said
    assert other.lines(moment) == []
    code, said = playbook("restore", host=OTHER, maintenance_restore_upload=str(fetched))
    assert code == 0, said
    assert other.all(moment) == before


def made(first, name, format_=1, images=None, files=None):
    """Make an archive on the server by the server's own program, and return its path."""
    header = {
        "host": "x",
        "made": 0,
        "images": {"grafana": "grafana:0.1", **(images or {})},
        "bytes": {"grafana": 1000},
        "how": {},
    }
    program = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {PROGRAMS!r}); import archive\n"
        f"archive.FORMAT = {format_}\n"
        f"w = archive.Writer({f'{ARCHIVES}/{name}'!r}, {header!r}, 1, [])\n"
        f"for path, text in {(files or {'data/grafana/x': 'y'})!r}.items(): w.add_text(path, text)\n"
        "w.close()\n"
    )
    first.host.check_output("python3 -c %s", program)
    return f"{ARCHIVES}/{name}"


def cut(first):
    newest = f"{ARCHIVES}/{first.archives()[-1]}"
    first.host.check_output("head -c 200000 %s >/root/cut.tar.gz", newest)
    return "/root/cut.tar.gz"


def flipped(first):
    newest = f"{ARCHIVES}/{first.archives()[-1]}"
    first.host.check_output(
        "cp %s /root/flipped.tar.gz; cp %s.sha256 /root/flipped.tar.gz.sha256;"
        " printf x | dd of=/root/flipped.tar.gz bs=1 seek=50000 conv=notrunc status=none",
        newest,
        newest,
    )
    return "/root/flipped.tar.gz"


REFUSED = {
    "cut in half": (cut, "is damaged"),
    "a flipped byte": (flipped, "is damaged"),
    "a newer format": (lambda first: made(first, "newer-format.tar.gz", 99), "has the format 99"),
    "a newer version": (
        lambda first: made(first, "newer-version.tar.gz", images={"grafana": "grafana:99.0.0"}),
        "are of the version 99.0.0",
    ),
    "a path that leads out": (
        lambda first: made(first, "path.tar.gz", files={"data/grafana/../../../etc/x": "y"}),
        "does not belong",
    ),
    "no such file": (lambda first: "/root/nothing.tar.gz", "No such file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_before_anything_is_touched(first, known, what):
    moment, before = known
    started = first.started()
    make, words = REFUSED[what]
    code, said = playbook("restore", maintenance_restore_archive=make(first))
    assert code != 0, said
    assert words in said, said
    assert first.started() == started
    assert first.all(moment) == before
    assert not first.host.file("/var/lib/deployment-monitoring/.restore").exists


def test_data_that_a_service_cannot_read_are_taken_back(first, known):
    moment, before = known
    path = made(first, "unreadable.tar.gz", files={"data/grafana/grafana.db": "no database at all " * 500})
    code, said = playbook("restore", maintenance_restore_archive=path)
    assert code != 0, said
    assert "grafana has its former data again" in said, said
    assert first.all(moment) == before


def test_a_restore_that_was_killed_is_undone_by_the_next(first, known):
    moment, before = known
    # As a kill between the exchange and the proof leaves it.
    first.host.check_output(
        "cd /var/lib/deployment-monitoring && docker stop grafana && mkdir -m 700 .restore-former"
        " && mv grafana .restore-former/ && mkdir grafana"
    )
    code, said = playbook("restore", maintenance_restore_services=["alertmanager"])
    assert code == 0, said
    assert first.all(moment) == before


def test_two_at_a_time_are_refused(first):
    run = f"python3 -B {PROGRAMS}/backup.py {PROGRAMS}/settings.json"
    done = first.host.run(f"flock {ARCHIVES}/.lock {run}")
    assert done.rc == 1
    assert "another backup or restore is running" in done.stdout


def test_a_disk_that_is_too_small_is_refused_and_told(first):
    before = first.archives()
    settings = json.loads(first.host.check_output(f"cat {PROGRAMS}/settings.json"))
    settings["backup"]["min_free"] = 1 << 60
    settings["timers"]["textfile_dir"] = "/root/textfile"
    first.host.check_output("mkdir -p /root/textfile; echo %s >/root/full.json", json.dumps(settings))
    done = first.host.run(f"python3 -B {PROGRAMS}/timer.py /root/full.json backup")
    assert done.rc == 1
    assert "GiB free" in done.stdout
    assert first.archives() == before
    assert 'last_result{timer="backup"} 0' in first.host.file("/root/textfile/monitoring_backup.prom").content_string


def test_old_archives_are_removed(first):
    names = [f"monitoring-x-202601{day:02}T020000Z.tar.gz" for day in range(1, 12)]
    first.host.check_output(f"cd {ARCHIVES} && touch {' '.join(names)} other.tar.gz")
    first.host.check_output("systemctl start monitoring-backup.service")
    left = first.archives()
    assert not set(left) & set(names)
    assert "other.tar.gz" in left


def test_no_file_is_left_behind(first):
    there = first.host.check_output(f"ls -A /var/lib/deployment-monitoring {PROGRAMS}").split()
    assert [name for name in there if name.startswith((".backup", ".restore", ".upload", "__pycache__"))] == []
    assert first.host.check_output("ls -A /var/lib/deployment-monitoring/prometheus/snapshots").split() == []


def site(**variables):
    """Run the site against the first server, with the scenario's variables; return how many tasks changed something."""
    given = yaml.safe_load((CHECKOUT / "molecule/backup/molecule.yml").read_text())
    shared = given["provisioner"]["inventory"]["group_vars"]["all"]
    images = f"@{Path(os.environ['DEPLOYMENT_MONITORING_CACHE']) / 'images/vars.yml'}"
    code, said = playbook("site", "-e", images, "-e", json.dumps({**shared, **SECRETS, **variables}))
    assert code == 0, said
    return int(re.search(r"changed=(\d+)", said).group(1))


def timer(host):
    words = "systemctl show monitoring-backup.timer --property=ActiveState,UnitFileState,NeedDaemonReload --value"
    return host.check_output(words).split()


def test_a_timer_that_was_changed_by_hand_is_put_right(first):
    assert site() == 0
    first.host.check_output(
        "systemctl disable --now monitoring-backup.timer; echo '# by hand' >>"
        " /etc/deployment-monitoring/maintenance/units/monitoring-backup.service"
    )
    assert site() == 1
    assert timer(first.host) == ["active", "enabled", "no"]
    assert site() == 0


def test_another_time_is_in_force_at_once(first):
    assert site(maintenance_backup_schedule="*-*-* 05:17:00") == 1
    words = "systemctl show monitoring-backup.timer --property=NextElapseUSecRealtime"
    assert " 05:17:00 " in first.host.check_output(words)


def test_a_time_that_systemd_does_not_know_is_taken_back(first):
    with pytest.raises(AssertionError, match="former units are in force again"):
        site(maintenance_backup_schedule="every other Sunday")
    assert timer(first.host) == ["active", "enabled", "no"]
    words = "systemctl show monitoring-backup.timer --property=NextElapseUSecRealtime"
    assert " 05:17:00 " in first.host.check_output(words)


def test_where_it_is_not_wanted_nothing_but_the_archives_is_left(first):
    archives = first.archives()
    assert site(maintenance_state="absent") == 1
    assert first.host.run("find /etc/systemd/system -name 'monitoring-backup*'").stdout == ""
    assert not first.host.file(PROGRAMS).exists
    assert first.archives() == archives
    assert site(maintenance_state="absent") == 0
