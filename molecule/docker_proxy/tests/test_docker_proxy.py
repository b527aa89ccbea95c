SOCKET = "/var/lib/deployment-monitoring/docker_proxy/docker.sock"


def ask(http, method, path):
    return http.request(f"http://engine{path}", "--unix-socket", SOCKET, "--request", method)


def test_lists_the_containers(http):
    answer = ask(http, "GET", "/containers/json")
    assert answer.status == 200
    assert "/docker_proxy" in answer.body


def test_lets_nothing_through_that_changes(host, http):
    assert ask(http, "POST", "/containers/docker_proxy/stop").status == 403
    assert ask(http, "DELETE", "/containers/docker_proxy").status == 403
    assert host.docker("docker_proxy").is_running


def test_has_no_network(host):
    assert host.docker("docker_proxy").inspect()["HostConfig"]["NetworkMode"] == "none"
