"""Who the audit trail names, and what it does not tell."""

from __future__ import annotations

import subprocess

from ansible_collections.nekocheik.deployment_monitoring.plugins.action import audit_trail


def test_names_fields_and_files_and_no_value_but_an_images():
    outcomes = [
        {"name": "grafana", "action": "recreate", "seconds_away": 1.5, "error": "", "restored": ""},
        {
            "name": "loki",
            "action": "restart",
            "seconds_away": 0,
            "error": "bad",
            "restored": "the former runs again",
        },
    ]
    services = {
        "grafana": {"reasons": ["image: a:1 → a:2", "env: {'TOKEN': 'of-nobody'} → {}", "grafana.ini: changed"]},
        "loki": {"reasons": []},
    }
    assert audit_trail.sentences(outcomes, services) == [
        "grafana: recreate (image: a:1 → a:2, env, grafana.ini), away for 1.5 s",
        "loki: restart, failed: the former runs again",
    ]


def test_the_revision_is_that_of_the_first_checkout(tmp_path):
    (tmp_path / "none").mkdir()
    folder = tmp_path / "some"
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    found = audit_trail.revision([None, str(tmp_path / "none"), str(folder)])
    assert len(found) == 12
    (folder / "file").touch()
    subprocess.run([*git, "add", "file"], check=True)
    assert audit_trail.revision([str(folder)]) == found + "-dirty"
    assert audit_trail.revision([str(tmp_path / "none")]) == "no git"
