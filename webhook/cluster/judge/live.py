"""Checks of running pods: whether the proxy works, and whether it is up to date.

Only `audit` and the other commands have these checks, because the webhook can't see a pod's status.
"""

from collections.abc import Iterator

from webhook.cluster.kinds.inventory import LivePod
from webhook.policy.checks import Check, Violation
from webhook.policy.mesh import Occurrence, annotation
from webhook.policy.meshes.ambient import REDIRECTION
from webhook.policy.meshes.linkerd import INBOUND_POLICY

PROXY_NOT_READY = Check(
    id="proxy-not-ready",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=("status.initContainerStatuses", "status.containerStatuses"),
    reason="has a proxy that is not ready, so its traffic fails",
    fix="read the proxy's log, and check that the control plane runs",
    source="linkerd2 pkg/healthcheck/healthcheck.go (data plane); istioctl proxy-status",
)
NOT_REDIRECTED = Check(
    id="not-redirected",
    level="deny",
    meshes=("ambient",),
    fields=(annotation(REDIRECTION),),
    reason="runs, but its node does not redirect its traffic to ztunnel",
    fix="check that istio-cni-node and ztunnel run on its node, then restart the workload",
    source="istio cni/pkg/util/podutil.go; pkg/config/analysis/analyzers/util/in_mesh.go",
)
REDIRECTION_PENDING = Check(
    id="redirection-pending",
    level="warning",
    meshes=("ambient",),
    fields=(annotation(REDIRECTION),),
    reason="waits for ztunnel and has no network until then",
    fix="check that ztunnel runs on its node",
    source="istio cni/pkg/util/podutil.go",
)
PROXY_OUTDATED = Check(
    id="proxy-outdated",
    level="warning",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers", "spec.containers"),
    reason="has another proxy version than a new pod would get",
    fix="restart the workload",
    source="linkerd2 pkg/healthcheck/healthcheck.go (data plane versions); istioctl proxy-status",
)
TRUST_ANCHOR_CHANGED = Check(
    id="trust-anchor-changed",
    level="warning",
    meshes=("linkerd",),
    fields=(annotation("linkerd.io/trust-root-sha256"),),
    reason="trusts other roots than the control plane has now, so other pods may reject it",
    fix="restart the workload before the old roots are removed",
    source="linkerd2 pkg/healthcheck/healthcheck.go (identity data plane)",
)
INBOUND_POLICY_OUTDATED = Check(
    id="inbound-policy-outdated",
    level="warning",
    meshes=("linkerd",),
    fields=(annotation(INBOUND_POLICY),),
    reason="started with another default inbound policy than new pods get",
    fix="restart the workload; if its pod template sets the annotation, remove it there first",
    source="linkerd2 pkg/inject/inject.go AppendNamespaceAnnotations; "
    "policy-controller/k8s/index/src/inbound/workload.rs",
)
UNREADABLE = Check(
    id="unreadable",
    level="deny",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    fields=("",),
    reason="can't be judged, because a field has another type than in Kubernetes",
    fix="check the pod with kubectl get pod -o yaml, and report a bug of mendix-mesh",
    source="webhook/policy/pod/objects.py",
)
CHECKS = (
    PROXY_NOT_READY,
    NOT_REDIRECTED,
    REDIRECTION_PENDING,
    PROXY_OUTDATED,
    TRUST_ANCHOR_CHANGED,
    INBOUND_POLICY_OUTDATED,
    UNREADABLE,
)


def live(pod: LivePod, proxy: str, *, proxied: bool) -> Iterator[Violation]:
    """Yield what the status of a running pod shows; nothing for a pod that has not started.

    `proxy` is the name of the proxy container, empty if the node redirects the traffic. `proxied`
    says that the spec has a genuine proxy, or in ambient mode the label.
    """
    if pod.status.phase != "Running" or not proxied:
        return
    if proxy:
        status = pod.container(proxy)
        # For a native sidecar `ready` also follows its readiness probe.
        if status is None or not status.ready:
            yield PROXY_NOT_READY.violation(Occurrence(f"status of {proxy}"))
        return
    redirection = (pod.metadata.annotations or {}).get(REDIRECTION)
    if redirection == "pending":
        yield REDIRECTION_PENDING.violation(Occurrence(annotation(REDIRECTION), ("pending",)))
    elif redirection != "enabled":
        yield NOT_REDIRECTED.violation(Occurrence(annotation(REDIRECTION)))
