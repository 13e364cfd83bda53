"""A pod with a label that keeps the API server from asking the injector."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="injector-bypass-label",
    level="deny",
    meshes=("linkerd",),
    fields=(
        "metadata.labels[linkerd.io/control-plane-component]",
        "metadata.labels[linkerd.io/cni-resource]",
    ),
    reason="keeps the injector from ever seeing the pod",
    fix="remove the label: it is for the mesh's own pods",
    source="linkerd2 charts/linkerd-control-plane/values.yaml proxyInjector.objectSelector",
    explains_absence=True,
    excuses_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each such label."""
    return map(CHECK.violation, mesh.injector_bypasses(pod))
