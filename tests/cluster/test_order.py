"""Why our mutating configuration must sort before the injectors': the API server calls them in the
order of their names, and never goes back to one that it has passed.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.api import Json, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    INJECT,
    annotations_of,
    failed_create,
    is_meshed,
    pod,
    ready_pods,
    sidecar_of,
    workload,
)
from tests.fixtures.changes import RECORD

LATE = "mendix-mesh"  # sorts after linkerd-…, as most names of ours would


@pytest.fixture
def late(mesh_cluster: MeshCluster) -> Iterator[MeshCluster]:
    """The cluster with our configuration called after the injector's."""
    watching = mesh_cluster.enroll("warn")

    def is_in_time() -> bool:
        return bool(sidecar_of(mesh_cluster.api.create(pod(watching), dry_run=True)))

    mesh_cluster.release.upgrade({"mutatingWebhookConfigurationName": LATE, "allowLateName": True})
    try:
        wait_for(lambda: not is_in_time(), why="the new name to take effect")
        yield mesh_cluster
    finally:
        mesh_cluster.release.upgrade()
        wait_for(is_in_time, why="the old name to take effect")


def names(cluster: MeshCluster) -> list[str]:
    found = cluster.api.list("MutatingWebhookConfiguration")
    return sorted(one["metadata"]["name"] for one in found)


def test_by_default_the_configuration_sorts_before_the_injectors(
    mesh_cluster: MeshCluster,
) -> None:
    assert names(mesh_cluster) == ["00-mendix-mesh", "linkerd-proxy-injector-webhook-config"]
    assert is_meshed(mesh_cluster.api.create(pod(mesh_cluster.enroll())))


def test_if_we_are_called_after_the_injector_pods_are_opted_in_too_late_and_denied(
    late: MeshCluster,
) -> None:
    assert names(late) == ["linkerd-proxy-injector-webhook-config", LATE]
    api = late.api
    # In mode audit or warn, the pod is admitted and shows the problem: the label without the
    # proxy.
    stored = api.create(pod(late.enroll("warn")))
    assert annotations_of(stored)[INJECT] == "enabled"
    assert not sidecar_of(stored)
    with pytest.raises(StatusError, match=r"proxy-missing +spec\.initContainers"):
        api.create(pod(late.enroll("enforce")))
    # A template is opted in long before its pods reach the injector. But what the injector adds
    # before our turn looks like the author's input.
    where = late.enroll("warn")
    api.create(workload("Deployment", where))
    found: list[Json] = ready_pods(api, where)
    assert all(map(is_meshed, found))
    assert {annotations_of(one)[RECORD] for one in found} == {
        "proxy-brought spec.initContainers[linkerd-init], "
        "proxy-brought spec.initContainers[linkerd-proxy]"
    }
    where = late.enroll("enforce")
    api.create(workload("Deployment", where))
    message = wait_for(lambda: failed_create(api, where, "shop-"), why="the ReplicaSet's event")
    assert "  proxy-brought  spec.initContainers[linkerd-init]  " in message


def test_put_back_pods_join_again(mesh_cluster: MeshCluster) -> None:
    assert names(mesh_cluster) == ["00-mendix-mesh", "linkerd-proxy-injector-webhook-config"]
    assert is_meshed(mesh_cluster.api.create(pod(mesh_cluster.enroll("enforce"))))
