"""Makes and removes the machines that create.yml and destroy.yml are asked for.

    machines.py create <DESCRIPTION    prints their addresses; the description is create.yml's
    machines.py destroy SCENARIO       prints what was removed

One process instead of a module of Ansible for each step: that is where most of a small scenario's time went.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))
sys.dont_write_bytecode = True

from build import TARGET_FLAGS  # noqa: E402

SCENARIO_LABEL = "monitoring-test"
# By which `make clean` knows what is its own.
CHECKOUT_LABEL = "monitoring-test-checkout"

Machine = dict[str, t.Any]

# Image layers never change once written, so they are linked rather than copied: the same second whether the images are
# 0.2 or 2 GiB. Links need both volumes under one mount, hence the folder of all volumes.
FILL = """
cd "/volumes/$1/_data"
for entry in *; do
  case $entry in overlay2) how=-al ;; *) how=-a ;; esac
  cp $how "$entry" "/volumes/$2/_data/"
done
"""

WAIT = """
end=$(($(date +%s) + 60))
while [ "$(date +%s)" -lt "$end" ]; do
  state=$(timeout 60 systemctl is-system-running --wait 2>/dev/null)
  if [ "$state" = degraded ]; then break; fi
  if [ "$state" = running ] && { [ "$1" = bare ] || docker info >/dev/null 2>&1; }; then exit 0; fi
  sleep 0.2
done
echo "target $(hostname) did not get up within 60 s: systemd says '$state'"
systemctl --failed --no-legend
docker info 2>&1 | tail -1
exit 1
"""


def docker(*words: str, **options: t.Any) -> str:
    done = subprocess.run(["docker", *words], stdout=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"docker {' '.join(words[:2])} failed: {done.stdout.strip()}")
    return done.stdout.strip()


def destroy(scenario: str) -> list[str]:
    """Remove every container, volume and network that were made for a scenario, and nothing else."""
    removed = []
    for kind, everything, remove in (
        ("container", ["--all"], ["--force", "--volumes"]),
        ("volume", [], []),
        ("network", [], []),
    ):
        listed = docker(kind, "ls", *everything, "--quiet", "--filter", f"label={SCENARIO_LABEL}={scenario}").split()
        if listed:
            removed += docker(kind, "rm", *remove, *listed).split()
    return removed


def create(given: dict[str, t.Any]) -> dict[str, str]:
    """Make the machines side by side and return their addresses."""
    scenario, network = given["scenario"], given["network"]
    # What an interrupted run of the same scenario left.
    destroy(scenario)
    labels = [f"--label={SCENARIO_LABEL}={scenario}", f"--label={CHECKOUT_LABEL}={os.environ.get('CHECKOUT', '')}"]
    if network:
        # Not out of 172.16/12: the engines inside take their own bridge from there.
        subnet = f"10.213.{int(hashlib.md5(scenario.encode()).hexdigest()[:2], 16)}.0/24"
        docker("network", "create", *labels, f"--subnet={subnet}", network)

    def one(machine: Machine) -> tuple[str, str]:
        name, volume, bare = machine["name"], f"{machine['name']}-docker", machine.get("bare", False)
        docker("volume", "create", *labels, volume)
        if not bare and machine.get("seed", True):
            volumes = Path(docker("volume", "inspect", "--format={{.Mountpoint}}", volume)).parents[1]
            helper = ["run", "--rm", "--network=none", f"--volume={volumes}:/volumes", "--entrypoint=/bin/sh"]
            docker(*helper, given["image"], "-euc", FILL, "fill", given["seed"], volume)
        docker(
            "run", "--detach", "--pull=never", f"--name={name}", f"--hostname={machine.get('hostname', name)}",
            *labels, *([f"--network={network}"] if network else []),
            *(f"--publish={port}" for port in machine.get("published_ports", [])), *TARGET_FLAGS,
            # Without a volume the engine inside cannot use overlay2 and falls back to copying whole images.
            f"--volume={volume}:/var/lib/docker", given["image"] + ("-bare" if bare else ""),
        )  # fmt: skip
        docker("exec", name, "sh", "-c", WAIT, "wait", "bare" if bare else "engine")
        if given["authorized_key"]:
            let_in = "umask 077 && mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys"
            docker("exec", "--interactive", name, "sh", "-c", let_in, input=given["authorized_key"])
        networks = json.loads(docker("inspect", "--format={{json .NetworkSettings.Networks}}", name))
        return name, next(iter(networks.values()))["IPAddress"]

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, given["machines"]))


def main() -> None:
    if sys.argv[1:] == ["create"]:
        print(json.dumps(create(json.load(sys.stdin))))
    elif len(sys.argv) == 3 and sys.argv[1] == "destroy":
        print("\n".join(destroy(sys.argv[2])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
