"""Edges from series: names, identities, verdicts."""

import pytest

from webhook.cluster.traffic.edges import Count, Edges, Key, read, verdict

KEY = Key("linkerd", "crm", "web", "", "mendix", "shop", "Deployment", "destination")


@pytest.mark.parametrize(
    ("identity", "sender"),
    [
        ("shop.mendix.serviceaccount.identity.linkerd.cluster.local",
         "ServiceAccount mendix/shop"),
        ("a.b.mendix.serviceaccount.identity.linkerd.cluster.local",
         "ServiceAccount mendix/a.b"),
        ("vm.example.com", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_linkerds_identities_are_service_accounts(identity: str, sender: str) -> None:
    labels = {"namespace": "mendix", "deployment": "shop", "tls": "true", "client_id": identity}
    key, _ = read("linkerd", "destination", labels)
    edges = Edges()
    edges.add(key, "requests", "mutual", 1)
    assert edges.finished()[0].sender == sender


@pytest.mark.parametrize(
    ("principal", "account", "namespace"),
    [
        ("spiffe://cluster.local/ns/mendix/sa/shop", "shop", "mendix"),
        ("spiffe://cluster.local/vm/shop", "", ""),
        ("unknown", "", ""),
    ],
)
def test_istios_principals_are_service_accounts(
    principal: str, account: str, namespace: str
) -> None:
    key, _ = read("istio", "destination", {"source_principal": principal})
    assert (key.account, key.source_namespace) == (account, namespace)


@pytest.mark.parametrize(
    ("labels", "workload", "kind"),
    [
        ({"statefulset": "db"}, "db", "StatefulSet"),
        ({"daemonset": "agent"}, "agent", "DaemonSet"),
        ({"k8s_job": "build"}, "build", "Job"),
        ({"deployment": "shop", "replicaset": "shop-1"}, "shop", "Deployment"),
        ({}, "", ""),
    ],
)
def test_the_owner_of_a_pod_is_its_workload(
    labels: dict[str, str], workload: str, kind: str
) -> None:
    key, _ = read("linkerd", "destination", labels)
    assert (key.workload, key.kind) == (workload, kind)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([], "no-data"),
        ([Count()], "no-data"),
        ([Count(mutual=1)], "mtls"),
        ([Count(mutual=1), Count(plaintext=1)], "mixed"),
        ([Count(plaintext=1, unknown=1)], "plaintext"),
        ([Count(mutual=1, unknown=1)], "unknown"),
    ],
)
def test_counts_are_judged_together(counts: list[Count], said: str) -> None:
    assert verdict(counts) == said


def test_the_share_is_rounded_down_so_that_100_is_all() -> None:
    assert Count(mutual=9999, plaintext=1).share == 99
    assert Count(mutual=3).share == 100
    assert Count().share is None


def test_little_is_not_nothing_and_nothing_is_no_edge() -> None:
    edges = Edges()
    edges.add(KEY, "requests", "plaintext", 0.2)
    edges.add(KEY._replace(workload="other"), "requests", "mutual", 0)
    edges.add(KEY._replace(workload="refused"), "connections", "plaintext", 20.2)
    edges.add(KEY._replace(workload="refused"), "connections", "plaintext", -20.2)
    (edge,) = edges.finished()
    assert (edge.workload, edge.requests.plaintext) == ("shop", 1)
