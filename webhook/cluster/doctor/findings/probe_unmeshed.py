"""A pod that doctor creates in a dry run would not be in the mesh."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.doctor.probe import ABSENT

FINDING = FindingRule(
    id="probe-unmeshed",
    severity="error",
    means="a pod that is created now would not be in the mesh, or would not be created at all",
    fix="fix the other findings first; if there are none, read the logs of the injector and of "
    "mendix-mesh",
    source="a dry run on the API server, judged by the webhook's rules",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why the dry-run pod was denied, or what it lacks."""
    probe = facts.probe(place)
    if probe.denial:
        yield Occurrence(f"the dry-run pod was denied: {probe.denial}")
    elif ABSENT in probe.broken:
        yield Occurrence(f"the dry-run pod was admitted outside the mesh: {probe.broken[ABSENT]}")
