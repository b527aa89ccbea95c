"""The programs of the role maintenance, where no server is needed to tell right from wrong."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
PROGRAMS = CHECKOUT / "roles/maintenance/files"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The programs as they are installed: with the mechanism's client of the engine beside them."""
    folder = tmp_path_factory.mktemp("programs")
    shared = [CHECKOUT / f"plugins/module_utils/{name}.py" for name in ("engine", "host_lock")]
    for path in [*PROGRAMS.glob("*.py"), *shared]:
        shutil.copy(path, folder)
    names = ["archive", "silences", "engine", "host_lock", "backup", "restore", "timer"]
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
def archive(programs):
    return programs["archive"]


@pytest.fixture
def backup(programs):
    return programs["backup"]


@pytest.fixture
def made(archive, tmp_path):
    """An archive with two files."""
    writer = archive.Writer(str(tmp_path / "a.tar.gz"), {"host": "one"}, 1, [])
    writer.add_text("data/x/first", "one" * 10000)
    writer.add_text("data/y/second", "two")
    writer.close()
    return tmp_path / "a.tar.gz"


def unpacked(archive, path, **words):
    folder = path.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return archive.unpack(str(path), str(folder), **words), folder


class TestArchive:
    def test_gives_back_what_it_was_given(self, archive, made):
        header, folder = unpacked(archive, made)
        assert header == {"format": 1, "host": "one"}
        assert (folder / "data/x/first").read_text() == "one" * 10000
        assert (folder / "data/y/second").read_text() == "two"

    def test_is_its_owners_only_and_leaves_nothing_half(self, made):
        assert oct(made.stat().st_mode)[-3:] == "600"
        assert sorted(path.name for path in made.parent.iterdir()) == ["a.tar.gz", "a.tar.gz.sha256"]

    def test_is_abandoned_without_a_trace(self, archive, tmp_path):
        writer = archive.Writer(str(tmp_path / "b.tar.gz"), {}, 1, [])
        writer.add_text("x", "y")
        writer.abandon()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("beside", [True, False], ids=["with its sum", "without its sum"])
    def test_no_flipped_byte_and_no_cut_passes(self, archive, made, beside):
        whole = made.read_bytes()
        if not beside:
            Path(f"{made}.sha256").unlink()
        # The header of gzip has bytes that say nothing (time, system): only its sum knows of those.
        places = [*(range(10) if beside else ()), *range(10, len(whole), max(1, len(whole) // 60))]
        for place in places:
            made.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            with pytest.raises(archive.ArchiveError):
                unpacked(archive, made)
            made.write_bytes(whole[:place])
            with pytest.raises(archive.ArchiveError):
                unpacked(archive, made)

    def test_one_that_lacks_a_file_or_has_one_more_is_refused(self, archive, made, tmp_path):
        _header, folder = unpacked(archive, made)
        Path(f"{made}.sha256").unlink()
        for change in ("less", "more"):
            with tarfile.open(made, "w:gz") as writer:
                names = ["backup.json", "data/x/first"] + (["data/y/second"] if change == "more" else [])
                for name in names:
                    writer.add(folder / name, name)
                if change == "more":
                    writer.add(folder / "data/y/second", "data/y/third")
                writer.add(folder / "manifest.json", "manifest.json")
            copy = tmp_path / change
            copy.mkdir()
            with pytest.raises(archive.ArchiveError, match="data/y/" + ("second" if change == "less" else "third")):
                archive.unpack(str(made), str(copy))

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "data/../../x", "data//x", "."])
    def test_a_path_that_leads_out_is_refused(self, archive, tmp_path, name):
        writer = archive.Writer(str(tmp_path / "a.tar.gz"), {}, 1, [])
        writer.add_text(name, "x")
        writer.close()
        with pytest.raises(archive.ArchiveError, match="does not belong"):
            unpacked(archive, tmp_path / "a.tar.gz")

    def test_a_link_is_refused(self, archive, tmp_path):
        (tmp_path / "backup.json").write_text('{"format": 1}')
        (tmp_path / "link").symlink_to("/etc/passwd")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as writer:
            writer.add(tmp_path / "backup.json", "backup.json")
            writer.add(tmp_path / "link", "link")
        with pytest.raises(archive.ArchiveError, match="does not belong"):
            unpacked(archive, tmp_path / "a.tar.gz")

    def test_a_newer_format_is_refused_by_its_first_member(self, archive, made, monkeypatch):
        monkeypatch.setattr(archive, "FORMAT", 0)
        with pytest.raises(archive.ArchiveError, match="the format 1, this program reads 0"):
            unpacked(archive, made)

    def test_any_tar_of_somebody_else_is_refused(self, archive, tmp_path):
        (tmp_path / "x").write_text("y")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as writer:
            writer.add(tmp_path / "x", "x")
        with pytest.raises(archive.ArchiveError, match="no archive of this program"):
            unpacked(archive, tmp_path / "a.tar.gz")

    def test_what_the_header_is_refused_for_ends_it_before_more_is_unpacked(self, archive, made):
        def refuse(_header):
            raise archive.ArchiveError("not this one")

        with pytest.raises(archive.ArchiveError, match="not this one"):
            unpacked(archive, made, accept=refuse)
        assert [path.name for path in (made.parent / "unpacked").iterdir()] == ["backup.json"]

    def test_encryption_without_age_is_refused_by_name(self, archive, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(archive.ArchiveError, match="apt-get install age"):
            archive.Writer(str(tmp_path / "a.tar.gz.age"), {}, 1, ["age1x"])

    @pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed here; molecule/backup has it")
    def test_encrypted_it_is_read_with_its_key_only(self, archive, tmp_path):
        for name in ("right", "wrong"):
            subprocess.run(["age-keygen", "-o", tmp_path / name], check=True, capture_output=True)
        public = subprocess.run(
            ["age-keygen", "-y", tmp_path / "right"], check=True, capture_output=True, text=True
        ).stdout.strip()
        path = tmp_path / "a.tar.gz.age"
        writer = archive.Writer(str(path), {"host": "one"}, 1, [public])
        writer.add_text("data/x", "a word in clear")
        writer.close()
        assert b"a word in clear" not in path.read_bytes()
        assert unpacked(archive, path, identity=str(tmp_path / "right"))[0]["host"] == "one"
        with pytest.raises(archive.ArchiveError):
            unpacked(archive, path, identity=str(tmp_path / "wrong"))
        with pytest.raises(archive.ArchiveError, match="name the file with the secret key"):
            unpacked(archive, path)


class TestBackup:
    def settings(self, tmp_path, **changes):
        for name in ("data", "backups", "config"):
            (tmp_path / name).mkdir(exist_ok=True)
        return {
            "host": "one",
            "data_dir": str(tmp_path / "data"),
            "config_dir": str(tmp_path / "config"),
            "backup_dir": str(tmp_path / "backups"),
            "services": {},
            "min_free": 0,
            "compression": 1,
            "recipients": [],
            "copies": [],
            "keep_count": 3,
            "keep_days": 10,
            **changes,
        }

    def test_keeps_the_newest_and_what_is_neither_too_many_nor_too_old(self, backup, tmp_path):
        settings = self.settings(tmp_path)
        folder = tmp_path / "backups"
        days = [1, 5, 18, 19, 20]
        for day in days:
            for ending in ("", ".sha256"):
                (folder / f"monitoring-one-202603{day:02}T020000Z.tar.gz{ending}").touch()
        (folder / "monitoring-x.txt").touch()
        (folder / "own.tar.gz").touch()
        now = backup.made("monitoring-one-20260321T020000Z.tar.gz")
        assert len(backup.prune(settings, now)) == 2
        left = sorted(path.name for path in folder.glob("*.gz"))
        assert left == [f"monitoring-one-202603{day}T020000Z.tar.gz" for day in (18, 19, 20)] + ["own.tar.gz"]
        # Years later the newest is still there.
        assert len(backup.prune(settings, now + 1e8)) == 2
        assert [path.name for path in folder.glob("mon*.gz")] == ["monitoring-one-20260320T020000Z.tar.gz"]

    # Hosts that have one disk for all their archives.
    OTHERS = ("web", "one-2", "one-20260101T000000Z", "xone", "o.e")

    def test_another_hosts_archives_are_neither_counted_nor_removed_nor_taken(self, backup, tmp_path):
        folder, settings = tmp_path / "backups", self.settings(tmp_path)
        stamps = [f"202603{day:02}T020000Z" for day in (1, 5, 20)]
        for host in (*self.OTHERS, "one"):
            for stamp in stamps:
                (folder / f"monitoring-{host}-{stamp}.tar.gz").touch()
                (folder / f"monitoring-{host}-{stamp}.tar.gz.part").touch()
        for host in self.OTHERS:
            (folder / f"monitoring-{host}-20260321T020000Z.tar.gz.age").touch()
        assert backup.newest(settings) == f"{folder}/monitoring-one-{stamps[-1]}.tar.gz"
        now = backup.made("monitoring-one-20260325T020000Z.tar.gz")
        assert backup.prune(settings, now) == [f"monitoring-one-{stamp}.tar.gz" for stamp in (stamps[1], stamps[0])]
        backup.clear_leftovers(settings)
        left = {path.name for path in folder.iterdir() if path.name.startswith("monitoring-one-2026")}
        theirs = {f"monitoring-one-20260101T000000Z-{stamp}.tar.gz" for stamp in stamps}
        theirs |= {f"{name}.part" for name in theirs} | {"monitoring-one-20260101T000000Z-20260321T020000Z.tar.gz.age"}
        assert left - theirs == {f"monitoring-one-{stamps[-1]}.tar.gz"}
        assert len(list(folder.iterdir())) == len(self.OTHERS) * 7 + 1

    def test_a_point_in_a_hosts_name_is_a_point(self, backup):
        assert backup.names_of("o.e").fullmatch("monitoring-o.e-20260301T020000Z.tar.gz.age")
        assert not backup.names_of("o.e").fullmatch("monitoring-one-20260301T020000Z.tar.gz")

    def test_without_an_archive_of_its_own_a_host_takes_none_of_another(self, backup, tmp_path):
        (tmp_path / "backups").mkdir()
        (tmp_path / "backups/monitoring-other-20260301T020000Z.tar.gz").touch()
        with pytest.raises(backup.BackupError, match="no archive of one; name the one to take"):
            backup.newest(self.settings(tmp_path))

    def test_a_database_that_is_written_to_is_copied_whole(self, backup, tmp_path):
        source, target = tmp_path / "grafana", tmp_path / "copy"
        source.mkdir()
        with contextlib.closing(sqlite3.connect(source / "grafana.db")) as database:
            database.execute("CREATE TABLE user (id INTEGER, name TEXT)")
            database.executemany("INSERT INTO user VALUES (?, ?)", [(n, "x" * 500) for n in range(1000)])
            database.commit()
            # Begun and not committed: no part of a whole state.
            database.execute("INSERT INTO user VALUES (9999, 'half')")
            assert backup._stage_grafana({"data_dir": str(source)}, str(target)) == "database with 1000 users"

    def test_logs_are_copied_and_blocks_linked_where_there_is_no_snapshot_api(self, backup, tmp_path):
        data, target = tmp_path / "prometheus", tmp_path / "copy"
        block = "01JD0000000000000000000000"
        for path in ("wal/00000001", f"{block}/meta.json", f"{block}/chunks/000001", "lock", "chunks_head/000001"):
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_text(path)
        backup._stage_prometheus({"data_dir": str(data), "snapshots": False}, str(target))
        found = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
        assert found == [f"{block}/chunks/000001", f"{block}/meta.json", "wal/00000001"]
        assert os.path.samefile(target / block / "meta.json", data / block / "meta.json")
        assert not os.path.samefile(target / "wal/00000001", data / "wal/00000001")

    def test_is_refused_while_another_one_runs(self, backup, tmp_path):
        settings = self.settings(tmp_path)
        with backup.locked(settings):  # noqa: SIM117 - the second one is the subject
            with pytest.raises(backup.BackupError, match="another backup or restore"), backup.locked(settings):
                pass
        # Another host's, at the same time on the same disk.
        with backup.locked(settings), backup.locked({**settings, "host": "two"}):
            pass

    def test_waits_for_whoever_changes_the_host_and_says_so(self, programs, backup, tmp_path, monkeypatch, capsys):
        settings, lock = self.settings(tmp_path), programs["host_lock"]
        monkeypatch.setattr(lock, "SECONDS", 0.3)
        monkeypatch.setattr(backup, "images", lambda names: {})
        notes = []
        with lock.held(settings["data_dir"], "a swap"):
            with pytest.raises(lock.LockError, match="another run is changing this host: a swap, process "):
                backup.run(settings)
            # One that only looks disturbs nobody and waits for nobody.
            assert backup.run(settings, check=True)["checked_only"]
            with pytest.raises(lock.LockError), backup.alone(settings, "a restore", False, notes):
                pass
        assert "waiting for it" in notes[0]
        assert "waiting for it" in capsys.readouterr().err
        assert backup.run(settings)["archive"].startswith(f"{tmp_path}/backups/monitoring-one-")

    def test_a_long_archive_keeps_no_other_change_waiting(self, programs, backup, tmp_path, monkeypatch):
        settings, held = self.settings(tmp_path), programs["host_lock"].held
        (tmp_path / "config/prometheus.yml").write_text("as it was staged")
        monkeypatch.setattr(backup, "images", lambda names: {})
        original = backup.archive.Writer

        def writer(*words):
            with held(settings["data_dir"], "a swap", seconds=0):
                (tmp_path / "config/prometheus.yml").write_text("of a swap that came after")
            return original(*words)

        monkeypatch.setattr(backup.archive, "Writer", writer)
        path = backup.run(settings)["archive"]
        with tarfile.open(path) as reader:
            assert reader.extractfile("config/prometheus.yml").read() == b"as it was staged"
        assert os.listdir(tmp_path / "data") == [".lock"]

    def test_a_file_that_was_replaced_by_a_link_is_not_followed(self, backup, tmp_path, monkeypatch):
        (tmp_path / "secret").write_text("of somebody else")
        (tmp_path / "data").mkdir()
        (tmp_path / "data/x").symlink_to(tmp_path / "secret")
        # As it was when it was looked at.
        with monkeypatch.context() as moment:
            moment.setattr(backup.stat, "S_ISREG", lambda mode: True)
            backup.copy_tree(str(tmp_path / "data"), str(tmp_path / "copy"))
        assert (tmp_path / "copy/x").is_symlink()

    def test_is_refused_where_the_disk_is_too_small(self, backup, tmp_path):
        with pytest.raises(backup.BackupError, match="make room"):
            backup.require_room(self.settings(tmp_path, min_free=1 << 60))

    def test_a_copy_that_fails_is_a_failure(self, backup, tmp_path, monkeypatch):
        path = tmp_path / "a.tar.gz"
        path.write_text("x")
        (tmp_path / "a.tar.gz.sha256").write_text("y")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(backup.BackupError, match="rsync is not installed"):
            backup.copy_out(str(path), "ops@laptop:x/")
        with pytest.raises(backup.BackupError, match="rclone is not installed"):
            backup.copy_out(str(path), "rclone:s3:x")


class TestSilences:
    def test_are_written_as_alertmanager_writes_them(self, programs):
        silence = {
            "id": "ab",
            "matchers": [
                {"name": "a", "value": "b", "isRegex": False, "isEqual": True},
                {"name": "c", "value": "d", "isRegex": True, "isEqual": False},
            ],
            "startsAt": "1970-01-01T00:00:01.500Z",
            "endsAt": "1970-01-01T00:05:00Z",
            "updatedAt": "1970-01-01T00:00:02.000000001Z",
            "createdBy": "me",
            "comment": "why",
            "annotations": {"k": "v"},
        }
        parts = [
            b"\x0a\x02ab",
            b"\x12\x06\x12\x01a\x1a\x01b",
            b"\x12\x08\x08\x03\x12\x01c\x1a\x01d",
            b"\x1a\x08\x08\x01\x10" + b"\x80\xca\xb5\xee\x01",
            b"\x22\x03\x08\xac\x02",
            b"\x2a\x02\x08\x02",
            b"\x42\x02me",
            b"\x4a\x03why",
            b"\x52\x06\x0a\x01k\x12\x01v",
        ]
        body = b"".join(parts)
        record = b"\x0a" + bytes([len(body)]) + body + b"\x12\x03\x08\xe8\x02"
        assert programs["silences"].state_file([silence], "1m") == bytes([len(record)]) + record

    @pytest.mark.parametrize(("text", "seconds"), [("120h", 432000), ("1d12h", 129600), ("90m", 5400), ("500ms", 0.5)])
    def test_a_duration_is_read(self, programs, text, seconds):
        assert programs["silences"].duration(text) == seconds


class TestRestore:
    @pytest.mark.parametrize(
        ("image", "numbers"),
        [
            ("prom/prometheus:v3.13.2", (3, 13, 2)),
            ("mirror:5000/grafana/grafana:13.1.0-ubuntu", (13, 1, 0)),
            ("mirror:5000/grafana/grafana", ()),
            ("x:main", ()),
        ],
    )
    def test_a_version_is_read_from_an_image(self, programs, image, numbers):
        assert programs["restore"].version(image) == numbers


class TestTimer:
    def run(self, programs, tmp_path, source):
        timer = programs["timer"]
        folder = Path(timer.__file__).parent
        (folder / "probe.py").write_text(source)
        settings = {"textfile_dir": str(tmp_path / "metrics"), "intervals": {"probe": 60}}
        # As its unit has it; node_exporter is to read the file all the same.
        former = os.umask(0o077)
        try:
            code = timer.run(settings, "settings.json", "probe", [])
        finally:
            os.umask(former)
        return code, (tmp_path / "metrics/monitoring_probe.prom").read_text()

    def test_a_good_run_is_told_with_its_metrics(self, programs, tmp_path):
        before = int(time.time())
        told = json.dumps({"metrics": {"monitoring_backup_size_bytes": 1234567890123}})
        code, text = self.run(programs, tmp_path, f"print({told!r})")
        assert code == 0
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert values["monitoring_backup_size_bytes"] == "1234567890123"
        assert values['monitoring_timer_last_result{timer="probe"}'] == "1"
        assert values['monitoring_timer_interval_seconds{timer="probe"}'] == "60"
        assert int(values['monitoring_timer_last_run_timestamp_seconds{timer="probe"}']) >= before
        assert oct((tmp_path / "metrics/monitoring_probe.prom").stat().st_mode)[-3:] == "644"
        assert oct((tmp_path / "metrics").stat().st_mode)[-3:] == "755"

    def test_before_its_first_run_it_is_told_when_it_was_installed(self, programs):
        # node_exporter refuses a metric that two files describe differently.
        variables = yaml.safe_load((CHECKOUT / "roles/maintenance/vars/main.yml").read_text())
        text = variables["__maintenance_first_metric"].replace("NAME", "probe")
        values = {"last_run_timestamp": 1700000000, "interval": 60}
        told = {f'monitoring_timer_{name}_seconds{{timer="probe"}}': value for name, value in values.items()}
        assert programs["timer"].exposition(told) == text.replace("@now@", "1700000000").replace("INTERVAL", "60")

    @pytest.mark.parametrize("source", ["raise SystemExit(3)", "print('no JSON'); raise SystemExit(1)", "syntax error"])
    def test_a_failed_run_is_told_and_keeps_what_the_last_good_one_said(self, programs, tmp_path, source):
        told = json.dumps({"metrics": {"monitoring_backup_last_success_timestamp_seconds": 1700000000}})
        self.run(programs, tmp_path, f"print({told!r})")
        code, text = self.run(programs, tmp_path, source)
        assert code != 0
        assert 'monitoring_timer_last_result{timer="probe"} 0\n' in text
        assert "monitoring_backup_last_success_timestamp_seconds 1700000000\n" in text
