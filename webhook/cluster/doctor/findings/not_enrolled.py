"""A namespace that no webhook of ours puts into a mesh."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor import Evidence, Fix, Symptom, replaced
from webhook.cluster.doctor.facts import Look, Place
from webhook.policy.labels import MESH_LABEL, MESHES
from webhook.policy.namespaces import nearest

SYMPTOM = Symptom(
    id="not-enrolled",
    severity="error",
    meshes=("unknown",),
    means="nothing puts its pods into a mesh, and nothing refuses those outside",
    mend=f"mendix-mesh discover --enroll, or set its label {MESH_LABEL} to {', '.join(MESHES)}; "
    "excluded namespaces, as the mesh's own, can't be enrolled",
    source="charts/mendix-mesh/templates/_webhooks.tpl",
)


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield what its label says."""
    value = place.namespace.labels.get(MESH_LABEL)
    if value is None:
        yield Evidence(f"it has no label {MESH_LABEL}, and no webhook of ours names it")
    elif value in MESHES:
        yield Evidence(f"its label {MESH_LABEL}={value} has no effect: the webhooks leave it out")
    else:
        yield Evidence(f"its label {MESH_LABEL}={value} names no mesh")


def fix(look: Look, place: Place) -> Iterator[Fix]:
    """Correct a label that misspells a mesh."""
    value = place.namespace.labels.get(MESH_LABEL, "")
    if wanted := nearest(MESH_LABEL, value):
        yield Fix(
            id=SYMPTOM.id,
            what=f"namespace {place.name}: label {MESH_LABEL}={value} becomes {wanted}",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(MESH_LABEL, value, wanted),
        )
