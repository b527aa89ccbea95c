"""The transaction on a real engine: what is asked for comes to be and is proved, or the former state is back.

Driven as the modules drive it: compare, stage, check, swap; only Ansible itself is left out.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import typing as t
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import (
    container,
    former,
    probe,
    staging,
    swap,
    tree,
    units,
)
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.engine import Engine, EngineError
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import service_compare, service_swap

USER = 59999
Service = dict[str, t.Any]
Outcome = dict[str, t.Any]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Stand:
    """One service of the probe server and the steps that the roles' mechanism takes with it."""

    def __init__(self, engine: Engine, root: Path, name: str) -> None:
        self.engine, self.root, self.name = engine, root, f"swaptest-{name}"
        self.port = free_port()
        self.staging = str(root / "data" / ".staging")
        self.contents: dict[str, bytes] = {"main.conf": b"first\n"}
        self.version = "1"
        self.changes: Service = {}
        self.timeout = 20.0

    def service(self) -> Service:
        """Return the description as service_describe would."""
        description: Service = {
            "name": self.name,
            "state": "present",
            "image": f"swaptest-probe:{self.version}",
            "command": [],
            "entrypoint": [],
            "env": {"PROBE_LISTEN": f"127.0.0.1:{self.port}"},
            "labels": {"kind": "test"},
            "user": f"{USER}:{USER}",
            "groups": [],
            "network": "host",
            "pid": "",
            "capabilities": [],
            "read_only": True,
            "tmpfs": {"/tmp": "size=1m"},
            "mounts": [],
            "memory": 64 << 20,
            "cpus": 0.5,
            "pids": 64,
            "stop_timeout": 5,
            "config_target": "/etc/probe",
            "config_dir": str(self.root / "etc" / self.name),
            "data_target": "/data",
            "data_dir": str(self.root / "data" / self.name),
            "directories": [],
            "units": [],
            "unwanted": [],
            "initial": {},
            "dbus": False,
            "files": {
                path: {"sha256": hashlib.sha256(data).hexdigest(), "mode": 0o640, "secret": False}
                for path, data in self.contents.items()
            },
            "keep": ["kept.d/*"],
            "watched": ["watched/*"],
            "listen": [{"address": "127.0.0.1", "port": self.port, "variable": "probe_port"}],
            "ready": {"address": "127.0.0.1", "port": self.port, "path": "/ready"},
            "proof": [],
            "converted": [],
            "forward_only": False,
            "check": {"entrypoint": ["/bin/probe-server"], "command": ["check"]},
            "reload": {
                "metric": "probe_config_last_reload_successful",
                "timestamp_metric": "probe_config_last_reload_success_timestamp_seconds",
            },
        }
        return {**description, **copy.deepcopy(self.changes)}

    def configure(self, text: str, path: str = "main.conf") -> None:
        self.contents[path] = text.encode()

    def compare(self) -> dict[str, t.Any]:
        return service_compare.compare_service(self.engine, self.service())

    def action(self) -> str:
        return str(self.compare()["action"])

    def unpack(self) -> Service:
        """Unpack the configuration as it came from the controller."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as writer:
            for path, data in self.contents.items():
                entry = tarfile.TarInfo(f"{self.name}/{path}")
                entry.size, entry.mode = len(data), 0o600
                writer.addfile(entry, io.BytesIO(data))
        packed = self.root / "configurations.tar.gz"
        packed.write_bytes(archive.getvalue())
        service = self.service()
        staging.unpack(str(packed), self.staging, [service])
        return service

    def stage(self) -> str:
        """Unpack and check; return what the checker says."""
        return staging.check(self.engine, self.unpack(), self.staging, 20)

    def prepared(self, decision: dict[str, t.Any], proof_seconds: float = 0) -> swap.Swap:
        deadline = time.monotonic() + self.timeout
        made = swap.Swap(self.engine, self.service(), decision, self.staging, deadline, proof_seconds)
        made.prepare()
        return made

    def apply(self, checked: bool = True) -> Outcome:
        """Take all steps, as a run of the playbook does."""
        decision = self.compare()
        if decision["action"] == "none":
            return {"action": "none", "error": ""}
        assert service_compare.refusals(self.engine, [self.service()], {self.name: decision}) == []
        if checked:
            assert self.stage() == ""
        else:
            self.unpack()
        outcome = t.cast("Outcome", self.prepared(decision).run())
        shutil.rmtree(self.staging)
        return outcome

    def stands(self, checked: bool = True) -> Outcome:
        """Apply, and have the result proved: nothing differs any more."""
        outcome = self.apply(checked)
        assert outcome["error"] == "", outcome
        found = self.compare()
        images = {"former_image": self.service()["image"], "wanted_image": self.service()["image"]}
        assert found == {"action": "none", "reasons": [], "files": EMPTY, "image": True, **images}
        return outcome

    def inspection(self) -> dict[str, t.Any]:
        found = self.engine.container(self.name)
        assert found is not None
        return found

    def life(self) -> tuple[str, str]:
        """Return what changes with every restart."""
        found = self.inspection()
        return found["Id"], found["State"]["StartedAt"]

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return t.cast("str", answer.read().decode())

    def ready(self) -> str:
        return probe.ready(self.service()["ready"])

    def live(self, path: str = "main.conf") -> Path:
        return self.root / "etc" / self.name / path

    def starts(self) -> list[str]:
        return (self.root / "data" / self.name / "starts").read_text().splitlines()

    def containers(self) -> list[str]:
        """Return the names of all containers that belong to the service, its checker's included."""
        every = self.engine.get("/containers/json", {"all": 1})
        names = [name.removeprefix("/") for summary in every for name in summary["Names"]]
        return sorted(name for name in names if name == self.name or name.startswith(f"{self.name}_"))


EMPTY: dict[str, list[str]] = {"added": [], "changed": [], "removed": [], "permissions": []}


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def stand(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stand]:
    """A service that is described and not there yet."""
    # The container's user has to get through.
    for directory in (tmp_path, *tmp_path.parents[:3]):
        if directory != Path("/tmp"):
            directory.chmod(0o755)
    made = Stand(engine, tmp_path, "one")
    yield made
    for name in made.containers():
        engine.remove(name)


@pytest.fixture
def running(stand: Stand) -> Stand:
    """A service that runs as it is described. Its checker, a container of its own, is a matter of the tests."""
    stand.stands(checked=False)
    return stand


# What is asked for comes to be.


def test_a_service_is_created_and_then_nothing_differs(stand: Stand) -> None:
    assert stand.compare()["action"] == "create"
    outcome = stand.stands()
    assert outcome["action"] == "create"
    assert stand.ask("/config") == "first\n"
    assert stand.containers() == [stand.name]
    assert not Path(stand.staging).exists()
    assert stand.live().stat().st_mode & 0o777 == 0o640
    assert (stand.live().stat().st_uid, stand.live().stat().st_gid) == (0, USER)


def test_an_unchanged_service_is_left_alone(running: Stand) -> None:
    before = running.life()
    assert running.apply()["action"] == "none"
    assert running.life() == before


def test_a_changed_configuration_is_reloaded_without_a_restart_and_confirmed_by_the_program(running: Stand) -> None:
    before = running.life()
    running.configure("second\n")
    outcome = running.stands()
    assert outcome["action"] == "reload"
    assert outcome["seconds_away"] == 0
    assert running.ask("/config") == "second\n"
    assert running.life() == before


def test_a_reload_is_no_stop_by_hand_after_which_a_boot_would_leave_it_stopped(running: Stand) -> None:
    running.configure("second\n")
    running.stands()
    folder = Path(running.engine.info()["DockerRootDir"]) / "containers" / running.life()[0]
    assert json.loads((folder / "config.v2.json").read_text())["HasBeenManuallyStopped"] is False


def test_a_reload_waits_until_the_program_has_taken_the_configuration(stand: Stand) -> None:
    stand.version = "slow-reload"
    stand.stands()
    stand.configure("second\n")
    began = time.monotonic()
    assert stand.stands()["action"] == "reload"
    assert time.monotonic() - began > 0.9
    assert stand.ask("/config") == "second\n"


def test_a_good_configuration_mends_a_program_that_refused_the_last_one(stand: Stand) -> None:
    """Somebody broke the file by hand and had it reloaded: the program already tells of a failure."""
    stand.version = "slow-reload"
    stand.stands()
    stand.live().write_text("nonsense\n")
    stand.engine.signal(stand.name, "HUP")
    assert eventually(lambda: "last_reload_successful 0" in stand.ask("/metrics"))
    stand.configure("second\n")
    assert stand.stands()["action"] == "reload"
    assert stand.ask("/config") == "second\n"


def test_a_program_without_reload_is_restarted(running: Stand) -> None:
    running.changes["reload"] = None
    identity, began = running.life()
    running.configure("second\n")
    outcome = running.stands()
    assert outcome["action"] == "restart"
    assert 0 < outcome["seconds_away"] < 5
    assert running.life()[0] == identity
    assert running.life()[1] != began


def test_files_that_the_program_watches_itself_are_only_put_there(running: Stand) -> None:
    before = running.life()
    running.configure("{}", "watched/board.json")
    assert running.stands()["action"] == "files"
    assert running.live("watched/board.json").read_text() == "{}"
    assert running.life() == before


def test_a_new_image_gets_a_new_container_with_the_same_data(running: Stand) -> None:
    former = running.life()[0]
    running.version = "2"
    outcome = running.stands()
    assert outcome["action"] == "recreate"
    assert 0 < outcome["seconds_away"] < 5
    assert running.life()[0] != former
    assert len(running.starts()) == 2
    assert running.containers() == [running.name]


def test_seconds_away_count_until_the_program_is_ready(running: Stand) -> None:
    running.version = "slow"
    assert 1.5 <= running.stands()["seconds_away"] < 6


def test_a_tag_that_now_means_another_image_is_followed(running: Stand) -> None:
    tag = {"repo": "swaptest-probe", "tag": "1"}
    original = running.engine.image("swaptest-probe:1")
    assert original
    running.engine.call("POST", "/images/swaptest-probe:2/tag", tag)
    try:
        assert any("image id" in reason for reason in running.compare()["reasons"])
        running.stands()
    finally:
        running.engine.call("POST", f"/images/{original['Id']}/tag", tag)


def test_a_service_that_is_not_wanted_goes_and_its_data_stays(running: Stand) -> None:
    running.changes["state"] = "absent"
    assert running.apply()["action"] == "remove"
    assert running.containers() == []
    assert running.starts()
    assert not running.live().parent.exists()
    assert running.action() == "none"


def test_a_service_that_goes_leaves_the_users_own_files(running: Stand) -> None:
    running.live("kept.d").mkdir()
    running.live("kept.d/own.conf").write_text("mine")
    running.changes["state"] = "absent"
    assert running.apply()["action"] == "remove"
    assert not running.live().exists()
    assert running.live("kept.d/own.conf").read_text() == "mine"
    assert running.action() == "none"
    del running.changes["state"]
    running.stands()
    assert running.live("kept.d/own.conf").read_text() == "mine"


# What cannot live is taken back.


def assert_former_is_back(stand: Stand, before: tuple[str, str], outcome: Outcome) -> None:
    assert outcome["restored"] == "the former service runs again", outcome
    assert stand.life()[0] == before[0], "not the former container"
    assert stand.ready() == ""
    assert stand.ask("/config") == "first\n"
    assert stand.live().read_text() == "first\n"
    assert stand.containers() == [stand.name]


def test_a_configuration_that_the_checker_refuses_touches_nothing(running: Stand) -> None:
    before = running.life()
    running.configure("nonsense\n")
    said = running.stage()
    assert "FAILED: main.conf: unknown word" in said
    assert running.life() == before
    assert running.live().read_text() == "first\n"
    assert running.containers() == [running.name], "the checker stayed"


def test_a_file_of_the_user_that_the_checker_refuses_touches_nothing(running: Stand) -> None:
    before = running.life()
    running.live("kept.d").mkdir()
    running.live("kept.d/own.conf").write_text("nonsense")
    running.configure("second\n")
    assert "FAILED: own.conf: unknown word" in running.stage()
    assert running.life() == before
    assert running.live().read_text() == "first\n"


def test_a_configuration_that_the_program_refuses_at_reload_is_taken_back(running: Stand) -> None:
    before = running.life()
    running.configure("trap\n")
    running.configure("new\n", "added.conf")
    outcome = running.apply()
    assert "probe_config_last_reload_successful is 0" in outcome["error"]
    assert "reload failed: main.conf: unknown word" in outcome["log"]
    assert_former_is_back(running, before, outcome)
    assert not running.live("added.conf").exists()
    assert running.life() == before, "restarted"
    running.contents = {"main.conf": b"first\n"}
    assert running.action() == "none"
    assert eventually(lambda: "last_reload_successful 1" in running.ask("/metrics"))


def test_a_configuration_that_the_program_dies_of_at_restart_is_taken_back(running: Stand) -> None:
    running.changes["reload"] = None
    before = running.life()
    running.configure("trap\n")
    outcome = running.apply()
    assert "ends by itself (exit code 1)" in outcome["error"]
    assert "fatal: main.conf" in outcome["log"]
    assert_former_is_back(running, before, outcome)


def test_a_version_that_ends_at_once_gives_way_to_the_former_container(running: Stand) -> None:
    before = running.life()
    running.version = "exits"
    running.configure("second\n")
    outcome = running.apply()
    assert "the program ends by itself (exit code 1)" in outcome["error"]
    assert "fatal: this version cannot live" in outcome["log"]
    assert_former_is_back(running, before, outcome)
    assert running.inspection()["Config"]["Image"] == "swaptest-probe:1"
    assert running.starts() == ["", ""]
    sentence = service_swap.sentence(t.cast("swap.Outcome", outcome))
    assert "recreate failed: the program ends by itself" in sentence
    assert "The former service runs again." in sentence
    assert "\n    fatal: this version cannot live" in sentence


def test_a_version_that_never_gets_ready_is_taken_back_at_the_deadline(running: Stand) -> None:
    before = running.life()
    running.version, running.timeout = "never-ready", 2.5
    began = time.monotonic()
    outcome = running.apply()
    assert "/ready answers 503: still replaying" in outcome["error"]
    assert time.monotonic() - began < 12
    assert_former_is_back(running, before, outcome)


def test_a_first_version_that_cannot_live_leaves_no_container(stand: Stand) -> None:
    stand.version = "exits"
    outcome = stand.apply()
    assert outcome["restored"] == "there was no former service to put back"
    assert stand.containers() == []
    stand.version = "1"
    assert stand.stands()["action"] == "create"


def test_a_changed_user_is_taken_back_with_the_owners_of_files_and_data(running: Stand) -> None:
    """The former container can only read and write what belongs to its own user."""
    before = running.life()
    running.changes["user"] = "59998:59998"
    # Its data is the former user's, so the new program cannot write: it ends, as a real one would.
    outcome = running.apply()
    assert "ends by itself" in outcome["error"]
    assert_former_is_back(running, before, outcome)
    del running.changes["user"]
    assert running.compare()["reasons"] == []


def test_an_image_that_is_gone_from_the_host_is_an_error_and_the_former_container_is_back(running: Stand) -> None:
    before = running.life()
    decision = running.compare()
    running.version = "2"
    decision = running.compare()
    assert running.stage() == ""
    running.version = "was-never-there"
    outcome = t.cast("Outcome", running.prepared(decision).run())
    assert "No such image" in outcome["error"]
    assert_former_is_back(running, before, outcome)


def test_an_error_of_our_own_is_taken_back_like_any_other(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    before = running.life()
    running.version = "2"
    decision = running.compare()
    assert running.stage() == ""
    made = running.prepared(decision)

    def fail(_service: Service) -> dict[str, t.Any]:
        raise KeyError("unforeseen")

    monkeypatch.setattr(container, "body", fail)
    outcome = t.cast("Outcome", made.run())
    assert "unforeseen" in outcome["error"]
    assert_former_is_back(running, before, outcome)


def test_a_program_that_crashed_in_its_former_life_still_counts_as_running(running: Stand) -> None:
    for count in (1, 2):
        with pytest.raises(OSError):
            running.ask("/crash")
        assert eventually(lambda count=count: running.inspection()["RestartCount"] == count)  # type: ignore[misc]
        assert eventually(lambda: running.ready() == "")
    assert running.action() == "none"
    before = running.life()
    running.configure("trap\n")
    assert_former_is_back(running, before, running.apply())


# Other programs and hands.


def test_a_port_that_another_program_holds_is_refused_by_name(stand: Stand) -> None:
    server = f"socket.create_server(('127.0.0.1', {stand.port}))"
    script = f"import socket, time; s = {server}; print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline()
        found = service_compare.refusals(stand.engine, [stand.service()], {stand.name: stand.compare()})
    finally:
        holder.kill()
        holder.communicate()
    assert len(found) == 1
    assert f"probe_port: {stand.port} is taken on 127.0.0.1 by python" in found[0]
    assert f"(process {holder.pid})" in found[0]


def test_a_port_that_the_service_itself_holds_is_not_refused(running: Stand) -> None:
    running.version = "2"
    assert service_compare.refusals(running.engine, [running.service()], {running.name: running.compare()}) == []


def drift_stop(stand: Stand) -> None:
    stand.engine.stop(stand.name, 5)


def drift_memory(stand: Stand) -> None:
    stand.engine.update(stand.name, {"Memory": 48 << 20, "MemorySwap": 96 << 20})


def drift_cpus(stand: Stand) -> None:
    stand.engine.update(stand.name, {"NanoCpus": 250_000_000})


def drift_pids(stand: Stand) -> None:
    stand.engine.update(stand.name, {"PidsLimit": 32})


def drift_restart_policy(stand: Stand) -> None:
    stand.engine.update(stand.name, {"RestartPolicy": {"Name": "no"}})


def drift_pause(stand: Stand) -> None:
    stand.engine.call("POST", f"/containers/{stand.name}/pause")


def drift_remove(stand: Stand) -> None:
    stand.engine.remove(stand.name)


def drift_edit(stand: Stand) -> None:
    stand.live().write_text("edited\n")


def drift_delete(stand: Stand) -> None:
    stand.live().unlink()


def drift_mode(stand: Stand) -> None:
    stand.live().chmod(0o644)


def drift_owner(stand: Stand) -> None:
    os.chown(stand.live(), USER, USER)


def drift_directory_mode(stand: Stand) -> None:
    stand.live().parent.chmod(0o777)


def drift_extra_file(stand: Stand) -> None:
    stand.live("extra.conf").write_text("x")


def drift_link(stand: Stand) -> None:
    stand.live().unlink()
    stand.live().symlink_to("/etc/hostname")


def drift_dead_link(stand: Stand) -> None:
    stand.live("dead.conf").symlink_to("/nowhere")


def drift_config_gone(stand: Stand) -> None:
    shutil.rmtree(stand.live().parent)


def drift_config_replaced(stand: Stand) -> None:
    """As a restored backup does: the same files in another directory, which the container does not see."""
    here = stand.live().parent
    here.rename(here.with_name("aside"))
    subprocess.run(["cp", "-a", str(here.with_name("aside")), str(here)], check=True)


def drift_data_owner(stand: Stand) -> None:
    os.chown(stand.service()["data_dir"], 0, 0)


DRIFTS: dict[Callable[[Stand], None], str] = {
    drift_stop: "start",
    drift_memory: "recreate",
    drift_cpus: "recreate",
    drift_pids: "recreate",
    drift_restart_policy: "recreate",
    drift_pause: "recreate",
    drift_remove: "create",
    drift_edit: "reload",
    drift_delete: "reload",
    drift_mode: "files",
    drift_owner: "files",
    drift_directory_mode: "files",
    drift_extra_file: "reload",
    drift_link: "reload",
    drift_dead_link: "reload",
    drift_config_gone: "restart",
    drift_config_replaced: "restart",
    drift_data_owner: "files",
}


@pytest.mark.parametrize(("drift", "action"), DRIFTS.items(), ids=[drift.__name__ for drift in DRIFTS])
def test_what_was_changed_by_hand_is_found_and_mended(
    running: Stand, drift: Callable[[Stand], None], action: str
) -> None:
    drift(running)
    assert running.action() == action
    running.stands()
    assert running.ready() == ""
    assert running.ask("/config") == "first\n"
    assert running.containers() == [running.name]
    # The program goes on seeing what the host shows.
    running.configure("second\n")
    assert running.stands()["action"] == "reload"
    assert running.ask("/config") == "second\n"


def test_files_of_the_user_are_neither_drift_nor_lost(running: Stand) -> None:
    running.live("kept.d").mkdir()
    running.live("kept.d/own.conf").write_text("mine")
    assert running.action() == "none"
    running.version = "2"
    running.stands()
    assert running.live("kept.d/own.conf").read_text() == "mine"


# Killed in the middle.

KILLED = """
import json, os, shutil, signal, sys, time
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import engine, former, proof, swap, tree

given = json.loads(sys.stdin.read())
def killing(owner, name, after, turn):
    original, calls = getattr(owner, name), []
    def wrapped(*arguments, **options):
        calls.append(name)
        result = original(*arguments, **options) if after or len(calls) < turn else None
        if len(calls) == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)
owners = {"engine": engine.Engine, "swap": swap.Swap, "kept": former.Former, "proof": proof, "shutil": shutil}
killing(owners[given["owner"]], *given["phase"])
deadline = time.monotonic() + given["timeout"]
made = swap.Swap(engine.Engine(), given["service"], given["decision"], given["staging"], deadline, given["proof"])
made.prepare()
made.run()
"""

# Owner, method, whether after it, at which of its calls.
PHASES = {
    "the former files are kept": ("kept", "keep_files", True),
    "files are written": ("swap", "_put_files", True),
    "the former is renamed": ("engine", "rename", True),
    "the new one is created": ("engine", "create", True),
    "the former is stopped": ("engine", "stop", True),
    "data are being copied": ("shutil", "copy2", True, 2),
    "data are kept": ("kept", "keep_data", True),
    "the new one is started": ("engine", "start", True),
    "the new one is ready": ("swap", "_prove", True),
    "the new one is asked for its work": ("proof", "wait", False),
    "the new one is proved": ("kept", "note_proved", False),
    "the former would be removed": ("engine", "remove", False),
}
# From which on the new version is what was proved.
PROVED = "the former would be removed"
# Of a swap that fails: the first of these calls made the change, the second takes it back.
ROLLBACK_PHASES = {
    "the files are back": ("kept", "put_files_back", True),
    "the new one is removed": ("engine", "remove", True),
    "the data are back": ("kept", "put_data_back", True),
    "the former has its name": ("engine", "rename", True, 2),
    "the former is started": ("engine", "start", True, 2),
    "the former is proved": ("swap", "_prove", True, 2),
    "what was kept goes": ("kept", "forget", False, 2),
}


def kill_during(stand: Stand, owner: str, method: str, after: bool, turn: int = 1) -> None:
    decision = stand.compare()
    assert stand.stage() == ""
    given = {
        "owner": owner,
        "phase": [method, after, turn],
        "timeout": stand.timeout,
        "proof": 2,
        "service": stand.service(),
        "decision": decision,
        "staging": stand.staging,
    }
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        input=json.dumps(given),
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def left(stand: Stand) -> list[str]:
    """Return what lies beside the live data and configuration."""
    folders = [stand.root / "data", stand.root / "etc"]
    there = {path.name for folder in folders for path in folder.iterdir()}
    return sorted(there - {stand.name, ".staging"})


@pytest.fixture
def converted(running: Stand) -> Stand:
    """A service whose data a new version changes: its line in "starts" must not be there for the former one."""
    running.changes["converted"] = ["starts"]
    running.changes["proof"] = [{"path": "/config", "expect": "."}]
    return running


@pytest.mark.parametrize("phase", PHASES)
def test_a_swap_that_is_killed_is_mended_by_the_next_run(converted: Stand, phase: str) -> None:
    converted.version = "2"
    converted.configure("second\n")
    kill_during(converted, *PHASES[phase])
    converted.stands()
    assert converted.containers() == [converted.name]
    assert converted.inspection()["Config"]["Image"] == "swaptest-probe:2"
    assert converted.ask("/config") == "second\n"
    assert left(converted) == []


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != PROVED])
def test_after_a_killed_swap_and_a_broken_image_all_that_was_is_back(converted: Stand, phase: str) -> None:
    before = converted.life()
    converted.version = "2"
    converted.configure("second\n")
    kill_during(converted, *PHASES[phase])
    converted.version = "exits"
    outcome = converted.apply()
    assert "ends by itself" in outcome["error"]
    assert_former_is_back(converted, before, outcome)
    assert set(converted.starts()) == {""}
    assert left(converted) == []


def test_what_was_proved_before_the_kill_is_what_a_broken_image_goes_back_to(converted: Stand) -> None:
    converted.version = "2"
    converted.configure("second\n")
    kill_during(converted, *PHASES[PROVED])
    converted.version = "exits"
    assert "ends by itself" in converted.apply()["error"]
    assert converted.inspection()["Config"]["Image"] == "swaptest-probe:2"
    assert converted.ask("/config") == "second\n"
    assert "two" in converted.starts()


def test_what_was_written_since_the_kill_stays_when_the_same_image_is_wanted_again(converted: Stand) -> None:
    """Nobody may have noticed for days that the play was cut off."""
    converted.version = "2"
    kill_during(converted, *PHASES["the new one is proved"])
    with (converted.root / "data" / converted.name / "starts").open("a") as file:
        file.write("written since\n")
    converted.stands()
    assert converted.starts() == ["", "two", "written since", "two"]


def test_the_same_image_that_fails_after_a_kill_gives_way_to_all_that_was(converted: Stand) -> None:
    before = converted.life()
    converted.version = "2"
    converted.configure("second\n")
    kill_during(converted, *PHASES["the new one is proved"])
    converted.changes["proof"] = [{"path": "/nothing-here"}]
    outcome = rolling(converted)
    assert "/nothing-here answers 404" in outcome["error"]
    assert_former_is_back(converted, before, outcome)
    assert set(converted.starts()) == {""}


def test_data_that_were_restored_since_the_kill_are_left_alone(converted: Stand) -> None:
    converted.version = "2"
    kill_during(converted, *PHASES["the new one is ready"])
    place = converted.root / "data" / converted.name
    place.rename(place.with_name("aside"))
    subprocess.run(["cp", "-a", str(place.with_name("aside")), str(place)], check=True)
    (place / "starts").write_text("restored\n")
    converted.version = "exits"
    assert converted.apply()["restored"] == "the former service runs again"
    assert converted.starts()[0] == "restored"


@pytest.mark.parametrize("phase", ROLLBACK_PHASES)
def test_a_rollback_that_is_killed_is_ended_by_the_next_run(converted: Stand, phase: str) -> None:
    before = converted.life()
    converted.version, converted.timeout = "never-ready", 1.0
    converted.configure("second\n")
    kill_during(converted, *ROLLBACK_PHASES[phase])
    converted.version, converted.timeout = "exits", 20.0
    outcome = converted.apply()
    assert "ends by itself" in outcome["error"]
    assert_former_is_back(converted, before, outcome)
    assert set(converted.starts()) == {""}
    assert left(converted) == []


@pytest.mark.parametrize("phase", ["the new one is created", "the new one is started"])
def test_a_first_start_that_is_killed_leaves_the_data_as_they_were(stand: Stand, phase: str) -> None:
    """Its container is gone and its data are not: an uninstall that keeps them, or a hand."""
    stand.stands()
    stand.changes["converted"] = ["starts"]
    stand.engine.remove(stand.name)
    stand.version = "2"
    kill_during(stand, *PHASES[phase])
    stand.version = "never-ready"
    stand.timeout = 1.0
    assert "still replaying" in stand.apply()["error"]
    stand.version, stand.timeout = "1", 20.0
    stand.stands()
    assert "never" not in stand.starts()


@pytest.mark.parametrize("reload", [True, False], ids=["reload", "restart"])
def test_a_killed_change_of_configuration_can_still_be_taken_back(running: Stand, reload: bool) -> None:
    before = running.life()
    running.changes["reload"] = running.service()["reload"] if reload else None
    running.configure("second\n")
    running.configure("new\n", "added.conf")
    kill_during(running, *PHASES["files are written"])
    running.configure("trap\n")
    outcome = running.apply()
    assert outcome["error"]
    assert_former_is_back(running, before, outcome)
    assert not running.live("added.conf").exists()
    assert left(running) == []


def test_units_of_a_killed_change_are_brought_into_force_or_taken_back(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill is an exception that nothing catches; systemd is imitated."""
    monkeypatch.setattr(units, "differences", lambda *_: [])
    monkeypatch.setattr(units, "remove", lambda *_: None)
    stand.changes |= {"units": ["one.timer"], "config_target": None, "data_target": None, "user": "0:0", "check": None}
    seen: list[str] = []

    def change(text: str, put: Callable[..., None]) -> Outcome:
        stand.configure(text, "units/one.timer")
        monkeypatch.setattr(units, "put", put)
        decision = stand.compare()
        assert decision["action"] == "units"
        stand.unpack()
        return t.cast("Outcome", stand.prepared(decision).run())

    def take(_names: list[str], directory: str) -> None:
        seen.append((Path(directory) / "one.timer").read_text())

    def die(*_: t.Any) -> None:
        raise SystemExit

    def refuse(names: list[str], directory: str) -> None:
        take(names, directory)
        if seen[-1] == "third":
            raise units.UnitError("no")

    assert change("first", take)["error"] == ""
    assert stand.action() == "none"
    with pytest.raises(SystemExit):
        change("second", die)
    assert stand.action() == "units"
    outcome = change("third", refuse)
    assert outcome["restored"] == "the former units are in force again"
    assert seen == ["first", "third", "first"]
    with pytest.raises(SystemExit):
        change("second", die)
    assert change("second", take)["error"] == ""
    assert seen[-1] == "second"
    assert stand.action() == "none"
    assert left(stand) == []


@pytest.mark.parametrize("phase", ["files are written"])
@pytest.mark.parametrize("reload", [True, False], ids=["reload", "restart"])
def test_a_killed_change_of_configuration_is_brought_into_force_by_the_next_run(
    running: Stand, phase: str, reload: bool
) -> None:
    if not reload:
        running.changes["reload"] = None
    running.configure("second\n")
    kill_during(running, *PHASES[phase])
    assert running.ask("/config") == "first\n"
    running.stands()
    assert running.ask("/config") == "second\n"


def test_a_killed_swap_whose_next_run_fails_early_keeps_the_former_container(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = running.life()[0]
    running.version = "2"
    kill_during(running, *PHASES["the former is renamed"])
    decision = running.compare()
    assert running.stage() == ""
    made = running.prepared(decision)

    def full(*_arguments: t.Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(swap.Swap, "_put_files", full)
    outcome = made.run()
    assert "no space left" in outcome["error"]
    assert running.life()[0] == former
    assert eventually(lambda: running.ready() == "")


def test_a_decision_that_another_run_has_overtaken_does_no_harm(running: Stand) -> None:
    """Two runs compare, then take turns: what the second one is to remove, the first one has removed."""
    running.live("extra.conf").write_text("x")
    running.configure("second\n")
    decision = running.compare()
    assert running.apply()["error"] == ""
    assert running.stage() == ""
    assert running.prepared(decision).run()["error"] == ""
    assert running.ask("/config") == "second\n"
    assert running.action() == "none"


def test_a_service_that_is_not_wanted_goes_after_a_killed_swap_too(running: Stand) -> None:
    running.version = "2"
    kill_during(running, *PHASES["the former is renamed"])
    running.changes["state"] = "absent"
    running.apply()
    assert running.containers() == []


# Several at once.


def test_a_service_that_fails_does_not_hold_back_its_neighbour(running: Stand) -> None:
    neighbour = Stand(running.engine, running.root, "two")
    try:
        neighbour.stands()
        before = running.life()
        running.version, neighbour.version = "exits", "2"
        both = [running, neighbour]
        decisions = [one.compare() for one in both]
        for one in both:
            one.staging += "-" + one.name
            assert one.stage() == ""
        made = [one.prepared(decision) for one, decision in zip(both, decisions, strict=True)]
        failed, changed = service_swap.side_by_side(made)
        assert "ends by itself" in failed["error"]
        assert changed["error"] == ""
        assert_former_is_back(running, before, t.cast("Outcome", failed))
        assert neighbour.inspection()["Config"]["Image"] == "swaptest-probe:2"
        assert neighbour.action() == "none"
    finally:
        for name in neighbour.containers():
            running.engine.remove(name)


@pytest.mark.parametrize("rolling", [False, True])
def test_a_successor_starts_when_its_predecessor_has_saved_what_it_leaves(stand: Stand, rolling: bool) -> None:
    """As Alloy, which reads once, when it starts, how far Promtail has come."""
    stand.changes["env"] = {"PROBE_LISTEN": f"127.0.0.1:{stand.port}", "PROBE_SAVE_AFTER": "1s"}
    stand.stands()
    successor = Stand(stand.engine, stand.root, "two")
    stand.changes["state"] = "absent"
    try:
        decisions = [one.compare() for one in (successor, stand)]
        assert [decision["action"] for decision in decisions] == ["create", "remove"]
        assert successor.stage() == ""
        made = [one.prepared(decision) for one, decision in zip((successor, stand), decisions, strict=True)]
        outcomes = service_swap.one_by_one(made, [], 20) if rolling else service_swap.side_by_side(made)
        assert [outcome["error"] for outcome in outcomes] == ["", ""]
        saved = (stand.root / "data" / stand.name / "saved").stat().st_mtime
        began = datetime.datetime.fromisoformat(successor.life()[1])
        assert began.timestamp() > saved
    finally:
        for name in successor.containers():
            stand.engine.remove(name)


# The checker.


def test_the_checker_sees_neither_data_nor_network(running: Stand) -> None:
    request = container.checker_body(running.service(), running.staging)
    assert request["HostConfig"]["NetworkMode"] == "none"
    assert [mount["Target"] for mount in request["HostConfig"]["Mounts"]] == ["/etc/probe"]
    assert container.LABEL not in request["Labels"]


def test_the_checker_runs_on_a_fresh_host_where_a_mounted_directory_is_yet_to_be_made(stand: Stand) -> None:
    """promtail mounts the directory in which docker_proxy will put its socket: the swap makes it, after the check."""
    later = str(stand.root / "data" / "another")
    stand.changes["mounts"] = [{"source": later, "target": "/another"}]
    assert stand.stage() == ""


def test_a_checker_that_does_not_end_is_said_to_take_too_long(stand: Stand) -> None:
    stand.changes["check"] = {"entrypoint": ["/bin/probe-server"], "command": []}
    stand.changes["env"] = {"PROBE_LISTEN": "127.0.0.1:1234"}
    stand.changes["data_target"] = None
    stand.changes["tmpfs"] = {"/data": "size=1m,mode=1777"}
    service = stand.service()
    root = Path(stand.staging) / stand.name
    tree.make_directory(str(root), 0, USER, 0o750)
    (root / "main.conf").write_text("first\n")
    os.chown(root / "main.conf", 0, USER)
    said = staging.check(stand.engine, service, stand.staging, 1.0)
    assert "1 s" in said
    assert stand.containers() == []


def test_an_engine_that_is_not_there_says_where_it_was_looked_for() -> None:
    with pytest.raises(EngineError, match="does not answer on /nowhere.sock"):
        Engine("/nowhere.sock").call("GET", "/info")


# What a rolling change asks besides.


def rolling(stand: Stand) -> Outcome:
    """Apply as playbooks/upgrade.yml does: ready is not enough."""
    decision = stand.compare()
    assert stand.stage() == ""
    outcome = t.cast("Outcome", stand.prepared(decision, proof_seconds=1).run())
    shutil.rmtree(stand.staging)
    return outcome


def test_a_successor_that_is_ready_and_does_not_do_its_work_is_rolled_back(running: Stand) -> None:
    before = running.life()[0]
    running.changes |= {"memory": 65 << 20, "proof": [{"path": "/config", "expect": "what it never says"}]}
    outcome = rolling(running)
    assert (
        "it is ready, but does not do its work within 1 s: /config does not answer what is expected" in outcome["error"]
    )
    assert outcome["restored"] == "the former service runs again"
    assert running.life()[0] == before


def test_a_successor_that_does_its_work_stays(running: Stand) -> None:
    before = running.life()[0]
    running.changes |= {"memory": 65 << 20, "proof": [{"path": "/config", "expect": "^first"}]}
    assert rolling(running)["error"] == ""
    assert running.life()[0] != before


def test_what_a_failed_successor_did_to_the_data_is_undone(running: Stand) -> None:
    running.changes |= {"memory": 65 << 20, "proof": [{"path": "/nothing-here"}], "converted": ["starts", "not-there"]}
    before = running.starts()
    outcome = rolling(running)
    assert "/nothing-here answers 404" in outcome["error"]
    # The successor wrote its line and the former one, back again, its own.
    assert len(running.starts()) == len(before) + 1


def test_a_hot_journal_of_the_new_version_is_not_replayed_into_the_former_database(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real database, and a real migration that is killed half way while the new version runs."""
    path = running.root / "data" / running.name / "base.db"
    with sqlite3.connect(path) as database:
        database.execute("create table user (id integer primary key, name text)")
        database.executemany("insert into user (name) values (?)", [(f"user {n}" * 50,) for n in range(500)])
    database.close()
    os.chown(path, USER, USER)
    was = path.read_bytes()
    migration = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('pragma cache_size = 5'); db.execute('begin immediate');"
        "db.execute(\"update user set name = name || 'converted' || id\");"
        "db.execute('create table more as select * from user'); os.kill(os.getpid(), 9)"
    )
    prove, killed = swap.Swap._prove, []

    def migrate(made: swap.Swap, deadline: float | None = None) -> None:
        if not killed:
            killed.append(subprocess.run([sys.executable, "-c", migration, str(path)], check=False).returncode)
            assert path.with_name("base.db-journal").stat().st_size > 512, "no hot journal: the test proves nothing"
            assert path.read_bytes() != was
            raise swap.SwapError("killed while it migrates")
        prove(made, deadline)

    monkeypatch.setattr(swap.Swap, "_prove", migrate)
    running.version = "2"
    running.changes["converted"] = ["base.db"]
    outcome = running.apply()
    assert outcome["restored"] == "the former service runs again"
    assert killed == [-signal.SIGKILL]
    assert path.read_bytes() == was
    assert [entry.name for entry in path.parent.glob("base.db*")] == ["base.db"]
    assert (path.stat().st_uid, path.stat().st_gid) == (USER, USER)
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("select count(*) from user where name like '%converted%'").fetchall() == [(0,)]


def test_what_lies_beside_a_database_is_kept_with_it(running: Stand) -> None:
    running.changes |= {"memory": 65 << 20, "proof": [{"path": "/nothing-here"}], "converted": ["base.db"]}
    place = running.root / "data" / running.name
    for ending in ("", "-wal", "-shm"):
        (place / f"base.db{ending}").write_text("former" + ending)

    def spoil(*_: t.Any) -> str:
        for ending in ("", "-wal", "-journal"):
            (place / f"base.db{ending}").write_text("new")
        (place / "base.db-shm").unlink()
        return "no"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap.proof, "wait", spoil)
        assert rolling(running)["restored"] == "the former service runs again"
    found = {path.name: path.read_text() for path in place.glob("base.db*")}
    assert found == {"base.db": "former", "base.db-wal": "former-wal", "base.db-shm": "former-shm"}


def test_a_disk_that_fills_up_while_data_are_copied_spoils_nothing(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = running.root / "data" / running.name / "base.db"
    place.write_text("all of it")
    copy2 = shutil.copy2

    def full(source: str, target: str, **options: t.Any) -> None:
        if not source.endswith("base.db"):
            copy2(source, target, **options)
            return
        Path(target).write_text("all")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(former.shutil, "copy2", full)
    before = running.life()
    running.version = "2"
    running.changes["converted"] = ["starts", "base.db"]
    outcome = running.apply()
    assert "No space left on device" in outcome["error"]
    assert_former_is_back(running, before, outcome)
    assert place.read_text() == "all of it"
    assert set(running.starts()) == {""}
    assert left(running) == []


def test_without_room_for_its_data_the_former_one_is_not_even_stopped(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = running.life()
    monkeypatch.setattr(probe, "free_bytes", lambda _path: 1)
    running.version = "2"
    running.changes["converted"] = ["starts"]
    outcome = running.apply()
    assert "has 1 bytes free, and to keep the data that the new version converts takes 1" in outcome["error"]
    assert outcome["restored"] == "the former service was not stopped"
    assert running.life() == before


def test_former_data_on_a_file_system_of_their_own_come_back_by_a_copy(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def other_device(source: str, target: str) -> None:
        if "/.former-" in source:
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(former.os, "replace", other_device)
    running.version, running.timeout = "never-ready", 1.0
    running.changes["converted"] = ["starts"]
    assert running.apply()["restored"] == "the former service runs again"
    assert set(running.starts()) == {""}
    status = (running.root / "data" / running.name / "starts").stat()
    assert (status.st_uid, status.st_gid) == (USER, USER)


def test_what_is_kept_is_roots_alone(running: Stand) -> None:
    running.configure("second\n")
    running.version = "2"
    decision = running.compare()
    assert running.stage() == ""
    made = running.prepared(decision)
    made._put_files()
    assert Path(made.kept.path).stat().st_mode & 0o777 == 0o700
    assert Path(made.kept.path).stat().st_uid == 0


def test_a_former_one_that_did_not_run_is_put_back_and_not_started(running: Stand) -> None:
    identity = running.life()[0]
    running.engine.stop(running.name, 5)
    running.version = "exits"
    outcome = running.apply()
    assert outcome["restored"] == "the former service is back; it did not run before either"
    assert running.life()[0] == identity
    assert running.inspection()["State"]["Running"] is False
    assert running.containers() == [running.name]


# Older versions.


def test_an_older_version_does_not_get_data_whose_container_is_gone(running: Stand) -> None:
    running.changes["forward_only"] = True
    running.version = "2"
    running.stands()
    running.changes["state"] = "absent"
    assert running.apply()["action"] == "remove"
    running.changes["state"] = "present"
    running.version = "1"

    def told() -> list[str]:
        return service_compare.downgrades([running.service()], {running.name: running.compare()})

    assert told()[0].startswith(f"{running.name}_version: 1 is older than 2, which wrote its data")
    shutil.rmtree(running.root / "data" / running.name)
    assert told() == []


def test_a_removal_writes_down_the_version_that_an_earlier_collection_did_not(running: Stand) -> None:
    running.version = "2"
    running.stands()
    assert left(running) == []
    running.changes |= {"forward_only": True, "state": "absent"}
    running.apply()
    assert former.noted_version(running.service()) == "swaptest-probe:2"


def test_a_version_that_was_not_proved_is_not_written_down(running: Stand) -> None:
    running.changes["forward_only"] = True
    running.version = "2"
    running.stands()
    running.version = "exits"
    assert running.apply()["error"]
    assert former.noted_version(running.service()) == "swaptest-probe:2"


def test_an_older_version_of_what_only_goes_forward_is_refused() -> None:
    services: list[Service] = [
        {"name": "loki", "image": "x/loki:3.6.0", "forward_only": True, "data_dir": "/nowhere/loki"}
    ]

    def told(former: str) -> list[str]:
        return service_compare.downgrades(services, {"loki": {"former_image": former, "action": "recreate"}})

    assert told("x/loki:3.5.9") == told("x/loki:3.6.0") == told("") == told("x/loki:own") == []
    assert told("x/loki:3.10.0")[0].startswith("loki_version: 3.6.0 is older than 3.10.0, which runs")
    services[0]["forward_only"] = False
    assert told("x/loki:3.10.0") == []
