"""Renewal, upgrade and drain on real nodes, with reviews all the while: not one is lost."""

import pytest

from tests.cluster.api import Json, wait_for
from tests.node.installed import CERTIFICATE, NAMESPACE, NodeCluster, served_certificate
from tests.node.load import under_load

pytestmark = pytest.mark.timeout(300)

RENEWALS = 3


def restart_count(server: Json) -> int:
    return int(server["status"]["containerStatuses"][0]["restartCount"])


def names(nodes: NodeCluster) -> set[str]:
    return {server["metadata"]["name"] for server in nodes.pods()}


def test_renewed_certificates_are_served_without_a_restart_and_nothing_is_lost(
    nodes: NodeCluster,
) -> None:
    servers = nodes.await_settled()
    restarts = [restart_count(server) for server in servers]
    seen = {served_certificate(server) for server in servers}
    assert len(seen) == 1

    def renewed() -> bool:
        now = {served_certificate(server) for server in servers}
        if len(now) == 1 and now.isdisjoint(seen):
            seen.update(now)
            return True
        return False

    with under_load(nodes, f"certificate renewed {RENEWALS} times"):
        for _ in range(RENEWALS):
            nodes.cert_manager.renew(CERTIFICATE, NAMESPACE)
            wait_for(renewed, seconds=60, why="both to serve the new certificate")
    assert names(nodes) == {server["metadata"]["name"] for server in servers}
    assert [restart_count(server) for server in nodes.pods()] == restarts


def test_a_rolling_update_replaces_both_and_nothing_is_lost(nodes: NodeCluster) -> None:
    before = {server["metadata"]["name"] for server in nodes.await_settled()}
    with under_load(nodes, "rolling update"):
        nodes.upgrade({"podAnnotations": {"tests.mendix-mesh.io/rollout": "2"}})
        # Not only until the new ones serve, but until the old ones have ended.
        nodes.await_settled()
    assert names(nodes).isdisjoint(before)


def test_both_nodes_are_drained_one_pod_at_a_time_and_nothing_is_lost(nodes: NodeCluster) -> None:
    first, second = (node.name for node in nodes.nodes)
    before = {server["metadata"]["name"] for server in nodes.await_settled()}
    with under_load(nodes, "nodes drained"):
        drain(nodes, first)
        assert {server["spec"]["nodeName"] for server in nodes.await_settled()} == {second}
        nodes.plane.kubectl("uncordon", first)
        # Two pods must leave this one, and the budget allows only one at a time.
        said = drain(nodes, second)
        assert "would violate the pod's disruption budget" in said
        assert {server["spec"]["nodeName"] for server in nodes.await_settled()} == {first}
    assert names(nodes).isdisjoint(before)
    nodes.plane.kubectl("uncordon", second)
    # Back to one on each.
    nodes.api.delete("Pod", names(nodes).pop(), NAMESPACE, grace=0)
    nodes.await_settled()


def drain(nodes: NodeCluster, node: str) -> str:
    """Drain a node as an administrator would, and return kubectl's output."""
    done = nodes.plane.kubectl("drain", node, "--delete-emptydir-data", "--timeout=150s")
    return done.stdout + done.stderr
