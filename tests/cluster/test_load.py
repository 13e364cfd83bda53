"""Many pods at once: each joins, none is lost, none is denied."""

from collections import Counter

from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import is_meshed, ready_pods, workload
from webhook.cluster.kinds.webhooks import OURS

MANY = 200


def failed_open(cluster: MeshCluster, namespace: str) -> set[str]:
    """The mutating webhooks that the API server went on without, for pods of a namespace."""
    return {
        str(value)
        for event in cluster.plane.audit(resource="pods", namespace=namespace)
        for key, value in event.get("annotations", {}).items()
        if key.startswith("failed-open.mutation.")
    }


def test_two_hundred_replicas_at_once_all_join(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    api.create(workload("Deployment", where, replicas=MANY))
    pods = ready_pods(api, where, count=MANY, seconds=90)
    assert Counter(map(is_meshed, pods)) == {True: MANY}
    events = api.list("Event", where, fields="reason=FailedCreate")
    opened = failed_open(mesh_cluster, where)
    assert not [name for name in opened if name.endswith(OURS)]
    # If all cores are busy, the stand-in injector may be too late. Pods that it missed are
    # denied.
    assert opened or [event["message"] for event in events] == []
    api.delete("Deployment", "shop", where)
