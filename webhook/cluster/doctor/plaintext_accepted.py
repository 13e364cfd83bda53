"""The mesh's policy lets clients in that are not of the mesh."""

from collections.abc import Iterator

from webhook.cluster.connection import RefusedError
from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place
from webhook.cluster.strictness import told

SYMPTOM = Symptom(
    id="plaintext-accepted",
    severity="warning",
    means="pods are in the mesh, but who is not reaches them all the same, unencrypted and "
    "unnamed: the mesh encrypts, and refuses nobody",
    mend="see docs/strict.md: mendix-mesh discover --enrol --strict tells first who would be cut "
    "off",
    source="policy/strictness",
)


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield each way in; an error where the settings make it one."""
    found = look.strictness(place)
    if found.accepts == "unknown":
        raise RefusedError(403, "; ".join(found.because))
    if found.level == "exempt":
        return
    for gap in found.gaps:
        yield Evidence(told(gap), "error" if found.level == "deny" else None)
