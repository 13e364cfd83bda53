"""Would ztunnel carry a pod's traffic? From istio at 1.31: cni/pkg/util, cni/pkg/nodeagent."""

from collections.abc import Iterator

from tests.oracle import common, istio
from tests.oracle.common import Json, Pod


def complaints(document: Json, untouched: Json | None = None) -> Iterator[str]:
    """Yield why a stored pod's traffic can bypass ztunnel, one sentence each; nothing if it can't.

    The oracle assumes that the node's agent works, because the pod does not show it.
    """
    pod = Pod(document)
    yield from common.node(pod)
    if istio.is_gateway(pod):
        return
    if pod.labels.get("istio.io/dataplane-mode") != "ambient":
        yield "the agent does not enroll it"
    if "sidecar.istio.io/status" in pod.annotations:
        yield "the agent believes that it has a sidecar"
    if common.is_true(pod.annotations.get("ambient.istio.io/bypass-inbound-capture")):
        yield "clients reach it directly"
    if common.listed(pod.annotations.get("istio.io/reroute-virtual-interfaces", "")):
        yield "what comes in there is not asked who it is"
    yield from common.meddlers(pod, pod.everything)
    systems = (pod.spec.get(key) or {} for key in ("os", "nodeSelector"))
    windows = any("windows" in system.values() for system in systems)
    if pod.spec.get("runtimeClassName") or windows:
        yield "its network is one that the agent can't redirect"
    if pod.named("istio-proxy", "linkerd-proxy"):
        yield "another mesh takes part"
