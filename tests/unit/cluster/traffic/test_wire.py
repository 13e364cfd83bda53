"""The traffic of namespaces, from a real Prometheus with two hours of the meshes' metrics.

All cases are in it, each in its own namespace. Counters are constant; half an hour ago some grew.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prometheus
from tests.standins.mesh_metrics import (
    Exporter,
    istio,
    linkerd_identity,
    linkerd_inbound,
    linkerd_outbound,
    linkerd_tcp,
)
from webhook.cluster.traffic import NamespaceTraffic, Prometheus, Traffic, look
from webhook.cluster.traffic.prometheus import PrometheusError

#: The length of the window in seconds.
WINDOW = 3600
SHOP = linkerd_identity("mendix", "shop")
#: The hostile content of a label: markup, an escape, a right-to-left mark, quotes, a line end.
HOSTILE = '<b>&\x1b[31m\u202e"}\\\n' + "x" * 5000
LINKERD = (
    "pure", "mixed", "plain", "quiet", "unchecked", "young", "restarted", "standing", "probed",
    "opaque", "named", "senders-only", "gone", "anonymous",
)  # fmt: skip
ISTIO = ("sidecar", "sidecar-plain", "permissive", "stands")
AMBIENT = ("ztunnel", "ztunnel-plain", "refused", "waypoint", "unmeshed", "hostile")


def before(exporter: Exporter) -> None:
    """Return the counts from before the window."""
    for where in ("pure", "mixed", "quiet", "restarted", "gone"):
        exporter.set("request_total", linkerd_inbound(where, "shop", SHOP), 1000)
    for where in ("mixed", "plain", "quiet"):
        exporter.set("request_total", linkerd_inbound(where, "shop"), 50)
    stood = linkerd_tcp("standing", "db", SHOP, peer=True)
    exporter.set("tcp_open_connections", stood, 3)
    exporter.set("request_total", linkerd_inbound("probed", "shop", route="probe"), 10)
    exporter.set("request_total", linkerd_inbound("probed", "shop", port=4191), 10)
    exporter.set("request_total", linkerd_inbound("probed", "shop", "loopback"), 10)
    for where, policy in (("sidecar", "mutual_tls"), ("sidecar-plain", "none")):
        exporter.set("istio_requests_total", istio(("crm", "web"), (where, "shop"), policy), 7)
    stands = istio(("crm", "web"), ("stands", "db"), "mutual_tls")
    exporter.set("istio_tcp_connections_opened_total", stands, 5)
    exporter.set("istio_tcp_connections_closed_total", stands, 3)


def within(exporter: Exporter) -> None:
    """Return the counts inside the window."""
    for where in ("pure", "mixed"):
        exporter.set("request_total", linkerd_inbound(where, "shop", SHOP), 1300)
    for where in ("mixed", "plain"):
        exporter.set("request_total", linkerd_inbound(where, "shop"), 150)
    exporter.set("request_total", linkerd_inbound("restarted", "shop", SHOP), 40)
    exporter.set("inbound_tcp_authz_allow_total", linkerd_tcp("young", "db", SHOP), 1)
    for name, labels in (
        ("probe", linkerd_inbound("probed", "shop", route="probe")),
        ("admin", linkerd_inbound("probed", "shop", port=4191)),
        ("itself", linkerd_inbound("probed", "shop", "loopback")),
    ):
        assert name
        exporter.set("request_total", labels, 500)
    exporter.set("inbound_tcp_authz_allow_total", linkerd_tcp("opaque", "db", "sni:db"), 9)
    anonymous = linkerd_inbound("anonymous", "shop", SHOP) | {"client_id": ""}
    exporter.set("request_total", anonymous, 9)
    exporter.set("request_total", linkerd_inbound("named", "shop"), 30)
    sent = linkerd_outbound("crm", "gateway", ("named", "shop"))
    exporter.set("request_total", sent, 20)
    exporter.set("tcp_open_total", linkerd_outbound("pure", "shop", ("elsewhere", "db")), 6)
    exporter.set("request_total", linkerd_outbound("crm", "web", ("senders-only", "shop")), 12)
    exporter.drop("request_total", linkerd_inbound("gone", "shop", SHOP))

    for where, policy in (("sidecar", "mutual_tls"), ("sidecar-plain", "none")):
        exporter.set("istio_requests_total", istio(("crm", "web"), (where, "shop"), policy), 107)
    for policy, number in (("mutual_tls", 30), ("none", 10)):
        source = ("crm", "web") if policy == "mutual_tls" else ("unknown", "unknown")
        labels = istio(source, ("permissive", "shop"), policy)
        exporter.set("istio_tcp_connections_opened_total", labels, number)
    for where, policy in (("ztunnel", "mutual_tls"), ("ztunnel-plain", "unknown")):
        labels = istio(("crm", "web"), (where, "shop"), policy)
        exporter.set("istio_tcp_connections_opened_total", labels, 20)
    refused = istio(("crm", "web"), ("refused", "shop"), "unknown")
    exporter.set("istio_tcp_connections_opened_total", refused, 20)
    exporter.set("istio_tcp_connections_closed_total", {**refused, "response_flags": "DENY"}, 20)
    way = istio(("crm", "web"), ("waypoint", "shop"), "mutual_tls", reporter="waypoint")
    exporter.set("istio_requests_total", way, 20)
    blind = istio(("crm", "web"), ("unmeshed", "shop"), "unknown", reporter="source")
    exporter.set("istio_requests_total", blind, 20)
    hostile = istio((HOSTILE, HOSTILE), ("hostile", HOSTILE), "none")
    exporter.set("istio_requests_total", hostile, 20)
    exporter.set(
        "istio_requests_total", istio(("a", "b"), ("hostile", "nan"), "none"), float("nan")
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Server]:
    folder = tmp_path_factory.mktemp("prometheus")
    exporter, now, text = Exporter(), int(time.time()), ""
    # It goes on into the next minutes, in which the tests run.
    for change, begin, end in ((before, now - 7200, now - 1800), (within, now - 1800, now + 600)):
        change(exporter)
        text += "".join(exporter.text().replace("\n", f" {at}\n") for at in range(begin, end, 60))
    with prometheus.serving(folder, recorded=f"{text}# EOF\n") as running:
        yield running


@pytest.fixture(scope="module")
def traffic(server: prometheus.Server) -> Traffic:
    meshes = (
        dict.fromkeys(LINKERD, "linkerd")
        | dict.fromkeys(ISTIO, "istio")
        | dict.fromkeys(AMBIENT, "ambient")
    )
    return look(Prometheus(server.url), meshes, window=WINDOW)


@pytest.fixture
def of(traffic: Traffic, request: pytest.FixtureRequest) -> NamespaceTraffic:
    assert (traffic.error, traffic.notes) == ("", [])
    return traffic.namespaces[request.param]


VERDICTS = {
    "pure": ("mtls", 100), "mixed": ("mixed", 75), "plain": ("plaintext", 0),
    "quiet": ("no-data", None), "unchecked": ("no-data", None), "young": ("mtls", 100),
    "restarted": ("mtls", 100), "standing": ("mtls", 100), "probed": ("no-data", None),
    "opaque": ("unknown", 0), "anonymous": ("unknown", 0), "named": ("plaintext", 0),
    "senders-only": ("plaintext", 0),
    "sidecar": ("mtls", 100), "sidecar-plain": ("plaintext", 0), "permissive": ("mixed", 75),
    "stands": ("mtls", 100), "ztunnel": ("mtls", 100), "ztunnel-plain": ("plaintext", 0),
    "refused": ("no-data", None), "waypoint": ("mtls", 100), "unmeshed": ("unknown", 0),
    "hostile": ("plaintext", 0),
}  # fmt: skip


def test_every_story_has_its_verdict() -> None:
    assert {*VERDICTS, "gone"} == {*LINKERD, *ISTIO, *AMBIENT}


@pytest.mark.parametrize(
    ("of", "verdict", "share"),
    [(name, verdict, share) for name, (verdict, share) in VERDICTS.items()],
    indirect=["of"],
)
def test_the_traffic_of_a_namespace_is_judged(
    of: NamespaceTraffic, verdict: str, share: int | None
) -> None:
    assert of.verdict == verdict
    # A whole share is exact; another one hangs on when the window's ends were scraped.
    assert of.share == (share if share in (None, 0, 100) else pytest.approx(share, abs=2))


@pytest.mark.parametrize("of", ["mixed"], indirect=True)
def test_requests_are_counted_within_the_window_alone(of: NamespaceTraffic) -> None:
    # Prometheus extrapolates to the ends of the window, so small differences are allowed.
    assert of.requests.mutual == pytest.approx(300, rel=0.2)
    assert of.requests.plaintext == pytest.approx(100, rel=0.2)
    assert of.connections.total == 0


@pytest.mark.parametrize("of", ["restarted"], indirect=True)
def test_a_counter_that_was_reset_counts_from_zero(of: NamespaceTraffic) -> None:
    assert of.requests.mutual == pytest.approx(40, rel=0.2)


@pytest.mark.parametrize("of", ["young"], indirect=True)
def test_a_single_connection_is_seen_although_its_counter_never_grows(
    of: NamespaceTraffic,
) -> None:
    (edge,) = of.edges
    assert (edge.connections.mutual, edge.workload, edge.kind) == (1, "db", "Deployment")
    assert edge.sender == "ServiceAccount mendix/shop"


@pytest.mark.parametrize(("of", "number"), [("standing", 3), ("stands", 2)], indirect=["of"])
def test_connections_that_were_opened_before_are_seen(of: NamespaceTraffic, number: int) -> None:
    assert of.connections.mutual == number


@pytest.mark.parametrize("of", ["named"], indirect=True)
def test_plaintext_is_reported_by_its_senders_if_they_are_in_the_mesh(of: NamespaceTraffic) -> None:
    senders = of.senders("shop", "Deployment")
    assert list(senders) == ["crm/gateway", ""]
    assert senders["crm/gateway"] == pytest.approx(20, rel=0.2)
    assert senders[""] == pytest.approx(10, rel=0.5)
    assert of.requests.plaintext == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("of", ["ztunnel-plain"], indirect=True)
def test_ztunnel_knows_who_sends_plaintext(of: NamespaceTraffic) -> None:
    assert list(of.senders("shop", "Deployment")) == ["crm/web"]


@pytest.mark.parametrize("of", ["permissive"], indirect=True)
def test_a_sidecar_does_not_know_who_sends_plaintext(of: NamespaceTraffic) -> None:
    assert of.senders("shop", "Deployment") == {"": 10}
    assert {edge.sender for edge in of.edges} == {"", "crm/web"}


@pytest.mark.parametrize("of", ["pure"], indirect=True)
def test_plaintext_that_leaves_a_namespace_is_reported(of: NamespaceTraffic) -> None:
    (edge,) = of.leaving
    assert (edge.sender, edge.namespace, edge.workload) == ("pure/shop", "elsewhere", "db")
    assert edge.connections.plaintext == 6
    assert of.verdict == "mtls"


@pytest.mark.parametrize("of", ["hostile"], indirect=True)
def test_what_is_in_a_label_is_given_as_it_is_and_what_is_no_number_left_out(
    of: NamespaceTraffic,
) -> None:
    (edge,) = of.edges
    assert edge.sender == f"{HOSTILE}/{HOSTILE}"
    assert edge.workload == HOSTILE


def test_a_series_that_ended_is_counted_up_to_its_end(traffic: Traffic) -> None:
    assert traffic.namespaces["gone"].verdict == "no-data"


def test_a_mesh_that_is_not_scraped_is_distinguished_from_one_without_traffic(
    server: prometheus.Server, tmp_path: Path
) -> None:
    seen = look(Prometheus(server.url), {"nobody": "istio"}, window=WINDOW)
    assert (seen.notes, seen.namespaces["nobody"].verdict) == ([], "no-data")
    with prometheus.serving(tmp_path) as empty:
        seen = look(Prometheus(empty.url), {"a": "istio", "b": "linkerd"}, window=WINDOW)
    assert seen.error == ""
    assert seen.notes == [
        f"Prometheus has no metrics of {mesh}'s proxies: is it the right one, and does it scrape "
        "them?"
        for mesh in ("istio", "linkerd")
    ]
    assert {one.verdict for one in seen.namespaces.values()} == {"no-data"}


def test_namespaces_of_an_unknown_mesh_are_not_queried(server: prometheus.Server) -> None:
    seen = look(Prometheus(server.url), {"pure": "unknown"}, window=WINDOW)
    assert seen.namespaces["pure"].verdict == "no-data"


def test_more_namespaces_than_fit_in_one_query_take_several(server: prometheus.Server) -> None:
    meshes = {f"n{number:0>3}": "linkerd" for number in range(250)} | {"pure": "linkerd"}
    seen = look(Prometheus(server.url), meshes, window=WINDOW)
    assert seen.namespaces["pure"].verdict == "mtls"
    assert sum(one.verdict == "no-data" for one in seen.namespaces.values()) == 250


def test_a_query_that_prometheus_rejects_is_reported_in_its_words(
    server: prometheus.Server,
) -> None:
    with pytest.raises(PrometheusError) as error:
        Prometheus(server.url).query("sum(")
    assert str(error.value).startswith(f"{server.url} can't answer: bad_data: ")
    assert "\n" not in str(error.value)
