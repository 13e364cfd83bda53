"""What people do with kubectl in an enrolled namespace, and what kubectl shows them."""

import json
from collections.abc import Callable
from typing import Protocol

import pytest

from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    INJECT,
    annotations_of,
    is_meshed,
    ready_pods,
    template_of,
    workload,
)

DENIED = (
    'admission webhook "linkerd.enforce.mendix-mesh.io" denied the request: '
    "{} would run outside the linkerd mesh:\n"
)


class Kubectl(Protocol):
    """kubectl in one namespace: standard output on success; standard error if `fails`."""

    def __call__(self, *args: str, stdin: object = None, fails: bool = False) -> str: ...


@pytest.fixture
def namespace(mesh_cluster: MeshCluster) -> str:
    return mesh_cluster.enroll()


@pytest.fixture
def kubectl(mesh_cluster: MeshCluster, namespace: str) -> Kubectl:
    def run(*args: str, stdin: object = None, fails: bool = False) -> str:
        text = json.dumps(stdin) if stdin else None
        done = mesh_cluster.plane.kubectl("-n", namespace, *args, input=text, check=not fails)
        assert (done.returncode != 0) == fails
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def meshed_pods(mesh_cluster: MeshCluster, namespace: str) -> Callable[..., None]:
    """Wait for this number of ready pods of a workload from kubectl. All must be meshed."""

    def await_them(name: str = "shop", *, count: int = 1) -> None:
        assert all(map(is_meshed, ready_pods(mesh_cluster.api, namespace, name, count=count)))

    return await_them


def test_create_deployment_scale_and_restart(
    mesh_cluster: MeshCluster,
    namespace: str,
    kubectl: Kubectl,
    meshed_pods: Callable[..., None],
) -> None:
    kubectl("create", "deployment", "shop", "--image=shop", "--replicas=2")
    meshed_pods(count=2)
    kubectl("scale", "deployment/shop", "--replicas=3")
    meshed_pods(count=3)
    kubectl("rollout", "restart", "deployment/shop")
    kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    meshed_pods(count=3)
    stored = mesh_cluster.api.get("Deployment", "shop", namespace)
    annotations = annotations_of(template_of(stored))
    assert annotations.keys() == {INJECT, "kubectl.kubernetes.io/restartedAt"}
    kubectl("set", "image", "deployment/shop", "shop=shop:2")
    kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    meshed_pods(count=3)


def test_a_job_by_hand_from_a_cronjob(
    mesh_cluster: MeshCluster, namespace: str, kubectl: Kubectl
) -> None:
    kubectl("create", "cronjob", "nightly", "--image=shop", "--schedule=0 0 1 1 *")
    kubectl("create", "job", "now", "--from=cronjob/nightly")
    kubectl("wait", "job/now", "--for=condition=complete", "--timeout=60s")
    (found,) = mesh_cluster.api.list("Pod", namespace, labels="job-name=now")
    assert is_meshed(found)


def test_diff_and_a_dry_run_on_the_server_show_the_opt_in(namespace: str, kubectl: Kubectl) -> None:
    manifest = workload("Deployment", namespace)
    shown = kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=manifest)
    assert annotations_of(template_of(json.loads(shown)))[INJECT] == "enabled"
    kubectl("apply", "-f", "-", stdin=manifest)
    kubectl("diff", "-f", "-", stdin=manifest)  # Exits with 1 if there is a difference.


@pytest.fixture
def running(kubectl: Kubectl) -> str:
    """The name of a meshed pod."""
    kubectl("run", "shop", "--image=shop")
    return "shop"


@pytest.mark.parametrize("more", [["--", "sh"], ["--keep-labels"]])
def test_debug_by_a_copy_of_a_pod_is_denied_because_it_brings_the_proxy(
    kubectl: Kubectl, running: str, more: list[str]
) -> None:
    """The copy's proxy is not compared with the pod's. An ephemeral container is the alternative.

    kubectl gives the copy's debugger the capability SYS_PTRACE and shares its processes.
    """
    said = kubectl("debug", running, "--copy-to=shop-debug", "--image=busybox", *more, fails=True)
    assert DENIED.format("pod shop-debug") in said
    found = {line.split()[0] for line in said.splitlines()[1:]}
    assert found == {"proxy-brought", "capture-capability"}
    assert "debug with an ephemeral container, not with a copy" in said


def test_debug_of_a_node_from_an_enrolled_namespace_is_denied(kubectl: Kubectl) -> None:
    said = kubectl("debug", "node/node-0", "--image=busybox", fails=True)
    assert "denied the request: pod node-debugger-node-0-" in said
    assert "  host-network  spec.hostNetwork  " in said


def test_debug_by_an_ephemeral_container_is_admitted(
    mesh_cluster: MeshCluster, namespace: str, kubectl: Kubectl, running: str
) -> None:
    kubectl("debug", running, "--image=busybox", "--container=debugger")
    stored = mesh_cluster.api.get("Pod", running, namespace)
    assert [c["name"] for c in stored["spec"]["ephemeralContainers"]] == ["debugger"]


@pytest.mark.parametrize("profile", ["netadmin", "sysadmin"])
def test_debug_with_a_profile_that_can_undo_the_capture_is_denied(
    kubectl: Kubectl, running: str, profile: str
) -> None:
    said = kubectl("debug", running, "--image=busybox", f"--profile={profile}", fails=True)
    assert "  capture-capability  spec.ephemeralContainers[debugger-" in said


def test_what_is_edited_on_a_running_pod_is_denied_with_the_reason(
    kubectl: Kubectl, running: str
) -> None:
    said = kubectl("label", "pod", running, "linkerd.io/control-plane-ns-", fails=True)
    assert DENIED.format("pod shop") in said
    assert "  mesh-label-removed  metadata.labels[linkerd.io/control-plane-ns]  " in said
    kubectl("label", "pod", running, "team=shop")
    kubectl("delete", "pod", running, "--wait=false")
