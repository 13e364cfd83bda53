"""A DestinationRule takes the mesh's mutual TLS from what clients in the mesh send."""

from collections.abc import Iterator

from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="client-plaintext",
    severity="warning",
    meshes=("istio", "ambient"),
    means="what is sent to these Services goes without the mesh's mutual TLS, and is refused where "
    "they demand it",
    mend="remove the tls block of the DestinationRule, or set its mode to ISTIO_MUTUAL",
    source="istio pilot/pkg/networking/core/cluster_tls.go buildUpstreamTLSSettings",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each place of each DestinationRule that concerns the namespace."""
    found = look.strictness(place)
    if found.downgrades is None:
        raise RefusedError(403, "; ".join(found.unread))
    for rule in found.downgrades:
        yield Occurrence(
            f"DestinationRule {rule.rule}: {rule.field} is {rule.mode} for {rule.host}"
        )
