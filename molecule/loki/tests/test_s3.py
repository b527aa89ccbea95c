"""Logs in an S3-compatible store: versitygw, a real one that checks keys, on the target itself."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
LOKI = "http://127.0.0.1:3100"
KEY, SECRET = "logs-of-a-test", secrets.token_urlsafe(24)


def converge(**variables):
    """Apply the role again with variables, as a user would: with Ansible itself, which starts sooner than Molecule."""
    scenario = yaml.safe_load((CHECKOUT / "molecule/loki/molecule.yml").read_text())
    given = scenario["provisioner"]["inventory"]["group_vars"]["all"]
    with tempfile.TemporaryDirectory() as folder:
        hosts, file = Path(folder, "hosts"), Path(folder, "variables.json")
        hosts.write_text("[monitoring]\nmonitoring-loki ansible_connection=community.docker.docker\n")
        # In a file, as a vault is: arguments are shown to all.
        file.write_text(json.dumps({**given, **variables}))
        words = ["ansible-playbook", "--diff", "-i", str(hosts)]
        for one in (IMAGES, CHECKOUT / "molecule/shared/secrets.yml", file):
            words += ["-e", f"@{one}"]
        done = subprocess.run(
            [*words, "molecule/shared/converge.yml"],
            cwd=CHECKOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
            | {"MOLECULE_SCENARIO_NAME": "loki"},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def store(host, wait_until, http, s3_server):
    """The store, running, with an empty bucket."""
    subprocess.run(["docker", "cp", str(s3_server), f"{host.backend.name}:/usr/local/bin/versitygw"], check=True)
    host.run("systemctl stop s3 2>/dev/null; rm -rf /srv/s3 /srv/s3-iam")
    host.check_output("mkdir -p /srv/s3/logs /srv/s3-iam")
    host.check_output(
        "systemd-run --unit s3 --collect versitygw --access %s --secret %s --port 127.0.0.1:7070 posix /srv/s3",
        KEY,
        SECRET,
    )
    wait_until(lambda: http.get("http://127.0.0.1:7070/").status == 403, what="the store")
    yield
    host.run("systemctl stop s3")


@pytest.fixture(scope="module")
def in_s3(store):
    """Loki with its logs in the store."""
    code, text = converge(
        loki_storage="s3",
        loki_s3_endpoint="127.0.0.1:7070",
        loki_s3_bucket="logs",
        loki_s3_insecure=True,
        loki_s3_access_key_id=KEY,
        loki_s3_secret_access_key=SECRET,
    )
    assert code == 0, text[-3000:]
    assert SECRET not in text


def found(http, mark):
    """How many lines with a mark there are."""
    query = quote(f'{{job="s3"}} |= "{mark}"')
    answer = http.get(f"{LOKI}/loki/api/v1/query_range?limit=5000&query={query}")
    return sum(len(stream["values"]) for stream in answer.json()["data"]["result"]) if answer.status == 200 else 0


def test_without_its_key_it_is_refused_before_anything_changes(host):
    before = host.docker("loki").inspect()["Id"]
    code, text = converge(loki_storage="s3", loki_s3_bucket="logs", loki_s3_access_key_id=KEY)
    assert code != 0
    assert "The secret loki_s3_secret_access_key" in " ".join(text.split())
    assert host.docker("loki").inspect()["Id"] == before


def test_lines_are_in_the_store_and_come_back_from_it_alone(host, http, wait_until, in_s3):
    mark = f"mark{time.time_ns()}"
    values = [[str(time.time_ns() + n), f"{mark} {n}"] for n in range(1000)]
    stream = {"stream": {"job": "s3"}, "values": values}
    # An argument of a command cannot be as long as a thousand lines.
    for begin in range(0, 1000, 500):
        part = {**stream, "values": values[begin : begin + 500]}
        assert http.post(f"{LOKI}/loki/api/v1/push", {"streams": [part]}).status == 204
    host.check_output("docker stop -t 63 loki")
    objects = int(host.check_output("find /srv/s3/logs -type f | wc -l"))
    assert objects >= 2, "chunks and an index"
    # What lies on the host is gone; only the store has the lines.
    data = "/var/lib/deployment-monitoring/loki"
    host.check_output(f"rm -rf {data}/wal {data}/tsdb-shipper-active {data}/tsdb-shipper-cache {data}/chunks")
    host.check_output("docker start loki")
    wait_until(lambda: http.get(f"{LOKI}/ready").status == 200, what="Loki", timeout=60)
    wait_until(lambda: found(http, mark) == 1000, what="the lines", timeout=60)


def test_the_key_is_in_a_file_that_only_loki_reads_and_nowhere_else(host, http, in_s3):
    inspected = host.check_output("docker inspect loki")
    assert SECRET not in inspected
    assert SECRET not in http.get(f"{LOKI}/config").body
    assert SECRET not in host.check_output("docker logs loki 2>&1")
    file = host.file("/etc/deployment-monitoring/loki/secrets/s3_credentials")
    assert SECRET in file.content_string
    assert (file.user, file.gid, oct(file.mode)) == ("root", 10001, "0o640")


def test_it_comes_back_to_the_filesystem(host, http, in_s3):
    code, text = converge()
    assert code == 0, text[-3000:]
    assert not host.file("/etc/deployment-monitoring/loki/secrets/s3_credentials").exists
