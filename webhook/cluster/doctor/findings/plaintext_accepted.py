"""Running pods of the namespace accept plaintext."""

from collections.abc import Iterator

from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.plaintext.acceptance import describe

FINDING = FindingRule(
    id="plaintext-accepted",
    severity="warning",
    means="clients outside the mesh can reach these pods without encryption and without an "
    "identity",
    fix="run mendix-mesh discover --enroll --strict: it first lists the callers that would be cut "
    "off; mendix-mesh explain strict shows how",
    source="webhook/policy/plaintext",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each gap through which plaintext is accepted, as `audit` shows it.

    It is an error if the settings deny it, and no finding if they exempt the namespace.
    """
    found = facts.plaintext(place)
    if not found.pods:
        return
    if found.accepts == "unknown":
        raise StatusError(403, "; ".join(found.because))
    if found.level in ("deny", "warning"):
        for gap in found.gaps:
            yield Occurrence(describe(gap), "error" if found.level == "deny" else None, gap.fix)
