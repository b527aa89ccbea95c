# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make one backup of the stack on this host, while it runs.

Usage: backup.py SETTINGS [--check]    prints one JSON object; the exit code is 0 when the backup is whole and copied.

Each service is asked for its own kind of snapshot (see the functions _stage_*). Files that are never changed are
linked, not copied, into a staging directory, so that the disk has to take little more than the archive.
"""

from __future__ import annotations

import sys

# Nothing is to be left beside the programs: their directory is compared with what belongs there.
sys.dont_write_bytecode = True

import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import time
import typing as t
import urllib.error
import urllib.request

import archive
import host_lock
import silences
from engine import Engine, EngineError

_STAMP = re.compile(r"-(\d{8}T\d{6}Z)\.tar\.gz")
_SNAPSHOT = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]+")
_SNAPSHOT_SECONDS = 600
_FLUSH_SECONDS = 20.0
_TRIES = 5
_COPY_SECONDS = 6 * 3600
# In the staging directory, beside those of the services.
_CONFIG = ".config"


class BackupError(Exception):
    """No backup was made, or not a whole one."""


class Settings(t.TypedDict):
    """What the role writes for this program."""

    host: str
    data_dir: str
    config_dir: str
    backup_dir: str
    services: dict[str, dict[str, t.Any]]
    min_free: int
    compression: int
    recipients: list[str]
    copies: list[str]
    keep_count: int
    keep_days: float


@contextlib.contextmanager
def locked(settings: Settings, what: str = "a backup") -> t.Iterator[None]:
    """Keep backups and restores of this host from running at the same time.

    By a file with the host's name: other hosts may have the same directory mounted.
    """
    os.makedirs(settings["backup_dir"], mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(host_lock.held(settings["backup_dir"], what, 0, f".lock-{settings['host']}"))
        except host_lock.LockError as error:
            raise BackupError(f"another backup or restore is running on this host ({error})") from error
        yield


def alone(settings: Settings, what: str, check: bool, notes: list[str]) -> contextlib.AbstractContextManager[t.Any]:
    """Keep every other change of this host away; a run that only looks needs no lock.

    :param notes: gets a sentence when another one has to be waited for.
    """

    def say(text: str) -> None:
        notes.append(text)
        print(text, file=sys.stderr, flush=True)

    return contextlib.nullcontext() if check else host_lock.held(settings["data_dir"], what, say=say)


def names_of(host: str) -> re.Pattern[str]:
    """Return how the archives of a host are called, and of no other one: names of hosts may begin alike."""
    return re.compile(rf"monitoring-{re.escape(host)}-\d{{8}}T\d{{6}}Z\.tar\.gz(\.age)?")


def archives(settings: Settings) -> list[str]:
    """Return the names of this host's archives, the newest first. Those of other hosts may lie beside them."""
    ours = names_of(settings["host"])
    return sorted(filter(ours.fullmatch, os.listdir(settings["backup_dir"])), key=made, reverse=True)


def made(name: str) -> float:
    """Return when an archive was begun, as its name says."""
    match = _STAMP.search(name)
    assert match
    return _moment(match)


def superfluous(settings: Settings, now: float) -> list[str]:
    """Return the archives that are too many or too old, never the newest."""
    return [
        name
        for position, name in enumerate(archives(settings))
        if position and (position >= settings["keep_count"] or now - made(name) > settings["keep_days"] * 86400)
    ]


def ask(service: dict[str, t.Any], path: str, method: str = "GET", timeout: float = 60) -> bytes:
    """Ask a service and return its answer.

    :raises BackupError: when it does not answer, or refuses.
    """
    url = f"http://{service['address']}:{service['port']}{path}"
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    try:
        # The stack is on this host: a proxy of the environment has nothing to do with it.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
            return t.cast("bytes", answer.read())
    except urllib.error.HTTPError as error:
        raise BackupError(f"{url} answers {error.code}: {error.read().decode(errors='replace')[:200]}") from error
    except OSError as error:
        raise BackupError(f"{url} does not answer: {error}") from error


def size_of(root: str) -> int:
    """Return the bytes of all files below a directory; what vanishes meanwhile counts nothing."""
    total = 0
    for directory, _names, found in os.walk(root):
        for name in found:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total


def link_tree(source: str, target: str) -> list[str]:
    """Link all files of a tree that are never changed once written; copy where the file systems differ.

    :returns: the files that vanished meanwhile.
    """

    def link(path: str, place: str) -> None:
        try:
            os.link(path, place)
        except FileNotFoundError:
            raise
        except OSError:
            _copy(path, place)

    return _each_file(source, target, link)


def copy_tree(source: str, target: str) -> list[str]:
    """Copy the files of a tree that its program goes on writing, each as it is now.

    :returns: the files that vanished meanwhile.
    """
    return _each_file(source, target, _copy)


def whole(take: t.Callable[[str, str], list[str]], source: str, target: str) -> None:
    """Take a tree again until no file vanished while it was taken: what replaced that file may not have been seen.

    :param take: link_tree or copy_tree.
    :raises BackupError: when its program goes on removing files.
    """
    for attempt in range(_TRIES):
        if not (vanished := take(source, target)):
            return
        shutil.rmtree(target, ignore_errors=True)
        time.sleep(0.5 * (attempt + 1))
    raise BackupError(f"{vanished[0]} and others were removed while {source} was read, {_TRIES} times; try again later")


def _copy(path: str, place: str) -> None:
    # A file that its service replaced by a link meanwhile is not followed to wherever that leads.
    shutil.copy2(path, place, follow_symlinks=False)


def _each_file(source: str, target: str, take: t.Callable[[str, str], t.Any]) -> list[str]:
    vanished = []
    for directory, _names, found in os.walk(source):
        place = os.path.normpath(os.path.join(target, os.path.relpath(directory, source)))
        os.makedirs(place, exist_ok=True)
        for name in found:
            path = os.path.join(directory, name)
            try:
                if stat.S_ISREG(os.lstat(path).st_mode):
                    take(path, os.path.join(place, name))
            except FileNotFoundError:
                vanished.append(path)
    return vanished


def _stage_prometheus(service: dict[str, t.Any], target: str) -> str:
    """By its snapshot API; where that is off, its log first and its blocks after that.

    A sample is in the log until its block is written. So whatever left the log before it was copied is in a block
    that is linked later, and nothing can fall between the two.
    """
    data = service["data_dir"]
    if service["snapshots"]:
        # Read by the next run when this one is killed: Prometheus ends a snapshot that nobody waits for any more.
        with open(target + ".asked", "w") as writer:
            json.dump({"at": time.time(), "there": _snapshots(data)}, writer)
        answer = json.loads(ask(service, "/api/v1/admin/tsdb/snapshot", "POST", timeout=_SNAPSHOT_SECONDS))
        snapshot = os.path.join(data, "snapshots", answer["data"]["name"])
        try:
            if vanished := link_tree(snapshot, target):
                raise BackupError(f"somebody removes files of {snapshot}: {vanished[0]}")
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)
            os.unlink(target + ".asked")
        return "snapshot"
    for attempt in range(3):
        shutil.rmtree(target, ignore_errors=True)
        before = _segments(data)
        copy_tree(os.path.join(data, "wal"), os.path.join(target, "wal"))
        # Its log is cut every two hours; a copy across that moment would lack a piece.
        if [name for name in before if name not in _segments(data)] == []:
            break
        time.sleep(2 * (attempt + 1))
    else:
        raise BackupError("Prometheus' log was cut three times while it was copied; try again later")
    for name in sorted(os.listdir(data)):
        block = re.fullmatch(r"[0-9A-Z]{26}", name)
        if block and link_tree(os.path.join(data, name), os.path.join(target, name)):
            # It was merged into a larger one, or its time was over; a piece of it would be damage.
            raise BackupError(f"Prometheus removed its block {name} meanwhile; try again")
    return "log and blocks"


def _snapshots(data: str) -> list[str]:
    folder = os.path.join(data, "snapshots")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def clear_leftovers(settings: Settings) -> None:
    """Remove what a run that was killed left: its links, half an archive, and the snapshot that it asked for."""
    staging = os.path.join(settings["data_dir"], ".backup")
    asked = os.path.join(staging, "prometheus.asked")
    prometheus = settings["services"].get("prometheus")
    if prometheus and os.path.exists(asked):
        with contextlib.suppress(ValueError, KeyError), open(asked) as reader:
            note = json.load(reader)
            for name in _snapshots(prometheus["data_dir"]):
                match = _SNAPSHOT.fullmatch(name)
                # One that somebody else made is none of ours; only its time can tell.
                if match and name not in note["there"] and 0 <= _moment(match) - int(note["at"]) <= _SNAPSHOT_SECONDS:
                    shutil.rmtree(os.path.join(prometheus["data_dir"], "snapshots", name), ignore_errors=True)
    shutil.rmtree(staging, ignore_errors=True)
    ours = names_of(settings["host"])
    for name in os.listdir(settings["backup_dir"]):
        if name.endswith(".part") and ours.match(name):
            os.unlink(os.path.join(settings["backup_dir"], name))


def _segments(data: str) -> list[str]:
    return sorted(os.listdir(os.path.join(data, "wal")))


def _stage_alertmanager(service: dict[str, t.Any], target: str) -> str:
    """What it told already is copied; its silences are asked for, since its file of them is up to 15 minutes old."""
    found = json.loads(ask(service, "/api/v2/silences"))
    whole(copy_tree, service["data_dir"], target)
    with open(os.path.join(target, "silences"), "wb") as writer:
        writer.write(silences.state_file(found, service["retention"]))
    standing = sum(silence["status"]["state"] != "expired" for silence in found)
    return f"{standing} silences that stand or will"


def _stage_loki(service: dict[str, t.Any], target: str) -> str:
    """What is in memory is written out; then its log, its index and its chunks are taken, in this order.

    A line is in the log until its chunk is stored, and an index entry is written after its chunk. So what left the log
    before it was copied is in the index that is copied later, and its chunk among those that are linked last.
    """
    data = service["data_dir"]
    ask(service, "/flush", "POST")
    deadline = time.monotonic() + _FLUSH_SECONDS
    while time.monotonic() < deadline:
        queued = re.search(rb"^loki_ingester_flush_queue_length (\S+)", ask(service, "/metrics"), re.MULTILINE)
        if queued is None or float(queued.group(1)) == 0:
            break
        time.sleep(0.25)
    os.makedirs(target, exist_ok=True)
    # Each before what it is moved on to.
    first, last = ["wal", "tsdb-shipper-active/wal", "tsdb-shipper-active"], ["chunks/index", "chunks"]
    made_anew = ["tsdb-shipper-cache", "tsdb-cache", "ruler-wal"]
    others = [name for name in sorted(os.listdir(data)) if name not in (*first, *last, *made_anew)]
    for name in (*first, *others, *last):
        path, place = os.path.join(data, name), os.path.join(target, name)
        if name == "chunks":
            # Its index is there already, and must not be newer than the log; a chunk that is over its time is no loss.
            for entry in sorted(os.listdir(path)) if os.path.isdir(path) else []:
                if entry != "index":
                    link_tree(os.path.join(path, entry), os.path.join(place, entry))
        elif name == "tsdb-shipper-active":
            for entry in sorted(os.listdir(path)) if os.path.isdir(path) else []:
                if entry != "wal":
                    whole(copy_tree, os.path.join(path, entry), os.path.join(place, entry))
        elif os.path.isdir(path):
            whole(link_tree if name == "chunks/index" else copy_tree, path, place)
        elif os.path.isfile(path):
            _copy(path, place)
    return "log, index and chunks"


def _stage_grafana(service: dict[str, t.Any], target: str) -> str:
    """By SQLite's online backup, which waits for writers and copies a whole state; the other files as they are."""
    data, database = service["data_dir"], "grafana.db"
    os.makedirs(target, exist_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"file:{data}/{database}?mode=ro", uri=True, timeout=30)) as source,
        contextlib.closing(sqlite3.connect(os.path.join(target, database))) as copy,
    ):
        source.backup(copy, pages=2000, sleep=0.02)
        # A restored database must not look for a log of changes beside it that is not in the archive.
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise BackupError(f"Grafana's database is damaged: {found}")
        users = copy.execute("SELECT count(*) FROM user").fetchone()[0]
    os.chmod(os.path.join(target, database), 0o640)
    for name in os.listdir(data):
        if os.path.isdir(os.path.join(data, name)):
            whole(copy_tree, os.path.join(data, name), os.path.join(target, name))
    return f"database with {users} users"


_STAGES = {
    "prometheus": _stage_prometheus,
    "alertmanager": _stage_alertmanager,
    "loki": _stage_loki,
    "grafana": _stage_grafana,
}


def images(names: t.Iterable[str]) -> dict[str, str]:
    """Return the image that each service runs now."""
    engine, found = Engine(), {}
    for name in names:
        actual = engine.container(name)
        if actual is None or not actual["State"]["Running"]:
            raise BackupError(f"{name} does not run, so it cannot be backed up; start it, or leave it out")
        found[name] = str(actual["Config"]["Image"])
    return found


def require_room(settings: Settings) -> dict[str, int]:
    """Refuse before anything is written when the archive could fill the disk.

    The archive is taken to be as large as the data: Prometheus' and Loki's files are compressed already.
    """
    sizes = {name: size_of(service["data_dir"]) for name, service in settings["services"].items()}
    # Logs that are copied, and Grafana's database, are needed once more in the staging directory.
    copied = sum(
        size_of(os.path.join(settings["data_dir"], *path)) for path in (("prometheus", "wal"), ("loki", "wal"))
    )
    needs = {
        settings["backup_dir"]: sum(sizes.values()) + settings["min_free"],
        settings["data_dir"]: copied + sizes.get("grafana", 0) + sizes.get("alertmanager", 0) + settings["min_free"],
    }
    if os.stat(settings["backup_dir"]).st_dev == os.stat(settings["data_dir"]).st_dev:
        needs = {settings["backup_dir"]: sum(needs.values()) - settings["min_free"]}
    for directory, need in needs.items():
        free = shutil.disk_usage(directory).free
        if free < need:
            raise BackupError(
                f"{directory} has {free / (1 << 30):.1f} GiB free and the backup may need {need / (1 << 30):.1f} GiB; "
                "make room, or keep fewer archives"
            )
    return sizes


def prune(settings: Settings, now: float) -> list[str]:
    """Remove the archives that are too many or too old, and return their names."""
    removed = superfluous(settings, now)
    for name in removed:
        remove(settings, name)
    return removed


def remove(settings: Settings, name: str) -> None:
    """Remove an archive and its SHA-256."""
    for path in (name, name + ".sha256"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(settings["backup_dir"], path))


def newest(settings: Settings) -> str:
    """Return the path of this host's newest archive."""
    found = archives(settings)
    if not found:
        raise BackupError(
            f"{settings['backup_dir']} has no archive of {settings['host']}; name the one to take: "
            "maintenance_restore_archive, or maintenance_restore_upload"
        )
    return os.path.join(settings["backup_dir"], found[0])


def _moment(match: re.Match[str]) -> float:
    made = datetime.datetime.strptime(match.group(1), "%Y%m%dT%H%M%SZ")
    return made.replace(tzinfo=datetime.timezone.utc).timestamp()


def copy_out(path: str, destination: str) -> None:
    """Copy an archive and its SHA-256 to another place, the SHA-256 last: where it is, the archive is whole.

    :param destination: as rsync takes it, or C(rclone:) and what rclone takes.
    """
    for source in (path, path + ".sha256"):
        if destination.startswith("rclone:"):
            words = ["rclone", "copy", source, destination[len("rclone:") :]]
        else:
            words = ["rsync", "--times", "--partial", source, destination]
        if shutil.which(words[0]) is None:
            raise BackupError(f"{words[0]} is not installed, and a copy has to go to {destination}")
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COPY_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BackupError(f"the copy to {destination} did not end within {_COPY_SECONDS} s") from error
        if done.returncode:
            raise BackupError(f"the copy to {destination} failed: {done.stderr.strip()[-500:]}")


def run(settings: Settings, check: bool = False) -> dict[str, t.Any]:
    """Make a backup and return what there is to tell of it."""
    began, now = time.monotonic(), time.time()
    if settings["recipients"] and shutil.which("age") is None:
        raise BackupError("age is not installed, and maintenance_backup_recipients asks for it: apt-get install age")
    notes: list[str] = []
    with locked(settings):
        # The archives hold the secrets of the deployed configuration.
        os.chmod(settings["backup_dir"], 0o700)
        staging = os.path.join(settings["data_dir"], ".backup")
        stamp = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        name = f"monitoring-{settings['host']}-{stamp}.tar.gz" + (".age" if settings["recipients"] else "")
        path = os.path.join(settings["backup_dir"], name)
        # A swap meanwhile would make it half of one state and half of another. What is staged is nobody else's, so that
        # the long part, the archive itself, keeps nobody waiting.
        with alone(settings, "a backup", check, notes):
            header = _begin(settings, now, check)
            if check:
                return {
                    "archive": path,
                    "data_bytes": header["bytes"],
                    "images": header["images"],
                    "summary": [
                        *(f"{settings['host']} {name}: could be backed up" for name in settings["services"]),
                        f"{settings['host']}: could be backed up to {path}",
                    ],
                    "checked_only": True,
                }
            how = _stage(settings, staging)
        try:
            header.update(how=how, bytes={service: size_of(os.path.join(staging, service)) for service in how})
            writer = archive.Writer(path, header, settings["compression"], settings["recipients"])
            try:
                for service in how:
                    writer.add_tree(f"data/{service}", os.path.join(staging, service))
                writer.add_tree("config", os.path.join(staging, _CONFIG))
                digest, size = writer.close()
            except BaseException:
                writer.abandon()
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        # Before the copies: where a laptop is away for weeks, the disk must not fill up.
        removed = prune(settings, now)
        problems = []
        for destination in settings["copies"]:
            try:
                copy_out(path, destination)
            except BackupError as error:
                problems.append(str(error))
        if problems:
            raise BackupError(f"the archive is at {path}; {'; '.join(problems)}")
        seconds = round(time.monotonic() - began, 2)
        host = settings["host"]
        return {
            "archive": path,
            "sha256": digest,
            "bytes": size,
            "seconds": seconds,
            "summary": [
                *(f"{host} {service}: backed up ({how[service]}), was not away" for service in how),
                f"{host}: {path}, {size} bytes in {seconds} s"
                + (f", copied to {', '.join(settings['copies'])}" if settings["copies"] else "")
                + (f", {len(removed)} old ones removed" if removed else ""),
            ],
            "services": how,
            "data_bytes": header["bytes"],
            "images": header["images"],
            "copies": settings["copies"],
            "removed": removed,
            "notes": notes,
            "metrics": {
                "monitoring_backup_last_success_timestamp_seconds": round(now),
                "monitoring_backup_size_bytes": size,
                "monitoring_backup_duration_seconds": seconds,
            },
        }


def _begin(settings: Settings, now: float, check: bool) -> dict[str, t.Any]:
    """Refuse what cannot be backed up, and return what the archive's header begins with."""
    if os.path.exists(former := os.path.join(settings["data_dir"], ".restore-former")):
        raise BackupError(
            f"a restore was cut off, and {former} has what it set aside: run playbooks/restore.yml again, which puts "
            "that back first"
        )
    if not check:
        clear_leftovers(settings)
    return {
        "host": settings["host"],
        "node": socket.gethostname(),
        "made": now,
        "images": images(settings["services"]),
        "bytes": require_room(settings),
    }


def _stage(settings: Settings, staging: str) -> dict[str, str]:
    """Put all that the archive is to have into the staging directory, and return how each service's part was had."""
    os.mkdir(staging, 0o700)
    try:
        how = {
            service: _STAGES[service](entry, os.path.join(staging, service))
            for service, entry in settings["services"].items()
        }
        copy_tree(settings["config_dir"], os.path.join(staging, _CONFIG))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return how


def end_in_order() -> None:
    """Have a request to end clean up on its way out, and a lost connection end nothing."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("asked to end"))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    end_in_order()
    with open(arguments[0]) as reader:
        settings = t.cast("Settings", json.load(reader)["backup"])
    os.umask(0o077)
    try:
        print(json.dumps(run(settings, "--check" in arguments)))
    except (BackupError, archive.ArchiveError, host_lock.LockError, EngineError, OSError, sqlite3.Error) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    except (ValueError, KeyError) as error:
        print(json.dumps({"error": str(error) if not isinstance(error, KeyError) else f"unexpected answer: {error!r}"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
