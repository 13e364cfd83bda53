"""Ambient mode: a label enrolls a running pod; changes that undo or fake that are denied.

Istiod is not needed: the CNI agent acts on the node, and the tests do its one write.
"""

import json
from typing import Any

import pytest

from tests.cluster.api import Api, Json, Patch, StatusError
from tests.cluster.mesh import MeshCluster
from tests.cluster.test_joins import make
from tests.cluster.test_operator import ENV, TASKS, Installation
from tests.cluster.workloads import VERSIONS, pod, ready_pods, template_of, workload

MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
BYPASS = "ambient.istio.io/bypass-inbound-capture"
STATUS = "sidecar.istio.io/status"
DENIED = 'admission webhook "ambient.enforce.mendix-mesh.io" denied the request: '
APP: Json = {"name": "app", "image": "registry.example.com/shop:1"}
FINALIZER = "tests.mendix-mesh.io/held"


class AmbientCluster(MeshCluster):
    """A cluster with mendix-mesh; `enroll` enrolls namespaces in ambient mode."""

    def enroll(self, mode: str = "", *, mesh: str = "ambient") -> str:
        return super().enroll(mode, mesh=mesh)


@pytest.fixture(scope="module")
def cluster(mesh_cluster: MeshCluster) -> AmbientCluster:
    return AmbientCluster(**vars(mesh_cluster))


@pytest.fixture
def api(cluster: AmbientCluster) -> Api:
    return cluster.api


@pytest.fixture(scope="module")
def enrolled(cluster: AmbientCluster) -> str:
    """A namespace for pods that are only tried."""
    return cluster.enroll("enforce")


def mode_of(obj: Json) -> str:
    return str(obj["metadata"].get("labels", {}).get(MODE, ""))


def would_be_captured(obj: Json) -> bool:
    """Return whether ambient's CNI agent would enroll a pod: its own predicate, in Python."""
    annotations = obj["metadata"].get("annotations", {})
    return (
        not obj["spec"].get("hostNetwork")
        and STATUS not in annotations
        and mode_of(obj) == "ambient"
    )


@pytest.mark.parametrize("kind", VERSIONS)
def test_a_workload_that_asks_for_nothing_joins_and_ends_if_it_must(
    cluster: AmbientCluster, kind: str
) -> None:
    where = cluster.enroll()
    make(cluster.api, kind, where)
    (found,) = ready_pods(cluster.api, where)
    assert would_be_captured(found)
    assert [container["name"] for container in found["spec"]["containers"]] == ["app"]
    assert "initContainers" not in found["spec"]


@pytest.mark.parametrize("kind", [kind for kind in VERSIONS if kind != "Pod"])
def test_a_template_is_opted_in_when_it_is_created(api: Api, enrolled: str, kind: str) -> None:
    stored = api.create(workload(kind, enrolled), dry_run=True)
    assert mode_of(template_of(stored)) == "ambient"
    assert mode_of(stored) == ""


def test_a_pod_of_a_generated_name_joins(api: Api, enrolled: str) -> None:
    made = pod(enrolled)
    del made["metadata"]["name"]
    made["metadata"]["generateName"] = "shop-"
    assert would_be_captured(api.create(made, dry_run=True))


def test_a_mendix_app_and_its_task_pods_join_without_conflicts(cluster: AmbientCluster) -> None:
    installation = Installation(cluster)
    installation.settle()
    assert installation.operator.denied == {}
    assert all(map(would_be_captured, installation.app_pods()))
    for name in TASKS:
        assert would_be_captured(installation.get("Pod", name))
    template = template_of(installation.get("Deployment", f"{ENV}-master"))
    assert mode_of(template) == ""
    assert [installation.operator.reconcile() for _ in range(20)] == [0] * 20


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        ("opted-out", {"labels": {MODE: "none"}}, {"labels": {MODE: "ambient"}}),
        ("host-network", {"hostNetwork": True}, {}),
        ("status-forged", {"annotations": {REDIRECTION: "enabled"}}, {}),
        ("status-forged", {"annotations": {REDIRECTION: "pending"}}, {}),
        ("status-forged", {"annotations": {STATUS: "{}"}}, {"annotations": {"note": "{}"}}),
        ("status-forged", {"annotations": {STATUS: ""}}, {}),
        *(
            ("capture-bypassed", {"annotations": {BYPASS: value}}, {"annotations": {BYPASS: no}})
            for value, no in (("true", "false"), ("1", "0"), ("T", "F"), ("TRUE", "FALSE"))
        ),
        ("capture-bypassed", {"annotations": {"istio.io/reroute-virtual-interfaces": "eth0"}},
         {"annotations": {"istio.io/reroute-virtual-interfaces": ""}}),
        ("foreign-mesh", {"labels": {"sidecar.istio.io/inject": "true"}},
         {"labels": {"sidecar.istio.io/inject": "false"}}),
        ("foreign-mesh", {"containers": [APP, {"name": "linkerd-proxy", "image": "proxy"}]}, {}),
        ("foreign-mesh", {"containers": [APP, {"name": "istio-proxy", "image": "proxy"}]}, {}),
        ("capture-capability", {"containers": [
            {**APP, "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}, {}),
        ("capture-capability", {"containers": [{**APP, "securityContext": {"privileged": True}}]},
         {}),
    ],
    ids=str,
)  # fmt: skip
def test_a_bypass_is_denied_and_the_nearest_honest_pod_admitted(
    api: Api, enrolled: str, check: str, bad: Json, good: Json
) -> None:
    with pytest.raises(StatusError) as denied:
        api.create(pod(enrolled, **bad), dry_run=True)
    assert denied.value.message.startswith(DENIED)
    assert check in {line.split()[0] for line in denied.value.message.splitlines()[1:]}
    assert would_be_captured(api.create(pod(enrolled, **good), dry_run=True))


@pytest.mark.parametrize("value", ["Ambient", "sidecar", "true", ""])
def test_a_value_that_istio_does_not_know_is_fixed(api: Api, enrolled: str, value: str) -> None:
    stored = api.create(pod(enrolled, labels={MODE: value}), dry_run=True)
    assert would_be_captured(stored)


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_a_template_that_is_certain_to_fail_is_denied_at_once(
    api: Api, enrolled: str, kind: str
) -> None:
    made = workload(kind, enrolled, annotations={BYPASS: "true"}, hostNetwork=True)
    template_of(made)["metadata"]["labels"][MODE] = "none"
    with pytest.raises(StatusError) as denied:
        api.create(made)
    found = {line.split()[0] for line in denied.value.message.splitlines()[1:]}
    assert found == {"opted-out", "host-network", "capture-bypassed"}


@pytest.fixture(scope="module")
def running(cluster: AmbientCluster) -> Json:
    """An enrolled pod. Tests must not take it out of the mesh."""
    return cluster.api.create(pod(cluster.enroll("enforce")))


def change(api: Api, running: Json, patch: Patch, **how: Any) -> Json:
    meta = running["metadata"]
    return api.patch("Pod", meta["name"], meta["namespace"], patch, how="strategic", **how)


@pytest.mark.parametrize(
    ("checks", "patch"),
    [
        ({"mesh-label-removed"}, {"labels": {MODE: None}}),
        ({"mesh-label-removed", "opted-out"}, {"labels": {MODE: "none"}}),
        ({"mesh-label-removed", "opted-out"}, {"labels": {MODE: "Ambient"}}),
        ({"status-forged"}, {"annotations": {STATUS: "{}"}}),
        ({"capture-bypassed"}, {"annotations": {BYPASS: "true"}}),
        ({"foreign-mesh"}, {"labels": {"sidecar.istio.io/inject": "true"}}),
    ],
    ids=str,
)
def test_a_running_pod_must_not_leave_the_mesh(
    api: Api, running: Json, checks: set[str], patch: Patch
) -> None:
    with pytest.raises(StatusError) as denied:
        change(api, running, {"metadata": patch})
    found = {line.split()[0] for line in denied.value.message.splitlines()[1:]}
    assert found - {"proxy-missing"} == checks


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"team": "shop"}}},
        {"metadata": {"annotations": {"note": "new"}}},
        {"metadata": {"finalizers": [FINALIZER]}},
        {"metadata": {"finalizers": None}},
        {"spec": {"containers": [{"name": "app", "image": "registry.example.com/shop:2"}]}},
    ],
    ids=json.dumps,
)
def test_a_running_pod_may_change_otherwise(api: Api, running: Json, patch: Patch) -> None:
    assert would_be_captured(change(api, running, patch))


def test_what_the_cni_agent_writes_is_not_reviewed_and_causes_no_denial_later(
    cluster: AmbientCluster,
) -> None:
    api, where = cluster.api, cluster.enroll("enforce")
    running = api.create(pod(where))
    # The agent writes metadata through the status: it has no other right to pods.
    agent = cluster.plane.user("istio-cni", ["istio-cni"])
    role = f"istio-cni-{where}"
    kubectl = cluster.plane.kubectl
    kubectl("create", "clusterrole", role, "--verb=patch,update", "--resource=pods/status")
    kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", "--group=istio-cni")
    for value in ("pending", "enabled"):
        written = {"metadata": {"annotations": {REDIRECTION: value}}}
        agent.patch("Pod", "shop", where, written, subresource="status")
        stored = api.get("Pod", "shop", where)
        assert stored["metadata"]["annotations"][REDIRECTION] == value
    later: list[Json] = [
        {"labels": {"team": "shop"}},
        {"finalizers": [FINALIZER]},
        {"finalizers": None},
    ]
    for metadata in later:
        changed = change(api, running, {"metadata": metadata})
        assert changed["metadata"]["annotations"][REDIRECTION] == "enabled"
    with pytest.raises(StatusError, match="mesh-label-removed"):
        change(api, running, {"metadata": {"labels": {MODE: None}}})
    with pytest.raises(StatusError, match="mesh-label-removed"):
        change(api, running, {"metadata": {"annotations": {REDIRECTION: None}}})
    api.delete("Pod", "shop", where)
