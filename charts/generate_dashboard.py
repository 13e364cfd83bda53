"""Write the chart's Grafana dashboard: rows of panels, each with its question in PromQL.

A dashboard is a thousand lines of JSON of which a few words are anybody's own; these are here. The
same words give the same bytes.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

DASHBOARD = Path(__file__).parent / "mendix-mesh" / "files" / "dashboard.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Columns of Grafana's grid.
_WIDTH = 24
#: Webhooks of ours among all that the API server calls.
_OURS = 'name=~".+[.]mendix-mesh[.]io"'
_CHOSEN = 'namespace=~"$namespace"'

Json = dict[str, Any]


class Query(NamedTuple):
    """A question, and the name of each series that answers it."""

    promql: str
    legend: str = ""


class Panel(NamedTuple):
    """A panel; `description` says what is good, and what to do where it is not."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "timeseries", "bargauge"] = "timeseries"
    width: int = 8
    unit: str = "short"
    #: Colours from a value on; the first is for all below.
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    smallest: float | None = 0
    largest: float | None = None
    stacked: bool = False
    decimals: int | None = None
    #: What stands where there is no series.
    nothing: str = "no data"


class Row(NamedTuple):
    """A row, which can be folded, and the height of its panels."""

    title: str
    height: int
    panels: tuple[Panel, ...]


def _pods(states: str = "") -> str:
    """Pods of the chosen namespaces, those in some states alone if it is said.

    While an auditor takes the place of another one, both tell of each pod: hence max.
    """
    matchers = f"{states}, {_CHOSEN}" if states else _CHOSEN
    return f"max by (namespace, mesh, state) (mendix_mesh_pods{{{matchers}}})"


_MORE_IS_GOOD: tuple[tuple[float | None, str], ...] = ((None, "red"), (0.9, "orange"), (1, "green"))
_NONE_IS_GOOD: tuple[tuple[float | None, str], ...] = ((None, "green"), (1, "red"))
_FEW_ARE_GOOD: tuple[tuple[float | None, str], ...] = ((None, "green"), (1, "orange"))

ROWS = (
    Row("Does the promise hold", 4, (
        Panel(
            "In the mesh",
            "Meshed pods among those that are not exempt, in the chosen namespaces. Below 100 %: "
            "mendix-mesh audit says which are not, and why.",
            (Query("sum(" + _pods('state="meshed"') + ") / "
                   "sum(" + _pods('state!="exempt"') + ")"),),
            kind="stat", width=4, unit="percentunit", steps=_MORE_IS_GOOD, largest=1,
        ),
        Panel(
            "Pods outside",
            "Running pods that are not, or not wholly, in the mesh; those whose state is not known "
            "included.",
            (Query("sum(" + _pods('state=~"unmeshed|partly|unknown"') + ")"),),
            kind="stat", width=4, steps=_NONE_IS_GOOD,
        ),
        Panel(
            "Refused in an hour",
            "Pods and workloads that the webhook refused. Some are its purpose; many at once mean "
            "that an injector is down.",
            (Query('sum(increase(mendix_mesh_reviews_total{verdict="denied"}[1h]))'),),
            kind="stat", width=4, steps=_FEW_ARE_GOOD, decimals=0, nothing="none",
        ),
        Panel(
            "Failed open in a day",
            "Calls that the API server gave up and went on without: pods let in unjudged, or not "
            "opted in.",
            (Query("sum(increase(apiserver_admission_webhook_fail_open_count"
                   f"{{{_OURS}}}[1d]))"),),
            kind="stat", width=4, steps=_NONE_IS_GOOD, decimals=0, nothing="none",
        ),
        Panel(
            "Certificate ends in",
            "Until the first of the servers' certificates expires; afterwards nothing starts where "
            "mendix-mesh enforces.",
            (Query("min(mendix_mesh_certificate_expiry_timestamp_seconds) - time()"),),
            kind="stat", width=4, unit="s", smallest=None,
            steps=((None, "red"), (7 * 86_400, "orange"), (14 * 86_400, "green")),
        ),
        Panel(
            "Last sweep was",
            "How long ago the auditor last looked at all namespaces: everything that is said of "
            "running pods is as old.",
            (Query("time() - max(mendix_mesh_last_sweep_timestamp_seconds)"),),
            kind="stat", width=4, unit="s",
            steps=((None, "green"), (900, "orange"), (1800, "red")),
        ),
    )),
    Row("Coverage", 8, (
        Panel(
            "Coverage by namespace",
            "Meshed pods among those that are not exempt.",
            (Query(f"min by (namespace, mesh) (mendix_mesh_coverage_ratio{{{_CHOSEN}}})",
                   "{{namespace}} ({{mesh}})"),),
            unit="percentunit", steps=_MORE_IS_GOOD, largest=1,
        ),
        Panel(
            "Lowest coverage now",
            "The ten namespaces of which the least is in the mesh.",
            (Query("bottomk(10, min by (namespace, mesh) "
                   f"(mendix_mesh_coverage_ratio{{{_CHOSEN}}}))", "{{namespace}} ({{mesh}})"),),
            kind="bargauge", unit="percentunit", steps=_MORE_IS_GOOD, largest=1,
        ),
        Panel(
            "Pods by state",
            "Meshed, partly (something goes past the proxy), unmeshed, unknown, exempt.",
            (Query(f"sum by (state) ({_pods()})", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Findings by check",
            "Pods in which a check finds something; docs/checks.md and docs/day-2.md say what each "
            "means and how it is mended. All namespaces.",
            (Query("max by (check, level) (mendix_mesh_findings) > 0", "{{check}} ({{level}})"),),
            kind="bargauge", width=12, steps=((None, "blue"),),
        ),
        Panel(
            "What the doctor finds",
            "Reasons why pods that are created now would not join the mesh, and in how many "
            "namespaces: mendix-mesh doctor.",
            (Query("max by (id, severity) (mendix_mesh_doctor_findings) > 0",
                   "{{id}} ({{severity}})"),),
            kind="bargauge", width=12, steps=((None, "orange"),), nothing="nothing",
        ),
    )),
    Row("Reviews", 8, (
        Panel(
            "Reviews by verdict",
            "Answers of the servers, a second.",
            (Query("sum by (verdict) (rate(mendix_mesh_reviews_total[$__rate_interval]))",
                   "{{verdict}}"),),
            unit="reqps", stacked=True,
        ),
        Panel(
            "Refused, by mesh and kind",
            "In the time of one point. proxy-missing everywhere is an injector that is down; one "
            "check in one place is a new manifest.",
            (Query("sum by (mesh, kind) "
                   '(increase(mendix_mesh_reviews_total{verdict="denied"}[$__rate_interval]))',
                   "{{mesh}} {{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Violations by check and mode",
            "In the time of one point, in every mode: enforce refuses, warn and audit let in.",
            (Query("sum by (check, mode) "
                   "(increase(mendix_mesh_violations_total[$__rate_interval]))",
                   "{{check}} ({{mode}})"),),
            stacked=True,
        ),
    )),
    Row("The webhook, as the API server sees it", 8, (
        Panel(
            "Latency of calls, 99 of 100",
            "What the webhook adds to a request, network included. The API server gives up after "
            "the chart's timeoutSeconds, 5 by default.",
            (Query("histogram_quantile(0.99, sum by (le, name) (rate("
                   f"apiserver_admission_webhook_admission_duration_seconds_bucket{{{_OURS}}}"
                   "[$__rate_interval])))", "{{name}}"),),
            unit="s", steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Time in the server",
            "From the body read to the answer ready. If this is small and the calls take long, "
            "look at CPU throttling and the network.",
            tuple(Query(f"histogram_quantile({quantile}, sum by (le, webhook) (rate("
                        "mendix_mesh_review_duration_seconds_bucket[$__rate_interval])))",
                        f"{{{{webhook}}}} {name}")
                  for quantile, name in ((0.5, "median"), (0.99, "99 of 100"))),
            unit="s",
        ),
        Panel(
            "Calls",
            "Calls of each webhook, a second.",
            (Query(f"sum by (name) (rate(apiserver_admission_webhook_request_total{{{_OURS}}}"
                   "[$__rate_interval]))", "{{name}}"),),
            unit="reqps",
        ),
        Panel(
            "Calls that failed, and refused",
            "calling_webhook_error: no answer, so the pod was refused unseen. The webhook's own "
            "refusals (no_error) are left out.",
            (Query("sum by (name, error_type) (increase("
                   "apiserver_admission_webhook_rejection_count"
                   f'{{{_OURS}, error_type!="no_error"}}[$__rate_interval]))',
                   "{{name}} {{error_type}}"),),
            width=12, steps=_NONE_IS_GOOD, nothing="none",
        ),
        Panel(
            "Calls that failed, and open",
            "No answer, and the API server went on: pods were not judged or opted in (warn, "
            "audit), controllers and Ingresses were not opted in (mutate).",
            (Query("sum by (name) (increase(apiserver_admission_webhook_fail_open_count"
                   f"{{{_OURS}}}[$__rate_interval]))", "{{name}}"),),
            width=12, steps=_NONE_IS_GOOD, nothing="none",
        ),
    )),
    Row("Traffic, by the meshes' own metrics", 8, (
        Panel(
            "Linkerd: requests in mutual TLS",
            "Share of the HTTP requests that the pods' proxies took; probes left out. Idle series "
            "go after ten minutes.",
            (Query("sum by (namespace) (rate(request_total"
                   f'{{direction="inbound", tls="true", client_id!="", route_name!="probe", '
                   f"{_CHOSEN}}}[$__rate_interval])) / sum by (namespace) (rate(request_total"
                   '{direction="inbound", route_name!="probe", no_tls_reason!="loopback", '
                   f'target_addr!~".+:419[01]", {_CHOSEN}}}[$__rate_interval]))',
                   "{{namespace}}"),),
            unit="percentunit", steps=_MORE_IS_GOOD, largest=1, width=12,
        ),
        Panel(
            "Istio and ambient: requests and connections in mutual TLS",
            "Share of what sidecars, waypoints and ztunnel took.",
            tuple(
                Query(f"sum by (destination_workload_namespace) (rate({metric}"
                      '{reporter=~"destination|waypoint", connection_security_policy="mutual_tls", '
                      'destination_workload_namespace=~"$namespace"}[$__rate_interval])) / '
                      f"sum by (destination_workload_namespace) (rate({metric}"
                      '{reporter=~"destination|waypoint", '
                      'destination_workload_namespace=~"$namespace"}[$__rate_interval]))',
                      f"{{{{destination_workload_namespace}}}} {unit}")
                for metric, unit in (("istio_requests_total", "requests"),
                                     ("istio_tcp_connections_opened_total", "connections"))
            ),
            unit="percentunit", steps=_MORE_IS_GOOD, largest=1, width=12,
        ),
        Panel(
            "Linkerd: plaintext that workloads took",
            "Requests a second from clients outside the mesh; docs/traffic.md says how they are "
            "found.",
            (Query("sum by (namespace, deployment, statefulset) (rate(request_total"
                   '{direction="inbound", tls!~"true|opaque", route_name!="probe", '
                   f'no_tls_reason!="loopback", target_addr!~".+:419[01]", {_CHOSEN}}}'
                   "[$__rate_interval]))", "{{namespace}}/{{deployment}}{{statefulset}}"),),
            unit="reqps", width=12, nothing="none",
        ),
        Panel(
            "Istio and ambient: plaintext that workloads took, by source",
            "Requests and connections a second. A source that the mesh does not know is called "
            "unknown.",
            tuple(
                Query("sum by (source_workload_namespace, source_workload, "
                      "destination_workload_namespace, destination_workload) "
                      f'(rate({metric}{{reporter=~"destination|waypoint", '
                      'connection_security_policy!="mutual_tls", '
                      'destination_workload_namespace=~"$namespace"}[$__rate_interval]))',
                      "{{source_workload_namespace}}/{{source_workload}} to "
                      "{{destination_workload_namespace}}/{{destination_workload}}")
                for metric in ("istio_requests_total", "istio_tcp_connections_opened_total")
            ),
            unit="reqps", width=12, nothing="none",
        ),
    )),
    Row("Servers and auditor", 8, (
        Panel(
            "Servers",
            "Replicas that are scraped, by version: two versions for long are a rollout that is "
            "stuck.",
            (Query("count by (version) (mendix_mesh_build_info)", "{{version}}"),),
        ),
        Panel(
            "Reviews turned away, certificates refused",
            "Reviews that would have been answered too late (more replicas help), and changed "
            "certificates that can't be served (the log says why).",
            (Query("sum(increase(mendix_mesh_reviews_shed_total[$__rate_interval]))",
                   "reviews turned away"),
             Query('sum(increase(mendix_mesh_certificate_reloads_total{result="refused"}'
                   "[$__rate_interval]))", "certificates refused")),
            steps=_NONE_IS_GOOD,
        ),
        Panel(
            "Sweeps",
            "How long the auditor's last sweep took, and how many failed in the time of one point.",
            (Query("max(mendix_mesh_sweep_duration_seconds)", "seconds of the last one"),
             Query('sum(increase(mendix_mesh_sweeps_total{result="failed"}[$__rate_interval]))',
                   "failed")),
        ),
    )),
)  # fmt: skip


def dashboard() -> Json:
    """The dashboard as Grafana imports it."""
    panels: list[Json] = []
    y = 0
    for row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + row.height
            place = {"h": row.height, "w": panel.width, "x": x, "y": y}
            panels.append(_panel(panel, len(panels) + 1, place))
            x += panel.width
        y += row.height
    return {
        "title": "mendix-mesh",
        "uid": "mendix-mesh",
        "description": "Which pods of Mendix namespaces are in the mesh, what is refused, and "
        "whether the traffic is mutual TLS.",
        "tags": ["mendix", "service-mesh"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _namespaces()]},
        "panels": panels,
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
        "current": {},
        "options": [],
    }


def _namespaces() -> Json:
    query = "label_values(mendix_mesh_pods, namespace)"
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "namespaces"},
        "hide": 0,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _panel(panel: Panel, number: int, place: Json) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.nothing,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in panel.steps],
        },
    }
    if panel.smallest is not None:
        defaults["min"] = panel.smallest
    if panel.largest is not None:
        defaults["max"] = panel.largest
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        defaults["custom"] = _drawing(panel)
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": query.promql,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
            }
            for i, query in enumerate(panel.queries)
        ],
    }


def _drawing(panel: Panel) -> Json:
    """How a time series is drawn; a limit that matters is a line."""
    limit = len(panel.steps) > 1
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if limit else "off"},
    }


def _options(panel: Panel) -> Json:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": reduced,
            "textMode": "value",
        }
    if panel.kind == "bargauge":
        return {
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": reduced,
            "showUnfilled": True,
            "valueMode": "color",
        }
    return {
        "legend": {"calcs": ["lastNotNull"], "displayMode": "table", "placement": "bottom",
                   "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
