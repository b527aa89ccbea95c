"""deployment-main: is the platform well, and if not, which part."""

from __future__ import annotations

from . import limits
from .kit import (
    APPS,
    BLUE,
    Board,
    Column,
    app,
    apps_down,
    apps_wanted,
    branch,
    column,
    curves,
    falling,
    firing,
    host,
    lines,
    log_lines,
    log_rate,
    mapped,
    most,
    now,
    number,
    over_time,
    project,
    rising,
    rows,
    say,
    to_dashboard,
    to_logs,
    up_down,
)

UID = "deployment-main"
HOST = 'host=~"$host"'
APP = f'{HOST}, project=~"$project", branch=~"$branch", app=~"$app"'
STACK = "prometheus|alertmanager|loki|grafana|node|cadvisor|promtail|alloy|otelcol|blackbox|mongodb|app-discovery"
PLATFORM = "port-manager|deployment-api|tunnel-manager"
# Rare events are counted in windows that are long beside a scrape: a shorter one is stretched to whole numbers wrongly.
EVENTS = "5m"
BY_APP = "host, project, branch, app"


def apps_table() -> object:
    """Return the table of all deployed apps; the applications' dashboard has it too."""
    yes_no = mapped(_0=(say("no", "non"), "red"), _1=(say("yes", "oui"), "green"))
    labels = "host, project, branch, app, port"
    return rows(
        say("Deployed applications", "Applications déployées"),
        say(
            "Every app that the Port Manager has given a port, whether or not its container is there. Uptime is of "
            "its /health over a day; requests and errors only where the app has /metrics.",
            "Chaque app à qui le Port Manager a donné un port, que son conteneur existe ou non. La disponibilité est "
            "celle de son /health sur un jour ; requêtes et erreurs seulement si l'app a /metrics.",
        ),
        column(f"max by ({labels}) ({APPS}{{{APP}}})"),
        column(f"max by ({BY_APP}) (app_discovery_container_running{{{APP}}})"),
        column(f'max by ({BY_APP}) (probe_success{{job="app-health", {APP}}})'),
        column(f"max by ({BY_APP}) (app:up:ratio1d{{{APP}}})"),
        column(f"sum by ({BY_APP}) (app:http_requests:rate5m{{{APP}}})"),
        column(f"max by ({BY_APP}) (app:http_errors:ratio5m{{{APP}}})"),
        column(f"max by ({BY_APP}) (app:http_request_duration_seconds:p95_5m{{{APP}}})"),
        columns=[
            Column(
                "app",
                "Application",
                links=(
                    to_dashboard(
                        say("Its metrics", "Ses métriques"), "applications-main", app="${__value.raw:percentencode}"
                    ),
                    to_logs(
                        say("Its log lines", "Ses lignes de log"),
                        '{job="docker", container="${__value.raw}-deploy"}',
                    ),
                ),
            ),
            Column(
                "project",
                say("Project", "Projet"),
                links=(
                    to_dashboard(
                        say("The project", "Le projet"), "project-main", project="${__value.raw:percentencode}"
                    ),
                ),
            ),
            Column("branch", say("Branch", "Branche")),
            Column("host", say("Host", "Serveur")),
            Column("port", "Port"),
            Column("Value #B", say("Container runs", "Conteneur actif"), mappings=yes_no),
            Column("Value #C", "/health", mappings=up_down()),
            Column(
                "Value #D",
                say("Uptime 1 d", "Disponibilité 1 j"),
                unit="percentunit",
                steps=falling(limits.APP_UPTIME),
                decimals=2,
            ),
            Column("Value #E", say("Requests", "Requêtes"), unit="reqps", decimals=2),
            Column(
                "Value #F",
                say("Errors 5xx", "Erreurs 5xx"),
                unit="percentunit",
                steps=rising(limits.APP_ERRORS),
                decimals=1,
            ),
            Column("Value #G", "p95", unit="s"),
        ],
        sort="Application",
        no_value=say("no port is allocated to any app", "aucun port n'est alloué à une app"),
    )


def alerts_table() -> object:
    """Return the table of firing alerts."""
    severities = mapped(
        critical=(say("critical", "critique"), "red"),
        warning=(say("warning", "avertissement"), "orange"),
        info=("info", "blue"),
    )
    firing = f'ALERTS{{alertstate="firing", severity!~"none|notice", {HOST[:-1]}|"}}'
    return rows(
        say("Alerts that fire", "Alertes en cours"),
        say(
            "What Prometheus alerts of now. Silenced alerts are among them.",
            "Ce dont Prometheus alerte maintenant. Les alertes en silence y figurent aussi.",
        ),
        column(f"max by (alertname, severity, team, host, service, app, job, mountpoint) ({firing})"),
        columns=[
            Column("alertname", say("Alert", "Alerte")),
            Column("severity", say("Severity", "Sévérité"), mappings=severities),
            Column("team", say("Team", "Équipe")),
            Column("host", say("Host", "Serveur")),
            Column("service", "Service"),
            Column("app", "Application"),
            Column("job", "Job"),
            Column("mountpoint", say("Mount", "Montage")),
        ],
        sort=say("Severity", "Sévérité"),
        no_value=say("no alert fires", "aucune alerte en cours"),
    )


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Deployment system", "Système de déploiement"),
        say(
            "The platform in five seconds: its services, ports, deployments, apps, latency and errors.",
            "La plateforme en cinq secondes : services, ports, déploiements, apps, latence et erreurs.",
        ),
        host(),
        project(),
        branch(),
        app(),
    )
    _services(board)
    _ports(board)
    _deployments(board)
    _apps(board)
    _errors(board)
    return board


def _services(board: Board) -> None:
    board.row(say("State of the services", "État des services"))
    board.add(
        number(
            say("Platform", "Plateforme"),
            say(
                "Whether each service of the platform answers its health check, and MongoDB its exporter.",
                "Si chaque service de la plateforme répond à son contrôle de santé, et MongoDB à son exporteur.",
            ),
            # Of several hosts the worst counts; and what cannot be asked is not well either.
            now(
                f'min by (service) (probe_success{{job="health", {HOST}}} or 0 * up{{job="health", {HOST}}})',
                "{{service}}",
            ),
            now(f'min(mongodb_up{{{HOST}}} or on (host) 0 * up{{job="mongodb", {HOST}}})', "mongodb"),
            unit="none",
            mappings=up_down(),
            background=True,
            no_value=say("nothing probes the platform", "personne ne sonde la plateforme"),
            links=[to_logs(say("Its log lines", "Ses lignes de log"), '{job="${__field.labels.service}"}')],
            # It writes no log of its own that is collected under its name.
            own_links={"mongodb": [to_dashboard("MongoDB", "mongodb-main")]},
        ),
        12,
        5,
    )
    board.add(
        number(
            say("Monitoring", "Supervision"),
            say(
                "Whether Prometheus gets the metrics of each part of the stack; a job with several targets is down "
                "when one of them is.",
                "Si Prometheus reçoit les métriques de chaque partie de la pile ; un job à plusieurs cibles est en "
                "panne dès que l'une l'est.",
            ),
            now(f'min by (job) (up{{job=~"{STACK}", {HOST}}})', "{{job}}"),
            unit="none",
            mappings=up_down(),
            background=True,
            links=[to_dashboard(say("The stack itself", "La pile elle-même"), "monitoring-main")],
        ),
        12,
        5,
    )
    for severity, title, color in (
        ("critical", say("Critical alerts", "Alertes critiques"), "red"),
        ("warning", say("Warnings", "Avertissements"), "orange"),
        ("info", say("Performance alerts", "Alertes de performance"), "blue"),
    ):
        board.add(
            number(
                title,
                say(
                    f"Alerts of severity {severity} that fire now.",
                    f"Alertes de sévérité {severity} en cours.",
                ),
                now(firing(f'severity="{severity}"'), severity),
                unit="none",
                steps=[("green", None), (color, 1)],
            ),
            3,
            6,
        )
    board.add(alerts_table(), 15, 6)


def _ports(board: Board) -> None:
    board.row(say("Port Manager: ports 8100-8999", "Port Manager : ports 8100-8999"))
    none = say("the Port Manager gives no metrics", "le Port Manager ne donne pas de métriques")
    board.add(
        number(
            say("Ports in use", "Ports utilisés"),
            say(
                "Share of the 900 ports that is allocated; red from where HighPortUtilization warns.",
                "Part des 900 ports qui est allouée ; rouge dès que HighPortUtilization avertit.",
            ),
            now(f"max(port_manager:port_utilization:ratio{{{HOST}}})"),
            unit="percentunit",
            decimals=1,
            steps=rising(limits.PORTS),
            no_value=none,
        ),
        4,
        6,
    )
    board.add(
        number(
            say("Allocated", "Alloués"),
            say("Ports that are allocated.", "Ports qui sont alloués."),
            now(f"sum(port_manager_total_allocations{{{HOST}}})"),
            unit="none",
            steps=BLUE,
            no_value=none,
        ),
        3,
        6,
    )
    board.add(
        number(
            say("Free", "Libres"),
            say("Ports that are still free.", "Ports encore libres."),
            now(f"sum(port_manager_available_ports{{{HOST}}})"),
            unit="none",
            steps=[("red", None), ("green", 1)],
            no_value=none,
        ),
        3,
        6,
    )
    board.add(
        curves(
            say("Ports over time", "Ports dans le temps"),
            say("Allocated ports on top of each host's own.", "Ports alloués, empilés par serveur."),
            over_time(f"sum by (host) (port_manager_total_allocations{{{HOST}}})", "{{host}}"),
            unit="none",
            stacked=True,
            no_value=none,
        ),
        7,
        6,
    )
    board.add(
        curves(
            say("Requests for a port", "Demandes de port"),
            say(
                "Requests for a port, and those that found none (newer builds only).",
                "Demandes de port, et celles restées sans port (versions récentes seulement).",
            ),
            over_time(
                f"round(sum(increase(port_manager_allocation_requests_total{{{HOST}}}[$__rate_interval])))",
                say("requests", "demandes"),
            ),
            over_time(
                f"round(sum(increase(port_manager_allocation_failures_total{{{HOST}}}[$__rate_interval])))",
                say("without a port", "sans port"),
            ),
            unit="none",
            bars=True,
            every=EVENTS,
            no_value=none,
            colors={say("without a port", "sans port"): "red"},
            links=[to_logs(say("Its log lines", "Ses lignes de log"), '{job="port-manager"}')],
        ),
        7,
        6,
    )


def _deployments(board: Board) -> None:
    board.row(say("Deployment API", "API de déploiement"))
    none = say("the Deployment API gives no metrics", "l'API de déploiement ne donne pas de métriques")
    total = f"sum(increase(deployment_total{{{HOST}}}[$__range]))"
    succeeded = f"sum(increase(deployment_success_total{{{HOST}}}[$__range]))"
    search = to_logs(
        say("Log lines of failed deployments", "Lignes des déploiements en échec"),
        '{job="deployment-api"} |= "❌" | json | deployment_id != ""',
    )
    board.add(
        number(
            say("Deployments", "Déploiements"),
            say(
                "Deployments that ended within the chosen time range.",
                "Déploiements terminés dans la plage de temps choisie.",
            ),
            now(f"round({total})"),
            unit="none",
            steps=BLUE,
            no_value=none,
        ),
        3,
        6,
    )
    board.add(
        number(
            say("Failed", "Échecs"),
            say(
                "Deployments that failed within the chosen time range, of all and not of a 10-minute window as the "
                "alert has it.",
                "Déploiements échoués dans la plage de temps choisie, et non sur 10 minutes comme l'alerte.",
            ),
            now(f"round(clamp_min({total} - {succeeded}, 0))"),
            unit="none",
            steps=[("green", None), ("red", 1)],
            no_value=none,
            links=[search],
        ),
        3,
        6,
    )
    board.add(
        number(
            say("Success, 1 day", "Succès, 1 jour"),
            say(
                "Share of a day's deployments that succeeded; the objective is 95 %.",
                "Part des déploiements d'un jour qui ont réussi ; l'objectif est 95 %.",
            ),
            now(f"min(deployment:success:ratio1d{{{HOST}}})"),
            unit="percentunit",
            decimals=1,
            steps=falling(limits.DEPLOYMENT_SUCCESS),
            no_value=say("no deployment in a day", "aucun déploiement en un jour"),
        ),
        3,
        6,
    )
    board.add(
        number(
            say("Average time, 1 h", "Durée moyenne, 1 h"),
            say(
                "Average duration of an hour's deployments; the objective is 5 minutes. Builds without a sum of "
                "durations cannot tell.",
                "Durée moyenne des déploiements d'une heure ; l'objectif est 5 minutes. Les versions sans somme des "
                "durées ne le disent pas.",
            ),
            now(f"max(deployment:duration_seconds:avg1h{{{HOST}}})"),
            unit="s",
            steps=rising(limits.DEPLOYMENT_SECONDS, limits.SLOW_DEPLOYMENT_SECONDS),
            no_value=say("no deployment, or a build without the sum", "aucun déploiement, ou version sans la somme"),
        ),
        3,
        6,
    )
    good, bad = say("succeeded", "réussis"), say("failed", "en échec")
    board.add(
        curves(
            say("Deployments over time", "Déploiements dans le temps"),
            say(
                "Deployments that ended well and badly. Failures are all less successes: old builds do not count them.",
                "Déploiements réussis et échoués. Les échecs sont le total moins les succès : les anciennes versions "
                "ne les comptent pas.",
            ),
            over_time(f"round(sum(increase(deployment_success_total{{{HOST}}}[$__rate_interval])))", good),
            over_time(
                f"round(clamp_min(sum(increase(deployment_total{{{HOST}}}[$__rate_interval]))"
                f" - sum(increase(deployment_success_total{{{HOST}}}[$__rate_interval])), 0))",
                bad,
            ),
            unit="none",
            bars=True,
            stacked=True,
            every=EVENTS,
            no_value=none,
            colors={good: "green", bad: "red"},
            links=[search],
        ),
        6,
        6,
    )
    board.add(
        curves(
            say("Duration of deployments", "Durée des déploiements"),
            say(
                "95 % were faster than the first curve, as far as the buckets (1, 5 and, newest, 10 minutes) tell; the "
                "lines are the objective and where SlowDeployments warns.",
                "95 % ont été plus rapides que la première courbe, autant que les classes (1, 5 et, au plus récent, 10 "
                "minutes) le disent ; les lignes sont l'objectif et le seuil de SlowDeployments.",
            ),
            over_time(f"max(deployment:duration_seconds:p95{{{HOST}}})", "p95"),
            over_time(f"max(deployment:duration_seconds:avg1h{{{HOST}}})", say("average 1 h", "moyenne 1 h")),
            unit="s",
            steps=rising(limits.DEPLOYMENT_SECONDS, limits.SLOW_DEPLOYMENT_SECONDS),
            no_value=say("no deployment in the range", "aucun déploiement dans la plage"),
        ),
        6,
        6,
    )


def _apps(board: Board) -> None:
    board.row(say("Deployed applications", "Applications déployées"))
    running = f'probe_success{{job="app-health", {APP}}}'
    for title, description, expr, steps in (
        (
            say("Expected", "Attendues"),
            say("Apps that the Port Manager has given a port.", "Apps à qui le Port Manager a donné un port."),
            apps_wanted(APP),
            BLUE,
        ),
        (
            say("Answering", "Qui répondent"),
            say("Apps whose /health answers 200.", "Apps dont /health répond 200."),
            f"sum({running})",
            BLUE,
        ),
        (
            say("Down", "En panne"),
            say(
                "Apps that should answer on their port and do not, and those that nobody asks, as AppDown counts them.",
                "Apps qui devraient répondre sur leur port et ne le font pas, et celles que personne n'interroge, "
                "comme AppDown les compte.",
            ),
            apps_down(APP),
            [("green", None), ("red", 1)],
        ),
    ):
        none = say("no app is probed", "aucune app n'est sondée")
        board.add(number(title, description, now(expr), unit="none", steps=steps, no_value=none), 2, 8)
    board.add(apps_table(), 18, 8)


def _errors(board: Board) -> None:
    board.row(say("Performance and errors", "Performance et erreurs"))
    board.add(
        curves(
            say("Answer time of the services", "Temps de réponse des services"),
            say(
                "How long each service takes to answer its health check.",
                "Le temps que met chaque service à répondre à son contrôle de santé.",
            ),
            over_time(f'max by (service) (probe_duration_seconds{{job="health", {HOST}}})', "{{service}}"),
            unit="s",
            no_value=say("nothing probes the platform", "personne ne sonde la plateforme"),
            links=[to_logs(say("Its log lines", "Ses lignes de log"), '{job="${__field.labels.service}"}')],
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Slowest apps: p95 response time", "Apps les plus lentes : temps de réponse p95"),
            say(
                "The ten slowest apps: 95 % of their requests are faster.",
                "Les dix apps les plus lentes : 95 % de leurs requêtes sont plus rapides.",
            ),
            over_time(most(10, f"app:http_request_duration_seconds:p95_5m{{{APP}}}"), "{{app}}"),
            unit="s",
            no_value=say("no app exposes response times", "aucune app n'expose ses temps de réponse"),
            links=[to_dashboard(say("Its metrics", "Ses métriques"), "applications-main", app="${__field.labels.app}")],
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Apps with the most errors", "Apps avec le plus d'erreurs"),
            say(
                "The ten apps with the highest share of 5xx answers; the line is where AppHighErrorRate warns.",
                "Les dix apps avec la plus grande part de réponses 5xx ; la ligne est le seuil de AppHighErrorRate.",
            ),
            over_time(most(10, f"app:http_errors:ratio5m{{{APP}}}"), "{{app}}"),
            unit="percentunit",
            steps=rising(limits.APP_ERRORS),
            no_value=say("no app exposes requests", "aucune app n'expose ses requêtes"),
            links=[
                to_logs(
                    say("Its log lines", "Ses lignes de log"),
                    '{job="docker", container="${__field.labels.app}-deploy"}',
                )
            ],
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Incidents", "Incidents"),
            say("Alerts that fire, by severity.", "Alertes en cours, par sévérité."),
            over_time(
                'count by (severity) (ALERTS{alertstate="firing", severity!~"none|notice", host=~"$host|"})',
                "{{severity}}",
            ),
            unit="none",
            stacked=True,
            no_value=say("no alert fired", "aucune alerte"),
            colors={"critical": "red", "warning": "orange", "info": "blue"},
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Error lines of the platform", "Lignes d'erreur de la plateforme"),
            say(
                "Log lines of the platform's services that speak of an error.",
                "Lignes de log des services de la plateforme qui parlent d'une erreur.",
            ),
            log_rate(
                f'sum by (job) (count_over_time({{job=~"{PLATFORM}", {HOST}, level="error"}}[$__interval]))',
                "{{job}}",
            ),
            unit="none",
            bars=True,
            every="1m",
            no_value=say("no error line", "aucune ligne d'erreur"),
            links=[
                to_logs(
                    say("These lines", "Ces lignes"),
                    '{job="${__field.labels.job}", level="error"}',
                )
            ],
        ),
        8,
        8,
    )
    board.add(
        lines(
            say("Last errors of the platform", "Dernières erreurs de la plateforme"),
            say(
                "The newest lines with an error; a deployment's id leads to all of its lines.",
                "Les dernières lignes d'erreur ; l'identifiant d'un déploiement mène à toutes ses lignes.",
            ),
            log_lines(f'{{job=~"{PLATFORM}", {HOST}, level="error"}}', 50),
            no_value=say("no error line", "aucune ligne d'erreur"),
        ),
        8,
        8,
    )
