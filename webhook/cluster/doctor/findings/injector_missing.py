"""The mesh's injector is not installed."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.webhooks import INJECTORS
from webhook.policy.labels import MESH_LABEL

FINDING = FindingRule(
    id="injector-missing",
    severity="error",
    meshes=("linkerd", "istio"),
    means="nothing adds the mesh's proxy to pods",
    fix="install the mesh's control plane, or enroll the namespace in the mesh that is installed",
    source="linkerd2 proxy-injector-rbac.yaml; istio istio-discovery, mutatingwebhook.yaml",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the webhook name that is missing."""
    if not facts.injectors(place.mesh.name):
        others = [name for name in INJECTORS if name != place.mesh.name and facts.injectors(name)]
        title = place.mesh.name.capitalize()
        fix = f"install {title}'s control plane"
        for other in others:
            command = f"kubectl label namespace {place.name} {MESH_LABEL}={other} --overwrite"
            fix += f", or enroll the namespace in {other}, which is installed: {command}"
        yield Occurrence(
            f"there is no mutating webhook named {INJECTORS[place.mesh.name]}", fix=fix
        )
