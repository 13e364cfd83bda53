"""A namespace that no webhook of ours puts into a mesh."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, replaced
from webhook.policy.labels import MESH_LABEL, MESHES
from webhook.policy.namespaces import nearest

FINDING = FindingRule(
    id="not-enrolled",
    severity="error",
    meshes=("unknown",),
    means="nothing puts its pods into a mesh, and nothing refuses those outside",
    mend=f"mendix-mesh discover --enroll, or set its label {MESH_LABEL} to {', '.join(MESHES)}; "
    "excluded namespaces, as the mesh's own, can't be enrolled",
    source="charts/mendix-mesh/templates/_webhooks.tpl",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield what its label says."""
    value = place.namespace.labels.get(MESH_LABEL)
    if value is None:
        yield Occurrence(f"it has no label {MESH_LABEL}, and no webhook of ours names it")
    elif value in MESHES:
        yield Occurrence(f"its label {MESH_LABEL}={value} has no effect: the webhooks leave it out")
    else:
        yield Occurrence(f"its label {MESH_LABEL}={value} names no mesh")


def fix(look: Facts, place: Place) -> Iterator[Fix]:
    """Correct a label that misspells a mesh."""
    value = place.namespace.labels.get(MESH_LABEL, "")
    if wanted := nearest(MESH_LABEL, value):
        yield Fix(
            id=FINDING.id,
            what=f"namespace {place.name}: label {MESH_LABEL}={value} becomes {wanted}",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(MESH_LABEL, value, wanted),
        )
