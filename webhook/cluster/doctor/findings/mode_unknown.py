"""The namespace's mode is none that there is."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, replaced
from webhook.policy.labels import MODE_LABEL
from webhook.policy.namespaces import nearest
from webhook.policy.validate import MODES

FINDING = FindingRule(
    id="mode-unknown",
    severity="warning",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    means="it counts as enforce, the strictest: pods outside the mesh are refused, which may not "
    "be what is meant",
    mend=f"set its label {MODE_LABEL} to {', '.join(MODES)}",
    source="charts/mendix-mesh/templates/_webhooks.tpl",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield what its label says."""
    value = place.namespace.labels.get(MODE_LABEL)
    if value is not None and value not in MODES:
        yield Occurrence(f"its label {MODE_LABEL}={value} names no mode")


def fix(look: Facts, place: Place) -> Iterator[Fix]:
    """Correct what misspells enforce; another mode would be less strict than what holds now."""
    value = place.namespace.labels.get(MODE_LABEL, "")
    if nearest(MODE_LABEL, value) == "enforce":
        yield Fix(
            id=FINDING.id,
            what=f"namespace {place.name}: label {MODE_LABEL}={value} becomes enforce",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(MODE_LABEL, value, "enforce"),
        )
