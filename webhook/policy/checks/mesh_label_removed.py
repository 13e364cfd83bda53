"""An update that takes a running pod out of the mesh: control planes read these live."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="mesh-label-removed",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.labels[linkerd.io/control-plane-ns]",
        "metadata.annotations[config.linkerd.io/default-inbound-policy]",
        "metadata.labels[security.istio.io/tlsMode]",
        "metadata.labels[istio.io/dataplane-mode]",
        "metadata.annotations[ambient.istio.io/redirection]",
    ),
    reason="takes a running pod out of the mesh",
    fix="keep it as the injector set it",
    updates_alone=True,
    source="linkerd2 destination/endpoint_translator.go, policy-controller inbound/workload.rs",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield what this update takes away."""
    return map(CHECK.violation, mesh.forsaken(pod))
