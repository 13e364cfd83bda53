"""The mesh's injector is not installed."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.webhooks import INJECTORS

FINDING = FindingRule(
    id="injector-missing",
    severity="error",
    meshes=("linkerd", "istio"),
    means="nothing adds the mesh's proxy to pods",
    mend="install the mesh's control plane, or enroll the namespace in the mesh that is there",
    source="linkerd2 proxy-injector-rbac.yaml; istio istio-discovery, mutatingwebhook.yaml",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the name that no webhook has."""
    if not look.injectors(place.mesh.name):
        yield Occurrence(f"no mutating webhook is called {INJECTORS[place.mesh.name]}")
