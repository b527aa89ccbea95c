"""mongodb-main: the Tunnel Manager's database."""

from __future__ import annotations

from . import limits
from .kit import BLUE, Board, curves, host, now, number, over_time, rising, say, states, up_down

UID = "mongodb-main"
HOST = 'host=~"$host"'


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        "MongoDB",
        say(
            "The Tunnel Manager's database: whether it answers, how fast, and what it is asked.",
            "La base du Tunnel Manager : si elle répond, à quelle vitesse, et ce qu'on lui demande.",
        ),
        host("mongodb_up"),
    )
    none = say("the database does not tell this", "la base ne le dit pas")
    board.row(say("State", "État"))
    board.add(
        number(
            "MongoDB",
            say("Whether the exporter reaches the database.", "Si l'exporteur atteint la base."),
            now(f"min by (host) (mongodb_up{{{HOST}}})", "{{host}}"),
            unit="none",
            mappings=up_down(),
            background=True,
            no_value=say("no exporter answers", "aucun exporteur ne répond"),
        ),
        4,
        5,
    )
    board.add(
        number(
            say("Exporter", "Exporteur"),
            say(
                "Whether Prometheus reaches the exporter: says nothing about the database.",
                "Si Prometheus atteint l'exporteur : ne dit rien de la base.",
            ),
            now(f'min by (host) (up{{job="mongodb", {HOST}}})', "{{host}}"),
            unit="none",
            mappings=up_down(),
            background=True,
        ),
        4,
        5,
    )
    board.add(
        number(
            say("Running since", "En service depuis"),
            say("How long the database has been running.", "Depuis combien de temps la base tourne."),
            now(f"min(mongodb_ss_uptime{{{HOST}}})"),
            unit="s",
            steps=BLUE,
            no_value=none,
        ),
        4,
        5,
    )
    board.add(
        states(
            say("Reached over time", "Atteinte dans le temps"),
            say("When the database answered its exporter.", "Quand la base a répondu à son exporteur."),
            over_time(f"min by (host) (mongodb_up{{{HOST}}})", "{{host}}"),
            mappings=up_down(),
            no_value=say("no exporter answers", "aucun exporteur ne répond"),
        ),
        12,
        5,
    )
    board.row(say("Load", "Charge"))
    board.add(
        curves(
            say("Operations", "Opérations"),
            say("Operations a second, by kind.", "Opérations par seconde, par type."),
            over_time(
                f"sum by (legacy_op_type) (rate(mongodb_ss_opcounters{{{HOST}}}[$__rate_interval]))",
                "{{legacy_op_type}}",
            ),
            unit="ops",
            no_value=none,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Time of an operation", "Durée d'une opération"),
            say(
                "Average time that the database took for an operation; the line is where MongoDBSlow warns.",
                "Temps moyen pris par la base pour une opération ; la ligne est le seuil de MongoDBSlow.",
            ),
            over_time(f"mongodb:op_latency_seconds:avg5m{{{HOST}}}", "{{host}} {{op_type}}"),
            unit="s",
            steps=rising(limits.MONGODB_SECONDS),
            no_value=none,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Connections", "Connexions"),
            say("Connections in use and still possible.", "Connexions utilisées et encore possibles."),
            over_time(
                f'sum by (host, conn_type) (mongodb_ss_connections{{conn_type=~"current|active|available", {HOST}}})',
                "{{host}} {{conn_type}}",
            ),
            unit="none",
            no_value=none,
        ),
        8,
        8,
    )
    board.row(say("Resources", "Ressources"))
    board.add(
        curves(
            say("Memory", "Mémoire"),
            say("Memory of the database's process.", "Mémoire du processus de la base."),
            over_time(
                f"mongodb_ss_mem_resident{{{HOST}}} * 1024 * 1024", say("{{host}} resident", "{{host}} résidente")
            ),
            over_time(f"mongodb_ss_wt_cache_bytes_currently_in_the_cache{{{HOST}}}", "{{host}} cache"),
            unit="bytes",
            no_value=none,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Network", "Réseau"),
            say("Bytes that came in, and (below) went out.", "Octets entrants et, en bas, sortants."),
            over_time(
                f"sum by (host) (rate(mongodb_ss_network_bytesIn{{{HOST}}}[$__rate_interval]))",
                say("{{host}} in", "{{host}} entrant"),
            ),
            over_time(
                f"sum by (host) (rate(mongodb_ss_network_bytesOut{{{HOST}}}[$__rate_interval]))",
                say("{{host}} out", "{{host}} sortant"),
            ),
            unit="Bps",
            below=say("out", "sortant"),
            no_value=none,
        ),
        8,
        8,
    )
    board.add(
        curves(
            say("Documents", "Documents"),
            say("Documents that were read and written, a second.", "Documents lus et écrits, par seconde."),
            over_time(
                f"sum by (doc_op_type) (rate(mongodb_ss_metrics_document{{{HOST}}}[$__rate_interval]))",
                "{{doc_op_type}}",
            ),
            unit="ops",
            no_value=none,
        ),
        8,
        8,
    )
    return board
