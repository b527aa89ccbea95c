"""What panels say of series that the simulated platform cannot show: two hosts, something dead, a real MongoDB."""

from __future__ import annotations

import sys
import typing as t

import pytest

# isort: split
import promtool
import rendering

sys.path.insert(0, str(rendering.CHECKOUT / "tests/dashboards"))

import queries as source  # noqa: E402

ALL = {(query.dashboard, query.title, query.ref): query for query in source.queries()}

UP = "1x20"
DOWN = "0x20"
# Stopped being answered, as a target that is gone.
GONE = "1x4 stale"
Samples = dict[str, float]


def says(panel: tuple[str, str, str], series: str, samples: Samples, at: str = "5m", **chosen: str) -> str:
    """Return what promtool complains about where a panel's query does not say this of these series."""
    query = ALL[panel]
    expr = source.filled(query.expr, source.everything(query.dashboard) | source.INTERNAL | chosen)
    # A rate of 4 comes out as 3.9999999999999996.
    expr = f"round({expr}, 1e-6)"
    return promtool.ask(series, expr, at, samples)


def health(host: str, values: str, up: str = UP, service: str = "port-manager") -> str:
    labels = f'job="health",host="{host}",instance="{host}:{service}",service="{service}"'
    return f"up{{{labels}}}  {up}\n" + (f"probe_success{{{labels}}}  {values}\n" if values else "")


def mongodb(host: str, values: str, up: str = UP) -> str:
    labels = f'job="mongodb",host="{host}",instance="{host}:9216"'
    return f"up{{{labels}}}  {up}\n" + (f"mongodb_up{{{labels}}}  {values}\n" if values else "")


PLATFORM = ("deployment-main", "Platform", "A")
DATABASE = ("deployment-main", "Platform", "B")
PORT_MANAGER = '{service="port-manager"}'


@pytest.mark.parametrize(
    ("panel", "series", "samples"),
    [
        pytest.param(PLATFORM, health("a", UP) + health("b", UP), {PORT_MANAGER: 1}, id="all answer"),
        pytest.param(PLATFORM, health("a", UP) + health("b", DOWN), {PORT_MANAGER: 0}, id="one of two does not answer"),
        pytest.param(
            PLATFORM, health("a", UP) + health("b", GONE, DOWN), {PORT_MANAGER: 0}, id="one cannot be asked any more"
        ),
        pytest.param(PLATFORM, health("a", "", DOWN), {PORT_MANAGER: 0}, id="it could never be asked"),
        pytest.param(PLATFORM, mongodb("a", UP), {}, id="nothing probes"),
        pytest.param(DATABASE, mongodb("a", UP) + mongodb("b", UP), {"{}": 1}, id="both databases answer"),
        pytest.param(DATABASE, mongodb("a", UP) + mongodb("b", DOWN), {"{}": 0}, id="one of two databases is down"),
        pytest.param(DATABASE, mongodb("a", UP) + mongodb("b", GONE, DOWN), {"{}": 0}, id="one exporter is gone"),
        pytest.param(DATABASE, health("a", UP), {}, id="there is no exporter"),
    ],
)
def test_the_first_tile_is_green_only_where_all_is_well(panel: t.Any, series: str, samples: Samples) -> None:
    problems = says(panel, series, samples)
    assert not problems, problems


def test_the_first_tile_is_of_the_chosen_host() -> None:
    series = health("a", UP) + health("b", DOWN) + mongodb("a", UP) + mongodb("b", DOWN)
    for host, number in (("a", 1), ("b", 0)):
        problems = says(PLATFORM, series, {PORT_MANAGER: number}, host=host)
        problems += says(DATABASE, series, {"{}": number}, host=host)
        assert not problems, problems


def app(name: str, probe: str, wanted: str = UP, host: str = "a") -> str:
    labels = f'host="{host}",project="shop",branch="{name}",app="shop-{name}"'
    found = f'app_discovery_app_info{{{labels},port="8101"}}  {wanted}\n' if wanted else ""
    return found + (f'probe_success{{{labels},job="app-health",instance="x"}}  {probe}\n' if probe else "")


BLACKBOX = 'up{job="blackbox",host="a",instance="a:9115"}  1x20\n'
DISCOVERY = 'app_discovery_apps{job="app-discovery",host="a",instance="a:9810"}  2x20\n'
DOWNS = [(uid, "Down", "A") for uid in ("deployment-main", "applications-main", "project-main")]
WANTED = [
    ("deployment-main", "Expected", "A"),
    ("applications-main", "Apps", "A"),
    ("project-main", "Apps", "A"),
]


@pytest.mark.parametrize("panel", DOWNS, ids=lambda panel: panel[0])
@pytest.mark.parametrize(
    ("series", "number"),
    [
        pytest.param(app("one", UP) + app("two", UP), 0, id="none"),
        pytest.param(app("one", UP) + app("two", DOWN), 1, id="one"),
        pytest.param(app("one", DOWN) + app("two", ""), 2, id="one, and one that nobody asks"),
        pytest.param(app("one", ""), 1, id="one that nobody asks alone"),
    ],
)
def test_apps_that_are_down_are_counted(panel: t.Any, series: str, number: int) -> None:
    problems = says(panel, BLACKBOX + series, {"{}": number})
    assert not problems, problems


@pytest.mark.parametrize("panel", DOWNS, ids=lambda panel: panel[0])
def test_where_no_app_is_asked_none_is_said_to_be_well(panel: t.Any) -> None:
    for series in (DISCOVERY, BLACKBOX, BLACKBOX.replace("1x20", DOWN) + app("one", GONE), app("one", UP, host="b")):
        problems = says(panel, series, {}, host="a")
        assert not problems, problems


def test_apps_are_counted_where_the_discovery_says_how_many() -> None:
    for panel in WANTED:
        problems = says(panel, DISCOVERY + app("one", UP) + app("two", ""), {"{}": 2})
        problems += says(panel, DISCOVERY + app("one", UP), {"{}": 0}, app="another")
        problems += says(panel, BLACKBOX, {})
        assert not problems, problems


ALIVE = 'up{job="node",host="a",instance="a:9100"}  1x20\n'
BUDGET = 'slo:error_budget_remaining:ratio{slo="app-uptime",host="a",project="p",branch="main",app="p-main"}  '


@pytest.mark.parametrize(
    ("panel", "none", "some", "number"),
    [
        (
            ("deployment-main", "Critical alerts", "A"),
            ALIVE,
            'ALERTS{alertstate="firing",severity="critical",host="a"}  1x20',
            1,
        ),
        (
            ("slo-main", "Firing now", "A"),
            ALIVE,
            'ALERTS{alertstate="firing",severity="info",host="a"}  1x20\nALERTS{alertstate="pending",host="a"}  1x20',
            1,
        ),
        (("monitoring-main", "Targets down", "A"), ALIVE, 'up{job="loki",host="a",instance="l"}  0x20', 1),
        (
            ("monitoring-main", "Timers that failed", "A"),
            'monitoring_timer_last_result{host="a",timer="backup"}  1x20\n',
            'monitoring_timer_last_result{host="a",timer="cleanup"}  0x20',
            1,
        ),
        (
            ("slo-main", "Apps below their objective", "A"),
            BUDGET + "0.4x20\n",
            BUDGET.replace("p-main", "q") + "-1x20",
            1,
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "-",
)
def test_none_is_counted_where_there_is_something_to_count(panel: t.Any, none: str, some: str, number: int) -> None:
    problems = says(panel, none, {"{}": 0}) + says(panel, none + some, {"{}": number})
    problems += says(panel, 'something{host="a"}  1x20', {})
    # Of another host nothing is known.
    problems += says(panel, none + some, {}, host="nowhere")
    assert not problems, problems


def counts(a_second: float) -> str:
    """Return a counter's samples, 15 s apart."""
    return f"0+{15 * a_second:g}x40"


def mongo(name: str, values: str, **labels: str) -> str:
    own = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f'mongodb_ss_{name}{{job="mongodb",host="a",instance="a:9216"{own}}}  {values}\n'


MONGODB: list[tuple[str, str, str, Samples]] = [
    ("Running since", "A", mongo("uptime", "3600x40"), {"{}": 3600}),
    (
        "Operations",
        "A",
        mongo("opcounters", counts(10), legacy_op_type="query")
        + mongo("opcounters", counts(2), legacy_op_type="insert"),
        {'{legacy_op_type="query"}': 10, '{legacy_op_type="insert"}': 2},
    ),
    (
        "Time of an operation",
        "A",
        'mongodb:op_latency_seconds:avg5m{host="a",op_type="reads"}  0.02x40',
        {'{host="a",op_type="reads"}': 0.02},
    ),
    (
        "Connections",
        "A",
        mongo("connections", "12x40", conn_type="current")
        + mongo("connections", "800x40", conn_type="available")
        + mongo("connections", "99x40", conn_type="totalCreated"),
        {'{host="a",conn_type="current"}': 12, '{host="a",conn_type="available"}': 800},
    ),
    (
        "Memory",
        "A",
        mongo("mem_resident", "150x40"),
        {'{job="mongodb",host="a",instance="a:9216"}': 150 * 1024 * 1024},
    ),
    (
        "Memory",
        "B",
        mongo("wt_cache_bytes_currently_in_the_cache", "5e7x40"),
        {
            '{job="mongodb",host="a",instance="a:9216"}': 5e7,
        },
    ),
    ("Network", "A", mongo("network_bytesIn", counts(1000)), {'{host="a"}': 1000}),
    ("Network", "B", mongo("network_bytesOut", counts(2000)), {'{host="a"}': 2000}),
    (
        "Documents",
        "A",
        mongo("metrics_document", counts(4), doc_op_type="returned"),
        {'{doc_op_type="returned"}': 4},
    ),
]


@pytest.mark.parametrize(
    ("title", "ref", "series", "samples"),
    MONGODB,
    ids=[f"{title} {ref}" for title, ref, _, _ in MONGODB],
)
def test_mongodbs_own_figures_are_shown(title: str, ref: str, series: str, samples: Samples) -> None:
    """FerretDB, which the simulated platform has for MongoDB, sends none of them; their names are the exporter's."""
    problems = says(("mongodb-main", title, ref), series, samples, "10m")
    problems += says(("mongodb-main", title, ref), series, {}, "10m", host="nowhere")
    assert not problems, problems


def test_all_of_mongodbs_figures_are_tried() -> None:
    tried = {(title, ref) for title, ref, _, _ in MONGODB}
    own = {(query.title, query.ref) for query in ALL.values() if "mongodb_ss_" in query.expr}
    assert own <= tried


PUBLIC = 'project="shop",branch="main",app="shop-main",host="a",hostname="shop.example",instance="https://shop.example/health"'
NAMED = '{host="a",project="shop",branch="main",app="shop-main",hostname="shop.example"}'


def test_a_public_name_and_its_certificate_are_shown() -> None:
    """AppPublicNameDown and CertificateExpiry lead there."""
    table = "Public names and certificates"
    series = f'probe_success{{job="app-public",{PUBLIC}}}  0x20\nprobe_success{{job="app-health",{PUBLIC}}}  1x20\n'
    # At 5 minutes after the beginning of time.
    series += f'probe_ssl_earliest_cert_expiry{{job="app-public",{PUBLIC}}}  {10 * 86400 + 300}x20\n'
    problems = says(("applications-main", table, "A"), series, {NAMED: 0})
    problems += says(("applications-main", table, "B"), series, {NAMED: 10})
    problems += says(("applications-main", table, "A"), series, {}, app="another")
    problems += says(("applications-main", table, "B"), series, {}, host="nowhere")
    assert not problems, problems


def test_programs_that_were_killed_for_lack_of_memory_are_counted() -> None:
    """OOMKill leads there."""
    panel = ("infrastructure-main", "Killed for lack of memory", "A")
    problems = says(panel, 'node_vmstat_oom_kill{job="node",host="a"}  0x10 2x30', {'{host="a"}': 2}, "5m")
    problems += says(panel, 'node_vmstat_oom_kill{job="node",host="a"}  0x40', {'{host="a"}': 0}, "5m")
    assert not problems, problems


@pytest.mark.parametrize("uid", ["logs-main", "monitoring-main"])
@pytest.mark.parametrize(
    ("ref", "metric", "labels"),
    [
        ("A", "loki_discarded_samples_total", 'reason="rate_limited"'),
        ("B", "promtail_dropped_entries_total", 'host="a"'),
        ("C", "loki_write_dropped_entries_total", 'host="a"'),
    ],
)
def test_lines_that_were_lost_are_shown(uid: str, ref: str, metric: str, labels: str) -> None:
    """LokiRefusing and LogCollectorDropping lead to monitoring-main."""
    own = labels if "host" in labels else f'host="a",{labels}'
    panel = (uid, "Lost on the way", ref)
    problems = says(panel, f"{metric}{{{own}}}  {counts(4)}", {f"{{{labels}}}": 4}, "10m")
    problems += says(panel, f"{metric}{{{own}}}  {counts(4)}", {}, "10m", host="nowhere")
    assert not problems, problems
