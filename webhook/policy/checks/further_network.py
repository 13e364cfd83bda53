"""A pod with further networks, for example by Multus: no mesh captures their traffic."""

from collections.abc import Sequence

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh, annotation
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

NETWORKS = "k8s.v1.cni.cncf.io/networks"

CHECK = Check(
    id="further-network",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=(annotation(NETWORKS),),
    reason="attaches the pod to a further network, whose traffic the mesh does not capture",
    fix="author: remove it, or encrypt that traffic in the application",
    source="Kubernetes network plumbing group, multi-network specification (Multus)",
)


def find(mesh: Mesh, pod: Pod) -> Sequence[Occurrence]:
    """Return the annotation, if it names any network."""
    named = pod.annotations.get(NETWORKS, "").strip()
    return (Occurrence(annotation(NETWORKS), (named,)),) if named else ()


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    named = f"{cel.ANNOTATIONS}[?{cel.text(NETWORKS)}].orValue('')"
    found = cel.row(cel.text(annotation(NETWORKS)), cel.reason(CHECK.reason, named),
                    cel.text(CHECK.fix))  # fmt: skip
    return cel.Rule(f"{named} != '' ? [{found}] : []", cel.is_shown(named))
