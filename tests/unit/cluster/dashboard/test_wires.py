"""The connections in the traffic of a report."""

import pytest

from tests.unit.cluster.dashboard.conftest import Open
from tests.unit.cluster.dashboard.reports import namespace, report, row, scans
from tests.unit.cluster.dashboard.test_pages import read
from webhook.cluster.auditor.history import Scans
from webhook.cluster.dashboard import wires
from webhook.cluster.dashboard.wires import Wire
from webhook.cluster.traffic import Count, Edge, NamespaceTraffic, Traffic


def edge(mutual: int = 0, plaintext: int = 0, *, arrived: bool = True) -> Edge:
    return Edge(
        mesh="linkerd", source_namespace="ingress-nginx", source="", account="default",
        namespace="mendix", workload="shop-master", kind="Deployment",
        seen_by="destination" if arrived else "source",
        requests=Count(mutual=mutual, plaintext=plaintext), connections=Count(mutual=mutual),
    )  # fmt: skip


def known(*edges: Edge, error: str = "", connections: int = 5) -> Scans:
    took = NamespaceTraffic(
        namespace="mendix", mesh="linkerd", verdict="mixed", share=50,
        requests=Count(mutual=3, plaintext=1), connections=Count(mutual=connections),
        workloads=[], edges=list(edges), leaving=[],
    )  # fmt: skip
    made = scans(namespace("mendix", row("shop-master", role="app leader")))
    assert made.last is not None
    found = {} if error else {"mendix": took}
    made.last.report.traffic = Traffic(window=3600, namespaces=found, notes=[], error=error)
    return made


def test_if_no_traffic_was_read_there_are_no_wires() -> None:
    assert wires.of(report(namespace("mendix")), "mendix") is None
    made = known(edge(1)).last
    assert made is not None
    assert wires.of(made.report, "other") is None


def test_requests_and_connections_count_alike() -> None:
    made = known(edge(3, 1)).last
    assert made is not None
    assert wires.of(made.report, "mendix") == [
        Wire("ingress-nginx", "", "mendix", "shop-master", 6, 1, 0, arrived=True)
    ]


@pytest.mark.parametrize(
    ("given", "how", "words"),
    [
        ([], "unknown", "no traffic was observed"),
        ([(9, 0, 0, True)], "mtls", "9 of 9 with mutual TLS"),
        ([(9, 0, 0, True), (9, 0, 0, False)], "mtls", "9 of 9 with mutual TLS"),
        ([(0, 0, 0, False)], "unknown", "no traffic was observed"),
        ([(8, 0, 0, True), (0, 2, 0, True)], "mixed", "8 of 10 with mutual TLS"),
        ([(0, 2, 0, False)], "plaintext", "0 of 2 with mutual TLS"),
        ([(9, 0, 1, True)], "unknown", "the proxies do not report mutual TLS for 1 of 10"),
    ],
)
def test_what_both_sides_counted_is_the_same_traffic(
    given: list[tuple[int, int, int, bool]], how: str, words: str
) -> None:
    found = [Wire("", "", "mendix", "shop-master", *one) for one in given]
    shown, because = wires.together(found)
    assert shown == how
    assert words in because


def test_the_namespaces_page_shows_the_traffic(open_on: Open) -> None:
    text, _ = read(open_on(known(edge(3, 1))).get("/namespaces/mendix").text)
    assert "Some traffic did not use mutual TLS: 3 of 4 requests, 5 of 5 connections" in text

    text, _ = read(open_on(known(connections=0)).get("/namespaces/mendix").text)
    assert "Some traffic did not use mutual TLS: 3 of 4 requests " in text
    assert "of 0" not in text


def test_a_prometheus_that_does_not_answer_is_reported(open_on: Open) -> None:
    text, _ = read(open_on(known(error="it does not answer")).get("/namespaces/mendix").text)
    assert "The traffic is unknown. it does not answer" in text
