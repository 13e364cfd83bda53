"""Updates: existing objects stay manageable after the enrollment, and meshed pods stay meshed."""

import json
from typing import Any

import pytest

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    CONTROL_PLANE_NS,
    INJECT,
    annotations_of,
    failed_create,
    is_meshed,
    pod,
    pods_of,
    ready_pods,
    rolled_out,
    sidecar_of,
    template_of,
    workload,
)

FINALIZER = "tests.mendix-mesh.io/held"
SKIP = "config.linkerd.io/skip-inbound-ports"
Patch = dict[str, Any]


class Old:
    """A namespace with pods of before its enrollment: they break the rules and are left running."""

    def __init__(self, cluster: MeshCluster) -> None:
        self.api = cluster.api
        self.namespace = cluster.plane.new_namespace("old")
        bare = pod(self.namespace, "bare", labels={"app": "bare"}, hostNetwork=True)
        bare["metadata"]["finalizers"] = [FINALIZER]
        self.api.create(bare)
        self.api.create(workload("Deployment", self.namespace, "plain"))
        opted_out = {INJECT: "disabled"}
        self.api.create(workload("Deployment", self.namespace, "out", annotations=opted_out))
        self.api.create(workload("StatefulSet", self.namespace, "data", hostNetwork=True))
        for name in ("bare", "plain", "out", "data"):
            (found,) = ready_pods(self.api, self.namespace, name)
            assert not sidecar_of(found)
        cluster.relabel(self.namespace, "linkerd.enforce")

    def patch(self, kind: str, name: str, patch: Patch, **how: Any) -> Json:
        return self.api.patch(kind, name, self.namespace, patch, **how)

    def get(self, kind: str, name: str) -> Json:
        return self.api.get(kind, name, self.namespace)

    def replica_sets(self, name: str) -> list[Json]:
        return self.api.list("ReplicaSet", self.namespace, labels=f"app={name}")


@pytest.fixture(scope="module")
def old(mesh_cluster: MeshCluster) -> Old:
    return Old(mesh_cluster)


def test_a_running_pod_must_not_leave_the_mesh_through_its_status(api: Api, running: Json) -> None:
    """Labels and annotations can be patched through pods/status too."""
    for patch in (
        {"metadata": {"labels": {CONTROL_PLANE_NS: None}}},
        {"metadata": {"annotations": {SKIP: "8080"}}},
    ):
        with pytest.raises(StatusError, match=r"mesh-label-removed|capture-bypassed"):
            change(api, running, patch, subresource="status")
    condition = {"type": "example.com/warm", "status": "True"}
    change(api, running, {"status": {"conditions": [condition]}}, subresource="status")


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"team": "shop"}}},
        {"metadata": {"annotations": {"note": "seen"}}},
        {"metadata": {"finalizers": [FINALIZER, "tests.mendix-mesh.io/more"]}},
        {"spec": {"activeDeadlineSeconds": 86400}},
        {"metadata": {"finalizers": None}},
    ],
    ids=json.dumps,
)
def test_a_pod_of_before_may_be_changed_in_what_it_does_not_break(old: Old, patch: Patch) -> None:
    changed = old.patch("Pod", "bare", patch)
    assert changed["metadata"]["resourceVersion"]
    assert not sidecar_of(changed)


def test_the_app_image_of_a_pod_of_before_may_be_changed(old: Old) -> None:
    containers = [{"name": "app", "image": "registry.example.com/shop:2"}]
    old.patch("Pod", "bare", {"spec": {"containers": containers}}, how="strategic")


def test_a_pod_of_before_must_not_become_worse(old: Old) -> None:
    with pytest.raises(StatusError, match="capture-bypassed") as denied:
        old.patch("Pod", "bare", {"metadata": {"annotations": {SKIP: "8080"}}})
    assert "host-network" not in denied.value.message


@pytest.mark.parametrize("name", ["plain", "out"])
def test_a_deployment_of_before_is_scaled_and_labelled_without_a_rollout(
    old: Old, name: str
) -> None:
    before = old.get("Deployment", name)
    (replica_set,) = old.replica_sets(name)
    labelled = old.patch("Deployment", name, {"metadata": {"labels": {"team": "shop"}}})
    assert labelled["metadata"]["generation"] == before["metadata"]["generation"]
    for scaled in (
        old.patch("Deployment", name, {"spec": {"replicas": 0}}),
        old.patch("Deployment", name, {"spec": {"paused": False, "minReadySeconds": 1}}),
    ):
        assert scaled["spec"]["template"] == before["spec"]["template"]
    old.patch("Deployment", name, {"spec": {"replicas": 0}}, subresource="scale")
    wait_for(lambda: not pods_of(old.api, old.namespace, name), why="no pod to be left")
    (same,) = old.replica_sets(name)
    assert same["metadata"]["uid"] == replica_set["metadata"]["uid"]
    # The ReplicaSet was updated too, and its template must be the one that its name is a hash of.
    assert same["spec"]["template"] == replica_set["spec"]["template"]
    wait_for(lambda: rolled_out(old.api, old.namespace, name), why="the Deployment to settle")


def test_a_deployment_of_before_joins_when_its_template_changes_anyway(
    mesh_cluster: MeshCluster,
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.plane.new_namespace("old")
    api.create(workload("Deployment", where, "plain", annotations={"kept": "yes"}))
    ready_pods(api, where, "plain")
    mesh_cluster.relabel(where, "linkerd.enforce")
    _set_image(api, where, "plain", "registry.example.com/shop:2")
    stored = api.get("Deployment", "plain", where)
    assert annotations_of(template_of(stored)) == {"kept": "yes", INJECT: "enabled"}
    meshed = wait_for(
        lambda: [found for found in ready_pods(api, where, "plain") if is_meshed(found)],
        why="the new pod to take over",
    )
    assert [c["image"] for c in meshed[0]["spec"]["containers"]] == ["registry.example.com/shop:2"]

    # And back again: the old ReplicaSet's template has no opt-in, the Deployment's must keep it.
    mesh_cluster.plane.kubectl("rollout", "undo", "deployment/plain", "-n", where)
    undone = api.get("Deployment", "plain", where)
    assert annotations_of(template_of(undone))[INJECT] == "enabled"
    assert all(is_meshed(found) for found in ready_pods(api, where, "plain"))


def test_a_deployment_that_opts_out_is_denied_when_its_template_changes(old: Old) -> None:
    with pytest.raises(StatusError, match=r"opted-out +spec\.template\.metadata\.annotations"):
        _set_image(old.api, old.namespace, "out", "registry.example.com/shop:2")
    # The same change, with the violation fixed, is welcome.
    fixed = {
        "metadata": {"annotations": {INJECT: None}},
        "spec": {"containers": [{"name": "app", "image": "registry.example.com/shop:3"}]},
    }
    stored = old.patch("Deployment", "out", {"spec": {"template": fixed}}, how="strategic")
    assert annotations_of(template_of(stored))[INJECT] == "enabled"


def test_a_controller_on_the_host_network_is_scaled_but_makes_no_more_pods(old: Old) -> None:
    old.patch("StatefulSet", "data", {"spec": {"replicas": 2}})
    message = wait_for(lambda: failed_create(old.api, old.namespace, "data"), why="a denial")
    assert "host-network" in message
    assert [found["metadata"]["name"] for found in pods_of(old.api, old.namespace, "data")] == [
        "data-0"
    ]


def test_what_was_there_before_can_be_deleted(mesh_cluster: MeshCluster) -> None:
    old = Old(mesh_cluster)
    # Foreground deletion sets a finalizer and takes it off again, which updates the violator.
    mesh_cluster.plane.kubectl(
        "delete", "statefulset/data", "--cascade=foreground", "--timeout=60s", "-n", old.namespace
    )
    old.api.delete("Deployment", "out", old.namespace)
    old.api.delete("Pod", "bare", old.namespace)
    old.patch("Pod", "bare", {"metadata": {"finalizers": None}})
    for name in ("data", "out", "bare"):
        where = {"namespace": old.namespace, "labels": f"app={name}"}
        wait_for(lambda where=where: not old.api.list("Pod", **where), why=f"{name} to be gone")  # type: ignore[misc]


def test_namespaces_can_be_deleted_with_all_that_is_in_them(mesh_cluster: MeshCluster) -> None:
    api, violating, meshed = mesh_cluster.api, Old(mesh_cluster), mesh_cluster.enroll()
    violating.patch("Pod", "bare", {"metadata": {"finalizers": None}})
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
        api.create(workload(kind, meshed, kind.lower()))
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        ready_pods(api, meshed, kind.lower())
    for namespace in (violating.namespace, meshed):
        api.delete("Namespace", namespace)
    for namespace in (violating.namespace, meshed):
        wait_for(lambda name=namespace: not api.exists("Namespace", name), why="it to be gone")  # type: ignore[misc]


def test_a_meshed_deployment_is_scaled_and_labelled_without_a_rollout(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    where = mesh_cluster.enroll()
    before = api.create(workload("Deployment", where))
    ready_pods(api, where)
    api.patch("Deployment", "shop", where, {"metadata": {"labels": {"team": "shop"}}})
    assert api.get("Deployment", "shop", where)["metadata"]["generation"] == 1
    api.patch("Deployment", "shop", where, {"spec": {"replicas": 3}})
    assert all(map(is_meshed, ready_pods(api, where, count=3)))
    (replica_set,) = api.list("ReplicaSet", where)
    stored = api.get("Deployment", "shop", where)
    assert stored["spec"]["template"] == before["spec"]["template"]
    # The ReplicaSet's template is the Deployment's plus the hash.
    template = replica_set["spec"]["template"]
    digest = template["metadata"]["labels"].pop("pod-template-hash")
    assert template == stored["spec"]["template"]
    assert replica_set["metadata"]["name"] == f"shop-{digest}"


def test_what_is_put_back_whole_gets_its_opt_in_again_without_a_rollout(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    """As `kubectl replace`, and tools that do not merge, do it: the stored opt-in is not sent."""
    where = mesh_cluster.enroll()
    manifest = workload("Deployment", where)
    before = api.create(manifest)
    after = api.replace(manifest)
    assert after["spec"] == before["spec"]
    wait_for(lambda: rolled_out(api, where), why="the Deployment to settle")
    assert len(api.list("ReplicaSet", where)) == 1


@pytest.mark.parametrize("how", ["--server-side", ""], ids=["server side", "client side"])
def test_kubectl_apply_twice_changes_nothing(mesh_cluster: MeshCluster, how: str) -> None:
    where = mesh_cluster.enroll()
    manifest = json.dumps(workload("Deployment", where))
    apply = ["apply", "-f", "-", *([how] if how else [])]
    mesh_cluster.plane.kubectl(*apply, input=manifest)
    again = mesh_cluster.plane.kubectl(*apply, input=manifest).stdout
    assert again.split(" ", 1)[1].strip() == ("serverside-applied" if how else "unchanged")
    stored = mesh_cluster.api.get("Deployment", "shop", where)
    assert stored["metadata"]["generation"] == 1
    assert annotations_of(template_of(stored))[INJECT] == "enabled"


@pytest.fixture(scope="module")
def running(mesh_cluster: MeshCluster) -> Json:
    """A meshed pod with a native proxy. Tests must not change what keeps it in the mesh."""
    where = mesh_cluster.enroll()
    stored = mesh_cluster.api.create(pod(where, annotations={"note": "old"}))
    assert sidecar_of(stored) == "native"
    return stored


def change(api: Api, running: Json, patch: Patch, **how: Any) -> Json:
    meta = running["metadata"]
    return api.patch("Pod", meta["name"], meta["namespace"], patch, how="strategic", **how)


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"team": "shop"}}},
        {"metadata": {"annotations": {"note": "new"}}},
        {"metadata": {"annotations": {SKIP: "4567"}}},  # The mesh's default.
        {"metadata": {"finalizers": [FINALIZER]}},
        {"metadata": {"finalizers": None}},
        {"spec": {"containers": [{"name": "app", "image": "registry.example.com/shop:2"}]}},
    ],
    ids=json.dumps,
)
def test_a_running_pod_may_change_otherwise(api: Api, running: Json, patch: Patch) -> None:
    assert is_meshed(change(api, running, patch))


def test_a_running_pod_is_evicted(api: Api, mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    api.create(pod(where))
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "shop", "namespace": where},
    }
    api.create_subresource("Pod", "shop", where, "eviction", eviction)
    wait_for(lambda: not api.exists("Pod", "shop", where), why="the pod to be gone")


def _set_image(api: Api, namespace: str, name: str, image: str) -> None:
    spec = {"containers": [{"name": "app", "image": image}]}
    api.patch(
        "Deployment", name, namespace, {"spec": {"template": {"spec": spec}}}, how="strategic"
    )
