# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send a host's plan to the host, and make a diff of the answer."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils.masking import mask
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan, variables

_MODULE = "nekocheik.deployment_monitoring.service_compare"


class ActionModule(ActionBase):
    """One round trip for all services of a host."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        host = (task_vars or {})["inventory_hostname"]
        # Given an empty plan it only looks whether there is an engine.
        services = self._task.args.get("plan", plan.services(host))
        clashes = _clashes(services)
        if clashes:
            return {**result, "failed": True, "msg": f"Nothing was changed on {host}. {'; '.join(clashes)}."}
        answer = self._execute_module(
            module_name=_MODULE,
            module_args={
                **self._task.args,
                "plan": services,
                "texts": bool(self._task.diff),
                "min_free_disk": variables.size(self._task.args.get("min_free_disk", 0)),
            },
            task_vars=task_vars,
        )
        result.update(answer)
        result.pop("invocation", None)
        if result.get("failed"):
            return result
        texts, problems = result.pop("texts"), result.pop("problems")
        if problems:
            return {**result, "failed": True, "msg": f"Nothing was changed on {host}. {'; '.join(problems)}."}
        result["preview"] = _diff(host, services, result["services"], texts) if self._task.diff else []
        if self._task.check_mode:
            result["changed"] = result["differs"]
            result["diff"] = result["preview"]
        # In check mode nothing comes after it, but for the engine's installation.
        over = not result["differs"] or (self._task.check_mode and result["engine"])
        if "plan" not in self._task.args and over:
            plan.clear(host)
        return result


def _clashes(services: list[plan.Service]) -> list[str]:
    """Return a sentence for each port that two services of the plan both want."""
    found, taken = [], {}
    for service in services:
        for listen in service["listen"] if service["state"] == "present" else []:
            other = taken.setdefault(listen["port"], listen["variable"])
            if other != listen["variable"]:
                found.append(f"{listen['variable']}: {listen['port']} is also the value of {other}; change one")
    return found


def _diff(
    host: str, services: list[plan.Service], decisions: dict[str, t.Any], texts: dict[str, dict[str, str]]
) -> list[dict[str, str]]:
    """Return Ansible's diff entries: the reasons of each service, then each file that is not a secret.

    What a file has behind a name like password is hidden all the same.
    """
    entries = []
    for service in services:
        name = service["name"]
        decision = decisions.get(name)
        if not decision:
            continue
        reasons = {"prepared": f"{name}: {decision['action']}\n" + "".join(f"  {r}\n" for r in decision["reasons"])}
        entries.append(reasons)
        contents = plan.contents(host, name)
        for path in decision["files"]["added"] + decision["files"]["changed"]:
            if service["files"][path]["secret"]:
                continue
            label = f"{service['config_dir']}/{path}"
            former, later = texts.get(name, {}).get(path, ""), contents[path].decode(errors="replace")
            before, after = mask(former), mask(later)
            if before == after and former != later:
                reasons["prepared"] += f"  {path}: only hidden values differ\n"
            entries.append({"before_header": label, "after_header": label, "before": before, "after": after})
    return entries
