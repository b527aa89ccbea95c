# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ship the plan and the configurations of the services that differ, and show what was changed."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import plan

_MODULE = "nekocheik.deployment_monitoring.service_swap"


class ActionModule(ActionBase):
    """The transaction itself runs on the host in one piece; see the module.

    Secrets travel in the archive, never in a module's arguments: those are logged on the target.
    """

    TRANSFERS_FILES = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        host = (task_vars or {})["inventory_hostname"]
        arguments = dict(self._task.args)
        preview = arguments.pop("preview", [])
        descriptor, local = tempfile.mkstemp(dir=C.DEFAULT_LOCAL_TMP, suffix=".tar.gz")
        try:
            with os.fdopen(descriptor, "wb") as writer:
                _pack(writer, host, set(arguments["services"]))
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "configurations.tar.gz")
            self._transfer_file(local, remote)
            arguments.update(plan=plan.services(host), archive=remote)
            result.update(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
        finally:
            os.unlink(local)
            self._remove_tmp_path(self._connection._shell.tmpdir)
        result.pop("invocation", None)
        # A refused configuration ends it before anything is changed.
        if self._task.diff and result.get("outcomes"):
            result["diff"] = preview
        plan.clear(host)
        return result


def _pack(writer: t.IO[bytes], host: str, names: set[str]) -> None:
    with tarfile.open(fileobj=writer, mode="w:gz", compresslevel=3) as archive:
        for name in sorted(names):
            for path, data in plan.contents(host, name).items():
                entry = tarfile.TarInfo(f"{name}/{path}")
                entry.size, entry.mode = len(data), 0o600
                archive.addfile(entry, io.BytesIO(data))
