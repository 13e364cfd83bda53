"""A proxy, or a volume of the proxy, that the pod's author brings instead of the injector.

It may have the mesh's image and rules and yet variables of the author's. Our mutating webhook runs
before the injectors and records it. The mesh reads the record and gives the spots by itself.
"""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import RECORD, Mesh, annotation
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="proxy-brought",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers", "spec.containers", "spec.volumes", annotation(RECORD)),
    reason="brought the mesh's proxy itself instead of leaving it to the injector",
    fix="author: remove it, the injector adds it; debug by ephemeral container, not by a copy; "
    "admin: exempt restored pods",
    updates_alone=True,
    source="webhook/policy/mutate.py, which sees a pod before the injectors do",
    explains_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield a change of the record; what was brought is among the mesh's inputs."""
    return map(CHECK.violation, mesh.altered_record(pod))
