"""Istio's ambient mode: a label enrolls a pod, and the node's CNI agent redirects it to ztunnel.

At admission it is not yet visible whether the agent did this, but whether it will: cni/pkg/util/
enablement_selector.go. Sources are paths in istio at 1.32-dev.
"""

from collections.abc import Iterator

from webhook.policy.inputs.istio import PROXY
from webhook.policy.mesh import Mesh, Occurrence, Want, annotation, label
from webhook.policy.meshes.istio import EXEMPT, REROUTES, STATUS, Istio, leave_linkerd
from webhook.policy.pod.workload import Placed, Pod
from webhook.policy.settings import Settings

MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
BYPASS = "ambient.istio.io/bypass-inbound-capture"
#: The label of a node that names its system.
OF_NODE = "kubernetes.io/os"


NOT_AMBIENT = "is not ambient, so nothing captures the pod's traffic"
ONLY_INGRESS = (
    "author: remove it; admin: if it is an ingress controller, name its namespace in "
    "ingress.namespaces"
)
CREATE_AGAIN = "admin: check that mendix-mesh's webhook runs, then create the pod again"


class Ambient(Mesh):
    """Ambient mode, without sidecars. The checks judge the label and what would disable it."""

    name = "ambient"
    of_agents = frozenset({REDIRECTION})

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._istio = Istio(settings)
        self.annotations, self.labels = self._istio.annotations, self._istio.labels

    def claims(self, placed: Placed) -> bool:  # noqa: ARG002 - there is no sidecar
        """Return False: ambient mode adds no container to the pod."""
        return False

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:  # noqa: ARG002 - nothing to end
        """Yield the pod's label, which takes precedence over the namespace's."""
        value = pod.labels.get(MODE)
        if self.is_infrastructure(pod):
            return
        if value == "none" and self.settings.opt_out == "deny":
            return
        yield from leave_linkerd(pod)
        if value != "ambient":
            yield Want("labels", MODE, "ambient")

    def keep_out(self, pod: Pod) -> Iterator[Want]:
        """Yield the opt-in, and the label that keeps the sidecar's injector away."""
        yield from self.opt_in(pod, task=False)
        yield from self._istio.keep_out(pod)

    def opt_outs(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the label if it opts out: `none`, or on a stored pod any value but ambient."""
        value = pod.labels.get(MODE)
        if value in (None, "ambient") or self.is_infrastructure(pod):
            return
        if pod.final or (value == "none" and self.settings.opt_out == "deny"):
            yield Occurrence(label(MODE), (str(value),), *self._istio.gateway_like(pod))

    def is_infrastructure(self, pod: Pod) -> bool:
        """Return whether the pod is a gateway or waypoint, as in Istio's sidecar mode."""
        return self._istio.is_infrastructure(pod)

    def proxy_of(self, pod: Pod) -> str:
        """Return istio-proxy for a gateway or waypoint, which speaks mTLS without ztunnel."""
        return PROXY if self.is_infrastructure(pod) else ""

    def missing(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the missing label. Without it, enrollment depends on the namespace's label."""
        if pod.labels.get(MODE) != "ambient" and not self.is_infrastructure(pod):
            yield Occurrence(
                label(MODE),
                reason=NOT_AMBIENT,
                fix=CREATE_AGAIN,
            )

    def capture_bypasses(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield annotations that disable inbound capture (nodeagent/net.go)."""
        if pod.annotations.get(BYPASS, "").lower() in ("1", "t", "true") and not pod.ingress:
            yield Occurrence(annotation(BYPASS), fix=ONLY_INGRESS)
        if virtual := pod.annotations.get(REROUTES[0]):
            yield Occurrence(annotation(REROUTES[0]), (virtual,),
                             "makes inbound traffic count as outbound traffic",
                             EXEMPT)  # fmt: skip

    def forged_status(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield annotations that only the sidecar injector or the CNI agent may set."""
        if not pod.final or self.is_infrastructure(pod):
            return
        if STATUS in pod.annotations:
            yield Occurrence(
                annotation(STATUS), reason="keeps ambient's CNI agent from enrolling the pod"
            )
        if REDIRECTION in pod.annotations and pod.new:
            yield Occurrence(annotation(REDIRECTION), reason="must be set only by the CNI agent")

    def unreachable_runtime(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield runtimes and systems whose network the node agent can't redirect."""
        runtime, system = pod.spec.runtime_class_name, pod.spec.os
        if runtime and runtime not in self.settings.ambient.runtime_classes:
            yield Occurrence("spec.runtimeClassName", (runtime,))
        if system and system.name not in ("", "linux"):
            yield Occurrence("spec.os.name", (system.name,), fix="author: use a Linux image")
        node = (pod.spec.node_selector or {}).get(OF_NODE) or "linux"
        if node != "linux":
            yield Occurrence(
                f"spec.nodeSelector[{OF_NODE}]", (node,), fix="author: use a Linux image"
            )

    def opt_in_removed(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the label or redirection annotation if an update removes it from a running pod."""
        old = pod.old
        if old is None:
            return
        if old.labels.get(MODE) == "ambient" != pod.labels.get(MODE):
            yield Occurrence(label(MODE), (f"ambient -> {pod.labels.get(MODE) or 'removed'}",))
        before, now = old.annotations.get(REDIRECTION), pod.annotations.get(REDIRECTION)
        # The agent writes it (`of_agents`). Peers send HBONE only while it is present.
        if before != now and not pod.by_status:
            yield Occurrence(
                annotation(REDIRECTION),
                (f"{before or 'unset'} -> {now or 'removed'}",),
                "tells other pods whether the node captures this pod",
                "user or controller that updates it: leave it to the CNI agent",
            )


MESH = Ambient
