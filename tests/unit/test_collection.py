"""The checkout is the collection: it builds, installs from its tarball, and its playbook is found by its full name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SITE_TASKS = ("Describe the services", "Compare the host with its plan", "Change what differs")


def run(*words, cwd, **environment):
    """Run a command and return what it printed."""
    # Ansible looks for collections on Python's path as well, where the unit tests have the checkout.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the built collection was installed."""
    folder = tmp_path_factory.mktemp("collections")
    (folder / "ansible.cfg").write_text("[defaults]\n")
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(CHECKOUT), cwd=folder)
    (tarball,) = folder.glob("nekocheik-deployment_monitoring-*.tar.gz")
    words = ("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", str(folder), str(tarball))
    # The checkout itself must not count as installed.
    run(*words, cwd=folder, ANSIBLE_COLLECTIONS_PATH=str(folder), ANSIBLE_CONFIG=str(folder / "ansible.cfg"))
    return folder


def test_the_site_is_found_by_its_full_name(installed):
    hosts = installed / "hosts"
    hosts.write_text("[monitoring]\none\n[monitored]\none\n")
    words = ("ansible-playbook", "-i", str(hosts), "--list-tasks", "nekocheik.deployment_monitoring.site")
    alone = {"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_CONFIG": str(installed / "ansible.cfg")}
    listed = run(*words, cwd=installed, **alone)
    assert all(task in listed for task in SITE_TASKS), listed


def test_the_tarball_has_neither_caches_nor_links_to_itself(installed):
    root = installed / "ansible_collections/nekocheik/deployment_monitoring"
    assert (root / "roles/prometheus/defaults/main.yml").is_file()
    assert not (root / ".collections").exists()
    assert not (root / ".git").exists()


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/site.yml"])
def test_a_checkout_of_any_name_is_the_collection(tmp_path, playbook):
    copy = tmp_path / "any-name"
    shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "tests", "__pycache__"))
    words = ("ansible-playbook", "-i", "inventory/production", "--list-tasks", playbook)
    # Only what the checkout's own ansible.cfg says, as on a user's laptop.
    bare = {"ANSIBLE_CONFIG": str(copy / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(copy / ".collections")}
    listed = run(*words, cwd=copy, **bare)
    assert all(task in listed for task in SITE_TASKS), listed


def test_the_production_inventory_sees_the_group_variables():
    words = ("ansible-inventory", "-i", "inventory/production", "--host", "deploy-1")
    values = json.loads(run(*words, cwd=CHECKOUT, ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg")))
    assert values["ansible_host"] == "51.159.99.160"
    assert values["monitoring_environment"] == "production"
    assert values["prometheus_retention_time"] == "30d"
