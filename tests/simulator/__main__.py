"""Command line: one sub-command per program of the platform, and `control`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from .app import App
from .client import PORTS, ControlError, clear_crash_loop, parse_parameter, send
from .deployment_api import DeploymentApi
from .port_manager import PortManager
from .service import Refused, Service, Settings
from .tunnel_manager import TunnelManager


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="simulator", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="PROGRAM")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--listen", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    common.add_argument("--port", type=int, help="port to listen on (default: the platform's)")
    common.add_argument("--state-dir", type=Path, help="where what outlives a restart is kept")
    common.add_argument("--run-dir", type=Path, help="where the control socket NAME.sock is made")
    common.add_argument("--log-file", help="JSON lines go here; - is stdout")
    common.add_argument("--content-type", help="Content-Type of /metrics; none: no such header")
    common.add_argument("--activity", type=float, default=0, help="seconds between everyday events (0: none)")
    common.add_argument("--seed", type=int, default=1, help="makes what is random repeatable")

    for kind in (PortManager, DeploymentApi, TunnelManager):
        command = commands.add_parser(kind.title, parents=[common], help=f"port {PORTS[kind.title]}")
        if len(kind.builds) > 1:
            command.add_argument("--build", choices=kind.builds, default=kind.builds[0], help="its metrics")
        if kind is PortManager:
            command.add_argument("--allocation", action="append", default=[], metavar="PROJECT:BRANCH:PORT")
        if kind is TunnelManager:
            command.add_argument("--metrics", action="store_true", help="expose /metrics at all")
            command.add_argument("--tunnel", action="append", default=[], metavar="CONTAINER=HOSTNAME")

    app = commands.add_parser("app", parents=[common], help="a deployed app")
    app.add_argument("--name", required=True, help="the container's name: {project}-{branch}-deploy")
    app.add_argument("--no-metrics", action="store_true", help="answer /health only")
    app.add_argument("--rps", type=float, default=1, help="synthetic requests per second (default: %(default)s)")

    control = commands.add_parser("control", help="look at a running program, or break it")
    control.add_argument("service", help="port-manager, deployment-api, tunnel-manager or an app's container")
    control.add_argument("action", nargs="?", help="without one: tell the state and the actions")
    control.add_argument("parameters", nargs="*", metavar="key=value")
    control.add_argument("--url", help="the service's address, where there is no socket")
    control.add_argument("--run-dir", type=Path, default=Path("/run/simulator"))
    control.add_argument("--state-dir", type=Path, default=Path("/var/lib/simulator"))
    return top


def build(options: argparse.Namespace) -> Service:
    """Make the service that the command line describes."""
    name = options.name if options.command == "app" else options.command
    port = options.port if options.port is not None else PORTS.get(options.command, 3000)
    default_log = "-" if options.command == "app" else f"/var/log/{name}/{name}.log"
    log = options.log_file or default_log
    settings = Settings(
        name=name,
        listen=options.listen,
        port=port,
        state_dir=options.state_dir,
        run_dir=options.run_dir,
        log_file=None if log == "-" else Path(log),
        content_type=options.content_type,
        activity=options.activity,
        seed=options.seed,
    )
    for folder in (settings.state_dir, settings.log_file and settings.log_file.parent):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    if options.command == "port-manager":
        return PortManager(settings, options.build, seeds=tuple(options.allocation))
    if options.command == "deployment-api":
        return DeploymentApi(settings, options.build)
    if options.command == "tunnel-manager":
        return TunnelManager(settings, metrics=options.metrics, tunnels=tuple(options.tunnel))
    return App(settings, metrics=not options.no_metrics, rps=options.rps)


def control(options: argparse.Namespace) -> None:
    """Send one control action and print the answer."""
    parameters = dict(parse_parameter(text) for text in options.parameters)
    ends_loop = options.action == "reset" or (options.action == "crash_loop" and parameters.get("enabled") is False)
    cleared = ends_loop and clear_crash_loop(options.service, options.state_dir)
    try:
        answer = send(options.service, options.action, options.url, options.run_dir, **parameters)
    except ControlError:
        if not cleared:
            raise
        answer = {"ok": True, "note": "the loop ends with the next start"}
    print(json.dumps(answer, ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    """Run one program until it is told to stop."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "control":
            control(options)
            return 0
        service = build(options)
        stop = threading.Event()
        # As a container's first process nothing stops us but a handler of our own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        service.start()
    except (Refused, ControlError, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    stop.wait()
    service.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
