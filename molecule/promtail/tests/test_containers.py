"""Lines of containers, which only some collectors can read: their project and branch, and the mission's query."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def containers(host, found):
    """Containers named as the platform names them; their image is the simulator's, because it has an interpreter."""
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    said = {
        "shop-feature-cart-deploy": ['{"level":"warn","msg":"restart of the worker"}', "plain restart"],
        "my-shop-main-deploy": ["ERROR no memory", "level=debug msg=fine"],
        "helper": ["nothing to say"],
    }
    for name, texts in said.items():
        host.run("docker rm -f %s", name)
        program = f"import time; print(*{texts!r}, sep=chr(10), flush=True); time.sleep(3600)"
        host.check_output("docker run -d --name %s --entrypoint python3 %s -c %s", name, image, program)
    found('{job="docker", container=~".*-deploy|helper"}', 5)
    yield
    for name in said:
        host.run("docker rm -f %s", name)


def test_the_missions_query_for_restarting_containers(containers, found):
    got = found('{job="docker"} |= "restart" | json | container="shop-feature-cart-deploy"', 2)
    assert [line for _labels, _ns, line in got] == ['{"level":"warn","msg":"restart of the worker"}', "plain restart"]


@pytest.mark.parametrize(
    ("container", "project", "branch"),
    [
        ("shop-feature-cart-deploy", "shop", "feature-cart"),
        ("my-shop-main-deploy", "my-shop", "main"),
        ("helper", None, None),
    ],
)
def test_an_apps_lines_carry_project_and_branch(containers, found, container, project, branch):
    labels = found(f'{{job="docker", container="{container}"}}', 1)[0][0]
    assert (labels.get("project"), labels.get("branch")) == (project, branch)
