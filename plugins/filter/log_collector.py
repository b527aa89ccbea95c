# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Log sources in the spelling of a collector."""

from __future__ import annotations

import typing as t

from ansible_collections.nekocheik.deployment_monitoring.plugins.plugin_utils import (
    collectors,
    log_sources,
    otelcol,
)


def log_mounts(sources: list[log_sources.Source]) -> list[dict[str, str]]:
    """Return the directories of the host that a collector of these sources reads, as mounts."""
    found = [{"source": path, "target": path} for path in log_sources.directories(sources)]
    journals = [collectors.journal_path(one) for one in sources if one.get("journal")]
    if journals:
        found.append({"source": "/etc/machine-id", "target": "/etc/machine-id"})
    found += [{"source": path, "target": path} for path in sorted(set(journals)) if not path.startswith("/var/log/")]
    return [{**mount, "variable": "monitoring_log_sources"} for mount in found]


class FilterModule:
    """See the documentation beside this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {
            "promtail_scrape_configs": collectors.promtail,
            "alloy_config": collectors.alloy,
            "otelcol_receivers": otelcol.receivers,
            "log_labels": otelcol.labels,
            "log_mounts": log_mounts,
        }
