"""The namespace's Pod Security level forbids what the injector adds."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="pod-security",
    severity="error",
    meshes=("linkerd", "istio"),
    means="the mesh's init container needs the capability NET_ADMIN, which the namespace's Pod "
    "Security level forbids: no pod is created",
    fix="install the mesh's CNI plugin, so that pods do not need the capability, or relax the "
    "namespace's label pod-security.kubernetes.io/enforce",
    source="kubernetes.io, Pod Security Standards: capabilities; linkerd2 charts: cniEnabled; "
    "istio: pilot.cni.enabled",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield Pod Security's message for the dry-run pod, which without the proxy is allowed."""
    denial = facts.probe(place).denial
    if "violates PodSecurity" in denial:
        yield Occurrence(denial)
