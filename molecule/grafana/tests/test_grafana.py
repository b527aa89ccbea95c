USER = "admin:of-a-throw-away-target"


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
