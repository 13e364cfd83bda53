"""A proxy that is told not to speak mutual TLS."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="mtls-disabled",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "metadata.annotations[config.linkerd.io/disable-identity]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
        "metadata.labels[security.istio.io/tlsMode]",
    ),
    reason="switches the proxy's mutual TLS off",
    fix="remove it",
    follows=True,
    source="linkerd2 charts/partials/templates/_proxy.tpl (identity environment)",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each switch that turns mTLS off."""
    return map(CHECK.violation, mesh.mtls_disabled(pod))
