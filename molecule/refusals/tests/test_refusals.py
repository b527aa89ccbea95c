"""Each mistake that a user can make is refused by name before anything on the host is changed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
IMAGES = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
TARGET = "monitoring-refusals"

# What is wrong, the variables that make it so, and what the message has to name. `squatter` frees Alertmanager's port:
# False where another refusal is wanted than that one.
CASES = {
    "an unknown variable": ({"prometheus_prot": 9090}, ["prometheus_prot", "did you mean prometheus_port"]),
    "a mistyped role": (
        {"promethues_port": 9090, "monitring_environment": "x", "docker_package": ["docker-ce"]},
        ["did you mean prometheus_port?", "did you mean monitoring_environment?", "did you mean docker_packages?"],
    ),
    "a wrong type": ({"loki_port": "many"}, ["loki_port", "'many'"]),
    "a port out of range": ({"grafana_port": 99999}, ["grafana_port", "99999", "1 to 65535"]),
    "two services on one port": ({"loki_port": 9090}, ["9090", "loki_port", "prometheus_port"]),
    "a port of another program": ({}, ["alertmanager_port", "9093", "python3"]),
    "a second port of another program": (
        {"alertmanager_port": 19093, "loki_grpc_port": 19095},
        ["loki_grpc_port", "19095", "python3"],
    ),
    "a second port of another service": ({"loki_grpc_port": 9090}, ["9090", "loki_grpc_port", "prometheus_port"]),
    "a missing secret": ({"grafana_admin_password": ""}, ["grafana_admin_password", "vault"]),
    "a secret that is too short": ({"grafana_admin_password": "short"}, ["grafana_admin_password", "12 characters"]),
    "a public address": ({"grafana_bind_address": "0.0.0.0"}, ["grafana_bind_address", "monitoring_public_bind"]),
    "a floating version": ({"loki_version": "latest"}, ["loki_version", "pinned"]),
    "a password in a URI": ({"mongodb_exporter_uri": "mongodb://u:pw@127.0.0.1/"}, ["mongodb_exporter_uri"]),
    "no room on the disk": ({"monitoring_min_free_disk_size": "900t"}, ["monitoring_min_free_disk_size:", "GiB free"]),
    "an unsupported system": ({"monitoring_supported_systems": {"ubuntu": "22.04"}}, ["Debian", "not supported"]),
    "mounts of what is not there": (
        {
            "alertmanager_port": 19093,
            "cadvisor_engine_data_dir": "/srv/moved",
            "cadvisor_containerd_socket": "/run/moved.sock",
            "loki_extra_mounts": [{"source": "/srv/own", "target": "/own"}],
        },
        [
            "cadvisor_engine_data_dir: /srv/moved",
            "cadvisor_containerd_socket: /run/moved.sock",
            "loki_extra_mounts: /srv",
        ],
    ),
    "an image that is not there": (
        {"loki_version": "0.0.1", "alertmanager_port": 19093},
        ["grafana/loki:0.0.1", "monitoring_image_source"],
    ),
    "a registry that is not there": (
        {"alertmanager_port": 19093, "monitoring_image_source": "pull", "monitoring_image_prefix": "127.0.0.1:1/"},
        ["No service was touched", "127.0.0.1:1/grafana/loki:", "cannot be had", "monitoring_image_prefix"],
    ),
    "an archive that is not there": (
        {
            "loki_version": "0.0.1",
            "alertmanager_port": 19093,
            "monitoring_image_source": "archive",
            "monitoring_image_archive_dir": "/nowhere",
        },
        ["monitoring_image_archive_dir", "/nowhere", "grafana/loki:0.0.1"],
    ),
    "a rule that is none": (
        {
            "alertmanager_port": 19093,
            "prometheus_extra_rules": {"own": {"groups": [{"name": "own", "rules": [{"alert": "A", "expr": "up ="}]}]}},
        },
        ["prometheus refuses its new configuration", "own"],
    ),
    "a route to nowhere": (
        {"alertmanager_port": 19093, "alertmanager_extra_routes": [{"receiver": "nobody"}]},
        ["alertmanager refuses its new configuration", "nobody"],
    ),
    "a log source without a path": (
        {"monitoring_log_extra_sources": [{"name": "billing", "format": "json"}]},
        ["monitoring_log_extra_sources", "source billing", "it has no path"],
    ),
    "two log sources of one name": (
        {"monitoring_log_extra_sources": [{"name": "docker", "path": "/srv/billing/*.log"}]},
        ["monitoring_log_extra_sources", "two sources are named docker"],
    ),
    "a log label without bounds": (
        {"monitoring_log_extra_sources": [{"name": "b", "path": "/srv/b/*.log", "label_fields": ["order_id"]}]},
        ["source b", "order_id has no bounded set of values", "make it metadata"],
    ),
    "a broken stage of a log source": (
        {
            "monitoring_log_extra_sources": [
                {"name": "b", "path": "/srv/b/*.log", "stages": [{"drop": {"longr_than": "8KB"}}]}
            ]
        },
        ["source b", "stages: drop: longr_than is not known", "longer_than"],
    ),
    "a stage that only Promtail knows to be broken": (
        {
            "alertmanager_port": 19093,
            "monitoring_log_extra_sources": [
                {
                    "name": "b",
                    "path": "/srv/b/*.log",
                    "stages": [{"timestamp": {"source": "at", "format": "Unix", "location": "Mars/Phobos"}}],
                }
            ],
        },
        ["promtail refuses its new configuration", "unknown time zone Mars/Phobos"],
    ),
}


def site(variables, *options):
    """Run the site against the target with some variables; return the exit code and all that it says."""
    secrets = yaml.safe_load((CHECKOUT / "molecule/shared/secrets.yml").read_text())
    inventory = f"{TARGET} ansible_connection=community.docker.docker"
    hosts = Path(os.environ["CHECKOUT_STATE"]) / "refusals-inventory"
    hosts.write_text(f"[monitoring]\n{inventory}\n[platform]\n{TARGET}\n[monitored]\n{TARGET}\n")
    words = ["ansible-playbook", "-i", str(hosts), "-e", f"@{IMAGES}", "-e", json.dumps({**secrets, **variables})]
    done = subprocess.run(
        [*words, *options, "site.yml"],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def state(host):
    """Return what a run could have left on the machine."""
    paths = "/etc/deployment-monitoring /var/lib/deployment-monitoring"
    return host.check_output(f"docker ps -aq; find {paths} -type f 2>/dev/null || true").split()


@pytest.mark.parametrize("mistake", CASES)
def test_is_refused_by_name_and_nothing_is_changed(host, mistake):
    variables, words = CASES[mistake]
    code, said = site(variables)
    assert code != 0, said
    missing = [word for word in words if word not in said]
    assert not missing, said[-1500:]
    assert state(host) == []


def test_no_refusal_shows_the_secret_that_it_is_about():
    _code, said = site({"grafana_admin_password": "hunter2"})
    assert "hunter2" not in said


def test_no_diff_shows_a_secret_wherever_it_was_written():
    code, said = site(
        {
            "alertmanager_port": 19093,
            "grafana_secret_files": {"own": "hunter2-of-grafana"},
            "grafana_extra_config": {"smtp": {"user": "of-the-user", "password": "hunter2, and more"}},
            "prometheus_extra_config": {
                "remote_write": [{"url": "http://127.0.0.1:1/", "basic_auth": {"username": "x", "password": "hunter2"}}]
            },
            "prometheus_extra_scrape_configs": [{"job_name": "own", "authorization": {"credentials": "hunter2"}}],
        },
        "--check",
        "--diff",
    )
    assert code == 0, said[-1500:]
    for words in ("user = of-the-user", "password = (hidden)", "remote_write", "job_name: own"):
        assert words in said
    assert "hunter2" not in said
