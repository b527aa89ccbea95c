# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy the archives of missing images to the host, where images come from archives."""

from __future__ import annotations

import os
import re
import typing as t

from ansible.plugins.action import ActionBase

_MODULE = "nekocheik.deployment_monitoring.service_images"


class ActionModule(ActionBase):
    """The archives are the only thing that has to travel; everything else the host does by itself."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("source") == "archive":
            found = {image: _archive(arguments.get("archive_dir") or "", image) for image in arguments["images"]}
            lost = [image for image, path in found.items() if path is None]
            if lost:
                return {
                    **result,
                    "failed": True,
                    "msg": "No service was touched. monitoring_image_archive_dir: "
                    f"{arguments.get('archive_dir')!r} has no archive of {', '.join(lost)} (docker save -o "
                    f"{_name(lost[0])}.tar {lost[0]}).",
                }
            if not self._task.check_mode:
                arguments["archives"] = {image: self._send(path) for image, path in found.items() if path}
        result.update(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _send(self, path: str) -> str:
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, os.path.basename(path))
        return t.cast("str", self._transfer_file(path, remote))


def _name(image: str) -> str:
    return re.sub(r"[/:@]", "_", image)


def _archive(folder: str, image: str) -> str | None:
    for ending in (".tar", ".tar.gz", ".tgz"):
        path = os.path.join(os.path.expanduser(folder), _name(image) + ending)
        if os.path.isfile(path):
            return path
    return None
