"""Ambient mode: a label enrolls a running pod; changes that undo or fake that are denied.

Istiod is not needed: the CNI agent acts on the node, and the tests do its one write.
"""

from typing import Any

import pytest

from tests.cluster.api import Api, Json, Patch, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import VERSIONS, pod, template_of, workload

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


@pytest.mark.parametrize("kind", [kind for kind in VERSIONS if kind != "Pod"])
def test_a_template_is_opted_in_when_it_is_created(api: Api, enrolled: str, kind: str) -> None:
    stored = api.create(workload(kind, enrolled), dry_run=True)
    assert mode_of(template_of(stored)) == "ambient"
    assert mode_of(stored) == ""


def change(api: Api, running: Json, patch: Patch, **how: Any) -> Json:
    meta = running["metadata"]
    return api.patch("Pod", meta["name"], meta["namespace"], patch, how="strategic", **how)


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
    who = ("--as=istio-cni", "--as-group=istio-cni")
    can = ("auth", "can-i", "patch", "pods", "--subresource=status", *who)
    wait_for(lambda: not kubectl(*can, check=False).returncode, why="the agent's right")
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
