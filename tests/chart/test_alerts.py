"""The alerts: they fire when they must and only then, and each has its runbook."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import prometheus
from tests.chart import helm, series
from webhook.admission.metrics import Metrics
from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.metrics import AuditorMetrics

RUNBOOKS = Path(__file__).parents[2] / "docs" / "alerts.md"


def group(values: dict[str, Any] | None = None) -> dict[str, Any]:
    given = {
        "prometheusRule": {"enabled": True},
        "auditor": {"enabled": True},
        **(values or {}),
    }
    found: dict[str, Any] = helm.render(given).one("PrometheusRule")["spec"]
    return found


def rules(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    (only,) = group(values)["groups"]
    result: list[dict[str, Any]] = only["rules"]
    return result


ALERTS = {rule["alert"]: rule for rule in rules()}


def own_metrics() -> set[str]:
    """The names of all metrics of the server and of the auditor, as Prometheus stores them."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {
        f"{family.name}{ending}"
        for registry in (Metrics("1").registry, AuditorMetrics(Scans()).registry)
        for family in registry.collect()
        for ending in endings[family.type]
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules, as Prometheus' operator gives them to Prometheus."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(group()))
    return path


def test_there_are_no_alerts_by_default() -> None:
    assert helm.render().of_kind("PrometheusRule") == []


def test_prometheus_can_read_the_rules(file: Path) -> None:
    assert f"SUCCESS: {len(ALERTS)} rules found" in prometheus.promtool("check", "rules", file)


@pytest.mark.parametrize(
    "case", series.CASES, ids=lambda case: f"{case.alert}: {case.what}".replace(" ", "-")
)
def test_an_alert_fires_when_it_must_and_only_then(
    file: Path, tmp_path: Path, case: series.Case
) -> None:
    played = tmp_path / "test.yaml"
    played.write_text(yaml.safe_dump(series.document(str(file), case, ALERTS[case.alert])))
    prometheus.promtool("test", "rules", played)


@pytest.mark.parametrize("name", ALERTS)
def test_there_is_a_story_of_each_kind_for_every_alert(name: str) -> None:
    assert {bool(case.fires) for case in series.CASES if case.alert == name} == {True, False}


def test_without_an_auditor_nothing_refers_to_it() -> None:
    stale = {rule["alert"]: rule["expr"] for rule in rules({"auditor": {"enabled": False}})}
    assert "absent" not in stale["MendixMeshAuditorStale"]
    assert "absent" in ALERTS["MendixMeshAuditorStale"]["expr"]


@pytest.mark.parametrize(("interval", "stale"), [(60, 1800), (3600, 14400)])
def test_an_auditor_that_scans_seldom_is_stale_later(interval: int, stale: int) -> None:
    values = {"auditor": {"enabled": True, "interval": interval}}
    (rule,) = (r for r in rules(values) if r["alert"] == "MendixMeshAuditorStale")
    assert f"> {stale}\n" in rule["expr"]


def test_our_metrics_in_queries_exist() -> None:
    queried = {
        metric
        for rule in ALERTS.values()
        for metric in re.findall(r"\bmendix_mesh_\w+", rule["expr"])
    }
    assert len(queried) > 3
    assert queried <= own_metrics()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOKS.read_text()


def test_there_is_no_runbook_without_its_alert() -> None:
    assert re.findall(r"^### (.+)$", RUNBOOKS.read_text(), re.MULTILINE) == list(ALERTS)


def test_the_address_of_the_runbooks_can_be_set() -> None:
    values = {"prometheusRule": {"enabled": True, "runbooks": "https://example.com/alerts"}}
    urls = {rule["annotations"]["runbook_url"] for rule in rules(values)}
    assert "https://example.com/alerts#mendixmeshdown" in urls


@pytest.mark.parametrize(
    ("tls", "hours"),
    [
        ({}, 360),
        ({"certManager": {"renewBefore": "10h"}}, 5),
        ({"source": "helm"}, 336),
        (helm.OWN["tls"], 336),
    ],
)
def test_a_certificate_is_missed_when_half_of_the_time_to_renew_it_has_passed(
    tls: dict[str, Any], hours: int
) -> None:
    (expires,) = (r for r in rules({"tls": tls}) if r["alert"] == "MendixMeshCertificateExpires")
    assert expires["expr"].endswith(f"< {hours} * 3600")
