"""Init containers that run before the proxy: they speak outside the mesh."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="init-before-proxy",
    level="advise",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers",),
    reason="runs before the proxy, outside the mesh",
    fix="use native sidecars (Kubernetes 1.29 or later)",
    source="linkerd2 charts/patch/templates/patch.json; kubernetes.io sidecar containers",
    evidence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each early init container."""
    return map(CHECK.violation, mesh.late_proxy(pod))
