"""A container with the proxy's name that is not the proxy, or can't work as it."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="proxy-forged",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.initContainers",
        "spec.containers",
        "spec.volumes",
        "metadata.labels[linkerd.io/control-plane-ns]",
        "metadata.annotations[sidecar.istio.io/status]",
        "metadata.labels[security.istio.io/tlsMode]",
    ),
    reason="is not how the mesh's injector makes it",
    fix="author: remove the container and let the injector add it",
    follows=True,
    source="linkerd2 pkg/healthcheck/sidecar.go, charts/patch/templates/patch.json",
    explains_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each sign of a forged or hollow proxy."""
    return map(CHECK.violation, mesh.forgeries(pod))
