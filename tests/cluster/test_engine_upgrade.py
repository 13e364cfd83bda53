"""From `engine: webhook` to `policy` and back, while pods are created: none is lost or let in."""

from functools import partial

import pytest

from tests.cluster.api import wait_for
from tests.cluster.load import JOINS, OUTSIDE, Load
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import pod

pytestmark = pytest.mark.timeout(400)

#: From the rendering until the policies decide alone. Helm applies them last, and then they need a
#: few seconds, on a busy machine up to a minute. The default is longer.
POLICY = {"engine": "policy", "policyDelaySeconds": 120}
#: A violation that the policies find, and one that only the server finds.
ORDINARY = {"hostNetwork": True}
SPECIAL = {"annotations": {"ambient.istio.io/redirection": "enabled"}}


def is_skipped(cluster: MeshCluster, where: str) -> bool:
    """Return whether the server is no longer called for an ordinary pod."""
    cluster.api.create(pod(where, "ordinary"), dry_run=True)
    *_, last = cluster.plane.audit(namespace=where, name="ordinary")
    return not any(key.endswith("/verdict") for key in last.get("annotations", {}))


def test_a_change_of_engine_loses_no_pod_and_lets_none_through(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll("enforce", mesh="ambient")
    good, *bad = (
        Load(mesh_cluster.plane, where, clients=1, pause=0.03, **more)
        for more in ({}, ORDINARY, SPECIAL)
    )  # fmt: skip

    def is_by_policy() -> bool:
        return "ValidatingAdmissionPolicy" in mesh_cluster.api.denial(pod(where, hostNetwork=True))

    with good.running(), bad[0].running(), bad[1].running():
        mesh_cluster.await_judge(where, "ambient.enforce")
        for one in (good, *bad):
            # Until the namespace is known to the webhooks, any answer is right.
            one.answers.clear()
        mesh_cluster.release.upgrade(POLICY)
        wait_for(is_by_policy, why="the policies to be in force")
        wait_for(
            partial(is_skipped, mesh_cluster, where), seconds=200, why="the server to be left out"
        )
        good.await_total(good.total + 100)
        mesh_cluster.release.upgrade()
        wait_for(lambda: not is_by_policy(), why="the webhook to decide")
        good.await_total(good.total + 100)
    denied = [one.total for one in bad]
    print(f"good pods: {good.answers}; denied: {denied}")
    assert good.answers == {JOINS: good.total}
    assert not any({JOINS, OUTSIDE} & one.answers.keys() for one in bad)
    mesh_cluster.kubelet.wait_ready(2)
