"""The Tunnel Manager: publishes labelled containers through Cloudflare tunnels."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge

from .service import Refused, Service, Settings, flag, words


class TunnelManager(Service):
    """May expose no metrics at all, and does not unless asked to (their names are our guess)."""

    title = "tunnel-manager"
    log_fields = ("hostname", "container")

    def __init__(
        self,
        settings: Settings,
        build: str | None = None,
        metrics: bool = False,
        tunnels: tuple[str, ...] = (),
    ) -> None:
        super().__init__(settings, build, metrics)
        self.tunnels = dict(parse_tunnel(text) for text in tunnels)
        gauge = Gauge("tunnel_manager_active_tunnels", "Tunnels in place", registry=self.registry)
        gauge.set_function(lambda: len(self.tunnels))
        self.syncs = Counter("tunnel_manager_syncs", "Times that the tunnels were set", registry=self.registry)

    def start(self) -> None:
        """Also say which tunnels there are."""
        super().start()
        for container, hostname in self.tunnels.items():
            self.log("info", f"Tunnel {hostname} is in place", hostname=hostname, container=container)

    def tick(self) -> None:
        """Look at the labels again."""
        self.syncs.inc()
        if self.tunnels:
            container, hostname = self.random.choice(sorted(self.tunnels.items()))
            self.log("info", f"Tunnel {hostname} checked", hostname=hostname, container=container)

    def do_tunnel(self, container: str, hostname: str | None = None, present: bool = True) -> dict[str, Any]:
        """Add a tunnel, or take it away."""
        words(container=container)
        if flag(present, "present"):
            words(hostname=hostname)
            self.tunnels[container] = str(hostname)
        elif container not in self.tunnels:
            raise Refused(f"there is no tunnel to {container}")
        else:
            hostname = self.tunnels.pop(container)
        self.syncs.inc()
        verb = "created" if present else "removed"
        self.log("info", f"Tunnel {hostname} {verb}", hostname=hostname, container=container)
        return {"tunnels": len(self.tunnels)}


def parse_tunnel(text: str) -> tuple[str, str]:
    """Read `container=hostname`."""
    container, sign, hostname = text.partition("=")
    if not (container and sign and hostname):
        raise Refused(f"a tunnel is written container=hostname, not {text!r}")
    return container, hostname
