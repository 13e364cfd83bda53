"""The namespace's Pod Security level refuses what the injector adds."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="pod-security",
    severity="error",
    meshes=("linkerd", "istio"),
    means="the mesh's init container needs NET_ADMIN, which the namespace's Pod Security level "
    "refuses: no pod is created",
    mend="install the mesh's CNI plugin, so that pods need no such right; or relax the "
    "namespace's pod-security.kubernetes.io/enforce",
    source="kubernetes.io, Pod Security Standards: capabilities; linkerd2 charts: cniEnabled; "
    "istio: pilot.cni.enabled",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield Pod Security's refusal of a pod that by itself meets every level."""
    refusal = look.probe(place).refusal
    if "violates PodSecurity" in refusal:
        yield Occurrence(refusal)
