"""Evidence that only a running pod gives: does its proxy work, is it of today.

The checks here are those of `audit` and its like; the webhook can't see what they look at.
"""

from collections.abc import Iterator

from webhook.cluster.kinds.inventory import LivePod
from webhook.policy.checks import Check, Violation
from webhook.policy.mesh import Spot, annotation
from webhook.policy.meshes.ambient import REDIRECTION

PROXY_NOT_READY = Check(
    id="proxy-not-ready",
    level="advise",
    meshes=("linkerd", "istio", "ambient"),
    fields=("status.initContainerStatuses", "status.containerStatuses"),
    reason="has a proxy that is not ready: what it captures goes nowhere",
    fix="see the proxy's log, and whether the control plane runs",
    source="linkerd2 pkg/healthcheck/healthcheck.go (data plane); istioctl proxy-status",
)
NOT_REDIRECTED = Check(
    id="not-redirected",
    level="deny",
    meshes=("ambient",),
    fields=(annotation(REDIRECTION),),
    reason="runs, but its node never redirected it to ztunnel",
    fix="see that istio-cni-node and ztunnel run on its node, then restart it",
    source="istio cni/pkg/util/podutil.go; pkg/config/analysis/analyzers/util/in_mesh.go",
)
REDIRECTION_PENDING = Check(
    id="redirection-pending",
    level="advise",
    meshes=("ambient",),
    fields=(annotation(REDIRECTION),),
    reason="waits for ztunnel, and is cut off until then",
    fix="see that ztunnel runs on its node",
    source="istio cni/pkg/util/podutil.go",
)
PROXY_OUTDATED = Check(
    id="proxy-outdated",
    level="advise",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers", "spec.containers"),
    reason="has another version of the proxy than its pod would get today",
    fix="restart it",
    source="linkerd2 pkg/healthcheck/healthcheck.go (data plane versions); istioctl proxy-status",
)
TRUST_ANCHOR_CHANGED = Check(
    id="trust-anchor-changed",
    level="advise",
    meshes=("linkerd",),
    fields=(annotation("linkerd.io/trust-root-sha256"),),
    reason="trusts other roots than the control plane has today: its peers may refuse it",
    fix="restart it before the old roots are taken away",
    source="linkerd2 pkg/healthcheck/healthcheck.go (identity data plane)",
)
UNREADABLE = Check(
    id="unreadable",
    level="deny",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    fields=("",),
    reason="can't be judged: its fields are not of the types that Kubernetes gives them",
    fix="look at it with kubectl, and tell us",
    source="policy/objects.py",
)
CHECKS = (
    PROXY_NOT_READY,
    NOT_REDIRECTED,
    REDIRECTION_PENDING,
    PROXY_OUTDATED,
    TRUST_ANCHOR_CHANGED,
    UNREADABLE,
)


def live(pod: LivePod, proxy: str, *, proxied: bool) -> Iterator[Violation]:
    """What a running pod shows of its mesh; nothing of one that has not started yet.

    `proxy` names the container that is its proxy, and is empty where its node redirects it.
    `proxied` says that its spec has a genuine proxy, or in ambient mode the label.
    """
    if pod.status.phase != "Running" or not proxied:
        return
    if proxy:
        status = pod.container(proxy)
        # Of an init container that restarts, `ready` follows its readiness probe, too.
        if status is None or not status.ready:
            yield PROXY_NOT_READY.violation(Spot(f"status of {proxy}"))
        return
    told = (pod.metadata.annotations or {}).get(REDIRECTION)
    if told == "pending":
        yield REDIRECTION_PENDING.violation(Spot(annotation(REDIRECTION), ("pending",)))
    elif told != "enabled":
        yield NOT_REDIRECTED.violation(Spot(annotation(REDIRECTION)))
