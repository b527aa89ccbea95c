"""The limits that panels are coloured by: the alerts' own variables, and the mission's objectives that no alert has."""

from __future__ import annotations

from .kit import limit

PORTS = limit("prometheus_alert_ports_percent", 0.01)
DEPLOYMENT_SUCCESS = limit("prometheus_alert_deployment_success_objective_percent", 0.01)
SLOW_DEPLOYMENT_SECONDS = limit("prometheus_alert_deployment_duration_seconds")
APP_UPTIME = limit("prometheus_alert_app_uptime_objective_percent", 0.01)
APP_ERRORS = limit("prometheus_alert_app_errors_percent", 0.01)
RECOVERY_SECONDS = limit("prometheus_alert_time_to_recover_seconds")
CPU = limit("prometheus_alert_cpu_percent", 0.01)
MEMORY_CRITICAL = limit("prometheus_alert_memory_percent", 0.01)
# Alerts speak of what is free, panels of what is used.
DISK = limit("prometheus_alert_disk_free_low_percent", -0.01, 1)
DISK_CRITICAL = limit("prometheus_alert_disk_free_critical_percent", -0.01, 1)
INODES = limit("prometheus_alert_inodes_free_percent", -0.01, 1)
CLOCK_SECONDS = limit("prometheus_alert_clock_skew_seconds")
MONGODB_SECONDS = limit("prometheus_alert_mongodb_latency_seconds")
CERTIFICATE_DAYS = limit("prometheus_alert_tls_left_days")
BACKUP_SECONDS = limit("prometheus_alert_backup_age_seconds")

# Objectives of the mission without an alert.
DEPLOYMENT_SECONDS = 300
MEMORY = 0.85
NETWORK_SECONDS = 0.1
RESTARTS_A_DAY = 2
RESPONSE_SECONDS = 900
FALSE_POSITIVES = 0.05
COVERAGE = 1
METRICS_RETENTION_SECONDS = 30 * 86400
LOGS_RETENTION_DAYS = 7
