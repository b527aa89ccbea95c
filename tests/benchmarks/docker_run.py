"""Runs on a benchmark's target: what would plain `docker run` take for the same containers?

Reads the containers that the collection made, removes them with their data, starts them again by `docker run` with the
same options and configuration, all at once, and prints the seconds until each answers ready.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

LABEL = "nekocheik.deployment_monitoring.service"
READY = {
    "alertmanager": "9093/-/ready",
    "app_discovery": "9810/healthy",
    "blackbox_exporter": "9115/-/healthy",
    "cadvisor": "8080/healthz",
    "grafana": "3000/api/health",
    "loki": "3100/ready",
    "mongodb_exporter": "9216/",
    "node_exporter": "9100/",
    "prometheus": "9090/-/ready",
    "promtail": "9080/ready",
}


def command(container: dict) -> list[str]:
    """Return the `docker run` that makes a container like this one."""
    config, host = container["Config"], container["HostConfig"]
    words = ["docker", "run", "-d", "--name", container["Name"].strip("/"), "--user", config["User"]]
    words += ["--network", host["NetworkMode"], "--restart", "unless-stopped", "--cap-drop", "ALL"]
    words += ["--memory", str(host["Memory"])]
    words += ["--cpus", str(host["NanoCpus"] / 1e9)]
    words += ["--pid", host["PidMode"]] if host["PidMode"] else []
    words += ["--read-only"] if host["ReadonlyRootfs"] else []
    for capability in host["CapAdd"] or []:
        words += ["--cap-add", capability]
    for group in host["GroupAdd"] or []:
        words += ["--group-add", group]
    for path, options in (host.get("Tmpfs") or {}).items():
        words += ["--tmpfs", f"{path}:{options}"]
    for mount in host["Mounts"] or []:
        spread = (mount.get("BindOptions") or {}).get("Propagation")
        words += ["--mount", f"type=bind,src={mount['Source']},dst={mount['Target']}"]
        words[-1] += ",readonly" if mount.get("ReadOnly") else ""
        words[-1] += f",bind-propagation={spread}" if spread else ""
    for entry in config["Env"] or []:
        words += ["--env", entry]
    for option in host["SecurityOpt"] or []:
        words += ["--security-opt", option]
    program, *arguments = config["Entrypoint"] or [""]
    words += ["--entrypoint", program] if program else []
    return [*words, config["Image"], *arguments, *(config["Cmd"] or [])]


def wait_ready(name: str) -> None:
    """Wait until a service answers."""
    while name in READY:
        try:
            with urllib.request.urlopen("http://127.0.0.1:" + READY[name], timeout=5):
                return
        except OSError:
            time.sleep(0.05)


def main() -> None:
    """Measure and print the seconds."""
    names = subprocess.check_output(["docker", "ps", "-q", "--filter", "label=" + LABEL], text=True).split()
    containers = json.loads(subprocess.check_output(["docker", "inspect", *names]))
    subprocess.check_output(["docker", "rm", "-f", "-v", *names])
    for container in containers:
        for mount in container["HostConfig"]["Mounts"] or []:
            if not mount.get("ReadOnly"):
                subprocess.check_output(["find", mount["Source"], "-mindepth", "1", "-delete"])

    def start(container: dict) -> None:
        subprocess.check_output(command(container))
        wait_ready(container["Name"].strip("/"))

    # A container that does not start would make the floor look faster than it is.
    assert {container["Name"].strip("/") for container in containers} == {*READY, "docker_proxy"}

    begin = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        list(pool.map(start, containers))
    print(f"{time.monotonic() - begin:.2f}")


if __name__ == "__main__":
    main()
