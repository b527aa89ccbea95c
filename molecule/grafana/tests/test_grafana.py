import json
import os
import subprocess
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

USER = "admin:of-a-throw-away-target"
BASE = "http://127.0.0.1:3000"
# The language that this scenario asks for.
FRENCH = Path(__file__).parents[3] / "roles/grafana/files/dashboards/fr"
DASHBOARDS = sorted(path.stem for path in FRENCH.glob("*.json"))
CHECKOUT = Path(__file__).parents[3]
ASKED = yaml.safe_load((CHECKOUT / "molecule/grafana/molecule.yml").read_text())["provisioner"]["inventory"][
    "group_vars"
]


def ask(http, path):
    answer = http.get(f"{BASE}/api/{path}", user=USER)
    assert answer.status == 200, answer.body
    return answer.json()


def test_answers_as_grafana(http):
    assert http.get("http://127.0.0.1:3000/api/health").json()["database"] == "ok"


def test_lets_nobody_in_without_the_password(http):
    assert http.get("http://127.0.0.1:3000/api/org").status == 401
    assert http.get("http://127.0.0.1:3000/api/org", user="admin:admin").status == 401
    assert http.get("http://127.0.0.1:3000/api/org", user=USER).status == 200


def test_has_the_three_datasources_under_fixed_uids(http):
    found = {source["uid"] for source in http.get("http://127.0.0.1:3000/api/datasources", user=USER).json()}
    assert found == {"prometheus", "loki", "alertmanager"}


def test_the_password_is_for_grafana_only(host):
    secret = host.file("/etc/deployment-monitoring/grafana/secrets/admin_password")
    assert secret.mode & 0o007 == 0


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_found_by_its_uid_in_its_folder(http, wait_until, uid):
    path = f"{BASE}/api/dashboards/uid/{uid}"
    wait_until(lambda: http.get(path, user=USER).status == 200, what=f"the dashboard {uid}")
    found = http.get(path, user=USER).json()
    assert found["dashboard"]["uid"] == uid
    assert found["dashboard"]["title"] == json.loads((FRENCH / f"{uid}.json").read_text())["title"]
    assert found["meta"]["folderTitle"] == "Deployment monitoring"
    # What the browser may save, Grafana does not call provisioned.
    assert not found["meta"]["provisioned"]
    assert found["dashboard"]["editable"]


def test_the_missions_dashboards_are_among_them():
    assert {"deployment-main", "infrastructure-main", "applications-main"} <= set(DASHBOARDS)


def test_people_begin_with_the_deployment_system(http):
    assert ask(http, "dashboards/home")["dashboard"]["uid"] == "deployment-main"


def test_a_log_line_leads_to_its_deployment_and_to_its_project(http):
    fields = ask(http, "datasources/uid/loki")["jsonData"]["derivedFields"]
    # Grafana has put its environment in: one dollar sign is left.
    urls = {field["name"]: field["url"] for field in fields}
    same_time = "from=${__from}&to=${__to}"
    assert urls["deployment"] == f"/d/logs-main?{same_time}&var-deployment_id=${{__value.raw}}"
    assert urls["project"] == f"/d/project-main?{same_time}&var-project=${{__value.raw}}"
    assert urls["project of the container"] == urls["project"]
    # A link by datasource hands its text over as `query`, and Loki reads `expr`: it would open an empty query.
    assert not [field for field in fields if "datasourceUid" in field]
    address, _, panes = urls["deployment_id"].partition("&panes=")
    assert address == "/explore?schemaVersion=1&orgId=1"
    pane = json.loads(urllib.parse.unquote(panes))["logs"]
    assert pane["range"] == {"from": "${__from}", "to": "${__to}"}
    (query,) = pane["queries"]
    assert query["expr"] == '{job=~"deployment-api|port-manager|tunnel-manager"} |= "${__value.raw}"'
    assert query["datasource"]["uid"] == pane["datasource"] == "loki"


def test_deployments_are_correlated_by_their_id(http):
    found = ask(http, "datasources/uid/loki/correlations")
    assert {correlation["targetUID"] for correlation in found} == {"loki", "prometheus"}
    for correlation in found:
        (transformation,) = correlation["config"]["transformations"]
        assert transformation["mapValue"] == "deployment_id"


def test_a_project_has_its_dashboard_in_its_folder(http):
    found = ask(http, "dashboards/uid/project-shop")
    assert found["meta"]["folderTitle"] == "Team A"
    (variable,) = [v for v in found["dashboard"]["templating"]["list"] if v["name"] == "project"]
    assert variable["query"] == "shop"


def test_a_folder_is_seen_by_those_who_may(http):
    people = {"viewer": "Viewer", "editor": "Editor"}
    for name, role in people.items():
        person = {"name": name, "login": name, "password": "of-a-test", "OrgId": 1}
        made = http.post(f"{BASE}/api/admin/users", person, user=USER)
        assert made.status in (200, 412), made.body
        if made.status == 200:
            path = f"{BASE}/api/org/users/{made.json()['id']}"
            options = ("--request", "PATCH", "--header", "Content-Type: application/json", "--user", USER)
            assert http.request(path, *options, "--data-binary", f'{{"role": "{role}"}}').status == 200

    def status(name, uid):
        return http.get(f"{BASE}/api/dashboards/uid/{uid}", user=f"{name}:of-a-test").status

    assert {name: status(name, "project-shop") for name in people} == {"viewer": 403, "editor": 200}
    assert {name: status(name, "deployment-main") for name in people} == {"viewer": 200, "editor": 200}


# -- what another run changes: last, for it leaves the target otherwise than the tests above want it -------------------


def saved(http, title):
    """Save a dashboard in the browser's way, under another title."""
    found = ask(http, "dashboards/uid/slo-main")
    changed = {"dashboard": found["dashboard"] | {"title": title}, "folderUid": found["meta"]["folderUid"]}
    return http.post(f"{BASE}/api/dashboards/db", changed, user=USER)


def again(tmp_path, **variables):
    """Apply the role once more with other variables; return the exit code and all that it says."""
    (tmp_path / "hosts").write_text("[monitoring]\nmonitoring-grafana ansible_connection=community.docker.docker\n")
    images = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"]) / "images/vars.yml"
    asked = {"scenario_roles": ["grafana"], **ASKED["all"], **variables}
    words = ["ansible-playbook", "-i", str(tmp_path / "hosts"), "-e", f"@{images}"]
    words += ["-e", f"@{CHECKOUT}/molecule/shared/secrets.yml", "-e", json.dumps(asked)]
    done = subprocess.run(
        [*words, "molecule/shared/converge.yml"],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_change_in_the_browser_is_taken_where_that_was_asked_for(http):
    answer = saved(http, "changed by hand")
    assert answer.status == 200, answer.body
    assert ask(http, "dashboards/uid/slo-main")["dashboard"]["title"] == "changed by hand"


def test_a_bad_dashboard_is_refused_before_grafana_is_touched(host, http, tmp_path):
    (tmp_path / "billing.json").write_text('{"uid": "slo-main", "title": "Billing"}')
    (tmp_path / "broken.json").write_text('{"uid": ')

    def there():
        files = host.check_output("cd /etc/deployment-monitoring/grafana && find . -type f -exec sha256sum {} +")
        return host.docker("grafana").inspect()["Id"], host.docker("grafana").inspect()["State"]["StartedAt"], files

    before = there()
    own = [str(tmp_path / name) for name in ("billing.json", "broken.json")]
    code, said = again(tmp_path, grafana_extra_dashboards=own)
    assert code != 0
    assert "billing.json has the uid slo-main, which is taken by" in said
    assert "broken.json is not valid JSON" in said
    assert there() == before
    # What was saved in the browser is kept as long as the role brings no other version.
    assert ask(http, "dashboards/uid/slo-main")["dashboard"]["title"] == "changed by hand"


@contextmanager
def prometheus_that_knows(host, *projects):
    """Listen where Prometheus would, and name these projects whatever is asked."""
    result = [{"metric": {"project": name}, "value": [0, "1"]} for name in projects]
    text = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})
    program = f"""
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        assert "app_discovery_app_info" in self.path
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write({text.encode()!r})
HTTPServer(("127.0.0.1", 9090), Answer).serve_forever()
"""
    host.check_output("systemd-run --unit=prometheus-that-knows python3 -c %s", program)
    try:
        yield
    finally:
        host.check_output("systemctl stop prometheus-that-knows")


def test_projects_are_found_what_is_not_asked_for_is_gone_and_editing_can_be_refused(host, http, wait_until, tmp_path):
    ask(http, "dashboards/uid/project-shop")
    wanted = {"grafana_projects": [], "grafana_folder_permissions": {}, "grafana_dashboards_editable": False}
    wanted |= {"grafana_found_projects": True, "grafana_found_projects_folder": "Projects"}
    with prometheus_that_knows(host, "wiki", "blog"):
        code, said = again(tmp_path, **wanted)
        assert code == 0, said[-3000:]
    for uid in ("project-wiki", "project-blog"):
        path = f"{BASE}/api/dashboards/uid/{uid}"
        wait_until(lambda path=path: http.get(path, user=USER).status == 200, what=f"the dashboard {uid}")
        assert ask(http, f"dashboards/uid/{uid}")["meta"]["folderTitle"] == "Projects"
    gone = f"{BASE}/api/dashboards/uid/project-shop"
    wait_until(lambda: http.get(gone, user=USER).status == 404, what="the end of the project's dashboard")
    title = json.loads((FRENCH / "slo-main.json").read_text())["title"]
    wait_until(
        lambda: ask(http, "dashboards/uid/slo-main")["dashboard"]["title"] == title, what="the role's own version"
    )
    found = ask(http, "dashboards/uid/slo-main")
    assert found["meta"]["provisioned"]
    assert not found["dashboard"]["editable"]
    answer = saved(http, "changed again")
    assert answer.status == 400
    assert "provisioned" in answer.body
    assert ask(http, "dashboards/uid/slo-main")["dashboard"]["title"] == title
    # Prometheus is away now: nothing is taken from anybody, and nothing is changed.
    code, said = again(tmp_path, **wanted)
    assert code == 0
    assert "changed=0" in said
    assert ask(http, "dashboards/uid/project-wiki")["meta"]["folderTitle"] == "Projects"
