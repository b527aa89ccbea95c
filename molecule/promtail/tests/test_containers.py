"""Lines of containers and of the journal, which only some collectors can read."""

from __future__ import annotations

import json

import pytest

# Of no other test: across all jobs exactly these lines are found.
ID = "deploy-1755768199999"


@pytest.fixture(scope="module")
def containers(host, found):
    """Containers named as the platform names them; their image is the simulator's, because it has an interpreter."""
    image = host.check_output("docker images --format '{{.Repository}}:{{.Tag}}' | grep /simulator:").splitlines()[0]
    said = {
        "shop-feature-cart-deploy": ['{"level":"warn","msg":"restart of the worker"}', "plain restart"],
        "my-shop-main-deploy": ["ERROR no memory", "level=debug msg=fine"],
        "helper": ["nothing to say", f"an app of {ID}"],
    }
    remove = f"docker rm -f {' '.join(said)}"
    host.run(remove)
    for name, texts in said.items():
        program = f"import time; print(*{texts!r}, sep=chr(10), flush=True); time.sleep(3600)"
        host.check_output("docker run -d --name %s --entrypoint python3 %s -c %s", name, image, program)
    found('{job="docker", container=~".*-deploy|helper"}', 6)
    yield
    host.run(remove)


def test_a_deployment_is_found_across_all_jobs(write, containers, found, capsys):
    for name in ("deployment-api", "tunnel-manager"):
        write(f"/var/log/{name}/across.log", json.dumps({"level": "info", "message": f"{name} of {ID}"}))
    query = f'{{job=~".+"}} |= "{ID}"'
    got = [(labels["job"], line) for labels, _ns, line in found(query, 3)]
    with capsys.disabled():
        print(f"\n{query}: expected 3, got {len(got)}")
    assert {job for job, _line in got} == {"deployment-api", "docker", "tunnel-manager"}
    assert len(got) == 3
    assert ("docker", f"an app of {ID}") in got


def test_the_missions_query_for_restarting_containers(containers, found, capsys):
    query = '{job="docker"} |= "restart" | json | container="shop-feature-cart-deploy"'
    got = found(query, 2)
    with capsys.disabled():
        print(f"\n{query}: expected 2, got {len(got)}")
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


def test_a_line_of_the_journal_has_its_level_and_its_unit(host, found):
    host.check_output(
        "for one in err:3 warning:4 info:6 debug:7; do"
        ' systemd-run --quiet --wait --collect --unit="journal-${one%%:*}"'
        ' echo "<${one#*:}>#journal ${one%%:*}" || exit; done'
    )
    got = found('{job="journal"} |~ "^#journal"', 4)
    assert {line: (labels["level"], labels["unit"]) for labels, _ns, line in got} == {
        "#journal err": ("error", "journal-err.service"),
        "#journal warning": ("warn", "journal-warning.service"),
        "#journal info": ("info", "journal-info.service"),
        "#journal debug": ("debug", "journal-debug.service"),
    }
    # Few streams: the unit is none of their labels.
    assert len(found('{job="journal", unit!=""} |= "#journal"', 0)) == 0
