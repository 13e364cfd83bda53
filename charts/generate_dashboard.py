"""Write the chart's Grafana dashboard: rows of panels, each with its PromQL queries.

This file contains only what differs between panels; the generated JSON is much longer. The output
is deterministic.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

DASHBOARD = Path(__file__).parent / "mendix-mesh" / "files" / "dashboard.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Columns of Grafana's grid.
_WIDTH = 24
#: Selects mendix-mesh's webhooks among all that the API server calls.
_OURS = 'name=~".+[.]mendix-mesh[.]io"'
_CHOSEN = 'namespace=~"$namespace"'

Json = dict[str, Any]


class Query(NamedTuple):
    """A PromQL query, and the legend of its series."""

    promql: str
    legend: str = ""


class Panel(NamedTuple):
    """A panel; `description` says which values are good, and what to do otherwise."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "timeseries", "bargauge"] = "timeseries"
    width: int = 8
    unit: str = "short"
    #: Colors, each with the value from which it applies; the first applies to all lower values.
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    smallest: float | None = 0
    largest: float | None = None
    stacked: bool = False
    decimals: int | None = None
    #: Text that is shown if there is no series.
    nothing: str = "no data"


class Row(NamedTuple):
    """A collapsible row, and the height of its panels."""

    title: str
    height: int
    panels: tuple[Panel, ...]


def _pods(states: str = "") -> str:
    """Return the query for pods of the chosen namespaces; `states` is a matcher that limits it.

    While one auditor replaces another, both report each pod. So the query takes the maximum.
    """
    matchers = f"{states}, {_CHOSEN}" if states else _CHOSEN
    return f"max by (namespace, mesh, state) (mendix_mesh_pods{{{matchers}}})"


_MORE_IS_GOOD: tuple[tuple[float | None, str], ...] = ((None, "red"), (0.9, "orange"), (1, "green"))
_NONE_IS_GOOD: tuple[tuple[float | None, str], ...] = ((None, "green"), (1, "red"))
_FEW_ARE_GOOD: tuple[tuple[float | None, str], ...] = ((None, "green"), (1, "orange"))

ROWS = (
    Row("Summary", 4, (
        Panel(
            "In the mesh",
            "Meshed pods among those that are not exempt, in the chosen namespaces. Below 100 %: "
            "mendix-mesh audit shows which are not, and why.",
            (Query("sum(" + _pods('state="meshed"') + ") / "
                   "sum(" + _pods('state!="exempt"') + ")"),),
            kind="stat", width=4, unit="percentunit", steps=_MORE_IS_GOOD, largest=1,
        ),
        Panel(
            "Pods outside",
            "Running pods that are outside the mesh, partly in the mesh, or in unknown state.",
            (Query("sum(" + _pods('state=~"unmeshed|partly|unknown"') + ")"),),
            kind="stat", width=4, steps=_NONE_IS_GOOD,
        ),
        Panel(
            "Denied in an hour",
            "Pods and workloads that the webhook denied. A few are normal. Many at once usually "
            "mean that an injector is down.",
            (Query('sum(increase(mendix_mesh_reviews_total{verdict="denied"}[1h]))'),),
            kind="stat", width=4, steps=_FEW_ARE_GOOD, decimals=0, nothing="none",
        ),
        Panel(
            "Failed open in a day",
            "Calls that got no answer, so the API server continued: pods were admitted without a "
            "review, or not opted in.",
            (Query("sum(increase(apiserver_admission_webhook_fail_open_count"
                   f"{{{_OURS}}}[1d]))"),),
            kind="stat", width=4, steps=_NONE_IS_GOOD, decimals=0, nothing="none",
        ),
        Panel(
            "Certificate expires in",
            "Time until the first of the servers' certificates expires. After that, no pod starts "
            "in mode enforce.",
            (Query("min(mendix_mesh_certificate_expiry_timestamp_seconds) - time()"),),
            kind="stat", width=4, unit="s", smallest=None,
            steps=((None, "red"), (7 * 86_400, "orange"), (14 * 86_400, "green")),
        ),
        Panel(
            "Last scan ended",
            "Time since the auditor last scanned all namespaces. All data about running pods is as "
            "old as this.",
            (Query("time() - max(mendix_mesh_last_scan_timestamp_seconds)"),),
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
            "The ten namespaces with the lowest coverage.",
            (Query("bottomk(10, min by (namespace, mesh) "
                   f"(mendix_mesh_coverage_ratio{{{_CHOSEN}}}))", "{{namespace}} ({{mesh}})"),),
            kind="bargauge", unit="percentunit", steps=_MORE_IS_GOOD, largest=1,
        ),
        Panel(
            "Pods by state",
            "Meshed, partly (some traffic bypasses the proxy), unmeshed, unknown, exempt.",
            (Query(f"sum by (state) ({_pods()})", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Findings by check",
            "Pods with a violation of each check, in all namespaces. mendix-mesh explain CHECK "
            "shows what it means and how to fix it.",
            (Query("max by (check, level) (mendix_mesh_findings) > 0", "{{check}} ({{level}})"),),
            kind="bargauge", width=12, steps=((None, "blue"),),
        ),
        Panel(
            "Findings of the doctor",
            "Reasons why pods that are created now would not join the mesh, and the number of "
            "namespaces. mendix-mesh doctor shows details.",
            (Query("max by (id, severity) (mendix_mesh_doctor_findings) > 0",
                   "{{id}} ({{severity}})"),),
            kind="bargauge", width=12, steps=((None, "orange"),), nothing="nothing",
        ),
    )),
    Row("Reviews", 8, (
        Panel(
            "Reviews by verdict",
            "Answers of the servers in each second.",
            (Query("sum by (verdict) (rate(mendix_mesh_reviews_total[$__rate_interval]))",
                   "{{verdict}}"),),
            unit="reqps", stacked=True,
        ),
        Panel(
            "Denied, by mesh and kind",
            "During each interval. proxy-missing in all namespaces means that an injector is "
            "down. One check in one namespace means that a manifest has changed.",
            (Query("sum by (mesh, kind) "
                   '(increase(mendix_mesh_reviews_total{verdict="denied"}[$__rate_interval]))',
                   "{{mesh}} {{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Violations by check and mode",
            "During each interval, in every mode: enforce denies, warn and audit admit.",
            (Query("sum by (check, mode) "
                   "(increase(mendix_mesh_violations_total[$__rate_interval]))",
                   "{{check}} ({{mode}})"),),
            stacked=True,
        ),
    )),
    Row("The webhook, as the API server sees it", 8, (
        Panel(
            "Latency of calls, 99 of 100",
            "The time that the webhook adds to a request, network included. The API server stops "
            "waiting after the chart's timeoutSeconds, 5 by default.",
            (Query("histogram_quantile(0.99, sum by (le, name) (rate("
                   f"apiserver_admission_webhook_admission_duration_seconds_bucket{{{_OURS}}}"
                   "[$__rate_interval])))", "{{name}}"),),
            unit="s", steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Time in the server",
            "From the complete request body to the complete answer. If this is short but the calls "
            "take long, check CPU throttling and the network.",
            tuple(Query(f"histogram_quantile({quantile}, sum by (le, webhook) (rate("
                        "mendix_mesh_review_duration_seconds_bucket[$__rate_interval])))",
                        f"{{{{webhook}}}} {name}")
                  for quantile, name in ((0.5, "median"), (0.99, "99 of 100"))),
            unit="s",
        ),
        Panel(
            "Calls",
            "Calls of each webhook in each second.",
            (Query(f"sum by (name) (rate(apiserver_admission_webhook_request_total{{{_OURS}}}"
                   "[$__rate_interval]))", "{{name}}"),),
            unit="reqps",
        ),
        Panel(
            "Failed calls, denied",
            "calling_webhook_error: no answer, so the pod was denied without a review. The "
            "webhook's own denials (no_error) are not counted.",
            (Query("sum by (name, error_type) (increase("
                   "apiserver_admission_webhook_rejection_count"
                   f'{{{_OURS}, error_type!="no_error"}}[$__rate_interval]))',
                   "{{name}} {{error_type}}"),),
            width=12, steps=_NONE_IS_GOOD, nothing="none",
        ),
        Panel(
            "Failed calls, admitted",
            "No answer, and the API server continued: pods were not judged or opted in (warn, "
            "audit), controllers and Ingresses were not opted in (mutate).",
            (Query("sum by (name) (increase(apiserver_admission_webhook_fail_open_count"
                   f"{{{_OURS}}}[$__rate_interval]))", "{{name}}"),),
            width=12, steps=_NONE_IS_GOOD, nothing="none",
        ),
    )),
    Row("Traffic, by the meshes' own metrics", 8, (
        Panel(
            "Linkerd: requests in mutual TLS",
            "Share of the HTTP requests that the pods' proxies received, without probes. Idle "
            "series end after ten minutes.",
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
            "Share of what sidecars, waypoints and ztunnel received.",
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
            "Linkerd: plaintext that workloads received",
            "Requests in each second from clients outside the mesh. mendix-mesh explain traffic "
            "shows how to find the clients.",
            (Query("sum by (namespace, deployment, statefulset) (rate(request_total"
                   '{direction="inbound", tls!~"true|opaque", route_name!="probe", '
                   f'no_tls_reason!="loopback", target_addr!~".+:419[01]", {_CHOSEN}}}'
                   "[$__rate_interval]))", "{{namespace}}/{{deployment}}{{statefulset}}"),),
            unit="reqps", width=12, nothing="none",
        ),
        Panel(
            "Istio and ambient: plaintext that workloads received, by source",
            "Requests and connections in each second. If the mesh does not know the source, it is "
            "shown as unknown.",
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
            "Scraped replicas, by version. Two versions for a long time mean that a rollout is "
            "stuck.",
            (Query("count by (version) (mendix_mesh_build_info)", "{{version}}"),),
        ),
        Panel(
            "Reviews rejected, certificates unusable",
            "Reviews whose answer would have come too late (add replicas), and new certificates "
            "that cannot be used (the log says why).",
            (Query("sum(increase(mendix_mesh_reviews_shed_total[$__rate_interval]))",
                   "reviews rejected"),
             Query('sum(increase(mendix_mesh_certificate_reloads_total{result="refused"}'
                   "[$__rate_interval]))", "certificates unusable")),
            steps=_NONE_IS_GOOD,
        ),
        Panel(
            "Scans",
            "How long the auditor's last scan took, and how many scans failed during each "
            "interval.",
            (Query("max(mendix_mesh_scan_duration_seconds)", "seconds of the last one"),
             Query('sum(increase(mendix_mesh_scans_total{result="failed"}[$__rate_interval]))',
                   "failed")),
        ),
    )),
)  # fmt: skip


def dashboard() -> Json:
    """Return the dashboard as Grafana imports it."""
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
        "description": "Which pods of Mendix namespaces are in the mesh, which are denied, and "
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
    """Return how a time series is drawn; an important limit is a line."""
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
