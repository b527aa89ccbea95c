"""Makes and removes the machines of the tests; create.yml and destroy.yml run it.

    machines.py create           makes what is described in JSON on stdin; prints {name: address}
    machines.py destroy SCENARIO removes what `create` made for it, and nothing else; prints what that was

One program for all steps, because every scenario begins and ends with it: an Ansible module for each would take five
times the processor's time. Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))

import build  # noqa: E402

LABEL = "monitoring-test"
# Image layers never change once written, so they are linked rather than copied: the same second whether the images
# are 0.2 or 2 GiB. Links need both volumes under one mount, hence the folder of all volumes.
FILL = """
cd "/volumes/$1/_data"
shift
for volume; do
  for entry in *; do
    case $entry in overlay2) how=-al ;; *) how=-a ;; esac
    cp $how "$entry" "/volumes/$volume/_data/"
  done
done
"""
WAIT = """
for _ in $(seq 300); do
  state=$(systemctl is-system-running 2>/dev/null)
  if [ "$state" = degraded ]; then break; fi
  if [ "$state" = running ] && { [ "$1" = bare ] || docker info >/dev/null 2>&1; }; then exit 0; fi
  sleep 0.2
done
echo "target $(hostname) did not get up within 60 s: systemd says '$state'"
systemctl --failed --no-legend
docker info 2>&1 | tail -1
exit 1
"""
AUTHORIZE = "umask 077 && mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys"

Machine = dict[str, Any]


def docker(*words: str, given: str | None = None) -> str:
    """Run Docker's client and return what it says; its failure ends the program with that."""
    done = subprocess.run(["docker", *words], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"docker {words[0]}: {(done.stdout + done.stderr).strip()}")
    return done.stdout.strip()


def destroy(scenario: str) -> list[str]:
    """Remove every container, volume and network of a scenario; return their names."""
    mine = f"--filter=label={LABEL}={scenario}"
    removed = []
    for listing, removal in (
        (("container", "ls", "--all", "--format={{.Names}}"), ("container", "rm", "--force", "--volumes")),
        (("volume", "ls", "--format={{.Name}}"), ("volume", "rm")),
        (("network", "ls", "--format={{.Name}}"), ("network", "rm")),
    ):
        if found := docker(*listing, mine).split():
            docker(*removal, *found)
            removed += found
    return removed


def volume_of(machine: Machine) -> str:
    return f"{machine['name']}-docker"


def fill(machines: list[Machine], image: str, seed: str | None) -> None:
    """Give the engines inside all test images."""
    if not seed:
        done = subprocess.run([sys.executable, build.__file__, "seed"], stdout=subprocess.PIPE, text=True, check=True)
        seed = done.stdout.split()[-1]
    volumes = [volume_of(machine) for machine in machines]
    folder = Path(docker("volume", "inspect", "--format={{.Mountpoint}}", volumes[0])).parents[1]
    run = ("run", "--rm", "--network=none", f"--volume={folder}:/volumes", "--entrypoint=/bin/sh")
    docker(*run, image, "-euc", FILL, "fill", seed, *volumes)


def start(machine: Machine, image: str, label: str, network: str | None) -> None:
    docker(
        *("run", "--detach", "--pull=never", label, *build.TARGET_FLAGS),
        # Without a volume the engine inside cannot use overlay2 and falls back to copying whole images.
        f"--volume={volume_of(machine)}:/var/lib/docker",
        f"--name={machine['name']}",
        f"--hostname={machine.get('hostname', machine['name'])}",
        *([f"--network={network}"] if network else ()),
        *(f"--publish={port}" for port in machine.get("published_ports", ())),
        image + ("-bare" if machine.get("bare") else ""),
    )


def wait(machine: Machine) -> None:
    """Wait until systemd has started everything and the engine inside answers."""
    docker("exec", machine["name"], "sh", "-c", WAIT, "wait", "bare" if machine.get("bare") else "engine")


def create(
    scenario: str, machines: list[Machine], image: str, network: str, seed: str, authorized_key: str
) -> dict[str, str]:
    """Make the machines; what an interrupted run of the same scenario left goes first."""
    destroy(scenario)
    label = f"--label={LABEL}={scenario}"
    if network:
        # Not out of 172.16/12: the engines inside take their own bridge from there.
        number = md5(scenario.encode(), usedforsecurity=False).digest()[0]
        docker("network", "create", label, f"--subnet=10.213.{number}.0/24", network)
    for machine in machines:
        docker("volume", "create", label, volume_of(machine))
    if seeded := [machine for machine in machines if machine.get("seed", True) and not machine.get("bare")]:
        fill(seeded, image, seed)
    for machine in machines:
        start(machine, image, label, network)
    with ThreadPoolExecutor() as pool:
        list(pool.map(wait, machines))
    for machine in machines if authorized_key else ():
        docker("exec", "--interactive", machine["name"], "sh", "-c", AUTHORIZE, given=authorized_key)
    return addresses([machine["name"] for machine in machines])


def addresses(names: list[str]) -> dict[str, str]:
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return dict(zip(names, docker("container", "inspect", f"--format={address}", *names).split(), strict=True))


def main() -> None:
    if sys.argv[1:] == ["create"]:
        wanted = json.load(sys.stdin)
        file = wanted.pop("addresses_file")
        found = json.dumps(create(**wanted))
        if file:
            Path(file).write_text(found)
        print(found)
    elif len(sys.argv) == 3 and sys.argv[1] == "destroy":
        print(" ".join(destroy(sys.argv[2])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
