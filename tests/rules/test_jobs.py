"""The scrape jobs as the role renders them: what Prometheus makes of apps, and names that two jobs may not share."""

from __future__ import annotations

import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

# isort: split
import rendering
from promtool import PROMTOOL, load

HOSTS = {"hosts": ["one", "two"], "platform": ["one", "two"]}
SERVICE = {"name": "billing", "port": 3010, "metrics": True, "health": ""}
VARIANTS: dict[str, dict[str, t.Any]] = {
    "all-on": {
        **HOSTS,
        "prometheus_app_public_probes": True,
        "grafana_external_url": "https://grafana.example.com/",
        "alertmanager_external_url": "http://127.0.0.1:9093",
        "prometheus_cloudflared_targets": ["127.0.0.1:20241", "10.0.0.9:20241"],
        "prometheus_extra_scrape_configs": [{"job_name": "own", "static_configs": [{"targets": ["10.0.0.7:9400"]}]}],
    },
    "own-names": {
        "hosts": ["one"],
        "platform": [],
        "prometheus_public_urls": ["https://a.example.com/login", "https://b.example.com:8443/"],
    },
    "off": {"hosts": ["one"], "platform": ["one"], "prometheus_app_dropped_metrics": ""},
}
REFUSED = {
    "extra-and-off": (
        "prometheus_extra_scrape_configs",
        "app-public",
        {"prometheus_extra_scrape_configs": [{"job_name": "app-public"}]},
    ),
    "no-https": (
        "prometheus_public_urls",
        "http://grafana.example.com",
        {"prometheus_public_urls": ["http://grafana.example.com"]},
    ),
    "no-name": ("prometheus_extra_scrape_configs", "job_name", {"prometheus_extra_scrape_configs": [{"x": 1}]}),
    "service-twice": (
        "prometheus_platform_services",
        "billing",
        {"prometheus_platform_services": [SERVICE, {**SERVICE, "port": 3011}]},
    ),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered trees of all variants."""
    target = tmp_path_factory.mktemp("jobs")
    rendering.render(target, VARIANTS)
    return target


def jobs(trees: Path, variant: str) -> dict[str, dict[str, t.Any]]:
    loaded = yaml.safe_load((trees / variant / "prometheus.yml").read_text())
    return {job["job_name"]: job for job in loaded["scrape_configs"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_promtool_takes_it_with_the_users_own_targets(trees: Path, variant: str) -> None:
    own = trees / variant / "targets.d/own.yml"
    own.write_text("- targets: ['10.0.0.7:9400']\n  labels: {job: billing}\n")
    words = [str(PROMTOOL), "check", "config", str(trees / variant / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_of_the_users_own_files_that_has_a_taken_name_is_refused(trees: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(trees / "off", tree)
    (tree / "jobs.d").mkdir()
    (tree / "jobs.d/own.yml").write_text("scrape_configs: [{job_name: node}]\n")
    words = [str(PROMTOOL), "check", "config", str(tree / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'job name "node"' in done.stdout + done.stderr


def test_what_is_off_is_not_there(trees: Path) -> None:
    assert {"app-public", "public", "cloudflared"} <= set(jobs(trees, "all-on"))
    assert not {"app-public", "public", "cloudflared"} & set(jobs(trees, "off"))


def test_apps_are_scraped_with_limits_and_without_their_clocks(trees: Path) -> None:
    job = jobs(trees, "off")["app-metrics"]
    assert job["sample_limit"] == 2000
    assert job["body_size_limit"] == "2MB"
    assert min(job[name] for name in ("label_limit", "label_name_length_limit", "label_value_length_limit")) > 0
    assert job["honor_timestamps"] is False
    assert not job.get("honor_labels")


def test_names_of_the_stack_are_not_taken_from_apps(trees: Path) -> None:
    (rule,) = jobs(trees, "all-on")["app-metrics"]["metric_relabel_configs"]
    assert (rule["source_labels"], rule["action"]) == (["__name__"], "drop")
    # Those that the rules ask for without naming a job, and some that apps do have.
    taken = "mongodb_up node_memory_MemAvailable_bytes port_manager_total_allocations deployment_total up ALERTS a:b:c"
    given = "http_requests_total http_request_duration_seconds_bucket process_cpu_seconds_total nodejs_eventloop_lag"
    # Prometheus anchors its expressions.
    assert all(re.fullmatch(rule["regex"], name) for name in taken.split())
    assert not any(re.fullmatch(rule["regex"], name) for name in given.split())
    assert "metric_relabel_configs" not in jobs(trees, "off")["app-metrics"]


_WORDS = {"and", "or", "unless", "offset", "bool", "by", "on", "ignoring", "without", "group_left", "group_right"}


def test_no_metric_by_which_the_rules_judge_is_taken_from_apps(trees: Path) -> None:
    (relabelling,) = jobs(trees, "all-on")["app-metrics"]["metric_relabel_configs"]
    read: set[str] = set()
    for rule in load(trees / "all-on"):
        # What is left without texts, matchers and lists of labels are metrics, functions and operators.
        bare = re.sub(r'"[^"]*"', "", rule["expr"])
        bare = re.sub(r"\{[^}]*\}|\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", bare)
        read |= set(re.findall(r"(?<![\w:.])[a-zA-Z_][\w:]*(?![\w:]*\s*\()", bare)) - _WORDS
    assert {"mongodb_up", "alloy_config_last_load_successful"} <= read
    # What apps are asked for, by their own job.
    own = {name for name in read if name.startswith("http_request")}
    assert own == {
        "http_requests_total",
        "http_request_duration_seconds_bucket",
    }
    assert [name for name in sorted(read - own) if not re.fullmatch(relabelling["regex"], name)] == []


def relabelled(job: dict[str, t.Any], labels: dict[str, str]) -> dict[str, str]:
    """What the job's rules make of a target, for the one action that they use."""
    for rule in job.get("relabel_configs", []):
        value = ";".join(labels.get(name, "") for name in rule.get("source_labels", []))
        found = re.fullmatch(rule.get("regex", "(.*)"), value)
        if found:
            replacement = re.sub(r"\$(\d)", r"\\\1", rule.get("replacement", "$1"))
            labels = {**labels, rule["target_label"]: found.expand(replacement)}
    return labels


def test_apps_of_another_host_are_asked_through_that_host(trees: Path) -> None:
    found = jobs(trees, "all-on")
    here = {"host": "all-on-one", "port": "8101", "__metrics_path__": "/metrics", "__address__": "127.0.0.1:8101"}
    assert relabelled(found["app-metrics"], here) == here
    there = relabelled(found["app-metrics"], {**here, "host": "all-on-two"})
    assert (there["__address__"], there["__metrics_path__"]) == ("10.0.0.2:9810", "/apps/8101/metrics")
    url = "http://127.0.0.1:8101/health"
    health = relabelled(found["app-health"], {"host": "all-on-two", "__address__": url})
    assert (health["__address__"], health["__param_target"]) == ("10.0.0.2:9115", url)


def test_public_names_are_probed_from_here(trees: Path) -> None:
    found = relabelled(jobs(trees, "all-on")["app-public"], {"host": "all-on-two", "__address__": "https://x/health"})
    assert found["__param_target"] == "https://x/health"
    assert found["__address__"].endswith(":9115")
    assert found["__address__"] != "10.0.0.2:9115"


def test_the_stacks_own_public_names_are_probed_with_those_of_the_apps(trees: Path) -> None:
    job = jobs(trees, "all-on")["public"]
    assert [group["targets"] for group in job["static_configs"]] == [["https://grafana.example.com/"]]
    found = relabelled(job, {"__address__": "https://grafana.example.com/"})
    assert found["__param_target"] == "https://grafana.example.com/"
    assert found["__address__"].endswith(":9115")


def test_other_public_names_need_no_platform(trees: Path) -> None:
    groups = jobs(trees, "own-names")["public"]["static_configs"]
    assert [group["labels"]["hostname"] for group in groups] == ["a.example.com", "b.example.com"]
    assert {group["labels"]["host"] for group in groups} == {"own-names-one"}


def test_every_target_of_a_tunnel_says_its_host(trees: Path) -> None:
    groups = jobs(trees, "all-on")["cloudflared"]["static_configs"]
    assert [group["labels"]["instance"] for group in groups] == ["all-on-one:20241", "10.0.0.9:20241"]


@pytest.mark.parametrize(
    ("labels", "host"),
    [
        ({"__address__": "10.0.0.7:9400"}, "10.0.0.7"),
        ({"__address__": "web-7"}, "web-7"),
        ({"__address__": "10.0.0.7:9400", "host": "web-7"}, "web-7"),
    ],
)
def test_the_users_own_targets_have_a_host(trees: Path, labels: dict[str, str], host: str) -> None:
    assert relabelled(jobs(trees, "off")["extra"], labels)["host"] == host


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_job_is_refused_by_name(tmp_path: Path, name: str) -> None:
    variable, job, variables = REFUSED[name]
    with pytest.raises(AssertionError) as refusal:
        rendering.render(tmp_path, {name: {"hosts": ["one"], "platform": ["one"], **variables}})
    said = " ".join(str(refusal.value).split())
    assert "Nothing was changed" in said
    assert variable in said
    assert job in said
