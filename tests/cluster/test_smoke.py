"""The most important promises, with both engines. CI runs them on the oldest Kubernetes, too."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster import build, command
from tests.cluster.api import Json
from tests.cluster.engine import OPTS_IN
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.workloads import INJECT, is_meshed, pod, ready_pods, workload

#: Pods outside the mesh, by the check that denies them.
BAD: dict[str, Json] = {
    "host-network": {"hostNetwork": True},
    "opted-out": {"annotations": {INJECT: "disabled"}},
    "capture-bypassed": {"annotations": {"config.linkerd.io/skip-outbound-ports": "443"}},
}


@pytest.fixture(scope="module", params=["webhook", "policy"])
def engine(request: pytest.FixtureRequest, mesh_cluster: MeshCluster) -> Iterator[str]:
    """The release with an engine."""
    where = mesh_cluster.enroll("enforce")
    found: str = request.param

    def by_policy() -> bool:
        return "ValidatingAdmissionPolicy" in mesh_cluster.api.denial(pod(where, hostNetwork=True))

    values = {"engine": "policy", "policyDelaySeconds": 0}
    with (
        configured(mesh_cluster, values, by_policy)
        if found == "policy"
        else contextlib.nullcontext()
    ):
        yield found


@pytest.fixture(scope="module")
def where(mesh_cluster: MeshCluster, engine: str) -> str:
    """An enforced namespace."""
    return mesh_cluster.enroll("enforce")


def test_pods_that_ask_for_nothing_start_in_the_mesh(mesh_cluster: MeshCluster, where: str) -> None:
    mesh_cluster.api.create(workload("Deployment", where, replicas=2))
    assert all(is_meshed(one) for one in ready_pods(mesh_cluster.api, where, count=2))


@pytest.mark.parametrize("check", BAD)
def test_a_pod_outside_the_mesh_is_denied(
    mesh_cluster: MeshCluster, where: str, check: str
) -> None:
    assert f"{check} " in mesh_cluster.api.denial(pod(where, **BAD[check]))


def test_the_doctor_finds_nothing(mesh_cluster: MeshCluster, engine: str) -> None:
    run = command.as_admin(mesh_cluster.plane)
    assert "no errors, no warnings" in run("doctor", "-n", mesh_cluster.enroll("enforce")).out


def test_without_a_server_pods_start_if_the_api_server_opts_them_in(
    mesh_cluster: MeshCluster, where: str, engine: str
) -> None:
    opts_in = engine == "policy" and build.ALL["kube-apiserver"].version >= OPTS_IN
    mesh_cluster.kubelet.pause()
    try:
        said = mesh_cluster.api.denial(pod(where))
    finally:
        mesh_cluster.kubelet.resume()
    assert said == "" if opts_in else "failed calling webhook" in said
