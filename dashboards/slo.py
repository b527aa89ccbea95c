"""slo-main: the mission's key figures against their objectives, and how much of each budget is left."""

from __future__ import annotations

from . import limits
from .kit import Board, Step, bars, curves, falling, firing, host, log_now, now, number, over_time, project, rising, say

UID = "slo-main"
HOST = 'host=~"$host"'
APPS = f'{HOST}, project=~"$project"'


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Objectives", "Objectifs"),
        say(
            "The key figures of the mission against their objectives: business, infrastructure, operations.",
            "Les indicateurs de la mission face à leurs objectifs : métier, infrastructure, exploitation.",
        ),
        host(),
        project(),
        since="now-7d",
    )
    _business(board)
    _budgets(board)
    _infrastructure(board)
    _operations(board)
    return board


def _figures(
    board: Board, panels: tuple[tuple[str, str, str, str, list[Step], str], ...], widths: tuple[int, ...]
) -> None:
    for width, (title, description, expr, unit, steps, missing) in zip(widths, panels, strict=True):
        panel = number(title, description, now(expr), unit=unit, steps=steps, no_value=missing)
        board.add(panel, width, 5)


def _business(board: Board) -> None:
    board.row(say("Business", "Métier"))
    quiet = say("no deployment in 30 days", "aucun déploiement en 30 jours")
    _figures(
        board,
        (
            (
                say("Successful deployments", "Déploiements réussis"),
                say(
                    "Share of 30 days' deployments; the objective is 95 %, unless another one was set.",
                    "Part des déploiements de 30 jours ; l'objectif est 95 %, sauf réglage contraire.",
                ),
                f"min(deployment:success:ratio30d{{{HOST}}})",
                "percentunit",
                falling(limits.DEPLOYMENT_SUCCESS),
                quiet,
            ),
            (
                say("Average deployment (< 5 min)", "Déploiement moyen (< 5 min)"),
                say(
                    "Average duration of the last hour's deployments.",
                    "Durée moyenne des déploiements de la dernière heure.",
                ),
                f"max(deployment:duration_seconds:avg1h{{{HOST}}})",
                "s",
                rising(limits.DEPLOYMENT_SECONDS, limits.SLOW_DEPLOYMENT_SECONDS),
                say("no deployment, or a build without the sum", "aucun déploiement, ou version sans la somme"),
            ),
            (
                say("Ports in use", "Ports utilisés"),
                say(
                    "Share of the ports 8100-8999 that is allocated; the objective is less than 80 %.",
                    "Part allouée des ports 8100-8999 ; l'objectif est moins de 80 %.",
                ),
                f"max(port_manager:port_utilization:ratio{{{HOST}}})",
                "percentunit",
                rising(limits.PORTS),
                say("the Port Manager gives no metrics", "le Port Manager ne donne pas de métriques"),
            ),
            (
                say("Uptime of the apps, 30 days", "Disponibilité des apps, 30 jours"),
                say(
                    "Share of 30 days' health checks that were answered, over the chosen apps; objective 99.5 %.",
                    "Part des contrôles de santé de 30 jours réussis, sur les apps choisies ; objectif 99,5 %.",
                ),
                f"avg(app:up:ratio30d{{{APPS}}})",
                "percentunit",
                falling(limits.APP_UPTIME),
                say("no health check yet", "pas encore de contrôle de santé"),
            ),
            (
                say("Time to recover", "Temps de rétablissement"),
                say(
                    "Average time that a critical state lasted, over 30 days; the objective is less than 30 minutes.",
                    "Durée moyenne d'un état critique, sur 30 jours ; l'objectif est moins de 30 minutes.",
                ),
                "max(alerts:time_to_recover_seconds:avg30d)",
                "s",
                rising(limits.RECOVERY_SECONDS),
                say("nothing had to recover in 30 days", "rien à rétablir en 30 jours"),
            ),
        ),
        (4, 4, 4, 4, 4),
    )
    uptime = f'slo:error_budget_remaining:ratio{{slo="app-uptime", {APPS}}}'
    board.add(
        number(
            say("Apps below their objective", "Apps sous leur objectif"),
            say(
                "Apps whose uptime over 30 days is below 99.5 %.",
                "Apps dont la disponibilité sur 30 jours est sous 99,5 %.",
            ),
            now(f"count({uptime} < 0) or 0 * count({uptime})"),
            unit="none",
            steps=rising(1),
            no_value=say("no health check yet", "pas encore de contrôle de santé"),
        ),
        4,
        5,
    )


def _budgets(board: Board) -> None:
    board.row(say("Error budgets", "Budgets d'erreur"))
    deployments = f'min(slo:error_budget_remaining:ratio{{slo="deployment-success", {HOST}}})'
    uptime = f'avg(slo:error_budget_remaining:ratio{{slo="app-uptime", {APPS}}})'
    for title, expr, what in (
        (
            say("Left of the deployments' budget", "Reste du budget des déploiements"),
            deployments,
            say("the 5 % of deployments that may fail", "des 5 % de déploiements qui peuvent échouer"),
        ),
        (
            say("Left of the uptime budget", "Reste du budget de disponibilité"),
            uptime,
            say("the 0.5 % of health checks that may fail", "des 0,5 % de contrôles qui peuvent échouer"),
        ),
    ):
        board.add(
            number(
                title,
                say(
                    f"How much of {what} within 30 days is left; below 0 the objective is missed.",
                    f"Ce qui reste {what} sur 30 jours ; sous 0 l'objectif est manqué.",
                ),
                now(expr),
                unit="percentunit",
                decimals=0,
                steps=[("red", None), ("orange", 0), ("green", 0.25)],
                no_value=say("nothing measured yet", "rien de mesuré"),
            ),
            3,
            8,
        )
    board.add(
        curves(
            say("Budgets over time", "Budgets dans le temps"),
            say(
                "What was left of each budget. It falls with every failure and comes back as failures grow older than "
                "30 days.",
                "Ce qui restait de chaque budget. Il baisse à chaque échec et revient quand les échecs ont plus de 30 "
                "jours.",
            ),
            over_time(deployments, say("deployments", "déploiements")),
            over_time(uptime, say("uptime of apps", "disponibilité des apps")),
            unit="percentunit",
            at_least=None,
            at_most=1,
            no_value=say("nothing measured yet", "rien de mesuré"),
        ),
        9,
        8,
    )
    board.add(
        bars(
            say("Uptime of the 15 least available apps", "Disponibilité des 15 apps les moins disponibles"),
            say("Over 30 days; the objective is 99.5 %.", "Sur 30 jours ; l'objectif est 99,5 %."),
            now(f"bottomk(15, avg by (host, app) (app:up:ratio30d{{{APPS}}}))", "{{app}}"),
            at_most=1,
            steps=falling(limits.APP_UPTIME),
            no_value=say("no health check yet", "pas encore de contrôle de santé"),
        ),
        9,
        8,
    )
    board.add(
        curves(
            say("Deployments that succeed", "Déploiements qui réussissent"),
            say(
                "Share of successes over an hour, a day and 30 days; gaps where nothing was deployed.",
                "Part des succès sur une heure, un jour et 30 jours ; des trous là où rien n'a été déployé.",
            ),
            over_time(f"min(deployment:success:ratio1h{{{HOST}}})", "1 h"),
            over_time(f"min(deployment:success:ratio1d{{{HOST}}})", say("1 day", "1 jour")),
            over_time(f"min(deployment:success:ratio30d{{{HOST}}})", say("30 days", "30 jours")),
            unit="percentunit",
            at_most=1,
            steps=falling(limits.DEPLOYMENT_SUCCESS),
            no_value=say("no deployment", "aucun déploiement"),
        ),
        12,
        8,
    )
    board.add(
        curves(
            say("Uptime of the apps", "Disponibilité des apps"),
            say(
                "Share of answered health checks over the chosen apps.",
                "Part des contrôles de santé réussis sur les apps choisies.",
            ),
            over_time(f"avg(app:up:ratio1h{{{APPS}}})", "1 h"),
            over_time(f"avg(app:up:ratio1d{{{APPS}}})", say("1 day", "1 jour")),
            over_time(f"avg(app:up:ratio30d{{{APPS}}})", say("30 days", "30 jours")),
            unit="percentunit",
            at_most=1,
            at_least=None,
            steps=falling(limits.APP_UPTIME),
            no_value=say("no health check yet", "pas encore de contrôle de santé"),
        ),
        12,
        8,
    )


def _infrastructure(board: Board) -> None:
    board.row("Infrastructure")
    none = say("no node_exporter answers", "aucun node_exporter ne répond")
    _figures(
        board,
        (
            (
                say("Processor", "Processeur"),
                say(
                    "Average over the chosen time range; the objective is less than 80 %.",
                    "Moyenne sur la plage de temps choisie ; l'objectif est moins de 80 %.",
                ),
                f"max(avg_over_time(host:cpu_utilization:ratio5m{{{HOST}}}[$__range]))",
                "percentunit",
                rising(limits.CPU),
                none,
            ),
            (
                say("Memory", "Mémoire"),
                say(
                    "Average over the chosen time range; the objective is less than 85 %.",
                    "Moyenne sur la plage de temps choisie ; l'objectif est moins de 85 %.",
                ),
                f"max(avg_over_time(host:memory_utilization:ratio{{{HOST}}}[$__range]))",
                "percentunit",
                rising(limits.MEMORY, limits.MEMORY_CRITICAL),
                none,
            ),
            (
                say("Disk", "Disque"),
                say(
                    "The fullest mount now; the objective is less than 80 %, and 90 % is critical.",
                    "Le montage le plus plein maintenant ; l'objectif est moins de 80 %, 90 % est critique.",
                ),
                f"max(host:disk_utilization:ratio{{{HOST}}})",
                "percentunit",
                rising(limits.DISK, limits.DISK_CRITICAL),
                none,
            ),
            (
                say("Network p95 (< 100 ms)", "Réseau p95 (< 100 ms)"),
                say(
                    "95 % of the platform's health checks were answered faster.",
                    "95 % des contrôles de santé de la plateforme ont répondu plus vite.",
                ),
                f"max(host:network_latency_seconds:p95{{{HOST}}})",
                "s",
                rising(limits.NETWORK_SECONDS),
                say("nothing probes the platform", "personne ne sonde la plateforme"),
            ),
            (
                say("Restarts a day (< 2)", "Redémarrages par jour (< 2)"),
                say(
                    "Of the container that the engine restarted most often within a day.",
                    "Du conteneur que le moteur a le plus redémarré en un jour.",
                ),
                f"max(container:restarts:increase1d{{{HOST}}})",
                "none",
                rising(limits.RESTARTS_A_DAY),
                say("nothing counts restarts", "personne ne compte les redémarrages"),
            ),
        ),
        (5, 5, 5, 5, 4),
    )


def _operations(board: Board) -> None:
    board.row(say("Operations", "Exploitation"))
    _figures(
        board,
        (
            (
                say("Alerts answered (< 15 min)", "Réponse aux alertes (< 15 min)"),
                say(
                    "Average time until somebody acted on an alert, over 30 days.",
                    "Temps moyen avant que quelqu'un agisse sur une alerte, sur 30 jours.",
                ),
                "max(alerts:response_time_seconds:avg30d)",
                "s",
                rising(limits.RESPONSE_SECONDS),
                say("no alert was answered in 30 days", "aucune alerte traitée en 30 jours"),
            ),
            (
                say("False positives (< 5 %)", "Faux positifs (< 5 %)"),
                say(
                    "Share of alerts that went away by themselves at once, over 30 days.",
                    "Part des alertes disparues d'elles-mêmes aussitôt, sur 30 jours.",
                ),
                "max(alerts:false_positive:ratio30d)",
                "percentunit",
                rising(limits.FALSE_POSITIVES),
                say("no alert in 30 days", "aucune alerte en 30 jours"),
            ),
            (
                say("Coverage (100 %)", "Couverture (100 %)"),
                say(
                    "Share of the critical services that are really watched.",
                    "Part des services critiques réellement surveillés.",
                ),
                "min(monitoring:coverage:ratio)",
                "percentunit",
                falling(limits.COVERAGE),
                say("no rule tells", "aucune règle ne le dit"),
            ),
            (
                say("Metrics kept (30 days)", "Métriques gardées (30 jours)"),
                say(
                    "Age of the oldest metric; it grows to 30 days after the installation and stays there.",
                    "Âge de la plus vieille métrique ; il croît jusqu'à 30 jours après l'installation et y reste.",
                ),
                "max(monitoring:metrics_retention_seconds)",
                "s",
                [("blue", None), ("green", limits.METRICS_RETENTION_SECONDS * 0.99)],
                say("no rule tells", "aucune règle ne le dit"),
            ),
            (
                say("Firing now", "En cours"),
                say("Alerts that fire now, of every severity.", "Alertes en cours, de toute sévérité."),
                firing('severity!~"none|notice"'),
                "none",
                rising(1),
                "",
            ),
        ),
        (4, 4, 4, 4, 4),
    )
    board.add(
        number(
            say("Logs kept (7 days)", "Logs gardés (7 jours)"),
            say(
                "From how many of the last seven days there are still lines, by each day's oldest hour. It "
                "grows to 7 within a week after the installation and stays there.",
                "De combien des sept derniers jours il reste des lignes, par l'heure la plus ancienne de chaque "
                "jour. Croît jusqu'à 7 en une semaine après l'installation et y reste.",
            ),
            log_now(" + ".join(f"({_lines_of_an_hour(day)})" for day in range(1, limits.LOGS_RETENTION_DAYS + 1))),
            unit="d",
            decimals=0,
            steps=[("blue", None), ("green", limits.LOGS_RETENTION_DAYS)],
            no_value=say("Loki does not answer", "Loki ne répond pas"),
        ),
        4,
        5,
        number=101,
    )


def _lines_of_an_hour(day: int) -> str:
    """Return 1 where there are lines from the last hour of so many days ago, 0 where there are none."""
    lines = f'count_over_time({{job=~".+", {HOST}}} [1h] offset {24 * day - 1}h)'
    return f"sum({lines}) > bool 0 or vector(0)"
