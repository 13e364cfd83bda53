"""A pod with further networks, say by Multus: no mesh captures their traffic."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh, annotation
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

NETWORKS = "k8s.v1.cni.cncf.io/networks"

CHECK = Check(
    id="further-network",
    level="advise",
    meshes=("linkerd", "istio", "ambient"),
    fields=(annotation(NETWORKS),),
    reason="gives the pod a further network, of which the mesh captures nothing",
    fix="author: remove it, or encrypt in the application what goes over it",
    source="Kubernetes network plumbing group, multi-network specification (Multus)",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield the annotation, if it names any network."""
    if named := pod.annotations.get(NETWORKS, "").strip():
        yield CHECK.violation(annotation(NETWORKS), named)
