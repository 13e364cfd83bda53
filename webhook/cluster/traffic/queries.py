"""The PromQL queries for traffic, by mesh. All of them are defined here.

`$window` stands for the time window, like `3600s`. `$namespaces` stands for a regular expression
that matches the scanned namespaces.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Family = Literal["linkerd", "istio"]
View = Literal["destination", "source"]
Unit = Literal["requests", "connections"]

#: The kind of metrics for each mesh. In ambient mode, ztunnel and waypoints have the same metrics
#: as sidecars.
FAMILIES: dict[str, Family] = {"linkerd": "linkerd", "istio": "istio", "ambient": "istio"}


class Query(NamedTuple):
    """A query. Each sample is a number of requests or connections between two workloads."""

    family: Family
    unit: Unit
    #: Which side's proxy counts: the receiver (destination) or the sender (source).
    seen_by: View
    promql: str
    #: The source of the metric and its labels.
    source: str
    #: -1 if the query counts what another query includes but which never arrived.
    weight: int = 1

    def text(self, namespaces: Iterable[str], window: int) -> str:
        """Return the query for these namespaces and the last `window` seconds."""
        # Names of namespaces contain no special characters of regular expressions.
        named = self.promql.replace("$namespaces", "|".join(namespaces))
        return within(named, window)


def within(promql: str, window: int) -> str:
    """Return a query for the last `window` seconds."""
    return promql.replace("$window", f"{window}s")


def counted(metric: str, matchers: str, by: str) -> str:
    """Return the query for the increase of counters in the window, summed.

    For a counter that first appeared within the window, `increase` ignores the first value. For a
    single connection this is the whole value, so the query adds it. `increase` handles counter
    resets.
    """
    series = f"{metric}{{{matchers}}}"
    return (
        f"sum by ({by}) ("
        f'label_replace(increase({series}[$window]), "part", "grown", "", "") or '
        f"label_replace(min_over_time({series}[$window]) unless {series} offset $window, "
        '"part", "first", "", ""))'
    )


def _standing(metric: str, matchers: str, by: str) -> str:
    """Return the query for connections open during the whole window, which `counted` misses."""
    series = f"{metric}{{{matchers}}}"
    return f"sum by ({by}) (min_over_time({series}[$window]) and {series} offset $window) > 0"


def _open_before(metric: str, matchers: str, by: str) -> str:
    """Return the same query from two counters: opened before the window and not closed."""
    opened, closed = (
        f"sum by ({by}) ({metric}_{what}_total{{{matchers}}} offset $window)"
        for what in ("opened", "closed")
    )
    return f"{opened} - ({closed} or 0 * {opened}) > 0"


#: Labels that Linkerd's scrape configuration adds to a proxy's series, by the kind of the pod's
#: owner.
LINKERD_OWNERS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "k8s_job": "Job",
    "replicaset": "ReplicaSet",
}
#: Labels for the receiving pod. The proxy gets them from the destination controller.
LINKERD_TARGETS = {
    "dst_deployment": "Deployment",
    "dst_statefulset": "StatefulSet",
    "dst_daemonset": "DaemonSet",
    "dst_job": "Job",
    "dst_replicaset": "ReplicaSet",
}
_OWNERS = ", ".join(("namespace", *LINKERD_OWNERS))
_TAKEN = f"{_OWNERS}, tls, client_id"
_SENT = f"{_OWNERS}, dst_namespace, {', '.join(LINKERD_TARGETS)}, tls"
# Exclude the proxy's own port for metrics and probes, and pods that call themselves.
_INBOUND = (
    'direction="inbound", namespace=~"$namespaces", '
    'target_addr!~".+:419[01]", no_tls_reason!="loopback"'
)
_TO_US = 'direction="outbound", dst_namespace=~"$namespaces", no_tls_reason!="loopback"'
_FROM_US = (
    'direction="outbound", namespace=~"$namespaces", dst_namespace!="", '
    'dst_namespace!~"$namespaces", no_tls_reason!="loopback"'
)
_PROXY = "linkerd2-proxy linkerd/app/core/src/transport/labels.rs, metrics.rs"

_BETWEEN = (
    "source_workload, source_workload_namespace, source_principal, "
    "destination_workload, destination_workload_namespace, connection_security_policy"
)
# A waypoint counts the traffic that it receives in the same way as a destination.
_ARRIVED = 'reporter=~"destination|waypoint", destination_workload_namespace=~"$namespaces"'
_COMING = 'reporter="source", destination_workload_namespace=~"$namespaces"'
_LEAVING = (
    'reporter="source", source_workload_namespace=~"$namespaces", '
    'destination_workload_namespace!~"|unknown|$namespaces"'
)
_STATS = "istio/proxy source/extensions/filters/http/istio_stats/istio_stats.cc"
_ZTUNNEL = "istio/ztunnel src/proxy/metrics.rs, inbound_passthrough.rs"

QUERIES: tuple[Query, ...] = (
    # The kubelet's probes never use TLS. The policy controller's default route identifies them.
    Query("linkerd", "requests", "destination",
          counted("request_total", f'{_INBOUND}, route_name!="probe"', _TAKEN), _PROXY),
    # Count only connections that are not HTTP. HTTP connections include probes, which can't be
    # identified here.
    Query("linkerd", "connections", "destination",
          counted("inbound_tcp_authz_allow_total",
                   _INBOUND.removeprefix('direction="inbound", '), _TAKEN),
          "linkerd2-proxy linkerd/app/inbound/src/metrics/authz.rs, policy/tcp.rs"),
    # A probe is short, so a connection that was open all the time is not a probe.
    Query("linkerd", "connections", "destination",
          _standing("tcp_open_connections", f'peer="src", {_INBOUND}', _TAKEN), _PROXY),
    *(
        query
        for matchers in (_TO_US, _FROM_US)
        for query in (
            Query("linkerd", "requests", "source",
                  counted("request_total", matchers, _SENT), _PROXY),
            Query("linkerd", "connections", "source",
                  counted("tcp_open_total", f'peer="dst", {matchers}', _SENT), _PROXY),
            Query("linkerd", "connections", "source",
                  _standing("tcp_open_connections", f'peer="dst", {matchers}', _SENT), _PROXY),
        )
    ),
    Query("istio", "requests", "destination",
          counted("istio_requests_total", _ARRIVED, _BETWEEN), _STATS),
    Query("istio", "connections", "destination",
          counted("istio_tcp_connections_opened_total", _ARRIVED, _BETWEEN),
          f"{_STATS}; {_ZTUNNEL}"),
    # ztunnel counts a connection as opened before it rejects it, for example plaintext in STRICT
    # mode.
    Query("istio", "connections", "destination",
          counted("istio_tcp_connections_closed_total", f'{_ARRIVED}, response_flags="DENY"',
                   _BETWEEN), _ZTUNNEL, weight=-1),
    # A proxy loses both counters at the same time, and the same proxy counts opening and closing.
    Query("istio", "connections", "destination",
          _open_before("istio_tcp_connections", _ARRIVED, _BETWEEN),
          f"{_STATS}; {_ZTUNNEL}"),
    *(
        query
        for matchers in (_COMING, _LEAVING)
        for query in (
            Query("istio", "requests", "source",
                  counted("istio_requests_total", matchers, _BETWEEN), _STATS),
            Query("istio", "connections", "source",
                  counted("istio_tcp_connections_opened_total", matchers, _BETWEEN),
                  f"{_STATS}; {_ZTUNNEL}"),
        )
    ),
)  # fmt: skip

#: Queries for the number of a mesh's proxy series. They show whether the proxies are scraped at
#: all.
SCRAPED: dict[Family, str] = {
    "linkerd": 'count(last_over_time(request_total{direction=~"inbound|outbound"}[$window])'
    " or last_over_time(tcp_open_total[$window])"
    " or last_over_time(tcp_open_connections[$window]))",
    "istio": "count(last_over_time(istio_requests_total[$window])"
    " or last_over_time(istio_tcp_connections_opened_total[$window]))",
}
