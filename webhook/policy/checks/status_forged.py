"""A sidecar's status or an agent's mark that the author set, not the mesh."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="status-forged",
    level="deny",
    meshes=("istio", "ambient"),
    fields=(
        "metadata.annotations[sidecar.istio.io/status]",
        "metadata.annotations[ambient.istio.io/redirection]",
    ),
    reason="is the injector's alone to set, and the pod has no proxy",
    fix="author: remove the annotation",
    source="istio cni/pkg/util/podutil.go podHasSidecar; pkg/kube/inject/inject.go",
    explains_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield marks that no program of the mesh can have set; those at submission are inputs."""
    return map(CHECK.violation, mesh.forged_status(pod))
