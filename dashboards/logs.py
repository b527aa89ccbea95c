"""logs-main: how much is logged, what goes wrong, and every line of one deployment."""

from __future__ import annotations

from .deployment import PLATFORM
from .kit import (
    BLUE,
    LOKI,
    Board,
    chosen,
    curves,
    host,
    lines,
    log_lines,
    log_now,
    log_rate,
    number,
    over_time,
    rising,
    say,
    text,
    to_dashboard,
    to_logs,
)

UID = "logs-main"
HOST = 'host=~"$host"'
STREAMS = f'{{job=~"$job", {HOST}}}'
# Every line that says how bad it is has been given this label.
ERRORS = f'{{job=~"$job", {HOST}, level="error"}}'


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        "Logs",
        say(
            "Volume and errors of each source, and all lines of one deployment by its id.",
            "Volume et erreurs de chaque source, et toutes les lignes d'un déploiement par son identifiant.",
        ),
        host(),
        chosen("job", "Job", 'label_values({host=~"$host", job=~".+"}, job)', LOKI, anything=".+"),
        text(
            "deployment_id",
            say("Deployment id", "Identifiant de déploiement"),
            say("Like deploy-1755768199487; empty for all.", "Comme deploy-1755768199487 ; vide pour tous."),
        ),
        text("search", say("Search", "Recherche"), say("A text in the lines.", "Un texte dans les lignes.")),
    )
    _volume(board)
    _search(board)
    _collection(board)
    return board


def _volume(board: Board) -> None:
    board.row(say("Volume and errors", "Volume et erreurs"))
    none = say("no line in the range", "aucune ligne dans la plage")
    board.add(
        number(
            say("Lines", "Lignes"),
            say("Lines within the chosen time range.", "Lignes dans la plage de temps choisie."),
            log_now(f"sum(count_over_time({STREAMS} [$__range]))"),
            unit="short",
            steps=BLUE,
            no_value=none,
        ),
        3,
        8,
    )
    board.add(
        number(
            say("Error lines", "Lignes d'erreur"),
            say("Lines of the range that speak of an error.", "Lignes de la plage qui parlent d'une erreur."),
            log_now(f"sum(count_over_time({ERRORS} [$__range]))"),
            unit="short",
            steps=rising(1),
            no_value=say("no error line", "aucune ligne d'erreur"),
        ),
        3,
        8,
    )
    links = [
        to_logs(say("These lines", "Ces lignes"), '{job="${__field.labels.job}"}'),
        to_dashboard(say("Only this job", "Seulement ce job"), UID, job="${__field.labels.job}"),
    ]
    board.add(
        curves(
            say("Lines by job", "Lignes par job"),
            say("Lines of each source.", "Lignes de chaque source."),
            log_rate(f"sum by (job) (count_over_time({STREAMS} [$__interval]))", "{{job}}"),
            unit="short",
            bars=True,
            stacked=True,
            every="1m",
            no_value=none,
            links=links,
        ),
        9,
        8,
    )
    board.add(
        curves(
            say("Error lines by job", "Lignes d'erreur par job"),
            say("Lines of each source that speak of an error.", "Lignes de chaque source qui parlent d'une erreur."),
            log_rate(f"sum by (job) (count_over_time({ERRORS} [$__interval]))", "{{job}}"),
            unit="short",
            bars=True,
            stacked=True,
            every="1m",
            no_value=say("no error line", "aucune ligne d'erreur"),
            links=[to_logs(say("These lines", "Ces lignes"), '{job="${__field.labels.job}", level="error"}')],
        ),
        9,
        8,
    )


def _search(board: Board) -> None:
    board.row(say("Deployments and search", "Déploiements et recherche"))
    board.add(
        lines(
            say("Deployment $deployment_id", "Déploiement $deployment_id"),
            say(
                "Every line of the deployment, of all services; without an id, of all deployments.",
                "Toutes les lignes du déploiement, de tous les services ; sans identifiant, de tous.",
            ),
            log_lines(f'{{job=~"{PLATFORM}", {HOST}}} |= "$deployment_id" |~ `deploy-[0-9]+`', 500),
            no_value=say("no line has this id in the range", "aucune ligne n'a cet identifiant dans la plage"),
        ),
        12,
        12,
    )
    board.add(
        lines(
            say("Search in the chosen jobs", "Recherche dans les jobs choisis"),
            say("Lines with the text that was searched for.", "Lignes avec le texte cherché."),
            log_lines(f'{STREAMS} |= "$search"', 500),
            no_value=say("no line has this text in the range", "aucune ligne n'a ce texte dans la plage"),
        ),
        12,
        12,
    )
    board.add(
        lines(
            say("Errors of the chosen jobs", "Erreurs des jobs choisis"),
            say("The newest lines that speak of an error.", "Les dernières lignes qui parlent d'une erreur."),
            log_lines(ERRORS, 300),
            no_value=say("no error line", "aucune ligne d'erreur"),
        ),
        24,
        10,
    )


def lost() -> object:
    """Return what was logged and did not arrive; the dashboard of the stack has it too, for the alerts lead there."""
    return curves(
        say("Lost on the way", "Perdu en chemin"),
        say(
            "Lines that Loki refused, and entries that the collector dropped: none should be.",
            "Lignes que Loki a refusées, et entrées que le collecteur a jetées : il ne devrait pas y en avoir.",
        ),
        over_time(
            f"sum by (reason) (rate(loki_discarded_samples_total{{{HOST}}}[$__rate_interval]))",
            say("refused: {{reason}}", "refusées : {{reason}}"),
        ),
        over_time(
            f"sum by (host) (rate(promtail_dropped_entries_total{{{HOST}}}[$__rate_interval]))",
            say("dropped on {{host}}", "jetées sur {{host}}"),
        ),
        over_time(
            f"sum by (host) (rate(loki_write_dropped_entries_total{{{HOST}}}[$__rate_interval]))",
            say("dropped on {{host}}", "jetées sur {{host}}"),
        ),
        over_time(
            f"sum by (host) (rate(otelcol_exporter_send_failed_log_records_total{{{HOST}}}[$__rate_interval]))",
            say("dropped on {{host}}", "jetées sur {{host}}"),
        ),
        unit="cps",
        no_value=say("nothing was lost", "rien n'a été perdu"),
    )


def _collection(board: Board) -> None:
    board.row(say("Collection", "Collecte"))
    board.add(
        curves(
            say("Received by Loki", "Reçu par Loki"),
            say("Bytes of log lines that Loki takes in.", "Octets de lignes de log que Loki reçoit."),
            over_time(
                f"sum by (host) (rate(loki_distributor_bytes_received_total{{{HOST}}}[$__rate_interval]))", "{{host}}"
            ),
            unit="Bps",
            no_value=say("Loki gives no metrics", "Loki ne donne pas de métriques"),
        ),
        8,
        8,
    )
    board.add(lost(), 8, 8)
    board.add(
        curves(
            say("Streams", "Flux"),
            say(
                "Streams that Loki keeps open; many mean a label with too many values.",
                "Flux que Loki tient ouverts ; beaucoup signifie un label aux valeurs trop nombreuses.",
            ),
            over_time(f"sum by (host) (loki_ingester_memory_streams{{{HOST}}})", "{{host}}"),
            unit="short",
            no_value=say("Loki gives no metrics", "Loki ne donne pas de métriques"),
        ),
        8,
        8,
    )
