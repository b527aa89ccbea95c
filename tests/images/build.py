#!/usr/bin/env python3
"""Build the test images: real programs at the paths of the public images, without a registry.

    build.py build [NAME...]   build what is missing and load it into the engine (all by default)
    build.py build --former    also former versions of some, for tests of upgrades (former_<role>_version)
    build.py list              what there is, and what a missing image would take
    build.py seed              a volume with an engine's content that holds them all; its name is the last line
    build.py vars              the images' names and versions as variables for Ansible

The images are described in catalogue.toml. An image's key is made from all that it is made of, so what is built once
is not built again; it is kept as an archive in $DEPLOYMENT_MONITORING_CACHE/images, and loaded from there into an
engine that has lost it. Standard library only: it runs before any environment exists.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import typing as t
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE") or Path.home() / ".cache" / "deployment-monitoring")
IMAGES = CACHE / "images"
PREFIX = "monitoring-test/"
LABEL = "monitoring-test.key"
# Raised when a change of this program changes what it builds.
BUILDER = "1"
# Checkouts that differ in an image (branches, worktrees) take turns without filling one anew each time.
SEEDS_KEPT = 4
# Written into a seed when all is in it; copies of the seed leave it out.
SEED_COMPLETE = ".complete"
START = time.monotonic()

# The flags of a target, and of the engine that fills the seed. Where --privileged is refused these rights do; the
# image's first process makes the rest writable.
TARGET_FLAGS = [
    *("--cgroupns=private", "--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--device-cgroup-rule=a *:* rwm"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--stop-signal=SIGRTMIN+3"),
    *("--tmpfs=/run:exec", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec"),
]

Entry = dict[str, t.Any]


class BuildError(Exception):
    """An image cannot be built; the text says why and where the log is."""


def say(text: str) -> None:
    """Tell what is being done, with the seconds since the start."""
    print(f"images: [{time.monotonic() - START:.0f} s] {text}", file=sys.stderr, flush=True)


def catalogue() -> dict[str, Entry]:
    """Return the described images by name, in the order in which they are built."""
    with open(HERE / "catalogue.toml", "rb") as reader:
        entries = tomllib.load(reader)
    del entries["former"]
    return entries


def former_catalogue() -> dict[str, Entry]:
    """Return the former versions of some images, as <name>_former."""
    with open(HERE / "catalogue.toml", "rb") as reader:
        entries = tomllib.load(reader)
    versions = {}
    for name, older in entries["former"].items():
        word = "release" if entries[name]["kind"] == "go" else "suite"
        entry = {**entries[name], word: older, "role": f"former_{entries[name]['role']}"}
        # The tools on this machine stay the newest.
        versions[f"{name}_former"] = {word: value for word, value in entry.items() if word != "tools"}
    return versions


def key(name: str, entry: Entry) -> str:
    """Return what changes whenever anything changes that the image is made of."""
    directories = [HERE / "go" / name, HERE / "overlay" / entry.get("overlay", "-")]
    if "source" in entry:
        directories.append((HERE / entry["source"]).resolve())
    return _digest(entry, directories)


def binary_key(name: str, entry: Entry) -> str:
    """Return what changes with the compiled program alone: what lies around it in the image is made in seconds."""
    return _digest({word: entry[word] for word in _COMPILED if word in entry}, [HERE / "go" / name])


_COMPILED = ("package", "release", "ldflags", "tags", "cgo", "wire", "generated")


def _digest(entry: Entry, directories: list[Path]) -> str:
    digest = hashlib.sha256(f"{BUILDER} {json.dumps(entry, sort_keys=True)}".encode())
    for directory in directories:
        for path in sorted(directory.rglob("*")) if directory.is_dir() else []:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(directory)} {path.stat().st_mode & 0o111}".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Log:
    """The raw output of one build, and the way to run its commands."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = open(path, "wb")  # noqa: SIM115 - lives as long as the build

    def run(self, command: list[str], cwd: Path | None = None, **environment: str) -> None:
        """Run a command with its output in the log.

        :raises BuildError: when it fails.
        """
        if shutil.which(command[0]) is None:
            raise BuildError(
                f"{command[0]} is missing: install it (Go 1.21 or newer for the Go programs; make engine for the rest)"
            )
        self.file.write(f"$ {' '.join(command)}\n".encode())
        self.file.flush()
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=self.file, stderr=self.file, check=False
        )
        if done.returncode:
            tail = self.path.read_text(errors="replace").splitlines()[-15:]
            raise BuildError(f"{command[0]} failed ({self.path}):\n  " + "\n  ".join(tail))


def debian(log: Log, root: Path, suite: str, packages: list[str], variant: str = "extract", *hooks: str) -> None:
    """Make a root file system of Debian packages; C(extract) unpacks them without running their scripts."""
    log.run([
        *("mmdebstrap", "--mode=root", f"--variant={variant}", "--format=directory"),
        # The Release file of a suite in preparation expires between its updates.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--dpkgopt=path-exclude=/usr/share/doc/*',
        '--dpkgopt=path-exclude=/usr/share/man/*',
        '--dpkgopt=path-exclude=/usr/share/locale/*',
        *hooks,
        "--include=" + ",".join(packages),
        *(suite, str(root)),
    ])  # fmt: skip
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).exists() and (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def go_binary(log: Log, name: str, entry: Entry) -> Path:
    """Build a Go program from the module go/<name> and return its path in the cache."""
    target = CACHE / "bin" / f"{name}-{binary_key(name, entry)}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "GOMODCACHE": str(CACHE / "go" / "mod"),
        "GOCACHE": str(CACHE / "go" / "build"),
        "GOBIN": str(CACHE / "go" / "bin"),
        "CGO_ENABLED": "1" if entry.get("cgo") else "0",
        "GOTOOLCHAIN": "auto",
        # What go.sum does not pin is an error, never added while building.
        "GOFLAGS": "-mod=readonly",
    }
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as temporary:
        module = Path(temporary)
        for path in (HERE / "go" / name).iterdir():
            shutil.copy(path, module)
        options = ["-trimpath", "-ldflags", "-s -w " + entry.get("ldflags", "").format(**entry)]
        if "tags" in entry:
            options += ["-tags", entry["tags"]]
        if "wire" in entry:
            log.run(["go", "install", "github.com/google/wire/cmd/wire@v0.7.0"], **environment)
        if entry.get("unlisted"):
            environment["GONOSUMDB"] = "*"
        if "wire" in entry:
            log.run(["go", "mod", "vendor", "-e"], module, **environment)
            environment["GOFLAGS"] = "-mod=vendor"
            wire = str(CACHE / "go" / "bin" / "wire")
            log.run([wire, "gen", "-tags", entry["tags"], entry["wire"]], module, **environment)
        if "generated" in entry:
            log.run(["go", "mod", "vendor", "-e"], module, **environment)
            environment["GOFLAGS"] = "-mod=vendor"
            for path, text in entry["generated"].items():
                (module / "vendor" / path).write_text(text + "\n")
        log.run(["go", "build", *options, "-o", f"{target}.new", entry["package"]], module, **environment)
    os.rename(f"{target}.new", target)
    return target


def fill_go(log: Log, root: Path, name: str, entry: Entry) -> None:
    """A Go program: alone, or on a few Debian packages where its entry point needs them."""
    if "base" in entry:
        debian(log, root, entry.get("suite", "bookworm"), ["libc6", *entry["base"]])
    for directory in ("etc", "tmp"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    if not (root / "etc" / "passwd").exists():
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/nologin\nnobody:x:65534:65534:nobody:/:/nologin\n")
    binary = root / entry["binary"]
    binary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(go_binary(log, name, entry), binary)
    binary.chmod(0o755)


def fill_debian(log: Log, root: Path, name: str, entry: Entry) -> None:
    """A program of the newest Debian packages."""
    debian(log, root, entry.get("suite", "forky"), ["libc6", *entry["packages"]])


def fill_python(log: Log, root: Path, name: str, entry: Entry) -> None:
    """A Python program of ours on Debian packages; those are kept, so that a change of ours costs a second."""
    base = IMAGES / f"base-{name}-{hashlib.sha256(str(entry['packages']).encode()).hexdigest()[:12]}.tar"
    if not base.exists():
        debian(log, root, entry["suite"], ["libc6", *entry["packages"]])
        log.run(["tar", "-C", str(root), "-cf", f"{base}.new", "."])
        os.rename(f"{base}.new", base)
    else:
        log.run(["tar", "-C", str(root), "-xf", str(base)])
    source = (HERE / entry["source"]).resolve()
    shutil.copytree(source, root / "opt" / source.name, ignore=shutil.ignore_patterns("__pycache__"))


def fill_machine(log: Log, root: Path, name: str, entry: Entry) -> None:
    """A whole Debian machine with systemd, to be started as a target."""
    hooks = []
    if "downloads" in entry:
        fetch = f"apt-get install --yes --download-only --no-install-recommends {' '.join(entry['downloads'])}"
        # mmdebstrap empties apt's cache when it ends: what it downloaded last is put aside until then.
        hooks = [
            "--skip=cleanup/apt",
            f'--customize-hook=chroot "$1" {fetch}',
        ]
    debian(log, root, entry["suite"], entry["packages"], "minbase", *hooks)
    # Nothing here is a console, and nothing loads modules.
    for unit in ("getty.target", "console-getty.service", "systemd-modules-load.service", "systemd-udevd.service",
                 "systemd-udev-trigger.service", "apt-daily.timer", "apt-daily-upgrade.timer"):  # fmt: skip
        mask = root / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    (root / "etc/machine-id").write_text("")
    (root / "etc/ssh/sshd_config.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssh/sshd_config.d/target.conf").write_text("PermitRootLogin prohibit-password\nUseDNS no\n")


FILL = {"debian": fill_debian, "go": fill_go, "python": fill_python, "machine": fill_machine}


def tag(name: str, entry: Entry) -> str:
    """Return an image's name in the engine, C("") while a Debian package's version is not known yet."""
    version = entry.get("release") or (key(name, entry) if entry["kind"] == "python" else "")
    if not version:
        noted = IMAGES / f"{name}-{key(name, entry)}.version"
        version = noted.read_text() if noted.exists() else ""
    return f"{PREFIX}{entry['repository']}:{version}" if version else ""


def loaded(name: str, entry: Entry) -> bool:
    """Whether the engine has the image as it is described now."""
    image = tag(name, entry)
    return bool(image) and engine("image", "inspect", "-f", f'{{{{index .Config.Labels "{LABEL}"}}}}', image) == key(
        name, entry
    )


def engine(*arguments: str) -> str:
    """Ask the engine and return its answer, C("") where it has none."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def build(name: str, entry: Entry) -> None:
    """Bring one image into the engine: from the engine itself, from its archive, or by building it."""
    if loaded(name, entry):
        return
    archive = IMAGES / f"{name}-{key(name, entry)}.tar"
    if archive.exists():
        say(f"{name}: loading it from the cache")
        subprocess.run(["docker", "load", "-q", "-i", str(archive)], stdout=subprocess.DEVNULL, check=True)
        return
    log = Log(CACHE / "logs" / f"image-{name}.log")
    say(f"{name}: building it, about {entry['seconds']} s from nothing (log: {log.path})")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"image-{name}-") as temporary:
        root = Path(temporary) / "root"
        root.mkdir()
        root.chmod(0o755)
        FILL[entry["kind"]](log, root, name, entry)
        for path, target in entry.get("links", {}).items():
            (root / path).unlink(missing_ok=True)
            (root / path).symlink_to(target)
        if "overlay" in entry:
            shutil.copytree(HERE / "overlay" / entry["overlay"], root, dirs_exist_ok=True)
        for path in (*entry.get("volumes", []), *entry.get("owned", [])):
            (root / path.strip("/")).mkdir(parents=True, exist_ok=True)
        # Where nothing is mounted the program can write all the same, as in the public images.
        for path in entry.get("owned", []):
            os.chown(root / path.strip("/"), *(int(number) for number in entry["user"].split(":")))
        import_image(log, root, name, entry)
    image = tag(name, entry)
    subprocess.run(["docker", "save", "-o", f"{archive}.new", image], check=True)
    os.rename(f"{archive}.new", archive)
    for old in IMAGES.glob(f"{name}-*.tar"):
        if old != archive and re.fullmatch(rf"{name}-[0-9a-f]{{12}}\.tar", old.name):
            old.unlink()
    (IMAGES / f"{name}.seconds").write_text(f"{time.monotonic() - begin:.0f}")
    say(f"{name}: {image}, {time.monotonic() - begin:.0f} s")


def import_image(log: Log, root: Path, name: str, entry: Entry) -> None:
    """Turn a root file system into the image, under the version that its program reports."""
    changes = [f"LABEL {LABEL}={key(name, entry)}"]
    for word in ("entrypoint", "cmd"):
        if word in entry:
            changes.append(f"{word.upper()} {json.dumps(entry[word])}")
    for volume in entry.get("volumes", []):
        changes.append(f"VOLUME {volume}")
    for variable, value in entry.get("env", {}).items():
        changes.append(f"ENV {variable}={value}")
    if "user" in entry:
        changes.append(f"USER {entry['user']}")
    if entry["kind"] == "machine":
        changes += ['CMD ["/sbin/target-init"]', "ENV container=docker"]
    unnamed = f"{PREFIX}unnamed:{name}"
    options = [word for change in changes for word in ("--change", change)]
    packed = subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE)
    done = subprocess.run(
        ["docker", "import", *options, "-", unnamed], stdin=packed.stdout, stdout=log.file, stderr=log.file, check=False
    )
    assert packed.stdout
    packed.stdout.close()  # or tar would wait for ever for an engine that has refused
    if packed.wait() or done.returncode:
        raise BuildError(f"docker import failed ({log.path})")
    if "version" in entry:
        program, *arguments = entry["version"]
        text = engine("run", "--rm", "--network=none", f"--entrypoint={program}", unnamed, *arguments)
        found = re.search(r"version (\d[\w.]*)", text)
        if not found:
            raise BuildError(f"{name} does not tell its version: {text!r}")
        noted = IMAGES / f"{name}-{key(name, entry)}.version"
        noted.write_text(entry.get("tag_prefix", "") + found.group(1))
    for tool in entry.get("tools", []):
        (CACHE / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "usr/bin" / tool, CACHE / "bin" / tool)
    log.run(["docker", "tag", unnamed, tag(name, entry)])
    log.run(["docker", "rmi", unnamed])


def variables(entries: dict[str, Entry]) -> str:
    """Return the variables by which the roles, the simulator and the targets find the images."""
    lines = ["---", "# Made by tests/images/build.py.", f"monitoring_image_prefix: {PREFIX}"]
    lines.append("monitoring_image_source: present")
    # A former version is known once it was built.
    known = {name: entry for name, entry in former_catalogue().items() if tag(name, entry)}
    for name, entry in {**entries, **known}.items():
        image = tag(name, entry)
        lines.append(f"{entry['role']}_version: \"{image.rsplit(':', 1)[-1]}\"" if "role" in entry else
                     f"{name}_image: {image}")  # fmt: skip
    return "\n".join(lines) + "\n"


def seed(entries: dict[str, Entry]) -> str:
    """Return the name of a volume that is an engine's whole content with all images but the targets' own."""
    content = {name: entry for name, entry in entries.items() if entry["kind"] != "machine"}
    wanted = "".join(key(name, entry) for name, entry in {**content, "target": entries["target"]}.items())
    volume = f"monitoring-test-seed-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    where = engine("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
    if where and (Path(where) / SEED_COMPLETE).exists():
        return volume
    say("filling an engine with the images, about 60 s")
    # What a run left that was ended while it filled the volume.
    for leftover in engine("ps", "-aq", "--filter", f"volume={volume}").split():
        engine("rm", "-f", "-v", leftover)
    engine("volume", "rm", "-f", volume)
    helper = f"monitoring-test-seed-{os.getpid()}"
    subprocess.run(["docker", "volume", "create", volume], stdout=subprocess.DEVNULL, check=True)
    try:
        subprocess.run(
            ["docker", "run", "-d", "--name", helper, *TARGET_FLAGS, "-v", f"{volume}:/var/lib/docker",
             tag("target", entries["target"])],
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        for _ in range(240):
            if engine("exec", helper, "docker", "info", "-f", "{{.Driver}}") == "overlay2":
                break
            time.sleep(0.25)
        images = [tag(name, entry) for name, entry in content.items()]
        saved = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "exec", "-i", helper, "docker", "load", "-q"],
            stdin=saved.stdout, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        assert saved.stdout
        saved.stdout.close()
        if saved.wait():
            raise BuildError("docker save failed")
        stop = (
            f"systemctl stop docker.socket docker.service containerd.service && touch /var/lib/docker/{SEED_COMPLETE}"
        )
        subprocess.run(["docker", "exec", helper, "sh", "-c", stop], check=True)
    except BaseException:
        engine("rm", "-f", "-v", helper)
        engine("volume", "rm", "-f", volume)
        raise
    engine("rm", "-f", "-v", helper)
    seeds = engine("volume", "ls", "-q", "--filter", "name=monitoring-test-seed-").split()
    by_age = sorted(engine("volume", "inspect", "-f", "{{.CreatedAt}} {{.Name}}", *seeds).splitlines(), reverse=True)
    for old in by_age[SEEDS_KEPT:]:
        engine("volume", "rm", old.split()[-1])
    say(f"the engine's content is in the volume {volume}")
    return volume


def show(entries: dict[str, Entry]) -> None:
    """Print what there is."""
    for name, entry in entries.items():
        image = tag(name, entry)
        size = int(engine("image", "inspect", "-f", "{{.Size}}", image) or 0) if image else 0
        took = IMAGES / f"{name}.seconds"
        state = f"{size / 1e6:5.0f} MB" if loaded(name, entry) else "missing "
        seconds = f"built in {took.read_text()} s" if took.exists() else f"about {entry['seconds']} s"
        print(f"{name:24} {state}  {seconds:16} {image or PREFIX + entry['repository']}")


@contextmanager
def lock() -> t.Iterator[None]:
    """Let only one builder work on the cache at a time."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "images.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another builder")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Do what was asked for and return the exit code."""
    entries = catalogue()
    command, names = (arguments or ["help"])[0], arguments[1:]
    available = dict(entries)
    if "--former" in names and command in ("build", "list"):
        names.remove("--former")
        available |= former_catalogue()
    unknown = [name for name in names if name not in available]
    if command not in ("build", "list", "seed", "vars") or unknown:
        print(__doc__ if not unknown else f"no such image: {', '.join(unknown)}")
        return 2
    chosen = {name: available[name] for name in names} or available
    if command == "list":
        show(chosen)
        return 0
    if command == "vars":
        print(variables(entries), end="")
        return 0
    try:
        with lock():
            missing = {name: entry for name, entry in chosen.items() if not loaded(name, entry)}
            cold = [e["seconds"] for n, e in missing.items() if not (IMAGES / f"{n}-{key(n, e)}.tar").exists()]
            if cold:
                say(f"{len(cold)} images to build, about {sum(cold) / 60:.0f} min from nothing on 2 cores")
            for name, entry in missing.items():
                build(name, entry)
            (IMAGES / "vars.yml").write_text(variables(entries))
            if command == "seed":
                print(seed(entries))
    except (BuildError, subprocess.CalledProcessError, FileNotFoundError) as error:
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
