def test_the_engine_answers(host):
    assert host.run("docker info").rc == 0


def test_the_engine_starts_with_the_machine(host):
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled
