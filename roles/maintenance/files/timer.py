# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run one of the programs beside this one and tell Prometheus how that went.

Usage: timer.py SETTINGS NAME [ARGUMENT...]    prints what the program prints; its exit code is the program's.

The program prints one JSON object. Its numbers under C(metrics), and the run's result, go to node_exporter's directory
of text files: C(monitoring_timer_last_result) is 1 when it went well and 0 when it failed.
"""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True

import json
import os
import re
import signal
import subprocess
import time
import typing as t

_HELP = {
    "monitoring_timer_last_result": "Whether the last run of a scheduled task went well (1) or failed (0).",
    "monitoring_timer_last_run_timestamp_seconds": "When a scheduled task ran last, or was installed if it never ran.",
    "monitoring_timer_interval_seconds": "How far apart the runs of a scheduled task should be.",
    "monitoring_timer_duration_seconds": "How long the last run of a scheduled task took.",
    "monitoring_backup_last_success_timestamp_seconds": "When the last whole backup was begun.",
    "monitoring_backup_size_bytes": "Size of the last whole backup's archive.",
    "monitoring_backup_duration_seconds": "How long the last whole backup took.",
    "monitoring_health_check_asked": "Things that the last health check asked.",
    "monitoring_health_check_problems": "Things that were not well at the last health check.",
    "monitoring_cleanup_removed": "Things that the last clean-up removed.",
    "monitoring_cleanup_freed_bytes": "Bytes that the last clean-up freed.",
}


def exposition(values: dict[str, float]) -> str:
    """Return metrics as node_exporter reads them.

    :param values: name with its labels to value.
    """
    lines = []
    for name, value in sorted(values.items()):
        bare = name.partition("{")[0]
        lines += [f"# HELP {bare} {_HELP.get(bare, 'Told by a scheduled task.')}", f"# TYPE {bare} gauge"]
        # Whole: a timestamp in floating notation would lose its last digits.
        lines.append(f"{name} {int(value) if float(value).is_integer() else value}")
    return "\n".join(lines) + "\n"


def write(directory: str, name: str, values: dict[str, float]) -> None:
    """Put metrics in their place, whole and readable for node_exporter."""
    if not os.path.isdir(directory):
        os.makedirs(directory)
        # Whatever the umask is: node_exporter runs as nobody.
        os.chmod(directory, 0o755)
    target = os.path.join(directory, f"monitoring_{name}.prom")
    # node_exporter reads *.prom only.
    with open(target + ".new", "w") as writer:
        writer.write(exposition(values))
        writer.flush()
        os.fsync(writer.fileno())
    os.chmod(target + ".new", 0o644)
    os.rename(target + ".new", target)


def own_metrics(path: str) -> dict[str, float]:
    """Return the task's own metrics of its last good run, which a failed one does not take away."""
    found = {}
    if os.path.exists(path):
        with open(path) as reader:
            for line in reader:
                match = re.fullmatch(r"(monitoring_(?!timer_)\w+) (\S+)\n", line)
                if match:
                    found[match.group(1)] = float(match.group(2))
    return found


def run(settings: dict[str, t.Any], settings_path: str, name: str, arguments: list[str]) -> int:
    """Run a program, write its metrics, return its exit code."""
    began, now = time.monotonic(), time.time()
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    done = subprocess.run([sys.executable, program, settings_path, *arguments], stdout=subprocess.PIPE, check=False)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    if "--check" in arguments:
        return done.returncode
    try:
        told = json.loads(done.stdout).get("metrics") or {}
    except (ValueError, AttributeError):
        told = {}
    directory = settings["textfile_dir"]
    values = own_metrics(os.path.join(directory, f"monitoring_{name}.prom"))
    values.update(told)
    label = f'{{timer="{name}"}}'
    values[f"monitoring_timer_last_result{label}"] = int(done.returncode == 0)
    values[f"monitoring_timer_last_run_timestamp_seconds{label}"] = round(now)
    values[f"monitoring_timer_interval_seconds{label}"] = settings["intervals"][name]
    values[f"monitoring_timer_duration_seconds{label}"] = round(time.monotonic() - began, 2)
    write(directory, name, values)
    return done.returncode


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    # systemd tells all of a unit's processes to end: the program beside this one does, and this one tells of it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    with open(arguments[0]) as reader:
        settings = json.load(reader)
    return run(settings["timers"], arguments[0], arguments[1], arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
