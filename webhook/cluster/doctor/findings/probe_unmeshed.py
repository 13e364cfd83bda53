"""The final proof: a pod that is asked for by a dry run would not be meshed."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.doctor.probe import ABSENT

FINDING = FindingRule(
    id="probe-unmeshed",
    severity="error",
    means="a pod that is created now would not be in the mesh, or would not be created at all",
    mend="see the other findings; without any, the logs of the injector and of mendix-mesh",
    source="a dry run at the API server, judged as the webhook judges",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why the probe was refused, or what it lacks."""
    probe = look.probe(place)
    if probe.refusal:
        yield Occurrence(f"it was refused: {probe.refusal}")
    elif ABSENT in probe.broken:
        yield Occurrence(f"it was let in without the mesh: {probe.broken[ABSENT]}")
