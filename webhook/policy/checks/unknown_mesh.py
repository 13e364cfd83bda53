"""A namespace whose label mendix-mesh.io/mesh names no known mesh, for example by a typo."""

from collections.abc import Iterator

from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="unknown-mesh",
    level="deny",
    meshes=("unknown",),
    fields=("metadata.namespace",),
    reason="is in a namespace whose label mendix-mesh.io/mesh has an unknown value",
    fix="namespace's owner: set the label to linkerd, istio or ambient",
    source="mendix-mesh",
)


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield one violation, always."""
    yield Occurrence("metadata.namespace")
