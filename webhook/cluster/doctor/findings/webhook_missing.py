"""A webhook configuration of mendix-mesh is missing or excludes the namespace."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="webhook-missing",
    severity="error",
    means="without the mutating webhook pods do not ask for the mesh; without the validating "
    "webhook pods outside the mesh are admitted",
    fix="upgrade the release again, as mendix-mesh explain upgrade shows; if the webhook "
    "configuration is lost again, another tool removes or changes it",
    source="charts/mendix-mesh/templates",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each kind of webhook, mutating or validating, that no pod of the namespace reaches."""
    paths = [entry.webhook.path for entry in facts.ours(place)]
    for verb, kind in (("mutate", "mutating"), ("validate", "validating")):
        if not any(f"/{verb}/{place.mesh.name}" in path for path in paths):
            yield Occurrence(
                f"no {kind} webhook of mendix-mesh is called for the namespace's pods",
                fix=f"restore it: {facts.helm()}; if it is lost again, another tool removes or "
                "changes it",
            )
