"""The alerts: Prometheus can read them, what they ask for exists, and each has its runbook."""

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from tests.chart import helm
from webhook.admission.metrics import Metrics

RUNBOOKS = Path(__file__).parents[2] / "docs" / "alerts.md"


def rules(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found = helm.render({"prometheusRule": {"enabled": True}, **(values or {})})
    (group,) = found.one("PrometheusRule")["spec"]["groups"]
    result: list[dict[str, Any]] = group["rules"]
    return result


ALERTS = {rule["alert"]: rule for rule in rules()}


def _own_metrics() -> set[str]:
    metrics = Metrics("1")
    metrics.review("validate", "linkerd", "enforce", "Pod", "denied")
    names = (line.split("{")[0].split(" ")[0] for line in metrics.expose().decode().splitlines())
    return {name for name in names if name != "#"}


def test_there_are_no_alerts_by_default() -> None:
    assert helm.render().of_kind("PrometheusRule") == []


@pytest.mark.parametrize("name", ALERTS)
def test_prometheus_can_read_the_expression(name: str) -> None:
    promql_parser.parse(ALERTS[name]["expr"])


def test_the_metrics_of_ours_that_are_asked_for_exist() -> None:
    asked = {
        metric
        for rule in ALERTS.values()
        for metric in re.findall(r"\bmendix_mesh_\w+", rule["expr"])
    }
    assert len(asked) > 3
    assert asked <= _own_metrics()


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
