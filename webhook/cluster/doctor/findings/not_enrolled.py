"""The namespace is not enrolled: no webhook of mendix-mesh puts its pods into a mesh."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, replaced
from webhook.cluster.namespaces.automatic import choose, enrolling
from webhook.policy.labels import MESH_LABEL, MESHES
from webhook.policy.namespaces import nearest

FINDING = FindingRule(
    id="not-enrolled",
    severity="error",
    meshes=("unknown",),
    means="nothing puts its pods into a mesh, and nothing denies pods outside the mesh",
    fix="run mendix-mesh discover --enroll, or set the namespace's label "
    f"{MESH_LABEL} to one of: {', '.join(MESHES)}; excluded namespaces, such as the control "
    "plane's, can't be enrolled",
    source="charts/mendix-mesh/templates/_webhooks.tpl",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why the namespace is not enrolled, with the value of its mesh label."""
    value = place.namespace.labels.get(MESH_LABEL)
    if value is None:
        yield Occurrence(
            f"the namespace has no label {MESH_LABEL}, and no webhook of mendix-mesh selects it",
            fix=_fix(facts, place),
        )
    elif value in MESHES:
        yield Occurrence(
            f"the namespace's label {MESH_LABEL}={value} has no effect: the webhooks exclude the "
            "namespace",
            fix=f"remove the label: kubectl label namespace {place.name} {MESH_LABEL}-",
        )
    else:
        near = nearest(MESH_LABEL, value)
        fix = f"set it to one of: {', '.join(MESHES)}"
        if near:
            fix = f"kubectl label namespace {place.name} {MESH_LABEL}={near} --overwrite"
        yield Occurrence(f"the namespace's label {MESH_LABEL}={value} is not a mesh", fix=fix)


def _fix(facts: Facts, place: Place) -> str:
    """Return the command that enrolls the namespace in the mesh that is there, or why none is."""
    try:
        choice = choose(place.namespace, facts.installed_meshes(), facts.mutating())
    except StatusError:
        return FINDING.fix
    return choice.why or enrolling(place.namespace, choice.mesh)


def repair(facts: Facts, place: Place) -> Iterator[Repair]:
    """Yield a repair for a misspelled mesh label."""
    value = place.namespace.labels.get(MESH_LABEL, "")
    if wanted := nearest(MESH_LABEL, value):
        yield Repair(
            id=FINDING.id,
            what=f"namespace {place.name}: change label {MESH_LABEL}={value} to {wanted}",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(MESH_LABEL, value, wanted),
        )
