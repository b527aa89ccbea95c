"""A stack is looked after, then removed. One story: the tests run in this order, the last ones leave nothing."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
STATE = Path(os.environ["CHECKOUT_STATE"])
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
SECRETS = CHECKOUT / "molecule/shared/secrets.yml"
VERSIONS = yaml.safe_load(IMAGES.read_text())
PASSWORD = yaml.safe_load(SECRETS.read_text())["grafana_admin_password"]
TARGET = "monitoring-daytwo"
PROGRAMS = "/etc/deployment-monitoring/maintenance"
DATA = "/var/lib/deployment-monitoring"
ARCHIVES = "/var/backups/deployment-monitoring"
TEXTFILES = f"{DATA}/textfile"
NODE_EXPORTER = "monitoring-test/prom/node-exporter"
BLACKBOX = f"monitoring-test/prom/blackbox-exporter:{VERSIONS['blackbox_exporter_version']}"
AUDIT = quote('{job="audit"}')
# Of the scenario's own molecule.yml.
KEEP = {"maintenance_cleanup_keep_images_count": 0}


def playbook(name, *words, **variables):
    """Run a playbook of the collection; return its exit code and what it said, in one line."""
    hosts = STATE / "daytwo-inventory"
    group = f"{TARGET} ansible_connection=community.docker.docker\n"
    hosts.write_text("".join(f"[{name}]\n{group}" for name in ("monitoring", "monitored", "platform")))
    extra = ["-e", f"@{IMAGES}", "-e", f"@{SECRETS}", "-e", json.dumps(KEEP | variables)]
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), *extra, f"nekocheik.deployment_monitoring.{name}", *words],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def findings(host, wait=0, settings="settings.json"):
    """Run the health check's program on the host; return its exit code and what is not well."""
    done = host.run(f"cd {PROGRAMS} && python3 -B health_check.py {settings} --wait {wait}")
    told = json.loads(done.stdout)
    return done.rc, {f"{one['service']} {one['check']}": one["reason"] for one in told["checks"] if not one["ok"]}


@pytest.fixture(scope="module")
def audit(http):
    """Return the lines of the audit trail, oldest first."""

    def lines():
        url = f"http://127.0.0.1:3100/loki/api/v1/query_range?query={AUDIT}&limit=1000"
        streams = http.get(url).json()["data"]["result"]
        found = sorted((tuple(value) for stream in streams for value in stream["values"]), key=lambda v: int(v[0]))
        return [json.loads(text) for _moment, text in found]

    return lines


# Health


def test_a_timer_that_never_ran_is_known_to_prometheus_since_its_installation(host):
    told = host.check_output("curl -s http://127.0.0.1:9100/metrics | grep '^monitoring_timer.*cleanup'")
    metrics = dict(line.rsplit(" ", 1) for line in told.splitlines())
    label = '{timer="cleanup"}'
    assert 0 < time.time() - float(metrics[f"monitoring_timer_last_run_timestamp_seconds{label}"]) < 7200
    assert float(metrics[f"monitoring_timer_interval_seconds{label}"]) == 604800
    assert f"monitoring_timer_last_result{label}" not in metrics


def stopped(name):
    """Stop a process, so that its container runs and its program does not answer."""
    return f"kill -STOP $(docker inspect -f '{{{{.State.Pid}}}}' {name})"


def going(name):
    return f"kill -CONT $(docker inspect -f '{{{{.State.Pid}}}}' {name})"


PROMETHEUS = "/etc/deployment-monitoring/prometheus"
RELOAD = "kill -HUP $(docker inspect -f '{{.State.Pid}}' prometheus)"


def own(path, text):
    """Put one of the user's own files beside Prometheus' configuration, and have it read."""
    place = f"{PROMETHEUS}/{path}"
    return f'mkdir -p $(dirname {place}) && echo "{text}" >{place} && chmod -R a+rX $(dirname {place}) && {RELOAD}'


SECRET = "/etc/deployment-monitoring/grafana/secrets/admin_password"
# How it is broken, how it is mended, which finding names it, and with which words.
TROUBLES = {
    "a container that was stopped": (
        "docker stop -t 1 cadvisor",
        "docker start cadvisor",
        "cadvisor container",
        "its container is exited",
    ),
    "a container that was removed": (
        "docker rename blackbox_exporter elsewhere",
        "docker rename elsewhere blackbox_exporter",
        "blackbox_exporter container",
        "there is no such container",
    ),
    "a paused container": (
        "docker pause blackbox_exporter",
        "docker unpause blackbox_exporter",
        "blackbox_exporter container",
        "paused",
    ),
    "another image than the one that runs": (
        f"docker tag {BLACKBOX} kept:1 && docker tag {VERSIONS['simulator_image']} {BLACKBOX}",
        f"docker tag kept:1 {BLACKBOX} && docker rmi kept:1",
        "blackbox_exporter container",
        "is another image by now",
    ),
    "a program that does not answer": (
        stopped("node_exporter"),
        going("node_exporter"),
        "node_exporter ready",
        "does not answer",
    ),
    "a target that is down": (
        own("targets.d/dead.yml", "[{targets: ['127.0.0.1:1']}]"),
        f"rm {PROMETHEUS}/targets.d/dead.yml && {RELOAD}",
        "prometheus target extra 127.0.0.1:1 of 127.0.0.1",
        "127.0.0.1:1",
    ),
    "a rule that cannot be evaluated": (
        own(
            "rules.d/broken.yml", "groups: [{name: broken, interval: 1s, rules: [{record: x, expr: up * on (job) up}]}]"
        ),
        f"rm {PROMETHEUS}/rules.d/broken.yml && {RELOAD}",
        "prometheus rules broken",
        "x cannot be evaluated",
    ),
    "no way from Prometheus to Alertmanager": (
        stopped("alertmanager"),
        going("alertmanager"),
        "alertmanager answers",
        "timed out",
    ),
    "a datasource that does not answer": (
        "docker stop -t 1 alertmanager",
        "docker start alertmanager",
        "grafana datasource Alertmanager",
        "answers 502",
    ),
    "another password of Grafana": (
        f"cp -p {SECRET} /run/password && echo of-somebody-else >{SECRET}",
        f"cat /run/password >{SECRET}",
        "grafana datasources",
        "was the administrator's password changed in Grafana?",
    ),
    "a collector that ships nothing": (
        stopped("promtail"),
        going("promtail"),
        "promtail shipping",
        "does not arrive in Loki",
    ),
    "a Loki that takes no line": (stopped("loki"), going("loki"), "loki answers", "timed out"),
    "a timer that does not wait": (
        "systemctl stop monitoring-cleanup.timer",
        "systemctl start monitoring-cleanup.timer",
        "maintenance monitoring-cleanup.timer",
        "it is inactive",
    ),
    "a change that was cut off": (
        "docker create --name cadvisor_previous " + BLACKBOX,
        "docker rm cadvisor_previous",
        "cadvisor container",
        "was cut off",
    ),
}


@pytest.mark.parametrize("what", TROUBLES)
def test_names(host, wait_until, what):
    break_, mend, name, words = TROUBLES[what]
    host.check_output(break_)
    try:
        wait_until(lambda: words in findings(host)[1].get(name, ""), what=f"{name}: {words}", timeout=40)
    finally:
        host.check_output(mend)


def test_names_a_disk_without_room(host):
    host.check_output(f'sed \'s/"min_free": [0-9]*/"min_free": 999999999999999/\' {PROGRAMS}/settings.json >/run/full')
    code, found = findings(host, settings="/run/full")
    assert code == 1
    assert "make room" in found[f"host disk of {DATA}"]


def test_is_well_again_and_waited_for_it(host):
    host.check_output("docker restart -t 1 blackbox_exporter")
    code, found = findings(host, wait=120)
    assert (code, found) == (0, {})


# Not the first tests: where Prometheus did not know Alertmanager yet when it started, it tells the Watchdog a minute
# later, and a check that waits asks all the while.


def test_all_is_well_within_the_time_that_it_waits(host):
    code, said = playbook("health_check", maintenance_health_check_json=str(STATE / "daytwo.json"))
    assert code == 0, said
    assert re.search(rf"{TARGET} prometheus: well \(\d+ asked\)", said), said
    (told,) = json.loads((STATE / "daytwo.json").read_text()).values()
    assert told["healthy"] is True
    asked = {check["check"] for check in told["checks"]}
    assert {"container", "ready", "rules", "shipping", "writing and reading", "backup", "dashboards"} <= asked
    assert len(told["checks"]) > 50


def test_asked_about_some_services_it_tells_of_those_and_leaves_what_the_timer_told(host, audit):
    lines = [line["changes"] for line in audit() if line["playbook"] == "health_check"]
    assert re.fullmatch(r"looked: 0 of \d+ are not well", lines[-1][0]), lines
    before = host.check_output(f"cat {TEXTFILES}/monitoring_health_check.prom")
    host.check_output("docker pause cadvisor")
    try:
        code, said = playbook("health_check", "--tags", "blackbox_exporter,host", "--skip-tags", "cadvisor")
    finally:
        host.check_output("docker unpause cadvisor")
    assert code == 0, said
    assert re.search(rf"{TARGET} blackbox_exporter: well \(2 asked\)", said), said
    assert re.search(rf"{TARGET} host: well", said), said
    assert f"{TARGET} prometheus" not in said
    assert host.check_output(f"cat {TEXTFILES}/monitoring_health_check.prom") == before


def test_nothing_is_written_in_check_mode(host, audit):
    before = host.check_output(
        f"cat {TEXTFILES}/monitoring_health_check.prom; cat /var/log/monitoring-health-check.log"
    )
    lines = audit()
    code, said = playbook("health_check", "--check")
    assert code == 0, said
    after = host.check_output(f"cat {TEXTFILES}/monitoring_health_check.prom; cat /var/log/monitoring-health-check.log")
    assert after == before
    assert audit() == lines


# Timers


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("monitoring-backup", [" 02:00:00 "]),
        ("monitoring-cleanup", ["Sun ", " 03:00:00 "]),
        ("monitoring-health-check", [r" (00|04|08|12|16|20):00:00 "]),
    ],
)
def test_a_timer_waits_for_its_time(host, unit, times):
    said = host.check_output(f"systemctl show {unit}.timer --property=NextElapseUSecRealtime,ActiveState,UnitFileState")
    assert "ActiveState=active" in said
    assert "UnitFileState=enabled" in said
    for moment in times:
        assert re.search(moment, said), said


@pytest.mark.parametrize("name", ["backup", "cleanup", "health_check"])
def test_what_a_timer_did_is_in_prometheus(host, http, wait_until, name):
    host.check_output(f"systemctl start monitoring-{name.replace('_', '-')}.service")
    query = quote(f'monitoring_timer_last_result{{timer="{name}"}} == 1')
    url = f"http://127.0.0.1:9090/api/v1/query?query={query}"
    wait_until(lambda: http.get(url).json()["data"]["result"], what=f"the result of {name} in Prometheus", timeout=45)


def test_a_timer_that_fails_is_told_as_a_metric_and_not_as_a_failed_unit(host):
    host.check_output("docker pause cadvisor")
    try:
        host.run("systemctl start monitoring-health-check.service")
    finally:
        host.check_output("docker unpause cadvisor")
    assert 'result{timer="health_check"} 0' in host.file(f"{TEXTFILES}/monitoring_health_check.prom").content_string
    assert host.run("systemctl is-failed monitoring-health-check.service").stdout.strip() != "failed"


def test_a_backup_that_is_too_old_and_a_timer_that_failed_are_findings(host):
    path = f"{TEXTFILES}/monitoring_backup.prom"
    kept = host.file(path).content_string
    old = re.sub(r"(timestamp_seconds(?:\{.*\})?) \d+", r"\1 1700000000", kept)
    failed = re.sub(r"(last_result\{.*\}) 1", r"\1 0", kept)
    try:
        host.check_output(f"cat >{path} <<'EOF'\n{old}EOF")
        found = findings(host)[1]
        assert "h are allowed" in found["maintenance backup"]
        assert "h ago" in found["maintenance last run of backup"]
        host.check_output(f"cat >{path} <<'EOF'\n{failed}EOF")
        assert "journalctl -u monitoring-backup.service" in findings(host)[1]["maintenance last run of backup"]
    finally:
        host.check_output(f"cat >{path} <<'EOF'\n{kept}EOF")


# Clean-up


def committed(host, name):
    """Make an image of its own, one layer more than the exporter's."""
    base = f"{NODE_EXPORTER}:{VERSIONS['node_exporter_version']}"
    made = host.check_output(f"docker create {base}")
    host.check_output(f"docker commit --change 'LABEL made={name}' {made} {name} && docker rm {made}")


@pytest.fixture(scope="module")
def former(host, tmp_path_factory):
    """An image that the collection brought, ran, and replaced."""
    folder = tmp_path_factory.mktemp("images")
    name = f"{NODE_EXPORTER}:v0.0.1-former"
    archive = name.replace("/", "_").replace(":", "_") + ".tar"
    committed(host, name)
    host.check_output(f"docker save -o /var/tmp/{archive} {name} && docker rmi {name}")
    words = ["docker", "cp", "--quiet", f"{TARGET}:/var/tmp/{archive}", str(folder)]
    subprocess.run(words, check=True)
    host.check_output(f"rm /var/tmp/{archive}")
    brought = {"monitoring_image_source": "archive", "monitoring_image_archive_dir": str(folder)}
    code, said = playbook("site", "--tags", "node_exporter", node_exporter_version="v0.0.1-former", **brought)
    assert code == 0, said
    assert host.docker("node_exporter").inspect()["Config"]["Image"] == name
    # Of all services: what the tests of the health check left is put in order as well.
    code, said = playbook("site")
    assert code == 0, said
    return name


@pytest.fixture
def strangers(host):
    """What somebody else made, close to ours by name."""
    committed(host, f"{NODE_EXPORTER}:v0.0.2-of-somebody")
    host.check_output(f"docker create --name stranger {NODE_EXPORTER}:{VERSIONS['node_exporter_version']}")
    host.check_output("docker volume create stranger")
    # Another host's, on the same disk.
    archives = f"{ARCHIVES}/of-somebody.tar.gz {ARCHIVES}/monitoring-{TARGET}-2-20200101T000000Z.tar.gz"
    host.check_output(f"touch -d 2020-01-01 {archives}")
    yield
    host.check_output("docker rm stranger; docker volume rm stranger")
    host.check_output(f"docker rmi {NODE_EXPORTER}:v0.0.2-of-somebody; rm {archives}")


def inventory(host):
    """What the clean-up could touch."""
    commands = (
        "docker ps -a --format '{{.Names}}'",
        "docker volume ls -q",
        "docker images --format '{{.Repository}}:{{.Tag}}'",
        f"ls -A {ARCHIVES}",
    )
    return {line for command in commands for line in host.check_output(command).splitlines()}


def test_the_clean_up_takes_ours_and_leaves_the_strangers(host, former, strangers):
    label = "nekocheik.deployment_monitoring.service"
    host.check_output(f"docker volume create --label {label}=x ours")
    archive = f"monitoring-{TARGET}-20200101T000000Z.tar.gz"
    for name in (archive, f"{archive}.sha256"):
        host.check_output(f"echo x >{ARCHIVES}/{name}")
    before = inventory(host)
    code, said = playbook("cleanup", "--check")
    assert code == 0, said
    assert re.search(rf"image {former}: would go, \d+ bytes", said), said
    assert inventory(host) == before
    code, said = playbook("cleanup")
    assert code == 0, said
    gone = {"ours", former, archive, f"{archive}.sha256"}
    assert before - inventory(host) == gone
    assert inventory(host) < before


def test_a_checker_that_was_left_goes_once_it_is_old(host):
    label = "nekocheik.deployment_monitoring.service.check"
    host.check_output(f"docker create --name loki_check --label {label}=loki {BLACKBOX}")
    program = (
        "import sys; sys.dont_write_bytecode = True; import cleanup; cleanup._LEFT_SECONDS = int(sys.argv.pop());"
        " sys.exit(cleanup.main(['settings.json']))"
    )
    for seconds, there in ((3600, True), (-1, False)):
        host.check_output(f"cd {PROGRAMS} && python3 -c %s {seconds}", program)
        assert (host.run("docker inspect loki_check").rc == 0) is there


# Audit


def test_a_change_of_the_site_is_written_down(audit, http, former):
    changes = [line for line in audit() if line["playbook"] == "site"]
    line = next(one for one in changes if any("former" in text for text in one["changes"]))
    assert line["host"] == TARGET
    assert line["who"]
    assert line["from"]
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", line["revision"])
    assert abs(time.time() - time.mktime(time.strptime(line["when"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86400
    assert any(text.startswith("node_exporter: recreate (image: ") for text in line["changes"])
    url = "http://127.0.0.1:3000/api/annotations?tags=deployment-monitoring&limit=100"
    notes = [note["text"] for note in http.get(url, user=f"admin:{PASSWORD}").json()]
    assert any("node_exporter: recreate" in note for note in notes), notes


def test_a_clean_up_is_written_down_and_no_secret_is(audit):
    lines = audit()
    assert any("v0.0.1-former: gone" in text for line in lines for text in line["changes"])
    values = yaml.safe_load(SECRETS.read_text()).values()
    assert [value for value in values if value in json.dumps(lines)] == []


def test_an_unchanged_run_leaves_no_line(audit):
    before = audit()
    code, said = playbook("site")
    assert code == 0, said
    assert "changed=0" in said
    assert audit() == before


def test_without_grafana_and_loki_a_second_clean_up_goes_well_and_says_so(host, former, strangers):
    host.check_output("docker stop -t 1 grafana loki cadvisor")
    try:
        code, said = playbook("cleanup")
    finally:
        host.check_output("docker start grafana loki cadvisor")
    assert code == 0, said
    assert said.count("The audit trail lacks this run") == 1, said
    assert "0 gone, 0 bytes" in said


# Uninstall. What differs afterwards has its reason here, or is a fault.
EXPLAINED = {
    r"file /root/\.ansible(/.*)? .*": "Ansible's own directory for each run",
    r"file /var/log/(port-manager|deployment-api|tunnel-manager)/.*": "the platform goes on writing",
    r"file /var/lib/simulated-platform/.*": "the platform goes on working",
    r"file /var/log/((kern|auth|daemon|user|cron|mail)\.log|syslog|messages|debug) .*": "the system's own log",
    r"file /var/backups/(dpkg|alternatives|apt)\..*": "the system's own copies, made at midnight",
    r"file /var/lib/systemd/timers/stamp-(dpkg-db-backup|e2scrub_all|logrotate).*": "the system",
}


def listing(host, *without):
    program = (CHECKOUT / "molecule/daytwo/files/listing.py").read_text()
    return host.check_output("python3 -c %s" + " %s" * len(without), program, *without).splitlines()


def test_in_check_mode_nothing_is_removed(host):
    before = listing(host, "--without-files")
    code, said = playbook("uninstall", "--check")
    assert code == 0, said
    assert "container prometheus would go" in said
    assert f"data {DATA}/prometheus" in said
    assert listing(host, "--without-files") == before


# Beside ours, by names that are close to ours; and the only copy of the data where a restore was cut off.
STRANGERS = [
    f"{DATA}/photos/of-somebody",
    f"{DATA}/.of-somebody",
    f"{TEXTFILES}/monitoring_of_somebody.prom",
    "/etc/deployment-monitoring/of-somebody.conf",
    "/etc/deployment-monitoring/somebody/rules.yml",
    f"{ARCHIVES}/monitoring-{TARGET}-2-20260101T000000Z.tar.gz",
]
ONLY_COPY = f"{DATA}/.restore-former/prometheus/wal"


def test_the_removal_keeps_data_archives_your_own_rules_and_what_is_not_ours(host):
    host.check_output(own("rules.d/own.yml", "groups: []"))
    for path in (*STRANGERS, ONLY_COPY):
        host.check_output(f"mkdir -p $(dirname {path}) && echo x >{path}")
    database = host.file(f"{DATA}/grafana/grafana.db").size
    code, said = playbook("uninstall")
    assert code == 0, said
    assert "unit monitoring-backup.timer is gone" in said
    assert f"file {PROMETHEUS}/rules.d/own.yml: yours stays" in said
    assert host.file(f"{PROMETHEUS}/rules.d/own.yml").exists
    assert host.file(f"{DATA}/grafana/grafana.db").size >= database > 0
    assert [name for name in host.file(ARCHIVES).listdir() if name.endswith(".tar.gz")]
    assert host.run("docker inspect prometheus").rc != 0
    assert [path for path in (*STRANGERS, ONLY_COPY) if not host.file(path).exists] == []
    for told in (f"{DATA}/photos", STRANGERS[3], STRANGERS[5]):
        assert f"{TARGET}: {told}, which is not ours, stays" in said, said
    assert re.search(rf"data {DATA}/\.restore-former, \d+ bytes stays", said), said
    code, said = playbook("uninstall")
    assert code == 0, said
    assert "changed=0" in said
    # What is theirs goes by their hand; the last one is to find the machine as it was.
    folders = f"{DATA}/photos {DATA}/.of-somebody /etc/deployment-monitoring/somebody"
    host.check_output(f"rm -r {folders} {STRANGERS[2]} {STRANGERS[3]} {STRANGERS[5]}; rmdir {TEXTFILES}")


def test_asked_to_it_leaves_the_machine_as_it_was(host, capsys):
    code, said = playbook("uninstall", maintenance_uninstall_data=True, maintenance_uninstall_archives=True)
    assert code == 0, said
    before, after = host.file("/run/listing-before").content_string.splitlines(), listing(host)
    changes = list(difflib.unified_diff(before, after, "before site.yml", "after uninstall.yml", n=0))
    lines = [line for line in changes[2:] if not line.startswith("@@")]
    reasons = {
        line: next((why for what, why in EXPLAINED.items() if re.fullmatch(what, line[1:])), "") for line in lines
    }
    with capsys.disabled():
        print(f"\n{len(before)} things before site.yml, {len(after)} after uninstall.yml; what differs:")
        for line, why in reasons.items():
            print(f"  {line}    {why or 'NOT EXPLAINED'}")
        if not lines:
            print("  nothing")
    assert [line for line, why in reasons.items() if not why] == []


# The engine, after all else is gone. Here the record says that a small package is what installed it.
PACKAGE = "engine-of-the-tests"


@pytest.fixture(scope="module")
def engine_package(host):
    """A package with a configuration and a script that tells how it was removed."""
    control = (
        f"Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: tests <a@example.com>\nDescription: none\n"
    )
    folder = "/run/package"
    files = {
        "DEBIAN/control": control,
        "DEBIAN/conffiles": f"/etc/{PACKAGE}.conf\n",
        "DEBIAN/postrm": "#!/bin/sh\necho $1 >>/run/how-it-was-removed\n",
        f"etc/{PACKAGE}.conf": "x\n",
    }
    for path, text in files.items():
        host.check_output(f"mkdir -p $(dirname {folder}/{path}) && printf %s >{folder}/{path}", text)
    host.check_output(f"chmod 755 {folder}/DEBIAN/postrm && dpkg-deb --build {folder} /run/x.deb && dpkg -i /run/x.deb")
    host.check_output(f"mkdir -p {DATA} && echo '[\"{PACKAGE}\"]' >{DATA}/engine.json")
    return host


def test_the_engine_stays_while_somebody_else_uses_it(engine_package, host):
    # The platform's containers are still there.
    code, said = playbook("uninstall", maintenance_uninstall_engine=True)
    assert code == 2, said
    assert re.search(
        r"the engine stays, all else is gone: there are .*container mongodb, .*; remove them, or set", said
    )
    assert host.package(PACKAGE).is_installed
    assert host.file(f"{DATA}/engine.json").exists


def test_a_removal_of_the_engine_that_was_cut_off_is_finished_and_purges_nothing(engine_package, host):
    host.check_output("mv /usr/bin/docker /run/docker-of-the-tests")
    try:
        code, said = playbook("uninstall", maintenance_uninstall_engine=True)
    finally:
        host.check_output("mv /run/docker-of-the-tests /usr/bin/docker")
    assert code == 0, said
    assert not host.package(PACKAGE).is_installed
    # What docker.io's own script does when it is purged, to /var/lib/docker, would be done to somebody else's things.
    assert host.file("/run/how-it-was-removed").content_string == "remove\n"
    assert host.file(f"/etc/{PACKAGE}.conf").exists
    assert not host.file(DATA).exists
