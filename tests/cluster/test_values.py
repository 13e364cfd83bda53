"""What an admin sets in the chart's values, seen on pods."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.api import Json, StatusError, core, wait_for
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.workloads import (
    INJECT,
    annotations_of,
    copy_of,
    is_meshed,
    pod,
    sidecar_of,
    workload,
)
from tests.fixtures.changes import RECORD
from tests.standins import mendix_manifests as manifests

INBOUND_POLICY = "config.linkerd.io/default-inbound-policy"
REASON = "node-exporter measures the node"
#: A label of objects that Velero restores.
RESTORED = "velero.io/restore-name"


@dataclass(frozen=True)
class Configured:
    """The cluster after a helm upgrade, and the namespaces that its values name."""

    cluster: MeshCluster
    named: str
    strict: str
    ingress: str
    exempt: str

    def create(self, obj: Json) -> Json:
        return self.cluster.api.create(obj)

    @property
    def warnings(self) -> str:
        return " ".join(self.cluster.api.warnings)


@pytest.fixture(scope="module")
def configured(mesh_cluster: MeshCluster) -> Iterator[Configured]:
    plane = mesh_cluster.plane
    made = Configured(
        mesh_cluster,
        named=plane.new_namespace("named"),
        strict=plane.new_namespace("strict"),
        ingress=mesh_cluster.enroll("enforce"),
        exempt=mesh_cluster.enroll("enforce"),
    )
    probe = mesh_cluster.enroll()
    exemption = {"checks": ["host-network"], "namespaces": [made.exempt], "reason": REASON}
    late = {**exemption, "checks": ["opted-out"], "until": "2020-12-31"}
    restored = {"matchExpressions": [{"key": RESTORED, "operator": "Exists"}]}
    restores = {**exemption, "checks": ["proxy-brought"], "selector": restored,
                "reason": "restored as it ran"}  # fmt: skip
    mesh_cluster.release.upgrade(
        {
            "mode": "warn",
            "namespaces": [
                {"name": made.named, "mesh": "linkerd"},
                {"name": made.strict, "mesh": "linkerd", "mode": "enforce"},
            ],
            "ingress": {"namespaces": [made.ingress]},
            "settings": {
                "exemptions": [
                    {**exemption, "selector": {"matchLabels": {"app": "node-exporter"}}},
                    late,
                    restores,
                ],
                "levels": [
                    {
                        "check": "shared-identity",
                        "level": "deny",
                        "namespaces": [made.strict],
                        "reason": "each app has an account of its own here",
                    }
                ],
                "linkerd": {
                    "inboundPolicy": "all-authenticated",
                    "skipInboundPorts": "25,4190-4191,4567-4568",
                },
                "ingress": {"classes": {"nginx-f5": "f5-nginx"}},
            },
        }
    )
    try:
        # Both servers run with the new settings, and the API server has the new configuration.
        mesh_cluster.kubelet.wait_replaced(2)
        mesh_cluster.await_judge(probe, "linkerd.warn-default")
        wait_for(lambda: _has_policy(mesh_cluster, probe), why="the new settings to be in use")
        yield made
    finally:
        mesh_cluster.release.upgrade()
        mesh_cluster.kubelet.wait_replaced(2)
        mesh_cluster.await_judge(probe, "linkerd.enforce")
        wait_for(lambda: not _has_policy(mesh_cluster, probe), why="the old settings to be in use")


def _has_policy(cluster: MeshCluster, namespace: str) -> bool:
    """Return whether pods are opted in with the inbound policy."""
    return INBOUND_POLICY in annotations_of(cluster.api.create(pod(namespace), dry_run=True))


def test_the_charts_mode_is_that_of_namespaces_without_one(configured: Configured) -> None:
    where = configured.cluster.enroll()
    configured.create(pod(where, hostNetwork=True))
    assert "host-network: spec.hostNetwork" in configured.warnings
    strict = configured.cluster.enroll("enforce")
    with pytest.raises(StatusError, match="host-network"):
        configured.create(pod(strict, hostNetwork=True))


def test_a_namespace_is_enrolled_by_its_name(configured: Configured) -> None:
    where = configured.named
    assert is_meshed(configured.create(pod(where)))
    configured.create(pod(where, "other", hostNetwork=True))
    assert "host-network: spec.hostNetwork" in configured.warnings
    assert configured.cluster.judge_of(where) == "linkerd.warn.named"


def test_a_namespace_that_is_enrolled_by_name_has_its_own_mode(configured: Configured) -> None:
    with pytest.raises(StatusError, match=r"linkerd\.enforce\.named\.mendix-mesh\.io.*denied"):
        configured.create(pod(configured.strict, hostNetwork=True))


def test_labels_win_over_the_list_of_names(configured: Configured) -> None:
    cluster, where = configured.cluster, configured.named
    try:
        labels = {"metadata": {"labels": {MODE_LABEL: "enforce"}}}
        cluster.api.patch("Namespace", where, None, labels)
        cluster.await_judge(where, "linkerd.enforce-labelled.named")
        cluster.relabel(where, "linkerd.audit", mode="audit")
    finally:
        gone: Json = {"metadata": {"labels": {MODE_LABEL: None, MESH_LABEL: None}}}
        cluster.api.patch("Namespace", where, None, gone)
        cluster.await_judge(where, "linkerd.warn.named")


def test_linkerds_ingress_mode_is_for_ingress_namespaces(configured: Configured) -> None:
    controller = {INJECT: "ingress"}
    assert is_meshed(configured.create(pod(configured.ingress, annotations=controller)))
    assert configured.cluster.judge_of(configured.ingress) == "linkerd.enforce.ingress"
    with pytest.raises(StatusError, match="capture-bypassed"):
        configured.create(pod(configured.exempt, annotations=controller))


def test_an_exemption_lets_a_pod_in_and_its_reason_is_recorded(configured: Configured) -> None:
    where = configured.exempt
    exporter = pod(where, "exporter", labels={"app": "node-exporter"}, hostNetwork=True)
    assert not sidecar_of(configured.create(exporter))
    assert "host-network" not in configured.warnings
    recorded = configured.cluster.recorded(exporter)
    assert recorded["verdict"] == "exempt"
    assert f"host-network: {REASON}" in recorded["exemptions"]


def test_a_restored_pod_is_admitted_by_an_exemption_and_stays_so(configured: Configured) -> None:
    """A backup contains pods as they ran. Velero adds a label to what it restores."""
    api, where = configured.cluster.api, configured.exempt
    stored = api.create(pod(where, "before"), dry_run=True)
    with pytest.raises(StatusError, match="proxy-brought"):
        configured.create(copy_of(stored, "copied"))
    labels = {**stored["metadata"]["labels"], RESTORED: "monday"}
    restored = configured.create(copy_of(stored, "restored", labels=labels))
    assert is_meshed(restored)
    assert annotations_of(restored)[RECORD].startswith(
        "proxy-brought spec.initContainers[linkerd-init]"
    )
    recorded = configured.cluster.recorded(restored)
    assert recorded["verdict"] == "exempt"
    assert recorded["exemptions"] == "proxy-brought: restored as it ran"
    api.patch("Pod", "restored", where, {"metadata": {"labels": {RESTORED: None}}})


def test_an_exempt_deployment_gets_its_pods(configured: Configured) -> None:
    api, where = configured.cluster.api, configured.exempt
    configured.create(workload("Deployment", where, "node-exporter", hostNetwork=True))
    wait_for(
        lambda: api.get("Deployment", "node-exporter", where)["status"].get("availableReplicas"),
        why="the exempt Deployment to be available",
    )


def test_a_check_that_advises_can_be_made_to_deny(configured: Configured) -> None:
    with pytest.raises(StatusError, match=r"shared-identity +spec\.serviceAccountName"):
        configured.create(pod(configured.strict))
    # The fix in the message is an own ServiceAccount.
    configured.create(core("ServiceAccount", "shop", configured.strict))
    assert is_meshed(configured.create(pod(configured.strict, serviceAccountName="shop")))


def test_the_inbound_policy_is_added_and_must_not_be_loosened_on_a_running_pod(
    configured: Configured,
) -> None:
    where = configured.cluster.enroll("enforce")
    stored = configured.create(pod(where))
    assert annotations_of(stored)[INBOUND_POLICY] == "all-authenticated"
    assert "accepts-plaintext" not in configured.warnings
    for value in ("all-unauthenticated", None):
        patch = {"metadata": {"annotations": {INBOUND_POLICY: value}}}
        with pytest.raises(StatusError, match="mesh-label-removed"):
            configured.cluster.api.patch("Pod", "shop", where, patch)


def test_an_ingress_class_of_the_settings_decides_on_the_annotation(
    configured: Configured,
) -> None:
    where = configured.cluster.enroll()
    stored = configured.create(manifests.app_ingress("shop", where, class_name="nginx-f5"))
    assert annotations_of(stored)["nginx.org/use-cluster-ip"] == "true"
