"""A namespace whose label mendix-mesh.io/mesh names no mesh, say by a typo."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="unknown-mesh",
    level="deny",
    meshes=("unknown",),
    fields=("metadata.namespace",),
    reason="is in a namespace whose label mendix-mesh.io/mesh names no mesh",
    fix="set the namespace's label to linkerd, istio or ambient",
    source="mendix-mesh",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield one violation, always."""
    yield CHECK.violation("metadata.namespace")
