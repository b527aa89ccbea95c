"""tests/harness/engine.sh decides rightly, without touching the engine of the machine that runs the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[3] / "tests/harness/engine.sh"
DEAD = "answers() { false; }; docker() { echo 'Cannot connect'; false; };"
ROOT = "id() { echo 0; };"
# Comes up at the third question.
SLOW = "n=0; answers() { ((n++ > 2)); }; docker() { echo 99.1; };"
BARE = "has() { [[ $1 == apt-get ]]; }; has_headers() { false; };"
COMPLETE = "has() { true; }; has_headers() { true; };"
SYSTEMD = "systemd_runs() { true; };"


CASES = {
    "it answers": (COMPLETE + "answers() { true; }; docker() { echo 99.1; };", 0, "Docker 99.1 answers"),
    "no root": (COMPLETE + DEAD + "id() { echo 1000; };", 1, "(Cannot connect), and only root can start it"),
    "no Debian": (DEAD + ROOT + "has() { false; };", 1, "neither Debian nor Ubuntu: install Docker"),
    "bare Debian": (
        ROOT + BARE + SLOW + "install() { echo got $*; };",
        0,
        "got docker.io iptables mmdebstrap libsystemd-dev\n",
    ),
    "not started": (ROOT + COMPLETE + SLOW, 0, "starting dockerd in the background"),
    "systemd fails": (
        ROOT + COMPLETE + DEAD + SYSTEMD + "systemctl() { false; };",
        1,
        "journalctl -u docker",
    ),
    "never up": (ROOT + COMPLETE + DEAD + "WAIT_SECONDS=1;", 1, "did not answer within 1 s"),
    "it ends": (
        ROOT + COMPLETE + DEAD + "start_by_hand() { LOG=/dev/stdin; false & started=$!; }; tail() { echo no cgroup; };",
        1,
        "dockerd ended by itself: no cgroup",
    ),
    "no packages": (ROOT + BARE + DEAD + "apt-get() { false; };", 1, "'apt-get update' failed"),
}


@pytest.mark.parametrize(("stand_ins", "code", "said"), CASES.values(), ids=CASES.keys())
def test_says_and_does_what_the_machine_needs(stand_ins: str, code: int, said: str) -> None:
    script = f". {ENGINE}; systemd_runs() {{ false; }}; start_by_hand() {{ :; }}; {stand_ins} main"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20)
    assert said in done.stdout + done.stderr
    assert done.returncode == code
