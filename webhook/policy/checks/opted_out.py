"""A pod whose author asks the mesh to leave it out."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="opted-out",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[linkerd.io/inject]",
        "metadata.labels[sidecar.istio.io/inject]",
        "metadata.annotations[sidecar.istio.io/inject]",
        "metadata.labels[istio.io/dataplane-mode]",
    ),
    reason="asks to stay outside the mesh",
    fix="remove it, or ask an admin for an exemption",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
    explains_absence=True,
    excuses_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each label or annotation that opts out."""
    return map(CHECK.violation, mesh.opt_outs(pod))
