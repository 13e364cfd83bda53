"""A namespace that moves from one mesh to another, and several meshes in one cluster."""

import pytest

from tests.cluster import istio
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster
from tests.cluster.test_operator import ENV, Installation
from tests.cluster.workloads import (
    INJECT,
    annotations_of,
    is_meshed,
    pod,
    pods_of,
    ready_pods,
    sidecar_of,
    template_of,
    workload,
)

MODE = "istio.io/dataplane-mode"
FINALIZER = "tests.mendix-mesh.io/held"


@pytest.fixture
def api(istio_cluster: IstioCluster) -> Api:
    return istio_cluster.api


def meshes_of(obj: Json) -> set[str]:
    """Return the meshes in which a stored pod is; it should be exactly one."""
    labels = obj["metadata"].get("labels", {})
    found = {
        "linkerd": is_meshed(obj) or bool(sidecar_of(obj)),
        "istio": bool(istio.sidecar_of(obj)),
        "ambient": labels.get(MODE) == "ambient",
    }
    return {mesh for mesh, is_in in found.items() if is_in}


def restart(cluster: IstioCluster, namespace: str, mesh: str, name: str = "shop") -> list[Json]:
    """Roll a Deployment out again, and return its pods when all of them are in a mesh."""
    cluster.plane.kubectl("rollout", "restart", f"deployment/{name}", "-n", namespace)
    return moved(cluster, namespace, mesh, name)


def moved(cluster: IstioCluster, namespace: str, mesh: str, name: str = "shop") -> list[Json]:
    def all_moved() -> list[Json]:
        found = pods_of(cluster.api, namespace, name)
        return found if len(found) == 2 and all(meshes_of(one) == {mesh} for one in found) else []

    return wait_for(all_moved, why=f"the pods of {name} to be in {mesh}")


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_a_namespace_moves_from_linkerd(istio_cluster: IstioCluster, mesh: str) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll("enforce", mesh="linkerd")
    api.create(workload("Deployment", where, replicas=2))
    api.create(pod(where, "bare"))
    old = ready_pods(api, where, count=2)
    assert [meshes_of(one) for one in old] == [{"linkerd"}] * 2
    istio_cluster.relabel(where, f"{mesh}.enforce", mesh=mesh, mode="enforce")

    # Running pods continue, and can be changed and deleted.
    change: list[Json] = [
        {"labels": {"team": "shop"}},
        {"finalizers": [FINALIZER]},
        {"finalizers": None},
    ]
    for metadata in change:
        stored = api.patch("Pod", "bare", where, {"metadata": metadata})
        assert meshes_of(stored) == {"linkerd"}
    api.delete("Pod", "bare", where)
    scaled = api.patch("Deployment", "shop", where, {"metadata": {"labels": {"team": "shop"}}})
    assert scaled["metadata"]["generation"] == 1

    # A recreated pod joins the new mesh, although its template names the old one, which our
    # webhook added. The other pods follow with the next rollout.
    assert annotations_of(template_of(scaled))[INJECT] == "enabled"
    api.delete("Pod", old[0]["metadata"]["name"], where)
    wait_for(
        lambda: (
            {frozenset(meshes_of(one)) for one in pods_of(api, where)}
            == {frozenset({"linkerd"}), frozenset({mesh})}
        ),
        why="the deleted pod to be replaced in the new mesh",
    )
    for one in restart(istio_cluster, where, mesh):
        assert annotations_of(one)[INJECT] == "disabled"
    template = template_of(api.get("Deployment", "shop", where))
    assert annotations_of(template)[INJECT] == "disabled"


def test_a_running_pod_of_the_old_mesh_must_not_be_weakened_in_the_new_ones_name(
    istio_cluster: IstioCluster,
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll("enforce", mesh="linkerd")
    api.create(pod(where))
    istio_cluster.relabel(where, "istio.enforce", mesh="istio", mode="enforce")
    denied: list[Json] = [
        {"labels": {"sidecar.istio.io/inject": "false"}},
        {"annotations": {"sidecar.istio.io/interceptionMode": "NONE"}},
    ]
    for metadata in denied:
        with pytest.raises(StatusError):
            api.patch("Pod", "shop", where, {"metadata": metadata})


def test_mendix_apps_move_when_their_pods_are_recreated(
    mesh_cluster: MeshCluster, istio_cluster: IstioCluster
) -> None:
    """The operator's objects are not changed, so it has nothing to revert."""
    installation = Installation(mesh_cluster)
    installation.settle()
    api, where, name = istio_cluster.api, installation.namespace, f"{ENV}-master"
    istio_cluster.relabel(where, "istio.enforce", mesh="istio", mode="enforce")
    writes = installation.operator.writes.total()
    assert installation.operator.reconcile() == 0
    for one in installation.app_pods():
        api.delete("Pod", one["metadata"]["name"], where)
    moved(istio_cluster, where, "istio", ENV)
    assert installation.operator.reconcile() == 0
    assert installation.operator.writes.total() == writes
    assert annotations_of(template_of(installation.get("Deployment", name))) == {}


def test_every_mesh_has_its_namespaces_at_the_same_time(istio_cluster: IstioCluster) -> None:
    api = istio_cluster.api
    namespaces = {mesh: istio_cluster.enroll("enforce", mesh=mesh)
                  for mesh in ("linkerd", "istio", "ambient")}  # fmt: skip
    for where in namespaces.values():
        for kind in ("Deployment", "StatefulSet", "Job"):
            api.create(workload(kind, where, kind.lower()))
    for mesh, where in namespaces.items():
        for kind in ("deployment", "statefulset", "job"):
            (found,) = ready_pods(api, where, kind)
            assert meshes_of(found) == {mesh}
    for mesh, where in namespaces.items():
        with pytest.raises(StatusError, match=rf'"{mesh}\.enforce\.mendix-mesh\.io" denied'):
            api.create(pod(where, hostNetwork=True))


def test_an_outage_of_one_mesh_does_not_reach_the_others(istio_cluster: IstioCluster) -> None:
    api = istio_cluster.api
    namespaces = {mesh: istio_cluster.enroll("enforce", mesh=mesh)
                  for mesh in ("linkerd", "istio", "ambient")}  # fmt: skip
    istio_cluster.istiod.stop()
    try:
        for mesh, where in namespaces.items():
            if mesh == "istio":
                with pytest.raises(StatusError, match=r"sidecar-injector\.istio\.io"):
                    api.create(pod(where))
            else:
                assert meshes_of(api.create(pod(where))) == {mesh}
    finally:
        istio_cluster.istiod.start()
    assert meshes_of(api.create(pod(namespaces["istio"], "later"))) == {"istio"}
