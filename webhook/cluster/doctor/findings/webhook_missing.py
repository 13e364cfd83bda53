"""One of our two webhook configurations is not there, or leaves the namespace out."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="webhook-missing",
    severity="error",
    means="without the mutating webhook pods don't ask for the mesh; without the validating one "
    "those outside are let in",
    mend="helm upgrade --install mendix-mesh; see whether another tool removes or rewrites the "
    "configuration",
    source="charts/mendix-mesh/templates",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each half of which no webhook is called for the namespace."""
    paths = [entry.webhook.path for entry in look.ours(place)]
    for verb, kind in (("mutate", "mutating"), ("validate", "validating")):
        if not any(f"/{verb}/{place.mesh.name}" in path for path in paths):
            yield Occurrence(f"no {kind} webhook of mendix-mesh is called for its pods")
