"""A tag chooses services where a playbook can do with some of them, and is refused by a sentence where it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
# The words of each, and what its sentence says.
REFUSED = {
    "backup": (["--tags", "grafana"], "so that the newest one is always whole"),
    "cleanup": (["--tags", "grafana"], "It cleans up after all services of a host"),
    "uninstall": (["--skip-tags", "grafana"], "set its state (grafana_state: absent) and run site.yml"),
    "test_alerts": (["--tags", "grafana"], "It tests all receivers"),
    "restore": (["--tags", "node_exporter"], "It knows prometheus, alertmanager, loki, grafana."),
    "health_check": (["--tags", "grafna"], "It knows alertmanager, alloy, app_discovery, blackbox_exporter, "),
}
NOTHING_LEFT = ["--tags", "grafana", "--skip-tags", "grafana"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Run them all, side by side, against a host that nobody can reach: each ends before it would matter."""
    hosts = tmp_path_factory.mktemp("inventory") / "hosts"
    hosts.write_text("[monitoring]\nnowhere ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1\n")
    words = {name: [name, *tags] for name, (tags, _sentence) in REFUSED.items()}
    words["nothing left"] = ["restore", *NOTHING_LEFT]
    running = {
        what: subprocess.Popen(
            ["ansible-playbook", "-i", str(hosts), f"playbooks/{name}.yml", *tags],
            cwd=CHECKOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for what, (name, *tags) in words.items()
    }
    found = {}
    for what, process in running.items():
        text, _nothing = process.communicate(timeout=120)
        found[what] = process.returncode, " ".join(text.split())
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_a_tag_that_means_nothing_is_refused(said: dict[str, tuple[int, str]], name: str) -> None:
    tags, sentence = REFUSED[name]
    code, text = said[name]
    assert code == 2, text
    assert f"Nothing was done: {tags[1]} as a tag means nothing here." in text, text
    assert sentence in text, text
    assert re.search(r"ok=0 +changed=0 +unreachable=0 +failed=1", text), text


def test_tags_that_leave_no_service_to_restore_are_refused(said: dict[str, tuple[int, str]]) -> None:
    code, text = said["nothing left"]
    assert code == 2, text
    assert (
        "Nothing was touched: of prometheus, alertmanager, loki, grafana the tags leave no service to restore" in text
    )


# What tags make of a run: whether it knows all services, which are restored, and with which the health is asked about.
PLAY = """
- hosts: localhost
  gather_facts: false
  tags: always
  tasks:
    - ansible.builtin.import_role: {name: nekocheik.deployment_monitoring.maintenance, tasks_from: describe}
      when: false
    - ansible.builtin.copy:
        content: >-
          {{ [__maintenance_partial_run, __maintenance_restore_words, __maintenance_health_check_command] | to_json }}
        dest: "{{ found }}"
        mode: "0600"
"""
SERVICES = ["prometheus", "alertmanager", "loki", "grafana"]
CHOSEN = {
    # What molecule says at each of its runs.
    "all": (["--skip-tags", "molecule-notest,notest"], False, None),
    "one": (["--tags", "grafana"], True, ["grafana"]),
    "but one": (["--skip-tags", "alertmanager"], True, ["prometheus", "loki", "grafana"]),
    "two of three": (["--tags", "loki,grafana,cadvisor", "--skip-tags", "grafana"], True, ["loki"]),
}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bool, list[str], list[str]]]:
    folder = tmp_path_factory.mktemp("chosen")
    (folder / "play.yml").write_text(PLAY)
    running = {
        what: subprocess.Popen(
            ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", f"found={folder / what.replace(' ', '-')}"]
            + [str(folder / "play.yml"), *tags],
            cwd=CHECKOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for what, (tags, _partial, _names) in CHOSEN.items()
    }
    for process in running.values():
        said, _nothing = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return {what: json.loads((folder / what.replace(" ", "-")).read_text()) for what in CHOSEN}


@pytest.mark.parametrize("what", CHOSEN)
def test_tags_choose_services(chosen: dict[str, tuple[bool, list[str], list[str]]], what: str) -> None:
    _tags, partial, names = CHOSEN[what]
    found_partial, restore, health = chosen[what]
    assert found_partial is partial
    assert restore == ["--archive", "newest", *(["--services", ",".join(names)] if names else [])]
    if names is None:
        assert health[2:5] == ["timer.py", "settings.json", "health_check"]
    else:
        assert health[2:5] == ["health_check.py", "settings.json", "--services"]
        assert [name for name in SERVICES if name in health[5].split(",")] == names
