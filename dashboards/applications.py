"""applications-main: how the deployed apps do, all of them or one."""

from __future__ import annotations

from . import limits
from .deployment import APP, HOST, apps_table
from .kit import (
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
    host,
    lines,
    log_lines,
    log_rate,
    most,
    now,
    number,
    over_time,
    project,
    rising,
    rows,
    say,
    states,
    to_dashboard,
    to_logs,
    up_down,
)

UID = "applications-main"
REQUESTS = f'http_requests_total{{job="app-metrics", {APP}}}'
BUCKETS = f'http_request_duration_seconds_bucket{{job="app-metrics", {APP}}}'
# Log lines of the chosen apps' containers.
CONTAINERS = f'job="docker", {HOST}, container=~"($app)-deploy", project=~"$project", branch=~"$branch"'
NO_REQUESTS = ("no app exposes http_requests_total", "aucune app n'expose http_requests_total")


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Applications", "Applications"),
        say(
            "The deployed apps: requests, errors, response times, health checks, processor and memory.",
            "Les apps déployées : requêtes, erreurs, temps de réponse, contrôles de santé, processeur et mémoire.",
        ),
        host(),
        project(),
        branch(),
        app(),
    )
    summary(board)
    requests(board)
    health(board)
    resources(board)
    board.row(say("All chosen applications", "Toutes les applications choisies"))
    board.add(apps_table(), 24, 10)
    board.add(_public_names(), 24, 7, number=101)
    _logs(board)
    return board


def app_links() -> list[object]:
    """Return the ways from an app's curve on."""
    return [
        to_dashboard(say("Only this app", "Seulement cette app"), UID, app="${__field.labels.app}"),
        to_logs(say("Its log lines", "Ses lignes de log"), '{job="docker", container="${__field.labels.app}-deploy"}'),
    ]


def summary(board: Board) -> None:
    """Add the numbers at the top."""
    board.row(say("At a glance", "En un coup d'œil"))
    none = say(*NO_REQUESTS)
    panels: tuple[tuple[str, str, str, str, list[tuple[str, float | None]], str], ...] = (
        (
            say("Apps", "Apps"),
            say("Apps that the Port Manager has given a port.", "Apps à qui le Port Manager a donné un port."),
            apps_wanted(APP),
            "none",
            BLUE,
            say("no discovery runs", "pas de découverte"),
        ),
        (
            say("Down", "En panne"),
            say(
                "Apps whose /health does not answer 200 now, and those that nobody asks, as AppDown counts them.",
                "Apps dont /health ne répond pas 200 maintenant, et celles que personne n'interroge, comme AppDown "
                "les compte.",
            ),
            apps_down(APP),
            "none",
            rising(1),
            say("no app is probed", "aucune app n'est sondée"),
        ),
        (
            say("Uptime, 30 days", "Disponibilité, 30 jours"),
            say(
                "Share of health checks that were answered, over the chosen apps; the objective is 99.5 %.",
                "Part des contrôles de santé réussis, sur les apps choisies ; l'objectif est 99,5 %.",
            ),
            f"avg(app:up:ratio30d{{{APP}}})",
            "percentunit",
            falling(limits.APP_UPTIME),
            say("no health check yet", "pas encore de contrôle de santé"),
        ),
        (
            say("Requests", "Requêtes"),
            say("Requests a second, over the chosen apps.", "Requêtes par seconde, sur les apps choisies."),
            f"sum(app:http_requests:rate5m{{{APP}}})",
            "reqps",
            BLUE,
            none,
        ),
        (
            say("Errors 5xx", "Erreurs 5xx"),
            say(
                "Share of requests that the apps failed to serve; red from where AppHighErrorRate warns of one app.",
                "Part des requêtes que les apps n'ont pas su servir ; rouge au seuil de AppHighErrorRate.",
            ),
            f'sum(rate({REQUESTS[:-1]}, status=~"5.."}}[5m])) / sum(rate({REQUESTS}[5m]))'
            f" or 0 * sum(rate({REQUESTS}[5m]))",
            "percentunit",
            rising(limits.APP_ERRORS),
            none,
        ),
        (
            say("Response p95", "Réponse p95"),
            say(
                "95 % of all requests to the chosen apps are faster.",
                "95 % des requêtes aux apps choisies sont plus rapides.",
            ),
            f"histogram_quantile(0.95, sum by (le) (rate({BUCKETS}[5m])))",
            "s",
            BLUE,
            none,
        ),
    )
    for title, description, expr, unit, steps, missing in panels:
        board.add(number(title, description, now(expr), unit=unit, steps=steps, no_value=missing), 4, 4)


def requests(board: Board) -> None:
    """Add requests, errors and response times."""
    board.row(say("HTTP requests", "Requêtes HTTP"))
    none = say(*NO_REQUESTS)
    ten = say("the ten with the most at the end of the range", "les dix premières à la fin de la plage")
    board.add(
        curves(
            say("Requests by app (10 busiest)", "Requêtes par app (10 premières)"),
            say(f"Requests a second; {ten}.", f"Requêtes par seconde ; {ten}."),
            over_time(most(10, f"app:http_requests:rate5m{{{APP}}}"), "{{app}}"),
            unit="reqps",
            no_value=none,
            links=app_links(),
        ),
        8,
        8,
    )
    for status, series, title, what in (
        (
            "4",
            "app:http_client_errors:rate5m",
            say("Errors 4xx by app (10 most)", "Erreurs 4xx par app (10 premières)"),
            say("Requests a second that asked for the wrong thing", "Requêtes fautives par seconde"),
        ),
        (
            "5",
            "app:http_server_errors:rate5m",
            say("Errors 5xx by app (10 most)", "Erreurs 5xx par app (10 premières)"),
            say("Requests a second that the app failed to serve", "Requêtes que l'app n'a pas su servir, par seconde"),
        ),
    ):
        board.add(
            curves(
                title,
                f"{what}; {ten}.",
                over_time(most(10, f"{series}{{{APP}}}"), "{{app}}"),
                unit="reqps",
                no_value=say(f"no {status}xx answer, or no metrics", f"aucune réponse {status}xx, ou pas de métriques"),
                links=app_links(),
            ),
            8,
            8,
        )
    board.add(
        curves(
            say("Share of errors by app (10 worst)", "Part d'erreurs par app (10 pires)"),
            say(
                "Share of 5xx answers; the line is where AppHighErrorRate warns.",
                "Part des réponses 5xx ; la ligne est le seuil de AppHighErrorRate.",
            ),
            over_time(most(10, f"app:http_errors:ratio5m{{{APP}}}"), "{{app}}"),
            unit="percentunit",
            steps=rising(limits.APP_ERRORS),
            no_value=none,
            links=app_links(),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Response time: p50, p95, p99", "Temps de réponse : p50, p95, p99"),
            say(
                "Half, 95 % and 99 % of the requests are faster: to the app that is chosen, of several to the slowest. "
                "Exact only within a bucket of the apps' histogram.",
                "La moitié, 95 % et 99 % des requêtes sont plus rapides : vers l'app choisie, ou la plus lente de "
                "plusieurs. Exact à une classe de l'histogramme près.",
            ),
            *(
                over_time(f"max(app:http_request_duration_seconds:p{quantile}_5m{{{APP}}})", f"p{quantile}")
                for quantile in ("50", "95", "99")
            ),
            unit="s",
            no_value=say("no app exposes response times", "aucune app n'expose ses temps de réponse"),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("p95 by app (10 slowest)", "p95 par app (10 plus lentes)"),
            say("95 % of an app's requests are faster.", "95 % des requêtes d'une app sont plus rapides."),
            over_time(most(10, f"app:http_request_duration_seconds:p95_5m{{{APP}}}"), "{{app}}"),
            unit="s",
            no_value=say("no app exposes response times", "aucune app n'expose ses temps de réponse"),
            links=app_links(),
        ),
        8,
        8,
    )


def health(board: Board) -> None:
    """Add the health checks."""
    board.row(say("Health checks", "Contrôles de santé"))
    worst = f"bottomk(20, avg by (host, app) (app:up:ratio1d{{{APP}}} @ end()))"
    board.add(
        states(
            say("/health over time (20 least available)", "/health dans le temps (20 moins disponibles)"),
            say(
                "Whether every /health within 5 minutes answered 200, of the twenty apps with the least uptime in the "
                "last day; when there are fewer, of all.",
                "Si chaque /health en 5 minutes a répondu 200, pour les vingt apps les moins disponibles du dernier "
                "jour ; s'il y en a moins, pour toutes.",
            ),
            over_time(f"floor(min by (host, app) (app:up:ratio5m{{{APP}}})) and on (host, app) {worst}", "{{app}}"),
            mappings=up_down(),
            no_value=say("no app is probed", "aucune app n'est sondée"),
            links=app_links(),
        ),
        16,
        9,
    )
    board.add(
        curves(
            say("Answer time of /health (10 slowest)", "Temps de réponse de /health (10 plus lents)"),
            say("How long /health takes, as the probe sees it.", "Le temps de /health, vu par la sonde."),
            over_time(most(10, f"app:health_duration_seconds:avg5m{{{APP}}}"), "{{app}}"),
            unit="s",
            no_value=say("no app is probed", "aucune app n'est sondée"),
            links=app_links(),
        ),
        8,
        9,
    )


def resources(board: Board) -> None:
    """Add processor, memory and restarts of the apps' containers."""
    none = say("cAdvisor tells of no such container", "cAdvisor ne parle d'aucun conteneur de ce type")
    board.row(say("Containers of the apps", "Conteneurs des apps"))
    board.add(
        curves(
            say("Processor by app (10 busiest)", "Processeur par app (10 premières)"),
            say("Cores that the app's container uses.", "Cœurs qu'utilise le conteneur de l'app."),
            over_time(most(10, f"app:cpu_cores:rate5m{{{APP}}}"), "{{app}}"),
            unit="none",
            decimals=3,
            no_value=none,
            links=app_links(),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Memory by app (10 largest)", "Mémoire par app (10 premières)"),
            say(
                "Memory that the app's container cannot give back.",
                "Mémoire que le conteneur de l'app ne peut rendre.",
            ),
            over_time(most(10, f"app:memory_working_set_bytes:max5m{{{APP}}}"), "{{app}}"),
            unit="bytes",
            no_value=none,
            links=app_links(),
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Restarts within a day (10 most)", "Redémarrages en un jour (10 premières)"),
            say(
                "How often the engine restarted the container; the objective is fewer than 2.",
                "Combien de fois le moteur a redémarré le conteneur ; l'objectif est moins de 2.",
            ),
            over_time(most(10, f'max by (host, app) (container:restarts:increase1d{{app!="", {APP}}})'), "{{app}}"),
            unit="none",
            steps=rising(limits.RESTARTS_A_DAY),
            no_value=say("nothing counts restarts", "personne ne compte les redémarrages"),
            links=app_links(),
        ),
        8,
        8,
    )


def _public_names() -> object:
    """Return the table of what is reached from outside."""
    by = "host, project, branch, app, hostname"
    return rows(
        say("Public names and certificates", "Noms publics et certificats"),
        say(
            "Whether an app answers under its public name, and how many days its certificate is still good; red from "
            "where CertificateExpiry warns. Empty where nothing asks public names.",
            "Si une app répond sous son nom public, et pour combien de jours son certificat est encore bon ; rouge au "
            "seuil de CertificateExpiry. Vide si personne n'interroge les noms publics.",
        ),
        column(f'min by ({by}) (probe_success{{job="app-public", {APP}}})'),
        column(f"(min by ({by}) (probe_ssl_earliest_cert_expiry{{{APP}}}) - time()) / 86400"),
        columns=[
            Column("hostname", say("Name", "Nom")),
            Column("app", "Application"),
            Column("host", say("Host", "Serveur")),
            Column("Value #A", say("Reached", "Joignable"), mappings=up_down()),
            Column(
                "Value #B",
                say("Certificate", "Certificat"),
                unit="d",
                steps=falling(limits.CERTIFICATE_DAYS),
                decimals=0,
            ),
        ],
        sort=say("Certificate", "Certificat"),
        no_value=say("no public name is asked", "aucun nom public n'est interrogé"),
    )


def _logs(board: Board) -> None:
    board.row("Logs")
    board.add(
        curves(
            say("Lines by app", "Lignes par app"),
            say(
                "Log lines of the apps' containers, of each moment's ten with the most.",
                "Lignes de log des conteneurs des apps, à chaque instant des dix premiers.",
            ),
            log_rate(
                f"topk(10, sum by (container) (count_over_time({{{CONTAINERS}}} [$__interval])))",
                "{{container}}",
            ),
            unit="none",
            bars=True,
            stacked=True,
            every="1m",
            no_value=say("no line in the range", "aucune ligne dans la plage"),
        ),
        8,
        9,
    )
    board.add(
        lines(
            say("Last errors of the apps", "Dernières erreurs des apps"),
            say(
                "The newest lines of the chosen apps' containers that speak of an error.",
                "Les dernières lignes des conteneurs choisis qui parlent d'une erreur.",
            ),
            log_lines(f'{{{CONTAINERS}, level="error"}}', 100),
            no_value=say("no line speaks of an error", "aucune ligne ne parle d'erreur"),
        ),
        16,
        9,
    )
