# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work out from the inventory where a Prometheus finds a service on each host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scrape_targets
author: nekocheik (@nekocheik)
short_description: Where this host's Prometheus finds a service on each host of a list
description:
  - Nothing is listed by hand that the inventory already says. The address is loopback on the same host, else the
    C(monitoring_address) of the other one. The port is the host's own C(<service>_port), else the default of the
    service's role.
  - A host where C(<service>_state) is C(absent) is left out.
options:
  _terms:
    description: The name of a service, which is the name of its role.
    required: true
  hosts:
    description: The hosts that run the service.
    type: list
    elements: str
    required: true
  port:
    description: The port, where the service is not one of the collection's roles.
    type: int
"""

EXAMPLES = r"""
- name: Show where node_exporter is found
  ansible.builtin.debug:
    msg: "{{ lookup('nekocheik.deployment_monitoring.scrape_targets', 'node_exporter', hosts=groups['monitored']) }}"
"""

RETURN = r"""
_raw:
  description: A list of dictionaries with C(host), C(address) (C(address:port)) and C(port).
  type: list
  elements: list
"""

import os
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import variables

_ROLES = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "roles"))
_EVERYWHERE = ("0.0.0.0", "::", "")


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(
        self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[list[dict[str, str]]]:
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        hosts, port = self.get_option("hosts"), self.get_option("port")
        return [[found for host in hosts if (found := self._target(service, host, port, known))] for service in terms]

    def _target(self, service: str, host: str, port: int | None, known: dict[str, t.Any]) -> dict[str, str] | None:
        hostvars = known["hostvars"][host]
        here = host == known["inventory_hostname"]
        # A host's own variables reach it whole (role defaults too); of the others only the inventory's are known.
        values = known if here else hostvars
        if self._text(values.get(f"{service}_state", "present")) == "absent":
            return None
        own_program = port is None
        if own_program:
            port = values.get(f"{service}_port") or _default_port(service)
        if here:
            usual = known.get("monitoring_exporter_bind_address", "127.0.0.1") if own_program else "127.0.0.1"
            address = self._text(values.get(f"{service}_bind_address", usual))
            address = "127.0.0.1" if address in _EVERYWHERE else address
        else:
            address = self._text(hostvars.get("monitoring_address") or hostvars.get("ansible_host") or host)
        try:
            number = int(self._text(port))
        except ValueError as error:
            raise AnsibleLookupError(f"{service}_port: {port!r} of {host} is no port; set a number") from error
        address = f"[{address}]" if ":" in address else address
        return {"host": host, "address": f"{address}:{number}", "port": str(number)}

    def _text(self, value: t.Any) -> str:
        return str(self._templar.template(value))


def _default_port(service: str) -> int:
    role = os.path.join(_ROLES, service)
    try:
        return int(variables.defaults(role)[f"{service}_port"])
    except (FileNotFoundError, KeyError) as error:
        raise AnsibleLookupError(f"{service} is no role with a port, so its port must be given") from error
