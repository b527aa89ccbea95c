"""project-main: one project, all its branches; the role also makes one of it for each project that it is told of."""

from __future__ import annotations

from .applications import CONTAINERS, health, requests, resources, summary
from .deployment import HOST, apps_table
from .kit import Board, app, branch, host, lines, log_lines, project, say

UID = "project-main"


def make() -> Board:
    """Return the dashboard."""
    board = Board(
        UID,
        say("Project", "Projet"),
        say(
            "One project: its branches, their requests, errors, health, containers, deployments and log lines.",
            "Un projet : ses branches, leurs requêtes, erreurs, santé, conteneurs, déploiements et lignes de log.",
        ),
        host(),
        project(multi=False),
        branch(),
        app(),
    )
    summary(board)
    board.row(say("Branches", "Branches"))
    board.add(apps_table(), 24, 8)
    requests(board)
    health(board)
    resources(board)
    board.row(say("Deployments and log lines", "Déploiements et lignes de log"))
    board.add(
        lines(
            say("Deployments of the project", "Déploiements du projet"),
            say(
                "What the Deployment API says about the project's branches.",
                "Ce que l'API de déploiement dit des branches du projet.",
            ),
            # A word's end would be enough inside of a name: my-shop/main is another project than shop/main.
            log_lines(f'{{job="deployment-api", {HOST}}} |~ `(^|[^\\w.-])($project)/`', 100),
            no_value=say("no deployment in the range", "aucun déploiement dans la plage"),
        ),
        12,
        10,
    )
    board.add(
        lines(
            say("Log lines of the project", "Lignes de log du projet"),
            say("The newest lines of its containers.", "Les dernières lignes de ses conteneurs."),
            log_lines(f"{{{CONTAINERS}}}", 200),
            no_value=say("no line in the range", "aucune ligne dans la plage"),
        ),
        12,
        10,
    )
    return board
