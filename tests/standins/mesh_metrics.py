"""A stand-in for the metrics of the meshes' proxies, as Prometheus scrapes them.

Names and labels are those of linkerd2-proxy (app/core/src/transport/labels.rs, metrics.rs,
app/inbound/src/metrics/authz.rs), of Istio's sidecars and waypoints (istio/proxy istio_stats.cc),
and of ztunnel (src/proxy/metrics.rs). The labels that the meshes' scrape configurations add are
included.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import Handler, listening

Labels = dict[str, str]


class Exporter:
    """Series with their current values."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def set(self, metric: str, labels: Labels, value: float) -> None:
        """Set a series to a value. If a counter decreases, its proxy has restarted."""
        with self._lock:
            self._series[metric, tuple(sorted(labels.items()))] = value

    def drop(self, metric: str, labels: Labels) -> None:
        """Remove a series, as a proxy does if the series is idle or ends."""
        with self._lock:
            del self._series[metric, tuple(sorted(labels.items()))]

    def text(self) -> str:
        """Return all series in Prometheus' text format."""
        with self._lock:
            series = sorted(self._series.items())
        return "".join(
            f"{metric}{{{','.join(f'{key}={_quoted(one)}' for key, one in labels)}}} {value}\n"
            for (metric, labels), value in series
        )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@contextmanager
def serving(exporter: Exporter) -> Iterator[Exporter]:
    """Serve the exporter's /metrics until the block ends."""

    class Metrics(Handler):
        def answer(self) -> None:
            kind = "text/plain; version=0.0.4; charset=utf-8"
            self.reply(200, exporter.text().encode(), {"Content-Type": kind})

    with listening(Metrics) as exporter.url:
        yield exporter


def _tls(peer: str) -> Labels:
    """Return Linkerd's labels for the security of a connection, by the other side's identity.

    An empty identity is plaintext. `loopback` and the like are the reason for plaintext. `sni:NAME`
    is TLS that the proxy passes through.
    """
    if peer.startswith("sni:"):
        return {"tls": "opaque", "sni": peer.removeprefix("sni:")}
    if "." not in peer:
        return {"tls": "no_identity", "no_tls_reason": peer or "no_tls_from_remote"}
    return {"tls": "true"}


def linkerd_identity(namespace: str, account: str) -> str:
    """Return the name of a ServiceAccount in its certificate."""
    return f"{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local"


def linkerd_pod(namespace: str, deployment: str) -> Labels:
    """Return the labels that the scrape configuration adds: pod, namespace and owner."""
    return {
        "namespace": namespace,
        "deployment": deployment,
        "pod": f"{deployment}-7fd5-x",
        "container": "linkerd-proxy",
        "control_plane_ns": "linkerd",
    }


def linkerd_inbound(
    namespace: str, deployment: str, client: str = "", *, port: int = 8080, route: str = "default"
) -> Labels:
    """Return the labels of `request_total` of the receiving proxy."""
    tls = _tls(client)
    identity = {"client_id": client} if tls["tls"] == "true" else {}
    return {
        **linkerd_pod(namespace, deployment), "direction": "inbound",
        "target_addr": f"10.0.0.1:{port}", "target_ip": "10.0.0.1", "target_port": str(port),
        "srv_group": "", "srv_kind": "default", "srv_name": "all-unauthenticated",
        "route_group": "", "route_kind": "default", "route_name": route, **tls, **identity,
    }  # fmt: skip


def linkerd_tcp(namespace: str, deployment: str, client: str = "", *, peer: bool = False) -> Labels:
    """Return the same labels for connections; with `peer`, those of `tcp_open_connections`."""
    labels = linkerd_inbound(namespace, deployment, client, port=5432)
    for key in ("route_group", "route_kind", "route_name"):
        del labels[key]
    if peer:
        return {**labels, "peer": "src"}
    del labels["direction"]
    return labels


def linkerd_outbound(
    namespace: str, deployment: str, to: tuple[str, str], server: str = ""
) -> Labels:
    """Return the labels of the sending proxy, for traffic to a Deployment in a namespace."""
    tls = _tls(server)
    identity = {"server_id": server} if tls["tls"] == "true" else {}
    return {
        **linkerd_pod(namespace, deployment), "direction": "outbound", "peer": "dst",
        "authority": f"{to[1]}.{to[0]}.svc.cluster.local:8080", "target_addr": "10.0.0.2:8080",
        "dst_namespace": to[0], "dst_deployment": to[1], "dst_pod": f"{to[1]}-1",
        "dst_service": to[1], **tls, **identity,
    }  # fmt: skip


def istio(
    source: tuple[str, str],
    destination: tuple[str, str],
    policy: str,
    *,
    reporter: str = "destination",
    flags: str = "-",
) -> Labels:
    """Return the labels of Istio's standard metrics between two workloads."""
    secure = policy == "mutual_tls"
    return {
        "reporter": reporter,
        "source_workload_namespace": source[0],
        "source_workload": source[1],
        "source_principal": f"spiffe://cluster.local/ns/{source[0]}/sa/{source[1]}"
        if secure
        else "unknown",
        "destination_workload_namespace": destination[0],
        "destination_workload": destination[1],
        "destination_principal": "unknown",
        "connection_security_policy": policy,
        "response_flags": flags,
        "request_protocol": "tcp",
    }
