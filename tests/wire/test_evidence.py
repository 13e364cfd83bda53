"""What `audit` and the proxies' metrics say of pods, compared with what the capture shows."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import prometheus
from tests.cluster import command
from tests.cluster.api import Json
from tests.wire.capture import Segment
from tests.wire.cluster import FAR, NEAR, WireCluster, app, service, url

pytestmark = pytest.mark.timeout(300)

LABEL, TRAFFIC = "sidecar.istio.io/inject", "traffic.sidecar.istio.io/"
#: The annotations and labels of a pod, by its name.
PODS: dict[str, Json] = {
    "meshed": {},
    "opted-out": {"labels": {LABEL: "false"}},
    "skips-inbound": {"annotations": {f"{TRAFFIC}excludeInboundPorts": "8080"}},
    "skips-outbound": {"annotations": {f"{TRAFFIC}excludeOutboundPorts": "8080"}},
}


@dataclass(frozen=True)
class Seen:
    """Pods of a namespace in mode warn, and the names of those that show plaintext."""

    namespace: str
    pods: dict[str, Json]
    in_clear: set[str]
    server: Json
    packets: list[Segment]
    """What they sent to the server, which is called by nobody else."""


@pytest.fixture(scope="module")
def seen(wire: WireCluster) -> Seen:
    where, target = wire.namespace("warn", mtls="STRICT"), wire.namespace("enforce")
    front, mark = service(target, "server"), wire.capture.now
    wire.api.create(front)
    made = [app(where, name, FAR, **marks) for name, marks in PODS.items()]
    server, outside, *pods = wire.run(
        app(target, "server", NEAR), app(wire.namespace(), "client", NEAR), *made
    )
    by_name = {one["metadata"]["name"]: one for one in pods}
    clear = set()
    for name, pod in by_name.items():
        sent = wire.await_answer(pod, server, url(front))
        inbound = wire.call(outside, pod, f"{pod['status']['podIP']}:8080")
        clear |= {name} if sent.in_clear or inbound.sent.ok else set()
    packets = wire.capture.since(mark, server["status"]["podIP"])
    return Seen(where, by_name, clear, server, packets)


def test_audit_counts_a_pod_as_meshed_if_the_wire_shows_no_plaintext(
    wire: WireCluster, seen: Seen
) -> None:
    report = command.as_admin(wire.plane).audit("-n", seen.namespace)
    (namespace,) = report["namespaces"]
    states = {one["name"]: one["state"] for one in namespace["workloads"]}
    assert seen.in_clear == {"opted-out", "skips-inbound", "skips-outbound"}
    assert {name for name, state in states.items() if state != "meshed"} == seen.in_clear
    assert namespace["coverage"] == 25


def test_audit_says_who_accepts_plaintext_as_the_wire_does(wire: WireCluster, seen: Seen) -> None:
    report = command.as_admin(wire.plane).audit("-n", seen.namespace)
    (namespace,) = report["namespaces"]
    named = {pod for gap in namespace["plaintext"]["gaps"] for pod in gap["examples"]}
    assert named == {"opted-out", "skips-inbound"}


def test_the_proxys_own_series_agree_with_the_capture(
    wire: WireCluster, seen: Seen, tmp_path: Path
) -> None:
    """Envoy's own, because upstream's Envoy has not the filter with Istio's metrics."""
    address = seen.server["status"]["podIP"]
    target = f"http://{address}:15090/stats/prometheus"
    with prometheus.serving(tmp_path, scraped=[target]) as server:
        server.wait_for_scrapes(1)
        everything, by_tls = (
            value(server, f'envoy_listener_{name}{{listener_address="0.0.0.0_15006"}}')
            for name in ("downstream_cx_total", "ssl_handshake")
        )
        report = command.as_admin(wire.plane)(
            "audit", "-n", seen.namespace, "--prometheus", server.url, "-o", "json", codes=(0, 1)
        )
    tls = {one.source for one in seen.packets if one.target[0] == address and one.is_tls}
    plain = {one.source for one in seen.packets if one.target[0] == address} - tls
    assert tls
    assert plain
    assert (by_tls, everything - by_tls) == (len(tls), len(plain))
    # Without Istio's metrics, audit does not claim that there was no plaintext.
    assert report.data["traffic"]["namespaces"][seen.namespace]["verdict"] == "no-data"
    assert "Prometheus has no metrics of istio's proxies" in report.err


def value(server: prometheus.Server, query: str) -> int:
    """Return the only value of a query."""
    (found,) = server.get("query", query=query)["result"]
    return int(found["value"][1])
