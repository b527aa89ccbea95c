"""What the panels cost over a long time range: synthetic data of many apps in a throw-away Prometheus.

    tests/harness/run python tests/benchmarks/dashboards.py            # 30 days, 300 apps; about 10 minutes
    tests/harness/run python tests/benchmarks/dashboards.py --keep     # leave the data for another run

Needs the image of Prometheus (`make images`) and promtool. Prints the table of docs/dashboards.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/dashboards"))

import queries as source  # noqa: E402

CACHE = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"])
PROMTOOL = CACHE / "bin/promtool"
PORT = 19290
NAME = "monitoring-benchmark-dashboards"
HOURS = 2
DAY = 86400
# A panel is half a screen wide: this many points are asked for.
POINTS = 500
# To one server, over HTTP/1.1.
BROWSER_CONNECTIONS = 6

# Queries that are asked all the same and have nothing to give, by what they read and why.
EMPTY = {
    "loki_source_file_files_active_total": "Alloy's; Promtail is what collects",
    "loki_write_dropped_entries_total": "Alloy's; Promtail is what collects",
    "alertmanager_notifications_failed_total": "shown only where some fail",
    "prometheus_notifications_dropped_total": "shown only where some are dropped",
}
# Series that no panel asks of a long time: they are there for the last hours only.
BRIEF = ("_bucket{", 'job="app-public"')

Labels = dict[str, str]
BUCKETS = (".005", ".01", ".025", ".05", ".075", ".1", ".25", ".5", ".75", "1.0", "2.5", "5.0", "7.5", "10.0", "+Inf")


def _app_series(index: int) -> Iterator[tuple[str, Labels, float, float]]:
    """Return an app's series as (name, labels, value at the beginning, growth per second)."""
    project, branch = f"p{index // 3:03d}", ("main", "develop", "feature-x")[index % 3]
    app = f"{project}-{branch}"
    own = {"project": project, "branch": branch, "app": app, "host": "deploy-1"}
    port = str(8100 + index)
    place = own | {"instance": f"deploy-1:{port}"}
    yield "app_discovery_app_info", own | {"port": port, "container": f"{app}-deploy", "instance": "d:9810"}, 1, 0
    yield "app_discovery_container_running", own, 1, 0
    yield "probe_success", place | {"job": "app-health"}, 1, 0
    yield "probe_duration_seconds", place | {"job": "app-health"}, 0.01 + index / 1e5, 0
    for status, rate in (("200", 5.0), ("404", 0.1), ("500", 0.05)):
        yield "http_requests_total", place | {"job": "app-metrics", "method": "GET", "status": status}, 0, rate
    for place_in, bound in enumerate(BUCKETS):
        share = min(1.0, (place_in + 1) / 6)
        labels = place | {"job": "app-metrics", "le": bound.lstrip("0") if bound != "+Inf" else bound}
        yield "http_request_duration_seconds_bucket", labels, 0, 5.15 * share
    public = own | {"job": "app-public", "hostname": f"{app}.example", "instance": f"https://{app}.example/health"}
    yield "probe_success", public, 1, 0
    yield "probe_ssl_earliest_cert_expiry", public, time.time() + 5e6 + index * 1e4, 0
    container = {"name": f"{app}-deploy", "host": "deploy-1", "job": "cadvisor", "instance": "deploy-1:8080"}
    yield "container_cpu_usage_seconds_total", container, 0, 0.01 + index / 1e5
    yield "container_memory_working_set_bytes", container, 5e7 + index * 1e4, 0
    yield "container_spec_memory_limit_bytes", container, 2e8, 0
    yield "container:restarts:increase1d", own, 0, 0
    for window, number in (("5m", 1.0), ("1h", 1.0), ("1d", 0.999), ("30d", 0.997)):
        yield f"app:up:ratio{window}", own, number, 0
    yield "app:http_requests:rate5m", own, 5.15, 0
    yield "app:http_errors:ratio5m", own, 0.01, 0
    for quantile in ("50", "95", "99"):
        yield f"app:http_request_duration_seconds:p{quantile}_5m", own, 0.07 + index / 1e4, 0
    yield "app:http_client_errors:rate5m", own, 0.1, 0
    yield "app:http_server_errors:rate5m", own, 0.05, 0
    yield "app:health_duration_seconds:avg5m", own, 0.01 + index / 1e5, 0
    yield "app:cpu_cores:rate5m", own, 0.01 + index / 1e5, 0
    yield "app:memory_working_set_bytes:max5m", own, 5e7 + index * 1e4, 0
    yield "container:cpu_cores:rate5m", {"host": "deploy-1", "name": f"{app}-deploy"}, 0.01 + index / 1e5, 0
    yield "container:memory_working_set_bytes:max5m", {"host": "deploy-1", "name": f"{app}-deploy"}, 5e7, 0
    yield "slo:error_budget_remaining:ratio", own | {"slo": "app-uptime"}, 0.4, 0


def _host_series() -> Iterator[tuple[str, Labels, float, float]]:
    """Return the series of the host, its services and the stack."""
    host = {"host": "deploy-1"}
    node = host | {"job": "node", "instance": "deploy-1:9100"}
    for cpu in "0123":
        for mode, rate in (("idle", 0.7), ("user", 0.2), ("system", 0.05), ("iowait", 0.03), ("softirq", 0.02)):
            yield "node_cpu_seconds_total", node | {"cpu": cpu, "mode": mode}, 0, rate
    for name, number in (
        ("node_uname_info", 1),
        ("node_load1", 1.5),
        ("node_load5", 1.2),
        ("node_load15", 1.0),
        ("node_memory_MemTotal_bytes", 1.6e10),
        ("node_memory_MemAvailable_bytes", 9e9),
        ("node_memory_MemFree_bytes", 4e9),
        ("node_memory_SwapTotal_bytes", 4e9),
        ("node_memory_SwapFree_bytes", 3.9e9),
        ("node_boot_time_seconds", 1e9),
        ("node_time_seconds", 1.7e9),
        ("node_timex_offset_seconds", 0.001),
        ("host:cpu_utilization:ratio5m", 0.3),
        ("host:memory_utilization:ratio", 0.5),
        ("host:network_latency_seconds:p95", 0.02),
        ("mongodb_up", 1),
        ("mongodb:op_latency_seconds:avg5m", 0.001),
    ):
        yield name, node, number, 0
    for mount in ("/", "/var", "/home"):
        disk = node | {"mountpoint": mount, "device": "/dev/x", "fstype": "ext4"}
        yield "host:disk_utilization:ratio", disk, 0.6, 0
        yield "node_filesystem_avail_bytes", disk, 4e10, 0
        yield "node_filesystem_files_free", disk, 1e6, 0
        yield "node_filesystem_files", disk, 2e6, 0
    for device in ("eth0", "eth1"):
        for name in ("receive_bytes", "transmit_bytes", "receive_errs", "receive_drop", "transmit_errs"):
            yield f"node_network_{name}_total", node | {"device": device}, 0, 1000
        yield "node_network_transmit_drop_total", node | {"device": device}, 0, 0
    for name in ("node_disk_written_bytes_total", "node_disk_read_bytes_total"):
        yield name, node | {"device": "sda"}, 0, 1e5
    for service in ("port-manager", "deployment-api", "tunnel-manager"):
        probe = host | {"job": "health", "service": service, "instance": service}
        yield "probe_success", probe, 1, 0
        yield "probe_duration_seconds", probe, 0.01, 0
    for job in ("prometheus", "alertmanager", "loki", "grafana", "node", "cadvisor", "promtail", "blackbox", "mongodb"):
        own = host | {"job": job, "instance": job}
        yield "up", own, 1, 0
        yield "scrape_duration_seconds", own, 0.1, 0
        yield "scrape_samples_post_metric_relabeling", own, 500, 0
        yield "process_resident_memory_bytes", own, 1e8, 0
        yield "process_cpu_seconds_total", own, 0, 0.01
    api = host | {"job": "deployment-api", "instance": "a"}
    yield "deployment_total", api, 0, 0.001
    yield "deployment_success_total", api, 0, 0.00095
    ports = host | {"job": "port-manager", "instance": "p"}
    yield "port_manager_total_allocations", ports, 300, 0
    yield "port_manager_available_ports", ports, 600, 0
    yield "port_manager_allocation_requests_total", ports, 0, 0.001
    for name, number in (
        ("port_manager:port_utilization:ratio", 0.33),
        ("deployment:success:ratio1h", 0.95),
        ("deployment:success:ratio1d", 0.95),
        ("deployment:success:ratio30d", 0.95),
        ("deployment:duration_seconds:avg1h", 60),
        ("deployment:duration_seconds:p95", 120),
        ("alerts:time_to_recover_seconds:avg30d", 600),
        ("monitoring:coverage:ratio", 1),
    ):
        yield name, host, number, 0
    yield "slo:error_budget_remaining:ratio", host | {"slo": "deployment-success"}, 0.4, 0
    alert = {"alertname": "AppDown", "alertstate": "firing", "severity": "warning", "team": "applications"}
    yield "ALERTS", host | alert, 1, 0
    yield from _database_series(host)
    yield from _stack_series(host)
    yield "prometheus_tsdb_head_series", host | {"job": "prometheus", "instance": "x"}, 20000, 0
    yield "prometheus_tsdb_head_series_created_total", host | {"job": "prometheus", "instance": "x"}, 0, 1


def _database_series(host: Labels) -> Iterator[tuple[str, Labels, float, float]]:
    """Return MongoDB's own figures."""
    own = host | {"job": "mongodb", "instance": "deploy-1:9216"}
    for name, number, growth in (
        ("uptime", 1e6, 0),
        ("mem_resident", 150, 0),
        ("wt_cache_bytes_currently_in_the_cache", 5e7, 0),
        ("network_bytesIn", 0, 1e4),
        ("network_bytesOut", 0, 2e4),
    ):
        yield f"mongodb_ss_{name}", own, number, growth
    for kind in ("insert", "query", "update", "delete", "getmore", "command"):
        yield "mongodb_ss_opcounters", own | {"legacy_op_type": kind}, 0, 3
    for kind in ("current", "active", "available", "totalCreated"):
        yield "mongodb_ss_connections", own | {"conn_type": kind}, 20, 0
    for kind in ("deleted", "inserted", "returned", "updated"):
        yield "mongodb_ss_metrics_document", own | {"doc_op_type": kind}, 0, 2


def _stack_series(host: Labels) -> Iterator[tuple[str, Labels, float, float]]:
    """Return what the stack says of itself."""
    for job, figures in (
        (
            "prometheus",
            (
                ("config_last_reload_successful", 1, 0),
                ("notifications_dropped_total", 0, 0),
                ("rule_evaluation_failures_total", 0, 0),
                ("target_scrapes_exceeded_sample_limit_total", 0, 0),
                ("tsdb_compactions_failed_total", 0, 0),
                ("tsdb_head_samples_appended_total", 0, 900),
                ("tsdb_lowest_timestamp_seconds", time.time() - 30 * DAY, 0),
                ("tsdb_storage_blocks_bytes", 2e9, 0),
                ("tsdb_wal_storage_size_bytes", 2e8, 0),
            ),
        ),
        ("alertmanager", (("config_last_reload_successful", 1, 0),)),
        ("loki", (("distributor_bytes_received_total", 0, 4e3), ("ingester_memory_streams", 600, 0))),
        ("promtail", (("files_active_total", 9, 0), ("dropped_entries_total", 0, 0))),
        ("app_discovery", (("apps", 300, 0),)),
    ):
        own = host | {"job": job.replace("_", "-"), "instance": job}
        for name, number, growth in figures:
            yield f"{job}_{name}", own, number, growth
    loki = host | {"job": "loki", "instance": "loki"}
    yield "loki_distributor_lines_received_total", loki, 0, 40
    yield "loki_discarded_samples_total", loki | {"reason": "rate_limited"}, 0, 0.001
    for route in ("push", "query", "query_range", "labels", "label", "series", "ready", "metrics", "flush", "tail"):
        for le in ("0.005", "0.05", "0.5", "5", "+Inf"):
            # Asked of the whole range, unlike the apps' own.
            yield (
                "loki_request_duration_seconds_bucket",
                loki | {"route": route, "le": le},
                0,
                0.1 + float(le != "0.005"),
            )
    for group in ("recording", "recording-minutes", "recording-slow", "platform", "apps", "host", "stack", "slo"):
        labels = host | {"job": "prometheus", "instance": "x", "rule_group": f"/etc/rules.yml;{group}"}
        yield "prometheus_rule_group_last_duration_seconds", labels, 0.01, 0
    for part in ("inner_eval", "prepare_time", "queue_time", "result_sort"):
        labels = host | {"job": "prometheus", "instance": "x", "slice": part, "quantile": "0.9"}
        yield "prometheus_engine_query_duration_seconds", labels, 0.001, 0
    manager = host | {"job": "alertmanager", "instance": "x"}
    for state in ("active", "suppressed"):
        yield "alertmanager_alerts", manager | {"state": state}, 3, 0
    yield "alertmanager_silences", manager | {"state": "active"}, 1, 0
    yield "alertmanager_notifications_total", manager | {"integration": "slack"}, 0, 0.01
    yield "alertmanager_notifications_failed_total", manager | {"integration": "slack"}, 0, 0
    for code in ("200", "302", "401", "500"):
        yield "grafana_http_request_duration_seconds_count", host | {"job": "grafana", "status_code": code}, 0, 0.2
    for source_name in ("port-manager", "docker"):
        labels = host | {"job": "app-discovery", "source": source_name}
        yield "app_discovery_source_last_success_timestamp_seconds", labels, time.time(), 0
    node = host | {"job": "node", "instance": "deploy-1:9100"}
    for timer in ("backup", "cleanup", "health"):
        yield "monitoring_timer_last_result", node | {"timer": timer}, 1, 0
    yield "monitoring_backup_last_success_timestamp_seconds", node, time.time(), 0
    yield "node_vmstat_oom_kill", node, 0, 1e-5
    for unit in range(300):
        yield "node_systemd_unit_state", node | {"state": "failed", "name": f"unit-{unit}.service"}, 0, 0
    yield "port_manager_allocation_failures_total", host | {"job": "port-manager", "instance": "p"}, 0, 1e-5
    for name, number in (
        ("alerts:response_time_seconds:avg30d", 300),
        ("alerts:false_positive:ratio30d", 0.02),
        ("monitoring:metrics_retention_seconds", 29 * DAY),
    ):
        yield name, {}, number, 0


def _text(name: str, labels: Labels) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def write_blocks(data: Path, apps: int, days: int, spacing: int, end: int) -> tuple[int, int]:
    """Write the blocks of all hours with promtool; returns the numbers of series and samples."""
    series = [(_text(name, labels), begin, growth) for name, labels, begin, growth in _host_series()]
    for index in range(apps):
        series += [(_text(name, labels), begin, growth) for name, labels, begin, growth in _app_series(index)]
    first = end - days * DAY

    def block(begin: int) -> int:
        # The last hours are as dense as they really are: numbers at the end of the range count within minutes.
        stamps = range(begin, begin + HOURS * 3600, 15 if begin + HOURS * 3600 >= end else spacing)
        file, written = data.parent / f"{begin}.om", 0
        with file.open("w") as writer:
            for text, value, growth in series:
                if begin + HOURS * 3600 < end and "loki_" not in text and any(mark in text for mark in BRIEF):
                    continue
                # Each wavers by itself, so that ranks change: a table of the ten most has others each day.
                phase = zlib.crc32(text.encode()) % 628 / 100
                written += len(stamps)
                # Gauges waver, so that they cost what real ones cost.
                if growth:
                    writer.writelines(f"{text} {value + growth * (at - first):.3f} {at}\n" for at in stamps)
                elif value in (0, 1):
                    writer.writelines(f"{text} {value} {at}\n" for at in stamps)
                else:
                    writer.writelines(
                        f"{text} {value * (1 + 0.1 * math.sin(at / 7000 + phase)):.6g} {at}\n" for at in stamps
                    )
            writer.write("# EOF\n")
        command = [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", "--quiet", file, data]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        file.unlink()
        return written

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        samples = sum(pool.map(block, range(first, end, HOURS * 3600)))
    return len(series), samples


def start(data: Path) -> None:
    """Start Prometheus on the data and wait until it is ready and has compacted what it wants to."""
    images = yaml.safe_load((CACHE / "images/vars.yml").read_text())
    image = f"{images['monitoring_image_prefix']}prom/prometheus:{images['prometheus_version']}"
    stop()
    (data.parent / "prometheus.yml").write_text("{}\n")
    command = ["docker", "run", "--detach", "--name", NAME, "--network", "host", "--user", "0:0"]
    command += ["--volume", f"{data}:/data", "--volume", f"{data.parent}/prometheus.yml:/p.yml:ro", image]
    command += ["--config.file=/p.yml", "--storage.tsdb.path=/data", "--storage.tsdb.retention.time=90d"]
    subprocess.run([*command, f"--web.listen-address=127.0.0.1:{PORT}"], check=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not _ready():
        if time.monotonic() > deadline:
            sys.exit("Prometheus did not become ready")
        time.sleep(1)
    calm, before = 0, -1
    while calm < 3 and time.monotonic() < deadline:
        blocks = sum(1 for entry in data.iterdir() if len(entry.name) == 26)
        calm, before = (calm + 1, before) if blocks == before else (0, blocks)
        time.sleep(5)


def stop() -> None:
    """Remove the throw-away Prometheus."""
    subprocess.run(["docker", "rm", "--force", NAME], check=False, capture_output=True)


def _ready() -> bool:
    try:
        return _get("/-/ready")[0] == 200
    except OSError:
        return False


def _get(path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def processor() -> float:
    """Return the processor's seconds that Prometheus has used: on a busy machine they say more than the clock."""
    text = _get("/metrics")[1].decode()
    return float(next(row.split()[1] for row in text.splitlines() if row.startswith("process_cpu_seconds_total ")))


def request(query: source.Query, begin: int, end: int) -> str:
    """Return what Grafana would ask Prometheus for a query."""
    span = end - begin
    floor = {"": 15, "1m": 60, "5m": 300}[query.interval]
    step = max(floor, 15, -(-span // POINTS // 15) * 15)
    values = source.everything(query.dashboard) | {
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + 15, 60)}s",
        "__range": f"{span}s",
    }
    expr = source.filled(query.expr, values)
    if query.instant:
        return "/api/v1/query?" + urllib.parse.urlencode({"query": expr, "time": end})
    return "/api/v1/query_range?" + urllib.parse.urlencode({"query": expr, "start": begin, "end": end, "step": step})


def ask(query: source.Query, begin: int, end: int) -> tuple[float, float, int]:
    """Return the time and the processor's time that a query takes, and its series."""
    path = request(query, begin, end)
    before, began = processor(), time.perf_counter()
    status, body = _get(path)
    took, used = time.perf_counter() - began, processor() - before
    answer = json.loads(body)
    if status != 200:
        raise RuntimeError(f"{query.name}: {answer.get('error')}")
    return took, used, len(answer["data"]["result"])


def check(query: source.Query, found: int) -> str:
    """Return what is wrong with an answer: empty where it should not be, or more series than the panel says."""
    expected = next((why for name, why in EMPTY.items() if name in query.expr), "")
    if not found and not expected:
        return f"{query.dashboard}, {query.title} ({query.ref}): no series; a query that reads nothing costs nothing"
    if found and expected:
        return f"{query.dashboard}, {query.title} ({query.ref}): {found} series, and EMPTY says none: {expected}"
    most = re.search(r"(?:topk|bottomk)\((\d+)", query.expr)
    if most and found > int(most.group(1)):
        return f"{query.dashboard}, {query.title} ({query.ref}): {found} series of at most {most.group(1)}"
    return ""


def ask_together(queries: list[source.Query], begin: int, end: int) -> float:
    """Return the time until all queries are answered that a browser asks over its six connections."""
    paths = [request(query, begin, end) for query in queries]
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(BROWSER_CONNECTIONS) as pool:
        refused = [answer[1] for answer in pool.map(_get, paths) if answer[0] != 200]
    if refused:
        raise RuntimeError(refused[0].decode(errors="replace"))
    return time.perf_counter() - began


def main() -> None:
    """Make the data, ask every panel, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, default=300)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--spacing", type=int, default=300, help="seconds between two samples (no more than 300)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="leave the data for the next run")
    options = parser.parse_args()

    folder = CACHE / "benchmark-dashboards"
    facts_file = folder / "facts.json"
    wanted = {"apps": options.apps, "days": options.days, "spacing": options.spacing}
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {}
    if not wanted.items() <= facts.items():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        end = int(time.time()) // (HOURS * 3600) * HOURS * 3600
        began = time.monotonic()
        series, samples = write_blocks(folder / "data", options.apps, options.days, options.spacing, end)
        facts = wanted | {"end": end, "series": series, "samples": samples}
        facts_file.write_text(json.dumps(facts))
        print(f"{series} series, {samples} samples written in {time.monotonic() - began:.0f} s", flush=True)
    try:
        start(folder / "data")
        end = facts["end"] - 15
        begin = end - options.days * DAY
        rows = []
        whole: dict[str, float] = {}
        for query in source.queries():
            if query.source != "prometheus":
                continue
            rounds = [ask(query, begin, end) for _ in range(options.rounds)]
            took, used = min(one[0] for one in rounds), min(one[1] for one in rounds)
            rows.append((took, used, query, rounds[0][2]))
        wrong = [problem for _, _, query, found in rows if (problem := check(query, found))]
        for uid in source.dashboards():
            mine = [query for _, _, query, _ in rows if query.dashboard == uid]
            whole[uid] = min(ask_together(mine, begin, end) for _ in range(options.rounds))
    finally:
        stop()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)

    print("\n| dashboard | queries | one by one, s | processor, s | slowest query, s | all at once, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for uid in source.dashboards():
        mine = [(took, used) for took, used, query, _ in rows if query.dashboard == uid]
        took, used = (sum(column) for column in zip(*mine, strict=True))
        slowest = max(one[0] for one in mine)
        print(f"| {uid} | {len(mine)} | {took:.2f} | {used:.2f} | {slowest:.2f} | {whole[uid]:.2f} |")
    print("\n| panel | dashboard | series | s | processor, s |\n| --- | --- | ---: | ---: | ---: |")
    for took, used, query, found in sorted(rows, key=lambda row: -row[1])[:20]:
        print(f"| {query.title} ({query.ref}) | {query.dashboard} | {found} | {took:.2f} | {used:.2f} |")
    if wrong:
        sys.exit("\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
