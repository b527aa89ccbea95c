import pytest

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


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGUSR1"])
def test_ends_in_a_moment_while_a_log_is_followed(host, signal):
    """The public image is told to stop by SIGUSR1, others by SIGTERM."""
    follow = f"curl --silent --unix-socket {SOCKET} 'http://engine/containers/docker_proxy/logs?stdout=1&follow=1'"
    host.check_output(f"nohup {follow} >/dev/null 2>&1 & sleep 1; docker kill --signal {signal} docker_proxy")
    try:
        host.check_output("timeout 10 docker wait docker_proxy")
    finally:
        host.check_output("docker start docker_proxy")
