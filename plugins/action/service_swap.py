# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send the plan to the host for the swap, and show what was changed."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan

_MODULE = "nekocheik.deployment_monitoring.service_swap"


class ActionModule(ActionBase):
    """The transaction itself runs on the host in one piece; see the module."""

    TRANSFERS_FILES = False
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        host = (task_vars or {})["inventory_hostname"]
        arguments = {**self._task.args, "plan": plan.services(host)}
        preview = arguments.pop("preview", [])
        result.update(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
        result.pop("invocation", None)
        if self._task.diff:
            result["diff"] = preview
        plan.clear(host)
        return result
