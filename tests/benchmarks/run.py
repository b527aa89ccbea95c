"""Measure how fast the site is, each figure beside its floor, and print the tables of docs/performance.md.

    make bench                       everything (about 15 minutes)
    make bench BENCH="--hosts 1"     one size only

Second run: `site.yml` on unchanged hosts over SSH, beside a play that only gathers minimal facts over the same
connection; both alternate, so that a busy machine slows both. First run: `site.yml` on a fresh host that has the
images, beside `docker run` of the same containers with the same configuration, all started at once, until each is
ready. All times are wall-clock seconds, as medians with the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
CACHE = Path(os.environ.get("DEPLOYMENT_MONITORING_CACHE", Path.home() / ".cache" / "deployment-monitoring"))
FIRST = "monitoring-bench-0"

# What the services need besides the images' versions; the password lives as long as the targets do.
VARIABLES = {
    "grafana_admin_password": "only-for-this-benchmark",
    "alertmanager_slack_enabled": False,
    "mongodb_exporter_collectors": [],
}


def play(playbook: Path, *arguments: str) -> float:
    """Run a playbook and return the seconds that it took.

    :raises SystemExit: with the end of its output, when it fails.
    """
    start = time.monotonic()
    # The collection's own settings, wherever make was called from.
    done = subprocess.run(
        ["ansible-playbook", str(playbook), *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
    )
    seconds = time.monotonic() - start
    if done.returncode:
        # Ansible goes on with the other hosts: what is wrong stands far above the end.
        wrong = done.stdout[max(0, done.stdout.find("fatal:")) :]
        sys.exit(f"{playbook} failed:\n{wrong[:3000]}\n{done.stderr[-3000:]}")
    play.output = done.stdout  # type: ignore[attr-defined]
    return seconds


def create(hosts: int, directory: Path) -> None:
    """Create fresh targets and their inventory."""
    localhost = ("-i", "localhost,", "-c", "local")
    play(HERE / "targets.yml", *localhost, "-e", f"bench_hosts={hosts}", "-e", f"bench_dir={directory}")


def site(directory: Path) -> float:
    """Run the site against the targets and return its seconds."""
    return play(
        CHECKOUT / "site.yml",
        *("-i", str(directory / "inventory")),
        *("-e", f"@{CACHE}/images/vars.yml"),
        *("-e", json.dumps(VARIABLES)),
    )


def floor(directory: Path) -> float:
    """Run the floor against the targets and return its seconds."""
    return play(HERE / "floor.yml", "-i", str(directory / "inventory"))


def docker_run(name: str = FIRST) -> float:
    """Start the same containers by plain `docker run` on a target and return the seconds until all are ready."""
    script = (HERE / "docker_run.py").read_bytes()
    done = subprocess.run(["docker", "exec", "-i", name, "python3", "-"], input=script, capture_output=True, check=True)
    return float(done.stdout.decode().split()[-1])


def spread(values: list[float]) -> str:
    """Return median, lowest and highest of some seconds."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def first_runs(repeats: int, directory: Path) -> None:
    """Print the table of first runs."""
    ours, plain = [], []
    for _ in range(repeats):
        create(1, directory)
        floor(directory)  # the first SSH connection is not the site's work
        ours.append(site(directory))
        plain.append(docker_run())
    ratio = statistics.median(ours) / statistics.median(plain)
    print("\n| first run, images present | site.yml | docker run, in parallel | ratio |\n|---|---|---|---|", flush=True)
    print(f"| 1 host | {spread(ours)} | {spread(plain)} | {ratio:.2f} |", flush=True)


def second_runs(sizes: list[int], repeats: int, directory: Path) -> None:
    """Print the table of second runs."""
    rows = []
    for hosts in sizes:
        create(hosts, directory)
        site(directory)
        ours, least = [], []
        for _ in range(repeats):
            least.append(floor(directory))
            ours.append(site(directory))
            if re.search(r"changed=[1-9]", play.output):  # type: ignore[attr-defined]
                sys.exit("a second run changed something: that is no benchmark but a bug")
        ratio = statistics.median(ours) / statistics.median(least)
        rows.append(f"| {hosts} | {spread(ours)} | {spread(least)} | {ratio:.2f} |")
        print(f"second run, {hosts} hosts: {rows[-1]}", flush=True)
    print("\n| second run, hosts | site.yml | facts only | ratio |\n|---|---|---|---|")
    print("\n".join(rows), flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="*", default=[1, 5, 20], help="sizes of the second runs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-first", action="store_true", help="only the second runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        try:
            if not options.skip_first:
                first_runs(min(3, options.repeats), directory)
            if options.hosts:
                second_runs(options.hosts, options.repeats, directory)
        finally:
            play(HERE / "remove.yml", "-i", "localhost,", "-c", "local")


if __name__ == "__main__":
    main()
