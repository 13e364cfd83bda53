"""What Prometheus is asked, mesh by mesh: every PromQL text of the traffic evidence is made here.

`$window` stands for the time looked back over, as `3600s`, and `$namespaces` for a regular
expression of the namespaces that are looked at.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Family = Literal["linkerd", "istio"]
View = Literal["destination", "source"]
Unit = Literal["requests", "connections"]

#: Whose metrics tell of a mesh: in ambient mode ztunnel and waypoints report as sidecars do.
FAMILIES: dict[str, Family] = {"linkerd": "linkerd", "istio": "istio", "ambient": "istio"}


class Query(NamedTuple):
    """One question; each answer is a number of requests or connections, and between whom."""

    family: Family
    unit: Unit
    #: Whose proxy counted: the one that took the traffic, or the one that sent it.
    seen_by: View
    promql: str
    #: Where the metric and its labels come from.
    source: str
    #: -1 for what another question counted, and which never came through.
    weight: int = 1

    def text(self, namespaces: Iterable[str], window: int) -> str:
        """The query for these namespaces, `window` seconds back from now."""
        # Names of namespaces have nothing in them that a regular expression would read as its own.
        named = self.promql.replace("$namespaces", "|".join(namespaces))
        return within(named, window)


def within(promql: str, window: int) -> str:
    """A query that looks `window` seconds back from now."""
    return promql.replace("$window", f"{window}s")


def counted(metric: str, matchers: str, by: str) -> str:
    """How far counters went in the window, summed.

    Of a counter that appeared within the window, `increase` does not see the first value, which
    is all there is of a single connection: it is added. Counters that went back to zero are
    `increase`'s business.
    """
    series = f"{metric}{{{matchers}}}"
    return (
        f"sum by ({by}) ("
        f'label_replace(increase({series}[$window]), "part", "grown", "", "") or '
        f"label_replace(min_over_time({series}[$window]) unless {series} offset $window, "
        '"part", "first", "", ""))'
    )


def _standing(metric: str, matchers: str, by: str) -> str:
    """Connections that were open all the time: opened before the window, they are not counted."""
    series = f"{metric}{{{matchers}}}"
    return f"sum by ({by}) (min_over_time({series}[$window]) and {series} offset $window) > 0"


def _open_before(metric: str, matchers: str, by: str) -> str:
    """The same of two counters: what had been opened when the window began, and not closed."""
    opened, closed = (
        f"sum by ({by}) ({metric}_{what}_total{{{matchers}}} offset $window)"
        for what in ("opened", "closed")
    )
    return f"{opened} - ({closed} or 0 * {opened}) > 0"


#: Labels that Linkerd's own scrape configurations give a proxy's series, by its pod's owner.
LINKERD_OWNERS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "k8s_job": "Job",
    "replicaset": "ReplicaSet",
}
#: What the proxy itself knows of the pod that it sends to, from the destination controller.
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
# Not the proxy's own port for metrics and probes, nor a pod that talks to itself.
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
# What a waypoint takes is counted by the rules of the destination's side.
_ARRIVED = 'reporter=~"destination|waypoint", destination_workload_namespace=~"$namespaces"'
_COMING = 'reporter="source", destination_workload_namespace=~"$namespaces"'
_LEAVING = (
    'reporter="source", source_workload_namespace=~"$namespaces", '
    'destination_workload_namespace!~"|unknown|$namespaces"'
)
_STATS = "istio/proxy source/extensions/filters/http/istio_stats/istio_stats.cc"
_ZTUNNEL = "istio/ztunnel src/proxy/metrics.rs, inbound_passthrough.rs"

QUERIES: tuple[Query, ...] = (
    # The kubelet's probes never use TLS: the policy controller's default route tells them apart.
    Query("linkerd", "requests", "destination",
          counted("request_total", f'{_INBOUND}, route_name!="probe"', _TAKEN), _PROXY),
    # Connections that are not HTTP alone: those that are would be probes, too, and can't be told.
    Query("linkerd", "connections", "destination",
          counted("inbound_tcp_authz_allow_total",
                   _INBOUND.removeprefix('direction="inbound", '), _TAKEN),
          "linkerd2-proxy linkerd/app/inbound/src/metrics/authz.rs, policy/tcp.rs"),
    # A probe is over in a moment: what stood all the time is none.
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
    # ztunnel counts a connection as opened before it is refused, as plaintext is in STRICT mode.
    Query("istio", "connections", "destination",
          counted("istio_tcp_connections_closed_total", f'{_ARRIVED}, response_flags="DENY"',
                   _BETWEEN), _ZTUNNEL, weight=-1),
    # Proxies forget both counters together, and a connection is closed where it was opened.
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

#: Whether a mesh's proxies are scraped at all: how many series of theirs were there.
SCRAPED: dict[Family, str] = {
    "linkerd": 'count(last_over_time(request_total{direction=~"inbound|outbound"}[$window])'
    " or last_over_time(tcp_open_total[$window])"
    " or last_over_time(tcp_open_connections[$window]))",
    "istio": "count(last_over_time(istio_requests_total[$window])"
    " or last_over_time(istio_tcp_connections_opened_total[$window]))",
}
