"""What is documented of a plugin without a module of its own is what it takes."""

from __future__ import annotations

import yaml
from ansible_collections.nekocheik.deployment_monitoring.plugins.action import service_describe as action
from ansible_collections.nekocheik.deployment_monitoring.plugins.modules import service_describe as documented


def test_service_describe_takes_what_is_documented():
    options = yaml.safe_load(documented.DOCUMENTATION)["options"]
    facts = {
        name: (o["type"], o.get("elements"), o.get("required", False), o.get("default")) for name, o in options.items()
    }
    taken = {
        name: (o["type"], o.get("elements"), o.get("required", False), o.get("default"))
        for name, o in (action._ARGUMENTS | action._SERVICES).items()
    }
    # One of the two is needed.
    assert facts == taken | {name: (*taken[name][:2], False, None) for name in ("name", "services")}
    inner = action._SERVICES["services"]["options"]
    assert yaml.safe_load(documented.DOCUMENTATION)["options"]["services"]["suboptions"].keys() == inner.keys()
