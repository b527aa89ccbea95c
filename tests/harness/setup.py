"""Installs the tools of the tests: a virtual environment, and the collections.

Everything lands in the cache folder, keyed by what it is made of, so that checkouts share it and a
second run finds it there. Run by setup.sh with the Python that the tools shall live in.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE") or Path.home() / ".cache/deployment-monitoring")
STATE = CACHE / "checkouts" / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]
REQUIREMENTS = CHECKOUT / "tests/requirements"
NEEDED_GIB = 2
PYTHON = sys.version.split()[0]

# ansible-core line -> the release of the `ansible` package made for it, which carries the collections.
COLLECTIONS_FROM = {"2.19": "12.3.0", "2.20": "13.8.0", "2.21": "14.5.0"}
COLLECTIONS = (
    "ansible/posix",
    "community/docker",
    "community/general",
    "community/library_inventory_filtering_v1",
)


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def die(text: str) -> None:
    sys.exit(f"setup: {text}")


def run(*command: str | Path) -> None:
    """Runs a command, silent unless it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        die(f"`{shlex.join(words)}` failed ({done.returncode}):\n{done.stdout.strip()}")


def check_disk() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free / 2**30
    if free < NEEDED_GIB:
        die(f"not enough disk: need {NEEDED_GIB} GiB at {CACHE}, have {free:.1f}")


def core_line() -> str:
    """The ansible-core line: the one asked for, else the newest that this Python runs."""
    asked = os.environ.get("ANSIBLE_CORE")
    if asked:
        return asked
    return "2.21" if sys.version_info >= (3, 12) else "2.19"


def virtual_environment(line: str) -> Path:
    requirements = REQUIREMENTS / f"ansible-core-{line}.txt"
    made_of = requirements.read_bytes() + sys.version.encode() + os.path.realpath(sys.executable).encode()
    venv = CACHE / f"venv-{line}-{hashlib.sha256(made_of).hexdigest()[:12]}"
    complete = venv / ".complete"
    if complete.exists():
        return venv
    check_disk()
    say(f"installing the tools (ansible-core {line}, Python {PYTHON}) into {venv}, about 15 s")
    shutil.rmtree(venv, ignore_errors=True)
    run(sys.executable, "-m", "venv", venv)
    uv = next(row for row in requirements.read_text().splitlines() if row.startswith("uv=="))
    run(venv / "bin/python", "-m", "pip", "install", "--quiet", uv)
    run(venv / "bin/uv", "pip", "install", "--quiet", "--python", venv / "bin/python", "-r", requirements)
    complete.touch()
    return venv


def collections(line: str, venv: Path) -> Path:
    """The collections we build on, out of the `ansible` package: no other registry is needed."""
    release = COLLECTIONS_FROM[line]
    made_of = release + " ".join(COLLECTIONS)
    folder = CACHE / f"collections-{release}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    check_disk()
    say(f"getting the collections out of ansible {release} (50 MB), about 5 s")
    wanted = tuple(f"ansible_collections/{name}/" for name in COLLECTIONS)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        pip = (venv / "bin/python", "-m", "pip", "download", "--quiet", "--no-deps")
        run(*pip, "--ignore-requires-python", "--dest", temporary, f"ansible=={release}")
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            unpacked = Path(temporary) / "unpacked"
            wheel.extractall(unpacked, [name for name in wheel.namelist() if name.startswith(wanted)])
        missing = [name for name in wanted if not (unpacked / name).is_dir()]
        if missing:
            die(f"ansible {release} carries no {', '.join(missing)}: mend COLLECTIONS in {__file__}")
        unpacked.rename(folder)
    return folder


def write_environment(venv: Path, collection_paths: list[Path]) -> None:
    """Writes what tests/harness/run sources."""
    asked = os.environ.get("ANSIBLE_CORE")
    lines = [
        f"export VIRTUAL_ENV={shlex.quote(str(venv))}",
        'export PATH="$VIRTUAL_ENV/bin:$PATH"',
        f"export ANSIBLE_COLLECTIONS_PATH={shlex.quote(':'.join(map(str, collection_paths)))}",
        # Ansible's and molecule's working files: per checkout, or two of one folder name would share them.
        f"export ANSIBLE_HOME={shlex.quote(str(STATE / 'ansible'))}",
        f"export RUFF_CACHE_DIR={shlex.quote(str(STATE / 'ruff'))}",
        # Where Python may leave no bytecode, as in many containers, each start of Ansible compiles all of it anew,
        # which takes as long as the start itself. Not beside the sources: the checkout stays as it is.
        "unset PYTHONDONTWRITEBYTECODE",
        f"export PYTHONPYCACHEPREFIX={shlex.quote(str(CACHE / 'pycache'))}",
    ]
    path = STATE / (f"env-{asked}.sh" if asked else "env.sh")
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main() -> None:
    began = time.monotonic()
    STATE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = core_line()
        venv = virtual_environment(line)
        shared = collections(line, venv)
        # .collections in the checkout is the collection itself, by a link, whatever the folder is called.
        write_environment(venv, [CHECKOUT / ".collections", shared])
    say(f"ready: ansible-core {line} on Python {PYTHON} ({time.monotonic() - began:.1f} s)")


if __name__ == "__main__":
    main()
