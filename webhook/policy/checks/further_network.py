"""A pod with further networks, for example by Multus: no mesh captures their traffic."""

from collections.abc import Iterator

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh, annotation
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

#: Each names further networks of a pod: by Multus, the network that Multus uses instead of the
#: cluster's, and by GKE.
NETWORKS = (
    "k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network",
    "networking.gke.io/interfaces",
)  # fmt: skip

CHECK = Check(
    id="further-network",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=tuple(map(annotation, NETWORKS)),
    reason="attaches the pod to a further network, whose traffic the mesh does not capture",
    fix="author: remove it, or encrypt that traffic in the application",
    source="Kubernetes network plumbing group, multi-network specification (Multus); "
    "cloud.google.com, GKE multi-network support for pods",
)


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield each annotation that names a network."""
    for key in NETWORKS:
        if named := pod.annotations.get(key, "").strip():
            yield Occurrence(annotation(key), (named,))


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    named = f"{cel.ANNOTATIONS}[?k].orValue('')"
    found = cel.row("'metadata.annotations[' + k + ']'", cel.reason(CHECK.reason, named),
                    cel.text(CHECK.fix))  # fmt: skip
    keys = cel.listed(NETWORKS)
    rows = f"{keys}.map(k, {named} != '', {found})"
    return cel.Rule(rows, f"{keys}.all(k, {cel.is_shown(named)})")
