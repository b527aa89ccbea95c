"""The cases of all alerts and recording rules. Samples are 15 s apart unless `step` says otherwise.

`1x4 0x12` is five ones (0 s to 60 s), then thirteen zeros. A case with `naive` is a trap: the rule as one would first
write it is wrong there, and a test proves that it is.
"""

from __future__ import annotations

from promtool import Case

CASES: list[Case] = []


def case(rule: str, title: str, series: str, **rest: object) -> None:
    """Add a case."""
    CASES.append(Case(rule, title, series, **rest))  # type: ignore[arg-type]


# -- stack -------------------------------------------------------------------------------------------------------------

case("Watchdog", "always", 'up{job="x"}  1x4', fires="0s 1m")

NODE = 'up{job="node",instance="a:9100",host="a"}'
OTHER = 'up{job="cadvisor",instance="a:8080",host="a"}'

case(
    "TargetDown",
    "after two minutes, until it answers",
    f"{NODE}  1x4 0x12 1x8\n{OTHER}  1x40",
    fires="3m15s 4m15s",
    silent="3m 4m30s",
    labels='host="a", job="node", severity="warning", team="infrastructure"',
)
case("TargetDown", "one target alone is no host that is gone", f"{NODE}  0x40", fires="3m")
for job in ("health", "mongodb", "app-health", "app-metrics", "app-public", "public"):
    case("TargetDown", f"not {job}", f'up{{job="{job}",instance="a:1",host="a"}}  0x40\n{OTHER}  1x40', silent="10m")
case("TargetDown", "not when the whole host is gone", f"{NODE}  0x40\n{OTHER}  0x40", silent="10m")
case(
    "TargetDown",
    "what is asked from elsewhere does not keep a host alive",
    f'{NODE}  0x40\n{OTHER}  0x40\nup{{job="app-public",instance="x",host="a"}}  1x40',
    silent="10m",
)
case(
    "TargetDown",
    "what is asked from elsewhere does not make a host of one target",
    f'{NODE}  0x40\nup{{job="app-public",instance="x",host="a"}}  0x40',
    fires="10m",
)
case(
    "TargetDown",
    "two targets of nobody's host",
    'up{job="own",instance="x"}  0x40\nup{job="own",instance="y"}  0x40',
    fires="3m",
    count=2,
)
MANAGER = 'up{job="port-manager",instance="a:3005",host="a"}'
HEALTH = 'probe_success{job="health",instance="a:3005",host="a",service="port-manager"}'
case(
    "TargetDown", "not when the service itself is down", f"{MANAGER}  0x40\n{OTHER}  1x40\n{HEALTH}  0x40", silent="10m"
)
case("TargetDown", "metrics alone are gone", f"{MANAGER}  0x40\n{OTHER}  1x40\n{HEALTH}  1x40", fires="10m")
case(
    "TargetDown",
    "another job's probes are no health check",
    f'{NODE}  0x40\n{OTHER}  1x40\nprobe_success{{job="own",host="a",service="node"}}  0x40',
    fires="10m",
)

JOBS = [
    "prometheus",
    "alertmanager",
    "loki",
    "grafana",
    "node",
    "cadvisor",
    "promtail",
    "blackbox",
    "mongodb",
    "app-discovery",
    "port-manager",
    "deployment-api",
    "health",
]
for job in JOBS:
    others = "\n".join(
        f'up{{job="{other}",host="{host}",instance="{host}"}}  1x60'
        for other in JOBS
        for host in ("default-one", "elsewhere")
        if (other, host) != (job, "default-one")
    )
    case(
        "TargetMissing",
        f"{job} vanishes and comes back",
        f'{others}\nup{{job="{job}",host="default-one",instance="default-one"}}  1x4 stale _x24 1x20',
        fires="6m15s 7m15s",
        silent="6m 7m45s",
        labels=f'job="{job}", host="default-one", severity="warning", team="infrastructure"',
    )
case(
    "TargetMissing",
    "not while everything starts",
    "\n".join(f'up{{job="{job}",host="default-one"}}  _x19 1x40' for job in JOBS),
    silent="4m45s 5m 6m",
)

GRAFANA = 'probe_success{job="public",instance="https://g.example.com/",host="a",hostname="g.example.com"}'
case(
    "PublicNameDown",
    "five minutes",
    f"{GRAFANA}  1x4 0x24 1x20",
    fires="6m15s 7m15s",
    silent="6m 7m30s",
    labels='hostname="g.example.com", severity="warning", team="infrastructure"',
)
case(
    "PublicNameDown",
    "not of an app, which has an alert of its own",
    f"{GRAFANA.replace('public', 'app-public')}  0x60",
    silent="10m",
)

for job, metric in (
    ("prometheus", "prometheus_config_last_reload_successful"),
    ("alertmanager", "alertmanager_config_last_reload_successful"),
    ("blackbox", "blackbox_exporter_config_last_reload_successful"),
    ("loki", "loki_ruler_config_last_reload_successful"),
    ("alloy", "alloy_config_last_load_successful"),
):
    case(
        "ConfigurationReloadFailed",
        job,
        f'{metric}{{job="{job}",host="a",instance="a:1"}}  1x4 0x6 1x9',
        fires="2m15s",
        silent="2m 3m 4m",
        labels=f'job="{job}", severity="warning", team="infrastructure"',
    )

# Promtail has no gauge of it, only a counter.
case(
    "ConfigurationReloadFailed",
    "promtail",
    'promtail_config_reload_fail_total{job="promtail",host="a",instance="a:1"}  0x4 1x90',
    fires="2m15s",
    silent="1m 2m 17m",
    labels='job="promtail", severity="warning", team="infrastructure"',
)

FAILED = 'alertmanager_notifications_failed_total{job="alertmanager",instance="a:1",host="a",integration="slack"}'
case(
    "NotificationsFailing",
    "one message is lost",
    f"{FAILED}  0x20 1x60",
    fires="6m15s 9m45s",
    silent="6m 10m30s",
    labels='severity="critical", team="infrastructure", integration="slack"',
)
case(
    "NotificationsFailing",
    "the first loss is the counter's birth",
    f'{FAILED}  _x21 1x60\nup{{job="alertmanager",instance="a:1",host="a"}}  1x80',
    fires="6m15s 9m45s",
    silent="6m 10m30s",
    naive="sum by (job, host, instance, integration) (increase(alertmanager_notifications_failed_total[5m])) > 0",
    naive_for="1m",
)
case(
    "NotificationsFailing",
    "old losses at the first scrape are no news",
    f'{FAILED}  _x21 7x60\nup{{job="alertmanager",instance="a:1",host="a"}}  _x21 1x60',
    silent="6m15s 8m 10m 12m",
)
case(
    "NotificationsFailing",
    "old losses after an outage are no news",
    f'{FAILED}  _x21 7x60\nup{{job="alertmanager",instance="a:1",host="a"}}  0x20 1x60',
    silent="6m15s 8m 10m 12m",
)
ERRORS = 'prometheus_notifications_errors_total{job="prometheus",instance="a:1",host="a",alertmanager="x"}'
case(
    "NotificationsFailing",
    "Alertmanager does not take alerts",
    f"{ERRORS}  0x20 1x3 2x3 3x3 4x3 5x3 6x3 7x3 8x3 9x60",
    fires="10m30s",
    silent="8m 20m",
)
case("NotificationsFailing", "Alertmanager restarts", f"{ERRORS}  0x20 1x3 2x60", silent="6m 7m 8m 9m 10m 11m 12m")
DROPPED = 'prometheus_notifications_dropped_total{job="prometheus",instance="a:1",host="a"}'
case("NotificationsFailing", "the queue is full", f"{DROPPED}  0x20 1x60", fires="6m15s", silent="6m 11m")

for job, metric in (
    ("prometheus", "prometheus_rule_evaluation_failures_total"),
    ("loki", "loki_prometheus_rule_evaluation_failures_total"),
):
    series = f'{metric}{{job="{job}",instance="a:1",host="a",rule_group="g"}}'
    target = f'up{{job="{job}",instance="a:1",host="a"}}'
    case(
        "RuleEvaluationFailing",
        f"{job} once",
        f"{series}  0x20 1x60\n{target}  1x80",
        fires="6m15s 9m45s",
        silent="6m 10m30s",
        labels='severity="warning", team="infrastructure", rule_group="g"',
    )
    case("RuleEvaluationFailing", f"{job} at birth", f"{series}  _x21 1x60\n{target}  1x80", fires="6m15s", silent="6m")
    case(
        "RuleEvaluationFailing",
        f"{job} long ago",
        f"{series}  _x21 9x60\n{target}  0x20 1x60",
        silent="5m15s 6m15s 8m 12m",
    )
MISSED = 'prometheus_rule_group_iterations_missed_total{job="prometheus",instance="a:1",host="a",rule_group="g"}'
case("RuleEvaluationFailing", "four missed", f"{MISSED}  0x20 1x0 2x0 3x0 4x90", fires="7m", silent="6m45s 22m")
case("RuleEvaluationFailing", "three missed", f"{MISSED}  0x20 1x0 2x0 3x90", silent="7m 10m 19m")

for metric in (
    "compactions_failed",
    "head_truncations_failed",
    "checkpoint_creations_failed",
    "wal_corruptions",
    "wal_writes_failed",
):
    case(
        "PrometheusStorageTrouble",
        metric,
        f'prometheus_tsdb_{metric}_total{{job="prometheus",instance="a:1",host="a"}}  0x5 1x100',
        step="1m",
        fires="6m 1h4m",
        silent="5m 1h5m",
        labels='severity="warning", team="infrastructure"',
    )

for metric in (
    "promtail_dropped_entries_total",
    "loki_write_dropped_entries_total",
    "otelcol_exporter_send_failed_log_records_total",
):
    series, target = f'{metric}{{job="l",instance="a:1",host="a",reason="r"}}', 'up{job="l",instance="a:1",host="a"}'
    case(
        "LogCollectorDropping",
        f"{metric} grows",
        f"{series}  0x40 3x80\n{target}  1x120",
        fires="11m15s 19m45s",
        silent="11m 20m30s",
        labels='severity="warning", team="infrastructure"',
    )
    case(
        "LogCollectorDropping",
        f"{metric} is born",
        f"{series}  _x41 1x80\n{target}  1x120",
        fires="11m15s",
        silent="11m",
    )
    case(
        "LogCollectorDropping",
        f"{metric} is old",
        f"{series}  _x41 9x80\n{target}  0x40 1x80",
        silent="11m15s 12m 15m 22m",
    )

REFUSED = 'loki_discarded_samples_total{job="loki",instance="a:1",host="a",reason="rate_limited",tenant="fake"}'
LOKI = 'up{job="loki",instance="a:1",host="a"}'
case(
    "LokiRefusing",
    "again",
    f"{REFUSED}  4x40 5x80",
    fires="11m15s 19m45s",
    silent="11m 20m30s",
    labels='severity="warning", team="infrastructure", reason="rate_limited"',
)
case(
    "LokiRefusing",
    "for the first time: Loki has no such counter before",
    f"{REFUSED}  _x41 250x80\n{LOKI}  1x120",
    fires="11m15s 19m45s",
    silent="11m 20m30s",
    naive="increase(loki_discarded_samples_total[10m]) > 0",
    naive_for="1m",
)
case(
    "LokiRefusing",
    "long before Prometheus came",
    f"{REFUSED}  _x41 250x80\n{LOKI}  0x40 1x80",
    silent="11m15s 15m 22m",
    naive="loki_discarded_samples_total unless loki_discarded_samples_total offset 10m or increase(loki_discarded_samples_total[10m]) > 0",
    naive_fires=True,
)
case("LokiRefusing", "restarts", f"{REFUSED}  40x40 0x80\n{LOKI}  1x120", silent="11m15s 15m 22m")

DOCKER = 'app_discovery_source_up{job="app-discovery",instance="a:1",host="a",source="docker"}'
case(
    "AppDiscoveryStale",
    "Docker does not answer",
    f"{DOCKER}  1x4 0x24 1x9",
    fires="6m15s 7m15s",
    silent="6m 7m30s",
    labels='severity="warning", team="infrastructure", source="docker"',
)
ALLOCATIONS = 'app_discovery_source_up{job="app-discovery",instance="a:1",host="a",source="port-manager"}'
case("AppDiscoveryStale", "the Port Manager is down", f"{ALLOCATIONS}  0x40\n{HEALTH}  0x40", silent="10m")
case("AppDiscoveryStale", "the Port Manager is well", f"{ALLOCATIONS}  0x40\n{HEALTH}  1x40", fires="10m")
case(
    "AppDiscoveryStale",
    "another job's probe",
    f'{ALLOCATIONS}  0x40\nprobe_success{{job="own",host="a",service="port-manager"}}  0x40',
    fires="10m",
)

DAY = 86400
BACKUP = 'monitoring_backup_last_success_timestamp_seconds{job="node",instance="a:9100",host="a"}'
case(
    "BackupTooOld",
    "36 hours",
    f"{BACKUP}  0x2168 129700x30",
    step="1m",
    fires="36h6m",
    silent="36h5m 36h10m",
    labels='severity="warning", team="infrastructure"',
)
case("BackupTooOld", "never made", f"{NODE}  1x2200", step="1m", silent="36h40m")
TIMER = 'job="node",instance="a:9100",host="a",timer="backup"'
case(
    "TimerFailed",
    "it failed",
    f"monitoring_timer_last_result{{{TIMER}}}  1x4 0x24 1x9",
    fires="6m15s 7m15s",
    silent="6m 7m30s",
    labels='severity="warning", team="infrastructure", timer="backup"',
)
case(
    "TimerFailed",
    "it did not run for one and a half times its interval",
    f"monitoring_timer_last_run_timestamp_seconds{{{TIMER}}}  0x400\nmonitoring_timer_interval_seconds{{{TIMER}}}  3600x400\n"
    f"monitoring_timer_last_result{{{TIMER}}}  1x400",
    fires="1h35m15s",
    silent="1h35m",
)
case(
    "TimerFailed",
    "it never ran since it was installed, and there is no result",
    f"monitoring_timer_last_run_timestamp_seconds{{{TIMER}}}  0x400\nmonitoring_timer_interval_seconds{{{TIMER}}}  3600x400",
    fires="1h35m15s",
    silent="1h35m",
)
case(
    "TimerFailed",
    "it ran",
    f"monitoring_timer_last_run_timestamp_seconds{{{TIMER}}}  0x240 3600x400\n"
    f"monitoring_timer_interval_seconds{{{TIMER}}}  3600x400",
    silent="1h35m30s",
)
for metric in (
    "prometheus_target_scrapes_exceeded_sample_limit_total",
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
    "prometheus_target_scrape_pool_exceeded_target_limit_total",
    "prometheus_target_scrape_pool_exceeded_label_limits_total",
):
    case(
        "ScrapeLimitExceeded",
        metric,
        f'{metric}{{job="prometheus",instance="a:1",host="a"}}  0x20 1+1x40 41x60',
        fires="10m15s 19m30s",
        silent="10m 20m15s",
        labels='severity="warning", team="infrastructure"',
    )

# -- platform ----------------------------------------------------------------------------------------------------------

case(
    "ServiceDown",
    "two failed checks in a row",
    f"{HEALTH}  1x12 0x5 1x27",
    step="5s",
    fires="1m25s 1m30s",
    silent="1m20s 1m35s",
    labels='host="a", service="port-manager", severity="critical", team="infrastructure"',
)
case(
    "ServiceDown",
    "one failed check, and one whose good answer takes 5 seconds",
    f"{HEALTH}  1x12 0x3 1x27",
    step="5s",
    silent="1m20s 1m15s 1m25s 1m30s",
    naive='probe_success{job="health"} == 0',
    naive_for="15s",
    naive_fires=True,
)
case("ServiceDown", "an app is no service", 'probe_success{job="app-health",host="a",service="x"}  0x40', silent="10m")
case(
    "ServiceDown",
    "nobody checks it and its metrics are gone",
    f"{MANAGER}  1x4 0x9 1x9\n{OTHER}  1x40",
    fires="2m30s 3m30s",
    silent="2m15s 3m45s",
    labels='service="port-manager"',
)
case("ServiceDown", "another job is no service", f"{NODE}  0x40\n{OTHER}  1x40", silent="10m")
case(
    "ServiceDown",
    "its metrics are gone, its health is good",
    f"{MANAGER}  0x40\n{OTHER}  1x40\n{HEALTH}  1x40",
    silent="10m",
)
case(
    "ServiceDown",
    "another job's probe is no health check",
    f'{MANAGER}  0x40\n{OTHER}  1x40\nprobe_success{{job="own",host="a",service="port-manager"}}  1x40',
    fires="10m",
)
case("ServiceDown", "the whole host is gone", f"{MANAGER}  0x40\n{OTHER}  0x40", silent="10m")
case(
    "ServiceDown",
    "the whole host is gone, though asked from elsewhere it answers",
    f'{MANAGER}  0x40\n{OTHER}  0x40\nup{{job="app-public",host="a"}}  1x40',
    silent="10m",
)
case(
    "ServiceDown",
    "two targets of nobody's host are none that is gone",
    'up{job="port-manager",instance="x"}  0x40\nup{job="own",instance="y"}  0x40',
    fires="10m",
)
case(
    "ServiceDown",
    "one target is no host",
    f'{MANAGER}  0x40\nup{{job="app-public",host="a"}}  0x40',
    fires="10m",
)

MONGO = 'mongodb_up{job="mongodb",instance="a:9216",host="a"}'
EXPORTER = 'up{job="mongodb",instance="a:9216",host="a"}'
case(
    "MongoDBDown",
    "the exporter lives, the database does not",
    f"{MONGO}  1x4 0x2 1x9\n{EXPORTER}  1x40",
    fires="1m30s",
    silent="1m15s 2m",
    labels='host="a", severity="critical", team="infrastructure"',
    naive='up{job="mongodb"} == 0',
)
case(
    "MongoDBDown",
    "no exporter at all",
    f"{MONGO}  1x4 stale\n{EXPORTER}  1x4 0x9 1x9\n{OTHER}  1x40",
    fires="2m15s 3m30s",
    silent="2m 3m45s",
    naive="mongodb_up == 0",
)
case("MongoDBDown", "another exporter is gone", f"{MONGO}  1x40\n{NODE}  0x40\n{EXPORTER}  1x40", silent="10m")
case("MongoDBDown", "the whole host is gone", f"{EXPORTER}  0x40\n{OTHER}  0x40", silent="10m")
case(
    "MongoDBDown",
    "the whole host is gone, though asked from elsewhere it answers",
    f'{EXPORTER}  0x40\n{OTHER}  0x40\nup{{job="app-public",host="a"}}  1x40',
    silent="10m",
)
case(
    "MongoDBDown",
    "two targets of nobody's host are none that is gone",
    'up{job="mongodb",instance="x"}  0x40\nup{job="own",instance="y"}  0x40',
    fires="10m",
)
case("MongoDBDown", "one target is no host", f'{EXPORTER}  0x40\nup{{job="app-public",host="a"}}  0x40', fires="10m")

PORTS = 'job="port-manager",instance="a:3005",host="a"'
case(
    "HighPortUtilization",
    "more than 80 of 100 for five minutes, and five more until it is over",
    f"port_manager_total_allocations{{{PORTS}}}  720x4 729x24 720x40\n"
    f"port_manager_available_ports{{{PORTS}}}  180x4 171x24 180x40",
    fires="6m15s 12m15s",
    silent="6m 12m30s",
    labels='host="a", severity="warning", team="deployment"',
)
case(
    "HighPortUtilization",
    "80 of 100 is not more than 80 of 100",
    f"port_manager_total_allocations{{{PORTS}}}  720x60\nport_manager_available_ports{{{PORTS}}}  180x60",
    silent="10m",
)

API = 'job="deployment-api",instance="a:3004",host="a"'
TOTAL, GOOD, BAD = (f"deployment_{what}{{{API}}}" for what in ("total", "success_total", "failures_total"))
case(
    "DeploymentFailures",
    "three failures, newer build",
    f"{TOTAL}  40x40 41x3 42x3 43x60\n{GOOD}  38x110\n{BAD}  2x40 3x3 4x3 5x60",
    fires="12m15s 19m45s",
    silent="12m 20m30s",
    labels='host="a", severity="warning", team="deployment"',
)
case(
    "DeploymentFailures",
    "three failures, older build without a counter of failures",
    f"{TOTAL}  40x40 41x3 42x3 43x60\n{GOOD}  38x110",
    fires="12m15s 19m45s",
    silent="12m 20m30s",
    naive="increase(deployment_failures_total[10m]) > 2",
)
case(
    "DeploymentFailures",
    "two failures: increase() says 2.05",
    f"{TOTAL}  40x40 41x3 42x60\n{GOOD}  38x110\n{BAD}  2x40 3x3 4x60",
    silent="11m15s 12m 15m 19m",
    naive="increase(deployment_failures_total[10m]) > 2",
    naive_fires=True,
)
case(
    "DeploymentFailures",
    "twenty successes",
    f"{TOTAL}  40x40 40+1x20 60x60\n{GOOD}  38x40 38+1x20 58x60",
    silent="12m 15m 20m",
)
case(
    "DeploymentFailures",
    "a restart of the Deployment API is no failure",
    f"{TOTAL}  40x40 0x40 1x40\n{GOOD}  30x40 0x40 1x40",
    silent="10m15s 12m 19m 22m",
    naive="(deployment_total - deployment_success_total) - (deployment_total offset 10m - deployment_success_total offset 10m) != 0",
    naive_fires=True,
)
case(
    "DeploymentFailures",
    "two failures, a restart, and one more",
    f"{TOTAL}  40x40 41x3 42x3 0x3 1x60\n{GOOD}  38x46 0x64",
    fires="13m15s",
    silent="12m",
)
case(
    "DeploymentFailures",
    "the metrics themselves are born with three failures",
    f"{TOTAL}  _x41 3x60\n{GOOD}  _x41 0x60\nup{{{API}}}  1x110",
    fires="10m15s 20m",
    silent="10m 20m30s",
    naive="increase(deployment_total[10m]) - increase(deployment_success_total[10m]) > 2",
)
case(
    "DeploymentFailures",
    "old failures at the first scrape",
    f"{TOTAL}  _x41 90x60\n{GOOD}  _x41 50x60\nup{{{API}}}  _x41 1x60",
    silent="10m15s 15m 20m 21m",
)
case(
    "DeploymentFailures",
    "old failures after an outage, newer build",
    f"{TOTAL}  _x41 90x60\n{GOOD}  _x41 50x60\n{BAD}  _x41 40x60\nup{{{API}}}  0x40 1x60",
    silent="10m15s 15m 20m 21m",
)
case("DeploymentFailures", "no metrics at all", f"{NODE}  1x60", silent="10m")

BUCKET = "deployment_duration_seconds_bucket{" + API + ',le="%s"}'
SUM = "deployment_duration_seconds_sum{" + API + "}"
for limit in ("600", "600.0"):
    case(
        "SlowDeployments",
        f"one of 660 s, a build with a bucket of {limit}",
        f"{BUCKET % limit.replace('600', '60')}  9x120\n{BUCKET % limit.replace('600', '300')}  9x120\n"
        f"{BUCKET % limit}  10x120\n{BUCKET % '+Inf'}  10x40 11x80\n{SUM}  3000x40 3660x80",
        fires="10m15s 24m45s",
        silent="10m 25m15s",
        labels='host="a", severity="info", team="deployment"',
    )
case(
    "SlowDeployments",
    "one of 500 s, newest build: more than five minutes is not ten",
    f"{BUCKET % '60.0'}  9x120\n{BUCKET % '300.0'}  9x120\n{BUCKET % '600.0'}  10x40 11x80\n{BUCKET % '+Inf'}  10x40 11x80",
    silent="10m15s 15m",
    naive='sum(increase(deployment_duration_seconds_bucket{le="+Inf"}[15m])) - sum(increase(deployment_duration_seconds_bucket{le="300.0"}[15m])) > 0.5',
    naive_fires=True,
)
case(
    "SlowDeployments",
    "Prometheus 3 spells the bucket 600.0",
    f"{BUCKET % '600.0'}  10x120\n{BUCKET % '+Inf'}  10x40 11x80",
    fires="10m15s",
    silent="10m",
    naive='increase(deployment_duration_seconds_bucket{le="+Inf"}[15m]) - ignoring (le) increase(deployment_duration_seconds_bucket{le="600"}[15m]) > 0.5',
)
for text, sum_, fires in (("660 s is proved by the sum", 3660, True), ("590 s", 3590, False), ("500 s", 3500, False)):
    case(
        "SlowDeployments",
        f"one of {text}, a build without the bucket",
        f"{BUCKET % '60.0'}  5x120\n{BUCKET % '300.0'}  9x120\n{BUCKET % '+Inf'}  10x40 11x80\n{SUM}  3000x40 {sum_}x80",
        fires="10m15s 24m45s" if fires else "",
        silent="10m 25m15s" if fires else "10m15s 15m 24m",
    )
case(
    "SlowDeployments",
    "one of 20 s, one of 200 s and one of 680 s, a build without the bucket",
    f"{BUCKET % '60.0'}  5x40 6x80\n{BUCKET % '300.0'}  9x40 11x80\n{BUCKET % '+Inf'}  10x40 13x80\n{SUM}  3000x40 3900x80",
    silent="10m15s",
)
case(
    "SlowDeployments",
    "one of 59 s, one of 299 s and one of 605 s, a build without the bucket",
    f"{BUCKET % '60.0'}  5x40 6x80\n{BUCKET % '300.0'}  9x40 11x80\n{BUCKET % '+Inf'}  10x40 13x80\n{SUM}  3000x40 3963x80",
    fires="10m15s",
)
case(
    "SlowDeployments",
    "thirty short ones, a build without the bucket",
    f"{BUCKET % '60.0'}  5x40 35x80\n{BUCKET % '300.0'}  9x40 39x80\n{BUCKET % '+Inf'}  10x40 40x80\n{SUM}  3000x40 4700x80",
    silent="10m15s 15m",
    naive="increase(deployment_duration_seconds_sum[15m]) > 600",
    naive_fires=True,
)
case(
    "SlowDeployments",
    "the oldest build cannot tell",
    f"{BUCKET % '60.0'}  5x120\n{BUCKET % '300.0'}  9x120\n{BUCKET % '+Inf'}  10x40 11x80",
    silent="10m15s 15m",
)
case(
    "SlowDeployments",
    "where there is the bucket, the sum is not asked",
    f"{BUCKET % '60.0'}  5x120\n{BUCKET % '300.0'}  9x120\n{BUCKET % '600.0'}  10x40 11x80\n{BUCKET % '+Inf'}  10x40 11x80\n"
    f"{SUM}  3000x40 3700x80",
    silent="10m15s 15m",
)

LATENCY, OPS = (
    f'mongodb_ss_opLatencies_{what}{{job="mongodb",instance="a:9216",host="a",op_type="reads"}}'
    for what in ("latency", "ops")
)
case(
    "MongoDBSlow",
    "105 ms for 15 minutes",
    f"{LATENCY}  0+1575000x90 _x1\n{OPS}  0+15x90",
    fires="15m15s",
    silent="15m",
    labels='host="a", op_type="reads", severity="info", team="infrastructure"',
)
case(
    "MongoDBSlow",
    "slow, then idle: no division by nothing, and over after five more minutes",
    f"{LATENCY}  0+1575000x80 126000000x60\n{OPS}  0+15x80 1200x60",
    fires="20m 29m30s",
    silent="29m45s",
)
case("MongoDBSlow", "95 ms", f"{LATENCY}  0+1425000x120\n{OPS}  0+15x120", silent="30m")

# -- hosts -------------------------------------------------------------------------------------------------------------

case(
    "HostDown",
    "nothing answers for 30 seconds",
    f"{NODE}  1x4 0x6 1x9\n{OTHER}  1x4 0x6 1x9",
    fires="1m45s 2m45s",
    silent="1m30s 3m",
    labels='host="a", severity="critical", team="infrastructure"',
)
case("HostDown", "something answers", f"{NODE}  0x40\n{OTHER}  1x40", silent="10m")
case("HostDown", "one target alone is no host", f"{NODE}  0x40", silent="10m")
case(
    "HostDown",
    "nor do other public names",
    f'{NODE}  0x40\n{OTHER}  0x40\nup{{job="public",host="a"}}  1x40',
    fires="10m",
)
case(
    "HostDown",
    "what is asked from elsewhere does not count",
    f'{NODE}  0x40\n{OTHER}  0x40\nup{{job="app-public",host="a"}}  1x40',
    fires="10m",
)
case("HostDown", "nor does it make two", f'{NODE}  0x40\nup{{job="app-public",host="a"}}  0x40', silent="10m")
case(
    "HostDown",
    "two targets of nobody's host are none",
    'up{job="own",instance="x"}  0x40\nup{job="own",instance="y"}  0x40',
    silent="10m",
)
case(
    "HostDown",
    "of two hosts only the one",
    f"{NODE}  0x40\n{OTHER}  0x40\n" + f"{NODE}  1x40\n{OTHER}  1x40".replace('"a', '"b'),
    fires="10m",
    labels='host="a"',
)

DISK = 'job="node",instance="a:9100",host="a",device="/dev/sda1",fstype="ext4",mountpoint="/"'
SIZE, AVAIL = f"node_filesystem_size_bytes{{{DISK}}}", f"node_filesystem_avail_bytes{{{DISK}}}"
READONLY = f"node_filesystem_readonly{{{DISK}}}"
for alert, limit, severity, hold, keep in (
    ("DiskSpaceCritical", 10, "critical", 2, 8),
    ("DiskSpaceLow", 20, "warning", 40, 20),
):
    low, ok = limit - 0.2, limit
    case(
        alert,
        f"just below {limit} %",
        f"{SIZE}  100x200\n{AVAIL}  {ok}x4 {low}x60 {ok}x60\n{READONLY}  0x200",
        fires=f"{(5 + hold) * 15}s {(65 + keep) * 15}s",
        silent=f"{(4 + hold) * 15}s {(66 + keep) * 15}s",
        labels=f'host="a", mountpoint="/", severity="{severity}", team="infrastructure"',
    )
    case(alert, f"{limit} % exactly", f"{SIZE}  100x200\n{AVAIL}  {ok}x200", silent="30m")
    case(alert, "read only", f"{SIZE}  100x200\n{AVAIL}  0x200\n{READONLY}  1x200", silent="30m")
    case(alert, "size 0", f"{SIZE}  0x200\n{AVAIL}  0x200", silent="30m")
    case(
        alert,
        "a file system of memory",
        f"{SIZE}  100x200\n{AVAIL}  0x200".replace("ext4", "tmpfs"),
        silent="30m",
    )
for title, begin, pace, moments in (
    # At three hours 38.8 % are left, which last 22.7 hours.
    ("full within a day, seen for three hours", 43930, 28.5, {"fires": "3h30m", "silent": "3h25m"}),
    ("full within 26 hours", 43200, 24, {"silent": "3h30m 4h15m"}),
    ("more than 40 % free", 50000, 36, {"silent": "3h30m 4h"}),
):
    case(
        "DiskFillingUp",
        title,
        f"{SIZE}  100000x180\n{AVAIL}  {begin}-{5 * pace}x180",
        step="5m",
        labels='host="a", mountpoint="/", severity="warning", team="infrastructure"',
        **moments,
    )
case(
    "DiskFillingUp",
    "is over half an hour after an hour without growth",
    f"{SIZE}  100000x180\n{AVAIL}  43930-142.5x60 35380x120",
    step="5m",
    fires="6h 6h20m",
    silent="6h30m",
    naive="predict_linear(node_filesystem_avail_bytes[6h], 86400) < 0",
    naive_fires=True,
)
case(
    "DiskFillingUp",
    "read only",
    f"{SIZE}  100000x180\n{AVAIL}  43930-142.5x180\n{READONLY}  1x180",
    step="5m",
    silent="4h",
)
case("DiskFillingUp", "size 0", f"{SIZE}  0x180\n{AVAIL}  43930-142.5x180", step="5m", silent="4h")
case(
    "DiskFillingUp",
    "a file system of memory",
    f"{SIZE}  100000x180\n{AVAIL}  43930-142.5x180".replace("ext4", "tmpfs"),
    step="5m",
    silent="4h",
)
case(
    "DiskFillingUp",
    "a new disk that gets its first files",
    f"{SIZE}  100000x180\n{AVAIL}  39500-5000x2 29500-5x160",
    step="5m",
    silent="10m 1h 2h",
    naive="predict_linear(node_filesystem_avail_bytes[6h], 86400) < 0",
    naive_fires=True,
)

FILES, FREE = f"node_filesystem_files{{{DISK}}}", f"node_filesystem_files_free{{{DISK}}}"
case(
    "InodesLow",
    "just below 10 %",
    f"{FILES}  1000x200\n{FREE}  100x4 98x60 100x60\n{READONLY}  0x200",
    fires="11m15s 21m15s",
    silent="11m 21m30s",
    labels='host="a", mountpoint="/", severity="warning", team="infrastructure"',
)
case("InodesLow", "10 % exactly", f"{FILES}  1000x200\n{FREE}  100x200", silent="30m")
case("InodesLow", "a file system that counts none", f"{FILES}  0x200\n{FREE}  0x200", silent="30m")
case("InodesLow", "read only", f"{FILES}  1000x200\n{FREE}  0x200\n{READONLY}  1x200", silent="30m")
case("InodesLow", "a file system of memory", f"{FILES}  1000x200\n{FREE}  0x200".replace("ext4", "tmpfs"), silent="30m")

MEMORY = 'job="node",instance="a:9100",host="a"'
ALL, AVAILABLE = f"node_memory_MemTotal_bytes{{{MEMORY}}}", f"node_memory_MemAvailable_bytes{{{MEMORY}}}"
case(
    "MemoryCritical",
    "just above 95 %",
    f"{ALL}  1000x200\n{AVAILABLE}  50x4 49x20 51x60",
    fires="1m45s 8m15s",
    silent="1m30s 8m30s",
    labels='host="a", severity="critical", team="infrastructure"',
)
case("MemoryCritical", "95 % exactly", f"{ALL}  1000x200\n{AVAILABLE}  50x200", silent="30m")
case("MemoryCritical", "no memory at all", f"{ALL}  0x200\n{AVAILABLE}  0x200", silent="30m")
case(
    "MemoryCritical",
    "full of caches that can be dropped",
    f"{ALL}  1000x60\n{AVAILABLE}  600x60\nnode_memory_MemFree_bytes{{{MEMORY}}}  10x60",
    silent="10m",
    naive="1 - node_memory_MemFree_bytes / node_memory_MemTotal_bytes > 0.95",
    naive_fires=True,
)


def cpu(idle: str, wait: str = "0x400", user: str = "0x400") -> str:
    """Return two cores with the same seconds."""
    return "\n".join(
        f'node_cpu_seconds_total{{{MEMORY},cpu="{core}",mode="{mode}"}}  {values}'
        for core in (0, 1)
        for mode, values in (("idle", idle), ("iowait", wait), ("user", user))
    )


case(
    "HighCPU",
    "81 % busy for five minutes, and over five minutes after",
    cpu("0+2.85x120 344.85+15x120", user="0+12.15x120 1458x120"),
    fires="5m15s 35m",
    silent="5m 36m",
    labels='host="a", severity="warning", team="infrastructure"',
)
case("HighCPU", "79 % busy", cpu("0+3.15x120", user="0+11.85x120"), silent="10m 20m")
case(
    "HighCPU",
    "waiting for a disk is not busy",
    cpu("0+1x120", wait="0+14x120"),
    silent="10m 20m",
    naive='100 * (1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[2m]))) > 80',
    naive_for="5m",
    naive_fires=True,
)
case("HighCPU", "a restart of the host", cpu("9000+15x40 0+15x80", user="100+0x40 0+0x80"), silent="5m 10m 12m 20m")

case(
    "ClockSkew",
    "the kernel knows it",
    f"node_timex_offset_seconds{{{MEMORY}}}  0x4 -0.052x44 0x20",
    fires="11m15s 12m15s",
    silent="11m 12m30s",
    labels='host="a", severity="warning", team="infrastructure"',
)
case("ClockSkew", "48 ms", f"node_timex_offset_seconds{{{MEMORY}}}  0.048x100", silent="20m")
case("ClockSkew", "behind Prometheus", f"node_time_seconds{{{MEMORY}}}  -0.052+15x100", fires="20m")
case("ClockSkew", "behind, not by much", f"node_time_seconds{{{MEMORY}}}  -0.048+15x100", silent="20m")
case(
    "ClockSkew",
    "before Prometheus",
    f"node_time_seconds{{{MEMORY}}}  2.052+15x100\nscrape_duration_seconds{{{MEMORY}}}  2x100",
    fires="20m",
)
case(
    "ClockSkew",
    "a slow answer is no wrong clock",
    f"node_time_seconds{{{MEMORY}}}  2.048+15x100\nscrape_duration_seconds{{{MEMORY}}}  2x100",
    silent="20m",
    naive="abs(node_time_seconds - timestamp(node_time_seconds)) > 0.05",
    naive_for="10m",
    naive_fires=True,
)

OOM = f"node_vmstat_oom_kill{{{MEMORY}}}"
case(
    "OOMKill",
    "one",
    f"{OOM}  7x40 8x80",
    fires="10m15s 19m45s",
    silent="10m 20m30s",
    labels='host="a", severity="warning", team="infrastructure"',
)
case("OOMKill", "earlier ones, and a restart", f"{OOM}  7x40 0x80", silent="5m 10m15s 15m")
UNIT = "node_systemd_unit_state{" + MEMORY + ',name="nginx.service",state="%s"}'
case(
    "SystemdUnitFailed",
    "ten minutes",
    f"{UNIT % 'failed'}  0x4 1x44 0x20\n{UNIT % 'active'}  1x4 0x44 1x20",
    fires="11m15s 12m15s",
    silent="11m 12m30s",
    labels='host="a", name="nginx.service", severity="warning", team="infrastructure"',
)
case("SystemdUnitFailed", "an active one", f"{UNIT % 'failed'}  0x100\n{UNIT % 'active'}  1x100", silent="20m")

# -- apps --------------------------------------------------------------------------------------------------------------

APP = 'host="a",project="shop",branch="main",app="shop-main"'
PROBE = f'probe_success{{job="app-health",instance="a:8101",port="8101",{APP}}}'
INFO = f'app_discovery_app_info{{job="app-discovery",instance="a:9810",port="8101",container="shop-main-deploy",{APP}}}'
BLACKBOX = 'up{job="blackbox",instance="a:9115",host="a"}'
case(
    "AppDown",
    "after five minutes, until it answers",
    f"{PROBE}  1x4 0x24 1x20\n{INFO}  1x60\n{BLACKBOX}  1x60",
    fires="6m15s 7m15s",
    silent="6m 7m30s",
    labels='host="a", project="shop", branch="main", app="shop-main", severity="warning", team="applications"',
)
case(
    "AppDown",
    "new, and never seen well: it is being built",
    f"{PROBE}  _x5 0x60\n{INFO}  1x80\n{BLACKBOX}  1x80",
    fires="11m15s",
    silent="6m15s 11m",
    naive='min by (app) (probe_success{job="app-health"}) == 0',
    naive_for="5m",
    naive_fires=True,
)
case(
    "AppDown",
    "new, and another probe of it is good",
    f'{PROBE}  0x60\nprobe_success{{job="app-public",{APP}}}  1x60',
    fires="10m15s",
    silent="9m45s",
)
case(
    "AppDown",
    "new, and its public name is known for long",
    f'{PROBE}  _x40 0x60\nprobe_success{{job="app-public",{APP}}}  0x100',
    silent="16m",
)
case("AppDown", "seen well for a minute, and then it stops", f"{PROBE}  1x4 0x260", fires="6m15s 61m 64m", silent="6m")
case("AppDown", "one good answer between", f"{PROBE}  0x19 1x0 0x19 1x20", silent="5m 9m30s")
case(
    "AppDown", "removed on purpose", f"{PROBE}  1x4 0x4 stale\n{INFO}  1x8 stale\n{BLACKBOX}  1x60", silent="6m15s 10m"
)
case(
    "AppDown",
    "a stopped container has left Docker's list and cAdvisor",
    f'{PROBE}  1x4 0x40\n{INFO}  1x60\n{BLACKBOX}  1x60\ncontainer_last_seen{{host="a",name="shop-main-deploy"}}  0+15x4 stale',
    fires="6m15s",
    silent="6m",
    naive='time() - container_last_seen{name=~".+-deploy"} > 60',
    naive_for="5m",
)
case("AppDown", "wanted, and nobody probes it", f"{INFO}  1x60\n{BLACKBOX}  1x60", fires="5m", silent="4m45s")
case("AppDown", "no blackbox_exporter: it is not known", f"{INFO}  1x60\n{BLACKBOX}  0x60", silent="10m")
case("AppDown", "another exporter does not help", f"{INFO}  1x60\n{NODE}  1x60", silent="10m")
case(
    "AppDown",
    "its public name is another matter",
    f'{PROBE}  1x60\nprobe_success{{job="app-public",{APP}}}  0x60\n{INFO}  1x60\n{BLACKBOX}  1x60',
    silent="10m",
)
case(
    "AppDown",
    "its public name is probed, itself it is not",
    f'probe_success{{job="app-public",{APP}}}  1x60\n{INFO}  1x60\n{BLACKBOX}  1x60',
    fires="10m",
)

REQUESTS = 'http_requests_total{job="%s",instance="a:8101",method="GET",status="%s",' + APP + "}"


def requests(good: str, bad: str, job: str = "app-metrics") -> str:
    """Return an app's requests by their status."""
    return f"{REQUESTS % (job, '200')}  {good}\n{REQUESTS % (job, '503')}  {bad}"


case(
    "AppHighErrorRate",
    "10.5 % for five minutes, and over when it ends",
    requests("0+895x120 107400+1000x80", "0+105x120 12600x80"),
    fires="5m15s 32m15s",
    silent="5m 32m30s",
    labels='app="shop-main", project="shop", severity="warning", team="applications"',
)
case("AppHighErrorRate", "9.5 %", requests("0+905x120", "0+95x120"), silent="10m 20m")
case("AppHighErrorRate", "no requests: no division by nothing", requests("5x120", "5x120"), silent="10m 20m")
case(
    "AppHighErrorRate",
    "nine requests in five minutes",
    requests("0+0.25x120", "0+0.23x120"),
    silent="10m 20m",
    naive='sum(rate(http_requests_total{status=~"5.."}[5m])) / sum(rate(http_requests_total[5m])) > 0.1',
    naive_for="5m",
    naive_fires=True,
)
case("AppHighErrorRate", "eleven requests in five minutes", requests("0+0.27x120", "0+0.27x120"), fires="10m")
case("AppHighErrorRate", "somebody else's requests", requests("0+1x120", "0+100x120", job="own"), silent="10m 20m")
case(
    "AppHighErrorRate",
    "answers with 404 are the visitors' errors",
    requests("0+100x120", "0+100x120").replace("503", "404"),
    silent="10m 20m",
)

RESTARTS = f'app_discovery_container_restarts{{job="app-discovery",instance="a:9810",{APP}}}'
STARTED = 'container_start_time_seconds{job="cadvisor",instance="a:8080",host="a",name="%s",id="%s"}'
case(
    "ContainerRestartLoop",
    "three restarts, as the engine counts them",
    f"{RESTARTS}  1x40 2x3 3x3 4x100\n{INFO}  1x160",
    fires="12m15s 24m",
    silent="12m 26m",
    labels='app="shop-main", project="shop", container="shop-main-deploy", severity="info", team="applications"',
    naive="container_spec_restart_policy_always == 1 and changes(container_start_time_seconds[15m]) > 2",
)
case("ContainerRestartLoop", "two restarts", f"{RESTARTS}  1x40 2x3 3x100\n{INFO}  1x160", silent="12m 20m")
case(
    "ContainerRestartLoop",
    "an older cAdvisor sends the time of creation",
    f"{RESTARTS}  1x40 2x3 3x3 4x100\n{INFO}  1x160\n{STARTED % ('shop-main-deploy', 'x')}  100x160",
    fires="12m15s",
    silent="12m",
    naive="changes(container_start_time_seconds[15m]) > 2",
)
case(
    "ContainerRestartLoop",
    "three restarts by hand, which the engine does not count",
    f"{RESTARTS}  0x160\n{INFO}  1x160\n{STARTED % ('shop-main-deploy', 'x')}  100x40 700x3 760x3 820x100",
    fires="12m15s",
    silent="12m",
    naive="increase(app_discovery_container_restarts[15m]) > 2.5",
)
case(
    "ContainerRestartLoop",
    "a container of the platform, no app",
    f"{STARTED % ('tunnel-manager', 'x')}  100x40 700x3 760x3 820x100",
    fires="12m15s",
    silent="12m",
    labels='container="tunnel-manager"',
)
case(
    "ContainerRestartLoop",
    "what has no name is no container",
    f"{STARTED % ('', 'x')}  100x40 700x3 760x3 820x100",
    silent="12m15s",
)
case(
    "ContainerRestartLoop",
    "deployed anew every three minutes: each is a new container",
    f"{INFO}  1x160\n"
    + "\n".join(
        f"{STARTED % ('shop-main-deploy', number)}  _x{12 * number} {180 * number}x12 stale" for number in range(5)
    ),
    silent="14m 20m",
    naive="changes(max without (id) (container_start_time_seconds)[15m:15s]) > 2",
    naive_fires=True,
)
case(
    "ContainerRestartLoop",
    "the engine's count begins again with a new container",
    f"{RESTARTS}  9x40 0x100\n{INFO}  1x160",
    silent="10m15s 20m",
)

PUBLIC = f'probe_success{{job="app-public",instance="x",hostname="shop.example.com",{APP}}}'
case(
    "AppPublicNameDown",
    "the name alone",
    f"{PUBLIC}  1x4 0x24 1x20\n{PROBE}  1x60",
    fires="6m15s 7m15s",
    silent="6m 7m30s",
    labels='hostname="shop.example.com", severity="warning", team="applications"',
)
case("AppPublicNameDown", "the app too", f"{PUBLIC}  0x60\n{PROBE}  0x60", silent="10m")
case(
    "AppPublicNameDown",
    "another probe says nothing of the app",
    f'{PUBLIC}  0x60\nprobe_success{{job="own",{APP}}}  0x60',
    fires="10m",
)
case("AppPublicNameDown", "not of a service", f"{HEALTH}  0x60", silent="10m")
case(
    "CertificateExpiry",
    "14 days, for an hour",
    f'probe_ssl_earliest_cert_expiry{{job="app-public",hostname="x",host="a"}}  {14 * DAY + 600}x200 {90 * DAY}x60',
    step="1m",
    fires="1h11m",
    silent="1h10m 3h22m",
    labels='hostname="x", severity="warning", team="infrastructure"',
)
case(
    "CertificateExpiry",
    "of the stack's own names, too",
    f'probe_ssl_earliest_cert_expiry{{job="public",instance="https://x/",hostname="x",host="a"}}  {7 * DAY}x200',
    step="1m",
    fires="1h",
    labels='hostname="x", severity="warning", team="infrastructure"',
)
case(
    "CertificateExpiry",
    "15 days",
    f'probe_ssl_earliest_cert_expiry{{job="app-public",hostname="x",host="a"}}  {15 * DAY}x200',
    step="1m",
    silent="3h",
)


# -- objectives --------------------------------------------------------------------------------------------------------

BURNS = {
    "fast": [("1h", "5m", 14.4), ("6h", "30m", 6)],
    "slow": [("1d", "2h", 3), ("3d", "6h", 1)],
}
# Window → a step, the moment when it is full, and the steps until then.
BEFORE = {"1h": ("90s", "1h", 40), "6h": ("10m", "6h", 36), "1d": ("40m", "24h", 36), "3d": ("2h", "72h", 36)}


def history(series: str, values: str, probe: str = "1x2500") -> str:
    """Return the short window, the ratio of five minutes that shows an app's age, and its probe."""
    found = [f"{series}  {values}"]
    if not series.startswith("app:up:ratio5m"):
        found.append(f"app:up:ratio5m{{{APP}}}  {'_ ' if values.startswith('_') else ''}1x2500")
    return "\n".join(found + [f"{PROBE}  {probe}"] * bool(probe))


for window, pairs in BURNS.items():
    for long, short, factor in pairs:
        for what, more, less, failures, fires in (
            ("fires", 1.05, 1.05, 3, True),
            ("the long window is within its limits", 0.95, 1.05, 3, False),
            ("the short window is within its limits", 1.05, 0.95, 3, False),
            ("two failures are no statistics", 1.05, 1.05, 2, False),
        ):
            moments = {"fires": "1m", "silent": "45s"} if fires else {"silent": "1m"}
            case(
                "DeploymentSuccessBudgetBurn",
                f"{long} and {short}: {what}",
                f'deployment:success:ratio{long}{{host="a"}}  {1 - factor * 0.05 * more:.6f}x9\n'
                f'deployment:success:ratio{short}{{host="a"}}  {1 - factor * 0.05 * less:.6f}x9\n'
                f'deployment:failures:increase{long}{{host="a"}}  {failures}x9',
                alone=True,
                labels=f'host="a", window="{window}", severity="warning", team="deployment"',
                **moments,
            )
            if failures == 2:
                continue
            step, moment, samples = BEFORE[long]
            for age, older in (("", True), (", and the app is a little younger", False))[: 1 + fires]:
                case(
                    "AppUptimeBudgetBurn",
                    f"{long} and {short}: {what}{age}",
                    f"app:up:ratio{long}{{{APP}}}  {1 - factor * 0.005 * more:.6f}x{samples}\n"
                    + history(
                        f"app:up:ratio{short}{{{APP}}}",
                        f"{'' if older else '_ '}{1 - factor * 0.005 * less:.6f}x{samples}",
                    ),
                    alone=True,
                    step=step,
                    labels=f'app="shop-main", window="{window}", severity="warning", team="applications"',
                    **({"fires": moment} if fires and older else {"silent": moment}),
                )
    long, short = pairs[0][:2]
    bad = (
        f'deployment:success:ratio{long}{{host="a"}}  0x120\ndeployment:success:ratio{short}{{host="a"}}  0x20 1x100\n'
    )
    bad += f'deployment:failures:increase{long}{{host="a"}}  3x120'
    case(
        "DeploymentSuccessBudgetBurn",
        f"{window}: goes on for 15 minutes",
        bad,
        alone=True,
        fires="20m",
        silent="20m15s",
        labels=f'window="{window}"',
    )
    case(
        "DeploymentSuccessBudgetBurn",
        f"{window}: DeploymentFailures fires half a minute later",
        f'{bad}\nALERTS{{alertname="DeploymentFailures",alertstate="firing",host="a"}}  _x2 1x120',
        alone=True,
        silent="30s 1m 10m",
    )
    for state, name, fires in (
        ("firing", "DeploymentFailures", False),
        ("pending", "DeploymentFailures", True),
        ("firing", "HighCPU", True),
    ):
        case(
            "DeploymentSuccessBudgetBurn",
            f"{window}: {name} is {state}",
            f'{bad}\nALERTS{{alertname="{name}",alertstate="{state}",host="a"}}  1x120',
            alone=True,
            labels=f'window="{window}"',
            **({"fires": "10m"} if fires else {"silent": "10m"}),
        )
    # Four steps are 15 minutes, and one more or less is what the mutants make of them.
    steps = {"fast": 16, "slow": 384}[window]
    case(
        "AppUptimeBudgetBurn",
        f"{window}: goes on for 15 minutes",
        f"app:up:ratio{long}{{{APP}}}  0x{2 * steps}\n"
        + history(f"app:up:ratio{short}{{{APP}}}", f"0x{steps + 1} 1x{steps}"),
        alone=True,
        step="225s",
        fires=f"{225 * (steps + 5)}s",
        silent=f"{225 * (steps + 6)}s",
        labels=f'window="{window}"',
    )
    step, moment, samples = BEFORE[long]
    bad = f"app:up:ratio{long}{{{APP}}}  0x99\n" + history(f"app:up:ratio{short}{{{APP}}}", "0x99", probe="")
    for state, name, fires in (("firing", "AppDown", False), ("pending", "AppDown", True), ("firing", "HighCPU", True)):
        case(
            "AppUptimeBudgetBurn",
            f"{window}: {name} is {state}",
            f'{bad}\n{PROBE}  1x99\nALERTS{{alertname="{name}",alertstate="{state}",{APP}}}  1x99',
            alone=True,
            step=step,
            labels=f'window="{window}"',
            **({"fires": moment} if fires else {"silent": moment}),
        )
    case(
        "AppUptimeBudgetBurn",
        f"{window}: down right now, which is AppDown's",
        f"{bad}\n{PROBE}  0x99",
        alone=True,
        step=step,
        silent=moment,
    )
    case(
        "AppUptimeBudgetBurn",
        f"{window}: its public name is another matter",
        f'{bad}\n{PROBE}  1x99\nprobe_success{{job="app-public",{APP}}}  0x99',
        alone=True,
        step=step,
        fires=moment,
        labels=f'window="{window}"',
    )
case(
    "DeploymentSuccessBudgetBurn",
    "three failures in an hour, too slow for DeploymentFailures",
    f"{TOTAL}  40x19 41x14 42x14 43x100\n{GOOD}  38x200",
    step="1m",
    fires="51m 1h33m",
    silent="50m 1h34m",
    labels='window="fast"',
)
case(
    "DeploymentSuccessBudgetBurn",
    "three failures at once are DeploymentFailures'",
    f"{TOTAL}  40x19 41 42 43x100\n{GOOD}  38x200",
    step="1m",
    silent="22m 25m 50m",
)
case(
    "DeploymentSuccessBudgetBurn", "no deployment at all", f"{TOTAL}  40x200\n{GOOD}  38x200", step="1m", silent="1h 3h"
)
case(
    "AppUptimeBudgetBurn",
    "down every fifth minute: too short for AppDown",
    f"{PROBE}  " + "1x3 0 " * 24 + "1x60",
    step="1m",
    fires="2h",
    silent="4m",
    labels='window="fast"',
    naive='probe_success{job="app-health"} == 0',
    naive_for="5m",
)
case(
    "AppUptimeBudgetBurn",
    "a new app that fails its first three probes",
    f"{PROBE}  _x8 0x2 1x60",
    silent="5m 12m",
    naive="(1 - avg_over_time(probe_success[1h])) / 0.005 > 14.4 and (1 - avg_over_time(probe_success[5m])) / 0.005 > 14.4",
    naive_fires=True,
)
case(
    "AppUptimeBudgetBurn",
    "an outage that AppDown tells",
    f"{PROBE}  1x60 0x30 1x60",
    step="1m",
    silent="1h20m 1h40m 1h50m 2h",
)

MEAN = "alerts:time_to_recover_seconds:avg30d{}"
case(
    "TimeToRecoverHigh",
    "31 minutes, and an incident today",
    f'{MEAN}  1860x20\nalert:started{{alertname="HostDown",severity="critical"}}  1 _x40',
    alone=True,
    fires="1m",
    labels='severity="info", team="infrastructure"',
)
case(
    "TimeToRecoverHigh",
    "29 minutes",
    f'{MEAN}  1740x20\nalert:started{{alertname="HostDown",severity="critical"}}  1 _x40',
    alone=True,
    silent="1m",
)
case(
    "TimeToRecoverHigh",
    "only a warning today",
    f'{MEAN}  1860x20\nalert:started{{alertname="HighCPU",severity="warning"}}  1 _x40',
    alone=True,
    silent="1m",
)
case("TimeToRecoverHigh", "nothing today", f"{MEAN}  1860x20", alone=True, silent="1m")

# -- what is recorded --------------------------------------------------------------------------------------------------


def record(
    rule: str,
    title: str,
    series: str,
    values: dict[str, float],
    at: str = "10m",
    tolerance: float = 0.001,
    **rest: object,
) -> None:
    """Add a case of a recording rule, read at one moment and rounded to a tolerance."""
    case(rule, title, series, values={f"round({rule}, {tolerance})": {at: values}}, **rest)


HOST = '{host="a"}'
SHOP = "{" + APP + "}"
record(
    "port_manager:port_utilization:ratio",
    "a third",
    f"port_manager_total_allocations{{{PORTS}}}  300x60\nport_manager_available_ports{{{PORTS}}}  600x60",
    {HOST: 0.333},
)
record(
    "port_manager:port_utilization:ratio",
    "no ports at all: no division by nothing",
    f"port_manager_total_allocations{{{PORTS}}}  0x60\nport_manager_available_ports{{{PORTS}}}  0x60",
    {},
)
# Window → the step that makes 40 samples of it, or so.
STEPS = {
    "5m": "15s",
    "10m": "15s",
    "30m": "45s",
    "1h": "90s",
    "2h": "3m",
    "6h": "10m",
    "1d": "40m",
    "3d": "2h",
    "30d": "20h",
}
for window, step in STEPS.items():
    samples = 20 if window == "5m" else 40
    moment = {"30d": "720h"}.get(window, window)
    half = samples // 2
    here = f"up{{{API}}}  1x{samples}"
    grow = f"{TOTAL}  40x{half} 44x{samples}\n{GOOD}  38x{half} 40x{samples}\n{here}"
    bad = f"{BAD}  2x{half} 4x{samples}"
    born = f"{TOTAL}  _x{half} 3x{samples}\n{GOOD}  _x{half} 1x{samples}"
    for title, series, failures, ratio in (
        ("two of four, older build", grow, {HOST: 2}, {HOST: 0.5}),
        ("two of four, newer build", f"{grow}\n{bad}", {HOST: 2}, {HOST: 0.5}),
        ("two, and nothing but their counter", f"{bad}\n{here}", {HOST: 2}, {}),
        ("no deployment, no ratio", f"{TOTAL}  40x{samples}\n{GOOD}  38x{samples}\n{here}", {HOST: 0}, {}),
        ("born with two of three, older build", f"{born}\n{here}", {HOST: 2}, {HOST: 1 / 3}),
        ("born with two, newer build", f"{BAD}  _x{half} 2x{samples}\n{here}", {HOST: 2}, {}),
        ("old ones after an outage", f"{born}\nup{{{API}}}  0x{half} 1x{samples}", {HOST: 0}, {}),
        (
            "old ones after an outage, newer build",
            f"{BAD}  _x{half} 2x{samples}\nup{{{API}}}  0x{half} 1x{samples}",
            {HOST: 0},
            {},
        ),
    ):
        record(f"deployment:failures:increase{window}", title, series, failures, at=moment, step=step, tolerance=0.5)
        ratio = {labels: round(value, 1) for labels, value in ratio.items()}
        record(f"deployment:success:ratio{window}", title, series, ratio, at=moment, step=step, tolerance=0.1)
    if window == "10m":
        continue
    up = f"{PROBE}  1x{half} 0x{samples}"
    record(f"app:up:ratio{window}", "half of it", up, {SHOP: 0.5}, at=moment, step=step, tolerance=0.25)
    record(
        f"app:up:ratio{window}",
        "its public name is another matter",
        f'probe_success{{job="app-public",{APP}}}  0x{2 * samples}',
        {},
        at=moment,
        step=step,
    )
for window in ("1d", "3d", "30d"):
    record(f"app:up:ratio{window}", "removed on purpose", f"{PROBE}  1x60 stale _x100", {}, at="2h", step="1m")
    record(
        f"app:up:ratio{window}",
        "removed, and its public name is still asked",
        f'{PROBE}  1x60 stale _x100\nprobe_success{{job="app-public",{APP}}}  0x200',
        {},
        at="2h",
        step="1m",
    )
record(
    "apps:up:ratio30d",
    "those that are gone count by their time",
    f"{PROBE}  1x29 stale _x100\n" + f"{PROBE}  0x89".replace("shop", "blog"),
    {"{}": 0.25},
    at="1h29m",
    step="1m",
    tolerance=0.05,
)
for rule, busy in (("host:cpu_utilization:ratio2m", 0.4), ("host:cpu_utilization:ratio5m", 0.4)):
    record(rule, "40 %", cpu("0+8x60", wait="0+1x60", user="0+6x60"), {HOST: busy})
RAM = "{" + MEMORY + "}"
record("host:memory_utilization:ratio", "60 %", f"{ALL}  1000x60\n{AVAILABLE}  400x60", {RAM: 0.6})
record("host:memory_utilization:ratio", "none", f"{ALL}  0x60\n{AVAILABLE}  0x60", {})
record("host:disk_utilization:ratio", "60 %", f"{SIZE}  1000x60\n{AVAIL}  400x60", {"{" + DISK + "}": 0.6})
record("host:disk_utilization:ratio", "none", f"{SIZE}  0x60\n{AVAIL}  0x60", {})
record("host:disk_utilization:ratio", "of memory", f"{SIZE}  9x60\n{AVAIL}  4x60".replace("ext4", "tmpfs"), {})
PHASE = 'probe_http_duration_seconds{job="%s",instance="%s",host="a",phase="%s"}'
record(
    "host:network_latency_seconds:p95",
    "resolve, connect and TLS, not the answer",
    f"{PHASE % ('health', 'x', 'resolve')}  0.01x60\n{PHASE % ('health', 'x', 'connect')}  0.02x60\n"
    f"{PHASE % ('health', 'x', 'tls')}  0.03x60\n{PHASE % ('health', 'x', 'processing')}  5x60\n"
    f"{PHASE % ('own', 'y', 'connect')}  9x60",
    {HOST: 0.06},
)
record(
    "mongodb:op_latency_seconds:avg5m",
    "2 ms",
    f"{LATENCY}  0+30000x60\n{OPS}  0+15x60",
    {'{host="a", op_type="reads"}': 0.002},
    tolerance=0.0001,
)
record("mongodb:op_latency_seconds:avg5m", "idle", f"{LATENCY}  5x60\n{OPS}  5x60", {})
record("app:http_requests:rate5m", "of all kinds", requests("0+15x60", "0+15x60"), {SHOP: 2})
record("app:http_requests:rate5m", "of its own job", requests("0+15x60", "0+15x60", job="own"), {})
record("app:http_errors:ratio5m", "a quarter", requests("0+15x60", "0+5x60"), {SHOP: 0.25})
record("app:http_errors:ratio5m", "none yet", f"{REQUESTS % ('app-metrics', '200')}  0+15x60", {SHOP: 0})
record("app:http_errors:ratio5m", "idle", requests("5x60", "5x60"), {})
record(
    "app:http_errors:ratio5m",
    "of its own job",
    requests("0+15x60", "0+0x60") + "\n" + requests("0+15x60", "0+15x60", job="own"),
    {SHOP: 0},
)
TIMES = 'http_request_duration_seconds_bucket{job="%s",le="%s",' + APP + "}"
record(
    "app:http_request_duration_seconds:p95_5m",
    "95 of 100 within 0.1 s",
    f"{TIMES % ('app-metrics', '0.1')}  0+95x60\n{TIMES % ('app-metrics', '+Inf')}  0+100x60\n{TIMES % ('own', '5')}  0+900x60\n{TIMES % ('own', '+Inf')}  0+900x60",
    {SHOP: 0.1},
)
record(
    "app:http_request_duration_seconds:p95_5m",
    "idle: no NaN",
    f"{TIMES % ('app-metrics', '0.1')}  5x60\n{TIMES % ('app-metrics', '+Inf')}  5x60",
    {},
)
for window, moment in (("15m", "15m"), ("1d", "20m")):
    rule = f"container:restarts:increase{window}"
    record(
        rule,
        "whichever saw more",
        f"{RESTARTS}  1x30 2x60\n{INFO}  1x90\n{STARTED % ('shop-main-deploy', 'x')}  10x30 400x5 500x60\n"
        f"{STARTED % ('mongo', 'x')}  10x30 400x60\n{STARTED % ('', 'x')}  10x30 400x60",
        {"{" + APP + ', container="shop-main-deploy"}': 2, '{host="a", container="mongo"}': 1},
        at=moment,
        tolerance=0.1,
    )
    case(
        rule,
        "two of one name are one app, and do not hide the others",
        f"{RESTARTS}  1x30 2x60\n{INFO}  1x90\n"
        + f"{INFO}  1x90\n".replace('project="shop",branch="main"', 'project="sho",branch="p-main"')
        + f"{RESTARTS}  1x30 3x60\n{INFO}  1x90".replace("shop", "blog"),
        values={f"round(sum by (app) ({rule}), 0.1)": {moment: {'{app="shop-main"}': 1, '{app="blog-main"}': 2}}},
    )
    record(
        f"container:restarts_seen:increase{window}",
        "whichever saw more",
        f"{RESTARTS}  1x30 2x60\n{STARTED % ('shop-main-deploy', 'x')}  10x30 400x5 500x60\n"
        f"{STARTED % ('', 'x')}  10x30 400x60",
        {'{host="a", container="shop-main-deploy", app="shop-main"}': 2},
        at=moment,
        tolerance=0.1,
    )
    record(
        f"container:restarts_seen:increase{window}",
        "by the engine alone",
        f"{RESTARTS}  1x30 3x60",
        {'{host="a", container="shop-main-deploy", app="shop-main"}': 2},
        at=moment,
        tolerance=0.1,
    )
record(
    "deployment:duration_seconds:avg1h",
    "from the sum",
    f"{BUCKET % '60'}  1x240\n{BUCKET % '300'}  2x120 4x240\n{BUCKET % '+Inf'}  2x120 4x240\n{SUM}  300x120 700x240\n"
    + f"{SUM}  2x120 4x240".replace("_sum", "_count"),
    {HOST: 200},
    at="1h",
    tolerance=1,
)
for limits in (("60", "300"), ("60.0", "300.0")):
    record(
        "deployment:duration_seconds:avg1h",
        f"estimated from the buckets {limits[1]}",
        # One of each: 30, 180 and 450 s.
        f"{BUCKET % limits[0]}  1x120 2x240\n{BUCKET % limits[1]}  2x120 4x240\n{BUCKET % '+Inf'}  2x120 5x240",
        {HOST: 220},
        at="1h",
        tolerance=1,
    )
record(
    "deployment:duration_seconds:avg1h",
    "no deployment",
    f"{BUCKET % '60'}  1x300\n{BUCKET % '300'}  2x300\n{BUCKET % '+Inf'}  2x300\n{SUM}  300x300\n"
    + f"{SUM}  2x300".replace("_sum", "_count"),
    {},
    at="1h",
)
record(
    "deployment:duration_seconds:p95",
    "within the last bucket: its begin",
    f"{BUCKET % '60.0'}  1x120 2x240\n{BUCKET % '300.0'}  2x120 3x240\n{BUCKET % '+Inf'}  2x120 5x240",
    {HOST: 300},
    at="1h",
)
record("deployment:duration_seconds:p95", "none", f"{BUCKET % '60.0'}  1x240\n{BUCKET % '+Inf'}  2x240", {}, at="1h")
COVERED = (
    "\n".join(f'probe_success{{job="health",host="a",service="{name}"}}  0x60' for name in "xyz")
    + f'\n{MONGO}  0x60\n{NODE}  1x60\nprobe_success{{job="own"}}  1x60\n{OTHER}  1x60'
)
record("monitoring:coverage:ratio", "all of it, though it is down", COVERED, {"{}": 1})
record(
    "monitoring:coverage:ratio",
    "no MongoDB, no node",
    COVERED.replace("mongodb_up", "x").replace("1x60", "0x60"),
    {"{}": 0.6},
)
record("monitoring:coverage:ratio", "nothing", 'up{job="x"}  1x60', {"{}": 0})
OLDEST = 'prometheus_tsdb_lowest_timestamp_seconds{job="prometheus"}'
record("monitoring:metrics_retention_seconds", "8 minutes", f"{OLDEST}  120x60", {"{}": 480})
record("monitoring:metrics_retention_seconds", "nothing yet", f"{OLDEST}  9223372036854775x60", {})
record("monitoring:metrics_retention_seconds", "empty", f"{OLDEST}  0x60", {})

FIRING = 'alertname="%s",alertstate="%s",severity="%s",team="t",host="a"'
CRITICAL = '{alertname="HostDown", severity="critical", team="t", host="a"}'
record(
    "alert:firing",
    "what people are told",
    "\n".join(
        f"ALERTS{{{FIRING % triple}}}  1x60"
        for triple in (
            ("HostDown", "firing", "critical"),
            ("HighCPU", "pending", "warning"),
            ("Watchdog", "firing", "none"),
            ("MongoDBSlow", "firing", "info"),
        )
    ),
    {CRITICAL: 1},
)
DOWN = f"ALERTS{{{FIRING % ('HostDown', 'firing', 'critical')}}}"
# Fires from 5 to 8 minutes, again from 12 to 30, and from 60 to 70.
INCIDENTS = f"{DOWN}  _x5 1x3 stale _x3 1x18 stale _x28 1x10 stale _x60"
case(
    "alert:started",
    "again within ten minutes is the same incident",
    INCIDENTS,
    step="1m",
    values={"count_over_time(alert:started[3h])": {"2h": {CRITICAL: 2}}},
)
case(
    "alert:short",
    "three minutes, and then longer",
    INCIDENTS,
    step="1m",
    values={"count_over_time(alert:short[3h])": {"2h": {CRITICAL: 1}}},
)
case(
    "alert:short",
    "five minutes are not short",
    f"{DOWN}  _x5 1x4 stale _x40",
    step="1m",
    values={"count_over_time(alert:short[1h])": {"40m": {}}},
)
SUPPRESSED = 'alertmanager_alerts{job="alertmanager",state="%s"}'
record("alerts:unanswered:count", "nobody has acted", f"{DOWN}  1x60", {"{}": 1})
record(
    "alerts:unanswered:count",
    "silenced",
    f"{DOWN}  1x60\n{SUPPRESSED % 'suppressed'}  1x60\n{SUPPRESSED % 'active'}  5x60",
    {"{}": 0},
)
record(
    "alerts:unanswered:count",
    "more are silenced than we know",
    f"{DOWN}  1x60\n{SUPPRESSED % 'suppressed'}  3x60",
    {"{}": 0},
)
record(
    "alerts:unanswered:count", "active ones are not silenced", f"{DOWN}  1x60\n{SUPPRESSED % 'active'}  1x60", {"{}": 1}
)
record(
    "alerts:time_to_recover_seconds:avg30d",
    "two incidents, 34 minutes",
    INCIDENTS + f"\nALERTS{{{FIRING % ('HighCPU', 'firing', 'warning')}}}  1x100",
    {"{}": 1020},
    at="3h",
    step="1m",
    tolerance=60,
)
record("alerts:time_to_recover_seconds:avg30d", "none", f"{NODE}  1x60", {}, step="1m")
record(
    "alerts:response_time_seconds:avg30d",
    "ten of 20 minutes until it was silenced",
    f"{DOWN}  1x20 stale _x60\n{SUPPRESSED % 'suppressed'}  0x9 1x60",
    {"{}": 600},
    at="1h",
    step="1m",
    tolerance=60,
)
record("alerts:response_time_seconds:avg30d", "none", f"{NODE}  1x60", {}, step="1m")
record("alerts:false_positive:ratio30d", "one of two", INCIDENTS, {"{}": 0.5}, at="3h", step="1m")
record("alerts:false_positive:ratio30d", "none of one", f"{DOWN}  1x60", {"{}": 0}, at="30m", step="1m")
record("alerts:false_positive:ratio30d", "no alert", f"{NODE}  1x60", {}, step="1m")
case(
    "alerts:false_positive:ratio30d",
    "flapping is no more than all",
    f"{DOWN}  " + "1 stale _x2 " * 6 + "_x30",
    step="1m",
    values={"round(alerts:false_positive:ratio30d, 0.001)": {"50m": {"{}": 1}}},
)
case(
    "slo:error_budget_remaining:ratio",
    "half is left of both",
    f'deployment:success:ratio30d{{host="a"}}  0.975x60\napp:up:ratio30d{{{APP}}}  0.9975x60',
    alone=True,
    values={
        "round(slo:error_budget_remaining:ratio, 0.001)": {
            "10m": {
                '{host="a", slo="deployment-success"}': 0.5,
                f'{{{APP}, slo="app-uptime"}}': 0.5,
            }
        }
    },
)
