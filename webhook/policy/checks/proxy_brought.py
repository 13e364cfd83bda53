"""A proxy that the pod's author wrote, or copied, instead of leaving it to the injector.

It may have the mesh's image and rules and yet variables of the author's, of which there are too
many to vouch for. Our mutating webhook, which runs before the injectors, marks such a pod.
"""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import BROUGHT, Mesh, annotation
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="proxy-brought",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers", "spec.containers", f"metadata.annotations[{BROUGHT}]"),
    reason="brought the mesh's proxy itself instead of leaving it to the injector",
    fix="remove it, the injector adds it; debug by ephemeral container, not by a copy; exempt "
    "restored pods",
    source="webhook/policy/mutate.py, which sees a pod before the injectors do",
    explains_absence=True,
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield the containers that the injector did not add.

    A stored pod tells them by its mark, which counts at birth alone: what anyone writes there
    later says nothing.
    """
    if pod.old is not None:
        return
    marked = pod.annotations.get(BROUGHT)
    if pod.final:
        names = set((marked or "").split(","))
        brought = [placed for placed in pod.mesh_containers if placed.name in names]
    else:
        brought = mesh.brought(pod)
    for placed in brought:
        yield CHECK.violation(placed.field(), placed.name)
    if marked is not None and not brought:
        yield CHECK.violation(annotation(BROUGHT), marked, fix="remove the annotation")
