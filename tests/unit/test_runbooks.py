"""Each alert has a runbook and each runbook an alert; what the documents name exists."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
import typing as t
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
RUNBOOKS = CHECKOUT / "docs/runbooks"
HEADINGS = {
    "en": ["What it means", "How to look", "How to mend", "How to silence"],
    "fr": ["Ce que cela veut dire", "Comment regarder", "Comment réparer", "Comment mettre en silence"],
}
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if not path.name.startswith("README"))
DOCUMENTS = sorted([*(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / name for name in ("CONTRIBUTING.md",))])
DOCUMENTS += [CHECKOUT / "README.md", CHECKOUT / "README.fr.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


@functools.cache
def rule_templates() -> str:
    """The text of every rule template of both programs that evaluate rules."""
    folders = [CHECKOUT / "roles/prometheus/templates/rules", CHECKOUT / "roles/loki/templates/rules"]
    files = sorted(itertools.chain.from_iterable(folder.rglob("*.j2") for folder in folders))
    return "\n".join(path.read_text() for path in files)


@functools.cache
def alerts() -> set[str]:
    """The names of all alerts that the roles define: by the macro, or spelled out."""
    found = re.findall(r"m\.alert\('(\w+)'|- alert: ([A-Z]\w+)", rule_templates())
    return {first or second for first, second in found}


@functools.cache
def variables() -> dict[str, t.Any]:
    """The variables of all roles, with their defaults."""
    defaults = (CHECKOUT / "roles").glob("*/defaults/main.yml")
    return dict(itertools.chain.from_iterable(yaml.safe_load(path.read_text()).items() for path in defaults))


def alert_of(page: Path) -> str:
    """The alert that a page is about."""
    return page.name.removesuffix(".md").removesuffix(".fr")


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    heads = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def named(path: Path) -> str:
    """A path as test names show it."""
    return str(path.relative_to(CHECKOUT))


def test_alerts_are_found():
    # Of both programs, and by both spellings; an empty list would prove nothing below.
    assert {"Watchdog", "HostDown", "LogErrorBurst", "DeploymentNotice"} <= alerts()


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    assert {alert_of(page) for page in PAGES if ".fr." not in page.name} == alerts()
    assert {alert_of(page) for page in PAGES} == alerts()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_runbook_has_its_name_and_the_four_headings(page):
    language = "fr" if ".fr." in page.name else "en"
    text = prose(page)
    assert text.startswith(f"# {alert_of(page)}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS[language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_runbook_silences_its_own_alert(page):
    silences = [body for _, body in FENCE.findall(page.read_text()) if "silence add" in body]
    assert len(silences) == 1
    assert re.search(rf"--duration=\w+ alertname={alert_of(page)}\b", silences[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_head_says_the_severity_and_the_channel_that_the_rule_has(page):
    alert, text = alert_of(page), rule_templates()
    by_macro = re.search(rf"m\.alert\('{alert}', '(\w+)', '(\w+)'", text)
    spelled_out = re.search(rf"- alert: {alert}\n.*?severity: (\w+), team: ([^,}}]+)", text, re.DOTALL)
    severity, team = (by_macro or spelled_out).groups()
    told, channel = re.search(r"^\*\*(\w+)\*\* · (#[\w-]+|no channel)", page.read_text(), re.MULTILINE).groups()
    assert told == severity
    channels = {"critical": "#alerts-critical", "none": "no channel"}
    if "{{" not in team:
        assert channel == channels.get(severity, f"#{team}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_head_names_each_limit_of_the_rule(page):
    alert = alert_of(page)
    body = re.search(rf"m\.alert\('{alert}'.*?endcall", rule_templates(), re.DOTALL)
    limits = re.findall(r"prometheus_alert_(?!ignored|critical_eval)\w+", body.group()) if body else []
    assert [name for name in limits if f"`{name}`" not in page.read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_head_says_the_default_of_each_limit_that_it_names(page):
    head = page.read_text().split("\n## ")[0]
    for name in set(CODE.findall(head)) & set(variables()):
        default = str(variables()[name])
        if re.fullmatch(r"[\d.]+[smhd]?", default):
            assert re.search(rf"(?<![\w.]){default}(?![\w.]*\w)", head), f"{name} is {default}"


@pytest.mark.parametrize("index", ["README.md", "README.fr.md"])
def test_the_index_lists_every_alert_under_its_severity(index):
    listed = re.findall(r"^\| \[(\w+)\]\(", (RUNBOOKS / index).read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(alerts())


def test_critical_alerts_are_there_in_french():
    critical = re.findall(r"m\.alert\('(\w+)', 'critical'", rule_templates())
    assert sorted(alert_of(page) for page in PAGES if ".fr." in page.name) == sorted(critical)
    for alert in critical:
        assert f"({alert}.fr.md)" in (RUNBOOKS / f"{alert}.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_are_shell(page):
    for language, body in FENCE.findall(page.read_text()):
        if language == "bash":
            done = subprocess.run(["bash", "-n"], input=body, capture_output=True, text=True, check=False)
            assert done.returncode == 0, body + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_no_link_is_dead(document):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    for link in links:
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_variable_named_exists(document):
    roles = {path.name for path in (CHECKOUT / "roles").iterdir()}
    prefixes = "|".join(sorted(roles - {"service"}))
    # Metrics, roles and plugins are named alike.
    plugins = {path.stem for path in (CHECKOUT / "plugins").rglob("*.py")}
    known = {*variables(), *roles, *plugins}
    metrics = rule_templates() + (CHECKOUT / "roles/app_discovery/files/app_discovery.py").read_text()
    for code in CODE.findall(prose(document)):
        for name in re.findall(rf"(?<![\w/.<-])((?:{prefixes}|monitoring)_[a-z0-9_]*[a-z0-9])(?![\w*/{{.-])", code):
            assert name in known or re.search(rf"\b{name}\b", metrics) or is_metric(name), f"{name} is no variable"


def is_metric(name: str) -> bool:
    """Whether a name can only be a metric's, by its ending: no variable is called so."""
    return name.endswith(("_total", "_bytes", "_bucket", "_info", "_up"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_playbook_named_exists(document):
    text = document.read_text()
    for name in re.findall(r"(?:ansible-playbook(?: -\S+ \S+)? |playbooks/)((?:playbooks/)?[\w-]+\.yml)", text):
        below = CHECKOUT / "playbooks" / name.removeprefix("playbooks/")
        assert below.exists() or (CHECKOUT / name).exists(), f"there is no playbook {name}"
    for name in re.findall(r"nekocheik\.deployment_monitoring\.(site|[a-z_]+)(?=[`\s])", text):
        known = [*(CHECKOUT / "playbooks").glob("*.yml"), *(CHECKOUT / "roles").iterdir()]
        known += (CHECKOUT / "plugins").rglob("*.py")
        assert name in {path.stem for path in known}, f"there is no {name} in the collection"
