"""A pod with the proxy in it whose traffic is led past it."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="capture-bypassed",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[config.linkerd.io/skip-inbound-ports]",
        "metadata.annotations[config.linkerd.io/skip-outbound-ports]",
        "metadata.annotations[config.linkerd.io/skip-subnets]",
        "metadata.annotations[config.linkerd.io/control-port]",
        "metadata.annotations[config.linkerd.io/admin-port]",
        "metadata.annotations[config.linkerd.io/inbound-port]",
        "metadata.annotations[config.linkerd.io/outbound-port]",
        "metadata.annotations[linkerd.io/inject]",
        "spec.initContainers[*].args",
        "metadata.annotations[sidecar.istio.io/interceptionMode]",
        "metadata.annotations[proxy.istio.io/config]",
        "metadata.annotations[inject.istio.io/templates]",
        "metadata.annotations[traffic.sidecar.istio.io/*]",
        "metadata.annotations[istio.io/reroute-virtual-interfaces]",
        "metadata.annotations[status.sidecar.istio.io/port]",
        "metadata.annotations[ambient.istio.io/bypass-inbound-capture]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
    ),
    reason="leads traffic past the proxy in plaintext",
    fix="author: remove it; admin: allow it in settings.allow, or for all pods in the settings of "
    "the mesh",
    source="linkerd2 pkg/k8s/labels.go, pkg/inject/inject.go, proxy-init flags",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each annotation, argument or variable that takes traffic past the proxy."""
    return map(CHECK.violation, mesh.capture_bypasses(pod))
