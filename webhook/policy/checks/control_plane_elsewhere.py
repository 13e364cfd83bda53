"""A proxy that obeys another control plane."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="control-plane-elsewhere",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "metadata.labels[linkerd.io/control-plane-ns]",
        "spec.initContainers[*].env",
        "metadata.annotations[proxy.istio.io/config]",
        "metadata.annotations[sidecar.istio.io/discoveryAddress]",
        "spec.containers[*].env",
        "spec.hostAliases",
        "spec.dnsPolicy",
    ),
    reason="obeys another control plane than the cluster's",
    fix="let the injector set it, or name yours in settings.linkerd.controlPlaneNamespace",
    source="linkerd2 controller/api/destination/endpoint_translator.go createWeightedAddr",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each sign of another control plane."""
    return map(CHECK.violation, mesh.elsewhere(pod))
