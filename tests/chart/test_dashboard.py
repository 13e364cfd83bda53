"""Grafana's dashboard: it is valid, and a real Prometheus answers all of its queries."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from charts import generate_dashboard
from tests import prometheus
from tests.chart import helm
from tests.chart.test_alerts import own_metrics
from tests.standins.mesh_metrics import istio, linkerd_identity, linkerd_inbound

DASHBOARD = json.loads(generate_dashboard.DASHBOARD.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = {
    f"{panel['title']} {target['refId']}": target for panel in PANELS for target in panel["targets"]
}
#: When the recorded series begin, in seconds since 1970, and how many minutes they go on.
BEGIN, MINUTES = 1_700_000_000, 90
API_SERVER = "apiserver_admission_webhook"
_VARIABLES = {"$__rate_interval": "5m", "$namespace": "mendix|crm"}


def rendered(**values: Any) -> dict[str, Any]:
    found = helm.render({"grafanaDashboard": {"enabled": True, **values}}).of_kind("ConfigMap")
    (only,) = [one for one in found if one["metadata"]["name"] == "mendix-mesh-dashboard"]
    return only


def recorded() -> str:
    """Return every metric of the queries, as OpenMetrics: counters grow, gauges are constant."""
    webhook = {"name": "linkerd.enforce.mendix-mesh.io", "type": "validating"}
    here = {"namespace": "mendix", "mesh": "linkerd"}
    client = linkerd_identity("crm", "web")
    gauges = [
        ("mendix_mesh_pods", {**here, "state": "meshed"}, 3),
        ("mendix_mesh_pods", {**here, "state": "unmeshed"}, 1),
        ("mendix_mesh_coverage_ratio", here, 0.75),
        ("mendix_mesh_findings", {"check": "proxy-missing", "level": "deny"}, 1),
        ("mendix_mesh_doctor_findings", {"id": "injector-missing", "severity": "error"}, 1),
        ("mendix_mesh_last_scan_timestamp_seconds", {}, BEGIN),
        ("mendix_mesh_scan_duration_seconds", {}, 2),
        ("mendix_mesh_certificate_expiry_timestamp_seconds", {}, BEGIN + 10**7),
        ("mendix_mesh_build_info", {"version": "1"}, 1),
    ]
    counters = [
        ("mendix_mesh_reviews", {"webhook": "validate", "mesh": "linkerd", "mode": "enforce",
                                 "kind": "Pod", "verdict": "denied"}),
        ("mendix_mesh_violations", {"mesh": "linkerd", "mode": "warn", "check": "proxy-missing"}),
        ("mendix_mesh_reviews_shed", {}),
        ("mendix_mesh_certificate_reloads", {"result": "refused"}),
        ("mendix_mesh_scans", {"result": "failed"}),
        ("apiserver_admission_webhook_request", webhook),
        *(("request", linkerd_inbound("mendix", "shop", one)) for one in ("", client)),
        *((metric, istio(("crm", "web"), ("mendix", "shop"), policy))
          for metric in ("istio_requests", "istio_tcp_connections_opened")
          for policy in ("mutual_tls", "none")),
    ]  # fmt: skip
    # The API server's counters lack the ending that OpenMetrics requires.
    plain = [
        (f"{API_SERVER}_fail_open_count", webhook),
        (f"{API_SERVER}_rejection_count",
         {**webhook, "error_type": "calling_webhook_error"}),
        *((f"{metric}_bucket", {**labels, "le": le})
          for metric, labels in ((f"{API_SERVER}_admission_duration_seconds", webhook),
                                 ("mendix_mesh_review_duration_seconds", {"webhook": "validate"}))
          for le in ("0.1", "+Inf")),
    ]  # fmt: skip
    times = range(BEGIN, BEGIN + 60 * MINUTES, 60)
    lines = [
        f"{_series(metric, labels)} {value} {at}"
        for metric, labels, value in gauges
        for at in times
    ]
    for metric, labels in [*((f"{one}_total", labels) for one, labels in counters), *plain]:
        lines += [f"{_series(metric, labels)} {at - BEGIN} {at}" for at in times]
    return "\n".join([*lines, "# EOF\n"])


def _series(metric: str, labels: dict[str, str]) -> str:
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{metric}{{{pairs}}}"


def expression(target: dict[str, Any]) -> str:
    """The question as Grafana puts it."""
    expr: str = target["expr"]
    for variable, value in _VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Server]:
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus.serving(folder, recorded=recorded()) as running:
        yield running


@pytest.mark.parametrize("name", TARGETS)
def test_prometheus_answers_every_question(server: prometheus.Server, name: str) -> None:
    at = str(BEGIN + 60 * (MINUTES - 10))
    found = server.get("query", query=expression(TARGETS[name]), time=at)["result"]
    assert found
    assert all(float(one["value"][1]) == float(one["value"][1]) for one in found), "NaN"
    for one in found:
        for label in re.findall(r"{{(\w+)}}", TARGETS[name]["legendFormat"]):
            # A Deployment's pod has no label of a StatefulSet: the legend has one or the other.
            assert label in one["metric"] or label == "statefulset"


def test_the_namespaces_to_choose_from_are_there(server: prometheus.Server) -> None:
    (variable,) = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "namespace"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
    answer = httpx.get(f"{server.url}/api/v1/label/{label}/values", params={"match[]": metric})
    assert answer.json()["data"] == ["mendix"]


def test_our_metrics_in_queries_exist() -> None:
    expression = set(
        re.findall(r"\bmendix_mesh_\w+", "".join(one["expr"] for one in TARGETS.values()))
    )
    assert len(expression) > 10
    assert expression <= own_metrics()


def test_the_file_is_what_is_generated() -> None:
    assert generate_dashboard.DASHBOARD.read_text() == generate_dashboard.text(), "run `make docs`"


def test_panels_have_what_a_reader_needs() -> None:
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert defaults["thresholds"]["steps"][0]["value"] is None
        values = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
        assert values == sorted(values)
        assert [target["refId"] for target in panel["targets"]] == list("ABCD")[
            : len(panel["targets"])
        ]


def test_titles_and_numbers_of_panels_are_their_own() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)


def test_panels_lie_beside_each_other_and_not_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells
        taken |= cells


def test_nothing_in_it_belongs_to_another_grafana() -> None:
    sources = [one["datasource"]["uid"] for panel in PANELS for one in (panel, *panel["targets"])]
    assert set(sources) == {"${datasource}"}
    kinds = {one["name"]: one["type"] for one in DASHBOARD["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "namespace": "query"}
    assert not {"id", "version", "__inputs", "iteration"} & set(DASHBOARD)
    assert "http" not in json.dumps(DASHBOARD)


def test_there_is_no_dashboard_by_default() -> None:
    names = {one["metadata"]["name"] for one in helm.render().of_kind("ConfigMap")}
    assert "mendix-mesh-dashboard" not in names


def test_the_chart_carries_it_whole_where_the_sidecar_looks() -> None:
    found = rendered()
    assert json.loads(found["data"]["mendix-mesh.json"]) == DASHBOARD
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "annotations" not in found["metadata"]


def test_labels_and_annotations_can_be_set() -> None:
    labels = {"dashboards": "yes", "grafana_dashboard": "ours"}
    found = rendered(labels=labels, annotations={"grafana_folder": "Mesh"})
    assert labels.items() <= found["metadata"]["labels"].items()
    assert found["metadata"]["annotations"] == {"grafana_folder": "Mesh"}
