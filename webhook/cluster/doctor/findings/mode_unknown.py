"""The namespace's mode is not enforce, warn or audit."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, replaced
from webhook.policy.labels import MODE_LABEL
from webhook.policy.namespaces import nearest
from webhook.policy.validate import MODES

FINDING = FindingRule(
    id="mode-unknown",
    severity="warning",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    means="the webhook treats it as enforce: it denies pods outside the mesh, which may not be "
    "what you want",
    fix=f"set the namespace's label {MODE_LABEL} to one of: {', '.join(MODES)}",
    source="charts/mendix-mesh/templates/_webhooks.tpl",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the value of the namespace's mode label."""
    value = place.namespace.labels.get(MODE_LABEL)
    if value is not None and value not in MODES:
        near = nearest(MODE_LABEL, value) or "enforce"
        yield Occurrence(
            f"the namespace's label {MODE_LABEL}={value} is not a mode",
            fix=f"set it to one of {', '.join(MODES)}: kubectl label namespace {place.name} "
            f"{MODE_LABEL}={near} --overwrite",
        )


def repair(facts: Facts, place: Place) -> Iterator[Repair]:
    """Yield a repair for a misspelled `enforce`.

    Other modes are not corrected: the webhook would then deny less than it does now.
    """
    value = place.namespace.labels.get(MODE_LABEL, "")
    if nearest(MODE_LABEL, value) == "enforce":
        yield Repair(
            id=FINDING.id,
            what=f"namespace {place.name}: change label {MODE_LABEL}={value} to enforce",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(MODE_LABEL, value, "enforce"),
        )
