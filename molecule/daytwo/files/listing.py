"""List the machine: files, containers, networks, volumes, images, units and packages, one to a line."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys

# Views of the kernel, what a boot empties, and the engine's own store, whose things are listed by their names below.
LEFT_OUT = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib/docker", "/var/lib/containerd", "/var/log/journal")
# Where what a file says is its owner's configuration, and not the work of the day.
SAID = ("/etc", "/usr")


def files() -> list[str]:
    """Return each file and directory with its owner and mode, and what it says where that does not change by itself."""
    found = []
    for root, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(root, name) not in LEFT_OUT]
        for name in folders + names:
            path = os.path.join(root, name)
            try:
                status = os.lstat(path)
                said = ""
                if stat.S_ISLNK(status.st_mode):
                    said = os.readlink(path)
                elif stat.S_ISREG(status.st_mode) and path.startswith(SAID):
                    with open(path, "rb") as reader:
                        said = hashlib.sha256(reader.read()).hexdigest()[:12]
            except FileNotFoundError:
                continue
            found.append(f"file {path} {stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {said}".strip())
    return found


def told(kind: str, *words: str) -> list[str]:
    """Return the lines that a command prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [f"{kind} {' '.join(line.split())}" for line in done.stdout.splitlines()]


def main() -> None:
    """Print the listing in an order of its own; with --without-files what is told in a moment."""
    lines = [] if "--without-files" in sys.argv else files()
    lines += told("container", "docker", "ps", "--all", "--format", "{{.Names}} {{.Image}}")
    lines += told("network", "docker", "network", "ls", "--format", "{{.Name}} {{.Driver}}")
    lines += told("volume", "docker", "volume", "ls", "--format", "{{.Name}}")
    lines += told(
        "image", "docker", "image", "ls", "--all", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"
    )
    lines += told("unit", "systemctl", "list-unit-files", "--no-legend", "--plain")
    lines += told("package", "dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Status}\n")
    lines += told("user", "getent", "passwd") + told("group", "getent", "group")
    print("\n".join(sorted(lines)))


if __name__ == "__main__":
    main()
