"""How strictly a namespace is judged: its labels decide, at once, and also when we are down."""

import contextlib
import copy
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.cluster.api import StatusError, wait_for
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.workloads import (
    INJECT,
    annotations_of,
    is_meshed,
    pod,
    ready_pods,
    sidecar_of,
    template_of,
    workload,
)
from tests.standins import mendix_manifests


def test_a_namespace_that_is_not_enrolled_is_left_alone(mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.plane.new_namespace()
    created = mesh_cluster.api.create(workload("Deployment", where))
    assert not annotations_of(template_of(created))
    assert not is_meshed(mesh_cluster.api.create(pod(where, "bare")))


def test_enforce_denies_and_the_audit_log_says_so(mesh_cluster: MeshCluster) -> None:
    made = pod(mesh_cluster.enroll("enforce"), hostNetwork=True)
    with pytest.raises(StatusError, match=r"host-network +spec.hostNetwork"):
        mesh_cluster.api.create(made)
    found = mesh_cluster.recorded(made)
    assert found["verdict"] == "denied"
    assert "host-network" in found["checks"].split(",")


def test_warn_admits_warns_and_leaves_a_trace_in_the_audit_log(
    mesh_cluster: MeshCluster,
) -> None:
    api = mesh_cluster.api
    made = pod(mesh_cluster.enroll("warn"), hostNetwork=True)
    assert not sidecar_of(api.create(made))
    assert "host-network: spec.hostNetwork" in " ".join(api.warnings)
    assert all(len(text) < 120 for text in api.warnings)
    found = mesh_cluster.recorded(made)
    assert found["verdict"] == "warned"
    assert "host-network" in found["checks"].split(",")


def test_audit_admits_and_only_the_audit_log_has_the_reason(mesh_cluster: MeshCluster) -> None:
    api = mesh_cluster.api
    made = pod(mesh_cluster.enroll("audit"), hostNetwork=True)
    assert not sidecar_of(api.create(made))
    # Advice is given in every mode. Mode audit does not show what enforce would deny.
    assert "host-network" not in " ".join(api.warnings)
    found = mesh_cluster.recorded(made)
    assert found["verdict"] == "audited"
    assert "host-network" in found["checks"].split(",")


@pytest.mark.parametrize("mode", ["", "enforce", "warn", "audit"])
def test_a_pod_joins_in_every_mode(mesh_cluster: MeshCluster, mode: str) -> None:
    made = pod(mesh_cluster.enroll(mode))
    assert is_meshed(mesh_cluster.api.create(made))
    assert mesh_cluster.recorded(made)["verdict"] == "admitted"


def test_a_new_mode_label_takes_effect(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("warn")
    api.create(pod(where, "first", hostNetwork=True))
    mesh_cluster.relabel(where, "linkerd.enforce", mode="enforce")
    with pytest.raises(StatusError, match="host-network"):
        api.create(pod(where, "second", hostNetwork=True))
    mesh_cluster.relabel(where, "linkerd.audit", mode="audit")
    api.create(pod(where, "third", hostNetwork=True))
    mesh_cluster.relabel(where, "linkerd.enforce")  # Without a label, the chart's mode applies.
    with pytest.raises(StatusError, match="host-network"):
        api.create(pod(where, "fourth", hostNetwork=True))


def test_a_namespace_that_leaves_is_left_alone(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    labels = {MESH_LABEL: None, MODE_LABEL: None}
    api.patch("Namespace", where, None, {"metadata": {"labels": labels}})
    mesh_cluster.await_judge(where, "")
    assert INJECT not in annotations_of(api.create(pod(where, hostNetwork=True)))


@pytest.mark.parametrize("mode", ["enforced", "Warn", "off"])
def test_a_misspelled_mode_counts_as_enforce(mesh_cluster: MeshCluster, mode: str) -> None:
    with pytest.raises(StatusError, match=r"linkerd\.enforce\.mendix-mesh\.io.*denied"):
        mesh_cluster.api.create(pod(mesh_cluster.enroll(mode), hostNetwork=True))


def test_a_misspelled_mesh_is_denied_with_the_fix(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll(mesh="linkrd")
    with pytest.raises(StatusError) as denied:
        api.create(pod(where))
    assert 'admission webhook "unknown-mesh.enforce.mendix-mesh.io" denied' in denied.value.message
    assert denied.value.message.splitlines()[1] == (
        "  unknown-mesh  metadata.namespace  is in a namespace whose label mendix-mesh.io/mesh "
        "has an unknown value; namespace's owner: set the label to linkerd, istio or ambient"
    )
    with pytest.raises(StatusError, match="unknown-mesh"):
        api.create(workload("Deployment", where))
    mesh_cluster.relabel(where, "linkerd.enforce")
    assert is_meshed(api.create(pod(where)))


def test_a_misspelled_mesh_causes_a_warning_in_mode_warn(mesh_cluster: MeshCluster) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("warn", mesh="linkrd")
    api.create(pod(where))
    assert any(": unknown-mesh" in text for text in api.warnings)


def test_what_exists_in_a_namespace_with_a_misspelled_mesh_can_be_changed_and_deleted(
    mesh_cluster: MeshCluster,
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.plane.new_namespace()
    api.create(workload("Deployment", where))
    ready_pods(api, where)
    mesh_cluster.relabel(where, "unknown-mesh.enforce", mesh="linkrd")
    api.patch("Deployment", "shop", where, {"metadata": {"labels": {"team": "shop"}}})
    api.patch("Deployment", "shop", where, {"spec": {"replicas": 0}})
    api.delete("Deployment", "shop", where)


@pytest.fixture
def outage(mesh_cluster: MeshCluster) -> Iterator[None]:
    """No server of ours answers until the test resumes them, or ends."""
    mesh_cluster.kubelet.pause()
    yield
    mesh_cluster.kubelet.resume()


def test_while_we_are_down_enforce_denies_and_recovers(
    mesh_cluster: MeshCluster, outage: None
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    with pytest.raises(StatusError) as denied:
        api.create(pod(where))
    assert denied.value.code == 500
    assert 'failed calling webhook "linkerd.mutate-pods.enforce.' in denied.value.message
    # For a controller, the mutating webhook is skipped, and the validating one denies.
    with pytest.raises(StatusError, match=r'failed calling webhook "linkerd\.enforce\.'):
        api.create(workload("Deployment", where))
    made = api.create(mendix_manifests.app_ingress("shop", where))
    assert "nginx.ingress.kubernetes.io/service-upstream" not in annotations_of(made)
    mesh_cluster.kubelet.resume()
    assert is_meshed(api.create(pod(where)))
    api.create(workload("Deployment", where))


@contextlib.contextmanager
def frozen(cluster: MeshCluster) -> Iterator[None]:
    """Let the servers accept connections without answering, so that calls time out."""
    where = cluster.enroll("enforce")
    masters = [process.pid for process in cluster.kubelet.processes.values()]
    children = [child for master in masters for child in _children(master)]
    for pid in masters + children:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in children + masters:
            os.kill(pid, signal.SIGCONT)
        # By then they may have failed their readiness probes.
        wait_for(lambda: not cluster.api.denial(pod(where)), why="the servers to be called again")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def mutating_lost(cluster: MeshCluster) -> Iterator[None]:
    """Point the mutating webhook to a Service without servers. The validating one works."""
    kind = "MutatingWebhookConfiguration"
    before = cluster.api.get(kind, "00-mendix-mesh")
    away = copy.deepcopy(before)
    for webhook in away["webhooks"]:
        webhook["clientConfig"]["service"]["name"] = "nobody"
    cluster.api.replace(away)
    try:
        probe = cluster.enroll("audit")
        wait_for(
            lambda: INJECT not in annotations_of(cluster.api.create(pod(probe), dry_run=True)),
            why="mutating calls to fail",
        )
        yield
    finally:
        now = cluster.api.get(kind, "00-mendix-mesh")
        cluster.api.replace({**now, "webhooks": before["webhooks"]})
        wait_for(
            lambda: INJECT in annotations_of(cluster.api.create(pod(probe), dry_run=True)),
            why="mutating calls to be answered",
        )


@pytest.mark.parametrize(
    ("outage", "why", "modes"),
    # Each pod waits for a frozen server twice.
    [(frozen, "deadline exceeded", ["enforce", "warn"]),
     (mutating_lost, 'service "nobody" not found', ["", "enforce", "odd", "warn", "audit"])],
)  # fmt: skip
def test_without_the_mutating_side_enforce_denies_pods_and_the_other_modes_admit_them(
    mesh_cluster: MeshCluster,
    outage: Callable[[MeshCluster], AbstractContextManager[None]],
    why: str,
    modes: list[str],
) -> None:
    """In mode enforce, an author's input is always judged."""
    api = mesh_cluster.api
    namespaces = {mode: mesh_cluster.enroll(mode) for mode in modes}
    with outage(mesh_cluster):
        for mode in modes:
            if mode in ("warn", "audit"):
                assert INJECT not in annotations_of(api.create(pod(namespaces[mode])))
                continue
            with pytest.raises(StatusError, match=why) as denied:
                api.create(pod(namespaces[mode]))
            assert denied.value.code == 500
            assert 'calling webhook "linkerd.mutate-pods.enforce.' in denied.value.message


def test_without_the_mutating_side_alone_controllers_and_ingresses_are_created_in_enforce(
    mesh_cluster: MeshCluster,
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    with mutating_lost(mesh_cluster):
        made = api.create(workload("Deployment", where, replicas=0))
        assert INJECT not in annotations_of(template_of(made))
        api.create(mendix_manifests.app_ingress("shop", where))


def test_while_we_are_down_pods_are_deleted_and_report_their_status(
    mesh_cluster: MeshCluster,
) -> None:
    """Writes of kubelets and clean-ups are not reviewed, so an outage does not affect them."""
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    api.create(workload("Deployment", where))
    (running,) = ready_pods(api, where)
    name = running["metadata"]["name"]
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    api.patch("Pod", name, where, held)
    mesh_cluster.kubelet.pause()
    try:
        # A Job that ended takes its finalizer off its pods, and would never be complete without.
        api.patch("Pod", name, where, {"metadata": {"finalizers": None}})
        status = {"status": {"message": "well"}}
        api.patch("Pod", name, where, status, subresource="status")
        api.patch("Deployment", "shop", where, {"spec": {"replicas": 0}}, subresource="scale")
        api.delete("Deployment", "shop", where)
    finally:
        mesh_cluster.kubelet.resume()


@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_while_we_are_down_the_other_modes_admit(
    mesh_cluster: MeshCluster, outage: None, mode: str
) -> None:
    """Pods are neither opted in nor judged: mode audit must not block anything."""
    api, where = mesh_cluster.api, mesh_cluster.enroll(mode)
    stored = api.create(pod(where))
    assert not sidecar_of(stored)
    assert INJECT not in annotations_of(stored)
    assert INJECT not in annotations_of(template_of(api.create(workload("Deployment", where))))
    mesh_cluster.kubelet.resume()
    assert is_meshed(api.create(pod(where, "later")))
