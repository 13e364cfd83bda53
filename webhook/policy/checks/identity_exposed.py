"""A workload container that can read the key with which the proxy proves who it is."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="identity-exposed",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.containers[*].volumeMounts",
        "spec.initContainers[*].volumeMounts",
        "spec.ephemeralContainers[*].volumeMounts",
    ),
    reason="lets the container read the proxy's key or token",
    fix="remove the mount: the volume is the proxy's alone",
    source="linkerd2 charts/partials/templates/_proxy.tpl volumeMounts",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each such mount."""
    return map(CHECK.violation, mesh.exposed_identity(pod))
