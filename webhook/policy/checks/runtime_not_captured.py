"""A pod in a runtime or system of its own, whose network the mesh can't redirect."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="runtime-not-captured",
    level="deny",
    meshes=("ambient",),
    fields=("spec.runtimeClassName", "spec.os.name"),
    reason="runs in a sandbox with a network of its own, which the node agent may not redirect",
    fix="author: remove it; admin: if the node agent redirects such pods, name the class in "
    "settings.ambient.runtimeClasses",
    source="istio issue 58573 (gVisor, Kata); istio cni/pkg/nodeagent/net.go",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield a runtime class that is not allowed, and a system other than Linux."""
    return map(CHECK.violation, mesh.unreachable_runtime(pod))
