"""Backup, wreck, restore: onto the same server and onto another, and what is refused on the way. In this order."""

from __future__ import annotations

import json
import os
import re
import secrets
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
LINES = 2000
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


def note(**figures):
    """Keep figures for the comparison that `make restore-test` prints."""
    path = STATE / "restore-figures.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **figures}, indent=1))


def away(said):
    """The seconds that the playbook says each service was away for."""
    found = re.findall(rf"({'|'.join(SERVICES)}): has the data of [\w-]+, \d+ bytes, away for ([\d.]+) s", said)
    return {name: float(number) for name, number in found}


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

    def ask(self, *questions):
        """What the answers to some questions, each a request and how its answer is read, say; in one call of curl: to
        get into the machine takes longer than the answer."""
        words = ["--fail-early"]
        for number, ((url, *options), _read) in enumerate(questions):
            words += [*(["--next"] if number else []), "--silent", "--show-error", "--fail", *options, url]
        text, decoder, found = self.host.check_output("curl" + " %s" * len(words), *words), json.JSONDecoder(), []
        for _request, read in questions:
            answer, end = decoder.raw_decode(text.lstrip())
            text = text.lstrip()[end:]
            found.append(read(answer))
        assert not text.strip(), text
        return found

    def samples(self, moment):
        """Every sample of some series up to a moment: times and values."""
        query = ("--get", "--data-urlencode", 'query={__name__=~"up|node_load1|prometheus_tsdb_head_series"}[1h]')
        return (f"{PROMETHEUS}/query", *query, "--data", f"time={moment}"), lambda answer: sorted(
            (sorted(series["metric"].items()), series["values"]) for series in answer["data"]["result"]
        )

    def lines(self, moment):
        """Every log line of the test up to a moment, with its time."""
        query = ("--get", "--data-urlencode", 'query={job="backup-test"}', "--data", "limit=5000")
        span = f"start={int((moment - 3600) * 1e9)}&end={int(moment * 1e9)}"
        return (f"{LOKI}/query_range", *query, "--data", span), lambda answer: sorted(
            tuple(value[:2]) for stream in answer["data"]["result"] for value in stream["values"]
        )

    def silences(self):
        """Every silence that stands."""
        keys = ("id", "matchers", "startsAt", "endsAt", "createdBy", "comment")
        return (f"{ALERTMANAGER}/silences",), lambda answer: sorted(
            json.dumps([entry[key] for key in keys]) for entry in answer if entry["status"]["state"] == "active"
        )

    def users(self):
        return (f"{GRAFANA}/users", "--user", ADMIN), lambda answer: sorted(
            (user["login"], user["email"], user["name"]) for user in answer
        )

    def preferences(self):
        return (f"{GRAFANA}/org/preferences", "--user", ADMIN), lambda answer: answer.get("theme")

    def annotations(self):
        return (f"{GRAFANA}/annotations?tags=backup-test", "--user", ADMIN), lambda answer: sorted(
            (entry["text"], entry["time"], entry["tags"]) for entry in answer
        )

    def dashboards(self):
        """The uid and the content of each that somebody made in Grafana; those of the site are files."""
        return (f"{GRAFANA}/search?type=dash-db&tag=backup-test", "--user", ADMIN), lambda answer: sorted(
            json.dumps(self.curl(f"{GRAFANA}/dashboards/uid/{entry['uid']}", "--user", ADMIN)["dashboard"])
            for entry in answer
        )

    def all(self, moment):
        questions = {
            "samples": self.samples(moment),
            "lines": self.lines(moment),
            "silences": self.silences(),
            "users": self.users(),
            "preferences": self.preferences(),
            "annotations": self.annotations(),
            "dashboards": self.dashboards(),
        }
        return dict(zip(questions, self.ask(*questions.values()), strict=True))

    def audit(self, playbook):
        """The lines that a playbook left, oldest first; a restore takes those away that came after its archive."""
        query = ("--get", "--data-urlencode", 'query={job="audit"}', "--data", "limit=1000")
        found = self.curl(f"{LOKI}/query_range", *query)["data"]["result"]
        lines = [json.loads(text) for stream in found for _moment, text in stream["values"]]
        return sorted((line for line in lines if line["playbook"] == playbook), key=lambda line: line["when"])

    def ready(self):
        paths = ("3000/api/health", "3100/ready", "9090/-/ready", "9093/-/ready")
        return (
            self.host.run("curl -sf " + " ".join(f"http://127.0.0.1:{path}" for path in paths) + " --fail-early").rc
            == 0
        )

    def started(self):
        """When each container was started: a service that nobody touched has the same."""
        told = "docker inspect --format '{{.Name}} {{.State.StartedAt}}' " + " ".join(SERVICES)
        return dict(line.lstrip("/").split() for line in self.host.check_output(told).splitlines())

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
    # An argument of a command cannot be as long as all lines.
    for begin in range(0, LINES, 1000):
        stream = {"stream": {"job": "backup-test"}, "values": values[begin : begin + 1000]}
        first.post(f"{LOKI}/push", {"streams": [stream]})
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
    panels = [{"type": "text", "title": f"panel {number}"} for number in range(3)]
    dashboard = {"uid": "backup-test", "title": "made by hand", "tags": ["backup-test"], "panels": panels}
    first.post(f"{GRAFANA}/dashboards/db", {"dashboard": dashboard}, "--user", ADMIN)
    wait_until(lambda: len(*first.ask(first.samples(time.time()))) >= 3, what="some samples", timeout=60)
    moment = time.time()
    return moment, first.all(moment)


def test_something_is_known_of_each(known):
    _moment, found = known
    assert len(found["lines"]) == LINES
    assert [json.loads(silence)[-1] for silence in found["silences"]] == ["stands"]
    assert ("ada", "ada@example.com", "Ada") in found["users"]
    assert found["preferences"] == "light"
    assert len(found["annotations"]) == 1
    assert '"panel 2"' in found["dashboards"][0]
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
    for service in SERVICES:
        assert re.search(rf"{FIRST} {service}: backed up \([\w ,]+\), was not away", said), said
    (archive,) = folder.glob("*.tar.gz")
    assert Path(f"{archive}.sha256").is_file()
    # It has the deployed secrets.
    assert oct(archive.stat().st_mode)[-3:] == "600"
    seconds = re.search(r" bytes in ([\d.]+) s", said)
    note(archive_bytes=archive.stat().st_size, backup_seconds=float(seconds.group(1)))
    return archive


def test_who_made_a_backup_is_written_down(first, fetched):
    line = first.audit("backup")[-1]
    assert (line["host"], bool(line["who"])) == (FIRST, True)
    assert line["changes"][0].startswith(f"{FIRST} alertmanager: backed up ("), line


def test_a_wrecked_server_knows_all_again(first, known, fetched, wait_until):
    moment, before = known
    paths = " ".join(f"/var/lib/deployment-monitoring/{name}/*" for name in SERVICES)
    first.host.check_output(f"docker stop -t 0 {' '.join(SERVICES)}; rm -rf {paths}; docker start {' '.join(SERVICES)}")
    wait_until(first.ready, what="the empty services", timeout=60)
    wiped, began = first.all(moment), time.monotonic()
    assert [what for what in before if wiped[what] == before[what]] == [], "not all was wrecked"
    code, said = playbook("restore")
    assert code == 0, said
    assert set(away(said)) == set(SERVICES), said
    seconds = {**away(said), "the whole playbook": round(time.monotonic() - began, 1)}
    restored = first.all(moment)
    note(before=before, wiped=wiped, same=restored, same_seconds=seconds)
    assert restored == before


def test_a_restore_of_one_service_touches_no_other(first, known):
    moment, before = known
    started = first.started()
    identifier = first.curl(f"{GRAFANA}/annotations?tags=backup-test", "--user", ADMIN)[0]["id"]
    first.curl(f"{GRAFANA}/annotations/{identifier}", "--user", ADMIN, "--request", "DELETE")
    assert first.ask(first.annotations()) == [[]]
    code, said = playbook("restore", "--tags", "grafana")
    assert code == 0, said
    assert set(away(said)) == {"grafana"}, said
    (line,) = first.audit("restore")[-1]["changes"]
    assert re.match(rf"{FIRST} grafana: has the data of {FIRST}, \d+ bytes, away for [\d.]+ s", line), line
    assert first.all(moment) == before
    assert {name for name, when in first.started().items() if when != started[name]} == {"grafana"}


def test_another_server_takes_the_backup_over(other, known, fetched):
    moment, before = known
    assert other.ask(other.lines(moment)) == [[]]
    code, said = playbook("restore", "--check", host=OTHER, maintenance_restore_upload=str(fetched))
    assert code == 0, said
    assert f"{OTHER} loki: would get the data of {FIRST}, " in said
    assert other.ask(other.lines(moment)) == [[]]
    began = time.monotonic()
    code, said = playbook("restore", host=OTHER, maintenance_restore_upload=str(fetched))
    assert code == 0, said
    seconds = {**away(said), "the whole playbook": round(time.monotonic() - began, 1)}
    restored = other.all(moment)
    note(other=restored, other_seconds=seconds)
    assert restored == before


def made(first, name, format_=1, images=None, files=None, sizes=None):
    """Make an archive on the server by the server's own program, and return its path."""
    header = {
        "host": "x",
        "made": 0,
        "images": {"grafana": "grafana:0.1", **(images or {})},
        "bytes": sizes or {"grafana": 1000},
        "how": {},
    }
    program = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {PROGRAMS!r}); import archive\n"
        f"archive.FORMAT = {format_}\n"
        f"w = archive.Writer({f'/root/made/{name}'!r}, {header!r}, 1, [])\n"
        f"for path, text in {(files or {'data/grafana/x': 'y'})!r}.items(): w.add_text(path, text)\n"
        "w.close()\n"
    )
    first.host.check_output("mkdir -p /root/made && python3 -c %s", program)
    return f"/root/made/{name}"


def restore(stack, *words, settings=f"{PROGRAMS}/settings.json"):
    """Run the program that the playbook runs, without the playbook's seconds; return its exit code and its answer."""
    done = stack.host.run("python3 -B %s/restore.py %s" + " %s" * len(words), PROGRAMS, settings, *words)
    return done.rc, json.loads(done.stdout)


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
    "more than the disk has room for": (
        lambda first: made(first, "large.tar.gz", sizes={"grafana": 1 << 60}),
        "GiB are needed",
    ),
    "no such file": (lambda first: "/root/nothing.tar.gz", "No such file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_before_anything_is_touched(first, known, what):
    moment, before = known
    started = first.started()
    make, words = REFUSED[what]
    code, said = restore(first, "--archive", make(first))
    assert code != 0, said
    assert said["error"].startswith("Nothing was touched. "), said
    assert words in said["error"], said
    assert first.started() == started
    assert first.all(moment) == before
    assert not first.host.file("/var/lib/deployment-monitoring/.restore").exists


def test_the_playbook_tells_why_it_refuses(first, known):
    code, said = playbook("restore", maintenance_restore_archive=cut(first))
    assert code != 0, said
    assert "Nothing was touched." in said, said
    assert "/root/cut.tar.gz is damaged" in said, said
    assert "failed: Nothing was touched. /root/cut.tar.gz is damaged" in first.audit("restore")[-1]["changes"][-1]


def test_a_disk_that_fills_up_meanwhile_is_refused_too(first, known):
    moment, before = known
    started = first.started()
    settings = json.loads(first.host.check_output(f"cat {PROGRAMS}/settings.json"))
    # So that the look at the disk, which comes first, finds nothing wrong.
    settings["backup"].update(data_dir="/mnt/tiny", min_free=-(1 << 60))
    first.host.check_output(
        "mkdir -p /mnt/tiny && mount -t tmpfs -o size=100k none /mnt/tiny && echo %s >/root/tiny.json",
        json.dumps(settings),
    )
    try:
        code, said = restore(first, "--archive", "newest", settings="/root/tiny.json")
        assert (code, first.host.check_output("ls -A /mnt/tiny")) == (1, ".lock")
    finally:
        first.host.check_output("umount /mnt/tiny")
    assert said["error"].startswith("Nothing was touched. "), said
    assert "No space left" in said["error"], said
    assert first.started() == started
    assert first.all(moment) == before


def test_data_that_a_service_cannot_read_are_taken_back_and_it_is_written_down(first, known):
    moment, before = known
    path = made(first, "unreadable.tar.gz", files={"data/grafana/grafana.db": "no database at all " * 500})
    code, said = playbook("restore", maintenance_restore_archive=path)
    assert code != 0, said
    assert "grafana has its former data again" in said, said
    assert re.search(rf"{FIRST} grafana: was not restored, away for [\d.]+ s", said), said
    assert first.all(moment) == before
    # Grafana was away, so it is told although nothing came of it.
    lines = first.audit("restore")[-1]["changes"]
    assert re.match(rf"{FIRST} grafana: was not restored, away for ", lines[0]), lines
    assert lines[-1].startswith("failed: grafana could not be restored: ")
    # Nothing of the archive's is kept.
    assert not first.host.file("/var/lib/deployment-monitoring/.restore-aside").exists


def killed(stack, program, after, about, *words):
    """Run a program that is killed, by SIGKILL, when it has done a call of its own.

    :param about: what has to be in the call's arguments.
    """
    module, _, name = after.rpartition(".")
    source = (
        "import os, signal, sys; sys.dont_write_bytecode = True; "
        f"sys.path.insert(0, {PROGRAMS!r}); import archive, backup, engine, restore\n"
        f"original = {after}\n"
        "def die(*words, **named):\n"
        "    result = original(*words, **named)\n"
        f"    if {about!r} in repr(words): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return result\n"
        f"{module}.{name} = die\n"
        f"{program}.main({[f'{PROGRAMS}/settings.json', *words]!r})\n"
    )
    done = stack.host.run("python3 -c %s", source)
    assert done.rc == 137, (done.rc, done.stdout, done.stderr)


RULES = "/etc/deployment-monitoring/prometheus/rules.d"
RULE = f"{RULES}/of-the-archive/own.yml"
# After which call it is killed, and what is in the call's arguments.
RESTORE_STEPS = {
    "while it unpacks": ("archive._extract", ""),
    "before the service is stopped": ("restore.Restore._note", ""),
    "when the service is stopped": ("engine.Engine.stop", ""),
    "when the former data are away and no others there": ("os.rename", ".restore-former/prometheus'"),
    "when the data are exchanged": ("restore.Restore._exchange", ""),
    "when the rules are added": ("restore.Restore._add_own_files", ""),
    "when the service is started": ("engine.Engine.start", ""),
    "when the service is proved": ("restore.Restore._prove", ""),
}


@pytest.mark.parametrize("step", RESTORE_STEPS)
def test_a_restore_that_was_killed_is_undone_by_the_next(first, known, step):
    moment, before = known
    started = first.started()
    rule = {RULE.replace("/etc/deployment-monitoring", "config"): "groups: []"}
    path = made(first, "rule.tar.gz", images={"prometheus": "x:0.1"}, files=rule, sizes={"prometheus": 1000})
    killed(first, "restore", *RESTORE_STEPS[step], "--archive", path)
    # This one refuses its own archive; before that it puts everything back.
    code, said = restore(first, "--archive", "/root/nothing.tar.gz")
    assert code == 1, said
    assert not first.host.file(os.path.dirname(RULE)).exists
    left = first.host.check_output("ls -A /var/lib/deployment-monitoring").split()
    assert {name for name in left if name.startswith(".")} <= {".lock", ".restore-aside"}, left
    assert first.all(moment) == before
    assert {name for name, when in first.started().items() if when != started[name]} <= {"prometheus"}


def test_on_a_restore_that_was_killed_nothing_is_built_and_what_came_after_it_is_kept(first, known):
    moment, before = known
    path = made(first, "empty.tar.gz", images={"alertmanager": "x:0.1"}, sizes={"alertmanager": 1000})
    killed(first, "restore", "restore.Restore._exchange", "", "--archive", path, "--services", "alertmanager")
    done = first.host.run(f"python3 -B {PROGRAMS}/backup.py {PROGRAMS}/settings.json")
    assert (done.rc, "a restore was cut off" in done.stdout) == (1, True), done.stdout
    asked = first.host.run(f"python3 -B {PROGRAMS}/health_check.py {PROGRAMS}/settings.json --wait 0 --services host")
    assert (asked.rc, "a restore was cut off: run playbooks/restore.yml again" in asked.stdout) == (1, True), asked
    # The site would start it on what is there now.
    with pytest.raises(AssertionError, match="Nothing was changed on .* a restore was cut off, or is under way"):
        site()
    assert not first.host.docker("alertmanager").is_running
    # Somebody does it by hand, and it collects.
    folder = "/var/lib/deployment-monitoring/alertmanager"
    first.host.check_output(f"docker start alertmanager && echo 'of today' >{folder}/since")
    # No archive is needed for that.
    code, said = restore(first, "--archive", "newest", "--services", "nothing")
    assert code == 1, said
    aside = "/var/lib/deployment-monitoring/.restore-aside/alertmanager"
    assert any(f"(what was in their place is in {aside})" in note for note in said["notes"]), said
    assert first.host.file(f"{aside}/since").content_string == "of today\n"
    assert first.all(moment) == before


def test_a_folder_of_the_users_own_files_is_restored_where_it_is_missing(first, known):
    rules = {
        "config/prometheus/rules.d/of-the-archive/own.yml": "groups: []",
        "config/prometheus/rules.d/here.yml": "groups: [older]",
    }
    sizes = {"prometheus": 1000}
    first.host.check_output(f"mkdir -p {RULES} && echo 'groups: []' >{RULES}/here.yml && chmod -R a+rX {RULES}")
    path = made(first, "folder.tar.gz", images={"prometheus": "x:0.1"}, files=rules, sizes=sizes)
    # So that what is known of it is not lost, it is undone again.
    killed(first, "restore", "restore.Restore._prove", "", "--archive", path)
    try:
        assert first.host.file(RULE).content_string == "groups: []"
        assert first.host.file(RULE).mode == 0o640
        assert first.host.file(os.path.dirname(RULE)).mode == 0o750
        assert first.host.file(RULE).group == first.host.file(os.path.dirname(RULE)).group
        assert first.host.file(f"{RULES}/here.yml").content_string == "groups: []\n"
    finally:
        restore(first, "--archive", "/root/nothing.tar.gz")
        first.host.check_output(f"rm {RULES}/here.yml")
    moment, before = known
    assert first.all(moment) == before


@pytest.mark.parametrize(("after", "about"), [("backup.link_tree", "snapshots"), ("archive.Writer.add_tree", "config")])
def test_a_backup_that_was_killed_leaves_nothing_after_the_next(first, known, after, about):
    folder, theirs = "/var/lib/deployment-monitoring/prometheus/snapshots", "20260101T000000Z-0123456789abcdef"
    before = first.archives()
    first.host.check_output(f"mkdir -p {folder}/{theirs} && chown -R 59090:59090 {folder}")
    killed(first, "backup", after, about)
    assert first.archives() == before
    assert first.host.file("/var/lib/deployment-monitoring/.backup").exists
    first.host.check_output(f"python3 -B {PROGRAMS}/backup.py {PROGRAMS}/settings.json")
    assert len(set(first.archives()) - set(before)) == 1
    assert first.host.run(f"ls {ARCHIVES}/*.part").rc != 0
    # What somebody else asked for is theirs.
    assert first.host.check_output(f"ls -A {folder}") == theirs
    first.host.check_output(f"rmdir {folder}/{theirs}")
    time.sleep(1.1)  # archives are named by the second


def test_two_at_a_time_are_refused(first):
    run = f"python3 -B {PROGRAMS}/backup.py {PROGRAMS}/settings.json"
    done = first.host.run(f"flock {ARCHIVES}/.lock-{FIRST} {run}")
    assert done.rc == 1
    assert "another backup or restore is running" in done.stdout


def test_a_restore_waits_for_a_change_of_the_host_and_a_backup_too(first):
    """Both by their program's own words, while somebody else holds the lock for two seconds."""
    for program in (f"backup.py {PROGRAMS}/settings.json", f"restore.py {PROGRAMS}/settings.json --archive /root/x.gz"):
        began = time.monotonic()
        done = first.host.run(
            "flock /var/lib/deployment-monitoring/.lock sleep 2 & sleep 0.5;"
            f" python3 -B {PROGRAMS}/{program}; code=$?; wait; exit $code"
        )
        assert "another run is changing this host" in done.stderr, done
        assert "waiting for it, at most 300 s" in done.stderr, done
        assert time.monotonic() - began > 1.5
        assert '"error": "Nothing was touched' in done.stdout if "restore" in program else done.rc == 0, done


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
    stamps = [f"202601{day:02}T020000Z.tar.gz" for day in range(1, 12)]
    names = [f"monitoring-{FIRST}-{stamp}" for stamp in stamps]
    # The other server's, on a disk that both have, among them one that is newer than all of this one's.
    theirs = [f"monitoring-{OTHER}-{stamp}" for stamp in [*stamps, "20990101T020000Z.tar.gz"]]
    first.host.check_output(f"cd {ARCHIVES} && touch {' '.join([*names, *theirs])} of-somebody.tar.gz")
    first.host.check_output("systemctl start monitoring-backup.service")
    left = first.archives()
    assert not set(left) & set(names)
    assert {*theirs, "of-somebody.tar.gz"} <= set(left)
    code, said = restore(first, "--archive", "newest", "--check")
    assert code == 0, said
    first.host.check_output(f"cd {ARCHIVES} && rm {' '.join(theirs)} of-somebody.tar.gz")


def test_no_file_is_left_behind(first):
    there = first.host.check_output(f"ls -A /var/lib/deployment-monitoring {PROGRAMS}").split()
    expected = (".backup", ".upload", "__pycache__", ".restore")
    assert [name for name in there if name.startswith(expected) and name != ".restore-aside"] == []
    assert first.host.check_output("ls -A /var/lib/deployment-monitoring/prometheus/snapshots").split() == []


def site(**variables):
    """Run the site against the first server, with the scenario's variables; return how many tasks changed something."""
    given = yaml.safe_load((CHECKOUT / "molecule/backup/molecule.yml").read_text())
    shared = given["provisioner"]["inventory"]["group_vars"]["all"]
    images = f"@{Path(os.environ['DEPLOYMENT_MONITORING_CACHE']) / 'images/vars.yml'}"
    code, said = playbook("site", "-e", images, "-e", json.dumps({**shared, **SECRETS, **variables}))
    assert code == 0, said
    return int(re.search(r"changed=(\d+)", said).group(1))


COPIES = "/srv/copies"
STORE_KEY = secrets.token_urlsafe(24)


@pytest.fixture(scope="module")
def encrypted(first, other, known, wait_until, s3_server):
    """The archive of a night for which encryption, a copy by rsync over SSH and one to S3 are asked for."""
    subprocess.run(["docker", "cp", str(s3_server), f"{FIRST}:/usr/local/bin/versitygw"], check=True)
    first.host.check_output("mkdir -p /srv/s3/backups /srv/s3-iam /root/.config/rclone")
    first.host.check_output(
        "systemd-run --unit s3 --collect versitygw --access backup --secret %s --port 127.0.0.1:7070 posix /srv/s3",
        STORE_KEY,
    )
    first.host.check_output(
        "umask 077; printf '%%s\\n' '[store]' 'type = s3' 'provider = Other' 'endpoint = http://127.0.0.1:7070'"
        " 'region = us-east-1' 'access_key_id = backup' %s 'no_check_bucket = true' >/root/.config/rclone/rclone.conf",
        f"secret_access_key = {STORE_KEY}",
    )
    for key in ("right", "wrong"):
        first.host.check_output(f"umask 077; age-keygen -o /root/{key}.txt")
    public = first.host.check_output("age-keygen -y /root/right.txt")
    copies = [f"root@{OTHER}:{COPIES}/", "rclone:store:backups/first"]
    assert site(maintenance_backup_recipients=[public], maintenance_backup_copies=copies) == 1
    first.host.check_output("systemctl start monitoring-backup.service")
    return first.host.check_output(f"ls {ARCHIVES}/*.age")


def test_the_archive_is_encrypted_and_copied_by_rsync_and_to_s3(first, other, encrypted):
    name = Path(encrypted).name
    assert first.host.check_output("head -c 22 %s", encrypted) == "age-encryption.org/v1\n".strip()
    assert f"{name}: OK" in other.host.check_output(f"cd {COPIES} && sha256sum -c {name}.sha256")
    digest = first.host.check_output("sha256sum <%s", encrypted).split()[0]
    assert first.host.check_output(f"rclone cat store:backups/first/{name} | sha256sum").split()[0] == digest
    assert digest in first.host.check_output(f"rclone cat store:backups/first/{name}.sha256")


KEYS = {"without a key": ((), "name the file with the secret key"), "wrong key": (("wrong",), "cannot be decrypted")}


@pytest.mark.parametrize("what", KEYS)
def test_an_encrypted_archive_is_refused(first, known, encrypted, what):
    moment, before = known
    started = first.started()
    keys, words = KEYS[what]
    code, said = restore(first, "--archive", encrypted, *(f"--identity=/root/{key}.txt" for key in keys))
    assert (code, words in said["error"]) == (1, True), said
    assert said["error"].startswith("Nothing was touched. "), said
    assert first.started() == started
    assert first.all(moment) == before


def test_what_is_wrong_with_an_encrypted_archive_is_told(first, encrypted):
    code, said = restore(first, "--archive", encrypted, "--identity=/root/right.txt", "--services=nothing")
    assert (code, "the archive has no nothing" in said["error"]) == (1, True), said


def test_an_encrypted_archive_is_restored_with_its_key(first, known, encrypted):
    moment, before = known
    identifier = first.curl(f"{GRAFANA}/annotations?tags=backup-test", "--user", ADMIN)[0]["id"]
    first.curl(f"{GRAFANA}/annotations/{identifier}", "--user", ADMIN, "--request", "DELETE")
    words = {"maintenance_restore_identity": "/root/right.txt", "maintenance_restore_services": ["grafana"]}
    code, said = playbook("restore", maintenance_restore_archive=encrypted, **words)
    assert code == 0, said
    assert first.all(moment) == before


def test_a_laptop_that_is_away_is_told_and_costs_no_other_copy(first, other, encrypted, wait_until):
    before = set(first.host.check_output(f"ls {ARCHIVES}").split())
    other.host.check_output("mv /root/.ssh /root/away")
    try:
        first.host.check_output("systemctl start monitoring-backup.service")
    finally:
        other.host.check_output("mv /root/away /root/.ssh")
    # It is told once: as a metric, and not as a failed unit besides.
    assert first.host.run("systemctl is-failed monitoring-backup.service").stdout.strip() != "failed"
    told = first.host.check_output(
        "journalctl --output=cat --no-pager -u monitoring-backup | grep '\"error\"' | tail -1"
    )
    assert f"the copy to root@{OTHER}:{COPIES}/ failed" in told
    assert "rclone" not in told
    (new,) = {name for name in set(first.host.check_output(f"ls {ARCHIVES}").split()) - before if name.endswith(".age")}
    assert new in first.host.check_output("rclone lsf store:backups/first")
    # The rules as they are deployed, on what the timer wrote: this run failed, and the last good one is old.
    file = "/var/lib/deployment-monitoring/textfile/monitoring_backup.prom"
    success = "monitoring_backup_last_success_timestamp_seconds"
    rules = {
        rule["name"]: rule["query"]
        for group in first.curl(f"{PROMETHEUS}/rules?type=alert")["data"]["groups"]
        for rule in group["rules"]
    }

    def fires(alert):
        return first.curl(f"{PROMETHEUS}/query", "--get", "--data-urlencode", f"query={rules[alert]}")["data"]["result"]

    assert fires("BackupTooOld") == []
    first.host.check_output(f"sed -i 's/^{success} .*/{success} {int(time.time()) - 130000}/' {file}")
    wait_until(lambda: fires("BackupTooOld"), what="an old backup to be told", timeout=45)
    assert fires("TimerFailed")[0]["metric"] == {"host": FIRST, "timer": "backup"}


def timer(host):
    words = "systemctl show monitoring-backup.timer --property=ActiveState,UnitFileState,NeedDaemonReload --value"
    return host.check_output(words).split()


def test_a_timer_that_was_changed_by_hand_is_put_right(first):
    first.host.check_output(
        "systemctl disable --now monitoring-backup.timer; echo '# by hand' >>"
        " /etc/deployment-monitoring/maintenance/units/monitoring-backup.service"
    )
    assert site() == 1
    assert timer(first.host) == ["active", "enabled", "no"]


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


def test_another_directory_of_metrics_is_made_and_written(first):
    folder = "/srv/metrics/of-timers"
    assert site(node_exporter_textfile_dir=folder) == 1
    first.host.check_output("systemctl start monitoring-backup.service")
    modes = first.host.check_output(f"stat -c %a {folder} {folder}/monitoring_backup.prom").split()
    assert modes == ["755", "644"]
    ask = "curl -s http://127.0.0.1:9100/metrics"
    assert 'monitoring_timer_last_result{timer="backup"} 1' in first.host.check_output(ask)


def test_where_it_is_not_wanted_nothing_but_the_archives_is_left(first):
    archives = first.archives()
    assert site(maintenance_state="absent") == 1
    assert first.host.run("find /etc/systemd/system -name 'monitoring-backup*'").stdout == ""
    assert not first.host.file(PROGRAMS).exists
    assert first.archives() == archives
    # What the timers told last would be an alert for ever.
    told = first.host.check_output("ls /var/lib/deployment-monitoring/textfile").split()
    assert [name for name in told if name.startswith("monitoring_")] == []
    assert site(maintenance_state="absent") == 0
