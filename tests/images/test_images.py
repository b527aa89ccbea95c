"""Each test image does its work: started as the public image is, asked over the network.

Needs an engine and the images (`make images`), and writes nothing outside of its own containers.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("image_builder", Path(__file__).with_name("build.py"))
assert _SPEC and _SPEC.loader
builder = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(builder)

CATALOGUE = builder.catalogue()
MACHINES = [name for name, entry in CATALOGUE.items() if entry["kind"] == "machine"]
READY_SECONDS = 60
LABEL = f"monitoring-test-images={os.getpid()}"
# By which `make clean` knows what is its own.
OURS = ("--label", LABEL, f"--label=monitoring-test-checkout={os.environ.get('CHECKOUT', '')}")

LOKI = """
auth_enabled: false
server: {http_listen_port: 3100}
common:
  path_prefix: /loki
  replication_factor: 1
  ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: /loki/chunks, rules_directory: /loki/rules}}
schema_config:
  configs: [{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: i_, period: 24h}}]
ingester: {lifecycler: {min_ready_duration: 0s}}
analytics: {reporting_enabled: false}
"""
PROMTAIL = """
server: {http_listen_port: 9080}
positions: {filename: /tmp/positions.yaml}
clients: [{url: "http://loki:3100/loki/api/v1/push"}]
scrape_configs:
  - job_name: test
    static_configs: [{targets: [localhost], labels: {job: test, __path__: /logs/*.log}}]
"""
OTELCOL = """
receivers: {file_log: {include: ["/logs/*.log"], start_at: beginning, resource: {service.name: otlp}}}
exporters: {otlp_http: {endpoint: "http://loki:3100/otlp"}}
service: {pipelines: {logs: {receivers: [file_log], exporters: [otlp_http]}}}
"""
PROMETHEUS = """
scrape_configs:
  - job_name: prometheus
    scrape_interval: 1s
    static_configs: [{targets: ["localhost:9090"]}]
"""
ALERTMANAGER = "{route: {receiver: nobody}, receivers: [{name: nobody}]}\n"
DATASOURCES = """
apiVersion: 1
datasources:
  - {name: Prometheus, uid: prometheus, type: prometheus, url: "http://prometheus:9090"}
  - {name: Loki, uid: loki, type: loki, url: "http://loki:3100"}
  - name: Alertmanager
    uid: alertmanager
    type: alertmanager
    url: http://alertmanager:9093
    jsonData: {implementation: prometheus}
"""
DASHBOARDS = """
apiVersion: 1
providers: [{name: test, folder: Folder, type: file, options: {path: /etc/grafana/dashboards}}]
"""
DASHBOARD = json.dumps({"uid": "test", "title": "Test", "schemaVersion": 36, "panels": []})
BLACKBOX = "modules: {http_2xx: {prober: http, timeout: 5s}}\n"
HAPROXY = """
defaults
  mode http
  timeout client 5s
frontend test
  bind :2375
  http-request return status 200 content-type text/plain string "hello"
"""
PASSWORD = "a-password-from-a-file"


def docker(*arguments: str, check: bool = True, **options: Any) -> str:
    """Run a command of the engine's client and return all that it prints."""
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )
    text = done.stdout.decode(errors="replace").strip()
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {text}"
    return text


def image(name: str) -> str:
    """Return the image's name in the engine."""
    return builder.tag(name, CATALOGUE[name])


def archive(files: dict[str, str]) -> bytes:
    """Return a tar archive of the files, with their directories, readable by every user."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as writer:
        for directory in sorted({str(parent) for path in files for parent in Path(path).parents} - {"/", "."}):
            entry = tarfile.TarInfo(directory.strip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            writer.addfile(entry)
        for path, text in files.items():
            entry = tarfile.TarInfo(path.strip("/"))
            entry.size, entry.mode = len(text.encode()), 0o644
            writer.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class Service:
    """A container of one image on the tests' own network, reached by its address."""

    def __init__(self, name: str, port: int, identity: str, network: str) -> None:
        self.name = name
        self.identity = identity
        address = docker("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', identity)
        self.url = f"http://{address}:{port}"

    def get(self, path: str, body: Any = None, user: str = "") -> Any:
        """Return the answer, taken apart where it is JSON."""
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if user:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if text[:1] in ("{", "[") else text

    def wait(self, what: Callable[[], Any]) -> Any:
        """Return the first answer that is something, or fail with what the container said."""
        trouble: object = "nothing"
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and docker("inspect", "-f", "{{.State.Running}}", self.identity) == "true":
            try:
                found = what()
            except (OSError, urllib.error.URLError, ValueError) as error:
                trouble = error
            else:
                if found:
                    return found
                trouble = found
            time.sleep(0.2)
        log = docker("logs", "--tail=25", self.identity, check=False)
        return pytest.fail(f"{self.name}: last answer {trouble!r}; its log:\n{log}")

    def sample(self, path: str, metric: str) -> float | None:
        """Return the value of the first sample whose line matches."""
        found = re.search(rf"^{metric}.* ([^ ]+)$", self.get(path), re.MULTILINE)
        return float(found.group(1)) if found else None


Start = Callable[..., Service]


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """A network of the tests' own; containers reach each other by the images' names."""
    name = f"monitoring-test-images-{os.getpid()}"
    # Not out of 172.16/12: the engines inside targets take their own bridge from there. One of each process's own:
    # another checkout may be at it, and what was killed leaves its network behind until `make clean`.
    docker("network", "create", *OURS, f"--subnet=10.212.{os.getpid() % 256}.0/24", name)
    yield name
    for identity in docker("ps", "-aq", "--filter", f"label={LABEL}").split():
        docker("rm", "-f", "-v", identity)
    docker("network", "rm", name)


@pytest.fixture(scope="session")
def start(network: str) -> Start:
    """How to start an image: options for the engine, files to put in first, arguments for the program."""

    def starter(name: str, port: int, *arguments: str, options: tuple[str, ...] = (), **files: Any) -> Service:
        identity = docker(
            "create", *OURS, "--network", network, "--network-alias", name, *options, image(name), *arguments
        ).splitlines()[-1]
        docker("cp", "-", f"{identity}:/", input=archive(files.get("files", {})))
        docker("start", identity)
        return Service(name, port, identity, network)

    return starter


@pytest.fixture(scope="session")
def prometheus(start: Start) -> Service:
    """Prometheus that watches itself."""
    service = start("prometheus", 9090, files={"/etc/prometheus/prometheus.yml": PROMETHEUS})
    service.wait(lambda: service.get("/-/ready"))
    return service


@pytest.fixture(scope="session")
def alertmanager(start: Start) -> Service:
    """An Alertmanager that tells nobody."""
    service = start("alertmanager", 9093, files={"/etc/alertmanager/alertmanager.yml": ALERTMANAGER})
    service.wait(lambda: service.get("/-/ready"))
    return service


@pytest.fixture(scope="session")
def loki(start: Start) -> Service:
    """Loki that keeps its data where its image lets it."""
    service = start("loki", 3100, files={"/etc/loki/local-config.yaml": LOKI})
    service.wait(lambda: service.get("/ready").strip() == "ready")
    return service


@pytest.fixture(scope="session")
def grafana(start: Start) -> Service:
    """Grafana with three datasources and one dashboard, its password in a file."""
    service = start(
        "grafana",
        3000,
        options=("--env=GF_SECURITY_ADMIN_PASSWORD__FILE=/etc/grafana/password",),
        files={
            "/etc/grafana/grafana.ini": "",
            "/etc/grafana/password": PASSWORD,
            "/etc/grafana/provisioning/datasources/test.yml": DATASOURCES,
            "/etc/grafana/provisioning/dashboards/test.yml": DASHBOARDS,
            "/etc/grafana/dashboards/test.json": DASHBOARD,
        },
    )
    service.wait(lambda: service.get("/api/health"))
    return service


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_engine_has_the_image_as_it_is_described(name):
    assert builder.loaded(name, CATALOGUE[name]), f"run 'make images': {image(name) or name} is missing or old"


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.get("role")])
def test_the_program_says_the_version_of_its_tag(name):
    told = {"docker_proxy": ("-v",)}.get(CATALOGUE[name]["role"], ("--version",))
    entry = CATALOGUE[name]
    program = ["/usr/share/grafana/bin/grafana"] if name == "grafana" else (entry["entrypoint"] or entry["cmd"])[:1]
    text = docker("run", "--rm", "--network=none", f"--entrypoint={program[0]}", image(name), *told)
    assert image(name).rsplit(":", 1)[-1].removeprefix("v") in text


def test_prometheus_scrapes_and_answers_queries(prometheus):
    def up():
        result = prometheus.get("/api/v1/query?query=up")["data"]["result"]
        return result and result[0]["value"][1] == "1"

    assert prometheus.wait(up)


def test_promtool_and_amtool_run_on_this_machine(tmp_path):
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: a, rules: [{record: 'a:b', expr: 'vector(1)'}]}]\n")
    config = tmp_path / "alertmanager.yml"
    config.write_text(ALERTMANAGER)
    subprocess.run([builder.CACHE / "bin/promtool", "check", "rules", rules], check=True)
    subprocess.run([builder.CACHE / "bin/amtool", "check-config", config], check=True)


def test_alertmanager_takes_an_alert(alertmanager):
    alertmanager.get("/api/v2/alerts", [{"labels": {"alertname": "Test"}}])
    assert alertmanager.wait(lambda: alertmanager.get("/api/v2/alerts"))[0]["labels"]["alertname"] == "Test"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("prometheus", ["/bin/promtool", "check", "config", "--syntax-only", "/c/prometheus.yml"]),
        ("alertmanager", ["/bin/amtool", "check-config", "/c/alertmanager.yml"]),
        ("loki", ["/usr/bin/loki", "-config.file=/c/loki.yml", "-verify-config"]),
        ("promtail", ["/usr/bin/promtail", "-config.file=/c/promtail.yml", "-check-syntax"]),
        ("otelcol", ["/otelcol-contrib", "validate", "--config=/c/otelcol.yaml"]),
        ("blackbox_exporter", ["/bin/blackbox_exporter", "--config.file=/c/blackbox.yml", "--config.check"]),
        ("haproxy", ["haproxy", "-c", "-f", "/c/haproxy.cfg"]),
    ],
)
def test_the_image_holds_the_checker_of_its_configuration(name, command):
    texts = {"prometheus": PROMETHEUS, "alertmanager": ALERTMANAGER, "loki": LOKI, "promtail": PROMTAIL}
    text = {**texts, "otelcol": OTELCOL, "blackbox_exporter": BLACKBOX, "haproxy": HAPROXY}[name]
    files = {f"/c/{Path(word.rpartition('=')[2]).name}": text for word in command if "/c/" in word}
    identity = docker("create", *OURS, "--network=none", f"--entrypoint={command[0]}", image(name), *command[1:])
    try:
        docker("cp", "-", f"{identity}:/", input=archive(files))
        docker("start", "-a", identity)
        # It does look at the file.
        docker("cp", "-", f"{identity}:/", input=archive(dict.fromkeys(files, "what: is: this\n")))
        docker("start", "-a", identity, check=False)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", identity) != "0"
    finally:
        docker("rm", "-f", "-v", identity)


def test_node_exporter_measures_the_machine(start):
    node = start("node_exporter", 9100)
    assert node.wait(lambda: node.sample("/metrics", "node_memory_MemTotal_bytes"))


def test_blackbox_exporter_probes(start, prometheus):
    blackbox = start("blackbox_exporter", 9115, files={"/etc/blackbox_exporter/config.yml": BLACKBOX})
    target = urllib.parse.quote("http://prometheus:9090/-/ready")
    assert blackbox.wait(lambda: blackbox.sample(f"/probe?module=http_2xx&target={target}", "probe_success"))


def test_cadvisor_knows_containers_by_name_and_when_they_started(start):
    watched = start("node_exporter", 9100)
    name = docker("inspect", "-f", "{{.Name}}", watched.identity).strip("/")
    mounts = ("/:/rootfs:ro", "/sys:/sys:ro", "/var/lib/docker:/var/lib/docker:ro", "/var/run/docker.sock:/d.sock:ro")
    cadvisor = start(
        "cadvisor",
        8080,
        *("--docker=unix:///d.sock", "--docker_only=true", "--store_container_labels=false"),
        options=tuple(f"--volume={mount}" for mount in mounts),
    )
    cadvisor.wait(lambda: cadvisor.get("/healthz") == "ok")

    def of_it(metric: str) -> float | None:
        return cadvisor.sample("/metrics", rf'{metric}\{{.*name="{name}"')

    for metric in ("container_memory_working_set_bytes", "container_cpu_usage_seconds_total"):
        assert cadvisor.wait(lambda metric=metric: of_it(metric))
    first = of_it("container_start_time_seconds")
    docker("restart", "--time=0", watched.identity)
    # Not the time at which it was created: rules count restarts by it.
    assert cadvisor.wait(lambda: (of_it("container_start_time_seconds") or 0) > first)


def test_loki_returns_what_promtail_reads(start, loki):
    promtail = start("promtail", 9080, files={"/etc/promtail/config.yml": PROMTAIL, "/logs/a.log": "a first line\n"})
    promtail.wait(lambda: promtail.get("/ready"))
    query = "/loki/api/v1/query_range?query=" + urllib.parse.quote('{job="test"} |= "first"')
    lines = loki.wait(lambda: loki.get(query)["data"]["result"])
    assert [line for _, line in lines[0]["values"]] == ["a first line"]


def test_loki_returns_what_the_opentelemetry_collector_reads(start, loki):
    files = {"/etc/otelcol-contrib/config.yaml": OTELCOL, "/logs/a.log": "another first line\n"}
    start("otelcol", 8888, files=files)
    query = "/loki/api/v1/query_range?query=" + urllib.parse.quote('{service_name="otlp"} |= "first"')
    lines = loki.wait(lambda: loki.get(query)["data"]["result"])
    assert [line for _, line in lines[0]["values"]] == ["another first line"]


def test_grafana_has_the_password_of_the_file(grafana):
    assert grafana.get("/api/org", user=f"admin:{PASSWORD}")["name"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        grafana.get("/api/org", user="admin:admin")


def test_grafana_provisions_dashboards(grafana):
    user = f"admin:{PASSWORD}"
    found = grafana.wait(lambda: grafana.get("/api/search?type=dash-db", user=user))
    assert [(each["uid"], each["folderTitle"]) for each in found] == [("test", "Folder")]


def test_grafana_asks_its_datasources(grafana, prometheus, loki, alertmanager):
    user = f"admin:{PASSWORD}"
    assert {each["uid"] for each in grafana.get("/api/datasources", user=user)} == {
        "prometheus",
        "loki",
        "alertmanager",
    }
    for uid, expression in (("prometheus", "vector(7)"), ("loki", "vector(7)")):
        query = {"refId": "A", "datasource": {"uid": uid}, "expr": expression, "instant": True, "queryType": "instant"}
        body = {"queries": [query], "from": "now-5m", "to": "now"}
        frames = grafana.wait(lambda body=body: grafana.get("/api/ds/query", body, user)["results"]["A"]["frames"])
        assert frames[0]["data"]["values"][1] == [7]
    assert grafana.get("/api/datasources/proxy/uid/alertmanager/api/v2/status", user=user)["versionInfo"]


def test_mongodb_exporter_tells_whether_the_database_is_up(start):
    ferretdb = start(
        "ferretdb",
        27017,
        *("--handler=sqlite", "--sqlite-url=file:/state/", "--listen-addr=:27017", "--telemetry=disable"),
    )
    exporter = start("mongodb_exporter", 9216, "--mongodb.uri=mongodb://ferretdb:27017/")
    assert exporter.wait(lambda: exporter.sample("/metrics", "mongodb_up") == 1)
    docker("stop", ferretdb.identity)
    assert exporter.wait(lambda: exporter.sample("/metrics", "mongodb_up") == 0)


def test_haproxy_serves_as_the_public_image_does(start):
    proxy = start("haproxy", 2375, files={"/usr/local/etc/haproxy/haproxy.cfg": HAPROXY})
    assert proxy.wait(lambda: proxy.get("/")) == "hello"


def test_python_has_what_app_discovery_needs_and_runs_as_anybody():
    modules = "import concurrent.futures, http.client, http.server, json, signal, socket; print('here')"
    words = ("run", "--rm", "--network=none", "--read-only", "--user=59810:59810", image("python"))
    assert docker(*words, "python3", "-c", modules) == "here"


def test_the_simulator_starts(start):
    service = start("simulator", 3005, "port-manager", "--listen=0.0.0.0")
    assert "port_manager_total_allocations" in service.wait(lambda: service.get("/metrics"))


@pytest.mark.parametrize("name", MACHINES)
def test_the_target_is_a_machine(start, name):
    machine = start(name, 22, options=(*builder.TARGET_FLAGS, "--volume=/var/lib/docker"))

    def inside(command: str, check: bool = True) -> str:
        return docker("exec", machine.identity, "sh", "-c", command, check=check)

    state = machine.wait(lambda: re.search("running|degraded", inside("systemctl is-system-running", check=False)))
    assert state[0] == "running", inside("systemctl --failed")
    assert "first process" not in inside("journalctl -b --no-pager | tail -1")
    assert inside("systemctl is-active ssh") == "active"
    if name != "target":
        assert not inside("command -v dockerd || true")
        # From the packages that the image holds.
        inside("apt-get install --yes --no-download --no-install-recommends docker.io")
    assert machine.wait(lambda: "overlay2" in inside("docker info -f '{{.Driver}}'", check=False))
    archived = subprocess.run(["docker", "save", image("cadvisor")], stdout=subprocess.PIPE, check=True).stdout
    docker("exec", "-i", machine.identity, "docker", "load", "-q", input=archived)
    assert "cAdvisor" in inside(f"docker run --rm --memory=64m --read-only {image('cadvisor')} --version")
