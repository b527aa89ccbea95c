"""The programs health_check and cleanup, where no server is needed to tell right from wrong."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import shutil
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
PROGRAMS = CHECKOUT / "roles/maintenance/files"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The programs as they are installed: with the mechanism's client of the engine beside them."""
    folder = tmp_path_factory.mktemp("programs")
    shared = [CHECKOUT / f"plugins/module_utils/{name}.py" for name in ("engine", "host_lock")]
    for path in [*PROGRAMS.glob("*.py"), *shared]:
        shutil.copy(path, folder)
    names = ["archive", "silences", "engine", "host_lock", "backup", "health_check", "cleanup"]
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(folder))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(folder))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module:
                sys.modules[name] = module


@pytest.fixture
def health(programs):
    return programs["health_check"]


@pytest.fixture
def cleanup(programs):
    return programs["cleanup"]


@pytest.fixture
def prometheus():
    """A server that answers as Prometheus does, and what it answers by path."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(urllib.parse.urlsplit(self.path).path)
            self.send_response(200 if answer is not None else 404)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *_words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, answers
    server.shutdown()
    server.server_close()


class TestHealthCheck:
    def check(self, health, port, **settings):
        roster = [
            {"name": "prometheus", "state": "present", "image": "x:1", "ready": {"address": "127.0.0.1", "port": port}}
        ]
        return health.HealthCheck({"host": "one", "certificate_days": 14, **settings}, roster, writes=True)

    def answers(self, targets=(), groups=(), certificates=()):
        return {
            "/api/v1/targets": json.dumps({"data": {"activeTargets": list(targets)}}),
            "/api/v1/rules": json.dumps({"data": {"groups": list(groups)}}),
            "/metrics": "prometheus_config_last_reload_successful 1\n",
            "/api/v1/query": json.dumps({"data": {"result": list(certificates)}}),
        }

    def test_a_certificate_that_ends_soon_is_a_finding(self, health, prometheus):
        port, answers = prometheus
        series = [{"metric": {"hostname": name}, "value": [0, days]} for name, days in (("a", "3.2"), ("b", "60"))]
        answers.update(self.answers(certificates=series))
        found = {f.what: f.reason for f in self.check(health, port)._prometheus()}
        assert found["certificate of a"] == "it ends in 3 days: renew it"
        assert found["certificate of b"] == ""

    def test_an_application_that_is_down_is_none_of_its_business(self, health, prometheus):
        port, answers = prometheus
        targets = [
            {"labels": {"job": job, "instance": "i"}, "health": "down", "lastError": "refused", "scrapeUrl": "u"}
            for job in ("app-health", "node")
        ]
        answers.update(self.answers(targets))
        found = [f.what for f in self.check(health, port)._prometheus() if f.reason and f.what.startswith("target")]
        assert found == ["target node i of i"]

    def test_a_configuration_that_was_refused_is_a_finding(self, health, prometheus):
        port, answers = prometheus
        answers.update(self.answers())
        answers["/metrics"] = "prometheus_config_last_reload_successful 0\n"
        found = {f.what: f.reason for f in self.check(health, port)._prometheus()}
        assert "refused its last configuration" in found["configuration"]
        assert found["rules"] == "it has no rules"
        assert found["targets"] == "it scrapes nothing"

    def test_a_program_that_answers_nonsense_is_one_finding(self, health, prometheus):
        port, answers = prometheus
        answers["/api/v1/targets"] = "<html>"
        (finding,) = health._answers(self.check(health, port)._prometheus)
        assert (finding.service, finding.what) == ("prometheus", "answers")
        assert "unexpected answer" in finding.reason

    @pytest.mark.parametrize(
        ("evaluated", "words"),
        [
            (lambda: time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime()), ""),
            (lambda: time.strftime("%Y-%m-%dT%H:%M:%S.1+05:30", time.gmtime(time.time() + 5.5 * 3600)), ""),
            (lambda: time.strftime("%Y-%m-%dT%H:%M:%S-02:00", time.gmtime(time.time() - 2 * 3600)), ""),
            (lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600)), "last evaluated 60"),
            (lambda: "0001-01-01T00:00:00Z", "not evaluated yet"),
            (lambda: None, "not evaluated yet"),
        ],
    )
    def test_a_group_of_rules_is_evaluated_in_time(self, health, evaluated, words):
        reason = health._rules({"rules": [], "interval": 15, "lastEvaluation": evaluated()}, 0.0)
        assert reason.startswith(words) if words else reason == ""

    @pytest.mark.parametrize(("ago", "words"), [(200, ""), (400, "not evaluated yet")])
    def test_a_slow_group_may_wait_for_its_first_turn(self, health, ago, words):
        group = {"rules": [], "interval": 300, "lastEvaluation": "0001-01-01T00:00:00Z"}
        assert health._rules(group, time.time() - ago) == words

    def test_a_sum_of_a_metric_is_read_and_a_longer_name_is_not(self, health):
        text = '# HELP a x\na{b="1"} 2\na{b="2"} 3\nab 100\n'
        assert health.sample(text, "a") == 5
        assert health.sample(text, "c") is None

    def test_what_only_needs_a_moment_is_asked_again(self, health, monkeypatch):
        monkeypatch.setattr(health, "_PAUSE", 0.01)
        rounds = [
            [health.Finding("a", "b", "not yet")],
            [health.Finding("a", "b", "not yet")],
            [health.Finding("a", "b")],
        ]
        assert health.wait_healthy(lambda: rounds.pop(0), 5) == [health.Finding("a", "b")]

    def test_a_restore_that_was_cut_off_is_a_finding_of_the_host(self, health, tmp_path, monkeypatch):
        settings = {"data_dir": str(tmp_path), "directories": [str(tmp_path)], "min_free": 0}
        check = self.check(health, 1, **settings)
        monkeypatch.setattr(check.engine, "info", dict)
        assert [f.reason for f in check._host()] == ["", ""]
        (tmp_path / ".restore-former").mkdir()
        (reason,) = [f.reason for f in check._host() if f.reason]
        assert reason == "a restore was cut off: run playbooks/restore.yml again, it puts the former data back first"

    @pytest.mark.parametrize(
        ("chosen", "told"),
        [
            ((), {"prometheus", "other", "host", "maintenance"}),
            (("prometheus",), {"prometheus"}),
            (("host",), {"host"}),
            (("maintenance", "other"), {"other", "maintenance"}),
        ],
    )
    def test_asked_about_some_it_asks_and_tells_of_no_other(self, health, monkeypatch, chosen, told):
        roster = [{"name": name, "state": "present", "image": "x:1"} for name in ("prometheus", "other")]
        check = health.HealthCheck({"host": "one"}, roster, True, chosen)
        asked = []

        def part(name, *services):
            def answer():
                asked.append(name)
                return [health.Finding(service, "x", "bad") for service in services]

            monkeypatch.setattr(check, name, answer)

        part("_containers", "prometheus", "other")
        # Some is told of another service than the one that was asked.
        part("_prometheus", "prometheus", "host")
        part("_host", "host")
        part("_timers", "maintenance", "other")
        assert {finding.service for finding in check.run()} == told
        parts = {"_containers", "_prometheus", "_host", "_timers"}
        left_out = {"_prometheus": "prometheus", "_host": "host", "_timers": "maintenance"}
        assert set(asked) == parts - {name for name, service in left_out.items() if chosen and service not in chosen}

    def test_where_nothing_of_it_is_here_it_says_so(self, health):
        assert health.report("one", [])["summary"] == ["one: nothing of what was asked about is here"]

    def test_nothing_is_waited_for_that_does_not_mend_itself(self, health):
        began = time.monotonic()
        found = [health.Finding("host", "disk", "full", passing=False)]
        assert health.wait_healthy(lambda: found, 30) == found
        assert time.monotonic() - began < 1

    def test_it_gives_up_when_the_time_is_over(self, health, monkeypatch):
        monkeypatch.setattr(health, "_PAUSE", 0.05)
        found = [health.Finding("a", "b", "not yet")]
        began = time.monotonic()
        assert health.wait_healthy(lambda: found, 0.3) == found
        assert time.monotonic() - began < 1

    def test_each_service_has_one_line(self, health):
        found = [health.Finding("a", "b"), health.Finding("a", "c", "bad"), health.Finding("d", "e")]
        told = health.report("one", found)
        assert told["summary"] == ["one a: c: bad", "one d: well (1 asked)"]
        assert told["healthy"] is False
        assert told["metrics"]["monitoring_health_check_problems"] == 1


class TestTimersOfTheHealthCheck:
    def check(self, health, tmp_path, text=None):
        if text is not None:
            (tmp_path / "monitoring_backup.prom").write_text(text)
        return health.HealthCheck({"host": "one", "textfile_dir": str(tmp_path)}, [], writes=False)

    def metrics(self, ago, result):
        label = '{timer="backup"}'
        when = int(time.time() - ago)
        return (
            f"monitoring_timer_last_run_timestamp_seconds{label} {when}\nmonitoring_timer_last_result{label} {result}\n"
        )

    @pytest.mark.parametrize(
        ("ago", "result", "words"),
        [
            (100, 1, ""),
            (100, 0, "it failed: journalctl -u x.service"),
            (100000, 1, "it ran 27.8 h ago, 1 h are allowed"),
        ],
    )
    def test_a_timer_ran_in_time_and_well(self, health, tmp_path, ago, result, words):
        check = self.check(health, tmp_path, self.metrics(ago, result))
        assert check._last_run("backup", {"unit": "x.timer", "interval": 2400}) == words

    @pytest.mark.parametrize(("age", "words"), [(0, ""), (7200, "it never ran, and should have by now")])
    def test_one_that_never_ran_may_wait_for_its_first_time(self, health, tmp_path, monkeypatch, age, words):
        monkeypatch.setattr(health, "_STAMPS", str(tmp_path))
        installed = f'monitoring_timer_last_run_timestamp_seconds{{timer="backup"}} {int(time.time() - age)}\n'
        assert self.check(health, tmp_path, installed)._last_run("backup", {"unit": "x", "interval": 2400}) == words
        (tmp_path / "monitoring_backup.prom").unlink()
        stamp = tmp_path / "stamp-x.timer"
        stamp.touch()
        os.utime(stamp, (time.time() - age, time.time() - age))
        assert self.check(health, tmp_path)._last_run("backup", {"unit": "x.timer", "interval": 2400}) == words


class TestCleanup:
    def test_archives_beyond_what_is_kept_go_and_never_the_newest(self, cleanup, tmp_path):
        days = (1, 5, 18, 19, 20)
        for day in days:
            (tmp_path / f"monitoring-one-202603{day:02}T020000Z.tar.gz").write_text("x" * day)
        (tmp_path / "own.tar.gz").touch()
        # On a disk that other hosts have too.
        theirs = "monitoring-one-2-20260301T020000Z.tar.gz"
        (tmp_path / theirs).write_text("theirs")
        settings = {"host": "one", "backup_dir": str(tmp_path), "keep_count": 3, "keep_days": 10}
        now = cleanup.backup.made("monitoring-one-20260321T020000Z.tar.gz")
        items = cleanup.old_archives(settings, now)
        assert sorted(item.size for item in items) == [1, 5]
        for item in cleanup.old_archives(settings, now + 1e8):
            item.remove()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            theirs,
            "monitoring-one-20260320T020000Z.tar.gz",
            "own.tar.gz",
        ]

    def test_directories_of_killed_runs_go_once_they_are_old(self, cleanup, tmp_path):
        for name in (".staging", ".upload-x", ".backup", ".restore-former", ".restore-aside", "prometheus", ".own"):
            (tmp_path / name).mkdir()
        assert cleanup.left_directories(str(tmp_path), time.time()) == []
        items = cleanup.left_directories(str(tmp_path), time.time() + 90000)
        assert sorted(Path(item.name).name for item in items) == [".backup", ".staging", ".upload-x"]
        for item in items:
            item.remove()
        left = [".own", ".restore-aside", ".restore-former", "prometheus"]
        assert sorted(path.name for path in tmp_path.iterdir()) == left
        # What services collected between a restore that was killed and its undoing is there for a week.
        (item,) = cleanup.left_directories(str(tmp_path), time.time() + 7 * 86400 + 60)
        assert item.name == str(tmp_path / ".restore-aside")

    def test_without_the_list_of_services_nothing_is_touched(self, programs, cleanup, tmp_path, capsys):
        settings = tmp_path / "settings.json"
        settings.write_text("{}")
        assert cleanup.main([str(settings)]) == 1
        assert "services.json" in json.loads(capsys.readouterr().out)["error"]
