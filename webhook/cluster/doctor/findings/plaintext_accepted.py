"""Plaintext gets in where it is meant not to: a policy is open in part, or settings demand one."""

from collections.abc import Iterator

from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.plaintext.acceptance import told

FINDING = FindingRule(
    id="plaintext-accepted",
    severity="warning",
    means="who is not in the mesh reaches these pods all the same, unencrypted and unnamed: the "
    "mesh encrypts, and refuses nobody",
    mend="see docs/strict.md: mendix-mesh discover --enroll --strict tells first who would be cut "
    "off",
    source="policy/strictness",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each way in; an error where the settings make it one.

    A namespace that takes in plaintext everywhere, as the meshes do unasked, is no sick one, unless
    the settings say so: `audit` shows it.
    """
    found = look.strictness(place)
    if found.accepts == "unknown":
        raise RefusedError(403, "; ".join(found.because))
    if found.level == "deny" or (found.level == "advise" and found.accepts == "partly"):
        for gap in found.gaps:
            yield Occurrence(told(gap), "error" if found.level == "deny" else None)
