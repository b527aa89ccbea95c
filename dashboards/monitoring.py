"""monitoring-main: the stack watches itself."""

from __future__ import annotations

from . import limits
from .deployment import STACK
from .kit import (
    BLUE,
    Board,
    bars,
    curves,
    falling,
    host,
    lines,
    log_lines,
    most,
    now,
    number,
    over_time,
    rising,
    say,
    to_logs,
)
from .logs import lost

UID = "monitoring-main"
HOST = 'host=~"$host"'
RATE = "[$__rate_interval]"


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Monitoring itself", "La supervision elle-même"),
        say(
            "The stack watches itself: targets, cardinality, ingestion, disk, rules, notifications, logs.",
            "La pile se surveille : cibles, cardinalité, ingestion, disque, règles, notifications, logs.",
        ),
        host(),
    )
    _summary(board)
    _prometheus(board)
    _alerting(board)
    _logs(board)
    _operations(board)
    _resources(board)
    return board


def _summary(board: Board) -> None:
    board.row(say("At a glance", "En un coup d'œil"))
    none = say("Prometheus gives no metrics", "Prometheus ne donne pas de métriques")
    for title, description, expr, unit, steps, missing in (
        (
            say("Targets down", "Cibles en panne"),
            say("Targets that Prometheus cannot scrape now.", "Cibles que Prometheus ne peut lire maintenant."),
            f"count(up{{{HOST}}} == 0) or 0 * count(up{{{HOST}}})",
            "none",
            rising(1),
            none,
        ),
        (
            say("Series", "Séries"),
            say("Series that Prometheus holds in memory.", "Séries que Prometheus tient en mémoire."),
            f"sum(prometheus_tsdb_head_series{{{HOST}}})",
            "short",
            BLUE,
            none,
        ),
        (
            say("Samples a second", "Échantillons par seconde"),
            say("What Prometheus takes in.", "Ce que Prometheus reçoit."),
            f"sum(rate(prometheus_tsdb_head_samples_appended_total{{{HOST}}}[5m]))",
            "cps",
            BLUE,
            none,
        ),
        (
            say("Disk of the metrics", "Disque des métriques"),
            say(
                "Blocks on disk; the write-ahead log comes on top.",
                "Blocs sur disque ; le journal d'écriture s'y ajoute.",
            ),
            f"sum(prometheus_tsdb_storage_blocks_bytes{{{HOST}}})",
            "bytes",
            BLUE,
            none,
        ),
        (
            say("Oldest metric", "Plus vieille métrique"),
            say("How far back metrics reach.", "Jusqu'où remontent les métriques."),
            f"time() - min(prometheus_tsdb_lowest_timestamp_seconds{{{HOST}}})",
            "s",
            BLUE,
            none,
        ),
        (
            say("Configuration in force", "Configuration en vigueur"),
            say(
                "Share of the programs whose last reload succeeded.",
                "Part des programmes dont le dernier rechargement a réussi.",
            ),
            f"avg(prometheus_config_last_reload_successful{{{HOST}}} or "
            f"alertmanager_config_last_reload_successful{{{HOST}}})",
            "percentunit",
            falling(1),
            none,
        ),
        (
            say("Apps found", "Apps trouvées"),
            say("Apps that the discovery knows.", "Apps que la découverte connaît."),
            f"sum(app_discovery_apps{{{HOST}}})",
            "none",
            BLUE,
            say("no discovery runs", "pas de découverte"),
        ),
        (
            say("Discovery: oldest source", "Découverte : source la plus vieille"),
            say(
                "How long ago the Port Manager and Docker were last asked with success.",
                "Depuis quand le Port Manager et Docker ont répondu la dernière fois.",
            ),
            f"time() - min(app_discovery_source_last_success_timestamp_seconds{{{HOST}}})",
            "s",
            rising(120, 300),
            say("no discovery runs", "pas de découverte"),
        ),
    ):
        board.add(number(title, description, now(expr), unit=unit, steps=steps, no_value=missing), 3, 5)


def _prometheus(board: Board) -> None:
    board.row("Prometheus")
    slowest = most(10, f"max by (rule_group) (prometheus_rule_group_last_duration_seconds{{{HOST}}})", "rule_group")
    board.add(
        bars(
            say("Samples by job", "Échantillons par job"),
            say(
                "Series that each job's last scrape brought: who fills the store.",
                "Séries apportées par la dernière lecture de chaque job : qui remplit la base.",
            ),
            now(f"topk(15, sum by (job) (scrape_samples_post_metric_relabeling{{{HOST}}}))", "{{job}}"),
            unit="short",
            steps=BLUE,
        ),
        6,
        9,
    )
    board.add(
        curves(
            say("Series and their coming and going", "Séries, arrivées et départs"),
            say(
                "Series in memory, and how many new ones a second: apps that come and go make new ones.",
                "Séries en mémoire, et combien de nouvelles par seconde : les apps qui vont et viennent en créent.",
            ),
            over_time(f"sum(prometheus_tsdb_head_series{{{HOST}}})", say("series", "séries")),
            over_time(
                f"sum(increase(prometheus_tsdb_head_series_created_total{{{HOST}}}{RATE}))",
                say("new in the interval", "nouvelles dans l'intervalle"),
            ),
            unit="short",
        ),
        6,
        9,
    )
    board.add(
        curves(
            say("Slowest scrapes", "Lectures les plus lentes"),
            say(
                "How long the slowest target of each job takes to answer; a scrape longer than its interval is lost.",
                "Le temps de la cible la plus lente de chaque job ; une lecture plus longue que l'intervalle est "
                "perdue.",
            ),
            over_time(most(10, f"max by (job) (scrape_duration_seconds{{{HOST}}})", "job"), "{{job}}"),
            unit="s",
        ),
        6,
        9,
    )
    board.add(
        curves(
            say("Slowest rule groups", "Groupes de règles les plus lents"),
            say(
                "How long the last evaluation of a group took, and how many evaluations failed.",
                "Durée de la dernière évaluation d'un groupe, et nombre d'évaluations en échec.",
            ),
            over_time(
                f'label_replace({slowest}, "rule_group", "$1", "rule_group", ".*;(.*)")',
                "{{rule_group}}",
            ),
            unit="s",
            no_value=say("no rules", "aucune règle"),
        ),
        6,
        9,
    )
    board.add(
        curves(
            say("Failures of rules and of targets", "Échecs de règles et de cibles"),
            say(
                "Rule evaluations that failed, and scrapes that were refused for a limit.",
                "Évaluations de règles en échec, et lectures refusées pour une limite.",
            ),
            over_time(
                f"sum(increase(prometheus_rule_evaluation_failures_total{{{HOST}}}{RATE}))",
                say("rule evaluations", "évaluations de règles"),
            ),
            over_time(
                f"sum(increase(prometheus_target_scrapes_exceeded_sample_limit_total{{{HOST}}}{RATE}))",
                say("over the sample limit", "au-delà de la limite"),
            ),
            over_time(
                f"sum(increase(prometheus_tsdb_compactions_failed_total{{{HOST}}}{RATE}))",
                say("compactions", "compactions"),
            ),
            unit="none",
            bars=True,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Disk of the store", "Disque de la base"),
            say("Blocks, and the write-ahead log on top.", "Blocs, et le journal d'écriture par-dessus."),
            over_time(f"sum(prometheus_tsdb_storage_blocks_bytes{{{HOST}}})", say("blocks", "blocs")),
            over_time(f"sum(prometheus_tsdb_wal_storage_size_bytes{{{HOST}}})", say("write-ahead log", "journal")),
            unit="bytes",
            stacked=True,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Time of queries", "Durée des requêtes"),
            say(
                "90 % of queries and rule evaluations were faster.",
                "90 % des requêtes et évaluations ont été plus rapides.",
            ),
            over_time(
                f'max by (slice) (prometheus_engine_query_duration_seconds{{quantile="0.9", {HOST}}})', "{{slice}}"
            ),
            unit="s",
            no_value=say("no query in a while", "aucune requête depuis un moment"),
        ),
        8,
        8,
    )


def _alerting(board: Board) -> None:
    board.row(say("Alerting", "Alertes"))
    board.add(
        curves(
            say("Notifications", "Notifications"),
            say("Notifications that Alertmanager sent.", "Notifications envoyées par Alertmanager."),
            over_time(
                f"sum by (integration) (increase(alertmanager_notifications_total{{{HOST}}}{RATE})) > 0",
                "{{integration}}",
            ),
            unit="none",
            bars=True,
            every="1m",
            no_value=say("nothing was sent", "rien n'a été envoyé"),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Notifications that failed", "Notifications en échec"),
            say(
                "Each one that stays failed is an alert that nobody got.",
                "Chacune qui reste en échec est une alerte que personne n'a reçue.",
            ),
            over_time(
                f"sum by (integration) (increase(alertmanager_notifications_failed_total{{{HOST}}}{RATE})) > 0",
                "{{integration}}",
            ),
            over_time(
                f"sum(increase(prometheus_notifications_dropped_total{{{HOST}}}{RATE})) > 0",
                say("Prometheus dropped", "Prometheus a jeté"),
            ),
            unit="none",
            bars=True,
            every="1m",
            no_value=say("none failed", "aucun échec"),
            links=[
                to_logs(
                    say("Alertmanager's log lines", "Lignes d'Alertmanager"),
                    '{job="docker", container="alertmanager"}',
                )
            ],
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Alerts and silences", "Alertes et silences"),
            say("What Alertmanager holds now.", "Ce que tient Alertmanager."),
            over_time(f"sum by (state) (alertmanager_alerts{{{HOST}}})", say("alerts {{state}}", "alertes {{state}}")),
            over_time(f'sum(alertmanager_silences{{state="active", {HOST}}})', say("silences", "silences")),
            unit="none",
            no_value=say("Alertmanager gives no metrics", "Alertmanager ne donne pas de métriques"),
        ),
        8,
        8,
    )


def _logs(board: Board) -> None:
    board.row(say("Loki and the collector", "Loki et le collecteur"))
    board.add(
        curves(
            say("Lines taken in", "Lignes reçues"),
            say("Log lines a second that Loki takes in.", "Lignes de log par seconde que Loki reçoit."),
            over_time(f"sum by (host) (rate(loki_distributor_lines_received_total{{{HOST}}}{RATE}))", "{{host}}"),
            unit="cps",
            no_value=say("Loki gives no metrics", "Loki ne donne pas de métriques"),
        ),
        5,
        8,
    )
    board.add(
        curves(
            say("Time of Loki's answers", "Temps de réponse de Loki"),
            say("95 % of Loki's answers were faster, by route.", "95 % des réponses de Loki, par route."),
            over_time(
                most(
                    8,
                    "histogram_quantile(0.95, sum by (le, route) "
                    f"(rate(loki_request_duration_seconds_bucket{{{HOST}}}{RATE})))",
                    "route",
                ),
                "{{route}}",
            ),
            unit="s",
            no_value=say("nobody asks Loki", "personne n'interroge Loki"),
        ),
        5,
        8,
    )
    board.add(
        curves(
            say("Files read by the collector", "Fichiers lus par le collecteur"),
            say("Log files that are followed on each host.", "Fichiers de log suivis sur chaque serveur."),
            over_time(f"sum by (host) (promtail_files_active_total{{{HOST}}})", "{{host}}"),
            over_time(f"sum by (host) (loki_source_file_files_active_total{{{HOST}}})", "{{host}}"),
            over_time(f"sum by (host) (otelcol_fileconsumer_open_files{{{HOST}}})", "{{host}}"),
            unit="none",
            no_value=say("no collector answers", "aucun collecteur ne répond"),
        ),
        5,
        8,
    )
    board.add(lost(), 5, 8, number=101)
    board.add(
        curves(
            say("Requests to Grafana", "Requêtes à Grafana"),
            say("HTTP requests a second, by answer.", "Requêtes HTTP par seconde, par réponse."),
            over_time(
                f"sum by (status_code) (rate(grafana_http_request_duration_seconds_count{{{HOST}}}{RATE}))",
                "{{status_code}}",
            ),
            unit="reqps",
            no_value=say("nobody asks Grafana", "personne n'interroge Grafana"),
        ),
        4,
        8,
    )


def _resources(board: Board) -> None:
    board.row(say("What the stack costs", "Ce que coûte la pile"))
    stack = f'job=~"{STACK}", {HOST}'
    board.add(
        curves(
            say("Memory by program", "Mémoire par programme"),
            say("Resident memory of each program of the stack.", "Mémoire résidente de chaque programme."),
            over_time(f"sum by (job) (process_resident_memory_bytes{{{stack}}})", "{{job}}"),
            unit="bytes",
            stacked=True,
        ),
        12,
        8,
    )
    board.add(
        curves(
            say("Processor by program", "Processeur par programme"),
            say("Cores that each program of the stack uses.", "Cœurs qu'utilise chaque programme."),
            over_time(f"sum by (job) (rate(process_cpu_seconds_total{{{stack}}}{RATE}))", "{{job}}"),
            unit="none",
            decimals=3,
            stacked=True,
        ),
        12,
        8,
    )


def _operations(board: Board) -> None:
    timers = f"monitoring_timer_last_result{{{HOST}}}"
    board.row(say("Backups, timers and changes", "Sauvegardes, minuteries et changements"))
    board.add(
        number(
            say("Last good backup", "Dernière bonne sauvegarde"),
            say(
                "How long ago the oldest host's last good backup was made; red where BackupTooOld warns.",
                "Âge de la dernière bonne sauvegarde du serveur le plus en retard ; rouge au seuil de BackupTooOld.",
            ),
            now(f"time() - min(monitoring_backup_last_success_timestamp_seconds{{{HOST}}})"),
            unit="s",
            steps=rising(limits.BACKUP_SECONDS),
            no_value=say("no backup was ever made", "aucune sauvegarde n'a été faite"),
        ),
        4,
        8,
    )
    board.add(
        number(
            say("Timers that failed", "Minuteries en échec"),
            say(
                "Timers (backup, cleanup, health check) whose last run failed.",
                "Minuteries (sauvegarde, nettoyage, contrôle) dont la dernière exécution a échoué.",
            ),
            now(f"count({timers} == 0) or 0 * count({timers})"),
            unit="none",
            steps=rising(1),
            no_value=say("no timer has run yet", "aucune minuterie n'a encore tourné"),
        ),
        4,
        8,
    )
    board.add(
        lines(
            say("What was changed by the playbooks", "Ce que les playbooks ont changé"),
            say(
                "The audit trail: each run that changed something here, and what.",
                "La piste d'audit : chaque exécution qui a changé quelque chose ici, et quoi.",
            ),
            log_lines(f'{{job="audit", {HOST}}}', 100),
            no_value=say("no change in the range", "aucun changement dans la plage"),
        ),
        16,
        8,
    )
