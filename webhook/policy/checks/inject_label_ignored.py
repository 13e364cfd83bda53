"""The mesh's annotation written as a label, which the mesh ignores."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="inject-label-ignored",
    level="advise",
    meshes=("linkerd",),
    fields=(
        "metadata.labels[linkerd.io/inject]",
        "metadata.labels[config.linkerd.io/*]",
    ),
    reason="is read as an annotation alone: as a label it does nothing",
    fix="make it an annotation, or remove it",
    source="linkerd2 pkg/k8s/labels.go",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each such label."""
    return map(CHECK.violation, mesh.ignored_labels(pod))
